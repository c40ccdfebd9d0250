//! Snapshots: the whole state at one entry, in a file of checked chunks.
//!
//! ```text
//!   snap-<term>-<node>-<index>.tmp --- written, synced --- renamed ---> snap-<term>-<node>-<index>.snapshot
//!                                                         directory synced; only then may the log be purged
//!
//!   [magic, version, owner, meta, CRC][length, number, CRC, chunk]...[0, count, bytes, digest, CRC]
//! ```
//!
//! A file that is not whole is never taken for a snapshot: it has the name of a snapshot only after it
//! was synced, and its end says how much there must be. Chunks are numbered, so that none can be
//! missing or exchanged, and checked one by one, so that a reader needs the memory of one.
//!
//! *A damaged snapshot* is reported, and not passed over in silence. It is passed over, with a warning,
//! in one case: when the log still holds every entry after an older snapshot (or every entry from the
//! first), so that nothing is lost by starting there. Otherwise opening is refused: a member that
//! started from an older state would have forgotten what it had applied.

mod error;
mod format;
mod reader;
mod store;
mod writer;

pub use error::SnapshotError;
pub use format::{MAX_CHUNK_BYTES, MAX_META_BYTES, SnapshotMeta};
pub use reader::{Snapshot, SnapshotReader};
pub use store::SnapshotStore;
pub use writer::SnapshotWriter;
