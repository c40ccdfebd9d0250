//! Which member this node is, as the replicated state has it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use quorate_proto_identity::{MemberNumber, NodeName, SpiffeId};
use quorate_raft_machine::{NodeScope, State, members::Member, node_id};

/// This node's own record.
#[derive(Debug)]
pub(crate) struct OwnMember {
    /// Its number.
    pub(crate) number: MemberNumber,
    /// Which entries it serves.
    pub(crate) scope: NodeScope,
    /// Its SPIFFE ID.
    id: SpiffeId,
    revision: u64,
}

/// Finds this node's record, and remembers it until it changes.
#[derive(Debug)]
pub(crate) struct Own {
    name: NodeName,
    identity_key: Bytes,
    found: RwLock<Option<Arc<OwnMember>>>,
}

/// Why this node has no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAMember {
    /// No authority has been founded in this node's cluster.
    #[error("no authority has been founded on this node yet")]
    NotFounded,
    /// No member has this node's name.
    #[error("the cluster has no member of the name {name}")]
    UnknownName { name: NodeName },
    /// The member is on its way out, by an operator's command.
    #[error("the node {name} is being removed from the cluster, and signs nothing more")]
    Leaving { name: NodeName },
    /// A revocation says that this node issues nothing.
    #[error(
        "the node {name} is banned by revocation {revocation}, and signs nothing until that is removed (`quorate revocations \
         remove {revocation}`)"
    )]
    Banned { name: NodeName, revocation: u64 },
    /// The member of this name has another identity key: this node's keys were lost, or another node bears the name.
    #[error(
        "the member {name} has another identity key than this node: restore identity.key from a copy, or, in a cluster of \
         several nodes, remove this node and join it again"
    )]
    OtherKey { name: NodeName },
}

impl Own {
    /// The node of this name, with this identity key (subjectPublicKeyInfo, DER).
    pub(crate) fn new(name: NodeName, identity_key: Bytes) -> Self {
        Self { name, identity_key, found: RwLock::new(None) }
    }

    /// The record as `state` has it.
    pub(crate) fn member(&self, state: &State) -> Result<Arc<OwnMember>, NotAMember> {
        if let Some(found) = &*self.found.read()
            && let Some(member) = state.member(found.number)
            && member.revision == found.revision
            && member.record.status.is_admitted()
            && state.is_banned(None, &found.id, found.number).is_none()
        {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(self.look(state)?);
        *self.found.write() = Some(Arc::clone(&found));
        Ok(found)
    }

    fn look(&self, state: &State) -> Result<OwnMember, NotAMember> {
        let cluster = state.cluster().ok_or(NotAMember::NotFounded)?;
        let unknown = || NotAMember::UnknownName { name: self.name.clone() };
        let Member { number, revision, record, .. } = state.member_by_name(&self.name).ok_or_else(unknown)?;
        if record.identity_key != self.identity_key {
            return Err(NotAMember::OtherKey { name: self.name.clone() });
        }
        if !record.status.is_admitted() {
            return Err(NotAMember::Leaving { name: self.name.clone() });
        }
        let id = node_id(&cluster.trust_domain, self.name.as_str()).map_err(|_impossible| unknown())?;
        if let Some(revocation) = state.is_banned(None, &id, *number) {
            return Err(NotAMember::Banned { name: self.name.clone(), revocation: revocation.number });
        }
        // A record that the state took in always gives a scope.
        let scope = NodeScope::of_member(&cluster.trust_domain, record).map_err(|_impossible| unknown())?;
        Ok(OwnMember { number: *number, scope, id, revision: *revision })
    }
}
