//! JWT-SVIDs verified.
//!
//! ```text
//!  token -> three parts, base64url -> header: alg, typ, kid, nothing that names a key
//!        -> sub: a SPIFFE ID with a path -> JWT keys of the bundle of *its* trust domain
//!        -> the key with that kid; does the algorithm fit it? -> signature
//!        -> aud, exp, nbf -> VerifiedJwtSvid
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Number, Value};

use super::{JwsAlgorithm, TOKEN_LIMIT};
use crate::bundle::BundleSource;
use crate::json;
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::trust_domain::TrustDomain;
use crate::validity::UnixSeconds;

/// How far clocks of issuer and validator may lie apart, in seconds, for `exp` and `nbf` (A-20).
pub const LEEWAY_SECONDS: i64 = 60;

/// Header members that say which key to use or how to read the token (A-18, ATK-31). Keys come from the bundle alone,
/// so a token that carries one is refused and nothing is ever fetched.
const FORBIDDEN_HEADERS: [&str; 8] = ["crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"];

/// The proof that a JWT-SVID was verified. Only [`verify_jwt_svid`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedJwtSvid {
    spiffe_id: SpiffeId,
    expires_at: UnixSeconds,
    claims: Map<String, Value>,
}

impl VerifiedJwtSvid {
    /// Whom the token was issued to.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// Its `exp`, a fraction of a second dropped.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// Its `iat`, a fraction of a second dropped; none when it has none, or one that is no number.
    #[must_use]
    pub fn issued_at(&self) -> Option<UnixSeconds> {
        let issued_at = self.claims.get("iat")?;
        // A float saturates at the ends of the range, and what is no number is 0 by no claim of ours.
        issued_at.as_i64().or_else(|| issued_at.as_f64().map(|seconds| seconds.floor() as i64)).map(UnixSeconds)
    }

    /// Its `jti`, if it has one.
    #[must_use]
    pub fn jti(&self) -> Option<&str> {
        self.claims.get("jti")?.as_str()
    }

    /// The whole payload, `sub`, `aud` and `exp` included.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// Verifies a token for an audience that the caller goes by, with the JWT keys of the trust domain in its `sub`
/// (JWT-31, ATK-32).
///
/// # Errors
/// The first rule that is broken.
pub fn verify_jwt_svid(
    token: &str,
    audience: &str,
    bundles: &(impl BundleSource + ?Sized),
    now: UnixSeconds,
) -> Result<VerifiedJwtSvid, JwtError> {
    let parts = split(token)?;
    let (algorithm, key_id) = read_header(parts.header)?;
    let claims = json::parse_object(&decode(parts.payload)?).map_err(JwtError::Payload)?;
    let spiffe_id = read_subject(&claims)?;
    let trust_domain = spiffe_id.trust_domain();
    let bundle =
        bundles.bundle(&trust_domain).ok_or_else(|| JwtError::NoBundle { trust_domain: trust_domain.clone() })?;
    let key = bundle.jwt_authority(&key_id).ok_or(JwtError::UnknownKey { trust_domain })?;
    if !algorithm.fits(key.public_key.kind()) {
        return Err(JwtError::AlgorithmOfKey);
    }
    if !algorithm.verify(&key.public_key, parts.message, parts.signature) {
        return Err(JwtError::Signature);
    }
    check_audience(&claims, audience)?;
    let expires_at = check_times(&claims, now)?;
    Ok(VerifiedJwtSvid { spiffe_id, expires_at, claims })
}

/// Why a JWT-SVID is refused.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// Longer than [`TOKEN_LIMIT`](super::TOKEN_LIMIT).
    #[error("the token has {length} bytes, the most is {TOKEN_LIMIT}")]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// Not three parts in base64url without padding: JSON serialization, encrypted tokens and white space end here
    /// (JWT-01, JWT-02, JWT-04).
    #[error("not a token in JWS Compact Serialization")]
    Shape,
    /// The header is not a JSON object, or has a member twice.
    #[error("the token's header is not a JSON object")]
    Header(#[source] serde_json::Error),
    /// `alg` is missing or not one of the nine (JWT-06).
    #[error("the token's algorithm is missing or not permitted")]
    Algorithm,
    /// `typ` is there and neither `JWT` nor `JOSE` (JWT-08, WIT-42).
    #[error("the token's typ is neither JWT nor JOSE")]
    Type,
    /// The header has a member that names a key or changes how the token is read (A-18).
    #[error("the token's header has the member {member}, which is refused")]
    ForbiddenHeader {
        /// Which one.
        member: &'static str,
    },
    /// `kid` is missing or not a text (A-15).
    #[error("the token names no key")]
    NoKeyId,
    /// The payload is not a JSON object, or has a member twice.
    #[error("the token's payload is not a JSON object")]
    Payload(#[source] serde_json::Error),
    /// `sub` is missing or not a text (JWT-11).
    #[error("the token has no subject")]
    NoSubject,
    /// `sub` is not a SPIFFE ID (JWT-11).
    #[error("the token's subject is not a SPIFFE ID")]
    Subject(#[from] SpiffeIdError),
    /// `sub` is the ID of a trust domain (A-19).
    #[error("the token's subject has no path")]
    SubjectWithoutPath,
    /// No bundle of the subject's trust domain is known (JWT-31).
    #[error("no bundle is known for the trust domain {trust_domain}")]
    NoBundle {
        /// The subject's trust domain.
        trust_domain: TrustDomain,
    },
    /// The bundle has no JWT key of that `kid` (JWT-26, JWT-27).
    #[error("the bundle of {trust_domain} has no JWT key of the token's kid")]
    UnknownKey {
        /// The subject's trust domain.
        trust_domain: TrustDomain,
    },
    /// The algorithm is not one of the key's (ATK-29).
    #[error("the token's algorithm does not fit its key")]
    AlgorithmOfKey,
    /// The signature does not verify (JWT-19).
    #[error("the token's signature does not verify")]
    Signature,
    /// `aud` is missing, or neither a text nor an array of texts (JWT-20).
    #[error("the token's audience is missing or malformed")]
    MalformedAudience,
    /// None of the audiences is the one the caller goes by (JWT-13).
    #[error("the token is for another audience")]
    OtherAudience,
    /// `exp` is missing or not a number (JWT-17, JWT-20, ATK-30).
    #[error("the token's end is missing or malformed")]
    MalformedEnd,
    /// `exp` is past, leeway included (JWT-17).
    #[error("the token has expired at {expired_at}")]
    Expired {
        /// Its `exp`.
        expired_at: UnixSeconds,
    },
    /// `nbf` is there and not a number (ATK-30).
    #[error("the token's beginning is malformed")]
    MalformedBeginning,
    /// `nbf` is in the future, leeway included (JWT-20).
    #[error("the token is not valid yet")]
    NotYetValid,
}

/// A token taken apart.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
    /// Header, dot, payload: what is signed.
    pub(crate) message: &'a str,
}

pub(crate) fn split(token: &str) -> Result<Parts<'_>, JwtError> {
    if token.len() > TOKEN_LIMIT {
        return Err(JwtError::TooLong { length: token.len() });
    }
    let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Shape)?;
    let (header, payload) = message.split_once('.').ok_or(JwtError::Shape)?;
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if [header, payload, signature].into_iter().all(is_part) {
        Ok(Parts { header, payload, signature, message })
    } else {
        Err(JwtError::Shape)
    }
}

pub(crate) fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Shape)
}

fn read_header(part: &str) -> Result<(JwsAlgorithm, String), JwtError> {
    let header = json::parse_object(&decode(part)?).map_err(JwtError::Header)?;
    let algorithm =
        header.get("alg").and_then(Value::as_str).and_then(JwsAlgorithm::from_name).ok_or(JwtError::Algorithm)?;
    match header.get("typ") {
        None => {}
        Some(typ) if typ == "JWT" || typ == "JOSE" => {}
        Some(_) => return Err(JwtError::Type),
    }
    names_a_key(&header)?;
    match header.get("kid").and_then(Value::as_str) {
        Some(key_id) => Ok((algorithm, key_id.to_owned())),
        None => Err(JwtError::NoKeyId),
    }
}

/// Refuses a header with a member that names a key or changes how the token is read (A-18, ATK-31).
pub(crate) fn names_a_key(header: &Map<String, Value>) -> Result<(), JwtError> {
    match FORBIDDEN_HEADERS.into_iter().find(|member| header.contains_key(*member)) {
        Some(member) => Err(JwtError::ForbiddenHeader { member }),
        None => Ok(()),
    }
}

fn read_subject(claims: &Map<String, Value>) -> Result<SpiffeId, JwtError> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(JwtError::NoSubject)?;
    let spiffe_id = SpiffeId::parse(subject)?;
    if spiffe_id.is_trust_domain_id() {
        return Err(JwtError::SubjectWithoutPath);
    }
    Ok(spiffe_id)
}

fn check_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), JwtError> {
    let found = match claims.get("aud") {
        Some(Value::String(only)) => only == audience,
        Some(Value::Array(values)) => {
            let values: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
            values.ok_or(JwtError::MalformedAudience)?.contains(&audience)
        }
        _ => return Err(JwtError::MalformedAudience),
    };
    // An empty audience is nobody's; a caller that goes by none must not be matched by one.
    if found && !audience.is_empty() { Ok(()) } else { Err(JwtError::OtherAudience) }
}

pub(crate) fn check_times(claims: &Map<String, Value>, now: UnixSeconds) -> Result<UnixSeconds, JwtError> {
    let end = claims.get("exp").and_then(numeric_date).ok_or(JwtError::MalformedEnd)?;
    // RFC 7519 section 4.1.4: not "on or after" the end. Of a fraction the whole second counts.
    if now >= end.plus(LEEWAY_SECONDS) {
        return Err(JwtError::Expired { expired_at: end });
    }
    if let Some(beginning) = claims.get("nbf") {
        let beginning = numeric_date(beginning).ok_or(JwtError::MalformedBeginning)?;
        if beginning > now.plus(LEEWAY_SECONDS) {
            return Err(JwtError::NotYetValid);
        }
    }
    Ok(end)
}

/// A NumericDate (RFC 7519 section 2), which may have a fraction; it is rounded down.
fn numeric_date(value: &Value) -> Option<UnixSeconds> {
    let number: &Number = value.as_number()?;
    if let Some(seconds) = number.as_i64() {
        return Some(UnixSeconds(seconds));
    }
    let seconds = number.as_f64()?.floor();
    // Beyond these bounds a double says nothing about seconds any more.
    let exact = (-9_007_199_254_740_992.0..=9_007_199_254_740_992.0).contains(&seconds);
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range just checked")]
    exact.then_some(UnixSeconds(seconds as i64))
}
