//! The trust domain's bundle in every form that goes out, made once for each version of it.

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
use quorate_raft_machine::{BundleContent, State};

use crate::refusal::Refusal;

/// One version of the bundle.
#[derive(Debug)]
pub(crate) struct BundleAnswers {
    /// Its sequence number; every node gives the same contents the same number.
    pub(crate) sequence: u64,
    /// The sequence number since which the roots are these: a stream of them hears of no other change.
    pub(crate) roots_since: u64,
    /// The sequence number since which the token keys are these.
    pub(crate) token_keys_since: u64,
    /// The roots, DER, one after the other (WAPI-19).
    pub(crate) roots: Bytes,
    /// The answer of FetchX509Bundles (WAPI-26).
    pub(crate) x509: X509BundlesResponse,
    /// The answer of FetchJWTBundles: JWT keys alone, without `use` (WAPI-35, WAPI-36, A-17).
    pub(crate) jwt: JwtBundlesResponse,
    /// What tokens are verified with.
    pub(crate) verification: Bundle,
    /// Roots under which SVIDs may be given out: those in the bundle that are not tainted.
    good_roots: Vec<AuthorityId>,
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

    fn new(trust_domain: &TrustDomain, content: &BundleContent) -> Result<Self, BundleUnusable> {
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
        let x509 = X509BundlesResponse { crl: Vec::new(), bundles: BTreeMap::from([(id.clone(), roots.clone())]) };
        let jwt = JwtBundlesResponse { bundles: BTreeMap::from([(id, keys)]) };
        let untainted = content.x509_authorities.iter().filter(|root| !root.tainted);
        let good_roots = untainted.map(|root| root.id.clone()).collect();
        let sequence = content.sequence;
        let (roots_since, token_keys_since) = (sequence, sequence);
        Ok(Self { sequence, roots_since, token_keys_since, roots, x509, jwt, verification: bundle, good_roots })
    }

    /// This version as the one that follows `before`: what did not change is as old as it was.
    fn following(mut self, before: &Self) -> Self {
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
        Self::new(&trust_domain, &BundleContent { sequence, ..BundleContent::default() }).unwrap()
    }
}

/// The newest version that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    newest: RwLock<Option<Arc<BundleAnswers>>>,
}

impl Bundles {
    /// The bundle as the state has it now.
    pub(crate) fn current(&self, state: &StateReader) -> Result<Arc<BundleAnswers>, Refusal> {
        if let Some(newest) = &*self.newest.read()
            && state.read(|state| state.counters().spiffe_sequence) == newest.sequence
        {
            return Ok(Arc::clone(newest));
        }
        let found = state.read(|state: &State| Some((state.cluster()?.trust_domain.clone(), state.bundle())));
        let (trust_domain, content) =
            found.ok_or_else(|| Refusal::unavailable("no authority has been founded on this node yet"))?;
        let made = BundleAnswers::new(&trust_domain, &content).map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the bundle cannot be read");
            Refusal::unavailable("the bundle cannot be read")
        })?;
        let mut newest = self.newest.write();
        let made = Arc::new(match &*newest {
            // Another caller has made it meanwhile, or a newer one. Versions are given out in order and no other way, so
            // that each can be compared with the one before.
            Some(newest) if newest.sequence >= made.sequence => return Ok(Arc::clone(newest)),
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
        BundleAnswers::new(&TrustDomain::new("example.org").unwrap(), &content).unwrap()
    }

    #[test]
    fn what_did_not_change_is_as_old_as_it_was() {
        let first = version(3, &["a"]);
        assert_eq!((first.roots_since, first.token_keys_since), (3, 3));
        let second = version(4, &["a", "b"]).following(&first);
        assert_eq!((second.roots_since, second.token_keys_since), (3, 4));
        let third = version(7, &[]).following(&second);
        assert_eq!((third.roots_since, third.token_keys_since), (3, 7));
    }

    #[test]
    fn nothing_is_good_under_a_root_that_is_not_in_the_bundle() {
        assert!(version(1, &[]).replaces(&AuthorityId::new("aa").unwrap()));
    }
}
