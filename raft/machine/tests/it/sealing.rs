//! Who may open the keys of authorities: recipients that come and go.

use bytes::Bytes;
use quorate_raft_machine::authority::{SEALED_BYTES_LIMIT, SEALED_TOTAL_LIMIT};
use quorate_raft_machine::{
    AuthorityKind, Done, Event, MemberDraft, MemberRole, Operation, Recipient, RecoveryKey, RefusalCode, Sealed,
    SealedFor,
};

use crate::world::{World, jwt_key, member, number, sealed_to};

fn recipients(sealed: Option<&Sealed>) -> Vec<Recipient> {
    sealed.unwrap().parts.iter().map(|part| part.recipient.clone()).collect()
}

fn roots_of(world: &World) -> Vec<Recipient> {
    recipients(world.state.active_x509_authority().unwrap().sealed.as_ref())
}

fn keys_of(world: &World) -> Vec<Recipient> {
    recipients(world.state.active_jwt_authority().unwrap().sealed.as_ref())
}

fn of(member: u64) -> Recipient {
    Recipient::Member(number(member))
}

fn seal_root(world: &World, members: &[u64]) -> Operation {
    Operation::SealX509Authority { id: world.active_root().id(), parts: sealed_to(members).parts }
}

fn seal_key(world: &World, members: &[u64]) -> Operation {
    let id = world.state.active_jwt_authority().unwrap().id.clone();
    Operation::SealJwtAuthority { id, parts: sealed_to(members).parts }
}

/// A voter (1), one that is to be (2), and a learner (3).
fn three() -> World {
    let mut world = World::founded();
    let learner = MemberDraft { role: MemberRole::Learner, ..member("node-3") };
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    world.one(Operation::SetMember { number: None, member: Box::new(learner) }).unwrap();
    world.take_events();
    world
}

/// Section 3, sealing: root keys to voters, token keys to every node.
#[test]
fn roots_are_sealed_to_those_that_are_to_vote_and_token_keys_to_all() {
    let mut world = three();
    let id = world.active_root().id();
    let sealed = Done::AuthoritySealed { kind: AuthorityKind::X509, id: id.clone(), added: 1 };
    let operation = seal_root(&world, &[2]);
    assert_eq!(world.one(operation), Ok(sealed));
    assert_eq!(world.take_events(), [Event::X509AuthorityChanged { id }]);
    assert_eq!(roots_of(&world), [of(1), of(2)]);
    let operation = seal_root(&world, &[3]);
    let message = world.refused_with(operation, RefusalCode::Invalid);
    assert!(message.contains("member 3, which is not to be a voter"), "{message}");
    let operation = seal_key(&world, &[2, 3]);
    world.one(operation).unwrap();
    assert_eq!(keys_of(&world), [of(1), of(2), of(3)]);
    for operation in [seal_key(&world, &[9]), seal_key(&world, &[2, 2])] {
        world.refused_with(operation, RefusalCode::Invalid);
    }
}

#[test]
fn a_seal_that_is_there_is_kept_when_a_second_leader_makes_it_again() {
    let mut world = three();
    let operation = seal_key(&world, &[2]);
    world.one(operation).unwrap();
    world.take_events();
    let before = world.content();
    let Operation::SealJwtAuthority { id, mut parts } = seal_key(&world, &[2]) else { panic!() };
    parts[0].ciphertext = Bytes::from_static(b"sealed another time");
    let done = world.one(Operation::SealJwtAuthority { id: id.clone(), parts });
    assert_eq!(done, Ok(Done::AuthoritySealed { kind: AuthorityKind::Jwt, id, added: 0 }));
    assert_eq!(world.content(), before);
    assert_eq!(world.take_events(), []);
}

/// Property 6.
#[test]
fn nothing_is_sealed_once_a_key_is_erased() {
    let mut world = three();
    let first = world.state.active_jwt_authority().unwrap().id.clone();
    world.one(Operation::PrepareJwtAuthority(Box::new(jwt_key("jwt-2", world.now, 120)))).unwrap();
    world
        .one(Operation::ActivateJwtAuthority { id: quorate_proto_identity::AuthorityId::new("jwt-2").unwrap() })
        .unwrap();
    let late = Operation::SealJwtAuthority { id: first, parts: sealed_to(&[2]).parts };
    let message = world.refused_with(late, RefusalCode::WrongState);
    assert!(message.contains("erased"), "{message}");
    let unknown = Operation::SealJwtAuthority {
        id: quorate_proto_identity::AuthorityId::new("jwt-9").unwrap(),
        parts: sealed_to(&[2]).parts,
    };
    world.refused_with(unknown, RefusalCode::NotFound);
}

/// Section 3, sealing: membership first, then the record.
#[test]
fn a_demoted_voter_loses_its_seals_of_roots_and_keeps_those_of_token_keys() {
    let mut world = three();
    for operation in [seal_root(&world, &[2]), seal_key(&world, &[2])] {
        world.one(operation).unwrap();
    }
    let strip = |member| Operation::StripSeals { number: number(member) };
    assert_eq!(world.one(strip(2)), Ok(Done::SealsStripped { number: number(2), count: 0 }), "it is to be a voter");
    world.one(Operation::SetMemberRole { number: number(2), role: MemberRole::Learner, pinned: true }).unwrap();
    assert_eq!(roots_of(&world), [of(1), of(2)], "until the group has followed");
    assert_eq!(world.one(strip(2)), Ok(Done::SealsStripped { number: number(2), count: 1 }));
    assert_eq!((roots_of(&world), keys_of(&world)), (vec![of(1)], vec![of(1), of(2)]));
}

#[test]
fn the_only_one_that_can_open_the_root_that_signs_keeps_its_seal() {
    let mut world = three();
    world.one(Operation::SetMemberRole { number: number(1), role: MemberRole::Learner, pinned: true }).unwrap();
    let message = world.refused_with(Operation::StripSeals { number: number(1) }, RefusalCode::WrongState);
    assert!(message.contains("nobody but member 1"), "{message}");
    let operation = seal_root(&world, &[2]);
    world.one(operation).unwrap();
    world.one(Operation::StripSeals { number: number(1) }).unwrap();
    assert_eq!(roots_of(&world), [of(2)]);
}

/// An authority that nobody can open must not sign, and must not keep another from being prepared.
#[test]
fn a_prepared_key_that_nobody_can_open_any_more_is_not_activated_and_makes_way() {
    let mut world = three();
    let sealed = |members: &[u64], name: &str, world: &World| {
        let new = quorate_raft_machine::NewJwtAuthority { sealed: sealed_to(members), ..jwt_key(name, world.now, 120) };
        Operation::PrepareJwtAuthority(Box::new(new))
    };
    let id = |name: &str| quorate_proto_identity::AuthorityId::new(name).unwrap();
    let prepare = sealed(&[3], "jwt-2", &world);
    world.one(prepare).unwrap();
    let second = sealed(&[1], "jwt-3", &world);
    world.refused_with(second.clone(), RefusalCode::WrongState);
    world.one(Operation::RemoveMember { number: number(3), compromised: true }).unwrap();
    let activate = Operation::ActivateJwtAuthority { id: id("jwt-2") };
    let message = world.refused_with(activate, RefusalCode::WrongState);
    assert!(message.contains("no member can open"), "{message}");
    world.one(second).unwrap();
    assert!(world.state.jwt_authority(&id("jwt-2")).is_none());
    world.one(Operation::ActivateJwtAuthority { id: id("jwt-3") }).unwrap();
}

/// Section 3, sealing: an optional recovery key, so that a backup can be restored after every node is lost.
#[test]
fn existing_keys_can_be_sealed_to_a_recovery_key_and_a_former_one_loses_its_seals() {
    let mut world = three();
    let key = Bytes::from_static(b"a public key that is kept offline");
    let set = |key: Option<&Bytes>| Operation::SetRecoveryKey { public_key: key.cloned() };
    let id = RecoveryKey::new(key.clone(), world.seconds()).id;
    assert_eq!(id.len(), 32);
    assert_eq!(world.one(set(Some(&key))), Ok(Done::RecoveryKeySet { id: Some(id.clone()) }));
    assert_eq!(world.take_events(), [Event::RecoveryKeyChanged]);
    let recovery = Recipient::RecoveryKey(id.clone());
    let part = SealedFor { recipient: recovery.clone(), ..sealed_to(&[1]).parts.remove(0) };
    let root = world.active_root().id();
    world.one(Operation::SealX509Authority { id: root, parts: vec![part.clone()] }).unwrap();
    let token_key = world.state.active_jwt_authority().unwrap().id.clone();
    world.one(Operation::SealJwtAuthority { id: token_key, parts: vec![part] }).unwrap();
    assert_eq!((roots_of(&world), keys_of(&world)), (vec![of(1), recovery.clone()], vec![of(1), recovery]));
    assert_eq!(world.one(set(Some(&key))), Ok(Done::RecoveryKeySet { id: Some(id) }), "the same again");
    assert_eq!(roots_of(&world).len(), 2);
    world.one(set(Some(&Bytes::from_static(b"another")))).unwrap();
    assert_eq!((roots_of(&world), keys_of(&world)), (vec![of(1)], vec![of(1)]));
    world.one(set(None)).unwrap();
    assert_eq!(world.state.recovery_key(), None);
    world.refused_with(set(Some(&Bytes::new())), RefusalCode::Invalid);
}

/// Property 9: what many commands add together has a limit too.
#[test]
fn the_seals_of_one_key_have_a_limit_together() {
    let mut world = World::founded();
    let count = SEALED_TOTAL_LIMIT / SEALED_BYTES_LIMIT;
    for n in 0..count {
        let name = format!("node-{}", n + 2);
        let learner = MemberDraft { role: MemberRole::Learner, ..member(&name) };
        let command = world.command(vec![Operation::SetMember { number: None, member: Box::new(learner) }]);
        world.log_index += 1;
        assert!(world.state.apply(world.log_index, &command, &mut Vec::new()).results[0].is_ok());
    }
    let mut seals = |from: usize, to: usize| {
        let id = world.state.active_jwt_authority().unwrap().id.clone();
        let part = |n: usize| SealedFor {
            recipient: of(u64::try_from(n + 2).unwrap()),
            encapsulated_key: Bytes::new(),
            ciphertext: vec![7; SEALED_BYTES_LIMIT].into(),
        };
        world.one(Operation::SealJwtAuthority { id, parts: (from..to).map(part).collect() })
    };
    // The founder has a small one already.
    let half = count / 2;
    assert!(seals(0, half).is_ok());
    assert!(seals(half, count - 1).is_ok());
    assert_eq!(seals(count - 1, count).unwrap_err().code, RefusalCode::LimitReached);
}
