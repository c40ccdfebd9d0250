//! The stage file: the only thing that tells a new member from one that lost its disk (WAL-18).
//!
//! Small, checked, versioned, and replaced whole: a crash leaves the old stage or the new one.

use super::DirectoryError;
use crate::bytes_reader::BytesReader;
use crate::disk::{Disk, OpenMode, read_file, replace_file};
use crate::header::StoredForm;
use crate::log::{Action, IoFailure};
use crate::log_id::WalIdentity;
use std::fmt;
use std::io;
use std::path::Path;

/// Name of the file in the data directory.
pub(super) const STAGE_NAME: &str = "identity-stage";
/// More than the file ever has; a longer one is damage and is not read.
const MAX_STAGE_BYTES: u64 = 256;
const MAGIC: [u8; 7] = [0xf5, b'Q', b'R', b'S', b'T', b'G', 0x9c];

/// How far a member's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Never initialised: an empty log is legal, and the node waits to be told what to be.
    Empty,
    /// Founding has begun and nothing was acknowledged yet: the log may be made anew.
    Founding(WalIdentity),
    /// Joining a cluster has begun, under a random number that tells this directory from every other: whoever asks to
    /// be admitted again under the same number is the same node, and not one that lost its disk (FLT-18). Nothing was
    /// acknowledged yet: a log that is there may be made anew.
    Joining([u8; 16]),
    /// A backup is being written here as this member, offline. Nothing in it counts before the stage says `Member`: who
    /// finds this when it opens the directory removes log and snapshots, and the directory is empty again. So nobody but
    /// the one process that restores ever sees it.
    Restoring(WalIdentity),
    /// A member: the log must be there (WAL-13), for the rest of this directory's life.
    Member(WalIdentity),
}

impl Stage {
    pub(super) fn may_become(self, to: Self) -> bool {
        match (self, to) {
            (Self::Empty | Self::Founding(_), Self::Founding(_)) => true,
            (Self::Founding(from) | Self::Restoring(from), Self::Member(to)) => from == to,
            (Self::Empty, Self::Joining(_) | Self::Restoring(_)) | (Self::Joining(_), Self::Member(_)) => true,
            (Self::Empty, Self::Empty | Self::Member(_))
            | (Self::Founding(_), Self::Empty | Self::Joining(_) | Self::Restoring(_))
            | (Self::Joining(_), Self::Empty | Self::Founding(_) | Self::Joining(_) | Self::Restoring(_))
            | (Self::Restoring(_), Self::Empty | Self::Founding(_) | Self::Joining(_) | Self::Restoring(_))
            | (Self::Member(_), _) => false,
        }
    }

    fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(StoredForm::Stage.current());
        let mut identified = |number: u8, identity: WalIdentity| {
            bytes.push(number);
            bytes.extend_from_slice(&identity.cluster);
            bytes.extend_from_slice(&identity.member.to_le_bytes());
        };
        match self {
            Self::Empty => bytes.push(0),
            Self::Founding(identity) => identified(1, identity),
            Self::Member(identity) => identified(2, identity),
            Self::Joining(incarnation) => {
                bytes.push(3);
                bytes.extend_from_slice(&incarnation);
            }
            Self::Restoring(identity) => identified(4, identity),
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = BytesReader::new(bytes);
        reader.array::<8>()?;
        let number = reader.u8()?;
        let mut identity = || Some(WalIdentity { cluster: reader.array()?, member: reader.u64()? });
        let stage = match number {
            0 => Self::Empty,
            1 => Self::Founding(identity()?),
            2 => Self::Member(identity()?),
            3 => Self::Joining(reader.array()?),
            4 => Self::Restoring(identity()?),
            _ => return None,
        };
        reader.is_empty().then_some(stage)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Founding(identity) => write!(f, "being founded as {identity}"),
            Self::Joining(_) => f.write_str("joining a cluster"),
            Self::Restoring(identity) => write!(f, "being restored as {identity}"),
            Self::Member(identity) => write!(f, "{identity}"),
        }
    }
}

pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Stage>, DirectoryError> {
    let file = directory.join(STAGE_NAME);
    let fail = |source| IoFailure::new(Action::Read, &file, source);
    let bytes = match disk.open(&file, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error).into()),
        Ok(open) => match read_file(open.as_ref(), MAX_STAGE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
            result => result.map_err(fail)?,
        },
    };
    let damaged = || DirectoryError::StageDamaged { file: file.clone() };
    let (checked, checksum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
    let (magic, rest) = checked.split_first_chunk::<7>().ok_or_else(damaged)?;
    if *magic != MAGIC {
        return Err(damaged());
    }
    // The checksum first: a flipped bit in the version is damage, not a newer program.
    if crc32c::crc32c(checked).to_le_bytes() != *checksum {
        return Err(damaged());
    }
    let version = rest.first().copied().unwrap_or(0);
    StoredForm::Stage.check(version).map_err(|source| DirectoryError::Version { file: file.clone(), source })?;
    Stage::decode(checked).map(Some).ok_or_else(damaged)
}

pub(super) fn write(disk: &dyn Disk, directory: &Path, stage: Stage) -> Result<(), DirectoryError> {
    replace_file(disk, directory, STAGE_NAME, &stage.encode())
        .map_err(|source| IoFailure::new(Action::Write, directory.join(STAGE_NAME), source).into())
}
