//! Where an invitation is read from: a file that others cannot read, or standard input; never the arguments, which
//! every process of the host can see (ATK-07).

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::{Invitation, InvitationError, LONGEST_TEXT};

/// The name that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Permission bits that the file must not have: anything for group and others.
const FOREIGN_BITS: u32 = 0o077;

/// Permission bits that a credential of systemd must not have: it may give the group read access.
const CREDENTIAL_FOREIGN_BITS: u32 = 0o027;

/// Where systemd puts the credentials of a service.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Where an invitation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvitationFile {
    /// Standard input.
    StandardInput,
    /// A file, or a pipe.
    Path(PathBuf),
}

/// Why no invitation could be read.
#[derive(Debug, thiserror::Error)]
pub enum InvitationFileError {
    /// It could not be read.
    #[error("the invitation {} could not be read", place.display())]
    Io {
        /// Where it is.
        place: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can read it, and whoever does can join in this node's place. If somebody may have: make a new invitation.
    #[error(
        "the invitation {} has mode {mode:03o}, so that others could read it and join in this node's place: chmod 600 \
         it, or make a new invitation if that may have happened", place.display()
    )]
    TooOpen {
        /// Where it is.
        place: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error("the invitation {} belongs to user {owner}, this process runs as user {user}", place.display())]
    ForeignOwner {
        /// Where it is.
        place: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is a directory, a device or a socket.
    #[error("the invitation {} is neither a file nor a pipe", place.display())]
    NotAFile {
        /// Where it is.
        place: PathBuf,
    },
    /// What was read is no invitation.
    #[error("the invitation {} cannot be used", place.display())]
    Invitation {
        /// Where it is.
        place: PathBuf,
        /// What is wrong with it.
        #[source]
        source: InvitationError,
    },
}

impl InvitationFile {
    /// What the argument names: `-` is standard input.
    #[must_use]
    pub fn named(path: &Path) -> Self {
        if path.as_os_str() == STANDARD_INPUT { Self::StandardInput } else { Self::Path(path.to_owned()) }
    }

    /// Reads the invitation. Blocks; for the start of a process.
    ///
    /// # Errors
    /// When it cannot be read, when others can read it too, or when it is none.
    pub fn read(&self) -> Result<Invitation, InvitationFileError> {
        let place = match self {
            Self::StandardInput => PathBuf::from("of standard input"),
            Self::Path(path) => path.clone(),
        };
        let failed = |source| InvitationFileError::Io { place: place.clone(), source };
        let text = match self {
            Self::StandardInput => read_text(io::stdin().lock()).map_err(failed)?,
            Self::Path(path) => {
                let file = File::open(path).map_err(failed)?;
                // What is checked is what is read, whatever the path leads to.
                check(&file, path)?;
                read_text(file).map_err(failed)?
            }
        };
        let read = match std::str::from_utf8(&text) {
            Ok(text) => Invitation::parse(text),
            Err(_) => Err(InvitationError::NotOne),
        };
        read.map_err(|source| InvitationFileError::Invitation { place, source })
    }
}

/// One byte more than an invitation may have, so that a longer text is seen to be one.
fn read_text(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // With all the room at once: a buffer that grows leaves copies of the secret behind.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_TEXT + 2));
    from.take(LONGEST_TEXT as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn check(file: &File, path: &Path) -> Result<(), InvitationFileError> {
    let place = || path.to_owned();
    let found = file.metadata().map_err(|source| InvitationFileError::Io { place: place(), source })?;
    if !found.is_file() && !found.file_type().is_fifo() {
        return Err(InvitationFileError::NotAFile { place: place() });
    }
    let user = geteuid().as_raw();
    if found.uid() != user && found.uid() != 0 {
        return Err(InvitationFileError::ForeignOwner { place: place(), owner: found.uid(), user });
    }
    let is_credential = std::env::var_os(CREDENTIALS_VARIABLE).is_some_and(|directory| path.starts_with(directory));
    let foreign = if is_credential { CREDENTIAL_FOREIGN_BITS } else { FOREIGN_BITS };
    let mode = found.mode() & 0o777;
    if mode & foreign != 0 {
        return Err(InvitationFileError::TooOpen { place: place(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::invitation;
    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, InvitationFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("invitation");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let file = InvitationFile::named(&path);
        (directory, file)
    }

    #[test]
    fn an_invitation_is_read_from_a_file_of_ours_alone_atk_07() {
        let text = format!("{}\n", *invitation().to_text());
        for mode in [0o600, 0o400] {
            let (_directory, file) = written(&text, mode);
            assert_eq!(file.read().unwrap().name().as_str(), "node-2");
        }
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let (_directory, file) = written(&text, mode);
            let refused = file.read().unwrap_err();
            assert!(matches!(refused, InvitationFileError::TooOpen { mode: found, .. } if found == mode), "{refused}");
        }
    }

    #[test]
    fn what_is_no_invitation_is_told_apart_and_never_shown() {
        let (_directory, file) = written("s3cret", 0o600);
        let refused = file.read().unwrap_err();
        assert!(matches!(refused, InvitationFileError::Invitation { source: InvitationError::NotOne, .. }));
        assert!(!format!("{refused:?}").contains("s3cret"));
        let (_directory, file) = written(&"x".repeat(LONGEST_TEXT + 100), 0o600);
        let refused = file.read().unwrap_err();
        assert!(matches!(refused, InvitationFileError::Invitation { source: InvitationError::TooLong, .. }));
        let directory = tempfile::tempdir().unwrap();
        let missing = InvitationFile::named(&directory.path().join("nothing"));
        assert!(matches!(missing.read(), Err(InvitationFileError::Io { .. })));
        let refused = InvitationFile::named(directory.path()).read().unwrap_err();
        assert!(matches!(refused, InvitationFileError::NotAFile { .. }), "{refused:?}");
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(InvitationFile::named(Path::new("-")), InvitationFile::StandardInput);
        assert!(matches!(InvitationFile::named(Path::new("./-")), InvitationFile::Path(_)));
    }
}
