//! What others see of consensus: propose, read, watch; in `cluster`, what concerns other members.

mod cluster;

use std::{fmt, sync::Arc, time::Duration};

use openraft::{
    LogIdOptionExt,
    error::{CheckIsLeaderError, RaftError},
};
use quorate_proto_identity::{ClusterId, MemberNumber};
use quorate_raft_machine::{CallerIdentity, Command, Operation};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout_at},
};

use crate::{
    engine::Engine,
    events::AppliedEvents,
    founding::{FoundError, Founded},
    health::Health,
    membership::MemberNode,
    node::{Node, on_runtime},
    proposal::{Applied, Proposal, ProposeError, Uncertainty, Unresolved},
    queue::{Answer, Ticket},
    reader::StateReader,
    role::Role,
    stop::with_causes,
    telemetry,
    transfer::TransferError,
};

/// Bytes that the envelope of a command may still grow by when the batcher stamps and numbers it.
const ENVELOPE_ROOM_BYTES: usize = 64;

/// A handle to consensus on this node. Cheap to clone; all clones are the same.
///
/// It serves a node in every condition: one that belongs to no cluster yet ([`Role::Unfounded`]), a member, and one
/// whose consensus has ended ([`Role::Stopped`]), which still reads.
#[derive(Clone)]
pub struct Handle {
    node: Arc<Node>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("role", &*self.node.role.borrow()).finish_non_exhaustive()
    }
}

/// Why a linearizable read cannot be served here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinearizeError {
    /// This node does not lead, or not surely. Ask the leader.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// The quorum did not answer, or apply did not catch up, before the deadline.
    #[error("leadership was not confirmed in time")]
    Deadline,
    /// Consensus has ended on this node.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
}

impl Handle {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Makes this node the sole voter of a new cluster, once.
    ///
    /// Called again, also after a crash in the middle, it completes the first founding and gives the same answer. It
    /// returns when this node leads. What the authority is made of is then proposed as an ordinary command.
    ///
    /// # Errors
    ///
    /// [`FoundError`]; nothing that was synced is undone by one.
    pub async fn found(&self, member: &MemberNode) -> Result<Founded, FoundError> {
        Arc::clone(&self.node).found(member).await
    }

    /// Has operations carried out, as one command: synced by a quorum, committed, and applied on this node.
    ///
    /// # Errors
    ///
    /// [`ProposeError`]. Only [`ProposeError::OutcomeUnknown`] leaves open whether something was done.
    pub async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        self.send(Arc::default(), proposal).await
    }

    /// Repeats a proposal whose outcome was not learned, under the origin it had (ELE-08): if the first try was applied,
    /// its outcome is given back and nothing is done again. `proposal` must hold the same operations.
    ///
    /// # Errors
    ///
    /// Only [`ProposeError::OutcomeUnknown`]: that a repeat came to nothing says nothing of the first try.
    pub async fn repeat(&self, unresolved: Unresolved, proposal: Proposal) -> Result<Applied, ProposeError> {
        let Unresolved { ticket } = unresolved;
        ticket.renew();
        match self.send(Arc::clone(&ticket), proposal).await {
            Ok(applied) => Ok(applied),
            Err(unknown @ ProposeError::OutcomeUnknown { .. }) => Err(unknown),
            Err(error) => {
                let cause = Uncertainty::NotRepeated { reason: with_causes(&error).into() };
                Err(ProposeError::OutcomeUnknown { cause, unresolved: Unresolved { ticket } })
            }
        }
    }

    async fn send(&self, ticket: Arc<Ticket>, proposal: Proposal) -> Result<Applied, ProposeError> {
        let (deadline, withdraws) = (proposal.deadline, proposal.operations.iter().any(Operation::is_withdrawal));
        let applied = self.carry_out(ticket, proposal).await?;
        // The planted bug answers before the others have applied it; the simulation and the chaos runs have to catch it.
        let withdraws = withdraws && !cfg!(feature = "planted-early-delete");
        if withdraws && applied.outcome.results.iter().any(Result::is_ok) {
            return self.wait_everywhere(applied, deadline).await;
        }
        Ok(applied)
    }

    /// Waits until every connected member has applied what takes rights away (design property 5).
    async fn wait_everywhere(&self, applied: Applied, deadline: Instant) -> Result<Applied, ProposeError> {
        let (node, index) = (Arc::clone(&self.node), applied.log_index);
        let waiting = on_runtime(&self.node.config.runtime, async move {
            timeout_at(deadline, node.await_everywhere(index, deadline)).await
        });
        let reason = match waiting.await {
            Ok(Ok(Ok(()))) => return Ok(applied),
            Ok(Ok(Err(reason))) => reason,
            Ok(Err(_elapsed)) => Arc::from("not every connected member answered in time"),
            Err(lost) => Arc::from(lost.to_string()),
        };
        Err(ProposeError::NotEverywhere { applied, reason })
    }

    async fn carry_out(&self, ticket: Arc<Ticket>, proposal: Proposal) -> Result<Applied, ProposeError> {
        let deadline = proposal.deadline;
        let receiver = match self.enqueue(&ticket, proposal) {
            Ok(receiver) => receiver,
            Err(error) => {
                telemetry::refused(refusal_name(&error));
                return Err(error);
            }
        };
        match timeout_at(deadline, receiver).await {
            Ok(Ok(Answer::Applied(applied))) => Ok(applied),
            Ok(Ok(Answer::Refused(error))) => Err(error),
            // Only what another member forwarded is answered so.
            Ok(Ok(Answer::NotLeader)) => Err(ProposeError::NoLeader { leader: self.leader() }),
            Ok(Ok(Answer::Unknown(cause))) => {
                Err(ProposeError::OutcomeUnknown { cause, unresolved: Unresolved { ticket } })
            }
            Ok(Err(_no_answer)) => {
                let reason = self.node.stop_reason();
                Err(if ticket.give_up() {
                    ProposeError::Stopped { reason }
                } else {
                    let cause = Uncertainty::Stopped { reason };
                    ProposeError::OutcomeUnknown { cause, unresolved: Unresolved { ticket } }
                })
            }
            Err(_deadline) if ticket.give_up() => Err(self.never_taken()),
            Err(_deadline) => {
                let cause = Uncertainty::Deadline;
                Err(ProposeError::OutcomeUnknown { cause, unresolved: Unresolved { ticket } })
            }
        }
    }

    /// Puts a proposal into the queue, or says at once why not.
    fn enqueue(
        &self,
        ticket: &Arc<Ticket>,
        proposal: Proposal,
    ) -> Result<tokio::sync::oneshot::Receiver<Answer>, ProposeError> {
        match &*self.node.role.borrow() {
            Role::Stopped { reason } => return Err(ProposeError::Stopped { reason: Arc::clone(reason) }),
            Role::Unfounded => return Err(ProposeError::Unfounded),
            Role::Learner { .. } | Role::Follower { .. } | Role::Candidate | Role::Leader { .. } => {}
        }
        self.node.space.check(&proposal.operations)?;
        if proposal.caller.identity != CallerIdentity::Node {
            self.node.config.tap.permits().map_err(|reason| ProposeError::NotRecorded { reason })?;
        }
        let command = self.node.envelope(proposal.caller, proposal.operations);
        let encoded = command.encode();
        let (bytes, limit) = (encoded.len() + ENVELOPE_ROOM_BYTES, self.node.config.batch.command_bytes);
        if bytes > limit {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        // What cannot be read back would end consensus on every member that reads it: it is read back here, first.
        Command::decode(encoded).map_err(ProposeError::Invalid)?;
        // So would what members of an earlier version cannot read: it waits until all of them can.
        self.node.shared.applied.read().state.check_min_version(&command).map_err(ProposeError::Invalid)?;
        let Command { caller, operations, .. } = command;
        self.node
            .queue
            .push(Arc::clone(ticket), None, caller, operations, bytes)
            .map_err(|refused| refused.unwrap_or_else(|| ProposeError::Stopped { reason: self.node.stop_reason() }))
    }

    /// Why a proposal waited until its deadline and no batch took it.
    fn never_taken(&self) -> ProposeError {
        let limits = self.node.config.queue;
        if self.node.role.borrow().is_leader() {
            ProposeError::Overloaded { proposals: limits.proposals, bytes: limits.bytes }
        } else {
            ProposeError::NoLeader { leader: self.leader() }
        }
    }

    /// Reads the applied state of this node.
    pub fn state(&self) -> StateReader {
        self.node.reader()
    }

    /// What is applied from now on. See [`AppliedEvents`] for what to do about `Lagged`.
    pub fn events(&self) -> broadcast::Receiver<Arc<AppliedEvents>> {
        self.node.shared.events.subscribe()
    }

    /// The role of this node, and its changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.node.role.subscribe()
    }

    /// The cluster that this node belongs to, once it does.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.node.engine.get().map(|engine| engine.cluster)
    }

    /// This node's number in its cluster, once it has one.
    pub fn member(&self) -> Option<MemberNumber> {
        self.node.engine.get().map(|engine| engine.member)
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<MemberNumber> {
        self.node.leader()
    }

    /// Makes sure that this node leads and has applied everything that was committed before the call: what is read
    /// from the state afterwards is linearizable. Gives the log index that was reached.
    ///
    /// # Errors
    ///
    /// [`LinearizeError`].
    pub async fn ensure_linearizable(&self, deadline: Instant) -> Result<u64, LinearizeError> {
        if let Role::Stopped { reason } = &*self.node.role.borrow() {
            return Err(LinearizeError::Stopped { reason: Arc::clone(reason) });
        }
        let Some(engine) = self.node.engine.get() else {
            return Err(LinearizeError::NotLeader { leader: None });
        };
        let round = async {
            engine.elections.no_transfer().await;
            engine.raft().ensure_linearizable().await
        };
        match timeout_at(deadline, round).await {
            Ok(Ok(reached)) => Ok(reached.index().unwrap_or(0)),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)))) => {
                Err(LinearizeError::NotLeader { leader: forward.leader_id.and_then(MemberNumber::new) })
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => {
                Err(LinearizeError::Deadline)
            }
            Ok(Err(RaftError::Fatal(fatal))) => {
                Err(LinearizeError::Stopped { reason: self.node.stop.record(with_causes(&fatal)) })
            }
        }
    }

    /// Hands leadership over to `to`, or to the voter that is best prepared (ELE-09). Writes wait meanwhile, for a tenth of
    /// a second as a rule; none is lost. Gives back who leads now. The deadline is for the preparation; from when this node
    /// has fallen silent, it is known within a second what came of it.
    ///
    /// # Errors
    ///
    /// [`TransferError`]; this node leads on then, or another one that was elected.
    pub async fn transfer_leadership(
        &self,
        to: Option<MemberNumber>,
        deadline: Instant,
    ) -> Result<MemberNumber, TransferError> {
        let node = Arc::clone(&self.node);
        let handing_over = async move {
            let engine = node.engine.get().ok_or(TransferError::NotLeader { leader: None })?;
            engine.transfer_leadership(&node, to, deadline).await
        };
        // It goes on when the caller goes away: a transfer that stopped halfway would leave the cluster without heartbeats.
        on_runtime(&self.node.config.runtime, handing_over)
            .await
            .unwrap_or_else(|_lost| Err(TransferError::Stopped { reason: self.node.stop_reason() }))
    }

    /// How consensus is on this node.
    pub fn health(&self) -> Health {
        let engine = self.node.engine.get();
        let figures = engine.map(Engine::figures).unwrap_or_default();
        let role = self.node.role.borrow().clone();
        // Who steps down has a vote for the next term (ELE-04) before its role says so; it never led in that one.
        let term = if let Role::Leader { term } = role { term } else { figures.term };
        Health {
            role,
            cluster: self.cluster(),
            member: self.member(),
            term,
            leader: self.leader(),
            last_log_index: figures.last_log_index,
            committed_index: figures.committed_index,
            applied_index: self.node.shared.applied.read().last_applied.map(|id| id.index),
            snapshot_index: figures.snapshot_index,
            purged_index: figures.purged_index,
            log_bytes: figures.log_bytes,
            queued_proposals: self.node.queue.len(),
            free_space_bytes: self.node.space.available(),
            space_reserve_bytes: self.node.config.space_reserve_bytes,
            stopped: self.node.stop.get(),
        }
    }

    /// Stops in order: a leader hands over if another voter is there (at most
    /// [`TRANSFER_BEFORE_STOP_LIMIT`](crate::limits::TRANSFER_BEFORE_STOP_LIMIT) is given to it); then no new proposals,
    /// those that wait are carried out, the log is closed and its mark synced. Reads go on. Called again, it does nothing.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }

    /// Waits until this node leads, at most for `limit`. For tests and for commands that found a cluster.
    pub async fn wait_for_leadership(&self, limit: Duration) -> bool {
        let mut role = self.role();
        let settled = role.wait_for(|role| role.is_leader() || role.is_stopped());
        match tokio::time::timeout(limit, settled).await {
            Ok(Ok(role)) => role.is_leader(),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

fn refusal_name(error: &ProposeError) -> &'static str {
    match error {
        ProposeError::Unfounded => "unfounded",
        ProposeError::NoLeader { .. } => "no_leader",
        ProposeError::Overloaded { .. } => "overloaded",
        ProposeError::Invalid(_) => "invalid",
        ProposeError::TooLarge { .. } => "too_large",
        ProposeError::NoSpace { .. } => "no_space",
        ProposeError::NotRecorded { .. } => "not_recorded",
        ProposeError::RefusedByLeader { .. } => "refused_by_leader",
        ProposeError::NotEverywhere { .. } => "not_everywhere",
        ProposeError::Stopped { .. } => "stopped",
        ProposeError::OutcomeUnknown { .. } => "outcome_unknown",
    }
}
