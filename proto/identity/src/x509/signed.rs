//! The shape that certificates, requests and CRLs share: a body, an algorithm, a signature.

use crate::der::{self, Reader};
use crate::key::{KeyError, PublicKey, SignatureAlgorithm};

/// The three parts of a signed document.
pub(super) struct Signed<'a> {
    /// The signed bytes: the whole first element.
    pub(super) body: &'a [u8],
    /// The AlgorithmIdentifier, whole.
    pub(super) algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes the document apart; `None` if it is not of that shape or bytes are left over.
    pub(super) fn parse(document: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::new(document);
        let mut parts = outer.enter(der::SEQUENCE)?;
        let body = parts.read_whole(der::SEQUENCE)?;
        let algorithm = parts.read_whole(der::SEQUENCE)?;
        let signature = parts.read_bit_string()?;
        (outer.is_done() && parts.is_done()).then_some(Self { body, algorithm, signature })
    }

    /// A reader over the fields of the body.
    pub(super) fn fields(&self) -> Option<Reader<'a>> {
        Reader::new(self.body).enter(der::SEQUENCE)
    }

    /// Checks the signature over the very bytes that are read as the body (ATK-08).
    pub(super) fn verify(&self, key: &PublicKey) -> Result<(), KeyError> {
        SignatureAlgorithm::from_identifier(self.algorithm).ok_or(KeyError::Verify)?.verify(
            key,
            self.body,
            self.signature,
        )
    }
}
