//! Writers: each changes entries of its own as fast as it is answered, and tells the oracle before and after.

use crate::oracle::{Oracle, Value};
use crate::registrar::Registrar;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Status;

/// Writers at a time: enough that writes share a sync.
const WRITERS: u32 = 16;

/// Entries created by one call, at most.
const BATCH: u32 = 8;

/// The first mark; any positive number is a lifetime.
const FIRST_MARK: i32 = 60;

/// Marks that are told apart.
const MARKS: i32 = 1_000_000;

/// What all writers share.
pub(crate) type Shared = Arc<Mutex<Oracle>>;

/// The oracle, whatever happened to whoever held it last.
pub(crate) fn lock(oracle: &Shared) -> MutexGuard<'_, Oracle> {
    oracle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writers of one round.
pub(crate) struct Writers {
    tasks: JoinSet<()>,
    acknowledged: watch::Receiver<u64>,
}

impl Writers {
    /// Lets all of them loose on the socket.
    pub(crate) fn start(socket: &Path, oracle: &Shared, round: u32, seed: u64) -> Self {
        let (counted, acknowledged) = watch::channel(lock(oracle).acknowledged_so_far());
        let counted = Arc::new(counted);
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let prefix = format!("/writer-{number}/");
            let entries = lock(oracle).certain(&prefix);
            let writer = Writer {
                registrar: Registrar::new(socket),
                oracle: Arc::clone(oracle),
                acknowledged: Arc::clone(&counted),
                random: SmallRng::seed_from_u64(seed ^ (u64::from(round) << 32) ^ u64::from(number)),
                prefix,
                round,
                created: 0,
                entries,
            };
            tasks.spawn(writer.run());
        }
        Self { tasks, acknowledged }
    }

    /// Waits until so many writes were acknowledged over all rounds, or no writer is left.
    pub(crate) async fn reach(&mut self, acknowledged: u64) -> bool {
        self.acknowledged.wait_for(|count| *count >= acknowledged).await.is_ok()
    }

    /// Waits until each has noticed that nobody answers any more.
    pub(crate) async fn ended(mut self) -> Result<(), tokio::task::JoinError> {
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

/// One of them.
struct Writer {
    registrar: Registrar,
    oracle: Shared,
    acknowledged: Arc<watch::Sender<u64>>,
    random: SmallRng,
    prefix: String,
    round: u32,
    created: u32,
    entries: Vec<(String, Value)>,
}

impl Writer {
    /// Writes until a call fails, as the node's death makes it. What was in flight then stays open in the oracle.
    async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    /// Half of the calls create, the others change or remove what this writer made.
    async fn step(&mut self) -> Result<(), Status> {
        let dice = self.random.gen_range(0..10);
        if dice < 5 || self.entries.is_empty() {
            return self.create().await;
        }
        let chosen = self.random.gen_range(0..self.entries.len());
        let (path, before) = self.entries.swap_remove(chosen);
        if dice < 7 { self.update(path, before).await } else { self.delete(&path, before).await }
    }

    async fn create(&mut self) -> Result<(), Status> {
        let count = self.random.gen_range(1..=BATCH);
        let mut new = Vec::new();
        for _ in 0..count {
            new.push((format!("{}{}-{}", self.prefix, self.round, self.created), self.mark()));
            self.created += 1;
        }
        for (path, mark) in &new {
            lock(&self.oracle).creating(path, *mark);
        }
        let results = self.registrar.create(&new).await?;
        for ((path, _), result) in new.into_iter().zip(results) {
            let value = self.settled(&path, result, None)?;
            self.entries.extend(value.map(|value| (path, value)));
        }
        Ok(())
    }

    async fn update(&mut self, path: String, before: Value) -> Result<(), Status> {
        let mark = self.mark();
        lock(&self.oracle).updating(&path, before.clone(), mark);
        let result = self.registrar.update(&before, mark).await?;
        let value = self.settled(&path, result, Some(before))?;
        self.entries.extend(value.map(|value| (path, value)));
        Ok(())
    }

    async fn delete(&mut self, path: &str, before: Value) -> Result<(), Status> {
        lock(&self.oracle).deleting(path, before.clone());
        match self.registrar.delete(&before).await? {
            Ok(_) => {
                self.note(path, None);
                Ok(())
            }
            Err(message) => self.settled(path, Err(message), Some(before)).map(drop),
        }
    }

    /// An answer for one entry. A refusal is an answer too: nothing changed; but none of these writes may be refused,
    /// so the writer stops, and the run will see that too little was acknowledged.
    fn settled(
        &self,
        path: &str,
        result: Result<Value, String>,
        before: Option<Value>,
    ) -> Result<Option<Value>, Status> {
        match result {
            Ok(value) => {
                self.note(path, Some(value.clone()));
                Ok(Some(value))
            }
            Err(message) => {
                self.note(path, before);
                crate::say(&format!("crash: {path} was refused: {message}"));
                Err(Status::aborted(message))
            }
        }
    }

    fn note(&self, path: &str, value: Option<Value>) {
        let mut oracle = lock(&self.oracle);
        oracle.acknowledged(path, value);
        let count = oracle.acknowledged_so_far();
        drop(oracle);
        self.acknowledged.send_replace(count);
    }

    fn mark(&mut self) -> i32 {
        self.random.gen_range(FIRST_MARK..FIRST_MARK + MARKS)
    }
}
