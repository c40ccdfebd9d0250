//! Public keys, as SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use super::{KeyError, KeyType, SignatureAlgorithm};
use crate::der::{self, Reader};

/// Content of OID 1.2.840.10045.2.1, id-ecPublicKey (RFC 5480).
pub(super) const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Content of OID 1.2.840.10045.3.1.7, P-256.
pub(super) const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Content of OID 1.3.132.0.34, P-384.
pub(super) const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// Content of OID 1.3.132.0.35, P-521.
pub(super) const OID_P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
/// Content of OID 1.2.840.113549.1.1.1, rsaEncryption (RFC 8017).
pub(super) const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// Content of OID 1.3.101.112, Ed25519 (RFC 8410).
pub(super) const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Least bits of an RSA modulus (RFC 7518 sections 3.3 and 3.5, F5).
pub(crate) const RSA_LEAST_BITS: usize = 2048;
/// Most bits of an RSA modulus that a foreign authority may have: what the crypto library verifies. Keys that we
/// certify have a tighter limit (ATK-05).
const RSA_MOST_BITS: usize = 8192;
/// Most bytes of an RSA public exponent: the crypto library takes 33 bits.
const RSA_EXPONENT_BYTES: usize = 5;

/// What kind of key a public key is. More kinds than [`KeyType`]: foreign keys may be of any that the standards name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicKeyKind {
    /// ECDSA on P-256.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
    /// ECDSA on P-521; foreign token keys only (ES512).
    EcP521,
    /// RSA with a modulus of so many bits, 2048 to 8192.
    Rsa {
        /// Bits of the modulus.
        bits: u16,
    },
    /// Ed25519.
    Ed25519,
}

/// A public key: its DER form, and where in it the key bits lie. Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    kind: PublicKeyKind,
    spki: Arc<[u8]>,
    /// Length of what precedes the content of the BIT STRING.
    prefix: u8,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    ///
    /// The shape is checked before any arithmetic, and so is the size of the key; that a point lies on its curve is
    /// checked when it is used.
    ///
    /// # Errors
    /// When it is not DER of that shape, when bytes are left over, or when the key is of a kind or size outside
    /// [`PublicKeyKind`]. Points in compressed form are refused.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let shape = || KeyError::NotSubjectPublicKeyInfo;
        let mut outer = Reader::new(spki);
        let mut fields = outer.enter(der::SEQUENCE).ok_or_else(shape)?;
        let mut algorithm = fields.enter(der::SEQUENCE).ok_or_else(shape)?;
        let bits = fields.read_bit_string().ok_or_else(shape)?;
        if !outer.is_done() || !fields.is_done() {
            return Err(shape());
        }
        let kind = match algorithm.read(der::OBJECT_IDENTIFIER).ok_or_else(shape)? {
            OID_EC => {
                let (kind, length) = match algorithm.read(der::OBJECT_IDENTIFIER).ok_or_else(shape)? {
                    OID_P256 => (PublicKeyKind::EcP256, 65),
                    OID_P384 => (PublicKeyKind::EcP384, 97),
                    OID_P521 => (PublicKeyKind::EcP521, 133),
                    _ => return Err(KeyError::UnsupportedAlgorithm),
                };
                if bits.len() != length || bits.first() != Some(&0x04) {
                    return Err(shape());
                }
                kind
            }
            OID_RSA => {
                if algorithm.read(der::NULL) != Some(&[]) {
                    return Err(shape());
                }
                let (modulus, exponent) = rsa_parts(bits).ok_or_else(shape)?;
                PublicKeyKind::Rsa { bits: check_rsa_size(modulus, exponent)? }
            }
            OID_ED25519 if bits.len() == 32 => PublicKeyKind::Ed25519,
            OID_ED25519 => return Err(shape()),
            _ => return Err(KeyError::UnsupportedAlgorithm),
        };
        if !algorithm.is_done() {
            return Err(shape());
        }
        let prefix = u8::try_from(spki.len().saturating_sub(bits.len())).map_err(|_| shape())?;
        Ok(Self { kind, spki: spki.into(), prefix })
    }

    /// Joins a curve and an uncompressed point (`04 x y`).
    pub(crate) fn from_ec_point(curve: PublicKeyKind, point: &[u8]) -> Result<Self, KeyError> {
        let oid = match curve {
            PublicKeyKind::EcP256 => OID_P256,
            PublicKeyKind::EcP384 => OID_P384,
            PublicKeyKind::EcP521 => OID_P521,
            PublicKeyKind::Rsa { .. } | PublicKeyKind::Ed25519 => {
                return Err(KeyError::UnsupportedAlgorithm);
            }
        };
        let curve = der::element(der::OBJECT_IDENTIFIER, oid);
        Self::from_spki_der(&spki(OID_EC, &curve, point))
    }

    /// Joins the modulus and the exponent of an RSA key, both big-endian.
    pub(crate) fn from_rsa_parts(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let mut parts = Vec::new();
        der::write_unsigned(&mut parts, modulus);
        der::write_unsigned(&mut parts, exponent);
        Self::from_rsa_bits(&der::element(der::SEQUENCE, &parts))
    }

    /// Takes an RSAPublicKey (RFC 8017 appendix A.1.1).
    pub(super) fn from_rsa_bits(bits: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki_der(&spki(OID_RSA, &[der::NULL, 0], bits))
    }

    /// Takes the 32 bytes of an Ed25519 key.
    pub(crate) fn from_ed25519_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        Self::from_spki_der(&spki(OID_ED25519, &[], bytes))
    }

    /// What kind of key this is.
    #[must_use]
    pub const fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// The type of key pair of ours that has such a public key, if there is one.
    #[must_use]
    pub const fn key_type(&self) -> Option<KeyType> {
        match self.kind {
            PublicKeyKind::EcP256 => Some(KeyType::EcP256),
            PublicKeyKind::EcP384 => Some(KeyType::EcP384),
            PublicKeyKind::Rsa { bits: 2048 } => Some(KeyType::Rsa2048),
            PublicKeyKind::Rsa { bits: 4096 } => Some(KeyType::Rsa4096),
            PublicKeyKind::Ed25519 => Some(KeyType::Ed25519),
            PublicKeyKind::Rsa { .. } | PublicKeyKind::EcP521 => None,
        }
    }

    /// The SubjectPublicKeyInfo in DER (PKIX).
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The content of the BIT STRING: the uncompressed point, the RSAPublicKey, or the 32 bytes of Ed25519.
    #[must_use]
    pub fn key_bits(&self) -> &[u8] {
        self.spki.get(usize::from(self.prefix)..).unwrap_or_default()
    }

    /// The subject key identifier: the first 20 bytes of SHA-256 over the key bits (RFC 7093 section 2, method 1).
    #[must_use]
    pub fn subject_key_id(&self) -> [u8; 20] {
        let digest = digest(&SHA256, self.key_bits());
        digest.as_ref().first_chunk::<20>().copied().unwrap_or_default()
    }

    /// Checks a signature that [`PrivateKey::sign`](super::PrivateKey::sign) made.
    ///
    /// # Errors
    /// When the signature does not fit.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        SignatureAlgorithm::of_kind(self.kind).verify(self, message, signature)
    }

    /// Modulus and exponent of an RSA key, without leading zeros.
    pub(crate) fn rsa_parts(&self) -> Option<(&[u8], &[u8])> {
        match self.kind {
            PublicKeyKind::Rsa { .. } => rsa_parts(self.key_bits()),
            PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::EcP521 | PublicKeyKind::Ed25519 => None,
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({:?}, {})", self.kind, crate::hex::encode(&self.subject_key_id()))
    }
}

fn spki(algorithm: &[u8], parameters: &[u8], bits: &[u8]) -> Vec<u8> {
    let algorithm = der::element(der::OBJECT_IDENTIFIER, algorithm);
    let identifier = der::nested(der::SEQUENCE, &[&algorithm, parameters]);
    der::nested(der::SEQUENCE, &[&identifier, &der::nested(der::BIT_STRING, &[&[0], bits])])
}

fn rsa_parts(bits: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Reader::new(bits);
    let mut fields = outer.enter(der::SEQUENCE)?;
    let modulus = fields.read_unsigned()?;
    let exponent = fields.read_unsigned()?;
    (outer.is_done() && fields.is_done()).then_some((modulus, exponent))
}

fn check_rsa_size(modulus: &[u8], exponent: &[u8]) -> Result<u16, KeyError> {
    let unused = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = modulus.len().saturating_mul(8).saturating_sub(unused);
    let odd = |digits: &[u8]| digits.last().is_some_and(|digit| digit & 1 == 1);
    let fits = (RSA_LEAST_BITS..=RSA_MOST_BITS).contains(&bits)
        && exponent.len() <= RSA_EXPONENT_BYTES
        && exponent != [1]
        && odd(exponent)
        && odd(modulus);
    match u16::try_from(bits) {
        Ok(bits) if fits => Ok(bits),
        _ => Err(KeyError::RsaSize { bits }),
    }
}
