//! The recovery key: a further recipient of every authority key, kept offline.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use quorate_proto_identity::UnixSeconds;

/// How many bytes of the SHA-256 of a recovery key make its ID.
const RECOVERY_ID_BYTES: usize = 16;

/// A public key whose private half no node has. What is sealed to it opens a backup after every node was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryKey {
    /// What seals name it by.
    pub id: String,
    /// The public key to which secrets are sealed, in the form of a member's sealing key.
    pub public_key: Bytes,
    /// When it was set, in the log's time.
    pub set_at: UnixSeconds,
}

impl RecoveryKey {
    /// A key under its ID, which follows from the key alone: the first half of its SHA-256, in hexadecimal.
    #[must_use]
    pub fn new(public_key: Bytes, set_at: UnixSeconds) -> Self {
        let digest = digest(&SHA256, &public_key);
        let id = digest.as_ref().iter().take(RECOVERY_ID_BYTES).map(|byte| format!("{byte:02x}")).collect();
        Self { id, public_key, set_at }
    }
}
