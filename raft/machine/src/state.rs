//! The whole replicated state, and how it is read.

mod federation;
mod revocation;

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_proto_identity::{
    AuthorityId, ClusterId, EntryId, MemberNumber, NodeName, SelectorSet, SerialNumber, TrustDomain, UnixMillis,
    UnixSeconds,
};

use crate::access::{AccessRuleRecord, AccessSettings, ApiKey, ApiKeyId};
use crate::audit::AuditAnchor;
use crate::authority::{AuthorityState, IssuingCertificate, IssuingKey, JwtAuthority, X509Authority};
use crate::bundle::BundleContent;
use crate::entry::Entry;
use crate::federation::{ForeignBundle, Relationship, Secret, SecretName};
use crate::hash::StateHash;
use crate::invitation::Invitation;
use crate::members::Member;
use crate::objects::Objects;
use crate::origins::Origins;
use crate::plan::MembershipPlan;
use crate::policy::Policy;
use crate::recovery::RecoveryKey;
use crate::registry::{Entitled, EntryFilter, NodeScope, Registry};
use crate::revocation::index::RevocationIndex;
use crate::revocation::{Revocation, RevokedLeaf};
use crate::web::{Acme, OidcProvider, WebDomain};

/// What was founded, once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Tells this cluster from every other, those of the same trust domain too.
    pub id: ClusterId,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Raised by a recovery after lost quorum; peers of another epoch are refused (design section 4, lost quorum).
    pub epoch: u64,
    /// Which behaviour of `apply` is switched on: 1 at the founding, raised by a command in the log when every member can
    /// do it.
    pub version: u32,
    /// When it was founded, in the log's time.
    pub founded_at: UnixSeconds,
}

/// The policy, and how often it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyRecord {
    /// 1 from the founding on, one higher with each change.
    pub(crate) revision: u64,
    /// The policy.
    pub(crate) policy: Policy,
}

/// Numbers that only ever grow, but for the time, which one loud command can set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// The log's time: the latest stamp of any command, or what [`ResetTime`](crate::Operation::ResetTime) said.
    pub time: UnixMillis,
    /// What the next entry gets.
    pub next_creation_number: u64,
    /// What the next member gets.
    pub next_member_number: u64,
    /// The sequence number of the bundle; 0 before the founding.
    pub spiffe_sequence: u64,
    /// What the next revocation gets.
    pub next_revocation_number: u64,
    /// What the next issuing key gets.
    pub next_key_number: u64,
    /// How often any foreign bundle was changed or removed.
    pub foreign_version: u64,
    /// How often any relationship or secret was made or changed.
    pub federation_revision: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            time: UnixMillis(0),
            next_creation_number: 1,
            next_member_number: 1,
            spiffe_sequence: 0,
            next_revocation_number: 1,
            next_key_number: 1,
            foreign_version: 0,
            federation_revision: 0,
        }
    }
}

/// A revoked leaf, and whose CRL it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RevokedRecord {
    /// The issuing key.
    pub(crate) issuer: AuthorityId,
    /// The leaf.
    pub(crate) leaf: RevokedLeaf,
}

/// The replicated state. Only [`State::apply`] and a snapshot change it; everything else reads.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) cluster: Objects<(), Cluster>,
    pub(crate) policy: Objects<(), PolicyRecord>,
    pub(crate) counters: Objects<(), Counters>,
    pub(crate) members: Objects<MemberNumber, Member>,
    pub(crate) x509: Objects<AuthorityId, X509Authority>,
    pub(crate) jwt: Objects<AuthorityId, JwtAuthority>,
    pub(crate) issuing_keys: Objects<AuthorityId, IssuingKey>,
    pub(crate) issuing: Objects<(AuthorityId, SerialNumber), IssuingCertificate>,
    pub(crate) origins: Origins,
    pub(crate) registry: Registry,
    pub(crate) invitations: Objects<NodeName, Invitation>,
    pub(crate) plan: Objects<(), MembershipPlan>,
    pub(crate) recovery_key: Objects<(), RecoveryKey>,
    pub(crate) revocations: Objects<u64, Revocation>,
    pub(crate) revoked_leaves: Objects<(AuthorityId, SerialNumber), RevokedRecord>,
    pub(crate) anchors: Objects<(MemberNumber, u64), AuditAnchor>,
    pub(crate) relationships: Objects<TrustDomain, Relationship>,
    pub(crate) foreign: Objects<TrustDomain, ForeignBundle>,
    pub(crate) secrets: Objects<SecretName, Secret>,
    pub(crate) acme: Objects<(), Acme>,
    pub(crate) web_domains: Objects<String, WebDomain>,
    pub(crate) oidc: Objects<(), OidcProvider>,
    pub(crate) api_keys: Objects<ApiKeyId, ApiKey>,
    pub(crate) access_rules: Objects<Option<TrustDomain>, AccessRuleRecord>,
    pub(crate) access_settings: Objects<(), AccessSettings>,
    /// Derived: what follows from revocations, revoked leaves and CRLs.
    pub(crate) revocation_index: RevocationIndex,
    /// Derived: the bundle as it is now.
    pub(crate) bundle: Arc<BundleContent>,
}

impl State {
    /// The state before anything was applied.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was founded; none before that.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.get(&())
    }

    /// The trust domain's policy; none before the founding.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.get(&()).map(|record| &record.policy)
    }

    /// How often the policy was set; 0 before the founding.
    #[must_use]
    pub fn policy_revision(&self) -> u64 {
        self.policy.get(&()).map_or(0, |record| record.revision)
    }

    /// Numbers that only ever grow, and the log's time.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.get(&()).copied().unwrap_or_default()
    }

    /// Members, those that have gone too as far as they are remembered, in the order of their numbers.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this number, whether it has gone or not.
    #[must_use]
    pub fn member(&self, number: MemberNumber) -> Option<&Member> {
        self.members.get(&number)
    }

    /// The member of this name that has not gone.
    #[must_use]
    pub fn member_by_name(&self, name: &NodeName) -> Option<&Member> {
        self.members().find(|member| member.record.name == *name && !member.record.status.has_gone())
    }

    /// The member with this identity key (subjectPublicKeyInfo, DER), whether it has gone or not.
    #[must_use]
    pub fn member_by_key(&self, identity_key: &[u8]) -> Option<&Member> {
        self.members().find(|member| member.record.identity_key == identity_key)
    }

    /// Invitations that wait for their newcomers, and expired ones until they are pruned, in the order of names.
    pub fn invitations(&self) -> impl Iterator<Item = &Invitation> {
        self.invitations.values()
    }

    /// The invitation for this name.
    #[must_use]
    pub fn invitation(&self, name: &NodeName) -> Option<&Invitation> {
        self.invitations.get(name)
    }

    /// What the membership is to look like; the default until somebody set it.
    #[must_use]
    pub fn plan(&self) -> MembershipPlan {
        self.plan.get(&()).copied().unwrap_or_default()
    }

    /// The recovery key, if one is set.
    #[must_use]
    pub fn recovery_key(&self) -> Option<&RecoveryKey> {
        self.recovery_key.get(&())
    }

    /// Roots in every state that is kept, in the order of their IDs.
    pub fn x509_authorities(&self) -> impl Iterator<Item = &X509Authority> {
        self.x509.values()
    }

    /// The root with this ID.
    #[must_use]
    pub fn x509_authority(&self, id: &AuthorityId) -> Option<&X509Authority> {
        self.x509.get(id)
    }

    /// The root that signs; none before the founding.
    #[must_use]
    pub fn active_x509_authority(&self) -> Option<&X509Authority> {
        self.x509_authorities().find(|authority| authority.state == AuthorityState::Active)
    }

    /// Token keys in every state that is kept, in the order of their IDs.
    pub fn jwt_authorities(&self) -> impl Iterator<Item = &JwtAuthority> {
        self.jwt.values()
    }

    /// The token key with this ID.
    #[must_use]
    pub fn jwt_authority(&self, id: &AuthorityId) -> Option<&JwtAuthority> {
        self.jwt.get(id)
    }

    /// The token key that signs; none before the founding.
    #[must_use]
    pub fn active_jwt_authority(&self) -> Option<&JwtAuthority> {
        self.jwt_authorities().find(|authority| authority.state == AuthorityState::Active)
    }

    /// Issuing certificates, revoked and expired ones too until they are pruned, by key ID and serial number.
    pub fn issuing_certificates(&self) -> impl Iterator<Item = &IssuingCertificate> {
        self.issuing.values()
    }

    /// The issuing certificate of this key with this serial number.
    #[must_use]
    pub fn issuing_certificate(&self, key_id: &AuthorityId, serial: SerialNumber) -> Option<&IssuingCertificate> {
        self.issuing.get(&(key_id.clone(), serial))
    }

    /// Keys of issuing certificates, with their CRLs, in the order of their IDs.
    pub fn issuing_keys(&self) -> impl Iterator<Item = &IssuingKey> {
        self.issuing_keys.values()
    }

    /// The key of issuing certificates with this ID.
    #[must_use]
    pub fn issuing_key(&self, id: &AuthorityId) -> Option<&IssuingKey> {
        self.issuing_keys.get(id)
    }

    /// Members that may be signing at `now`, in the order of their numbers: those with an unexpired, unrevoked issuing
    /// certificate. The gate of an activation waits for all of them (design section 3).
    #[must_use]
    pub fn live_members(&self, now: UnixSeconds) -> Vec<MemberNumber> {
        let live: BTreeSet<MemberNumber> =
            self.issuing_certificates().filter(|issuing| issuing.is_live(now)).map(|issuing| issuing.member).collect();
        live.into_iter().collect()
    }

    /// The bundle as it is now.
    #[must_use]
    pub fn bundle(&self) -> Arc<BundleContent> {
        Arc::clone(&self.bundle)
    }

    /// How many entries there are.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.registry.len()
    }

    /// The entry with this ID.
    #[must_use]
    pub fn entry(&self, id: &EntryId) -> Option<Arc<Entry>> {
        self.registry.get(id).map(Arc::new)
    }

    /// Entries that the filter lets through, in the order of creation, from after the creation number `after` (0: from
    /// the first), at most `limit`. A page is shorter only when nothing follows it.
    #[must_use]
    pub fn list(&self, filter: &EntryFilter, after: u64, limit: usize) -> Vec<Arc<Entry>> {
        self.registry.list(filter, after, limit)
    }

    /// How many entries the filter lets through.
    #[must_use]
    pub fn count(&self, filter: &EntryFilter) -> usize {
        self.registry.count(filter)
    }

    /// The entries that entitle a workload with these selectors on a node with this scope, unexpired at `now`, in the
    /// order of creation, at most `limit` of them.
    #[must_use]
    pub fn entitled(&self, scope: &NodeScope, selectors: &SelectorSet, now: UnixSeconds, limit: usize) -> Entitled {
        self.registry.entitled(scope, selectors, now, limit)
    }

    /// Whether an entry lies in a node's scope at `now`: whether its parent is the node, the built-in parent of all
    /// nodes, an alias that the node matches, or a descendant of one of them.
    #[must_use]
    pub fn in_scope(&self, scope: &NodeScope, entry: &Entry, now: UnixSeconds) -> bool {
        self.registry.in_scope(scope, entry, now)
    }

    /// When the next entry expires, if any ever does.
    #[must_use]
    pub fn next_entry_expiry(&self) -> Option<UnixSeconds> {
        self.registry.next_expiry()
    }

    /// Whether an authority, an issuing certificate or an invitation has ended and can be removed.
    #[must_use]
    pub fn has_prunable_authorities(&self, now: UnixSeconds) -> bool {
        self.x509_authorities().any(|root| root.is_prunable(now))
            || self.jwt_authorities().any(|key| key.is_prunable(now))
            || self.issuing_certificates().any(|issuing| issuing.is_prunable(now))
            || self.invitations().any(|invitation| invitation.has_expired(now))
    }

    /// A hash over everything in the state, the same on every member after the same commands.
    #[must_use]
    pub fn state_hash(&self) -> StateHash {
        self.cluster
            .hash()
            .plus(self.policy.hash())
            .plus(self.counters.hash())
            .plus(self.members.hash())
            .plus(self.x509.hash())
            .plus(self.jwt.hash())
            .plus(self.issuing_keys.hash())
            .plus(self.issuing.hash())
            .plus(self.origins.hash())
            .plus(self.registry.hash())
            .plus(self.invitations.hash())
            .plus(self.plan.hash())
            .plus(self.recovery_key.hash())
            .plus(self.revocations.hash())
            .plus(self.revoked_leaves.hash())
            .plus(self.anchors.hash())
            .plus(self.relationships.hash())
            .plus(self.foreign.hash())
            .plus(self.secrets.hash())
            .plus(self.acme.hash())
            .plus(self.web_domains.hash())
            .plus(self.oidc.hash())
            .plus(self.api_keys.hash())
            .plus(self.access_rules.hash())
            .plus(self.access_settings.hash())
    }
}
