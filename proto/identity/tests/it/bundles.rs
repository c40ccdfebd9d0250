//! Vectors of section 15.7: bundle documents and maps (BND-08 to BND-34, X509-35 to X509-43, JWT-23 to JWT-27,
//! A-31 to A-34).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use quorate_proto_identity::bundle::{
    Acceptance, BUNDLE_LIMIT, BundleError, BundleMapError, ParsedBundle, REFRESH_DEFAULT_SECONDS,
    REFRESH_LEAST_SECONDS, REFRESH_MOST_SECONDS, SkipReason,
};
use quorate_proto_identity::x509::{Purpose, SvidError};
use quorate_proto_identity::{
    AuthorityId, Bundle, BundleMap, BundleSource, Certificate, JwtAuthority, JwtClaims, JwtError, JwtSigner, KeyType,
    PrivateKey, SpiffeId, TrustDomain, verify_jwt_svid, verify_x509_svid,
};
use serde_json::{Value, json};

use crate::support::{CertificateSpec, Extension, Scene, bundle_of, now};

fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// The base of section 15.7: one good key of each use.
struct Document {
    scene: Scene,
    /// The certificate of the first key.
    root: Certificate,
    jwt_key: PrivateKey,
    json: Value,
}

impl Document {
    fn base() -> Self {
        let scene = Scene::new();
        let [jwt_key, wit_key] = std::array::from_fn(|_| PrivateKey::generate(KeyType::EcP256).unwrap());
        let mut own = bundle_of("example.org", &[scene.root_der()]);
        let authority = |key_id: &str, key: &PrivateKey| JwtAuthority {
            key_id: key_id.to_owned(),
            public_key: key.public_key().clone(),
        };
        own.add_jwt_authority(authority("jwt-7", &jwt_key));
        own.add_jwt_authority(authority("wit-3", &wit_key));
        own.set_sequence(Some(7));
        own.set_refresh_hint(Some(300));
        let root = own.x509_authorities()[0].clone();
        let mut json: Value = serde_json::from_str(&own.to_json()).unwrap();
        json["keys"][2]["use"] = json!("wit-svid");
        Self { scene, root, jwt_key, json }
    }

    fn parse(&self) -> Result<ParsedBundle, BundleError> {
        Bundle::parse(&domain(), self.json.to_string().as_bytes())
    }

    /// Why the key at this place is skipped, if it is.
    fn reason(&self, index: usize) -> Option<SkipReason> {
        let skipped = self.parse().unwrap().skipped;
        skipped.into_iter().find(|skipped| skipped.index == index).map(|skipped| skipped.reason)
    }
}

/// XB-29, and the base itself.
/// X509-43, JWT-26.
///
/// Accepts: BND-08, BND-12, BND-15, BND-17, BND-25.
#[test]
fn a_good_document_gives_all_that_is_understood() {
    let document = Document::base();
    let ParsedBundle { bundle, skipped } = document.parse().unwrap();
    assert_eq!(bundle.trust_domain(), &domain());
    assert_eq!(bundle.x509_authorities(), std::slice::from_ref(&document.root));
    let key_ids: Vec<_> = bundle.jwt_authorities().iter().map(|authority| authority.key_id.as_str()).collect();
    assert_eq!(key_ids, ["jwt-7"]);
    assert_eq!(&bundle.jwt_authorities()[0].public_key, document.jwt_key.public_key());
    assert_eq!((bundle.sequence(), bundle.refresh_hint()), (Some(7), Some(300)));
    assert_eq!(skipped.len(), 1);
    assert_eq!((skipped[0].index, skipped[0].reason), (2, SkipReason::WitUnsupported));
}

/// XB-01, XB-02, XB-23.
///
/// Refuses: BND-08, BND-12, BND-13, BND-15, BND-17, FED-24.
#[test]
fn a_document_at_fault_is_refused_whole() {
    let parse = |text: &[u8]| Bundle::parse(&domain(), text).unwrap_err();
    assert!(matches!(parse(b"{}"), BundleError::Keys));
    assert!(matches!(parse(br#"{"keys":{}}"#), BundleError::Keys));
    assert!(matches!(parse(br#"{"keys":null}"#), BundleError::Keys));
    for text in [&b"[]"[..], b"", b"keys", b"{\"keys\":[]", b"{\"keys\":[]}x", b"{\"keys\":[],\"\xff\":1}"] {
        assert!(matches!(parse(text), BundleError::Json(_)), "{text:?}");
    }
    assert!(matches!(parse(br#"{"keys":[],"keys":[]}"#), BundleError::Json(_)));
    for wrong in ["\"7\"", "7.5", "-1", "null", "18446744073709551616", "true"] {
        let text = format!(r#"{{"keys":[],"spiffe_sequence":{wrong}}}"#);
        assert!(matches!(parse(text.as_bytes()), BundleError::Sequence), "{wrong}");
    }
    for wrong in ["\"300\"", "300.5", "null", "[]"] {
        let text = format!(r#"{{"keys":[],"spiffe_refresh_hint":{wrong}}}"#);
        assert!(matches!(parse(text.as_bytes()), BundleError::RefreshHint), "{wrong}");
    }
    let long = vec![b' '; BUNDLE_LIMIT + 1];
    assert!(matches!(parse(&long), BundleError::TooLong { .. }));
}

/// XB-03, XB-04: a bundle without a usable key is a bundle, and every SVID of the trust domain is invalid.
/// X509-43, JWT-27.
///
/// Accepts: BND-06, BND-19, BND-20. Refuses: BND-06, BND-18, BND-20, BND-26.
#[test]
fn a_document_without_usable_keys_makes_every_svid_invalid() {
    let mut document = Document::base();
    let leaf = [document.scene.leaf_der()];
    let signer = JwtSigner::new(AuthorityId::new("jwt-7").unwrap(), document.jwt_key.clone()).unwrap();
    let id = SpiffeId::parse("spiffe://example.org/workload").unwrap();
    let claims = JwtClaims { sub: &id, aud: &["a".to_owned()], iat: now(), exp: now().plus(60), jti: "1", iss: None };
    let token = signer.sign(&claims).unwrap();
    let full = document.parse().unwrap().bundle;
    verify_x509_svid(&leaf, &full, now(), Purpose::Any).unwrap();
    verify_jwt_svid(&token, "a", &full, now()).unwrap();

    for key in document.json["keys"].as_array_mut().unwrap() {
        key["use"] = json!("sig");
    }
    for json in [json!({"keys": []}), document.json] {
        let bundle = Bundle::parse(&domain(), json.to_string().as_bytes()).unwrap().bundle;
        let refused = verify_x509_svid(&leaf, &bundle, now(), Purpose::Any).unwrap_err();
        assert!(matches!(refused, SvidError::NoAuthority { .. }));
        let refused = verify_jwt_svid(&token, "a", &bundle, now()).unwrap_err();
        assert!(matches!(refused, JwtError::UnknownKey { .. }));
    }
}

/// A vector about one key: its number, the key's place, why it is skipped, and the one change.
type Skipped = (&'static str, usize, SkipReason, fn(&mut Document));

fn remove(document: &mut Document, index: usize, member: &str) {
    document.json["keys"][index].as_object_mut().unwrap().remove(member);
}

/// Puts another certificate into the first key.
fn set_certificate(document: &mut Document, certificate: &[u8]) {
    document.json["keys"][0]["x5c"] = json!([STANDARD.encode(certificate)]);
}

/// BND-18 and BND-24 by XB-05, BND-26 by XB-06 to XB-08, BND-23 by XB-09, X509-41 by XB-10, JWT-25 by XB-16.
const SKIPPED: &[Skipped] = &[
    ("XB-05", 0, SkipReason::UnknownKeyType, |document| document.json["keys"][0]["kty"] = json!("XYZ")),
    ("XB-05 curve", 1, SkipReason::UnknownKeyType, |document| document.json["keys"][1]["crv"] = json!("secp256k1")),
    ("XB-06", 0, SkipReason::UnknownUse, |document| document.json["keys"][0]["use"] = json!("sig")),
    ("XB-07", 1, SkipReason::UnknownUse, |document| remove(document, 1, "use")),
    ("XB-07 not a text", 1, SkipReason::UnknownUse, |document| document.json["keys"][1]["use"] = json!(["jwt-svid"])),
    ("XB-08", 0, SkipReason::UnknownUse, |document| document.json["keys"][0]["use"] = json!("X509-SVID")),
    ("XB-09", 1, SkipReason::UnknownKeyType, |document| remove(document, 1, "kty")),
    ("XB-10 missing", 0, SkipReason::NoCertificate, |document| remove(document, 0, "x5c")),
    ("XB-10 empty", 0, SkipReason::NoCertificate, |document| document.json["keys"][0]["x5c"] = json!([])),
    ("XB-12 base64url", 0, SkipReason::MalformedCertificate, |document| {
        let der = document.scene.root_der();
        document.json["keys"][0]["x5c"] = json!([URL_SAFE_NO_PAD.encode(&der)]);
    }),
    ("XB-12 PEM", 0, SkipReason::MalformedCertificate, |document| {
        let text = STANDARD.encode(document.scene.root_der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        document.json["keys"][0]["x5c"] = json!([pem]);
    }),
    ("XB-12 not DER", 0, SkipReason::MalformedCertificate, |document| set_certificate(document, b"not DER")),
    ("XB-12 not a text", 0, SkipReason::MalformedCertificate, |document| document.json["keys"][0]["x5c"] = json!([1])),
    ("XB-13", 0, SkipReason::NotAuthority, |document| {
        document.scene.root.set(Extension::not_a_ca());
        let der = document.scene.root_der();
        set_certificate(document, &der);
    }),
    ("XB-14", 0, SkipReason::OtherKey, |document| {
        let x = document.json["keys"][1]["x"].clone();
        let y = document.json["keys"][1]["y"].clone();
        document.json["keys"][0]["x"] = x;
        document.json["keys"][0]["y"] = y;
    }),
    ("XB-14 no key members", 0, SkipReason::MalformedKey, |document| remove(document, 0, "x")),
    ("XB-16", 1, SkipReason::NoKeyId, |document| remove(document, 1, "kid")),
    ("XB-16 empty", 1, SkipReason::NoKeyId, |document| document.json["keys"][1]["kid"] = json!("")),
    ("XB-18", 1, SkipReason::RepeatedKeyId, |document| document.json["keys"][2]["kid"] = json!("jwt-7")),
    ("XB-19 oct", 1, SkipReason::PrivateKey, |document| {
        document.json["keys"][1] = json!({"use": "jwt-svid", "kid": "jwt-7", "kty": "oct", "k": "AAAA"});
    }),
    ("XB-19 d", 1, SkipReason::PrivateKey, |document| document.json["keys"][1]["d"] = json!("AAAA")),
    ("no algorithm fits Ed25519 (JWT-05)", 1, SkipReason::UnusableKey, |document| {
        let x = URL_SAFE_NO_PAD.encode([9; 32]);
        document.json["keys"][1] = json!({"use": "jwt-svid", "kid": "jwt-7", "kty": "OKP", "crv": "Ed25519", "x": x});
    }),
    ("RSA below 2048 bits (F5)", 1, SkipReason::MalformedKey, |document| {
        let n = URL_SAFE_NO_PAD.encode([0xff; 128]);
        document.json["keys"][1] = json!({"use": "jwt-svid", "kid": "jwt-7", "kty": "RSA", "n": n, "e": "AQAB"});
    }),
    ("not an object", 1, SkipReason::NotAnObject, |document| document.json["keys"][1] = json!("jwt-svid")),
];

/// Accepts: BND-18, BND-23, BND-24, BND-26. Refuses: BND-18, BND-23, BND-24, BND-25, BND-26.
#[test]
fn a_key_at_fault_is_skipped_and_the_rest_stays_in_force() {
    for (number, index, reason, change) in SKIPPED {
        let mut document = Document::base();
        change(&mut document);
        assert_eq!(document.reason(*index), Some(*reason), "{number}");
        let bundle = document.parse().unwrap().bundle;
        assert_eq!(bundle.x509_authorities().len(), usize::from(*index != 0), "{number}");
        assert_eq!(bundle.jwt_authorities().len(), usize::from(*index != 1), "{number}");
        assert_eq!(bundle.sequence(), Some(7), "{number}");
    }
}

/// XB-17.
#[test]
fn keys_with_one_kid_are_all_skipped() {
    let mut document = Document::base();
    document.json["keys"][2]["use"] = json!("jwt-svid");
    document.json["keys"][2]["kid"] = json!("jwt-7");
    assert_eq!(document.reason(1), Some(SkipReason::RepeatedKeyId));
    assert_eq!(document.reason(2), Some(SkipReason::RepeatedKeyId));
    assert_eq!(document.parse().unwrap().bundle.jwt_authorities(), []);
}

/// XB-11, XB-15, XB-20, XB-27, XB-28, XB-30.
/// X509-42 by XB-11, BND-09 and BND-10 by a member that nobody knows, BND-04 by the anchor of another trust domain, BND-22 by
/// what was read with more than belongs to it and is published without that.
///
/// Accepts: BND-04, BND-05, BND-09, BND-10. Refuses: BND-05, BND-10, BND-22.
#[test]
fn what_publishers_should_not_do_and_consumers_accept() {
    let scene = Scene::new();
    let mut document = Document::base();
    let first = document.json["keys"][0]["x5c"][0].clone();
    document.json["keys"][0]["x5c"] = json!([first, STANDARD.encode(scene.root_der())]);
    document.json["keys"][0]["kid"] = json!("x");
    document.json["keys"][0]["alg"] = json!("ES256");
    document.json["keys"][1]["key_ops"] = json!(["verify"]);
    document.json["spiffe_unknown"] = json!({"a": 1});
    let again = document.json["keys"][0].clone();
    document.json["keys"].as_array_mut().unwrap().push(again);
    let bundle = document.parse().unwrap().bundle;
    assert_eq!(bundle.x509_authorities(), std::slice::from_ref(&document.root));
    assert_eq!(bundle.jwt_authorities().len(), 1);
    document.json.as_object_mut().unwrap().remove("spiffe_unknown");
    assert_eq!(document.parse().unwrap().bundle, bundle, "nothing hangs on a member that the standard does not define");
    for strange in ["spiffe_unknown", "key_ops", "alg"] {
        assert!(!bundle.to_json().contains(strange), "{strange} is not published on");
    }

    // An anchor that is not self-signed and names another trust domain: for the configured domain only.
    let mut scene = Scene::new();
    scene.intermediate.set(Extension::uri_san(&["spiffe://other.org"]));
    let printed = bundle_of("example.org", &[scene.intermediate_der()]).to_json();
    let bundle = Bundle::parse(&domain(), printed.as_bytes()).unwrap().bundle;
    assert_eq!(bundle.x509_authorities().len(), 1);
    scene.use_intermediate();
    let leaf = [scene.leaf_der()];
    verify_x509_svid(&leaf, &bundle, now(), Purpose::Any).unwrap();
    scene.leaf.set(Extension::uri_san(&["spiffe://other.org/workload"]));
    let refused = verify_x509_svid(&[scene.leaf_der()], &bundle, now(), Purpose::Any).unwrap_err();
    assert!(matches!(refused, SvidError::NoBundle { .. }));
}

/// XB-21, XB-22, XB-24.
///
/// Accepts: BND-13, BND-15, BND-16, BND-35. Refuses: BND-35.
#[test]
fn sequence_and_hint_are_read_exactly_and_the_interval_is_clamped() {
    let parse = |members: &str| {
        let text = format!(r#"{{"keys":[]{members}}}"#);
        Bundle::parse(&domain(), text.as_bytes()).unwrap().bundle
    };
    let bare = parse("");
    assert_eq!((bare.sequence(), bare.refresh_hint()), (None, None));
    assert_eq!(bare.refresh_interval_seconds(), REFRESH_DEFAULT_SECONDS);
    assert_eq!(parse(r#","spiffe_sequence":18446744073709551615"#).sequence(), Some(u64::MAX));
    assert_eq!(parse(r#","spiffe_sequence":0"#).sequence(), Some(0));
    for (hint, interval) in [
        ("300", 300),
        ("0", REFRESH_DEFAULT_SECONDS),
        ("-1", REFRESH_DEFAULT_SECONDS),
        ("1", REFRESH_LEAST_SECONDS),
        ("1000000000", REFRESH_MOST_SECONDS),
        ("18446744073709551615", REFRESH_MOST_SECONDS),
    ] {
        let bundle = parse(&format!(r#","spiffe_refresh_hint":{hint}"#));
        assert_eq!(bundle.refresh_interval_seconds(), interval, "{hint}");
    }
}

/// XB-25, XB-26, ATK-39, and the cases beside them. Polling itself is not here.
#[test]
fn a_fetched_bundle_is_compared_with_the_stored_one() {
    let document = Document::base();
    let stored = document.parse().unwrap().bundle;
    let with = |sequence: Option<u64>| {
        let mut bundle = stored.clone();
        bundle.set_sequence(sequence);
        bundle
    };
    let mut changed = bundle_of("example.org", &[]);
    changed.set_refresh_hint(Some(300));
    changed.set_sequence(Some(7));
    let mut changed_without = changed.clone();
    changed_without.set_sequence(None);
    for (fetched, over, wanted, replaces, alarms) in [
        (with(Some(6)), &stored, Acceptance::Older, false, true),
        (with(Some(7)), &stored, Acceptance::Unchanged, false, false),
        (with(Some(8)), &stored, Acceptance::Newer, true, false),
        (changed, &stored, Acceptance::SameSequence, true, true),
        (with(None), &stored, Acceptance::WithoutSequence, true, false),
        (with(Some(1)), &with(None), Acceptance::WithoutSequence, true, false),
        (changed_without, &with(None), Acceptance::WithoutSequence, true, false),
        (with(None), &with(None), Acceptance::Unchanged, false, false),
    ] {
        let acceptance = fetched.accept_over(over);
        assert_eq!(acceptance, wanted);
        assert_eq!((acceptance.replaces(), acceptance.is_alarming()), (replaces, alarms), "{wanted:?}");
    }
}

#[test]
fn the_order_of_keys_is_no_part_of_the_contents() {
    let scene = Scene::new();
    let other = CertificateSpec::authority("R", &[], &scene.other_root_key).sign(&scene.other_root_key);
    let one = bundle_of("example.org", &[scene.root_der(), other.clone()]);
    let two = bundle_of("example.org", &[other.clone(), one.x509_authorities()[0].der().to_vec()]);
    assert_ne!(one, two);
    assert!(one.has_contents_of(&two));
    assert!(!one.has_contents_of(&bundle_of("example.org", &[other])));
}

/// BND-17, BND-22 to BND-25, X509-35 to X509-39, JWT-23 to JWT-25 on what we publish, for every type of key.
///
/// Accepts: BND-01, BND-08, BND-11, BND-14, BND-17, BND-21, BND-22, BND-23, BND-25.
#[test]
fn documents_that_we_publish_keep_the_profile_and_read_back() {
    let scene = Scene::new();
    let mut own = bundle_of("example.org", &[scene.root_der()]);
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let public_key = PrivateKey::generate(key_type).unwrap().public_key().clone();
        assert!(own.add_jwt_authority(JwtAuthority { key_id: key_type.to_string(), public_key: public_key.clone() }));
        assert!(!own.add_jwt_authority(JwtAuthority { key_id: key_type.to_string(), public_key }), "one key a kid");
    }
    own.set_sequence(Some(u64::MAX));
    own.set_refresh_hint(Some(300));
    let parsed = Bundle::parse(&domain(), own.to_json().as_bytes()).unwrap();
    assert_eq!((parsed.bundle, parsed.skipped.len()), (own.clone(), 0));

    let json: Value = serde_json::from_str(&own.to_json()).unwrap();
    let members: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["keys", "spiffe_refresh_hint", "spiffe_sequence"]);
    let members_of =
        |index: usize| -> Vec<&str> { json["keys"][index].as_object().unwrap().keys().map(String::as_str).collect() };
    assert_eq!(members_of(0), ["crv", "kty", "use", "x", "x5c", "y"]);
    assert_eq!(members_of(1), ["crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(members_of(3), ["e", "kid", "kty", "n", "use"]);
    assert_eq!(json["keys"][0]["x5c"], json!([STANDARD.encode(own.x509_authorities()[0].der())]));

    // A-17, WAPI-36: the plain set has JWT keys alone, and nothing that a generic library stumbles over.
    let plain: Value = serde_json::from_str(&own.jwt_key_set_json()).unwrap();
    assert_eq!(plain.as_object().unwrap().keys().collect::<Vec<_>>(), ["keys"]);
    let keys = plain["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.get("use").is_none() && key.get("kid").is_some() && key.get("x5c").is_none()));
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(plain.clone()).unwrap();
    assert!(set.find("ec-p384").is_some());
    assert_eq!(Bundle::new(domain()).jwt_key_set_json(), r#"{"keys":[]}"#);
    let openid: Value = serde_json::from_str(&own.openid_key_set_json()).unwrap();
    let keys = openid["keys"].as_array().unwrap();
    assert_eq!(keys.len(), plain["keys"].as_array().unwrap().len());
    for (key, plain) in keys.iter().zip(plain["keys"].as_array().unwrap()) {
        assert_eq!((&key["use"], &key["kid"]), (&Value::from("sig"), &plain["kid"]));
        let algorithm = if key["kty"] == "RSA" {
            "RS256"
        } else if key["crv"] == "P-384" {
            "ES384"
        } else {
            "ES256"
        };
        assert_eq!(key["alg"], algorithm);
    }
}

/// XB-31 to XB-36.
///
/// Accepts: BND-27 to BND-34. Refuses: BND-27 to BND-32, BND-34.
#[test]
fn a_bundle_map_is_read_whole_or_not_at_all() {
    let inner = Document::base().json;
    let parse = |text: &str| BundleMap::parse(text.as_bytes());
    assert!(matches!(parse("{}"), Err(BundleMapError::TrustDomains)));
    assert!(matches!(parse(r#"{"trust_domains":[]}"#), Err(BundleMapError::TrustDomains)));
    assert!(parse(r#"{"trust_domains":{}}"#).unwrap().is_empty());
    let twice = format!(r#"{{"trust_domains":{{"a.org":{inner},"b.org":{inner},"a.org":{inner}}}}}"#);
    assert!(matches!(parse(&twice), Err(BundleMapError::Json(_))));
    for name in ["Example.org", "spiffe://example.org", ""] {
        let text = json!({"trust_domains": {name: inner}}).to_string();
        assert!(matches!(parse(&text), Err(BundleMapError::Name { .. })), "{name}");
    }
    for wrong in [json!([]), json!({}), json!({"keys": [], "spiffe_sequence": "7"})] {
        let text = json!({"trust_domains": {"a.org": inner, "b.org": wrong}}).to_string();
        assert!(matches!(parse(&text), Err(BundleMapError::Bundle { .. })));
    }

    let mut hinted = inner.clone();
    hinted["spiffe_refresh_hint"] = json!(10);
    let map = parse(&json!({"trust_domains": {"a.org": inner, "b.org": hinted}}).to_string()).unwrap();
    assert_eq!(map.len(), 2);
    let domain = |name: &str| TrustDomain::new(name).unwrap();
    assert_eq!(map.bundle(&domain("b.org")).unwrap().trust_domain(), &domain("b.org"));
    assert!(map.bundle(&domain("c.org")).is_none());
    // XB-36: the next map replaces this one as a whole, and what is not in it is not trusted.
    let next = parse(&json!({"trust_domains": {"a.org": inner}}).to_string()).unwrap();
    assert!(next.bundle(&domain("b.org")).is_none());

    // BND-31: what we print has no hints inside, and reads back otherwise equal.
    let printed: Value = serde_json::from_str(&map.to_json()).unwrap();
    assert!(printed["trust_domains"]["b.org"].get("spiffe_refresh_hint").is_none());
    // BND-32: a hint inside is taken, and changes nothing about the map.
    let unhinted = parse(&json!({"trust_domains": {"a.org": inner, "b.org": inner}}).to_string()).unwrap();
    assert_eq!(map.bundle(&domain("b.org")).unwrap().refresh_hint(), Some(10));
    assert_eq!(unhinted.to_json(), map.to_json());
    // BND-33: what goes into a map, its producer chooses.
    let mut tailored = map.clone();
    assert!(tailored.remove(&domain("a.org")).is_some());
    assert_eq!(BundleMap::parse(tailored.to_json().as_bytes()).unwrap().len(), 1);
    let again = BundleMap::parse(map.to_json().as_bytes()).unwrap();
    assert_eq!(again.bundle(&domain("a.org")).unwrap().sequence(), Some(7));
    assert_eq!(again.iter().map(|bundle| bundle.jwt_authorities().len()).collect::<Vec<_>>(), [1, 1]);
}

/// BND-05: a bundle filed under another name is never found by it.
/// BND-04, ATK-35: one bundle a trust domain, filed under its own name.
///
/// Accepts: BND-04, BND-05. Refuses: BND-04, BND-05.
#[test]
fn a_source_answers_for_the_bundles_own_name_only() {
    let bundle = bundle_of("example.org", &[]);
    let other = TrustDomain::new("other.org").unwrap();
    assert!(bundle.bundle(&domain()).is_some() && bundle.bundle(&other).is_none());
    let misfiled = std::collections::BTreeMap::from([(other.clone(), bundle)]);
    assert!(misfiled.bundle(&other).is_none() && misfiled.bundle(&domain()).is_none());
}
