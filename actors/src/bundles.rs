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
        Ok(Self { sequence: content.sequence, roots, x509, jwt, verification: bundle, good_roots })
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
        let made = Arc::new(made);
        let mut newest = self.newest.write();
        // Another caller may have made a newer one meanwhile; theirs stays.
        if newest.as_ref().is_none_or(|newest| newest.sequence <= made.sequence) {
            *newest = Some(Arc::clone(&made));
        }
        Ok(made)
    }
}
