//! Who federates with whom: the groups whose callers get the bundle of a foreign trust domain.
//!
//! ```text
//!   group ── before it reads bundles: "these domains concern me" ──> index ── whom does this domain concern? ── keeper
//! ```
//!
//! A group says so *before* it reads. Whatever is applied after its reading then finds it here, and whatever was applied before
//! is in what it read: no change can be missed, and none costs anything for groups that it does not concern.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use quorate_proto_identity::TrustDomain;

/// The groups of one keeper, by the trust domains that concern them.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    groups: Mutex<BTreeMap<TrustDomain, BTreeSet<u64>>>,
}

impl Interests {
    /// A group was concerned by some trust domains, and is concerned by others now.
    pub(crate) fn change(&self, group: u64, before: &BTreeSet<TrustDomain>, now: &BTreeSet<TrustDomain>) {
        if before == now {
            return;
        }
        let mut groups = self.groups.lock();
        for domain in now.difference(before) {
            groups.entry(domain.clone()).or_default().insert(group);
        }
        for domain in before.difference(now) {
            if let Some(concerned) = groups.get_mut(domain) {
                concerned.remove(&group);
                if concerned.is_empty() {
                    groups.remove(domain);
                }
            }
        }
    }

    /// The groups that a trust domain concerns.
    pub(crate) fn of(&self, domain: &TrustDomain) -> BTreeSet<u64> {
        self.groups.lock().get(domain).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_concerns_those_that_said_so_last_and_nobody_else() {
        let [a, b] = ["a.test", "b.test"].map(|name| TrustDomain::new(name).unwrap());
        let interests = Interests::default();
        let (none, both) = (BTreeSet::new(), BTreeSet::from([a.clone(), b.clone()]));
        interests.change(1, &none, &both);
        interests.change(2, &none, &BTreeSet::from([b.clone()]));
        assert_eq!((interests.of(&a), interests.of(&b)), ([1].into(), [1, 2].into()));
        interests.change(1, &both, &BTreeSet::from([a.clone()]));
        assert_eq!((interests.of(&a), interests.of(&b)), ([1].into(), [2].into()));
        interests.change(2, &BTreeSet::from([b.clone()]), &none);
        assert!(interests.of(&b).is_empty() && interests.groups.lock().len() == 1);
    }
}
