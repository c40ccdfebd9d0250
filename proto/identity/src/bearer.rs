//! Bearer tokens of other issuers verified: OAuth access tokens as JWTs (RFC 9068) and OpenID Connect's ID tokens, with the
//! keys of the issuer's JWK Set.
//!
//! ```text
//!  token ── read ──► BearerToken: who claims to have issued it, with which key   (nothing is believed yet)
//!                        |
//!        the caller finds the keys of an issuer that it trusts; a token never says where (ATK-31)
//!                        v
//!                    verify ──► the key says which algorithms are allowed (ATK-29) ──► signature ──► exp, nbf
//!                        └────► VerifiedBearer: claims, to be compared with what a rule wants
//! ```
//!
//! The rules are those of JWT-SVIDs where both have them; what differs: the subject is any text, `typ` may be `at+jwt`, and
//! a token without `kid` is tried with each key that fits.

use serde_json::{Map, Value};

use crate::bundle::from_jwk;
use crate::json;
use crate::jwt_svid::verify::{Parts, check_times, decode, names_a_key, split};
use crate::jwt_svid::{JwsAlgorithm, JwtError};
use crate::key::{PublicKey, PublicKeyKind};
use crate::validity::UnixSeconds;

/// Longest JWK Set that is read, in bytes: a hundred RSA keys with their certificates.
pub const KEY_SET_LIMIT: usize = 512 * 1024;

/// Most keys of one issuer. A token without `kid` is tried with each that fits, and a check of a signature costs up to a
/// tenth of a millisecond.
pub const ISSUER_KEYS_LIMIT: usize = 64;

/// Values of `typ` that are read, in lower case: none of them is a token of another purpose (RFC 8725 section 3.11).
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// The public keys of a token issuer, as its JWK Set has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuerKeys {
    keys: Vec<IssuerKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct IssuerKey {
    id: Option<String>,
    /// The only algorithm that its issuer uses it with, where the set says so.
    algorithm: Option<JwsAlgorithm>,
    public_key: PublicKey,
}

/// Why a JWK Set is refused.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`KEY_SET_LIMIT`].
    #[error("the key set has {length} bytes, the most is {KEY_SET_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// Not one JSON object, or an object in it has a member twice.
    #[error("the key set is not a JSON object")]
    Json(#[from] serde_json::Error),
    /// `keys` is missing or not an array.
    #[error("the key set has no array of keys")]
    Keys,
    /// More than [`ISSUER_KEYS_LIMIT`].
    #[error("the key set has {count} keys, the most is {ISSUER_KEYS_LIMIT}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// None of its keys can verify a token.
    #[error("the key set has no key that tokens can be verified with")]
    NoKey,
}

impl IssuerKeys {
    /// Reads a JWK Set (RFC 7517 section 5). Keys that are for something else, or that are not known here, are passed over.
    ///
    /// # Errors
    /// When the set as a whole is at fault.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        if document.len() > KEY_SET_LIMIT {
            return Err(KeySetError::TooLong { length: document.len() });
        }
        let set = json::parse_object(document)?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Keys)?;
        if listed.len() > ISSUER_KEYS_LIMIT {
            return Err(KeySetError::TooMany { count: listed.len() });
        }
        let keys: Vec<IssuerKey> = listed.iter().filter_map(Value::as_object).filter_map(issuer_key).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self { keys }) }
    }

    /// Whether a key has this `kid`. A token that names another one was signed with a key that is newer than this set, or
    /// is no token of this issuer.
    #[must_use]
    pub fn has(&self, key_id: &str) -> bool {
        self.keys.iter().any(|key| key.id.as_deref() == Some(key_id))
    }

    /// How many keys there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }
}

fn issuer_key(jwk: &Map<String, Value>) -> Option<IssuerKey> {
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let algorithm = match jwk.get("alg") {
        None => None,
        Some(name) => Some(JwsAlgorithm::from_name(name.as_str()?)?),
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(id) => Some(id.as_str()?.to_owned()),
    };
    let public_key = from_jwk(jwk)?;
    let is_usable = public_key.kind() != PublicKeyKind::Ed25519
        && algorithm.is_none_or(|algorithm| algorithm.fits(public_key.kind()));
    is_usable.then_some(IssuerKey { id, algorithm, public_key })
}

/// A token that was read, and of which nothing is known to be true.
pub struct BearerToken<'a> {
    parts: Parts<'a>,
    algorithm: JwsAlgorithm,
    key_id: Option<String>,
    issuer: String,
    claims: Map<String, Value>,
}

impl std::fmt::Debug for BearerToken<'_> {
    /// Leaves the token out: it is a credential.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BearerToken").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl<'a> BearerToken<'a> {
    /// Reads a token, without checking its signature or its times.
    ///
    /// # Errors
    /// When it has not the form of a token that could be verified.
    pub fn read(token: &'a str) -> Result<Self, BearerError> {
        let parts = split(token)?;
        let header = json::parse_object(&decode(parts.header)?).map_err(JwtError::Header)?;
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(JwsAlgorithm::from_name);
        let algorithm = algorithm.ok_or(JwtError::Algorithm)?;
        if let Some(kind) = header.get("typ") {
            let kind = kind.as_str().map(str::to_ascii_lowercase).ok_or(BearerError::Type)?;
            if !TYPES.contains(&kind.as_str()) {
                return Err(BearerError::Type);
            }
        }
        names_a_key(&header)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().ok_or(JwtError::NoKeyId)?.to_owned()),
        };
        let claims = json::parse_object(&decode(parts.payload)?).map_err(JwtError::Payload)?;
        let issuer = claims.get("iss").and_then(Value::as_str).ok_or(BearerError::NoIssuer)?.to_owned();
        Ok(Self { parts, algorithm, key_id, issuer, claims })
    }

    /// Who it says has issued it: for finding the keys of an issuer that is trusted already, and for nothing else.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The `kid` of the key that it says it was signed with.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Verifies signature and times with the keys of its issuer.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(self, keys: &IssuerKeys, now: UnixSeconds) -> Result<VerifiedBearer, BearerError> {
        let Self { parts, algorithm, key_id, issuer: _, claims } = self;
        let is_named = |key: &&IssuerKey| key_id.is_none() || key.id == key_id;
        let fits = |key: &&IssuerKey| {
            algorithm.fits(key.public_key.kind()) && key.algorithm.is_none_or(|only| only == algorithm)
        };
        let mut named = keys.keys.iter().filter(is_named).peekable();
        if named.peek().is_none() {
            return Err(BearerError::UnknownKey);
        }
        let mut fitting = named.filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(JwtError::AlgorithmOfKey.into());
        }
        if !fitting.any(|key| algorithm.verify(&key.public_key, parts.message, parts.signature)) {
            return Err(JwtError::Signature.into());
        }
        let expires_at = check_times(&claims, now)?;
        Ok(VerifiedBearer { claims, expires_at })
    }
}

/// The proof that a token was verified with the keys of its issuer. Whom it is for, and what it allows, is to be compared
/// still.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedBearer {
    claims: Map<String, Value>,
    expires_at: UnixSeconds,
}

impl VerifiedBearer {
    /// Its `exp`.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        self.expires_at
    }

    /// Whom it was issued to: `sub`, else `client_id`, else `azp`; empty when it says nothing of that.
    #[must_use]
    pub fn subject(&self) -> &str {
        ["sub", "client_id", "azp"].into_iter().find_map(|name| self.claims.get(name)?.as_str()).unwrap_or_default()
    }

    /// Whether `aud` names this audience.
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        !audience.is_empty() && self.claim_has("aud", audience)
    }

    /// Whether `scope` has this word among its words, or `scp` has it, which is how some issuers name the same. Several
    /// words ask for each of them.
    #[must_use]
    pub fn has_scope(&self, wanted: &str) -> bool {
        let words = |claim: &str| -> Vec<&str> {
            match self.claims.get(claim) {
                Some(Value::String(text)) => text.split(' ').collect(),
                Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            }
        };
        let had = [words("scope"), words("scp")].concat();
        wanted.split(' ').filter(|word| !word.is_empty()).all(|word| had.contains(&word))
    }

    /// Whether a claim has this value: the same text, a number or truth value written so, or a list that contains it.
    #[must_use]
    pub fn claim_has(&self, name: &str, wanted: &str) -> bool {
        let same = |value: &Value| match value {
            Value::String(text) => text == wanted,
            Value::Number(number) => number.to_string() == wanted,
            Value::Bool(truth) => truth.to_string() == wanted,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match self.claims.get(name) {
            Some(Value::Array(values)) => values.iter().any(same),
            Some(value) => same(value),
            None => false,
        }
    }
}

/// Why a bearer token is refused.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// A rule that JWT-SVIDs have, too.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// `typ` says that it is something else than a token of access or identity.
    #[error("the token's typ is neither JWT nor at+jwt")]
    Type,
    /// `iss` is missing or not a text.
    #[error("the token names no issuer")]
    NoIssuer,
    /// The issuer has no key of the token's `kid`.
    #[error("its issuer has no key of the token's kid")]
    UnknownKey,
}
