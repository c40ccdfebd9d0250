//! Reading a snapshot back, in the memory of one chunk.

use super::error::SnapshotError;
use super::format::{
    CHUNK_HEADER_BYTES, ChunkHeader, FIXED_HEADER_BYTES, MAX_CHUNK_BYTES, SnapshotMeta, TRAILER_BYTES, Trailer,
    decode_header, header_rest,
};
use crate::disk::{Disk, DiskFile, OpenMode, read_exact_at};
use crate::log::{Action, IoFailure};
use crate::log_id::WalIdentity;
use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A snapshot on disk, its head and end checked; its chunks are checked as they are read. Clones share
/// the open file, and can be read even after the file was pruned.
#[derive(Debug, Clone)]
pub struct Snapshot {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    meta: Arc<SnapshotMeta>,
    chunks_at: u64,
    trailer: Trailer,
}

impl Snapshot {
    pub(crate) fn open(disk: &dyn Disk, path: &Path, identity: WalIdentity) -> Result<Self, SnapshotError> {
        let file = disk.open(path, OpenMode::Read).map_err(|source| IoFailure::new(Action::Open, path, source))?;
        let damaged = |offset, problem| SnapshotError::Damaged { file: path.to_path_buf(), offset, problem };
        let mut header = read(file.as_ref(), path, 0, FIXED_HEADER_BYTES)?;
        let rest = header_rest(path, &header)?;
        header.extend(read(file.as_ref(), path, FIXED_HEADER_BYTES as u64, rest)?);
        let (found, meta) = decode_header(&header).ok_or_else(|| damaged(0, "its head does not hold"))?;
        if found != identity {
            return Err(SnapshotError::Foreign { file: path.to_path_buf(), found, expected: identity });
        }
        let length = file.length().map_err(|source| IoFailure::new(Action::Read, path, source))?;
        let trailer_at = length.saturating_sub(TRAILER_BYTES as u64);
        let trailer = read(file.as_ref(), path, trailer_at, TRAILER_BYTES)?;
        let trailer = Trailer::decode(&trailer).ok_or_else(|| damaged(trailer_at, "its end does not hold"))?;
        let chunks_at = header.len() as u64;
        let expected_length =
            chunks_at + u64::from(trailer.count) * CHUNK_HEADER_BYTES as u64 + trailer.bytes + TRAILER_BYTES as u64;
        if length != expected_length {
            return Err(damaged(trailer_at, "it is not as long as its end says"));
        }
        Ok(Self { path: path.to_path_buf(), file, meta: Arc::new(meta), chunks_at, trailer })
    }

    /// What it is of.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Bytes of content.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.trailer.bytes
    }

    /// Chunks of content.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        u64::from(self.trailer.count)
    }

    /// SHA-256 of the content, the same on every member however it was cut into chunks.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.trailer.digest
    }

    /// The file, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the chunks from the first on.
    #[must_use]
    pub fn read(&self) -> SnapshotReader {
        SnapshotReader {
            snapshot: self.clone(),
            offset: self.chunks_at,
            number: 0,
            bytes: 0,
            digest: Context::new(&SHA256),
            is_over: false,
        }
    }

    /// Reads everything and checks it.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] or [`SnapshotError::Io`].
    pub fn verify(&self) -> Result<(), SnapshotError> {
        self.read().try_for_each(|chunk| chunk.map(drop))
    }
}

/// Yields the chunks in order. After the last the whole digest has been checked: an error may be the
/// last item, so what was read counts only when the iterator has ended without one. Blocks on the disk.
pub struct SnapshotReader {
    snapshot: Snapshot,
    offset: u64,
    number: u32,
    bytes: u64,
    digest: Context,
    is_over: bool,
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("path", &self.snapshot.path)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl SnapshotReader {
    fn damaged(&self, problem: &'static str) -> SnapshotError {
        let file = self.snapshot.path.clone();
        SnapshotError::Damaged { file, offset: self.offset, problem }
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        if self.number == self.snapshot.trailer.count {
            return self.end().map(|()| None);
        }
        let Snapshot { file, path, .. } = &self.snapshot;
        let header = read(file.as_ref(), path, self.offset, CHUNK_HEADER_BYTES)?;
        let header = ChunkHeader::decode(&header).ok_or_else(|| self.damaged("it ends early"))?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if header.number != self.number || length == 0 || length > MAX_CHUNK_BYTES {
            return Err(self.damaged("another chunk belongs here"));
        }
        let chunk = read(file.as_ref(), path, self.offset + CHUNK_HEADER_BYTES as u64, length)?;
        if !header.fits(&chunk) {
            return Err(self.damaged("the checksum of a chunk does not match"));
        }
        self.digest.update(&chunk);
        self.offset += (CHUNK_HEADER_BYTES + length) as u64;
        self.bytes += length as u64;
        self.number += 1;
        Ok(Some(Bytes::from(chunk)))
    }

    fn end(&mut self) -> Result<(), SnapshotError> {
        let digest = std::mem::replace(&mut self.digest, Context::new(&SHA256)).finish();
        if self.bytes != self.snapshot.trailer.bytes || digest.as_ref() != self.snapshot.trailer.digest.as_slice() {
            return Err(self.damaged("the content is not what its digest says"));
        }
        Ok(())
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Bytes, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_chunk().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

fn read(file: &dyn DiskFile, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, SnapshotError> {
    let mut bytes = vec![0; length];
    let count = read_exact_at(file, offset, &mut bytes)
        .map_err(|source| IoFailure::new(Action::Read, path, source).at(offset))?;
    if count < length {
        return Err(SnapshotError::Damaged { file: path.to_path_buf(), offset, problem: "it ends early" });
    }
    Ok(bytes)
}
