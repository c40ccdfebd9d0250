//! Recovery after the quorum was lost for good (design section 4, "Lost quorum"): offline, on one member.
//!
//! ```text
//!   log:  … committed … │ tail, of which nobody knows what was committed │ RaiseEpoch │ membership: this member alone
//!                         all of it is kept: what was acknowledged is in it, if this member had it
//! ```
//!
//! The epoch goes before the membership: where a crash leaves only the first of the two, the member still needs the others
//! for everything, and the recovery is begun again. The other way round it would be alone in an epoch that the old members
//! share.
//!
//! At its next start the member elects itself, and everything up to the raise of the epoch is committed. The epoch is in
//! every call between members: the old ones are refused, whatever they hold, and have to join anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, mpsc},
};

use quorate_proto_identity::{ClusterId, MemberNumber};
use quorate_raft_machine::{Caller, Command, CommandBatch, Operation, Origin};
use quorate_raft_store::{
    LogId, Record, Vote, WalIdentity,
    directory::{DirectoryError, NodeDirectory, Stage},
    disk::Disk,
    log::{OpenError, ReadError, Wal, WalError},
};

use crate::{
    config::Config,
    entries::{EntryError, from_record, to_record},
    limits::APPEND_ENTRIES_BYTES_MAX,
    log_id::to_raft,
    membership::RaftNode,
    reader::AppliedState,
    snapshot::{LoadError, Snapshots},
    sources::{Sources, WorkLost},
    type_config::{Entry, EntryPayload, Membership},
};

/// What a recovery has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member that it goes on with.
    pub member: MemberNumber,
    /// Whether that member had a vote. Only then are the root keys sealed to it.
    pub was_voter: bool,
    /// The other members, which have to join anew.
    pub others: BTreeSet<u64>,
    /// Log index of the last entry that was known to be committed.
    pub committed_index: u64,
    /// Log index of the last entry of the tail that was kept.
    pub last_index: u64,
}

/// Why nothing was recovered. The log is as it was, unless the cause is a failed write.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory is in use, or cannot be used. Stop the node first.
    #[error("the data directory {} cannot be used", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// No member lives there: there is nothing to recover from.
    #[error("the data directory holds no member of a cluster (it is {stage})")]
    NoMember {
        /// The stage of the directory.
        stage: Stage,
    },
    /// The member is in no membership of its own log: it was removed, or never got the log.
    #[error("member {member} does not belong to the cluster by its own log: recover on another member")]
    NotInMembership {
        /// Which.
        member: u64,
    },
    /// The log was not opened; the cause says what to do.
    #[error("the Raft log cannot be used")]
    Log(#[from] OpenError),
    /// The log cannot be read; the cause says what to do.
    #[error("the Raft log cannot be read")]
    Read(#[from] ReadError),
    /// An entry cannot be read: run the newest version that the cluster had.
    #[error("the Raft log holds an entry that this version cannot read: {0}")]
    Entry(String),
    /// The snapshots cannot be used; the cause says what to do.
    #[error("the snapshots cannot be used")]
    Snapshot(#[from] LoadError),
    /// What was appended is not surely durable. Try again.
    #[error("the Raft log cannot be written")]
    Write(#[from] WalError),
    /// The process is stopping.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

impl From<EntryError> for RecoverError {
    fn from(error: EntryError) -> Self {
        Self::Entry(crate::stop::with_causes(&error))
    }
}

/// Makes the member whose data directory this is the sole voter, and raises the cluster's epoch. Its node must not run.
///
/// # Errors
///
/// [`RecoverError`].
pub async fn recover(config: &Config, sources: &Sources, disk: Arc<dyn Disk>) -> Result<Recovered, RecoverError> {
    let (path, options, random) = (config.data_dir.clone(), config.log, sources.random_u64());
    let now = sources.now();
    let recovering = sources.run_blocking(move || {
        let opened = NodeDirectory::open(Arc::clone(&disk), &path);
        let directory = opened.map_err(|source| RecoverError::Directory { directory: path, source })?;
        let Stage::Member(identity) = directory.stage() else {
            return Err(RecoverError::NoMember { stage: directory.stage() });
        };
        let (wal, state) = Wal::open(Arc::clone(&disk), &directory.log_directory(), identity, options)?;
        let (_, loaded) = Snapshots::open(disk, &directory.snapshot_directory(), identity, state.purged)?;
        let last_membership = newest_membership(&wal, loaded.as_ref())?;
        let (recovered, node) = look(identity, &last_membership, &state)?;
        let command = Command {
            origin: Origin { node: identity.member, boot: random, sequence: 1, acknowledged: 0 },
            caller: Caller::node(),
            time: now,
            operations: vec![Operation::RaiseEpoch],
        };
        append(&wal, identity, node, &command, &state)?;
        Ok((wal, directory, recovered))
    });
    let (wal, directory, recovered) = recovering.await??;
    let closing = sources.run_blocking(move || {
        let closed = wal.close();
        // The lock goes last.
        drop(directory);
        closed
    });
    closing.await??;
    tracing::warn!(
        member = recovered.member.get(), others = ?recovered.others, committed = recovered.committed_index,
        last = recovered.last_index, "this member goes on alone, in a new epoch of the cluster"
    );
    Ok(recovered)
}

/// The newest membership that this member knows of: in its log, or else in its snapshot.
fn newest_membership(wal: &Wal, loaded: Option<&AppliedState>) -> Result<Membership, RecoverError> {
    let mut newest = loaded.map(|loaded| loaded.membership.membership().clone()).unwrap_or_default();
    let mut range = wal.range();
    while !range.is_empty() {
        let records = wal.read(range.clone(), APPEND_ENTRIES_BYTES_MAX)?;
        let Some(last) = records.last() else { break };
        range.start = last.log_id.index + 1;
        for record in records {
            if let EntryPayload::Membership(membership) = from_record(record)?.payload {
                newest = membership;
            }
        }
    }
    Ok(newest)
}

/// What there is to recover.
fn look(
    identity: WalIdentity,
    membership: &Membership,
    state: &quorate_raft_store::log::Recovered,
) -> Result<(Recovered, RaftNode), RecoverError> {
    let not_in = || RecoverError::NotInMembership { member: identity.member };
    let member = MemberNumber::new(identity.member).ok_or_else(not_in)?;
    let node = membership.get_node(&identity.member).cloned().ok_or_else(not_in)?;
    let recovered = Recovered {
        cluster: ClusterId::new(identity.cluster),
        member,
        was_voter: membership.voter_ids().any(|voter| voter == identity.member),
        others: membership.nodes().map(|(number, _)| *number).filter(|number| *number != identity.member).collect(),
        committed_index: state.committed.map_or(0, |id| id.index),
        last_index: state.last.map_or(0, |id| id.index),
    };
    Ok((recovered, node))
}

/// Appends both entries, the epoch's first, in a term of this member's own that nobody has seen.
fn append(
    wal: &Wal,
    identity: WalIdentity,
    node: RaftNode,
    command: &Command,
    state: &quorate_raft_store::log::Recovered,
) -> Result<(), RecoverError> {
    let seen = state.vote.map_or(0, |vote| vote.term).max(state.last.map_or(0, |id| id.term));
    let (term, own) = (seen + 1, identity.member);
    let mut next = state.last.map_or(0, |id| id.index + 1);
    let mut place = || {
        let log_id = LogId { term, node: own, index: next };
        next += 1;
        log_id
    };
    let batch = crate::batch::Batch::from_encoded(CommandBatch { commands: vec![command.clone()] }.encode());
    let raise = Entry { log_id: to_raft(place()), payload: EntryPayload::Normal(batch) };
    let alone = Membership::new(vec![BTreeSet::from([own])], BTreeMap::from([(own, node)]));
    let membership = Entry { log_id: to_raft(place()), payload: EntryPayload::Membership(alone) };
    let records: Vec<Record> = [raise, membership].iter().map(to_record).collect();
    durable(|callback| wal.save_vote(Vote { term, node: own, committed: true }, callback))?;
    durable(|callback| wal.append(records, callback))?;
    Ok(())
}

/// Waits, blocking, until something asked of the log is durable.
pub(crate) fn durable(
    ask: impl FnOnce(quorate_raft_store::log::Callback) -> Result<(), WalError>,
) -> Result<(), WalError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    ask(Box::new(move |result| drop(sender.send(result))))?;
    receiver.recv().unwrap_or(Err(WalError::Closed))
}
