//! Which entries entitle a workload on a node (design section 5).

use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::{EntryChange, Event, NodeScope, Operation};

use crate::world::{
    World, create, domain, draft, draft_under, entitled_by_reading, entry_id, id, member, number, selectors,
};

const OWN: &str = "/spire/agent/quorate/node-1";
const OTHER: &str = "/spire/agent/quorate/node-2";

fn founded_with(entries: &[(&str, &str, &str, &[&str])]) -> World {
    let mut world = World::founded();
    for (parent, entry, path, texts) in entries {
        world.one(create(draft_under(parent, entry, path, texts))).unwrap();
    }
    world.take_events();
    world
}

#[test]
fn a_workload_needs_every_selector_of_an_entry() {
    let world = founded_with(&[
        ("/spire/nodes", "one", "/one", &["unix:uid:1"]),
        ("/spire/nodes", "both", "/both", &["unix:uid:1", "unix:gid:2"]),
        ("/spire/nodes", "other", "/other", &["unix:uid:3"]),
    ]);
    assert_eq!(world.entitled(&["unix:uid:1", "unix:gid:2", "unix:user:x"]), ["one", "both"]);
    assert_eq!(world.entitled(&["unix:uid:1"]), ["one"]);
    assert_eq!(world.entitled(&["unix:gid:2"]), Vec::<String>::new());
    assert_eq!(world.entitled(&[]), Vec::<String>::new());
}

#[test]
fn a_node_serves_its_own_entries_and_those_of_all_nodes_and_no_other_nodes() {
    let mut world = founded_with(&[
        (OWN, "own", "/own", &["unix:uid:1"]),
        (OTHER, "others", "/others", &["unix:uid:1"]),
        ("/spire/nodes", "all", "/all", &["unix:uid:1"]),
        ("/spire/server", "alias", "/alias", &["unix:uid:1"]),
    ]);
    assert_eq!(world.entitled(&["unix:uid:1"]), ["own", "all"]);
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    let entitled =
        world.state.entitled(&world.scope(2), &selectors(&["unix:uid:1"]), world.seconds(), usize::MAX).entitlements;
    let ids: Vec<&str> = entitled.iter().map(|entitlement| entitlement.entry_id.as_str()).collect();
    assert_eq!(ids, ["others", "all"]);
}

#[test]
fn node_selectors_come_from_the_replicated_record() {
    let scope = NodeScope::of_member(&domain(), &member("node-1")).unwrap();
    assert_eq!(scope.id(), &id(OWN));
    let expected =
        selectors(&["quorate:name:node-1", "quorate:region:eu-west", "quorate:zone:a", "quorate:label:rack:7"]);
    assert_eq!(scope.selectors(), &expected);
    let mut bare = member("node-1");
    bare.region.clear();
    bare.zone.clear();
    bare.labels.clear();
    let scope = NodeScope::of_member(&domain(), &bare).unwrap();
    assert_eq!(scope.selectors(), &selectors(&["quorate:name:node-1"]));
}

#[test]
fn an_alias_brings_its_entries_to_every_node_it_matches() {
    let world = founded_with(&[
        ("/spire/server", "alias", "/region/eu", &["quorate:region:eu-west"]),
        ("/spire/server", "elsewhere", "/region/us", &["quorate:region:us-east"]),
        ("/region/eu", "eu", "/eu", &["unix:uid:1"]),
        ("/region/us", "us", "/us", &["unix:uid:1"]),
    ]);
    assert_eq!(world.entitled(&["unix:uid:1"]), ["eu"]);
    assert_eq!(world.entitled(&["unix:uid:1", "quorate:region:eu-west"]), ["eu"], "the alias itself is not served");
}

#[test]
fn descendants_are_served_through_any_depth_and_a_cycle_is_walked_once() {
    let world = founded_with(&[
        (OWN, "a", "/a", &["unix:uid:1"]),
        ("/a", "b", "/b", &["unix:uid:2"]),
        ("/b", "c", "/c", &["unix:uid:3"]),
        ("/c", "back", "/a", &["unix:uid:4"]),
        ("/lost", "d", "/d", &["unix:uid:1"]),
        ("/d", "round", "/lost", &["unix:uid:1"]),
        ("/self", "self", "/self", &["unix:uid:1"]),
    ]);
    assert_eq!(world.entitled(&["unix:uid:1", "unix:uid:2", "unix:uid:3", "unix:uid:4"]), ["a", "b", "c", "back"]);
}

#[test]
fn a_new_link_in_the_middle_brings_the_whole_branch_and_its_loss_takes_it() {
    let mut world = founded_with(&[("/b", "c", "/c", &["unix:uid:3"]), ("/c", "d", "/d", &["unix:uid:3"])]);
    assert_eq!(world.entitled(&["unix:uid:3"]), Vec::<String>::new());
    world.one(create(draft_under("/a", "b", "/b", &["unix:uid:2"]))).unwrap();
    assert_eq!(world.entitled(&["unix:uid:3"]), Vec::<String>::new());
    world.take_events();
    world.one(create(draft_under("/spire/nodes", "a", "/a", &["unix:uid:1"]))).unwrap();
    assert_eq!(world.entitled(&["unix:uid:3"]), ["c", "d"]);
    assert_eq!(world.take_events().last(), Some(&Event::ScopesChanged));

    let aside = EntryChange { parent_id: Some(id("/elsewhere")), ..EntryChange::default() };
    world.one(Operation::UpdateEntry { id: entry_id("b"), change: Box::new(aside) }).unwrap();
    assert_eq!(world.entitled(&["unix:uid:3"]), Vec::<String>::new());
    assert_eq!(world.take_events().last(), Some(&Event::ScopesChanged));
    let back = EntryChange { parent_id: Some(id("/a")), ..EntryChange::default() };
    world.one(Operation::UpdateEntry { id: entry_id("b"), change: Box::new(back) }).unwrap();
    assert_eq!(world.entitled(&["unix:uid:3"]), ["c", "d"]);
    world.one(Operation::DeleteEntry { id: entry_id("a"), revoke: None }).unwrap();
    assert_eq!(world.entitled(&["unix:uid:3"]), Vec::<String>::new());
}

#[test]
fn an_entry_that_changes_no_scope_says_so_by_its_own_event_alone() {
    let mut world = founded_with(&[(OWN, "a", "/a", &["unix:uid:1"])]);
    world.one(create(draft("b", "/b", &["unix:uid:1"]))).unwrap();
    let hint = EntryChange { hint: Some("x".to_owned()), ..EntryChange::default() };
    world.one(Operation::UpdateEntry { id: entry_id("a"), change: Box::new(hint) }).unwrap();
    world.one(Operation::DeleteEntry { id: entry_id("b"), revoke: None }).unwrap();
    assert!(!world.take_events().contains(&Event::ScopesChanged));
}

#[test]
fn the_first_entry_ever_under_a_node_is_served_at_once() {
    let mut world = World::founded();
    let scope = world.scope(1);
    let ask = |world: &World| {
        world.state.entitled(&scope, &selectors(&["unix:uid:1"]), world.seconds(), 9).entitlements.len()
    };
    assert_eq!(ask(&world), 0);
    world.one(create(draft_under(OWN, "a", "/a", &["unix:uid:1"]))).unwrap();
    assert_eq!(ask(&world), 1);
    world.one(create(draft_under("/a", "b", "/b", &["unix:uid:1"]))).unwrap();
    assert_eq!(ask(&world), 2);
    world.one(Operation::DeleteEntry { id: entry_id("a"), revoke: None }).unwrap();
    assert_eq!(ask(&world), 0);
}

#[test]
fn what_has_expired_entitles_nobody_and_reaches_nothing() {
    let mut world = World::founded();
    let end = UnixSeconds(world.now + 10);
    for (parent, entry, path, texts) in [
        ("/spire/nodes", "ends", "/ends", &["unix:uid:1"][..]),
        ("/spire/server", "alias", "/alias", &["quorate:name:node-1"]),
    ] {
        let mut drafted = draft_under(parent, entry, path, texts);
        drafted.expires_at = Some(end);
        world.one(create(drafted)).unwrap();
    }
    world.one(create(draft_under("/ends", "child", "/child", &["unix:uid:1"]))).unwrap();
    world.one(create(draft_under("/alias", "aliased", "/aliased", &["unix:uid:1"]))).unwrap();
    let scope = world.scope(1);
    let ask = |world: &World, now: UnixSeconds| {
        let entitled = world.state.entitled(&scope, &selectors(&["unix:uid:1"]), now, 9).entitlements;
        entitled.into_iter().map(|entitlement| entitlement.entry_id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&world, end), ["ends", "child", "aliased"]);
    assert_eq!(ask(&world, end.plus(1)), Vec::<String>::new());
    assert_eq!(ask(&world, end), ["ends", "child", "aliased"], "the walk before is not taken for this instant");
    let later = EntryChange { expires_at: Some(Some(end.plus(10))), ..EntryChange::default() };
    world.one(Operation::UpdateEntry { id: entry_id("ends"), change: Box::new(later) }).unwrap();
    assert_eq!(ask(&world, end.plus(1)), ["ends", "child"]);
}

#[test]
fn an_answer_is_cut_in_the_order_of_creation_and_says_how_much_is_left_out() {
    let mut world = World::founded();
    for n in 0..100 {
        world.one(create(draft(&format!("e{n}"), &format!("/w{}", 99 - n), &["unix:uid:1"]))).unwrap();
    }
    let entitled = world.state.entitled(&world.scope(1), &selectors(&["unix:uid:1"]), world.seconds(), 30);
    assert_eq!(entitled.left_out, 70);
    let numbers: Vec<u64> = entitled.entitlements.iter().map(|entitlement| entitlement.creation_number).collect();
    assert_eq!(numbers, (1..=30).collect::<Vec<u64>>());
}

#[test]
fn an_entitlement_tells_every_version_of_an_entry_apart() {
    let mut world = founded_with(&[(OWN, "a", "/a", &["unix:uid:1"])]);
    let ask = |world: &World| {
        world.state.entitled(&world.scope(1), &selectors(&["unix:uid:1"]), world.seconds(), 9).entitlements
    };
    let first = ask(&world);
    world.one(Operation::UpdateEntry { id: entry_id("a"), change: Box::default() }).unwrap();
    let updated = ask(&world);
    assert_eq!((first[0].revision_number, updated[0].revision_number), (0, 1));
    world.one(Operation::DeleteEntry { id: entry_id("a"), revoke: None }).unwrap();
    world.one(create(draft_under(OWN, "a", "/a", &["unix:uid:1"]))).unwrap();
    let recreated = ask(&world);
    assert_eq!((recreated[0].revision_number, recreated[0].created_at), (0, first[0].created_at));
    assert_ne!(recreated, first, "the creation number tells them apart within one second");
}

#[test]
fn whether_an_entry_is_in_scope_is_the_same_question() {
    let mut world = founded_with(&[
        (OWN, "own", "/own", &["unix:uid:1"]),
        (OTHER, "others", "/others", &["unix:uid:1"]),
        ("/own", "child", "/child", &["unix:uid:1"]),
        ("/spire/server", "alias", "/alias", &["quorate:zone:a"]),
        ("/alias", "aliased", "/aliased", &["unix:uid:1"]),
    ]);
    let in_scope = |world: &World, entry: &str| {
        let entry = world.state.entry(&entry_id(entry)).unwrap();
        world.state.in_scope(&world.scope(1), &entry, world.seconds())
    };
    let answers = ["own", "others", "child", "alias", "aliased"].map(|entry| in_scope(&world, entry));
    assert_eq!(answers, [true, false, true, false, true]);
    let own = world.state.entry(&entry_id("own")).unwrap();
    world.one(Operation::DeleteEntry { id: entry_id("own"), revoke: None }).unwrap();
    assert!(world.state.in_scope(&world.scope(1), &own, world.seconds()), "known by its parent, gone or not");
    assert!(!in_scope(&world, "child"));
}

#[test]
fn many_entries_under_popular_selectors_are_found_as_by_reading_all() {
    let mut world = World::founded();
    let mut events = Vec::new();
    for n in 0..1_500_u32 {
        let parent = ["/spire/nodes", OWN, OTHER, "/w/3", "/w/4"][n as usize % 5];
        let uid = format!("unix:uid:{}", n % 3);
        let gid = format!("unix:gid:{}", n % 7);
        let texts: Vec<&str> = if n % 2 == 0 { vec![&uid] } else { vec![&uid, &gid] };
        let operation = create(draft_under(parent, &format!("e{n}"), &format!("/w/{}", n % 100), &texts));
        let command = world.command(vec![operation]);
        world.state.apply(u64::from(n), &command, &mut events);
    }
    let scope = world.scope(1);
    for texts in [&["unix:uid:0"][..], &["unix:uid:1", "unix:gid:3", "unix:gid:4"], &["unix:gid:1"]] {
        let held = selectors(texts);
        let entitled = world.state.entitled(&scope, &held, world.seconds(), usize::MAX);
        let found: Vec<_> = entitled.entitlements.into_iter().map(|entitlement| entitlement.entry_id).collect();
        assert_eq!(found, entitled_by_reading(&world.state, &scope, &held, world.seconds()));
    }
}

/// Design section 5: node selectors come from the replicated membership, so they change when the record does.
#[test]
fn a_scope_follows_the_record_of_its_member() {
    let mut world = founded_with(&[
        ("/spire/server", "alias-zone", "/of-zone", &["quorate:zone:a"]),
        ("/spire/server", "alias-label", "/of-label", &["quorate:label:rack:8"]),
        ("/of-zone", "in-zone", "/x", &["unix:uid:1"]),
        ("/of-label", "in-label", "/y", &["unix:uid:1"]),
        (OWN, "own", "/own", &["unix:uid:1"]),
    ]);
    assert_eq!(world.entitled(&["unix:uid:1"]), ["in-zone", "own"]);
    let mut moved = world.state.member(number(1)).unwrap().record.clone();
    moved.zone = "b".to_owned();
    moved.labels = [("rack".to_owned(), "8".to_owned())].into();
    world.take_events();
    world.one(Operation::SetMember { number: Some(number(1)), member: Box::new(moved.clone()) }).unwrap();
    assert_eq!(world.take_events(), [Event::MemberChanged { number: number(1) }], "what tells a node to look afresh");
    assert_eq!(world.entitled(&["unix:uid:1"]), ["in-label", "own"]);
    moved.name = quorate_proto_identity::NodeName::new("renamed").unwrap();
    world.one(Operation::SetMember { number: Some(number(1)), member: Box::new(moved) }).unwrap();
    assert_eq!(world.entitled(&["unix:uid:1"]), ["in-label"], "what hung under the old name does no more");
}

#[test]
fn a_member_that_leaves_keeps_its_scope_until_it_has_gone() {
    let mut world = founded_with(&[(OWN, "own", "/own", &["unix:uid:1"])]);
    world.one(Operation::SetMember { number: None, member: Box::new(crate::world::member("node-2")) }).unwrap();
    world.one(Operation::RemoveMember { number: number(1), compromised: false }).unwrap();
    assert_eq!(world.entitled(&["unix:uid:1"]), ["own"], "whether it may serve is decided by its issuing certificate");
}
