//! Relationships with foreign trust domains, their bundles, and what becomes of entries.

use quorate_proto_identity::x509::{AuthorityTemplate, Certificate, build_root};
use quorate_proto_identity::{Bundle, EndpointUrl, JwtAuthority, SpiffeId, TrustDomain};
use quorate_raft_machine::federation::{ENTRIES_PER_BUNDLE_DELETION, FOREIGN_BUNDLE_BYTES_LIMIT, RELATIONSHIPS_LIMIT};
use quorate_raft_machine::{
    ApiCredential, ApiServer, BundleFields, Command, Done, Endpoint, EndpointPins, Event, ForeignDeletion,
    ForeignOrigin, NewForeignBundle, NewRelationship, Operation, OperationResult, PollSettings, RefusalCode,
    RelationshipChange, RelationshipOrigin, SecretName, SetHow, SnapshotReader, State, StoredError, invariants,
};

use crate::world::{Change, World, backdated, create, domain, draft, entry_id, key, member, sealed_to, serial};

pub(crate) fn foreign(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

pub(crate) fn peer() -> TrustDomain {
    foreign("peer.example")
}

pub(crate) fn url(text: &str) -> EndpointUrl {
    EndpointUrl::parse(text).unwrap()
}

/// A root of a foreign trust domain.
fn foreign_root(trust_domain: &TrustDomain, from: u64) -> Certificate {
    let template =
        AuthorityTemplate { trust_domain, serial: serial(from), validity: backdated(crate::world::START, 3_600) };
    build_root(&template, &key()).unwrap()
}

/// A bundle with one root and one token key.
pub(crate) fn bundle(trust_domain: &TrustDomain, sequence: Option<u64>) -> Bundle {
    let mut bundle = Bundle::new(trust_domain.clone());
    bundle.add_x509_authority(foreign_root(trust_domain, sequence.unwrap_or(77)));
    bundle.add_jwt_authority(JwtAuthority { key_id: "kid".to_owned(), public_key: key().public_key().clone() });
    bundle.set_sequence(sequence);
    bundle.set_refresh_hint(Some(300));
    bundle
}

pub(crate) fn new_relationship(trust_domain: &TrustDomain) -> NewRelationship {
    NewRelationship {
        trust_domain: trust_domain.clone(),
        endpoint: Endpoint::Spiffe {
            url: url("https://bundles.peer.example/"),
            endpoint_spiffe_id: SpiffeId::from_path(trust_domain, "/spire/server").unwrap(),
        },
        pins: EndpointPins::default(),
        poll: PollSettings::default(),
        origin: RelationshipOrigin::Operator,
        bundle: None,
    }
}

pub(crate) fn create_relationship(trust_domain: &TrustDomain) -> Operation {
    Operation::CreateRelationship(Box::new(new_relationship(trust_domain)))
}

fn set(bundle: &Bundle, how: SetHow) -> Operation {
    Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle: bundle.clone(), how }))
}

/// What was fetched by the relationship as it is now.
fn fetched(world: &World, bundle: &Bundle) -> Operation {
    let relationship_revision = world.state.relationship(bundle.trust_domain()).unwrap().revision;
    set(bundle, SetHow::Fetched { relationship_revision, accept_older: false })
}

fn federated() -> World {
    let mut world = World::founded();
    world.one(create_relationship(&peer())).unwrap();
    world.take_events();
    world
}

fn held(world: &World) -> Option<Option<u64>> {
    world.state.foreign_bundle(&peer()).map(|foreign| foreign.bundle.sequence())
}

fn is_changed(result: OperationResult) -> bool {
    let Ok(Done::ForeignBundleSet { changed, .. }) = result else { unreachable!("{result:?}") };
    changed
}

fn relationship_changed() -> Event {
    Event::RelationshipChanged { trust_domain: peer() }
}

fn bundle_changed() -> Event {
    Event::ForeignBundleChanged { trust_domain: peer() }
}

/// Accepts: FED-16, FED-32, FED-34, FED-43, FED-45, FED-50
#[test]
fn a_relationship_knows_domain_url_and_profile_before_anything_is_fetched() {
    let mut world = World::founded();
    world.take_events();
    let first = bundle(&peer(), Some(3));
    let new = NewRelationship { bundle: Some(first.clone()), ..new_relationship(&peer()) };
    let done = world.one(Operation::CreateRelationship(Box::new(new.clone())));
    assert_eq!(done, Ok(Done::RelationshipSet { trust_domain: peer(), revision: 1 }));
    assert_eq!(world.take_events(), [bundle_changed(), relationship_changed()]);
    let relationship = world.state.relationship(&peer()).unwrap();
    assert_eq!((&relationship.endpoint, relationship.poll.floor), (&new.endpoint, 60));
    assert_eq!((relationship.created_at, relationship.changed_at), (world.seconds(), world.seconds()));
    let held = world.state.foreign_bundle(&peer()).unwrap();
    assert_eq!((held.origin, held.fetched_sequence, &*held.bundle), (ForeignOrigin::Operator, None, &first));
    // It is one way: nothing of ours goes anywhere, and a second one with another domain stands beside it.
    world.one(create_relationship(&foreign("other.example"))).unwrap();
    assert_eq!(world.state.relationships().count(), 2);
}

/// SF-04. Refuses: FED-16, FED-27, FED-43, FED-50
#[test]
fn a_relationship_with_our_own_domain_a_second_one_and_a_foreign_bundle_of_somebody_else_are_refused() {
    let mut world = federated();
    let message = world.refused_with(create_relationship(&domain()), RefusalCode::Invalid);
    assert!(message.contains("our own trust domain"), "{message}");
    world.refused_with(create_relationship(&peer()), RefusalCode::AlreadyExists);
    let other = foreign("other.example");
    let mismatch = NewRelationship { bundle: Some(bundle(&peer(), None)), ..new_relationship(&other) };
    let message = world.refused_with(Operation::CreateRelationship(Box::new(mismatch)), RefusalCode::Invalid);
    assert!(message.contains("other.example is that of peer.example"), "{message}");
    assert!(world.state.relationship(&other).is_none() && world.state.foreign_bundle(&peer()).is_none());
    world.refused_with(set(&bundle(&domain(), Some(1)), SetHow::Set), RefusalCode::Invalid);
}

#[test]
fn a_relationship_that_breaks_a_rule_is_refused_with_the_reason() {
    let mut world = World::founded();
    let cases: [(Change<NewRelationship>, &str); 8] = [
        (|new| new.poll.floor = 0, "least time between two polls"),
        (|new| new.poll.floor = 24 * 3_600 + 1, "least time between two polls"),
        (|new| new.pins.hosts = vec!["Peer.example".to_owned()], "no host to pin"),
        (|new| new.pins.hosts = vec![String::new()], "no host to pin"),
        (|new| new.pins.hosts = vec!["elsewhere.example".to_owned()], "not among those"),
        (|new| new.pins.keys = vec![[1; 32], [1; 32]], "pinned twice"),
        (|new| new.endpoint = api(oauth("", "scope")), "no client_id"),
        (|new| new.endpoint = api(oauth("us", "a\nb")), "scope must have"),
    ];
    for (change, reason) in cases {
        let mut new = new_relationship(&peer());
        change(&mut new);
        let message = world.refused_with(Operation::CreateRelationship(Box::new(new)), RefusalCode::Invalid);
        assert!(message.contains(reason), "{message}");
    }
    let mut new = new_relationship(&peer());
    new.pins.hosts = vec!["bundles.peer.example".to_owned(), "::1".to_owned()];
    new.endpoint = Endpoint::Web { url: url("https://[::1]:9443/bundle?x") };
    world.one(Operation::CreateRelationship(Box::new(new))).unwrap();
}

fn oauth(client_id: &str, scope: &str) -> ApiCredential {
    oauth_with(SecretName::of_relationship(&peer(), "oauth").unwrap(), client_id, scope)
}

fn oauth_with(secret: SecretName, client_id: &str, scope: &str) -> ApiCredential {
    ApiCredential::OAuth {
        token_url: url("https://login.peer.example/token"),
        client_id: client_id.to_owned(),
        scope: scope.to_owned(),
        audience: String::new(),
        secret,
    }
}

fn api(credential: ApiCredential) -> Endpoint {
    Endpoint::Api { url: url("https://api.peer.example/"), server: ApiServer::Web, credential, watch: true }
}

#[test]
fn a_change_keeps_what_it_does_not_name_and_has_a_revision_of_its_own() {
    let mut world = federated();
    let update = |change: RelationshipChange, expected_revision| Operation::UpdateRelationship {
        trust_domain: peer(),
        change: Box::new(change),
        expected_revision,
    };
    let endpoint = api(ApiCredential::MutualTls);
    world.now += 5;
    let change = RelationshipChange { endpoint: Some(endpoint.clone()), ..RelationshipChange::default() };
    let done = world.one(update(change.clone(), 1));
    assert_eq!(done, Ok(Done::RelationshipSet { trust_domain: peer(), revision: 2 }));
    assert_eq!(world.take_events(), [relationship_changed()]);
    let relationship = world.state.relationship(&peer()).unwrap();
    assert_eq!((&relationship.endpoint, relationship.poll), (&endpoint, PollSettings::default()));
    assert_eq!(relationship.changed_at.since(relationship.created_at), 5);
    // The same again says nothing new; one made from an earlier revision is too late.
    world.one(update(change.clone(), 0)).unwrap();
    assert_eq!(world.take_events(), []);
    world.refused_with(update(change, 1), RefusalCode::Conflict);
    let change =
        RelationshipChange { poll: Some(PollSettings { floor: 0, ..PollSettings::default() }), ..Default::default() };
    world.refused_with(update(change, 0), RefusalCode::Invalid);
    let missing = Operation::UpdateRelationship {
        trust_domain: foreign("nobody.example"),
        change: Box::default(),
        expected_revision: 0,
    };
    world.refused_with(missing, RefusalCode::NotFound);
    // A relationship that is made anew has a revision that none had before.
    world.one(Operation::DeleteRelationship { trust_domain: peer() }).unwrap();
    world.one(create_relationship(&peer())).unwrap();
    assert_eq!(world.state.relationship(&peer()).unwrap().revision, 3);
}

/// Accepts: FED-08, FED-09, FED-46, BND-06, BND-12, BND-13
#[test]
fn a_newer_bundle_replaces_the_one_that_is_held_as_a_whole() {
    let mut world = federated();
    let (first, second) = (bundle(&peer(), Some(7)), bundle(&peer(), Some(u64::MAX)));
    let operation = fetched(&world, &first);
    assert!(is_changed(world.one(operation)));
    assert_eq!((world.take_events(), world.state.foreign_version()), (vec![bundle_changed()], 1));
    let operation = fetched(&world, &second);
    assert!(is_changed(world.one(operation)));
    assert_eq!((world.take_events(), world.state.foreign_version()), (vec![bundle_changed()], 2));
    let held = world.state.foreign_bundle(&peer()).unwrap();
    assert_eq!((&*held.bundle, held.fetched_sequence, held.version), (&second, Some(u64::MAX), 2));
    assert_eq!(held.origin, ForeignOrigin::Fetched);
    // Unchanged: nothing to tell anybody.
    let operation = fetched(&world, &second);
    assert!(!is_changed(world.one(operation)));
    assert_eq!((world.take_events(), world.state.foreign_version()), (vec![], 2));
}

/// XB-25, ATK-39. Refuses: FED-08, FED-09, BND-12
#[test]
fn a_fetched_bundle_that_is_older_than_the_last_fetched_one_is_not_taken() {
    let mut world = federated();
    let operation = fetched(&world, &bundle(&peer(), Some(7)));
    world.one(operation).unwrap();
    let before = world.state.state_hash();
    let operation = fetched(&world, &bundle(&peer(), Some(6)));
    let message = world.refused_with(operation, RefusalCode::WrongState);
    assert!(message.contains("sequence number 6, and 7 was fetched before"), "{message}");
    assert_eq!(held(&world), Some(Some(7)));
    assert_ne!(world.state.state_hash(), before, "but for the kept outcome nothing changed");
    // An operator knows that the peer was rebuilt: from there on its new numbers count.
    let relationship_revision = world.state.relationship(&peer()).unwrap().revision;
    let accept = SetHow::Fetched { relationship_revision, accept_older: true };
    world.one(set(&bundle(&peer(), Some(2)), accept)).unwrap();
    assert_eq!((held(&world), floor(&world)), (Some(Some(2)), Some(2)));
    let operation = fetched(&world, &bundle(&peer(), Some(3)));
    world.one(operation).unwrap();
}

fn floor(world: &World) -> Option<u64> {
    world.state.foreign_bundle(&peer()).unwrap().fetched_sequence
}

/// XB-26: taken, and an alarm is due (of the fetcher). Accepts: BND-12, FED-09
#[test]
fn the_same_sequence_with_other_content_is_taken() {
    let mut world = federated();
    for _ in 0..2 {
        let operation = fetched(&world, &bundle(&peer(), Some(7)));
        assert!(is_changed(world.one(operation)));
    }
    assert_eq!(world.state.foreign_version(), 2);
}

/// Accepts: FED-09, BND-11, BND-19
#[test]
fn without_a_sequence_the_one_fetched_last_is_current_and_the_floor_stays() {
    let mut world = federated();
    for sequence in [None, Some(7), None] {
        let operation = fetched(&world, &bundle(&peer(), sequence));
        assert!(is_changed(world.one(operation)));
    }
    assert_eq!((held(&world), floor(&world)), (Some(None), Some(7)));
    let operation = fetched(&world, &bundle(&peer(), Some(6)));
    world.refused_with(operation, RefusalCode::WrongState);
    // All keys revoked: as good as any bundle.
    let mut empty = Bundle::new(peer());
    empty.set_sequence(Some(8));
    let operation = fetched(&world, &empty);
    assert!(is_changed(world.one(operation)));
}

/// ATK-39. Accepts: FED-10
#[test]
fn an_override_stands_until_the_next_fetch_and_does_not_set_the_floor() {
    let mut world = federated();
    let operation = fetched(&world, &bundle(&peer(), Some(7)));
    world.one(operation).unwrap();
    let own = bundle(&peer(), Some(1_000));
    world.one(set(&own, SetHow::Set)).unwrap();
    let held = world.state.foreign_bundle(&peer()).unwrap();
    assert_eq!((held.origin, held.fetched_sequence, &*held.bundle), (ForeignOrigin::Operator, Some(7), &own));
    // What was an operator's is a fetched one when the peer serves the very same.
    let operation = fetched(&world, &own);
    assert!(!is_changed(world.one(operation)));
    assert_eq!((floor(&world), world.state.foreign_version()), (Some(1_000), 2));
    world.one(set(&bundle(&peer(), Some(3)), SetHow::Update(BundleFields::ALL))).unwrap();
    let operation = fetched(&world, &bundle(&peer(), Some(999)));
    world.refused_with(operation, RefusalCode::WrongState);
    let operation = fetched(&world, &bundle(&peer(), Some(1_001)));
    world.one(operation).unwrap();
}

#[test]
fn what_was_fetched_for_a_relationship_that_is_another_by_now_is_not_taken() {
    let mut world = federated();
    let operation = fetched(&world, &bundle(&peer(), Some(7)));
    let change = RelationshipChange { endpoint: Some(api(ApiCredential::None)), ..RelationshipChange::default() };
    world
        .one(Operation::UpdateRelationship { trust_domain: peer(), change: Box::new(change), expected_revision: 0 })
        .unwrap();
    world.refused_with(operation.clone(), RefusalCode::Conflict);
    world.one(Operation::DeleteRelationship { trust_domain: peer() }).unwrap();
    world.refused_with(operation, RefusalCode::NotFound);
    assert_eq!(held(&world), None);
}

/// Two who change different fields at the same time undo nothing of each other's.
#[test]
fn an_update_of_some_fields_leaves_the_others_as_they_are_when_it_is_applied() {
    let mut world = World::founded();
    let (first, second) = (bundle(&peer(), Some(3)), bundle(&peer(), Some(4)));
    world.one(set(&first, SetHow::Create)).unwrap();
    let none = BundleFields { x509_authorities: false, jwt_authorities: false, refresh_hint: false, sequence: false };
    let empty = Bundle::new(peer());
    let mut hint = empty.clone();
    hint.set_refresh_hint(Some(77));
    world.one(set(&second, SetHow::Update(BundleFields { x509_authorities: true, ..none }))).unwrap();
    world.one(set(&hint, SetHow::Update(BundleFields { refresh_hint: true, ..none }))).unwrap();
    let now = world.state.foreign_bundle(&peer()).unwrap().bundle.clone();
    assert_eq!(now.x509_authorities(), second.x509_authorities());
    assert_eq!((now.jwt_authorities(), now.refresh_hint()), (first.jwt_authorities(), Some(77)));
    assert_eq!(now.sequence(), Some(3));
    let version = world.state.foreign_version();
    world.one(set(&empty, SetHow::Update(none))).unwrap();
    assert_eq!(world.state.foreign_version(), version, "nothing was to be changed");
}

#[test]
fn an_operator_may_keep_a_bundle_without_any_relationship() {
    let mut world = World::founded();
    let first = bundle(&peer(), None);
    world.refused_with(set(&first, SetHow::Update(BundleFields::ALL)), RefusalCode::NotFound);
    world.one(set(&first, SetHow::Create)).unwrap();
    world.refused_with(set(&first, SetHow::Create), RefusalCode::AlreadyExists);
    world.one(set(&bundle(&peer(), None), SetHow::Update(BundleFields::ALL))).unwrap();
    world.one(set(&bundle(&peer(), None), SetHow::Set)).unwrap();
    assert_eq!(world.state.foreign_version(), 3);
}

/// Accepts: BND-04, FED-11, FED-51. Refuses: FED-11
#[test]
fn each_bundle_lies_under_its_own_domain_and_none_is_merged_with_another() {
    let mut world = World::founded();
    let (one, other) = (foreign("one.example"), foreign("two.example"));
    let mut first = bundle(&one, Some(1));
    // Two domains may use one root and one kid: each bundle has just its own.
    let shared = first.x509_authorities()[0].clone();
    let mut second = bundle(&other, Some(1));
    second.add_x509_authority(shared);
    world.one(set(&first, SetHow::Set)).unwrap();
    world.one(set(&second, SetHow::Set)).unwrap();
    first.set_sequence(Some(2));
    world.one(set(&first, SetHow::Set)).unwrap();
    let of = |domain: &TrustDomain| world.state.foreign_bundle(domain).unwrap().bundle.x509_authorities().len();
    assert_eq!((of(&one), of(&other)), (1, 2));
    assert!(world.state.foreign_bundle(&foreign("three.example")).is_none());
    assert_eq!(invariants::violations(&world.state), []);
}

/// SF-11. Accepts: FED-48
#[test]
fn the_end_of_a_relationship_withdraws_its_bundle_and_erases_its_secrets() {
    let mut world = federated();
    let operation = fetched(&world, &bundle(&peer(), Some(7)));
    world.one(operation).unwrap();
    let own = SecretName::of_relationship(&peer(), "api-key").unwrap();
    let other = SecretName::new("acme/account").unwrap();
    for name in [&own, &other] {
        world.one(Operation::PutSecret { name: name.clone(), sealed: sealed_to(&[1]) }).unwrap();
    }
    world.take_events();
    let delete = Operation::DeleteRelationship { trust_domain: peer() };
    assert!(delete.is_withdrawal());
    assert_eq!(world.one(delete.clone()), Ok(Done::RelationshipDeleted { trust_domain: peer(), bundle: true }));
    assert_eq!(
        world.take_events(),
        [relationship_changed(), Event::SecretChanged { name: own.clone() }, bundle_changed()]
    );
    assert!(world.state.foreign_bundle(&peer()).is_none() && world.state.secret(&own).is_none());
    assert!(world.state.secret(&other).is_some());
    assert_eq!(world.state.foreign_version(), 2, "whoever rendered the bundle renders it no more");
    world.refused_with(delete, RefusalCode::NotFound);
}

fn federating(name: &str) -> Operation {
    let mut entry = draft(name, &format!("/{name}"), &["unix:uid:1"]);
    entry.federates_with = [peer(), foreign("other.example")].into();
    create(entry)
}

fn delete_bundle(mode: ForeignDeletion) -> Operation {
    Operation::DeleteForeignBundle { trust_domain: peer(), mode }
}

#[test]
fn a_bundle_goes_with_or_without_the_entries_that_federate_or_not_at_all() {
    let mut world = federated();
    world.one(set(&bundle(&peer(), None), SetHow::Set)).unwrap();
    let results = world.all(vec![
        set(&bundle(&foreign("other.example"), None), SetHow::Set),
        federating("a"),
        federating("b"),
        create(draft("c", "/c", &["unix:uid:1"])),
    ]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let message = world.refused_with(delete_bundle(ForeignDeletion::Restrict), RefusalCode::WrongState);
    assert!(message.contains("entries federate with trust domain peer.example, a among them"), "{message}");
    world.take_events();
    let done = world.one(delete_bundle(ForeignDeletion::Dissociate));
    assert_eq!(done, Ok(Done::ForeignBundleDeleted { trust_domain: peer(), entries: 2, more: false }));
    assert_eq!(world.take_events().last(), Some(&bundle_changed()));
    let entry = world.state.entry(&entry_id("a")).unwrap();
    assert_eq!((entry.federates_with.iter().next(), entry.revision_number), (Some(&foreign("other.example")), 1));
    assert!(world.state.relationship(&peer()).is_some(), "the next fetch brings it back");
    world.refused_with(delete_bundle(ForeignDeletion::Delete), RefusalCode::NotFound);

    world.one(set(&bundle(&peer(), None), SetHow::Set)).unwrap();
    world.one(federating("d")).unwrap();
    let done = world.one(delete_bundle(ForeignDeletion::Delete));
    assert_eq!(done, Ok(Done::ForeignBundleDeleted { trust_domain: peer(), entries: 1, more: false }));
    assert!(world.state.entry(&entry_id("d")).is_none() && world.state.entry(&entry_id("a")).is_some());
    world.one(set(&bundle(&peer(), None), SetHow::Set)).unwrap();
    let done = world.one(delete_bundle(ForeignDeletion::Restrict));
    assert_eq!(done, Ok(Done::ForeignBundleDeleted { trust_domain: peer(), entries: 0, more: false }));
}

#[test]
fn thousands_of_entries_are_unlinked_in_several_commands_and_the_bundle_goes_with_the_last() {
    let mut world = federated();
    world.one(set(&bundle(&peer(), None), SetHow::Set)).unwrap();
    world.one(set(&bundle(&foreign("other.example"), None), SetHow::Set)).unwrap();
    let count = ENTRIES_PER_BUNDLE_DELETION + 5;
    let entries: Vec<Operation> = (0..count).map(|n| federating(&format!("e{n}"))).collect();
    for part in entries.chunks(500) {
        world.all(part.to_vec());
    }
    let limit = u64::try_from(ENTRIES_PER_BUNDLE_DELETION).unwrap();
    let done = world.one(delete_bundle(ForeignDeletion::Dissociate));
    assert_eq!(done, Ok(Done::ForeignBundleDeleted { trust_domain: peer(), entries: limit, more: true }));
    assert!(world.state.foreign_bundle(&peer()).is_some());
    let done = world.one(delete_bundle(ForeignDeletion::Dissociate));
    assert_eq!(done, Ok(Done::ForeignBundleDeleted { trust_domain: peer(), entries: 5, more: false }));
    assert!(world.state.foreign_bundle(&peer()).is_none());
    assert_eq!(world.state.entry_count(), count);
}

/// ATK-36.
#[test]
fn a_bundle_beyond_its_size_and_more_relationships_than_there_may_be_are_refused() {
    let mut world = World::founded();
    let mut large = bundle(&peer(), None);
    let public_key = key().public_key().clone();
    for n in 0..FOREIGN_BUNDLE_BYTES_LIMIT / 1_000 {
        let key_id = format!("{n}{}", "x".repeat(1_000));
        large.add_jwt_authority(JwtAuthority { key_id, public_key: public_key.clone() });
    }
    let command = world.command(vec![set(&large, SetHow::Set)]);
    // Refused before it is proposed, and by the state as well.
    assert!(matches!(Command::decode(command.encode()), Err(StoredError::TooMuch { .. })));
    let result = world.state.apply(99, &command, &mut Vec::new()).results.remove(0);
    assert!(result.unwrap_err().message.contains("the most is 1048576"));
    let all: Vec<Operation> =
        (0..RELATIONSHIPS_LIMIT).map(|n| create_relationship(&foreign(&format!("d{n}.example")))).collect();
    for part in all.chunks(1_000) {
        assert!(world.all(part.to_vec()).iter().all(Result::is_ok));
    }
    world.refused_with(create_relationship(&peer()), RefusalCode::LimitReached);
}

/// A newcomer's part is made of what the leader opened. Another secret can have been put since, and the newcomer would keep
/// the former one for it.
#[test]
fn a_part_that_was_made_of_a_former_secret_is_refused() {
    let mut world = federated();
    let name = SecretName::of_relationship(&peer(), "api-key").unwrap();
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    let put = Operation::PutSecret { name: name.clone(), sealed: sealed_to(&[1]) };
    let seal = |revision| Operation::SealSecret { name: name.clone(), revision, parts: sealed_to(&[2]).parts };
    world.one(put.clone()).unwrap();
    let opened = world.state.secret(&name).unwrap().revision;
    world.one(put).unwrap();
    world.refused_with(seal(opened), RefusalCode::Conflict);
    assert_eq!(world.state.secret(&name).unwrap().sealed.parts.len(), 1);
    let now = world.state.secret(&name).unwrap().revision;
    assert_eq!(world.one(seal(now)), Ok(Done::SecretSealed { name: name.clone(), added: 1 }));
    assert_eq!(world.one(seal(now)), Ok(Done::SecretSealed { name, added: 0 }), "whoever has a part keeps it");
}

/// The keys of web certificates and of the ACME account are secrets too.
#[test]
fn a_relationship_shows_its_server_no_secret_but_its_own() {
    let mut world = World::founded();
    let with = |secret: &str| {
        let endpoint = api(ApiCredential::ApiKey { secret: SecretName::new(secret).unwrap() });
        Operation::CreateRelationship(Box::new(NewRelationship { endpoint, ..new_relationship(&peer()) }))
    };
    for other in ["acme/account", "federation/other.example/api-key"] {
        world.refused_with(with(other), RefusalCode::Invalid);
    }
    world.one(with(&format!("federation/{}/api-key", peer()))).unwrap();
}

/// INV: a snapshot brings every relationship, bundle and secret back.
#[test]
fn a_snapshot_holds_relationships_bundles_and_secrets() {
    let world = rich();
    let mut reader = SnapshotReader::new();
    for chunk in world.state.view().chunks() {
        reader.push(&chunk).unwrap();
    }
    let read = reader.finish().unwrap();
    assert_eq!(read.state_hash(), world.state.state_hash());
    let all = |state: &State| {
        let relationships: Vec<_> = state.relationships().cloned().collect();
        let bundles: Vec<_> = state.foreign_bundles().cloned().collect();
        (relationships, bundles, state.secrets().cloned().collect::<Vec<_>>(), state.foreign_version())
    };
    assert_eq!(all(&read), all(&world.state));
    assert_eq!(invariants::violations(&read), []);
}

/// A world with one of everything.
pub(crate) fn rich() -> World {
    let mut world = federated();
    let operation = fetched(&world, &bundle(&peer(), Some(7)));
    let other = foreign("other.example");
    let secret = SecretName::of_relationship(&other, "oauth").unwrap();
    let mut new = new_relationship(&other);
    new.endpoint = Endpoint::Api {
        url: url("https://api.other.example:8444/"),
        server: ApiServer::Spiffe(SpiffeId::from_path(&other, "/api").unwrap()),
        credential: oauth_with(secret.clone(), "us", "read"),
        watch: true,
    };
    new.pins = EndpointPins { hosts: vec!["api.other.example".to_owned()], keys: vec![[3; 32]] };
    new.poll = PollSettings { floor: 5, follow_redirects: false, accept_private: Some(true) };
    new.origin = RelationshipOrigin::Configuration { node: quorate_proto_identity::NodeName::new("node-1").unwrap() };
    new.bundle = Some(bundle(&other, None));
    let results = world.all(vec![
        operation,
        Operation::PutSecret { name: secret, sealed: sealed_to(&[1]) },
        Operation::CreateRelationship(Box::new(new)),
        federating("a"),
    ]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    world
}
