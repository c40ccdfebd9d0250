//! Reading a backup: the header at once, the content one chunk at a time, the end before anything counts.

use std::io::{ErrorKind, Read};

use aws_lc_rs::digest::{Context, SHA256};

use super::content::{ContentKey, info};
use super::error::BackupError;
use super::format::{
    BackupHeader, END_BYTES_LIMIT, PRELUDE_BYTES, ReadHeader, TAG_BYTES, bounded, read_end, read_header, read_prelude,
};
use crate::keys::RecoveryPrivateKey;

/// A backup that is being read. Its header is verified; its content is not, before the end was read.
pub struct BackupReader<R> {
    source: Counted<R>,
    header: ReadHeader,
    position: u64,
    chunk: Vec<u8>,
}

/// A reader that knows how much was read, and the digest of it.
struct Counted<R> {
    source: R,
    read: u64,
    digest: Context,
}

impl<R> std::fmt::Debug for BackupReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupReader").field("header", &self.header.header).finish_non_exhaustive()
    }
}

impl<R: Read> Counted<R> {
    /// Fills the buffer. `behind` bytes at least must follow it.
    fn fill(&mut self, buffer: &mut [u8], behind: u64) -> Result<(), BackupError> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest) {
                Ok(0) => {
                    let read = self.read.saturating_add(filled as u64);
                    let expected = self.read.saturating_add(buffer.len() as u64).saturating_add(behind);
                    return Err(BackupError::Truncated { read, expected });
                }
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.read = self.read.saturating_add(filled as u64);
        self.digest.update(buffer);
        Ok(())
    }

    fn length(&mut self) -> Result<u32, BackupError> {
        let mut length = [0; 4];
        self.fill(&mut length, 0)?;
        Ok(u32::from_le_bytes(length))
    }

    fn is_over(&mut self) -> Result<bool, BackupError> {
        let mut more = [0];
        loop {
            match self.source.read(&mut more) {
                Ok(count) => return Ok(count == 0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: Read> BackupReader<R> {
    /// Reads the header and verifies its signature by the key in it.
    ///
    /// # Errors
    /// When it is no backup, is of a newer format, is cut off or was altered.
    pub fn open(source: R) -> Result<Self, BackupError> {
        let mut source = Counted { source, read: 0, digest: Context::new(&SHA256) };
        let mut prelude = [0; PRELUDE_BYTES];
        match source.fill(&mut prelude, 0) {
            // Nothing that was ever the beginning of a backup.
            Err(BackupError::Truncated { read, .. }) if !may_begin(&prelude, read) => {
                return Err(BackupError::NotABackup);
            }
            filled => filled?,
        }
        let mut signed = vec![0; read_prelude(&prelude)?];
        source.fill(&mut signed, 0)?;
        Ok(Self { source, header: read_header(&signed)?, position: 0, chunk: Vec::new() })
    }

    /// What the backup says of itself. Who signed it, the key in it tells: whether that is a member's, the caller knows,
    /// or the content says.
    pub fn header(&self) -> &BackupHeader {
        &self.header.header
    }

    /// Reads the rest, and verifies that it is what the member signed, without opening anything. Answers the bytes of the
    /// whole file.
    ///
    /// # Errors
    /// When it is cut off, was altered, or cannot be read.
    pub fn check(mut self) -> Result<u64, BackupError> {
        while self.next_sealed()? {}
        Ok(self.source.read)
    }

    /// Opens the content, and hands it over piece by piece. What was handed over counts only when this has come back
    /// without an error.
    ///
    /// # Errors
    /// When the key is another one, or anything in the file is not what was sealed and signed; and what `take` says.
    pub fn open_content(
        mut self,
        key: &RecoveryPrivateKey,
        mut take: impl FnMut(&[u8]) -> Result<(), BackupError>,
    ) -> Result<BackupHeader, BackupError> {
        let content = self.content_key(key)?;
        loop {
            let position = self.position;
            if !self.next_sealed()? {
                return Ok(self.header.header);
            }
            let chunks = self.header().chunks();
            let opened = content.open(position, &mut self.chunk);
            take(opened.ok_or(BackupError::Chunk { chunk: position.saturating_add(1), chunks })?)?;
        }
    }

    fn content_key(&self, key: &RecoveryPrivateKey) -> Result<ContentKey, BackupError> {
        let ReadHeader { header, stored, binding } = &self.header;
        if header.recovery_key != key.id() {
            return Err(BackupError::WrongKey { sealed_to: header.recovery_key.clone(), given: key.id().to_owned() });
        }
        let opened = key.open_bytes(stored.suite, &info(header.cluster), &stored.facts, &stored.part());
        opened
            .and_then(|content_key| ContentKey::new(&content_key, *binding, header.chunks()))
            .ok_or_else(|| BackupError::DoesNotOpen { id: key.id().to_owned() })
    }

    /// Reads the next chunk as it is in the file; after the last, reads the end instead, and answers `false`.
    fn next_sealed(&mut self) -> Result<bool, BackupError> {
        let header = &self.header.header;
        let Some(length) = header.chunk_length(self.position) else {
            self.read_end()?;
            return Ok(false);
        };
        let before = self.position.saturating_mul((super::format::CHUNK_BYTES + TAG_BYTES) as u64);
        let length = length.saturating_add(TAG_BYTES);
        let behind = header.sealed_bytes().saturating_sub(before).saturating_sub(length as u64);
        self.chunk.resize(length, 0);
        self.source.fill(&mut self.chunk, behind)?;
        self.position = self.position.saturating_add(1);
        Ok(true)
    }

    fn read_end(&mut self) -> Result<(), BackupError> {
        let digest = self.source.digest.clone().finish();
        let length = bounded(self.source.length()?, END_BYTES_LIMIT).ok_or(BackupError::Altered)?;
        let mut end = vec![0; length];
        self.source.fill(&mut end, 0)?;
        read_end(self.header(), &end, digest.as_ref())?;
        if self.source.is_over()? { Ok(()) } else { Err(BackupError::TrailingBytes) }
    }
}

/// Whether so many first bytes are those of a backup, as far as they go.
fn may_begin(prelude: &[u8; PRELUDE_BYTES], read: u64) -> bool {
    let read = usize::try_from(read).unwrap_or(usize::MAX).min(super::format::MAGIC.len());
    read > 0 && prelude.get(..read) == super::format::MAGIC.get(..read)
}
