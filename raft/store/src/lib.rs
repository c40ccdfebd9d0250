//! Durable log, vote and snapshots of one member, and the directory they live in.
//!
//! ```text
//!   consensus ---> log        entries and vote: acknowledged after fdatasync, by rules WAL-01 to WAL-20
//!             ---> snapshot   the whole state in checked chunks: synced, then renamed into place
//!             ---> directory  who may use the data directory, and how far this member's life has come
//!                     |
//!                     v
//!                    disk     the seam: the operating system, or a disk in memory that fails (tests)
//! ```
//!
//! What this crate never does: retry a failed write or sync, acknowledge before a sync, repair damage,
//! look inside an entry or a snapshot, know openraft, read a clock or a random number.

#![forbid(unsafe_code)]

mod bytes_reader;
pub mod directory;
pub mod disk;
pub mod free_space;
pub mod header;
pub mod log;
mod log_id;
pub mod snapshot;

pub use log_id::{LogId, Record, Vote, WalIdentity};
