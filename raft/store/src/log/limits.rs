//! Every limit of the log, with the argument for its value.

use std::time::Duration;

/// Largest body of one entry. The largest command is a foreign bundle of up to 1 MiB in a batch of
/// its own; four times that leaves room for its envelope and for whatever a later version adds.
pub const MAX_RECORD_BYTES: usize = 4 << 20;

/// What the writer drains from the queue for one write and one sync (WAL-05). A disk writes 1 MiB in
/// about the time one sync takes, so a larger group would only make the first in it wait.
pub(crate) const GROUP_BYTES: usize = 1 << 20;

/// Largest payload of a frame: a group, or one record of the largest size, and some room. A length
/// beyond it is damage (WAL-03).
pub(crate) const MAX_FRAME_BYTES: usize = 8 << 20;

/// A segment is followed by a new one once it is this long (WAL-01: 16-32 MiB). With the largest frame
/// on top it stays below what opening takes for damage.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// No segment is longer; a longer file is damage, and is not read into memory.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 32 << 20;

/// Bodies of the newest entries kept in memory. Followers that keep up read from here; 16 MiB is eight
/// of the largest AppendEntries.
pub const CACHE_BYTES: usize = 16 << 20;

/// What may wait for the writer. Consensus has one append in flight, so reaching this means that the
/// disk has stood still while someone went on regardless.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;

/// Counted for a queued operation besides its bodies, so that a flood of small ones meets the limit
/// too.
pub(crate) const OPERATION_OVERHEAD_BYTES: usize = 64;

/// After the last write the mark is synced when this has passed (WAL-07). WAL-20 accepts what a power
/// cut within it may hide.
pub(crate) const MARK_SYNC_DELAY: Duration = Duration::from_secs(1);
