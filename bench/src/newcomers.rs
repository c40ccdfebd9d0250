//! Workloads that come for the first time: a process that never came before, and an entry that was never signed for.
//!
//! They have a thread and a runtime of their own, so that they do not queue behind a hundred thousand streams that this
//! process reads: what they wait for is the node, and their share of the processors.
//!
//! They come at a steady pace, whether or not those before them were answered: who comes while a node is busy waits, and
//! is counted with that wait.

use crate::callers::Caller;
use crate::clients::{Admin, Workload, entry, next};
use crate::load::{histogram, note};
use crate::product::Product;
use crate::trouble::Trouble;
use hdrhistogram::Histogram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// One comes every so often: fifty new workloads a second.
const PACE: Duration = Duration::from_millis(20);

/// How long one may wait for its first SVID before the measurement gives up: longer than any deadline of a client.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A crowd of them, each used once a round.
pub(crate) struct Newcomers {
    crowd: Crowd,
    /// Taken when this is dropped: a runtime must not be dropped from within another one.
    runtime: Option<Runtime>,
}

#[derive(Clone)]
struct Crowd {
    callers: Arc<[Arc<Caller>]>,
    sockets: Arc<[PathBuf]>,
}

/// What those who came met.
pub(crate) struct Met {
    /// From the beginning of the connection to the first message, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// How long they kept coming.
    pub(crate) elapsed: Duration,
}

impl Newcomers {
    /// Starts the processes of `count` users from `first` on; they spread over all nodes.
    pub(crate) fn gather(product: &Product, first: usize, count: usize) -> Result<Self, Trouble> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(Trouble::system("a runtime for newcomers"))?;
        // Their sockets are woken by the runtime in which they are made.
        let within = runtime.enter();
        let callers = (first..first + count).map(|number| Caller::start(number).map(Arc::new));
        let callers = callers.collect::<Result<_, _>>();
        drop(within);
        let sockets = (0..product.nodes()).map(|node| product.workload_socket_of(node)).collect();
        callers.map(|callers| Self { crowd: Crowd { callers, sockets }, runtime: Some(runtime) })
    }

    /// Gives each of them an entry, and waits until every node has them all; tells the entries' IDs.
    pub(crate) async fn register(&self, product: &Product, round: usize) -> Result<Vec<String>, Trouble> {
        let path = |number| format!("/bench/newcomers/{round}/{number}");
        let entries = self
            .crowd
            .callers
            .iter()
            .enumerate()
            .map(|(number, caller)| entry(path(number), &[caller.selector()]))
            .collect();
        let ids = product.clients().admin().create(entries).await?;
        let Some(last) = ids.last() else { return Ok(ids) };
        for node in 0..product.nodes() {
            product.clients_of(node).admin().await_entry(last).await?;
        }
        Ok(ids)
    }

    /// Takes the entries back, so that they can be given others.
    pub(crate) async fn strike(&self, admin: &mut Admin, ids: Vec<String>) -> Result<(), Trouble> {
        admin.delete(ids).await
    }

    /// Those of these places come one after the other, until all did or it is `done`.
    pub(crate) async fn come(&self, places: std::ops::Range<usize>, done: Arc<AtomicBool>) -> Result<Met, Trouble> {
        match &self.runtime {
            Some(runtime) => runtime.spawn(self.crowd.clone().come(places, done)).await?,
            None => Err(Trouble::Unexpected("newcomers that went".to_owned())),
        }
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Crowd {
    async fn come(self, places: std::ops::Range<usize>, done: Arc<AtomicBool>) -> Result<Met, Trouble> {
        let start = Instant::now();
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut fetches = JoinSet::new();
        for place in places {
            pace.tick().await;
            let caller = self.callers.get(place).cloned();
            let (Some(caller), false) = (caller, done.load(Ordering::Relaxed)) else { break };
            let socket = self.sockets.get(place % self.sockets.len().max(1)).cloned().unwrap_or_default();
            fetches.spawn(first(caller, socket));
        }
        let elapsed = start.elapsed();
        let mut latencies = histogram()?;
        while let Some(latency) = fetches.join_next().await {
            note(&mut latencies, latency??);
        }
        Ok(Met { latencies, elapsed })
    }
}

/// Connects, fetches the first SVID and leaves; tells how long that took.
async fn first(caller: Arc<Caller>, socket: PathBuf) -> Result<Duration, Trouble> {
    let start = Instant::now();
    let late = |_| Err(Trouble::Unexpected(format!("a newcomer has no SVID after {GIVE_UP:?}")));
    let fetched = timeout(GIVE_UP, fetch(&caller, &socket)).await.unwrap_or_else(late);
    fetched.map(|()| start.elapsed())
}

async fn fetch(caller: &Caller, socket: &Path) -> Result<(), Trouble> {
    let connection = caller.connect(socket).await?;
    let mut stream = Workload::over(connection).await?.open().await?;
    let message = next(&mut stream).await?;
    match message.svids.len() {
        1 => Ok(()),
        count => Err(Trouble::Unexpected(format!("a newcomer has {count} SVIDs, and one entry"))),
    }
}
