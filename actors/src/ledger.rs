//! The ledger of what this node issued: found by serial number or `jti`, SPIFFE ID, entry, issuing key and end.
//!
//! It is written behind: signing hands a row over and goes on; when the ledger cannot keep up, rows are dropped, and never
//! is anybody kept waiting. Where rows are missing there is a row that says how many, so that nobody takes a search for
//! complete that is not. Revocation does not depend on it: what is revoked is found in memory (`issuer/serials.rs`). Losing it costs the search over what was issued, nothing else, which
//! is why it may lie in sled (design section 4). If it is damaged, it is set aside and begun anew while the node serves.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor). Its disk work runs where blocking is
//! allowed; the queue outlives it.

mod block;
mod query;
mod record;
mod store;

use std::{path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex as SyncMutex;
use quorate_proto_identity::UnixSeconds;
use quorate_raft_consensus::Sources;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

pub use query::{InvalidPosition, LEDGER_PAGE_LIMIT, LedgerPage, LedgerPosition, LedgerQuery};
pub use record::{Issued, IssuedId, LedgerGap, LedgerRow};
pub(crate) use store::{BYTES_LIMIT, Store, StoreError};

use crate::{mailbox::Envelope, metrics};

/// The actor hears of the end of its own task and of nothing else; records go through a queue that outlives it.
pub(crate) const LEDGER_MAILBOX_LIMIT: usize = 1;

/// How many rows wait to be written. At 20,000 SVIDs a second, far above what a node signs, this is three seconds
/// of a stuck disk; at some 200 bytes each, 13 MiB.
const QUEUE_LIMIT: usize = 65_536;

/// How many rows are gathered before they are written without waiting for the next flush: a block of some hundred
/// kilobytes.
const BLOCK_LIMIT: usize = 1024;

/// How often what was gathered is written and flushed: what a crash may lose of the ledger.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How often records of what has expired are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Wait before the ledger is opened again when it could not be.
const REOPEN_WAIT: Duration = Duration::from_secs(5);

/// Where rows are handed over, and where they are looked up. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// None where no ledger is kept.
    requests: Option<mpsc::Sender<Request>>,
    gap: OpenGap,
}

/// Rows that were dropped since the last gap was written.
type OpenGap = Arc<SyncMutex<Option<LedgerGap>>>;

/// The other end of the queue, kept across restarts of the actor.
#[derive(Clone)]
pub(crate) struct Queue {
    requests: Arc<Mutex<mpsc::Receiver<Request>>>,
    gap: OpenGap,
}

/// What comes through the queue, in order.
#[derive(Debug)]
pub(crate) enum Request {
    /// To be written.
    Record(Issued),
    /// Everything before this is on disk when it is answered.
    Flush(oneshot::Sender<()>),
    /// A page of what is found.
    Search(Box<LedgerQuery>, oneshot::Sender<LedgerPage>),
}

impl Ledger {
    /// A ledger's handle and the queue that its actor works off.
    pub(crate) fn new() -> (Self, Queue) {
        let (requests, queue) = mpsc::channel(QUEUE_LIMIT);
        let gap = OpenGap::default();
        let queue = Queue { requests: Arc::new(Mutex::new(queue)), gap: Arc::clone(&gap) };
        (Self { requests: Some(requests), gap }, queue)
    }

    /// The ledger of a node that keeps none: it forgets what it is handed.
    pub(crate) fn none() -> Self {
        Self { requests: None, gap: OpenGap::default() }
    }

    /// Hands a row over. When the ledger is behind, the row is dropped and leaves a gap.
    pub(crate) fn record(&self, issued: Issued) {
        let Some(requests) = &self.requests else { return };
        let gap = LedgerGap::of(&issued);
        if requests.try_send(Request::Record(issued)).is_err() {
            let mut open = self.gap.lock();
            *open = Some(open.map_or(gap, |before| before.joined(gap)));
            metrics::ledger_records("dropped", 1);
        }
    }

    /// Waits until everything handed over before is written and flushed. Says whether it was: the ledger may be gone.
    pub async fn flush(&self) -> bool {
        let Some(requests) = &self.requests else { return false };
        let (reply, flushed) = oneshot::channel();
        requests.send(Request::Flush(reply)).await.is_ok() && flushed.await.is_ok()
    }

    /// A page of what a query finds, what was handed over before included. None when there is no ledger, or it is gone.
    pub async fn search(&self, query: LedgerQuery) -> Option<LedgerPage> {
        let (reply, found) = oneshot::channel();
        self.requests.as_ref()?.send(Request::Search(Box::new(query), reply)).await.ok()?;
        found.await.ok()
    }
}

/// The actor: owns the task that writes.
pub(crate) struct LedgerActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct LedgerArguments {
    pub(crate) directory: PathBuf,
    pub(crate) sources: Sources,
    pub(crate) queue: Queue,
}

/// What it is told: only by its own task.
pub(crate) enum LedgerMessage {
    /// The task that writes has ended, which it does only by a fault.
    WriterEnded,
}

/// What it keeps: the task, which dies with it.
pub(crate) struct LedgerState {
    _writer: JoinSet<()>,
}

impl Actor for LedgerActor {
    type Msg = Envelope<LedgerMessage>;
    type State = LedgerState;
    type Arguments = LedgerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut writer = JoinSet::new();
        let ended = Ended(myself);
        writer.spawn(async move {
            let _ended = ended;
            write(arguments).await;
        });
        Ok(LedgerState { _writer: writer })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match envelope.open().0 {
            LedgerMessage::WriterEnded => Err("the task that writes the ledger has ended".into()),
        }
    }
}

/// Tells the actor that its task has ended, also when it panicked.
struct Ended(ActorRef<Envelope<LedgerMessage>>);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.send_message(Envelope::own(LedgerMessage::WriterEnded)));
    }
}

/// Works the queue off, for ever.
async fn write(arguments: LedgerArguments) {
    let LedgerArguments { directory, sources, queue } = arguments;
    // The actor before this one may still hold it for the moment that its task takes to end.
    let mut requests = queue.requests.lock().await;
    loop {
        match open(&sources, directory.clone()).await {
            Some(store) => work_off(&sources, Arc::new(store), &mut requests, &queue.gap).await,
            None => tokio::time::sleep(REOPEN_WAIT).await,
        }
    }
}

async fn open(sources: &Sources, directory: PathBuf) -> Option<Store> {
    match sources.run_blocking(move || Store::open(&directory)).await {
        Ok(Ok(store)) => Some(store),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the ledger could not be opened");
            None
        }
        Err(lost) => {
            tracing::warn!(error = %lost, "opening the ledger failed");
            None
        }
    }
}

/// Writes until something goes wrong; then the ledger is opened again.
async fn work_off(
    sources: &Sources,
    store: Arc<Store>,
    queue: &mut mpsc::Receiver<Request>,
    gap: &SyncMutex<Option<LedgerGap>>,
) {
    let mut flush = tokio::time::interval(FLUSH_EVERY);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unflushed = false;
    let mut pruned_at = Instant::now();
    // Requests that wait for their block, at most BLOCK_LIMIT.
    let mut gathered = Vec::with_capacity(BLOCK_LIMIT);
    loop {
        let room = BLOCK_LIMIT.saturating_sub(gathered.len());
        let (requests, tick) = tokio::select! {
            biased;
            _ = flush.tick() => (std::mem::take(&mut gathered), true),
            taken = queue.recv_many(&mut gathered, room) => {
                if taken == 0 {
                    // Every handle is gone, so the node is ending.
                    return std::future::pending().await;
                }
                // Records can wait; whoever asks something does not.
                let only_records =
                    gathered.iter().rev().take(taken).all(|request| matches!(request, Request::Record(_)));
                if only_records && gathered.len() < BLOCK_LIMIT {
                    continue;
                }
                (std::mem::replace(&mut gathered, Vec::with_capacity(BLOCK_LIMIT)), false)
            }
        };
        let mut result = Ok(());
        let dropped = gap.lock().take();
        if !requests.is_empty() || dropped.is_some() {
            unflushed = true;
            let store = Arc::clone(&store);
            let work = move || serve(&store, dropped, requests);
            result = sources.run_blocking(work).await.unwrap_or_else(|lost| Err(lost.into()));
        }
        if tick && result.is_ok() {
            let prune = pruned_at.elapsed() >= PRUNE_EVERY;
            if prune {
                pruned_at = Instant::now();
            }
            let (flush, now) = (std::mem::take(&mut unflushed), sources.now().seconds());
            result = tend(sources, &store, flush, prune.then_some(now)).await;
        }
        if let Err(error) = result {
            tracing::warn!(error = &error as &dyn std::error::Error, "the ledger failed and is opened again");
            return;
        }
    }
}

async fn tend(
    sources: &Sources,
    store: &Arc<Store>,
    flush: bool,
    prune: Option<UnixSeconds>,
) -> Result<(), StoreError> {
    if !flush && prune.is_none() {
        return Ok(());
    }
    let store = Arc::clone(store);
    let work = move || {
        if let Some(now) = prune {
            metrics::ledger_records("pruned", store.prune(now, BYTES_LIMIT)?);
        }
        store.flush()
    };
    sources.run_blocking(work).await?
}

/// Serves requests in their order, after a gap if there is one; runs of rows are written together.
fn serve(store: &Store, dropped: Option<LedgerGap>, requests: Vec<Request>) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(requests.len());
    rows.extend(dropped.map(LedgerRow::Gap));
    for request in requests {
        match request {
            Request::Record(issued) => rows.push(LedgerRow::Issued(issued)),
            Request::Flush(reply) => {
                write_rows(store, &mut rows)?;
                store.flush()?;
                let _ = reply.send(());
            }
            Request::Search(query, reply) => {
                write_rows(store, &mut rows)?;
                drop(reply.send(store.search(&query)?));
            }
        }
    }
    write_rows(store, &mut rows)
}

fn write_rows(store: &Store, rows: &mut Vec<LedgerRow>) -> Result<(), StoreError> {
    if !rows.is_empty() {
        store.write(rows)?;
        metrics::ledger_records("written", rows.len());
        rows.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{block::tests::issued, *};

    /// Nobody is kept waiting, and nobody takes what is left for the whole.
    #[test]
    fn rows_that_are_dropped_leave_a_gap() {
        let (ledger, queue) = Ledger::new();
        let LedgerRow::Issued(row) = issued(1, 100) else { unreachable!() };
        for _ in 0..QUEUE_LIMIT + 3 {
            ledger.record(row.clone());
        }
        let (from, not_after) = (row.issued_at, row.not_after);
        let wanted = LedgerGap { count: 3, from, to: from, not_after };
        let gap = queue.gap.lock().take();
        assert_eq!(gap, Some(wanted));
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("ledger")).unwrap();
        serve(&store, gap, vec![Request::Record(row.clone())]).unwrap();
        let page = store.search(&LedgerQuery::default()).unwrap();
        assert_eq!(page.rows, [LedgerRow::Gap(wanted), LedgerRow::Issued(row)]);
    }
}
