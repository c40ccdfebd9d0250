//! The bytes of a snapshot file.

use super::error::SnapshotError;
use crate::bytes_reader::BytesReader;
use crate::header::StoredForm;
use crate::log_id::{LogId, WalIdentity};
use bytes::Bytes;
use std::path::Path;

/// Largest chunk. It is what a reader holds in memory, and what the state machine makes at most.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Largest metadata: an ID, and a membership of at most some hundred members with their addresses.
pub const MAX_META_BYTES: usize = 1 << 20;

/// First seven bytes; the eighth is the version of the form.
const MAGIC: [u8; 7] = [0xf5, b'Q', b'R', b'S', b'N', b'A', 0x9b];
/// What stands before the metadata.
pub(crate) const FIXED_HEADER_BYTES: usize = 8 + 16 + 8 + 4;
/// What stands before a chunk: length, number, checksum.
pub(crate) const CHUNK_HEADER_BYTES: usize = 4 + 4 + 4;
/// What ends the file: a length of zero, count, bytes, digest, checksum.
pub(crate) const TRAILER_BYTES: usize = 4 + 4 + 8 + DIGEST_BYTES + 4;
pub(crate) const CHECKSUM_BYTES: usize = 4;
/// SHA-256 over the content, whatever its division into chunks.
pub(crate) const DIGEST_BYTES: usize = 32;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry it contains; `None` for the state before the first.
    pub last_log_id: Option<LogId>,
    /// Consensus's name for it.
    pub id: String,
    /// The membership at that entry, in the caller's encoding.
    pub membership: Bytes,
}

impl SnapshotMeta {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.last_log_id.is_some())];
        if let Some(LogId { term, node, index }) = self.last_log_id {
            [term, node, index].iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        }
        for part in [self.id.as_bytes(), &self.membership] {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = BytesReader::new(bytes);
        let last_log_id = match reader.u8()? {
            0 => None,
            _ => Some(LogId { term: reader.u64()?, node: reader.u64()?, index: reader.u64()? }),
        };
        let mut part = || {
            let length = usize::try_from(reader.u32()?).ok()?;
            reader.bytes(length)
        };
        let id = String::from_utf8(part()?.to_vec()).ok()?;
        let membership = Bytes::copy_from_slice(part()?);
        reader.is_empty().then_some(Self { last_log_id, id, membership })
    }

    /// The order of snapshots: by what they contain.
    pub(crate) fn order(&self) -> Option<LogId> {
        self.last_log_id
    }
}

/// The head of a file: magic, version, owner, metadata, checksum.
pub(crate) fn encode_header(identity: WalIdentity, meta: &SnapshotMeta) -> Result<Vec<u8>, SnapshotError> {
    let meta = meta.encode();
    if meta.len() > MAX_META_BYTES {
        return Err(SnapshotError::MetaTooLarge { bytes: meta.len(), limit: MAX_META_BYTES });
    }
    let mut bytes = MAGIC.to_vec();
    bytes.push(StoredForm::Snapshot.current());
    bytes.extend_from_slice(&identity.cluster);
    bytes.extend_from_slice(&identity.member.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&meta);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// Length of metadata plus checksum that follow the fixed part of a header.
pub(crate) fn header_rest(file: &Path, fixed: &[u8]) -> Result<usize, SnapshotError> {
    let damaged = |problem| SnapshotError::Damaged { file: file.to_path_buf(), offset: 0, problem };
    let mut reader = BytesReader::new(fixed);
    if reader.array() != Some(MAGIC) {
        return Err(damaged("it does not begin like a snapshot"));
    }
    let version = reader.u8().unwrap_or(0);
    StoredForm::Snapshot
        .check(version)
        .map_err(|source| SnapshotError::Version { file: file.to_path_buf(), source })?;
    let length = fixed.last_chunk::<4>().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_META_BYTES {
        return Err(damaged("its metadata claims an impossible length"));
    }
    Ok(length + CHECKSUM_BYTES)
}

/// Owner and metadata from a whole header.
pub(crate) fn decode_header(header: &[u8]) -> Option<(WalIdentity, SnapshotMeta)> {
    let (checked, checksum) = header.split_last_chunk::<CHECKSUM_BYTES>()?;
    if crc32c::crc32c(checked).to_le_bytes() != *checksum {
        return None;
    }
    let mut reader = BytesReader::new(checked);
    reader.array::<8>()?;
    let identity = WalIdentity { cluster: reader.array()?, member: reader.u64()? };
    reader.u32()?;
    let meta = SnapshotMeta::decode(checked.get(FIXED_HEADER_BYTES..)?)?;
    Some((identity, meta))
}

/// What stands before a chunk. Its checksum covers length and number too, so that no chunk can stand
/// in another's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkHeader {
    pub(crate) length: u32,
    pub(crate) number: u32,
    pub(crate) checksum: u32,
}

impl ChunkHeader {
    pub(crate) fn new(number: u32, chunk: &[u8]) -> Self {
        let length = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        Self { length, number, checksum: chunk_checksum(length, number, chunk) }
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        [self.length, self.number, self.checksum].iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = BytesReader::new(bytes);
        Some(Self { length: reader.u32()?, number: reader.u32()?, checksum: reader.u32()? })
    }

    pub(crate) fn fits(self, chunk: &[u8]) -> bool {
        chunk_checksum(self.length, self.number, chunk) == self.checksum
    }
}

fn chunk_checksum(length: u32, number: u32, chunk: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &number.to_le_bytes());
    crc32c::crc32c_append(checksum, chunk)
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) count: u32,
    pub(crate) bytes: u64,
    pub(crate) digest: [u8; DIGEST_BYTES],
}

impl Trailer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = 0_u32.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.digest);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if crc32c::crc32c(checked).to_le_bytes() != *checksum {
            return None;
        }
        let mut reader = BytesReader::new(checked);
        let zero = reader.u32()?;
        let trailer = Self { count: reader.u32()?, bytes: reader.u64()?, digest: reader.array()? };
        (zero == 0).then_some(trailer)
    }
}
