//! Restoring a backup into an empty data directory, offline (design section 4; FLT-26).
//!
//! ```text
//!   Empty ──► Restoring(new cluster, new member) ──► snapshot: the state of the backup, this member the sole voter
//!     ▲              │                           ──► log: begins behind the snapshot; one entry, Restore, committed
//!     └── a crash ───┘                           ──► Member(new cluster, new member)
//! ```
//!
//! The stage is the last to change, and until then whoever opens the directory finds it empty. At its next start the member
//! applies the one entry before it serves anything, as it does with whatever is known to be committed, and elects itself.
//! That the change is a command in the log, and not made in the snapshot, has it told to whoever follows what is applied.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto_identity::{ClusterId, MemberNumber, UnixMillis};
use quorate_raft_machine::{
    Caller, Command, CommandBatch, Done, Operation, Origin, Refusal, State, invariants, invariants::Violation,
};
use quorate_raft_store::{
    LogId, Vote, WalIdentity,
    directory::{DirectoryError, NodeDirectory, Stage},
    log::{OpenError, Wal, WalError, WalOptions},
    snapshot::{SnapshotError, SnapshotMeta, SnapshotStore},
};

use crate::{
    entries::to_record,
    log_id::to_raft,
    membership::{MemberNode, RaftNode, encode_stored},
    recover::durable,
    type_config::{Entry, EntryPayload, Membership, StoredMembership},
};

/// The first term of a restored cluster.
const FIRST_TERM: u64 = 1;

/// What is restored, and as whom.
#[derive(Debug)]
pub struct Restoration {
    /// The state in the backup.
    pub state: State,
    /// The index of the last log entry in it.
    pub log_index: u64,
    /// [`Operation::Restore`].
    pub operation: Operation,
    /// The new cluster.
    pub cluster: ClusterId,
    /// The number of its one member.
    pub member: MemberNumber,
    /// Where that member is reached.
    pub node: MemberNode,
    /// The time of the command.
    pub time: UnixMillis,
    /// Who asked for it.
    pub caller: Caller,
    /// A number that no other restore has.
    pub boot: u64,
}

/// What a restore has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The sequence number of the bundle.
    pub sequence: u64,
    /// How many issuing certificates of the old cluster were revoked.
    pub revoked: u64,
    /// The index of the log entry that did it.
    pub log_index: u64,
}

/// Why nothing was restored. The directory is empty still, or again when it is opened next.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something lives in the directory already. Name an empty one.
    #[error("the data directory is not empty: it is {stage}")]
    NotEmpty {
        /// How far the life in it has come.
        stage: Stage,
    },
    /// The directory cannot be used.
    #[error("the data directory cannot be used")]
    Directory(#[from] DirectoryError),
    /// The state machine refused.
    #[error("the state in the backup cannot be restored: {}", _0.message)]
    Refused(Refusal),
    /// The operation is another one: a fault of this program.
    #[error("the operation is no restore")]
    NoRestore,
    /// The restored state breaks a rule of every state: a fault of this program. Keep the backup, and report it.
    #[error("the restored state would break a rule of every state: {0}")]
    Violation(Violation),
    /// The snapshot cannot be written.
    #[error("the restored state cannot be written")]
    Snapshot(#[from] SnapshotError),
    /// The log cannot be made.
    #[error("the Raft log cannot be made")]
    Log(#[from] OpenError),
    /// The log cannot be written.
    #[error("the Raft log cannot be written")]
    Write(#[from] WalError),
}

/// Writes a state into an empty data directory, as that of the sole voter of a new cluster. Blocks on the disk. `progress`
/// is told how many bytes are written.
///
/// # Errors
///
/// [`RestoreError`].
pub fn restore(
    directory: &mut NodeDirectory,
    options: WalOptions,
    restoration: Restoration,
    mut progress: impl FnMut(u64),
) -> Result<Restored, RestoreError> {
    match directory.stage() {
        Stage::Empty => {}
        stage @ (Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_) | Stage::Member(_)) => {
            return Err(RestoreError::NotEmpty { stage });
        }
    }
    let Restoration { mut state, log_index, operation, cluster, member, node, time, caller, boot } = restoration;
    let identity = WalIdentity { cluster: *cluster.as_bytes(), member: member.get() };
    let place = |index| LogId { term: FIRST_TERM, node: member.get(), index };
    let (begins, restores) = (place(log_index), place(log_index.saturating_add(1)));
    let command = Command {
        origin: Origin { node: member.get(), boot, sequence: 1, acknowledged: 0 },
        caller,
        time,
        operations: vec![operation],
    };
    // Tried out before anything is written: what the member will apply is known to be in order.
    let view = state.view();
    let (sequence, revoked) = try_out(&mut state, restores.index, &command)?;
    drop(state);

    directory.advance(Stage::Restoring(identity))?;
    let alone =
        Membership::new(vec![BTreeSet::from([member.get()])], BTreeMap::from([(member.get(), RaftNode::from(&node))]));
    let membership = encode_stored(&StoredMembership::new(Some(to_raft(begins)), alone));
    let store = SnapshotStore::open(directory.disk(), &directory.snapshot_directory(), identity)?;
    let meta =
        SnapshotMeta { last_log_id: Some(begins), id: format!("restored-{boot:016x}"), membership: membership.into() };
    let mut writer = store.begin(&meta)?;
    for chunk in view.chunks() {
        writer.write(&chunk)?;
        progress(writer.bytes());
    }
    writer.finish(None)?;

    let (wal, _) = Wal::create(directory.disk(), &directory.log_directory(), identity, options)?;
    let written = write_log(&wal, begins, restores, &command);
    let closed = wal.close();
    written?;
    closed?;
    directory.advance(Stage::Member(identity))?;
    Ok(Restored { sequence, revoked, log_index: restores.index })
}

/// Applies the command, and checks what comes of it.
fn try_out(state: &mut State, log_index: u64, command: &Command) -> Result<(u64, u64), RestoreError> {
    let outcome = state.apply(log_index, command, &mut Vec::new());
    let done = match outcome.results.into_iter().next() {
        Some(Ok(Done::Restored { sequence, revoked, .. })) => (sequence, revoked),
        Some(Err(refusal)) => return Err(RestoreError::Refused(refusal)),
        Some(Ok(_)) | None => return Err(RestoreError::NoRestore),
    };
    match invariants::violations(state).into_iter().next() {
        Some(violation) => Err(RestoreError::Violation(violation)),
        None => Ok(done),
    }
}

/// A log that begins behind the snapshot, holds the one entry, and knows that it is committed.
fn write_log(wal: &Wal, begins: LogId, restores: LogId, command: &Command) -> Result<(), WalError> {
    let batch = crate::batch::Batch::from_encoded(CommandBatch { commands: vec![command.clone()] }.encode());
    let entry = Entry { log_id: to_raft(restores), payload: EntryPayload::Normal(batch) };
    durable(|callback| wal.purge(begins, callback))?;
    durable(|callback| wal.save_vote(Vote { term: FIRST_TERM, node: restores.node, committed: true }, callback))?;
    durable(|callback| wal.append(vec![to_record(&entry)], callback))?;
    wal.save_committed(restores)?;
    durable(|callback| wal.settle(callback))
}
