//! What the cluster is made to do while faults are done to it.
//!
//! ```text
//!   through every node   diary       entries of its own, each write known to the oracle            INV-01
//!                        registers   a few entries that everybody writes and reads                 INV-02
//!                        issuance    SVIDs, tokens, bundles, validations; open streams             INV-05 06 14
//!   through some         deletions   an entry made, used and deleted; nobody gets its SVID again   INV-07
//!   between nodes        mutual_tls  workloads that speak TLS with what their own streams brought  INV-05
//! ```

pub(crate) mod deletions;
pub(crate) mod diary;
pub(crate) mod issuance;
pub(crate) mod mutual_tls;
pub(crate) mod registers;
pub(crate) mod streams;
pub(crate) mod workload;

use crate::observer;
use crate::run::Run;
use crate::trouble::Trouble;
use diary::{Acknowledgements, Habit};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;

/// How long the load may take to end once it is told to: longer than any of its calls.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How many calls a client makes over one connection before it opens another, as short-lived workloads do.
pub(crate) const CALLS_PER_CONNECTION: u64 = 16;

/// Whether a call that failed did nothing for certain: the node said so, or there was nobody to take it.
pub(crate) fn did_nothing(status: &Status) -> bool {
    if status.message().contains("nothing was changed") {
        return true;
    }
    let mut source = status.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            return matches!(cause.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        }
        source = cause.source();
    }
    false
}

/// How much is done on each node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Workloads that make call after call.
    pub(crate) callers: usize,
    /// How long each waits between two calls.
    pub(crate) call_pace: Duration,
    /// Writers of diaries.
    pub(crate) writers: usize,
    /// How they write.
    pub(crate) habit: Habit,
    /// Clients of the registers.
    pub(crate) clients: usize,
    /// Whether somebody makes, uses and deletes entries.
    pub(crate) deletions: bool,
}

/// A load that goes on, with the observer of every node.
#[derive(Debug)]
pub(crate) struct Load(JoinSet<Option<(usize, Acknowledgements)>>);

impl Load {
    /// Lets it loose on every node; what each part does follows from the seed.
    pub(crate) fn start(run: &Arc<Run>, seed: u64, amount: Amount) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut tasks = JoinSet::new();
        for node in 0..run.fleet.members().len() {
            tasks.spawn(quiet(observer::observe(Arc::clone(run), node)));
            for _ in 0..amount.callers {
                tasks.spawn(quiet(issuance::call(Arc::clone(run), node, amount.call_pace)));
            }
            for kind in streams::Kind::ALL {
                tasks.spawn(quiet(streams::follow(Arc::clone(run), node, kind)));
            }
            for _ in 0..amount.writers {
                let written = diary::write(Arc::clone(run), node, random.r#gen(), amount.habit);
                tasks.spawn(async move { Some((node, written.await)) });
            }
            for _ in 0..amount.clients {
                tasks.spawn(quiet(registers::operate(Arc::clone(run), node, random.r#gen())));
            }
        }
        if amount.deletions {
            tasks.spawn(quiet(deletions::work(Arc::clone(run), random.r#gen())));
        }
        Self(tasks)
    }

    /// Has it end; when the writes of each writer were acknowledged, by node.
    pub(crate) async fn end(mut self, run: &Run) -> Result<Vec<(usize, Acknowledgements)>, Trouble> {
        run.stop_load();
        let ended = timeout(END_LIMIT, async {
            let mut written = Vec::new();
            while let Some(ended) = self.0.join_next().await {
                written.extend(ended?);
            }
            Ok(written)
        });
        ended.await.unwrap_or_else(|_| Err(Trouble::NotReached(format!("an end of the load within {END_LIMIT:?}"))))
    }
}

async fn quiet(work: impl Future<Output = ()>) -> Option<(usize, Acknowledgements)> {
    work.await;
    None
}
