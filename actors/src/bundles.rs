//! The trust domain's bundle and its CRLs in every form that goes out, made once for each version of them.
//!
//! Whoever puts an answer together takes the newest version after the issuing certificate that it signs with: a key signs
//! only once its CRL is in the set (CRL-07), so chain and CRLs of one answer fit each other (INV-16).

pub(crate) mod foreign;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;
use quorate_proto_api::workload::{JwtBundlesResponse, X509BundlesResponse};
use quorate_proto_identity::{
    AuthorityId, JwtAuthority, KeyError, PublicKey, TrustDomain,
    bundle::Bundle,
    x509::{Certificate, CertificateError},
};
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::{BundleContent, CrlAudience, CrlSet, Entry, State, crl_set_for};

use crate::{issuer::svid::Svid, refusal::Refusal};
use foreign::{ForeignBundles, ForeignSet};

/// One version of the bundle.
#[derive(Debug)]
pub(crate) struct BundleAnswers {
    /// Its number on this node, higher with each change of the bundle or of the CRLs.
    pub(crate) sequence: u64,
    /// The bundle's own sequence number; every node gives the same contents the same number.
    spiffe_sequence: u64,
    /// The CRLs, complete, while they are handed out (CRL-05).
    crls: Option<Arc<CrlSet>>,
    /// The number since which the roots and the CRLs are these: a stream of them hears of no other change.
    pub(crate) roots_since: u64,
    /// The number since which the token keys are these.
    pub(crate) token_keys_since: u64,
    /// The roots, DER, one after the other (WAPI-19).
    pub(crate) roots: Bytes,
    /// The answer of FetchX509Bundles (WAPI-26), for callers without foreign bundles.
    pub(crate) x509: Arc<X509BundlesResponse>,
    /// The answer of FetchJWTBundles, for the same: JWT keys alone, without `use` (WAPI-35, WAPI-36, A-17).
    pub(crate) jwt: Arc<JwtBundlesResponse>,
    /// What tokens are verified with.
    pub(crate) verification: Bundle,
    /// Roots under which SVIDs may be given out: those in the bundle that are not tainted.
    good_roots: Vec<AuthorityId>,
}

/// Whether a stream is given our CRLs while they are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakesCrls(bool);

impl TakesCrls {
    /// For a stream that is given SVIDs of these entries, and these foreign bundles: a consumer that pools what it trusts would
    /// refuse every foreign chain once it has any CRL, because no foreign domain publishes a complete set to us; unless each of
    /// its entries says that it keeps a store for each domain (CRL-10). There are no downstream authorities.
    pub(crate) fn of<'a>(mut entries: impl Iterator<Item = &'a Entry>, foreign: &ForeignSet) -> Self {
        let audience = CrlAudience {
            receives_foreign: foreign.has_roots(),
            all_foreign_publish: false,
            per_domain: entries.all(|entry| entry.crl_per_domain),
        };
        Self(crl_set_for(&audience, false, false).hands_out())
    }

    /// Whether it is.
    pub(crate) fn takes(self) -> bool {
        self.0
    }
}

/// The bundle in the state cannot be read. `apply` checked every part of it, so this is a fault of the program.
#[derive(Debug, thiserror::Error)]
enum BundleUnusable {
    #[error("a root of the bundle cannot be read")]
    Root(#[from] CertificateError),
    #[error("a token key of the bundle cannot be read")]
    TokenKey(#[from] KeyError),
}

impl BundleAnswers {
    /// Whether what stands under this root is to be replaced: it is tainted, or is not in this bundle, so that nobody
    /// who has the bundle would accept it (design section 2, property 3).
    pub(crate) fn replaces(&self, root: &AuthorityId) -> bool {
        !self.good_roots.contains(root)
    }

    /// Whether a stream may be given what this key has signed: not while CRLs are handed out and none of them is the key's,
    /// because the key was revoked whole (CRL-06).
    pub(crate) fn may_issue(&self, key: &AuthorityId) -> bool {
        self.crls.as_ref().is_none_or(|crls| crls.get(key).is_some())
    }

    /// Whether an SVID is to be replaced, because nobody who has this bundle and its CRLs would accept it.
    pub(crate) fn replaces_svid(&self, svid: &Svid) -> bool {
        self.replaces(&svid.root) || !self.may_issue(&svid.issuing_key)
    }

    /// The CRLs for a stream: all of them or none, while they are handed out (CRL-05).
    pub(crate) fn crls_for(&self, takes: TakesCrls) -> Vec<Bytes> {
        let crls = self.crls.iter().filter(|_| takes.0);
        crls.flat_map(|crls| crls.crls()).cloned().collect()
    }

    /// How many bytes the CRLs of an answer have.
    pub(crate) fn crl_bytes(&self, takes: TakesCrls) -> usize {
        self.crls.as_ref().filter(|_| takes.0).map_or(0, |crls| crls.bytes())
    }

    /// The answer of FetchX509Bundles with foreign bundles beside our own.
    pub(crate) fn x509_with(&self, foreign: &ForeignSet, takes: TakesCrls) -> Arc<X509BundlesResponse> {
        let mut bundles = foreign.roots.clone();
        // Last: whatever somebody has under our name, ours is what our name means.
        bundles.extend(self.x509.bundles.clone());
        Arc::new(X509BundlesResponse { crl: self.crls_for(takes), bundles })
    }

    /// The answer of FetchJWTBundles with foreign bundles beside our own.
    pub(crate) fn jwt_with(&self, foreign: &ForeignSet) -> Arc<JwtBundlesResponse> {
        let mut bundles = foreign.token_keys.clone();
        bundles.extend(self.jwt.bundles.clone());
        Arc::new(JwtBundlesResponse { bundles })
    }

    fn new(
        trust_domain: &TrustDomain,
        content: &BundleContent,
        crls: Option<Arc<CrlSet>>,
    ) -> Result<Self, BundleUnusable> {
        let mut bundle = Bundle::new(trust_domain.clone());
        for root in &content.x509_authorities {
            bundle.add_x509_authority(Certificate::parse(&root.certificate)?);
        }
        for key in &content.jwt_authorities {
            let public_key = PublicKey::from_spki_der(&key.public_key)?;
            bundle.add_jwt_authority(JwtAuthority { key_id: key.id.to_string(), public_key });
        }
        let roots = Bytes::from(bundle.x509_authorities_der());
        let keys = Bytes::from(bundle.jwt_key_set_json());
        // The key of both maps: the trust domain's SPIFFE ID, without a slash at its end (WAPI-20).
        let id = trust_domain.id().to_string();
        let bundles = BTreeMap::from([(id.clone(), roots.clone())]);
        let jwt = Arc::new(JwtBundlesResponse { bundles: BTreeMap::from([(id, keys)]) });
        let untainted = content.x509_authorities.iter().filter(|root| !root.tainted);
        let good_roots = untainted.map(|root| root.id.clone()).collect();
        let crl = crls.iter().flat_map(|crls| crls.crls()).cloned().collect();
        Ok(Self {
            sequence: FIRST,
            spiffe_sequence: content.sequence,
            crls,
            roots_since: FIRST,
            token_keys_since: FIRST,
            roots,
            x509: Arc::new(X509BundlesResponse { crl, bundles }),
            jwt,
            verification: bundle,
            good_roots,
        })
    }

    /// Whether it is of this bundle and these CRLs.
    fn is_of(&self, spiffe_sequence: u64, crls: Option<&Arc<CrlSet>>) -> bool {
        let same_crls = match (&self.crls, crls) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_crls && self.spiffe_sequence == spiffe_sequence
    }

    /// This version as the one that follows `before`: what did not change is as old as it was.
    fn following(mut self, before: &Self) -> Self {
        self.sequence = before.sequence.saturating_add(1);
        (self.roots_since, self.token_keys_since) = (self.sequence, self.sequence);
        if self.x509 == before.x509 {
            self.roots_since = before.roots_since;
        }
        if self.jwt == before.jwt {
            self.token_keys_since = before.token_keys_since;
        }
        self
    }

    /// A bundle of which only the number counts.
    #[cfg(test)]
    pub(crate) fn empty(sequence: u64) -> Self {
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let made = Self::new(&trust_domain, &BundleContent::default(), None).unwrap();
        Self { sequence, roots_since: sequence, token_keys_since: sequence, ..made }
    }
}

/// The number of the first version.
const FIRST: u64 = 1;

/// Our own bundle's newest version that was asked for, and those of others.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    newest: RwLock<Option<Arc<BundleAnswers>>>,
    /// Those of trust domains that entries federate with.
    pub(crate) foreign: ForeignBundles,
}

impl Bundles {
    /// The bundle as the state has it now.
    pub(crate) fn current(&self, state: &StateReader) -> Result<Arc<BundleAnswers>, Refusal> {
        if let Some(newest) = &*self.newest.read()
            && state.read(|state| newest.is_of(state.counters().spiffe_sequence, state.crl_set().as_ref()))
        {
            return Ok(Arc::clone(newest));
        }
        let mut newest = self.newest.write();
        let read = |state: &State| Some((state.cluster()?.trust_domain.clone(), state.bundle(), state.crl_set()));
        let (trust_domain, content, crls) =
            state.read(read).ok_or_else(|| Refusal::unavailable("no authority has been founded on this node yet"))?;
        // Under the lock the state is read, so that versions are given out in its order and no other way, and each can be
        // compared with the one before.
        if let Some(newest) = &*newest
            && newest.is_of(content.sequence, crls.as_ref())
        {
            return Ok(Arc::clone(newest));
        }
        let made = BundleAnswers::new(&trust_domain, &content, crls).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the bundle cannot be read");
            Refusal::unavailable("the bundle cannot be read")
        })?;
        let made = Arc::new(match &*newest {
            Some(newest) => made.following(newest),
            None => made,
        });
        *newest = Some(Arc::clone(&made));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{KeyType, PrivateKey, UnixSeconds};
    use quorate_raft_machine::BundleJwtAuthority;

    use super::*;

    fn version(sequence: u64, key_ids: &[&str]) -> BundleAnswers {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let key_of = |id: &&str| BundleJwtAuthority {
            id: AuthorityId::new(id).unwrap(),
            public_key: Bytes::copy_from_slice(key.public_key().spki_der()),
            expires_at: UnixSeconds(9),
            tainted: false,
        };
        let jwt_authorities = key_ids.iter().map(key_of).collect();
        let content = BundleContent { sequence, jwt_authorities, ..BundleContent::default() };
        BundleAnswers::new(&TrustDomain::new("example.org").unwrap(), &content, None).unwrap()
    }

    #[test]
    fn what_did_not_change_is_as_old_as_it_was() {
        let first = version(3, &["a"]);
        assert_eq!((first.roots_since, first.token_keys_since), (1, 1));
        let second = version(4, &["a", "b"]).following(&first);
        assert_eq!((second.roots_since, second.token_keys_since), (1, 2));
        let third = version(7, &[]).following(&second);
        assert_eq!((third.roots_since, third.token_keys_since), (1, 3));
        let with_crls = BundleAnswers { crls: Some(Arc::default()), ..version(7, &[]) };
        assert!(!with_crls.is_of(7, None) && !with_crls.is_of(7, Some(&Arc::default())));
        assert!(with_crls.is_of(7, with_crls.crls.clone().as_ref()));
    }

    #[test]
    fn nothing_is_good_under_a_root_that_is_not_in_the_bundle() {
        assert!(version(1, &[]).replaces(&AuthorityId::new("aa").unwrap()));
    }
}
