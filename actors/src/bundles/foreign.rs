//! Foreign trust domains' bundles in every form that goes out, made once for each version of them and shared by all answers.
//!
//! ```text
//!   state ── version of a domain's bundle ──> rendered, once ──┬──> the set of one kind of callers ──> their answers
//!                                                              └──> the set of another kind
//! ```
//!
//! A set holds the bundles of exactly those trust domains that a caller's entries federate with, each under the name of its
//! domain, never pooled (FED-17, FED-51).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::RwLock;
use quorate_proto_identity::TrustDomain;
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::{ForeignBundle, State};

use crate::metrics;

/// Bytes of all foreign bundles of one kind (certificates, or token keys) in an answer, at most: 2 MiB. That is the bundles of
/// 2,000 trust domains with a root of 1 KiB each, and two of the largest that are taken at all; gRPC clients refuse messages
/// above 4 MiB, and what the caller's own SVIDs need has to fit beside.
pub(crate) const FOREIGN_BYTES_LIMIT: usize = 2 * 1024 * 1024;

/// Tags and lengths around one entry of a map, at most: the entry, its key and its value with 1 and 5 bytes each.
const ENTRY_FRAMING_BYTES: usize = 18;

/// One version of a foreign trust domain's bundle.
#[derive(Debug)]
struct Rendered {
    /// The key of the maps that it is in: the trust domain's SPIFFE ID, without a slash at its end (WAPI-20).
    id: String,
    /// The state's number of this version.
    version: u64,
    /// Its certificates, DER, one after the other (WAPI-19); empty if it has none.
    roots: Bytes,
    /// Its token keys as a JWK Set without `use` (A-17).
    token_keys: Bytes,
}

impl Rendered {
    fn new(foreign: &ForeignBundle) -> Self {
        Self {
            id: foreign.trust_domain.id().to_string(),
            version: foreign.version,
            roots: foreign.bundle.x509_authorities_der().into(),
            token_keys: foreign.bundle.jwt_key_set_json().into(),
        }
    }
}

/// The foreign bundles that one kind of callers gets.
#[derive(Debug, Default)]
pub(crate) struct ForeignSet {
    /// The trust domains that it is about.
    domains: BTreeSet<TrustDomain>,
    /// Which trust domains have one, and of which version.
    versions: BTreeMap<TrustDomain, u64>,
    /// Certificates by the trust domain's SPIFFE ID. A domain without any is left out, so that clients see that it has gone
    /// (A-26, WAPI-13).
    pub(crate) roots: BTreeMap<String, Bytes>,
    /// JWK Sets by the trust domain's SPIFFE ID; one without a key is sent, empty (A-26).
    pub(crate) token_keys: BTreeMap<String, Bytes>,
    /// Bytes of `roots` in an answer.
    pub(crate) roots_bytes: usize,
    /// The newest of the state's versions at which this was found to be all that there is.
    stands_at: AtomicU64,
}

impl ForeignSet {
    fn new(domains: BTreeSet<TrustDomain>, rendered: &[(TrustDomain, Arc<Rendered>)], version: u64) -> Self {
        let has_roots = rendered.iter().map(|(_, one)| one).filter(|one| !one.roots.is_empty());
        let (roots, roots_bytes) = fitting("x509", has_roots.map(|one| (&one.id, &one.roots)));
        let (token_keys, _) = fitting("jwt", rendered.iter().map(|(_, one)| (&one.id, &one.token_keys)));
        let versions = rendered.iter().map(|(domain, one)| (domain.clone(), one.version)).collect();
        Self { domains, versions, roots, token_keys, roots_bytes, stands_at: AtomicU64::new(version) }
    }

    /// Whether there is a trust domain that it is about.
    pub(crate) fn is_about_any(&self) -> bool {
        !self.domains.is_empty()
    }

    /// Whether there is any bundle.
    pub(crate) fn has_any(&self) -> bool {
        !self.versions.is_empty()
    }

    /// Whether a caller receives any certificate of a foreign trust domain, which decides of its CRLs (CRL-10).
    pub(crate) fn has_roots(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Whether these are the newest bundles of its trust domains, none missing.
    pub(crate) fn is_newest(&self, state: &State) -> bool {
        if self.domains.is_empty() || self.stands_at.load(Ordering::Acquire) == state.foreign_version() {
            return true;
        }
        let of = |domain| state.foreign_bundle(domain).map(|foreign| foreign.version);
        let now = self.domains.iter().filter_map(|domain| Some((domain, of(domain)?)));
        let newest = now.eq(self.versions.iter().map(|(domain, version)| (domain, *version)));
        if newest {
            self.stands_at.fetch_max(state.foreign_version(), Ordering::AcqRel);
        }
        newest
    }

    /// Whether none of these trust domains has lost its bundle since: what was withdrawn does not go out any more (FED-48).
    pub(crate) fn none_withdrawn(&self, state: &State) -> bool {
        self.stands_at.load(Ordering::Acquire) == state.foreign_version()
            || self.versions.keys().all(|domain| state.foreign_bundle(domain).is_some())
    }
}

/// As many bundles as an answer has room for, the small ones first: a peer whose bundle grows loses its own place, and nobody
/// else's. And how many bytes they come to.
fn fitting<'a>(
    kind: &'static str,
    bundles: impl Iterator<Item = (&'a String, &'a Bytes)>,
) -> (BTreeMap<String, Bytes>, usize) {
    let bytes = |(id, bundle): &(&String, &Bytes)| {
        [bundle.len(), id.len(), ENTRY_FRAMING_BYTES].into_iter().fold(0, usize::saturating_add)
    };
    let mut by_size: Vec<_> = bundles.collect();
    by_size.sort_by_key(|one| (bytes(one), one.0));
    let (mut taken, mut sum, count) = (BTreeMap::new(), 0_usize, by_size.len());
    for one in by_size {
        let with = sum.saturating_add(bytes(&one));
        if with > FOREIGN_BYTES_LIMIT {
            break;
        }
        sum = with;
        taken.insert(one.0.clone(), one.1.clone());
    }
    let left_out = count.saturating_sub(taken.len());
    if left_out > 0 {
        metrics::foreign_bundles_left_out(kind, left_out);
        tracing::warn!(
            kind,
            left_out,
            limit = FOREIGN_BYTES_LIMIT,
            "a caller's foreign bundles have more bytes than an answer takes; the largest ones are left out"
        );
    }
    (taken, sum)
}

/// The renderings that are in use. Each is made when it is first asked for, and forgotten when its trust domain has another or
/// none, so they come to no more than what the state holds.
#[derive(Debug, Default)]
pub(crate) struct ForeignBundles {
    rendered: RwLock<BTreeMap<TrustDomain, Arc<Rendered>>>,
    /// What every caller has whose entries federate with nobody.
    none: Arc<ForeignSet>,
}

impl ForeignBundles {
    /// The bundles of these trust domains as the state has them now; `before` again if nothing changed.
    pub(crate) fn of(
        &self,
        state: &StateReader,
        domains: &BTreeSet<TrustDomain>,
        before: Option<&Arc<ForeignSet>>,
    ) -> Arc<ForeignSet> {
        if domains.is_empty() {
            return Arc::clone(&self.none);
        }
        let read = |state: &State| {
            if let Some(before) = before
                && before.domains == *domains
                && before.is_newest(state)
            {
                return Err(Arc::clone(before));
            }
            let found = domains.iter().filter_map(|domain| state.foreign_bundle(domain).cloned());
            Ok((state.foreign_version(), found.collect::<Vec<_>>()))
        };
        match state.read(read) {
            Err(before) => before,
            Ok((version, found)) => {
                let rendered: Vec<_> =
                    found.iter().map(|foreign| (foreign.trust_domain.clone(), self.rendered(foreign))).collect();
                Arc::new(ForeignSet::new(domains.clone(), &rendered, version))
            }
        }
    }

    fn rendered(&self, foreign: &ForeignBundle) -> Arc<Rendered> {
        if let Some(rendered) = self.rendered.read().get(&foreign.trust_domain)
            && rendered.version == foreign.version
        {
            return Arc::clone(rendered);
        }
        // Not under the lock: others need theirs meanwhile. Of two that make the same one, either stays.
        let made = Arc::new(Rendered::new(foreign));
        let mut all = self.rendered.write();
        match all.get(&foreign.trust_domain) {
            Some(there) if there.version == made.version => Arc::clone(there),
            Some(there) if there.version > made.version => made,
            Some(_) | None => {
                all.insert(foreign.trust_domain.clone(), Arc::clone(&made));
                made
            }
        }
    }

    /// Forgets the rendering of a trust domain that has no bundle any more, or a newer one.
    pub(crate) fn forget_old(&self, state: &StateReader, domain: &TrustDomain) {
        let newest = state.read(|state| state.foreign_bundle(domain).map(|foreign| foreign.version));
        let mut all = self.rendered.write();
        if all.get(domain).is_some_and(|rendered| newest != Some(rendered.version)) {
            all.remove(domain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(name: &str, version: u64, roots: usize) -> (TrustDomain, Arc<Rendered>) {
        let domain = TrustDomain::new(name).unwrap();
        let id = domain.id().to_string();
        let one = Rendered { id, version, roots: vec![7; roots].into(), token_keys: r#"{"keys":[]}"#.into() };
        (domain, Arc::new(one))
    }

    fn set(rendered: &[(TrustDomain, Arc<Rendered>)], version: u64) -> ForeignSet {
        ForeignSet::new(rendered.iter().map(|(domain, _)| domain.clone()).collect(), rendered, version)
    }

    #[test]
    fn wapi_20_a_26_bundles_stand_under_their_own_names_and_one_without_roots_has_token_keys_alone() {
        let both = set(&[rendered("a.test", 1, 3), rendered("b.test", 2, 0)], 2);
        assert_eq!(both.roots.keys().collect::<Vec<_>>(), ["spiffe://a.test"]);
        assert_eq!(both.token_keys.keys().collect::<Vec<_>>(), ["spiffe://a.test", "spiffe://b.test"]);
        assert!(both.has_roots());
        assert!(!set(&[rendered("b.test", 2, 0)], 2).has_roots());
    }

    #[test]
    fn a_peer_whose_bundle_grows_loses_its_own_place_and_nobody_elses() {
        let large = FOREIGN_BYTES_LIMIT - 100;
        let before = set(&[rendered("a.test", 1, large), rendered("b.test", 2, 10)], 2);
        assert_eq!(before.roots.len(), 2);
        let grown = set(&[rendered("a.test", 3, large + 100), rendered("b.test", 2, 10)], 3);
        assert_eq!(grown.roots.keys().collect::<Vec<_>>(), ["spiffe://b.test"]);
        assert_eq!(grown.token_keys.len(), 2, "its token keys have room");
        assert!(before.roots_bytes <= FOREIGN_BYTES_LIMIT && grown.roots_bytes < 100);
    }

    #[test]
    fn one_version_is_rendered_once_and_shared() {
        let all = ForeignBundles::default();
        let (domain, one) = rendered("a.test", 4, 1);
        all.rendered.write().insert(domain.clone(), Arc::clone(&one));
        let foreign = crate::system::tests::foreign::foreign_bundle(&domain, 4);
        assert!(Arc::ptr_eq(&all.rendered(&foreign), &one));
        let newer = crate::system::tests::foreign::foreign_bundle(&domain, 5);
        let made = all.rendered(&newer);
        assert!(Arc::ptr_eq(&all.rendered(&newer), &made) && !Arc::ptr_eq(&made, &one));
        // Who is late with an older one does not take the newer one's place.
        assert_eq!(all.rendered(&foreign).version, 4);
        assert!(Arc::ptr_eq(&all.rendered(&newer), &made));
    }
}
