//! The plan of the membership: whatever happens on the way, the Raft group comes to what is wanted, in the orders of
//! design section 3 (sealing).

mod model;

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_raft_machine::{MemberRole, MemberStatus, MembershipPlan, Operation, Recipient, Step};

use crate::world::number;
use model::Cluster;

const VOTER: Option<MemberRole> = Some(MemberRole::Voter);
const LEARNER: Option<MemberRole> = Some(MemberRole::Learner);

fn numbers(members: &[u64]) -> BTreeSet<quorate_proto_identity::MemberNumber> {
    members.iter().map(|member| number(*member)).collect()
}

fn kinds(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| format!("{step:?}").replace("MemberNumber", "")).collect()
}

/// Section 3: the token keys are sealed to the newcomer before its first issuing certificate can be signed; promotion
/// seals the root keys, then changes the membership.
#[test]
fn a_voter_that_was_invited_comes_in_by_these_steps() {
    let mut cluster = Cluster::founded();
    cluster.invite("node-2", VOTER, "");
    cluster.away.insert(number(2));
    assert_eq!(cluster.next(), [Step::SealTokens { member: number(2) }, Step::AddLearner { member: number(2) }]);
    cluster.run(2);
    assert_eq!(cluster.next(), [], "it has not caught up");
    cluster.away.clear();
    assert_eq!(cluster.next(), [Step::SealRoots { member: number(2) }]);
    cluster.run(1);
    assert_eq!(cluster.next(), [Step::AddVoter { member: number(2) }]);
    cluster.run(1);
    assert_eq!((cluster.next(), cluster.voters_now()), (vec![], numbers(&[1, 2])));
}

/// A secret that was put while a member joined has no part for it, though it has every token key.
#[test]
fn a_secret_that_a_member_cannot_open_is_sealed_to_it() {
    let mut cluster = Cluster::of_voters(&["", ""]);
    assert_eq!(cluster.next(), []);
    let name = quorate_raft_machine::SecretName::new("acme/account").unwrap();
    let put = |members: &[u64]| Operation::PutSecret { name: name.clone(), sealed: crate::world::sealed_to(members) };
    cluster.world.one(put(&[1])).unwrap();
    assert_eq!(cluster.next(), [Step::SealTokens { member: number(2) }]);
    cluster.world.one(put(&[1, 2])).unwrap();
    assert_eq!(cluster.next(), []);
}

#[test]
fn a_demotion_changes_the_group_first_and_a_removal_ends_when_the_group_let_go() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.role(3, MemberRole::Learner);
    assert_eq!(cluster.next(), [Step::DemoteVoter { member: number(3) }]);
    cluster.run(1);
    assert_eq!(cluster.next(), [Step::StripRootSeals { member: number(3) }]);
    cluster.run(1);
    assert_eq!(cluster.next(), []);
    cluster.remove(2, true);
    for expected in [
        Step::DemoteVoter { member: number(2) },
        Step::DropFromRaft { member: number(2) },
        Step::CompleteRemoval { member: number(2) },
    ] {
        assert_eq!(cluster.next().first(), Some(&expected));
        cluster.run(1);
    }
    assert_eq!(cluster.world.state.member(number(2)).unwrap().record.status, MemberStatus::Compromised);
    assert_eq!(cluster.voters_now(), numbers(&[1]));
}

#[test]
fn a_leader_that_is_to_go_hands_over_first() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.remove(1, false);
    assert_eq!(cluster.next(), [Step::TransferLeadership { from: number(1), to: number(2) }]);
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[2, 3]));
    assert_eq!(cluster.world.state.member(number(1)).unwrap().record.status, MemberStatus::Removed);
}

#[test]
fn learners_become_voters_two_at_a_time_up_to_the_plan_and_over_regions() {
    let mut cluster = Cluster::founded();
    cluster.invite("node-2", None, "");
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1]), "two voters survive no more losses than one");
    for (name, region) in [("node-3", "eu-west"), ("node-4", "us"), ("node-5", "ap")] {
        cluster.invite(name, None, region);
    }
    cluster.settle();
    // node-1 stands in eu-west. node-2, of which nothing is told, counts as a place of its own.
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 4]));
    cluster.plan(5);
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 3, 4, 5]));
    cluster.plan(3);
    cluster.settle();
    assert_eq!(cluster.voters_now().len(), 3, "and back");
    assert!(cluster.voters_now().contains(&number(1)), "the leader stays");
}

#[test]
fn voters_move_to_where_they_are_spread_better() {
    let mut cluster = Cluster::of_voters(&["eu", "eu", "eu"]);
    cluster.invite("node-4", None, "us");
    cluster.settle();
    assert_eq!(cluster.regions(), [("eu".to_owned(), 2), ("us".to_owned(), 1)]);
    cluster.invite("node-5", None, "ap");
    cluster.settle();
    assert_eq!(cluster.regions(), [("ap".to_owned(), 1), ("eu".to_owned(), 1), ("us".to_owned(), 1)]);
}

#[test]
fn a_dead_voter_is_replaced_after_the_grace_and_comes_back_as_a_learner() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.invite("node-4", None, "");
    cluster.invite("node-5", LEARNER, "");
    cluster.settle();
    cluster.away.insert(number(3));
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 3]), "it may only be restarting");
    cluster.dead.insert(number(3));
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 4]), "node-5 stays the learner that it was invited as");
    assert!(!cluster.root_recipients().contains(&Recipient::Member(number(3))));
    cluster.heal();
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 4]));
    assert!(cluster.learners.contains(&number(3)));
}

#[test]
fn a_voter_that_leaves_in_good_order_waits_for_who_takes_its_place_and_a_compromised_one_does_not() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.invite("node-4", None, "");
    cluster.settle();
    cluster.remove(3, false);
    assert_eq!(kinds(&cluster.next()), ["SetRole { member: (4), role: Voter }"]);
    let mut least = usize::MAX;
    while cluster.run(1) > 0 {
        least = least.min(cluster.voters_now().len());
    }
    assert_eq!((least, cluster.voters_now()), (3, numbers(&[1, 2, 4])));
    cluster.invite("node-5", None, "");
    cluster.settle();
    cluster.remove(4, true);
    assert_eq!(cluster.next().first(), Some(&Step::DemoteVoter { member: number(4) }));
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 5]));
}

#[test]
fn without_automatic_roles_change_by_command_alone() {
    let mut cluster = Cluster::founded();
    let plan = MembershipPlan { automatic: false, ..MembershipPlan::default() };
    cluster.world.one(Operation::SetPlan(plan)).unwrap();
    cluster.invite("node-2", None, "");
    cluster.invite("node-3", None, "");
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1]));
    cluster.role(3, MemberRole::Voter);
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 3]));
}

#[test]
fn no_step_is_offered_that_would_cost_the_quorum() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.away.insert(number(3));
    cluster.remove(2, true);
    assert_eq!(cluster.next(), [], "the one that is left of two would be no majority");
    cluster.heal();
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 3]));
}

#[test]
fn a_change_of_voters_that_stands_half_way_is_completed_before_another_begins() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.role(3, MemberRole::Learner);
    cluster.voters.push(numbers(&[1, 2]));
    cluster.invite("node-4", VOTER, "");
    let steps = cluster.next();
    assert_eq!(steps.first(), Some(&Step::SettleVoters { voters: numbers(&[1, 2]) }));
    assert_eq!(steps.iter().filter(|step| step.changes_voters()).count(), 1);
    cluster.learners.insert(number(3));
    cluster.settle();
    assert_eq!(cluster.voters_now(), numbers(&[1, 2, 4]));
}

/// Half a promotion: the seals of one root are there, its leader is gone, and a new root was prepared meanwhile.
#[test]
fn seals_that_are_missing_are_made_by_whoever_leads() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.prepare_root(&[1]);
    let seal = |member| Step::SealRoots { member: number(member) };
    assert_eq!(cluster.next(), [seal(2), seal(3)]);
    cluster.run(1);
    cluster.leader = number(2);
    assert_eq!(cluster.next(), [seal(3)]);
    cluster.settle();
    cluster.set_recovery_key();
    assert_eq!(cluster.next(), [Step::SealRecovery]);
    cluster.settle();
    assert_eq!(cluster.root_recipients().len(), 4);
}

#[test]
fn a_leader_that_cannot_open_what_signs_hands_over_to_one_that_can() {
    let mut cluster = Cluster::of_voters(&["", "", ""]);
    cluster.prepare_root(&[2]);
    assert_eq!(cluster.next(), [Step::TransferLeadership { from: number(1), to: number(2) }]);
    cluster.settle();
    assert_eq!(cluster.root_recipients().len(), 3);
}

/// What happens to a cluster: operators, deaths, changes of leader, and a leader that does some of what it is told.
#[derive(Debug, Clone)]
enum Act {
    Invite(u8, u8),
    Role(u8, bool),
    Remove(u8, bool),
    Plan(u32, bool),
    Recovery,
    Root(u8),
    ActivateRoot,
    TokenKey(u8),
    Away(u8, bool),
    Heal,
    Lead,
    Steps(u8, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..4_u8, 0..4_u8).prop_map(|(role, region)| Act::Invite(role, region)),
        2 => (0..8_u8, any::<bool>()).prop_map(|(member, voter)| Act::Role(member, voter)),
        2 => (0..8_u8, any::<bool>()).prop_map(|(member, compromised)| Act::Remove(member, compromised)),
        1 => (1..6_u32, any::<bool>()).prop_map(|(voters, automatic)| Act::Plan(voters, automatic)),
        1 => Just(Act::Recovery),
        1 => any::<u8>().prop_map(Act::Root),
        1 => Just(Act::ActivateRoot),
        1 => any::<u8>().prop_map(Act::TokenKey),
        2 => (0..8_u8, any::<bool>()).prop_map(|(member, dead)| Act::Away(member, dead)),
        1 => Just(Act::Heal),
        2 => Just(Act::Lead),
        8 => (0..5_u8, any::<bool>()).prop_map(|(count, dies)| Act::Steps(count, dies)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// From any state, with leaders that die after any step or in the middle of one, the group comes to rest where it is
    /// wanted. On the way no member votes to which the roots that sign are not sealed, voters change one at a time, and
    /// every change leaves a quorum that is there; at rest roots are sealed to voters alone (checked by the model).
    #[test]
    fn the_group_always_comes_to_what_is_wanted(acts in proptest::collection::vec(act(), 1..60)) {
        let mut cluster = Cluster::founded();
        for act in &acts {
            cluster.act(act);
        }
        cluster.settle();
        cluster.check_rest_with_absent();
        cluster.heal();
        cluster.settle();
        cluster.check_rest();
    }
}
