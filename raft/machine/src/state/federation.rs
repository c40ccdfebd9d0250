//! How relationships, foreign bundles and secrets are read.

use std::sync::Arc;

use quorate_proto_identity::TrustDomain;

use super::State;
use crate::federation::{ForeignBundle, Relationship, Secret, SecretName};
use crate::members::{Member, MemberServices};

impl State {
    /// Relationships with foreign trust domains, in the order of their names.
    pub fn relationships(&self) -> impl Iterator<Item = &Arc<Relationship>> {
        self.relationships.shared_values()
    }

    /// The relationship with this trust domain.
    #[must_use]
    pub fn relationship(&self, trust_domain: &TrustDomain) -> Option<&Arc<Relationship>> {
        self.relationships.shared(trust_domain)
    }

    /// Foreign bundles, in the order of their trust domains' names.
    pub fn foreign_bundles(&self) -> impl Iterator<Item = &Arc<ForeignBundle>> {
        self.foreign.shared_values()
    }

    /// The bundle of this foreign trust domain.
    #[must_use]
    pub fn foreign_bundle(&self, trust_domain: &TrustDomain) -> Option<&Arc<ForeignBundle>> {
        self.foreign.shared(trust_domain)
    }

    /// One higher at each change of any foreign bundle, or its removal.
    #[must_use]
    pub fn foreign_version(&self) -> u64 {
        self.counters().foreign_version
    }

    /// Secrets, sealed, in the order of their names.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secrets.values()
    }

    /// The secret of this name, sealed.
    #[must_use]
    pub fn secret(&self, name: &SecretName) -> Option<&Secret> {
        self.secrets.get(name)
    }

    /// Whether an admitted member serves our bundle to others: at a bundle endpoint, or by the Federation API. Who comes
    /// to read it is not known.
    #[must_use]
    pub fn serves_bundle_endpoint(&self) -> bool {
        self.any_admitted_serves(|serves| serves.bundle_endpoint.is_some() || serves.federation_api.is_some())
    }

    /// Whether an admitted member serves the Federation API, where watches are confirmed.
    #[must_use]
    pub fn serves_federation_api(&self) -> bool {
        self.any_admitted_serves(|serves| serves.federation_api.is_some())
    }

    /// Whether an admitted member serves our token keys to others by OIDC discovery.
    #[must_use]
    pub fn serves_oidc(&self) -> bool {
        self.any_admitted_serves(|serves| serves.oidc.is_some())
    }

    fn any_admitted_serves(&self, what: impl Fn(&MemberServices) -> bool) -> bool {
        let admitted = |member: &&Member| member.record.status.is_admitted();
        self.members().filter(admitted).any(|member| what(&member.record.serves))
    }
}
