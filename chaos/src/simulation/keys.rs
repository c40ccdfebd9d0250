//! Keys from a fixed list that sign deterministically, and sealing that is none (design, section 7).
//!
//! Whatever is random in a signature would change the bytes that nodes send each other, and with ECDSA their number too. So
//! authorities sign with RSA keys from a list, leaves with Ed25519 keys made of the seed. Nothing here keeps a secret.

use super::chance;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quorate_actors::keys::{CustodyError, CustodyFuture, KeyCustody, SealContext, SealedPart};
use quorate_actors::sources::{KeySource, KeySourceError};
use quorate_proto_identity::{KeyType, PrivateKey, PublicKey};
use quorate_raft_machine::Recipient;
use rand::RngCore;
use std::sync::{Arc, Mutex, PoisonError};

/// The keys of authorities, a base64 PKCS#8 document a line.
const RSA_KEYS: &str = include_str!("rsa_keys.txt");

/// What stands before the 32 bytes of an Ed25519 private key in PKCS#8 (RFC 8410, section 7).
const ED25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// How the stand-in says that it seals; no number of a real one.
const SUITE: u32 = 1_000_000;

/// The key of this name in the run of this seed.
pub(crate) fn ed25519(seed: u64, name: &str, first: u64, second: u64) -> Option<PrivateKey> {
    let mut document = ED25519_PREFIX.to_vec();
    let mut secret = [0; 32];
    chance::stream(seed, name, first, second).fill_bytes(&mut secret);
    document.extend_from_slice(&secret);
    PrivateKey::from_pkcs8(&document).ok()
}

/// The list, shared by all nodes of a run: each key is handed out once.
#[derive(Clone)]
pub(crate) struct ListedKeys {
    seed: u64,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    rsa: usize,
    leaves: u64,
}

impl ListedKeys {
    /// The whole list.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, taken: Arc::default() }
    }
}

impl KeySource for ListedKeys {
    fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeySourceError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match kind {
            KeyType::Rsa2048 => {
                let line = RSA_KEYS.lines().filter(|line| !line.starts_with('#')).nth(taken.rsa);
                taken.rsa += 1;
                let document = line.and_then(|line| STANDARD.decode(line).ok());
                document.and_then(|document| PrivateKey::from_pkcs8(&document).ok())
            }
            KeyType::Ed25519 => {
                taken.leaves += 1;
                ed25519(self.seed, "leaf", taken.leaves, 0)
            }
            KeyType::EcP256 | KeyType::EcP384 | KeyType::Rsa4096 => None,
        };
        made.ok_or(KeySourceError { kind })
    }
}

/// The keys of a simulated node. Sealing writes down for whom, and opening looks whether it was for this node.
pub(crate) struct StandIn {
    identity: PrivateKey,
    sealing: Bytes,
}

impl StandIn {
    /// The keys of this node; they outlive its boots, as files do.
    pub(crate) fn new(seed: u64, node: usize) -> Option<Self> {
        let identity = ed25519(seed, "identity", node as u64, 0)?;
        Some(Self { identity, sealing: Bytes::from(format!("the sealing key of node {node:02}")) })
    }

    /// The identity key as peers know it: subjectPublicKeyInfo, DER.
    pub(crate) fn identity_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.identity.public_key().spki_der())
    }
}

impl KeyCustody for StandIn {
    fn identity_public_key(&self) -> &PublicKey {
        self.identity.public_key()
    }

    fn sealing_public_key(&self) -> &[u8] {
        &self.sealing
    }

    fn suite(&self) -> u32 {
        SUITE
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> CustodyFuture<'a, Vec<u8>> {
        Box::pin(async { self.identity.sign(message).map_err(|_refused| CustodyError::Sign) })
    }

    fn seal(&self, context: &SealContext, secret: &[u8], recipient: &[u8]) -> Result<SealedPart, CustodyError> {
        Ok(SealedPart {
            encapsulated_key: bound_to(context, recipient).into(),
            ciphertext: Bytes::copy_from_slice(secret),
        })
    }

    fn open<'a>(
        &'a self,
        suite: u32,
        context: &'a SealContext,
        part: &'a SealedPart,
    ) -> CustodyFuture<'a, zeroize::Zeroizing<Vec<u8>>> {
        Box::pin(async move {
            if suite != SUITE {
                return Err(CustodyError::UnknownSuite { suite, known: SUITE });
            }
            if part.encapsulated_key != bound_to(context, &self.sealing) {
                return Err(CustodyError::DoesNotOpen { item: context.item.to_string() });
            }
            Ok(part.ciphertext.to_vec().into())
        })
    }
}

/// What a part sealed in this context for this key has in place of an encapsulated key.
fn bound_to(context: &SealContext, key: &[u8]) -> Vec<u8> {
    let recipient = match &context.recipient {
        Recipient::Member(number) => number.get(),
        Recipient::RecoveryKey(_) => 0,
    };
    let mut bytes = key.to_vec();
    bytes.extend_from_slice(&recipient.to_be_bytes());
    let (kind, name) = context.item.parts();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listed_key_can_be_used_and_is_handed_out_once() {
        let keys = ListedKeys::new(1);
        let mut seen = std::collections::BTreeSet::new();
        while let Ok(key) = keys.generate(KeyType::Rsa2048) {
            assert!(seen.insert(key.public_key().spki_der().to_vec()));
        }
        assert_eq!(seen.len(), 64);
    }

    #[test]
    fn a_leaf_key_comes_of_the_seed_alone() {
        let made = |seed| ListedKeys::new(seed).generate(KeyType::Ed25519).unwrap().pkcs8().to_vec();
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
    }
}
