//! Writing a snapshot, chunk by chunk.

use super::error::SnapshotError;
use super::format::{ChunkHeader, MAX_CHUNK_BYTES, SnapshotMeta, Trailer, encode_header};
use super::reader::Snapshot;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::log::{Action, IoFailure};
use crate::log_id::WalIdentity;
use aws_lc_rs::digest::{Context, SHA256};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes after which what is written so far is synced. The log is on the same disk, and its next sync waits behind
/// whatever the disk has been given: a snapshot of 200 MB synced as a whole held appends up for 60 to 110 ms, synced in
/// such parts for 15 to 32 ms, on the same disk.
const SYNC_AFTER_BYTES: u64 = 4 << 20;

/// A snapshot being written. Dropped before [`SnapshotWriter::finish`], it leaves nothing.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    temporary: PathBuf,
    path: PathBuf,
    identity: WalIdentity,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Up to here the file is synced.
    synced: u64,
    count: u32,
    bytes: u64,
    digest: Context,
    is_finished: bool,
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotWriter").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        directory: &Path,
        identity: WalIdentity,
        meta: &SnapshotMeta,
        name: &str,
    ) -> Result<Self, SnapshotError> {
        let header = encode_header(identity, meta)?;
        let temporary = directory.join(format!("{name}.tmp"));
        match disk.unlink(&temporary) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(IoFailure::new(Action::Remove, &temporary, source).into());
            }
            Ok(()) | Err(_) => {}
        }
        let file = disk
            .open(&temporary, OpenMode::CreateNew)
            .map_err(|source| IoFailure::new(Action::Create, &temporary, source))?;
        let mut writer = Self {
            path: directory.join(format!("{name}.snapshot")),
            directory: directory.to_path_buf(),
            disk,
            temporary,
            identity,
            file,
            length: 0,
            synced: 0,
            count: 0,
            bytes: 0,
            digest: Context::new(&SHA256),
            is_finished: false,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Adds content. Pieces longer than [`MAX_CHUNK_BYTES`] become several chunks; empty ones none.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`SnapshotError::Io`]; drop the writer then.
    pub fn write(&mut self, content: &[u8]) -> Result<(), SnapshotError> {
        for chunk in content.chunks(MAX_CHUNK_BYTES) {
            let header = ChunkHeader::new(self.count, chunk).encode();
            self.put(&[header.as_slice(), chunk].concat())?;
            self.digest.update(chunk);
            self.count += 1;
            self.bytes += chunk.len() as u64;
            if self.length - self.synced >= SYNC_AFTER_BYTES {
                self.sync()?;
            }
        }
        Ok(())
    }

    /// Bytes of content so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the file, syncs it, gives it its name and syncs that: afterwards the snapshot is durable, and
    /// the log may be purged up to it. `expected` is what the sender of a received snapshot announced.
    ///
    /// # Errors
    /// [`SnapshotError::WrongDigest`], after which nothing is left; [`SnapshotError::Io`], after which
    /// the snapshot may or may not be there, whole in either case.
    pub fn finish(mut self, expected: Option<[u8; 32]>) -> Result<Snapshot, SnapshotError> {
        let digest = std::mem::replace(&mut self.digest, Context::new(&SHA256)).finish();
        let digest: [u8; 32] = digest.as_ref().try_into().unwrap_or_default();
        if expected.is_some_and(|expected| expected != digest) {
            return Err(SnapshotError::WrongDigest);
        }
        let trailer = Trailer { count: self.count, bytes: self.bytes, digest };
        self.put(&trailer.encode())?;
        self.sync()?;
        self.disk
            .rename(&self.temporary, &self.path)
            .map_err(|source| IoFailure::new(Action::Rename, &self.temporary, source))?;
        self.is_finished = true;
        self.disk.sync_dir(&self.directory).map_err(|source| IoFailure::new(Action::Sync, &self.directory, source))?;
        Snapshot::open(self.disk.as_ref(), &self.path, self.identity)
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(|source| IoFailure::new(Action::Sync, &self.temporary, source))?;
        self.synced = self.length;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file
            .write_at(self.length, bytes)
            .map_err(|source| IoFailure::new(Action::Write, &self.temporary, source).at(self.length))?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // What cannot be removed now is removed when the store is opened next.
            if let Err(error) = self.disk.unlink(&self.temporary) {
                tracing::debug!(file = %self.temporary.display(), %error, "an unfinished snapshot stays for now");
            }
        }
    }
}
