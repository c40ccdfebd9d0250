//! Settings of a log.

use super::limits::{CACHE_BYTES, SEGMENT_BYTES};

/// Who runs the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Drive {
    /// A thread of its own (WAL-05): what a node uses.
    #[default]
    Thread,
    /// The caller, before a call returns: what a simulation uses, so that one seed gives one history
    /// (SIM-03). For one thread: a call made while another runs the writer may wait for the next.
    /// [`Wal::settle`](super::Wal::settle) stands for the thread's second of quiet (WAL-07).
    Inline,
    /// The caller, when it calls [`Wal::run_queued`](super::Wal::run_queued): what a test uses to make groups.
    Manual,
}

/// Settings of a log. The defaults are what a node uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalOptions {
    /// Who runs the writer.
    pub drive: Drive,
    /// Length at which a segment is followed by a new one, at most and by default [`SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Bodies kept in memory to be read without the disk, by default [`CACHE_BYTES`].
    pub cache_bytes: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { drive: Drive::Thread, segment_bytes: SEGMENT_BYTES, cache_bytes: CACHE_BYTES }
    }
}
