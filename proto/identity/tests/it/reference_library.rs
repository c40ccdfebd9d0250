//! The same inputs given to the `spiffe` crate, the reference library in Rust: where it agrees, and each place where it
//! does not, with the reason why ours differs.

use std::collections::BTreeMap;

use quorate_proto_identity::x509::{AuthorityTemplate, build_issuing_certificate, build_root};
use quorate_proto_identity::{
    AuthorityId, Bundle, JwtAuthority, JwtClaims, JwtSigner, KeyType, LeafIssuer, LeafTemplate, PrivateKey,
    SerialNumber, SpiffeId, TrustDomain, UnixSeconds, Validity,
};

use crate::spiffe_ids::{SPIFFE_IDS, TRUST_DOMAINS};
use crate::support::{Extension, Scene, now, vectors};

/// Numbers of vectors that the other library decides otherwise, each with our reason.
type Differences = BTreeMap<&'static str, &'static str>;

fn check_differences(file: &str, other_accepts: impl Fn(&str) -> bool, expected: &Differences) {
    let different: Vec<String> = vectors(file)
        .into_iter()
        .filter(|vector| other_accepts(&vector.input) != vector.number.starts_with('V'))
        .map(|vector| vector.number)
        .collect();
    let expected: Vec<&str> = expected.keys().copied().collect();
    assert_eq!(different, expected);
}

#[test]
fn spiffe_ids_are_decided_alike_but_for_letter_case_and_length() {
    let expected = Differences::from([
        ("XI-16", "it takes the scheme in any case; A-01: the canonical form is the only one"),
        ("XI-17", "as XI-16"),
        ("XI-18", "it lowers the trust domain name; ID-08 wants it lower, and A-01 refuses what is not"),
        ("XI-19", "as XI-18"),
        ("XI-82", "it parses IDs of any length; A-04: what may not be issued is not taken either"),
    ]);
    check_differences(SPIFFE_IDS, |input| spiffe::SpiffeId::new(input).is_ok(), &expected);
    for vector in vectors(SPIFFE_IDS) {
        if let (Ok(ours), Ok(theirs)) = (SpiffeId::parse(&vector.input), spiffe::SpiffeId::new(&vector.input)) {
            assert_eq!(ours.path(), theirs.path(), "{}", vector.number);
            assert_eq!(ours.trust_domain_name(), theirs.trust_domain_name(), "{}", vector.number);
            assert_eq!(ours.to_string(), theirs.to_string(), "{}", vector.number);
        }
    }
}

#[test]
fn trust_domain_names_are_decided_alike_but_for_letter_case_and_ids() {
    let expected = Differences::from([
        ("XT-02", "it lowers the name; A-01"),
        ("XT-14", "its one parser takes the ID of a trust domain too; ours for names takes names (BND-28)"),
    ]);
    check_differences(TRUST_DOMAINS, |input| spiffe::TrustDomain::new(input).is_ok(), &expected);
}

fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// What we issue is what it takes: leaf and issuing certificate one after the other, the key as PKCS#8, for every type
/// of key; and the root as the bundle.
#[test]
fn our_svids_are_taken() {
    for key_type in KeyType::ALL {
        let [root_key, issuing_key] = std::array::from_fn(|_| PrivateKey::generate(KeyType::EcP256).unwrap());
        let key = PrivateKey::generate(key_type).unwrap();
        let template = AuthorityTemplate {
            trust_domain: &domain(),
            serial: SerialNumber::from_random([1; 16]),
            validity: Validity::new(now(), now().plus(86_400)).unwrap(),
        };
        let root = build_root(&template, &root_key).unwrap();
        let issuing = build_issuing_certificate(&template, issuing_key.public_key(), &root, &root_key).unwrap();
        let leaf = LeafIssuer::new(issuing.der(), issuing_key)
            .unwrap()
            .issue(&LeafTemplate {
                spiffe_id: &SpiffeId::parse("spiffe://example.org/workload").unwrap(),
                dns_names: &[],
                subject: None,
                public_key: key.public_key(),
                serial: SerialNumber::from_random([2; 16]),
                validity: Validity::new(now(), now().plus(3600)).unwrap(),
            })
            .unwrap();
        let chain = [leaf.as_slice(), issuing.der()].concat();
        let svid = spiffe::X509Svid::parse_from_der(&chain, key.pkcs8()).unwrap();
        assert_eq!(svid.spiffe_id().to_string(), "spiffe://example.org/workload");
        assert_eq!(svid.cert_chain().len(), 2);

        let mut bundle = Bundle::new(domain());
        bundle.add_x509_authority(root);
        let trust_domain = spiffe::TrustDomain::new("example.org").unwrap();
        let theirs = spiffe::X509Bundle::parse_from_der(trust_domain, &bundle.x509_authorities_der()).unwrap();
        assert_eq!(theirs.authorities().len(), 1);
    }
}

/// A vector's number and its one change.
type Change = (&'static str, fn(&mut Scene));

/// Leaves of section 15.4 that break the profile by themselves; it checks no path here, as ours does.
#[test]
fn leaves_that_break_the_profile_are_refused_alike() {
    let changes: [Change; 8] = [
        ("XC-01", |scene| scene.leaf.set(Extension::uri_san(&["spiffe://example.org/a", "spiffe://example.org/b"]))),
        ("XC-06", |scene| scene.leaf.set(Extension::uri_san(&["https://example.org/workload"]))),
        ("XC-08", |scene| scene.leaf.set(Extension::uri_san(&["spiffe://example.org"]))),
        ("XC-09", |scene| scene.leaf.set(Extension::ca(None))),
        ("XC-10", |scene| scene.leaf.set(Extension::key_usage(&[2, 0x84]))),
        ("XC-11", |scene| scene.leaf.set(Extension::key_usage(&[1, 0x82]))),
        ("XC-35", |scene| scene.leaf.unset(&[2, 5, 29, 15])),
        ("XC-36", |scene| scene.leaf.set(Extension::key_usage(&[3, 0x08]))),
    ];
    let take = |scene: &Scene| spiffe::X509Svid::parse_from_der(&scene.leaf_der(), scene.leaf_key.pkcs8());
    let good = Scene::new();
    take(&good).unwrap();
    for (number, change) in changes {
        let mut scene = Scene::new();
        change(&mut scene);
        assert!(take(&scene).is_err(), "{number}");
        assert!(scene.verify().is_err(), "{number}");
    }
}

/// Tokens verify with it, by the key set that `FetchJWTBundles` would hand out, and are refused for the same changes.
/// It asks the system's clock, so these tokens end in the year 2100.
#[test]
fn our_tokens_are_taken() {
    let far = UnixSeconds(4_102_444_800);
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        let mut bundle = Bundle::new(domain());
        bundle.add_jwt_authority(JwtAuthority { key_id: "k1".to_owned(), public_key: key.public_key().clone() });
        let set: serde_json::Value = serde_json::from_str(&bundle.jwt_key_set_json()).unwrap();
        let mut theirs = spiffe::JwtBundle::new(spiffe::TrustDomain::new("example.org").unwrap());
        theirs.add_jwk_authority_json(set["keys"][0].to_string().as_bytes()).unwrap();
        let mut bundles = spiffe::JwtBundleSet::new();
        bundles.add_bundle(theirs);

        let signer = JwtSigner::new(AuthorityId::new("k1").unwrap(), key).unwrap();
        let sign = |id: &str| {
            let id = SpiffeId::parse(id).unwrap();
            let claims = JwtClaims { sub: &id, aud: &["a".to_owned()], iat: now(), exp: far, jti: "1", iss: None };
            signer.sign(&claims).unwrap()
        };
        let token = sign("spiffe://example.org/workload");
        let take = |token: &str, audience: &str| spiffe::JwtSvid::parse_and_validate(token, &bundles, &[audience]);
        let svid = take(&token, "a").unwrap();
        assert_eq!(svid.spiffe_id().to_string(), "spiffe://example.org/workload");
        assert_eq!(svid.key_id(), "k1");
        // XJ-14, XJ-23, XJ-25, XJ-30.
        assert!(take(&token, "b").is_err());
        assert!(take(&sign("spiffe://other.org/workload"), "a").is_err());
        let (message, _) = token.rsplit_once('.').unwrap();
        assert!(take(message, "a").is_err());
        let (_, signature) = token.rsplit_once('.').unwrap();
        let other = sign("spiffe://example.org/other");
        let (other_message, _) = other.rsplit_once('.').unwrap();
        assert!(take(&format!("{other_message}.{signature}"), "a").is_err());
    }
}
