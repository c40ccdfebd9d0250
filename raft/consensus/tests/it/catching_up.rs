//! Followers that fell behind the purged log, and what a crash in the middle of installing leaves (ATK-28).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use quorate_proto_api::channel::channel_over;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::{Sender, install_snapshot_request::Part, peer_client::PeerClient};
use quorate_raft_consensus::{
    Config, ProposeError, SnapshotLimits,
    limits::{BATCHES_IN_FLIGHT_MAX, CONTACT_LIMIT},
    transport::{Destination, Protocol},
};
use quorate_raft_store::disk::{PowerLoss, SimulatedDisk};
use tokio::task::JoinSet;
use tokio_stream::iter;
use tonic::{Code, Status};

use crate::support::{
    PATIENCE, TestClock,
    cluster::{Cluster, name},
    create_with_hint, eventually, has,
    net::{address_of, key_of},
    proposal,
};

/// In how many places the installing of a snapshot is cut off.
const CRASHES: u64 = 6;

/// Snapshots every 64 KiB of log, of which next to nothing is kept below them.
fn often(config: &mut Config) {
    config.snapshot = SnapshotLimits { log_bytes: 64 * 1024, tail_bytes: 1024 };
}

/// Writes at a member until the leader has purged past `index`. Gives the last entry's name.
async fn write_until_purged(cluster: &Cluster, at: u64, index: u64, prefix: &str) -> String {
    let leader = cluster.leader().await;
    let mut round = 0;
    loop {
        let name = format!("{prefix}-{round}");
        let written = cluster.handle(at).propose(proposal(vec![create_with_hint(&name, "x".repeat(900))])).await;
        written.unwrap();
        round += 1;
        if leader.health().purged_index.is_some_and(|purged| purged > index) {
            return name;
        }
        assert!(round < 5_000, "the log is never purged");
    }
}

#[tokio::test]
async fn a_follower_behind_the_purged_log_catches_up_by_a_streamed_snapshot_while_writes_go_on() {
    let cluster = Cluster::configured(3, often).await;
    let leader = cluster.leader_number().await;
    let behind = (1..=3).find(|number| *number != leader).unwrap();
    cluster.isolate(behind);
    let reached = cluster.handle(behind).state().applied_index();
    let last = write_until_purged(&cluster, leader, reached, "while-away").await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, stopped) = (cluster.handle(leader), Arc::clone(&stop));
    let writing = tokio::spawn(async move {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            let name = format!("meanwhile-{round}");
            writer.propose(proposal(vec![create_with_hint(&name, "x".repeat(200))])).await.unwrap();
            round += 1;
        }
        round
    });
    cluster.rejoin(behind);
    let handle = cluster.handle(behind);
    eventually("the follower has what it missed", || has(&handle, &last)).await;
    assert!(handle.health().snapshot_index.is_some_and(|index| index > reached), "it came by snapshot");
    stop.store(true, Ordering::Relaxed);
    let written = tokio::time::timeout(PATIENCE, writing).await.unwrap().unwrap();
    assert!(written > 0);
    cluster.until_all_have(&format!("meanwhile-{}", written - 1)).await;
    let hash = |number| cluster.handle(number).state().read(|state| state.state_hash());
    eventually("states are equal", || hash(1) == hash(2) && hash(2) == hash(3)).await;
}

/// Raft answers nobody whose entry was overtaken by a snapshot. The slots of such batches must come back all the same, or
/// the member takes no write until it is restarted.
#[tokio::test]
async fn a_leader_that_was_overtaken_by_a_snapshot_takes_writes_again() {
    let cluster = Cluster::configured(3, often).await;
    let overtaken = cluster.leader_number().await;
    let handle = cluster.handle(overtaken);
    cluster.isolate(overtaken);
    // As many batches as may be in flight, none of which comes through.
    let mut lost = JoinSet::new();
    for round in 0..BATCHES_IN_FLIGHT_MAX {
        let (writer, last) = (handle.clone(), handle.health().last_log_index);
        let lose = proposal(vec![create_with_hint(&format!("lost-{round}"), String::new())]).within(CONTACT_LIMIT);
        lost.spawn(async move { writer.propose(lose).await });
        eventually("the entry is in the log", || handle.health().last_log_index > last).await;
    }
    let reached = handle.health().last_log_index.unwrap();
    eventually("it leads no more", || !handle.role().borrow().is_leader()).await;
    while let Some(outcome) = lost.join_next().await {
        assert!(matches!(outcome.unwrap(), Err(ProposeError::OutcomeUnknown { .. })));
    }
    let leader = cluster.leader_number().await;
    let last = write_until_purged(&cluster, leader, reached, "while-away").await;
    cluster.rejoin(overtaken);
    eventually("it has what it missed", || has(&handle, &last)).await;
    assert!(handle.health().snapshot_index.is_some_and(|index| index > reached), "it came by snapshot");
    for round in 0..=BATCHES_IN_FLIGHT_MAX {
        cluster.create_at(overtaken, &format!("again-{round}")).await;
    }
}

/// A cluster of three with one member down that is behind the purged log: its number, its disk, and the last entry that it
/// misses.
async fn one_behind() -> (Cluster, u64, SimulatedDisk, TestClock, String) {
    let mut cluster = Cluster::configured(3, often).await;
    let leader = cluster.leader_number().await;
    let behind = (1..=3).find(|number| *number != leader).unwrap();
    let reached = cluster.handle(behind).state().applied_index();
    let (disk, clock) = cluster.kill(behind).await;
    let last = write_until_purged(&cluster, leader, reached, "while-down").await;
    (cluster, behind, disk, clock, last)
}

#[tokio::test]
async fn a_crash_at_each_step_of_installing_a_snapshot_leaves_a_member_that_opens_and_catches_up() {
    // How many changes to the disk it takes to start, and to install the snapshot.
    let (mut cluster, behind, disk, clock, last) = one_behind().await;
    let before = disk.operations();
    cluster.start_with(behind, disk.clone(), clock).await;
    let handle = cluster.handle(behind);
    eventually("the member has what it missed", || has(&handle, &last)).await;
    let operations = disk.operations() - before;
    let step = usize::try_from((operations / CRASHES).max(1)).unwrap();
    for (crash, kind) in (1..=operations).step_by(step).zip(PowerLoss::ALL.into_iter().cycle()) {
        let (mut cluster, behind, disk, clock, last) = one_behind().await;
        disk.stop_after(crash);
        if cluster.try_start(behind, disk.clone(), clock.clone()).await {
            let handle = cluster.handle(behind);
            eventually("the disk is gone, or it came to nothing", || {
                handle.role().borrow().is_stopped() || has(&handle, &last)
            })
            .await;
            cluster.kill(behind).await;
        }
        let image = if crash % 2 == 0 { disk.copy_after_kill().restart() } else { disk.after_power_loss(kind, crash) };
        assert!(cluster.try_start(behind, image, clock).await, "it does not open after a crash at step {crash}");
        let handle = cluster.handle(behind);
        eventually(&format!("it has caught up after a crash at step {crash}"), || has(&handle, &last)).await;
    }
}

/// A disk that was put back to what it was before is worse than one that is lost: the member promised to keep what is gone.
/// It gets nothing more, so that nobody counts on it; the leader goes on.
#[tokio::test]
async fn a_member_that_lost_what_it_acknowledged_is_served_no_more_and_stops_nobody_flt_18() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let reverted = (1..=3).find(|number| *number != leader).unwrap();
    let old = cluster.members[&reverted].disk.copy_after_kill().restart();
    cluster.create_at(leader, "acknowledged").await;
    cluster.until_all_have("acknowledged").await;
    let (_, clock) = cluster.kill(reverted).await;
    cluster.start_with(reverted, old, clock).await;
    for round in 0..20 {
        cluster.create_at(leader, &format!("entry-{round}")).await;
    }
    assert!(cluster.handle(leader).role().borrow().is_leader());
    assert!(!has(&cluster.handle(reverted), "acknowledged"));
}

fn sender(cluster: &Cluster, member: u64) -> Sender {
    let state = cluster.handle(1).state();
    let (id, epoch) = state.read(|state| state.cluster().map(|cluster| (cluster.id, cluster.epoch)).unwrap());
    Sender { cluster: Bytes::copy_from_slice(id.as_bytes()), epoch, member }
}

/// Sends these parts to `to` as if they were a snapshot from the member `from`.
async fn send(cluster: &Cluster, from: u64, to: u64, parts: Vec<Part>) -> Result<(), Status> {
    let transport = cluster.net.transport_with_key(&name(from), key_of(&name(from)));
    let channel = channel_over(move || {
        let transport = Arc::clone(&transport);
        let destination = Destination {
            addresses: vec![address_of(&name(to))],
            keys: vec![key_of(&name(to))],
            protocol: Protocol::Peer,
        };
        async move { transport.dial(&destination).await }
    });
    let parts = parts.into_iter().map(|part| proto::InstallSnapshotRequest { part: Some(part) });
    PeerClient::new(channel).install_snapshot(iter(parts)).await.map(|_answer| ())
}

#[tokio::test]
async fn a_snapshot_that_is_too_large_cut_short_or_no_state_is_refused_and_changes_nothing_atk_28() {
    let cluster = Cluster::of(3).await;
    cluster.create_at(1, "kept").await;
    cluster.until_all_have("kept").await;
    let leader = cluster.leader_number().await;
    let to = (1..=3).find(|number| *number != leader).unwrap();
    let term = cluster.leader().await.health().term;
    let membership = Bytes::from_static(&[8, 1]);
    let head = |bytes: u64| proto::SnapshotHead {
        sender: Some(sender(&cluster, leader)),
        vote: Some(proto::RaftVote { term, member: leader, committed: true }),
        last: Some(proto::LogId { term, member: leader, index: 1_000_000 }),
        membership: membership.clone(),
        id: "forged".to_owned(),
        bytes,
        chunks: 1,
        digest: Bytes::from_static(&[7; 32]),
    };
    let chunk = |bytes: usize| Part::Chunk(Bytes::from(vec![0xff; bytes]));
    for (what, parts, code) in [
        ("too large", vec![Part::Head(head(u64::MAX))], Code::InvalidArgument),
        ("no head", vec![chunk(10)], Code::InvalidArgument),
        ("two heads", vec![Part::Head(head(10)), Part::Head(head(10))], Code::InvalidArgument),
        ("cut short", vec![Part::Head(head(10))], Code::DataLoss),
        ("longer than announced", vec![Part::Head(head(3)), chunk(10)], Code::InvalidArgument),
        ("no state", vec![Part::Head(head(10)), chunk(10)], Code::DataLoss),
        (
            "no membership",
            vec![Part::Head(proto::SnapshotHead { membership: Bytes::from_static(b"\xff"), ..head(10) })],
            Code::InvalidArgument,
        ),
        (
            "not elected",
            vec![Part::Head(proto::SnapshotHead {
                vote: Some(proto::RaftVote { term, member: leader, committed: false }),
                ..head(10)
            })],
            Code::InvalidArgument,
        ),
    ] {
        let refused = send(&cluster, leader, to, parts).await.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused:?}");
    }
    assert!(has(&cluster.handle(to), "kept"));
    cluster.create_at(to, "alive").await;
}
