//! Measurements of the product over its public interfaces, each beside the floor under it.
//!
//! ```text
//!   quorate-bench SCENARIO
//!        |-- floors: the bare work, one thread: key + PKCS#8 + signature, verify + signature, append + sync
//!        |-- a bare server, a child: the same calls on the same kind of socket, and no work behind them
//!        `-- the product, children of `quorate demo`: the calls as workloads and operators make them
//!
//!   round 1: floor, bare, product   round 2: floor, bare, product   ...   medians; ratios within this one run
//! ```
//!
//! Processor time of server and client are told apart, because they share the machine's cores: a rate says as much of
//! the caller as of the node. Build everything with `cargo build --release --workspace` first; in an unoptimised build
//! the figures mean nothing, and the report says so.

mod audience;
mod bare;
mod callers;
mod clients;
mod endpoints;
mod floors;
mod load;
mod newcomers;
mod nodes;
mod process;
mod product;
mod report;
mod scenario;
mod scrape;
mod trouble;

use bare::Sizes;
use clap::{Parser, Subcommand, ValueEnum};
use report::Report;
use scenario::Options;
use std::path::PathBuf;
use std::process::ExitCode;
use trouble::Trouble;

/// The exit code of a measurement that this machine does not permit, as test tools know it.
const SKIPPED: u8 = 77;

/// Measures Quorate beside its floors.
#[derive(Debug, Parser)]
#[command(name = "quorate-bench")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// Interleaved rounds; the report gives medians.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// Measure the nodes that run in this directory of `quorate demo --dir`, instead of starting some.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// How many nodes are started [default: 3 where the cluster is what is measured, else 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=7), global = true)]
    nodes: Option<u8>,
    /// Other entries on the host while measuring; several numbers are measured in turn and compared.
    #[arg(long, value_delimiter = ',', default_values_t = [10], global = true)]
    entries: Vec<usize>,
    /// Callers at a time, for the scenarios that have them.
    #[arg(long, default_value_t = 16, global = true)]
    callers: usize,
    /// Streams, for the scenario of that name.
    #[arg(long, default_value_t = 10_000, global = true)]
    streams: usize,
    /// Which part of the full numbers, for the scenarios `rotate`, `revoke` and `federation`.
    #[arg(long, default_value_t = 1.0, global = true)]
    scale: f64,
    /// How the report is written.
    #[arg(short, long, default_value = "table", global = true)]
    output: Output,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// The issuer alone, in this process: X509-SVIDs a second and core.
    Issue,
    /// First SVIDs of new entries.
    First,
    /// Reopening a stream whose SVID is there already.
    Fetch,
    /// JWT-SVIDs, each for an audience of its own.
    Jwt,
    /// Signing of certificate requests.
    Mint,
    /// Creating entries on a cluster, by 1, 16 and 256 writers and in batches; syncs and memory of an entry.
    Entries,
    /// From an entry's creation or deletion on one node to an open stream on another.
    Propagate,
    /// Snapshots under writes, kill -9 and start, and a follower that the log has left behind.
    Restart,
    /// From the revocation of a SPIFFE ID to the CRL in each of 1,000 streams of three nodes. Takes root.
    Revoke,
    /// From the taint of a root to the last of 100,000 streams, and of 100,000 SVIDs, on another one. Takes root.
    Rotate,
    /// Memory of idle streams.
    Streams,
    /// Two clusters: from a new root of one to the streams of the other, by push and by polling; and what 1,000 federated
    /// trust domains cost a leader.
    Federation,
    /// A backup of many entries: made beside a reader, verified, restored.
    Backup,
    /// A process that connects for another user; some scenarios start many.
    #[command(hide = true, name = callers::ROLE)]
    Caller,
    /// The bare server; the other scenarios start it.
    #[command(hide = true)]
    Bare {
        /// Where it listens.
        #[arg(long)]
        socket: PathBuf,
        /// Sizes of its answers.
        #[command(flatten)]
        sizes: Sizes,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if matches!(arguments.scenario, Scenario::Caller) {
        // There are thousands of these; a runtime would cost each of them its threads.
        return callers::serve().map_or_else(|trouble| complain(&trouble), |()| ExitCode::SUCCESS);
    }
    measure(arguments)
}

#[tokio::main]
async fn measure(arguments: Arguments) -> ExitCode {
    let output = arguments.output;
    match run(arguments).await {
        Ok(report) => tell(report.as_ref(), output),
        Err(trouble) => complain(&trouble),
    }
}

async fn run(arguments: Arguments) -> Result<Option<Report>, Trouble> {
    process::raise_file_limit()?;
    let options = Options {
        rounds: arguments.rounds.max(1),
        directory: arguments.dir,
        nodes: arguments.nodes.map(usize::from),
        entries: arguments.entries,
        callers: arguments.callers.max(1),
        streams: arguments.streams.max(1),
        scale: arguments.scale,
    };
    match arguments.scenario {
        Scenario::Issue => scenario::issue::run(&options).map(Some),
        Scenario::First => scenario::first::run(&options).await.map(Some),
        Scenario::Fetch => scenario::calls::fetch(&options).await.map(Some),
        Scenario::Jwt => scenario::calls::jwt(&options).await.map(Some),
        Scenario::Mint => scenario::calls::mint(&options).await.map(Some),
        Scenario::Entries => scenario::entries::run(&options).await.map(Some),
        Scenario::Propagate => scenario::propagate::run(&options).await.map(Some),
        Scenario::Restart => scenario::restart::run(&options).await.map(Some),
        Scenario::Revoke => scenario::revoke::run(&options).await.map(Some),
        Scenario::Rotate => scenario::rotate::run(&options).await.map(Some),
        Scenario::Streams => scenario::streams::run(&options).await.map(Some),
        Scenario::Federation => scenario::federation::run(&options).await.map(Some),
        Scenario::Backup => scenario::backup::run(&options).await.map(Some),
        Scenario::Caller => callers::serve().map(|()| None),
        Scenario::Bare { socket, sizes } => bare::serve(socket, sizes).await.map(|()| None),
    }
}

#[expect(clippy::print_stdout, reason = "a report is this program's output")]
fn tell(report: Option<&Report>, output: Output) -> ExitCode {
    let text = match (report, output) {
        (None, _) => return ExitCode::SUCCESS,
        (Some(report), Output::Table) => Ok(report.table()),
        (Some(report), Output::Json) => report.json(),
    };
    match text {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(trouble) => complain(&trouble),
    }
}

#[expect(clippy::print_stderr, reason = "what went wrong belongs on the standard error")]
fn complain(trouble: &Trouble) -> ExitCode {
    let mut text = trouble.to_string();
    let mut cause = std::error::Error::source(trouble);
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    eprintln!("quorate-bench: {text}");
    if matches!(trouble, Trouble::NotPermitted(_)) { ExitCode::from(SKIPPED) } else { ExitCode::FAILURE }
}
