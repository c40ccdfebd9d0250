//! What snapshots and restarts cost those who write and those who are served: a writer beside snapshots, nodes killed and
//! started, and a follower that the log has left behind.
//!
//! ```text
//!   fill ──► writer beside snapshots ──► kill -9, start: follower, leader ──► follower killed
//!                                                                               |  the log grows, is purged
//!            caught up by a streamed snapshot ◄── writer, and follower started ◄┘
//! ```

use super::Options;
use crate::clients::{Admin, BATCH, entry, entry_of_another, own_entry};
use crate::floors;
use crate::load::{histogram, note};
use crate::nodes::OwnNodes;
use crate::report::{Figure, Report, Row, Verdict};
use crate::scrape::{self, Snapshots};
use crate::trouble::Trouble;
use quorate_proto_api::spire::types;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// A commit waits at most this many milliseconds for a snapshot.
const COMMIT_MS: f64 = 100.0;

/// A node serves within this many seconds of its start.
const SERVES_SECONDS: f64 = 10.0;

/// Callers that fill the cluster.
const FILLERS: usize = 4;

/// Entries in one call that lets the log grow, the bytes of a selector of each, and the pause between two calls: 2 MB a
/// second, a snapshot every sixteen seconds, and most of the cluster's time is left to the writer.
const LARGE: usize = 25;
const LARGE_BYTES: usize = 4_000;
const PACE: Duration = Duration::from_millis(50);

/// How often a node's metrics are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long the writer writes with no follower that catches up, before one is started.
const BEFORE: Duration = Duration::from_secs(5);

/// Snapshots after which a node's log has surely gone that was there before the first: the second begins 32 MiB behind
/// the first, and 8 MiB are kept.
const SNAPSHOTS_TO_PURGE: u64 = 2;

/// How long anything may take before the measurement gives up.
const GIVE_UP: Duration = Duration::from_secs(300);

/// Syncs of the floor in a round.
const SYNCS: u64 = 200;

/// The pause before a refused write is made again.
const AGAIN: Duration = Duration::from_millis(10);

/// From one moment to another.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Instant,
    to: Instant,
}

impl Span {
    fn meets(&self, other: &Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    fn length(&self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

/// What the writer saw, and when a node wrote a snapshot, while something else happened.
struct Watched<T> {
    commits: Vec<Span>,
    refused: u64,
    snapshots: Vec<Span>,
    /// Seconds of the longest snapshot.
    longest: f64,
    outcome: T,
}

/// Snapshots under writes, restarts, and a follower far behind.
pub(crate) async fn run(options: &Options) -> Result<Report, Trouble> {
    let mut nodes = options.own_nodes().await?;
    if nodes.count() < 3 {
        return Err(Trouble::Unexpected("one node of three is stopped at a time: take --nodes 3 or more".to_owned()));
    }
    let entries = options.entries.first().copied().unwrap_or_default();
    let mut report = Report::new("restart", options.rounds);
    let floors = (0..options.rounds).map(|_| floors::sync(&nodes.directory(), SYNCS)).collect::<Result<Vec<_>, _>>()?;
    report.rows.push(Row::floor("floor: append 256 bytes + fdatasync", SYNCS * options.rounds as u64, &floors));
    let begun = Instant::now();
    fill(&nodes, entries).await?;
    let rate = entries as f64 / begun.elapsed().as_secs_f64();
    report.figures.push(Figure::new(format!("{entries} entries filled in, by {FILLERS} callers, a second"), rate, ""));
    beside_snapshots(&nodes, options.rounds, &mut report).await?;
    restarts(&mut nodes, &mut report).await?;
    left_behind(&mut nodes, &mut report).await?;
    report.notes.push(format!(
        "{} nodes on one machine and one disk, synced for real; beside the writer another one sends {LARGE} entries of \
         {LARGE_BYTES} bytes every {PACE:?}, so that snapshots come; all nodes take theirs at about the same time",
        nodes.count()
    ));
    report.notes.push(
        "a wait is that of the whole call, from the client and back: the longest outside of snapshots says what the machine \
         does to it anyway"
            .to_owned(),
    );
    nodes.stop().await?;
    Ok(report)
}

/// Entries of others by the batch, through all nodes.
async fn fill(nodes: &OwnNodes, entries: usize) -> Result<(), Trouble> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..FILLERS {
        let mut admin = nodes.clients_of(caller).admin();
        let next = Arc::clone(&next);
        callers.spawn(async move {
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                if from >= entries {
                    return Ok::<(), Trouble>(());
                }
                let to = entries.min(from + BATCH);
                admin.create((from..to).map(entry_of_another).collect()).await?;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(())
}

/// The first part: the writer, until the leader has written so many snapshots.
async fn beside_snapshots(nodes: &OwnNodes, wanted: usize, report: &mut Report) -> Result<(), Trouble> {
    let leader = nodes.leader().await?;
    let before = nodes.snapshots(leader).await?.built;
    let until = async {
        while nodes.snapshots(leader).await?.built < before + wanted as u64 {
            sleep(LOOK).await;
        }
        Ok(())
    };
    let watched = watch(nodes, leader, "beside", until).await?;
    let (within, outside) = split(&watched.commits, &watched.snapshots);
    let whole: Duration = total(&watched.commits);
    let beside = total(&within);
    report.rows.push(row("1 writer, no snapshot", &outside, whole.saturating_sub(beside))?);
    report.rows.push(row("1 writer, a node writes a snapshot", &within, beside)?);
    let seen = watched.snapshots.len() as f64;
    report.figures.push(Figure::new("snapshots written on all nodes while the writer wrote", seen, ""));
    report.figures.push(Figure::new("longest snapshot", watched.longest, "s"));
    report.figures.push(Figure::new("longest commit outside of snapshots", longest_ms(&outside), "ms"));
    for (what, commits) in [("outside of snapshots", &outside), ("beside a snapshot", &within)] {
        let what = format!("commits above {COMMIT_MS} ms {what}, of {}", commits.len());
        report.figures.push(Figure::new(what, above(commits), ""));
    }
    let what = "longest commit beside a snapshot, ms";
    report.verdicts.push(Verdict::at_most(what, longest_of_some_ms(&within), COMMIT_MS));
    report.verdicts.push(Verdict::at_most("writes refused beside snapshots", watched.refused as f64, 0.0));
    Ok(())
}

/// The second part: a follower, then the leader, killed and started.
async fn restarts(nodes: &mut OwnNodes, report: &mut Report) -> Result<(), Trouble> {
    let leader = nodes.leader().await?;
    have_identity(nodes, leader).await?;
    for (what, node) in [("a follower", (leader + 1) % nodes.count()), ("the leader", leader)] {
        nodes.kill(node).await?;
        let started = nodes.start(node)?;
        nodes.serves(node).await?;
        let seconds = started.elapsed().as_secs_f64();
        let what = format!("{what} killed and started: s from start to an SVID from its Workload API");
        report.verdicts.push(Verdict::at_most(what, seconds, SERVES_SECONDS));
    }
    Ok(())
}

/// The third part: a follower is down while the log goes that it would need, and started while writes go on.
async fn left_behind(nodes: &mut OwnNodes, report: &mut Report) -> Result<(), Trouble> {
    let leader = nodes.leader().await?;
    let follower = (leader + 1) % nodes.count();
    let last = nodes.snapshots(follower).await?.applied;
    nodes.kill(follower).await?;
    grow(nodes, leader, SNAPSHOTS_TO_PURGE).await?;
    let behind = nodes.snapshots(leader).await?.applied.saturating_sub(last);
    report.figures.push(Figure::new("log entries that the stopped follower is behind", behind as f64, ""));
    let calm = watch(nodes, leader, "calm", async {
        sleep(BEFORE).await;
        Ok(())
    });
    let calm = calm.await?;
    let started = nodes.start(follower)?;
    let watched = watch(nodes, leader, "behind", caught_up(nodes, leader, follower)).await?;
    let Caught { after, installed } = &watched.outcome;
    let seconds = after.saturating_duration_since(started).as_secs_f64();
    report.rows.push(row("1 writer, a follower is down", &calm.commits, total(&calm.commits))?);
    report.rows.push(row("1 writer, the follower catches up", &watched.commits, total(&watched.commits))?);
    report.figures.push(Figure::new("follower started to caught up by a streamed snapshot", seconds, "s"));
    report.figures.push(Figure::new("longest commit while it was down", longest_ms(&calm.commits), "ms"));
    report.verdicts.push(Verdict::at_least("snapshots that the follower took over", *installed as f64, 1.0));
    let what = "longest commit while the follower caught up, ms";
    report.verdicts.push(Verdict::at_most(what, longest_of_some_ms(&watched.commits), COMMIT_MS));
    report.verdicts.push(Verdict::at_most("writes refused while it caught up", watched.refused as f64, 0.0));
    Ok(())
}

/// When a follower had caught up, and by how many snapshots.
struct Caught {
    after: Instant,
    installed: u64,
}

/// Waits until a follower has applied what its leader had a moment before.
async fn caught_up(nodes: &OwnNodes, leader: usize, follower: usize) -> Result<Caught, Trouble> {
    loop {
        let goal = nodes.snapshots(leader).await?.applied;
        // It serves no metrics at first.
        if let Ok(now) = nodes.snapshots(follower).await
            && now.applied >= goal
        {
            return Ok(Caught { after: Instant::now(), installed: now.installed });
        }
        sleep(LOOK).await;
    }
}

/// An entry for this process, known on all nodes.
async fn have_identity(nodes: &OwnNodes, leader: usize) -> Result<(), Trouble> {
    nodes.clients_of(leader).admin().create(vec![own_entry("/bench/restart/caller")]).await?;
    for node in 0..nodes.count() {
        nodes.serves(node).await?;
    }
    Ok(())
}

/// Lets the log grow as fast as it goes, until the leader has written so many more snapshots.
async fn grow(nodes: &OwnNodes, leader: usize, wanted: u64) -> Result<(), Trouble> {
    let mut admin = nodes.clients_of(leader).admin();
    let before = nodes.snapshots(leader).await?.built;
    let grown = async {
        let mut call = 0;
        while nodes.snapshots(leader).await?.built < before + wanted {
            admin.create(large("grow", call)).await?;
            call += 1;
        }
        Ok(())
    };
    timeout(GIVE_UP, grown).await.unwrap_or_else(|_| Err(Trouble::Unexpected("the log is not purged".to_owned())))
}

/// The writer, beside it the one who lets the log grow and those who look at each node's snapshots, until that is done.
async fn watch<T>(
    nodes: &OwnNodes,
    leader: usize,
    name: &'static str,
    until: impl Future<Output = Result<T, Trouble>>,
) -> Result<Watched<T>, Trouble> {
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(nodes.clients_of(leader).admin(), name, Arc::clone(&done)));
    let grower = tokio::spawn(pace(nodes.clients_of(leader).admin(), name, Arc::clone(&done)));
    let mut looks = JoinSet::new();
    for node in 0..nodes.count() {
        looks.spawn(look(nodes.configuration_of(node), Arc::clone(&done)));
    }
    let outcome = timeout(GIVE_UP, until).await;
    done.store(true, Ordering::Relaxed);
    let (commits, refused) = writer.await?;
    grower.await?;
    let mut snapshots = Vec::new();
    let mut longest: f64 = 0.0;
    while let Some(seen) = looks.join_next().await {
        let (spans, seconds) = seen?;
        snapshots.extend(spans);
        longest = longest.max(seconds);
    }
    let outcome =
        outcome.map_err(|_| Trouble::Unexpected(format!("writer '{name}': not done after {GIVE_UP:?}")))??;
    Ok(Watched { commits, refused, snapshots, longest, outcome })
}

/// Writes single entries until it is done; a write that is refused is made again, and waits so much longer.
async fn write(mut admin: Admin, name: &'static str, done: Arc<AtomicBool>) -> (Vec<Span>, u64) {
    let mut commits = Vec::new();
    let mut refused = 0;
    while !done.load(Ordering::Relaxed) {
        let from = Instant::now();
        let mut tries = 0;
        loop {
            // Another path each time: one that was refused may be there all the same.
            let path = format!("/bench/restart/{name}/{}/{tries}", commits.len());
            let entry = entry(path, &[("unix", format!("uid:{}", 2_000_000_000 + commits.len()))]);
            if admin.create(vec![entry]).await.is_ok() {
                break;
            }
            tries += 1;
            refused += 1;
            if done.load(Ordering::Relaxed) {
                break;
            }
            sleep(AGAIN).await;
        }
        commits.push(Span { from, to: Instant::now() });
    }
    (commits, refused)
}

/// Lets the log grow at a steady pace, until it is done. What is refused is left out: only its bytes count.
async fn pace(mut admin: Admin, name: &'static str, done: Arc<AtomicBool>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut call = 0;
    while !done.load(Ordering::Relaxed) {
        pace.tick().await;
        let _ = admin.create(large(name, call)).await;
        call += 1;
    }
}

/// When a node wrote or took a snapshot, until it is done, and the seconds of the longest. Each span begins early by the
/// time between two looks. A node that is down writes none.
async fn look(configuration: PathBuf, done: Arc<AtomicBool>) -> (Vec<Span>, f64) {
    let mut spans = Vec::new();
    let mut longest: f64 = 0.0;
    let mut before: Option<(Instant, Snapshots)> = None;
    // Once more behind the end, for one that was just being written.
    loop {
        let last = done.load(Ordering::Relaxed);
        let at = Instant::now();
        let now = scrape::snapshots(&configuration).await.ok();
        if let (Some((earlier, before)), Some(now)) = (before, now)
            && now.count > before.count
        {
            let seconds = (now.seconds - before.seconds).max(0.0);
            longest = longest.max(seconds);
            let from = earlier.checked_sub(Duration::from_secs_f64(seconds)).unwrap_or(earlier);
            spans.push(Span { from, to: Instant::now() });
        }
        before = now.map(|now| (at, now));
        if last {
            return (spans, longest);
        }
        sleep(LOOK).await;
    }
}

/// Entries whose bytes let the log grow.
fn large(name: &str, call: usize) -> Vec<types::Entry> {
    let selector = format!("path:/{}", "x".repeat(LARGE_BYTES));
    let path = |item| format!("/bench/restart/large/{name}/{call}/{item}");
    (0..LARGE).map(|item| entry(path(item), &[("unix", format!("{selector}/{name}/{call}/{item}"))])).collect()
}

/// The commits that met one of the spans, and those that met none.
fn split(commits: &[Span], spans: &[Span]) -> (Vec<Span>, Vec<Span>) {
    commits.iter().partition(|commit| spans.iter().any(|span| span.meets(commit)))
}

/// The time that one writer's commits took together.
fn total(commits: &[Span]) -> Duration {
    commits.iter().map(Span::length).sum()
}

fn row(name: &str, commits: &[Span], elapsed: Duration) -> Result<Row, Trouble> {
    let mut latencies = histogram()?;
    for commit in commits {
        note(&mut latencies, commit.length());
    }
    Ok(Row::beside_others(name, elapsed, &latencies))
}

/// Milliseconds of the longest.
fn longest_ms(commits: &[Span]) -> f64 {
    commits.iter().map(Span::length).max().unwrap_or_default().as_secs_f64() * 1e3
}

/// The same, and no number where there was none: no target is reached by what was not seen.
fn longest_of_some_ms(commits: &[Span]) -> f64 {
    if commits.is_empty() { f64::NAN } else { longest_ms(commits) }
}

/// How many waited for longer than the target.
fn above(commits: &[Span]) -> f64 {
    commits.iter().filter(|commit| commit.length().as_secs_f64() * 1e3 > COMMIT_MS).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_counts_as_beside_a_snapshot_when_any_moment_of_it_was() {
        let zero = Instant::now();
        let span = |from, to| Span { from: zero + Duration::from_millis(from), to: zero + Duration::from_millis(to) };
        let (within, outside) = split(&[span(0, 9), span(9, 11), span(15, 16), span(21, 30)], &[span(10, 20)]);
        assert_eq!(within.len(), 2);
        assert_eq!(outside.len(), 2);
        assert!((longest_ms(&outside) - 9.0).abs() < 0.01);
        assert!(longest_of_some_ms(&[]).is_nan());
    }
}
