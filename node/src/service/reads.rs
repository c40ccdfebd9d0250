//! What services read: the applied state of this node, once it is as new as what was acknowledged before the start.
//!
//! ```text
//!   start ──► log replayed as far as it is known to be committed ──► one read index from the leader ──► reads, local
//!                  acknowledged writes may still be missing here         (reads wait for it, up to a limit)
//!
//!   quorate-consistency: linearizable ──► a read index for this call ──► a read of what is applied then
//!   every answer ──► quorate-applied-index: how much of the log this node had applied, at least
//! ```
//!
//! How far the log is committed is noted behind the writes themselves, so that after a crash the last acknowledged ones
//! are in the log and not yet in the state; and a node that was away knows nothing of what the others acknowledged
//! meanwhile. Whoever wrote has to read it back, and whoever asks whether it is there must not be told no: the first
//! reads wait. From then on reads are local (design section 2, properties 1 and 2): a node that is cut off later answers
//! from what it has applied, and the index beside the answer says how old that is.

use std::time::Duration;

use quorate_proto_api::{APPLIED_INDEX_HEADER, CONSISTENCY_HEADER, CONSISTENCY_LINEARIZABLE, CONSISTENCY_LOCAL};
use quorate_raft_consensus::{Handle, LinearizeError, Role, StateReader};
use quorate_raft_machine::State;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use crate::node::Node;

/// How long a read waits for the node to catch up, and for a read index: several elections, and less than the ten
/// seconds after which our own clients give a call up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// How soon a node that could not catch up tries again. It may be cut off for days, and then once a second is enough.
const CATCH_UP_PACE: Duration = Duration::from_secs(1);

/// What is said where an authority is needed and there is none.
pub(super) const NOT_FOUNDED: &str =
    "no authority is founded on this node: run quorate cluster init, or have it join a cluster by an invitation";

/// What kind of read a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Of what this node has applied. The rule.
    Local,
    /// Of everything that was answered before the call, whichever node took it.
    Linearizable,
}

impl Consistency {
    /// What the metadata of a request ask for.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a kind that there is not: a caller that asked for more than it gets has to know.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let mut asked = Self::Local;
        for value in request.metadata().get_all(CONSISTENCY_HEADER) {
            asked = match value.to_str() {
                Ok(CONSISTENCY_LINEARIZABLE) => Self::Linearizable,
                Ok(CONSISTENCY_LOCAL) => asked,
                Ok(_) | Err(_) => {
                    return Err(Status::invalid_argument(format!(
                        "{CONSISTENCY_HEADER}: must be {CONSISTENCY_LINEARIZABLE} or {CONSISTENCY_LOCAL}"
                    )));
                }
            };
        }
        Ok(asked)
    }
}

/// The way from the services to the state. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    consensus: Handle,
    applied: StateReader,
    caught_up: watch::Receiver<bool>,
}

impl Reads {
    /// Reads of this node's state. Begins to catch up at once, in a task that ends when it has.
    pub(super) fn new(node: &Node) -> Self {
        let consensus = node.consensus().clone();
        let (done, caught_up) = watch::channel(false);
        tokio::spawn(catch_up(consensus.clone(), done));
        Self { applied: consensus.state(), consensus, caught_up }
    }

    /// The state of the authority, for a caller that asks for this kind of read.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node cannot catch up in time, or there is no leader to ask; and when this node belongs to
    /// no cluster: one whose directory was emptied does not know that there is nothing, it knows nothing (design
    /// section 4).
    pub(super) async fn current(&self, how: Consistency) -> Result<&StateReader, Status> {
        let state = self.caught_up(how).await?;
        // Nothing unfounds an authority.
        if state.read(|state| state.cluster().is_none()) {
            return Err(Status::unavailable(NOT_FOUNDED));
        }
        Ok(state)
    }

    /// The same, where there may be no authority yet.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node cannot catch up in time, or there is no leader to ask.
    pub(super) async fn caught_up(&self, how: Consistency) -> Result<&StateReader, Status> {
        match how {
            Consistency::Local => self.wait_caught_up().await?,
            Consistency::Linearizable => {
                self.read_index(Instant::now() + CATCH_UP_LIMIT).await?;
            }
        }
        Ok(&self.applied)
    }

    /// Has this node apply everything that was answered before, whichever node took it. Answers how far that is.
    ///
    /// # Errors
    ///
    /// `Unavailable` when that cannot be known, `DeadlineExceeded` when it takes too long.
    pub(super) async fn read_index(&self, deadline: Instant) -> Result<u64, Status> {
        if matches!(*self.consensus.role().borrow(), Role::Unfounded) {
            return Err(Status::unavailable(NOT_FOUNDED));
        }
        self.consensus.read_index(deadline).await.map_err(|error| not_linearizable(&error))
    }

    /// Whether what was acknowledged before this node started is known here.
    pub(super) fn is_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// Turns once with `is_caught_up`.
    pub(super) fn watch_caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.clone()
    }

    /// The state as far as it is applied: for what this node itself has just written, and for a look at the node.
    pub(super) fn applied(&self) -> &StateReader {
        &self.applied
    }

    async fn wait_caught_up(&self) -> Result<(), Status> {
        if self.is_caught_up() {
            return Ok(());
        }
        let mut caught_up = self.caught_up.clone();
        let mut role = self.consensus.role();
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        loop {
            match &*role.borrow_and_update() {
                // Nothing was ever acknowledged here.
                Role::Unfounded => return Ok(()),
                Role::Stopped { reason } => {
                    return Err(Status::unavailable(format!("consensus ended before this node caught up: {reason}")));
                }
                Role::Learner { .. } | Role::Follower { .. } | Role::Candidate | Role::Leader { .. } => {}
            }
            tokio::select! {
                biased;
                done = caught_up.wait_for(|done| *done) => if done.is_ok() {
                    return Ok(());
                } else {
                    return Err(behind());
                },
                changed = timeout_at(deadline, role.changed()) => if !matches!(changed, Ok(Ok(()))) {
                    return Err(behind());
                },
            }
        }
    }
}

fn behind() -> Status {
    Status::unavailable(
        "this node has not caught up with the cluster since it started: it reaches no leader, or the cluster has none; \
         ask another node, or try again",
    )
}

/// Asks for a read index until there is one, and says so.
async fn catch_up(consensus: Handle, done: watch::Sender<bool>) {
    let mut role = consensus.role();
    loop {
        let belongs = role.wait_for(|role| !matches!(role, Role::Unfounded)).await.map(|role| role.is_stopped());
        // Consensus that has ended stays so; and the sender of roles lives as long as the process.
        if !matches!(belongs, Ok(false)) {
            return;
        }
        let asked = Instant::now();
        if consensus.read_index(asked + CATCH_UP_LIMIT).await.is_ok() {
            done.send_replace(true);
            return;
        }
        tokio::select! {
            biased;
            () = done.closed() => return,
            () = tokio::time::sleep_until(asked + CATCH_UP_PACE) => {}
        }
    }
}

/// What a caller is told of a read that could not be linearizable.
fn not_linearizable(error: &LinearizeError) -> Status {
    match error {
        LinearizeError::NotLeader { .. } => Status::unavailable(
            "a linearizable read needs the leader, and none could be asked: the cluster has none, or this node is cut off",
        ),
        LinearizeError::Deadline => {
            Status::deadline_exceeded("a linearizable read needs the leader, and no answer came from it in time")
        }
        LinearizeError::Stopped { .. } => Status::unavailable(error.to_string()),
    }
}

/// An answer to a read, with how much of the log was applied as metadata `quorate-applied-index`.
pub(super) fn at_applied_index<T>(message: T, applied_index: u64) -> Response<T> {
    let mut response = Response::new(message);
    response.metadata_mut().insert(APPLIED_INDEX_HEADER, applied_index.into());
    response
}

/// Reads at one instant, and says at which index.
pub(super) fn look<T>(state: &StateReader, look: impl FnOnce(&State) -> T) -> (T, u64) {
    state.read_at(|applied, state| (look(state), applied))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(values: &[&'static str]) -> Result<Consistency, tonic::Code> {
        let mut request = Request::new(());
        for value in values {
            request.metadata_mut().append(CONSISTENCY_HEADER, tonic::metadata::MetadataValue::from_static(value));
        }
        Consistency::of(&request).map_err(|status| status.code())
    }

    #[test]
    fn a_read_is_local_unless_it_is_asked_for_more() {
        assert_eq!(asking(&[]), Ok(Consistency::Local));
        assert_eq!(asking(&["local"]), Ok(Consistency::Local));
        assert_eq!(asking(&["linearizable"]), Ok(Consistency::Linearizable));
        assert_eq!(asking(&["linearizable", "local"]), Ok(Consistency::Linearizable));
        assert_eq!(asking(&["strong"]), Err(tonic::Code::InvalidArgument));
    }

    #[test]
    fn an_answer_to_a_read_says_what_was_applied() {
        assert_eq!(at_applied_index((), 7).metadata().get(APPLIED_INDEX_HEADER).unwrap(), "7");
    }
}
