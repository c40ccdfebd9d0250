//! `quorate-chaos federation`: two clusters that federate, and workloads of both, made with libraries of others, that speak
//! mutual TLS with each other all the time.
//!
//! ```text
//!   one.chaos.example ◄── https_spiffe ── relationship     then ◄── Federation API, watch ── (mutual TLS)
//!                     ── https_web ──►                          ── Federation API, watch ──►
//!   workloads   go-spiffe and py-spiffe in each; every 50 ms one of them dials one of the other domain
//!   faults      round 1: both roots replaced by command; the leader of one killed; from polling to push
//!               round 2: both roots replaced; the leader of two killed
//!               round 3: both roots replaced; then the relationship is ended, and seen to be
//! ```
//!
//! No handshake may fail, and no SVID may be handed out whose root is not in every stream of the other domain (INV-05).

mod arrivals;
mod conversation;
mod domain;

use crate::invariants::{inv_05, inv_13};
use crate::node::LOOK;
use crate::run::{Count, Run};
use crate::trouble::Trouble;
use crate::{progress, say, starvation};
use arrivals::{Arrivals, percentile};
use clap::Args;
use conversation::{Client, Program, Told, program};
use domain::{Domain, Exchange};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Nodes of each cluster: what the issue asks for, and the least that loses one.
const NODES: usize = 3;

/// How often a workload of one domain dials one of the other.
const HANDSHAKE_PACE: Duration = Duration::from_millis(50);

/// How long the bundles may take until they are in all streams of the other domain for the first time.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// How long a handshake may take before a machine that starves its processes is what it failed of.
const LATE: Duration = Duration::from_secs(5);

/// How long before a stream that ended is opened again.
const REOPEN: Duration = Duration::from_millis(20);

/// Where in the run the rounds begin, in hundredths.
const ROUNDS: [u32; 3] = [8, 38, 68];

/// A new root is in the peer's streams within this at 99 of 100, when it is pushed.
const PUSH_LIMIT: Duration = Duration::from_millis(500);

/// Parts of a hundred of the handshakes for which there was time that a run comes to at least: interpreters and unoptimised
/// programs share two cores.
const HANDSHAKES_OF_HUNDRED: u128 = 40;

/// What `federation` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// A program of others that speaks mutual TLS: `node/tests/clients/run --programs` builds some and prints their commands.
    #[arg(long = "client", value_name = "NAME=COMMAND", value_parser = program, required = true)]
    clients: Vec<Program>,
}

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    handshakes: Count,
    failed: Count,
    /// Failed because this machine kept nodes or clients from running.
    starved: Count,
    kills: Count,
    replaced: Count,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    let names: Vec<&str> = options.clients.iter().map(|client| client.name.as_str()).collect();
    say(&format!("federation: 2 clusters of {NODES} nodes, {} s, clients: {}", options.seconds, names.join(", ")));
    super::in_directory("federation", async |directory| within(options, directory).await).await
}

async fn within(options: &Options, directory: &Path) -> Result<(), Trouble> {
    let web = domain::web_certificates(directory)?;
    let (one, two) = tokio::try_join!(
        Domain::found(directory, "one.chaos.example", "two.chaos.example", &web),
        Domain::found(directory, "two.chaos.example", "one.chaos.example", &web),
    )?;
    let domains = [one, two];
    let [one, two] = &domains;
    one.trust(two, Exchange::Spiffe, None).await?;
    two.trust(one, Exchange::Web, None).await?;
    for domain in &domains {
        domain.register().await?;
    }
    let (arrivals, counts) = (Arc::new(Arrivals::default()), Arc::new(Counts::default()));
    let mut tasks = JoinSet::new();
    for (index, domain) in domains.iter().enumerate() {
        follow(index, domain, &arrivals, &mut tasks);
        let run = Arc::clone(&domain.run);
        tasks.spawn(async move { starvation::watch(&run).await });
    }
    until_all_have(&arrivals).await?;
    let conversation = converse(options, &domains, &counts).await?;

    let faults = do_faults(options, &domains, &arrivals, &counts).await;
    conversation.end().await;
    let push = faults?;
    let withdrawn = withdraw(one, &arrivals).await;
    for domain in &domains {
        domain.run.stop_load();
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    for domain in &domains {
        if let Err(missing) = inv_13::healed(&domain.run.fleet).await? {
            domain.run.violations.add(inv_13::NAME, missing);
        }
    }
    report(options, &domains, &arrivals, &counts, &push, withdrawn?);
    one.run.violations.none(directory)?;
    two.run.violations.none(directory)?;
    proved(options, &counts, &push)
}

/// Follows the streams of all nodes of a domain.
fn follow(index: usize, domain: &Domain, arrivals: &Arc<Arrivals>, tasks: &mut JoinSet<()>) {
    for node in 0..NODES {
        let (run, arrivals) = (Arc::clone(&domain.run), Arc::clone(arrivals));
        let foreign = format!("spiffe://{}", domain.peer);
        tasks.spawn(async move {
            let Ok(member) = run.fleet.member(node) else { return };
            let socket = member.place.workload_socket();
            let violated = |what| run.violations.add(inv_05::NAME, what);
            while run.goes_on() {
                let once = arrivals.follow((index, node), &socket, &foreign, violated);
                // It ends with its node, and begins before its entry is there.
                let Some(_ended) = run.unless_stopped(once).await else { break };
                run.pause(REOPEN).await;
            }
        });
    }
}

/// Waits until the streams of all nodes have the other domain's bundle.
async fn until_all_have(arrivals: &Arrivals) -> Result<(), Trouble> {
    let give_up = Instant::now() + ARRIVAL_LIMIT;
    while (0..2).any(|domain| arrivals.holders(domain) < NODES) {
        if Instant::now() > give_up {
            let held = (arrivals.holders(0), arrivals.holders(1));
            return Err(Trouble::NotReached(format!("foreign bundles in all streams: {held:?} nodes have them")));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Tasks that listen to clients, and the word to be quiet.
struct Conversation {
    quiet: watch::Sender<bool>,
    tasks: JoinSet<Client>,
}

impl Conversation {
    /// Has all clients be quiet, and then end.
    async fn end(mut self) {
        self.quiet.send_replace(true);
        let mut clients = Vec::new();
        while let Some(client) = self.tasks.join_next().await {
            clients.extend(client);
        }
        for client in clients {
            let name = client.name.clone();
            if let Err(trouble) = client.end().await {
                progress(&format!("  {name}: {trouble}"));
            }
        }
    }
}

/// Starts the clients, one of each program in each domain, and has each speak with all of the other domain.
async fn converse(options: &Options, domains: &[Domain; 2], counts: &Arc<Counts>) -> Result<Conversation, Trouble> {
    let all = u32::try_from(2 * options.clients.len()).unwrap_or(u32::MAX);
    let pace = HANDSHAKE_PACE * all;
    let mut started = [Vec::new(), Vec::new()];
    for (domain, clients) in domains.iter().zip(&mut started) {
        for (index, program) in options.clients.iter().enumerate() {
            let node = index % NODES;
            let name = format!("{} at node-{} of {}", program.name, node + 1, domain.name);
            let socket = domain.run.fleet.member(node)?.place.workload_socket();
            clients.push(Client::start(program, name, domain.workload(node), &socket, pace).await?);
        }
    }
    let peers = |clients: &[Client]| -> Vec<(String, String)> {
        clients.iter().map(|client| (client.id.clone(), client.address.clone())).collect()
    };
    let [of_one, of_two] = started.each_ref().map(|clients| peers(clients));
    let addresses = [of_two, of_one];
    let runs = domains.each_ref().map(|domain| Arc::clone(&domain.run));
    let (quiet, mut tasks) = (watch::Sender::new(false), JoinSet::new());
    for (clients, peers) in started.into_iter().zip(addresses) {
        for mut client in clients {
            client.begin(&peers).await?;
            tasks.spawn(listen(client, runs.clone(), Arc::clone(counts), quiet.subscribe()));
        }
    }
    Ok(Conversation { quiet, tasks })
}

/// Judges what a client tells of, until it is quiet.
async fn listen(
    mut client: Client,
    runs: [Arc<Run>; 2],
    counts: Arc<Counts>,
    mut quiet: watch::Receiver<bool>,
) -> Client {
    loop {
        let told = tokio::select! {
            biased;
            _ = quiet.wait_for(|quiet| *quiet) => break,
            told = client.next() => told,
        };
        let Some(told) = told else {
            violated(&runs, format!("{} ended by itself", client.name));
            return client;
        };
        judge(&runs, &counts, &client.name, told);
    }
    client.be_quiet().await;
    // What was under way when the time was over.
    while let Some(told) = client.next().await {
        judge(&runs, &counts, &client.name, told);
    }
    client
}

fn violated(runs: &[Arc<Run>; 2], what: String) {
    let [run, _] = runs;
    run.violations.add(inv_05::NAME, what);
}

/// Counts a handshake. One that failed is no proof against the product only where the kernel says that this machine kept the
/// nodes of a cluster from running, and it failed of time.
fn judge(runs: &[Arc<Run>; 2], counts: &Counts, name: &str, told: Told) {
    let Told::Failed { took, what } = told else {
        counts.handshakes.add();
        return;
    };
    counts.failed.add();
    let starved = runs.iter().any(|run| run.starvation.breaks_quorum(NODES));
    let of_time = took >= LATE || what.contains("expired");
    if starved && of_time {
        counts.starved.add();
        progress(&format!("  for want of a processor: {name}: {what} after {took:?}"));
    } else {
        violated(runs, format!("a handshake of {name} failed after {took:?}: {what}"));
    }
}

/// How long new roots took to the other domain's streams.
#[derive(Debug, Default)]
struct Latency {
    polled: Vec<Duration>,
    pushed: Vec<Duration>,
    missing: usize,
}

/// The three rounds. Gives how long roots took.
async fn do_faults(
    options: &Options,
    domains: &[Domain; 2],
    arrivals: &Arrivals,
    counts: &Counts,
) -> Result<Latency, Trouble> {
    let (begun, length) = (Instant::now(), Duration::from_secs(options.seconds));
    let mut latency = Latency::default();
    let [one, two] = domains;
    for (round, at) in ROUNDS.into_iter().enumerate() {
        sleep((length * at / 100).saturating_sub(begun.elapsed())).await;
        let from = Instant::now();
        tokio::try_join!(one.replace_root(), two.replace_root())?;
        counts.replaced.add();
        progress(&format!("  round {}: both roots replaced within {:.1} s", round + 1, from.elapsed().as_secs_f64()));
        let (took, missing) = arrivals.since(from, NODES);
        latency.missing += missing;
        match round {
            0 => latency.polled.extend(took),
            _ => latency.pushed.extend(took),
        }
        if let Some(domain) = domains.get(round) {
            domain.kill_leader().await?;
            counts.kills.add();
        }
        if round == 0 {
            one.trust(two, Exchange::Push, Some("update")).await?;
            two.trust(one, Exchange::Push, Some("update")).await?;
            until_watching(domains).await?;
        }
    }
    sleep(length.saturating_sub(begun.elapsed())).await;
    Ok(latency)
}

async fn until_watching(domains: &[Domain; 2]) -> Result<(), Trouble> {
    let give_up = Instant::now() + ARRIVAL_LIMIT;
    loop {
        let mut watching = 0;
        for domain in domains {
            watching += usize::from(domain.is_watching().await);
        }
        if watching == domains.len() {
            return Ok(());
        }
        if Instant::now() > give_up {
            return Err(Trouble::NotReached(format!("{watching} of 2 watches within {ARRIVAL_LIMIT:?}")));
        }
        sleep(LOOK * 20).await;
    }
}

/// Ends a relationship, and waits until no stream has the other's bundle. Gives how long each of both took.
async fn withdraw(domain: &Domain, arrivals: &Arrivals) -> Result<(Duration, Duration), Trouble> {
    let begun = Instant::now();
    domain.part().await?;
    let acknowledged = begun.elapsed();
    while arrivals.holders(0) > 0 {
        if begun.elapsed() > ARRIVAL_LIMIT {
            return Err(Trouble::NotReached(format!("{} streams without the bundle that went", arrivals.holders(0))));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok((acknowledged, begun.elapsed()))
}

fn report(
    options: &Options,
    domains: &[Domain; 2],
    arrivals: &Arrivals,
    counts: &Counts,
    latency: &Latency,
    (acknowledged, gone): (Duration, Duration),
) {
    say(&format!(
        "federation: {} handshakes between the domains, {} failed ({} for want of a processor); {} forced replacements of \
         both roots, {} leaders killed in {} s",
        counts.handshakes.get(),
        counts.failed.get(),
        counts.starved.get(),
        counts.replaced.get(),
        counts.kills.get(),
        options.seconds
    ));
    for (how, took) in [("polled", &latency.polled), ("pushed", &latency.pushed)] {
        let of = |hundredths| percentile(took, hundredths).unwrap_or_default().as_millis();
        say(&format!(
            "federation: a new root in the other domain's streams, {how}: {} arrivals, p50 {} ms, p99 {} ms, most {} ms",
            took.len(),
            of(50),
            of(99),
            of(100)
        ));
    }
    say(&format!(
        "federation: a relationship that ended: acknowledged after {} ms, out of all streams after {} ms; {} messages checked; \
         violations: {}",
        acknowledged.as_millis(),
        gone.as_millis(),
        arrivals.checked(),
        domains.iter().map(|domain| domain.run.violations.count()).sum::<u64>()
    ));
}

/// A run in which little happened is no proof, nor is one on a machine that did not let the nodes run.
fn proved(options: &Options, counts: &Counts, latency: &Latency) -> Result<(), Trouble> {
    if counts.starved.get() > 0 {
        let what = format!("{} handshakes failed because this machine kept nodes from running", counts.starved.get());
        return Err(Trouble::ProvesNothing(what));
    }
    let possible = Duration::from_secs(options.seconds).as_millis() / HANDSHAKE_PACE.as_millis();
    let least = u64::try_from(possible * HANDSHAKES_OF_HUNDRED / 100).unwrap_or_default();
    let arrivals = (latency.polled.len() + latency.pushed.len()) as u64;
    let floors = [
        ("handshakes", counts.handshakes.get(), least),
        ("replacements of both roots", counts.replaced.get(), ROUNDS.len() as u64),
        ("kills", counts.kills.get(), 2),
        ("arrivals of new roots", arrivals, (2 * NODES * ROUNDS.len()) as u64),
    ];
    for (what, count, floor) in floors {
        if count < floor {
            return Err(Trouble::ProvesNothing(format!("{count} {what}, {floor} are the least")));
        }
    }
    if latency.missing > 0 {
        return Err(Trouble::NotReached(format!("{} new roots in the other domain's streams", latency.missing)));
    }
    match percentile(&latency.pushed, 99) {
        Some(p99) if p99 > PUSH_LIMIT => {
            // On a machine that is busy with builds this says little; it is told, and decided on by who reads it.
            progress(&format!("  a pushed root took {p99:?} at 99 of 100, wanted are {PUSH_LIMIT:?}"));
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}
