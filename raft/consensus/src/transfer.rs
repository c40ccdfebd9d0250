//! A leader hands over to a voter that it names (ELE-09).
//!
//! ```text
//!   leader                                                      target                 other voters
//!     take all slots of the batcher: what is in flight is through, what comes waits
//!     target has the last entry?
//!     heartbeats off, no read-index rounds
//!     sleep for Raft's own short lease
//!     TakeOver(term, last entry) ─────────────────────────────► elect() once
//!                                                                 Vote(transfer) ─────► log test, no lease test
//!     another leads, or 500 ms have passed ◄────────────────────  leads
//!     heartbeats on, slots back: who waited is sent on to the new leader
//! ```
//!
//! Nothing is repeated: a second `elect()` under load costs terms and seconds. Who wants another try makes it.

use std::sync::Arc;

use openraft::RaftMetrics;
use quorate_proto_identity::MemberNumber;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    batcher::all_slots,
    engine::Engine,
    limits::{TRANSFER_PREPARE_LIMIT, TRANSFER_TIME_LIMIT},
    membership::RaftNode,
    node::Node,
    role::Role,
    stop::with_causes,
    type_config::{LogId, Raft},
};

/// Why leadership was not handed over. This node leads on, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This node does not lead. Ask the leader.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// Only a voter can lead. Promote the member first.
    #[error("member {member} is not a voter")]
    NotAVoter {
        /// Who was named.
        member: MemberNumber,
    },
    /// There is no other voter, or none that has answered of late.
    #[error("no other voter is there to take over")]
    NobodyElse,
    /// The batches in flight did not come through, or the target did not get the last entry, in time. Try again when it has
    /// caught up.
    #[error("member {member} did not have the whole log in time")]
    NotCaughtUp {
        /// The target.
        member: MemberNumber,
    },
    /// The target cannot be reached, or does not want to lead: its clock may be off.
    #[error("member {member} does not take over: {reason}")]
    Refused {
        /// The target.
        member: MemberNumber,
        /// What it said.
        reason: String,
    },
    /// The target stood for election and did not lead in time. Whoever leads now was elected without our doing.
    #[error("member {member} was not elected in time")]
    NotElected {
        /// The target.
        member: MemberNumber,
    },
    /// Consensus has ended on this node.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
}

type Books = RaftMetrics<u64, RaftNode>;

impl Engine {
    /// Hands over to `to`, or to the voter that is best prepared. Gives back who leads.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub(crate) async fn transfer_leadership(
        &self,
        node: &Node,
        to: Option<MemberNumber>,
        deadline: Instant,
    ) -> Result<MemberNumber, TransferError> {
        let term = self.office(node)?;
        let target = self.choose(to)?;
        let raft = self.raft();
        let prepared_by = deadline.min(Instant::now() + TRANSFER_PREPARE_LIMIT);
        let prepared = async {
            let slots = all_slots(&self.slots).await?;
            let last = has_last_entry(&raft, target).await?;
            Some((slots, last))
        };
        let Ok(Some((slots, last))) = timeout_at(prepared_by, prepared).await else {
            return Err(TransferError::NotCaughtUp { member: target });
        };
        // Another transfer may have come first, while this one waited for the slots.
        if self.office(node)? != term {
            return Err(TransferError::NotLeader { leader: self.leader() });
        }
        tracing::info!(member = target.get(), term, "leadership is being handed over");
        let silence = self.elections.begin_transfer();
        raft.runtime_config().heartbeat(false);
        sleep(self.elections.settings().election_timeout_max).await;
        let outcome = self.hand_over(&raft, target, term, last).await;
        raft.runtime_config().heartbeat(true);
        drop(silence);
        if outcome.is_ok() {
            // Held proposals go on to the new leader, not into a Raft that no longer leads.
            let mut role = node.role.subscribe();
            drop(timeout(TRANSFER_TIME_LIMIT, role.wait_for(|role| !role.is_leader())).await);
        }
        drop(slots);
        match &outcome {
            Ok(leader) => tracing::info!(member = leader.get(), "leadership was handed over"),
            Err(error) => tracing::warn!(%error, "leadership was not handed over"),
        }
        outcome
    }

    /// The term in which this node leads.
    fn office(&self, node: &Node) -> Result<u64, TransferError> {
        match &*node.role.borrow() {
            Role::Leader { term } => Ok(*term),
            Role::Stopped { reason } => Err(TransferError::Stopped { reason: Arc::clone(reason) }),
            Role::Unfounded | Role::Learner { .. } | Role::Follower { .. } | Role::Candidate => {
                Err(TransferError::NotLeader { leader: self.leader() })
            }
        }
    }

    /// The voter to hand over to: the one that is named, or that which has most of the log among those heard of of late.
    fn choose(&self, to: Option<MemberNumber>) -> Result<MemberNumber, TransferError> {
        let raft = self.raft();
        let books = raft.metrics().borrow().clone();
        let configurations = books.membership_config.membership().get_joint_config();
        let own = self.member.get();
        let is_voter = |number: u64| configurations.iter().all(|voters| voters.contains(&number));
        if let Some(member) = to {
            return if member.get() != own && is_voter(member.get()) {
                Ok(member)
            } else {
                Err(TransferError::NotAVoter { member })
            };
        }
        let (now, limit) = (Instant::now(), self.elections.settings().step_down);
        let is_near = |number: &u64| {
            let heard = self.elections.contacts.acknowledged_at(*number);
            heard.is_some_and(|instant| now.saturating_duration_since(instant) < limit)
        };
        configurations
            .iter()
            .flatten()
            .copied()
            .filter(|number| *number != own && is_voter(*number) && is_near(number))
            // The lowest number among equals, so that a run can be repeated.
            .max_by_key(|number| (matched(&books, *number), std::cmp::Reverse(*number)))
            .and_then(MemberNumber::new)
            .ok_or(TransferError::NobodyElse)
    }

    /// Asks the target to stand, and waits until it leads.
    async fn hand_over(
        &self,
        raft: &Raft,
        target: MemberNumber,
        term: u64,
        last: LogId,
    ) -> Result<MemberNumber, TransferError> {
        let own = self.member.get();
        let ends = Instant::now() + TRANSFER_TIME_LIMIT;
        match timeout_at(ends, self.electorate.take_over(target.get(), term, last)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(TransferError::Refused { member: target, reason }),
            Err(_elapsed) => return Err(TransferError::NotElected { member: target }),
        }
        let mut books = raft.server_metrics();
        let elected = books.wait_for(|books| books.current_leader.is_some_and(|leader| leader != own));
        let leader = match timeout_at(ends, elected).await {
            Ok(Ok(books)) => books.current_leader.and_then(MemberNumber::new),
            Ok(Err(_)) | Err(_) => None,
        };
        leader.ok_or(TransferError::NotElected { member: target })
    }

    /// Hands over because this node is about to stop, if it leads and somebody can take over.
    pub(crate) async fn hand_over_before_stop(&self, node: &Node, limit: std::time::Duration) {
        if !node.role.borrow().is_leader() {
            return;
        }
        match self.transfer_leadership(node, None, Instant::now() + limit).await {
            Ok(_) | Err(TransferError::NobodyElse) => {}
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "the leader stops without a successor; the others elect one");
            }
        }
    }
}

/// How far the log of a follower agrees with the leader's.
fn matched(books: &Books, member: u64) -> Option<LogId> {
    books.replication.as_ref().and_then(|replication| replication.get(&member).copied().flatten())
}

/// Waits until the target has the last entry of the leader's log, and gives it back. `None` when Raft has ended.
async fn has_last_entry(raft: &Raft, target: MemberNumber) -> Option<LogId> {
    // The books are written after the answers to proposals are sent; what the core answers next, it answers after them.
    raft.with_raft_state(|_| ()).await.ok()?;
    let mut books = raft.data_metrics();
    let is_there = books.wait_for(|books| {
        let replication = books.replication.as_ref();
        let matched = replication.and_then(|replication| replication.get(&target.get()).copied().flatten());
        matched.is_some() && matched == books.last_log
    });
    is_there.await.ok()?.last_log
}
