//! What subscribers of this node hear after something was applied.

use quorate_raft_machine::Event;

/// The changes that one log entry made.
///
/// They are sent after the state has been changed, in the order of the log, and before the proposer of the change is
/// answered. A subscriber that falls [`EVENTS_KEPT`](crate::limits::EVENTS_KEPT) entries behind is told so by
/// `RecvError::Lagged` and must read the state afresh: what it missed is not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEvents {
    /// The log index of the entry.
    pub index: u64,
    /// What it changed, in order. Empty when the whole state was replaced.
    pub events: Vec<Event>,
    /// The whole state was replaced by a snapshot that the leader sent: whatever was derived from it must be read
    /// afresh, as after `Lagged`.
    pub replaced: bool,
}
