//! The SPIFFE bundle document read (F3): what is wrong with one key skips that key, what is wrong with the document
//! refuses it whole.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::jwk::{self, JwkFault};
use super::{Bundle, JwtAuthority};
use crate::json;
use crate::trust_domain::TrustDomain;
use crate::x509::Certificate;

/// Longest bundle document that is read, in bytes (ATK-36): over a thousand keys.
pub const BUNDLE_LIMIT: usize = 1024 * 1024;

/// A document read: the bundle, and which of its keys are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedBundle {
    /// What can be used.
    pub bundle: Bundle,
    /// What was skipped, for the log.
    pub skipped: Vec<SkippedKey>,
}

/// A key of a document that is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its place in `keys`, counted from 0.
    pub index: usize,
    /// Why it is not used.
    pub reason: SkipReason,
}

/// Why a key of a document is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The element is not a JSON object.
    #[error("not an object")]
    NotAnObject,
    /// `use` is missing, or not one that is understood here (BND-18, BND-26).
    #[error("its use is missing or unknown")]
    UnknownUse,
    /// `use` is `wit-svid`: WIT-SVIDs are not verified here (XB-29).
    #[error("keys for WIT-SVIDs are not used")]
    WitUnsupported,
    /// `kty` is missing or unknown, or its curve is (BND-24).
    #[error("its key type is missing or unknown")]
    UnknownKeyType,
    /// It is a private or symmetric key (XB-19).
    #[error("it has members of a private key")]
    PrivateKey,
    /// The key's own members are missing or malformed.
    #[error("its key members are malformed")]
    MalformedKey,
    /// No JWT-SVID algorithm fits the key: Ed25519.
    #[error("no JWT-SVID algorithm fits the key")]
    UnusableKey,
    /// `x5c` is missing or empty (X509-41).
    #[error("it has no certificate")]
    NoCertificate,
    /// The certificate is not base64 of a certificate in DER (XB-12).
    #[error("its certificate is malformed")]
    MalformedCertificate,
    /// The certificate is not a signing certificate (XB-13).
    #[error("its certificate is not a signing certificate")]
    NotAuthority,
    /// The certificate is for another key than the JWK's own members (XB-14).
    #[error("its certificate is for another key")]
    OtherKey,
    /// `kid` is missing, empty or not a text (XB-16).
    #[error("it has no kid")]
    NoKeyId,
    /// Another key for tokens has the same `kid` (XB-17, XB-18).
    #[error("its kid is there twice")]
    RepeatedKeyId,
}

/// Why a document is refused; the bundle held before stays.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Longer than [`BUNDLE_LIMIT`].
    #[error("the bundle document has {length} bytes, the most is {BUNDLE_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// Not one JSON object, or an object in it has a member twice.
    #[error("the bundle document is not a JSON object")]
    Json(#[from] serde_json::Error),
    /// `keys` is missing or not an array (BND-17).
    #[error("the bundle document has no array of keys")]
    Keys,
    /// `spiffe_sequence` is not an integer of 0 to 2^64 - 1 (BND-12, BND-13).
    #[error("spiffe_sequence is not an integer of 64 bits")]
    Sequence,
    /// `spiffe_refresh_hint` is not an integer (BND-15).
    #[error("spiffe_refresh_hint is not an integer")]
    RefreshHint,
}

impl Bundle {
    /// Reads the bundle document of a trust domain. The document does not say whose it is; the caller knows (BND-04).
    ///
    /// # Errors
    /// When the document as a whole is at fault. A key at fault is skipped and listed.
    pub fn parse(trust_domain: &TrustDomain, document: &[u8]) -> Result<ParsedBundle, BundleError> {
        if document.len() > BUNDLE_LIMIT {
            return Err(BundleError::TooLong { length: document.len() });
        }
        from_object(trust_domain, &json::parse_object(document)?)
    }
}

/// Reads a document that has been taken out of its JSON text.
pub(super) fn from_object(
    trust_domain: &TrustDomain,
    document: &Map<String, Value>,
) -> Result<ParsedBundle, BundleError> {
    let keys = document.get("keys").and_then(Value::as_array).ok_or(BundleError::Keys)?;
    let mut bundle = Bundle::new(trust_domain.clone());
    if let Some(sequence) = document.get("spiffe_sequence") {
        bundle.set_sequence(Some(sequence.as_u64().ok_or(BundleError::Sequence)?));
    }
    if let Some(hint) = document.get("spiffe_refresh_hint") {
        bundle.set_refresh_hint(Some(integer(hint).ok_or(BundleError::RefreshHint)?));
    }
    let key_ids = count_key_ids(keys);
    let mut skipped = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        if let Err(reason) = take_key(&mut bundle, key, &key_ids) {
            skipped.push(SkippedKey { index, reason });
        }
    }
    Ok(ParsedBundle { bundle, skipped })
}

/// Any integer; one past the range of 64 bits is as good as the end of the range, which is clamped anyway.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX))
}

/// How often each `kid` occurs among the keys for tokens, whether or not they can be used otherwise.
fn count_key_ids(keys: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for key in keys {
        let purpose = key.get("use").and_then(Value::as_str);
        if let (Some("jwt-svid" | "wit-svid"), Some(id)) = (purpose, key_id(key)) {
            let count: &mut usize = counts.entry(id).or_default();
            *count = count.saturating_add(1);
        }
    }
    counts
}

fn key_id(key: &Value) -> Option<&str> {
    key.get("kid").and_then(Value::as_str).filter(|id| !id.is_empty())
}

fn take_key(bundle: &mut Bundle, key: &Value, key_ids: &BTreeMap<&str, usize>) -> Result<(), SkipReason> {
    let members = key.as_object().ok_or(SkipReason::NotAnObject)?;
    match members.get("use").and_then(Value::as_str) {
        Some("x509-svid") => {
            bundle.add_x509_authority(x509_authority(members)?);
            Ok(())
        }
        Some("jwt-svid") => {
            let id = key_id(key).ok_or(SkipReason::NoKeyId)?;
            if key_ids.get(id).is_some_and(|count| *count > 1) {
                return Err(SkipReason::RepeatedKeyId);
            }
            let public_key = jwk::from_jwk(members)?;
            if public_key.kind() == crate::key::PublicKeyKind::Ed25519 {
                return Err(SkipReason::UnusableKey);
            }
            bundle.add_jwt_authority(JwtAuthority { key_id: id.to_owned(), public_key });
            Ok(())
        }
        Some("wit-svid") => Err(SkipReason::WitUnsupported),
        _ => Err(SkipReason::UnknownUse),
    }
}

fn x509_authority(members: &Map<String, Value>) -> Result<Certificate, SkipReason> {
    let key = jwk::from_jwk(members)?;
    // Only the first one counts (X509-42).
    let first = members.get("x5c").and_then(Value::as_array).and_then(|chain| chain.first());
    let text = match first {
        None => return Err(SkipReason::NoCertificate),
        Some(first) => first.as_str().ok_or(SkipReason::MalformedCertificate)?,
    };
    let der = STANDARD.decode(text).map_err(|_| SkipReason::MalformedCertificate)?;
    let certificate = Certificate::parse(&der).map_err(|_| SkipReason::MalformedCertificate)?;
    if !certificate.is_signing_certificate() {
        return Err(SkipReason::NotAuthority);
    }
    if *certificate.public_key() != key {
        return Err(SkipReason::OtherKey);
    }
    Ok(certificate)
}

impl From<JwkFault> for SkipReason {
    fn from(fault: JwkFault) -> Self {
        match fault {
            JwkFault::UnknownType => Self::UnknownKeyType,
            JwkFault::Private => Self::PrivateKey,
            JwkFault::Malformed => Self::MalformedKey,
        }
    }
}
