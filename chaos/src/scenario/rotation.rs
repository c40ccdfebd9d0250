//! `quorate-chaos rotation`: roots replaced while workloads on different nodes speak mutual TLS with each other all the time.
//!
//! ```text
//!   roots      ── prepared ── active ── old ── gone ──  by themselves, every half life
//!              ── replace --compromised ──              by command, with --replace-every
//!   workloads  one a node, its stream open all the time; every 50 ms two of them shake hands, each ordered pair in turn
//!   faults     none; --kill-leader-every: SIGKILL to whoever leads; --dead-member: one node is dead from the first minute
//! ```
//!
//! No handshake may fail. One whose side is past its end is not tried while the node of that side is dead: nobody can have
//! renewed it.

use crate::clock::now;
use crate::fleet::Fleet;
use crate::invariants::{inv_05, inv_06, inv_14};
use crate::load::diary::Habit;
use crate::load::mutual_tls::{Cause, Held, Party, Side, cause, dial, is_late, is_stale};
use crate::load::{Amount, Load};
use crate::node::LOOK;
use crate::registrar::node_entry;
use crate::run::{Count, Run, lock};
use crate::scenario::healing;
use crate::trouble::Trouble;
use crate::{progress, say, starvation};
use clap::Args;
use quorate_proto_api::cluster::AuthoritySet;
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How many nodes: what the issue asks for, and the least that loses one.
const NODES: usize = 3;

/// How often two workloads shake hands.
const HANDSHAKE_PACE: Duration = Duration::from_millis(50);

/// How often the authorities are looked at: often enough that none is missed.
const WATCH_PACE: Duration = Duration::from_millis(250);

/// How long a killed leader stays dead.
const DEAD: Duration = Duration::from_millis(500);

/// How long a new leader is waited for before the next one is killed.
const LEADER_LIMIT: Duration = Duration::from_secs(15);

/// How long a workload may be without news after its node is ready again, before its handshakes count.
const RECONNECT: Duration = Duration::from_secs(2);

/// How long a forced replacement may take. It waits for the lease of a node that is dead at the time.
const REPLACE_LIMIT: &str = "60s";

/// What the leader says of an authority that begins to sign while a stream has yet to read it.
const PASSED_BY: &str = "some streams have not fetched a bundle with it";

/// What else goes on: enough that INV-01, INV-03, INV-05 and INV-06 have something to look at.
const AMOUNT: Amount = Amount {
    callers: 1,
    call_pace: Duration::from_millis(50),
    writers: 1,
    habit: Habit { batch: 2, pace: Duration::from_millis(50), creates_of_ten: 6 },
    clients: 0,
    deletions: false,
};

/// Parts of a hundred of the handshakes for which there was time that a run comes to at least: two busy cores with
/// unoptimised programs are late now and then, and workloads of a dead node have nothing to shake hands with.
const HANDSHAKES_OF_HUNDRED: u64 = 60;
const HANDSHAKES_OF_HUNDRED_WITH_ONE_DEAD: u64 = 20;

/// What `rotation` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Which run; a new one without it.
    #[arg(long)]
    seed: Option<u64>,
    /// How long everything lives.
    #[arg(long, value_enum, default_value = "issue")]
    lives: Lifetimes,
    /// Kill whoever leads, so often, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    kill_leader_every: Option<Duration>,
    /// One node is dead throughout.
    #[arg(long)]
    dead_member: bool,
    /// Replace the active root as compromised, so often, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    replace_every: Option<Duration>,
}

/// Seconds, with or without their unit.
fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    digits.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is no number of seconds"))
}

/// How long everything lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Lifetimes {
    /// Entry 10 s, issuing certificate 20 s, root 2 min: a new root every minute.
    Issue,
    /// Entry 5 s, issuing certificate 10 s, root 60 s: a new root every half minute. Shorter, and an election on a busy
    /// machine would take what an issuing certificate has left when it is renewed.
    Short,
}

impl Lifetimes {
    fn policy(self) -> &'static str {
        match self {
            Self::Issue => {
                "issuing_lifetime = \"20s\"\nroot_lifetime = \"2m\"\nx509_svid_lifetime = \"10s\"\n\
                 jwt_key_lifetime = \"2m\"\njwt_svid_lifetime = \"20s\"\nrefresh_hint = \"5s\"\n"
            }
            Self::Short => {
                "issuing_lifetime = \"10s\"\nroot_lifetime = \"60s\"\nx509_svid_lifetime = \"5s\"\n\
                 jwt_key_lifetime = \"60s\"\njwt_svid_lifetime = \"10s\"\nrefresh_hint = \"5s\"\n"
            }
        }
    }

    /// Life of the workloads' SVIDs, in seconds, which is also in their entries.
    fn svid(self) -> i32 {
        match self {
            Self::Issue => 10,
            Self::Short => 5,
        }
    }

    /// Seconds from one root to the next: half a root's life.
    fn cadence(self) -> u64 {
        match self {
            Self::Issue => 60,
            Self::Short => 30,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Short => "short",
        }
    }
}

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    handshakes: Count,
    failed: Count,
    /// Failed because this machine kept the nodes, or this program, from running.
    starved: Count,
    /// Failed because a side's stream had the other's root waiting, and had not read it.
    unread: Count,
    /// Not tried: a side was past its end while its node was dead.
    stale: Count,
    kills: Count,
    replaced: Count,
    /// IDs of roots that were active, and of token keys.
    roots: Mutex<BTreeSet<String>>,
    token_keys: Mutex<BTreeSet<String>>,
    /// Tries for each ordered pair.
    pairs: Mutex<BTreeSet<(usize, usize)>>,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut again = format!("quorate-chaos rotation --seconds {} --lives {}", options.seconds, options.lives.name());
    for (name, every) in [("kill-leader-every", options.kill_leader_every), ("replace-every", options.replace_every)] {
        if let Some(every) = every {
            again.push_str(&format!(" --{name} {}s", every.as_secs()));
        }
    }
    if options.dead_member {
        again.push_str(" --dead-member");
    }
    say(&format!("rotation: {NODES} nodes, {} s; again with: {again} --seed {seed}", options.seconds));
    super::in_directory("rotation", async |directory| within(options, seed, directory).await).await
}

async fn within(options: &Options, seed: u64, directory: &Path) -> Result<(), Trouble> {
    let fleet = Fleet::on_loopback(directory, NODES, options.lives.policy()).await?;
    healing::first_workload(&fleet).await?;
    let mut parties = Vec::new();
    for member in fleet.members() {
        let path = format!("/on/{}", member.name());
        let entry = node_entry(&path, member.name(), options.lives.svid());
        fleet.member(0)?.registrar().create_entry(entry).await.map_err(Trouble::call("BatchCreateEntry"))?;
        parties.push(Arc::new(Party::new(member.name(), &path)));
    }
    let run = Arc::new(Run::new(fleet));
    let counts = Arc::new(Counts::default());
    let load = Load::start(&run, seed, AMOUNT);
    let mut tasks = JoinSet::new();
    let addresses = assemble(&run, &parties, &mut tasks).await?;
    tasks.spawn(watch(Arc::clone(&run), Arc::clone(&counts)));
    let starving = Arc::clone(&run);
    tasks.spawn(async move { starvation::watch(&starving).await });
    tasks.spawn(shake(Arc::clone(&run), parties.clone(), addresses, Arc::clone(&counts)));
    let faults = do_faults(options, &run, &parties, &counts).await;
    let written = load.end(&run).await;
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let (dead, _) = (faults?, written?);
    if let Some(dead) = dead {
        let member = run.fleet.member(dead)?;
        member.start().await?;
        member.ready().await?;
    }
    healing::check(&run).await?;
    report(options, &run, &counts);
    run.violations.none(directory)?;
    proved(options, &run, &counts)
}

/// Lets the workloads follow their nodes' streams and answer each other, and waits until each has an SVID.
async fn assemble(run: &Arc<Run>, parties: &[Arc<Party>], tasks: &mut JoinSet<()>) -> Result<Vec<SocketAddr>, Trouble> {
    let mut addresses = Vec::new();
    for (node, party) in parties.iter().enumerate() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Trouble::system("listen"))?;
        addresses.push(listener.local_addr().map_err(Trouble::system("listen"))?);
        tasks.spawn(Arc::clone(party).serve(Arc::clone(run), listener));
        let (run, party) = (Arc::clone(run), Arc::clone(party));
        tasks.spawn(async move { party.follow(&run, node).await });
    }
    let give_up = Instant::now() + LEADER_LIMIT;
    while parties.iter().any(|party| party.held().is_none()) {
        if Instant::now() > give_up {
            return Err(Trouble::NotReached(format!("an SVID for each workload within {LEADER_LIMIT:?}")));
        }
        sleep(LOOK).await;
    }
    Ok(addresses)
}

/// Has each ordered pair shake hands in turn, until the load ends.
async fn shake(run: Arc<Run>, parties: Vec<Arc<Party>>, addresses: Vec<SocketAddr>, counts: Arc<Counts>) {
    let sides = 0..parties.len();
    let pairs: Vec<(usize, usize)> = sides
        .clone()
        .flat_map(|from| sides.clone().map(move |to| (from, to)))
        .filter(|(from, to)| from != to)
        .collect();
    let mut pace = interval(HANDSHAKE_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dialling = JoinSet::new();
    for (from, to) in pairs.into_iter().cycle() {
        if run.unless_stopped(pace.tick()).await.is_none() {
            break;
        }
        while dialling.try_join_next().is_some() {}
        let (Some(dialler), Some(answerer), Some(address)) = (parties.get(from), parties.get(to), addresses.get(to))
        else {
            break;
        };
        if is_excused(&run, from, dialler) || is_excused(&run, to, answerer) {
            counts.stale.add();
            continue;
        }
        let (run, counts, address) = (Arc::clone(&run), Arc::clone(&counts), *address);
        let (dialler, answerer) = (Arc::clone(dialler), Arc::clone(answerer));
        dialling.spawn(async move {
            let (Some(held), Some(theirs)) = (dialler.held(), answerer.held()) else { return };
            match dial(&held, &answerer, address).await {
                Ok(()) => {
                    counts.handshakes.add();
                    lock(&counts.pairs).insert((from, to));
                }
                Err(why) => judge(&run, &counts, (&dialler, &held), (&answerer, &theirs), &why),
            }
        });
    }
    // Those that are under way may come to their end: they have a limit.
    while dialling.join_next().await.is_some() {}
}

/// Whether a workload cannot have renewed its SVID in time: its node is dead, or has just come back.
fn is_excused(run: &Run, node: usize, party: &Party) -> bool {
    let is_back = run
        .fleet
        .members()
        .get(node)
        .and_then(|member| member.condition.spell())
        .is_some_and(|spell| spell.age() > RECONNECT);
    !is_back && party.held().is_none_or(|held| is_stale(&held))
}

/// Judges a handshake that failed, by what the two sides held when it began.
fn judge(run: &Run, counts: &Counts, (dialler, held): (&Party, &Held), (answerer, theirs): (&Party, &Held), why: &str) {
    counts.failed.add();
    let story = || story((dialler, held), (answerer, theirs), why);
    let starved = run.starvation.breaks_quorum(NODES);
    let side = |side| if side == Side::Dialler { (dialler, theirs) } else { (answerer, held) };
    match cause(held, theirs, now()) {
        // Nobody could renew it: its node was kept from running, or this program from reading. An SVID that has ended was
        // good when it was handed out; what failed is that another one came in time, and that is not INV-05.
        Cause::Expired(_) if starved => counts.starved.add(),
        Cause::Expired(_) => run.violations.add(inv_14::NAME, story()),
        Cause::Other if starved && is_late(why) => counts.starved.add(),
        Cause::Other => run.violations.add(inv_05::NAME, story()),
        Cause::UnknownRoot(lacking) => {
            let (lacks, other) = side(lacking);
            // The gate waits for streams, but not for ever: one that reads nothing is passed by, and that is told.
            if was_passed_by(run, lacks, &other.root) {
                counts.unread.add();
            } else {
                run.violations.add(inv_05::NAME, story());
            }
        }
    }
}

/// Whether the leader of the time said, when it let this root sign, that a stream of the node of this workload had been
/// offered the root and had not fetched it.
fn was_passed_by(run: &Run, party: &Party, root: &str) -> bool {
    let members = run.fleet.members();
    let number = members.iter().position(|member| member.name() == party.node()).map(|index| index + 1);
    let Some(number) = number else { return false };
    let (says, of) = (format!("authority_id={root}"), format!("member={number} "));
    members.iter().any(|member| {
        let log = fs::read_to_string(member.place.log()).unwrap_or_default();
        log.lines().any(|line| line.contains(PASSED_BY) && line.contains(&says) && line.contains(&of))
    })
}

fn story((dialler, held): (&Party, &Held), (answerer, theirs): (&Party, &Held), why: &str) -> String {
    let has = |party: &Party, held: &Held| {
        let Held { until, signed, root, .. } = held;
        format!("{} under root {root} signed at {signed} until {until}", party.node())
    };
    format!("a handshake failed at {}, from {} to {}: {why}", now(), has(dialler, held), has(answerer, theirs))
}

/// Notes every authority that is active, as each node that is ready tells it.
async fn watch(run: Arc<Run>, counts: Arc<Counts>) {
    let active = |set: Option<AuthoritySet>| set.and_then(|set| set.active).map(|active| active.id);
    while run.pause(WATCH_PACE).await {
        for member in run.fleet.members() {
            if member.condition.spell().is_none() {
                continue;
            }
            if let Ok(shown) = member.registrar().authorities().await {
                lock(&counts.roots).extend(active(shown.x509));
                lock(&counts.token_keys).extend(active(shown.jwt));
                break;
            }
        }
    }
}

/// Does what the options say until the time is over. Gives the node that is dead at the end.
async fn do_faults(
    options: &Options,
    run: &Arc<Run>,
    parties: &[Arc<Party>],
    counts: &Counts,
) -> Result<Option<usize>, Trouble> {
    let end = Duration::from_secs(options.seconds);
    let mut dead = None;
    if options.dead_member {
        let leader = run.fleet.await_leader(LEADER_LIMIT).await?;
        let victim = (leader + 1) % NODES;
        let member = run.fleet.member(victim)?;
        progress(&format!("  {} is dead from here on", member.name()));
        if member.kill().await? {
            counts.kills.add();
        }
        dead = Some(victim);
    }
    let mut next_kill = options.kill_leader_every;
    let mut next_replace = options.replace_every;
    while run.clock.elapsed() < end {
        let at = run.clock.elapsed();
        if let (Some(due), Some(every)) = (next_kill, options.kill_leader_every)
            && at >= due
        {
            kill_leader(run, counts).await?;
            next_kill = Some(due + every);
        }
        if let (Some(due), Some(every)) = (next_replace, options.replace_every)
            && at >= due
        {
            replace_root(run, parties, dead, counts).await?;
            next_replace = Some(due.max(run.clock.elapsed().saturating_sub(every)) + every);
        }
        sleep(LOOK).await;
    }
    Ok(dead)
}

async fn kill_leader(run: &Run, counts: &Counts) -> Result<(), Trouble> {
    let leader = run.fleet.await_leader(LEADER_LIMIT).await?;
    let member = run.fleet.member(leader)?;
    progress(&format!("  {:>8.3} s SIGKILL {}, which leads", run.clock.elapsed().as_secs_f64(), member.name()));
    if member.kill().await? {
        counts.kills.add();
    }
    sleep(DEAD).await;
    member.start().await?;
    member.ready().await
}

/// Replaces the active root as after a leak of its key, by a node that does not lead. When that is answered, nobody signs
/// under the old one (INV-06), and no stream of a node that is there holds anything of it.
async fn replace_root(
    run: &Arc<Run>,
    parties: &[Arc<Party>],
    dead: Option<usize>,
    counts: &Counts,
) -> Result<(), Trouble> {
    let leader = run.fleet.await_leader(LEADER_LIMIT).await?;
    let other = (0..NODES).find(|node| *node != leader && Some(*node) != dead).unwrap_or(leader);
    let member = run.fleet.member(other)?;
    let before = member.registrar().authorities().await.map_err(Trouble::call("Authorities.Show"))?;
    let active = before.x509.and_then(|set| set.active).map(|active| active.id);
    let Some(old) = active else { return Err(Trouble::NotReached("an active root".to_owned())) };
    let begun = run.clock.elapsed();
    member.place.command(&["authority", "replace", "--compromised", "x509", "--timeout", REPLACE_LIMIT]).await?;
    let took = run.clock.elapsed() - begun;
    lock(&run.seen).signers.tainted(&old, now());
    for (node, party) in parties.iter().enumerate() {
        if Some(node) != dead && party.held().is_some_and(|held| held.root == old) {
            let what = format!("the workload of {} holds an SVID under {old} after it was replaced", party.node());
            run.violations.add(inv_06::NAME, what);
        }
    }
    counts.replaced.add();
    progress(&format!("  {:>8.3} s root {old} replaced within {:.2} s", begun.as_secs_f64(), took.as_secs_f64()));
    Ok(())
}

fn report(options: &Options, run: &Run, counts: &Counts) {
    let (roots, keys) = (lock(&counts.roots).len(), lock(&counts.token_keys).len());
    say(&format!(
        "rotation: {} handshakes on {} ordered pairs, {} failed ({} for want of a processor, {} of a client that had not \
         read); {} not tried, a side's node being dead",
        counts.handshakes.get(),
        lock(&counts.pairs).len(),
        counts.failed.get(),
        counts.starved.get(),
        counts.unread.get(),
        counts.stale.get()
    ));
    say(&format!(
        "rotation: {} root rotations ({} of them forced), {} rotations of token keys, {} kills in {} s",
        roots.saturating_sub(1),
        counts.replaced.get(),
        keys.saturating_sub(1),
        counts.kills.get(),
        options.seconds
    ));
    let seen = lock(&run.seen);
    say(&format!(
        "rotation: {} SVIDs verified with all live members' bundles, {} issuing keys under {} roots, {} certificates of \
         different serial numbers; {} acknowledged writes; {} Workload API calls on healthy nodes answered, {} failed for want of a processor; violations: {}",
        run.tally.svids.get(),
        seen.signers.count(),
        seen.signers.roots(),
        seen.uniques.certificates(),
        run.tally.writes.get(),
        run.tally.calls.get(),
        run.tally.calls_starved.get(),
        run.violations.count()
    ));
}

/// A run in which little happened would pass just as well; it is no proof. Nor is one on a machine that did not let the nodes
/// run: no handshake may fail, whosever fault it is.
fn proved(options: &Options, run: &Run, counts: &Counts) -> Result<(), Trouble> {
    let (calls, starved, unread) = (run.tally.calls_starved.get(), counts.starved.get(), counts.unread.get());
    if calls + starved + unread > 0 {
        return Err(Trouble::ProvesNothing(format!(
            "{calls} calls and {starved} handshakes failed because this machine kept a quorum of the nodes from running, \
             and {unread} handshakes because a client had not read what waited for it"
        )));
    }
    let seconds = options.seconds;
    let possible = Duration::from_secs(seconds).as_millis() / HANDSHAKE_PACE.as_millis();
    let of_hundred = if options.dead_member { HANDSHAKES_OF_HUNDRED_WITH_ONE_DEAD } else { HANDSHAKES_OF_HUNDRED };
    let handshakes = u64::try_from(possible).unwrap_or_default() * of_hundred / 100;
    let every = |every: Option<Duration>| every.map_or(0, |every| seconds / every.as_secs().max(1));
    // The first and the last may lie beyond the ends of the run; a dead member delays each by its lease at most.
    let rotations = (seconds / options.lives.cadence()).saturating_sub(2);
    let pairs = if options.dead_member { NODES - 1 } else { NODES * (NODES - 1) };
    let floors = [
        ("handshakes", counts.handshakes.get(), handshakes),
        ("ordered pairs", lock(&counts.pairs).len() as u64, pairs as u64),
        ("root rotations", lock(&counts.roots).len().saturating_sub(1) as u64, rotations),
        ("kills", counts.kills.get(), every(options.kill_leader_every) / 2 + u64::from(options.dead_member)),
        ("forced replacements", counts.replaced.get(), every(options.replace_every) / 2),
        ("SVIDs verified", run.tally.svids.get(), seconds),
        ("acknowledged writes", run.tally.writes.get(), seconds),
    ];
    for (what, count, floor) in floors {
        if count < floor {
            return Err(Trouble::ProvesNothing(format!("{count} {what}, {floor} are the least")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_taken_with_and_without_their_unit() {
        assert_eq!(seconds("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(seconds("30"), Ok(Duration::from_secs(30)));
        assert!(seconds("half a minute").is_err());
    }
}
