//! The log as its user holds it: a handle that can be cloned, and whoever drives the writer.

use super::checkpoint::{Checkpoint, LogState};
use super::driver::{Driver, Held};
use super::error::{Action, IoFailure, OpenError, ReadError, WalError};
use super::frame::Place;
use super::index::{Found, LogIndex};
use super::limits::{MAX_RECORD_BYTES, QUEUE_BYTES, SEGMENT_BYTES};
use super::mark::{MARK_NAME, Mark, Position};
use super::options::WalOptions;
use super::queue::{Callback, Deed, Operation, Queue, split_append};
use super::recovery::{Recovered, recover};
use super::segment;
use super::writer::{start_segment, sync_directory};
use crate::disk::{Disk, DiskLock, LockError, parent};
use crate::log_id::{LogId, Record, Vote, WalIdentity};
use parking_lot::Mutex;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A log that is open. Clones share it; it ends with [`Wal::close`] or when the last clone is dropped.
///
/// Callbacks run on the writer's thread. Each is called exactly once, with the error when the call
/// itself returns one.
#[derive(Debug, Clone)]
pub struct Wal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    index: Arc<Mutex<LogIndex>>,
    queue: Arc<Queue>,
    driver: Driver,
}

impl Wal {
    /// Makes an empty log in `directory` and opens it. Whatever stands there is removed, so this is legal
    /// only while the member's stage says that founding or joining has not finished (WAL-18): nothing
    /// in such a log was ever acknowledged.
    ///
    /// # Errors
    /// [`OpenError::Locked`] and [`OpenError::Io`].
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: WalIdentity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        match disk.create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(IoFailure::new(Action::Create, directory, source).into()),
        }
        // Also when the directory was there: a crash may have come before this sync.
        sync_directory(disk.as_ref(), parent(directory))?;
        let lock = take_lock(disk.as_ref(), directory)?;
        let names = disk.list(directory).map_err(|source| IoFailure::new(Action::List, directory, source))?;
        let is_ours = |name: &&String| segment::number(name).is_some() || segment::is_copy(name) || *name == MARK_NAME;
        for name in names.iter().filter(is_ours) {
            let path = directory.join(name);
            disk.unlink(&path).map_err(|source| IoFailure::new(Action::Remove, &path, source))?;
        }
        sync_directory(disk.as_ref(), directory)?;
        let checkpoint = Checkpoint::new(identity, LogState::default());
        let place = Place { segment: 1, offset: 0, sequence: 0, chain: 0 };
        let (_, length, _) = start_segment(disk.as_ref(), directory, checkpoint, place)?;
        Mark::create(disk.as_ref(), directory, Position { segment: 1, offset: length })?;
        sync_directory(disk.as_ref(), directory)?;
        Self::open_locked(disk, directory, identity, options, lock)
    }

    /// Opens the log of an initialised member and replays it. Blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError`]; what each means and what to do is said there.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: WalIdentity,
        options: WalOptions,
    ) -> Result<(Self, Recovered), OpenError> {
        match disk.inspect(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Empty { directory: directory.to_path_buf() });
            }
            Ok(_) | Err(_) => {}
        }
        let lock = take_lock(disk.as_ref(), directory)?;
        Self::open_locked(disk, directory, identity, options, lock)
    }

    fn open_locked(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: WalIdentity,
        options: WalOptions,
        lock: Box<dyn DiskLock>,
    ) -> Result<(Self, Recovered), OpenError> {
        let index = LogIndex::new(directory, options.cache_bytes);
        let segment_bytes = options.segment_bytes.min(SEGMENT_BYTES);
        let (writer, recovered) = recover(&disk, directory, identity, segment_bytes, index)?;
        let index = writer.index();
        let queue = Arc::new(Queue::default());
        let held = Held { writer, _lock: lock };
        let driver = Driver::start(options.drive, held, Arc::clone(&index), Arc::clone(&queue))
            .map_err(|source| IoFailure::new(Action::Open, directory, source))?;
        Ok((Self { shared: Arc::new(Shared { index, queue, driver }) }, recovered))
    }

    /// Appends entries, which can be read at once, and calls back when they are durable. The first must
    /// follow the last entry, the others each other.
    ///
    /// # Errors
    /// [`WalError`]; then nothing was taken.
    pub fn append(&self, records: Vec<Record>, callback: Callback) -> Result<(), WalError> {
        let mut index = self.shared.index.lock();
        if let Err(error) = self.check_append(&index, &records) {
            drop(index);
            callback(Err(error.clone()));
            return Err(error);
        }
        let mut first_serial = None;
        for record in &records {
            let serial = index.push(record.log_id, record.kind, record.body.clone(), None);
            first_serial.get_or_insert(serial);
        }
        let mut deeds = split_append(first_serial.unwrap_or_default(), records);
        // Nothing to write is still answered in its turn.
        let last = deeds.pop().unwrap_or_else(Deed::nothing);
        for deed in deeds {
            self.shared.queue.push(Operation { deed, callback: None });
        }
        self.shared.queue.push(Operation { deed: last, callback: Some(callback) });
        drop(index);
        self.shared.driver.run_at_once(&self.shared.queue);
        Ok(())
    }

    fn check_append(&self, index: &LogIndex, records: &[Record]) -> Result<(), WalError> {
        index.check_open()?;
        for (expected, record) in (index.state.next_index()..).zip(records) {
            let found = record.log_id.index;
            if found != expected {
                return Err(WalError::OutOfOrder { expected, found });
            }
            let bytes = record.body.len();
            if bytes > MAX_RECORD_BYTES {
                return Err(WalError::TooLarge { bytes, limit: MAX_RECORD_BYTES });
            }
        }
        let bytes = self.shared.queue.bytes();
        if bytes > QUEUE_BYTES {
            return Err(WalError::QueueFull { bytes, limit: QUEUE_BYTES });
        }
        Ok(())
    }

    /// Saves the vote and calls back when it is durable. It goes through the same queue as the entries,
    /// so their order on disk is the order of the calls.
    ///
    /// # Errors
    /// [`WalError`]; then nothing was taken.
    pub fn save_vote(&self, vote: Vote, callback: Callback) -> Result<(), WalError> {
        self.submit(Some(callback), |index| {
            index.state.vote = Some(vote);
            Ok(Deed::Vote(vote))
        })
    }

    /// Saves what is known to be committed, without waiting: a later sync covers it.
    ///
    /// # Errors
    /// [`WalError`]; then nothing was taken.
    pub fn save_committed(&self, committed: LogId) -> Result<(), WalError> {
        self.submit(None, |index| {
            index.state.committed = Some(committed);
            Ok(Deed::Committed(committed))
        })
    }

    /// Cuts off the entries from `from` on, that one too. It needs no sync of its own: whatever is
    /// appended next is durable only together with it.
    ///
    /// # Errors
    /// [`WalError`]; then nothing was taken.
    pub fn truncate(&self, from: LogId) -> Result<(), WalError> {
        self.submit(None, |index| {
            if from.index == index.state.next_index() {
                return Ok(Deed::nothing());
            }
            let last = index.last_before(from.index).ok_or(WalError::CannotTruncate { index: from.index })?;
            index.truncate(from.index, last);
            Ok(Deed::Truncate { from, last })
        })
    }

    /// Drops the entries up to and with `upto`, and calls back when that is durable and the files are
    /// gone. `upto` may lie past the last entry after a snapshot was installed; the snapshot must be
    /// durable first (WAL-16).
    ///
    /// # Errors
    /// [`WalError`]; then nothing was taken.
    pub fn purge(&self, upto: LogId, callback: Callback) -> Result<(), WalError> {
        self.submit(Some(callback), |index| {
            if index.state.purged.is_some_and(|purged| purged.index >= upto.index) {
                return Ok(Deed::nothing());
            }
            index.purge(upto);
            Ok(Deed::Purge(upto))
        })
    }

    /// Makes everything that was asked for so far durable, the mark too (WAL-07).
    ///
    /// # Errors
    /// [`WalError`]; then nothing was taken.
    pub fn settle(&self, callback: Callback) -> Result<(), WalError> {
        self.submit(Some(callback), |_| Ok(Deed::Settle))
    }

    /// Finishes what is queued, settles the mark and gives the directory's lock back. Blocks until that
    /// is done; must not be called from a callback.
    ///
    /// # Errors
    /// The error that ended the log, if one had; [`WalError::Closed`] when it was closed before.
    pub fn close(&self) -> Result<(), WalError> {
        let outcome = Arc::new(Mutex::new(Err(WalError::Closed)));
        let told = Arc::clone(&outcome);
        let callback: Callback = Box::new(move |result| *told.lock() = result);
        let mut index = self.shared.index.lock();
        if std::mem::replace(&mut index.is_closed, true) {
            return Err(index.failure.clone().unwrap_or(WalError::Closed));
        }
        // Also after a failure: the writer still has to let go of the directory.
        self.shared.queue.push(Operation { deed: Deed::Close, callback: Some(callback) });
        drop(index);
        self.shared.driver.finish(&self.shared.queue)?;
        outcome.lock().clone()
    }

    /// Changes the index and queues the deed as one step, so that the order on disk is the order in the
    /// index.
    fn submit(
        &self,
        callback: Option<Callback>,
        prepare: impl FnOnce(&mut LogIndex) -> Result<Deed, WalError>,
    ) -> Result<(), WalError> {
        let mut index = self.shared.index.lock();
        match index.check_open().and_then(|()| prepare(&mut index)) {
            Ok(deed) => {
                self.shared.queue.push(Operation { deed, callback });
                drop(index);
                self.shared.driver.run_at_once(&self.shared.queue);
                Ok(())
            }
            Err(error) => {
                drop(index);
                if let Some(callback) = callback {
                    callback(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Writes all that is queued, in place, under [`Drive::Manual`](super::Drive::Manual). Does nothing when a thread
    /// does it.
    pub fn run_queued(&self) {
        self.shared.driver.run_queued(&self.shared.queue);
    }

    /// The state as of the last call, durable or not: vote, commit index, what is purged and last.
    #[must_use]
    pub fn recovered_now(&self) -> Recovered {
        let index = self.shared.index.lock();
        let LogState { vote, last, committed, purged } = index.state;
        let entries = index.range();
        Recovered { vote, committed, purged, last, entries, torn_bytes: 0, secured_bytes: 0 }
    }

    /// The error that ended the log, if one has (WAL-09): what health shows.
    #[must_use]
    pub fn failure(&self) -> Option<WalError> {
        self.shared.index.lock().failure.clone()
    }

    /// Indexes of the entries that can be read.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.shared.index.lock().range()
    }

    /// Log ID of one entry, without reading its body.
    #[must_use]
    pub fn log_id(&self, index: u64) -> Option<LogId> {
        self.shared.index.lock().log_id(index)
    }

    /// Entries of `range` from its start on, as many as are there and fit into `max_bytes` of bodies, but
    /// at least one if its first is there. What is not in memory is read from disk, so this may block.
    ///
    /// # Errors
    /// [`ReadError`] when the disk refuses or an entry is not what was written.
    pub fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let found = self.shared.index.lock().find(range, max_bytes);
        found.into_iter().map(Found::read).collect()
    }

    /// Like [`Wal::read`], but never touches the disk: `None` when it would have to.
    #[must_use]
    pub fn read_cached(&self, range: Range<u64>, max_bytes: usize) -> Option<Vec<Record>> {
        let found = self.shared.index.lock().find(range, max_bytes);
        found
            .into_iter()
            .map(|entry| match entry {
                Found::Cached(record) => Some(record),
                Found::OnDisk(_) => None,
            })
            .collect()
    }

    /// Bytes of the entries after `index` (all entries that are there, without one): when it passes the
    /// limit since the last snapshot, the next is due.
    #[must_use]
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        self.shared.index.lock().bytes_after(index)
    }

    /// How often this process has synced what was appended: beside the number of entries it tells how well they share
    /// syncs. Those of the mark, some time after the last write, are not in it.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.shared.index.lock().syncs
    }

    /// Bytes of bodies that are in memory.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.shared.index.lock().cached_bytes()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A thread finishes what is queued and ends by itself; waiting here could wait for ourselves.
        self.queue.abandon();
    }
}

fn take_lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    let note = format!("process {}\n", std::process::id());
    let file = directory.join(segment::LOCK_NAME);
    disk.lock(&file, &note).map_err(|error| match error {
        LockError::Io(source) => IoFailure::new(Action::Create, &file, source).into(),
        source @ LockError::Held { .. } => OpenError::Locked { directory: directory.to_path_buf(), source },
    })
}
