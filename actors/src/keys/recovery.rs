//! The recovery key: its two halves, as they are made, read and used offline.

use std::fmt;

use bytes::Bytes;
use quorate_proto_identity::UnixSeconds;
use quorate_proto_identity::key::PrivateKey;
use quorate_raft_machine::{Recipient, RecoveryKey, Sealed};
use zeroize::Zeroizing;

use super::hpke::{SUITE_X25519_SHA256_AES256, SealingKey, seal_bytes};
use super::{CustodyError, SealContext, SealedPart};

/// Makes a key pair for recovery: the private half as PKCS#8, which is to be kept offline, and the public half, to which
/// authority keys are sealed. Nothing when the provider cannot.
#[must_use]
pub fn new_recovery_key() -> Option<(Zeroizing<Vec<u8>>, Bytes)> {
    let key = SealingKey::generate()?;
    Some((key.pkcs8(), key.public().clone()))
}

/// The private half of the recovery key: it opens backups and every authority key in them. Wiped when it is dropped.
pub struct RecoveryPrivateKey {
    key: SealingKey,
    id: String,
}

impl RecoveryPrivateKey {
    /// Reads PKCS#8, as [`new_recovery_key`] writes it. Nothing when that is not what it is.
    #[must_use]
    pub fn from_pkcs8(document: &[u8]) -> Option<Self> {
        let key = SealingKey::from_pkcs8(document)?;
        let id = RecoveryKey::new(key.public().clone(), UnixSeconds(0)).id;
        Some(Self { key, id })
    }

    /// What seals name its public half by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Opens an authority's key that is sealed to this one.
    ///
    /// # Errors
    /// When it is not sealed to this key, does not open, or is no key.
    pub fn open_key(&self, sealed: &Sealed, context: &SealContext) -> Result<PrivateKey, CustodyError> {
        let pkcs8 = self.open_secret(sealed, context)?;
        PrivateKey::from_pkcs8(&pkcs8).map_err(|_malformed| CustodyError::NotAKey { item: context.item.to_string() })
    }

    /// Opens a secret that is sealed to this key.
    ///
    /// # Errors
    /// When it is not sealed to this key, or does not open.
    pub fn open_secret(&self, sealed: &Sealed, context: &SealContext) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let recipient = Recipient::RecoveryKey(self.id.clone());
        let Some(part) = sealed.part_for(&recipient) else {
            let item = context.item.to_string();
            return Err(CustodyError::NotARecipient { item, recipient: recipient.to_string() });
        };
        let part = SealedPart { encapsulated_key: part.encapsulated_key.clone(), ciphertext: part.ciphertext.clone() };
        self.key.open(sealed.suite, &SealContext { recipient, ..context.clone() }, &part)
    }

    /// Opens bytes that were sealed to this key by [`seal_to_recovery_key`].
    pub(crate) fn open_bytes(
        &self,
        suite: u32,
        info: &[u8],
        aad: &[u8],
        part: &SealedPart,
    ) -> Option<Zeroizing<Vec<u8>>> {
        if suite != SUITE_X25519_SHA256_AES256 {
            return None;
        }
        self.key.open_bytes(info, aad, part)
    }
}

impl fmt::Debug for RecoveryPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryPrivateKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Seals bytes to the public half, by suite [`SUITE_X25519_SHA256_AES256`]. Nothing when that is no usable key.
pub(crate) fn seal_to_recovery_key(key: &RecoveryKey, info: &[u8], aad: &[u8], secret: &[u8]) -> Option<SealedPart> {
    seal_bytes(info, aad, secret, &key.public_key)
}
