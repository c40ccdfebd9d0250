//! JWT-SVIDs signed.
//!
//! The token is put together by hand: the JWT library reads the key from PKCS#8 again for each token, which costs as
//! much as the signature.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::{JwsAlgorithm, TOKEN_LIMIT};
use crate::ids::AuthorityId;
use crate::key::{KeyError, PrivateKey};
use crate::spiffe_id::SpiffeId;
use crate::validity::UnixSeconds;

/// What a token says.
#[derive(Debug, Clone, Copy)]
pub struct JwtClaims<'a> {
    /// Whom it is issued to: an ID with a path (JWT-10, A-19).
    pub sub: &'a SpiffeId,
    /// For whom it is: at least one (JWT-12). Always written as an array.
    pub aud: &'a [String],
    /// When it is issued.
    pub iat: UnixSeconds,
    /// When it ends (JWT-16), after `iat` and not past the end of the signing key.
    pub exp: UnixSeconds,
    /// Drawn by the caller, so that one token can be named in a log or revoked.
    pub jti: &'a str,
    /// Where those who rely on OpenID Connect find the keys; none where there is no discovery provider. It never tells a
    /// JWT-SVID's verifier anything (POP-03).
    pub iss: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    aud: &'a [String],
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    jti: &'a str,
    sub: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

/// Signs tokens with one key. The header is written once.
pub struct JwtSigner {
    key_id: AuthorityId,
    algorithm: JwsAlgorithm,
    key: Key,
    /// The header in base64url, and the dot after it.
    header: String,
}

enum Key {
    Ecdsa(EcdsaKeyPair),
    Rsa(PrivateKey),
}

impl JwtSigner {
    /// Takes the `kid` and the key. P-256 signs ES256, P-384 ES384, RSA RS256.
    ///
    /// # Errors
    /// When the key is Ed25519, which no JWT-SVID algorithm uses, or is unusable.
    pub fn new(key_id: AuthorityId, key: PrivateKey) -> Result<Self, JwtSignError> {
        let algorithm = JwsAlgorithm::signed_by(key.public_key().kind())
            .ok_or(JwtSignError::Key(KeyError::UnsupportedAlgorithm))?;
        let header = Header { alg: algorithm.name(), kid: key_id.as_str(), typ: "JWT" };
        let mut header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header)?);
        header.push('.');
        let key = match key.fixed_form_ecdsa()? {
            Some(pair) => Key::Ecdsa(pair),
            None => Key::Rsa(key),
        };
        Ok(Self { key_id, algorithm, key, header })
    }

    /// The `kid` of its tokens.
    #[must_use]
    pub fn key_id(&self) -> &AuthorityId {
        &self.key_id
    }

    /// The `alg` of its tokens.
    #[must_use]
    pub fn algorithm(&self) -> JwsAlgorithm {
        self.algorithm
    }

    /// Signs a token, in JWS Compact Serialization (JWT-01).
    ///
    /// # Errors
    /// When the claims are not a JWT-SVID's, the token would be longer than [`TOKEN_LIMIT`](super::TOKEN_LIMIT), or
    /// signing fails.
    pub fn sign(&self, claims: &JwtClaims<'_>) -> Result<String, JwtSignError> {
        if claims.sub.is_trust_domain_id() {
            return Err(JwtSignError::NoPath);
        }
        if claims.aud.is_empty() || claims.aud.iter().any(String::is_empty) {
            return Err(JwtSignError::NoAudience);
        }
        if claims.exp <= claims.iat {
            return Err(JwtSignError::NoLifetime);
        }
        let payload = serde_json::to_vec(&Payload {
            aud: claims.aud,
            exp: claims.exp.0,
            iat: claims.iat.0,
            iss: claims.iss,
            jti: claims.jti,
            sub: claims.sub.as_str(),
        })?;
        // Room for header, payload and the signature of the largest key, in base64url.
        let room = payload.len().saturating_div(3).saturating_mul(4).saturating_add(720);
        let mut token = String::with_capacity(self.header.len().saturating_add(room));
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(&payload, &mut token);
        let signature = self.sign_message(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        if token.len() > TOKEN_LIMIT {
            return Err(JwtSignError::TooLong { length: token.len() });
        }
        Ok(token)
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.key {
            Key::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
            Key::Rsa(key) => key.sign(message),
        }
    }
}

impl std::fmt::Debug for JwtSigner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("JwtSigner")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Why a token is not signed.
#[derive(Debug, thiserror::Error)]
pub enum JwtSignError {
    /// The ID of a trust domain is no workload's.
    #[error("the subject of a token needs a path")]
    NoPath,
    /// No audience, or an empty one (JWT-12).
    #[error("a token needs at least one audience, and none may be empty")]
    NoAudience,
    /// The end is not after the beginning.
    #[error("the token would end when it begins")]
    NoLifetime,
    /// Longer than [`TOKEN_LIMIT`](super::TOKEN_LIMIT): too many or too long audiences.
    #[error("the token would have {length} bytes, the most is {TOKEN_LIMIT}")]
    TooLong {
        /// How many bytes it would have.
        length: usize,
    },
    /// The claims cannot be written as JSON.
    #[error("the claims cannot be written")]
    Json(#[from] serde_json::Error),
    /// The key is unusable.
    #[error("the token could not be signed")]
    Key(#[from] KeyError),
}
