//! From an empty directory to a sole voter, and back again after a restart.

use std::time::Duration;

use quorate_raft_consensus::{Consensus, ProposeError, Role, StartError};
use quorate_raft_store::disk::Slowness;

use crate::support::{DATA_DIR, TestNode, config, create, member_node, no_peers, proposal, sources};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_waits_and_refuses_proposals() {
    let node = TestNode::empty().await;
    assert_eq!(*node.handle.role().borrow(), Role::Unfounded);
    assert_eq!(node.handle.cluster(), None);
    let refused = node.handle.propose(proposal(vec![create("a")])).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Unfounded), "{refused}");
    assert!(!node.handle.wait_for_leadership(Duration::from_millis(50)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sole_voter_elects_itself_at_once_ele_11() {
    let node = TestNode::empty().await;
    let founded = node.handle.found(&member_node()).await.unwrap();
    assert!(node.handle.role().borrow().is_leader());
    assert_eq!(node.handle.cluster(), Some(founded.cluster));
    assert_eq!(node.handle.member(), Some(founded.member));
    assert_eq!(node.handle.leader(), Some(founded.member));
}

#[tokio::test(flavor = "multi_thread")]
async fn founding_twice_gives_the_same_cluster() {
    let node = TestNode::empty().await;
    let first = node.handle.found(&member_node()).await.unwrap();
    assert_eq!(node.handle.found(&member_node()).await.unwrap(), first);
    let node = node.restart(config()).await;
    assert_eq!(node.handle.found(&member_node()).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn founding_that_broke_off_anywhere_is_completed_by_the_next_try_wal_18() {
    // How many steps a founding takes on the disk is found out by one that works.
    let whole = TestNode::empty().await;
    let before = whole.disk.operations();
    whole.handle.found(&member_node()).await.unwrap();
    let steps = whole.disk.operations() - before;
    for cut in 0..steps {
        let node = TestNode::empty().await;
        node.disk.stop_after(cut);
        let first = node.handle.found(&member_node()).await;
        let disk = node.disk.restart();
        let again = TestNode::start(disk, config()).await;
        let second = again.handle.found(&member_node()).await.unwrap_or_else(|error| panic!("cut at {cut}: {error:?}"));
        if let Ok(first) = first {
            assert_eq!(first, second, "cut at {cut}");
        }
        again.found().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_leader_wins_again_in_a_new_term_ele_03() {
    let node = TestNode::founded().await;
    let before = node.handle.health().term;
    let node = node.restart(config()).await;
    let after = node.handle.health().term;
    assert!(after > before, "term {before}, then {after}: the office was resumed without an election");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_office_is_announced_only_when_it_is_confirmed_and_caught_up_ele_07() {
    let node = TestNode::founded().await;
    for number in 0..20 {
        node.create(&format!("e{number}")).await;
    }
    let killed = node.disk.copy_after_kill();
    killed.set_slowness(Some(Slowness::Real(Duration::from_millis(50))));
    let again = TestNode::start(killed, config()).await;
    let mut role = again.handle.role();
    role.wait_for(Role::is_leader).await.unwrap();
    let health = again.handle.health();
    assert_eq!(health.applied_index, health.last_log_index, "{health:?}");
    assert!(again.has("e19"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_started_member_is_never_taken_for_an_unfounded_node() {
    let node = TestNode::founded().await;
    node.handle.shutdown().await;
    let again = TestNode::start(node.disk.restart(), config()).await;
    assert_ne!(*again.handle.role().borrow(), Role::Unfounded);
    // Proposed before the election is over: it waits for it.
    again.create("at-once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_directory_is_refused() {
    let node = TestNode::empty().await;
    let second = Consensus::start(config(), sources(&node.clock), std::sync::Arc::new(node.disk.clone()), no_peers())
        .await
        .unwrap_err();
    let StartError::Directory { directory, source } = second else { panic!("{second}") };
    assert_eq!(directory.to_str(), Some(DATA_DIR));
    assert!(source.to_string().contains("in use"), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_is_gone_does_not_start_as_if_it_were_new_wal_18() {
    let node = TestNode::founded().await;
    node.handle.shutdown().await;
    let disk = node.disk.restart();
    for name in ["mark", "s-1.wal"] {
        disk.remove(format!("{DATA_DIR}/log/{name}")).unwrap();
    }
    let refused =
        Consensus::start(config(), sources(&node.clock), std::sync::Arc::new(disk), no_peers()).await.unwrap_err();
    let text = format!("{refused:?}");
    assert!(matches!(refused, StartError::Engine(_)), "{text}");
}
