//! Our keys as rcgen sees them.

use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};

use crate::key::{PrivateKey, PublicKey, PublicKeyKind};

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.key_bits()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.kind() {
            PublicKeyKind::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            PublicKeyKind::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            PublicKeyKind::EcP521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            PublicKeyKind::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
            PublicKeyKind::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.public_key().key_bits()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public_key().algorithm()
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        // The library's error carries no more than this one.
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
