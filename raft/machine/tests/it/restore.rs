//! A backup becomes the first state of another cluster (design section 4; FLT-26).

use bytes::Bytes;
use quorate_proto_identity::x509::{CrlTemplate, RevocationReason, RevokedCertificate, build_crl, parse_crl};
use quorate_proto_identity::{AuthorityId, ClusterId, SerialNumber, UnixMillis, UnixSeconds};
use quorate_raft_machine::restore::{
    FLOOR_PER_SECOND, Restore, RestoredRoot, RestoredSecret, RestoredTokenKey, SEQUENCE_LIMIT, least_restore_floor,
    restore_floor,
};
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, Caller, Command, Done, Due, MemberDraft, MemberRole, MemberStatus, NewInvitation,
    Operation, Origin, Recipient, RefusalCode, SecretName, due,
};

use crate::world::{Change, TestRoot, World, create, draft, member, number, sealed_to};

/// The restored member's number after two of the old cluster.
const RESTORED: u64 = 3;

fn restored_member(name: &str) -> MemberDraft {
    MemberDraft { incarnation: Some([9; 16]), ..member(name) }
}

fn next_crl(root: &TestRoot, now: i64, number: u64, revoked: &[SerialNumber]) -> Bytes {
    let revoked: Vec<_> = revoked
        .iter()
        .map(|serial| RevokedCertificate {
            serial: *serial,
            revoked_at: UnixSeconds(now),
            reason: RevocationReason::CessationOfOperation,
        })
        .collect();
    let end = root.certificate.validity().not_after().plus(1_000);
    let template = CrlTemplate { this_update: UnixSeconds(now), next_update: end, number, revoked: &revoked };
    build_crl(&template, &root.key).unwrap().into()
}

/// A cluster of two, with an entry, an issuing certificate of each, an invitation, and what restores it.
fn lost() -> (World, Restore) {
    let mut world = World::founded();
    let second = Operation::SetMember { number: None, member: Box::new(restored_member("node-2")) };
    world.one(second).unwrap();
    world.one(create(draft("entry-1", "/workload", &["unix:uid:1"]))).unwrap();
    let root = world.active_root();
    for of in [1, 2] {
        let issuing = world.issuing(&root, of, 20);
        world.one(Operation::RecordIssuingCertificate(Box::new(issuing))).unwrap();
    }
    let invitation = NewInvitation {
        secret_hash: [5; 32],
        name: member("node-3").name,
        role: None,
        region: String::new(),
        zone: String::new(),
        labels: std::collections::BTreeMap::new(),
        expires_at: world.seconds().plus(60),
    };
    world.one(Operation::CreateInvitation(Box::new(invitation))).unwrap();
    world.now += 3;
    let restore = restore_of(&world, 8);
    (world, restore)
}

fn restore_of(world: &World, cluster: u8) -> Restore {
    let floor = restore_floor(&world.state, UnixMillis(world.now * 1_000 + 250)).unwrap();
    let next = world.state.counters().next_member_number;
    let roots = world.state.x509_authorities().filter(|root| root.state.in_bundle()).map(|root| {
        let serials: Vec<_> = world
            .state
            .issuing_certificates()
            .filter(|issuing| issuing.issuer == root.id && issuing.validity.not_after() >= world.seconds())
            .map(|issuing| issuing.serial)
            .collect();
        let crl = next_crl(&world.root_with(&root.id), world.now, floor, &serials);
        RestoredRoot { id: root.id.clone(), crl, sealed: sealed_to(&[next]) }
    });
    let keys = world.state.jwt_authorities().filter(|key| key.sealed.is_some());
    Restore {
        cluster_id: ClusterId::new([cluster; 16]),
        number: number(next),
        member: restored_member("node-1"),
        floor,
        roots: roots.collect(),
        token_keys: keys.map(|key| RestoredTokenKey { id: key.id.clone(), sealed: sealed_to(&[next]) }).collect(),
        secrets: vec![],
    }
}

fn operation(restore: &Restore) -> Operation {
    Operation::Restore(Box::new(restore.clone()))
}

#[test]
fn what_was_registered_stays_and_whoever_was_trusted_is_void() {
    let (mut world, restore) = lost();
    let (bundle, root) = (world.state.bundle(), world.active_root());
    let done = Done::Restored { member: number(RESTORED), sequence: restore.floor, revoked: 2 };
    assert_eq!(world.one(operation(&restore)), Ok(done));

    let state = &world.state;
    assert_eq!(state.cluster().unwrap().id, restore.cluster_id);
    assert_eq!(state.cluster().unwrap().epoch, 2, "whoever speaks for the epoch before is refused");
    let members: Vec<_> = state.members().map(|member| (member.number.get(), member.record.role)).collect();
    assert_eq!(members, [(RESTORED, MemberRole::Voter)]);
    assert_eq!(state.counters().next_member_number, RESTORED + 1, "a number is never given twice");
    assert_eq!(state.invitations().count(), 0);
    assert_eq!(state.live_members(world.seconds()), []);
    assert_eq!(state.entry_count(), 1);
    // The old workloads go on: what they verify with is in the bundle, and nothing signs that they do not know.
    assert_eq!(state.bundle().x509_authorities, bundle.x509_authorities);
    assert_eq!(state.bundle().jwt_authorities, bundle.jwt_authorities);
    assert_eq!(state.bundle().sequence, restore.floor);
    // CRL-06: both certificates are in the CRL of their root.
    let crl = parse_crl(&state.x509_authority(&root.id()).unwrap().crl).unwrap();
    assert_eq!((crl.revoked.len(), crl.number), (2, restore.floor));
}

#[test]
fn keys_that_the_old_members_had_are_replaced_at_once() {
    let (mut world, restore) = lost();
    world.one(operation(&restore)).unwrap();
    let kinds = [AuthorityKind::X509, AuthorityKind::Jwt];
    let prepare = kinds.map(|kind| Due::Prepare { kind });
    assert!(prepare.iter().all(|step| due(&world.state, world.seconds()).contains(step)));
    let mut next = world.root(120);
    next.new.sealed = sealed_to(&[RESTORED]);
    world.one(Operation::PrepareX509Authority(Box::new(next.new.clone()))).unwrap();
    let activate = Due::Activate { kind: AuthorityKind::X509, id: next.id() };
    assert!(due(&world.state, world.seconds()).contains(&activate));
    let former = world.state.active_x509_authority().unwrap().id.clone();
    let activate = Operation::ActivateX509Authority { id: next.id(), issuing_certificates: Vec::new() };
    world.one(activate).unwrap();
    assert_eq!(world.state.x509_authority(&former).unwrap().state, AuthorityState::Old, "in the bundle to its end");
}

/// INV-09, and the sequence of a restored cluster is above all that the old one can have served.
#[test]
fn secrets_are_sealed_anew_and_what_nobody_can_open_is_erased() {
    let (mut world, mut restore) = lost();
    let name = |text| SecretName::new(text).unwrap();
    let (opened, unopened) = (name("acme/account"), name("federation/peer.example/api-key"));
    for name in [&opened, &unopened] {
        world.one(Operation::PutSecret { name: name.clone(), sealed: sealed_to(&[1, 2]) }).unwrap();
    }
    let secret = |members: &[u64]| RestoredSecret { name: opened.clone(), sealed: sealed_to(members) };
    restore.secrets = vec![secret(&[RESTORED]), secret(&[RESTORED])];
    world.refused_with(operation(&restore), RefusalCode::Invalid);
    restore.secrets = vec![secret(&[1, RESTORED])];
    world.refused_with(operation(&restore), RefusalCode::Invalid);
    restore.secrets = vec![secret(&[RESTORED])];
    world.one(operation(&restore)).unwrap();
    let left: Vec<_> = world.state.secrets().map(|secret| (secret.name.clone(), secret.sealed.clone())).collect();
    assert_eq!(left, [(opened, sealed_to(&[RESTORED]))]);
    assert!(left[0].1.part_for(&Recipient::Member(number(1))).is_none());
}

/// Item 10 of federation: readers of the restored cluster's bundle have their time from its own members on.
#[test]
fn what_the_lost_cluster_had_published_is_not_published_by_the_restored_one() {
    let (mut world, _) = lost();
    let new = world.root(120);
    world.one(Operation::PrepareX509Authority(Box::new(new.new.clone()))).unwrap();
    let (kind, id) = (AuthorityKind::X509, new.id());
    world.one(Operation::MarkPublished { kind, id: id.clone(), confirmed: false }).unwrap();
    assert!(world.state.authority(kind, &id).unwrap().times.published_at.is_some());
    let restore = restore_of(&world, 8);
    world.one(operation(&restore)).unwrap();
    let times = world.state.authority(kind, &id).unwrap().times;
    assert_eq!((times.published_at, times.confirmed_at), (None, None));
}

#[test]
fn every_restore_is_ahead_of_the_one_before_even_of_the_same_backup() {
    let (world, first) = lost();
    assert!(first.floor >= least_restore_floor(world.seconds()));
    assert!(first.floor < SEQUENCE_LIMIT);
    let at = |millis| restore_floor(&world.state, UnixMillis(world.now * 1_000 + millis)).unwrap();
    assert!(at(251) > at(250), "a millisecond later");
    assert!(at(1_250) >= at(250) + FLOOR_PER_SECOND);
    // Of what was restored already, with a clock that has not moved.
    let (mut world, first) = lost();
    world.one(operation(&first)).unwrap();
    let again = restore_floor(&world.state, UnixMillis(0)).unwrap();
    assert_eq!(again, first.floor + 1);
    assert_eq!(restore_floor(&world.state, UnixMillis(i64::MAX)), None, "centuries ahead");
    world.now += 1;
    let second = restore_of(&world, 9);
    assert!(second.floor > first.floor);
    world.one(operation(&second)).unwrap();
    assert_eq!(world.state.bundle().sequence, second.floor);
}

#[test]
fn a_restore_that_is_wrong_in_one_way_changes_nothing() {
    let wrong: [(Change<Restore>, &str); 12] = [
        (|restore| restore.cluster_id = ClusterId::new([7; 16]), "an ID of its own"),
        (|restore| restore.number = number(1), "the next is 3"),
        (|restore| restore.floor = 1, "must be at least"),
        (|restore| restore.floor = SEQUENCE_LIMIT, "must be at least"),
        (|restore| restore.member.role = MemberRole::Learner, "an admitted voter"),
        (|restore| restore.member.incarnation = None, "an admitted voter"),
        (|restore| restore.member.status = MemberStatus::Removed, "an admitted voter"),
        (|restore| restore.roots.clear(), "the active root is not among"),
        (|restore| restore.token_keys.clear(), "the active token key is not among"),
        (|restore| restore.roots.extend(restore.roots.clone()), "is here twice"),
        (|restore| restore.roots[0].sealed = sealed_to(&[1]), "not the restored member"),
        (|restore| restore.token_keys[0].sealed = sealed_to(&[1, 3]), "not the restored member"),
    ];
    for (change, expected) in wrong {
        let (mut world, mut restore) = lost();
        change(&mut restore);
        let message = world.refused(operation(&restore)).message;
        assert!(message.contains(expected), "{message}");
    }
}

/// CRL-06: whoever is left behind is revoked in the CRL of the root, or nothing is restored.
#[test]
fn a_root_crl_that_lacks_a_certificate_or_is_not_ahead_is_refused() {
    let (mut world, restore) = lost();
    let root = world.active_root();
    let listed = parse_crl(&restore.roots[0].crl).unwrap();
    let all: Vec<_> = listed.revoked.iter().map(|revoked| revoked.serial).collect();
    for (number, serials, expected) in
        [(restore.floor, &all[..1], "is not in the CRL"), (restore.floor - 1, &all[..], "it must be at least")]
    {
        let mut wrong = restore.clone();
        wrong.roots[0].crl = next_crl(&root, world.now, number, serials);
        let message = world.refused(operation(&wrong)).message;
        assert!(message.contains(expected), "{message}");
    }
}

/// INV-11: who was thrown out stays out, by its key; a machine of the lost cluster may come back with the key it was given.
#[test]
fn a_compromised_member_stays_out_and_the_others_may_come_again() {
    let (mut world, _) = lost();
    let thrown_out = world.state.member(number(2)).unwrap().record.identity_key.clone();
    world.one(Operation::RemoveMember { number: number(2), compromised: true }).unwrap();
    let mut restore = restore_of(&world, 8);
    restore.member.identity_key = thrown_out.clone();
    assert!(world.refused(operation(&restore)).message.contains("give the node other keys"));
    let founder = world.state.member(number(1)).unwrap().record.identity_key.clone();
    restore.member.identity_key = founder;
    world.one(operation(&restore)).unwrap();
    let gone = world.state.member(number(2)).unwrap();
    assert_eq!((gone.record.status, &gone.record.identity_key), (MemberStatus::Compromised, &thrown_out));
}

#[test]
fn nothing_is_restored_before_there_is_anything() {
    let (_, restore) = lost();
    World::empty().refused_with(operation(&restore), RefusalCode::NotFounded);
}

/// What version 1 wrote, which is read for ever.
const COMMAND_V1: &str = include_str!("../stored/command-restore-v1.hex");

#[test]
fn version_1_of_a_restore_is_read_and_still_written_so() {
    let sealed = || sealed_to(&[RESTORED]);
    let member = MemberDraft {
        identity_key: Bytes::from_static(b"identity key"),
        labels: std::collections::BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
        version: 1,
        ..restored_member("node-1")
    };
    let restore = Restore {
        cluster_id: ClusterId::new([9; 16]),
        number: number(RESTORED),
        member,
        floor: 1_887_436_800_000_000,
        roots: vec![RestoredRoot {
            id: AuthorityId::new("0a0b").unwrap(),
            crl: Bytes::from_static(b"root CRL"),
            sealed: sealed(),
        }],
        token_keys: vec![RestoredTokenKey { id: AuthorityId::new("kid-1").unwrap(), sealed: sealed() }],
        secrets: vec![],
    };
    let command = Command {
        origin: Origin { node: RESTORED, boot: 5, sequence: 1, acknowledged: 0 },
        caller: Caller::node(),
        time: UnixMillis(1_800_000_000_123),
        operations: vec![operation(&restore)],
    };
    let written: String = command.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, COMMAND_V1.trim());
    assert_eq!(Command::decode(command.encode()), Ok(command));
}
