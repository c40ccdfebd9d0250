//! Who is connected, and who knows it (design section 2).
//!
//! ```text
//!   member ── report n, sent at s ──► leader, whose newest quorum acknowledgement is `age` old
//!          ◄── answer to n, age ─────
//!   connected until s - age + CONTACT_LIMIT                  counts the member as connected until r + CONTACT_LIMIT,
//!                                                            r being when the report came
//! ```
//!
//! The leader's time is never before the member's, so that a member always knows of its cut before the leader stops
//! waiting for it. The age is what keeps that true for a leader that was replaced and does not know it yet: whoever
//! follows it is connected for no longer than a quorum stood behind it.
//!
//! What was acknowledged while a member was cut off, nobody has asked it about. It counts as connected again only when it
//! has applied what the leader had applied at its first answer.

use std::time::Duration;

use quorate_proto_identity::MemberNumber;
use tokio::time::Instant;

/// Whether this member is connected to the cluster (design section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The leader answered a report that is younger than [`CONTACT_LIMIT`](crate::limits::CONTACT_LIMIT); on the leader,
    /// a quorum did. What was acknowledged before the contact began has been applied here, and what this member has
    /// applied by `until` is waited for by whoever acknowledges a withdrawal.
    Connected {
        /// When it ends unless it is renewed before.
        until: Instant,
    },
    /// No answer is that young. What is deleted elsewhere may still be here.
    CutOff {
        /// When the last contact ended, or when this process started.
        since: Instant,
    },
}

impl Contact {
    /// Whether it lasts at `now`.
    #[must_use]
    pub fn is_connected_at(&self, now: Instant) -> bool {
        match self {
            Self::Connected { until } => now < *until,
            Self::CutOff { .. } => false,
        }
    }
}

/// What this node knows of a member. The leader knows all of it; another member, only what concerns itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberContact {
    /// Which member.
    pub number: MemberNumber,
    /// Log index of the last entry that it said to have applied; 0 when it has said nothing.
    pub applied_index: u64,
    /// When its last report came.
    pub last_report: Option<Instant>,
    /// Whether it counts as connected. A new leader counts every member as connected for a while.
    pub connected: bool,
    /// How far its clock is ahead of the leader's, in milliseconds, by its newest good sample.
    pub clock_offset_millis: Option<i64>,
    /// The round trip of the last call to it.
    pub round_trip: Option<Duration>,
}
