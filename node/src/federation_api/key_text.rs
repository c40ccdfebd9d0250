//! The text of an API key: what an operator hands to a peer, and the peer sends.
//!
//! ```text
//!   qfk1_0123456789abcdef_<43 characters of base64url>
//!   |    |                └ the secret: 256 random bits
//!   |    └ the key's ID, by which it is found
//!   └ says what this is, to people and to those who scan for leaked secrets
//! ```

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_raft_consensus::Sources;
use quorate_raft_machine::SecretHash;
use quorate_raft_machine::access::ApiKeyId;
use zeroize::Zeroizing;

/// What the text of every key begins with, with the version of the form.
const PREFIX: &str = "qfk1_";

/// Bytes of a secret: nothing shorter, since a hash without salt is all that protects it.
const SECRET_BYTES: usize = 32;

/// Longest text that is looked at, in bytes.
pub const KEY_TEXT_LIMIT: usize = 128;

/// An API key with its secret. The secret is wiped when it is dropped, and never printed by `Debug`.
pub struct ApiKeyText {
    id: ApiKeyId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// A text is no API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no API key: one is qfk1_, 16 hexadecimal digits, _ and 43 characters of base64url")]
pub struct NotAnApiKey;

impl ApiKeyText {
    /// Draws a new secret for a key.
    #[must_use]
    pub fn draw(id: ApiKeyId, sources: &Sources) -> Self {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        sources.fill(secret.as_mut_slice());
        Self { id, secret }
    }

    /// Reads the text of a key.
    ///
    /// # Errors
    /// When it has not the form of one.
    pub fn parse(text: &str) -> Result<Self, NotAnApiKey> {
        let text = text.get(..KEY_TEXT_LIMIT).map_or(text, |_| "");
        let (id, encoded) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(NotAnApiKey)?;
        let id = ApiKeyId::new(id).map_err(|_| NotAnApiKey)?;
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotAnApiKey)?);
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        if decoded.len() != SECRET_BYTES {
            return Err(NotAnApiKey);
        }
        secret.copy_from_slice(&decoded);
        Ok(Self { id, secret })
    }

    /// Which key it is.
    #[must_use]
    pub fn id(&self) -> &ApiKeyId {
        &self.id
    }

    /// What the state keeps of the secret.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        let mut hash = SecretHash::default();
        hash.copy_from_slice(digest::digest(&digest::SHA256, self.secret.as_slice()).as_ref());
        hash
    }

    /// The whole text. A credential: it is for the operator's eyes, once.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.secret.as_slice()));
        Zeroizing::new(format!("{PREFIX}{}_{}", self.id, encoded.as_str()))
    }
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub(super) fn same_hash(one: &SecretHash, other: &SecretHash) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiKeyText").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_text_and_debug_does_not_show_its_secret() {
        let key = ApiKeyText { id: ApiKeyId::from_random(7), secret: Zeroizing::new([9; SECRET_BYTES]) };
        let text = key.reveal();
        assert!(text.starts_with("qfk1_0000000000000007_"), "{}", text.as_str());
        let read = ApiKeyText::parse(&text).unwrap();
        assert_eq!((read.id(), read.hash()), (key.id(), key.hash()));
        assert!(same_hash(&read.hash(), &key.hash()) && !same_hash(&read.hash(), &[0; 32]));
        assert!(!format!("{key:?}").contains("CQkJ"));
    }

    #[test]
    fn a_text_of_another_form_is_no_key() {
        let good = ApiKeyText { id: ApiKeyId::from_random(7), secret: Zeroizing::new([9; SECRET_BYTES]) }.reveal();
        let wrong = [
            String::new(),
            good.replace("qfk1", "qfk2"),
            good.replace("0007", "000G"),
            good[..good.len() - 1].to_owned(),
            format!("{}AA", good.as_str()),
            format!(" {}", good.as_str()),
            format!("{}{}", good.as_str(), "A".repeat(KEY_TEXT_LIMIT)),
        ];
        for text in wrong {
            assert_eq!(ApiKeyText::parse(&text).unwrap_err(), NotAnApiKey, "{text}");
        }
    }
}
