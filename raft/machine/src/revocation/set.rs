//! The set of CRLs: one for every root and every issuing key, complete or not handed out at all (CRL-05).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::AuthorityId;

/// Most bytes of all CRLs together (CRL-05): every stream gets all of them in one message, which clients take up to 4 MiB of.
pub const CRL_SET_BYTES_LIMIT: usize = 1024 * 1024;

/// From this size on, whole keys are revoked and their CRLs leave the set (CRL-05): what is left is room for one more CRL
/// of the longest kind, so that a revocation need not wait.
pub const CRL_SET_HIGH_WATER: usize = CRL_SET_BYTES_LIMIT - super::CRL_BYTES_LIMIT;

/// The newest CRL of each issuer, in the order of their IDs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CrlSet {
    crls: BTreeMap<AuthorityId, Bytes>,
    bytes: usize,
}

impl CrlSet {
    /// Every CRL in DER, in the order of its issuers' IDs.
    pub fn crls(&self) -> impl Iterator<Item = &Bytes> {
        self.crls.values()
    }

    /// Every issuer and its CRL, in the order of the IDs.
    pub fn iter(&self) -> impl Iterator<Item = (&AuthorityId, &Bytes)> {
        self.crls.iter()
    }

    /// The CRL of this root or issuing key.
    #[must_use]
    pub fn get(&self, issuer: &AuthorityId) -> Option<&Bytes> {
        self.crls.get(issuer)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.crls.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.crls.is_empty()
    }

    /// How many bytes they have together.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes there would be with this CRL in the place of its issuer's last one.
    pub(crate) fn bytes_with(&self, issuer: &AuthorityId, crl: &[u8]) -> usize {
        let former = self.crls.get(issuer).map_or(0, Bytes::len);
        self.bytes.saturating_sub(former).saturating_add(crl.len())
    }

    /// Puts an issuer's CRL in place of its last one, or takes it out.
    pub(crate) fn set(&mut self, issuer: AuthorityId, crl: Option<Bytes>) {
        self.bytes = self.bytes_with(&issuer, crl.as_deref().unwrap_or_default());
        match crl {
            Some(crl) => drop(self.crls.insert(issuer, crl)),
            None => drop(self.crls.remove(&issuer)),
        }
    }
}
