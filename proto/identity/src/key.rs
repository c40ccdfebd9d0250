//! Key pairs: types, generation, PKCS#8 in and out, signatures.

mod private;
mod public;
mod signature_algorithm;

use std::fmt;
use std::str::FromStr;

pub use private::PrivateKey;
pub use public::{PublicKey, PublicKeyKind};
pub(crate) use signature_algorithm::SignatureAlgorithm;

/// The types of key pair that we make.
///
/// Ed25519 is for X.509 leaves only: no JWT-SVID algorithm uses it (JWT-05), and few validators take it from an
/// authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum KeyType {
    /// ECDSA on P-256: the default everywhere.
    #[default]
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// RSA with a modulus of 2048 bits.
    Rsa2048,
    /// RSA with a modulus of 4096 bits.
    Rsa4096,
    /// Ed25519.
    Ed25519,
}

impl KeyType {
    /// All of them, in the order of their names' first use in configuration.
    pub const ALL: [Self; 5] = [Self::EcP256, Self::EcP384, Self::Rsa2048, Self::Rsa4096, Self::Ed25519];

    /// The name in configuration and policy, for example `ec-p256`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Whether an authority (root, issuing or JWT key) may have this type.
    #[must_use]
    pub const fn is_for_authorities(self) -> bool {
        match self {
            Self::EcP256 | Self::EcP384 | Self::Rsa2048 | Self::Rsa4096 => true,
            Self::Ed25519 => false,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.as_str() == text)
            .ok_or_else(|| UnknownKeyType { text: text.to_owned() })
    }
}

/// The text names no key type that we make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown key type {text:?}, known are ec-p256, ec-p384, rsa-2048, rsa-4096 and ed25519")]
pub struct UnknownKeyType {
    /// What was given.
    pub text: String,
}

/// Why a key could not be made, read or used. No variant carries a byte of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The crypto library could not make a key pair; it has no more to say.
    #[error("making a key of type {0} failed")]
    Generate(KeyType),
    /// The bytes are not a PKCS#8 private key in DER.
    #[error("not a PKCS#8 private key in DER")]
    NotPkcs8,
    /// The bytes are not a SubjectPublicKeyInfo in DER, of the one encoding that RFC 5480, RFC 8017 or RFC 8410 gives
    /// to such a key.
    #[error("not a SubjectPublicKeyInfo in DER")]
    NotSubjectPublicKeyInfo,
    /// A key algorithm or curve outside our list: P-224, secp256k1, DSA and the like (ATK-05).
    #[error("the key's algorithm or curve is not one of P-256, P-384, P-521, RSA and Ed25519")]
    UnsupportedAlgorithm,
    /// An RSA modulus or exponent outside the accepted range (ATK-05).
    #[error("an RSA key of {bits} bits, or its exponent, is outside what is accepted")]
    RsaSize {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The parts of the key contradict each other.
    #[error("the key is inconsistent")]
    Inconsistent,
    /// The crypto library could not sign; it has no more to say.
    #[error("signing failed")]
    Sign,
    /// The signature does not fit message and key, or its algorithm does not fit the key.
    #[error("the signature does not verify")]
    Verify,
}
