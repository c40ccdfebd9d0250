//! Who may ask for our bundle: API keys and access rules as the log has them.

use std::collections::BTreeSet;

use quorate_proto_identity::{SpiffeId, TrustDomain, UnixSeconds};
use quorate_raft_machine::access::{
    API_KEY_LIFETIME_LIMIT, API_KEY_OVERLAP_LIMIT, API_KEYS_PER_PEER_LIMIT, AccessRule, ApiKeyId, ApiKeyRotation,
    ApiKeySecret, ApiScope, ApiScopes, EXPIRED_API_KEY_KEPT, MutualTls, NewApiKey, OAuthRule,
};
use quorate_raft_machine::{Command, Done, Event, Operation, RefusalCode, SnapshotReader};

use crate::stored::{envelope, hex, unhex};
use crate::world::{World, domain};

fn peer() -> TrustDomain {
    TrustDomain::new("two.example").unwrap()
}

fn secret(byte: u8, expires_at: UnixSeconds) -> ApiKeySecret {
    ApiKeySecret { hash: [byte; 32], expires_at }
}

fn new(world: &World, number: u8) -> NewApiKey {
    NewApiKey {
        id: ApiKeyId::from_random(number.into()),
        peer: peer(),
        scopes: ApiScopes::from(ApiScope::ALL),
        label: "for tests".into(),
        secret: secret(number, world.seconds().plus(1_000)),
    }
}

fn create(key: NewApiKey) -> Operation {
    Operation::CreateApiKey(Box::new(key))
}

fn rotate(number: u8, secret: ApiKeySecret, overlap: u32) -> Operation {
    Operation::RotateApiKey(Box::new(ApiKeyRotation { id: ApiKeyId::from_random(number.into()), secret, overlap }))
}

fn set(peer: Option<TrustDomain>, rule: Option<AccessRule>, expected_revision: u64) -> Operation {
    Operation::SetAccessRule { peer, rule: rule.map(Box::new), expected_revision }
}

#[test]
fn a_key_is_made_rotated_with_overlap_and_deleted() {
    let mut world = World::founded();
    let key = new(&world, 1);
    let (id, end) = (key.id.clone(), key.secret.expires_at);
    assert_eq!(world.one(create(key.clone())), Ok(Done::ApiKeySet { id: id.clone(), expires_at: end }));
    assert!(world.take_events().contains(&Event::AccessChanged));
    world.refused_with(create(key), RefusalCode::Invalid);
    let later = world.seconds().plus(5_000);
    world.one(rotate(1, secret(2, later), 60)).unwrap();
    let kept = world.state.api_key(&id).unwrap().clone();
    let former = kept.former.clone().unwrap();
    assert_eq!((kept.secret.hash, kept.expires_at()), ([2; 32], later));
    assert_eq!((former.hash, former.expires_at), ([1; 32], kept.rotated_at.plus(60)));
    // The overlap does not make the former secret live longer than it would have.
    world.one(rotate(1, secret(3, world.seconds().plus(10)), 0)).unwrap();
    assert_eq!(world.state.api_key(&id).unwrap().former, None);
    world.one(rotate(1, secret(4, later), 1_000)).unwrap();
    let kept = world.state.api_key(&id).unwrap();
    assert!(kept.former.as_ref().unwrap().expires_at < kept.rotated_at.plus(1_000));
    assert_eq!(world.one(Operation::DeleteApiKey { id: id.clone() }), Ok(Done::ApiKeyDeleted { id: id.clone() }));
    world.refused_with(Operation::DeleteApiKey { id }, RefusalCode::NotFound);
    world.refused_with(rotate(1, secret(5, later), 0), RefusalCode::NotFound);
}

#[test]
fn a_key_that_nobody_may_have_is_refused() {
    let mut world = World::founded();
    let now = world.seconds();
    let changes: [fn(&mut NewApiKey, UnixSeconds); 6] = [
        |key, _| key.peer = domain(),
        |key, _| key.scopes.clear(),
        |key, _| key.label = "a\nb".into(),
        |key, _| key.label = "a".repeat(129),
        |key, now| key.secret.expires_at = now,
        |key, now| key.secret.expires_at = now.plus(API_KEY_LIFETIME_LIMIT + 1_000),
    ];
    for change in changes {
        let mut key = new(&world, 1);
        change(&mut key, now);
        world.refused_with(create(key), RefusalCode::Invalid);
    }
    world.one(create(new(&world, 1))).unwrap();
    let overlap = u32::try_from(API_KEY_OVERLAP_LIMIT + 1).unwrap();
    world.refused_with(rotate(1, secret(2, now.plus(2_000)), overlap), RefusalCode::Invalid);
}

#[test]
fn keys_of_one_peer_are_limited_and_long_expired_ones_make_room() {
    let mut world = World::founded();
    let most = u8::try_from(API_KEYS_PER_PEER_LIMIT).unwrap();
    for number in 1..=most {
        world.one(create(new(&world, number))).unwrap();
    }
    let one_more = new(&world, most + 1);
    world.refused_with(create(one_more), RefusalCode::LimitReached);
    world.now += EXPIRED_API_KEY_KEPT + 2_000;
    let one_more = new(&world, most + 1);
    world.one(create(one_more)).unwrap();
    assert_eq!(world.state.api_keys().count(), 1);
}

#[test]
fn a_rule_of_a_peer_stands_in_the_place_of_that_for_everybody() {
    let mut world = World::founded();
    let default = AccessRule::default();
    assert_eq!(world.state.access_for(Some(&peer())), default);
    let open = AccessRule { anonymous: true, ..default.clone() };
    assert_eq!(world.one(set(None, Some(open.clone()), 0)), Ok(Done::AccessSet { revision: 1 }));
    assert_eq!(world.state.access_for(Some(&peer())), open);
    let closed = AccessRule { mutual_tls: MutualTls::Off, api_keys: false, ..default.clone() };
    world.one(set(Some(peer()), Some(closed.clone()), 0)).unwrap();
    assert_eq!((world.state.access_for(Some(&peer())), world.state.access_for(None)), (closed, open.clone()));
    world.refused_with(set(Some(peer()), Some(open.clone()), 0), RefusalCode::Invalid);
    world.refused_with(set(Some(domain()), Some(default.clone()), 0), RefusalCode::Invalid);
    world.refused_with(set(None, Some(default), 7), RefusalCode::Conflict);
    assert_eq!(world.one(set(Some(peer()), None, 1)), Ok(Done::AccessSet { revision: 0 }));
    assert_eq!(world.state.access_for(Some(&peer())), open);
    world.refused_with(set(Some(peer()), None, 0), RefusalCode::NotFound);
}

#[test]
fn access_is_in_a_snapshot_and_comes_back_the_same() {
    let mut world = World::founded();
    world.one(create(new(&world, 1))).unwrap();
    let later = world.seconds().plus(5_000);
    world.one(rotate(1, secret(2, later), 60)).unwrap();
    let id = SpiffeId::parse("spiffe://two.example/a").unwrap();
    let rule = AccessRule { mutual_tls: MutualTls::Ids(BTreeSet::from([id])), ..AccessRule::default() };
    world.one(set(Some(peer()), Some(rule), 0)).unwrap();
    world.one(Operation::SetAccessSettings { anonymous_endpoint: false }).unwrap();
    assert_eq!(
        world.one(Operation::SetAccessSettings { anonymous_endpoint: false }),
        Ok(Done::AccessSet { revision: 1 })
    );
    let mut reader = SnapshotReader::new();
    for chunk in world.state.view().chunks() {
        reader.push(&chunk).unwrap();
    }
    let read = reader.finish().unwrap();
    assert_eq!(read.state_hash(), world.state.state_hash());
    assert!(!read.access_settings().anonymous_endpoint);
    assert_eq!(read.api_keys().next(), world.state.api_keys().next());
}

fn every_operation() -> Command {
    let ids = MutualTls::Ids(BTreeSet::from([SpiffeId::from_path(&peer(), "/federation").unwrap()]));
    let by_token = OAuthRule {
        issuer: "https://login.example".to_owned(),
        audience: "us".to_owned(),
        scope: "bundle".to_owned(),
        claims: [("azp".to_owned(), "two".to_owned())].into(),
    };
    let rule = AccessRule { mutual_tls: ids, api_keys: false, oauth: vec![by_token], anonymous: false };
    let key = NewApiKey {
        id: ApiKeyId::from_random(7),
        peer: peer(),
        scopes: ApiScopes::from(ApiScope::ALL),
        label: "for tests".to_owned(),
        secret: secret(1, UnixSeconds(1_800_000_000)),
    };
    envelope(vec![
        create(NewApiKey { scopes: ApiScopes::from([ApiScope::Get]), label: String::new(), ..key.clone() }),
        create(key),
        rotate(7, secret(2, UnixSeconds(1_900_000_000)), 60),
        Operation::DeleteApiKey { id: ApiKeyId::from_random(7) },
        set(Some(peer()), Some(rule.clone()), 3),
        set(None, Some(AccessRule { mutual_tls: MutualTls::Off, anonymous: true, ..rule }), 0),
        set(None, Some(AccessRule::default()), 0),
        set(None, None, 2),
        Operation::SetAccessSettings { anonymous_endpoint: false },
    ])
}

const EVERY_OPERATION_V1: &str = include_str!("../stored/command-access-v1.hex");

#[test]
fn version_1_of_commands_on_access_is_read_and_still_written_so() {
    let stored = unhex(EVERY_OPERATION_V1);
    assert_eq!(hex(&every_operation().encode()), hex(&stored));
    assert_eq!(Command::decode(stored).unwrap(), every_operation());
}
