//! How consensus is on this node, in figures, for health answers and for people.

use std::sync::Arc;

use quorate_proto_identity::{ClusterId, MemberNumber};

use crate::role::Role;

/// A snapshot of the health of consensus on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The role of this node.
    pub role: Role,
    /// The cluster that it belongs to.
    pub cluster: Option<ClusterId>,
    /// Its number there.
    pub member: Option<MemberNumber>,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<MemberNumber>,
    /// Log index of the last entry it has.
    pub last_log_index: Option<u64>,
    /// Log index of the last entry it knows to be committed.
    pub committed_index: Option<u64>,
    /// Log index of the last entry it has applied.
    pub applied_index: Option<u64>,
    /// Log index of the last entry in its newest snapshot.
    pub snapshot_index: Option<u64>,
    /// Log index of the last entry it has purged.
    pub purged_index: Option<u64>,
    /// Bytes of the entries that are not purged.
    pub log_bytes: u64,
    /// Proposals that wait for a batch.
    pub queued_proposals: usize,
    /// Free bytes on the file system of the log at the last look.
    pub free_space_bytes: Option<u64>,
    /// Free bytes below which only the authority's own upkeep, deletes and revocations are taken.
    pub space_reserve_bytes: u64,
    /// What ended consensus on this node, if it has ended.
    pub stopped: Option<Arc<str>>,
}

impl Health {
    /// Whether proposals of every kind are taken here at the moment.
    pub fn takes_proposals(&self) -> bool {
        self.role.is_leader()
            && self.stopped.is_none()
            && self.free_space_bytes.is_none_or(|free| free >= self.space_reserve_bytes)
    }
}
