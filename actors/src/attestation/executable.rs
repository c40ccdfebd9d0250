//! Which program a process runs: its file, its path, and the SHA-256 of its contents (ATK-18).
//!
//! Everything is asked of the open file itself, reached through the process and never through a path: the path may
//! lead to another file by now, in another mount namespace it always may.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::Mutex;

/// The largest executable that is hashed, unless configured otherwise: at some 1 GB/s a hash of this takes half a
/// second of a core, and programs larger than this are rare.
pub const EXECUTABLE_BYTES_LIMIT: u64 = 512 << 20;

/// How many hashes are remembered. A host runs hundreds of different programs; an entry is some 150 bytes.
const DIGESTS_KEPT: usize = 4096;

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// What a kernel appends to the path of a file that has no name any more.
const DELETED: &str = " (deleted)";

/// Which file a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExecutableId {
    /// The device.
    pub device: u64,
    /// The inode on it.
    pub inode: u64,
}

impl ExecutableId {
    /// What `stat` said.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A version of a file: two of them with equal values have equal contents, as far as a kernel can tell. The change time
/// cannot be set by those who may write the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    id: ExecutableId,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            id: ExecutableId::of(metadata),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why an executable gives no hash.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DigestError {
    /// It is larger than the limit.
    #[error("the executable has {size} bytes, more than the {limit} that are hashed")]
    TooLarge { size: u64, limit: u64 },
    /// It is no regular file.
    #[error("the executable is not a regular file")]
    NotAFile,
    /// It was written while it was read.
    #[error("the executable changed while it was read")]
    Changed,
    /// It cannot be read.
    #[error("the executable cannot be read")]
    Unreadable(#[from] io::Error),
}

/// Hashes executables, each version of one once.
#[derive(Debug)]
pub(crate) struct Digests {
    limit: u64,
    known: Mutex<HashMap<Version, Arc<str>>>,
}

impl Digests {
    /// A cache that hashes files of at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, known: Mutex::new(HashMap::new()) }
    }

    /// The SHA-256 of an open file, in lower-case hex.
    pub(crate) fn sha256(&self, file: &mut File) -> Result<Arc<str>, DigestError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(DigestError::NotAFile);
        }
        let version = Version::of(&metadata);
        if let Some(known) = self.known.lock().get(&version) {
            return Ok(Arc::clone(known));
        }
        if version.size > self.limit {
            return Err(DigestError::TooLarge { size: version.size, limit: self.limit });
        }
        let digest = self.hash(file)?;
        // A kernel forbids writing a program that runs, but not every file system holds to that.
        if Version::of(&file.metadata()?) != version {
            return Err(DigestError::Changed);
        }
        let mut known = self.known.lock();
        if known.len() >= DIGESTS_KEPT {
            // Forgetting all is rare and cheap: what is still wanted is hashed again once.
            known.clear();
        }
        known.insert(version, Arc::clone(&digest));
        Ok(digest)
    }

    fn hash(&self, file: &mut File) -> Result<Arc<str>, DigestError> {
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; READ_BYTES];
        let mut total = 0_u64;
        loop {
            let read = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            total = total.saturating_add(read as u64);
            if total > self.limit {
                return Err(DigestError::TooLarge { size: total, limit: self.limit });
            }
            context.update(buffer.get(..read).unwrap_or_default());
        }
        Ok(hex(context.finish().as_ref()))
    }
}

/// Lower-case hex, as SPIRE writes digests.
fn hex(bytes: &[u8]) -> Arc<str> {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// The path of an executable, if this node's own view of the file system has that very file under it.
///
/// What a process's link names is a path in the process's own mount namespace: whoever may make one (any user, on most
/// kernels) can put a file of theirs under any name there. So the name counts only when it leads this node to the same
/// file, and never when the file is deleted.
pub(crate) fn verified_path(link: PathBuf, id: ExecutableId) -> Result<PathBuf, PathError> {
    if !link.is_absolute() || link.to_string_lossy().ends_with(DELETED) {
        return Err(PathError::Nameless);
    }
    let found = std::fs::metadata(&link).map_err(PathError::Unreadable)?;
    if ExecutableId::of(&found) == id { Ok(link) } else { Err(PathError::Another) }
}

/// Why a path gives no selector.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    /// The file was deleted, or never had a name.
    #[error("the executable has no path any more")]
    Nameless,
    /// Another file is there: the program was replaced since it started, or sees other mounts than this node.
    #[error("the executable's path leads to another file")]
    Another,
    /// This node may not look.
    #[error("the executable's path cannot be followed")]
    Unreadable(#[source] io::Error),
}

/// The file that a process runs, without opening it: one call of `stat` through the process's link.
pub(crate) fn current_executable(process: &Path) -> Option<ExecutableId> {
    std::fs::metadata(process.join("exe")).ok().map(|metadata| ExecutableId::of(&metadata))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn a_hash_is_the_one_that_sha256sum_prints_and_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "abc").unwrap();
        let digests = Digests::new(1000);
        let first = digests.sha256(&mut File::open(&path).unwrap()).unwrap();
        assert_eq!(&*first, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let second = digests.sha256(&mut File::open(&path).unwrap()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        std::fs::write(&path, "abd").unwrap();
        assert_ne!(first, digests.sha256(&mut File::open(&path).unwrap()).unwrap());
    }

    #[test]
    fn atk_18_a_file_over_the_limit_is_not_read() {
        let mut file = tempfile::tempfile().unwrap();
        // Sparse: reading it would take minutes, refusing it takes none.
        file.set_len(50 << 30).unwrap();
        let digests = Digests::new(EXECUTABLE_BYTES_LIMIT);
        assert!(matches!(digests.sha256(&mut file), Err(DigestError::TooLarge { .. })));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcd").unwrap();
        file.rewind().unwrap();
        assert!(matches!(Digests::new(3).sha256(&mut file), Err(DigestError::TooLarge { size: 4, limit: 3 })));
        assert!(Digests::new(4).sha256(&mut file).is_ok());
    }

    #[test]
    fn what_is_no_regular_file_is_not_hashed() {
        let mut directory = File::open("/").unwrap();
        assert!(matches!(Digests::new(1 << 20).sha256(&mut directory), Err(DigestError::NotAFile)));
    }

    #[test]
    fn atk_18_a_deleted_or_replaced_program_has_no_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, "one").unwrap();
        let id = ExecutableId::of(&std::fs::metadata(&path).unwrap());
        assert_eq!(verified_path(path.clone(), id).unwrap(), path);
        let other = directory.path().join("other");
        std::fs::write(&other, "two").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(matches!(verified_path(path.clone(), id), Err(PathError::Another)));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(verified_path(path, id), Err(PathError::Unreadable(_))));
        assert!(matches!(verified_path("/usr/bin/x (deleted)".into(), id), Err(PathError::Nameless)));
        assert!(matches!(verified_path("memfd:x".into(), id), Err(PathError::Nameless)));
    }
}
