//! What goes on while somebody looks: tokens are fetched at every node, a write is made now and then at whichever node
//! takes it, and one line shows what comes of it. Where two trust domains federate, workloads of both call each other instead.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::assembly::Assembly;
use super::federation;
use super::layout::NodeFiles;
use super::outlook::{Issued, Outlook};
use super::screen::Screen;
use super::tour;

/// How often a token is fetched at each node.
const FETCH_PACE: Duration = Duration::from_millis(250);

/// How often workloads of two trust domains call each other.
const CALL_PACE: Duration = Duration::from_millis(250);

/// How often something is written.
const WRITE_PACE: Duration = Duration::from_millis(500);

/// How often the line is renewed.
const LOOK_PACE: Duration = Duration::from_millis(500);

/// How long after a failed fetch it is looked whether the node has died: then it was no failure of a node that is up.
const DEATH_NOTICE: Duration = Duration::from_millis(200);

/// What has come of it so far.
#[derive(Debug, Default)]
struct Tally {
    fetched: AtomicU64,
    failed: AtomicU64,
    written: AtomicU64,
    /// The longest time between two writes that were acknowledged, in milliseconds.
    longest_gap: AtomicU64,
}

/// Tasks that fetch, write and look; they end with it.
#[derive(Debug)]
pub(super) struct Activity {
    _tasks: JoinSet<()>,
}

impl Activity {
    /// Begins.
    pub(super) fn start(assembly: &Assembly, screen: Screen) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for keeper in assembly.keepers() {
            tasks.spawn(fetch_on(keeper.files.clone(), keeper.process.clone(), Arc::clone(&tally)));
        }
        let files = assembly.files().to_vec();
        tasks.spawn(write_on(files.clone(), Arc::clone(&tally)));
        tasks.spawn(look_on(files, tally, screen));
        Self { _tasks: tasks }
    }
}

impl Activity {
    /// Begins, where two trust domains federate.
    pub(super) fn start_federated(one: &Assembly, two: &Assembly, screen: Screen) -> Self {
        let tally = Arc::new(Tally::default());
        let mut tasks = JoinSet::new();
        for (one, two) in one.keepers().iter().zip(two.keepers()) {
            let sides = [one, two].map(|keeper| (keeper.files.clone(), keeper.process.clone()));
            tasks.spawn(call_on(sides, Arc::clone(&tally)));
        }
        tasks.spawn(look_on_both([one.files().to_vec(), two.files().to_vec()], tally, screen));
        Self { _tasks: tasks }
    }
}

/// Has the workloads of two nodes call each other, both ways, for as long as both are up.
async fn call_on([one, two]: [(NodeFiles, watch::Receiver<Option<u32>>); 2], tally: Arc<Tally>) {
    let ((one, mut first), (two, mut second)) = (one, two);
    loop {
        let Ok(before) = first.wait_for(Option::is_some).await.map(|process| *process) else { return };
        let Ok(too) = second.wait_for(Option::is_some).await.map(|process| *process) else { return };
        if federation::speak(&one, &two).await.is_ok() {
            tally.fetched.fetch_add(2, Ordering::Relaxed);
        } else {
            sleep(DEATH_NOTICE).await;
            if *first.borrow() == before && *second.borrow() == too {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        sleep(CALL_PACE).await;
    }
}

/// Shows the line of two trust domains.
async fn look_on_both(sites: [Vec<NodeFiles>; 2], tally: Arc<Tally>, screen: Screen) {
    loop {
        let mut leaders = Vec::new();
        for files in &sites {
            let domain = files.first().map_or("", |files| files.site.trust_domain);
            leaders.push((domain, Outlook::of(files).await));
        }
        screen.status(&line_of_both(&leaders, &tally));
        sleep(LOOK_PACE).await;
    }
}

/// The line, short enough for a terminal of 100 columns.
fn line_of_both(leaders: &[(&str, Outlook)], tally: &Tally) -> String {
    let leads = |(domain, outlook): &(&str, Outlook)| match &outlook.leader {
        Some(leader) => format!("{domain}: {leader} leads"),
        None => format!("{domain}: nobody leads"),
    };
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let leaders: Vec<String> = leaders.iter().map(leads).collect();
    format!("{} | {} calls across, {} failed", leaders.join(", "), read(&tally.fetched), read(&tally.failed))
}

/// Fetches tokens at a node for as long as it is up.
async fn fetch_on(files: NodeFiles, mut process: watch::Receiver<Option<u32>>, tally: Arc<Tally>) {
    loop {
        let Ok(running) = process.wait_for(Option::is_some).await.map(|process| *process) else { return };
        if tour::fetch_token(&files).await.is_ok() {
            tally.fetched.fetch_add(1, Ordering::Relaxed);
        } else {
            sleep(DEATH_NOTICE).await;
            if *process.borrow() == running {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        sleep(FETCH_PACE).await;
    }
}

/// Writes on, at the next node when one does not take it.
async fn write_on(files: Vec<NodeFiles>, tally: Arc<Tally>) {
    let mut last = Instant::now();
    let mut number = 0_u64;
    for files in files.iter().cycle() {
        while tour::write(files, number).await.is_ok() {
            number = number.saturating_add(1);
            let gap = u64::try_from(last.elapsed().saturating_sub(WRITE_PACE).as_millis()).unwrap_or(u64::MAX);
            tally.longest_gap.fetch_max(gap, Ordering::Relaxed);
            tally.written.fetch_add(1, Ordering::Relaxed);
            last = Instant::now();
            sleep(WRITE_PACE).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Shows the line.
async fn look_on(files: Vec<NodeFiles>, tally: Arc<Tally>, screen: Screen) {
    let operations: Vec<(String, SocketAddr)> =
        files.iter().filter_map(|files| Some((files.name.clone(), files.operations()?))).collect();
    let mut issued = Issued::default();
    loop {
        let outlook = Outlook::of(&files).await;
        let issued = issued.ask(&operations).await;
        screen.status(&line(&outlook, issued, &tally));
        sleep(LOOK_PACE).await;
    }
}

/// The line: short enough for a terminal of 100 columns.
fn line(outlook: &Outlook, issued: u64, tally: &Tally) -> String {
    let leader = match &outlook.leader {
        Some(leader) => format!("{leader} leads"),
        None => "nobody leads".to_owned(),
    };
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{leader}, term {} | applied {} | {issued} SVIDs issued | {} fetched, {} failed | {} written, gap {} ms",
        outlook.term,
        outlook.applied_index,
        read(&tally.fetched),
        read(&tally.failed),
        read(&tally.written),
        read(&tally.longest_gap),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_two_says_who_leads_in_each_and_how_they_speak() {
        let tally = Tally::default();
        tally.fetched.store(1_240, Ordering::Relaxed);
        let leads = Outlook { leader: Some("node-2".into()), ..Outlook::default() };
        let text = line_of_both(&[("one.example", leads), ("two.example", Outlook::default())], &tally);
        assert_eq!(text, "one.example: node-2 leads, two.example: nobody leads | 1240 calls across, 0 failed");
    }

    #[test]
    fn the_line_says_who_leads_and_what_comes_of_it() {
        let outlook = Outlook { leader: Some("node-2".into()), term: 3, applied_index: 58 };
        let tally = Tally::default();
        tally.fetched.store(620, Ordering::Relaxed);
        tally.longest_gap.store(412, Ordering::Relaxed);
        let text = line(&outlook, 312, &tally);
        assert_eq!(
            text,
            "node-2 leads, term 3 | applied 58 | 312 SVIDs issued | 620 fetched, 0 failed | 0 written, gap 412 ms"
        );
        assert!(text.len() <= 100);
    }
}
