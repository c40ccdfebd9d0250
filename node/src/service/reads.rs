//! What services read: the applied state of this node, once it is as new as what was acknowledged before the start.
//!
//! ```text
//!   start ──► log replayed as far as it is known to be committed ──► this node leads, the rest is applied ──► reads
//!                  acknowledged writes may still be missing here              (waits up to a limit)
//! ```
//!
//! How far the log is committed is noted behind the writes themselves, so that after a crash the last acknowledged ones
//! are in the log and not yet in the state. Whoever wrote them has to read them back, and whoever asks whether they are
//! there must not be told no: the first reads wait for them. From then on reads are local (design section 2, 1 and 2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_raft_consensus::{Handle, Role, StateReader};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::node::Node;

/// How long a read waits for the node to catch up: several elections, and less than the ten seconds after which our own
/// clients give a call up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// What is said where an authority is needed and there is none.
pub(super) const NOT_FOUNDED: &str = "no authority is founded on this node: run quorate cluster init";

/// The way from a service to the state.
#[derive(Debug, Clone)]
pub(super) struct Reads {
    consensus: Handle,
    applied: StateReader,
    caught_up: Arc<AtomicBool>,
}

impl Reads {
    /// Reads of this node's state.
    pub(super) fn new(node: &Node) -> Self {
        let consensus = node.consensus().clone();
        Self { applied: consensus.state(), consensus, caught_up: Arc::default() }
    }

    /// The state of the authority, for callers who may ask for what was acknowledged before this node started.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node cannot catch up in time, and when no authority is founded here: a node whose
    /// directory was emptied does not know that there is nothing, it knows nothing (design section 4).
    pub(super) async fn current(&self) -> Result<&StateReader, Status> {
        let state = self.caught_up().await?;
        // Nothing unfounds an authority, and only one that is founded is ever marked as caught up.
        if !self.caught_up.load(Ordering::Acquire) {
            return Err(Status::unavailable(NOT_FOUNDED));
        }
        Ok(state)
    }

    /// The same, where there may be no authority yet.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node cannot catch up in time.
    pub(super) async fn caught_up(&self) -> Result<&StateReader, Status> {
        if !self.caught_up.load(Ordering::Acquire) {
            self.catch_up().await?;
        }
        Ok(&self.applied)
    }

    /// The state as far as it is applied: for what this node itself has just written.
    pub(super) fn applied(&self) -> &StateReader {
        &self.applied
    }

    async fn catch_up(&self) -> Result<(), Status> {
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        let mut role = self.consensus.role();
        loop {
            let now = role.borrow_and_update().clone();
            match now {
                // Nothing was ever acknowledged here.
                Role::Unfounded => return Ok(()),
                Role::Stopped { reason } => {
                    return Err(Status::unavailable(format!("consensus ended before this node caught up: {reason}")));
                }
                Role::Leader { .. } if self.consensus.ensure_linearizable(deadline).await.is_ok() => {
                    let founded = self.applied.read(|state| state.cluster().is_some());
                    self.caught_up.store(founded, Ordering::Release);
                    return Ok(());
                }
                Role::Leader { .. } | Role::Learner { .. } | Role::Follower { .. } | Role::Candidate => {}
            }
            if !matches!(timeout_at(deadline, role.changed()).await, Ok(Ok(()))) {
                return Err(Status::unavailable(
                    "this node has not caught up with its log since it started; try again",
                ));
            }
        }
    }
}
