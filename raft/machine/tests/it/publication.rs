//! How long readers of our bundle elsewhere have to learn of an authority before it signs (FED-03, FED-04; design section 3).

use quorate_proto_identity::{AuthorityId, TrustDomain, UnixSeconds};
use quorate_raft_machine::authority::gate::{
    Knowledge, MemberReport, WaitsFor, activation_waits_for, confirmation_waits_for, not_applied,
};
use quorate_raft_machine::authority::{Milestone, next_due_at, published_at, readers_time, timeline};
use quorate_raft_machine::{
    AuthorityKind, COMMAND_VERSION, Done, Due, Event, MemberServices, Operation, Policy, Publication, RefusalCode, due,
};

use crate::federation::{create_relationship, foreign, peer};
use crate::world::{World, jwt_key, member, number, short_policy};

const X509: AuthorityKind = AuthorityKind::X509;
const JWT: AuthorityKind = AuthorityKind::Jwt;

/// Three refresh hints of [`short_policy`].
const HINTS: i64 = 30;

/// What a member says that it serves.
fn announce(of: u64, serves: MemberServices) -> Operation {
    Operation::AnnounceMember {
        number: number(of),
        addresses: vec!["node:8082".to_owned()],
        version: COMMAND_VERSION,
        build: String::new(),
        serves,
    }
}

fn bundle_endpoint() -> MemberServices {
    MemberServices { bundle_endpoint: Some("https://node:8443/".to_owned()), ..MemberServices::default() }
}

fn federation_api() -> MemberServices {
    MemberServices { federation_api: Some("https://node:8444/".to_owned()), ..MemberServices::default() }
}

fn oidc() -> MemberServices {
    MemberServices { oidc: Some("https://node:8445/".to_owned()), ..MemberServices::default() }
}

fn mark(kind: AuthorityKind, id: &AuthorityId, confirmed: bool) -> Operation {
    Operation::MarkPublished { kind, id: id.clone(), confirmed }
}

/// A cluster whose root is to be replaced, its successor prepared, and one member that serves something.
fn replacing(serves: MemberServices, publication: Publication) -> (World, AuthorityId) {
    let mut world = World::founded_with(Policy { publication, ..short_policy() });
    world.one(announce(1, serves)).unwrap();
    let active = world.active_root().id();
    let next = world.root(120);
    let issuing = world.issuing(&world.active_root(), 1, 15);
    let results = world.all(vec![
        Operation::RecordIssuingCertificate(Box::new(issuing)),
        Operation::MarkAuthority { kind: X509, id: active, compromised: false },
        Operation::PrepareX509Authority(Box::new(next.new.clone())),
    ]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    world.take_events();
    (world, next.id())
}

fn publish(id: &AuthorityId) -> Due {
    Due::Publish { kind: X509, id: id.clone() }
}

fn activate(id: &AuthorityId) -> Due {
    Due::Activate { kind: X509, id: id.clone() }
}

/// Who serves what, and how long readers have for each kind.
#[test]
fn readers_have_time_for_as_long_as_something_is_served_to_them() {
    let both = MemberServices { oidc: oidc().oidc, ..bundle_endpoint() };
    let cases = [
        (MemberServices::default(), None, None),
        (bundle_endpoint(), Some(HINTS), Some(HINTS)),
        (federation_api(), Some(HINTS), Some(HINTS)),
        // Nobody verifies an X509-SVID with what OIDC discovery serves.
        (oidc(), None, Some(300)),
        (both, Some(HINTS), Some(300)),
    ];
    for (serves, x509, jwt) in cases {
        let mut world = World::founded();
        world.one(announce(1, serves.clone())).unwrap();
        assert_eq!((readers_time(&world.state, X509), readers_time(&world.state, JWT)), (x509, jwt), "{serves:?}");
        assert_eq!(world.state.serves_bundle_endpoint(), x509.is_some());
    }
    // A member that has gone serves nothing, whatever it said.
    let mut world = World::founded();
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    world.one(announce(2, bundle_endpoint())).unwrap();
    assert!(world.state.serves_bundle_endpoint());
    world.one(Operation::RemoveMember { number: number(2), compromised: false }).unwrap();
    assert!(!world.state.serves_bundle_endpoint());
}

/// SF-12. Accepts: FED-03, FED-04
#[test]
fn an_authority_signs_three_hints_after_the_last_member_served_it_whoever_reads() {
    let (mut world, next) = replacing(bundle_endpoint(), Publication::Hints);
    assert_eq!(world.state.relationships().count(), 0, "who comes to read is not known");
    assert_eq!(due(&world.state, world.seconds()), [publish(&next)]);
    // For as long as a member lags, the time does not begin.
    world.now += HINTS - 1;
    assert_eq!(due(&world.state, world.seconds()), [publish(&next)]);
    assert_eq!(published_at(&world.state, &world.state.authority(X509, &next).unwrap()), None);
    let sequence = world.state.bundle().sequence;
    let done = Done::AuthorityPublished { kind: X509, id: next.clone(), confirmed: false };
    assert_eq!(world.one(mark(X509, &next, false)), Ok(done.clone()));
    assert_eq!(world.take_events(), [Event::X509AuthorityChanged { id: next.clone() }]);
    assert_eq!(world.state.bundle().sequence, sequence, "the bundle says what it said (BND-12)");
    let until = world.seconds().plus(HINTS);
    assert!(!of_root(&world, until.minus(1)).contains(&activate(&next)));
    assert_eq!(of_root(&world, until), [activate(&next)]);
    // Said again, by another leader, it neither begins anew nor ends earlier.
    world.now += 20;
    assert_eq!(world.one(mark(X509, &next, false)), Ok(done));
    assert_eq!(world.take_events(), []);
    assert_eq!(of_root(&world, until), [activate(&next)]);
    assert_eq!(of_root(&world, until.minus(1)), []);
}

/// What is due for roots.
fn of_root(world: &World, at: UnixSeconds) -> Vec<Due> {
    let is_of_key = |step: &Due| matches!(step, Due::Prepare { kind: JWT } | Due::PruneAuthorities);
    due(&world.state, at).into_iter().filter(|step| !is_of_key(step)).collect()
}

/// Nobody polls: the leader sleeps until the time is over.
#[test]
fn the_end_of_the_time_is_when_something_falls_due() {
    let (mut world, next) = replacing(bundle_endpoint(), Publication::Hints);
    world.one(mark(X509, &next, false)).unwrap();
    assert_eq!(next_due_at(&world.state, world.seconds()), Some(world.seconds().plus(HINTS)));
}

/// Accepts: FED-06
#[test]
fn where_nothing_is_served_elsewhere_nothing_is_waited_for() {
    let (world, next) = replacing(MemberServices::default(), Publication::Hints);
    assert_eq!(due(&world.state, world.seconds()), [activate(&next)]);
    let authority = world.state.authority(X509, &next).unwrap();
    assert_eq!(published_at(&world.state, &authority), Some(world.seconds()));
}

#[test]
fn the_gate_names_the_time_of_readers_and_the_peers_that_are_known() {
    let (mut world, next) = replacing(bundle_endpoint(), Publication::Hints);
    for name in ["peer.example", "other.example"] {
        world.one(create_relationship(&foreign(name))).unwrap();
    }
    let reports = [MemberReport { member: number(1), applied_index: 99, connected: true }];
    let waits = |world: &World| {
        let knowledge = Knowledge { now: world.seconds(), own: None, reports: &reports };
        activation_waits_for(&world.state, (X509, &next), 50, &[].into(), &knowledge)
    };
    let peers = vec![foreign("other.example"), peer()];
    assert_eq!(waits(&world), [WaitsFor::Publication { until: None, peers: peers.clone() }]);
    assert!(waits(&world)[0].to_string().contains("not every live member serves it"));
    world.one(mark(X509, &next, false)).unwrap();
    let until = world.seconds().plus(HINTS);
    assert_eq!(waits(&world), [WaitsFor::Publication { until: Some(until), peers: peers.clone() }]);
    assert_eq!(waits(&world)[0].peers(), peers);
    let words = waits(&world)[0].to_string();
    assert_eq!(
        words,
        format!("readers of the bundle have time until {until} (other.example, peer.example among them)")
    );
    world.now += HINTS;
    assert_eq!(waits(&world), []);
}

/// What the leader waits for before it marks: a live member that lags, cut off or not.
#[test]
fn a_member_that_lags_is_waited_for_before_the_mark() {
    let (world, _) = replacing(bundle_endpoint(), Publication::Hints);
    let lacks = |applied_index, connected| {
        let reports = [MemberReport { member: number(1), applied_index, connected }];
        not_applied(&world.state, 5, &Knowledge { now: world.seconds(), own: None, reports: &reports }).len()
    };
    assert_eq!((lacks(5, true), lacks(4, true), lacks(4, false)), (0, 1, 1));
}

#[test]
fn once_nothing_signs_any_more_nobody_is_waited_for() {
    let (mut world, next) = replacing(bundle_endpoint(), Publication::Hints);
    world
        .one(Operation::MarkAuthority { kind: JWT, id: AuthorityId::new("jwt-1").unwrap(), compromised: false })
        .unwrap();
    // The next one lives a little longer than the one that signs.
    let end = world.state.active_x509_authority().unwrap().validity.not_after();
    world.now = end.0 + 1;
    let late = world.root(120);
    let steps = due(&world.state, world.seconds());
    assert!(!steps.contains(&publish(&next)), "{steps:?}");
    world.one(Operation::PrepareX509Authority(Box::new(late.new.clone()))).unwrap();
    assert!(due(&world.state, world.seconds()).contains(&activate(&late.id())));
}

/// The confirmed watch of every known peer ends the wait, where the policy says so.
#[test]
fn confirmations_of_all_known_peers_end_the_time_by_policy() {
    let (mut world, next) = replacing(federation_api(), Publication::ConfirmedByPeers);
    let confirm = Due::Confirm { kind: X509, id: next.clone() };
    world.refused_with(mark(X509, &next, true), RefusalCode::WrongState);
    world.one(mark(X509, &next, false)).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [], "no peer is known that could confirm");
    world.one(create_relationship(&peer())).unwrap();
    world.one(create_relationship(&foreign("other.example"))).unwrap();
    assert_eq!(due(&world.state, world.seconds()), std::slice::from_ref(&confirm));
    let confirmed = |names: &[&str]| names.iter().map(|name| foreign(name)).collect();
    let waits = |names: &[&str]| confirmation_waits_for(&world.state, (X509, &next), &confirmed(names));
    let until = Some(world.seconds().plus(HINTS));
    assert_eq!(waits(&["peer.example"]), [WaitsFor::Publication { until, peers: vec![foreign("other.example")] }]);
    assert_eq!(waits(&["peer.example", "other.example", "more.example"]), []);
    world.now += 1;
    world.one(mark(X509, &next, true)).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [activate(&next)]);
    // The policy is taken back: what peers confirmed counts no more.
    let policy = Policy { publication: Publication::Hints, ..*world.state.policy().unwrap() };
    world.one(Operation::SetPolicy { policy, expected_revision: 0 }).unwrap();
    assert_eq!(due(&world.state, world.seconds()), []);
    world.now += HINTS;
    assert_eq!(due(&world.state, world.seconds()), [activate(&next)]);
}

#[test]
fn what_peers_confirm_counts_for_nothing_without_the_policy_or_the_watch() {
    let (mut world, next) = replacing(federation_api(), Publication::Hints);
    world.one(create_relationship(&peer())).unwrap();
    world.one(mark(X509, &next, false)).unwrap();
    assert_eq!(due(&world.state, world.seconds()), []);
    let message = world.refused_with(mark(X509, &next, true), RefusalCode::WrongState);
    assert!(message.contains("publication"), "{message}");
    // At the standard's endpoint nobody can confirm anything.
    let (mut world, next) = replacing(bundle_endpoint(), Publication::ConfirmedByPeers);
    world.one(create_relationship(&peer())).unwrap();
    world.one(mark(X509, &next, false)).unwrap();
    assert_eq!(due(&world.state, world.seconds()), []);
}

/// Validators that fetch keys by OIDC discovery keep them for the cache time, and confirm nothing.
#[test]
fn a_token_key_waits_for_the_cache_time_too() {
    let policy = Policy { jwt_key_lifetime: 3_600, publication: Publication::ConfirmedByPeers, ..short_policy() };
    let mut world = World::founded_with(policy);
    world.one(announce(1, MemberServices { oidc: oidc().oidc, ..federation_api() })).unwrap();
    world.one(create_relationship(&peer())).unwrap();
    let (active, next) = (AuthorityId::new("jwt-1").unwrap(), AuthorityId::new("jwt-2").unwrap());
    let prepare = Operation::PrepareJwtAuthority(Box::new(jwt_key("jwt-2", world.now, 3_600)));
    let mark_active = Operation::MarkAuthority { kind: JWT, id: active, compromised: false };
    for operation in [mark_active, prepare, mark(JWT, &next, false), mark(JWT, &next, true)] {
        world.one(operation).unwrap();
    }
    let cache = i64::from(world.state.jwks_cache_time());
    let is_due = |at: UnixSeconds| due(&world.state, at).contains(&Due::Activate { kind: JWT, id: next.clone() });
    assert!(!is_due(world.seconds().plus(cache - 1)));
    assert!(is_due(world.seconds().plus(cache)));
}

#[test]
fn the_policys_own_publication_time_holds_beside_the_hints() {
    let (mut world, next) = replacing(bundle_endpoint(), Publication::Hints);
    let policy = Policy { publication_time: 40, ..*world.state.policy().unwrap() };
    world.one(Operation::SetPolicy { policy, expected_revision: 0 }).unwrap();
    world.one(mark(X509, &next, false)).unwrap();
    let authority = world.state.authority(X509, &next).unwrap();
    assert_eq!(published_at(&world.state, &authority), Some(world.seconds().plus(40)));
}

#[test]
fn the_timeline_tells_when_it_was_published_and_when_it_signs() {
    let (mut world, next) = replacing(federation_api(), Publication::ConfirmedByPeers);
    world.one(create_relationship(&peer())).unwrap();
    let activation = |world: &World| {
        let steps = timeline(&world.state, world.seconds());
        steps
            .into_iter()
            .find(|step| step.milestone == Milestone::Activated && !step.taken && step.kind == X509)
            .unwrap()
    };
    // Not published yet: as if it were now.
    assert_eq!(activation(&world).at, world.seconds().plus(HINTS));
    world.now += 5;
    world.one(mark(X509, &next, false)).unwrap();
    assert_eq!(activation(&world).at, world.seconds().plus(HINTS));
    world.now += 5;
    assert_eq!(activation(&world).at, world.seconds().plus(HINTS - 5));
    world.one(mark(X509, &next, true)).unwrap();
    assert_eq!(activation(&world).at, world.seconds());
    let of_next: Vec<_> = timeline(&world.state, world.seconds())
        .into_iter()
        .filter(|step| step.id.as_ref() == Some(&next) && step.taken)
        .map(|step| step.milestone)
        .collect();
    assert_eq!(of_next, [Milestone::Prepared, Milestone::Published, Milestone::Confirmed]);
}

#[test]
fn only_what_is_prepared_is_published() {
    let (mut world, next) = replacing(bundle_endpoint(), Publication::Hints);
    let active = world.active_root().id();
    let message = world.refused_with(mark(X509, &active, false), RefusalCode::WrongState);
    assert!(message.contains("is active, and not prepared"), "{message}");
    let nobody: TrustDomain = foreign("nobody.example");
    let unknown = AuthorityId::new(nobody.as_str()).unwrap();
    world.refused_with(mark(JWT, &unknown, false), RefusalCode::NotFound);
    world.one(mark(X509, &next, false)).unwrap();
}
