//! The seam between what must be durable and what makes it so (SIM-02: "disk with a synced mark").
//!
//! Everything this crate writes goes through [`Disk`], which is as small as the log and the snapshots
//! need. [`RealDisk`] is the operating system. The test-only feature `fault-injection` adds a disk in
//! memory that loses, tears and refuses what was not synced.

#[cfg(feature = "fault-injection")]
mod power_loss;
mod real;
#[cfg(feature = "fault-injection")]
mod seeded;
#[cfg(feature = "fault-injection")]
mod simulated;
#[cfg(feature = "fault-injection")]
mod storage;

#[cfg(feature = "fault-injection")]
pub use power_loss::PowerLoss;
pub use real::RealDisk;
#[cfg(feature = "fault-injection")]
pub use seeded::Seeded;
#[cfg(feature = "fault-injection")]
pub use simulated::{Fault, FaultKind, SimulatedDisk, Slowness};

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A disk as this crate sees it: a tree of directories and files.
///
/// All calls may block. None retries: the caller decides, and for the log the decision is never
/// (WAL-09).
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory that only its owner may enter. The parent is not synced.
    ///
    /// # Errors
    /// As the file system says; `AlreadyExists` when there is something of that name.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted. Names that are not UTF-8 are shown with replacement characters:
    /// none of ours are.
    ///
    /// # Errors
    /// As the file system says; `NotFound` when there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// What stands at a path, without following a symbolic link.
    ///
    /// # Errors
    /// As the file system says; `NotFound` when there is nothing.
    fn inspect(&self, path: &Path) -> io::Result<PathInfo>;

    /// Opens or makes a file; new files are for their owner alone.
    ///
    /// # Errors
    /// As the file system says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing what stands at the new name. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As the file system says.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the file system says; after an error nothing is known about any name changed before.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive lock that ends with the process, and leaves `note` in the file for whoever
    /// is refused.
    ///
    /// # Errors
    /// [`LockError::Held`] when another holder has it.
    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError>;

    /// Bytes that an unprivileged process may still write to the file system of `path`.
    ///
    /// # Errors
    /// As the file system says.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
}

/// An open file, read and written by offset.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// As the file system says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may be there.
    ///
    /// # Errors
    /// As the file system says.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes content and length durable (`fdatasync`).
    ///
    /// # Errors
    /// As the file system says. After an error nothing is known about what was written since the last
    /// success, and a later success does not mend that: the kernel may have dropped the dirty pages.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file to `length` bytes. Durable after [`DiskFile::sync_data`].
    ///
    /// # Errors
    /// As the file system says.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As the file system says.
    fn length(&self) -> io::Result<u64>;
}

/// Held for as long as this value lives.
pub trait DiskLock: fmt::Debug + Send + Sync {}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// A file that must not exist yet, to read and write.
    CreateNew,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathInfo {
    /// Whether it is a directory, and not a link to one.
    pub is_directory: bool,
    /// Permission bits, as in `chmod`.
    pub mode: u32,
    /// Whether it belongs to the user this process runs as.
    pub is_ours: bool,
}

/// Why a lock was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another holder has it. Stop that process, or use another directory.
    #[error("held by another process{}", holder.as_deref().map(|note| format!(" ({note})")).unwrap_or_default())]
    Held {
        /// What the holder left about itself, such as its process ID.
        holder: Option<String>,
    },
    /// The lock file could not be opened or written.
    #[error("the lock file cannot be used")]
    Io(#[from] io::Error),
}

/// Reads a whole file that must not be longer than `limit` bytes.
///
/// # Errors
/// As the file system says; `FileTooLarge` beyond the limit, so that damage to a length cannot make
/// us allocate without bound.
pub(crate) fn read_file(file: &dyn DiskFile, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.length()?;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file has {length} bytes, more than the {limit} it may have"),
        ));
    }
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let read = read_exact_at(file, 0, &mut content)?;
    content.truncate(read);
    Ok(content)
}

/// Fills `buffer` from `offset`; says how much the file had.
///
/// # Errors
/// As the file system says.
pub(crate) fn read_exact_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset + filled as u64, rest)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The directory that holds `path`. A path of one relative name stands in the working directory, whose name is not "".
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Replaces a small file whole: a temporary file beside it is written and synced, renamed over it,
/// and the directory synced. A crash leaves the old content or the new, never a mixture.
///
/// # Errors
/// As the file system says; the old content still stands, except when the last sync failed.
pub(crate) fn replace_file(disk: &dyn Disk, directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.tmp"));
    match disk.unlink(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(0, content)?;
    file.sync_data()?;
    disk.rename(&temporary, &directory.join(name))?;
    disk.sync_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_name_stands_in_the_working_directory() {
        for (path, expected) in [("data", "."), ("a/data", "a"), ("/data", "/"), ("/", "/")] {
            assert_eq!(parent(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
