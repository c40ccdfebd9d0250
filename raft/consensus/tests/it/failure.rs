//! A disk that fails ends consensus for good, and a full one is noticed before.

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::EntryId;
use quorate_raft_consensus::{Consensus, ProposeError, Role, Uncertainty};
use quorate_raft_machine::Operation;
use quorate_raft_store::{
    LogId, Record, WalIdentity,
    disk::{Fault, FaultKind, Slowness},
    log::{Drive, Wal, WalOptions},
};

use crate::support::{
    DATA_DIR, PATIENCE, TestNode, config, create, eventually, no_peers, proposal, sources, with_causes,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_consensus_for_good_and_health_says_why() {
    let node = TestNode::founded().await;
    node.create("before").await;
    node.disk.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    let unknown = node.handle.propose(proposal(vec![create("lost")])).await.unwrap_err();
    let ProposeError::OutcomeUnknown { cause: Uncertainty::Stopped { reason }, .. } = &unknown else {
        panic!("{unknown}")
    };
    assert!(reason.contains("cannot sync"), "{reason}");
    let mut role = node.handle.role();
    let stopped = tokio::time::timeout(PATIENCE, role.wait_for(Role::is_stopped)).await.unwrap().unwrap().clone();
    assert_eq!(stopped, Role::Stopped { reason: reason.clone() });
    // The disk works again, and nothing is retried (WAL-09).
    let refused = node.handle.propose(proposal(vec![create("later")])).await.unwrap_err();
    assert!(matches!(&refused, ProposeError::Stopped { reason: again } if again == reason), "{refused}");
    assert_eq!(node.handle.health().stopped.as_ref(), Some(reason));
    assert!(!node.handle.health().takes_proposals());
    // Reads go on.
    assert!(node.has("before"));
    assert!(!node.has("lost"));
    // A restart takes it up again.
    let node = node.restart(config()).await;
    assert!(node.has("before"));
    node.create("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_only_upkeep_and_deletes_are_taken_and_below_the_floor_nothing() {
    let mut limits = config();
    limits.space_reserve_bytes = 64 * 1024;
    limits.space_floor_bytes = 8 * 1024;
    let node = TestNode::founded_with(limits).await;
    node.create("a").await;
    let delete = || vec![Operation::DeleteEntry { id: EntryId::new("a").unwrap(), revoke: None }];
    let free = || node.handle.health().free_space_bytes;
    node.disk.set_capacity(Some(1 << 40));
    eventually("free space is looked at", || free().is_some_and(|free| free < 1 << 40)).await;
    let used = (1 << 40) - free().unwrap();

    node.disk.set_capacity(Some(used + 4 * 1024));
    eventually("the disk is full but for the last", || free().is_some_and(|free| free < 8 * 1024)).await;
    let refused = node.handle.propose(proposal(delete())).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoSpace { reserve: 8_192, .. }), "{refused}");

    node.disk.set_capacity(Some(used + 48 * 1024));
    eventually("there is some room again", || free() > Some(8 * 1024)).await;
    let refused = node.handle.propose(proposal(vec![create("b")])).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoSpace { reserve: 65_536, .. }), "{refused}");
    let mixed = [delete(), vec![create("b")]].concat();
    let refused = node.handle.propose(proposal(mixed)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoSpace { reserve: 65_536, .. }), "{refused}");
    assert!(node.propose(delete()).await.outcome.results[0].is_ok());
    let applied = node.propose(vec![Operation::PruneAuthorities]).await;
    assert!(applied.outcome.results[0].is_ok(), "the authority's own upkeep (properties 4 and 5)");
    assert!(!node.has("a"));
    assert!(node.handle.role().borrow().is_leader(), "nothing has ended");

    node.disk.set_capacity(None);
    eventually("there is room again", || node.handle.health().takes_proposals()).await;
    node.create("b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_says_so_to_whoever_asks_for_a_linearizable_read() {
    let node = TestNode::founded().await;
    node.handle.shutdown().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let refused = node.handle.ensure_linearizable(deadline).await.unwrap_err();
    assert!(refused.to_string().contains("shut down"), "{refused}");
}

/// A command of a newer version, committed by members that know it: this one must neither skip it nor guess.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_apply_a_command_stops_instead_of_diverging() {
    let node = TestNode::founded().await;
    let cluster = node.handle.cluster().unwrap();
    node.handle.shutdown().await;
    let disk = node.disk.restart();
    let identity = WalIdentity { cluster: *cluster.as_bytes(), member: 1 };
    let log = std::path::Path::new(DATA_DIR).join("log");
    let options = WalOptions { drive: Drive::Inline, ..WalOptions::default() };
    let (wal, recovered) = Wal::open(Arc::new(disk.clone()), &log, identity, options).unwrap();
    let last = recovered.last.unwrap();
    let log_id = LogId { index: last.index + 1, ..last };
    // A batch of one command of format 99.
    let body = bytes::Bytes::from_static(&[0x0a, 0x04, 0x08, 99, 0x10, 1]);
    wal.append(vec![Record { log_id, kind: 1, body }], Box::new(|result| result.unwrap())).unwrap();
    wal.save_committed(log_id).unwrap();
    wal.close().unwrap();
    let refused = Consensus::start(config(), sources(&node.clock), Arc::new(disk), no_peers()).await.unwrap_err();
    let text = with_causes(&refused);
    assert!(text.contains(&format!("log index {}", log_id.index)), "{text}");
    assert!(text.contains("upgrade this node"), "{text}");
}

#[tokio::test]
async fn a_node_whose_disk_hangs_still_stops_and_keeps_its_directory_for_itself() {
    let node = TestNode::founded().await;
    let before = node.handle.health().last_log_index;
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_secs(8))));
    let handle = node.handle.clone();
    let waiting = tokio::spawn(async move { handle.propose(proposal(vec![create("stuck")])).await });
    eventually("the log has the write", || node.handle.health().last_log_index > before).await;
    // In virtual time every limit passes at once, and a wait without one never ends.
    tokio::time::pause();
    tokio::time::timeout(Duration::from_secs(60), node.handle.shutdown()).await.unwrap();
    tokio::time::resume();
    assert!(node.handle.role().borrow().is_stopped());
    let outcome = waiting.await.unwrap();
    assert!(outcome.is_err(), "{outcome:?}");
}
