//! The operating system's disk.

use super::{Disk, DiskFile, DiskLock, LockError, OpenMode, PathInfo};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Only the owner may enter our directories: they hold sealed keys beside the log.
const DIRECTORY_MODE: u32 = 0o700;
/// Only the owner may read our files.
const FILE_MODE: u32 = 0o600;
/// A lock file's note is one short line; no more of it is read, whatever is in the file.
const LOCK_NOTE_BYTES: u64 = 128;

/// The operating system's disk. Syncs are `fdatasync`, which on Linux covers a file's new length too,
/// and `fsync` for directories.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct RealLock {
    /// The lock is the open file's (`flock`), so it ends with the process in any case.
    file: File,
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing alone would not do while a child that is just being started still shares the open file.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "a lock ends with its file instead");
        }
    }
}

impl DiskLock for RealLock {}

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(DIRECTORY_MODE).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn inspect(&self, path: &Path) -> io::Result<PathInfo> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(PathInfo {
            is_directory: metadata.is_dir(),
            mode: metadata.mode() & 0o7777,
            is_ours: metadata.uid() == nix::unistd::geteuid().as_raw(),
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The note is a courtesy: without it the refusal still stands.
                let read = (&file).take(LOCK_NOTE_BYTES).read_to_string(&mut holder);
                let holder = read.ok().map(|_| holder.trim().to_owned()).filter(|note| !note.is_empty());
                return Err(LockError::Held { holder });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        file.write_all_at(note.as_bytes(), 0)?;
        Ok(Box::new(RealLock { file }))
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let status = nix::sys::statvfs::statvfs(path).map_err(io::Error::from)?;
        Ok(status.blocks_available().saturating_mul(status.fragment_size()))
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read_at(buffer, offset) {
                // An interrupted read has read nothing; this is no retry of a failure.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
