//! openraft's types, chosen once.
//!
//! The names below are how the rest of the crate speaks of them; none of them is public.

use crate::{
    batch::{Batch, BatchOutcome},
    membership::RaftNode,
    runtime::Runtime,
    snapshot::SnapshotData,
};

openraft::declare_raft_types!(
    /// One Raft group: batches of commands in, outcomes per command out.
    pub(crate) TypeConfig:
        D = Batch,
        R = BatchOutcome,
        NodeId = u64,
        Node = RaftNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = SnapshotData,
        Responder = openraft::impls::OneshotResponder<TypeConfig>,
        AsyncRuntime = Runtime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type EntryPayload = openraft::EntryPayload<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type Membership = openraft::Membership<u64, RaftNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, RaftNode>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, RaftNode>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type StorageIoError = openraft::StorageIOError<u64>;
