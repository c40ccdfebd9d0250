//! What is written reads back, and nothing that is altered does (FLT-26, ATK-44).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use quorate_proto_identity::{ClusterId, MemberNumber, NodeName, TrustDomain, UnixMillis, UnixSeconds};
use quorate_raft_machine::RecoveryKey;

use super::content::{CONTENT_KEY_BYTES, ContentKey, info};
use super::format::{
    CHUNK_BYTES, PRELUDE_BYTES, StoredHeader, TAG_BYTES, beginning, end, end_message, header_message, sha256,
};
use super::*;
use crate::keys::{
    FileCustody, KeyCustody, RecoveryPrivateKey, SUITE_X25519_SHA256_AES256, WhenMissing, new_recovery_key,
    seal_to_recovery_key,
};

/// A member's keys, and a recovery key.
struct Keys {
    custody: Arc<FileCustody>,
    private: RecoveryPrivateKey,
    public: RecoveryKey,
}

impl Keys {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let custody = Arc::new(FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap());
        let (private, public) = new_recovery_key().unwrap();
        let private = RecoveryPrivateKey::from_pkcs8(&private).unwrap();
        Self { custody, private, public: RecoveryKey::new(public, UnixSeconds(0)) }
    }

    fn header(&self, content: &[u8]) -> BackupHeader {
        BackupHeader {
            trust_domain: TrustDomain::new("example.org").unwrap(),
            cluster: ClusterId::new([7; 16]),
            created_at: UnixMillis(1_800_000_000_000),
            log_index: 42,
            state_hash: [3; 32],
            member: MemberNumber::FIRST,
            node: NodeName::new("node-1").unwrap(),
            identity_key: Bytes::copy_from_slice(self.custody.identity_public_key().spki_der()),
            entries: 5,
            content_bytes: content.len() as u64,
            build: "0.1.0".to_owned(),
            recovery_key: self.public.id.clone(),
        }
    }

    /// A backup of these bytes, with whatever somebody makes of its header.
    fn backup_with(&self, content: &[u8], change: impl FnOnce(&mut BackupHeader)) -> Vec<u8> {
        let mut header = self.header(content);
        change(&mut header);
        let secret = [9; CONTENT_KEY_BYTES];
        let facts = header.facts();
        let part = seal_to_recovery_key(&self.public, &info(header.cluster), &facts, &secret).unwrap();
        let stored = StoredHeader {
            facts,
            suite: SUITE_X25519_SHA256_AES256,
            encapsulated_key: part.encapsulated_key,
            sealed_key: part.ciphertext,
        };
        let stored = Bytes::from(stored.encode_to_vec());
        let key = ContentKey::new(&secret, sha256(&stored), header.chunks()).unwrap();
        let signature = self.custody.sign_handshake(&header_message(&stored)).unwrap();
        let mut file = beginning(stored, signature);
        for (position, chunk) in (0..).zip(content.chunks(CHUNK_BYTES)) {
            let mut chunk = chunk.to_vec();
            assert!(key.seal(position, &mut chunk));
            file.extend_from_slice(&chunk);
        }
        let digest = sha256(&file);
        let signature = self.custody.sign_handshake(&end_message(&digest)).unwrap();
        file.extend_from_slice(&end(&digest, signature));
        file
    }

    fn backup(&self, content: &[u8]) -> Vec<u8> {
        self.backup_with(content, |_header| {})
    }
}

/// Two chunks and a bit.
fn content() -> Vec<u8> {
    (0..2 * CHUNK_BYTES + 1_000).map(|number| u8::try_from(number % 251).unwrap()).collect()
}

fn checked(file: &[u8]) -> Result<u64, BackupError> {
    BackupReader::open(file)?.check()
}

fn opened(file: &[u8], key: &RecoveryPrivateKey) -> Result<Vec<u8>, BackupError> {
    let mut content = Vec::new();
    BackupReader::open(file)?.open_content(key, |piece| {
        content.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(content)
}

#[test]
fn what_was_sealed_opens_with_the_recovery_key_and_with_no_other() {
    let keys = Keys::new();
    for content in [content(), content()[..CHUNK_BYTES].to_vec(), b"short".to_vec(), Vec::new()] {
        let file = keys.backup(&content);
        assert_eq!(checked(&file).unwrap(), file.len() as u64);
        assert_eq!(BackupReader::open(&file[..]).unwrap().header(), &keys.header(&content));
        assert!(opened(&file, &keys.private).unwrap() == content);
    }
    let content = content();
    let file = keys.backup(&content);
    assert!(!file.windows(64).any(|window| window == &content[..64]), "nothing is in clear");
    let other = Keys::new();
    let refused = opened(&file, &other.private).unwrap_err();
    assert!(matches!(refused, BackupError::WrongKey { .. }), "{refused}");
    assert!(refused.to_string().contains(keys.private.id()) && refused.to_string().contains(other.private.id()));
    // A key that only says that it is the right one.
    let forged = other.backup_with(&content, |header| header.recovery_key = keys.public.id.clone());
    assert!(matches!(opened(&forged, &keys.private), Err(BackupError::DoesNotOpen { .. })));
}

#[test]
fn an_altered_byte_anywhere_is_noticed_without_the_key_and_with_it() {
    let keys = Keys::new();
    let content = content();
    let file = keys.backup(&content);
    let header = file.len() - content.len() - 3 * TAG_BYTES;
    let ends = [0, 8, 12, PRELUDE_BYTES, PRELUDE_BYTES + 40, header - 200];
    let chunks = (0..3).map(|chunk| header - 200 + chunk * (CHUNK_BYTES + TAG_BYTES) + 500);
    let behind = [file.len() - 150, file.len() - 120, file.len() - 40, file.len() - 1];
    for place in ends.into_iter().chain(chunks).chain(behind) {
        let mut altered = file.clone();
        altered[place] ^= 1;
        assert!(checked(&altered).is_err(), "byte {place} of {}", file.len());
        assert!(opened(&altered, &keys.private).is_err(), "byte {place} of {}", file.len());
    }
}

#[test]
fn every_altered_byte_of_a_small_backup_is_noticed() {
    let keys = Keys::new();
    let file = keys.backup(b"content");
    for place in 0..file.len() {
        let mut altered = file.clone();
        altered[place] ^= 0x40;
        assert!(checked(&altered).is_err(), "byte {place} of {}", file.len());
    }
}

#[test]
fn chunks_that_change_places_are_noticed() {
    let keys = Keys::new();
    let file = keys.backup(&content());
    let sealed = CHUNK_BYTES + TAG_BYTES;
    let begin = PRELUDE_BYTES + u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let mut swapped = file.clone();
    let (first, second) = (begin..begin + sealed, begin + sealed..begin + 2 * sealed);
    swapped[first.clone()].copy_from_slice(&file[second.clone()]);
    swapped[second].copy_from_slice(&file[first]);
    assert!(matches!(checked(&swapped), Err(BackupError::Altered)));
    assert!(matches!(opened(&swapped, &keys.private), Err(BackupError::Chunk { chunk: 1, chunks: 3 })));
}

#[test]
fn a_backup_that_is_cut_off_or_has_more_than_its_end_is_refused() {
    let keys = Keys::new();
    let file = keys.backup(&content());
    for length in [file.len() - 1, file.len() - 100, CHUNK_BYTES + 900, 600, PRELUDE_BYTES, 9] {
        let refused = checked(&file[..length]).unwrap_err();
        assert!(matches!(refused, BackupError::Truncated { .. }), "{length}: {refused}");
        assert!(opened(&file[..length], &keys.private).is_err());
    }
    assert!(matches!(checked(b""), Err(BackupError::NotABackup)));
    assert!(matches!(checked(b"PK\x03\x04 another file altogether"), Err(BackupError::NotABackup)));
    let longer = [&file[..], b"x"].concat();
    assert!(matches!(checked(&longer), Err(BackupError::TrailingBytes)));
}

#[test]
fn a_newer_format_names_the_program_to_use() {
    let keys = Keys::new();
    let mut file = keys.backup(b"content");
    file[8] = 9;
    let refused = checked(&file).unwrap_err();
    assert!(matches!(refused, BackupError::NewerFormat { found: 9, newest: BACKUP_FORMAT }), "{refused}");
}

/// A header that promises more than there is makes nobody allocate it.
#[test]
fn lengths_that_a_forger_chose_cost_nothing() {
    let keys = Keys::new();
    let file = keys.backup_with(b"content", |header| header.content_bytes = u64::MAX);
    assert!(matches!(checked(&file), Err(BackupError::Truncated { .. })));
    let mut file = keys.backup(b"content");
    file[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(checked(&file), Err(BackupError::Header { .. })));
}

#[test]
fn what_opens_and_is_no_state_is_refused() {
    let keys = Keys::new();
    let file = keys.backup(b"content");
    let refused = load(BackupReader::open(&file[..]).unwrap(), &keys.private, |_read| {}).unwrap_err();
    assert!(matches!(refused, BackupError::State(_)), "{refused}");
}

#[test]
fn a_recovery_key_shows_its_name_and_nothing_else() {
    let keys = Keys::new();
    let shown = format!("{:?}", keys.private);
    assert_eq!(shown, format!("RecoveryPrivateKey {{ id: {:?}, .. }}", keys.private.id()));
}
