//! The reserve of free space, below which proposals are refused (section 4 of the design): a full disk
//! ends the log for good, so it must not come to that.

use crate::disk::Disk;
use crate::log::{Action, IoFailure};
use std::path::Path;

/// What must stay free. A snapshot of 1,000,000 entries (125 MB as measured) is written beside the one
/// it replaces; opening may copy one segment of up to 32 MiB (WAL-15); the rest is for what is in flight
/// between two measurements.
pub const FREE_SPACE_RESERVE_BYTES: u64 = 256 << 20;

/// What stays free of everything, the authority's own upkeep included. Appending needs no room for a snapshot and none
/// for a copied segment, so this is far below the reserve: one segment (16 MiB) that is begun or still grows, and once
/// more as much for the batches that are in flight when a look finds the disk fuller than the one before.
pub const FREE_SPACE_FLOOR_BYTES: u64 = 32 << 20;

/// What is free, and what should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes that can still be written.
    pub available_bytes: u64,
    /// Bytes that must stay free.
    pub reserve_bytes: u64,
}

impl FreeSpace {
    /// Asks the file system of `directory`. Blocks, briefly.
    ///
    /// # Errors
    /// As the file system says; take it for a failing disk.
    pub fn measure(disk: &dyn Disk, directory: &Path, reserve_bytes: u64) -> Result<Self, IoFailure> {
        let available_bytes =
            disk.free_space(directory).map_err(|source| IoFailure::new(Action::Measure, directory, source))?;
        Ok(Self { available_bytes, reserve_bytes })
    }

    /// Whether proposals may be taken.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.available_bytes >= self.reserve_bytes
    }
}
