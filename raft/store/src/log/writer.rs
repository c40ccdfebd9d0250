//! The writer: takes groups off the queue and makes them durable, in order, once. It has no thread of
//! its own; [`Wal`](super::Wal) gives it one, or runs it in place for a simulation.

use super::checkpoint::{Checkpoint, LogState};
use super::error::{Action, IoFailure, WalError};
use super::frame::{FRAME_HEADER_BYTES, Place, seal};
use super::index::{LogIndex, Stored};
use super::mark::{Mark, Position};
use super::queue::{Deed, Operation, Queue};
use super::record::{Item, RECORD_HEADER_BYTES};
use super::segment;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::log_id::WalIdentity;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment that is not written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClosedSegment {
    pub(crate) number: u64,
    /// Largest index of any entry in it, also one that was cut off later.
    pub(crate) max_index: Option<u64>,
}

/// What a writer starts from.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) directory: PathBuf,
    pub(crate) identity: WalIdentity,
    pub(crate) segment_bytes: u64,
    pub(crate) index: Arc<Mutex<LogIndex>>,
    /// The state after everything written so far.
    pub(crate) state: LogState,
    /// The active segment.
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) segment: u64,
    pub(crate) length: u64,
    pub(crate) max_index: Option<u64>,
    pub(crate) closed: VecDeque<ClosedSegment>,
    pub(crate) next_sequence: u64,
    pub(crate) chain: u32,
    pub(crate) mark: Mark,
}

/// The one who writes (WAL-05).
#[derive(Debug)]
pub(crate) struct Writer {
    parts: WriterParts,
    /// Up to here the active segment is synced.
    synced: u64,
    /// After the first error nothing is written (WAL-09).
    failure: Option<WalError>,
}

/// An entry's place in the frame being built.
struct Placed {
    index: u64,
    serial: u64,
    offset: u64,
}

impl Writer {
    /// Takes over a log whose segments are all synced up to their ends.
    pub(crate) fn new(parts: WriterParts) -> Self {
        Self { synced: parts.length, parts, failure: None }
    }

    /// The index that callers share with the writer.
    pub(crate) fn index(&self) -> Arc<Mutex<LogIndex>> {
        Arc::clone(&self.parts.index)
    }

    /// Writes one group and calls back. After the first error, only calls back.
    pub(crate) fn run(&mut self, group: Vec<Operation>, queue: &Queue) {
        let result = match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => self.write(&group).map_err(|failure| WalError::Failed(Arc::new(failure))),
        };
        let result = result.inspect_err(|failure| self.fail(failure.clone()));
        for callback in group.into_iter().filter_map(|operation| operation.callback) {
            callback(result.clone());
        }
        if result.is_err() {
            refuse_all(queue, &result);
        }
    }

    fn fail(&mut self, failure: WalError) {
        self.parts.index.lock().failure.get_or_insert(failure.clone());
        self.failure.get_or_insert(failure);
    }

    /// Whether something is written that no sync has covered, or the mark is behind (WAL-07).
    pub(crate) fn is_unsettled(&self) -> bool {
        let position = Position { segment: self.parts.segment, offset: self.parts.length };
        self.failure.is_none() && !self.parts.mark.is_settled_at(position)
    }

    /// Some time after the last write: syncs what is left, and the mark (WAL-07).
    pub(crate) fn settle_when_idle(&mut self, queue: &Queue) {
        if let Err(failure) = self.settle() {
            self.fail(WalError::Failed(Arc::new(failure)));
            refuse_all(queue, &self.failure.clone().map_or(Ok(()), Err));
        }
    }

    fn write(&mut self, group: &[Operation]) -> Result<(), IoFailure> {
        if self.parts.length >= self.parts.segment_bytes {
            self.roll()?;
        }
        let mut buffer = vec![0; FRAME_HEADER_BYTES];
        let mut state = self.parts.state;
        let mut placed = Vec::new();
        for operation in group {
            self.encode(&operation.deed, &mut buffer, &mut state, &mut placed);
        }
        if buffer.len() > FRAME_HEADER_BYTES {
            self.write_frame(&mut buffer)?;
            self.parts.state = state;
            self.parts.max_index = self.parts.max_index.max(placed.iter().map(|entry| entry.index).max());
        }
        if group.iter().any(|operation| operation.deed.needs_sync()) {
            self.sync()?;
        }
        self.publish(&placed);
        if group.iter().any(|operation| matches!(operation.deed, Deed::Settle | Deed::Close)) {
            self.settle()?;
        }
        if group.iter().any(|operation| matches!(operation.deed, Deed::Purge(_))) {
            self.remove_purged_segments()?;
        }
        Ok(())
    }

    fn encode(&self, deed: &Deed, buffer: &mut Vec<u8>, state: &mut LogState, placed: &mut Vec<Placed>) {
        let mut put = |item: Item<'_>| {
            let offset = self.parts.length + (buffer.len() + RECORD_HEADER_BYTES) as u64;
            item.encode(buffer);
            state.apply(&item);
            offset
        };
        match deed {
            Deed::Append { serial, records } => {
                for (serial, record) in (*serial..).zip(records) {
                    let log_id = record.log_id;
                    let offset = put(Item::Entry { log_id, kind: record.kind, body: &record.body });
                    placed.push(Placed { index: log_id.index, serial, offset });
                }
            }
            Deed::Vote(vote) => {
                put(Item::Vote(*vote));
            }
            Deed::Committed(log_id) => {
                put(Item::Committed(*log_id));
            }
            Deed::Truncate { from, last } => {
                put(Item::Truncate { from: *from, last: *last });
            }
            Deed::Purge(upto) => {
                put(Item::Purge(*upto));
            }
            Deed::Settle | Deed::Close => {}
        }
    }

    fn write_frame(&mut self, buffer: &mut [u8]) -> Result<(), IoFailure> {
        let place = Place {
            segment: self.parts.segment,
            offset: self.parts.length,
            sequence: self.parts.next_sequence,
            chain: self.parts.chain,
        };
        let chain = seal(buffer, place, self.synced);
        self.parts.file.write_at(place.offset, buffer).map_err(|source| self.failure_at(Action::Write, source))?;
        self.parts.chain = chain;
        self.parts.next_sequence += 1;
        self.parts.length += buffer.len() as u64;
        Ok(())
    }

    fn failure_at(&self, action: Action, source: std::io::Error) -> IoFailure {
        let path = segment::path(&self.parts.directory, self.parts.segment);
        IoFailure::new(action, path, source).at(self.parts.length)
    }

    /// WAL-06: the sync first, then the mark, and only then may anyone be told.
    fn sync(&mut self) -> Result<(), IoFailure> {
        if self.synced < self.parts.length {
            self.parts.file.sync_data().map_err(|source| self.failure_at(Action::Sync, source))?;
            self.synced = self.parts.length;
            self.parts.index.lock().syncs += 1;
            self.parts.mark.write(self.synced_position())?;
        }
        Ok(())
    }

    fn synced_position(&self) -> Position {
        Position { segment: self.parts.segment, offset: self.synced }
    }

    fn settle(&mut self) -> Result<(), IoFailure> {
        self.sync()?;
        let position = self.synced_position();
        if self.parts.mark.is_settled_at(position) {
            return Ok(());
        }
        self.parts.mark.settle(position)
    }

    /// Tells readers where the entries are on disk, so that their bodies may leave memory.
    fn publish(&self, placed: &[Placed]) {
        let mut index = self.parts.index.lock();
        for entry in placed {
            let stored = Stored { segment: self.parts.segment, offset: entry.offset };
            index.set_stored(entry.index, entry.serial, stored);
        }
        index.evict();
    }

    /// WAL-08, in its order. Before the last step the old segment alone tells everything, after it the
    /// new one vouches for the old.
    fn roll(&mut self) -> Result<(), IoFailure> {
        self.sync()?;
        let number = self.parts.segment + 1;
        let (file, length, chain) = start_segment(
            self.parts.disk.as_ref(),
            &self.parts.directory,
            Checkpoint::new(self.parts.identity, self.parts.state),
            Place { segment: number, offset: 0, sequence: self.parts.next_sequence, chain: self.parts.chain },
        )?;
        sync_directory(self.parts.disk.as_ref(), &self.parts.directory)?;
        self.parts.mark.write(Position { segment: number, offset: length })?;
        self.parts.mark.sync()?;
        self.parts
            .closed
            .push_back(ClosedSegment { number: self.parts.segment, max_index: self.parts.max_index.take() });
        self.parts.index.lock().add_file(number, Arc::clone(&file));
        self.parts.file = file;
        self.parts.segment = number;
        self.parts.next_sequence += 1;
        self.parts.chain = chain;
        self.parts.length = length;
        self.synced = length;
        Ok(())
    }

    /// WAL-16: once the purge is synced, segments whose last index is purged go, oldest first.
    pub(crate) fn remove_purged_segments(&mut self) -> Result<(), IoFailure> {
        let purged = self.parts.state.purged.map(|purged| purged.index);
        let mut has_removed = false;
        while let Some(oldest) = self.parts.closed.front().copied() {
            if oldest.max_index > purged {
                break;
            }
            let path = segment::path(&self.parts.directory, oldest.number);
            self.parts.disk.unlink(&path).map_err(|source| IoFailure::new(Action::Remove, &path, source))?;
            self.parts.closed.pop_front();
            self.parts.index.lock().remove_file(oldest.number);
            has_removed = true;
        }
        if has_removed {
            sync_directory(self.parts.disk.as_ref(), &self.parts.directory)?;
        }
        Ok(())
    }
}

/// Answers everything that waits with the error that ended the log (WAL-09).
pub(crate) fn refuse_all(queue: &Queue, result: &Result<(), WalError>) {
    loop {
        let group = queue.take_group();
        if group.is_empty() {
            return;
        }
        for callback in group.into_iter().filter_map(|operation| operation.callback) {
            callback(result.clone());
        }
    }
}

/// Makes a segment with its frame 0 and syncs it, not the directory. Gives its file, its length, and
/// the header checksum of frame 0.
pub(crate) fn start_segment(
    disk: &dyn Disk,
    directory: &Path,
    checkpoint: Checkpoint,
    place: Place,
) -> Result<(Arc<dyn DiskFile>, u64, u32), IoFailure> {
    let path = segment::path(directory, place.segment);
    let fail = |action, source| IoFailure::new(action, &path, source);
    let file = disk.open(&path, OpenMode::CreateNew).map_err(|e| fail(Action::Create, e))?;
    let mut buffer = vec![0; FRAME_HEADER_BYTES];
    Item::Checkpoint(checkpoint).encode(&mut buffer);
    let chain = seal(&mut buffer, place, 0);
    file.write_at(0, &buffer).map_err(|e| fail(Action::Write, e))?;
    file.sync_data().map_err(|e| fail(Action::Sync, e))?;
    Ok((file, buffer.len() as u64, chain))
}

pub(crate) fn sync_directory(disk: &dyn Disk, directory: &Path) -> Result<(), IoFailure> {
    disk.sync_dir(directory).map_err(|source| IoFailure::new(Action::Sync, directory, source))
}
