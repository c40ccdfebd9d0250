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

use super::{Disk, DiskFile, DiskLock, LockError, OpenMode, PathInfo};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A small seeded generator (SplitMix64): the same seed gives the same faults, on every machine.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts a stream of numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

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

/// Everything on the disk, and what is planned to go wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Storage {
    pub(super) files: BTreeMap<u64, Inode>,
    pub(super) visible: BTreeMap<PathBuf, Node>,
    pub(super) durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since the directory was last synced, by directory, in order.
    pub(super) pending_names: BTreeMap<PathBuf, Vec<NameChange>>,
    pub(super) next_inode: u64,
    boot: u64,
    locks: BTreeMap<PathBuf, (u64, String)>,
    faults: Vec<Fault>,
    lies: Option<(Seeded, u64)>,
    capacity: Option<u64>,
    slowness: Option<Slowness>,
    delay: Duration,
    stop_after: Option<u64>,
    operations: u64,
    syncs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) visible: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { length: u64 },
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link { name: PathBuf, node: Node },
    Unlink { name: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
            }
            Self::Truncate { length } => {
                content.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
            }
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link { name, node } => {
                names.insert(name.clone(), *node);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// What a real disk says when it breaks (EIO is 5).
fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Storage {
    /// Counts a call that changes something; fails it when the power is out.
    fn step(&mut self, boot: u64) -> io::Result<()> {
        self.alive(boot)?;
        if self.stop_after.is_some_and(|limit| self.operations >= limit) {
            return Err(broken());
        }
        self.operations += 1;
        Ok(())
    }

    fn alive(&self, boot: u64) -> io::Result<()> {
        if self.boot == boot { Ok(()) } else { Err(io::Error::other("this process has ended")) }
    }

    /// Whether a planned fault of this kind falls due now.
    fn falls_due(&mut self, kind: FaultKind) -> bool {
        let mut due = false;
        self.faults.retain_mut(|fault| {
            if fault.kind != kind {
                return true;
            }
            if fault.after == 0 {
                due = true;
                return false;
            }
            fault.after -= 1;
            true
        });
        due
    }

    fn lies_now(&mut self) -> bool {
        self.lies.as_mut().is_some_and(|(random, times)| random.one_in(*times))
    }

    fn used(&self) -> u64 {
        self.visible
            .values()
            .filter_map(|node| match node {
                Node::File(number) => self.files.get(number),
                Node::Directory => None,
            })
            .map(|inode| inode.visible.len() as u64)
            .sum()
    }

    fn change_name(&mut self, change: NameChange, place: &Path) {
        change.apply(&mut self.visible);
        let parent = place.parent().unwrap_or(Path::new("/")).to_path_buf();
        self.pending_names.entry(parent).or_default().push(change);
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&number).ok_or_else(not_found)
    }

    fn file_number(&self, path: &Path) -> io::Result<u64> {
        match self.visible.get(path) {
            Some(Node::File(number)) => Ok(*number),
            Some(Node::Directory) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(not_found()),
        }
    }
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

impl Storage {
    pub(super) fn forget_faults(&mut self) {
        self.faults.clear();
        self.lies = None;
        self.stop_after = None;
        self.slowness = None;
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
        storage.alive(self.boot)?;
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
