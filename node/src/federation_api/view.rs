//! The replicated state, as the decision about a call looks at it.

use std::sync::Arc;

use quorate_proto_identity::{Bundle, TrustDomain};
use quorate_raft_machine::State;
use quorate_raft_machine::access::{AccessRule, ApiKey, ApiKeyId};

use super::decide::AccessView;

impl AccessView for State {
    fn own(&self) -> Option<TrustDomain> {
        self.cluster().map(|cluster| cluster.trust_domain.clone())
    }

    fn rule(&self, peer: Option<&TrustDomain>) -> AccessRule {
        self.access_for(peer)
    }

    fn peer_rules(&self) -> Vec<(TrustDomain, AccessRule)> {
        self.access_rules().filter_map(|record| Some((record.peer.clone()?, record.rule.clone()))).collect()
    }

    fn api_key(&self, id: &ApiKeyId) -> Option<ApiKey> {
        Self::api_key(self, id).cloned()
    }

    fn foreign_bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        Self::foreign_bundle(self, trust_domain).map(|foreign| Arc::clone(&foreign.bundle))
    }

    fn is_related(&self, trust_domain: &TrustDomain) -> bool {
        self.relationship(trust_domain).is_some()
    }
}
