//! Faults done to the product from outside, and what must hold through them.
//!
//! ```text
//!   quorate-chaos crash
//!
//!     writers ── create, update, delete ──> node ── SIGKILL, at a moment the seed chooses
//!        |            acknowledged?                    |
//!        v                                             v
//!      oracle  <── every entry, listed ─────────  the node, started again
//!        an acknowledged write is there; one without an answer is there whole or not at all;
//!        nothing else is there
//!
//!   quorate-chaos cluster, failover, outage, distance, versions, rotation, revocation, federation
//!
//!     load ── writes, linearizable reads, Workload API ──> fleet of nodes <── SIGKILL, SIGSTOP ── nemesis
//!        |                                                    |                                    |
//!        v               what was answered, what was pushed   v            what is done to whom    v
//!     invariants <────────────────────────────────────────────+──────────────────────────── condition
//! ```
//!
//! A run prints its seed. The seed decides what is written, when the node is killed and how often it is killed again
//! while it recovers; the interleaving of processes is the machine's. A run also proves that it did something: kills
//! that were kills, writes in flight when they came.

mod clock;
mod condition;
mod consumers;
mod crash;
mod fleet;
mod history;
mod invariants;
mod linearizability;
mod load;
mod nemesis;
mod network;
mod node;
mod observer;
mod oracle;
mod registrar;
mod run;
mod scenario;
mod simulation;
mod starvation;
mod trouble;
mod writers;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use trouble::Trouble;

/// Rounds when nobody says how many.
const DEFAULT_ROUNDS: u32 = 20;

/// How many rounds, where the command line does not say.
const ROUNDS_VARIABLE: &str = "QUORATE_CRASH_ROUNDS";

/// The exit code of a run that this machine does not permit, as test tools know it.
const SKIPPED: u8 = 77;

/// Does faults to Quorate.
#[derive(Debug, Parser)]
#[command(name = "quorate-chaos")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Kills a node that is written to as fast as it goes, again and again.
    Crash {
        /// How often; without it `QUORATE_CRASH_ROUNDS`, or 20.
        #[arg(long)]
        rounds: Option<u32>,
        /// Which run; a new one without it.
        #[arg(long)]
        seed: Option<u64>,
        /// Acknowledged writes before a round's kill, at least.
        #[arg(long, default_value_t = 100)]
        writes: u64,
    },
    /// Does faults to a cluster under load, lets it heal, and checks all invariants.
    Cluster(scenario::cluster::Options),
    /// Kills the leader again and again, and measures how long nobody could write.
    Failover(scenario::failover::Options),
    /// Keeps all nodes off for longer than anything they signed lives; cuts nodes off until their leases end.
    Outage(scenario::outage::Options),
    /// Five voters in three regions far from each other: who leads, for how long, and what an SVID costs.
    Distance(scenario::distance::Options),
    /// Upgrades a cluster node by node, takes one back, switches the newer version on, and then starts what is too old.
    Versions(scenario::versions::Options),
    /// Revokes leaves while nodes restart and the root is replaced, and asks programs of others what they accept.
    Revocation(scenario::revocation::Options),
    /// Replaces roots while workloads on different nodes speak mutual TLS with each other.
    Rotation(scenario::rotation::Options),
    /// Two clusters that federate, with workloads of both that speak mutual TLS while roots are replaced and leaders killed.
    Federation(scenario::federation::Options),
    /// Runs a whole cluster in one thread and virtual time, from a seed, under faults.
    Simulate(simulation::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().scenario {
        // It has runtimes of its own: one for each simulated node.
        Scenario::Simulate(options) => simulation::run(&options),
        Scenario::Crash { rounds, seed, writes } => finish("crash", async {
            let rounds = rounds.map_or_else(rounds_of_environment, Ok)?;
            crash::run(rounds, seed.unwrap_or_else(rand::random), writes).await
        }),
        Scenario::Cluster(options) => finish("cluster", scenario::cluster::run(&options)),
        Scenario::Failover(options) => finish("failover", scenario::failover::run(&options)),
        Scenario::Outage(options) => finish("outage", scenario::outage::run(&options)),
        Scenario::Distance(options) => finish("distance", scenario::distance::run(&options)),
        Scenario::Versions(options) => finish("versions", scenario::versions::run(&options)),
        Scenario::Rotation(options) => finish("rotation", scenario::rotation::run(&options)),
        Scenario::Federation(options) => finish("federation", scenario::federation::run(&options)),
        Scenario::Revocation(options) => finish("revocation", scenario::revocation::run(&options)),
    }
}

/// Runs one of the others, and says how it ended.
#[tokio::main]
async fn finish(name: &str, run: impl Future<Output = Result<(), Trouble>>) -> ExitCode {
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble @ Trouble::NotPermitted(_)) => {
            say(&format!("{name}: {trouble}"));
            ExitCode::from(SKIPPED)
        }
        Err(trouble) => {
            say(&format!("{name}: FAILED: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

fn rounds_of_environment() -> Result<u32, Trouble> {
    match std::env::var(ROUNDS_VARIABLE) {
        Ok(text) => text.parse().map_err(|_| Trouble::Rounds { variable: ROUNDS_VARIABLE, text }),
        Err(_) => Ok(DEFAULT_ROUNDS),
    }
}

/// Prints one line of a result.
#[expect(clippy::print_stdout, reason = "results are this program's output")]
fn say(line: &str) {
    println!("{line}");
}

/// Prints one line of what happens meanwhile, apart from the result.
#[expect(clippy::print_stderr, reason = "a result that programs read has the standard output for itself")]
fn progress(line: &str) {
    eprintln!("{line}");
}
