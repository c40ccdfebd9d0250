//! Members: numbers, names, keys.

use quorate_raft_machine::members::MEMBERS_LIMIT;
use quorate_raft_machine::{Done, Event, MemberDraft, MemberRole, MemberStatus, Operation, RefusalCode};

use crate::world::{Change, World, member, number};

fn admit(name: &str) -> Operation {
    Operation::SetMember { number: None, member: Box::new(member(name)) }
}

/// Removes a member that is in no Raft group.
fn remove(world: &mut World, member: u64) {
    world.one(Operation::RemoveMember { number: number(member), compromised: false }).unwrap();
    world.one(Operation::CompleteRemoval { number: number(member) }).unwrap();
}

#[test]
fn numbers_are_given_in_apply_and_never_again() {
    let mut world = World::founded();
    world.take_events();
    assert_eq!(world.one(admit("node-2")), Ok(Done::MemberSet { number: number(2) }));
    assert_eq!(world.take_events(), [Event::MemberChanged { number: number(2) }]);
    let name = world.state.member(number(2)).unwrap().record.name.clone();
    remove(&mut world, 2);
    assert_eq!(world.one(admit("node-2")), Ok(Done::MemberSet { number: number(3) }), "the name is free again");
    assert_eq!(world.state.member_by_name(&name).unwrap().number, number(3));

    let mut removed = world.state.member(number(2)).unwrap().record.clone();
    removed.status = MemberStatus::Admitted;
    let back = Operation::SetMember { number: Some(number(2)), member: Box::new(removed) };
    let message = world.refused_with(back, RefusalCode::WrongState);
    assert!(message.contains("brings nobody back"), "{message}");
}

#[test]
fn a_change_keeps_the_number_and_counts_the_revision_up() {
    let mut world = World::founded();
    let mut changed = world.state.member(number(1)).unwrap().record.clone();
    changed.addresses = vec!["10.0.0.1:8082".to_owned()];
    changed.role_pinned = true;
    let change = Operation::SetMember { number: Some(number(1)), member: Box::new(changed.clone()) };
    world.one(change).unwrap();
    let member = world.state.member(number(1)).unwrap();
    assert_eq!((&member.record, member.revision), (&changed, 1));
}

#[test]
fn names_and_keys_stay_apart_and_keys_never_change() {
    let mut world = World::founded();
    let message = world.refused_with(admit("node-1"), RefusalCode::AlreadyExists);
    assert!(message.contains("node-1"), "{message}");
    let first = world.state.member(number(1)).unwrap().record.clone();

    let mut same_key = member("node-2");
    same_key.identity_key = first.identity_key.clone();
    let operation = Operation::SetMember { number: None, member: Box::new(same_key) };
    world.refused_with(operation, RefusalCode::AlreadyExists);

    let mut other_key = first;
    other_key.identity_key = member("x").identity_key;
    let operation = Operation::SetMember { number: Some(number(1)), member: Box::new(other_key) };
    world.refused_with(operation, RefusalCode::Invalid);

    for status in [MemberStatus::Removed, MemberStatus::Leaving] {
        let mut removed = world.state.member(number(1)).unwrap().record.clone();
        removed.status = status;
        let operation = Operation::SetMember { number: Some(number(1)), member: Box::new(removed) };
        let message = world.refused_with(operation, RefusalCode::WrongState);
        assert!(message.contains("removes nobody"), "{message}");
    }
    let mut elsewhere = world.state.member(number(1)).unwrap().record.clone();
    elsewhere.incarnation = Some([9; 16]);
    let operation = Operation::SetMember { number: Some(number(1)), member: Box::new(elsewhere) };
    world.refused_with(operation, RefusalCode::Invalid);

    let unknown = Operation::SetMember { number: Some(number(9)), member: Box::new(member("node-9")) };
    world.refused_with(unknown, RefusalCode::NotFound);
}

#[test]
fn there_are_at_most_so_many_members_and_a_removal_makes_room() {
    let mut world = World::founded();
    let mut events = Vec::new();
    for n in 1..MEMBERS_LIMIT {
        let command = world.command(vec![admit(&format!("node-{}", n + 1))]);
        world.log_index += 1;
        let outcome = world.state.apply(world.log_index, &command, &mut events);
        assert!(outcome.results[0].is_ok(), "{outcome:?}");
    }
    world.refused_with(admit("one-too-many"), RefusalCode::LimitReached);
    remove(&mut world, 2);
    let next = number(u64::try_from(MEMBERS_LIMIT).unwrap() + 1);
    assert_eq!(world.one(admit("in-its-place")), Ok(Done::MemberSet { number: next }), "numbers are not given again");
}

#[test]
fn records_beyond_a_limit_are_refused() {
    let cases: [Change<MemberDraft>; 15] = [
        |m| {
            m.sealing_key = bytes::Bytes::new();
            m.incarnation = Some([1; 16]);
        },
        |m| m.region = "x".repeat(256),
        |m| m.zone = "x".repeat(256),
        |m| m.build = "x".repeat(256),
        |m| m.labels = (0..65).map(|label| (label.to_string(), "x".to_owned())).collect(),
        |m| m.labels = [("a:b".to_owned(), "x".to_owned())].into(),
        |m| m.labels = [("a".to_owned(), String::new())].into(),
        |m| m.addresses = vec!["a:1".to_owned(); 17],
        |m| m.addresses = vec![String::new()],
        |m| m.region = " ".to_owned(),
        |m| m.zone = "a\n".to_owned(),
        |m| m.build = "a\u{1b}[2Jb".to_owned(),
        |m| m.labels = [("a".to_owned(), "\t".to_owned())].into(),
        |m| m.labels = [(" a".to_owned(), "x".to_owned())].into(),
        |m| m.addresses = vec!["a:1\r".to_owned()],
    ];
    let mut world = World::founded();
    for change in cases {
        let mut record = member("node-2");
        change(&mut record);
        world.refused_with(Operation::SetMember { number: None, member: Box::new(record) }, RefusalCode::Invalid);
    }
}

fn announce(member: u64, version: u32, addresses: &[&str]) -> Operation {
    Operation::AnnounceMember {
        number: number(member),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        version,
        build: "0.2.0".to_owned(),
        serves: quorate_raft_machine::MemberServices::default(),
    }
}

#[test]
fn a_member_announces_its_addresses_and_version_and_says_nothing_new_in_vain() {
    let mut world = World::founded();
    world.take_events();
    world.one(announce(1, 1, &["10.0.0.7:8082"])).unwrap();
    let member = world.state.member(number(1)).unwrap().clone();
    assert_eq!((member.revision, member.record.build.as_str()), (1, "0.2.0"));
    assert_eq!(member.record.addresses, ["10.0.0.7:8082"]);
    assert_eq!(world.take_events(), [Event::MemberChanged { number: number(1) }]);
    world.one(announce(1, 1, &["10.0.0.7:8082"])).unwrap();
    assert_eq!(world.state.member(number(1)), Some(&member));
    assert_eq!(world.take_events(), []);
    world.refused_with(announce(1, 1, &[""]), RefusalCode::Invalid);
    world.refused_with(announce(7, 1, &["a:1"]), RefusalCode::NotFound);
    world.one(admit("node-2")).unwrap();
    remove(&mut world, 2);
    world.refused_with(announce(2, 1, &["a:1"]), RefusalCode::WrongState);
}

#[test]
fn a_role_is_set_and_pinned_but_somebody_is_always_to_vote() {
    let mut world = World::founded();
    let role = |member, role, pinned| Operation::SetMemberRole { number: number(member), role, pinned };
    let message = world.refused_with(role(1, MemberRole::Learner, true), RefusalCode::WrongState);
    assert!(message.contains("last voter"), "{message}");
    world.one(admit("node-2")).unwrap();
    world.one(role(1, MemberRole::Learner, true)).unwrap();
    let record = &world.state.member(number(1)).unwrap().record;
    assert_eq!((record.role, record.role_pinned), (MemberRole::Learner, true));
    world.refused_with(role(2, MemberRole::Learner, false), RefusalCode::WrongState);
    world.one(role(1, MemberRole::Voter, false)).unwrap();
    remove(&mut world, 2);
    world.refused_with(role(2, MemberRole::Voter, true), RefusalCode::WrongState);
}
