//! Bearer tokens of other issuers: what is accepted, and each way to be wrong (ATK-29, ATK-30, ATK-31).

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use quorate_proto_identity::bearer::{
    BearerError, BearerToken, ISSUER_KEYS_LIMIT, IssuerKeys, KeySetError, VerifiedBearer,
};
use quorate_proto_identity::{JwtError, KeyType, PrivateKey, PublicKey};
use serde_json::{Value, json};

use crate::support::now;

const ISSUER: &str = "https://login.partner.example/realm";

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP256).unwrap());
static OTHER: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP256).unwrap());
static P384: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(KeyType::EcP384).unwrap());

/// The coordinates of an EC key as a JWK has them.
fn jwk(key: &PublicKey, curve: &str, id: Option<&str>) -> Value {
    let point = &key.key_bits()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut jwk = json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y), "use": "sig" });
    if let Some(id) = id {
        jwk["kid"] = json!(id);
    }
    jwk
}

fn keys(keys: &[Value]) -> IssuerKeys {
    IssuerKeys::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn usual_keys() -> IssuerKeys {
    keys(&[jwk(OTHER.public_key(), "P-256", Some("other")), jwk(KEY.public_key(), "P-256", Some("k"))])
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k", "typ": "at+jwt" })
}

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "service",
        "aud": ["quorate", "other"],
        "exp": now().0 + 300,
        "scope": "openid bundle.read",
        "groups": ["a", "b"],
        "level": 3,
    })
}

fn signed(header: &Value, claims: &Value, key: &PrivateKey) -> String {
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let encoding = EncodingKey::from_ec_der(key.pkcs8());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &encoding, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

fn verify(token: &str, keys: &IssuerKeys) -> Result<VerifiedBearer, BearerError> {
    BearerToken::read(token)?.verify(keys, now())
}

/// A token whose header or claims were changed before it was signed.
fn changed(change: impl FnOnce(&mut Value, &mut Value)) -> Result<VerifiedBearer, BearerError> {
    let (mut header, mut claims) = (header(), claims());
    change(&mut header, &mut claims);
    verify(&signed(&header, &claims, &KEY), &usual_keys())
}

#[test]
fn a_good_token_shows_its_claims_and_they_are_compared_exactly() {
    let token = signed(&header(), &claims(), &KEY);
    let read = BearerToken::read(&token).unwrap();
    assert_eq!((read.issuer(), read.key_id()), (ISSUER, Some("k")));
    assert!(!format!("{read:?}").contains("service"));
    let verified = read.verify(&usual_keys(), now()).unwrap();
    assert_eq!((verified.subject(), verified.expires_at()), ("service", now().plus(300)));
    assert!(verified.is_for("quorate") && !verified.is_for("quorat") && !verified.is_for(""));
    assert!(verified.has_scope("bundle.read") && verified.has_scope("bundle.read openid"));
    assert!(!verified.has_scope("bundle") && !verified.has_scope("bundle.read write"));
    assert!(verified.claim_has("groups", "b") && verified.claim_has("level", "3"));
    assert!(!verified.claim_has("groups", "c") && !verified.claim_has("nobody", ""));
}

#[test]
fn a_token_without_kid_is_tried_with_each_key_that_fits() {
    changed(|header, _| drop(header.as_object_mut().unwrap().remove("kid"))).unwrap();
    let nameless = keys(&[jwk(KEY.public_key(), "P-256", None)]);
    let mut header = header();
    header.as_object_mut().unwrap().remove("kid");
    verify(&signed(&header, &claims(), &KEY), &nameless).unwrap();
    let refused = verify(&signed(&header, &claims(), &OTHER), &nameless).unwrap_err();
    assert!(matches!(refused, BearerError::Jwt(JwtError::Signature)));
}

#[test]
fn each_kind_of_typ_of_access_and_identity_is_read_and_no_other() {
    for kind in ["JWT", "jwt", "AT+JWT", "application/at+jwt"] {
        changed(|header, _| header["typ"] = json!(kind)).unwrap();
    }
    changed(|header, _| drop(header.as_object_mut().unwrap().remove("typ"))).unwrap();
    for kind in [json!("JOSE+JSON"), json!("logout+jwt"), json!("dpop+jwt"), json!(1)] {
        assert!(matches!(changed(|header, _| header["typ"] = kind).unwrap_err(), BearerError::Type));
    }
}

#[test]
fn each_way_to_be_wrong_is_refused_with_its_reason() {
    let jwt = |error: BearerError| {
        if let BearerError::Jwt(error) = error { format!("{error:?}") } else { format!("{error:?}") }
    };
    let cases: [(&str, Result<VerifiedBearer, BearerError>); 16] = [
        ("Algorithm", changed(|header, _| header["alg"] = json!("none"))),
        ("Algorithm", changed(|header, _| header["alg"] = json!("HS256"))),
        ("AlgorithmOfKey", changed(|header, _| header["alg"] = json!("ES384"))),
        ("AlgorithmOfKey", changed(|header, _| header["alg"] = json!("RS256"))),
        ("UnknownKey", changed(|header, _| header["kid"] = json!("another"))),
        ("NoKeyId", changed(|header, _| header["kid"] = json!(7))),
        ("Signature", changed(|header, _| header["kid"] = json!("other"))),
        ("ForbiddenHeader", changed(|header, _| header["jku"] = json!("https://evil.example/keys"))),
        ("ForbiddenHeader", changed(|header, _| header["jwk"] = jwk(KEY.public_key(), "P-256", None))),
        ("ForbiddenHeader", changed(|header, _| header["crit"] = json!(["exp"]))),
        ("NoIssuer", changed(|_, claims| drop(claims.as_object_mut().unwrap().remove("iss")))),
        ("MalformedEnd", changed(|_, claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("MalformedEnd", changed(|_, claims| claims["exp"] = json!((now().0 + 300).to_string()))),
        ("Expired", changed(|_, claims| claims["exp"] = json!(now().0 - 60))),
        ("NotYetValid", changed(|_, claims| claims["nbf"] = json!(now().0 + 61))),
        ("MalformedBeginning", changed(|_, claims| claims["nbf"] = json!("soon"))),
    ];
    for (place, (wanted, result)) in cases.into_iter().enumerate() {
        let reason = jwt(result.unwrap_err());
        assert!(reason.starts_with(wanted), "case {place}: {reason} is not {wanted}");
    }
    let token = signed(&header(), &claims(), &KEY);
    for wrong in ["", "a", "a.b", &format!("{token}="), &format!(" {token}"), &format!("{token}.x")] {
        assert!(BearerToken::read(wrong).is_err(), "{wrong}");
    }
    let long = "a".repeat(quorate_proto_identity::jwt_svid::TOKEN_LIMIT + 1);
    assert_eq!(jwt(BearerToken::read(&long).unwrap_err()), format!("TooLong {{ length: {} }}", long.len()));
}

#[test]
fn of_a_key_set_only_what_can_verify_tokens_is_taken() {
    let good = jwk(KEY.public_key(), "P-256", Some("k"));
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let set = keys(&[
        good.clone(),
        with("use", json!("enc")),
        with("alg", json!("ES384")),
        with("alg", json!("HS256")),
        with("d", json!("secret")),
        json!({ "kty": "oct", "k": "c2VjcmV0" }),
        json!("text"),
        jwk(P384.public_key(), "P-384", Some("p384")),
    ]);
    assert_eq!(set.count(), 2);
    assert!(set.has("k") && set.has("p384") && !set.has("other"));
    let parse = |document: &Value| IssuerKeys::parse(document.to_string().as_bytes());
    assert!(matches!(parse(&json!({ "keys": [] })), Err(KeySetError::NoKey)));
    assert!(matches!(parse(&json!({ "keys": {} })), Err(KeySetError::Keys)));
    let many = vec![good; ISSUER_KEYS_LIMIT + 1];
    assert!(matches!(parse(&json!({ "keys": many })), Err(KeySetError::TooMany { count }) if count == many.len()));
    assert!(matches!(IssuerKeys::parse(b"[]"), Err(KeySetError::Json(_))));
}
