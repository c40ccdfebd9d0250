//! The lists of a trust domain, as a verifier uses them (CRL-05, CRL-12).

use std::collections::BTreeMap;

use webpki::{BorrowedCertRevocationList, CertRevocationList};

use super::{CRL_LIMIT, CrlError, parse_crl};
use crate::trust_domain::TrustDomain;
use crate::validity::UnixSeconds;

/// The newest list of each issuer of a trust domain. A verifier that has such a set takes no certificate of the trust domain
/// whose issuer is not in it.
#[derive(Debug)]
pub struct CrlSet {
    lists: Vec<CertRevocationList<'static>>,
}

/// Why lists are no set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlSetError {
    /// There is none, and an empty set would refuse everybody: no set at all is what says that nothing is checked.
    #[error("a set of CRLs has at least one")]
    Empty,
    /// Together they are longer than [`CRL_LIMIT`] (CRL-05).
    #[error("the CRLs have {length} bytes together, the most is {CRL_LIMIT}")]
    TooLong {
        /// How many bytes there are.
        length: usize,
    },
    /// One cannot be read.
    #[error("a CRL of the set cannot be read")]
    Crl(#[from] CrlError),
    /// The path builder does not read one that we read.
    #[error("a CRL of the set is refused by the path builder")]
    Path(#[source] webpki::Error),
}

/// What makes one list of an issuer newer than another: thisUpdate, then the CRL number.
type Age = (UnixSeconds, u64);

impl CrlSet {
    /// Takes the lists of a trust domain, DER. Of two of one issuer the later thisUpdate counts, as with all who check: the
    /// path builder would take whichever comes first.
    ///
    /// # Errors
    /// When there is none, one cannot be read, or all together are too long.
    pub fn new<L: AsRef<[u8]>>(lists: &[L]) -> Result<Self, CrlSetError> {
        let length = lists.iter().fold(0, |sum: usize, list| sum.saturating_add(list.as_ref().len()));
        if length > CRL_LIMIT {
            return Err(CrlSetError::TooLong { length });
        }
        let mut newest: BTreeMap<Vec<u8>, (Age, &[u8])> = BTreeMap::new();
        for der in lists.iter().map(AsRef::as_ref) {
            let list = parse_crl(der)?;
            let age = (list.this_update, list.number);
            if newest.get(&list.issuer).is_none_or(|(known, _)| *known < age) {
                newest.insert(list.issuer, (age, der));
            }
        }
        if newest.is_empty() {
            return Err(CrlSetError::Empty);
        }
        let owned = |(_, der): &(_, &[u8])| {
            let list = BorrowedCertRevocationList::from_der(der).and_then(|list| list.to_owned());
            list.map(CertRevocationList::from).map_err(CrlSetError::Path)
        };
        Ok(Self { lists: newest.values().map(owned).collect::<Result<_, _>>()? })
    }

    /// As the path builder takes them.
    pub(in crate::x509) fn lists(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().collect()
    }
}

/// Where a verifier finds the lists of a peer's trust domain, and of no other (CRL-12).
pub trait CrlSource {
    /// The set of this trust domain; none where it publishes none, so that nothing is checked.
    fn crls(&self, trust_domain: &TrustDomain) -> Option<&CrlSet>;
}

impl CrlSource for BTreeMap<TrustDomain, CrlSet> {
    fn crls(&self, trust_domain: &TrustDomain) -> Option<&CrlSet> {
        self.get(trust_domain)
    }
}
