//! `quorate-chaos cluster`: faults in a loop under every kind of load, then healing; all invariants by name.

use crate::fleet::Fleet;
use crate::load::diary::Habit;
use crate::load::{Amount, Load};
use crate::nemesis::{self, Effect, Faults};
use crate::run::{Run, lock};
use crate::say;
use crate::scenario::healing;
use crate::trouble::Trouble;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is done on each node: enough that every fault meets something, little enough that two cores can do it.
const AMOUNT: Amount = Amount {
    callers: 1,
    call_pace: Duration::from_millis(15),
    writers: 2,
    habit: Habit { batch: 4, pace: Duration::from_millis(10), creates_of_ten: 6 },
    clients: 2,
    deletions: true,
};

/// Seconds of a run for each fault of a kind, each counted thing, that it has to come to at least. A run on two busy
/// cores with unoptimised programs comes to several times that.
const SECONDS_A_FAULT: u64 = 20;
const WRITES_A_SECOND: u64 = 5;
const CALLS_A_SECOND: u64 = 5;
const REGISTER_OPERATIONS_A_SECOND: u64 = 5;
const SECONDS_A_DELETE: u64 = 10;
const SECONDS_A_HASH: u64 = 5;

/// What `cluster` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How long faults are done.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Which run; a new one without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults.
    #[arg(long, value_enum, default_value = "mixed")]
    scenario: Scenario,
    /// Where the history of the registers is written, as JSON lines.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// Faults and policy of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Scenario {
    /// Kills and pauses.
    Mixed,
    /// Kills alone.
    Kills,
    /// Pauses alone.
    Pauses,
    /// Kills and pauses while authorities live for two minutes, so that roots and token keys are replaced within the run.
    Rotation,
    /// No faults: the load alone.
    Calm,
}

impl Scenario {
    fn faults(self) -> Faults {
        match self {
            Self::Mixed | Self::Rotation => Faults::Mixed,
            Self::Kills => Faults::Kills,
            Self::Pauses => Faults::Pauses,
            Self::Calm => Faults::None,
        }
    }

    /// Roots that sign in a run of this length at least. One of two minutes gives way in the last sixth of its life, and
    /// the change may wait for a member that stands still.
    fn roots(self, seconds: u64) -> u64 {
        match self {
            Self::Rotation => 1 + seconds / 150,
            Self::Mixed | Self::Kills | Self::Pauses | Self::Calm => 1,
        }
    }

    /// Issuing certificates outlive every fault, and are renewed many times; SVIDs are renewed all the time.
    fn policy(self) -> &'static str {
        match self {
            Self::Mixed | Self::Kills | Self::Pauses | Self::Calm => {
                "issuing_lifetime = \"60s\"\nroot_lifetime = \"1h\"\nx509_svid_lifetime = \"20s\"\n\
                 jwt_key_lifetime = \"1h\"\njwt_svid_lifetime = \"60s\"\nrefresh_hint = \"60s\"\n"
            }
            Self::Rotation => {
                "issuing_lifetime = \"20s\"\nroot_lifetime = \"2m\"\nx509_svid_lifetime = \"10s\"\n\
                 jwt_key_lifetime = \"2m\"\njwt_svid_lifetime = \"20s\"\nrefresh_hint = \"5s\"\n"
            }
        }
    }
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let scenario = clap::ValueEnum::to_possible_value(&options.scenario).map(|value| value.get_name().to_owned());
    say(&format!(
        "cluster: {nodes} nodes, {seconds} s; again with: quorate-chaos cluster --nodes {nodes} --seconds {seconds} \
         --scenario {} --seed {seed}",
        scenario.unwrap_or_default(),
        nodes = options.nodes,
        seconds = options.seconds,
    ));
    super::in_directory("cluster", async |directory| within(options, seed, directory).await).await
}

async fn within(options: &Options, seed: u64, directory: &Path) -> Result<(), Trouble> {
    let fleet = Fleet::on_loopback(directory, options.nodes, options.scenario.policy()).await?;
    healing::first_workload(&fleet).await?;
    let run = Arc::new(Run::new(fleet));
    let load = Load::start(&run, seed, AMOUNT);
    let effect = nemesis::rage(&run, seed, options.scenario.faults(), Duration::from_secs(options.seconds)).await;
    let written = load.end(&run).await;
    let history = options.history.clone().unwrap_or_else(|| directory.join("history.jsonl"));
    healing::write_history(&run, &history)?;
    let (effect, _) = (effect?, written?);
    let checked = healing::check(&run).await?;
    report(&run, effect, checked.operations, checked.keys);
    run.violations.none(directory)?;
    proved(options, &run, effect, checked.operations)
}

fn report(run: &Run, effect: Effect, operations: usize, keys: usize) {
    let (tally, seen) = (&run.tally, lock(&run.seen));
    let (kept, lost) = lock(&run.oracle).unanswered();
    say(&format!(
        "cluster: {} kills, {} pauses, {} of the faults hit the leader; leaders seen in {} terms",
        effect.kills,
        effect.pauses,
        effect.leaders,
        seen.leaders.count()
    ));
    say(&format!(
        "cluster: {} acknowledged writes, all there on every member; of those without an answer {kept} were kept and \
         {lost} were not",
        tally.writes.get()
    ));
    say(&format!("cluster: {operations} operations on {keys} registers are linearizable"));
    say(&format!(
        "cluster: {} Workload API calls on healthy nodes, {} of them during faults, none failed; {} calls touched by \
         faults to their own node",
        tally.calls.get(),
        tally.calls_during_faults.get(),
        tally.calls_disturbed.get()
    ));
    say(&format!(
        "cluster: {} SVIDs verified with all live members' bundles, {} issuing keys under {} roots, {} requests after \
         deletes, {} state hashes compared",
        tally.svids.get(),
        seen.signers.count(),
        seen.signers.roots(),
        tally.deletes.get(),
        seen.hashes.compared()
    ));
}

/// A run in which little happened would pass just as well; it is no proof.
fn proved(options: &Options, run: &Run, effect: Effect, operations: usize) -> Result<(), Trouble> {
    let seconds = options.seconds;
    let faults = options.scenario.faults();
    let (kills, pauses) = (u64::from(effect.kills), u64::from(effect.pauses));
    let expected = seconds / SECONDS_A_FAULT;
    let seen = lock(&run.seen);
    let floors = [
        ("kills", kills, if matches!(faults, Faults::Mixed | Faults::Kills) { expected } else { 0 }),
        ("pauses", pauses, if matches!(faults, Faults::Mixed | Faults::Pauses) { expected } else { 0 }),
        ("faults that hit the leader", u64::from(effect.leaders), if faults == Faults::None { 0 } else { 1 }),
        ("acknowledged writes", run.tally.writes.get(), seconds * WRITES_A_SECOND),
        ("operations on registers", operations as u64, seconds * REGISTER_OPERATIONS_A_SECOND),
        ("calls", run.tally.calls.get(), seconds * CALLS_A_SECOND),
        ("calls during faults", run.tally.calls_during_faults.get(), if faults == Faults::None { 0 } else { seconds }),
        ("requests after deletes", run.tally.deletes.get(), seconds / SECONDS_A_DELETE),
        ("state hashes compared", seen.hashes.compared(), seconds / SECONDS_A_HASH),
        ("roots that signed", seen.signers.roots() as u64, options.scenario.roots(seconds)),
        ("members whose bundles are known", seen.bundles.known() as u64, options.nodes as u64),
    ];
    for (what, count, floor) in floors {
        if count < floor {
            return Err(Trouble::ProvesNothing(format!("{count} {what}, {floor} are the least")));
        }
    }
    Ok(())
}
