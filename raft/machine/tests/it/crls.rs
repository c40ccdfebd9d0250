//! CRLs of issuing keys and roots: what is recorded, what is refused, and what falls due (CRL-02 to CRL-08).

use std::rc::Rc;

use bytes::Bytes;
use quorate_proto_identity::x509::{Certificate, CrlTemplate, RevokedCertificate, build_crl, parse_crl};
use quorate_proto_identity::{AuthorityId, PrivateKey, SerialNumber, UnixSeconds};
use quorate_raft_machine::authority::IssuingKeyState;
use quorate_raft_machine::revocation::{CRL_LINGER, RevocationDue, due};
use quorate_raft_machine::{
    AuthorityKind, CrlMode, Done, Due, Event, KeyRevocationCause, NewCrl, Operation, Policy, RefusalCode,
    RevocationReason, RevocationTarget, RevokedLeaf,
};

use crate::revocation::revoke;
use crate::world::{TestRoot, World, create, draft, id, key, member, number, serial, short_policy};

/// An issuing key in the clear, and the CRL that it would sign next.
struct Issuer {
    key: Rc<PrivateKey>,
    id: AuthorityId,
    this_update: i64,
    next_update: i64,
    number: u64,
    revoked: Vec<RevokedLeaf>,
}

fn leaf(at: u64, world: &World) -> RevokedLeaf {
    RevokedLeaf { serial: serial(at), spiffe_id: id("/web"), not_after: world.seconds().plus(10), revocation: 1 }
}

fn listed(serials: &[SerialNumber]) -> Vec<RevokedCertificate> {
    let entry = |serial: &SerialNumber| RevokedCertificate {
        serial: *serial,
        revoked_at: UnixSeconds(crate::world::START),
        reason: RevocationReason::KeyCompromise,
    };
    serials.iter().map(entry).collect()
}

impl Issuer {
    /// Records a certificate of a new key of this member, made by this start of its process.
    fn new(world: &mut World, of: u64, boot: u64) -> Self {
        let root = world.active_root();
        let key = key();
        let mut new = world.issuing_for(&root, &key, of, 20, 40);
        new.boot = boot;
        let id = Certificate::parse(&new.certificate).unwrap().authority_id();
        let crl = parse_crl(&new.crl).unwrap();
        world.one(Operation::RecordIssuingCertificate(Box::new(new))).unwrap();
        Self {
            key,
            id,
            this_update: crl.this_update.0,
            next_update: crl.next_update.0,
            number: crl.number,
            revoked: Vec::new(),
        }
    }

    fn crl(&self, serials: &[SerialNumber]) -> Bytes {
        let template = CrlTemplate {
            this_update: UnixSeconds(self.this_update),
            next_update: UnixSeconds(self.next_update),
            number: self.number,
            revoked: &listed(serials),
        };
        build_crl(&template, &self.key).unwrap().into()
    }

    /// The next CRL, with these leaves beside those of the last one.
    fn next(&mut self, added: &[RevokedLeaf], covers: u64) -> NewCrl {
        self.number += 1;
        self.this_update += 1;
        self.revoked.extend_from_slice(added);
        let serials: Vec<_> = self.revoked.iter().map(|leaf| leaf.serial).collect();
        NewCrl { issuer: self.id.clone(), crl: self.crl(&serials), covers, revoked: added.to_vec() }
    }
}

/// The next CRL of a root, with these certificates.
fn root_crl(world: &World, root: &TestRoot, serials: &[SerialNumber]) -> NewCrl {
    let last = parse_crl(&world.state.x509_authority(&root.id()).unwrap().crl).unwrap();
    let template = CrlTemplate {
        this_update: last.this_update.plus(1),
        next_update: last.next_update,
        number: last.number + 1,
        revoked: &listed(serials),
    };
    let crl = build_crl(&template, &root.key).unwrap().into();
    NewCrl { issuer: root.id(), crl, covers: 0, revoked: vec![] }
}

fn record(new: NewCrl) -> Operation {
    Operation::RecordCrl(Box::new(new))
}

fn of_web() -> Operation {
    revoke(RevocationTarget::SpiffeId(id("/web")), false)
}

fn serials_of(world: &World, key: &AuthorityId) -> Vec<SerialNumber> {
    world.state.certificates_of(key).map(|issuing| issuing.serial).collect()
}

/// A history in which everything happens to revocations and CRLs, with refusals in between; for the stored forms.
pub(crate) fn eventful() -> World {
    let mut world = World::founded();
    world.one(create(draft("web", "/web", &["unix:uid:1"]))).unwrap();
    let mut first = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let leaf = leaf(800, &world);
    let crl = first.next(&[leaf], 1);
    world.one(record(crl.clone())).unwrap();
    world.one(record(crl)).unwrap_err();
    let second = Issuer::new(&mut world, 1, 2);
    world.one(Operation::ActivateIssuingKey { key: second.id.clone() }).unwrap_err();
    world.now += 5;
    world.one(Operation::ActivateIssuingKey { key: second.id }).unwrap();
    let root = world.active_root();
    let crl = root_crl(&world, &root, &serials_of(&world, &first.id));
    let keys = vec![first.id];
    world
        .one(Operation::RevokeIssuingKeys { keys, reason: RevocationReason::Superseded, root_crls: vec![crl] })
        .unwrap();
    let jti = RevocationTarget::Jti { jti: "token-1".to_owned(), expires_at: world.seconds().plus(9) };
    world.all(vec![revoke(RevocationTarget::Node(number(1)), true), revoke(jti, false)]);
    let active = world.state.active_jwt_authority().unwrap().id.clone();
    world.all(vec![
        Operation::MarkAuthority { kind: AuthorityKind::X509, id: root.id(), compromised: false },
        Operation::MarkAuthority { kind: AuthorityKind::Jwt, id: active, compromised: true },
        Operation::AnchorAudit { member: number(1), records: 5, index: 7, hash: [7; 32] },
        Operation::RemoveRevocation { number: 2 },
    ]);
    world
        .one(Operation::DeleteEntry {
            id: crate::world::entry_id("web"),
            revoke: Some(RevocationReason::CessationOfOperation),
        })
        .unwrap();
    world.one(Operation::PruneRevocations).unwrap();
    world
}

#[test]
fn a_crl_and_what_is_new_in_it_are_recorded_together_and_the_set_has_the_newest() {
    let mut world = World::founded();
    let mut issuer = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let before = world.state.crl_set().unwrap();
    world.take_events();
    let (one, two) = (leaf(800, &world), leaf(801, &world));
    let first = issuer.next(std::slice::from_ref(&one), 1);
    let done = world.one(record(first));
    assert_eq!(done, Ok(Done::CrlRecorded { issuer: issuer.id.clone() }));
    assert_eq!(world.take_events(), [Event::CrlRecorded { issuer: issuer.id.clone() }, Event::CrlSetChanged]);
    let second = issuer.next(std::slice::from_ref(&two), 1);
    world.one(record(second.clone())).unwrap();
    let set = world.state.crl_set().unwrap();
    assert_eq!(set.get(&issuer.id), Some(&second.crl));
    assert_eq!(set.bytes(), set.crls().map(Bytes::len).sum::<usize>());
    assert_ne!(before.get(&issuer.id), set.get(&issuer.id), "who holds an earlier set keeps it as it was");
    assert_eq!(world.state.revoked_leaves_of(&issuer.id).collect::<Vec<_>>(), [&one, &two]);
    assert_eq!(world.state.issuing_key(&issuer.id).unwrap().covered, 1);
}

#[test]
fn crl_04_a_crl_that_does_not_follow_the_last_one_is_refused() {
    let mut world = World::founded();
    let mut issuer = Issuer::new(&mut world, 1, 1);
    let other = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let one = leaf(800, &world);
    let good = issuer.next(std::slice::from_ref(&one), 1);
    let now = world.now;
    type Change = fn(&mut Issuer, i64);
    let cases: [(Change, &str); 4] = [
        (|issuer, _| issuer.number -= 1, "has number"),
        (|issuer, _| issuer.this_update -= 1, "the last one of"),
        (|issuer, now| issuer.this_update = now + 1, "and it is"),
        (|issuer, _| issuer.next_update -= 1, "ends at"),
    ];
    for (change, said) in cases {
        let mut wrong = Issuer { key: issuer.key.clone(), id: issuer.id.clone(), revoked: vec![], ..issuer };
        change(&mut wrong, now);
        let crl = NewCrl { crl: wrong.crl(&[one.serial]), ..good.clone() };
        let message = world.refused_with(record(crl), RefusalCode::Invalid);
        assert!(message.contains("CRL-04") && message.contains(said), "{message:?} does not say {said:?}");
    }
    let stranger = NewCrl { issuer: other.id, ..good.clone() };
    let message = world.refused_with(record(stranger), RefusalCode::Invalid);
    assert!(message.contains("names another"), "CRL-02: {message}");
    world.one(record(good)).unwrap();
}

#[test]
fn crl_08_what_is_revoked_and_has_not_ended_stays_in_every_later_crl() {
    let mut world = World::founded();
    let mut issuer = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let one = leaf(800, &world);
    let crl = issuer.next(std::slice::from_ref(&one), 1);
    world.one(record(crl)).unwrap();
    issuer.revoked.clear();
    let without = issuer.next(&[], 1);
    let message = world.refused_with(record(without.clone()), RefusalCode::Invalid);
    assert!(message.contains("is not in the CRL"), "{message}");
    world.now += 11;
    world.one(record(without)).unwrap();
    assert_eq!(world.state.revoked_leaves().count(), 1, "its record stays for an hour");
    world.now += CRL_LINGER;
    let pruned = world.one(Operation::PruneRevocations);
    assert!(matches!(pruned, Ok(Done::RevocationsPruned { leaves: 1, .. })), "{pruned:?}");
}

#[test]
fn what_a_crl_lists_is_what_its_command_tells() {
    let mut world = World::founded();
    let mut issuer = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let (one, two) = (leaf(800, &world), leaf(801, &world));
    let good = issuer.next(std::slice::from_ref(&one), 1);
    let told = |revoked: Vec<RevokedLeaf>| record(NewCrl { revoked, ..good.clone() });
    let late = RevokedLeaf { not_after: world.seconds().plus(21), ..one.clone() };
    let unknown = RevokedLeaf { revocation: 9, ..one.clone() };
    for (operation, code, said) in [
        (told(vec![]), RefusalCode::Invalid, "nobody says what it is"),
        (told(vec![one.clone(), two]), RefusalCode::Invalid, "is not in the CRL"),
        (told(vec![one.clone(), one]), RefusalCode::Invalid, "revoked already"),
        (told(vec![late]), RefusalCode::Invalid, "after every certificate of its issuer"),
        (told(vec![unknown]), RefusalCode::NotFound, "revocation 9"),
        (record(NewCrl { covers: 2, ..good.clone() }), RefusalCode::Invalid, "has not been made"),
        (
            record(NewCrl { issuer: AuthorityId::new("nobody").unwrap(), ..good.clone() }),
            RefusalCode::NotFound,
            "no issuing key or root",
        ),
        (record(NewCrl { crl: vec![0; 300_000].into(), ..good.clone() }), RefusalCode::LimitReached, "CRL-05"),
    ] {
        let message = world.refused_with(operation, code);
        assert!(message.contains(said), "{message:?} does not say {said:?}");
    }
    world.one(record(good)).unwrap();
}

#[test]
fn crl_07_a_new_key_is_prepared_while_crls_are_on_and_signs_after_the_settle_time() {
    let mut world = World::founded_with(Policy { crl_settle: 3, ..short_policy() });
    let before = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let state = |world: &World, key: &AuthorityId| world.state.issuing_key(key).unwrap().state;
    assert_eq!(state(&world, &before.id), IssuingKeyState::Signing, "what signs already goes on");
    let after = Issuer::new(&mut world, 1, 1);
    assert_eq!(state(&world, &after.id), IssuingKeyState::Prepared);
    assert!(world.state.crl_set().unwrap().get(&after.id).is_some(), "its CRL is what everybody must have");
    let activate = || Operation::ActivateIssuingKey { key: after.id.clone() };
    let message = world.refused_with(activate(), RefusalCode::WrongState);
    assert!(message.contains("CRL-07"), "{message}");
    assert_eq!(due(&world.state, world.seconds()), []);
    world.now += 3;
    assert_eq!(due(&world.state, world.seconds()), [RevocationDue::ActivateIssuingKey { key: after.id.clone() }]);
    world.take_events();
    let done = Ok(Done::IssuingKeyActivated { key: after.id.clone() });
    assert_eq!(world.one(activate()), done);
    assert_eq!(world.take_events(), [Event::IssuingKeyActivated { member: number(1), key_id: after.id.clone() }]);
    assert_eq!(world.one(activate()), done, "said again it changes nothing");
    assert_eq!(state(&world, &after.id), IssuingKeyState::Signing);
    world.refused_with(Operation::ActivateIssuingKey { key: AuthorityId::new("x").unwrap() }, RefusalCode::NotFound);
    let next = world.issuing_for(&world.active_root(), &before.key, 1, 15, 40);
    world.one(Operation::RecordIssuingCertificate(Box::new(next))).unwrap();
    assert_eq!(state(&world, &before.id), IssuingKeyState::Signing, "a known key is not prepared again");
}

#[test]
fn crl_07_a_prepared_key_need_not_wait_when_crls_go_off() {
    let mut world = World::founded_with(Policy { crl_mode: CrlMode::Always, ..short_policy() });
    let issuer = Issuer::new(&mut world, 1, 1);
    let policy = Policy { crl_mode: CrlMode::Off, ..short_policy() };
    world.one(Operation::SetPolicy { policy, expected_revision: 0 }).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [RevocationDue::ActivateIssuingKey { key: issuer.id.clone() }]);
    world.one(Operation::ActivateIssuingKey { key: issuer.id }).unwrap();
}

#[test]
fn crl_06_a_key_is_revoked_whole_with_the_crls_of_its_roots_and_leaves_the_set() {
    let mut world = World::founded();
    let issuer = Issuer::new(&mut world, 1, 1);
    let root = world.active_root();
    let again = world.issuing_for(&root, &issuer.key, 1, 15, 40);
    world.one(Operation::RecordIssuingCertificate(Box::new(again))).unwrap();
    let kept = Issuer::new(&mut world, 1, 1);
    world.one(of_web()).unwrap();
    let serials = serials_of(&world, &issuer.id);
    assert_eq!(serials.len(), 2);
    let with = |root_crls: Vec<NewCrl>| Operation::RevokeIssuingKeys {
        keys: vec![issuer.id.clone()],
        reason: RevocationReason::CessationOfOperation,
        root_crls,
    };
    let good = root_crl(&world, &root, &serials);
    let one_less = root_crl(&world, &root, &serials[..1]);
    let one_more = root_crl(&world, &root, &[serials, serials_of(&world, &kept.id)].concat());
    for (operation, said) in [
        (with(vec![]), "is not here"),
        (with(vec![one_less]), "CRL-06"),
        (with(vec![one_more]), "is not revoked"),
        (with(vec![good.clone(), good.clone()]), "twice"),
    ] {
        let message = world.refused_with(operation, RefusalCode::Invalid);
        assert!(message.contains(said), "{message:?} does not say {said:?}");
    }
    world.take_events();
    assert_eq!(world.one(with(vec![good.clone()])), Ok(Done::IssuingKeysRevoked { certificates: 2 }));
    let set = world.state.crl_set().unwrap();
    assert_eq!((set.get(&issuer.id), set.get(&root.id())), (None, Some(&good.crl)));
    assert!(set.get(&kept.id).is_some());
    assert_eq!(world.state.live_members(world.seconds()), [number(1)], "by its other key");
    assert_eq!(world.take_events().last(), Some(&Event::CrlSetChanged));
    let mut gone = issuer;
    let crl = gone.next(&[], 1);
    world.refused_with(record(crl), RefusalCode::WrongState);
    // What the root's CRL lists keeps CRLs on, when the certificates themselves are long pruned.
    world.now += 20 + CRL_LINGER;
    world.all(vec![Operation::PruneAuthorities, Operation::PruneRevocations]);
    assert!(world.state.certificates_of(&gone.id).next().is_none());
}

#[test]
fn crl_06_a_fenced_members_certificates_go_into_the_roots_crl_while_crls_are_on() {
    let mut world = World::founded();
    let issuer = Issuer::new(&mut world, 1, 1);
    let serials = serials_of(&world, &issuer.id);
    let root = world.active_root();
    let early = root_crl(&world, &root, &serials);
    let message = world.refused_with(record(early.clone()), RefusalCode::Invalid);
    assert!(message.contains("is not revoked"), "{message}");
    world.one(Operation::RevokeIssuingCertificate { member: number(1), serial: None }).unwrap();
    assert_eq!(due(&world.state, world.seconds()), [], "a fence alone turns no CRLs on");
    assert!(!world.state.crls_are_on());
    world.one(of_web()).unwrap();
    assert!(world.state.crl_set().unwrap().get(&issuer.id).is_none());
    assert_eq!(due(&world.state, world.seconds()), [RevocationDue::SignRootCrl { root: root.id() }]);
    world.one(record(early)).unwrap();
    assert_eq!(due(&world.state, world.seconds()), []);
    let root_state = world.state.x509_authority(&root.id()).unwrap();
    assert_eq!(root_state.crl_keeps_until, Some(world.seconds().plus(20)));
    let without = root_crl(&world, &root, &[]);
    world.refused_with(record(without), RefusalCode::Invalid);
    world.now += 21;
    let without = root_crl(&world, &root, &[]);
    world.one(record(without)).unwrap();
    assert_eq!(world.state.x509_authority(&root.id()).unwrap().crl_keeps_until, None);
}

#[test]
fn crl_06_keys_of_earlier_starts_of_gone_members_and_of_revoked_nodes_are_due_to_be_revoked() {
    let mut world = World::founded();
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-3")) }).unwrap();
    let old = Issuer::new(&mut world, 1, 9);
    let renewed = Issuer::new(&mut world, 1, 4);
    let current = Issuer::new(&mut world, 1, 4);
    let retired = Issuer::new(&mut world, 2, 1);
    assert_eq!(due(&world.state, world.seconds()), [], "nobody needs it while CRLs are off");
    world.one(revoke(RevocationTarget::Node(number(2)), false)).unwrap();
    let after = Issuer::new(&mut world, 3, 1);
    let keys = |world: &World| match due(&world.state, world.seconds()).first() {
        Some(RevocationDue::RevokeGoneKeys { keys }) => keys.clone(),
        _ => vec![],
    };
    let mut expected = vec![(old.id, KeyRevocationCause::Restarted), (retired.id, KeyRevocationCause::NodeRevoked)];
    expected.sort();
    assert_eq!(keys(&world), expected, "and not {} {} {}", renewed.id, current.id, after.id);
    world.now += 21;
    assert_eq!(keys(&world), [], "what has ended needs no CRL");
}

#[test]
fn crl_05_a_set_past_its_limit_is_not_handed_out_and_the_longest_crl_goes_first() {
    let mut world = World::founded_with(Policy { crl_mode: CrlMode::Always, ..short_policy() });
    let mut issuers: Vec<Issuer> = (0..5).map(|_| Issuer::new(&mut world, 1, 1)).collect();
    world.one(of_web()).unwrap();
    // As many leaves as one CRL takes; the fourth one brings the set past the mark from which keys are revoked.
    for (n, issuer) in issuers.iter_mut().enumerate() {
        let base = 10_000 * (n as u64 + 1);
        let leaves: Vec<RevokedLeaf> = (base..base + 4_700).map(|at| leaf(at, &world)).collect();
        let crl = issuer.next(&leaves, 1);
        assert!(crl.crl.len() <= 256 * 1024, "{}", crl.crl.len());
        let result = world.one(record(crl));
        let is_due = matches!(
            due(&world.state, world.seconds()).first(),
            Some(RevocationDue::RevokeGoneKeys { keys }) if keys.iter().all(|(_, cause)| *cause == KeyRevocationCause::NoRoom)
        );
        match n {
            0..3 => assert!(result.is_ok() && !is_due, "{n}"),
            3 => assert!(result.is_ok() && is_due, "{n}"),
            _ => assert_eq!(result.unwrap_err().code, RefusalCode::LimitReached),
        }
    }
    assert!(world.state.crl_set().is_some());
}

#[test]
fn an_authority_is_marked_to_be_replaced_and_nothing_else_can_be() {
    let mut world = World::founded();
    let root = world.active_root().id();
    let mark = |compromised| Operation::MarkAuthority { kind: AuthorityKind::X509, id: root.clone(), compromised };
    let done = Ok(Done::AuthorityMarked { kind: AuthorityKind::X509, id: root.clone() });
    assert_eq!(world.one(mark(false)), done);
    let times = |world: &World| world.state.x509_authority(&root).unwrap().times;
    let marked = times(&world);
    assert_eq!((marked.replace_at, marked.suspected_at), (Some(world.seconds()), None));
    world.now += 1;
    assert_eq!(world.one(mark(false)), done);
    assert_eq!(times(&world), marked, "said again it changes nothing");
    assert_eq!(world.one(mark(true)), done);
    assert_eq!(times(&world).suspected_at, Some(world.seconds()));
    let key = world.state.active_jwt_authority().unwrap().id.clone();
    world.one(Operation::MarkAuthority { kind: AuthorityKind::Jwt, id: key.clone(), compromised: true }).unwrap();
    world.refused_with(
        Operation::MarkAuthority { kind: AuthorityKind::X509, id: key, compromised: true },
        RefusalCode::NotFound,
    );
    let next = world.root(120);
    world.one(Operation::PrepareX509Authority(Box::new(next.new.clone()))).unwrap();
    world.one(Operation::ActivateX509Authority { id: next.id(), issuing_certificates: vec![] }).unwrap();
    let message = world.refused_with(mark(false), RefusalCode::WrongState);
    assert!(message.contains("is old"), "{message}");
    assert!(!due_of_authorities(&world).is_empty());
}

fn due_of_authorities(world: &World) -> Vec<Due> {
    quorate_raft_machine::due(&world.state, world.seconds())
}
