//! Where each entry is, in memory: on disk always, the newest bodies cached, and the ones on their way
//! to disk held.

use super::checkpoint::LogState;
use super::error::{Action, IoFailure, ReadError, WalError};
use super::record::RECORD_HEADER_BYTES;
use super::segment;
use crate::disk::{DiskFile, read_exact_at};
use crate::log_id::{LogId, Record};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All entries that are not purged, by index, with the state beside them as callers see it: what was
/// asked for counts at once, durable or not.
#[derive(Debug)]
pub(crate) struct LogIndex {
    directory: PathBuf,
    slots: VecDeque<Slot>,
    /// Index of the front slot; where the next entry goes when there is none.
    first: u64,
    pub(crate) state: LogState,
    pub(crate) failure: Option<WalError>,
    pub(crate) is_closed: bool,
    /// How often entries were synced by this process.
    pub(crate) syncs: u64,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
    next_serial: u64,
    cache_limit: usize,
    cached_bytes: usize,
    /// Bodies of indexes below this one are not in memory.
    cached_from: u64,
    /// Bytes of all entries ever indexed by this process; slots note the sum up to themselves.
    total_bytes: u64,
}

#[derive(Debug)]
struct Slot {
    log_id: LogId,
    kind: u8,
    serial: u64,
    length: usize,
    checksum: u32,
    body: Option<Bytes>,
    stored: Option<Stored>,
    bytes_upto: u64,
}

/// Where a body is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// An entry to be given out: at hand, or to be read.
#[derive(Debug)]
pub(crate) enum Found {
    Cached(Record),
    OnDisk(OnDisk),
}

/// Everything needed to read and check a body without the index. The open file keeps the bytes even if
/// the segment is purged meanwhile.
#[derive(Debug)]
pub(crate) struct OnDisk {
    log_id: LogId,
    kind: u8,
    length: usize,
    checksum: u32,
    offset: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl LogIndex {
    pub(crate) fn new(directory: &Path, cache_limit: usize) -> Self {
        Self {
            directory: directory.to_path_buf(),
            slots: VecDeque::new(),
            first: 0,
            state: LogState::default(),
            failure: None,
            syncs: 0,
            is_closed: false,
            files: BTreeMap::new(),
            next_serial: 0,
            cache_limit,
            cached_bytes: 0,
            cached_from: 0,
            total_bytes: 0,
        }
    }

    /// Whether writes are taken.
    pub(crate) fn check_open(&self) -> Result<(), WalError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.is_closed => Err(WalError::Closed),
            None => Ok(()),
        }
    }

    /// Indexes of the entries that can be read.
    pub(crate) fn range(&self) -> Range<u64> {
        self.first..self.first + self.slots.len() as u64
    }

    /// Starts behind a state: the next entry follows its last.
    pub(crate) fn start_at(&mut self, state: LogState) {
        self.clear_slots();
        self.state = state;
        self.first = state.next_index();
        self.cached_from = self.first;
    }

    fn clear_slots(&mut self) {
        self.slots.clear();
        self.cached_bytes = 0;
    }

    /// Takes an entry at the end; the caller has checked that it follows. Returns its serial number,
    /// which tells it from another entry that later takes its index.
    pub(crate) fn push(&mut self, log_id: LogId, kind: u8, body: Bytes, stored: Option<Stored>) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.total_bytes += (RECORD_HEADER_BYTES + body.len()) as u64;
        self.cached_bytes += body.len();
        if self.slots.is_empty() {
            self.first = log_id.index;
            self.cached_from = log_id.index;
        }
        self.slots.push_back(Slot {
            log_id,
            kind,
            serial,
            length: body.len(),
            checksum: crc32c::crc32c(&body),
            body: Some(body),
            stored,
            bytes_upto: self.total_bytes,
        });
        self.state.last = Some(log_id);
        self.evict();
        serial
    }

    /// Notes where an entry was written, unless another has taken its index since.
    pub(crate) fn set_stored(&mut self, index: u64, serial: u64, stored: Stored) {
        if let Some(slot) = self.slot_mut(index).filter(|slot| slot.serial == serial) {
            slot.stored = Some(stored);
        }
    }

    /// Drops bodies, oldest first, while there are more than the limit; never one that is not on disk.
    pub(crate) fn evict(&mut self) {
        while self.cached_bytes > self.cache_limit {
            let Some(slot) = self.slot_mut(self.cached_from) else { return };
            if slot.stored.is_none() {
                return;
            }
            let dropped = slot.body.take().map_or(0, |body| body.len());
            self.cached_bytes -= dropped;
            self.cached_from += 1;
        }
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(self.place(index)?)
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let place = self.place(index)?;
        self.slots.get_mut(place)
    }

    /// Log ID of an entry that is there.
    pub(crate) fn log_id(&self, index: u64) -> Option<LogId> {
        self.slot(index).map(|slot| slot.log_id)
    }

    /// The log ID that is last when everything from `index` on goes; `None` outside of when `index` is
    /// purged or beyond the end.
    pub(crate) fn last_before(&self, index: u64) -> Option<Option<LogId>> {
        self.slot(index)?;
        match index.checked_sub(1).and_then(|before| self.log_id(before)) {
            Some(log_id) => Some(Some(log_id)),
            None => Some(self.state.purged),
        }
    }

    /// Cuts off the entries from `index` on; `last` is what is last then.
    pub(crate) fn truncate(&mut self, index: u64, last: Option<LogId>) {
        let keep = self.place(index).unwrap_or(0);
        while self.slots.len() > keep {
            let dropped = self.slots.pop_back().and_then(|slot| slot.body);
            self.cached_bytes -= dropped.map_or(0, |body| body.len());
        }
        self.cached_from = self.cached_from.min(index);
        if self.slots.is_empty() {
            self.first = index;
        }
        self.state.last = last;
    }

    /// Drops the entries up to and with `upto`, which may lie past the last (WAL-16).
    pub(crate) fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|slot| slot.log_id.index <= upto.index) {
            let dropped = self.slots.pop_front().and_then(|slot| slot.body);
            self.cached_bytes -= dropped.map_or(0, |body| body.len());
            self.first += 1;
        }
        self.state.purged = Some(upto);
        if self.state.last.is_none_or(|last| last.index < upto.index) {
            self.state.last = Some(upto);
        }
        if self.slots.is_empty() {
            self.first = self.state.next_index();
        }
        self.cached_from = self.cached_from.max(self.first);
    }

    /// Bytes of the entries after `index`; of all of them without one.
    pub(crate) fn bytes_after(&self, index: Option<u64>) -> u64 {
        let Some(newest) = self.slots.back() else { return 0 };
        let before = match index {
            Some(index) if index >= newest.log_id.index => return 0,
            Some(index) => self.slot(index).map(|slot| slot.bytes_upto),
            None => None,
        };
        let start = before.or_else(|| {
            let front = self.slots.front()?;
            Some(front.bytes_upto - (RECORD_HEADER_BYTES + front.length) as u64)
        });
        newest.bytes_upto.saturating_sub(start.unwrap_or(0))
    }

    /// Entries of `range` from its start on, as many as are there and fit into `max_bytes` of bodies,
    /// but at least one.
    pub(crate) fn find(&self, range: Range<u64>, max_bytes: usize) -> Vec<Found> {
        let mut found = Vec::new();
        let mut bytes: usize = 0;
        for index in range {
            let Some(slot) = self.slot(index) else { break };
            bytes = bytes.saturating_add(slot.length);
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            match self.found(slot) {
                Some(entry) => found.push(entry),
                None => break,
            }
        }
        found
    }

    fn found(&self, slot: &Slot) -> Option<Found> {
        let Slot { log_id, kind, .. } = *slot;
        if let Some(body) = &slot.body {
            return Some(Found::Cached(Record { log_id, kind, body: body.clone() }));
        }
        let stored = slot.stored?;
        Some(Found::OnDisk(OnDisk {
            log_id,
            kind,
            length: slot.length,
            checksum: slot.checksum,
            offset: stored.offset,
            path: segment::path(&self.directory, stored.segment),
            file: Arc::clone(self.files.get(&stored.segment)?),
        }))
    }

    /// Remembers a segment's open file, to read from.
    pub(crate) fn add_file(&mut self, segment: u64, file: Arc<dyn DiskFile>) {
        self.files.insert(segment, file);
    }

    /// Forgets a segment that is purged.
    pub(crate) fn remove_file(&mut self, segment: u64) {
        self.files.remove(&segment);
    }

    /// Bytes of bodies in memory.
    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }
}

impl Found {
    /// The entry, read and checked when it is not at hand.
    pub(crate) fn read(self) -> Result<Record, ReadError> {
        match self {
            Self::Cached(record) => Ok(record),
            Self::OnDisk(place) => place.read(),
        }
    }
}

impl OnDisk {
    fn read(self) -> Result<Record, ReadError> {
        let mut body = vec![0; self.length];
        let read = read_exact_at(self.file.as_ref(), self.offset, &mut body)
            .map_err(|source| IoFailure::new(Action::Read, &self.path, source).at(self.offset))?;
        if read != self.length || crc32c::crc32c(&body) != self.checksum {
            return Err(ReadError::Damaged { index: self.log_id.index, file: self.path, offset: self.offset });
        }
        Ok(Record { log_id: self.log_id, kind: self.kind, body: Bytes::from(body) })
    }
}
