//! Founding: makes everything that the first command of a cluster carries.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::{ClusterId, MemberNumber, NodeName, TrustDomain};
use quorate_raft_consensus::Sources;
use quorate_raft_machine::{Found, MemberDraft, MemberRole, MemberStatus, Operation, Policy, PolicyError, Recipient};

use super::documents::{DocumentError, SealingRecipient, Workshop};
use crate::{keys::KeyCustody, sources::KeySource};

/// What a person decides when founding a cluster.
#[derive(Debug, Clone)]
pub struct FoundingPlan {
    /// The cluster's random number, as consensus drew it.
    pub cluster: ClusterId,
    /// The number that the founding member will have, as consensus gave it.
    pub member: MemberNumber,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The trust domain's policy.
    pub policy: Policy,
    /// The founding node's name.
    pub name: NodeName,
    /// Where it stands, coarsely; empty when not told.
    pub region: String,
    /// Where it stands, finely; empty when not told.
    pub zone: String,
    /// What else tells it apart.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Names and ports at which peers will reach it.
    pub addresses: Vec<String>,
    /// Highest version of commands that its program can apply.
    pub version: u32,
    /// The version of its program, for people.
    pub build: String,
}

/// Why nothing was founded. Nothing has been changed then.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The policy contradicts itself.
    #[error("the policy is refused")]
    Policy(#[from] PolicyError),
    /// A key or certificate could not be made.
    #[error("the authority's keys could not be made")]
    Document(#[from] DocumentError),
}

/// Makes the first root and token key, seals them to the founding member, and puts the operation together that founds
/// the authority. Run again, it makes other keys: only the operation that is applied first counts.
///
/// # Errors
/// When the policy is refused or a key cannot be made.
pub async fn plan(
    plan: FoundingPlan,
    sources: &Sources,
    keys: Arc<dyn KeySource>,
    custody: Arc<dyn KeyCustody>,
) -> Result<Operation, FoundingError> {
    plan.policy.check()?;
    let member = MemberDraft {
        name: plan.name,
        identity_key: Bytes::copy_from_slice(custody.identity_public_key().spki_der()),
        sealing_key: Bytes::copy_from_slice(custody.sealing_public_key()),
        // Drawn here, and never asked for: whoever comes with this key and an empty directory has lost the founder's disk,
        // and is refused whatever number it brings (FLT-18).
        incarnation: Some(sources.random()),
        region: plan.region,
        zone: plan.zone,
        labels: plan.labels,
        addresses: plan.addresses,
        version: plan.version,
        build: plan.build,
        role: MemberRole::Voter,
        role_pinned: false,
        status: MemberStatus::Admitted,
        serves: quorate_raft_machine::MemberServices::default(),
    };
    let founder = [SealingRecipient { recipient: Recipient::Member(plan.member), key: member.sealing_key.clone() }];
    let workshop = Workshop { sources: sources.clone(), keys, custody };
    let policy = plan.policy;
    let x509_authority =
        workshop.root(plan.cluster, &plan.trust_domain, policy.root_key_type, policy.root_lifetime, &founder).await?;
    let jwt_authority =
        workshop.token_key(plan.cluster, policy.jwt_key_type, policy.jwt_key_lifetime, &founder).await?;
    Ok(Operation::Found(Box::new(Found {
        cluster_id: plan.cluster,
        trust_domain: plan.trust_domain,
        policy,
        member,
        x509_authority,
        jwt_authority,
    })))
}
