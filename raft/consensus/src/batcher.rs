//! The batcher: many proposals become one log entry, and its outcomes many answers.
//!
//! ```text
//!   queue ──► drain what waits (≤ 512 commands, ≤ 256 KiB) ──► stamp, number, encode ──► Raft ──► answers
//!               ▲                                                                        │
//!               └───────── a slot, of two: the next batch fills while this one is synced ◄┘
//! ```
//!
//! openraft 0.9 waits for the sync of each entry, so without this every write would cost one sync however many writers
//! there are (design, section 4, "Group commit"). A command that is refused never fails its neighbours: refusal is an
//! outcome, and each command has its own.

use std::{sync::Arc, time::Duration};

use quorate_raft_machine::Command;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::timeout,
};

use crate::{
    batch::Batch,
    config::BatchLimits,
    limits::BATCHES_IN_FLIGHT_MAX,
    origin::Sequences,
    proposal::{Applied, ProposeError, Uncertainty},
    queue::{Answer, Job, Ticket, origin},
    role::Role,
    sources::Sources,
    stop::{StopCause, with_causes},
    telemetry,
    type_config::Raft,
};

/// What the batcher works with.
pub(crate) struct Batcher {
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) raft: Raft,
    pub(crate) role: watch::Receiver<Role>,
    /// Turns true when the node stops: what waits is still taken, nothing new is.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) sources: Sources,
    pub(crate) sequences: Sequences,
    pub(crate) limits: BatchLimits,
    pub(crate) member: u64,
    pub(crate) boot: u64,
    pub(crate) stop: StopCause,
    /// One for each batch that Raft may work on at a time. Whoever takes them all has waited for the batches in flight, and
    /// holds the next ones (ELE-09).
    pub(crate) slots: Arc<Semaphore>,
}

/// Slots for [`BATCHES_IN_FLIGHT_MAX`] batches.
pub(crate) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX))
}

/// Takes all slots: there is no batch in flight then, and none can begin while they are held. `None` only if they are
/// closed.
pub(crate) async fn all_slots(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let all = u32::try_from(BATCHES_IN_FLIGHT_MAX).unwrap_or(u32::MAX);
    Arc::clone(slots).acquire_many_owned(all).await.ok()
}

/// Who waits for the outcome of one command.
struct Waiting {
    /// Kept so that the sequence stays open until the outcome is known.
    _ticket: Arc<Ticket>,
    answer: oneshot::Sender<Answer>,
}

/// A batch that is being filled.
#[derive(Default)]
struct Filling {
    commands: Vec<Command>,
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Batcher {
    /// Works until the queue is closed and empty, then waits for what is in flight, for at most `drain`.
    pub(crate) async fn run(mut self, drain: Duration) {
        let slots = Arc::clone(&self.slots);
        let mut carried = None;
        while let Some(first) = self.next_job(carried.take()).await {
            if !self.wait_for_office().await {
                self.refuse_all(first).await;
                break;
            }
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            if !self.role.borrow().is_leader() {
                // Office was handed over while the job waited for a slot, and Raft has not seen it.
                carried = Some(first);
                continue;
            }
            let (filling, rest) = self.fill(first);
            carried = rest;
            if !filling.commands.is_empty() {
                self.submit(filling, slot).await;
            }
        }
        if timeout(drain, all_slots(&slots)).await.is_err() {
            tracing::warn!("batches were still in flight when consensus stopped; their outcome is unknown");
        }
    }

    async fn next_job(&mut self, carried: Option<Job>) -> Option<Job> {
        if carried.is_some() {
            return carried;
        }
        let closed = async { drop(self.closing.wait_for(|closing| *closing).await) };
        tokio::select! {
            biased;
            job = self.jobs.recv() => return job,
            () = closed => {}
        }
        self.jobs.close();
        self.jobs.recv().await
    }

    /// Waits until this node leads. `false` when it never will again.
    async fn wait_for_office(&mut self) -> bool {
        match self.role.wait_for(|role| role.is_leader() || role.is_stopped()).await {
            Ok(role) => role.is_leader(),
            Err(_closed) => false,
        }
    }

    /// Takes jobs as long as they wait and fit. Gives back the job that did not fit.
    fn fill(&mut self, first: Job) -> (Filling, Option<Job>) {
        let now = self.sources.now();
        let mut filling = Filling::default();
        let mut next = Some(first);
        while let Some(job) = next.take().or_else(|| self.jobs.try_recv().ok()) {
            let bytes = job.share.num_permits();
            let full = filling.commands.len() >= self.limits.commands
                || filling.bytes.saturating_add(bytes) > self.limits.bytes;
            if full && !filling.commands.is_empty() {
                return (filling, Some(job));
            }
            // A proposer that has gone away, or has given up, wants nothing done.
            if job.answer.is_closed() || !job.ticket.take() {
                continue;
            }
            let sequence = job.ticket.sequence(&self.sequences);
            filling.bytes = filling.bytes.saturating_add(bytes);
            filling.commands.push(Command {
                origin: origin(self.member, self.boot, sequence, &self.sequences),
                caller: job.caller,
                time: now,
                operations: job.operations,
            });
            filling.waiting.push(Waiting { _ticket: job.ticket, answer: job.answer });
        }
        (filling, None)
    }

    /// Gives a batch to Raft, and has its answers sent when it comes back.
    async fn submit(&self, filling: Filling, slot: OwnedSemaphorePermit) {
        telemetry::batch(filling.commands.len(), filling.bytes);
        let batch = Batch::new(filling.commands);
        let receiver = match self.raft.client_write_ff(batch).await {
            Ok(receiver) => receiver,
            Err(fatal) => {
                let reason = self.stop.record(with_causes(&fatal));
                answer_all(filling.waiting, || Answer::Refused(ProposeError::Stopped { reason: Arc::clone(&reason) }));
                return;
            }
        };
        let mut role = self.role.clone();
        // The batch goes on by itself, so that the next one can be filled; the slot bounds how many do.
        tokio::spawn(async move {
            match receiver.await {
                Ok(Ok(response)) => answer_each(filling.waiting, response.log_id.index, response.data.outcomes),
                // Either the entry never was in the log or another leader's took its place. Raft does not say which.
                Ok(Err(_not_leader)) => {
                    answer_all(filling.waiting, || Answer::Unknown(Uncertainty::LeadershipMoved));
                }
                Err(_raft_is_gone) => {
                    let reason = stop_reason(&mut role).await;
                    answer_all(filling.waiting, || {
                        Answer::Unknown(Uncertainty::Stopped { reason: Arc::clone(&reason) })
                    });
                }
            }
            drop(slot);
        });
    }

    /// Consensus has ended: whoever waits is told.
    async fn refuse_all(&mut self, first: Job) {
        let reason = stop_reason(&mut self.role).await;
        self.jobs.close();
        let mut next = Some(first);
        while let Some(job) = next {
            let refused = ProposeError::Stopped { reason: Arc::clone(&reason) };
            drop(job.answer.send(Answer::Refused(refused)));
            next = self.jobs.recv().await;
        }
    }
}

/// Why consensus ended, which the driver says when it has found out.
async fn stop_reason(role: &mut watch::Receiver<Role>) -> Arc<str> {
    match role.wait_for(Role::is_stopped).await.as_deref() {
        Ok(Role::Stopped { reason }) => Arc::clone(reason),
        Ok(_) | Err(_) => Arc::from("consensus is gone"),
    }
}

/// Sends each proposer the outcome of its own command.
fn answer_each(waiting: Vec<Waiting>, log_index: u64, outcomes: Vec<quorate_raft_machine::Outcome>) {
    for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
        drop(waiting.answer.send(Answer::Applied(Applied { log_index, outcome })));
    }
}

/// Sends all proposers of a batch the same answer.
fn answer_all(waiting: Vec<Waiting>, answer: impl Fn() -> Answer) {
    for waiting in waiting {
        drop(waiting.answer.send(answer()));
    }
}
