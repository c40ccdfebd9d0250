//! How a node becomes a member, and how it does not (FLT-18, INV-10).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::{
    FoundError, FoundingAnswerer, FoundingStatus, JoinError, Role, limits::JOIN_CONNECTIONS_MAX,
};
use quorate_raft_store::disk::SimulatedDisk;

use crate::support::{
    NOW, PATIENCE, ROOT,
    cluster::{Cluster, at},
    create, eventually, has, member_node,
    net::new_key,
    proposal,
};

#[tokio::test]
async fn an_invitation_admits_once_and_the_same_node_gets_the_same_answer_again() {
    let mut cluster = Cluster::of(1).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    let secret = cluster.invite(2).await;
    let first = cluster.admit(2, secret.clone()).await.unwrap();
    let again = cluster.admit(2, secret.clone()).await.unwrap();
    assert_eq!((first.cluster, first.member, &first.peers), (again.cluster, again.member, &again.peers));
    assert_eq!(first.member.get(), 2);
    assert_eq!(first.peers.len(), 1);
    // The same key and secret on another directory: its disk was lost, and with it its vote (FLT-18).
    cluster.kill(2).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    let refused = cluster.admit(2, secret).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_secret_a_wrong_trust_domain_and_a_wrong_clock_are_each_refused_with_a_reason() {
    let mut cluster = Cluster::of(1).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    let secret = cluster.invite(2).await;
    let refused = cluster.admit(2, Bytes::from_static(b"a guess")).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused { .. }), "{refused:?}");
    let refused = cluster.admit_to(2, "other.example", secret.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("trust domain"), "{refused}");
    cluster.members[&2].clock.set(UnixMillis(NOW.millis().0 + 3_600_000));
    let refused = cluster.admit(2, secret.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("clock is off by 3600"), "{refused}");
    cluster.members[&2].clock.set(NOW.millis());
    cluster.admit(2, secret).await.unwrap();
}

#[tokio::test]
async fn a_stranger_puts_nothing_into_the_log_atk_26() {
    const GUESSES: u8 = 30;
    let mut cluster = Cluster::of(1).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    let leader = cluster.leader().await;
    let before = leader.health().last_log_index.unwrap();
    for guess in 0..GUESSES {
        // The first brings no secret at all.
        let refused = cluster.admit(2, Bytes::from(vec![guess; usize::from(guess)])).await.unwrap_err();
        assert!(matches!(refused, JoinError::Refused { .. }), "{refused:?}");
    }
    // The member may have announced itself meanwhile.
    let grown = leader.health().last_log_index.unwrap() - before;
    assert!(grown < u64::from(GUESSES) / 2, "{grown} entries came of {GUESSES} guesses");
}

#[tokio::test]
async fn a_newcomer_that_was_killed_before_its_first_entry_still_finds_its_peers() {
    let mut cluster = Cluster::of(1).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    let secret = cluster.invite(2).await;
    cluster.join(2, secret).await.unwrap();
    let (disk, clock) = cluster.kill(2).await;
    cluster.start_with(2, disk, clock).await;
    assert_eq!(cluster.handle(2).member().unwrap().get(), 2);
    let leader = cluster.leader().await;
    let number = cluster.handle(2).member().unwrap();
    leader.add_learner(number, tokio::time::Instant::now() + PATIENCE).await.unwrap();
    cluster.create_at(1, "entry").await;
    cluster.until_all_have("entry").await;
}

#[tokio::test]
async fn a_node_that_was_killed_while_it_joined_begins_again_with_the_same_number() {
    let mut cluster = Cluster::of(1).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    let secret = cluster.invite(2).await;
    let first = cluster.admit(2, secret.clone()).await.unwrap();
    let incarnation = cluster.handle(2).begin_joining().await.unwrap();
    let (disk, clock) = cluster.kill(2).await;
    cluster.start_with(2, disk, clock).await;
    assert_eq!(cluster.handle(2).begin_joining().await.unwrap(), incarnation);
    let again = cluster.admit(2, secret).await.unwrap();
    assert_eq!(first.member, again.member);
    cluster.handle(2).join(again).await.unwrap();
}

#[tokio::test]
async fn a_node_that_joins_founds_nothing_and_a_member_joins_nothing() {
    let mut cluster = Cluster::of(1).await;
    cluster.start(2, SimulatedDisk::new(ROOT)).await;
    cluster.handle(2).begin_joining().await.unwrap();
    let refused = cluster.handle(2).found(&member_node()).await.unwrap_err();
    assert!(matches!(refused, FoundError::Directory(_)), "{refused:?}");
    let refused = cluster.handle(1).begin_joining().await.unwrap_err();
    assert!(matches!(refused, JoinError::NotEmpty { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_learner_takes_writes_and_never_votes() {
    let mut cluster = Cluster::of(1).await;
    cluster.add_learner(2).await;
    cluster.create_at(2, "written-at-a-learner").await;
    assert!(has(&cluster.handle(1), "written-at-a-learner"));
    let learner = cluster.handle(2);
    assert!(matches!(*learner.role().borrow(), Role::Learner { .. }), "{:?}", learner.role().borrow());
    cluster.kill(1).await;
    eventually("the learner knows that nobody answers", || {
        !learner.contact().borrow().is_connected_at(tokio::time::Instant::now())
    })
    .await;
    assert!(matches!(*learner.role().borrow(), Role::Learner { .. }), "{:?}", learner.role().borrow());
    let outcome = learner.propose(proposal(vec![create("never")]).within(Duration::from_millis(300))).await;
    assert!(outcome.is_err());
}

#[tokio::test]
async fn members_whose_clocks_differ_know_by_how_much_and_who_is_wrong_alone_does_not_lead_ele_11() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    // The leader's clock goes wrong: the two others agree with each other.
    cluster.members[&leader].clock.set(UnixMillis(NOW.millis().0 + 60_000));
    let deposed = cluster.handle(leader);
    eventually("it does not lead any more", || !deposed.role().borrow().is_leader()).await;
    eventually("somebody else leads", || {
        cluster.members.values().any(|member| member.number != leader && member.handle.role().borrow().is_leader())
    })
    .await;
    eventually("it knows why", || {
        deposed.clock().offset_to_median_millis.is_some_and(|offset| offset.abs_diff(60_000) < 1_000)
    })
    .await;
    cluster.members[&leader].clock.set(NOW.millis());
    eventually("it agrees again", || {
        deposed.clock().offset_to_median_millis.is_some_and(|offset| offset.abs() < 1_000)
    })
    .await;
}

struct Listed;

impl FoundingAnswerer for Listed {
    fn founding(&self, trust_domain: &str, list: &[u8]) -> FoundingStatus {
        FoundingStatus {
            empty: true,
            same_list: trust_domain == "example.org" && list == b"the list",
            name: "node-1".to_owned(),
            member: false,
        }
    }
}

#[tokio::test]
async fn nodes_that_are_founded_together_ask_each_other_how_far_they_are() {
    let cluster = Cluster::of(2).await;
    let target = at(&cluster.members[&1]);
    let ask = async |list: &'static [u8]| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        cluster.handle(2).ask_founding(&target, "example.org", Bytes::from_static(list), deadline).await
    };
    let early = ask(b"the list").await.unwrap_err();
    assert!(matches!(early, JoinError::NotNow { .. }), "{early:?}");
    cluster.handle(1).answer_founding_with(Arc::new(Listed));
    assert!(ask(b"the list").await.unwrap().same_list);
    assert!(!ask(b"another list").await.unwrap().same_list);
}

#[tokio::test]
async fn so_many_newcomers_are_heard_at_a_time_and_members_never_wait_for_them_atk_26() {
    let cluster = Cluster::of(2).await;
    cluster.handle(1).answer_founding_with(Arc::new(Listed));
    let target = at(&cluster.members[&1]);
    let transport = cluster.net.transport_with_key("stranger", new_key());
    let mut held = Vec::new();
    for _ in 0..JOIN_CONNECTIONS_MAX {
        held.push(transport.dial(&target).await.unwrap());
    }
    let ask = async || {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        cluster.handle(2).ask_founding(&target, "example.org", Bytes::new(), deadline).await
    };
    let full = ask().await;
    assert!(full.is_err(), "{full:?}");
    cluster.create_at(2, "members-are-served").await;
    drop(held);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while ask().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "room is made again when newcomers go");
    }
}
