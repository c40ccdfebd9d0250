//! A disk in memory that keeps apart what was written and what is durable. Test only.
//!
//! ```text
//!   write ---> visible bytes  (what reads show, what a killed process leaves: the page cache)
//!         \--> pending list --sync_data--> durable bytes  (what a power cut cannot take)
//!   create, rename, unlink ---> visible names
//!                         \---> pending list --sync_dir--> durable names
//! ```
//!
//! After a sync that fails, the pending list is dropped while the bytes stay visible: that is what
//! Linux does, and why a second `fdatasync` proves nothing (WAL-15).

use super::seeded::Seeded;
use super::storage::{Change, Inode, NameChange, Node, Storage, broken, not_found};
use super::{Disk, DiskFile, DiskLock, LockError, OpenMode, PathInfo};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A call that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// [`DiskFile::write_at`]; half of the bytes are written.
    Write,
    /// [`DiskFile::sync_data`]; what was pending will never be durable.
    SyncData,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`DiskFile::read_at`].
    Read,
}

/// One planned failure with EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which call fails.
    pub kind: FaultKind,
    /// How many such calls succeed before.
    pub after: u64,
}

/// How slow a disk is (FLT-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slowness {
    /// Each sync takes this long in real time.
    Real(Duration),
    /// Each sync adds this to [`SimulatedDisk::take_delay`], for a simulation in virtual time.
    Virtual(Duration),
}

/// A disk in memory. Clones are the same disk, seen by the same boot of the same process.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    pub(super) shared: Arc<Mutex<Storage>>,
    /// Handles of an earlier boot are dead: a crashed process writes no more.
    boot: u64,
}

impl SimulatedDisk {
    /// An empty disk that works, with a durable directory at `root`.
    #[must_use]
    pub fn new(root: impl AsRef<Path>) -> Self {
        let mut storage = Storage::default();
        for ancestor in root.as_ref().ancestors() {
            storage.visible.insert(ancestor.to_path_buf(), Node::Directory);
        }
        storage.durable = storage.visible.clone();
        Self::from_storage(storage)
    }

    pub(super) fn from_storage(storage: Storage) -> Self {
        let boot = storage.boot;
        Self { shared: Arc::new(Mutex::new(storage)), boot }
    }

    /// The process was killed and starts again: what was written stays, handles and locks do not,
    /// planned faults are forgotten.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut storage = self.shared.lock();
        storage.boot += 1;
        storage.locks.clear();
        storage.forget_faults();
        Self { shared: Arc::clone(&self.shared), boot: storage.boot }
    }

    /// A copy of the disk as a killed process would leave it, while this one goes on.
    #[must_use]
    pub fn copy_after_kill(&self) -> Self {
        let mut storage = self.shared.lock().clone();
        storage.locks.clear();
        storage.forget_faults();
        Self::from_storage(storage)
    }

    /// Plans a failure with EIO.
    pub fn plan(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// From the given number of further changing calls on, everything fails: the instant at which
    /// the power goes out.
    pub fn stop_after(&self, operations: u64) {
        let mut storage = self.shared.lock();
        storage.stop_after = Some(storage.operations + operations);
    }

    /// One sync in `times`, by chance, does nothing and answers Ok (FLT-08).
    pub fn lie_about_syncs(&self, seed: u64, times: u64) {
        self.shared.lock().lies = Some((Seeded::new(seed), times));
    }

    /// Bytes the disk holds; beyond it writes are cut short and fail with ENOSPC (FLT-12).
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes;
    }

    /// Makes the disk one that was mounted read-only.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.shared.lock().is_read_only = is_read_only;
    }

    /// Makes every sync slow (FLT-13).
    pub fn set_slowness(&self, slowness: Option<Slowness>) {
        self.shared.lock().slowness = slowness;
    }

    /// Virtual time that syncs took since the last call.
    #[must_use]
    pub fn take_delay(&self) -> Duration {
        std::mem::take(&mut self.shared.lock().delay)
    }

    /// How many calls changed something so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.lock().operations
    }

    /// How many calls of [`DiskFile::sync_data`] were made so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.shared.lock().syncs
    }

    /// The bytes of a file as a process sees them.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn content(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut storage = self.shared.lock();
        let number = storage.file_number(path.as_ref())?;
        Ok(storage.inode(number)?.visible.clone())
    }

    /// Puts bytes into an existing file behind everyone's back: rot, or a misdirected write (FLT-09,
    /// FLT-10). They are durable at once.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn overwrite(&self, path: impl AsRef<Path>, content: Vec<u8>) -> io::Result<()> {
        let mut storage = self.shared.lock();
        let number = storage.file_number(path.as_ref())?;
        *storage.inode(number)? = Inode { visible: content.clone(), durable: content, pending: Vec::new() };
        Ok(())
    }

    /// Flips one bit of a file, counted from its start.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `UnexpectedEof` when it is too short.
    pub fn flip_bit(&self, path: impl AsRef<Path>, bit: u64) -> io::Result<()> {
        let mut content = self.content(&path)?;
        let place = usize::try_from(bit / 8).map_err(io::Error::other)?;
        let byte = content.get_mut(place).ok_or(io::ErrorKind::UnexpectedEof)?;
        *byte ^= 1 << (bit % 8);
        self.overwrite(path, content)
    }

    /// Removes a file behind everyone's back, durably.
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    pub fn remove(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut storage = self.shared.lock();
        storage.durable.remove(path.as_ref());
        storage.visible.remove(path.as_ref()).map(|_| ()).ok_or_else(not_found)
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut storage = self.shared.lock();
        storage.step(self.boot)?;
        if storage.visible.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let parent = path.parent().ok_or_else(not_found)?;
        if storage.visible.get(parent) != Some(&Node::Directory) {
            return Err(not_found());
        }
        let change = NameChange::Link { name: path.to_path_buf(), node: Node::Directory };
        storage.change_name(change, path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let storage = self.shared.lock();
        storage.alive(self.boot)?;
        if storage.visible.get(path) != Some(&Node::Directory) {
            return Err(not_found());
        }
        let inside = storage.visible.keys().filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| name.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn inspect(&self, path: &Path) -> io::Result<PathInfo> {
        let storage = self.shared.lock();
        storage.alive(self.boot)?;
        let node = storage.visible.get(path).ok_or_else(not_found)?;
        let is_directory = *node == Node::Directory;
        let mode = if is_directory { 0o700 } else { 0o600 };
        Ok(PathInfo { is_directory, mode, is_ours: true })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut storage = self.shared.lock();
        storage.alive(self.boot)?;
        let number = match mode {
            OpenMode::Read | OpenMode::ReadWrite => storage.file_number(path)?,
            OpenMode::CreateNew => {
                storage.step(self.boot)?;
                if storage.visible.contains_key(path) {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists));
                }
                let parent = path.parent().ok_or_else(not_found)?;
                if storage.visible.get(parent) != Some(&Node::Directory) {
                    return Err(not_found());
                }
                let number = storage.next_inode;
                storage.next_inode += 1;
                storage.files.insert(number, Inode::default());
                let change = NameChange::Link { name: path.to_path_buf(), node: Node::File(number) };
                storage.change_name(change, path);
                number
            }
        };
        Ok(Arc::new(SimulatedFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut storage = self.shared.lock();
        storage.step(self.boot)?;
        let node = storage.visible.get(from).copied().ok_or_else(not_found)?;
        let change = NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf(), node };
        storage.change_name(change, to);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut storage = self.shared.lock();
        storage.alive(self.boot)?;
        storage.file_number(path)?;
        storage.step(self.boot)?;
        storage.change_name(NameChange::Unlink { name: path.to_path_buf() }, path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut storage = self.shared.lock();
        storage.step(self.boot)?;
        if storage.lies_now() {
            return Ok(());
        }
        let changes = storage.pending_names.remove(path).unwrap_or_default();
        if storage.falls_due(FaultKind::SyncDir) {
            return Err(broken());
        }
        for change in changes {
            change.apply(&mut storage.durable);
        }
        Ok(())
    }

    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let mut storage = self.shared.lock();
        storage.step(self.boot)?;
        if let Some((_, holder)) = storage.locks.get(path) {
            return Err(LockError::Held { holder: Some(holder.clone()) });
        }
        storage.locks.insert(path.to_path_buf(), (self.boot, note.to_owned()));
        Ok(Box::new(SimulatedLock { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        let storage = self.shared.lock();
        storage.alive(self.boot)?;
        Ok(storage.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(storage.used())))
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut storage = self.disk.shared.lock();
        if storage.locks.get(&self.path).is_some_and(|(boot, _)| *boot == self.disk.boot) {
            storage.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    number: u64,
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut storage = self.disk.shared.lock();
        storage.alive(self.disk.boot)?;
        if storage.falls_due(FaultKind::Read) {
            return Err(broken());
        }
        let content = &storage.inode(self.number)?.visible;
        let start = usize::try_from(offset).map_err(io::Error::other)?.min(content.len());
        let available = content.get(start..).unwrap_or_default();
        let count = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), available.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut storage = self.disk.shared.lock();
        storage.step(self.disk.boot)?;
        let length = storage.inode(self.number)?.visible.len() as u64;
        let growth = (offset + bytes.len() as u64).saturating_sub(length);
        let room = storage.capacity.map_or(u64::MAX, |limit| limit.saturating_sub(storage.used()));
        let is_full = growth > room;
        let breaks = storage.falls_due(FaultKind::Write);
        let written = match (breaks, is_full) {
            (true, _) => bytes.len() / 2,
            (false, true) => bytes.len().saturating_sub(usize::try_from(growth - room).unwrap_or(0)),
            (false, false) => bytes.len(),
        };
        let part = bytes.get(..written).unwrap_or_default().to_vec();
        let change = Change::Write { offset, bytes: part };
        let inode = storage.inode(self.number)?;
        change.apply(&mut inode.visible);
        inode.pending.push(change);
        match (breaks, is_full) {
            (true, _) => Err(broken()),
            (false, true) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            (false, false) => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut storage = self.disk.shared.lock();
        storage.step(self.disk.boot)?;
        storage.syncs += 1;
        match storage.slowness {
            Some(Slowness::Real(duration)) => std::thread::sleep(duration),
            Some(Slowness::Virtual(duration)) => storage.delay += duration,
            None => {}
        }
        if storage.lies_now() {
            return Ok(());
        }
        let breaks = storage.falls_due(FaultKind::SyncData);
        let inode = storage.inode(self.number)?;
        let pending = std::mem::take(&mut inode.pending);
        if breaks {
            return Err(broken());
        }
        for change in pending {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut storage = self.disk.shared.lock();
        storage.step(self.disk.boot)?;
        let change = Change::Truncate { length };
        let inode = storage.inode(self.number)?;
        change.apply(&mut inode.visible);
        inode.pending.push(change);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut storage = self.disk.shared.lock();
        storage.alive(self.disk.boot)?;
        Ok(storage.inode(self.number)?.visible.len() as u64)
    }
}
