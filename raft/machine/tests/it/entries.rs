//! Registration entries: create, update, delete, prune (spire-api.md section 7).

use std::sync::Arc;

use quorate_proto_identity::{TrustDomain, UnixSeconds};
use quorate_raft_machine::entry::{
    DNS_NAMES_PER_ENTRY, ENTRY_BYTES_LIMIT, HINT_LIMIT, PRUNED_ENTRIES_PER_OPERATION, SELECTORS_PER_ENTRY,
    SHORTEST_X509_SVID_TTL,
};
use quorate_raft_machine::{
    AdditionalAttributes, Done, EntryChange, EntryDraft, EntryFilter, Event, Operation, RefusalCode,
};

use crate::world::{World, create, draft, draft_under, entry_id, id, selectors};

fn update(entry: &str, change: EntryChange) -> Operation {
    Operation::UpdateEntry { id: entry_id(entry), change: Box::new(change) }
}

/// A draft with every field set.
fn full(entry: &str) -> EntryDraft {
    EntryDraft {
        x509_svid_ttl: 600,
        jwt_svid_ttl: 60,
        admin: true,
        downstream: true,
        expires_at: Some(UnixSeconds(crate::world::START + 1_000)),
        dns_names: vec!["b.example.org".to_owned(), "*.a.example.org".to_owned()],
        store_svid: true,
        hint: "internal".to_owned(),
        additional_attributes: Some(AdditionalAttributes {
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: true,
        }),
        ..draft(entry, "/full", &["unix:uid:1", "unix:gid:2"])
    }
}

#[test]
fn a_new_entry_gets_revision_0_the_logs_time_and_the_next_creation_number() {
    let mut world = World::founded();
    world.take_events();
    world.now += 5;
    let done = world.one(create(full("a")));
    let created_at = UnixSeconds(world.now);
    assert_eq!(done, Ok(Done::EntryCreated { id: entry_id("a"), creation_number: 1, created_at }));
    let entry = world.state.entry(&entry_id("a")).unwrap();
    assert_eq!(*entry, full("a").into_entry(created_at, 1));
    assert_eq!((entry.revision_number, entry.dns_names[0].as_str()), (0, "b.example.org"), "names keep their order");
    assert_eq!(world.take_events(), [Event::EntryChanged { id: entry_id("a"), before: None, after: Some(entry) }]);
    world.one(Operation::DeleteEntry { id: entry_id("a"), revoke: None }).unwrap();
    let Ok(Done::EntryCreated { creation_number, .. }) = world.one(create(full("a"))) else { unreachable!() };
    assert_eq!(creation_number, 2, "a creation number is never given again");
}

#[test]
fn a_similar_entry_is_answered_with_the_one_that_is_there() {
    let mut world = World::founded();
    world.one(create(draft("a", "/w", &["unix:uid:1", "unix:gid:2"]))).unwrap();
    world.take_events();
    let mut similar = draft("b", "/w", &["unix:gid:2", "unix:uid:1", "unix:uid:1"]);
    similar.hint = "other fields do not matter".to_owned();
    assert_eq!(world.one(create(similar)), Ok(Done::EntryExists { id: entry_id("a") }));
    assert_eq!((world.state.entry_count(), world.take_events()), (1, vec![]));
    for different in [
        draft("c", "/w", &["unix:uid:1"]),
        draft("d", "/other", &["unix:uid:1", "unix:gid:2"]),
        draft_under("/w", "e", "/w", &["unix:uid:1", "unix:gid:2"]),
    ] {
        assert!(matches!(world.one(create(different)), Ok(Done::EntryCreated { .. })));
    }
}

#[test]
fn of_several_alike_entries_the_first_created_is_answered() {
    let mut world = World::founded();
    world.one(create(draft("b", "/w", &["unix:uid:1"]))).unwrap();
    world.one(create(draft("a", "/w", &["unix:uid:2"]))).unwrap();
    let alike = EntryChange { selectors: Some(selectors(&["unix:uid:1"])), ..EntryChange::default() };
    world.one(update("a", alike)).unwrap();
    let again = create(draft("c", "/w", &["unix:uid:1"]));
    assert_eq!(world.one(again), Ok(Done::EntryExists { id: entry_id("b") }));
}

#[test]
fn a_taken_id_is_refused() {
    let mut world = World::founded();
    world.one(create(draft("a", "/w", &["unix:uid:1"]))).unwrap();
    let message = world.refused_with(create(draft("a", "/v", &["unix:uid:1"])), RefusalCode::AlreadyExists);
    assert!(message.contains("entry ID a"), "{message}");
}

#[test]
fn every_update_counts_the_revision_up_and_changes_only_what_is_given() {
    let mut world = World::founded();
    world.one(create(full("a"))).unwrap();
    let before = world.state.entry(&entry_id("a")).unwrap();
    world.take_events();
    world.now += 9;
    let nothing = update("a", EntryChange::default());
    assert_eq!(world.one(nothing), Ok(Done::EntryUpdated { id: entry_id("a"), revision_number: 1 }));
    let after = world.state.entry(&entry_id("a")).unwrap();
    assert_eq!(*after, quorate_raft_machine::Entry { revision_number: 1, ..(*before).clone() });
    assert_eq!(
        world.take_events(),
        [Event::EntryChanged { id: entry_id("a"), before: Some(before.clone()), after: Some(after) }]
    );

    let change = EntryChange {
        expires_at: Some(None),
        dns_names: Some(vec![]),
        additional_attributes: Some(None),
        hint: Some("other".to_owned()),
        ..EntryChange::default()
    };
    world.one(update("a", change)).unwrap();
    let expected = quorate_raft_machine::Entry {
        revision_number: 2,
        expires_at: None,
        dns_names: vec![],
        additional_attributes: None,
        hint: "other".to_owned(),
        ..(*before).clone()
    };
    assert_eq!(*world.state.entry(&entry_id("a")).unwrap(), expected);

    let all = EntryChange::everything(EntryDraft { admin: false, ..draft("ignored", "/new", &["unix:uid:9"]) });
    world.one(update("a", all)).unwrap();
    let mut replaced = draft("a", "/new", &["unix:uid:9"]).into_entry(before.created_at, 1);
    replaced.revision_number = 3;
    assert_eq!(*world.state.entry(&entry_id("a")).unwrap(), replaced);
}

#[test]
fn what_is_not_there_is_neither_updated_nor_deleted() {
    let mut world = World::founded();
    world.refused_with(update("a", EntryChange::default()), RefusalCode::NotFound);
    world.refused_with(Operation::DeleteEntry { id: entry_id("a"), revoke: None }, RefusalCode::NotFound);
}

#[test]
fn a_deleted_entry_is_gone_and_the_event_carries_it() {
    let mut world = World::founded();
    world.one(create(full("a"))).unwrap();
    let before = world.state.entry(&entry_id("a"));
    world.take_events();
    assert_eq!(
        world.one(Operation::DeleteEntry { id: entry_id("a"), revoke: None }),
        Ok(Done::EntryDeleted { id: entry_id("a"), revocation: None })
    );
    assert_eq!(world.state.entry(&entry_id("a")), None);
    assert_eq!(world.take_events(), [Event::EntryChanged { id: entry_id("a"), before, after: None }]);
}

#[test]
fn each_rule_of_registration_is_kept_on_create_and_on_update() {
    let foreign = quorate_proto_identity::SpiffeId::parse("spiffe://other.org/w").unwrap();
    let many: Vec<String> = (0..=SELECTORS_PER_ENTRY).map(|uid| format!("unix:uid:{uid}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let big: Vec<String> = (0..9).map(|n| format!("unix:path:{n}{}", "x".repeat(ENTRY_BYTES_LIMIT / 9))).collect();
    let big: Vec<&str> = big.iter().map(String::as_str).collect();
    let cases: Vec<(EntryChange, RefusalCode, &str)> = vec![
        (EntryChange { parent_id: Some(foreign.clone()), ..EntryChange::default() }, RefusalCode::Invalid, "parent_id"),
        (EntryChange { spiffe_id: Some(foreign), ..EntryChange::default() }, RefusalCode::Invalid, "spiffe_id"),
        (EntryChange { parent_id: Some(id("")), ..EntryChange::default() }, RefusalCode::Invalid, "no path"),
        (EntryChange { spiffe_id: Some(id("")), ..EntryChange::default() }, RefusalCode::Invalid, "no path"),
        (EntryChange { spiffe_id: Some(id("/spire")), ..EntryChange::default() }, RefusalCode::Invalid, "reserved"),
        (
            EntryChange { spiffe_id: Some(id("/spire/nodes")), ..EntryChange::default() },
            RefusalCode::Invalid,
            "reserved",
        ),
        (
            EntryChange { spiffe_id: Some(id("/spire/agent/x")), ..EntryChange::default() },
            RefusalCode::Invalid,
            "reserved",
        ),
        (
            EntryChange { selectors: Some(selectors(&[])), ..EntryChange::default() },
            RefusalCode::Invalid,
            "at least one",
        ),
        (EntryChange { selectors: Some(selectors(&many)), ..EntryChange::default() }, RefusalCode::Invalid, "129"),
        (EntryChange { selectors: Some(selectors(&big)), ..EntryChange::default() }, RefusalCode::Invalid, "bytes"),
        (EntryChange { x509_svid_ttl: Some(1 << 31), ..EntryChange::default() }, RefusalCode::Invalid, "x509_svid_ttl"),
        (EntryChange { x509_svid_ttl: Some(1), ..EntryChange::default() }, RefusalCode::Invalid, "without a gap"),
        (EntryChange { jwt_svid_ttl: Some(1 << 31), ..EntryChange::default() }, RefusalCode::Invalid, "jwt_svid_ttl"),
        (
            EntryChange { hint: Some("x".repeat(HINT_LIMIT + 1)), ..EntryChange::default() },
            RefusalCode::Invalid,
            "hint has 1025 bytes",
        ),
        (
            EntryChange { hint: Some("ü".repeat(HINT_LIMIT / 2 + 1)), ..EntryChange::default() },
            RefusalCode::Invalid,
            "hint has 1026 bytes",
        ),
        (
            EntryChange { dns_names: Some(vec!["a_b".to_owned()]), ..EntryChange::default() },
            RefusalCode::Invalid,
            "dns_names",
        ),
        (
            EntryChange { dns_names: Some(vec!["a".to_owned(); DNS_NAMES_PER_ENTRY + 1]), ..EntryChange::default() },
            RefusalCode::Invalid,
            "dns_names",
        ),
        (
            EntryChange {
                federates_with: Some([TrustDomain::new("other.org").unwrap()].into()),
                ..EntryChange::default()
            },
            RefusalCode::WrongState,
            "no bundle of trust domain other.org",
        ),
        (
            EntryChange { federates_with: Some([crate::world::domain()].into()), ..EntryChange::default() },
            RefusalCode::Invalid,
            "own trust domain",
        ),
        (
            EntryChange {
                store_svid: Some(true),
                selectors: Some(selectors(&["unix:uid:1", "k8s:ns:a"])),
                ..EntryChange::default()
            },
            RefusalCode::Invalid,
            "store_svid",
        ),
        (
            EntryChange {
                store_svid: Some(true),
                additional_attributes: Some(Some(AdditionalAttributes {
                    disable_x509_svid_prefetch: true,
                    jwt_svid_include_jti: false,
                })),
                ..EntryChange::default()
            },
            RefusalCode::Invalid,
            "exclude each other",
        ),
    ];
    let mut world = World::founded();
    world.one(create(draft("a", "/w", &["unix:uid:1"]))).unwrap();
    for (change, code, expected) in cases {
        let mut drafted = draft("b", "/v", &["unix:uid:2"]);
        drafted.spiffe_id = change.spiffe_id.clone().unwrap_or(drafted.spiffe_id);
        drafted.parent_id = change.parent_id.clone().unwrap_or(drafted.parent_id);
        drafted.selectors = change.selectors.clone().unwrap_or(drafted.selectors);
        drafted.x509_svid_ttl = change.x509_svid_ttl.unwrap_or_default();
        drafted.jwt_svid_ttl = change.jwt_svid_ttl.unwrap_or_default();
        drafted.hint = change.hint.clone().unwrap_or_default();
        drafted.dns_names = change.dns_names.clone().unwrap_or_default();
        drafted.federates_with = change.federates_with.clone().unwrap_or_default();
        drafted.store_svid = change.store_svid.unwrap_or_default();
        drafted.additional_attributes = change.additional_attributes.unwrap_or_default();
        for operation in [create(drafted), update("a", change)] {
            let message = world.refused_with(operation, code);
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }
}

/// SB-13, and the least lifetime that can be renewed.
#[test]
fn what_lies_on_a_limit_is_taken() {
    let mut world = World::founded();
    let mut longest = draft("a", "/a", &["unix:uid:1"]);
    longest.hint = "ü".repeat(HINT_LIMIT / 2);
    longest.x509_svid_ttl = SHORTEST_X509_SVID_TTL;
    longest.jwt_svid_ttl = 1;
    assert!(matches!(world.one(create(longest)), Ok(Done::EntryCreated { .. })));
}

#[test]
fn node_ids_aliases_and_workloads_may_be_parents() {
    let mut world = World::founded();
    for (n, parent) in
        ["/spire/nodes", "/spire/server", "/spire/agent/quorate/node-1", "/spire", "/a/workload"].iter().enumerate()
    {
        let drafted = draft_under(parent, &format!("e{n}"), "/w", &["unix:uid:1"]);
        assert!(matches!(world.one(create(drafted)), Ok(Done::EntryCreated { .. })), "{parent}");
    }
}

#[test]
fn expired_entries_go_a_bounded_number_at_a_time_the_earliest_first() {
    let mut world = World::founded();
    let mut operations = Vec::new();
    let count = PRUNED_ENTRIES_PER_OPERATION + 20;
    for n in 0..count {
        let mut drafted = draft(&format!("e{n}"), &format!("/w{n}"), &["unix:uid:1"]);
        drafted.expires_at = Some(UnixSeconds(world.now + 100 - i64::try_from(n % 50).unwrap()));
        operations.push(create(drafted));
    }
    operations.push(create(draft("forever", "/forever", &["unix:uid:1"])));
    let halves = operations.split_off(count / 2);
    world.all(operations);
    world.all(halves);
    assert_eq!(world.one(Operation::PruneExpiredEntries), Ok(Done::EntriesPruned { count: 0, more: false }));
    assert_eq!(world.state.next_entry_expiry(), Some(UnixSeconds(world.now + 51)));
    world.now += 51;
    assert_eq!(
        world.one(Operation::PruneExpiredEntries),
        Ok(Done::EntriesPruned { count: 0, more: false }),
        "the last second belongs to it"
    );
    world.now += 100;
    let full = u64::try_from(PRUNED_ENTRIES_PER_OPERATION).unwrap();
    assert_eq!(world.one(Operation::PruneExpiredEntries), Ok(Done::EntriesPruned { count: full, more: true }));
    let left = world.state.list(&EntryFilter::default(), 0, 100);
    assert!(left.iter().filter_map(|entry| entry.expires_at).all(|end| end == UnixSeconds(crate::world::START + 100)));
    assert_eq!(world.one(Operation::PruneExpiredEntries), Ok(Done::EntriesPruned { count: 20, more: false }));
    assert_eq!(world.state.entry_count(), 1);
    let pruned = world.take_events();
    assert!(pruned.iter().any(|event| matches!(event, Event::EntryChanged { after: None, before: Some(_), .. })));
}

#[test]
fn entries_survive_in_order_while_most_of_their_neighbours_are_deleted() {
    let mut world = World::founded();
    let mut events = Vec::new();
    for n in 0..2_000_u32 {
        let operation = create(draft(&format!("e{n}"), &format!("/w/{}", n % 300), &[&format!("unix:uid:{n}")]));
        let command = world.command(vec![operation]);
        world.state.apply(u64::from(n) + 10, &command, &mut events);
    }
    let keep = |n: u32| n.is_multiple_of(37) || (900..910).contains(&n);
    for n in (0..2_000).filter(|n| !keep(*n)) {
        let command = world.command(vec![Operation::DeleteEntry { id: entry_id(&format!("e{n}")), revoke: None }]);
        world.state.apply(u64::from(n) + 3_000, &command, &mut events);
    }
    world.one(create(draft("last", "/last", &["unix:uid:1"]))).unwrap();
    let listed: Vec<Arc<quorate_raft_machine::Entry>> = world.state.list(&EntryFilter::default(), 0, usize::MAX);
    let mut expected: Vec<String> = (0..2_000).filter(|n| keep(*n)).map(|n| format!("e{n}")).collect();
    expected.push("last".to_owned());
    assert_eq!(listed.iter().map(|entry| entry.id.as_str().to_owned()).collect::<Vec<_>>(), expected);
    for entry in listed {
        assert_eq!(world.state.entry(&entry.id), Some(entry));
    }
}
