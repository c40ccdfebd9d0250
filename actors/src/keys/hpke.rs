//! Sealing by HPKE (RFC 9180, base mode): X25519, HKDF-SHA256, AES-256-GCM, from the one crypto provider.

use aws_lc_rs::agreement::{PrivateKey as AgreementKey, X25519};
use bytes::Bytes;
use rustls::crypto::{
    aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256,
    hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey},
};
use zeroize::Zeroizing;

use super::{CustodyError, SealContext, SealedPart};

/// The number of this way of sealing in what is stored.
pub const SUITE_X25519_SHA256_AES256: u32 = 1;

/// Bytes of an X25519 key, private and public alike.
const KEY_BYTES: usize = 32;

/// What stands before the 32 bytes of an X25519 private key in PKCS#8 (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20];

/// A node's key pair for sealing. The private half is wiped when it is dropped, and has no `Debug`.
pub(super) struct SealingKey {
    private: HpkePrivateKey,
    public: Bytes,
}

impl SealingKey {
    /// Makes a key pair; nothing when the provider cannot.
    pub(super) fn generate() -> Option<Self> {
        let (_, private) = DH_KEM_X25519_HKDF_SHA256_AES_256.generate_key_pair().ok()?;
        Self::from_private(private)
    }

    /// Reads PKCS#8, as [`SealingKey::pkcs8`] and `openssl genpkey -algorithm X25519` write it.
    pub(super) fn from_pkcs8(document: &[u8]) -> Option<Self> {
        let private = document.strip_prefix(&PKCS8_PREFIX)?;
        if private.len() != KEY_BYTES {
            return None;
        }
        Self::from_private(HpkePrivateKey::from(private.to_vec()))
    }

    /// The private half as PKCS#8.
    pub(super) fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        let mut document = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len().saturating_add(KEY_BYTES)));
        document.extend_from_slice(&PKCS8_PREFIX);
        document.extend_from_slice(self.private.secret_bytes());
        document
    }

    /// The public half.
    pub(super) fn public(&self) -> &Bytes {
        &self.public
    }

    fn from_private(private: HpkePrivateKey) -> Option<Self> {
        let agreement = AgreementKey::from_private_key(&X25519, private.secret_bytes()).ok()?;
        let public = Bytes::copy_from_slice(agreement.compute_public_key().ok()?.as_ref());
        Some(Self { private, public })
    }

    /// Opens what was sealed to this key.
    pub(super) fn open(
        &self,
        suite: u32,
        context: &SealContext,
        part: &SealedPart,
    ) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        if suite != SUITE_X25519_SHA256_AES256 {
            return Err(CustodyError::UnknownSuite { suite, known: SUITE_X25519_SHA256_AES256 });
        }
        self.open_bytes(&context.info(), &context.aad(), part)
            .ok_or_else(|| CustodyError::DoesNotOpen { item: context.item.to_string() })
    }

    /// Opens what was sealed to this key under these bindings. Why it does not open is not told apart on purpose.
    pub(super) fn open_bytes(&self, info: &[u8], aad: &[u8], part: &SealedPart) -> Option<Zeroizing<Vec<u8>>> {
        let encapsulated = EncapsulatedSecret(part.encapsulated_key.to_vec());
        let suite = DH_KEM_X25519_HKDF_SHA256_AES_256;
        suite.open(&encapsulated, info, aad, &part.ciphertext, &self.private).ok().map(Zeroizing::new)
    }
}

/// Seals an authority's key to a public key.
pub(super) fn seal(context: &SealContext, secret: &[u8], recipient: &[u8]) -> Result<SealedPart, CustodyError> {
    seal_bytes(&context.info(), &context.aad(), secret, recipient)
        .ok_or_else(|| CustodyError::RecipientKey { recipient: context.recipient.to_string() })
}

/// Seals bytes to a public key under these bindings; nothing when it is no usable key.
pub(super) fn seal_bytes(info: &[u8], aad: &[u8], secret: &[u8], recipient: &[u8]) -> Option<SealedPart> {
    if recipient.len() != KEY_BYTES {
        return None;
    }
    let public = HpkePublicKey(recipient.to_vec());
    let (encapsulated, ciphertext) = DH_KEM_X25519_HKDF_SHA256_AES_256.seal(info, aad, secret, &public).ok()?;
    Some(SealedPart { encapsulated_key: encapsulated.0.into(), ciphertext: ciphertext.into() })
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::ids::{AuthorityId, ClusterId, MemberNumber};
    use quorate_raft_machine::SecretName;
    use quorate_raft_machine::authority::{AuthorityKind, Recipient};

    use super::super::SealedItem;
    use super::*;

    fn context() -> SealContext {
        of(AuthorityKind::X509, "0a0b")
    }

    fn of(kind: AuthorityKind, id: &str) -> SealContext {
        let recipient = Recipient::Member(MemberNumber::new(1).unwrap());
        SealContext::of_authority(ClusterId::new([7; 16]), kind, AuthorityId::new(id).unwrap(), recipient)
    }

    #[test]
    fn what_is_sealed_opens_for_its_recipient_in_its_context_and_nowhere_else() {
        let (key, other) = (SealingKey::generate().unwrap(), SealingKey::generate().unwrap());
        let part = seal(&context(), b"secret", key.public()).unwrap();
        assert!(!part.ciphertext.windows(6).any(|window| window == b"secret"));
        let suite = SUITE_X25519_SHA256_AES256;
        assert_eq!(key.open(suite, &context(), &part).unwrap().as_slice(), b"secret");

        let closed = Err(CustodyError::DoesNotOpen { item: "authority 0a0b".into() });
        assert_eq!(other.open(suite, &context(), &part), closed);
        let elsewhere = [
            SealContext { cluster: ClusterId::new([8; 16]), ..context() },
            of(AuthorityKind::Jwt, "0a0b"),
            SealContext { recipient: Recipient::Member(MemberNumber::new(2).unwrap()), ..context() },
            SealContext { recipient: Recipient::RecoveryKey("1".into()), ..context() },
        ];
        for context in elsewhere {
            assert_eq!(key.open(suite, &context, &part), closed, "{context:?}");
        }
        assert!(key.open(suite, &of(AuthorityKind::X509, "0a0c"), &part).is_err());
        let secret = SecretName::new("0a0b").unwrap();
        let secret = SealContext { item: SealedItem::Secret(secret), ..context() };
        assert!(key.open(suite, &secret, &part).is_err(), "a secret of the same name");
        let mut changed = part.ciphertext.to_vec();
        changed[0] ^= 1;
        let changed = SealedPart { ciphertext: changed.into(), ..part.clone() };
        assert_eq!(key.open(suite, &context(), &changed), closed);
        assert_eq!(key.open(2, &context(), &part), Err(CustodyError::UnknownSuite { suite: 2, known: 1 }));
    }

    #[test]
    fn a_key_reads_back_from_its_document() {
        let key = SealingKey::generate().unwrap();
        let again = SealingKey::from_pkcs8(&key.pkcs8()).unwrap();
        assert_eq!(key.public(), again.public());
        assert!(SealingKey::from_pkcs8(b"").is_none());
        assert!(SealingKey::from_pkcs8(&key.pkcs8()[..40]).is_none());
    }

    #[test]
    fn nothing_is_sealed_to_what_is_no_key() {
        assert!(matches!(seal(&context(), b"secret", b"short"), Err(CustodyError::RecipientKey { .. })));
        // A point of small order gives a shared secret that everybody knows.
        assert!(matches!(seal(&context(), b"secret", &[0; 32]), Err(CustodyError::RecipientKey { .. })));
    }
}
