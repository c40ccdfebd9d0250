//! The batcher: many proposals become one log entry, or one call to the leader, and its outcomes many answers.
//!
//! ```text
//!   queue ──► drain what waits (≤ 512 commands) ──► number ──┬─ leads ──► stamp, encode (≤ 256 KiB) ──► Raft ─┐
//!     ▲              ▲                                       └─ else ──► one Propose to the leader (≤ 2 MiB) ─┤
//!     │              └───── a slot, of two: the next batch fills while this one is synced or under way ◄──────┤
//!     │  again, under its origin: the leader moved, did not answer, had no room ◄─────────────────────────────┤
//!     └─ applied here, or refused ◄───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! openraft 0.9 waits for the sync of each entry, so without this every write would cost one sync however many writers
//! there are (design, section 4, "Group commit"). A command that is refused never fails its neighbours: refusal is an
//! outcome, and each command has its own.
//!
//! A command is offered again under the origin it had (ELE-08): the state gives the outcome of the first time, and does
//! nothing twice. It is offered until somebody knows its outcome or its proposer has gone away.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_identity::{MemberNumber, UnixMillis};
use quorate_raft_machine::{Command, CommandBatch};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    batch::Batch,
    config::BatchLimits,
    forwarding::Forwarder,
    limits::{BATCHES_IN_FLIGHT_MAX, FORWARD_BYTES_MAX, FORWARD_PAUSE, FORWARD_TIME_LIMIT},
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
    pub(crate) forwarder: Forwarder,
    pub(crate) role: watch::Receiver<Role>,
    /// Turns true when the node stops: what waits is still taken, nothing new is.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) sources: Sources,
    pub(crate) sequences: Sequences,
    pub(crate) limits: BatchLimits,
    pub(crate) member: u64,
    pub(crate) boot: u64,
    pub(crate) stop: StopCause,
    /// One for each batch in flight. Whoever hands leadership over takes them all (ELE-09).
    pub(crate) slots: Arc<Semaphore>,
}

/// The slots of a batcher.
pub(crate) fn new_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX))
}

/// Waits until nothing is in flight, which stays so while the permit lives.
pub(crate) async fn all_slots(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let all = u32::try_from(BATCHES_IN_FLIGHT_MAX).unwrap_or(u32::MAX);
    Arc::clone(slots).acquire_many_owned(all).await.ok()
}

/// Who waits for the outcome of one command.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Kept so that the sequence stays open until the outcome is known.
    _ticket: Arc<Ticket>,
    /// Another member's command: that member offers it again, not this one.
    is_forwarded: bool,
    /// An earlier offer may have been carried out: no refusal of a later one says that nothing was done.
    maybe_done: bool,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// An offer was lost on its way.
    pub(crate) fn lost_sight(&mut self) {
        self.maybe_done = true;
    }

    /// Tells that the command was not taken, and will not be offered again.
    pub(crate) fn refuse(self, error: ProposeError) {
        let answer = if self.maybe_done {
            Answer::Unknown(Uncertainty::NotRepeated { reason: with_causes(&error).into() })
        } else {
            Answer::Refused(error)
        };
        self.tell(answer);
    }

    /// Tells it. Whoever has gone away needs no answer.
    pub(crate) fn tell(self, answer: Answer) {
        drop(self.answer.send(answer));
    }
}

/// A command that was offered and is to be offered again.
#[derive(Debug)]
pub(crate) struct Again {
    /// Under the origin it had.
    pub(crate) encoded: Bytes,
    pub(crate) waiting: Waiting,
}

/// A command on its way into a batch.
struct Taken {
    command: Command,
    waiting: Waiting,
}

/// Where a batch goes.
enum Office {
    /// Into this node's Raft.
    Here,
    /// To the leader.
    At(MemberNumber),
}

/// What there is to take next.
enum Next {
    Job(Box<Job>),
    Again(Again),
}

/// A batch that is being filled.
#[derive(Default)]
struct Filling {
    taken: Vec<Taken>,
    bytes: usize,
}

impl Batcher {
    /// Works until the queue is closed and empty, then waits for what is in flight, for at most `drain`.
    pub(crate) async fn run(mut self, drain: Duration) {
        let slots = Arc::clone(&self.slots);
        // Bounded by what is in flight: nothing else is ever offered again.
        let (again, mut to_offer_again) = mpsc::unbounded_channel();
        let mut carried = VecDeque::new();
        while let Some(first) = self.next(&mut carried, &mut to_offer_again, &slots).await {
            // The slot first: while it is waited for, the lead may move.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let office = self.office(&first).await;
            carried.push_front(first);
            let Some(office) = office else {
                self.refuse_all(carried, &mut to_offer_again).await;
                break;
            };
            let filling = self.fill(&mut carried, &mut to_offer_again, &office);
            if filling.taken.is_empty() {
                continue;
            }
            match office {
                Office::Here => self.submit(filling, slot, again.clone()).await,
                Office::At(leader) => {
                    let offers = filling.taken.into_iter();
                    let offers = offers.map(|taken| Again { encoded: taken.command.encode(), waiting: taken.waiting });
                    self.forwarder.forward(leader, offers.collect(), slot, again.clone());
                }
            }
        }
        if timeout(drain, all_slots(&slots)).await.is_err() {
            tracing::warn!("batches were still in flight when consensus stopped; their outcome is unknown");
        }
    }

    /// What to take next. `None` when the node stops and nothing waits and nothing can come back.
    async fn next(
        &mut self,
        carried: &mut VecDeque<Next>,
        again: &mut mpsc::UnboundedReceiver<Again>,
        slots: &Arc<Semaphore>,
    ) -> Option<Next> {
        if let Some(next) = carried.pop_front() {
            return Some(next);
        }
        let closed = async { drop(self.closing.wait_for(|closing| *closing).await) };
        tokio::select! {
            biased;
            offered = again.recv() => return offered.map(Next::Again),
            job = self.jobs.recv() => return job.map(|job| Next::Job(Box::new(job))),
            () = closed => {}
        }
        self.jobs.close();
        if let Some(job) = self.jobs.recv().await {
            return Some(Next::Job(Box::new(job)));
        }
        // What is in flight may come back to be offered again.
        tokio::select! {
            biased;
            offered = again.recv() => offered.map(Next::Again),
            _ = all_slots(slots) => again.try_recv().ok().map(Next::Again),
        }
    }

    /// Waits until somebody leads. `None` when consensus has ended, or is about to and nobody leads.
    async fn office(&mut self, first: &Next) -> Option<Office> {
        // Another member's proposal does not wait here for a leader: that member looks for one itself.
        let is_forwarded = matches!(first, Next::Job(job) if job.forwarded.is_some());
        let settled = self.role.wait_for(|role| {
            is_forwarded
                || match role {
                    Role::Leader { .. } | Role::Stopped { .. } => true,
                    Role::Follower { leader } | Role::Learner { leader } => leader.is_some(),
                    Role::Unfounded | Role::Candidate => false,
                }
        });
        let closed = async { drop(self.closing.wait_for(|closing| *closing).await) };
        let role = tokio::select! {
            biased;
            role = settled => role.ok()?.clone(),
            () = closed => return None,
        };
        match role {
            Role::Stopped { .. } => None,
            Role::Follower { leader: Some(leader) } | Role::Learner { leader: Some(leader) } => {
                Some(Office::At(leader))
            }
            Role::Leader { .. }
            | Role::Unfounded
            | Role::Candidate
            | Role::Follower { leader: None }
            | Role::Learner { leader: None } => Some(Office::Here),
        }
    }

    /// Takes what waits as long as it fits. What did not fit is carried over.
    fn fill(
        &mut self,
        carried: &mut VecDeque<Next>,
        again: &mut mpsc::UnboundedReceiver<Again>,
        office: &Office,
    ) -> Filling {
        let most = match office {
            Office::Here => self.limits.bytes,
            Office::At(_) => FORWARD_BYTES_MAX,
        };
        let mut filling = Filling::default();
        loop {
            let next = carried.pop_front();
            let next = next.or_else(|| again.try_recv().ok().map(Next::Again));
            let next = next.or_else(|| self.jobs.try_recv().ok().map(|job| Next::Job(Box::new(job))));
            let Some(next) = next else { return filling };
            let bytes = match &next {
                Next::Job(job) => job.share.num_permits(),
                Next::Again(again) => again.encoded.len(),
            };
            let full = filling.taken.len() >= self.limits.commands || filling.bytes.saturating_add(bytes) > most;
            if full && !filling.taken.is_empty() {
                carried.push_front(next);
                return filling;
            }
            let taken = match next {
                Next::Job(job) => self.take(*job, office),
                Next::Again(again) => retake(again),
            };
            if let Some(taken) = taken {
                filling.bytes = filling.bytes.saturating_add(bytes);
                filling.taken.push(taken);
            }
        }
    }

    /// Takes a job out of the queue, unless its proposer wants nothing done any more.
    fn take(&self, job: Job, office: &Office) -> Option<Taken> {
        // A proposer that has gone away, or has given up, wants nothing done.
        if job.answer.is_closed() || !job.ticket.take() {
            return None;
        }
        let leads = matches!(office, Office::Here) && self.role.borrow().is_leader();
        let is_forwarded = job.forwarded.is_some();
        if is_forwarded && !leads {
            drop(job.answer.send(Answer::NotLeader));
            return None;
        }
        let origin = job
            .forwarded
            .unwrap_or_else(|| origin(self.member, self.boot, job.ticket.sequence(&self.sequences), &self.sequences));
        // The leader's batcher stamps the time, when it is put into a batch.
        let command = Command { origin, caller: job.caller, time: UnixMillis(0), operations: job.operations };
        Some(Taken {
            command,
            waiting: Waiting { _ticket: job.ticket, is_forwarded, maybe_done: false, answer: job.answer },
        })
    }

    /// Gives a batch to Raft, and has its answers sent when it comes back.
    async fn submit(&self, filling: Filling, slot: OwnedSemaphorePermit, again: mpsc::UnboundedSender<Again>) {
        telemetry::batch(filling.taken.len(), filling.bytes);
        let now = self.sources.now();
        let (mut commands, mut waiting) = (Vec::new(), Vec::new());
        for Taken { mut command, waiting: who } in filling.taken {
            command.time = now;
            commands.push(command);
            waiting.push(who);
        }
        let batch = Batch::new(commands);
        let receiver = match self.raft.client_write_ff(batch.clone()).await {
            Ok(receiver) => receiver,
            Err(fatal) => {
                let reason = self.stop.record(with_causes(&fatal));
                for waiting in waiting {
                    waiting.refuse(ProposeError::Stopped { reason: Arc::clone(&reason) });
                }
                return;
            }
        };
        let mut role = self.role.clone();
        // The batch goes on by itself, so that the next one can be filled; the slot bounds how many do.
        tokio::spawn(async move {
            let answered = tokio::select! {
                biased;
                answered = receiver => Some(answered),
                () = out_of_office(role.clone()) => None,
            };
            match answered {
                Some(Ok(Ok(response))) => tell_each(waiting, response.log_id.index, response.data.outcomes),
                // Either the entry never was in the log or another leader's took its place. Raft does not say which; and
                // nothing at all, when its own log was behind and the new leader sent a snapshot.
                Some(Ok(Err(_))) | None => offer_again(&batch, waiting, &again).await,
                Some(Err(_raft_is_gone)) => {
                    let reason = stop_reason(&mut role).await;
                    tell_all(waiting, || Answer::Unknown(Uncertainty::Stopped { reason: Arc::clone(&reason) }));
                }
            }
            drop(slot);
        });
    }

    /// Consensus has ended, or this node stops and nobody leads: whoever waits is told.
    async fn refuse_all(&mut self, carried: VecDeque<Next>, again: &mut mpsc::UnboundedReceiver<Again>) {
        let reason = if *self.closing.borrow() {
            self.stop.get().unwrap_or_else(|| Arc::from("consensus is shutting down, and nobody leads"))
        } else {
            stop_reason(&mut self.role).await
        };
        self.jobs.close();
        let stopped = || ProposeError::Stopped { reason: Arc::clone(&reason) };
        let refuse = |next| match next {
            Next::Again(again) => again.waiting.refuse(stopped()),
            Next::Job(job) => drop(job.answer.send(Answer::Refused(stopped()))),
        };
        carried.into_iter().for_each(refuse);
        while let Ok(offered) = again.try_recv() {
            refuse(Next::Again(offered));
        }
        while let Some(job) = self.jobs.recv().await {
            refuse(Next::Job(Box::new(job)));
        }
    }
}

/// Takes a command that was offered before, unless its proposer has gone away.
fn retake(again: Again) -> Option<Taken> {
    if again.waiting.answer.is_closed() {
        return None;
    }
    match Command::decode(again.encoded) {
        Ok(command) => Some(Taken { command, waiting: again.waiting }),
        // It was encoded here.
        Err(error) => {
            again.waiting.refuse(ProposeError::Invalid(error));
            None
        }
    }
}

/// Puts the commands of a batch back, to be offered to whoever leads next. What other members forwarded, they offer again
/// themselves.
async fn offer_again(batch: &Batch, waiting: Vec<Waiting>, again: &mpsc::UnboundedSender<Again>) {
    let (forwarded, own): (Vec<_>, Vec<_>) = {
        let commands = CommandBatch::decode(batch.encoded().clone()).map(|batch| batch.commands).unwrap_or_default();
        let mut commands: Vec<Option<Command>> = commands.into_iter().map(Some).collect();
        commands.resize_with(waiting.len(), || None);
        commands.into_iter().zip(waiting).partition(|(_, waiting)| waiting.is_forwarded)
    };
    tell_all(forwarded.into_iter().map(|(_, waiting)| waiting), || Answer::Unknown(Uncertainty::LeadershipMoved));
    // Who leads now is not known at once.
    sleep(FORWARD_PAUSE).await;
    for (command, mut waiting) in own {
        waiting.lost_sight();
        match command {
            Some(command) => drop(again.send(Again { encoded: command.encode(), waiting })),
            None => waiting.tell(Answer::Unknown(Uncertainty::LeadershipMoved)),
        }
    }
}

/// Waits until this node has not led and had time to learn what became of its entries. Raft answers for an entry that is
/// applied or cut off; one that a snapshot has overtaken it never answers for (openraft 0.9), and the slot must not go
/// with it.
async fn out_of_office(mut role: watch::Receiver<Role>) {
    if role.wait_for(|role| !role.is_leader() && !role.is_stopped()).await.is_err() {
        std::future::pending::<()>().await;
    }
    sleep(FORWARD_TIME_LIMIT).await;
}

/// Why consensus ended, which the driver says when it has found out.
async fn stop_reason(role: &mut watch::Receiver<Role>) -> Arc<str> {
    match role.wait_for(Role::is_stopped).await.as_deref() {
        Ok(Role::Stopped { reason }) => Arc::clone(reason),
        Ok(_) | Err(_) => Arc::from("consensus is gone"),
    }
}

/// Sends each proposer the outcome of its own command.
fn tell_each(waiting: Vec<Waiting>, log_index: u64, outcomes: Vec<quorate_raft_machine::Outcome>) {
    for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
        waiting.tell(Answer::Applied(Applied { log_index, outcome }));
    }
}

/// Sends all proposers of a batch the same answer.
fn tell_all(waiting: impl IntoIterator<Item = Waiting>, answer: impl Fn() -> Answer) {
    for waiting in waiting {
        waiting.tell(answer());
    }
}
