//! Writers through one node each, who change entries of their own and tell the oracle before and after.
//!
//! A write without an answer is left alone for good: the path is never used again, and in the end it may be there or not.

use super::CALLS_PER_CONNECTION;
use crate::oracle::Value;
use crate::registrar::Registrar;
use crate::run::{Run, lock};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What all their paths begin with.
pub(crate) const PREFIX: &str = "/diary/";

/// The first mark; any positive number is a lifetime.
const FIRST_MARK: i32 = 60;

/// Marks that are told apart.
const MARKS: i32 = 1_000_000;

/// How long a write may take until its outcome counts as unknown.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// How long a writer waits after a failure: a node that is dead refuses thousands of calls a second.
const AFTER_FAILURE: Duration = Duration::from_millis(20);

/// How a writer goes about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// Entries of one call, at most.
    pub(crate) batch: u32,
    /// How long it waits between two writes.
    pub(crate) pace: Duration,
    /// Of ten writes so many create; of the others half change an entry and half delete one. Those are acknowledged when
    /// every connected member has applied them, and who has just died counts as connected for a second.
    pub(crate) creates_of_ten: u32,
}

/// When the writes of one writer were acknowledged, since the run began.
pub(crate) type Acknowledgements = Vec<Duration>;

/// Writes through a node until the load ends.
pub(crate) async fn write(run: Arc<Run>, node: usize, seed: u64, habit: Habit) -> Acknowledgements {
    let Ok(member) = run.fleet.member(node) else { return Vec::new() };
    let mut writer = Writer {
        run: &run,
        registrar: member.registrar(),
        random: SmallRng::seed_from_u64(seed),
        prefix: format!("{PREFIX}{node}-{seed:016x}/"),
        created: 0,
        entries: Vec::new(),
        acknowledged: Vec::new(),
    };
    let mut calls = 0_u64;
    while run.goes_on() {
        calls += 1;
        if calls.is_multiple_of(CALLS_PER_CONNECTION) {
            writer.registrar = member.registrar();
        }
        let done = run.unless_stopped(writer.step(habit)).await;
        let wait = if done == Some(true) { habit.pace } else { AFTER_FAILURE };
        if !wait.is_zero() && !run.pause(wait).await {
            break;
        }
    }
    writer.acknowledged
}

struct Writer<'a> {
    run: &'a Run,
    registrar: Registrar,
    random: SmallRng,
    prefix: String,
    created: u64,
    entries: Vec<(String, Value)>,
    acknowledged: Acknowledgements,
}

impl Writer<'_> {
    /// One write, of the kind that the dice choose.
    async fn step(&mut self, habit: Habit) -> bool {
        let dice = self.random.gen_range(0..10);
        let done = if dice < habit.creates_of_ten || self.entries.is_empty() {
            self.create(habit.batch).await
        } else {
            let chosen = self.random.gen_range(0..self.entries.len());
            let (path, before) = self.entries.swap_remove(chosen);
            if dice % 2 == 0 { self.update(path, before).await } else { self.delete(&path, before).await }
        };
        match done {
            true => {
                self.run.tally.writes.add();
                self.acknowledged.push(self.run.clock.elapsed());
            }
            false => self.run.tally.unanswered.add(),
        }
        done
    }

    async fn create(&mut self, batch: u32) -> bool {
        let mut new = Vec::new();
        for _ in 0..self.random.gen_range(1..=batch) {
            new.push((format!("{}{}", self.prefix, self.created), self.random.gen_range(FIRST_MARK..MARKS)));
            self.created += 1;
        }
        for (path, mark) in &new {
            lock(&self.run.oracle).creating(path, *mark);
        }
        let Ok(Ok(results)) = timeout(WRITE_LIMIT, self.registrar.create(&new)).await else { return false };
        let mut all = true;
        for ((path, _), result) in new.into_iter().zip(results) {
            match result {
                Ok(value) => {
                    lock(&self.run.oracle).acknowledged(&path, Some(value.clone()));
                    self.entries.push((path, value));
                }
                Err(_) => all = false,
            }
        }
        all
    }

    async fn update(&mut self, path: String, before: Value) -> bool {
        let mark = self.random.gen_range(FIRST_MARK..MARKS);
        lock(&self.run.oracle).updating(&path, before.clone(), mark);
        let Ok(Ok(Ok(value))) = timeout(WRITE_LIMIT, self.registrar.update(&before, mark)).await else { return false };
        lock(&self.run.oracle).acknowledged(&path, Some(value.clone()));
        self.entries.push((path, value));
        true
    }

    async fn delete(&mut self, path: &str, before: Value) -> bool {
        lock(&self.run.oracle).deleting(path, before.clone());
        let Ok(Ok(Ok(_))) = timeout(WRITE_LIMIT, self.registrar.delete(&before)).await else { return false };
        lock(&self.run.oracle).acknowledged(path, None);
        true
    }
}
