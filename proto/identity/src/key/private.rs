//! Private keys: made or read once, then used; wiped when dropped, never printed.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256,
};
use zeroize::Zeroizing;

use super::public::{OID_EC, OID_ED25519, OID_P256, OID_P384, OID_RSA};
use super::{KeyError, KeyType, PublicKey, PublicKeyKind, SignatureAlgorithm};
use crate::der::{self, Reader};

/// Longest PKCS#8 document that is read, in bytes: an RSA-4096 key takes 2,400.
const PKCS8_LIMIT: usize = 8 * 1024;

/// A private key with its public half.
///
/// Clones share one copy of the secret, which is wiped when the last of them goes. `Debug` shows the public half only.
#[derive(Clone)]
pub struct PrivateKey {
    inner: Arc<Inner>,
}

struct Inner {
    key_type: KeyType,
    signer: Signer,
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Signer {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Makes a key pair.
    ///
    /// For the curves of ECDSA the PKCS#8 form is assembled from the parts of the fresh key pair; exporting and reading
    /// it again would cost as much as making the key.
    ///
    /// # Errors
    /// When the crypto library fails, which it does when the machine has no randomness to give.
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Generate(key_type);
        match key_type {
            KeyType::EcP256 => Self::generate_ecdsa(key_type, &ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyType::EcP384 => Self::generate_ecdsa(key_type, &ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyType::Rsa2048 => Self::from_rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?),
            KeyType::Rsa4096 => Self::from_rsa(RsaKeyPair::generate(KeySize::Rsa4096).map_err(failed)?),
            KeyType::Ed25519 => {
                let pair = Ed25519KeyPair::generate().map_err(failed)?;
                // Version 1 (RFC 8410 section 7): every reader of PKCS#8 takes it.
                let document = pair.to_pkcs8v1().map_err(failed)?;
                Self::from_ed25519(pair, document.as_ref())
            }
        }
    }

    /// Reads an unencrypted PKCS#8 document in DER.
    ///
    /// # Errors
    /// When it is not one, when its key is not of a [`KeyType`], or when its parts contradict each other.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        match pkcs8_key_type(document)? {
            Pkcs8Key::Ecdsa(key_type, algorithm) => {
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, document).map_err(|_| KeyError::Inconsistent)?;
                Self::from_ecdsa(key_type, pair)
            }
            Pkcs8Key::Rsa => Self::from_rsa(RsaKeyPair::from_pkcs8(document).map_err(|_| KeyError::Inconsistent)?),
            Pkcs8Key::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(document)
                    .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(document))
                    .map_err(|_| KeyError::Inconsistent)?;
                Self::from_ed25519(pair, document)
            }
        }
    }

    /// The type of the key pair.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.inner.key_type
    }

    /// The unencrypted PKCS#8 document in DER (WAPI-19). The caller keeps it as secret as the key.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        &self.inner.pkcs8
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.inner.public
    }

    /// Signs as X.509 documents are signed: ECDSA with SHA-256 on P-256 and SHA-384 on P-384, both in ASN.1 form; RSA
    /// PKCS #1 with SHA-256; Ed25519.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &self.inner.signer {
            Signer::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(|_| KeyError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(|_| KeyError::Sign)?;
                Ok(signature)
            }
            Signer::Ed25519(pair) => Ok(pair.try_sign(message).map_err(|_| KeyError::Sign)?.as_ref().to_vec()),
        }
    }

    /// The algorithm of [`PrivateKey::sign`].
    pub(crate) fn signature_algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::of_kind(self.inner.public.kind())
    }

    /// A key pair that signs in the fixed form of JOSE, `r` then `s` (F5); for ECDSA keys only.
    pub(crate) fn fixed_form_ecdsa(&self) -> Result<Option<EcdsaKeyPair>, KeyError> {
        let algorithm = match self.inner.key_type {
            KeyType::EcP256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            KeyType::EcP384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            KeyType::Rsa2048 | KeyType::Rsa4096 | KeyType::Ed25519 => return Ok(None),
        };
        EcdsaKeyPair::from_pkcs8(algorithm, &self.inner.pkcs8).map(Some).map_err(|_| KeyError::Inconsistent)
    }

    fn generate_ecdsa(key_type: KeyType, algorithm: &'static EcdsaSigningAlgorithm) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| KeyError::Generate(key_type))?;
        Self::from_ecdsa(key_type, pair)
    }

    fn from_ecdsa(key_type: KeyType, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let (kind, curve) = match key_type {
            KeyType::EcP256 => (PublicKeyKind::EcP256, OID_P256),
            KeyType::EcP384 => (PublicKeyKind::EcP384, OID_P384),
            KeyType::Rsa2048 | KeyType::Rsa4096 | KeyType::Ed25519 => {
                return Err(KeyError::UnsupportedAlgorithm);
            }
        };
        let point = pair.public_key().as_ref();
        let public = PublicKey::from_ec_point(kind, point)?;
        let scalar = pair.private_key().as_be_bytes().map_err(|_| KeyError::Inconsistent)?;
        let pkcs8 = ecdsa_pkcs8(curve, scalar.as_ref(), point);
        Ok(Self::new(key_type, Signer::Ecdsa(pair), pkcs8, public))
    }

    fn from_rsa(pair: RsaKeyPair) -> Result<Self, KeyError> {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        let public = PublicKey::from_rsa_bits(pair.public_key().as_ref())?;
        let key_type = match public.kind() {
            PublicKeyKind::Rsa { bits: 2048 } => KeyType::Rsa2048,
            PublicKeyKind::Rsa { bits: 4096 } => KeyType::Rsa4096,
            PublicKeyKind::Rsa { bits } => return Err(KeyError::RsaSize { bits: bits.into() }),
            PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::EcP521 | PublicKeyKind::Ed25519 => {
                return Err(KeyError::Inconsistent);
            }
        };
        let document: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyError::Inconsistent)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok(Self::new(key_type, Signer::Rsa(pair), pkcs8, public))
    }

    fn from_ed25519(pair: Ed25519KeyPair, document: &[u8]) -> Result<Self, KeyError> {
        let public = PublicKey::from_ed25519_bytes(pair.public_key().as_ref())?;
        let pkcs8 = Zeroizing::new(document.to_vec());
        Ok(Self::new(KeyType::Ed25519, Signer::Ed25519(pair), pkcs8, public))
    }

    fn new(key_type: KeyType, signer: Signer, pkcs8: Zeroizing<Vec<u8>>, public: PublicKey) -> Self {
        Self { inner: Arc::new(Inner { key_type, signer, pkcs8, public }) }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey(secret of {:?})", self.inner.public)
    }
}

enum Pkcs8Key {
    Ecdsa(KeyType, &'static EcdsaSigningAlgorithm),
    Rsa,
    Ed25519,
}

/// Reads which key a PKCS#8 document holds, before anything is computed with it.
fn pkcs8_key_type(document: &[u8]) -> Result<Pkcs8Key, KeyError> {
    let shape = || KeyError::NotPkcs8;
    if document.len() > PKCS8_LIMIT {
        return Err(shape());
    }
    let mut outer = Reader::new(document);
    let mut fields = outer.enter(der::SEQUENCE).ok_or_else(shape)?;
    if !outer.is_done() {
        return Err(shape());
    }
    fields.read_unsigned().ok_or_else(shape)?;
    let mut algorithm = fields.enter(der::SEQUENCE).ok_or_else(shape)?;
    fields.read(der::OCTET_STRING).ok_or_else(shape)?;
    match algorithm.read(der::OBJECT_IDENTIFIER).ok_or_else(shape)? {
        OID_EC => match algorithm.read(der::OBJECT_IDENTIFIER).ok_or_else(shape)? {
            OID_P256 => Ok(Pkcs8Key::Ecdsa(KeyType::EcP256, &ECDSA_P256_SHA256_ASN1_SIGNING)),
            OID_P384 => Ok(Pkcs8Key::Ecdsa(KeyType::EcP384, &ECDSA_P384_SHA384_ASN1_SIGNING)),
            _ => Err(KeyError::UnsupportedAlgorithm),
        },
        OID_RSA => Ok(Pkcs8Key::Rsa),
        OID_ED25519 => Ok(Pkcs8Key::Ed25519),
        _ => Err(KeyError::UnsupportedAlgorithm),
    }
}

/// A PKCS#8 version 1 document over an RFC 5915 private key with its public point, byte for byte what the crypto
/// library would export.
fn ecdsa_pkcs8(curve: &[u8], scalar: &[u8], point: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = |content: usize| der::header_length(content).saturating_add(content);
    let algorithm_content = length(OID_EC.len()).saturating_add(length(curve.len()));
    let bit_string = point.len().saturating_add(1);
    let inner_content = 3usize.saturating_add(length(scalar.len())).saturating_add(length(length(bit_string)));
    let content = 3usize.saturating_add(length(algorithm_content)).saturating_add(length(length(inner_content)));
    // Sized exactly: a vector that grows would leave copies of the secret behind.
    let mut out = Zeroizing::new(Vec::with_capacity(length(content)));
    der::write_header(&mut out, der::SEQUENCE, content);
    der::write(&mut out, der::INTEGER, &[0]);
    der::write_header(&mut out, der::SEQUENCE, algorithm_content);
    der::write(&mut out, der::OBJECT_IDENTIFIER, OID_EC);
    der::write(&mut out, der::OBJECT_IDENTIFIER, curve);
    der::write_header(&mut out, der::OCTET_STRING, length(inner_content));
    der::write_header(&mut out, der::SEQUENCE, inner_content);
    der::write(&mut out, der::INTEGER, &[1]);
    der::write(&mut out, der::OCTET_STRING, scalar);
    der::write_header(&mut out, der::CONTEXT_1, length(bit_string));
    der::write_header(&mut out, der::BIT_STRING, bit_string);
    out.push(0);
    out.extend_from_slice(point);
    out
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
