//! Vectors of section 15.5: JWT-SVIDs verified (JWT-01 to JWT-31, A-15 to A-20, ATK-29 to ATK-34), and those we sign.
//!
//! XJ-44 is about the server of the Workload API and is tested there; here an empty audience matches nothing.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use quorate_proto_identity::jwt_svid::{JwsAlgorithm, JwtSignError, LEEWAY_SECONDS, TOKEN_LIMIT};
use quorate_proto_identity::{
    AuthorityId, Bundle, BundleMap, JwtAuthority, JwtClaims, JwtError, JwtSigner, KeyType, PrivateKey, PublicKey,
    SpiffeId, TrustDomain, VerifiedJwtSvid, verify_jwt_svid,
};
use serde_json::{Value, json};

use crate::support::{now, oid, tlv};

const REPORTS: &str = "spiffe://example.org/reports";

static K1: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP256).unwrap());
static OTHER: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP256).unwrap());
static P384: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP384).unwrap());
static RSA: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::Rsa2048).unwrap());
static ED25519: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::Ed25519).unwrap());
static P521: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap());

/// A bundle with these JWT keys.
fn bundle(trust_domain: &str, keys: &[(&str, &PublicKey)]) -> Bundle {
    let mut bundle = Bundle::new(TrustDomain::new(trust_domain).unwrap());
    for (key_id, public_key) in keys {
        bundle.add_jwt_authority(JwtAuthority { key_id: (*key_id).to_owned(), public_key: (*public_key).clone() });
    }
    bundle
}

fn p521_public() -> PublicKey {
    let algorithm = [oid(&[1, 2, 840, 10045, 2, 1]), oid(&[1, 3, 132, 0, 35])].concat();
    let bits = [&[0], P521.public_key().as_ref()].concat();
    PublicKey::from_spki_der(&tlv(0x30, &[tlv(0x30, &algorithm), tlv(3, &bits)].concat())).unwrap()
}

/// A signature in base64url by the algorithm of this name.
fn sign(algorithm: &str, message: &str) -> String {
    let library =
        |algorithm, key: &EncodingKey| jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    let rsa = |algorithm| {
        // The library wants the bare RSAPrivateKey: the last OCTET STRING of the PKCS#8 document.
        let document = RSA.pkcs8();
        let start = document.windows(2).position(|pair| pair == [4, 0x82]).unwrap() + 4;
        library(algorithm, &EncodingKey::from_rsa_der(&document[start..]))
    };
    match algorithm {
        "ES256" => library(Algorithm::ES256, &EncodingKey::from_ec_der(K1.pkcs8())),
        "ES384" => library(Algorithm::ES384, &EncodingKey::from_ec_der(P384.pkcs8())),
        "ES512" => {
            let signature = P521.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            URL_SAFE_NO_PAD.encode(signature)
        }
        "EdDSA" => URL_SAFE_NO_PAD.encode(ED25519.sign(message.as_bytes()).unwrap()),
        "RS256" => rsa(Algorithm::RS256),
        "RS384" => rsa(Algorithm::RS384),
        "RS512" => rsa(Algorithm::RS512),
        "PS256" => rsa(Algorithm::PS256),
        "PS384" => rsa(Algorithm::PS384),
        "PS512" => rsa(Algorithm::PS512),
        "HS256" => library(Algorithm::HS256, &EncodingKey::from_secret(K1.public_key().key_bits())),
        other => panic!("{other}"),
    }
}

/// The base of section 15.5. A test changes one thing.
struct Token {
    header: Value,
    claims: Value,
    /// How it is signed, whatever the header says; empty for no signature.
    algorithm: &'static str,
    bundles: BundleMap,
    audience: &'static str,
}

impl Token {
    fn base() -> Self {
        Self {
            header: json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}),
            claims: json!({
                "sub": "spiffe://example.org/workload", "aud": [REPORTS], "iat": now().0, "exp": now().0 + 300,
            }),
            algorithm: "ES256",
            bundles: BundleMap::from_iter([
                bundle("example.org", &[("k1", K1.public_key())]),
                bundle("other.org", &[("k1", OTHER.public_key())]),
            ]),
            audience: REPORTS,
        }
    }

    fn text(&self) -> String {
        signed_text(&self.header.to_string(), &self.claims.to_string(), self.algorithm)
    }

    fn verify(&self) -> Result<VerifiedJwtSvid, JwtError> {
        self.verify_text(&self.text())
    }

    fn verify_text(&self, token: &str) -> Result<VerifiedJwtSvid, JwtError> {
        verify_jwt_svid(token, self.audience, &self.bundles, now())
    }
}

fn signed_text(header: &str, claims: &str, algorithm: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = if algorithm.is_empty() { String::new() } else { sign(algorithm, &message) };
    format!("{message}.{signature}")
}

fn remove(object: &mut Value, member: &str) {
    object.as_object_mut().unwrap().remove(member);
}

/// A vector: its number, how its refusal begins when printed with `Debug`, and the one change.
type Refused = (&'static str, &'static str, fn(&mut Token));

/// JWT-06 by XJ-01 to XJ-06, JWT-08 by XJ-09 to XJ-11, JWT-13 by XJ-12 to XJ-15, JWT-17 by XJ-16 to XJ-18, JWT-20 by
/// XJ-18, XJ-19 and XJ-41, JWT-11 by XJ-20, XJ-21 and XJ-43, JWT-31 and WAPI-43 by XJ-22 and XJ-23, JWT-04 by `zip` and
/// `enc`, JWT-27 by XJ-45, ID-32 by XJ-46.
const REFUSED: &[Refused] = &[
    ("XJ-01", "Algorithm", |token| {
        token.header["alg"] = json!("none");
        token.algorithm = "";
    }),
    ("XJ-02", "Algorithm", |token| {
        token.header["alg"] = json!("HS256");
        token.algorithm = "HS256";
    }),
    ("XJ-03", "Algorithm", |token| {
        token.header["alg"] = json!("EdDSA");
        token.algorithm = "EdDSA";
        token.bundles.insert(bundle("example.org", &[("k1", ED25519.public_key())]));
    }),
    ("XJ-04", "Algorithm", |token| token.header["alg"] = json!("ES256K")),
    ("XJ-05", "Algorithm", |token| remove(&mut token.header, "alg")),
    ("XJ-05 not a text", "Algorithm", |token| token.header["alg"] = json!(256)),
    ("XJ-06", "Algorithm", |token| token.header["alg"] = json!("es256")),
    ("XJ-07", "AlgorithmOfKey", |token| {
        token.header["alg"] = json!("RS256");
        token.algorithm = "RS256";
    }),
    ("XJ-08", "AlgorithmOfKey", |token| {
        token.header["alg"] = json!("ES384");
        token.algorithm = "ES384";
    }),
    ("XJ-09, XW-19", "Type", |token| token.header["typ"] = json!("wit+jwt")),
    ("XJ-10", "Type", |token| token.header["typ"] = json!("at+jwt")),
    ("XJ-11", "Type", |token| token.header["typ"] = json!("jwt")),
    ("XJ-11 not a text", "Type", |token| token.header["typ"] = json!(null)),
    ("XJ-12", "MalformedAudience", |token| remove(&mut token.claims, "aud")),
    ("XJ-13", "OtherAudience", |token| token.claims["aud"] = json!([])),
    ("XJ-14", "OtherAudience", |token| token.claims["aud"] = json!(["other"])),
    ("XJ-15", "OtherAudience", |token| token.claims["aud"] = json!(["spiffe://example.org/reports2"])),
    ("XJ-15 shorter", "OtherAudience", |token| token.claims["aud"] = json!(["spiffe://example.org/"])),
    ("XJ-16, ATK-30", "MalformedEnd", |token| remove(&mut token.claims, "exp")),
    ("XJ-17", "Expired", |token| token.claims["exp"] = json!(now().0 - 3600)),
    ("XJ-18, ATK-30", "MalformedEnd", |token| token.claims["exp"] = json!((now().0 + 300).to_string())),
    ("XJ-18 null", "MalformedEnd", |token| token.claims["exp"] = json!(null)),
    ("XJ-18 beyond what a double holds", "MalformedEnd", |token| token.claims["exp"] = json!(1e300)),
    ("XJ-19", "NotYetValid", |token| token.claims["nbf"] = json!(now().0 + 3600)),
    ("XJ-19 not a number, ATK-30", "MalformedBeginning", |token| token.claims["nbf"] = json!("0")),
    ("XJ-20", "NoSubject", |token| remove(&mut token.claims, "sub")),
    ("XJ-20 not a text", "NoSubject", |token| token.claims["sub"] = json!(["spiffe://example.org/workload"])),
    ("XJ-21", "Subject(Scheme", |token| token.claims["sub"] = json!("workload")),
    ("XJ-21 slash", "Subject(EmptySegment", |token| token.claims["sub"] = json!("spiffe://example.org/a/")),
    ("XJ-22, ATK-32", "Signature", |token| token.claims["sub"] = json!("spiffe://other.org/workload")),
    ("XJ-23", "NoBundle", |token| token.claims["sub"] = json!("spiffe://nobundle.org/workload")),
    ("XJ-24", "UnknownKey", |token| token.header["kid"] = json!("k2")),
    ("no kid (A-15)", "NoKeyId", |token| remove(&mut token.header, "kid")),
    ("XJ-33, ATK-31", "ForbiddenHeader { member: \"crit\"", |token| {
        token.header["crit"] = json!(["exp"]);
        token.header["exp"] = json!(now().0);
    }),
    ("XJ-34", "ForbiddenHeader", |token| {
        token.header["b64"] = json!(false);
        token.header["crit"] = json!(["b64"]);
    }),
    ("XJ-36 jku", "ForbiddenHeader { member: \"jku\"", |token| token.header["jku"] = json!("https://evil.example/k")),
    ("XJ-36 x5u", "ForbiddenHeader { member: \"x5u\"", |token| token.header["x5u"] = json!("https://evil.example/c")),
    ("x5c (A-18)", "ForbiddenHeader { member: \"x5c\"", |token| token.header["x5c"] = json!([])),
    ("zip (A-18)", "ForbiddenHeader { member: \"zip\"", |token| token.header["zip"] = json!("DEF")),
    ("enc (A-18)", "ForbiddenHeader { member: \"enc\"", |token| token.header["enc"] = json!("A128GCM")),
    ("XJ-38", "UnknownKey", |token| {
        token.bundles.insert(bundle("example.org", &[("k2", OTHER.public_key())]));
    }),
    ("XJ-40", "Payload", |token| token.claims = json!([token.claims])),
    ("XJ-41", "MalformedAudience", |token| token.claims["aud"] = json!([REPORTS, 7])),
    ("XJ-43", "SubjectWithoutPath", |token| token.claims["sub"] = json!("spiffe://example.org")),
    ("an empty audience matches nothing (WAPI-40)", "OtherAudience", |token| {
        token.claims["aud"] = json!([""]);
        token.audience = "";
    }),
    ("XJ-45", "UnknownKey", |token| {
        token.bundles.insert(bundle("example.org", &[]));
    }),
    ("XJ-46", "NoSubject", |token| {
        remove(&mut token.claims, "sub");
        token.header["sub"] = json!("spiffe://example.org/workload");
    }),
    ("longer than the limit (ATK-31)", "TooLong", |token| {
        token.claims["x"] = json!("x".repeat(TOKEN_LIMIT));
    }),
    ("nested beyond the reader's limit (ATK-31)", "Payload", |token| {
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        token.claims["x"] = deep;
    }),
];

/// Refuses: JWT-03 by XJ-33 to XJ-36, JWT-06 by XJ-01 to XJ-06, JWT-07 by XJ-24 and by no `kid` at all, JWT-08 by XJ-09 to
/// XJ-11, JWT-09 by XJ-19 since a registered claim keeps its type, JWT-11 by XJ-20, XJ-21 and XJ-43, JWT-13 by XJ-12 to
/// XJ-15, JWT-14 by XJ-14, JWT-15 by XJ-15 since the name of a trust domain covers no service in it, JWT-17 by XJ-16 to
/// XJ-18, JWT-20 by XJ-18, XJ-19 and XJ-41, JWT-30 by an audience that a validator without any goes by, JWT-31 by XJ-22
/// and XJ-23.
#[test]
fn tokens_wrong_in_one_way_are_refused_for_just_that() {
    for (number, wanted, change) in REFUSED {
        let mut token = Token::base();
        change(&mut token);
        let verified = format!("{:?}", token.verify().map(drop));
        assert!(verified.starts_with(&format!("Err({wanted}")), "{number}: {verified}");
    }
}

fn refusal(token: &Token, text: &str) -> String {
    format!("{:?}", token.verify_text(text).map(drop).unwrap_err())
}

/// XJ-25, XJ-26: what is signed is what is read.
/// JWT-19.
///
/// Refuses: JWT-19.
#[test]
fn a_part_changed_after_signing_is_refused() {
    let token = Token::base();
    let text = token.text();
    let [header, payload, signature] = text.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut claims = token.claims.clone();
    claims["sub"] = json!("spiffe://example.org/admin");
    let altered = URL_SAFE_NO_PAD.encode(claims.to_string());
    assert_eq!(refusal(&token, &format!("{header}.{altered}.{signature}")), "Signature");
    let altered = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": "k1"}).to_string());
    assert_eq!(refusal(&token, &format!("{altered}.{payload}.{signature}")), "Signature");
    let shorter = &signature[..signature.len() - 4];
    assert_eq!(refusal(&token, &format!("{header}.{payload}.{shorter}")), "Signature");
    assert_eq!(refusal(&token, &format!("{header}.{payload}.")), "Signature");
}

/// XJ-27 to XJ-32.
/// JWT-01, JWT-02; JWT-04 by XJ-29.
///
/// Refuses: JWT-01 by XJ-30 to XJ-32, JWT-02 by XJ-27 and XJ-28, JWT-04 by XJ-29.
#[test]
fn only_the_compact_form_is_read() {
    let token = Token::base();
    let text = token.text();
    let [header, payload, signature] = text.split('.').collect::<Vec<_>>().try_into().unwrap();
    let one = json!({"protected": header, "signature": signature});
    let flattened = json!({"payload": payload, "protected": header, "signature": signature}).to_string();
    let general = json!({"payload": payload, "signatures": [one]}).to_string();
    let padded = ["", " "].map(|space| URL_SAFE.encode(token.header.to_string() + space));
    let padded = padded.iter().find(|part| part.ends_with('=')).unwrap();
    let standard = STANDARD.encode([0xfb, 0xff, 0xbf]);
    for (number, wrong) in [
        ("XJ-27", flattened),
        ("XJ-28", general),
        ("XJ-29", format!("{header}.{payload}.{payload}.{payload}.{signature}")),
        ("XJ-30 two", format!("{header}.{payload}")),
        ("XJ-30 four", format!("{text}.{signature}")),
        ("XJ-30 one", header.to_owned()),
        ("XJ-31 padding", format!("{padded}.{payload}.{signature}")),
        ("XJ-31 alphabet", format!("{header}.{standard}.{signature}")),
        ("XJ-32 before", format!(" {text}")),
        ("XJ-32 after", format!("{text}\n")),
        ("XJ-32 within", text.replacen('.', ".\n", 1)),
        ("nothing", String::new()),
        ("empty parts", "..".to_owned()),
    ] {
        let refused = refusal(&token, &wrong);
        assert!(refused == "Shape" || refused.starts_with("Header("), "{number}: {refused}");
    }
}

/// XJ-35: the key that a token brings along is not even looked at.
#[test]
fn a_token_that_brings_its_own_key_is_refused() {
    let document: Value =
        serde_json::from_str(&bundle("example.org", &[("k1", OTHER.public_key())]).jwt_key_set_json()).unwrap();
    let mut token = Token::base();
    token.header["jwk"] = document["keys"][0].clone();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(token.header.to_string()),
        URL_SAFE_NO_PAD.encode(token.claims.to_string())
    );
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_ec_der(OTHER.pkcs8()), Algorithm::ES256);
    let text = format!("{message}.{}", signature.unwrap());
    assert_eq!(refusal(&token, &text), "ForbiddenHeader { member: \"jwk\" }");
}

/// XJ-37, ATK-34: keys of another use never verify a token.
/// JWT-26, JWT-27.
///
/// Refuses: JWT-26. Accepts: JWT-26 by the same keys under their own use.
#[test]
fn a_key_of_another_use_does_not_verify_tokens() {
    let mut token = Token::base();
    let own = token.bundles.iter().find(|bundle| bundle.trust_domain().as_str() == "example.org").unwrap();
    for other_use in ["wit-svid", "x509-svid"] {
        let document = own.to_json().replace("jwt-svid", other_use);
        let parsed = Bundle::parse(own.trust_domain(), document.as_bytes()).unwrap().bundle;
        let bundles = BundleMap::from_iter([parsed]);
        let refused = verify_jwt_svid(&token.text(), REPORTS, &bundles, now()).unwrap_err();
        assert!(matches!(refused, JwtError::UnknownKey { .. }), "{other_use}");
    }
    let document = own.to_json();
    let parsed = Bundle::parse(own.trust_domain(), document.as_bytes()).unwrap().bundle;
    token.bundles = BundleMap::from_iter([parsed]);
    token.verify().unwrap();
}

/// XJ-39.
#[test]
fn an_ecdsa_signature_in_der_is_refused() {
    let token = Token::base();
    let text = token.text();
    let (message, _) = text.rsplit_once('.').unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, K1.pkcs8()).unwrap();
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    assert_eq!(refusal(&token, &format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))), "Signature");
}

/// XJ-42.
#[test]
fn members_that_are_there_twice_are_refused() {
    let token = Token::base();
    let (header, claims) = (token.header.to_string(), token.claims.to_string());
    let twice = claims.replacen('{', "{\"sub\":\"spiffe://example.org/admin\",", 1);
    assert!(refusal(&token, &signed_text(&header, &twice, "ES256")).starts_with("Payload("));
    let twice = header.replacen('{', "{\"alg\":\"none\",", 1);
    assert!(refusal(&token, &signed_text(&twice, &claims, "ES256")).starts_with("Header("));
}

/// A vector that is accepted: its number and the one change.
type Accepted = (&'static str, fn(&mut Token));

/// JWT-08 by AJ-04, JWT-09 by AJ-06, JWT-20 by AJ-02, AJ-03 and AJ-12, JWT-17 by AJ-08.
const ACCEPTED: &[Accepted] = &[
    ("AJ-01", |_| {}),
    ("AJ-02", |token| token.claims["aud"] = json!(REPORTS)),
    ("AJ-03", |token| token.claims["aud"] = json!(["a", "b", REPORTS])),
    ("AJ-04 no typ", |token| remove(&mut token.header, "typ")),
    ("AJ-04 JOSE", |token| token.header["typ"] = json!("JOSE")),
    ("AJ-06", |token| {
        token.claims["role"] = json!("admin");
        token.claims["https://example.org/x"] = json!({"y": [1, 2.5, null]});
        token.claims["jti"] = json!("1");
        token.claims["iss"] = json!("https://example.org");
    }),
    ("AJ-08", |token| token.claims["exp"] = json!(now().0 - 30)),
    ("AJ-11", |token| token.header["foo"] = json!("bar")),
    ("AJ-12", |token| token.claims["exp"] = json!(now().0 as f64 + 299.5)),
    ("nbf within the leeway (A-20)", |token| token.claims["nbf"] = json!(now().0 + LEEWAY_SECONDS)),
    ("iat in the future is not looked at (A-20)", |token| token.claims["iat"] = json!(now().0 + 3600)),
];

/// Accepts: JWT-06, JWT-11, JWT-13 to JWT-15, JWT-17, JWT-19, JWT-20 and JWT-30 by AJ-01, JWT-08 by AJ-04, JWT-09 by AJ-06,
/// JWT-20 by AJ-02, AJ-03 and AJ-12, JWT-15 by AJ-03, JWT-17 by AJ-08.
#[test]
fn variants_that_the_standard_allows_are_accepted() {
    for (number, change) in ACCEPTED {
        let mut token = Token::base();
        change(&mut token);
        let verified = token.verify().unwrap_or_else(|error| panic!("{number}: {error:?}"));
        assert_eq!(verified.spiffe_id().as_str(), "spiffe://example.org/workload", "{number}");
        assert_eq!(Value::Object(verified.claims().clone()), token.claims, "{number}");
    }
}

/// AJ-05, and ATK-29: each algorithm verifies with the key it fits, and with no other.
///
/// Accepts: JWT-05, JWT-06.
#[test]
fn each_of_the_nine_algorithms_verifies_with_its_own_key_alone() {
    let p521 = p521_public();
    let keys = [("p256", K1.public_key()), ("p384", P384.public_key()), ("p521", &p521), ("rsa", RSA.public_key())];
    for (algorithm, own) in [
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("ES512", "p521"),
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
    ] {
        let mut token = Token::base();
        token.bundles.insert(bundle("example.org", &keys));
        token.header["alg"] = json!(algorithm);
        token.algorithm = algorithm;
        for (key_id, _) in keys {
            token.header["kid"] = json!(key_id);
            assert_eq!(token.verify().is_ok(), key_id == own, "{algorithm} by {key_id}");
        }
        // The signature of one RSA algorithm is none of another.
        token.header["kid"] = json!(own);
        token.header["alg"] = json!(if algorithm == "RS256" { "PS256" } else { "RS256" });
        assert!(token.verify().is_err(), "{algorithm} under another name");
        assert_eq!(JwsAlgorithm::from_name(algorithm).map(JwsAlgorithm::name), Some(algorithm));
    }
}

/// AJ-07: `jti` is not tracked.
/// JWT-28.
///
/// Accepts: JWT-28.
#[test]
fn the_same_token_verifies_twice() {
    let mut token = Token::base();
    token.claims["jti"] = json!("once");
    let text = token.text();
    assert_eq!(token.verify_text(&text).unwrap(), token.verify_text(&text).unwrap());
}

/// AJ-09, AJ-10: the base has both trust domains, whose keys have one `kid`.
/// JWT-31, BND-05.
///
/// Accepts: JWT-31 by AJ-09 and AJ-10.
#[test]
fn the_key_is_looked_up_in_the_bundle_of_the_subject() {
    let mut token = Token::base();
    token.bundles.insert(bundle("other.org", &[("k1", K1.public_key())]));
    token.bundles.insert(bundle("example.org", &[("k1", OTHER.public_key())]));
    assert!(token.verify().is_err());
    token.claims["sub"] = json!("spiffe://other.org/workload");
    assert_eq!(token.verify().unwrap().spiffe_id().trust_domain_name(), "other.org");
}

/// A-20, RFC 7519 section 4.1.4: the last second in which a token holds.
#[test]
fn the_leeway_is_a_minute_and_not_a_second_more() {
    let mut token = Token::base();
    token.claims["exp"] = json!(now().0 - LEEWAY_SECONDS + 1);
    token.verify().unwrap();
    token.claims["exp"] = json!(now().0 - LEEWAY_SECONDS);
    assert!(matches!(token.verify(), Err(JwtError::Expired { .. })));
    let mut token = Token::base();
    token.claims["nbf"] = json!(now().0 + LEEWAY_SECONDS + 1);
    assert!(matches!(token.verify(), Err(JwtError::NotYetValid)));
}

fn workload() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/workload").unwrap()
}

/// JWT-01, JWT-03, JWT-05, JWT-08, JWT-10, JWT-12, JWT-16, A-15, A-16 on tokens of every type of key.
/// JWT-07: `kid` is always there. JWT-09, JWT-28: of further claims just `iat` and `jti`. JWT-02, JWT-04, JWT-19: three
/// parts, signed and no more.
///
/// Accepts: JWT-01 to JWT-05, JWT-07, JWT-10, JWT-12, JWT-16, as a verifier does.
#[test]
fn tokens_that_we_sign_keep_the_profile_and_verify() {
    let audiences = [REPORTS.to_owned(), "an \"odd\" audience\u{1f600}".to_owned()];
    for (key, algorithm) in [(&*K1, "ES256"), (&*P384, "ES384"), (&*RSA, "RS256")] {
        let id = AuthorityId::new("key-1").unwrap();
        let signer = JwtSigner::new(id, key.clone()).unwrap();
        assert_eq!(signer.algorithm().name(), algorithm);
        let claims = JwtClaims {
            sub: &workload(),
            aud: &audiences,
            iat: now(),
            exp: now().plus(300),
            jti: "token-1",
            iss: None,
        };
        let token = signer.sign(&claims).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        let read = |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
        assert_eq!(parts.len(), 3);
        assert_eq!(read(parts[0]), json!({"alg": algorithm, "kid": "key-1", "typ": "JWT"}));
        assert_eq!(
            read(parts[1]),
            json!({
                "sub": "spiffe://example.org/workload", "aud": audiences, "iat": now().0, "exp": now().0 + 300,
                "jti": "token-1",
            })
        );
        let bundle = bundle("example.org", &[("key-1", key.public_key())]);
        for audience in &audiences {
            let verified = verify_jwt_svid(&token, audience, &bundle, now()).unwrap();
            assert_eq!(verified.spiffe_id(), &workload());
            assert_eq!(verified.expires_at(), now().plus(300));
        }
    }
}

/// JWT-09, JWT-28: an `iss` is one more claim. It is written as it was given, and no verifier of ours looks for a key by
/// it (POP-03).
#[test]
fn a_token_says_who_issued_it_where_there_is_an_issuer() {
    let signer = JwtSigner::new(AuthorityId::new("key-1").unwrap(), RSA.clone()).unwrap();
    let (id, audiences) = (workload(), [REPORTS.to_owned()]);
    let iss = Some("https://oidc.example.org/a");
    let claims = JwtClaims { sub: &id, aud: &audiences, iat: now(), exp: now().plus(300), jti: "1", iss };
    let token = signer.sign(&claims).unwrap();
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap()["iss"], "https://oidc.example.org/a");
    let bundle = bundle("example.org", &[("key-1", RSA.public_key())]);
    verify_jwt_svid(&token, REPORTS, &bundle, now()).unwrap();
}

/// JWT-10, JWT-12, JWT-16: not without a workload's ID, an audience, and an end after its beginning.
///
/// Refuses: JWT-05 by a key for none of the nine, JWT-10, JWT-12, JWT-16.
#[test]
fn a_token_that_no_token_may_be_is_not_signed() {
    let signer = JwtSigner::new(AuthorityId::new("key-1").unwrap(), K1.clone()).unwrap();
    let audience = [REPORTS.to_owned()];
    let id = workload();
    let good = JwtClaims { sub: &id, aud: &audience, iat: now(), exp: now().plus(1), jti: "", iss: None };
    signer.sign(&good).unwrap();
    let refused = |claims: JwtClaims<'_>| signer.sign(&claims).unwrap_err();
    let domain_id = id.trust_domain().id();
    assert!(matches!(refused(JwtClaims { sub: &domain_id, ..good }), JwtSignError::NoPath));
    assert!(matches!(refused(JwtClaims { aud: &[], ..good }), JwtSignError::NoAudience));
    assert!(matches!(refused(JwtClaims { aud: &[String::new()], ..good }), JwtSignError::NoAudience));
    assert!(matches!(refused(JwtClaims { exp: now(), ..good }), JwtSignError::NoLifetime));
    let long = ["a".repeat(TOKEN_LIMIT)];
    assert!(matches!(refused(JwtClaims { aud: &long, ..good }), JwtSignError::TooLong { .. }));
    let ed25519 = JwtSigner::new(AuthorityId::new("key-1").unwrap(), ED25519.clone());
    assert!(matches!(ed25519, Err(JwtSignError::Key(_))));
}
