//! Anchors of members' audit logs: how far each log was, and what its records came to, told to everybody.

use quorate_proto_identity::{MemberNumber, UnixSeconds};

/// Most anchors that are kept of a member, the newest ones: one tells that records after it were cut off, a few more tell
/// since when.
pub const AUDIT_ANCHORS_PER_MEMBER: usize = 8;

/// How many bytes the hash of an audit record has.
pub const AUDIT_HASH_BYTES: usize = 32;

/// The head of a member's audit log when it was told to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditAnchor {
    /// Whose log.
    pub member: MemberNumber,
    /// How many records it had.
    pub records: u64,
    /// The last log index that its records derive from. Grows from one anchor of a member to the next.
    pub index: u64,
    /// The hash of its last record.
    pub hash: [u8; AUDIT_HASH_BYTES],
    /// When it was recorded, in the log's time.
    pub recorded_at: UnixSeconds,
}
