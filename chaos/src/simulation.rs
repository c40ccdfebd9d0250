//! A whole cluster in one thread and virtual time, from one seed.
//!
//! ```text
//!   quorate-chaos simulate                      one process a seed, some at a time, by the driver
//!        │
//!        ▼ one run
//!   ┌─ world: virtual time, history, trace, what was found broken ──────────────────────────────────┐
//!   │   node-1             node-2             node-3 ..                    faults, from the seed     │
//!   │   clients, actors    clients, actors    clients, actors              network, crash, disk,     │
//!   │   consensus ◄──────► consensus ◄──────► consensus    turmoil's TCP   clock, leap               │
//!   │   simulated disk     simulated disk     simulated disk                                         │
//!   └────────────────────────── after every step: checks (INV-01 to INV-07, 09, 13) ────────────────┘
//! ```
//!
//! The nodes run the product's own consensus and actors. What a simulation puts in place of the rest are the seams:
//! transport, disk, clock, entropy, blocking work, custody of keys. Two phases: under faults, nothing that was promised
//! may break; after the mending, everything has to work again within a stated time. A run counts what it did, and one
//! that did too little has failed.

mod chance;
mod checks;
mod clients;
mod driver;
mod faults;
mod host;
mod keys;
mod once;
mod operator;
mod readers;
mod shim;
mod sources;
mod trace;
mod transport;
mod workloads;
mod world;

use crate::say;
use clap::Args;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;
use tracing_subscriber::{
    filter::Targets, fmt, layer::Layer as _, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};
use world::Counts;

/// Acknowledged writes under faults below which a run proves nothing.
const WRITES_FLOOR: u64 = 15;

/// The same for linearizable reads.
const READS_FLOOR: u64 = 10;

/// Faults that took effect, below which a run proves nothing.
const FAULTS_FLOOR: u64 = 6;

/// How fast the clock goes in the runs that are to give the same trace again. Under the fastest, what waits for a second
/// of real time waits for a few milliseconds.
const CLOCK_SPEEDS: [i64; 2] = [20, 300];

/// Of those, how many run once more to see who looks at a clock: each takes several times as long.
const WATCHED_SEEDS: usize = 2;

/// SVIDs handed out, below which a run proves nothing.
const SVIDS_FLOOR: u64 = 20;

/// What `simulate` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many run at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// How many of them run twice more, with a clock that goes too fast, and must give the same trace each time.
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Stops at the first seed that fails.
    #[arg(long)]
    stop: bool,
    /// Runs this seed alone, in this process.
    #[arg(long)]
    seed: Option<u64>,
    /// Writes what happened in that run to this file, and the history beside it (.jsonl).
    #[arg(long, requires = "seed")]
    trace: Option<PathBuf>,
    /// Lets the clocks of the machine go so many times as fast as they should in that run.
    #[arg(long, requires = "seed", default_value_t = 1)]
    clock_speed: i64,
    /// Says who looked at them, but for those who may, and fails if anybody did. A run takes several times as long.
    #[arg(long, requires = "seed")]
    clock_readers: bool,
    /// Writes the log of that run to standard error, as far as this filter lets it pass: `info`, or
    /// `quorate_raft_consensus=debug,turmoil=trace`.
    #[arg(long, requires = "seed")]
    log: Option<Targets>,
}

/// Whether anything in this process has panicked: tasks that do are otherwise only missed.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Runs one seed, or many.
pub(crate) fn run(options: &Options) -> ExitCode {
    let well = match options.seed {
        Some(seed) => {
            if let Some(filter) = &options.log {
                log_to_standard_error(filter.clone());
            }
            shim::fake(options.clock_speed);
            let (trace, clock_readers) = (options.trace.clone(), options.clock_readers);
            // In a thread that has drawn nothing yet.
            thread::spawn(move || run_one(seed, trace.as_deref(), clock_readers)).join().unwrap_or(false)
        }
        None => run_many(options),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Without times: virtual time is in the trace, and the real one means nothing here.
fn log_to_standard_error(filter: Targets) {
    let lines = fmt::layer().with_ansi(false).without_time().with_writer(std::io::stderr);
    registry().with(lines.with_filter(filter)).init();
}

fn run_one(seed: u64, trace: Option<&std::path::Path>, clock_readers: bool) -> bool {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICKED.store(true, Ordering::SeqCst);
        usual(panic);
    }));
    let start = Instant::now();
    if clock_readers {
        readers::watch();
    }
    let ended = once::run(seed, trace);
    let readers = readers::unknown();
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(failure) => {
            say(&format!("seed {seed}: {failure}"));
            return false;
        }
    };
    let mut broken = outcome.broken;
    if PANICKED.load(Ordering::SeqCst) {
        broken.push("something panicked".to_owned());
    }
    broken.extend(readers.iter().map(|stack| format!("SIM-02: something looked at a real clock:\n{stack}")));
    let counts = &outcome.counts;
    let faults: u64 = counts.faults.values().sum();
    if broken.is_empty()
        && let Some((what, found, floor)) = missing(counts)
    {
        broken.push(format!("this run proves nothing: {found} {what}, fewer than {floor}"));
    }
    say(&format!(
        "seed {seed}: {} nodes, {:.1} s in {:.1} s, {faults} faults {:?}, {} terms, {} writes ({} repeated, {} unknown), {} reads, \
         {} withdrawals, {} calls, {} SVIDs, {} token keys, {} steps of authorities, {} snapshots, {} hashes compared, recovered in {} ms, trace {}",
        outcome.nodes,
        outcome.virtual_time.as_secs_f64(),
        start.elapsed().as_secs_f64(),
        counts.faults,
        counts.terms,
        counts.writes,
        counts.repeats,
        counts.unknown,
        counts.reads,
        counts.withdrawals,
        counts.calls,
        counts.svids,
        counts.activations,
        counts.steps,
        counts.snapshots,
        counts.hashes_compared,
        outcome.recovery.as_millis(),
        outcome.fingerprint,
    ));
    for promise in &broken {
        say(&format!("seed {seed}: BROKEN: {promise}"));
    }
    broken.is_empty()
}

/// What a run has too little of to prove anything: what it is, how much there was, and how much there should be.
fn missing(counts: &Counts) -> Option<(&'static str, u64, u64)> {
    let faults = counts.faults.values().sum();
    let floors = [
        ("faults", faults, FAULTS_FLOOR),
        ("writes", counts.writes, WRITES_FLOOR),
        ("reads", counts.reads, READS_FLOOR),
        ("SVIDs", counts.svids, SVIDS_FLOOR),
    ];
    floors.into_iter().find(|(_, found, floor)| found < floor)
}

fn run_many(options: &Options) -> bool {
    let start = Instant::now();
    let seeds = options.first..options.first.saturating_add(options.seeds);
    say(&format!("simulate: seeds {} to {}, {} at a time", seeds.start, seeds.end.saturating_sub(1), options.jobs));
    let (mut well, mut failed) = (0_u64, Vec::new());
    let mut traces = Vec::new();
    let twice = options.twice;
    let first = options.first;
    let outcome = driver::run(seeds, options.jobs, &[], |ended| {
        if ended.well {
            well += 1;
            if ended.seed < first.saturating_add(twice) {
                traces.push((ended.seed, fingerprint(&ended.said)));
            }
        } else {
            driver::tell(&ended);
            failed.push(ended.seed);
        }
        if options.stop && !failed.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Err(error) = outcome {
        say(&format!("simulate: this program could not be started again: {error}"));
        return false;
    }
    let again = traces.iter().map(|(seed, _)| *seed);
    for speed in CLOCK_SPEEDS {
        let outcome = driver::run(again.clone(), options.jobs, &["--clock-speed", &speed.to_string()], |ended| {
            let before = traces.iter().find(|(seed, _)| *seed == ended.seed).map(|(_, trace)| trace.clone());
            if before != Some(fingerprint(&ended.said)) {
                say(&format!(
                    "simulate: seed {} gave another trace when run again with a clock {speed} times as fast",
                    ended.seed
                ));
                driver::tell(&ended);
                failed.push(ended.seed);
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = outcome {
            say(&format!("simulate: this program could not be started again: {error}"));
            return false;
        }
    }
    let outcome = driver::run(again.take(WATCHED_SEEDS), options.jobs, &["--clock-readers"], |ended| {
        if !ended.well {
            say(&format!("simulate: seed {} is not well when it is watched", ended.seed));
            driver::tell(&ended);
            failed.push(ended.seed);
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = outcome {
        say(&format!("simulate: this program could not be started again: {error}"));
        return false;
    }
    say(&format!(
        "simulate: {well} seeds well, {} of them with the same trace three times, {} failed {failed:?}; {:.0} s",
        traces.len(),
        failed.len(),
        start.elapsed().as_secs_f64()
    ));
    failed.is_empty()
}

/// What a run said of its trace.
fn fingerprint(said: &str) -> String {
    said.split_once("trace ")
        .map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}
