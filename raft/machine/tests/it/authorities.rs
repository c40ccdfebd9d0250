//! The life cycle of authorities, and what is due when (design section 3).

use quorate_proto_identity::{AuthorityId, UnixSeconds};
use quorate_raft_machine::authority::{
    AUTHORITIES_LIMIT, EXPIRY_GRACE, Milestone, SEALED_BYTES_LIMIT, next_due_at, timeline,
};
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, Done, Due, Event, NewIssuingCertificate, NewJwtAuthority, NewX509Authority,
    Operation, Policy, Recipient, RefusalCode, Sealed, SealedFor, due,
};

use crate::world::{TestRoot, World, backdated, jwt_key, life, member, number, sealed_to, short_policy};

/// A root is to be made.
const PREPARE_X509: Due = Due::Prepare { kind: AuthorityKind::X509 };

/// A token key is to be made.
const PREPARE_JWT: Due = Due::Prepare { kind: AuthorityKind::Jwt };

fn prepare(root: &TestRoot) -> Operation {
    Operation::PrepareX509Authority(Box::new(root.new.clone()))
}

fn activate(root: &TestRoot, issuing_certificates: Vec<NewIssuingCertificate>) -> Operation {
    Operation::ActivateX509Authority { id: root.id(), issuing_certificates }
}

fn prepare_jwt(world: &World, name: &str) -> Operation {
    Operation::PrepareJwtAuthority(Box::new(jwt_key(name, world.now, 120)))
}

fn jwt(name: &str) -> AuthorityId {
    AuthorityId::new(name).unwrap()
}

fn state_of(world: &World, root: &TestRoot) -> Option<AuthorityState> {
    world.state.x509_authority(&root.id()).map(|root| root.state)
}

/// A leader decides to make an authority, and is replaced before that is in the log; its successor does it in its own way.
#[test]
fn an_authority_that_is_to_succeed_one_that_is_active_no_more_is_refused() {
    let mut world = World::founded();
    let active = world.active_root().id();
    let made = |world: &mut World| {
        let root = world.root(120);
        let new = NewX509Authority { succeeds: Some(active.clone()), ..root.new.clone() };
        (root, Operation::PrepareX509Authority(Box::new(new)))
    };
    let (next, in_time) = made(&mut world);
    let (_, late) = made(&mut world);
    world.one(in_time).unwrap();
    world.one(activate(&next, vec![])).unwrap();
    let message = world.refused_with(late, RefusalCode::WrongState);
    assert!(message.contains(&format!("was made to succeed {active}")), "{message}");
    assert!(message.contains(&format!("{} is", next.id())), "{message}");

    let successor = |world: &World, name| {
        let new = NewJwtAuthority { succeeds: Some(jwt("jwt-1")), ..jwt_key(name, world.now, 120) };
        Operation::PrepareJwtAuthority(Box::new(new))
    };
    let second = successor(&world, "jwt-2");
    world.one(second).unwrap();
    world.one(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }).unwrap();
    let third = successor(&world, "jwt-3");
    let message = world.refused_with(third, RefusalCode::WrongState);
    assert!(message.contains("was made to succeed jwt-1"), "{message}");
}

#[test]
fn a_root_goes_through_its_whole_life() {
    let mut world = World::founded();
    let first = world.active_root();
    let issuing = world.issuing(&first, 1, 20);
    world.one(Operation::RecordIssuingCertificate(Box::new(issuing))).unwrap();
    let second = world.root(120);
    world.take_events();

    let moved = |root: &TestRoot, state| Ok(Done::AuthorityMoved { kind: AuthorityKind::X509, id: root.id(), state });
    assert_eq!(world.one(prepare(&second)), moved(&second, AuthorityState::Prepared));
    assert_eq!(
        world.take_events(),
        [Event::X509AuthorityChanged { id: second.id() }, Event::BundleChanged { sequence: 2 }]
    );
    assert_eq!(world.state.bundle().x509_authorities.len(), 2);

    let issuing = world.issuing(&second, 1, 20);
    assert_eq!(world.one(activate(&second, vec![issuing])), moved(&second, AuthorityState::Active));
    assert_eq!(
        (state_of(&world, &first), state_of(&world, &second)),
        (Some(AuthorityState::Old), Some(AuthorityState::Active))
    );
    assert_eq!(world.state.bundle().sequence, 2, "the bundle says the same");
    assert!(world.state.x509_authority(&first.id()).unwrap().sealed.is_some(), "an old root signs its CRL");

    let taint = Operation::TaintX509Authority { id: first.id() };
    assert_eq!(world.one(taint), moved(&first, AuthorityState::Tainted));
    assert_eq!(world.state.bundle().sequence, 3);
    assert!(world.state.bundle().x509_authorities.iter().any(|root| root.id == first.id() && root.tainted));

    assert_eq!(world.state.issuing_certificates().filter(|issuing| issuing.revoked_at.is_some()).count(), 0);
    let revoke = Operation::RevokeX509Authority { id: first.id() };
    assert_eq!(world.one(revoke), moved(&first, AuthorityState::Revoked));
    assert_eq!((world.state.bundle().sequence, world.state.bundle().x509_authorities.len()), (4, 1));
    let revoked = world.state.x509_authority(&first.id()).unwrap();
    assert_eq!(revoked.sealed, None);
    assert_eq!(revoked.times.revoked_at, Some(world.seconds()));
    assert_eq!(world.state.issuing_certificates().filter(|issuing| issuing.revoked_at.is_some()).count(), 1);
    assert_eq!(world.state.live_members(world.seconds()), [number(1)], "by its certificate under the new root");

    world.now += 120 + EXPIRY_GRACE + 1;
    let pruned = Done::AuthoritiesPruned { x509: 1, jwt: 0, issuing: 2 };
    assert_eq!(world.one(Operation::PruneAuthorities), Ok(pruned));
    assert_eq!(state_of(&world, &first), None);
    assert_eq!(state_of(&world, &second), Some(AuthorityState::Active), "the active one stays, ended or not");
}

#[test]
fn a_token_key_goes_through_its_whole_life_and_loses_its_private_half_once_old() {
    let mut world = World::founded();
    let moved = |name: &str, state| Ok(Done::AuthorityMoved { kind: AuthorityKind::Jwt, id: jwt(name), state });
    let operation = prepare_jwt(&world, "jwt-2");
    assert_eq!(world.one(operation), moved("jwt-2", AuthorityState::Prepared));
    assert_eq!((world.state.bundle().sequence, world.state.bundle().jwt_authorities.len()), (2, 2));
    assert_eq!(world.one(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }), moved("jwt-2", AuthorityState::Active));
    assert_eq!(world.state.bundle().sequence, 2);
    let old = world.state.jwt_authority(&jwt("jwt-1")).unwrap();
    assert_eq!((old.state, &old.sealed), (AuthorityState::Old, &None));
    assert_eq!(world.one(Operation::TaintJwtAuthority { id: jwt("jwt-1") }), moved("jwt-1", AuthorityState::Tainted));
    assert_eq!(world.one(Operation::RevokeJwtAuthority { id: jwt("jwt-1") }), moved("jwt-1", AuthorityState::Revoked));
    assert_eq!((world.state.bundle().sequence, world.state.bundle().jwt_authorities.len()), (4, 1));
}

#[test]
fn every_step_that_the_life_cycle_does_not_have_is_refused() {
    let mut world = World::founded();
    let active = world.active_root();
    let prepared = world.root(120);
    world.one(prepare(&prepared)).unwrap();
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
    for (operation, expected) in [
        (Operation::TaintX509Authority { id: active.id() }, "is active: only an old authority can be tainted"),
        (Operation::TaintX509Authority { id: prepared.id() }, "is prepared: only an old authority can be tainted"),
        (Operation::RevokeX509Authority { id: active.id() }, "is active: only a tainted authority can be revoked"),
        (Operation::RevokeX509Authority { id: prepared.id() }, "is prepared"),
        (activate(&active, vec![]), "is active: only a prepared authority can be activated"),
        (Operation::TaintJwtAuthority { id: jwt("jwt-1") }, "is active"),
        (Operation::TaintJwtAuthority { id: jwt("jwt-2") }, "is prepared"),
        (Operation::RevokeJwtAuthority { id: jwt("jwt-1") }, "is active"),
        (Operation::ActivateJwtAuthority { id: jwt("jwt-1") }, "is active"),
    ] {
        let message = world.refused_with(operation, RefusalCode::WrongState);
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
    world.one(activate(&prepared, vec![])).unwrap();
    let message = world.refused_with(Operation::RevokeX509Authority { id: active.id() }, RefusalCode::WrongState);
    assert!(message.contains("is old: only a tainted"), "{message}");
    let unknown = jwt("unknown");
    for operation in [
        Operation::ActivateX509Authority { id: unknown.clone(), issuing_certificates: vec![] },
        Operation::TaintX509Authority { id: unknown.clone() },
        Operation::RevokeX509Authority { id: unknown.clone() },
        Operation::ActivateJwtAuthority { id: unknown.clone() },
        Operation::TaintJwtAuthority { id: unknown.clone() },
        Operation::RevokeJwtAuthority { id: unknown },
    ] {
        world.refused_with(operation, RefusalCode::NotFound);
    }
}

#[test]
fn a_step_repeated_by_a_new_leader_is_refused() {
    let mut world = World::founded();
    let root = world.root(120);
    world.one(prepare(&root)).unwrap();
    let other = world.root(120);
    let message = world.refused_with(prepare(&other), RefusalCode::WrongState);
    assert!(message.contains("is prepared already"), "{message}");
    world.refused_with(prepare(&root), RefusalCode::AlreadyExists);
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
    let operation = prepare_jwt(&world, "jwt-3");
    world.refused_with(operation, RefusalCode::WrongState);
    world.one(activate(&root, vec![])).unwrap();
    world.refused_with(activate(&root, vec![]), RefusalCode::WrongState);
}

#[test]
fn a_prepared_authority_that_ended_unused_makes_way() {
    let mut world = World::founded();
    let unused = world.root(120);
    world.one(prepare(&unused)).unwrap();
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
    world.now += 121;
    let message = world.refused_with(activate(&unused, vec![]), RefusalCode::WrongState);
    assert!(message.contains("can no longer be activated"), "{message}");
    world.refused_with(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }, RefusalCode::WrongState);
    let next = world.root(120);
    world.one(prepare(&next)).unwrap();
    let operation = prepare_jwt(&world, "jwt-3");
    world.one(operation).unwrap();
    assert_eq!(state_of(&world, &unused), None);
    assert_eq!(world.state.jwt_authority(&jwt("jwt-2")), None);
}

#[test]
fn a_token_key_that_is_not_in_order_is_refused() {
    let mut world = World::founded();
    let mut bad_key = jwt_key("jwt-2", world.now, 120);
    bad_key.public_key = b"none"[..].into();
    let mut long = jwt_key("jwt-2", world.now, 120);
    long.validity = life(world.now, 151);
    let mut sealed_to_stranger = jwt_key("jwt-2", world.now, 120);
    sealed_to_stranger.sealed = sealed_to(&[1, 7]);
    for (new, expected) in
        [(bad_key, "cannot sign tokens"), (long, "jwt_key_lifetime is 120 s"), (sealed_to_stranger, "no member")]
    {
        let message = world.refused_with(Operation::PrepareJwtAuthority(Box::new(new)), RefusalCode::Invalid);
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
}

#[test]
fn a_private_key_that_is_sealed_wrongly_is_refused() {
    let recovery =
        |id: &str| SealedFor { recipient: Recipient::RecoveryKey(id.to_owned()), ..sealed_to(&[1]).parts.remove(0) };
    let with = |part: SealedFor| Sealed { suite: 1, parts: vec![part] };
    let part = || sealed_to(&[1]).parts.remove(0);
    let cases = [
        (sealed_to(&[]), "sealed to nobody"),
        (sealed_to(&[1, 1]), "sealed twice to member 1"),
        (with(SealedFor { ciphertext: bytes::Bytes::new(), ..part() }), "is empty or has more than"),
        (with(SealedFor { ciphertext: vec![0; SEALED_BYTES_LIMIT + 1].into(), ..part() }), "is empty or has more than"),
        (with(SealedFor { encapsulated_key: vec![0; SEALED_BYTES_LIMIT + 1].into(), ..part() }), "more than"),
        (with(recovery("recovery-2026")), "no recovery key is set"),
        (sealed_to(&[1, 9]), "sealed to member 9, which is no member"),
    ];
    let mut world = World::founded();
    for (sealed, expected) in cases {
        let new = NewJwtAuthority { sealed, ..jwt_key("jwt-2", world.now, 120) };
        let message = world.refused_with(Operation::PrepareJwtAuthority(Box::new(new)), RefusalCode::Invalid);
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
    let key = bytes::Bytes::from_static(b"recovery key");
    world.one(Operation::SetRecoveryKey { public_key: Some(key) }).unwrap();
    let id = world.state.recovery_key().unwrap().id.clone();
    let new = NewJwtAuthority { sealed: with(recovery("another")), ..jwt_key("jwt-2", world.now, 120) };
    let message = world.refused_with(Operation::PrepareJwtAuthority(Box::new(new)), RefusalCode::Invalid);
    assert!(message.contains(&format!("the recovery key is {id}")), "{message}");
    let mut both = sealed_to(&[1]);
    both.parts.push(recovery(&id));
    let new = NewJwtAuthority { sealed: both.clone(), ..jwt_key("jwt-2", world.now, 120) };
    world.one(Operation::PrepareJwtAuthority(Box::new(new))).unwrap();
    assert_eq!(world.state.jwt_authority(&jwt("jwt-2")).unwrap().sealed, Some(both));
}

#[test]
fn an_activation_whose_certificates_are_not_in_order_changes_nothing() {
    let mut world = World::founded();
    let active = world.active_root();
    let next = world.root(120);
    world.one(prepare(&next)).unwrap();
    let wrong_root = world.issuing(&active, 1, 20);
    let message = world.refused_with(activate(&next, vec![wrong_root]), RefusalCode::Invalid);
    assert!(message.contains("is not signed by root"), "{message}");
    let good = world.issuing(&next, 1, 20);
    let message = world.refused_with(activate(&next, vec![good.clone(), good]), RefusalCode::Invalid);
    assert!(message.contains("comes twice"), "{message}");
    assert_eq!(state_of(&world, &active), Some(AuthorityState::Active));
}

#[test]
fn an_activation_moves_live_members_with_the_keys_that_they_have() {
    let mut world = World::founded();
    let first = world.active_root();
    let key = crate::world::key();
    let issuing = world.issuing_for(&first, &key, 1, 20, 40);
    world.one(Operation::RecordIssuingCertificate(Box::new(issuing))).unwrap();
    let next = world.root(120);
    world.one(prepare(&next)).unwrap();
    world.now += 5;
    let mut same_key = world.issuing_for(&next, &key, 1, 20, 40);
    same_key.crl = bytes::Bytes::new();
    world.one(activate(&next, vec![same_key])).unwrap();
    assert_eq!(world.state.issuing_certificates().count(), 2);
    assert_eq!(world.state.issuing_keys().count(), 1);
}

#[test]
fn authorities_have_a_limit() {
    let mut world = World::founded();
    for n in 2..=AUTHORITIES_LIMIT {
        let name = format!("jwt-{n}");
        let operation = prepare_jwt(&world, &name);
        world.one(operation).unwrap();
        world.one(Operation::ActivateJwtAuthority { id: jwt(&name) }).unwrap();
    }
    let operation = prepare_jwt(&world, "one-too-many");
    world.refused_with(operation, RefusalCode::LimitReached);
}

/// What is due at each second of a life of 120 s: successor prepared at 60 s left, activated at 20 s left.
#[test]
fn steps_fall_due_at_half_and_at_a_sixth_of_a_life() {
    let mut world = World::founded();
    let at = |world: &World, second: i64| due(&world.state, UnixSeconds(crate::world::START + second));
    assert_eq!(at(&world, 59), []);
    assert_eq!(at(&world, 60), [PREPARE_X509, PREPARE_JWT]);
    assert_eq!(at(&world, 100), [PREPARE_X509, PREPARE_JWT], "late, but one after the other");
    world.now += 60;
    let next = world.root(120);
    world.one(prepare(&next)).unwrap();
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
    assert_eq!(at(&world, 99), []);
    let activations = [
        Due::Activate { kind: AuthorityKind::X509, id: next.id() },
        Due::Activate { kind: AuthorityKind::Jwt, id: jwt("jwt-2") },
    ];
    assert_eq!(at(&world, 100), activations);
    world.now += 40;
    world.one(activate(&next, vec![])).unwrap();
    world.one(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }).unwrap();
    assert_eq!(at(&world, 119), []);
    assert_eq!(at(&world, 120), [PREPARE_X509, PREPARE_JWT]);
    // By every clock that lets a member sign: 5 s off on both sides.
    assert!(!at(&world, 130).contains(&Due::PruneAuthorities));
    assert!(at(&world, 131).contains(&Due::PruneAuthorities));
    assert_eq!(
        next_due_at(&world.state, UnixSeconds(crate::world::START + 120)),
        Some(UnixSeconds(crate::world::START + 131))
    );
}

/// Design section 3, compromise: each step falls due when the one before is taken, for every kind alike; taint waits until
/// one signs that is not suspect itself, so that nothing is replaced twice.
#[test]
fn what_is_suspect_is_replaced_at_once_and_goes_on_to_taint_and_revocation() {
    let mut world = World::founded();
    let (first, prepared) = (world.active_root(), world.root(120));
    world.one(prepare(&prepared)).unwrap();
    let kind = AuthorityKind::X509;
    for id in [first.id(), prepared.id()] {
        world.one(Operation::MarkAuthority { kind, id, compromised: true }).unwrap();
    }
    let due_now = |world: &World| due(&world.state, world.seconds());
    assert_eq!(due_now(&world), [Due::Activate { kind, id: prepared.id() }], "it is in the bundle already");
    world.one(activate(&prepared, vec![])).unwrap();
    assert_eq!(due_now(&world), [PREPARE_X509]);
    let clean = world.root(120);
    world.one(prepare(&clean)).unwrap();
    assert_eq!(due_now(&world), [Due::Activate { kind, id: clean.id() }]);
    world.one(activate(&clean, vec![])).unwrap();
    for suspect in [&first, &prepared] {
        let taint = Due::Taint { kind, id: suspect.id() };
        assert!(due_now(&world).contains(&taint));
        world.one(Operation::TaintX509Authority { id: suspect.id() }).unwrap();
        assert!(!due_now(&world).contains(&taint));
        let revoke = Due::Revoke { kind, id: suspect.id() };
        assert!(due_now(&world).contains(&revoke));
        world.one(Operation::RevokeX509Authority { id: suspect.id() }).unwrap();
        assert!(!due_now(&world).contains(&revoke));
    }
    assert_eq!(due_now(&world), []);
}

/// An operator's wish does not wait for the time of the active one, and is no suspicion; readers of the bundle have theirs.
#[test]
fn what_is_to_be_replaced_waits_for_the_publication_time_and_for_nothing_else() {
    let mut world = World::founded_with(Policy { publication_time: 30, ..short_policy() });
    let (kind, id) = (AuthorityKind::Jwt, jwt("jwt-1"));
    world.one(Operation::MarkAuthority { kind, id: id.clone(), compromised: false }).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [PREPARE_JWT]);
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
    let published = UnixSeconds(world.now + 30);
    assert_eq!(due(&world.state, published.minus(1)), []);
    assert_eq!(next_due_at(&world.state, world.seconds()), Some(published));
    assert_eq!(due(&world.state, published), [Due::Activate { kind, id: jwt("jwt-2") }]);
    world.one(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [], "the old one stays in the bundle");
    let steps = timeline(&world.state, world.seconds());
    let replaced = steps.iter().find(|step| step.milestone == Milestone::Replaced).unwrap();
    assert_eq!((replaced.id.as_ref(), replaced.taken), (Some(&id), true));
}

#[test]
fn after_a_year_switched_off_a_new_authority_is_made_and_signs_at_once() {
    let mut world = World::founded();
    let unused = world.root(120);
    world.one(prepare(&unused)).unwrap();
    world.now += 365 * 24 * 3_600;
    assert_eq!(due(&world.state, world.seconds()), [PREPARE_X509, PREPARE_JWT, Due::PruneAuthorities]);
    let next = world.root(120);
    world.one(prepare(&next)).unwrap();
    assert_eq!(
        due(&world.state, world.seconds()),
        [Due::Activate { kind: AuthorityKind::X509, id: next.id() }, PREPARE_JWT]
    );
}

#[test]
fn long_lives_are_prepared_30_days_and_activated_7_days_before_their_end() {
    use quorate_raft_machine::authority::{activate_at, prepare_at};
    const DAY: i64 = 24 * 3_600;
    let year = backdated(0, 365 * DAY);
    assert_eq!(prepare_at(&year), UnixSeconds(335 * DAY));
    assert_eq!(activate_at(&year), UnixSeconds(358 * DAY));
    let month = backdated(0, 30 * DAY);
    assert_eq!(prepare_at(&month), UnixSeconds(15 * DAY));
    assert_eq!(activate_at(&month), UnixSeconds(25 * DAY));
}

#[test]
fn an_authority_of_seconds_is_replaced_once_in_its_life() {
    use quorate_raft_machine::authority::{activate_at, prepare_at};
    let short = backdated(0, 24);
    assert_eq!((prepare_at(&short), activate_at(&short)), (UnixSeconds(12), UnixSeconds(20)));
    let shortest = backdated(0, 2);
    assert_eq!((prepare_at(&shortest), activate_at(&shortest)), (UnixSeconds(1), UnixSeconds(2)));
    let not_backdated = life(0, 12);
    assert_eq!(prepare_at(&not_backdated), UnixSeconds(12), "shorter than the backdating: at its end, not before it");
}

/// Nothing under a root outlives it, but a token may end with its key and is accepted for 60 s more.
#[test]
fn a_root_leaves_the_bundle_at_its_end_and_a_token_key_after_the_leeway_of_validators() {
    let mut world = World::founded();
    let first = world.active_root();
    let next = world.root(120);
    world.one(prepare(&next)).unwrap();
    world.one(activate(&next, vec![])).unwrap();
    let operation = prepare_jwt(&world, "jwt-2");
    world.one(operation).unwrap();
    world.one(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }).unwrap();
    let pruned = |x509, jwt| Ok(Done::AuthoritiesPruned { x509, jwt, issuing: 0 });
    world.now += 120;
    assert_eq!(world.one(Operation::PruneAuthorities), pruned(0, 0));
    world.now += 1;
    assert_eq!(world.one(Operation::PruneAuthorities), pruned(1, 0));
    assert!(world.state.bundle().x509_authorities.iter().all(|root| root.id != first.id()));
    world.now += EXPIRY_GRACE - 1;
    assert_eq!(world.one(Operation::PruneAuthorities), pruned(0, 0));
    assert_eq!(world.state.bundle().jwt_authorities.len(), 2);
    world.now += 1;
    assert_eq!(world.one(Operation::PruneAuthorities), pruned(0, 1));
    assert_eq!(world.state.bundle().jwt_authorities.len(), 1);
}

#[test]
fn expired_entries_are_due_to_be_pruned() {
    let mut world = World::founded();
    let mut ends = crate::world::draft("a", "/a", &["unix:uid:1"]);
    ends.expires_at = Some(UnixSeconds(world.now + 10));
    world.one(crate::world::create(ends)).unwrap();
    assert_eq!(due(&world.state, UnixSeconds(world.now + 10)), []);
    assert_eq!(due(&world.state, UnixSeconds(world.now + 11)), [Due::PruneExpiredEntries]);
}

/// Design section 2, property 6: what a compromised member could open is replaced, whoever leads, and whatever was prepared
/// already.
#[test]
fn inv_11_authorities_that_a_compromised_member_could_open_are_due_for_replacement_until_others_sign() {
    let mut world = World::founded();
    let thief = Operation::SetMember { number: None, member: Box::new(member("node-2")) };
    world.one(thief).unwrap();
    let prepared = world.root(120);
    world.one(prepare(&prepared)).unwrap();
    assert_eq!(due(&world.state, world.seconds()), []);
    let compromised = Operation::RemoveMember { number: number(2), compromised: true };
    world.one(compromised.clone()).unwrap();
    let activate_prepared = Due::Activate { kind: AuthorityKind::X509, id: prepared.id() };
    assert_eq!(due(&world.state, world.seconds()), [activate_prepared, PREPARE_JWT]);

    world.one(activate(&prepared, Vec::new())).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [PREPARE_X509, PREPARE_JWT]);
    let fresh = world.root(120);
    world.one(prepare(&fresh)).unwrap();
    let key = prepare_jwt(&world, "jwt-2");
    world.one(key).unwrap();
    let activations = [
        Due::Activate { kind: AuthorityKind::X509, id: fresh.id() },
        Due::Activate { kind: AuthorityKind::Jwt, id: jwt("jwt-2") },
    ];
    assert_eq!(due(&world.state, world.seconds()), activations);
    world.one(activate(&fresh, Vec::new())).unwrap();
    world.one(Operation::ActivateJwtAuthority { id: jwt("jwt-2") }).unwrap();
    // And then what it could open leaves the bundle.
    while let [Due::Taint { kind, id } | Due::Revoke { kind, id }, ..] = due(&world.state, world.seconds()).as_slice() {
        let tainted = world.state.authority(*kind, id).unwrap().state == AuthorityState::Tainted;
        let id = id.clone();
        let operation = match (kind, tainted) {
            (AuthorityKind::X509, false) => Operation::TaintX509Authority { id },
            (AuthorityKind::X509, true) => Operation::RevokeX509Authority { id },
            (AuthorityKind::Jwt, false) => Operation::TaintJwtAuthority { id },
            (AuthorityKind::Jwt, true) => Operation::RevokeJwtAuthority { id },
        };
        world.one(operation).unwrap();
    }
    assert_eq!(due(&world.state, world.seconds()), []);
    let bundle = world.state.bundle();
    assert_eq!((bundle.x509_authorities.len(), bundle.jwt_authorities.len()), (1, 1));

    // Said again it brings no further rotation, and suspects nothing that it cannot open.
    world.one(compromised).unwrap();
    assert_eq!(due(&world.state, world.seconds()), []);
}
