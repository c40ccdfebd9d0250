//! The values that consensus gives the log to keep: positions, votes, entries, and whose log it is.
//!
//! They mirror openraft's types without naming them, so that this crate stays free of openraft.

use bytes::Bytes;
use std::fmt;

/// Position of an entry: who led when it was written, and where it stands.
///
/// Ordered as Raft orders logs: by term, then leader, then index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term of the leader that wrote the entry.
    pub term: u64,
    /// Member number of that leader.
    pub node: u64,
    /// Place in the log, from 0.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.term, self.node, self.index)
    }
}

/// The vote a member gave, the one thing besides entries that Raft must never forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vote {
    /// Term the vote belongs to.
    pub term: u64,
    /// Member number of the candidate.
    pub node: u64,
    /// Whether a quorum granted it, so that the candidate leads.
    pub committed: bool,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub log_id: LogId,
    /// What the body is; the meaning is the caller's (blank, command batch, membership).
    pub kind: u8,
    /// The caller's bytes, at most [`MAX_RECORD_BYTES`](crate::log::MAX_RECORD_BYTES).
    pub body: Bytes,
}

/// Whose log this is: written into every segment, so that a directory copied from another member or
/// another cluster is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WalIdentity {
    /// Cluster ID.
    pub cluster: [u8; 16],
    /// Member number.
    pub member: u64,
}

impl fmt::Display for WalIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of cluster ", self.member)?;
        self.cluster.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
