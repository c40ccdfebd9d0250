//! The file that names a newcomer's first peers. Checked, and replaced whole.

use super::DirectoryError;
use crate::disk::{Disk, OpenMode, read_file, replace_file};
use crate::log::{Action, IoFailure};
use std::io;
use std::path::Path;

/// Name of the file in the data directory.
const FILE_NAME: &str = "first-peers";

/// Most bytes that are kept: a thousand members with key and addresses fit.
pub const FIRST_PEERS_BYTES_MAX: usize = 1 << 20;

/// Magic and the version of the form. 1: 2026-11, the first.
const HEAD: [u8; 8] = [0xf5, b'Q', b'R', b'P', b'E', b'E', b'R', 1];
const CHECKSUM_BYTES: usize = 4;

pub(super) fn write(disk: &dyn Disk, directory: &Path, peers: &[u8]) -> Result<(), DirectoryError> {
    let fail = |source| IoFailure::new(Action::Write, directory.join(FILE_NAME), source);
    if peers.len() > FIRST_PEERS_BYTES_MAX {
        return Err(fail(io::ErrorKind::FileTooLarge.into()).into());
    }
    let mut bytes = [HEAD.as_slice(), peers].concat();
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    replace_file(disk, directory, FILE_NAME, &bytes).map_err(|source| fail(source).into())
}

pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Vec<u8>>, DirectoryError> {
    let file = directory.join(FILE_NAME);
    let limit = (HEAD.len() + FIRST_PEERS_BYTES_MAX + CHECKSUM_BYTES) as u64;
    let bytes = match disk.open(&file, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IoFailure::new(Action::Read, &file, source).into()),
        Ok(open) => read_file(open.as_ref(), limit).map_err(|source| IoFailure::new(Action::Read, &file, source))?,
    };
    let peers = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .filter(|(checked, checksum)| crc32c::crc32c(checked).to_le_bytes() == **checksum)
        .and_then(|(checked, _)| checked.strip_prefix(HEAD.as_slice()));
    peers.map(|peers| Some(peers.to_vec())).ok_or(DirectoryError::FirstPeersDamaged { file })
}
