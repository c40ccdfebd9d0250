//! What a node tells consensus at its start.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use quorate_raft_machine::{MemberServices, NetworkProfile};
use quorate_raft_store::{
    free_space::{FREE_SPACE_FLOOR_BYTES, FREE_SPACE_RESERVE_BYTES},
    log::WalOptions,
};
use tokio::runtime;

use crate::{
    limits::{
        BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX, LOG_TAIL_BYTES, QUEUE_BYTES_MAX, QUEUE_PROPOSALS_MAX,
        SNAPSHOT_LOG_BYTES,
    },
    tap::{NoTap, Tap},
};

/// What a node says of itself to its peers, and makes known anew when its record says something else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Announcement {
    /// Its identity key, subjectPublicKeyInfo in DER: the one that its transport proves. Empty where none is proved.
    pub identity_key: Bytes,
    /// Names and ports at which peers reach it, in order of preference. Empty: as its record says.
    pub addresses: Vec<String>,
    /// The version of its program, for people. Empty: as its record says.
    pub build: String,
    /// What it serves to others than our workloads.
    pub serves: MemberServices,
}

/// The configuration of consensus on one node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's directory. Log, vote, snapshots and the identity of the node lie in it.
    pub data_dir: PathBuf,
    /// What this node says of itself.
    pub announcement: Announcement,
    /// The runtime that consensus runs on: one of its own, so that signing load cannot starve heartbeats.
    pub runtime: runtime::Handle,
    /// How far the voters are from each other, until the policy in the state says so. A change of policy takes effect when it is
    /// applied.
    pub network: NetworkProfile,
    /// How the log is written; a simulation drives it inline.
    pub log: WalOptions,
    /// How commands are put together into log entries.
    pub batch: BatchLimits,
    /// How many proposals may wait.
    pub queue: QueueLimits,
    /// When snapshots are taken.
    pub snapshot: SnapshotLimits,
    /// Free bytes below which the authority's own upkeep, deletes and revocations alone are taken, and no snapshot is
    /// begun.
    pub space_reserve_bytes: u64,
    /// Free bytes below which nothing is taken; counts for no more than the reserve.
    pub space_floor_bytes: u64,
    /// Hears of every command as it is applied.
    pub tap: Arc<dyn Tap>,
}

impl Config {
    /// The usual limits for a node whose directory is `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>, runtime: runtime::Handle) -> Self {
        Self {
            data_dir: data_dir.into(),
            announcement: Announcement::default(),
            runtime,
            network: NetworkProfile::Site,
            log: WalOptions::default(),
            batch: BatchLimits::default(),
            queue: QueueLimits::default(),
            snapshot: SnapshotLimits::default(),
            space_reserve_bytes: FREE_SPACE_RESERVE_BYTES,
            space_floor_bytes: FREE_SPACE_FLOOR_BYTES,
            tap: Arc::new(NoTap),
        }
    }
}

/// Limits of one log entry. None counts for more than its default, which is what every member can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Commands in one batch.
    pub commands: usize,
    /// Bytes of one batch of several commands.
    pub bytes: usize,
    /// Bytes of one command.
    pub command_bytes: usize,
}

impl BatchLimits {
    /// These limits, none of them above what a log entry may hold.
    pub(crate) fn bounded(self) -> Self {
        let most = Self::default();
        Self {
            commands: self.commands.clamp(1, most.commands),
            bytes: self.bytes.min(most.bytes),
            command_bytes: self.command_bytes.min(most.command_bytes),
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { commands: BATCH_COMMANDS_MAX, bytes: BATCH_BYTES_MAX, command_bytes: COMMAND_BYTES_MAX }
    }
}

/// Limits of what may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Proposals.
    pub proposals: usize,
    /// Bytes of them all.
    pub bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { proposals: QUEUE_PROPOSALS_MAX, bytes: QUEUE_BYTES_MAX }
    }
}

/// When snapshots are taken, and what is kept of the log below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotLimits {
    /// Bytes of applied log since the last snapshot that bring about the next.
    pub log_bytes: u64,
    /// Bytes of log below the snapshot that are kept.
    pub tail_bytes: u64,
}

impl Default for SnapshotLimits {
    fn default() -> Self {
        Self { log_bytes: SNAPSHOT_LOG_BYTES, tail_bytes: LOG_TAIL_BYTES }
    }
}
