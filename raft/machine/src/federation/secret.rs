//! Secrets that every member may open: keys of ACME accounts and web certificates, credentials for Federation APIs.
//!
//! Sealed as token keys are: to each member with its sealing key, and to the recovery key. This crate cannot open them.

use std::fmt;

use quorate_proto_identity::{TrustDomain, UnixSeconds};

use crate::authority::Sealed;

/// Most secrets: two for each relationship there may be, and some for the cluster's own.
pub const SECRETS_LIMIT: usize = 2 * super::RELATIONSHIPS_LIMIT + 96;

/// Longest name of a secret, in bytes: a trust domain's name (255) and words around it.
pub const SECRET_NAME_LIMIT: usize = 320;

/// What a secret is known by: words of `a-z 0-9 . - _` with `/` between them, as in `federation/example.org/api-key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// Takes a name.
    ///
    /// # Errors
    /// When it is empty or too long, has other characters, or an empty word.
    pub fn new(text: &str) -> Result<Self, SecretNameError> {
        if text.is_empty() || text.len() > SECRET_NAME_LIMIT {
            return Err(SecretNameError::Length { length: text.len() });
        }
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if text.split('/').any(|word| word.is_empty() || !word.bytes().all(fits)) {
            return Err(SecretNameError::Words);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name of a secret that belongs to the relationship with a trust domain: it is erased with the relationship.
    ///
    /// # Errors
    /// When `purpose` is not made of words.
    pub fn of_relationship(trust_domain: &TrustDomain, purpose: &str) -> Result<Self, SecretNameError> {
        Self::new(&format!("{}{purpose}", Self::prefix(trust_domain)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it belongs to the relationship with this trust domain.
    #[must_use]
    pub fn belongs_to(&self, trust_domain: &TrustDomain) -> bool {
        self.0.starts_with(&Self::prefix(trust_domain))
    }

    fn prefix(trust_domain: &TrustDomain) -> String {
        format!("federation/{}/", trust_domain.as_str())
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretName({})", self.0)
    }
}

impl std::str::FromStr for SecretName {
    type Err = SecretNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// Why a text is no name of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretNameError {
    /// Empty, or longer than [`SECRET_NAME_LIMIT`].
    #[error("the name of a secret has {length} bytes, it must have 1 to {SECRET_NAME_LIMIT}")]
    Length {
        /// How many bytes it has.
        length: usize,
    },
    /// Other characters, or nothing between two slashes.
    #[error("the name of a secret is made of words of a-z, 0-9, '.', '-' and '_' with '/' between them")]
    Words,
}

/// A secret, sealed to those who may open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What it is known by.
    pub name: SecretName,
    /// The secret itself, sealed.
    pub sealed: Sealed,
    /// How often it was put: whoever holds it opened sees by this that it is another one.
    pub revision: u64,
    /// When it was last put, in the log's time.
    pub put_at: UnixSeconds,
}
