//! Revocation lists with entries, one after the other, and verifiers that use them (CRL-02 to CRL-05, CRL-12).

use std::collections::BTreeMap;

use quorate_proto_identity::x509::{
    AuthorityTemplate, CrlFault, CrlSet, CrlSetError, CrlTemplate, NextCrlError, Purpose, RevocationReason,
    RevokedCertificate, build_crl, build_issuing_certificate, build_root, check_crl, check_next_crl, parse_crl,
    verify_unrevoked_x509_svid,
};
use quorate_proto_identity::{
    Bundle, Certificate, KeyType, LeafIssuer, LeafTemplate, PrivateKey, SerialNumber, SpiffeId, TrustDomain,
    UnixSeconds, Validity,
};

use crate::support::now;

fn trust_domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

fn serial(number: u8) -> SerialNumber {
    SerialNumber::from_random([number; 16])
}

fn revoked(number: u8, reason: RevocationReason) -> RevokedCertificate {
    RevokedCertificate { serial: serial(number), revoked_at: now().minus(10), reason }
}

/// A root, an issuing certificate and a leaf, with the keys of the first two.
struct Chain {
    root_key: PrivateKey,
    root: Certificate,
    key: PrivateKey,
    issuing: Certificate,
    leaf: Vec<u8>,
}

impl Chain {
    /// The leaf has serial number 7, the issuing certificate 2.
    fn new() -> Self {
        let key = || PrivateKey::generate(KeyType::EcP256).unwrap();
        let (root_key, key, leaf_key) = (key(), key(), key());
        let trust_domain = trust_domain();
        let validity = |seconds| Validity::new(now().minus(30), now().plus(seconds)).unwrap();
        let template = |number, seconds| AuthorityTemplate {
            trust_domain: &trust_domain,
            serial: serial(number),
            validity: validity(seconds),
        };
        let root = build_root(&template(1, 86_400), &root_key).unwrap();
        let issuing = build_issuing_certificate(&template(2, 7200), key.public_key(), &root, &root_key).unwrap();
        let leaf = LeafIssuer::new(issuing.der(), key.clone()).unwrap().issue(&LeafTemplate {
            spiffe_id: &SpiffeId::parse("spiffe://example.org/workload").unwrap(),
            dns_names: &[],
            subject: None,
            public_key: leaf_key.public_key(),
            serial: serial(7),
            validity: validity(3600),
        });
        Self { root_key, root, key, issuing, leaf: leaf.unwrap() }
    }

    fn verify(&self, lists: &[Vec<u8>]) -> Result<(), String> {
        let mut bundle = Bundle::new(trust_domain());
        bundle.add_x509_authority(self.root.clone());
        let crls = BTreeMap::from([(trust_domain(), CrlSet::new(lists).unwrap())]);
        let chain = [self.leaf.as_slice(), self.issuing.der()];
        let verified = verify_unrevoked_x509_svid(&chain, &bundle, &crls, now(), Purpose::Client);
        verified.map(drop).map_err(|error| {
            assert!(error.is_revoked(), "{error}");
            format!("{error:?}")
        })
    }
}

fn list(key: &PrivateKey, number: u64, this_update: UnixSeconds, revoked: &[RevokedCertificate]) -> Vec<u8> {
    build_crl(&CrlTemplate { this_update, next_update: now().plus(14_400), number, revoked }, key).unwrap()
}

/// CRL-02: what is read is what was written, for every reason and for numbers of every size.
#[test]
fn entries_read_back_with_their_reasons() {
    let chain = Chain::new();
    let entries: Vec<RevokedCertificate> =
        RevocationReason::ALL.into_iter().zip(1..).map(|(reason, number)| revoked(number, reason)).collect();
    for number in [1, 0x80, 1 << 52] {
        let read = check_crl(&list(&chain.key, number, now(), &entries), &chain.issuing).unwrap();
        assert_eq!((read.number, &read.revoked), (number, &entries));
    }
    let foreign = list(&chain.root_key, 1, now(), &[]);
    assert_eq!(check_crl(&foreign, &chain.issuing), Err(CrlFault::OtherIssuer));
}

/// CRL-04, CRL-08, each rule by itself.
#[test]
fn crl_04_a_list_that_does_not_follow_the_last_one_is_refused() {
    let chain = Chain::new();
    let entries = [revoked(1, RevocationReason::KeyCompromise), revoked(2, RevocationReason::Unspecified)];
    let last = parse_crl(&list(&chain.key, 5, now().minus(30), &entries)).unwrap();
    let check = |der: &[u8]| check_next_crl(der, &chain.issuing, &last, now(), |_| false);
    check(&list(&chain.key, 6, now().minus(29), &entries)).unwrap();
    check(&list(&chain.key, 6, now(), &entries)).unwrap();

    let same_number = check(&list(&chain.key, 5, now(), &entries));
    assert_eq!(same_number, Err(NextCrlError::Number { number: 5, last: 5 }));
    let same_second = check(&list(&chain.key, 6, now().minus(30), &entries));
    assert!(matches!(same_second, Err(NextCrlError::ThisUpdate { .. })), "{same_second:?}");
    let ahead = check(&list(&chain.key, 6, now().plus(1), &entries));
    assert!(matches!(ahead, Err(NextCrlError::Future { .. })), "{ahead:?}");
    let twice = check(&list(&chain.key, 6, now(), &[entries[0], entries[1], entries[0]]));
    assert_eq!(twice, Err(NextCrlError::Repeated));
    let template = CrlTemplate { this_update: now(), next_update: now().plus(14_399), number: 6, revoked: &entries };
    let shorter = check(&build_crl(&template, &chain.key).unwrap());
    assert!(matches!(shorter, Err(NextCrlError::NextUpdate { .. })), "{shorter:?}");

    let without = list(&chain.key, 6, now(), &entries[..1]);
    assert_eq!(check(&without), Err(NextCrlError::Missing { serial: serial(2) }));
    check_next_crl(&without, &chain.issuing, &last, now(), |left| left.serial == serial(2)).unwrap();
}

/// ATK-41: a list by another key, or a damaged one, follows nothing.
#[test]
fn atk_41_a_forged_list_is_refused() {
    let (chain, other) = (Chain::new(), Chain::new());
    let last = parse_crl(&list(&chain.key, 1, now().minus(30), &[])).unwrap();
    let check = |der: &[u8]| check_next_crl(der, &chain.issuing, &last, now(), |_| false).unwrap_err();
    assert_eq!(check(&list(&other.key, 2, now(), &[])), NextCrlError::Fault(CrlFault::OtherIssuer));
    let mut damaged = list(&chain.key, 2, now(), &[]);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(check(&damaged), NextCrlError::Fault(CrlFault::Signature));
}

/// CRL-12: the whole chain is checked against the set of the peer's trust domain.
#[test]
fn crl_12_our_verifier_refuses_what_the_set_revokes_or_does_not_know() {
    let chain = Chain::new();
    let root_list = |entries: &[RevokedCertificate]| list(&chain.root_key, 1, now().minus(30), entries);
    let leaf_list = |number, entries: &[RevokedCertificate]| {
        list(&chain.key, number, now().minus(30).plus(i64::try_from(number).unwrap()), entries)
    };
    let leaf = [revoked(7, RevocationReason::KeyCompromise)];
    assert_eq!(chain.verify(&[root_list(&[]), leaf_list(1, &[])]), Ok(()));
    assert!(chain.verify(&[root_list(&[]), leaf_list(1, &leaf)]).is_err());
    // Whatever the order, the later of two lists counts.
    for lists in [[leaf_list(1, &[]), leaf_list(2, &leaf)], [leaf_list(2, &leaf), leaf_list(1, &[])]] {
        let [first, second] = lists;
        assert!(chain.verify(&[first, root_list(&[]), second]).is_err());
    }
    // CRL-06: the key is revoked whole, and its own list has left the set.
    let issuing = [revoked(2, RevocationReason::CessationOfOperation)];
    assert!(chain.verify(&[root_list(&issuing), leaf_list(1, &[])]).is_err());
    assert!(chain.verify(&[root_list(&[])]).is_err(), "the leaf's issuer is not in the set");
    assert!(chain.verify(&[leaf_list(1, &[])]).is_err(), "the root is not in the set");
}

/// CRL-05: an empty set is no set, and there is a limit to all lists together.
#[test]
fn crl_05_a_set_has_a_list_and_a_limit() {
    assert_eq!(CrlSet::new::<Vec<u8>>(&[]).unwrap_err(), CrlSetError::Empty);
    let halves = [vec![0; 600_000], vec![0; 600_000]];
    assert_eq!(CrlSet::new(&halves).unwrap_err(), CrlSetError::TooLong { length: 1_200_000 });
    assert!(matches!(CrlSet::new(&[vec![0x30, 0]]), Err(CrlSetError::Crl(_))));
}
