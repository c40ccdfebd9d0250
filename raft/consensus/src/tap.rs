//! Who hears of every command as it is applied, with what came of it: the audit trail.
//!
//! [`AppliedEvents`](crate::AppliedEvents) tell what changed, to whoever keeps up. A tap is told what was asked for, by
//! whom, and what came of it, refusals too, and misses nothing without knowing it:
//!
//! ```text
//!   start:     state loaded from a snapshot ──► replaced(index) ──► log after it is applied again ──► applied(..), ...
//!   running:   applied(..), applied(..), ...         the same index again only after a restart
//!   leader sends a snapshot ──► replaced(index): nobody will be told of what lies before
//!   snapshot about to be durable ──► settled(index): once it is, a restart tells nothing of what lies before
//! ```

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use quorate_raft_machine::{Command, Outcome};

/// How long a snapshot waits for the tap to have settled what the snapshot holds. A snapshot frees memory and log, so a tap
/// whose disk hangs does not keep it for ever; what the tap loses by that if the process dies now, it can tell from
/// [`Tap::replaced`] at the next start.
pub const TAP_SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// A command and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedCommand {
    /// The command.
    pub command: Command,
    /// What came of it.
    pub outcome: Outcome,
    /// It had been carried out before, was sent again under its own origin, and changed nothing this time.
    pub is_repeat: bool,
}

/// Ready when what was asked for has come about, or never will.
pub type Settling = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Hears what is applied on this node, in the order of the log.
///
/// All calls come from the task that applies and must return at once: whoever writes to a disk queues, and does it
/// elsewhere.
pub trait Tap: fmt::Debug + Send + Sync + 'static {
    /// The commands of one log entry were applied, in this order. `bytes` is their size in the log.
    fn applied(&self, log_index: u64, bytes: usize, commands: Vec<AppliedCommand>);

    /// The state was replaced by one that holds everything up to this log index, at a start or by a leader's snapshot.
    fn replaced(&self, log_index: u64);

    /// Whether an operator's command may be proposed on this node: what must be recorded must find room. The node's own
    /// upkeep is not asked about.
    ///
    /// # Errors
    /// Why not, and what to do.
    fn permits(&self) -> Result<(), Arc<str>>;

    /// Ready when nothing told so far, up to this log index, can be lost by a crash any more.
    fn settled(&self, log_index: u64) -> Settling;
}

/// The tap of a node that keeps no audit trail.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn applied(&self, _log_index: u64, _bytes: usize, _commands: Vec<AppliedCommand>) {}

    fn replaced(&self, _log_index: u64) {}

    fn permits(&self) -> Result<(), Arc<str>> {
        Ok(())
    }

    fn settled(&self, _log_index: u64) -> Settling {
        Box::pin(std::future::ready(()))
    }
}
