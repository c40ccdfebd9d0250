//! The bounded queue in front of the batcher.
//!
//! ```text
//!   propose ──try_send──► [ Job | Job | Job ] ──recv──► batcher
//!      │  bounded in proposals and in bytes; full means Overloaded
//!      └── the Ticket they share says whether a batch has taken the job yet
//! ```
//!
//! A proposer whose deadline passes must know whether its command can still enter the log. The ticket decides it: either
//! the batcher takes it first, and the outcome is unknown, or the proposer gives it up first, and nothing will happen.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, Ordering},
};

use quorate_raft_machine::{Caller, Operation, Origin};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    config::QueueLimits,
    origin::{OpenSequence, Sequences},
    proposal::{Applied, ProposeError, Uncertainty},
};

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// What proposer and batcher share about one proposal.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    progress: AtomicU8,
    sequence: OnceLock<OpenSequence>,
}

impl Ticket {
    /// Called by the batcher: whether the job is to go into a batch.
    pub(crate) fn take(&self) -> bool {
        self.progress.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Called by the proposer at its deadline: whether the job was still waiting, and now will never be taken.
    pub(crate) fn give_up(&self) -> bool {
        self.progress.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Called by a proposer that repeats: the job may be taken again, under the sequence it has.
    pub(crate) fn renew(&self) {
        self.progress.store(WAITING, Ordering::Release);
    }

    /// The number of its command, given when it is first taken: numbers are then in the order of the log.
    pub(crate) fn sequence(&self, sequences: &Sequences) -> u64 {
        self.sequence.get_or_init(|| sequences.open()).number()
    }
}

/// What the batcher answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Applied.
    Applied(Applied),
    /// In the log, perhaps.
    Unknown(Uncertainty),
    /// Refused before it was in the log.
    Refused(ProposeError),
    /// Another member forwarded it, and this node does not lead: not in the log by this offer.
    NotLeader,
}

/// One waiting proposal.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ticket: Arc<Ticket>,
    /// Where it comes from when another member forwarded it; it is never forwarded again.
    pub(crate) forwarded: Option<Origin>,
    pub(crate) caller: Caller,
    pub(crate) operations: Vec<Operation>,
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Its share of the queue's bytes, free again when a batch has taken it.
    pub(crate) share: OwnedSemaphorePermit,
}

/// The sending end.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    jobs: mpsc::Sender<Job>,
    bytes: Arc<Semaphore>,
    limits: QueueLimits,
}

/// A queue, and the end that the batcher reads.
pub(crate) fn queue(limits: QueueLimits) -> (Queue, mpsc::Receiver<Job>) {
    let (jobs, receiver) = mpsc::channel(limits.proposals.max(1));
    let bytes = Arc::new(Semaphore::new(limits.bytes.min(Semaphore::MAX_PERMITS)));
    (Queue { jobs, bytes, limits }, receiver)
}

impl Queue {
    /// Puts a proposal of `bytes` bytes at the end. Never waits.
    ///
    /// # Errors
    ///
    /// [`ProposeError::Overloaded`] when there is no room. `None` when the batcher is gone.
    pub(crate) fn push(
        &self,
        ticket: Arc<Ticket>,
        forwarded: Option<Origin>,
        caller: Caller,
        operations: Vec<Operation>,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Answer>, Option<ProposeError>> {
        let overloaded =
            || Some(ProposeError::Overloaded { proposals: self.limits.proposals, bytes: self.limits.bytes });
        let permits = u32::try_from(bytes).map_err(|_too_many| overloaded())?;
        let share = Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_no_room| overloaded())?;
        let (answer, receiver) = oneshot::channel();
        match self.jobs.try_send(Job { ticket, forwarded, caller, operations, answer, share }) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(overloaded()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(None),
        }
    }

    /// How many proposals wait.
    pub(crate) fn len(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }
}

/// The origin of a command: this boot of this node, its number, and the floor below which all is answered.
pub(crate) fn origin(node: u64, boot: u64, sequence: u64, sequences: &Sequences) -> Origin {
    Origin { node, boot, sequence, acknowledged: sequences.acknowledged().min(sequence.saturating_sub(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_the_batcher_takes_a_job_or_the_proposer_gives_it_up() {
        let ticket = Ticket::default();
        assert!(ticket.take());
        assert!(!ticket.give_up(), "it may be in the log: the outcome is unknown");
        let ticket = Ticket::default();
        assert!(ticket.give_up());
        assert!(!ticket.take(), "it will never be in the log");
    }

    #[test]
    fn a_repeated_job_keeps_its_sequence() {
        let sequences = Sequences::new();
        let ticket = Ticket::default();
        let first = ticket.sequence(&sequences);
        ticket.renew();
        assert!(ticket.take());
        assert_eq!(ticket.sequence(&sequences), first);
    }

    #[test]
    fn the_queue_is_bounded_in_proposals_and_in_bytes() {
        let push = |queue: &Queue, bytes| {
            queue.push(Arc::new(Ticket::default()), None, Caller::node(), Vec::new(), bytes).map(drop)
        };
        let (by_count, _jobs) = queue(QueueLimits { proposals: 2, bytes: 100 });
        assert!(push(&by_count, 1).is_ok());
        assert!(push(&by_count, 1).is_ok());
        assert_eq!(by_count.len(), 2);
        assert!(matches!(push(&by_count, 1), Err(Some(ProposeError::Overloaded { proposals: 2, .. }))));
        let (by_bytes, jobs) = queue(QueueLimits { proposals: 10, bytes: 100 });
        assert!(push(&by_bytes, 99).is_ok());
        assert!(matches!(push(&by_bytes, 2), Err(Some(ProposeError::Overloaded { bytes: 100, .. }))));
        drop(jobs);
        assert!(matches!(push(&by_bytes, 1), Err(None)));
    }
}
