//! The sealed content: a key of its own, and chunks that open only in their place.
//!
//! ```text
//!   content key (32 random bytes) ── HPKE to the recovery key, bound to the facts of the header ──► in the header
//!        │
//!        └ chunk n:  AES-256-GCM, nonce = n, bound to the digest of the header, n, and how many there are
//! ```
//!
//! The key seals one backup and is forgotten, so that a counter is a nonce that never comes twice.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use quorate_proto_identity::ClusterId;

use super::format::DIGEST_BYTES;

/// Bytes of the content key.
pub(super) const CONTENT_KEY_BYTES: usize = 32;

/// What the content key is sealed for, so that no other thing sealed to the recovery key can be put here.
const DOMAIN: &[u8] = b"quorate backup content key 1";

/// HPKE's `info`, beside the facts of the header as `aad`.
pub(super) fn info(cluster: ClusterId) -> Vec<u8> {
    [DOMAIN, cluster.as_bytes()].concat()
}

/// Seals the chunks of one backup, or opens them.
pub(super) struct ContentKey {
    key: LessSafeKey,
    binding: [u8; DIGEST_BYTES],
    chunks: u64,
}

impl ContentKey {
    /// The key for a backup whose header has this digest, and so many chunks. Nothing when the bytes are no key.
    pub(super) fn new(key: &[u8], binding: [u8; DIGEST_BYTES], chunks: u64) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some(Self { key, binding, chunks })
    }

    /// Seals the chunk at this position, from 0. `false` when the library refuses.
    pub(super) fn seal(&self, position: u64, chunk: &mut Vec<u8>) -> bool {
        self.key.seal_in_place_append_tag(nonce(position), self.place(position), chunk).is_ok()
    }

    /// Opens the chunk at this position where it lies; nothing when it is not what was sealed there.
    pub(super) fn open<'a>(&self, position: u64, chunk: &'a mut [u8]) -> Option<&'a [u8]> {
        let place = self.place(position);
        self.key.open_in_place(nonce(position), place, chunk).ok().map(|plain| &*plain)
    }

    fn place(&self, position: u64) -> Aad<Vec<u8>> {
        Aad::from([&self.binding[..], &position.to_be_bytes(), &self.chunks.to_be_bytes()].concat())
    }
}

fn nonce(position: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    for (place, byte) in nonce.iter_mut().rev().zip(position.to_le_bytes()) {
        *place = byte;
    }
    Nonce::assume_unique_for_key(nonce)
}
