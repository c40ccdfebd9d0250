//! A leader hands over to a voter that it names (ELE-09).
//!
//! ```text
//!   leader                                                      target                 other voters
//!     take all slots of the batcher: what is in flight is through, what comes waits
//!     target has the last entry?
//!     a last heartbeat, then none; no read-index rounds
//!     sleep for Raft's own short lease
//!     TakeOver(term, last entry) ─────────────────────────────► elect() once
//!                                                                 Vote(transfer) ─────► log test, no lease test
//!     another leads, or no answer, or 500 ms have passed ◄──────  leads
//!     heartbeats on, slots back: who waited is sent on to the new leader
//! ```
//!
//! Nothing is repeated: a second `elect()` under load costs terms and seconds. Who wants another try makes it.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    batcher::all_slots,
    elections::{Elections, Electorate},
    engine::Engine,
    limits::{TRANSFER_PREPARE_LIMIT, TRANSFER_TIME_LIMIT},
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
    /// The target did not answer in time.
    #[error("member {member} does not answer")]
    NoAnswer {
        /// The target.
        member: MemberNumber,
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

/// What handing over takes.
pub(crate) struct Transfer<'a> {
    pub(crate) raft: Raft,
    pub(crate) member: MemberNumber,
    pub(crate) elections: &'a Elections,
    pub(crate) electorate: &'a dyn Electorate,
    /// The batcher's.
    pub(crate) slots: &'a Arc<Semaphore>,
    pub(crate) role: watch::Receiver<Role>,
}

impl Transfer<'_> {
    /// Hands over to `to`, or to the voter that is best prepared. Gives back who leads.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub(crate) async fn run(
        mut self,
        to: Option<MemberNumber>,
        deadline: Instant,
    ) -> Result<MemberNumber, TransferError> {
        let term = self.office()?;
        let target = self.choose(to)?;
        let prepared_by = deadline.min(Instant::now() + TRANSFER_PREPARE_LIMIT);
        let Ok(Some((held, last))) = timeout_at(prepared_by, self.prepare(target)).await else {
            return Err(TransferError::NotCaughtUp { member: target });
        };
        // Another transfer may have come first, while this one waited for the slots.
        if self.office()? != term {
            return Err(TransferError::NotLeader { leader: self.leader() });
        }
        tracing::info!(member = target.get(), term, "leadership is being handed over");
        // The last heartbeat before the silence: everybody's lease begins now, and nobody misses the leader before it ends.
        // If Raft has ended, the target will say so.
        drop(self.raft.trigger().heartbeat().await);
        let silence = self.elections.begin_transfer();
        self.raft.runtime_config().heartbeat(false);
        sleep(self.elections.settings().silence).await;
        let outcome = self.hand_over(target, term, last).await;
        self.raft.runtime_config().heartbeat(true);
        drop(silence);
        if outcome.is_ok() {
            // Held proposals go on to the new leader, not into a Raft that no longer leads.
            drop(timeout(TRANSFER_TIME_LIMIT, self.role.wait_for(|role| !role.is_leader())).await);
        }
        drop(held);
        match &outcome {
            Ok(leader) => tracing::info!(member = leader.get(), "leadership was handed over"),
            Err(error) => tracing::warn!(%error, "leadership was not handed over"),
        }
        outcome
    }

    /// The term in which this node leads.
    fn office(&self) -> Result<u64, TransferError> {
        match &*self.role.borrow() {
            Role::Leader { term } => Ok(*term),
            Role::Stopped { reason } => Err(TransferError::Stopped { reason: Arc::clone(reason) }),
            Role::Unfounded | Role::Learner { .. } | Role::Follower { .. } | Role::Candidate => {
                Err(TransferError::NotLeader { leader: self.leader() })
            }
        }
    }

    fn leader(&self) -> Option<MemberNumber> {
        self.raft.server_metrics().borrow().current_leader.and_then(MemberNumber::new)
    }

    /// The voter to hand over to: the one that is named, or that which has most of the log among those heard of of late.
    fn choose(&self, to: Option<MemberNumber>) -> Result<MemberNumber, TransferError> {
        let books = self.raft.metrics().borrow().clone();
        let configurations = books.membership_config.membership().get_joint_config();
        let may_lead =
            |number: u64| number != self.member.get() && configurations.iter().all(|voters| voters.contains(&number));
        let (now, limit) = (Instant::now(), self.elections.settings().step_down);
        let is_near = |number: &u64| {
            let heard = self.elections.contacts.acknowledged_at(*number);
            heard.is_some_and(|instant| now.saturating_duration_since(instant) < limit)
        };
        if let Some(member) = to {
            return match member.get() {
                number if !may_lead(number) => Err(TransferError::NotAVoter { member }),
                // Nobody falls silent for one that is not there.
                number if !is_near(&number) => Err(TransferError::NoAnswer { member }),
                _ => Ok(member),
            };
        }
        let matched = |number: u64| books.replication.as_ref().and_then(|all| all.get(&number).copied().flatten());
        configurations
            .iter()
            .flatten()
            .copied()
            .filter(|number| may_lead(*number) && is_near(number))
            // The lowest number among equals, so that a run can be repeated.
            .max_by_key(|number| (matched(*number), Reverse(*number)))
            .and_then(MemberNumber::new)
            .ok_or(TransferError::NobodyElse)
    }

    /// Waits until nothing is in flight, which stays so while the permit lives, and until the target has the last entry of
    /// the log, which is given back. `None` when Raft has ended.
    async fn prepare(&self, target: MemberNumber) -> Option<(OwnedSemaphorePermit, LogId)> {
        let held = all_slots(self.slots).await?;
        // The books are written after the answers to proposals are sent; what the core answers next, it answers after them.
        self.raft.with_raft_state(|_| ()).await.ok()?;
        let mut books = self.raft.data_metrics();
        let has_all = books.wait_for(|books| {
            let replication = books.replication.as_ref();
            let matched = replication.and_then(|all| all.get(&target.get()).copied().flatten());
            matched.is_some() && matched == books.last_log
        });
        let last = has_all.await.ok()?.last_log?;
        Some((held, last))
    }

    /// Asks the target to stand, and waits until it leads.
    async fn hand_over(&self, target: MemberNumber, term: u64, last: LogId) -> Result<MemberNumber, TransferError> {
        let own = self.member.get();
        let ends = Instant::now() + TRANSFER_TIME_LIMIT;
        // One that does not even answer is given up before the others miss their leader.
        match timeout(self.elections.settings().ask, self.electorate.take_over(target.get(), term, last)).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(TransferError::Refused { member: target, reason }),
            Err(_elapsed) => return Err(TransferError::NoAnswer { member: target }),
        }
        let mut books = self.raft.server_metrics();
        let elected = books.wait_for(|books| books.current_leader.is_some_and(|leader| leader != own));
        let leader = match timeout_at(ends, elected).await {
            Ok(Ok(books)) => books.current_leader.and_then(MemberNumber::new),
            Ok(Err(_)) | Err(_) => None,
        };
        leader.ok_or(TransferError::NotElected { member: target })
    }
}

impl Engine {
    /// Hands over; see [`Transfer::run`].
    pub(crate) async fn transfer_leadership(
        &self,
        node: &Node,
        to: Option<MemberNumber>,
        deadline: Instant,
    ) -> Result<MemberNumber, TransferError> {
        let transfer = Transfer {
            raft: self.raft(),
            member: self.member,
            elections: &self.elections,
            electorate: &*self.electorate,
            slots: &self.slots,
            role: node.role.subscribe(),
        };
        transfer.run(to, deadline).await
    }

    /// Hands over because this node is about to stop, if it leads and somebody can take over.
    pub(crate) async fn hand_over_before_stop(&self, node: &Node, limit: Duration) {
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
