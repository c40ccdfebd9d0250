//! Log storage and state machine without a Raft over them, for the tests of this crate.

use std::{path::Path, sync::Arc};

use quorate_proto_identity::UnixMillis;
use quorate_raft_machine::{Caller, Command, Operation, Origin};
use quorate_raft_store::{
    WalIdentity,
    disk::{Disk, SimulatedDisk},
    log::{Drive, Wal, WalOptions},
};

use crate::{
    adapter::Adapter,
    compaction::LogGrowth,
    config::SnapshotLimits,
    log_storage::LogStorage,
    reader::Shared,
    snapshot::Snapshots,
    sources::{Blocking, Entropy, Sources, WallClock, Work, WorkDone},
    stop::StopCause,
};

/// Sources that never differ: work runs inline, numbers are all alike.
struct Plain;

impl WallClock for Plain {
    fn now(&self) -> UnixMillis {
        UnixMillis(0)
    }
}

impl Entropy for Plain {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Blocking for Plain {
    fn run(&self, work: Work) -> WorkDone {
        work();
        Box::pin(std::future::ready(()))
    }
}

pub(crate) const IDENTITY: WalIdentity = WalIdentity { cluster: [3; 16], member: 1 };

/// A member's storage on a disk in memory.
pub(crate) struct Parts {
    pub(crate) disk: SimulatedDisk,
    pub(crate) wal: Wal,
    pub(crate) log: LogStorage,
    pub(crate) adapter: Adapter,
    pub(crate) stop: StopCause,
}

/// An empty storage, whose writer works when it is told to or at once.
pub(crate) fn parts(drive: Drive) -> Parts {
    parts_on(SimulatedDisk::new("/disk"), drive, true)
}

/// A storage on this disk.
pub(crate) fn parts_on(disk: SimulatedDisk, drive: Drive, is_new: bool) -> Parts {
    parts_of(IDENTITY, disk, drive, is_new)
}

/// The storage of this member on this disk.
pub(crate) fn parts_of(identity: WalIdentity, disk: SimulatedDisk, drive: Drive, is_new: bool) -> Parts {
    let dynamic: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = WalOptions { drive, ..WalOptions::default() };
    let open = if is_new { Wal::create } else { Wal::open };
    let (wal, recovered) = open(Arc::clone(&dynamic), Path::new("/disk/log"), identity, options).unwrap();
    let (snapshots, loaded) =
        Snapshots::open(dynamic, Path::new("/disk/snapshots"), identity, recovered.purged).unwrap();
    let shared = Shared::new();
    if let Some(loaded) = loaded {
        *shared.applied.write() = loaded;
    }
    let stop = StopCause::default();
    let sources = Sources::new(Plain, Plain, Plain);
    let growth = LogGrowth::new(SnapshotLimits::default(), None);
    let log = LogStorage::new(wal.clone(), identity.member, Arc::clone(&growth), sources.clone(), stop.clone());
    let adapter = Adapter { shared, snapshots, growth, sources, stop: stop.clone(), tap: Arc::new(crate::tap::NoTap) };
    Parts { disk, wal, log, adapter, stop }
}

/// A command of which the state remembers the outcome, a refusal, and nothing else.
pub(crate) fn command(sequence: u64) -> Command {
    Command {
        origin: Origin { node: 1, boot: 1, sequence, acknowledged: 0 },
        caller: Caller::node(),
        time: UnixMillis(1),
        operations: vec![Operation::PruneExpiredEntries],
    }
}
