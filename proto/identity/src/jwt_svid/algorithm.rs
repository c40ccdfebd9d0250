//! The nine signature algorithms of JWT-SVIDs (JWT-05, F5).

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::key::{PublicKey, PublicKeyKind};

/// A signature algorithm that a JWT-SVID may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwsAlgorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
}

impl JwsAlgorithm {
    /// The algorithm of this name, compared byte for byte (JWT-06).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            _ => return None,
        })
    }

    /// The name in the header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// The one that we sign with a key of this kind; none for a kind that no JWT-SVID is signed with.
    #[must_use]
    pub const fn signed_by(kind: PublicKeyKind) -> Option<Self> {
        match kind {
            PublicKeyKind::EcP256 => Some(Self::Es256),
            PublicKeyKind::EcP384 => Some(Self::Es384),
            PublicKeyKind::EcP521 => Some(Self::Es512),
            PublicKeyKind::Rsa { .. } => Some(Self::Rs256),
            PublicKeyKind::Ed25519 => None,
        }
    }

    /// Whether a key of this kind can have made such a signature: the key says which algorithms are allowed, never the
    /// header (ATK-29).
    #[must_use]
    pub const fn fits(self, kind: PublicKeyKind) -> bool {
        match kind {
            PublicKeyKind::EcP256 => matches!(self, Self::Es256),
            PublicKeyKind::EcP384 => matches!(self, Self::Es384),
            PublicKeyKind::EcP521 => matches!(self, Self::Es512),
            PublicKeyKind::Rsa { .. } => !matches!(self, Self::Es256 | Self::Es384 | Self::Es512),
            PublicKeyKind::Ed25519 => false,
        }
    }

    /// Whether `signature`, in base64url, is this key's over `message`.
    pub(crate) fn verify(self, key: &PublicKey, message: &str, signature: &str) -> bool {
        if !self.fits(key.kind()) {
            return false;
        }
        let algorithm = match self {
            Self::Rs256 => Algorithm::RS256,
            Self::Rs384 => Algorithm::RS384,
            Self::Rs512 => Algorithm::RS512,
            Self::Es256 => Algorithm::ES256,
            Self::Es384 => Algorithm::ES384,
            Self::Ps256 => Algorithm::PS256,
            Self::Ps384 => Algorithm::PS384,
            Self::Ps512 => Algorithm::PS512,
            Self::Es512 => return verify_es512(key, message, signature),
        };
        let decoding_key = match key.kind() {
            PublicKeyKind::Rsa { .. } => DecodingKey::from_rsa_der(key.key_bits()),
            PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::EcP521 | PublicKeyKind::Ed25519 => {
                DecodingKey::from_ec_der(key.key_bits())
            }
        };
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &decoding_key, algorithm).unwrap_or(false)
    }
}

/// The JWT library knows no P-521.
fn verify_es512(key: &PublicKey, message: &str, signature: &str) -> bool {
    URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| {
        UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, key.key_bits()).verify(message.as_bytes(), &signature).is_ok()
    })
}
