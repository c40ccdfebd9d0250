//! What the tests share.

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft_store::disk::{Disk, SimulatedDisk};
use quorate_raft_store::log::{Callback, Drive, OpenError, Recovered, Wal, WalError, WalOptions};
use quorate_raft_store::{LogId, Record, Vote, WalIdentity};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const IDENTITY: WalIdentity = WalIdentity { cluster: *b"a test's cluster", member: 3 };
pub(crate) const ROOT: &str = "/data";

/// Small enough that a test sees many segments.
pub(crate) const SMALL_SEGMENT: u64 = 2048;

pub(crate) fn directory() -> PathBuf {
    Path::new(ROOT).join("log")
}

pub(crate) fn inline() -> WalOptions {
    WalOptions { drive: Drive::Inline, segment_bytes: SMALL_SEGMENT, cache_bytes: 512 }
}

pub(crate) fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(crate) fn create(disk: &SimulatedDisk) -> Wal {
    Wal::create(shared(disk), &directory(), IDENTITY, inline()).unwrap().0
}

pub(crate) fn open(disk: &SimulatedDisk) -> Result<(Wal, Recovered), OpenError> {
    Wal::open(shared(disk), &directory(), IDENTITY, inline())
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { term, node: 1, index }
}

/// An entry whose body is told by its log ID, so that any other body is noticed.
pub(crate) fn record(term: u64, index: u64, size: usize) -> Record {
    let text = format!("{term}/{index};");
    let body: Vec<u8> = text.bytes().cycle().take(size).collect();
    Record { log_id: log_id(term, index), kind: 1, body: Bytes::from(body) }
}

pub(crate) fn records(term: u64, indexes: std::ops::Range<u64>, size: usize) -> Vec<Record> {
    indexes.map(|index| record(term, index, size)).collect()
}

pub(crate) fn vote(term: u64) -> Vote {
    Vote { term, node: 2, committed: false }
}

/// What callbacks said, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(Arc<Mutex<Vec<Result<(), WalError>>>>);

impl Answers {
    pub(crate) fn callback(&self) -> Callback {
        let answers = Arc::clone(&self.0);
        Box::new(move |result| answers.lock().push(result))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn all_ok(&self) -> bool {
        self.0.lock().iter().all(Result::is_ok)
    }

    pub(crate) fn all_failed(&self) -> bool {
        self.0.lock().iter().all(Result::is_err)
    }
}

/// The whole of a log: its entries with the state beside them.
pub(crate) fn content(wal: &Wal) -> (Recovered, Vec<Record>) {
    let range = wal.range();
    let entries = wal.read(range.clone(), usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, range.end - range.start);
    (wal.recovered_now(), entries)
}

/// A number of rounds from the environment, so that the full run and the quick one are the same code.
pub(crate) fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
