//! What we issue, against the profile (end of section 15.4), against rcgen byte for byte, and against other readers.

use std::sync::LazyLock;

use quorate_proto_identity::x509::{
    AuthorityError, AuthorityTemplate, LeafError, Purpose, build_issuing_certificate, build_root, check_leaf_profile,
};
use quorate_proto_identity::{
    Bundle, Certificate, KeyType, LeafIssuer, LeafTemplate, PrivateKey, SerialNumber, SpiffeId, TrustDomain, Validity,
    verify_x509_svid,
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose,
    SanType,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::support::{CertificateSpec, Extension, name, now};

/// One key of each type; RSA keys take long to make.
static KEYS: LazyLock<Vec<PrivateKey>> =
    LazyLock::new(|| KeyType::ALL.map(|key_type| PrivateKey::generate(key_type).unwrap()).to_vec());

fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::from_path(&domain(), path).unwrap()
}

fn serial(number: u8) -> SerialNumber {
    SerialNumber::from_random([number; 16])
}

fn validity(seconds: i64) -> Validity {
    Validity::new(now().minus(30), now().plus(seconds)).unwrap()
}

fn root(key: &PrivateKey) -> Certificate {
    let template = AuthorityTemplate { trust_domain: &domain(), serial: serial(1), validity: validity(30 * 86_400) };
    build_root(&template, key).unwrap()
}

/// A root and an issuing certificate with fresh keys of this type.
struct Authority {
    root: Certificate,
    issuer: LeafIssuer,
}

impl Authority {
    fn new(root_key: &PrivateKey, issuing_key: &PrivateKey) -> Self {
        let root = root(root_key);
        let template = AuthorityTemplate { trust_domain: &domain(), serial: serial(2), validity: validity(86_400) };
        let issuing = build_issuing_certificate(&template, issuing_key.public_key(), &root, root_key).unwrap();
        Self { root, issuer: LeafIssuer::new(issuing.der(), issuing_key.clone()).unwrap() }
    }

    fn of_type(key_type: KeyType) -> Self {
        let [root, issuing] = std::array::from_fn(|_| PrivateKey::generate(key_type).unwrap());
        Self::new(&root, &issuing)
    }

    fn issue(&self, key: &PrivateKey, dns_names: &[String], subject: Option<&[u8]>) -> Result<Vec<u8>, LeafError> {
        self.issuer.issue(&LeafTemplate {
            spiffe_id: &id("/workload"),
            dns_names,
            subject,
            public_key: key.public_key(),
            serial: serial(3),
            validity: validity(3600),
        })
    }
}

fn date(instant: quorate_proto_identity::UnixSeconds) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(instant.0).unwrap()
}

/// The signed part of the same leaf as rcgen writes it.
fn rcgen_signed_part(
    issuer: &LeafIssuer,
    key: &PrivateKey,
    dns_names: &[String],
    subject: DistinguishedName,
) -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.not_before = date(validity(3600).not_before());
    parameters.not_after = date(validity(3600).not_after());
    parameters.serial_number = Some(rcgen::SerialNumber::from_slice(serial(3).as_bytes()));
    parameters.distinguished_name = subject;
    parameters.subject_alt_names = vec![SanType::URI(id("/workload").as_str().try_into().unwrap())];
    for dns_name in dns_names {
        parameters.subject_alt_names.push(SanType::DnsName(dns_name.as_str().try_into().unwrap()));
    }
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if matches!(key.key_type(), KeyType::Rsa2048 | KeyType::Rsa4096) {
        parameters.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(key.public_key().subject_key_id().to_vec());
    let certificate_der = issuer.certificate().der().into();
    let rcgen_issuer = Issuer::from_ca_cert_der(&certificate_der, issuer.key()).unwrap();
    let certificate = parameters.signed_by(key.public_key(), &rcgen_issuer).unwrap();
    signed_part(certificate.der())
}

fn signed_part(der: &[u8]) -> Vec<u8> {
    let (rest, certificate) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    certificate.tbs_certificate.as_ref().to_vec()
}

/// Every type of issuer with every type of leaf key, without names, with DNS names, with a subject of its own.
#[test]
fn the_signed_part_of_a_leaf_is_what_rcgen_writes() {
    let dns_names = ["api.example.org".to_owned(), "*.web.example.org".to_owned()];
    let long = [format!("{0}.{0}.example.org", "a".repeat(40))];
    let with_common_name = |text: &str| {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, text);
        name
    };
    for key_type in KeyType::ALL.into_iter().filter(|key_type| key_type.is_for_authorities()) {
        let issuing_key = KEYS.iter().find(|key| key.key_type() == key_type).unwrap();
        let authority = Authority::new(&PrivateKey::generate(KeyType::EcP256).unwrap(), issuing_key);
        for key in KEYS.iter() {
            let none: &[String] = &[];
            let asked_for = name("somebody");
            for (dns_names, subject, same_in_rcgen) in [
                (none, None, DistinguishedName::new()),
                (&dns_names, None, with_common_name("api.example.org")),
                (&long, None, DistinguishedName::new()),
                (none, Some(asked_for.as_slice()), with_common_name("somebody")),
                (&dns_names, Some(&[0x30, 0][..]), DistinguishedName::new()),
            ] {
                let ours = authority.issue(key, dns_names, subject).unwrap();
                let wanted = rcgen_signed_part(&authority.issuer, key, dns_names, same_in_rcgen);
                assert_eq!(signed_part(&ours), wanted, "{key_type} signs {}", key.key_type());
            }
        }
    }
}

/// Serial numbers of every width, and dates on both sides of 2050.
#[test]
fn serial_numbers_and_dates_of_every_form_are_what_rcgen_writes() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let far = Validity::new(now(), now().plus(60 * 365 * 86_400)).unwrap();
    let template = AuthorityTemplate { trust_domain: &domain(), serial: serial(1), validity: far };
    let root = build_root(&template, &key).unwrap();
    assert_eq!(root.validity(), far);
    let issuer = LeafIssuer::new(root.der(), key.clone()).unwrap();
    for (width, first) in (1..=16).flat_map(|width| [(width, 0x7f), (width, 0x80), (width, 1)]) {
        let mut bytes = [0; 16];
        bytes[16 - width..].fill(0x55);
        bytes[16 - width] = first;
        let Ok(serial) = SerialNumber::new(bytes) else { continue };
        let leaf = issuer
            .issue(&LeafTemplate {
                spiffe_id: &id("/a"),
                dns_names: &[],
                subject: None,
                public_key: key.public_key(),
                serial,
                validity: far,
            })
            .unwrap();
        let (_, read) = X509Certificate::from_der(&leaf).unwrap();
        let digits: Vec<u8> = serial.as_bytes().iter().copied().skip_while(|byte| *byte == 0).collect();
        let written: Vec<u8> = read.raw_serial().iter().copied().skip_while(|byte| *byte == 0).collect();
        assert_eq!(written, digits);
        assert_eq!(read.raw_serial()[0] & 0x80, 0, "positive");
        assert_eq!(read.validity().not_after.timestamp(), far.not_after().0);
        assert_eq!(Certificate::parse(&leaf).unwrap().serial(), digits);
    }
}

/// ID-27, X509-01, X509-06, X509-16, X509-19, X509-22 to X509-25, X509-27 on leaves of every type of key, read by
/// x509-parser; verified over rustls-webpki.
/// X509-26: the extended key usage is always there.
///
/// Accepts: X509-01, X509-06, X509-16, X509-19, X509-24, X509-25, X509-27, as a verifier does.
#[test]
fn every_leaf_keeps_the_profile_and_verifies() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let authority = Authority::of_type(key_type);
        let mut bundle = Bundle::new(domain());
        bundle.add_x509_authority(authority.root.clone());
        for key in KEYS.iter() {
            let leaf = authority.issue(key, &["api.example.org".to_owned()], None).unwrap();
            let (_, read) = X509Certificate::from_der(&leaf).unwrap();
            assert_eq!(read.version(), x509_parser::x509::X509Version::V3);
            let constraints = read.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && !constraints.value.ca);
            let usage = read.key_usage().unwrap().unwrap();
            let is_rsa = matches!(key.key_type(), KeyType::Rsa2048 | KeyType::Rsa4096);
            assert!(usage.critical && usage.value.digital_signature());
            assert_eq!(usage.value.key_encipherment(), is_rsa);
            assert_eq!(usage.value.flags & !0b101, 0, "nothing but digitalSignature and keyEncipherment");
            let purposes = read.extended_key_usage().unwrap().unwrap().value;
            assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
            let names = &read.subject_alternative_name().unwrap().unwrap().value.general_names;
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(names, ["URI(spiffe://example.org/workload)", "DNSName(api.example.org)"]);
            let issuer = authority.issuer.certificate();
            assert!(read.validity().not_after.timestamp() <= issuer.validity().not_after().0);
            assert_eq!(read.tbs_certificate.issuer.as_raw(), issuer.subject());

            let chain = [leaf.as_slice(), issuer.der()];
            for purpose in [Purpose::Client, Purpose::Server, Purpose::Any] {
                let verified = verify_x509_svid(&chain, &bundle, now(), purpose).unwrap();
                assert_eq!(verified.spiffe_id(), &id("/workload"));
                assert_eq!(verified.leaf().public_key(), key.public_key());
            }
            let leaf = Certificate::parse(&leaf).unwrap();
            assert_eq!(check_leaf_profile(&leaf).unwrap(), id("/workload"));
            leaf.verify_signature(issuer.public_key()).unwrap();
        }
    }
}

/// ID-28, X509-10, X509-15, X509-19 to X509-21, X509-25, CRL-01 on roots and issuing certificates.
/// X509-09, X509-11: each has the ID of the trust domain. X509-12, X509-14: the issuing certificate stands below the
/// root and takes nobody below itself. X509-17, X509-28: neither has name constraints or an extended key usage.
/// X509-40: the root is self-signed. ID-29, ID-30: an authority's ID is its trust domain's, without a path.
///
/// Accepts: X509-10, X509-11, X509-21.
#[test]
fn every_authority_keeps_the_profile() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048, KeyType::Rsa4096] {
        let root_key = KEYS.iter().find(|key| key.key_type() == key_type).unwrap();
        let authority = Authority::new(root_key, &PrivateKey::generate(KeyType::EcP256).unwrap());
        let issuing = authority.issuer.certificate();
        for (certificate, path_length) in [(&authority.root, None), (issuing, Some(0))] {
            let (_, read) = X509Certificate::from_der(certificate.der()).unwrap();
            let constraints = read.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && constraints.value.ca);
            assert_eq!(constraints.value.path_len_constraint, path_length);
            let usage = read.key_usage().unwrap().unwrap();
            assert!(usage.critical);
            assert_eq!(usage.value.flags, 0b110_0000, "keyCertSign and cRLSign, nothing else");
            assert!(read.extended_key_usage().unwrap().is_none());
            assert!(read.name_constraints().unwrap().is_none());
            let extensions = certificate.extensions();
            assert_eq!(extensions.uri_names, ["spiffe://example.org"]);
            let key_id = certificate.public_key().subject_key_id();
            assert_eq!(extensions.subject_key_id.as_deref(), Some(&key_id[..]));
            assert_eq!(
                read.subject().to_string(),
                format!("O=Quorate, serialNumber={}", certificate.authority_id()),
                "unique to the key"
            );
        }
        assert_eq!(issuing.issuer(), authority.root.subject());
        let root_id = authority.root.public_key().subject_key_id();
        assert_eq!(issuing.extensions().authority_key_id.as_deref(), Some(&root_id[..]));
        issuing.verify_signature(authority.root.public_key()).unwrap();
        authority.root.verify_signature(authority.root.public_key()).unwrap();
        assert_eq!(authority.root.serial(), serial(1).as_bytes());
        assert_eq!(issuing.serial(), serial(2).as_bytes());
        assert_eq!(issuing.validity(), validity(86_400));
    }
}

/// X509-07: critical just when the subject is empty.
#[test]
fn the_subject_is_empty_or_the_first_dns_name_and_the_names_say_so() {
    let authority = Authority::of_type(KeyType::EcP256);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let read = |dns_names: &[String], subject: Option<&[u8]>| {
        Certificate::parse(&authority.issue(&key, dns_names, subject).unwrap()).unwrap()
    };
    let bare = read(&[], None);
    assert_eq!((bare.subject(), bare.extensions().alternative_name_critical), (&[0x30, 0][..], Some(true)));
    let named = read(&["a.example.org".to_owned(), "b.example.org".to_owned()], None);
    assert_eq!(named.subject(), name("a.example.org"));
    assert_eq!(named.extensions().alternative_name_critical, Some(false));
    assert_eq!(named.extensions().dns_names, ["a.example.org", "b.example.org"]);
    let asked_for = read(&[], Some(&name("somebody")));
    assert_eq!(asked_for.subject(), name("somebody"));
}

/// X509-06, ID-38: no ID without a path, and none of another trust domain.
///
/// Refuses: X509-06, X509-07 by subjects that are no names, X509-11 by an ID of another trust domain than the issuer's.
#[test]
fn a_leaf_that_no_leaf_may_be_is_refused() {
    let authority = Authority::of_type(KeyType::EcP256);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let good_id = id("/workload");
    let good = LeafTemplate {
        spiffe_id: &good_id,
        dns_names: &[],
        subject: None,
        public_key: key.public_key(),
        serial: serial(3),
        validity: validity(3600),
    };
    authority.issuer.issue(&good).unwrap();
    let refused = |template: LeafTemplate<'_>| authority.issuer.issue(&template).unwrap_err();

    assert_eq!(refused(LeafTemplate { spiffe_id: &domain().id(), ..good }), LeafError::NoPath);
    let foreign = SpiffeId::parse("spiffe://sub.example.org/workload").unwrap();
    assert!(matches!(refused(LeafTemplate { spiffe_id: &foreign, ..good }), LeafError::OtherTrustDomain { .. }));
    let wrong = ["a.example.org/".to_owned()];
    assert!(matches!(refused(LeafTemplate { dns_names: &wrong, ..good }), LeafError::DnsName(_)));
    let late = LeafTemplate { validity: validity(86_401), ..good };
    assert!(matches!(refused(late), LeafError::OutlivesIssuer { .. }));
    for subject in [&[][..], &[0x30], &[0x30, 0, 0], &[0x31, 0], &[0x30, 2, 0x31, 1], &[0x30, 3, 0x31, 1, 0x30]] {
        assert_eq!(refused(LeafTemplate { subject: Some(subject), ..good }), LeafError::Subject, "{subject:02x?}");
    }
}

#[test]
fn an_issuer_takes_only_its_own_signing_certificate() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let other = PrivateKey::generate(KeyType::EcP256).unwrap();
    let root_certificate = root(&key);
    assert_eq!(LeafIssuer::new(root_certificate.der(), other.clone()).unwrap_err(), LeafError::OtherKey);
    let authority = Authority::new(&key, &other);
    let leaf = authority.issue(&key, &[], None).unwrap();
    assert_eq!(LeafIssuer::new(&leaf, key.clone()).unwrap_err(), LeafError::NotSigning);
    assert!(matches!(LeafIssuer::new(&leaf[1..], key).unwrap_err(), LeafError::Certificate(_)));
}

/// Refuses: X509-09 by an issuing certificate without an ID, X509-10 by one whose ID has a path, X509-21 by one that may
/// sign lists and no certificates.
#[test]
fn an_issuing_certificate_that_is_none_of_a_trust_domain_signs_no_leaves() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let issuer = |change: fn(&mut CertificateSpec)| {
        let mut certificate = CertificateSpec::authority("R", &["spiffe://example.org"], &key);
        change(&mut certificate);
        LeafIssuer::new(&certificate.sign(&key), key.clone())
    };
    issuer(|_| {}).unwrap();
    let nameless = issuer(|certificate| certificate.unset(&[2, 5, 29, 17]));
    assert_eq!(nameless.unwrap_err(), LeafError::NoTrustDomain);
    let with_a_path = issuer(|certificate| certificate.set(Extension::uri_san(&["spiffe://example.org/issuer"])));
    assert_eq!(with_a_path.unwrap_err(), LeafError::NoTrustDomain);
    let for_lists = issuer(|certificate| certificate.set(Extension::key_usage(&[1, 0x02])));
    assert_eq!(for_lists.unwrap_err(), LeafError::NotSigning);
}

#[test]
fn an_issuing_certificate_ends_with_its_root_at_the_latest() {
    let root_key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let root = root(&root_key);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let build = |validity| {
        let template = AuthorityTemplate { trust_domain: &domain(), serial: serial(2), validity };
        build_issuing_certificate(&template, key.public_key(), &root, &root_key)
    };
    let long = build(validity(60 * 86_400)).unwrap();
    assert_eq!(long.validity().not_after(), root.validity().not_after());
    let after_the_end = Validity::new(now().plus(31 * 86_400), now().plus(32 * 86_400)).unwrap();
    assert!(matches!(build(after_the_end), Err(AuthorityError::Validity(_))));
}

#[test]
fn only_fitting_keys_become_authorities() {
    let root_key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let root = root(&root_key);
    let ed25519 = PrivateKey::generate(KeyType::Ed25519).unwrap();
    let template = AuthorityTemplate { trust_domain: &domain(), serial: serial(2), validity: validity(60) };
    assert!(matches!(build_root(&template, &ed25519), Err(AuthorityError::KeyKind(_))));
    let build = |key: &PrivateKey, root_key| build_issuing_certificate(&template, key.public_key(), &root, root_key);
    assert!(matches!(build(&ed25519, &root_key), Err(AuthorityError::KeyKind(_))));
    let other = PrivateKey::generate(KeyType::EcP256).unwrap();
    assert_eq!(build(&root_key, &other), Err(AuthorityError::OtherKey));
}

#[test]
fn concatenated_certificates_are_taken_apart() {
    let authority = Authority::of_type(KeyType::EcP256);
    let leaf = authority.issue(&KEYS[0], &[], None).unwrap();
    let bytes = [leaf.as_slice(), authority.issuer.certificate().der(), authority.root.der()].concat();
    let certificates = Certificate::parse_concatenated(&bytes).unwrap();
    assert_eq!(certificates.len(), 3);
    assert_eq!(certificates[0].der(), leaf);
    assert_eq!(certificates[2], authority.root);
    assert_eq!(Certificate::parse_concatenated(&[]).unwrap(), []);
    assert!(Certificate::parse_concatenated(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn the_subject_of_an_authority_names_its_key_and_no_other_name_does_crl_01() {
    let (key, other) = (&KEYS[0], &KEYS[1]);
    let authority = root(key);
    assert!(authority.subject_names_key());
    let named = |ids: &[&PrivateKey]| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::OrganizationName, "Quorate");
        for (place, id) in ids.iter().enumerate() {
            let text: String = id.public_key().subject_key_id().iter().map(|byte| format!("{byte:02x}")).collect();
            let value = rcgen::DnValue::PrintableString(text.try_into().unwrap());
            // The second one stands where a country would.
            let oid = if place == 0 { vec![2, 5, 4, 5] } else { vec![2, 5, 4, 6] };
            parameters.distinguished_name.push(DnType::CustomDnType(oid), value);
        }
        Certificate::parse(parameters.self_signed(key).unwrap().der()).unwrap()
    };
    assert!(named(&[key]).subject_names_key());
    assert!(!named(&[]).subject_names_key(), "no name of a key");
    assert!(!named(&[other]).subject_names_key(), "another key's name");
    assert!(!named(&[other, key]).subject_names_key(), "the key's name in another attribute");
}
