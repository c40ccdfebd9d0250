//! The audit trail of this node: every administrative act and, by policy, every issuance is a record (ATK-47).
//!
//! ```text
//!   consensus: applied, refused ──► tap ─────────────┐           data_dir/audit: hash-chained lines of JSON
//!   issuer, minter: SVIDs, by policy ──► Auditor ────┼──► queue ──► writer ──► chain ──► files ──► reader ──► show, follow
//!   services: not admitted, asked ──► Auditor ───────┘                │                    └─────► verify (offline, too)
//!                                                                     └──► AnchorAudit: the head, in the replicated state
//!
//!   operators' writes ──► may_administer?          issuance under "required" ──► record synced first, then the SVID
//! ```
//!
//! Administrative records are a pure function of what is applied, so that every node has the same, whoever took the call.
//! What happens at one node alone is in its own trail. Log indexes tell what is there already: a restart applies the log
//! again and adds only what is missing; what cannot be had any more (a snapshot was installed, the queue overflowed) is
//! told by a record of the gap. Applying never waits for the disk.
//!
//! The actor is started and restarted by the supervisor, after the node became a member; the queue
//! outlives it, and exists before consensus starts. The reasons are in `docs/decisions/0018-audit-trail.md`, the form of
//! records in `docs/reference/audit.md`.

mod acts;
mod auditor;
mod chain;
mod queue;
mod reader;
mod record;
mod verify;
mod walk;
mod writer;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

pub(crate) use auditor::{Issuance, Mark};
pub(crate) use writer::WriterArguments;

pub use auditor::{Asked, AuditSettings, Auditor, TrailBlocked, TrailStatus};
pub use chain::{ChainError, FILE_BYTES, Limits};
pub use reader::{Filter, Reader, Shown};
pub use record::{Kind, Position, Record, RecordHash, timestamp};
pub use verify::{Anchor, Finding, Flaw, Note, Verdict, Verification, verify};
pub use walk::{Head, Why};
pub use writer::ANCHOR_EVERY;

use crate::mailbox::Envelope;

/// The actor hears of the end of its own task and of nothing else; what is to be recorded goes through a queue that outlives
/// it.
pub(crate) const AUDIT_MAILBOX_LIMIT: usize = 1;

/// The actor: owns the task that writes.
pub(crate) struct AuditActor;

/// What it is told: only by its own task.
pub(crate) enum AuditMessage {
    /// The task that writes has ended, which it does only by a fault.
    WriterEnded,
}

/// What it keeps: the task, which dies with it.
pub(crate) struct AuditState {
    _writer: JoinSet<()>,
}

impl Actor for AuditActor {
    type Msg = Envelope<AuditMessage>;
    type State = AuditState;
    type Arguments = WriterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut writer = JoinSet::new();
        let ended = Ended(myself);
        writer.spawn(async move {
            let _ended = ended;
            writer::write(arguments).await;
        });
        Ok(AuditState { _writer: writer })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match envelope.open().0 {
            AuditMessage::WriterEnded => Err("the task that writes the audit trail has ended".into()),
        }
    }
}

/// Tells the actor that its task has ended, also when it panicked.
struct Ended(ActorRef<Envelope<AuditMessage>>);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.send_message(Envelope::own(AuditMessage::WriterEnded)));
    }
}

#[cfg(test)]
mod tests;
