//! The form of the file: what stands where, and what is signed.
//!
//! ```text
//!   magic (8) │ format (4) │ length (4) │ SignedHeader │ chunk │ chunk │ … │ length (4) │ End
//!                                          header,       1 MiB and a tag      digest of all before,
//!                                          signature     each, the last shorter     signature
//! ```
//!
//! Numbers are little-endian. The header says how long the content is, so everything in the file has its one place: what
//! is cut off, added or moved is found. Version 1, 2026-11-23.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{ClusterId, MemberNumber, NodeName, TrustDomain, UnixMillis};
use quorate_raft_machine::{SNAPSHOT_CHUNK_BYTES, STATE_HASH_BYTES};

use super::error::BackupError;
use crate::keys::SealedPart;

/// The format that is written, and the newest that is read.
pub const BACKUP_FORMAT: u32 = 1;

/// What every backup begins with. The first byte is no text, the last no UTF-8: a copy that "mends" characters shows.
pub(super) const MAGIC: [u8; 8] = [0xf5, b'Q', b'R', b'B', b'A', b'C', b'K', 0x9c];

/// Bytes in front of the signed header: magic, format, length.
pub(super) const PRELUDE_BYTES: usize = 16;

/// Most bytes of the signed header. The longest trust domain, name, build and keys (4 KiB) are far below it.
pub(super) const HEADER_BYTES_LIMIT: usize = 64 * 1024;

/// Most bytes of the end: a digest and a signature, of whichever kind.
pub(super) const END_BYTES_LIMIT: usize = 16 * 1024;

/// Plain bytes of each chunk but the last.
pub(super) const CHUNK_BYTES: usize = SNAPSHOT_CHUNK_BYTES;

/// Bytes that sealing adds to a chunk (AES-256-GCM).
pub(super) const TAG_BYTES: usize = 16;

/// Bytes of a digest.
pub(super) const DIGEST_BYTES: usize = 32;

/// What a member signs for, so that no signature of it for anything else can be put here.
const HEADER_DOMAIN: &[u8] = b"quorate backup header 1";
const END_DOMAIN: &[u8] = b"quorate backup end 1";

/// What a backup says of itself, in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupHeader {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The cluster.
    pub cluster: ClusterId,
    /// When it was made, by the clock of the member that made it.
    pub created_at: UnixMillis,
    /// Index of the last log entry that is in it.
    pub log_index: u64,
    /// The hash of the state in it.
    pub state_hash: [u8; STATE_HASH_BYTES],
    /// The member that made it.
    pub member: MemberNumber,
    /// That member's name.
    pub node: NodeName,
    /// That member's identity key: subjectPublicKeyInfo, DER. It has signed header and end.
    pub identity_key: Bytes,
    /// How many registration entries are in it.
    pub entries: u64,
    /// How long the content is, in bytes, before sealing.
    pub content_bytes: u64,
    /// The version of the program that made it.
    pub build: String,
    /// ID of the recovery key that opens it.
    pub recovery_key: String,
}

impl BackupHeader {
    /// How many chunks the content has.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.content_bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// Bytes of the content as they are in the file, sealed.
    #[must_use]
    pub const fn sealed_bytes(&self) -> u64 {
        self.content_bytes.saturating_add(self.chunks().saturating_mul(TAG_BYTES as u64))
    }

    /// Plain bytes of the chunk at this position, from 0; `None` past the last.
    pub(super) fn chunk_length(&self, position: u64) -> Option<usize> {
        let before = position.checked_mul(CHUNK_BYTES as u64)?;
        let left = self.content_bytes.checked_sub(before).filter(|left| *left > 0)?;
        usize::try_from(left.min(CHUNK_BYTES as u64)).ok()
    }

    /// The bytes that are bound to the sealed content key.
    pub(super) fn facts(&self) -> Bytes {
        let Self {
            trust_domain,
            cluster,
            created_at,
            log_index,
            state_hash,
            member,
            node,
            identity_key,
            entries,
            content_bytes,
            build,
            recovery_key,
        } = self;
        let facts = StoredFacts {
            trust_domain: trust_domain.as_str().to_owned(),
            cluster: cluster.as_bytes().to_vec(),
            created_at: created_at.0,
            log_index: *log_index,
            state_hash: state_hash.to_vec(),
            member: member.get(),
            node: node.as_str().to_owned(),
            identity_key: identity_key.clone(),
            entries: *entries,
            content_bytes: *content_bytes,
            build: build.clone(),
            recovery_key: recovery_key.clone(),
        };
        facts.encode_to_vec().into()
    }

    fn of_facts(facts: &[u8]) -> Result<Self, BackupError> {
        let stored = StoredFacts::decode(facts).map_err(|error| header(&error))?;
        let array = |bytes: &[u8], what: &str| <[u8; 16]>::try_from(bytes).map_err(|_length| header(&what));
        Ok(Self {
            trust_domain: TrustDomain::new(&stored.trust_domain).map_err(|error| header(&error))?,
            cluster: ClusterId::new(array(&stored.cluster, "the cluster ID has another length")?),
            created_at: UnixMillis(stored.created_at),
            log_index: stored.log_index,
            state_hash: stored.state_hash.try_into().map_err(|_length| header(&"the state hash has another length"))?,
            member: MemberNumber::new(stored.member).ok_or_else(|| header(&"there is no member 0"))?,
            node: NodeName::new(&stored.node).map_err(|error| header(&error))?,
            identity_key: stored.identity_key,
            entries: stored.entries,
            content_bytes: stored.content_bytes,
            build: stored.build,
            recovery_key: stored.recovery_key,
        })
    }
}

pub(super) fn header(reason: &dyn std::fmt::Display) -> BackupError {
    BackupError::Header { reason: reason.to_string() }
}

#[derive(Clone, PartialEq, Message)]
struct StoredFacts {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(bytes = "vec", tag = "2")]
    cluster: Vec<u8>,
    #[prost(int64, tag = "3")]
    created_at: i64,
    #[prost(uint64, tag = "4")]
    log_index: u64,
    #[prost(bytes = "vec", tag = "5")]
    state_hash: Vec<u8>,
    #[prost(uint64, tag = "6")]
    member: u64,
    #[prost(string, tag = "7")]
    node: String,
    #[prost(bytes = "bytes", tag = "8")]
    identity_key: Bytes,
    #[prost(uint64, tag = "9")]
    entries: u64,
    #[prost(uint64, tag = "10")]
    content_bytes: u64,
    #[prost(string, tag = "11")]
    build: String,
    #[prost(string, tag = "12")]
    recovery_key: String,
}

/// What is signed: the facts, and the content key that is sealed and bound to them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredHeader {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) facts: Bytes,
    /// How the content key is sealed.
    #[prost(uint32, tag = "2")]
    pub(super) suite: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) encapsulated_key: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) sealed_key: Bytes,
}

impl StoredHeader {
    /// The content key as it is sealed.
    pub(super) fn part(&self) -> SealedPart {
        SealedPart { encapsulated_key: self.encapsulated_key.clone(), ciphertext: self.sealed_key.clone() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredSignedHeader {
    #[prost(bytes = "bytes", tag = "1")]
    header: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    signature: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct StoredEnd {
    #[prost(bytes = "bytes", tag = "1")]
    digest: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    signature: Bytes,
}

/// A header as it was read, with what it was read from.
#[derive(Debug, Clone)]
pub(super) struct ReadHeader {
    pub(super) header: BackupHeader,
    pub(super) stored: StoredHeader,
    /// Digest of the signed bytes: every chunk is bound to it.
    pub(super) binding: [u8; DIGEST_BYTES],
}

/// What the member signs of its header.
pub(super) fn header_message(header: &[u8]) -> Vec<u8> {
    [HEADER_DOMAIN, header].concat()
}

/// What the member signs of its end.
pub(super) fn end_message(digest: &[u8]) -> Vec<u8> {
    [END_DOMAIN, digest].concat()
}

/// Everything in front of the content.
pub(super) fn beginning(header: Bytes, signature: Vec<u8>) -> Vec<u8> {
    let signed = StoredSignedHeader { header, signature: signature.into() }.encode_to_vec();
    let length = u32::try_from(signed.len()).unwrap_or(u32::MAX);
    [&MAGIC[..], &BACKUP_FORMAT.to_le_bytes(), &length.to_le_bytes(), &signed].concat()
}

/// Everything behind the content.
pub(super) fn end(digest: &[u8], signature: Vec<u8>) -> Vec<u8> {
    let end = StoredEnd { digest: Bytes::copy_from_slice(digest), signature: signature.into() }.encode_to_vec();
    [&u32::try_from(end.len()).unwrap_or(u32::MAX).to_le_bytes()[..], &end].concat()
}

/// Reads magic, format and length; answers the length of the signed header.
pub(super) fn read_prelude(prelude: &[u8; PRELUDE_BYTES]) -> Result<usize, BackupError> {
    let (magic, rest) = prelude.split_first_chunk::<8>().ok_or(BackupError::NotABackup)?;
    let (format, length) = rest.split_first_chunk::<4>().ok_or(BackupError::NotABackup)?;
    let format = u32::from_le_bytes(*format);
    if *magic != MAGIC || format == 0 {
        return Err(BackupError::NotABackup);
    }
    if format > BACKUP_FORMAT {
        return Err(BackupError::NewerFormat { found: format, newest: BACKUP_FORMAT });
    }
    let length = length.first_chunk::<4>().map_or(u32::MAX, |length| u32::from_le_bytes(*length));
    bounded(length, HEADER_BYTES_LIMIT).ok_or_else(|| header(&"no header is that long"))
}

/// A length within its limit.
pub(super) fn bounded(length: u32, limit: usize) -> Option<usize> {
    usize::try_from(length).ok().filter(|length| *length <= limit)
}

/// Reads a signed header and verifies its signature, by the key that is in it.
pub(super) fn read_header(signed: &[u8]) -> Result<ReadHeader, BackupError> {
    let StoredSignedHeader { header: bytes, signature } =
        StoredSignedHeader::decode(signed).map_err(|error| header(&error))?;
    let stored = StoredHeader::decode(bytes.clone()).map_err(|error| header(&error))?;
    let read = BackupHeader::of_facts(&stored.facts)?;
    verify(&read, &header_message(&bytes), &signature)
        .ok_or_else(|| header(&"its signature is not that of the member that it names"))?;
    Ok(ReadHeader { header: read, stored, binding: sha256(&bytes) })
}

/// Reads the end and verifies it: that this digest is what the member signed.
pub(super) fn read_end(header: &BackupHeader, end: &[u8], digest: &[u8]) -> Result<(), BackupError> {
    let end = StoredEnd::decode(end).map_err(|_malformed| BackupError::Altered)?;
    if end.digest.as_ref() != digest {
        return Err(BackupError::Altered);
    }
    verify(header, &end_message(digest), &end.signature).ok_or(BackupError::Altered)
}

fn verify(header: &BackupHeader, message: &[u8], signature: &[u8]) -> Option<()> {
    let key = quorate_proto_identity::key::PublicKey::from_spki_der(&header.identity_key).ok()?;
    key.verify(message, signature).ok()
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}
