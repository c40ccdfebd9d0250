//! The Raft log: entries, vote, and what is committed and purged, durable before anyone is told.
//!
//! ```text
//!   caller --- index (readable at once) --- queue ---> writer: one write, one fdatasync, mark, call back
//!                                                        |
//!   log/ LOCK | mark | s-7.wal (closed) | s-8.wal (closed) | s-9.wal (being written)
//!                                                            [frame 0: checkpoint][frame][frame]...
//! ```
//!
//! The rules, WAL-01 to WAL-20, are cited where they are kept. In short: a frame counts only with both
//! its checksums; what was synced is known from evidence (the mark, and every frame's own word about
//! what came before it); damage before the evidence is refused, after it it is a torn tail and cut off.

mod checkpoint;
mod driver;
mod error;
mod frame;
mod index;
mod limits;
mod mark;
mod options;
mod queue;
mod record;
mod recovery;
mod replay;
mod segment;
mod wal;
mod writer;

pub(crate) use error::REMEDY;
pub use error::{Action, IoFailure, OpenError, ReadError, WalError};
pub use limits::{CACHE_BYTES, MAX_RECORD_BYTES, SEGMENT_BYTES};
pub use options::{Drive, WalOptions};
pub use queue::Callback;
pub use recovery::Recovered;
pub use wal::Wal;
