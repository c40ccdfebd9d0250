//! The signature algorithms of X.509 documents: names in DER, and which key verifies them how.

use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};

use super::{KeyError, PublicKey, PublicKeyKind};

/// A signature algorithm that we accept on requests and CRLs. There is no SHA-1 and no MD5 in it, so nothing signed
/// with them verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureAlgorithm {
    EcdsaSha256,
    EcdsaSha384,
    EcdsaSha512,
    RsaSha256,
    RsaSha384,
    RsaSha512,
    Ed25519,
}

impl SignatureAlgorithm {
    const ALL: [Self; 7] = [
        Self::EcdsaSha256,
        Self::EcdsaSha384,
        Self::EcdsaSha512,
        Self::RsaSha256,
        Self::RsaSha384,
        Self::RsaSha512,
        Self::Ed25519,
    ];

    /// The algorithm that a key of this kind signs with.
    pub(crate) const fn of_kind(kind: PublicKeyKind) -> Self {
        match kind {
            PublicKeyKind::EcP256 => Self::EcdsaSha256,
            PublicKeyKind::EcP384 => Self::EcdsaSha384,
            PublicKeyKind::EcP521 => Self::EcdsaSha512,
            PublicKeyKind::Rsa { .. } => Self::RsaSha256,
            PublicKeyKind::Ed25519 => Self::Ed25519,
        }
    }

    /// The AlgorithmIdentifier in DER (RFC 5758, RFC 4055, RFC 8410).
    pub(crate) const fn identifier(self) -> &'static [u8] {
        match self {
            Self::EcdsaSha256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Self::EcdsaSha384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Self::EcdsaSha512 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4],
            Self::RsaSha256 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0],
            Self::RsaSha384 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0],
            Self::RsaSha512 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0],
            Self::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        }
    }

    /// The algorithm with this AlgorithmIdentifier.
    pub(crate) fn from_identifier(identifier: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.identifier() == identifier)
    }

    /// Verifies, if the algorithm fits the key.
    pub(crate) fn verify(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        use PublicKeyKind::{EcP256, EcP384, EcP521, Ed25519, Rsa};
        let algorithm: &'static dyn VerificationAlgorithm = match (self, key.kind()) {
            (Self::EcdsaSha256, EcP256) => &ECDSA_P256_SHA256_ASN1,
            (Self::EcdsaSha384, EcP256) => &ECDSA_P256_SHA384_ASN1,
            (Self::EcdsaSha256, EcP384) => &ECDSA_P384_SHA256_ASN1,
            (Self::EcdsaSha384, EcP384) => &ECDSA_P384_SHA384_ASN1,
            (Self::EcdsaSha256, EcP521) => &ECDSA_P521_SHA256_ASN1,
            (Self::EcdsaSha384, EcP521) => &ECDSA_P521_SHA384_ASN1,
            (Self::EcdsaSha512, EcP521) => &ECDSA_P521_SHA512_ASN1,
            (Self::RsaSha256, Rsa { .. }) => &RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaSha384, Rsa { .. }) => &RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaSha512, Rsa { .. }) => &RSA_PKCS1_2048_8192_SHA512,
            (Self::Ed25519, Ed25519) => &signature::ED25519,
            _ => return Err(KeyError::Verify),
        };
        UnparsedPublicKey::new(algorithm, key.key_bits()).verify(message, signature).map_err(|_| KeyError::Verify)
    }
}
