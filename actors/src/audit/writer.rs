//! Works the queue off: makes records of what happened, adds them to the trail, syncs it, and anchors its head.
//!
//! ```text
//!   queue ──► a batch ──► records ──► written ──► synced at once if somebody waits, within SYNC_EVERY otherwise
//!                            ^                        |
//!                            └── disk full: again ◄───┘──► anchored: ANCHOR_EVERY after the first record that is not,
//!                                every RETRY_EVERY                   and when a file is full
//! ```
//!
//! *When it syncs.* Administrative records need no sync of their own: the log that they derive from is synced before it is
//! applied, and a restart applies again what the trail does not have yet, back to the last snapshot; and before a snapshot
//! becomes durable the trail is synced up to it. So nobody waits for the disk but those for whom the record is the only
//! trace: an SVID under a policy that wants its record first.
//!
//! *When it anchors.* An anchor is one command for each member, so it must cost little beside what it secures: at most one
//! in [`ANCHOR_EVERY`], and none where nothing was recorded. Whoever cuts the trail off behind the last anchor can hide at
//! most so much time. A full file is anchored at once: with many issuances that is oftener, and still once in some 40,000
//! records. Each node anchors its own trail, because nobody else knows it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_identity::{MemberNumber, UnixMillis};
use quorate_raft_consensus::{Handle, Proposal, WorkLost};
use quorate_raft_machine::{AuditAnchor, Caller, Operation};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    acts,
    auditor::{Shared, TrailStatus},
    chain::{Appended, Chain, ChainError, Owner},
    queue::{Item, Receipt},
    record::{GAP, Kind, Position, RECORDS_LOST, Record, SETTLED},
    walk::Head,
};
use crate::{errors::with_causes, metrics};

/// How long a record waits for a sync that nobody else waits for. The same as what a crash may lose of what this node alone
/// knows.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// How often what the disk refused is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long after the first record that is not anchored the head is anchored: what somebody with the disk in hand can cut
/// off without a trace.
pub const ANCHOR_EVERY: Duration = Duration::from_secs(300);

/// How soon anchoring is tried again after it failed, mostly for want of a leader.
const ANCHOR_AGAIN: Duration = Duration::from_secs(30);

/// How long an anchor may take.
const ANCHOR_LIMIT: Duration = Duration::from_secs(10);

/// The act of a record that tells of records which nobody has.
const DROPPED: &str = "records.dropped";

/// Items of one batch.
const BATCH_ITEMS: usize = 1024;

/// Bytes of commands of one batch, unless a single log entry has more: a quarter of a second of the busiest log, and far
/// less than a file holds.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// What the writer works with.
#[derive(Clone)]
pub(crate) struct WriterArguments {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handle: Handle,
    pub(crate) node: String,
}

/// Records on their way to the disk, and who waits for them.
#[derive(Debug, Default)]
struct Pending {
    records: Vec<Record>,
    receipts: Vec<Receipt>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.receipts.is_empty()
    }

    fn answer(&mut self, is_written: bool) {
        for receipt in self.receipts.drain(..) {
            // Whoever does not wait any more does not mind.
            let _ = receipt.send(is_written);
        }
    }
}

/// Writes for as long as the process runs.
pub(crate) async fn write(arguments: WriterArguments) {
    let Some(member) = arguments.handle.member() else {
        // The actors start when the node is a member.
        tracing::error!("the audit trail is not kept, because this node is no member");
        return;
    };
    loop {
        match open(&arguments, member).await {
            Ok(chain) => {
                let error = Writer::new(arguments.clone(), member, chain).run().await;
                tracing::error!(error = %with_causes(&error), "the audit trail is given up until a restart");
                arguments.shared.block(&error);
                // What comes is counted and not kept; whoever wants a record is refused. A restart writes what the log
                // still has.
                return std::future::pending().await;
            }
            Err(error) => {
                tracing::error!(error = %with_causes(&error), "the audit trail cannot be opened; it is tried again");
                arguments.shared.block(&error);
                sleep(RETRY_EVERY).await;
            }
        }
    }
}

async fn open(arguments: &WriterArguments, member: MemberNumber) -> Result<Chain, ChainError> {
    let settings = arguments.shared.settings.clone();
    let cluster = arguments.handle.cluster().map(|cluster| cluster.to_string()).unwrap_or_default();
    let owner = Owner { node: arguments.node.clone(), member: member.get(), cluster };
    let sources = settings.sources.clone();
    let now = sources.now();
    let opened =
        sources.run_blocking(move || Chain::open(settings.disk, &settings.directory, settings.limits, owner, now));
    opened.await.unwrap_or_else(|lost| Err(lost_work(arguments, &lost)))
}

/// Work that never came back is no different from a disk that refused.
fn lost_work(arguments: &WriterArguments, lost: &WorkLost) -> ChainError {
    let path = arguments.shared.settings.directory.clone();
    ChainError::Io { deed: "work on", path, source: std::io::Error::other(lost.to_string()) }
}

impl Shared {
    /// Says why nothing can be written.
    fn block(&self, error: &ChainError) {
        self.say_blocked(Some(with_causes(error).into()));
    }

    fn say_blocked(&self, reason: Option<Arc<str>>) {
        metrics::audit_blocked(reason.is_some());
        self.status.send_if_modified(|status| {
            let changed = status.blocked != reason;
            if changed {
                match &reason {
                    Some(reason) => tracing::error!(
                        %reason,
                        "the audit trail cannot be written: administrative acts are refused on this node, and SVIDs if the \
                         policy wants each recorded"
                    ),
                    None => tracing::info!("the audit trail can be written"),
                }
            }
            status.blocked = reason;
            changed
        });
    }
}

struct Writer {
    arguments: WriterArguments,
    member: MemberNumber,
    chain: Arc<Mutex<Chain>>,
    /// Up to where the log has its records in the trail, what is pending included.
    covered: Position,
    pending: Pending,
    /// When the disk is tried again.
    retry_at: Option<Instant>,
    sync_at: Option<Instant>,
    anchor_at: Option<Instant>,
    /// The number of the last record that was anchored.
    anchored: u64,
    anchoring: JoinSet<Option<Head>>,
    /// Records of this node alone that the queue or a full disk did not take, and that no record tells of yet.
    dropped: u64,
}

/// What wakes the writer.
enum Woken {
    Items(Vec<Item>),
    Retry,
    Sync,
    Anchor,
    Anchored(Option<Head>),
}

/// What the disk came to.
struct Written {
    result: Result<Appended, ChainError>,
    synced: Head,
    head: Head,
    bytes: u64,
    free: Option<u64>,
    pending: Pending,
}

impl Writer {
    fn new(arguments: WriterArguments, member: MemberNumber, chain: Chain) -> Self {
        let covered = chain.covered();
        let anchored = newest_anchor(&arguments.handle, member).map_or(0, |anchor| anchor.records);
        let taken = arguments.shared.taken.load(Ordering::Relaxed);
        let now = arguments.shared.settings.sources.now();
        let mut writer = Self {
            arguments,
            member,
            covered,
            chain: Arc::new(Mutex::new(chain)),
            pending: Pending::default(),
            retry_at: None,
            // What an earlier process left may not be synced.
            sync_at: Some(Instant::now()),
            anchor_at: None,
            anchored,
            anchoring: JoinSet::new(),
            dropped: 0,
        };
        // A writer that came to an end took with it what it had taken and not written.
        writer.missed(covered.index.saturating_add(1), taken, "the task that writes the trail came to an end", now);
        writer
    }

    /// Writes until the trail has to be given up.
    async fn run(mut self) -> ChainError {
        loop {
            let done = match self.next().await {
                Woken::Items(items) => {
                    self.take(items);
                    let urgent = !self.pending.receipts.is_empty();
                    self.write_out(urgent).await
                }
                Woken::Retry => {
                    self.retry_at = None;
                    self.write_out(true).await
                }
                Woken::Sync => self.write_out(true).await,
                Woken::Anchor => self.anchor().await,
                Woken::Anchored(head) => {
                    self.was_anchored(head);
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.pending.answer(false);
                return error;
            }
        }
    }

    async fn next(&mut self) -> Woken {
        let queue = self.arguments.shared.queue.clone();
        tokio::select! {
            biased;
            () = at(self.retry_at), if self.retry_at.is_some() => Woken::Retry,
            () = at(self.sync_at), if self.sync_at.is_some() && self.pending.is_empty() => Woken::Sync,
            Some(anchored) = self.anchoring.join_next() => Woken::Anchored(anchored.unwrap_or(None)),
            () = at(self.anchor_at), if self.anchor_at.is_some() && self.anchoring.is_empty() => Woken::Anchor,
            // While the disk takes nothing, what comes waits in the queue, which has a bound.
            items = queue.take(BATCH_ITEMS, BATCH_BYTES), if self.pending.is_empty() => Woken::Items(items),
        }
    }

    /// Makes records of what happened.
    fn take(&mut self, items: Vec<Item>) {
        let now = self.arguments.shared.settings.sources.now();
        for item in items {
            match item {
                Item::Applied { log_index, bytes: _, commands } => {
                    self.arguments.shared.taken.fetch_max(log_index, Ordering::Relaxed);
                    let records = acts::records(log_index, &commands);
                    let new =
                        records.into_iter().filter(|record| record.position().is_some_and(|at| at > self.covered));
                    self.pending.records.extend(new);
                    self.covered = self
                        .pending
                        .records
                        .last()
                        .and_then(Record::position)
                        .unwrap_or(self.covered)
                        .max(self.covered);
                }
                Item::Replaced { log_index } => {
                    let from = self.covered.index.saturating_add(1);
                    self.missed(
                        from,
                        log_index,
                        "a snapshot holds what these entries did, and not who asked for it",
                        now,
                    );
                }
                Item::Unheard { from, to } => {
                    self.missed(from, to, "more was applied than the queue to the disk takes", now);
                }
                Item::Local { mut record, receipt } => {
                    record.member = Some(self.member.get());
                    self.pending.records.push(*record);
                    self.pending.receipts.extend(receipt);
                }
                Item::Dropped { count } => self.dropped = self.dropped.saturating_add(count),
                Item::Settle { log_index, receipt } => {
                    if log_index > self.covered.index {
                        self.covered = Position::after(log_index);
                        let mut record = Record::new(now, Kind::Trail, SETTLED);
                        record.index = Some(log_index);
                        self.pending.records.push(record);
                    }
                    self.pending.receipts.push(receipt);
                }
            }
        }
    }

    /// The log has gone on to an index without the trail.
    fn missed(&mut self, from: u64, to: u64, reason: &'static str, now: UnixMillis) {
        if to <= self.covered.index {
            return;
        }
        tracing::warn!(from, to, reason, "the audit trail has no records of some log entries");
        metrics::audit_gap();
        let mut record = Record::new(now, Kind::Trail, GAP).with("from", from).with("to", to).with("reason", reason);
        record.index = Some(to);
        self.pending.records.push(record);
        self.covered = Position::after(to);
    }

    /// Writes what is pending, and syncs if that is wanted.
    async fn write_out(&mut self, sync: bool) -> Result<(), ChainError> {
        let settings = &self.arguments.shared.settings;
        let (chain, floor, now) = (Arc::clone(&self.chain), settings.floor_bytes, settings.sources.now());
        let was_blocked = self.arguments.shared.status.borrow().blocked.is_some();
        let mut pending = std::mem::take(&mut self.pending);
        let (dropped, member) = (self.dropped, self.member);
        let work = move || {
            let mut chain = chain.lock();
            let own = pending.records.iter().any(|record| matches!(record.kind, Kind::Issuance | Kind::Local));
            let free = if own || was_blocked || sync { chain.free_space().ok() } else { None };
            let has_room = free.is_none_or(|free| free >= floor);
            let mut newly_dropped = 0;
            // One that the disk refused before is made anew, with the count of now.
            pending.records.retain(|record| record.what != DROPPED);
            if !has_room {
                // The last bytes are the log's. What all nodes have is still written, as far as it goes.
                let before = pending.records.len();
                pending.records.retain(|record| !matches!(record.kind, Kind::Issuance | Kind::Local));
                newly_dropped = before.saturating_sub(pending.records.len()) as u64;
            } else if dropped > 0 {
                pending.records.push(dropped_records(dropped, member, now));
            }
            let mut result = chain.append(&mut pending.records, now);
            if result.is_ok() {
                pending.records.clear();
                if sync && let Err(error) = chain.sync() {
                    result = Err(error);
                }
            }
            let written =
                Written { result, synced: chain.synced(), head: chain.head(), bytes: chain.bytes(), free, pending };
            (written, has_room, newly_dropped)
        };
        let worked = settings.sources.run_blocking(work).await;
        let (written, has_room, newly_dropped) = worked.map_err(|lost| lost_work(&self.arguments, &lost))?;
        self.settle(written, has_room, newly_dropped, sync)
    }

    fn settle(&mut self, written: Written, has_room: bool, newly_dropped: u64, synced: bool) -> Result<(), ChainError> {
        let Written { result, synced: synced_head, head, bytes, free, mut pending } = written;
        let now = Instant::now();
        let shared = Arc::clone(&self.arguments.shared);
        // Also where the disk takes nothing at all: what was dropped for want of room is not offered again.
        self.dropped = self.dropped.saturating_add(newly_dropped);
        metrics::audit_records("dropped", newly_dropped);
        match result {
            Ok(Appended { records, rotated }) => {
                metrics::audit_records("written", records as u64);
                if has_room {
                    self.dropped = 0;
                }
                self.sync_at = match self.sync_at {
                    _ if synced => None,
                    Some(at) => Some(at),
                    None => (synced_head != head).then(|| now + SYNC_EVERY),
                };
                if head.records > self.anchored {
                    let soon = now + if rotated { Duration::ZERO } else { shared.settings.anchor_every };
                    self.anchor_at = Some(self.anchor_at.map_or(soon, |at| at.min(soon)));
                }
                let reason = (!has_room).then(|| {
                    let free = free.unwrap_or_default();
                    Arc::from(format!("{free} bytes are free on its disk, which the Raft log needs"))
                });
                // Room is looked for again and again, also while nothing else happens.
                self.retry_at = reason.is_some().then(|| now + RETRY_EVERY);
                shared.say_blocked(reason);
                shared.say_head(synced_head, bytes);
                // Last, so that who waited finds its record in the head. Whoever waits for one that was dropped is refused
                // with all others of its batch: they ask again.
                pending.answer(newly_dropped == 0);
                Ok(())
            }
            Err(error) if error.is_passing() => {
                // The records are offered again; those who wait for one are not kept waiting.
                pending.answer(false);
                self.pending = pending;
                self.retry_at = Some(now + RETRY_EVERY);
                shared.block(&error);
                Ok(())
            }
            Err(error) => {
                self.pending = pending;
                Err(error)
            }
        }
    }

    /// Tells the head of what is synced to everybody.
    async fn anchor(&mut self) -> Result<(), ChainError> {
        self.anchor_at = None;
        if let Some(anchor) = newest_anchor(&self.arguments.handle, self.member) {
            self.look_behind(&anchor);
        }
        self.write_out(true).await?;
        let head = self.chain.lock().synced();
        if self.retry_at.is_some() || head.records <= self.anchored {
            return Ok(());
        }
        let (handle, member) = (self.arguments.handle.clone(), self.member);
        self.anchoring.spawn(async move {
            let operation = Operation::AnchorAudit {
                member,
                records: head.records,
                index: handle.state().applied_index(),
                hash: head.hash.0,
            };
            let deadline = Instant::now() + ANCHOR_LIMIT;
            let proposal = Proposal { caller: Caller::node(), operations: vec![operation], deadline };
            match handle.propose(proposal).await {
                Ok(applied) => applied.outcome.results.iter().all(Result::is_ok).then_some(head),
                Err(error) => {
                    tracing::debug!(error = %with_causes(&error), "the head of the audit trail was not anchored; it is tried again");
                    None
                }
            }
        });
        Ok(())
    }

    fn was_anchored(&mut self, head: Option<Head>) {
        let now = Instant::now();
        match head {
            Some(head) => {
                self.anchored = head.records;
                metrics::audit_anchored(head.records);
                let more = self.chain.lock().head().records > self.anchored;
                self.anchor_at = self.anchor_at.or(more.then(|| now + self.arguments.shared.settings.anchor_every));
            }
            None => self.anchor_at = Some(now + ANCHOR_AGAIN),
        }
    }

    /// An anchor says that there were more records than there are: the trail was cut off while nobody wrote it, or a copy of
    /// the directory was put back. It says so itself from here on, and goes on behind what was anchored, so that no number is
    /// given twice.
    fn look_behind(&mut self, anchor: &AuditAnchor) {
        self.anchored = self.anchored.max(anchor.records);
        let head = self.chain.lock().head();
        let pending = self.pending.records.iter().any(|record| record.what == RECORDS_LOST);
        if anchor.records <= head.records || pending {
            return;
        }
        tracing::error!(
            here = head.records,
            anchored = anchor.records,
            "the audit trail was longer than it is: records that were anchored in the cluster's state are gone"
        );
        let now = self.arguments.shared.settings.sources.now();
        let mut record = Record::new(now, Kind::Trail, RECORDS_LOST)
            .with("from", head.records.saturating_add(1))
            .with("to", anchor.records)
            .with("anchored_hash", super::record::RecordHash(anchor.hash));
        record.record = anchor.records.saturating_add(1);
        self.pending.records.push(record);
    }
}

impl Shared {
    fn say_head(&self, head: Head, bytes: u64) {
        self.status.send_if_modified(|status| {
            let TrailStatus { head: said, bytes: said_bytes, blocked: _ } = status;
            let changed = *said != head && head.records > 0;
            if changed {
                *said = head;
            }
            *said_bytes = bytes;
            changed
        });
    }
}

fn newest_anchor(handle: &Handle, member: MemberNumber) -> Option<AuditAnchor> {
    handle.state().read(|state| state.audit_anchors(member).last().copied())
}

/// What tells of records that nobody has.
fn dropped_records(count: u64, member: MemberNumber, now: UnixMillis) -> Record {
    let mut record = Record::new(now, Kind::Local, DROPPED)
        .with("count", count)
        .with("reason", "there was no room for them in the queue, or on the disk");
    record.member = Some(member.get());
    record
}

/// Waits until an instant; for ever where there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
