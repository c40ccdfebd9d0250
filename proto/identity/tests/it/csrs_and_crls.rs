//! Requests (ATK-03 to ATK-05) and revocation lists (CRL-01 to CRL-04).

use quorate_proto_identity::x509::{
    AuthorityTemplate, CRL_LIMIT, CSR_LIMIT, CrlError, CrlFault, CrlTemplate, CsrError, FirstCrlError,
    RevocationReason, RevokedCertificate, build_crl, build_csr, build_issuing_certificate, build_root, check_first_crl,
    parse_crl, parse_csr,
};
use quorate_proto_identity::{
    Certificate, KeyError, KeyType, LeafIssuer, LeafTemplate, PrivateKey, SerialNumber, SpiffeId, TrustDomain,
    UnixSeconds, Validity,
};
use rcgen::{CertificateParams, CustomExtension, DnType, SanType};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::support::{name, now, oid, tlv};

fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/workload").unwrap()
}

#[test]
fn a_request_reads_back_for_every_type_of_key() {
    let dns_names = ["a.example.org".to_owned(), "b.example.org".to_owned()];
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).unwrap();
        let request = parse_csr(&build_csr(&key, &id(), &dns_names).unwrap()).unwrap();
        assert_eq!(&request.public_key, key.public_key());
        assert_eq!(request.uri_names, [id().as_str()]);
        assert_eq!(request.dns_names, dns_names);
        assert_eq!(request.subject, name(""));
    }
}

/// ATK-04: both names are there to be refused by the caller; none is dropped in silence. The subject is handed on as it
/// came (MintX509SVID honours it).
#[test]
fn all_names_of_a_request_are_seen() {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "somebody");
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    parameters.subject_alt_names = vec![uri("spiffe://example.org/a"), uri("https://example.org/")];
    let request = parse_csr(parameters.serialize_request(&key()).unwrap().der()).unwrap();
    assert_eq!(request.uri_names, ["spiffe://example.org/a", "https://example.org/"]);
    assert_eq!(request.subject, name("somebody"));
}

/// A request assembled by hand: SubjectPublicKeyInfo, attributes, algorithm and signature as given.
fn assemble(spki: &[u8], attributes: &[u8], algorithm: &[u32], sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let body = tlv(0x30, &[&[2, 1, 0], name("").as_slice(), spki, &tlv(0xa0, attributes)].concat());
    let signature = sign(&body);
    let algorithm = tlv(0x30, &oid(algorithm));
    tlv(0x30, &[body, algorithm, tlv(3, &[&[0], signature.as_slice()].concat())].concat())
}

const ECDSA_SHA256: [u32; 7] = [1, 2, 840, 10045, 4, 3, 2];
const ECDSA_SHA1: [u32; 6] = [1, 2, 840, 10045, 4, 1];

/// ATK-05: refused by kind and size, before anything is computed: the signature in these is rubbish, and the answer is
/// about the key.
#[test]
fn keys_outside_the_list_are_refused_before_any_arithmetic() {
    let spki =
        |algorithm: &[u8], bits: &[u8]| tlv(0x30, &[tlv(0x30, algorithm), tlv(3, &[&[0], bits].concat())].concat());
    let ec = |curve: &[u32], length: usize| {
        let algorithm = [oid(&[1, 2, 840, 10045, 2, 1]), oid(curve)].concat();
        spki(&algorithm, &[&[4], vec![7; length].as_slice()].concat())
    };
    let rsa = |bits: usize| {
        let algorithm = [oid(&[1, 2, 840, 113_549, 1, 1, 1]), vec![5, 0]].concat();
        let modulus = [&[0, 0x80], vec![1; bits / 8 - 1].as_slice()].concat();
        spki(&algorithm, &tlv(0x30, &[tlv(2, &modulus), tlv(2, &[1, 0, 1])].concat()))
    };
    for (what, spki, wanted) in [
        ("P-224", ec(&[1, 3, 132, 0, 33], 56), KeyError::UnsupportedAlgorithm),
        ("secp256k1", ec(&[1, 3, 132, 0, 10], 64), KeyError::UnsupportedAlgorithm),
        ("P-521", ec(&[1, 3, 132, 0, 35], 132), KeyError::UnsupportedAlgorithm),
        ("RSA-1024", rsa(1024), KeyError::RsaSize { bits: 1024 }),
        ("RSA-2040", rsa(2040), KeyError::RsaSize { bits: 2040 }),
        ("RSA-4104", rsa(4104), KeyError::RsaSize { bits: 4104 }),
        ("RSA-16384", rsa(16_384), KeyError::RsaSize { bits: 16_384 }),
        ("DSA", spki(&oid(&[1, 2, 840, 10040, 4, 1]), &[0]), KeyError::UnsupportedAlgorithm),
    ] {
        let request = assemble(&spki, &[], &ECDSA_SHA256, |_| vec![0; 64]);
        assert_eq!(parse_csr(&request), Err(CsrError::Key(wanted)), "{what}");
    }
}

/// ATK-05: who asks holds the key, and says so with an algorithm that still holds.
#[test]
fn a_request_without_a_valid_signature_is_refused() {
    let (mine, other) = (key(), key());
    let spki = mine.public_key().spki_der();
    let good = assemble(spki, &[], &ECDSA_SHA256, |body| mine.sign(body).unwrap());
    parse_csr(&good).unwrap();
    let stolen = assemble(spki, &[], &ECDSA_SHA256, |body| other.sign(body).unwrap());
    assert_eq!(parse_csr(&stolen), Err(CsrError::Signature));
    let old = assemble(spki, &[], &ECDSA_SHA1, |body| mine.sign(body).unwrap());
    assert_eq!(parse_csr(&old), Err(CsrError::Signature));
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(parse_csr(&damaged), Err(CsrError::Signature));
    let mut longer = good;
    longer.push(0);
    assert_eq!(parse_csr(&longer), Err(CsrError::Shape));
    assert_eq!(parse_csr(&vec![0x30; CSR_LIMIT + 1]), Err(CsrError::TooLong { length: CSR_LIMIT + 1 }));
}

/// Two readers of such a request could see two identities.
#[test]
fn extensions_asked_for_twice_are_refused() {
    let mine = key();
    let san = |uri: &str| {
        let names = tlv(0x30, &tlv(0x86, uri.as_bytes()));
        tlv(0x30, &[oid(&[2, 5, 29, 17]), tlv(4, &names)].concat())
    };
    let attribute = |extensions: &[u8]| {
        let value = tlv(0x31, &tlv(0x30, extensions));
        tlv(0x30, &[oid(&[1, 2, 840, 113_549, 1, 9, 14]), value].concat())
    };
    let request = |attributes: &[u8]| {
        parse_csr(&assemble(mine.public_key().spki_der(), attributes, &ECDSA_SHA256, |body| mine.sign(body).unwrap()))
    };
    let one = attribute(&san("spiffe://example.org/a"));
    assert_eq!(request(&one).unwrap().uri_names, ["spiffe://example.org/a"]);
    let other = attribute(&san("spiffe://example.org/b"));
    assert_eq!(request(&[one, other].concat()), Err(CsrError::Repeated));
    let both = [san("spiffe://example.org/a"), san("spiffe://example.org/b")].concat();
    assert_eq!(request(&attribute(&both)), Err(CsrError::Repeated));
}

/// An issuing key with its certificate and its root.
struct Issuing {
    root_key: PrivateKey,
    root: Certificate,
    key: PrivateKey,
    certificate: Certificate,
}

fn issuing() -> Issuing {
    let (root_key, key) = (key(), key());
    let trust_domain = TrustDomain::new("example.org").unwrap();
    let template = |number: u8, seconds: i64| AuthorityTemplate {
        trust_domain: &trust_domain,
        serial: SerialNumber::from_random([number; 16]),
        validity: Validity::new(now().minus(30), now().plus(seconds)).unwrap(),
    };
    let root = build_root(&template(1, 30 * 86_400), &root_key).unwrap();
    let certificate = build_issuing_certificate(&template(2, 86_400), key.public_key(), &root, &root_key).unwrap();
    Issuing { root_key, root, key, certificate }
}

fn first_crl(key: &PrivateKey) -> CrlBuilder<'_> {
    CrlBuilder { key, this_update: now().minus(30), next_update: now().plus(2 * 86_400), number: 1, revoked: &[] }
}

struct CrlBuilder<'a> {
    key: &'a PrivateKey,
    this_update: UnixSeconds,
    next_update: UnixSeconds,
    number: u64,
    revoked: &'a [RevokedCertificate],
}

impl CrlBuilder<'_> {
    fn build(&self) -> Vec<u8> {
        let template = CrlTemplate {
            this_update: self.this_update,
            next_update: self.next_update,
            number: self.number,
            revoked: self.revoked,
        };
        build_crl(&template, self.key).unwrap()
    }
}

/// CRL-01 to CRL-03: made before there is a certificate, for every type of authority key.
#[test]
fn the_first_list_of_a_key_fits_its_certificate() {
    let made = issuing();
    let crl = check_first_crl(&first_crl(&made.key).build(), &made.certificate).unwrap();
    assert_eq!((crl.this_update, crl.next_update), (now().minus(30), now().plus(2 * 86_400)));
    assert_eq!(crl.number, 1);
    assert_eq!(crl.authority_key_id, made.certificate.public_key().subject_key_id());
    check_first_crl(&first_crl(&made.root_key).build(), &made.root).unwrap_err();
    let mut root_crl = first_crl(&made.root_key);
    root_crl.next_update = now().plus(30 * 86_400);
    check_first_crl(&root_crl.build(), &made.root).unwrap();

    let trust_domain = TrustDomain::new("example.org").unwrap();
    for key_type in [KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        let template = AuthorityTemplate {
            trust_domain: &trust_domain,
            serial: SerialNumber::from_random([3; 16]),
            validity: Validity::new(now(), now().plus(3600)).unwrap(),
        };
        check_first_crl(&first_crl(&key).build(), &build_root(&template, &key).unwrap()).unwrap();
    }
}

/// CRL-03, each check by itself.
/// ATK-41: a list of another authority, or a damaged one.
#[test]
fn a_list_that_is_not_the_first_of_the_key_is_refused() {
    let (made, other) = (issuing(), issuing());
    let check = |crl: &[u8]| check_first_crl(crl, &made.certificate).unwrap_err();
    assert_eq!(check(&first_crl(&other.key).build()), FirstCrlError::Fault(CrlFault::OtherIssuer));
    let revoked = [RevokedCertificate {
        serial: SerialNumber::from_random([9; 16]),
        revoked_at: now(),
        reason: RevocationReason::default(),
    }];
    assert_eq!(check(&CrlBuilder { revoked: &revoked, ..first_crl(&made.key) }.build()), FirstCrlError::NotEmpty);
    let end = made.certificate.validity().not_after();
    check_first_crl(&CrlBuilder { next_update: end, ..first_crl(&made.key) }.build(), &made.certificate).unwrap();
    let short = CrlBuilder { next_update: end.minus(1), ..first_crl(&made.key) }.build();
    assert_eq!(check(&short), FirstCrlError::TooShort { next_update: end.minus(1), certificate_end: end });
    let good = first_crl(&made.key).build();
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(check(&damaged), FirstCrlError::Fault(CrlFault::Signature));
    // The right key identifier under a signature by another key.
    let mut forged = good.clone();
    let key_id = made.key.public_key().subject_key_id();
    let position = forged.windows(20).position(|window| window == key_id).unwrap();
    forged[position] ^= 1;
    assert_eq!(check(&forged), FirstCrlError::Fault(CrlFault::OtherKeyId));
    let mut longer = good;
    longer.push(0);
    assert_eq!(check(&longer), FirstCrlError::Fault(CrlFault::Crl(CrlError::Shape)));
    assert_eq!(parse_crl(&vec![0x30; CRL_LIMIT + 1]), Err(CrlError::TooLong { length: CRL_LIMIT + 1 }));
}

/// CRL-02: no issuing distribution point, no delta: a list with any extension more is refused.
#[test]
fn a_list_with_further_extensions_is_refused() {
    let made = issuing();
    let issuer = rcgen::Issuer::from_ca_cert_der(&CertificateDer::from(made.certificate.der()), &made.key).unwrap();
    let date = |instant: UnixSeconds| time::OffsetDateTime::from_unix_timestamp(instant.0).unwrap();
    let mut parameters = rcgen::CertificateRevocationListParams {
        this_update: date(now()),
        next_update: date(now().plus(60)),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::PreSpecified(made.key.public_key().subject_key_id().to_vec()),
    };
    parse_crl(parameters.signed_by(&issuer).unwrap().der()).unwrap();
    let distribution_point = rcgen::CrlDistributionPoint { uris: vec!["http://example.org/crl".to_owned()] };
    parameters.issuing_distribution_point =
        Some(rcgen::CrlIssuingDistributionPoint { distribution_point, scope: None });
    assert_eq!(parse_crl(parameters.signed_by(&issuer).unwrap().der()), Err(CrlError::Shape));
}

/// What other readers make of our lists: x509-parser reads them, and rustls-webpki enforces them.
#[test]
fn other_programs_read_and_enforce_our_lists() {
    use x509_parser::prelude::{CertificateRevocationList, FromDer as _};
    let made = issuing();
    let serial = SerialNumber::from_random([7; 16]);
    let leaf_key = key();
    let issuer = LeafIssuer::new(made.certificate.der(), made.key.clone()).unwrap();
    let leaf = issuer
        .issue(&LeafTemplate {
            spiffe_id: &id(),
            dns_names: &[],
            subject: None,
            public_key: leaf_key.public_key(),
            serial,
            validity: Validity::new(now(), now().plus(3600)).unwrap(),
        })
        .unwrap();
    let root_crl = CrlBuilder { next_update: now().plus(60 * 86_400), ..first_crl(&made.root_key) }.build();
    let revoked = [RevokedCertificate { serial, revoked_at: now().minus(10), reason: RevocationReason::default() }];
    let verify = |revoked: &[RevokedCertificate]| {
        let crl = CrlBuilder { number: 2, revoked, ..first_crl(&made.key) }.build();
        let (rest, read) = CertificateRevocationList::from_der(&crl).unwrap();
        assert!(rest.is_empty());
        assert_eq!(read.crl_number().map(ToString::to_string), Some("2".to_owned()));
        assert_eq!(read.iter_revoked_certificates().count(), revoked.len());
        assert_eq!(parse_crl(&crl).unwrap().revoked.len(), revoked.len());
        let lists = [root_crl.as_slice(), &crl]
            .map(|crl| webpki::CertRevocationList::from(webpki::BorrowedCertRevocationList::from_der(crl).unwrap()));
        let lists: Vec<&webpki::CertRevocationList<'_>> = lists.iter().collect();
        let options = webpki::RevocationOptionsBuilder::new(&lists)
            .unwrap()
            .with_depth(webpki::RevocationCheckDepth::Chain)
            .with_status_policy(webpki::UnknownStatusPolicy::Deny)
            .build();
        let root = CertificateDer::from(made.root.der());
        let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
        let leaf = CertificateDer::from(leaf.as_slice());
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().0.try_into().unwrap()));
        webpki::EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &[CertificateDer::from(made.certificate.der())],
                time,
                webpki::KeyUsage::client_auth(),
                Some(options),
                None,
            )
            .map(drop)
    };
    assert_eq!(verify(&[]), Ok(()));
    assert_eq!(verify(&revoked), Err(webpki::Error::CertRevoked));
}

/// CSR extensions that mean nothing here do no harm.
#[test]
fn unknown_extensions_of_a_request_are_not_looked_at() {
    let mut parameters = CertificateParams::default();
    parameters.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0])];
    let request = parse_csr(parameters.serialize_request(&key()).unwrap().der()).unwrap();
    assert_eq!(request.uri_names, Vec::<String>::new());
}
