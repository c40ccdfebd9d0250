//! Under which roots and issuing keys stands what a stream was sent: what their revocation must wait for (design section 3,
//! CRL-06).

use std::{collections::BTreeMap, sync::Arc};

use quorate_proto_identity::{AuthorityId, UnixSeconds};

use crate::issuer::svid::Svid;

/// The roots and the issuing keys above the SVIDs of an answer, each with the end of the last SVID under it. Made once for an answer, and kept
/// by every stream that was sent it; the SVIDs themselves, with their keys, are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    roots: BTreeMap<AuthorityId, UnixSeconds>,
    keys: BTreeMap<AuthorityId, UnixSeconds>,
}

impl Standing {
    /// That of these SVIDs.
    pub(crate) fn of(svids: &[Arc<Svid>]) -> Arc<Self> {
        let (mut roots, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for svid in svids {
            let end = svid.granted.validity.not_after();
            for (above, ends) in [(&svid.root, &mut roots), (&svid.issuing_key, &mut keys)] {
                let latest = ends.entry(above.clone()).or_insert(end);
                *latest = end.max(*latest);
            }
        }
        Arc::new(Self { roots, keys })
    }

    /// Whether a condition holds of each root.
    pub(crate) fn all(&self, holds: impl FnMut(&AuthorityId) -> bool) -> bool {
        self.roots.keys().all(holds)
    }

    /// Whether a condition holds of each issuing key.
    pub(crate) fn all_keys(&self, holds: impl FnMut(&AuthorityId) -> bool) -> bool {
        self.keys.keys().all(holds)
    }

    /// Whether an SVID under a root or an issuing key, that has not ended, is among them.
    pub(crate) fn depends_on(&self, above: &AuthorityId, now: UnixSeconds) -> bool {
        self.roots.get(above).or_else(|| self.keys.get(above)).is_some_and(|end| now <= *end)
    }

    /// Whether every SVID that has not ended is under a root.
    pub(crate) fn is_under(&self, root: &AuthorityId, now: UnixSeconds) -> bool {
        self.roots.iter().all(|(other, end)| other == root || now > *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_depends_on_nothing() {
        let [old, new] = ["0a", "0b"].map(|id| AuthorityId::new(id).unwrap());
        let roots = BTreeMap::from([(old.clone(), UnixSeconds(5)), (new.clone(), UnixSeconds(9))]);
        let key = AuthorityId::new("0c").unwrap();
        let standing = Standing { roots, keys: BTreeMap::from([(key.clone(), UnixSeconds(7))]) };
        assert!(standing.depends_on(&key, UnixSeconds(7)) && !standing.depends_on(&key, UnixSeconds(8)));
        assert!(standing.depends_on(&old, UnixSeconds(5)));
        assert!(!standing.depends_on(&old, UnixSeconds(6)));
        assert!(!standing.is_under(&new, UnixSeconds(5)));
        assert!(standing.is_under(&new, UnixSeconds(6)));
        assert!(standing.all(|root| *root == old || *root == new));
    }
}
