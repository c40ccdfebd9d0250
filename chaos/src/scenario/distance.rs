//! `quorate-chaos distance`: five voters in three regions far from each other. The cluster keeps its leader under writes;
//! when it loses it, it has another soon; and an SVID costs on every node what it costs on one site, because nobody is
//! asked for it.

use crate::fleet::{Fleet, Member};
use crate::load::diary::Habit;
use crate::load::workload::Workload;
use crate::load::{Amount, Load};
use crate::network::{Delay, Network};
use crate::run::{Run, lock};
use crate::scenario::failover::{at_part, kill_leaders, measure, tell_kills};
use crate::scenario::healing;
use crate::trouble::Trouble;
use crate::{progress, say};
use clap::Args;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The regions, and in which of them each node is.
const REGIONS: [&str; 3] = ["eu", "us", "asia"];
const NODES: [usize; 5] = [0, 0, 1, 1, 2];

/// What is written and asked on each node, slowly enough that one machine can be five.
const AMOUNT: Amount = Amount {
    callers: 1,
    call_pace: Duration::from_millis(100),
    writers: 1,
    habit: Habit { batch: 2, pace: Duration::from_millis(20), creates_of_ten: 10 },
    clients: 1,
    deletions: false,
};

/// Half of the gaps after the leader's death are shorter than this.
const GAP_P50_MS: f64 = 2_000.0;

/// Tokens asked for in a round, and rounds, on each node here and on its like on one site.
const CALLS: usize = 400;
const ROUNDS: usize = 5;

/// What a token may cost a node of a region, in times of what it costs on one site: processor time of the node, which what
/// else the machine does hardly changes. Less than this is noise.
const COST: f64 = 1.3;

/// How long a leader is waited for.
const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// What `distance` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long the cluster has to keep its leader.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The round trip between regions, in milliseconds.
    #[arg(long, default_value_t = 150)]
    round_trip: u64,
    /// How often the leader is killed after that.
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Who makes messages late.
    #[arg(long, value_enum, default_value = "auto")]
    delay: Delay,
    /// Which run; a new one without it.
    #[arg(long)]
    seed: Option<u64>,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    super::in_directory("distance", async |directory| within(options, directory).await).await
}

async fn within(options: &Options, directory: &Path) -> Result<(), Trouble> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut network = Network::make(&REGIONS, Duration::from_millis(options.round_trip), options.delay)?;
    let sites = network.sites(&NODES).await?;
    let far = Fleet::found(&directory.join("far"), &sites, "network = \"distance\"\n").await?;
    healing::first_workload(&far).await?;
    say(&format!(
        "distance: {} voters in {} regions, {} ms round trip by {}",
        NODES.len(),
        REGIONS.len(),
        options.round_trip,
        network.delayed_by()
    ));
    cost(&far, &directory.join("near")).await?;
    let run = Arc::new(Run::new(far));
    let load = Load::start(&run, seed, AMOUNT);
    let stable = keep(&run, Duration::from_secs(options.minutes * 60)).await;
    let kills = match stable {
        Ok(()) => kill_leaders(&run, options.kills).await,
        Err(trouble) => Err(trouble),
    };
    let written = load.end(&run).await;
    healing::write_history(&run, &directory.join("history.jsonl"))?;
    let (mut kills, written) = (kills?, written?);
    measure(&run, &mut kills, &written);
    tell_kills(&kills);
    let mut gaps: Vec<f64> = kills.iter().flat_map(|kill| kill.gaps_ms().map(|(_, gap)| gap)).collect();
    gaps.sort_by(f64::total_cmp);
    healing::check(&run).await?;
    let median = at_part(&gaps, 0.5);
    say(&format!(
        "distance: {} kills of the leader: write gap median {median:.0} ms (below {GAP_P50_MS:.0}), longest {:.0} ms; {} \
         acknowledged writes, all on every member; {} Workload API calls on healthy nodes, none failed",
        options.kills,
        at_part(&gaps, 1.0),
        run.tally.writes.get(),
        run.tally.calls.get()
    ));
    run.violations.none(directory)?;
    if options.kills > 0 && (median.is_nan() || median >= GAP_P50_MS) {
        return Err(Trouble::NotReached(format!(
            "write gap median {median:.0} ms, below {GAP_P50_MS:.0} was promised"
        )));
    }
    Ok(())
}

/// Under load for this long the leader stays who it is, in the term that it has.
async fn keep(run: &Run, length: Duration) -> Result<(), Trouble> {
    let leader = run.fleet.await_leader(LEADER_LIMIT).await?;
    let term = term(run.fleet.member(leader)?).await;
    let (begin, before) = (run.clock.elapsed(), run.tally.writes.get());
    let end = run.clock.elapsed() + length;
    while run.clock.elapsed() < end {
        tokio::time::sleep(Duration::from_secs(1).min(length)).await;
        let terms = lock(&run.seen).leaders.count();
        if terms > 1 {
            let after = (run.clock.elapsed() - begin).as_secs();
            return Err(Trouble::NotReached(format!("one leader for {} s: {terms} after {after} s", length.as_secs())));
        }
    }
    let still = run.fleet.await_leader(LEADER_LIMIT).await?;
    let ends_in = self::term(run.fleet.member(still)?).await;
    if still != leader || ends_in != term {
        return Err(Trouble::NotReached(format!("one term for {} s: {term:?}, then {ends_in:?}", length.as_secs())));
    }
    say(&format!(
        "distance: {} s under {} acknowledged writes: {} led all the time, in term {}",
        length.as_secs(),
        run.tally.writes.get() - before,
        run.fleet.member(leader)?.name(),
        term.unwrap_or_default()
    ));
    Ok(())
}

async fn term(member: &Member) -> Option<u64> {
    member.status().await.map(|status| status.term)
}

/// What a token costs on each node here, beside the like on one site; both in turn, so that what else the machine does
/// falls on both.
async fn cost(far: &Fleet, directory: &Path) -> Result<(), Trouble> {
    let near = Fleet::on_loopback(directory, NODES.len(), "").await?;
    healing::first_workload(&near).await?;
    let mut ratios = Vec::new();
    for (there, here) in far.members().iter().zip(near.members()) {
        let (mut distant, mut local) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            distant.push(tokens(there).await?);
            local.push(tokens(here).await?);
        }
        let (distant, local) = (middle(distant), middle(local));
        progress(&format!("  {}: a token costs {distant:.0} us, {local:.0} us on one site", there.name()));
        ratios.push(distant / local);
    }
    near.stop().await?;
    ratios.sort_by(f64::total_cmp);
    let (middle, worst) = (at_part(&ratios, 0.5), at_part(&ratios, 1.0));
    say(&format!(
        "distance: a token costs {middle:.2} times what it costs on one site (at most {COST}), {worst:.2} times on the \
         node where that is most"
    ));
    if middle > COST {
        return Err(Trouble::NotReached(format!("a token costs {middle:.2} times what it costs on one site")));
    }
    Ok(())
}

/// What a token costs the node, in microseconds of processor time. Every audience is new.
async fn tokens(member: &Member) -> Result<f64, Trouble> {
    let mut workload = Workload::new(&member.place.workload_socket());
    let gone = || Trouble::NotReached(format!("the processor time of {}", member.name()));
    let before = member.cpu().await.ok_or_else(gone)?;
    for _ in 0..CALLS {
        let audience = format!("distance-{:032x}", rand::random::<u128>());
        workload.token(&audience).await.map_err(Trouble::call("FetchJWTSVID"))?;
    }
    let used = member.cpu().await.ok_or_else(gone)?.saturating_sub(before);
    Ok(used.as_secs_f64() * 1e6 / CALLS as f64)
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    at_part(&values, 0.5)
}
