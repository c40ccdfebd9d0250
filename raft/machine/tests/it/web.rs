//! ACME orders, web certificates, and the discovery provider's issuers.

use bytes::Bytes;
use quorate_proto_identity::{EndpointUrl, Validity};
use quorate_raft_machine::web::{
    AcmeChallenge, AcmeSettings, FORMER_ISSUERS_LIMIT, JWKS_CACHE_TIME_DEFAULT, NewWebCertificate, OidcSettings,
    WebChallenge, WebDomain,
};
use quorate_raft_machine::{Command, Done, Event, Operation, RefusalCode, SecretName, SnapshotReader};

use crate::stored::{envelope, hex, unhex};
use crate::world::{World, life, sealed_to};

const DIRECTORY: &str = "https://acme.example/dir";
const DOMAIN: &str = "bundle.example.org";

fn directory(text: &str) -> EndpointUrl {
    EndpointUrl::parse(text).unwrap()
}

fn settings(domains: &[&str]) -> AcmeSettings {
    AcmeSettings {
        directory: directory(DIRECTORY),
        contact: vec!["mailto:ops@example.org".to_owned()],
        terms_agreed: true,
        domains: domains.iter().map(ToString::to_string).collect(),
        challenge: AcmeChallenge::TlsAlpn01,
    }
}

fn set(settings: AcmeSettings) -> Operation {
    Operation::SetAcme { settings: Some(Box::new(settings)), expected_revision: 0 }
}

fn key(n: u8) -> SecretName {
    SecretName::new(&format!("acme/key/{DOMAIN}/{n}")).unwrap()
}

fn put(n: u8) -> Operation {
    Operation::PutSecret { name: key(n), sealed: sealed_to(&[1]) }
}

fn begin(n: u8) -> Operation {
    Operation::BeginWebOrder {
        domain: DOMAIN.to_owned(),
        url: format!("https://acme.example/order/{n}"),
        directory: directory(DIRECTORY),
        key: key(n),
    }
}

fn challenge(n: u8) -> Operation {
    let challenge = WebChallenge {
        kind: AcmeChallenge::TlsAlpn01,
        token: "token".to_owned(),
        key_authorization: "token.thumb".to_owned(),
    };
    let order = format!("https://acme.example/order/{n}");
    Operation::SetWebChallenge { domain: DOMAIN.to_owned(), order, challenge: Box::new(challenge) }
}

fn record(n: u8, validity: Validity) -> Operation {
    Operation::RecordWebCertificate(Box::new(NewWebCertificate {
        domain: DOMAIN.to_owned(),
        order: format!("https://acme.example/order/{n}"),
        chain: vec![Bytes::from(vec![n; 3]), Bytes::from_static(b"issuer")],
        validity,
    }))
}

fn fail(order: Option<u8>) -> Operation {
    let order = order.map(|n| format!("https://acme.example/order/{n}"));
    Operation::FailWebOrder { domain: DOMAIN.to_owned(), order, reason: "no such name".to_owned() }
}

fn domain(world: &World) -> WebDomain {
    world.state.web_domain(DOMAIN).unwrap().clone()
}

/// A world in which the domain has a certificate of order 1.
fn certified() -> World {
    let mut world = World::founded();
    let validity = life(world.now, 90);
    for operation in [set(settings(&[DOMAIN])), put(1), begin(1), challenge(1), record(1, validity)] {
        world.one(operation).unwrap();
    }
    world
}

#[test]
fn an_order_goes_half_by_half_and_ends_with_a_certificate() {
    let mut world = World::founded();
    assert_eq!(world.one(set(settings(&[DOMAIN]))), Ok(Done::AcmeSet { revision: 1 }));
    assert!(domain(&world).requested_at.is_some());
    world.refused_with(begin(1), RefusalCode::NotFound);
    world.one(put(1)).unwrap();
    world.take_events();
    assert_eq!(world.one(begin(1)), Ok(Done::WebDomainChanged { domain: DOMAIN.to_owned() }));
    assert_eq!(world.take_events(), [Event::WebDomainChanged { domain: DOMAIN.to_owned() }]);
    world.one(challenge(1)).unwrap();
    let order = domain(&world).order.unwrap();
    assert_eq!(order.challenge.unwrap().key_authorization, "token.thumb");
    let validity = life(world.now, 90);
    world.one(record(1, validity)).unwrap();
    let known = domain(&world);
    assert_eq!((known.order, known.failure, known.requested_at), (None, None, None));
    let certificate = known.certificate.unwrap();
    assert_eq!((certificate.key, certificate.validity, certificate.chain.len()), (key(1), validity, 2));
}

#[test]
fn two_leaders_place_one_order_and_a_late_one_changes_nothing() {
    let mut world = certified();
    for operation in [put(2), begin(2), put(3)] {
        world.one(operation).unwrap();
    }
    world.refused_with(begin(3), RefusalCode::AlreadyExists);
    let validity = life(world.now, 90);
    world.refused_with(challenge(3), RefusalCode::WrongState);
    world.refused_with(record(1, validity), RefusalCode::WrongState);
    world.refused_with(fail(Some(3)), RefusalCode::WrongState);
    world.refused_with(fail(None), RefusalCode::WrongState);
    assert_eq!(domain(&world).order.unwrap().key, key(2));
}

#[test]
fn a_new_certificate_erases_the_key_of_the_one_before() {
    let mut world = certified();
    let validity = life(world.now, 90);
    for operation in [put(2), begin(2), record(2, validity)] {
        world.one(operation).unwrap();
    }
    assert!(world.state.secret(&key(1)).is_none());
    assert!(world.state.secret(&key(2)).is_some());
}

#[test]
fn what_failed_is_counted_and_forgotten_by_a_wish_or_a_certificate() {
    let mut world = certified();
    world.one(fail(None)).unwrap();
    for operation in [put(2), begin(2), fail(Some(2))] {
        world.one(operation).unwrap();
    }
    let known = domain(&world);
    assert_eq!(
        known.failure.as_ref().map(|failure| (failure.count, failure.reason.as_str())),
        Some((2, "no such name"))
    );
    assert!(known.order.is_none() && known.certificate.is_some(), "an old certificate is better than none");
    assert!(world.state.secret(&key(2)).is_none(), "its key goes with an order");
    world.one(Operation::RequestWebCertificate { domain: DOMAIN.to_owned() }).unwrap();
    assert!(domain(&world).failure.is_none() && domain(&world).requested_at.is_some());
    world.refused_with(Operation::RequestWebCertificate { domain: "a.example".to_owned() }, RefusalCode::NotFound);
}

#[test]
fn a_domain_that_is_not_wanted_any_more_is_forgotten_with_its_keys() {
    let mut world = certified();
    for operation in [put(2), begin(2)] {
        world.one(operation).unwrap();
    }
    world.one(set(settings(&["other.example.org"]))).unwrap();
    assert!(world.state.web_domain(DOMAIN).is_none());
    assert!(world.state.secret(&key(1)).is_none() && world.state.secret(&key(2)).is_none());
    world.one(Operation::SetAcme { settings: None, expected_revision: 2 }).unwrap();
    assert_eq!((world.state.acme().revision, world.state.web_domains().count()), (3, 0));
}

#[test]
fn another_authority_ends_orders_and_keeps_certificates() {
    let mut world = certified();
    for operation in [put(2), begin(2)] {
        world.one(operation).unwrap();
    }
    let other = AcmeSettings { directory: directory("https://other.example/dir"), ..settings(&[DOMAIN]) };
    world.one(set(other)).unwrap();
    let known = domain(&world);
    assert!(known.order.is_none() && known.certificate.is_some());
    assert!(world.state.secret(&key(2)).is_none());
    world.one(put(3)).unwrap();
    world.refused_with(begin(3), RefusalCode::WrongState);
}

#[test]
fn settings_are_compared_and_set() {
    let mut world = certified();
    let stale = Operation::SetAcme { settings: None, expected_revision: 7 };
    world.refused_with(stale, RefusalCode::Conflict);
    world.refused_with(set(AcmeSettings { terms_agreed: false, ..settings(&[DOMAIN]) }), RefusalCode::Invalid);
    world.refused_with(set(settings(&["*.example.org"])), RefusalCode::Invalid);
    let stale = Operation::SetOidc { settings: None, expected_revision: 7 };
    world.refused_with(stale, RefusalCode::Conflict);
}

fn oidc(issuer: &str, overlap: u32) -> OidcSettings {
    OidcSettings {
        issuer: issuer.to_owned(),
        also: Vec::new(),
        domains: vec!["oidc.internal".to_owned()],
        jwks_cache_time: 60,
        issuer_overlap: overlap,
    }
}

fn set_oidc(settings: OidcSettings) -> Operation {
    Operation::SetOidc { settings: Some(Box::new(settings)), expected_revision: 0 }
}

#[test]
fn an_issuer_that_is_replaced_is_served_until_its_overlap_ends() {
    let mut world = World::founded();
    assert_eq!((world.state.jwt_issuer(), world.state.jwks_cache_time()), (None, JWKS_CACHE_TIME_DEFAULT));
    assert_eq!(world.one(set_oidc(oidc("https://a.example", 10))), Ok(Done::OidcSet { revision: 1 }));
    assert_eq!((world.state.jwt_issuer(), world.state.jwks_cache_time()), (Some("https://a.example"), 60));
    world.one(set_oidc(oidc("https://b.example", 10))).unwrap();
    let begun = world.seconds();
    let at =
        |world: &World, later| world.state.oidc().issuers(begun.plus(later)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(world.state.jwt_issuer(), Some("https://b.example"));
    assert_eq!(at(&world, 9), ["https://b.example", "https://a.example"]);
    assert_eq!(at(&world, 10), ["https://b.example"]);
    // Back again: it is there once, as the one in tokens.
    world.one(set_oidc(oidc("https://a.example", 10))).unwrap();
    assert_eq!(at(&world, 5), ["https://a.example", "https://b.example"]);
    world.one(Operation::SetOidc { settings: None, expected_revision: 0 }).unwrap();
    assert_eq!(world.state.jwt_issuer(), None);
    assert_eq!(at(&world, 5).len(), 2, "tokens that are out can still be verified");
}

#[test]
fn an_issuer_that_is_served_beside_its_successor_keeps_its_overlap() {
    let mut world = World::founded();
    world.one(set_oidc(oidc("https://a.example", 10))).unwrap();
    let beside = OidcSettings { also: vec!["https://a.example".to_owned()], ..oidc("https://b.example", 10) };
    world.one(set_oidc(beside)).unwrap();
    let now = world.seconds();
    let served = |world: &World| world.state.oidc().issuers(now).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(served(&world), ["https://b.example", "https://a.example"], "once");
    world.one(set_oidc(oidc("https://b.example", 10))).unwrap();
    assert_eq!(served(&world), ["https://b.example", "https://a.example"], "tokens of it are out");
}

#[test]
fn the_key_of_a_certificate_is_never_that_of_an_order_too() {
    let mut world = certified();
    world.refused_with(begin(1), RefusalCode::Invalid);
    world.one(fail(None)).unwrap();
    assert!(world.state.secret(&key(1)).is_some(), "the certificate is served on");
}

#[test]
fn former_issuers_have_a_limit() {
    let mut world = World::founded();
    for n in 0..=FORMER_ISSUERS_LIMIT {
        world.one(set_oidc(oidc(&format!("https://i{n}.example"), 1_000))).unwrap();
    }
    world.refused_with(set_oidc(oidc("https://more.example", 1_000)), RefusalCode::LimitReached);
    // Without an overlap the one in tokens goes at once.
    let short = oidc("https://more.example", 0);
    world.one(set_oidc(short)).unwrap();
}

#[test]
fn whoever_is_asked_has_to_answer_so_a_challenge_and_an_issuer_are_acknowledged_everywhere() {
    assert!(challenge(1).is_withdrawal());
    assert!(set_oidc(oidc("https://a.example", 1)).is_withdrawal());
    assert!(!begin(1).is_withdrawal() && !record(1, life(0, 9)).is_withdrawal());
}

#[test]
fn a_snapshot_has_all_of_it() {
    let mut world = certified();
    for operation in
        [put(2), begin(2), challenge(2), set_oidc(oidc("https://a.example", 9)), set_oidc(oidc("https://b.example", 9))]
    {
        world.one(operation).unwrap();
    }
    let mut reader = SnapshotReader::new();
    for chunk in world.state.view().chunks() {
        reader.push(&chunk).unwrap();
    }
    let read = reader.finish().unwrap();
    assert_eq!(read.state_hash(), world.state.state_hash());
    assert_eq!((read.web_domain(DOMAIN), read.acme()), (world.state.web_domain(DOMAIN), world.state.acme()));
    assert_eq!(read.oidc(), world.state.oidc());
    assert!(quorate_raft_machine::invariants::violations(&read).is_empty());
}

fn every_operation() -> Command {
    envelope(vec![
        set(settings(&[DOMAIN, "oidc.example.org"])),
        set(AcmeSettings { challenge: AcmeChallenge::Http01, contact: vec![], ..settings(&[DOMAIN]) }),
        Operation::SetAcme { settings: None, expected_revision: 3 },
        Operation::RequestWebCertificate { domain: DOMAIN.to_owned() },
        begin(1),
        challenge(1),
        record(1, life(1_000, 90)),
        fail(Some(1)),
        fail(None),
        set_oidc(OidcSettings { also: vec!["https://b.example".to_owned()], ..oidc("https://a.example", 9) }),
        Operation::SetOidc { settings: None, expected_revision: 4 },
    ])
}

const EVERY_OPERATION_V1: &str = include_str!("../stored/command-web-v1.hex");

#[test]
fn version_1_of_commands_on_the_web_is_read_and_still_written_so() {
    let stored = unhex(EVERY_OPERATION_V1);
    assert_eq!(hex(&every_operation().encode()), hex(&stored));
    assert_eq!(Command::decode(stored).unwrap(), every_operation());
}
