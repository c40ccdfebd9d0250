//! The trait behind which a node's own private keys lie, and sealing and opening of authority keys with it.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use quorate_proto_identity::key::{PrivateKey, PublicKey};
use quorate_raft_machine::authority::{Sealed, SealedFor};
use zeroize::Zeroizing;

use super::SealContext;

/// The future of a custody operation: a token or a key service takes its time.
pub type CustodyFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CustodyError>> + Send + 'a>>;

/// Something sealed to one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPart {
    /// What the recipient needs beside its own key to open it.
    pub encapsulated_key: Bytes,
    /// The sealed bytes.
    pub ciphertext: Bytes,
}

/// Holds the two key pairs of a node: one that proves who it is to its peers, and one that secrets are sealed to.
///
/// The private halves never leave it. [`FileCustody`](super::FileCustody) keeps them in files; the trait is shaped so
/// that a PKCS#11 token, a TPM or a key service of a cloud can take its place, and a simulation puts a stand-in here.
pub trait KeyCustody: Send + Sync + 'static {
    /// The public half of the identity key, to which peers pin their connections.
    fn identity_public_key(&self) -> &PublicKey;

    /// The public half of the sealing key, as recorded for this member (`MemberDraft::sealing_key`).
    fn sealing_public_key(&self) -> &[u8];

    /// How [`seal`](Self::seal) seals; recorded beside what is sealed (`Sealed::suite`).
    fn suite(&self) -> u32;

    /// Signs with the identity key.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn sign<'a>(&'a self, message: &'a [u8]) -> CustodyFuture<'a, Vec<u8>>;

    /// Signs the transcript of a TLS handshake with the identity key, at once: the TLS library cannot wait for a
    /// signature. A custody that asks a token blocks the thread of this one handshake, of which few are in flight.
    ///
    /// A stand-in whose nodes speak no TLS leaves this as it is.
    ///
    /// # Errors
    /// When the key cannot be used, or not in this way.
    fn sign_handshake(&self, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        let _ = message;
        Err(CustodyError::Sign)
    }

    /// Seals bytes to a recipient's public key, bound to a context. Needs no secret of this node.
    ///
    /// # Errors
    /// When the public key is not one of this suite.
    fn seal(&self, context: &SealContext, secret: &[u8], recipient: &[u8]) -> Result<SealedPart, CustodyError>;

    /// Opens what was sealed to this node, in the same context.
    ///
    /// # Errors
    /// When it was sealed in another way, to another key, in another context, or was changed since.
    fn open<'a>(
        &'a self,
        suite: u32,
        context: &'a SealContext,
        part: &'a SealedPart,
    ) -> CustodyFuture<'a, Zeroizing<Vec<u8>>>;
}

/// Why a key was not sealed, opened or used. Never carries a byte of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustodyError {
    /// It was sealed in a way that this program does not know: it comes from a later version.
    #[error("the key was sealed by suite {suite}, this program knows suite {known}")]
    UnknownSuite {
        /// The suite.
        suite: u32,
        /// The one known here.
        known: u32,
    },
    /// The recipient's public key is none.
    #[error("the sealing public key of {recipient} is not usable")]
    RecipientKey {
        /// Whose.
        recipient: String,
    },
    /// Nothing is sealed to this node.
    #[error("the key of {item} is not sealed to {recipient}")]
    NotARecipient {
        /// What is sealed.
        item: String,
        /// Who asked.
        recipient: String,
    },
    /// It does not open: another key, another context, or changed bytes.
    #[error(
        "the sealed key of {item} does not open: this node's sealing key is another one than it was \
         sealed to. Restore sealing.key from a copy, or, in a cluster of several nodes, remove this node and join it again"
    )]
    DoesNotOpen {
        /// What is sealed.
        item: String,
    },
    /// What was sealed is no key that this program can use.
    #[error("what is sealed for {item} is not a private key")]
    NotAKey {
        /// What is sealed.
        item: String,
    },
    /// The identity key cannot sign.
    #[error("the identity key could not sign")]
    Sign,
}

/// Seals an authority's private key to each of its recipients: context and public key, one for each.
///
/// # Errors
/// When one of the public keys is not usable.
pub fn seal_key(
    custody: &dyn KeyCustody,
    key: &PrivateKey,
    recipients: &[(SealContext, Bytes)],
) -> Result<Sealed, CustodyError> {
    seal_secret(custody, key.pkcs8(), recipients)
}

/// Seals a secret to each of its recipients: context and public key, one for each.
///
/// # Errors
/// When one of the public keys is not usable.
pub fn seal_secret(
    custody: &dyn KeyCustody,
    secret: &[u8],
    recipients: &[(SealContext, Bytes)],
) -> Result<Sealed, CustodyError> {
    let seal = |(context, public): &(SealContext, Bytes)| {
        let part = custody.seal(context, secret, public)?;
        Ok(SealedFor {
            recipient: context.recipient.clone(),
            encapsulated_key: part.encapsulated_key,
            ciphertext: part.ciphertext,
        })
    };
    Ok(Sealed { suite: custody.suite(), parts: recipients.iter().map(seal).collect::<Result<_, _>>()? })
}

/// Opens an authority's private key, as the recipient that the context names.
///
/// # Errors
/// When it is not sealed to that recipient, does not open, or is no key.
pub async fn open_key(
    custody: &dyn KeyCustody,
    sealed: &Sealed,
    context: &SealContext,
) -> Result<PrivateKey, CustodyError> {
    let pkcs8 = open_secret(custody, sealed, context).await?;
    PrivateKey::from_pkcs8(&pkcs8).map_err(|_malformed| CustodyError::NotAKey { item: context.item.to_string() })
}

/// Opens a secret, as the recipient that the context names.
///
/// # Errors
/// When it is not sealed to that recipient, or does not open.
pub async fn open_secret(
    custody: &dyn KeyCustody,
    sealed: &Sealed,
    context: &SealContext,
) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let Some(part) = sealed.part_for(&context.recipient) else {
        let (item, recipient) = (context.item.to_string(), context.recipient.to_string());
        return Err(CustodyError::NotARecipient { item, recipient });
    };
    let part = SealedPart { encapsulated_key: part.encapsulated_key.clone(), ciphertext: part.ciphertext.clone() };
    custody.open(sealed.suite, context, &part).await
}
