//! Snapshots by bytes of log, the purge after them, and starting from one.

use quorate_raft_consensus::{Config, SnapshotLimits};
use quorate_raft_store::disk::PowerLoss;

use crate::support::{DATA_DIR, TestNode, config, create_with_hint, eventually, with_causes};

/// Snapshots every 64 KiB of log.
fn often() -> Config {
    let mut often = config();
    often.snapshot = SnapshotLimits { log_bytes: 64 * 1024, tail_bytes: 16 * 1024 };
    often
}

/// Writes about 1 KiB a time, until a snapshot has been taken and the log purged.
async fn write_until_purged(node: &TestNode) -> Vec<String> {
    let mut names = Vec::new();
    let before = node.handle.health();
    for number in 0..1000 {
        let name = format!("e{}-{number}", before.last_log_index.unwrap_or(0));
        node.propose(vec![create_with_hint(&name, "x".repeat(900))]).await;
        names.push(name);
        let now = node.handle.health();
        if now.snapshot_index > before.snapshot_index && now.purged_index > before.purged_index {
            return names;
        }
    }
    panic!("no snapshot in 1000 writes: {:?}", node.handle.health());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_by_bytes_and_the_purge_keeps_a_tail() {
    let node = TestNode::founded_with(often()).await;
    write_until_purged(&node).await;
    // Another snapshot may be on its way: what counts is where it settles.
    eventually("a tail below the snapshot, and little more, is kept", || {
        let health = node.handle.health();
        let indexes = (health.last_log_index, health.snapshot_index, health.purged_index);
        let (Some(last), Some(snapshot), Some(purged)) = indexes else { return false };
        // No entry is longer than this.
        let after_snapshot = (last - snapshot) * 1200;
        let tail = 16 * 1024;
        purged < snapshot && health.log_bytes >= tail && health.log_bytes <= tail + 1200 + after_snapshot
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_from_a_snapshot_and_the_log_after_it_gives_the_same_hash() {
    let mut node = TestNode::founded_with(often()).await;
    for _ in 0..3 {
        let names = write_until_purged(&node).await;
        let before = node.handle.state().read(|state| (state.entry_count(), state.state_hash()));
        node = node.restart(often()).await;
        assert!(names.iter().all(|name| node.has(name)));
        assert_eq!(node.handle.state().read(|state| (state.entry_count(), state.state_hash())), before);
        assert!(node.handle.health().snapshot_index.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_power_goes_while_snapshots_are_written() {
    let node = TestNode::founded_with(often()).await;
    let mut names = Vec::new();
    let writer = async {
        for number in 0..300 {
            let name = format!("e{number}");
            node.propose(vec![create_with_hint(&name, "x".repeat(900))]).await;
            names.push(name);
            if number % 25 == 0 {
                let kind = PowerLoss::ALL[number / 25 % PowerLoss::ALL.len()];
                let image = node.disk.after_power_loss(kind, number as u64);
                let reopened = TestNode::start_led(image, often()).await;
                assert!(names.iter().all(|name| reopened.has(name)), "{kind:?} after {number}");
                reopened.handle.shutdown().await;
            }
        }
    };
    writer.await;
    assert!(node.handle.health().snapshot_index.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_refused_when_the_snapshot_that_the_log_needs_is_gone() {
    let node = TestNode::founded_with(often()).await;
    write_until_purged(&node).await;
    node.handle.shutdown().await;
    let disk = node.disk.restart();
    for name in quorate_raft_store::disk::Disk::list(&disk, format!("{DATA_DIR}/snapshots").as_ref()).unwrap() {
        disk.remove(format!("{DATA_DIR}/snapshots/{name}")).unwrap();
    }
    let started = quorate_raft_consensus::Consensus::start(
        often(),
        crate::support::sources(&node.clock),
        std::sync::Arc::new(disk),
        crate::support::no_peers(),
    );
    let refused = started.await.unwrap_err();
    let text = with_causes(&refused);
    assert!(text.contains("join it again"), "{text}");
}
