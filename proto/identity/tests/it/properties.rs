//! Properties: what prints parses back, what parses keeps the rules, and nothing from outside panics.

use proptest::prelude::*;
use quorate_proto_identity::x509::{CrlTemplate, build_crl, build_csr, parse_crl, parse_csr};
use quorate_proto_identity::{
    AuthorityId, Bundle, BundleMap, Certificate, EntryId, JwtAuthority, JwtClaims, JwtSigner, KeyType, PrivateKey,
    PublicKey, Selector, SelectorSet, SerialNumber, SpiffeId, TrustDomain, UnixSeconds, Validity, WorkloadEndpoint,
    check_dns_name, verify_jwt_svid,
};

use crate::support::{Scene, bundle_of, now};

proptest! {
    #[test]
    fn ids_made_of_the_alphabets_parse_and_print_back(
        name in "[a-z0-9._-]{1,255}",
        segments in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..8),
    ) {
        let domain = TrustDomain::new(&name).unwrap();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let id = SpiffeId::from_segments(&domain, &segments).unwrap();
        prop_assert_eq!(&SpiffeId::parse(id.as_str()).unwrap(), &id);
        prop_assert_eq!(&SpiffeId::from_path(&domain, id.path()).unwrap(), &id);
        prop_assert!(id.is_member_of(&domain));
        prop_assert_eq!(id.path().split('/').skip(1).collect::<Vec<_>>(), segments);
    }

    /// ID-21: what parses is ASCII, within its length, and is printed as it came.
    #[test]
    fn whatever_parses_as_an_id_is_canonical(text in "(spiffe://)?[a-zA-Z0-9._/:@?#%\\PC-]{0,60}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert!(text.is_ascii() && text.len() <= 2048);
            prop_assert_eq!(id.as_str(), &text);
            prop_assert!(!text.contains("//.") || text.starts_with("spiffe://."));
            prop_assert!(!id.path().ends_with('/') && !id.path().contains("//"));
        }
    }

    #[test]
    fn selectors_parse_and_print_back(kind in "[^:]{1,40}", value in "\\PC{1,80}") {
        let selector = Selector::new(&kind, &value).unwrap();
        prop_assert_eq!(&Selector::parse(&selector.to_string()).unwrap(), &selector);
        prop_assert_eq!((selector.kind(), selector.value()), (kind.as_str(), value.as_str()));
    }

    #[test]
    fn subset_agrees_with_its_definition(left in prop::collection::vec(0..12_u8, 0..6), right in prop::collection::vec(0..12_u8, 0..12)) {
        let set = |numbers: &[u8]| -> SelectorSet {
            numbers.iter().map(|number| Selector::new("unix", &format!("uid:{number}")).unwrap()).collect()
        };
        let wanted = left.iter().all(|number| right.contains(number));
        prop_assert_eq!(set(&left).is_subset_of(&set(&right)), wanted);
    }

    #[test]
    fn serial_numbers_and_entry_ids_parse_and_print_back(random in any::<[u8; 16]>()) {
        let serial = SerialNumber::from_random(random);
        prop_assert_eq!(serial.to_string().parse(), Ok(serial));
        prop_assert_eq!(SerialNumber::new(*serial.as_bytes()), Ok(serial));
        let id = EntryId::from_random(random);
        prop_assert_eq!(EntryId::new(id.as_str()), Ok(id));
    }

    #[test]
    fn socket_paths_print_and_parse_back(path in "(/[^/\\x00]{1,12}){1,5}") {
        let endpoint = WorkloadEndpoint::Unix(path.into());
        prop_assert_eq!(WorkloadEndpoint::parse(&endpoint.to_string()), Ok(endpoint));
    }

    #[test]
    fn a_capped_validity_never_outlives_its_cap(begin in 0..10_000_i64, life in 0..10_000_i64, cap in 0..20_000_i64) {
        let validity = Validity::new(UnixSeconds(begin), UnixSeconds(begin + life)).unwrap();
        match validity.ending_by(UnixSeconds(cap)) {
            Ok(capped) => prop_assert!(capped.not_after().0 <= cap && capped.not_after() <= validity.not_after()),
            Err(_) => prop_assert!(cap < begin),
        }
    }

    /// Nothing that parses foreign bytes panics; the fuzz targets go further.
    #[test]
    fn no_parser_panics_on_noise(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        let domain = TrustDomain::new("example.org").unwrap();
        let _ = Certificate::parse(&bytes);
        let _ = Certificate::parse_concatenated(&bytes);
        let _ = parse_csr(&bytes);
        let _ = parse_crl(&bytes);
        let _ = PublicKey::from_spki_der(&bytes);
        let _ = PrivateKey::from_pkcs8(&bytes);
        let _ = Bundle::parse(&domain, &bytes);
        let _ = BundleMap::parse(text.as_bytes());
        let _ = verify_jwt_svid(&text, "audience", &Bundle::new(domain), now());
        let _ = check_dns_name(&text);
    }
}

/// Every single changed byte, and every cut, of real documents: an error or another document, never a panic; and where
/// the certificate still reads, it no longer verifies (XC-19, XC-20).
#[test]
fn damaged_documents_are_refused_without_panic() {
    let scene = Scene::new();
    let good = scene.leaf_der();
    scene.verify_der(&good).unwrap();
    for position in 0..good.len() {
        let mut damaged = good.clone();
        damaged[position] ^= 1 << (position % 8);
        assert!(scene.verify_der(&damaged).is_err(), "byte {position}");
        assert!(Certificate::parse(&good[..position]).is_err());
    }
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    for position in 0..key.pkcs8().len() {
        let mut damaged = key.pkcs8().to_vec();
        damaged[position] ^= 1 << (position % 8);
        let _ = PrivateKey::from_pkcs8(&damaged);
        assert!(PrivateKey::from_pkcs8(&key.pkcs8()[..position]).is_err());
    }
}

/// The same for requests, lists, tokens and bundle documents: cut anywhere they are refused, and no changed byte makes a
/// reader panic or a signature hold.
/// ATK-41: revocation lists too.
#[test]
fn damaged_requests_lists_tokens_and_bundles_are_refused_without_panic() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let id = SpiffeId::parse("spiffe://example.org/workload").unwrap();
    let request = build_csr(&key, &id, &["a.example.org".to_owned()]).unwrap();
    let template = CrlTemplate { this_update: now(), next_update: now().plus(60), number: 1, revoked: &[] };
    let list = build_crl(&template, &key).unwrap();
    let mut bundle = bundle_of("example.org", &[Scene::new().root_der()]);
    bundle.add_jwt_authority(JwtAuthority { key_id: "k1".to_owned(), public_key: key.public_key().clone() });
    let signer = JwtSigner::new(AuthorityId::new("k1").unwrap(), key).unwrap();
    let claims = JwtClaims { sub: &id, aud: &["a".to_owned()], iat: now(), exp: now().plus(60), jti: "1", iss: None };
    let token = signer.sign(&claims).unwrap();
    verify_jwt_svid(&token, "a", &bundle, now()).unwrap();
    let document = bundle.to_json();

    let damaged = |bytes: &[u8], position: usize| {
        let mut damaged = bytes.to_vec();
        damaged[position] ^= 1 << (position % 7);
        damaged
    };
    for position in 0..request.len() {
        assert!(parse_csr(&damaged(&request, position)).is_err(), "byte {position}");
        assert!(parse_csr(&request[..position]).is_err());
    }
    for position in 0..list.len() {
        let _ = parse_crl(&damaged(&list, position));
        assert!(parse_crl(&list[..position]).is_err());
    }
    for position in 0..token.len() {
        let text = String::from_utf8(damaged(token.as_bytes(), position)).unwrap();
        assert!(verify_jwt_svid(&text, "a", &bundle, now()).is_err(), "byte {position}");
        assert!(verify_jwt_svid(&token[..position], "a", &bundle, now()).is_err());
    }
    for position in 0..document.len() {
        let _ = Bundle::parse(bundle.trust_domain(), &damaged(document.as_bytes(), position));
        assert!(Bundle::parse(bundle.trust_domain(), &document.as_bytes()[..position]).is_err());
    }
}
