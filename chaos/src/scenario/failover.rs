//! `quorate-chaos failover`: the leader killed again and again while clients write through every node; how long nothing
//! was acknowledged each time, and that nothing else happened.

use crate::fleet::Fleet;
use crate::load::diary::{Acknowledgements, Habit};
use crate::load::{Amount, Load};
use crate::node::LOOK;
use crate::run::Run;
use crate::say;
use crate::scenario::{Output, healing};
use crate::trouble::Trouble;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Half of the gaps are shorter than this, and ninety-nine of a hundred shorter than that.
const P50: Duration = Duration::from_millis(800);
const P99: Duration = Duration::from_secs(2);

/// Workload API calls on surviving nodes that a run of twenty kills comes to at least.
const CALLS_A_KILL: u64 = 500;

/// How long a killed leader stays dead, and how long the cluster is whole before the next kill.
const DEAD: Duration = Duration::from_millis(1_500);
const WHOLE: Duration = Duration::from_millis(1_000);

/// How long the others may take to have a leader before the run gives up.
const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// What is done on each node. The writers whose gaps are measured create: what takes away waits for every connected
/// member (design, property 5), and who has just died counts as one for a second. The registers have both.
const AMOUNT: Amount = Amount {
    callers: 2,
    call_pace: Duration::from_millis(8),
    writers: 1,
    habit: Habit { batch: 1, pace: Duration::from_millis(2), creates_of_ten: 10 },
    clients: 1,
    deletions: false,
};

/// Authorities that do not end meanwhile.
const POLICY: &str = "";

/// What `failover` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How often the leader is killed.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Which run; a new one without it.
    #[arg(long)]
    seed: Option<u64>,
    /// How the result is written.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Where the history of the registers is written, as JSON lines.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

/// One kill.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Kill {
    /// When, in seconds since the run began.
    at: f64,
    /// Who led.
    leader: String,
    /// Who leads then.
    successor: String,
    /// The longest time that a client of a surviving node got no acknowledgement, by node, in milliseconds.
    gaps_ms: Vec<(String, f64)>,
    #[serde(skip)]
    victim: usize,
    #[serde(skip)]
    moment: Duration,
}

impl Kill {
    /// The gap at each survivor, in milliseconds.
    pub(crate) fn gaps_ms(&self) -> impl Iterator<Item = (&str, f64)> {
        self.gaps_ms.iter().map(|(node, gap)| (node.as_str(), *gap))
    }
}

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    kills: Vec<Kill>,
    gap_p50_ms: f64,
    gap_p99_ms: f64,
    gap_longest_ms: f64,
    acknowledged_writes: u64,
    unanswered_writes: u64,
    register_operations: usize,
    calls_on_healthy_nodes: u64,
    calls_while_a_node_was_dead: u64,
    violations: u64,
    optimised: bool,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    let seed = options.seed.unwrap_or_else(rand::random);
    if options.output == Output::Table {
        say(&format!(
            "failover: again with: quorate-chaos failover --nodes {} --kills {} --seed {seed}",
            options.nodes, options.kills
        ));
    }
    super::in_directory("failover", async |directory| within(options, seed, directory).await).await
}

async fn within(options: &Options, seed: u64, directory: &Path) -> Result<(), Trouble> {
    let fleet = Fleet::on_loopback(directory, options.nodes, POLICY).await?;
    healing::first_workload(&fleet).await?;
    let run = Arc::new(Run::new(fleet));
    let load = Load::start(&run, seed, AMOUNT);
    let kills = kill_leaders(&run, options.kills).await;
    let written = load.end(&run).await;
    let history = options.history.clone().unwrap_or_else(|| directory.join("history.jsonl"));
    healing::write_history(&run, &history)?;
    let (mut kills, written) = (kills?, written?);
    measure(&run, &mut kills, &written);
    let checked = healing::check(&run).await?;
    let mut gaps: Vec<f64> = kills.iter().flat_map(|kill| kill.gaps_ms().map(|(_, gap)| gap)).collect();
    gaps.sort_by(f64::total_cmp);
    let report = Report {
        nodes: options.nodes,
        gap_p50_ms: at_part(&gaps, 0.5),
        gap_p99_ms: at_part(&gaps, 0.99),
        gap_longest_ms: at_part(&gaps, 1.0),
        kills,
        acknowledged_writes: run.tally.writes.get(),
        unanswered_writes: run.tally.unanswered.get(),
        register_operations: checked.operations,
        calls_on_healthy_nodes: run.tally.calls.get(),
        calls_while_a_node_was_dead: run.tally.calls_during_faults.get(),
        violations: run.violations.count(),
        optimised: !cfg!(debug_assertions),
    };
    match options.output {
        Output::Table => table(&report),
        Output::Json => say(&serde_json::to_string_pretty(&report)
            .map_err(|error| Trouble::system("report")(std::io::Error::other(error)))?),
    }
    run.violations.none(directory)?;
    judge(&report, options.kills)
}

/// Kills whoever leads, again and again; each time the victim comes back before the next.
pub(crate) async fn kill_leaders(run: &Run, kills: usize) -> Result<Vec<Kill>, Trouble> {
    let mut done = Vec::new();
    for _ in 0..kills {
        sleep(WHOLE).await;
        let victim = run.fleet.await_leader(LEADER_LIMIT).await?;
        let member = run.fleet.member(victim)?;
        let moment = run.clock.elapsed();
        if !member.kill().await? {
            return Err(Trouble::ProvesNothing(format!("{} did not die of the kill", member.name())));
        }
        let successor = run.fleet.await_leader(LEADER_LIMIT).await?;
        sleep(DEAD).await;
        member.start().await?;
        member.ready().await?;
        done.push(Kill {
            at: moment.as_secs_f64(),
            leader: member.name().to_owned(),
            successor: run.fleet.member(successor)?.name().to_owned(),
            gaps_ms: Vec::new(),
            victim,
            moment,
        });
        sleep(LOOK).await;
    }
    sleep(WHOLE).await;
    Ok(done)
}

/// Finds each kill's gap at each survivor.
pub(crate) fn measure(run: &Run, kills: &mut [Kill], written: &[(usize, Acknowledgements)]) {
    let ends: Vec<Duration> = kills.iter().skip(1).map(|kill| kill.moment).chain([Duration::MAX]).collect();
    for (kill, end) in kills.iter_mut().zip(ends) {
        for (node, acknowledged) in written.iter().filter(|(node, _)| *node != kill.victim) {
            let name = run.fleet.members().get(*node).map_or_else(String::new, |member| member.name().to_owned());
            kill.gaps_ms.push((name, gap(acknowledged, kill.moment, end).as_secs_f64() * 1e3));
        }
    }
}

/// The longest time between two acknowledgements, the second of which came after a kill and before the next one, whose
/// victim this very writer's node may be. Without any, nothing was acknowledged until then.
fn gap(acknowledged: &[Duration], from: Duration, to: Duration) -> Duration {
    let pairs = acknowledged.windows(2).filter_map(|pair| match pair {
        [before, after] if *after > from && *after <= to => Some(*after - *before),
        _ => None,
    });
    let last = acknowledged.iter().copied().take_while(|instant| *instant <= from).last().unwrap_or_default();
    pairs.max().unwrap_or_else(|| to.saturating_sub(last))
}

/// The value that this part of them does not exceed (nearest rank).
pub(crate) fn at_part(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A line for each kill.
pub(crate) fn tell_kills(kills: &[Kill]) {
    say(&format!("{:>5} {:>9} {:>10} {:>10}  gap at each survivor, ms", "kill", "at s", "leader", "successor"));
    for (number, kill) in kills.iter().enumerate() {
        let gaps: Vec<String> = kill.gaps_ms.iter().map(|(node, gap)| format!("{node} {gap:.0}")).collect();
        say(&format!(
            "{:>5} {:>9.2} {:>10} {:>10}  {}",
            number + 1,
            kill.at,
            kill.leader,
            kill.successor,
            gaps.join("  ")
        ));
    }
}

fn table(report: &Report) {
    if !report.optimised {
        say("UNOPTIMISED BUILD: gaps say little");
    }
    tell_kills(&report.kills);
    say(&format!(
        "write gap: p50 {:.0} ms (target below {}), p99 {:.0} ms (target below {}), longest {:.0} ms",
        report.gap_p50_ms,
        P50.as_millis(),
        report.gap_p99_ms,
        P99.as_millis(),
        report.gap_longest_ms
    ));
    say(&format!(
        "{} acknowledged writes, all on every member; {} unanswered; {} operations on registers, linearizable",
        report.acknowledged_writes, report.unanswered_writes, report.register_operations
    ));
    say(&format!(
        "{} Workload API calls on surviving nodes, {} of them while one was dead; violations: {}",
        report.calls_on_healthy_nodes, report.calls_while_a_node_was_dead, report.violations
    ));
}

fn judge(report: &Report, kills: usize) -> Result<(), Trouble> {
    let floor = CALLS_A_KILL * kills as u64;
    if report.calls_on_healthy_nodes < floor {
        let what = format!("{} calls on surviving nodes, {floor} are the least", report.calls_on_healthy_nodes);
        return Err(Trouble::ProvesNothing(what));
    }
    for (what, gap, limit) in [("p50", report.gap_p50_ms, P50), ("p99", report.gap_p99_ms, P99)] {
        // What is no number is not below the limit either.
        if gap.is_nan() || gap >= limit.as_secs_f64() * 1e3 {
            return Err(Trouble::NotReached(format!("write gap {what}: {gap:.0} ms, below {limit:?} was promised")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(instants: &[u64]) -> Vec<Duration> {
        instants.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_gap_is_the_longest_time_without_an_acknowledgement_between_one_kill_and_the_next() {
        let at = Duration::from_millis;
        let acknowledged = millis(&[0, 10, 900, 1_000, 1_400, 1_410, 3_000]);
        assert_eq!(gap(&acknowledged, at(1_005), at(4_000)), at(1_590));
        assert_eq!(gap(&acknowledged, at(1_005), at(2_000)), at(400));
        assert_eq!(gap(&acknowledged, at(5), at(950)), at(890));
        assert_eq!(gap(&acknowledged, at(1_415), at(2_900)), at(1_490));
    }

    #[test]
    fn parts_are_taken_by_nearest_rank() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert!((at_part(&sorted, 0.5) - 2.0).abs() < f64::EPSILON);
        assert!((at_part(&sorted, 0.99) - 4.0).abs() < f64::EPSILON);
        assert!(at_part(&[], 0.5).is_nan());
    }
}
