//! `quorate-chaos outage`: every node off for longer than anything that it signed lives, and on again by itself; nodes cut
//! off until their lease ends; nodes started while they are cut off.
//!
//! ```text
//!   all nodes  ──served── SIGKILL ─────── longer than roots, keys and SVIDs live ─────── start ──elect, re-issue, serve──
//!   one node   ──served── others SIGSTOP ──served── its issuing certificate ends ──Unavailable── SIGCONT ──served──
//!   one node   ──served── others SIGSTOP ── SIGKILL, start ──Unavailable── SIGCONT ──served──
//! ```

use crate::clock::{Clock, now};
use crate::fleet::{Fleet, Member};
use crate::invariants::{Violations, inv_08, inv_13};
use crate::load::workload::Workload;
use crate::node::LOOK;
use crate::registrar::own_entry;
use crate::scenario::healing;
use crate::trouble::Trouble;
use crate::{progress, say};
use clap::Args;
use quorate_proto_identity::UnixSeconds;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

/// Everything ends within a minute.
const POLICY: &str = "root_lifetime = \"60s\"\nissuing_lifetime = \"10s\"\nx509_svid_lifetime = \"5s\"\n\
                      jwt_key_lifetime = \"60s\"\njwt_svid_lifetime = \"10s\"\nrefresh_hint = \"5s\"\n";

/// How long all nodes are off: longer than the longest of these lives.
const OFF: Duration = Duration::from_secs(65);

/// How long a node may take from its start, or from the end of its being cut off, until it serves.
const BACK: Duration = Duration::from_secs(30);

/// How long a node is called after its lease has ended, and after it was started while cut off.
const AFTER: Duration = Duration::from_secs(4);

/// How often a cut off node is called.
const PACE: Duration = Duration::from_millis(50);

/// How long a renewal may be under way that was recorded before the others were stopped.
const RENEWAL: Duration = Duration::from_secs(1);

/// Calls that each part comes to at least.
const CALLS: u32 = 20;

/// What `outage` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
}

/// One run.
pub(crate) async fn run(options: &Options) -> Result<(), Trouble> {
    super::in_directory("outage", async |directory| within(options, directory).await).await
}

async fn within(options: &Options, directory: &Path) -> Result<(), Trouble> {
    let fleet = Fleet::on_loopback(directory, options.nodes, POLICY).await?;
    healing::first_workload(&fleet).await?;
    let violations = Violations::new(Clock::start());
    all_off(&fleet, &violations).await?;
    let leader = fleet.await_leader(BACK).await?;
    let follower = (leader + 1) % options.nodes;
    to_the_end_of_the_lease(&fleet, follower, "a follower", &violations).await?;
    let leader = fleet.await_leader(BACK).await?;
    to_the_end_of_the_lease(&fleet, leader, "the leader", &violations).await?;
    let leader = fleet.await_leader(BACK).await?;
    restarted_while_cut_off(&fleet, (leader + 1) % options.nodes, &violations).await?;
    violations.none(directory)
}

/// All nodes are off for longer than every life, and start again.
async fn all_off(fleet: &Fleet, violations: &Violations) -> Result<(), Trouble> {
    let before = roots(fleet.member(0)?).await?;
    for member in fleet.members() {
        member.condition.faulted();
    }
    for member in fleet.members() {
        member.kill().await?;
    }
    progress(&format!("  all nodes are off for {OFF:?}"));
    sleep(OFF).await;
    let begin = Instant::now();
    for member in fleet.members() {
        member.start().await?;
    }
    fleet.await_any_leader(BACK).await?;
    let elected = begin.elapsed();
    for member in fleet.members() {
        if let Err(trouble) = tokio::time::timeout(BACK, member.ready()).await.map_err(|_| late(member)).flatten() {
            violations.add(inv_13::NAME, format!("after an outage: {trouble}"));
            return Ok(());
        }
        healing::served(member).await?;
    }
    let serving = begin.elapsed();
    for member in fleet.members() {
        let path = format!("/after-the-outage/{}", member.name());
        let written = member.registrar().create_entry(own_entry(&path)).await;
        if let Err(status) = written {
            violations.add(inv_13::NAME, format!("{} takes no write after an outage: {status}", member.name()));
        }
    }
    if roots(fleet.member(0)?).await?.iter().any(|root| before.contains(root)) {
        return Err(Trouble::ProvesNothing("a root of before the outage is still in the bundle".to_owned()));
    }
    say(&format!(
        "outage: {} nodes were off for {} s, longer than every life; a leader {:.2} s and all of them serving {:.2} s \
         after the first was started, under new roots",
        fleet.members().len(),
        OFF.as_secs(),
        elected.as_secs_f64(),
        serving.as_secs_f64()
    ));
    Ok(())
}

/// The roots in a member's bundle.
async fn roots(member: &Member) -> Result<Vec<Vec<u8>>, Trouble> {
    let answer = Workload::new(&member.place.workload_socket()).x509_bundle().await;
    let bundles = answer.map_err(Trouble::call("FetchX509Bundles"))?.bundles;
    let mut roots = Vec::new();
    for bundle in bundles.values() {
        let found = quorate_proto_identity::Certificate::parse_concatenated(bundle)
            .map_err(|error| Trouble::NotReached(format!("a bundle that can be read: {error}")))?;
        roots.extend(found.iter().map(|root| root.der().to_vec()));
    }
    Ok(roots)
}

/// All others stand still; the node serves to its bound and not beyond.
async fn to_the_end_of_the_lease(
    fleet: &Fleet,
    node: usize,
    who: &str,
    violations: &Violations,
) -> Result<(), Trouble> {
    let member = fleet.member(node)?;
    pause_others(fleet, node).await?;
    let cut = Instant::now();
    let (mut served, mut refused) = (0_u32, 0_u32);
    sleep(RENEWAL).await;
    let bound = lease(member).await?;
    while now() < bound.plus(i64::try_from(AFTER.as_secs()).unwrap_or_default()) {
        let begun = now();
        let answer = call(member).await;
        let ended = now();
        let checked = inv_08::check(answer.as_ref().copied(), begun, ended, bound);
        violations.expect(inv_08::NAME, checked.map_err(|what| format!("{}, cut off: {what}", member.name())));
        match answer {
            Ok(()) => served += 1,
            Err(_) => refused += 1,
        }
        sleep(PACE).await;
    }
    let silent = cut.elapsed();
    let back = resume_others(fleet, violations).await?;
    if served < CALLS || refused < CALLS {
        let what = format!("{served} calls were served while cut off, and {refused} refused; {CALLS} are the least");
        return Err(Trouble::ProvesNothing(what));
    }
    say(&format!(
        "outage: {who} ({}) cut off for {:.1} s: {served} calls served to the end of its lease, {refused} answered \
         Unavailable after it; all serve again {:.2} s after contact",
        member.name(),
        silent.as_secs_f64(),
        back.as_secs_f64()
    ));
    Ok(())
}

/// A node that starts while it is cut off serves nothing, though the certificate that the log has for it is valid.
async fn restarted_while_cut_off(fleet: &Fleet, node: usize, violations: &Violations) -> Result<(), Trouble> {
    let member = fleet.member(node)?;
    pause_others(fleet, node).await?;
    let bound = lease(member).await?;
    member.kill().await?;
    member.start().await?;
    let begin = Instant::now();
    let mut refused = 0_u32;
    let within_lease = bound > now();
    while begin.elapsed() < AFTER {
        match call(member).await {
            Ok(()) => violations.add(inv_08::NAME, format!("{} serves, started while cut off", member.name())),
            Err(status) if status.code() == Code::Unavailable => refused += 1,
            Err(status) => violations.add(inv_08::NAME, format!("{}, started while cut off: {status}", member.name())),
        }
        sleep(PACE).await;
    }
    let back = resume_others(fleet, violations).await?;
    if refused < CALLS || !within_lease {
        return Err(Trouble::ProvesNothing(format!("{refused} calls refused; within the lease: {within_lease}")));
    }
    say(&format!(
        "outage: {} started while cut off, its recorded certificate still valid: {refused} calls answered Unavailable, \
         none served; it serves {:.2} s after contact",
        member.name(),
        back.as_secs_f64()
    ));
    Ok(())
}

async fn pause_others(fleet: &Fleet, node: usize) -> Result<(), Trouble> {
    for (index, other) in fleet.members().iter().enumerate() {
        if index != node && !other.pause().await? {
            return Err(Trouble::ProvesNothing(format!("{} does not stand still", other.name())));
        }
    }
    Ok(())
}

/// Lets all go on, and waits until all serve; how long that took.
async fn resume_others(fleet: &Fleet, violations: &Violations) -> Result<Duration, Trouble> {
    let begin = Instant::now();
    for member in fleet.members() {
        member.resume_unwatched().await?;
    }
    for member in fleet.members() {
        let ready = tokio::time::timeout(BACK, async {
            member.ready().await?;
            healing::served(member).await
        });
        if let Err(trouble) = ready.await.map_err(|_| late(member)).flatten() {
            violations.add(inv_13::NAME, format!("after contact came back: {trouble}"));
        }
    }
    Ok(begin.elapsed())
}

fn late(member: &Member) -> Trouble {
    Trouble::NotServing { what: format!("{} does not serve within {BACK:?}", member.name()), log: member.place.log() }
}

/// Until when the node may sign, as it says itself.
async fn lease(member: &Member) -> Result<UnixSeconds, Trouble> {
    let give_up = Instant::now() + BACK;
    loop {
        match member.registrar().status().await {
            Ok(status) => return Ok(UnixSeconds(status.issuing_not_after)),
            Err(status) if Instant::now() > give_up => return Err(Trouble::call("Status")(status)),
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// A call of each kind; both have to be served, or both refused alike.
async fn call(member: &Member) -> Result<(), Status> {
    let mut workload = Workload::new(&member.place.workload_socket());
    let svid = workload.x509_svid().await.map(drop);
    let token = workload.token("outage").await.map(drop);
    svid.and(token)
}
