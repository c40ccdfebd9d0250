//! A node's keys in files: made at first start, or handed in by systemd.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::geteuid};
use quorate_proto_identity::key::{KeyType, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::{
    CustodyError, CustodyFuture, KeyCustody, SealContext, SealedPart,
    hpke::{SUITE_X25519_SHA256_AES256, SealingKey, seal},
};

/// Name of the file with the identity key: Ed25519, PKCS#8, DER. It is also the name of the systemd credential.
pub const IDENTITY_KEY_FILE: &str = "identity.key";

/// Name of the file with the sealing key: X25519, PKCS#8, DER. It is also the name of the systemd credential.
pub const SEALING_KEY_FILE: &str = "sealing.key";

/// Most bytes that are read of a key file. Both documents have 48, with the public key in it 85.
const KEY_FILE_BYTES_LIMIT: u64 = 1024;

/// Permission bits that a key file of ours must not have: anything for group and others.
const FOREIGN_BITS: u32 = 0o077;

/// Permission bits that a credential must not have: systemd may give the group read access.
const CREDENTIAL_FOREIGN_BITS: u32 = 0o027;

/// Keys of a node, read from files into memory.
pub struct FileCustody {
    identity: PrivateKey,
    sealing: SealingKey,
}

/// What is done when a node's keys are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissing {
    /// They are made: the node belongs to no cluster yet.
    Make,
    /// The start is refused: the node is a member, and was one with the keys that are gone.
    Refuse,
}

/// Why a node's keys could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum FileCustodyError {
    /// A file could not be read or written.
    #[error("the key file {} could not be {deed}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Read, or written.
        deed: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Others could read the key or replace it. `chmod 600` it, if nobody has read it; otherwise this node must be
    /// removed from the cluster and join with new keys.
    #[error("the key file {} has mode {mode:03o}: others may read or write it (chmod 600)", path.display())]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else, who can change it.
    #[error("the key file {} belongs to user {owner}, this process runs as user {user}", path.display())]
    ForeignOwner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The file is not a regular file, or a symbolic link.
    #[error("the key file {} is not a regular file", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// The file does not hold such a key.
    #[error("the key file {} does not hold an {kind} private key in PKCS#8, DER", path.display())]
    NotAKey {
        /// Which file.
        path: PathBuf,
        /// Which key belongs there.
        kind: &'static str,
    },
    /// Only one of the two files is there: the other was lost or removed. New keys in its place would be a new node.
    #[error("the key file {} is missing beside the other one; restore it, or remove both for a new node", path.display())]
    OneMissing {
        /// Which file.
        path: PathBuf,
    },
    /// This node belongs to a cluster, and its keys are gone: the record of the cluster names them, and the authority's
    /// keys are sealed to them, so new ones would serve for nothing.
    #[error(
        "{} missing in {}, and this node is a member of a cluster already: its keys cannot be made anew, because the \
         cluster knows the node by them and the authority's keys are sealed to them. Restore what is missing from a \
         copy, or hand the keys in as systemd credentials; in a cluster of several nodes, remove this node and join it \
         again with an empty data directory",
        list(missing), directory.display()
    )]
    Lost {
        /// Names of the files that are not there.
        missing: Vec<&'static str>,
        /// Where they belong.
        directory: PathBuf,
    },
    /// The crypto provider gives no keys.
    #[error("no {kind} key could be made")]
    Generate {
        /// Which key.
        kind: &'static str,
    },
}

impl FileCustody {
    /// Takes the keys from `credentials` (systemd's `CREDENTIALS_DIRECTORY`) if both are there; else reads them from
    /// `directory`. When they are not there either, makes them if `when_missing` allows it. Blocks; for the start of a
    /// process.
    ///
    /// The directory must exist and belong to this process alone; whoever holds the lock on it calls this.
    ///
    /// # Errors
    /// When a file is open to others, belongs to somebody else, is damaged or cannot be written; when one is missing that
    /// may not be made.
    pub fn open(
        directory: &Path,
        credentials: Option<&Path>,
        when_missing: WhenMissing,
    ) -> Result<Self, FileCustodyError> {
        if let Some(credentials) = credentials
            && let Some(handed_in) = Self::read(credentials, &Owners::Credential, when_missing)?
        {
            tracing::info!("the node's keys were handed in as credentials");
            return Ok(handed_in);
        }
        if let Some(kept) = Self::read(directory, &Owners::Own, when_missing)? {
            return Ok(kept);
        }
        if when_missing == WhenMissing::Refuse {
            let missing = vec![IDENTITY_KEY_FILE, SEALING_KEY_FILE];
            return Err(FileCustodyError::Lost { missing, directory: directory.to_owned() });
        }
        let made = Self::make()?;
        // The identity key is written last: both are there when it is.
        write_new(directory, SEALING_KEY_FILE, &made.sealing.pkcs8())?;
        write_new(directory, IDENTITY_KEY_FILE, made.identity.pkcs8())?;
        tracing::info!("the node's keys were made");
        Ok(made)
    }

    fn make() -> Result<Self, FileCustodyError> {
        let identity = PrivateKey::generate(KeyType::Ed25519);
        let identity = identity.map_err(|_any| FileCustodyError::Generate { kind: "Ed25519" })?;
        let sealing = SealingKey::generate().ok_or(FileCustodyError::Generate { kind: "X25519" })?;
        Ok(Self { identity, sealing })
    }

    fn read(directory: &Path, owners: &Owners, when_missing: WhenMissing) -> Result<Option<Self>, FileCustodyError> {
        let (identity_path, sealing_path) = (directory.join(IDENTITY_KEY_FILE), directory.join(SEALING_KEY_FILE));
        let found = (read_key(&identity_path, owners)?, read_key(&sealing_path, owners)?);
        let lost = |missing| FileCustodyError::Lost { missing: vec![missing], directory: directory.to_owned() };
        let (identity, sealing) = match (found, owners) {
            ((Some(identity), Some(sealing)), _) => (identity, sealing),
            ((None, None), _) => return Ok(None),
            ((None, Some(_)), _) if when_missing == WhenMissing::Refuse => return Err(lost(IDENTITY_KEY_FILE)),
            ((Some(_), None), _) if when_missing == WhenMissing::Refuse => return Err(lost(SEALING_KEY_FILE)),
            // Making the files was cut short after the first one: nothing has used that key yet.
            ((None, Some(_)), Owners::Own) => return Ok(None),
            ((None, Some(_)), Owners::Credential) => return Err(FileCustodyError::OneMissing { path: identity_path }),
            ((Some(_), None), _) => return Err(FileCustodyError::OneMissing { path: sealing_path }),
        };
        let identity = PrivateKey::from_pkcs8(&identity).ok().filter(|key| key.key_type() == KeyType::Ed25519);
        let identity = identity.ok_or(FileCustodyError::NotAKey { path: identity_path, kind: "Ed25519" })?;
        let sealing = SealingKey::from_pkcs8(&sealing);
        let sealing = sealing.ok_or(FileCustodyError::NotAKey { path: sealing_path, kind: "X25519" })?;
        Ok(Some(Self { identity, sealing }))
    }
}

/// "a is", or "a and b are".
fn list(missing: &[&str]) -> String {
    let verb = if missing.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", missing.join(" and "))
}

/// Who may own a key file, and what others may do with it.
enum Owners {
    /// A file of ours.
    Own,
    /// A credential: systemd's own files belong to root, or to the user of the service.
    Credential,
}

fn read_key(path: &Path, owners: &Owners) -> Result<Option<Zeroizing<Vec<u8>>>, FileCustodyError> {
    let failed = |source| FileCustodyError::Io { path: path.to_owned(), deed: "read", source };
    // Neither a link nor a pipe is followed: what is checked is what is read.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(FileCustodyError::NotAFile { path: path.to_owned() });
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileCustodyError::NotAFile { path: path.to_owned() });
    }
    let user = geteuid().as_raw();
    let (known_owner, foreign_bits) = match owners {
        Owners::Own => (metadata.uid() == user, FOREIGN_BITS),
        Owners::Credential => (metadata.uid() == user || metadata.uid() == 0, CREDENTIAL_FOREIGN_BITS),
    };
    if !known_owner {
        return Err(FileCustodyError::ForeignOwner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    let mode = metadata.mode() & 0o777;
    if mode & foreign_bits != 0 {
        return Err(FileCustodyError::TooOpen { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    file.take(KEY_FILE_BYTES_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Writes a file that is whole or not there: under another name first, synced, then renamed.
fn write_new(directory: &Path, name: &str, contents: &[u8]) -> Result<(), FileCustodyError> {
    let path = directory.join(name);
    let failed = |source| FileCustodyError::Io { path: path.clone(), deed: "written", source };
    let temporary = directory.join(format!("{name}.new"));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, &path).map_err(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

impl KeyCustody for FileCustody {
    fn identity_public_key(&self) -> &PublicKey {
        self.identity.public_key()
    }

    fn sealing_public_key(&self) -> &[u8] {
        self.sealing.public()
    }

    fn suite(&self) -> u32 {
        SUITE_X25519_SHA256_AES256
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> CustodyFuture<'a, Vec<u8>> {
        Box::pin(async move { self.sign_handshake(message) })
    }

    fn sign_handshake(&self, message: &[u8]) -> Result<Vec<u8>, CustodyError> {
        self.identity.sign(message).map_err(|_any| CustodyError::Sign)
    }

    fn seal(&self, context: &SealContext, secret: &[u8], recipient: &[u8]) -> Result<SealedPart, CustodyError> {
        seal(context, secret, recipient)
    }

    fn open<'a>(
        &'a self,
        suite: u32,
        context: &'a SealContext,
        part: &'a SealedPart,
    ) -> CustodyFuture<'a, Zeroizing<Vec<u8>>> {
        Box::pin(async move { self.sealing.open(suite, context, part) })
    }
}

impl std::fmt::Debug for FileCustody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileCustody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    fn made() -> (TempDir, FileCustody) {
        let directory = tempfile::tempdir().unwrap();
        let custody = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap();
        (directory, custody)
    }

    #[test]
    fn keys_are_made_once_for_this_user_alone_and_read_back() {
        let (directory, made) = made();
        for name in [IDENTITY_KEY_FILE, SEALING_KEY_FILE] {
            let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let read = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap();
        assert_eq!(read.identity_public_key(), made.identity_public_key());
        assert_eq!(read.sealing_public_key(), made.sealing_public_key());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn a_key_that_others_may_read_or_write_is_refused_and_left_alone() {
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let (directory, _) = made();
            let path = directory.path().join(SEALING_KEY_FILE);
            let before = std::fs::read(&path).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap_err();
            assert!(matches!(refused, FileCustodyError::TooOpen { mode: found, .. } if found == mode));
            assert!(
                refused.to_string().ends_with(&format!("has mode {mode:03o}: others may read or write it (chmod 600)"))
            );
            assert_eq!(std::fs::read(&path).unwrap(), before);
        }
    }

    #[test]
    fn a_key_of_another_user_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let (directory, _) = made();
        let path = directory.path().join(IDENTITY_KEY_FILE);
        std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
        let refused = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap_err();
        assert!(matches!(refused, FileCustodyError::ForeignOwner { owner: 4242, .. }));
    }

    #[test]
    fn links_and_damaged_files_are_refused() {
        let (directory, _) = made();
        let path = directory.path().join(IDENTITY_KEY_FILE);
        let elsewhere = directory.path().join("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let refused = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap_err();
        assert!(matches!(refused, FileCustodyError::NotAFile { .. }));
        std::fs::remove_file(&path).unwrap();
        std::fs::copy(directory.path().join(SEALING_KEY_FILE), &path).unwrap();
        let refused = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap_err();
        assert!(matches!(refused, FileCustodyError::NotAKey { kind: "Ed25519", .. }));
    }

    #[test]
    fn a_lost_sealing_key_is_not_replaced_in_silence() {
        let (directory, _) = made();
        std::fs::remove_file(directory.path().join(SEALING_KEY_FILE)).unwrap();
        let refused = FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap_err();
        assert!(matches!(refused, FileCustodyError::OneMissing { .. }));
    }

    #[test]
    fn a_member_whose_keys_are_gone_is_refused_and_told_what_to_do() {
        for gone in [&[IDENTITY_KEY_FILE][..], &[SEALING_KEY_FILE], &[IDENTITY_KEY_FILE, SEALING_KEY_FILE]] {
            let (directory, _) = made();
            for name in gone {
                std::fs::remove_file(directory.path().join(name)).unwrap();
            }
            let refused = FileCustody::open(directory.path(), None, WhenMissing::Refuse).unwrap_err();
            let said = refused.to_string();
            assert!(said.starts_with(&gone.join(" and ")), "{said}");
            for advice in ["cannot be made anew", "Restore what is missing from a copy", "remove this node and join it"]
            {
                assert!(said.contains(advice), "{said}");
            }
            assert!(!said.contains("remove both"), "{said}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2 - gone.len(), "nothing is made");
        }
        let (directory, made) = made();
        let read = FileCustody::open(directory.path(), None, WhenMissing::Refuse).unwrap();
        assert_eq!(read.identity_public_key(), made.identity_public_key());
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_made_again() {
        let (directory, _) = made();
        std::fs::remove_file(directory.path().join(IDENTITY_KEY_FILE)).unwrap();
        std::fs::write(directory.path().join("identity.key.new"), "torn").unwrap();
        FileCustody::open(directory.path(), None, WhenMissing::Make).unwrap();
    }

    #[test]
    fn credentials_come_first() {
        let (handed_in, keys) = made();
        let directory = tempfile::tempdir().unwrap();
        let custody = FileCustody::open(directory.path(), Some(handed_in.path()), WhenMissing::Make).unwrap();
        assert_eq!(custody.identity_public_key(), keys.identity_public_key());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        let empty = tempfile::tempdir().unwrap();
        let custody = FileCustody::open(directory.path(), Some(empty.path()), WhenMissing::Make).unwrap();
        assert_ne!(custody.identity_public_key(), keys.identity_public_key());
    }

    #[test]
    fn debug_prints_no_key() {
        let (_directory, custody) = made();
        assert_eq!(format!("{custody:?}"), "FileCustody { .. }");
    }
}
