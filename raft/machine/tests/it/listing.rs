//! Listings, pages and counts (spire-api.md section 7, semantics).

use quorate_raft_machine::{EntryFilter, MatchMode, Operation};

use crate::world::{World, create, draft, draft_under, entry_id, id, selectors};

fn filled() -> World {
    let mut world = World::founded();
    for n in 0..60 {
        let parent = ["/spire/nodes", "/p1", "/p2"][n % 3];
        let uid = format!("unix:uid:{}", n % 4);
        let gid = format!("unix:gid:{}", n % 5);
        let mut drafted = draft_under(parent, &format!("e{n}"), &format!("/w{}", n % 10), &[&uid, &gid]);
        drafted.downstream = n % 2 == 0;
        // What stands before the hint in a record, there and not there.
        drafted.x509_svid_ttl = u32::try_from(n % 3).unwrap() * 600;
        drafted.jwt_svid_ttl = u32::try_from(n % 4).unwrap() * 60;
        drafted.expires_at = (n % 7 == 0).then(|| world.seconds().plus(1_000));
        drafted.hint = if n % 10 == 0 { "tenth".to_owned() } else { String::new() };
        world.one(create(drafted)).unwrap();
    }
    for (n, texts) in [&["unix:uid:0"][..], &["unix:rare:1", "unix:uid:0"], &["unix:rare:2"]].iter().enumerate() {
        world.one(create(draft(&format!("r{n}"), "/rare", texts))).unwrap();
    }
    world
}

fn ids(world: &World, filter: &EntryFilter) -> Vec<String> {
    let listed = world.state.list(filter, 0, usize::MAX);
    assert_eq!(world.state.count(filter), listed.len());
    assert!(listed.is_sorted_by_key(|entry| entry.creation_number));
    let all = world.state.list(&EntryFilter::default(), 0, usize::MAX);
    let by_reading: Vec<_> = all.into_iter().filter(|entry| filter.lets_through(entry)).collect();
    assert_eq!(listed, by_reading, "{filter:?}");
    listed.iter().map(|entry| entry.id.as_str().to_owned()).collect()
}

fn by_selectors(texts: &[&str], mode: MatchMode) -> EntryFilter {
    EntryFilter { selectors: Some((selectors(texts), mode)), ..EntryFilter::default() }
}

#[test]
fn without_conditions_everything_comes_in_the_order_of_creation() {
    let world = filled();
    assert_eq!(ids(&world, &EntryFilter::default()).len(), 63);
    assert_eq!(world.state.entry_count(), 63);
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat_while_entries_come_and_go() {
    let mut world = filled();
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let page = world.state.list(&EntryFilter::default(), after, 10);
        let Some(last) = page.last() else { break };
        after = last.creation_number;
        seen.extend(page.iter().map(|entry| entry.creation_number));
        if seen.len() == 50 {
            world.one(Operation::DeleteEntry { id: entry_id("e5"), revoke: None }).unwrap();
            world.one(create(draft("new", "/new", &["unix:uid:1"]))).unwrap();
        }
    }
    assert_eq!(seen, (1..=64).collect::<Vec<u64>>());
}

#[test]
fn ids_are_matched_exactly_and_conditions_are_joined() {
    let world = filled();
    let spiffe_id = EntryFilter { spiffe_id: Some(id("/w3")), ..EntryFilter::default() };
    assert_eq!(ids(&world, &spiffe_id).len(), 6);
    let parent = EntryFilter { parent_id: Some(id("/p1")), ..EntryFilter::default() };
    assert_eq!(ids(&world, &parent).len(), 20);
    let both = EntryFilter { spiffe_id: Some(id("/w3")), parent_id: Some(id("/p1")), ..EntryFilter::default() };
    assert_eq!(ids(&world, &both), ["e13", "e43"]);
    let unknown = EntryFilter { parent_id: Some(id("/unknown")), ..EntryFilter::default() };
    assert_eq!(ids(&world, &unknown), Vec::<String>::new());
    let foreign = quorate_proto_identity::SpiffeId::parse("spiffe://other.org/w3").unwrap();
    let foreign = EntryFilter { spiffe_id: Some(foreign), ..EntryFilter::default() };
    assert_eq!(ids(&world, &foreign), Vec::<String>::new());
}

#[test]
fn hint_and_downstream_are_matched_exactly() {
    let world = filled();
    let hint = EntryFilter { hint: Some("tenth".to_owned()), ..EntryFilter::default() };
    assert_eq!(ids(&world, &hint).len(), 6);
    let downstream = EntryFilter { downstream: Some(true), ..EntryFilter::default() };
    assert_eq!(ids(&world, &downstream).len(), 30);
    let without = EntryFilter { hint: Some(String::new()), ..EntryFilter::default() };
    assert_eq!(ids(&world, &without).len(), 57);
    let both = EntryFilter { hint: Some("tenth".to_owned()), downstream: Some(false), ..EntryFilter::default() };
    assert_eq!(ids(&world, &both), Vec::<String>::new());
}

#[test]
fn the_four_match_modes_compare_sets_as_the_api_says() {
    let world = filled();
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0"], MatchMode::Exact)), ["r0"]);
    assert_eq!(ids(&world, &by_selectors(&["unix:rare:1", "unix:uid:0"], MatchMode::Exact)), ["r1"]);
    assert_eq!(ids(&world, &by_selectors(&["unix:rare:1", "unix:uid:0"], MatchMode::Subset)), ["r0", "r1"]);
    assert_eq!(ids(&world, &by_selectors(&["unix:rare:1"], MatchMode::Superset)), ["r1"]);
    assert_eq!(ids(&world, &by_selectors(&["unix:rare:1", "unix:rare:2"], MatchMode::Any)), ["r1", "r2"]);
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0"], MatchMode::Superset)).len(), 17);
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0", "unix:gid:0"], MatchMode::Exact)).len(), 3);
}

#[test]
fn selectors_that_no_entry_has_decide_as_a_set_comparison_does() {
    let world = filled();
    let none = Vec::<String>::new();
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0", "no:where"], MatchMode::Exact)), none);
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0", "no:where"], MatchMode::Subset)), ["r0"]);
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0", "no:where"], MatchMode::Superset)), none);
    assert_eq!(ids(&world, &by_selectors(&["unix:uid:0", "no:where"], MatchMode::Any)).len(), 17);
    for mode in [MatchMode::Exact, MatchMode::Subset, MatchMode::Superset, MatchMode::Any] {
        assert_eq!(ids(&world, &by_selectors(&["no:where"], mode)), none);
        assert_eq!(ids(&world, &by_selectors(&[], mode)), none);
    }
}

#[test]
fn federation_is_compared_as_a_set_too() {
    let world = filled();
    let other = quorate_proto_identity::TrustDomain::new("other.org").unwrap();
    for mode in [MatchMode::Exact, MatchMode::Subset, MatchMode::Superset, MatchMode::Any] {
        let filter = EntryFilter { federates_with: Some(([other.clone()].into(), mode)), ..EntryFilter::default() };
        assert_eq!(ids(&world, &filter), Vec::<String>::new());
    }
}
