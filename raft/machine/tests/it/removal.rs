//! Removal of members: what is revoked, stripped, kept, and for how long.

use bytes::Bytes;
use quorate_raft_machine::members::GONE_MEMBERS_LIMIT;
use quorate_raft_machine::{Done, Event, MemberRole, MemberStatus, Operation, Recipient, RefusalCode, SecretName};

use crate::world::{World, member, number, sealed_to};

fn remove(member: u64, compromised: bool) -> Operation {
    Operation::RemoveMember { number: number(member), compromised }
}

fn complete(member: u64) -> Operation {
    Operation::CompleteRemoval { number: number(member) }
}

fn status(world: &World, member: u64) -> MemberStatus {
    world.state.member(number(member)).unwrap().record.status
}

/// A state with two voters, everything sealed to both.
fn two() -> World {
    let mut world = World::founded();
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    let root = world.active_root().id();
    let key = world.state.active_jwt_authority().unwrap().id.clone();
    let parts = || sealed_to(&[2]).parts;
    world.one(Operation::SealX509Authority { id: root, parts: parts() }).unwrap();
    world.one(Operation::SealJwtAuthority { id: key, parts: parts() }).unwrap();
    world
}

/// Property 4: what a member may sign with is in the log, and taken from it there.
#[test]
fn a_removal_revokes_at_once_and_the_member_is_a_peer_until_it_is_complete() {
    let mut world = two();
    let root = world.active_root();
    let issuing = world.issuing(&root, 2, 20);
    world.one(Operation::RecordIssuingCertificate(Box::new(issuing))).unwrap();
    assert_eq!(world.state.live_members(world.seconds()), [number(2)]);
    assert_eq!(world.one(remove(2, false)), Ok(Done::MemberLeaving { number: number(2), revoked: 1 }));
    assert_eq!(world.state.live_members(world.seconds()), []);
    assert_eq!(status(&world, 2), MemberStatus::Leaving);
    assert_eq!(world.state.member_by_name(&member("node-2").name).unwrap().number, number(2), "the name is taken");
    assert_eq!(world.one(remove(2, false)), Ok(Done::MemberLeaving { number: number(2), revoked: 0 }));
    assert_eq!(world.one(complete(2)), Ok(Done::MemberGone { number: number(2) }));
    assert_eq!(status(&world, 2), MemberStatus::Removed);
    assert_eq!(world.one(complete(2)), Ok(Done::MemberGone { number: number(2) }), "another leader was faster");
}

/// INV-11, and property 6: of who has gone no seal is left, and nothing can be sealed to it.
#[test]
fn nothing_is_sealed_to_a_member_that_leaves_and_nothing_stays_sealed_to_one_that_has_gone() {
    let mut world = two();
    let secret = SecretName::new("acme/account").unwrap();
    world.one(Operation::PutSecret { name: secret.clone(), sealed: sealed_to(&[1, 2]) }).unwrap();
    world.one(remove(2, true)).unwrap();
    assert_eq!(status(&world, 2), MemberStatus::LeavingCompromised);
    let new = quorate_raft_machine::NewJwtAuthority {
        sealed: sealed_to(&[1, 2]),
        ..crate::world::jwt_key("jwt-2", world.now, 120)
    };
    let message = world.refused_with(Operation::PrepareJwtAuthority(Box::new(new)), RefusalCode::Invalid);
    assert!(message.contains("member 2, which is leaving, compromised"), "{message}");
    world.take_events();
    world.one(complete(2)).unwrap();
    let events = world.take_events();
    assert!(events.contains(&Event::MemberChanged { number: number(2) }), "{events:?}");
    assert_eq!(events.len(), 4, "its seals of a root, of a token key and of a secret went: {events:?}");
    let own = Recipient::Member(number(2));
    let root = world.state.active_x509_authority().unwrap().sealed.clone().unwrap();
    let key = world.state.active_jwt_authority().unwrap().sealed.clone().unwrap();
    assert!(root.part_for(&own).is_none() && key.part_for(&own).is_none());
    let sealed = &world.state.secret(&secret).unwrap().sealed;
    assert!(sealed.part_for(&own).is_none() && sealed.part_for(&Recipient::Member(number(1))).is_some());
    assert_eq!(status(&world, 2), MemberStatus::Compromised);
}

#[test]
fn a_member_may_turn_out_to_be_compromised_while_it_leaves_or_after() {
    let mut world = two();
    world.one(remove(2, false)).unwrap();
    world.one(remove(2, true)).unwrap();
    assert_eq!(status(&world, 2), MemberStatus::LeavingCompromised);
    world.one(remove(2, false)).unwrap();
    assert_eq!(status(&world, 2), MemberStatus::LeavingCompromised, "that is not taken back");
    let mut world = two();
    world.one(remove(2, false)).unwrap();
    world.one(complete(2)).unwrap();
    world.one(remove(2, true)).unwrap();
    assert_eq!(status(&world, 2), MemberStatus::Compromised);
}

#[test]
fn the_last_voter_and_the_last_that_can_open_what_signs_cannot_go() {
    let mut world = World::founded();
    let message = world.refused_with(remove(1, false), RefusalCode::WrongState);
    assert!(message.contains("last voter"), "{message}");
    world.refused_with(complete(1), RefusalCode::WrongState);
    world.refused_with(remove(9, false), RefusalCode::NotFound);
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    world.one(remove(1, false)).unwrap();
    let message = world.refused_with(complete(1), RefusalCode::WrongState);
    assert!(message.contains("nobody but member 1 could open it"), "{message}");
}

#[test]
fn of_a_member_that_has_gone_its_name_and_key_are_kept_and_no_more() {
    let mut world = two();
    let before = world.state.member(number(2)).unwrap().record.clone();
    world.one(remove(2, false)).unwrap();
    world.one(complete(2)).unwrap();
    let gone = world.state.member(number(2)).unwrap();
    assert_eq!((&gone.record.name, &gone.record.identity_key), (&before.name, &before.identity_key));
    assert_eq!(gone.record.sealing_key, Bytes::new());
    assert!(gone.record.addresses.is_empty() && gone.record.labels.is_empty() && gone.record.region.is_empty());
    assert_eq!((gone.record.incarnation, gone.invitation), (None, None));
    assert_eq!(world.state.member_by_key(&before.identity_key).unwrap().number, number(2));
    let again = Operation::SetMember {
        number: None,
        member: Box::new(quorate_raft_machine::MemberDraft { role: MemberRole::Learner, ..before }),
    };
    world.refused_with(again, RefusalCode::AlreadyExists);
}

/// Property 9.
#[test]
fn only_so_many_that_have_gone_are_remembered() {
    let mut world = World::founded();
    let mut events = Vec::new();
    for n in 2..=u64::try_from(GONE_MEMBERS_LIMIT).unwrap() + 3 {
        let command = world.command(vec![
            Operation::SetMember { number: None, member: Box::new(member("passing")) },
            remove(n, false),
            complete(n),
        ]);
        world.log_index += 1;
        let outcome = world.state.apply(world.log_index, &command, &mut events);
        assert!(outcome.results.iter().all(Result::is_ok), "{outcome:?}");
    }
    let numbers: Vec<_> = world.state.members().map(|member| member.number).collect();
    assert_eq!(numbers.len(), GONE_MEMBERS_LIMIT + 1);
    assert_eq!(numbers[..2], [number(1), number(4)], "those that went first are forgotten");
    world.one(Operation::PruneExpiredEntries).unwrap();
}
