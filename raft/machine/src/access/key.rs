//! API keys: what a peer that has no certificate proves itself with. The state holds hashes only.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use quorate_proto_identity::{TrustDomain, UnixSeconds};

use crate::invitation::SecretHash;

/// Most API keys: two for each of the most relationships that there may be.
pub const API_KEYS_LIMIT: usize = 4_096;

/// Most API keys of one peer: one for each of its nodes or environments.
pub const API_KEYS_PER_PEER_LIMIT: usize = 64;

/// Longest life of an API key, in seconds: 2 years. Nobody remembers where an older one was put.
pub const API_KEY_LIFETIME_LIMIT: i64 = 2 * 365 * 24 * 3_600;

/// Longest time for which the former secret is still taken after a rotation, in seconds: 30 days, a change window of any
/// organisation. It never lives longer than it would have.
pub const API_KEY_OVERLAP_LIMIT: i64 = 30 * 24 * 3_600;

/// Longest label, in bytes.
pub const API_KEY_LABEL_LIMIT: usize = 128;

/// How long an expired key is still listed, so that a refused peer is told that its key has expired, in seconds: 30 days.
/// After that the next new key takes its place.
pub const EXPIRED_API_KEY_KEPT: i64 = 30 * 24 * 3_600;

/// How many hex digits an ID has: 64 random bits, far more than are needed for [`API_KEYS_LIMIT`] to be apart.
const ID_DIGITS: usize = 16;

/// The ID of an API key: public, part of the key's text, and what operators name it by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyId(String);

/// A text is no ID of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ID of an API key has 16 digits of 0-9 a-f")]
pub struct ApiKeyIdError;

impl ApiKeyId {
    /// Takes an ID as it is printed.
    ///
    /// # Errors
    /// When it is not 16 lower-case hexadecimal digits.
    pub fn new(text: &str) -> Result<Self, ApiKeyIdError> {
        let is_good = text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_good { Ok(Self(text.to_owned())) } else { Err(ApiKeyIdError) }
    }

    /// The ID that a random number stands for.
    #[must_use]
    pub fn from_random(number: u64) -> Self {
        Self(format!("{number:016x}"))
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for ApiKeyId {
    type Err = ApiKeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// What a credential may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ApiScope {
    /// To get our bundle.
    Get = 1,
    /// To watch our bundle, which includes getting it.
    Watch = 2,
}

impl ApiScope {
    /// Every scope, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Get, Self::Watch];

    /// The scope that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| *scope as u32 == number)
    }

    /// Its name, as operators write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Watch => "watch",
        }
    }
}

/// What a key may be used for: at least one thing.
pub type ApiScopes = BTreeSet<ApiScope>;

/// A secret of a key, as the state has it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeySecret {
    /// SHA-256 of the secret's 32 random bytes.
    pub hash: SecretHash,
    /// From when on it is not taken any more, in the log's time.
    pub expires_at: UnixSeconds,
}

impl fmt::Debug for ApiKeySecret {
    /// Leaves the hash out: it is no secret, but nobody is helped by having it in a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash: _, expires_at } = self;
        formatter.debug_struct("ApiKeySecret").field("expires_at", expires_at).finish_non_exhaustive()
    }
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its ID.
    pub id: ApiKeyId,
    /// Who it was given to. It says who asks, whether or not there is a relationship with it yet.
    pub peer: TrustDomain,
    /// What it may be used for.
    pub scopes: ApiScopes,
    /// What people call it; may be empty.
    pub label: String,
    /// The secret that it has.
    pub secret: ApiKeySecret,
    /// The secret that it had before the last rotation, for the time that both are taken.
    pub former: Option<ApiKeySecret>,
    /// When it was made, in the log's time.
    pub created_at: UnixSeconds,
    /// When it was made or last rotated, in the log's time.
    pub rotated_at: UnixSeconds,
}

impl ApiKey {
    /// When no secret of it is taken any more.
    #[must_use]
    pub fn expires_at(&self) -> UnixSeconds {
        let former = self.former.as_ref().map_or(self.secret.expires_at, |former| former.expires_at);
        self.secret.expires_at.max(former)
    }

    /// Whether it may be removed to make room for others.
    #[must_use]
    pub(crate) fn is_prunable(&self, now: UnixSeconds) -> bool {
        now.since(self.expires_at()) >= EXPIRED_API_KEY_KEPT
    }
}

/// A key as an operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// Its ID, drawn by the node that took the call.
    pub id: ApiKeyId,
    /// Who it is for.
    pub peer: TrustDomain,
    /// What it may be used for.
    pub scopes: ApiScopes,
    /// What people call it.
    pub label: String,
    /// Its secret.
    pub secret: ApiKeySecret,
}

/// A new secret for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRotation {
    /// Which key.
    pub id: ApiKeyId,
    /// The new secret.
    pub secret: ApiKeySecret,
    /// For how long the present secret is still taken, in seconds; 0 ends it at once.
    pub overlap: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sixteen_digits_and_prints_as_it_parses() {
        let id = ApiKeyId::from_random(0xab);
        assert_eq!(id.as_str(), "00000000000000ab");
        assert_eq!(ApiKeyId::new(id.as_str()), Ok(id));
        for wrong in ["", "00000000000000A0", "0000000000000ab", "00000000000000ab0", "0000000000000 ab"] {
            assert_eq!(ApiKeyId::new(wrong), Err(ApiKeyIdError), "{wrong:?}");
        }
    }
}
