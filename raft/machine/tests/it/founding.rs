//! Founding the authority.

use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::{AuthorityState, Done, Event, Found, MemberStatus, Operation, RefusalCode, due, invariants};

use crate::world::{Change, World, create, domain, draft, number, sealed_to, short_policy};

fn founding_with(change: Change<Found>) -> (World, Operation) {
    let mut world = World::empty();
    let Operation::Found(mut found) = world.found(short_policy()) else { unreachable!() };
    change(&mut found);
    (world, Operation::Found(found))
}

#[test]
fn before_the_founding_everything_else_is_refused_and_nothing_is_due() {
    let mut world = World::empty();
    assert_eq!(invariants::violations(&world.state), []);
    for operation in [
        create(draft("a", "/a", &["unix:uid:1"])),
        Operation::PruneExpiredEntries,
        Operation::PruneAuthorities,
        Operation::SetPolicy { policy: short_policy(), expected_revision: 0 },
        Operation::SetMember { number: None, member: Box::new(crate::world::member("node-2")) },
    ] {
        world.refused_with(operation, RefusalCode::NotFounded);
    }
    assert_eq!(due(&world.state, world.seconds()), []);
}

#[test]
fn founding_makes_the_first_member_and_authorities_that_sign_at_once() {
    let mut world = World::empty();
    let found = world.found(short_policy());
    assert_eq!(world.one(found), Ok(Done::Founded { member: number(1) }));
    let cluster = world.state.cluster().unwrap();
    assert_eq!((cluster.trust_domain.clone(), cluster.epoch, cluster.version), (domain(), 1, 1));
    assert_eq!(cluster.founded_at, world.seconds());
    assert_eq!(world.state.policy(), Some(&short_policy()));
    let member = world.state.member(number(1)).unwrap();
    assert_eq!((member.record.name.as_str(), member.record.status), ("node-1", MemberStatus::Admitted));
    let root = world.state.active_x509_authority().unwrap();
    assert_eq!((root.state, root.id.clone()), (AuthorityState::Active, world.roots[0].id()));
    assert!(root.sealed.is_some());
    assert_eq!(world.state.active_jwt_authority().unwrap().id.as_str(), "jwt-1");
    let bundle = world.state.bundle();
    assert_eq!((bundle.sequence, bundle.refresh_hint), (1, 10));
    assert_eq!((bundle.x509_authorities.len(), bundle.jwt_authorities.len()), (1, 1));
    assert_eq!(world.state.live_members(world.seconds()), [], "live is who holds an issuing certificate");
    let events = world.take_events();
    assert_eq!(events.first(), Some(&Event::Founded));
    assert_eq!(events.last(), Some(&Event::BundleChanged { sequence: 1 }));
}

#[test]
fn a_second_founding_is_refused_and_names_the_first() {
    let mut world = World::founded();
    let again = world.found(short_policy());
    let message = world.refused_with(again, RefusalCode::AlreadyFounded);
    assert!(message.contains("example.org"), "{message}");
}

#[test]
fn founding_is_refused_whole_when_one_part_is_not_in_order() {
    let cases: [(&str, Change<Found>); 11] = [
        ("issuing_lifetime", |found| found.policy.issuing_lifetime = 21),
        ("root_lifetime", |found| found.policy.root_lifetime = 90),
        ("URI name", |found| found.trust_domain = quorate_proto_identity::TrustDomain::new("other.org").unwrap()),
        ("sealed to nobody", |found| found.x509_authority.sealed = sealed_to(&[])),
        ("which is not the founder", |found| found.jwt_authority.sealed = sealed_to(&[1, 2])),
        ("sealed twice", |found| found.jwt_authority.sealed = sealed_to(&[1, 1])),
        ("CRL-03", |found| found.x509_authority.crl = crate::world::crl(&crate::world::key(), 0, 10)),
        ("sealing_key is empty", |found| found.member.sealing_key = bytes::Bytes::new()),
        ("must be a voter", |found| found.member.role = quorate_raft_machine::MemberRole::Learner),
        ("identity_key", |found| found.member.identity_key = b"no key"[..].into()),
        ("cannot be read", |found| found.x509_authority.certificate = b"no certificate"[..].into()),
    ];
    for (expected, change) in cases {
        let (mut world, operation) = founding_with(change);
        let refusal = world.refused(operation);
        assert!(refusal.message.contains(expected), "{expected}: {refusal}");
        assert!(world.state.cluster().is_none());
    }
}

#[test]
fn the_logs_time_never_goes_back() {
    let mut world = World::founded();
    let time = world.state.counters().time;
    world.now -= 3_600;
    world.one(create(draft("a", "/a", &["unix:uid:1"]))).unwrap();
    assert_eq!(world.state.counters().time, time);
    assert_eq!(world.state.entry(&crate::world::entry_id("a")).unwrap().created_at, time.seconds());
    world.now += 7_200;
    world.one(create(draft("b", "/b", &["unix:uid:1"]))).unwrap();
    assert_eq!(world.state.counters().time.seconds(), UnixSeconds(world.now));
}
