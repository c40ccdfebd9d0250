//! The ledger of issued X509-SVIDs: by serial number, and found by SPIFFE ID, issuing key and end.
//!
//! It is written behind: signing hands a record over and goes on; when the ledger cannot keep up, records are dropped
//! and counted, and never is anybody kept waiting. Losing it costs the search over what was issued, nothing else, which
//! is why it may lie in sled (design section 4). If it is damaged, it is set aside and begun anew while the node serves.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor). Its disk work runs where blocking is
//! allowed; the queue outlives it.

mod store;

use std::{path::PathBuf, sync::Arc, time::Duration};

use quorate_proto_identity::{AuthorityId, SerialNumber, SpiffeId, UnixSeconds};
use quorate_raft_consensus::Sources;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

pub(crate) use store::{Store, StoreError};

use crate::{mailbox::Envelope, metrics};

/// The actor hears of the end of its own task and of nothing else; records go through a queue that outlives it.
pub(crate) const LEDGER_MAILBOX_LIMIT: usize = 1;

/// How many records wait to be written. At 20,000 SVIDs a second, far above what a node signs, this is three seconds
/// of a stuck disk; at some 200 bytes each, 13 MiB.
const QUEUE_LIMIT: usize = 65_536;

/// How many records are gathered before they are written without waiting for the next flush: a block of some hundred
/// kilobytes.
const BLOCK_LIMIT: usize = 1024;

/// How often what was gathered is written and flushed: what a crash may lose of the ledger.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// How often records of what has expired are removed.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Wait before the ledger is opened again when it could not be.
const REOPEN_WAIT: Duration = Duration::from_secs(5);

/// An X509-SVID that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Its end; the record is removed after it.
    pub not_after: UnixSeconds,
    /// The subject key ID of the issuing key: what a stolen key has signed can be listed.
    pub issuing_key: AuthorityId,
}

/// Where records are handed over, and where they are looked up. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// None where no ledger is kept.
    requests: Option<mpsc::Sender<Request>>,
}

/// The other end of the queue, kept across restarts of the actor.
pub(crate) type Queue = Arc<Mutex<mpsc::Receiver<Request>>>;

/// What comes through the queue, in order.
#[derive(Debug)]
pub(crate) enum Request {
    /// To be written.
    Record(Issued),
    /// Everything before this is on disk when it is answered.
    Flush(oneshot::Sender<()>),
    /// The record with this serial number.
    BySerial(SerialNumber, oneshot::Sender<Option<Issued>>),
}

impl Ledger {
    /// A ledger's handle and the queue that its actor works off.
    pub(crate) fn new() -> (Self, Queue) {
        let (requests, queue) = mpsc::channel(QUEUE_LIMIT);
        (Self { requests: Some(requests) }, Arc::new(Mutex::new(queue)))
    }

    /// The ledger of a node that keeps none: it forgets what it is handed.
    pub(crate) fn none() -> Self {
        Self { requests: None }
    }

    /// Hands a record over, or drops it when the ledger is behind.
    pub(crate) fn record(&self, issued: Issued) {
        let Some(requests) = &self.requests else { return };
        if requests.try_send(Request::Record(issued)).is_err() {
            metrics::ledger_records("dropped", 1);
        }
    }

    /// Waits until everything handed over before is written and flushed. Says whether it was: the ledger may be gone.
    pub async fn flush(&self) -> bool {
        let Some(requests) = &self.requests else { return false };
        let (reply, flushed) = oneshot::channel();
        requests.send(Request::Flush(reply)).await.is_ok() && flushed.await.is_ok()
    }

    /// The record of a serial number, if the ledger has it.
    pub async fn by_serial(&self, serial: SerialNumber) -> Option<Issued> {
        let (reply, found) = oneshot::channel();
        self.requests.as_ref()?.send(Request::BySerial(serial, reply)).await.ok()?;
        found.await.ok().flatten()
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
    let mut queue = queue.lock().await;
    loop {
        match open(&sources, directory.clone()).await {
            Some(store) => work_off(&sources, Arc::new(store), &mut queue).await,
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
async fn work_off(sources: &Sources, store: Arc<Store>, queue: &mut mpsc::Receiver<Request>) {
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
        if !requests.is_empty() {
            unflushed = true;
            let store = Arc::clone(&store);
            result =
                sources.run_blocking(move || serve(&store, requests)).await.unwrap_or_else(|lost| Err(lost.into()));
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
            metrics::ledger_records("pruned", store.prune(now)?);
        }
        store.flush()
    };
    sources.run_blocking(work).await?
}

/// Serves requests in their order; runs of records are written together.
fn serve(store: &Store, requests: Vec<Request>) -> Result<(), StoreError> {
    let mut records = Vec::with_capacity(requests.len());
    for request in requests {
        match request {
            Request::Record(issued) => records.push(issued),
            Request::Flush(reply) => {
                write_records(store, &mut records)?;
                store.flush()?;
                let _ = reply.send(());
            }
            Request::BySerial(serial, reply) => {
                write_records(store, &mut records)?;
                drop(reply.send(store.by_serial(serial)?));
            }
        }
    }
    write_records(store, &mut records)
}

fn write_records(store: &Store, records: &mut Vec<Issued>) -> Result<(), StoreError> {
    if !records.is_empty() {
        store.write(records)?;
        metrics::ledger_records("written", records.len());
        records.clear();
    }
    Ok(())
}
