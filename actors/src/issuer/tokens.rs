//! JWT-SVIDs: the token key in use, opened once, and what is signed with it.
//!
//! A token has no chain, so its signing key is shared by all nodes: it comes sealed through the log and is opened into
//! memory when it becomes active (design section 3).

use std::sync::Arc;

use parking_lot::RwLock;
use quorate_proto_identity::{
    AuthorityId, JwtClaims, JwtSigner, PrivateKey, SpiffeId, UnixSeconds, Validity, jwt_svid::JwtSignError,
};
use quorate_raft_consensus::{Sources, WorkLost};
use quorate_raft_machine::AuthorityState;

use crate::{refusal::Refusal, sources::is_slow};

/// A token key that is open.
pub(crate) struct TokenKey {
    signer: JwtSigner,
    slow: bool,
    not_after: UnixSeconds,
}

impl TokenKey {
    /// Takes an opened key.
    pub(crate) fn new(id: AuthorityId, key: PrivateKey, validity: &Validity) -> Result<Self, JwtSignError> {
        let slow = is_slow(key.key_type());
        Ok(Self { signer: JwtSigner::new(id, key)?, slow, not_after: validity.not_after() })
    }

    /// The `kid` of its tokens.
    pub(crate) fn id(&self) -> &AuthorityId {
        self.signer.key_id()
    }
}

/// The token key in use: one actor opens and publishes it, everybody else only reads.
pub(crate) struct TokenKeys {
    active: RwLock<Option<Arc<TokenKey>>>,
    sources: Sources,
}

/// A signed token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The `kid` of the key that signed it.
    pub(crate) key_id: AuthorityId,
    /// Its `jti`, which it prints as hexadecimal digits.
    pub(crate) jti: [u8; 16],
    pub(crate) text: String,
    pub(crate) issued_at: UnixSeconds,
    pub(crate) expires_at: UnixSeconds,
}

/// Why no token was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// No token key is open.
    #[error("this node holds no token key")]
    NoKey,
    /// A rule refuses every token of this subject that is issued now.
    #[error("tokens of {subject} are refused by a revocation that is newer than this node's clock")]
    Refused {
        /// Whose.
        subject: SpiffeId,
    },
    /// The policy wants it in the audit trail first, and it did not get there.
    #[error(transparent)]
    NotRecorded(#[from] Refusal),
    /// The key has no second left.
    #[error("the token key has expired")]
    KeyExpired,
    /// The claims were refused, or the key failed.
    #[error("the token could not be signed")]
    Sign(#[from] JwtSignError),
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

impl TokenError {
    /// What the caller is told: a request that no key could serve, or that this node cannot serve it now.
    pub(crate) fn refusal(&self) -> Refusal {
        match self {
            Self::NotRecorded(refusal) => refusal.clone(),
            Self::Sign(JwtSignError::TooLong { .. }) => Refusal::invalid("the audiences make the token too long"),
            Self::NoKey | Self::KeyExpired | Self::Refused { .. } | Self::Sign(_) | Self::Lost(_) => {
                tracing::error!(error = self as &dyn std::error::Error, "a JWT-SVID could not be signed");
                Refusal::unavailable(self.to_string())
            }
        }
    }
}

impl TokenKeys {
    pub(crate) fn new(sources: Sources) -> Self {
        Self { active: RwLock::new(None), sources }
    }

    /// Which key is open.
    pub(crate) fn active_id(&self) -> Option<AuthorityId> {
        self.active.read().as_ref().map(|key| key.id().clone())
    }

    /// Whether a key is open that can sign tokens at `now`.
    pub(crate) fn can_sign(&self, now: UnixSeconds) -> bool {
        self.active.read().as_ref().is_some_and(|key| now < key.not_after)
    }

    /// Puts another key in place; the one before is wiped once nobody signs with it any more.
    pub(crate) fn set(&self, key: Option<Arc<TokenKey>>) {
        *self.active.write() = key;
    }

    /// Signs a token that lives `ttl` seconds, at most to the end of its key (SB-35). `issuer` is what a discovery provider
    /// calls us.
    pub(crate) async fn sign(
        &self,
        subject: &SpiffeId,
        audiences: &Arc<[String]>,
        issuer: Option<&str>,
        ttl: u32,
    ) -> Result<Token, TokenError> {
        let key = self.active.read().clone().ok_or(TokenError::NoKey)?;
        let issued_at = self.sources.now().seconds();
        let expires_at = issued_at.plus(i64::from(ttl)).min(key.not_after);
        if expires_at <= issued_at {
            return Err(TokenError::KeyExpired);
        }
        let jti: [u8; 16] = self.sources.random();
        let times = (issued_at, expires_at);
        if key.slow {
            let (subject, audiences) = (subject.clone(), Arc::clone(audiences));
            let issuer = issuer.map(str::to_owned);
            let work = move || sign(&key, &subject, &audiences, issuer.as_deref(), times, jti);
            return self.sources.run_blocking(work).await?;
        }
        sign(&key, subject, audiences, issuer, times, jti)
    }
}

fn sign(
    key: &TokenKey,
    sub: &SpiffeId,
    aud: &[String],
    iss: Option<&str>,
    (issued_at, expires_at): (UnixSeconds, UnixSeconds),
    jti: [u8; 16],
) -> Result<Token, TokenError> {
    let text = key.signer.sign(&JwtClaims { sub, aud, iat: issued_at, exp: expires_at, jti: &hex(jti), iss })?;
    Ok(Token { key_id: key.id().clone(), jti, text, issued_at, expires_at })
}

/// Whether a token key that was opened may be used: an old one until its successor is open, because every bundle still
/// has it; a tainted one never.
pub(crate) fn signs_tokens(state: AuthorityState) -> bool {
    match state {
        AuthorityState::Active | AuthorityState::Old => true,
        AuthorityState::Prepared | AuthorityState::Tainted | AuthorityState::Revoked => false,
    }
}

/// A `jti` as tokens have it.
pub(crate) fn hex(jti: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(jti))
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").field("active", &self.active_id()).finish_non_exhaustive()
    }
}
