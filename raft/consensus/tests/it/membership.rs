//! Who takes part in Raft, and who may change it.

use std::collections::BTreeSet;

use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::MembershipChangeError;
use tokio::time::Instant;

use crate::support::{PATIENCE, cluster::Cluster, eventually};

fn number(number: u64) -> MemberNumber {
    MemberNumber::new(number).unwrap()
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test]
async fn every_member_knows_who_takes_part_and_the_leader_how_far_each_is_behind() {
    let mut cluster = Cluster::of(3).await;
    cluster.add_learner(4).await;
    let leader = cluster.leader_number().await;
    for member in cluster.members.values() {
        eventually("the membership is known", || {
            let members = member.handle.raft_members();
            members.voters == [BTreeSet::from([1, 2, 3])] && members.learners == BTreeSet::from([4])
        })
        .await;
    }
    let leads = cluster.handle(leader);
    for other in (1..=4).filter(|other| *other != leader) {
        eventually("the member has the whole log", || leads.caught_up(number(other)) == Some(0)).await;
        assert_eq!(cluster.handle(other).caught_up(number(leader)), None, "member {other} sends its log to nobody");
    }
    assert_eq!(leads.caught_up(number(77)), None);
}

#[tokio::test]
async fn voters_are_replaced_while_writes_go_on_and_who_is_dropped_gets_no_log() {
    let mut cluster = Cluster::of(3).await;
    cluster.add_learner(4).await;
    let leader = cluster.leader_number().await;
    let gone = (1..=3).find(|other| *other != leader).unwrap();
    let leads = cluster.handle(leader);
    let wanted: BTreeSet<u64> = (1..=4).filter(|other| *other != gone).collect();
    leads.change_voters(wanted.clone(), deadline()).await.unwrap();
    assert_eq!(leads.raft_members().voters, [wanted]);
    assert!(leads.raft_members().learners.contains(&gone), "who was a voter follows the log on");
    cluster.create_at(4, "by-the-new-voter").await;
    leads.drop_from_raft(number(gone), deadline()).await.unwrap();
    assert!(!leads.raft_members().contains(gone));
    leads.drop_from_raft(number(gone), deadline()).await.unwrap();
    let reached = cluster.create_at(leader, "after").await.log_index;
    assert!(cluster.handle(gone).state().applied_index() < reached);
}

#[tokio::test]
async fn only_the_leader_changes_the_membership_and_only_to_one_that_can_be() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let follower = cluster.handle((1..=3).find(|other| *other != leader).unwrap());
    let refused = follower.change_voters([1, 2].into(), deadline()).await;
    assert_eq!(refused, Err(MembershipChangeError::NotLeader { leader: Some(number(leader)) }));
    let refused = follower.add_learner(number(1), deadline()).await;
    assert_eq!(refused, Err(MembershipChangeError::NotLeader { leader: Some(number(leader)) }));
    let leads = cluster.handle(leader);
    let refused = leads.add_learner(number(77), deadline()).await;
    assert_eq!(refused, Err(MembershipChangeError::NotAMember(77)), "the state knows no such member");
    let refused = leads.change_voters([1, 2, 77].into(), deadline()).await;
    assert_eq!(refused, Err(MembershipChangeError::NotAMember(77)));
    let refused = leads.change_voters(BTreeSet::new(), deadline()).await;
    assert_eq!(refused, Err(MembershipChangeError::NoVoters));
    leads.add_learner(number(leader), deadline()).await.unwrap();
    assert_eq!(
        leads.raft_members().voters,
        [BTreeSet::from([1, 2, 3])],
        "who follows the log already stays what it is"
    );
}
