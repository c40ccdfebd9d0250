//! What was acknowledged is there after any end of the process or of the power.

use std::sync::Arc;

use quorate_raft_consensus::Consensus;
use quorate_raft_store::disk::{PowerLoss, SimulatedDisk};

use crate::support::{PATIENCE, TestNode, config, create, has, no_peers, proposal, sources};

/// Writes from many tasks at once, and gives the names that were acknowledged.
async fn write_many(node: &TestNode, round: usize, count: usize) -> Vec<String> {
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..count {
        let handle = node.handle.clone();
        let name = format!("r{round}-e{number}");
        calls.spawn(async move { handle.propose(proposal(vec![create(&name)])).await.map(|_| name) });
    }
    let mut acknowledged = Vec::new();
    while let Some(call) = calls.join_next().await {
        acknowledged.push(call.unwrap().unwrap());
    }
    acknowledged
}

async fn reopened(disk: SimulatedDisk, acknowledged: &[String], what: &str) {
    let node = TestNode::start_led(disk, config()).await;
    for name in acknowledged {
        assert!(node.has(name), "{what}: {name} was acknowledged and is gone");
    }
    node.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replays_to_the_same_hash() {
    let node = TestNode::founded().await;
    write_many(&node, 0, 100).await;
    let before = node.handle.state().read(|state| state.state_hash());
    let node = node.restart(config()).await;
    assert_eq!(node.handle.state().read(|state| state.state_hash()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_dash_nine_at_any_instant() {
    let mut node = TestNode::founded().await;
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        // Copies are taken while writes are on their way: what was acknowledged before the copy must be in it.
        let writer = node.handle.clone();
        let busy = tokio::spawn(async move {
            for number in 0..50 {
                drop(writer.propose(proposal(vec![create(&format!("busy-{round}-{number}"))])).await);
            }
        });
        acknowledged.extend(write_many(&node, round, 20).await);
        let killed = node.disk.copy_after_kill();
        busy.await.unwrap();
        reopened(killed.restart(), &acknowledged, "killed").await;
        let disk = node.disk.restart();
        drop(node);
        node = TestNode::start_led(disk, config()).await;
        assert!(acknowledged.iter().all(|name| has(&node.handle, name)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_kind_of_power_loss() {
    let node = TestNode::founded().await;
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let writer = node.handle.clone();
        let busy = tokio::spawn(async move {
            for number in 0..30 {
                drop(writer.propose(proposal(vec![create(&format!("busy-{round}-{number}"))])).await);
            }
        });
        acknowledged.extend(write_many(&node, round, 10).await);
        for (seed, kind) in (0..).zip(PowerLoss::ALL) {
            let image = node.disk.after_power_loss(kind, seed);
            reopened(image, &acknowledged, &format!("{kind:?}")).await;
        }
        busy.await.unwrap();
    }
}

/// The control of the test above: were half of the syncs not made, it would say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_about_syncs_is_found_out_by_the_same_test_wal_19() {
    let node = TestNode::founded().await;
    node.disk.lie_about_syncs(1, 2);
    let acknowledged = write_many(&node, 0, 1).await;
    let mut found_out = false;
    for seed in 0..200 {
        let more = write_many(&node, seed + 1, 1).await;
        let image = node.disk.after_power_loss(PowerLoss::ALL[seed % PowerLoss::ALL.len()], seed as u64);
        let clock = crate::support::TestClock::new();
        let started = Consensus::start(config(), sources(&clock), Arc::new(image), no_peers()).await;
        found_out = match started {
            // The log was refused: what it is known to have held is not there.
            Err(_) => true,
            Ok(handle) => {
                let led = handle.wait_for_leadership(PATIENCE).await;
                let lost = !acknowledged.iter().chain(&more).all(|name| has(&handle, name));
                handle.shutdown().await;
                lost || !led
            }
        };
        if found_out {
            break;
        }
    }
    assert!(found_out, "half of the syncs were not made and nothing was missed in 200 power cuts");
}
