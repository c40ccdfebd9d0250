//! The mark: how far the log is known to be synced, in a file beside it (WAL-06, WAL-07).
//!
//! Two slots of one sector each take turns, so that a torn write of one leaves the other. A slot is
//! written only after the log's sync returned, so the mark never says more than the truth.

use super::error::{Action, IoFailure};
use crate::bytes_reader::BytesReader;
use crate::disk::{Disk, DiskFile, OpenMode, read_file};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file in the log directory.
pub(crate) const MARK_NAME: &str = "mark";
/// A sector: what every disk writes whole or not at all.
const SLOT_BYTES: usize = 512;
/// The file is exactly this long; anything else is damage.
const MARK_BYTES: u64 = 2 * SLOT_BYTES as u64;
const MAGIC: [u8; 8] = *b"QRMARK\x9a\x01";

/// A place in the log up to which everything is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// The open mark file.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    counter: u64,
    written: Position,
    is_synced: bool,
}

/// What the file said when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkState {
    pub(crate) position: Position,
    counter: u64,
    /// Slots that did not hold; with one lost the other still serves.
    pub(crate) invalid_slots: usize,
}

impl Mark {
    /// Reads the file at a log directory. `Ok(None)` when there is no valid slot.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<MarkState>, IoFailure> {
        let path = directory.join(MARK_NAME);
        let fail = |source| IoFailure::new(Action::Read, &path, source);
        let file = match disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(fail)?,
        };
        if file.length().map_err(fail)? != MARK_BYTES {
            return Ok(None);
        }
        let content = read_file(file.as_ref(), MARK_BYTES).map_err(fail)?;
        let slots = content.chunks(SLOT_BYTES).map(decode);
        let invalid_slots = slots.clone().filter(Option::is_none).count();
        // Both are true, so the larger position counts; the counter only orders the writes.
        let valid = || slots.clone().flatten();
        let Some(position) = valid().map(|(_, position)| position).max() else {
            return Ok(None);
        };
        let counter = valid().map(|(counter, _)| counter).max().unwrap_or(0);
        Ok(Some(MarkState { position, counter, invalid_slots }))
    }

    /// Makes the file, both slots at `position`, and syncs it (not the directory).
    pub(crate) fn create(disk: &dyn Disk, directory: &Path, position: Position) -> Result<Self, IoFailure> {
        let path = directory.join(MARK_NAME);
        let file =
            disk.open(&path, OpenMode::CreateNew).map_err(|source| IoFailure::new(Action::Create, &path, source))?;
        let mut mark = Self { path, file, counter: 0, written: position, is_synced: false };
        mark.settle(position)?;
        Ok(mark)
    }

    /// Opens the file that was read before, to write on.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path, state: MarkState) -> Result<Self, IoFailure> {
        let path = directory.join(MARK_NAME);
        let file =
            disk.open(&path, OpenMode::ReadWrite).map_err(|source| IoFailure::new(Action::Open, &path, source))?;
        let MarkState { position: written, counter, invalid_slots: _ } = state;
        Ok(Self { path, file, counter, written, is_synced: false })
    }

    /// Writes the next slot, without a sync (WAL-06).
    pub(crate) fn write(&mut self, position: Position) -> Result<(), IoFailure> {
        self.counter += 1;
        let slot = encode(self.counter, position);
        let offset = (self.counter % 2) * SLOT_BYTES as u64;
        self.file
            .write_at(offset, &slot)
            .map_err(|source| IoFailure::new(Action::Write, &self.path, source).at(offset))?;
        self.written = position;
        self.is_synced = false;
        Ok(())
    }

    /// Syncs what was written.
    pub(crate) fn sync(&mut self) -> Result<(), IoFailure> {
        if !self.is_synced {
            self.file.sync_data().map_err(|source| IoFailure::new(Action::Sync, &self.path, source))?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Puts both slots at `position`, one synced before the other is touched, so that afterwards no
    /// single damaged sector weakens what the mark says.
    pub(crate) fn settle(&mut self, position: Position) -> Result<(), IoFailure> {
        for _slot in 0..2 {
            self.write(position)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Whether the mark durably says `position`.
    pub(crate) fn is_settled_at(&self, position: Position) -> bool {
        self.is_synced && self.written == position
    }
}

fn encode(counter: u64, position: Position) -> [u8; SLOT_BYTES] {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend_from_slice(&MAGIC);
    for number in [counter, position.segment, position.offset] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.resize(SLOT_BYTES - 4, 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.try_into().unwrap_or([0; SLOT_BYTES])
}

fn decode(slot: &[u8]) -> Option<(u64, Position)> {
    let (checked, checksum) = slot.split_at_checked(SLOT_BYTES - 4)?;
    if crc32c::crc32c(checked).to_le_bytes().as_slice() != checksum {
        return None;
    }
    let mut reader = BytesReader::new(checked);
    if reader.array()? != MAGIC {
        return None;
    }
    let counter = reader.u64()?;
    Some((counter, Position { segment: reader.u64()?, offset: reader.u64()? }))
}

#[cfg(all(test, feature = "fault-injection"))]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    fn position(offset: u64) -> Position {
        Position { segment: 1, offset }
    }

    #[test]
    fn wal_06_a_torn_slot_leaves_the_one_before_it() {
        let disk = SimulatedDisk::new("/log");
        let directory = Path::new("/log");
        let mut mark = Mark::create(&disk, directory, position(10)).unwrap();
        for offset in 11..20 {
            mark.write(position(offset)).unwrap();
            for slot in 0..2 {
                let torn = disk.copy_after_kill();
                torn.flip_bit("/log/mark", slot * 8 * SLOT_BYTES as u64 + 200).unwrap();
                let state = Mark::read(&torn, directory).unwrap().unwrap();
                assert_eq!(state.invalid_slots, 1);
                assert!(state.position == position(offset) || state.position == position(offset - 1));
            }
        }
    }

    #[test]
    fn wal_07_a_settled_mark_is_durable_in_both_slots() {
        let disk = SimulatedDisk::new("/log");
        let directory = Path::new("/log");
        let mut mark = Mark::create(&disk, directory, position(10)).unwrap();
        disk.sync_dir(directory).unwrap();
        mark.write(position(50)).unwrap();
        assert!(!mark.is_settled_at(position(50)));
        mark.settle(position(50)).unwrap();
        assert!(mark.is_settled_at(position(50)));
        let lost = disk.after_power_loss(crate::disk::PowerLoss::Lost, 0);
        for slot in 0..2 {
            let torn = lost.copy_after_kill();
            torn.flip_bit("/log/mark", slot * 8 * SLOT_BYTES as u64).unwrap();
            assert_eq!(Mark::read(&torn, directory).unwrap().unwrap().position, position(50));
        }
    }
}
