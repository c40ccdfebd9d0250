//! Issuing certificates: what is recorded, and what makes a member live (CRL-01 to CRL-03).

use bytes::Bytes;
use quorate_proto_identity::x509::{Certificate, LeafIssuer, LeafTemplate};
use quorate_raft_machine::authority::EXPIRY_GRACE;
use quorate_raft_machine::{Done, Event, NewIssuingCertificate, Operation, RefusalCode};

use crate::world::{World, id, key, life, member, number, serial};

fn record(new: NewIssuingCertificate) -> Operation {
    Operation::RecordIssuingCertificate(Box::new(new))
}

#[test]
fn a_recorded_certificate_makes_its_member_live_until_its_end() {
    let mut world = World::founded();
    let root = world.active_root();
    let issuing = world.issuing(&root, 1, 20);
    let key_id = Certificate::parse(&issuing.certificate).unwrap().authority_id();
    world.take_events();
    let done = world.one(record(issuing.clone()));
    assert_eq!(
        done,
        Ok(Done::IssuingCertificateRecorded {
            member: number(1),
            key_id: key_id.clone(),
            serial: serial(world.serial)
        })
    );
    assert_eq!(world.take_events(), [Event::IssuingCertificateChanged { member: number(1), key_id: key_id.clone() }]);
    let known = world.state.issuing_certificate(&key_id, serial(world.serial)).unwrap();
    assert_eq!((&known.certificate, &known.issuer), (&issuing.certificate, &root.id()));
    assert_eq!(world.state.issuing_key(&key_id).unwrap().crl, issuing.crl);
    assert_eq!(world.state.live_members(world.seconds().plus(20)), [number(1)]);
    assert_eq!(world.state.live_members(world.seconds().plus(21)), []);
    assert_eq!(world.state.bundle().sequence, 1, "issuing certificates are not in the bundle");
}

/// CRL-03.
#[test]
fn what_is_not_in_order_is_refused() {
    let mut world = World::founded();
    let root = world.active_root();
    let stranger = crate::world::root(world.now, 120, 900);
    let good = world.issuing(&root, 1, 20);
    let with = |change: &dyn Fn(&mut NewIssuingCertificate)| {
        let mut new = good.clone();
        change(&mut new);
        new
    };
    let from_stranger = world.issuing(&stranger, 1, 20);
    let too_long = world.issuing(&root, 1, 51);
    let short_crl = world.issuing_for(&root, &key(), 1, 20, 19);
    let issuing_key = key();
    let issuing = world.issuing_for(&root, &issuing_key, 1, 20, 40);
    let leaf_key = key();
    let leaf = LeafIssuer::new(
        &issuing.certificate,
        quorate_proto_identity::PrivateKey::from_pkcs8(issuing_key.pkcs8()).unwrap(),
    )
    .unwrap()
    .issue(&LeafTemplate {
        spiffe_id: &id("/w"),
        dns_names: &[],
        subject: None,
        public_key: leaf_key.public_key(),
        serial: serial(901),
        validity: life(world.now, 10),
    })
    .unwrap();
    let cases = [
        (with(&|new| new.member = number(2)), RefusalCode::NotFound, "no member 2"),
        (with(&|new| new.certificate = Bytes::from_static(b"x")), RefusalCode::Invalid, "cannot be read"),
        (with(&|new| new.certificate = vec![0x30; 17_000].into()), RefusalCode::Invalid, "17000 bytes"),
        (with(&|new| new.certificate = root.new.certificate.clone()), RefusalCode::Invalid, "path length 0"),
        (with(&|new| new.certificate = leaf.clone().into()), RefusalCode::Invalid, "no CA"),
        (with(&|new| new.crl = Bytes::new()), RefusalCode::Invalid, "CRL-03"),
        (with(&|new| new.crl = root.new.crl.clone()), RefusalCode::Invalid, "another issuer"),
        (from_stranger, RefusalCode::Invalid, "is not signed by root"),
        (too_long, RefusalCode::Invalid, "issuing_lifetime is 20 s"),
        (short_crl, RefusalCode::Invalid, "before the certificate"),
    ];
    for (new, code, expected) in cases {
        let message = world.refused_with(record(new), code);
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
    world.one(record(good.clone())).unwrap();
    world.refused_with(record(good), RefusalCode::AlreadyExists);
}

/// The certificate with its key's identifier in the subject changed into another, signed anew.
fn renamed(certificate: &Bytes, signer: &quorate_proto_identity::PrivateKey) -> Bytes {
    let element = |tag: u8, content: &[u8]| {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        let header = if content.len() < 128 { vec![tag, low] } else { vec![tag, 0x82, high, low] };
        [header.as_slice(), content].concat()
    };
    let parsed = Certificate::parse(certificate).unwrap();
    let name = parsed.authority_id();
    // The whole and the signed part have headers of four bytes each.
    let signed_length = usize::from(u16::from_be_bytes([certificate[6], certificate[7]])) + 4;
    let mut signed = certificate[4..4 + signed_length].to_vec();
    let last = signed.windows(name.as_str().len()).rposition(|window| window == name.as_str().as_bytes()).unwrap();
    signed[last] = if signed[last] == b'0' { b'1' } else { b'0' };
    let rest = &certificate[4 + signed_length..];
    let algorithm = &rest[..usize::from(rest[1]) + 2];
    let signature = element(0x03, &[vec![0], signer.sign(&signed).unwrap()].concat());
    element(0x30, &[&signed, algorithm, &signature].concat()).into()
}

#[test]
fn a_subject_that_is_not_unique_to_its_key_is_refused_crl_01() {
    let mut world = World::founded();
    let root = world.active_root();
    let mut issuing = world.issuing(&root, 1, 20);
    issuing.certificate = renamed(&issuing.certificate, &root.key);
    let message = world.refused_with(record(issuing), RefusalCode::Invalid);
    assert!(message.contains("CRL-01"), "{message}");
}

#[test]
fn one_flipped_bit_anywhere_in_certificate_or_crl_is_refused() {
    let mut world = World::founded();
    let root = world.active_root();
    let good = world.issuing(&root, 1, 20);
    for at in (0..good.certificate.len()).step_by(7) {
        let mut new = good.clone();
        let mut bytes = new.certificate.to_vec();
        bytes[at] ^= 1;
        new.certificate = bytes.into();
        assert!(world.one(record(new)).is_err(), "certificate byte {at}");
    }
    for at in (0..good.crl.len()).step_by(7) {
        let mut new = good.clone();
        let mut bytes = new.crl.to_vec();
        bytes[at] ^= 1;
        new.crl = bytes.into();
        assert!(world.one(record(new)).is_err(), "CRL byte {at}");
    }
    world.one(record(good)).unwrap();
}

#[test]
fn a_certificate_that_has_ended_or_outlives_its_root_is_refused() {
    let mut world = World::founded();
    let root = world.active_root();
    let ended = world.issuing(&root, 1, 20);
    world.now += 21;
    let message = world.refused_with(record(ended), RefusalCode::WrongState);
    assert!(message.contains("ended at"), "{message}");
}

/// CRL-02, CRL-03.
#[test]
fn a_further_certificate_of_a_key_needs_no_crl_and_ends_no_later_than_the_first_ones() {
    let mut world = World::founded();
    let root = world.active_root();
    let key = key();
    let first = world.issuing_for(&root, &key, 1, 20, 25);
    world.one(record(first)).unwrap();
    world.now += 4;
    let mut second = world.issuing_for(&root, &key, 1, 20, 20);
    second.crl = Bytes::new();
    world.one(record(second)).unwrap();
    world.now += 4;
    let mut third = world.issuing_for(&root, &key, 1, 20, 20);
    third.crl = Bytes::new();
    let message = world.refused_with(record(third.clone()), RefusalCode::Invalid);
    assert!(message.contains("CRL-03"), "{message}");
    third.crl = crate::world::crl(&key, world.now, 40);
    world.one(record(third)).unwrap();
    assert_eq!(world.state.issuing_keys().count(), 1);
}

#[test]
fn a_key_belongs_to_one_member() {
    let mut world = World::founded();
    world.one(Operation::SetMember { number: None, member: Box::new(member("node-2")) }).unwrap();
    let root = world.active_root();
    let key = key();
    let first = world.issuing_for(&root, &key, 1, 20, 40);
    world.one(record(first)).unwrap();
    let stolen = world.issuing_for(&root, &key, 2, 20, 40);
    let message = world.refused_with(record(stolen), RefusalCode::Invalid);
    assert!(message.contains("is that of member 1, not of 2"), "{message}");
    let of_root = world.issuing_for(&root, &root.key, 1, 20, 40);
    let message = world.refused_with(record(of_root), RefusalCode::Invalid);
    assert!(message.contains("is that of a root"), "{message}");
}

#[test]
fn fencing_a_member_revokes_what_it_has_and_it_lives_again_with_a_new_certificate() {
    let mut world = World::founded();
    let root = world.active_root();
    let (first, second) = (world.issuing(&root, 1, 20), world.issuing(&root, 1, 20));
    let first_serial = serial(world.serial - 1);
    world.one(record(first)).unwrap();
    world.one(record(second)).unwrap();
    let revoke = |serial| Operation::RevokeIssuingCertificate { member: number(1), serial };
    let done = |count| Ok(Done::IssuingCertificatesRevoked { member: number(1), count });
    assert_eq!(world.one(revoke(Some(first_serial))), done(1));
    assert_eq!(world.state.live_members(world.seconds()), [number(1)]);
    assert_eq!(world.one(revoke(None)), done(1), "what is revoked stays as it is");
    assert_eq!(world.state.live_members(world.seconds()), []);
    assert_eq!(world.one(revoke(None)), done(0));
    let third = world.issuing(&root, 1, 20);
    world.one(record(third)).unwrap();
    assert_eq!(world.state.live_members(world.seconds()), [number(1)]);
    world.refused_with(revoke(Some(serial(999))), RefusalCode::NotFound);
    world.refused_with(Operation::RevokeIssuingCertificate { member: number(9), serial: None }, RefusalCode::NotFound);
}

#[test]
fn certificates_that_ended_are_pruned_with_the_next_one_and_keys_go_with_their_last() {
    let mut world = World::founded();
    let root = world.active_root();
    let first = world.issuing(&root, 1, 20);
    world.one(record(first)).unwrap();
    world.now += 20 + EXPIRY_GRACE;
    let second = world.issuing(&root, 1, 20);
    world.one(record(second)).unwrap();
    assert_eq!((world.state.issuing_certificates().count(), world.state.issuing_keys().count()), (2, 2));
    world.now += 1;
    let third = world.issuing(&root, 1, 20);
    world.one(record(third)).unwrap();
    assert_eq!((world.state.issuing_certificates().count(), world.state.issuing_keys().count()), (2, 2));
    assert!(world.state.issuing_certificates().all(|issuing| issuing.validity.not_after() > world.seconds()));
}

/// CRL-03: a member that could not renew for long asks again with the key of its process.
#[test]
fn a_key_whose_certificates_have_all_ended_keeps_its_record_for_the_next_one() {
    let mut world = World::founded();
    let root = world.active_root();
    let key = key();
    let first = world.issuing_for(&root, &key, 1, 20, 110);
    world.one(record(first.clone())).unwrap();
    world.now += 20 + EXPIRY_GRACE + 1;
    let mut second = world.issuing_for(&root, &key, 1, 20, 40);
    second.crl = Bytes::new();
    world.one(record(second)).unwrap();
    assert_eq!(world.state.issuing_certificates().count(), 1, "the first has gone");
    assert_eq!(world.state.issuing_keys().map(|known| known.crl.clone()).collect::<Vec<_>>(), [first.crl]);
}

#[test]
fn all_certificates_of_a_cluster_that_was_off_go_at_once_and_keys_stay_that_have_one_left() {
    let mut world = World::founded();
    let root = world.active_root();
    let key = key();
    let kept = world.issuing_for(&root, &key, 1, 10, 60);
    world.one(record(kept)).unwrap();
    for _ in 0..5 {
        let issuing = world.issuing(&root, 1, 10);
        world.one(record(issuing)).unwrap();
    }
    world.now += 10;
    let again = world.issuing_for(&root, &key, 1, 20, 60);
    world.one(record(again)).unwrap();
    world.now += EXPIRY_GRACE + 1;
    let pruned = world.one(Operation::PruneAuthorities);
    assert_eq!(pruned, Ok(Done::AuthoritiesPruned { x509: 0, jwt: 0, issuing: 6 }));
    let keys: Vec<_> = world.state.issuing_keys().map(|known| known.id.clone()).collect();
    let id = quorate_proto_identity::AuthorityId::from_subject_key_id(&key.public_key().subject_key_id());
    assert_eq!(keys, [id]);
}

#[test]
fn a_member_that_leaves_gets_no_certificate() {
    let mut world = World::founded();
    world.one(Operation::SetMember { number: None, member: Box::new(crate::world::member("node-2")) }).unwrap();
    world.one(Operation::RemoveMember { number: number(1), compromised: true }).unwrap();
    let root = world.active_root();
    let issuing = world.issuing(&root, 1, 20);
    world.refused_with(record(issuing), RefusalCode::NotFound);
}
