//! Backups: the whole state in one file, sealed to the recovery key (design section 3; ATK-44).
//!
//! ```text
//!   a member                               the file                          offline, with the recovery key
//!   read index, applied ──► view ──► [`Backup`] ──► header, chunks, end ──► [`BackupReader`] ──► [`load`] ──► State
//!                            │          │ signed by the member's           clear part, signatures    │ checked whole
//!                            │          │ identity key                                                v
//!                            └ streamed while writes go on                              [`plan_restore`] ──► Operation::Restore
//! ```
//!
//! A member makes a backup and cannot open it; who has the recovery key opens it and needs no member. The form of the file
//! and why it is so: `docs/decisions/0017-backup-file.md`.
//!
//! Nothing here writes a file or a data directory: what is made is handed over in parts, what is read comes from any
//! reader, one chunk in memory at a time.

mod content;
mod create;
mod error;
mod format;
mod load;
mod read;
mod restore;
#[cfg(test)]
mod tests;

pub use create::{Backup, BackupRefusal, Freshness, PART_TIME_LIMIT};
pub use error::BackupError;
pub use format::{BACKUP_FORMAT, BackupHeader};
pub use load::{Checked, load};
pub use read::BackupReader;
pub use restore::{PlannedRestore, RestorePlanError, RestoredMember, plan_restore};
