//! Files with SVIDs, keys and bundles, where the owner alone can read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::certificates::pem;
use super::failure::Failure;

pub(super) use crate::given::STANDARD_INPUT;

/// Mode of the directory: nobody else may enter it.
const DIRECTORY_MODE: u32 = 0o700;

/// Mode of every file in it.
const FILE_MODE: u32 = 0o600;

/// Mode bits of group and others.
const OTHERS: u32 = 0o077;

/// A directory that only its owner can enter.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    written: Vec<String>,
}

impl PrivateDirectory {
    /// Makes the directory, or takes one that is there.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or is there and others may enter it or own it: a key must not be written into it.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |deed| move |cause| Failure::File { deed, path: path.to_owned(), cause };
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(failed("make the directory"))?;
        let found = fs::metadata(path).map_err(failed("look at"))?;
        let us = geteuid().as_raw();
        if found.uid() != us {
            return Err(Failure::Usage(format!(
                "{}: this directory belongs to user {}, who could put other files in place of what is written there, and this command runs as user \
                 {us}: name a directory of your own",
                path.display(),
                found.uid()
            )));
        }
        if found.mode() & OTHERS != 0 {
            return Err(Failure::Usage(format!(
                "{}: other users may enter this directory, so no key is written into it: `chmod 700` it, or name \
                 another one",
                path.display()
            )));
        }
        Ok(Self { path: path.to_owned(), written: Vec::new() })
    }

    /// Writes DER documents as PEM blocks into one file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; an earlier one of that name is then still there.
    pub(super) fn write_pem<'a>(
        &mut self,
        name: &str,
        label: &str,
        documents: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Failure> {
        let text: String = documents.into_iter().map(|document| pem(label, document)).collect();
        self.write(name, text.as_bytes())
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; an earlier one of that name is then still there.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path.join(name);
        let draft = self.path.join(format!(".{name}.{}", std::process::id()));
        let written =
            create_new(&draft).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&draft, &path));
        if let Err(cause) = written {
            // Half a key is of no use, and may not stay.
            let _ = fs::remove_file(&draft);
            return Err(Failure::File { deed: "write", path, cause });
        }
        self.written.push(name.to_owned());
        Ok(())
    }

    /// What was written, for people.
    pub(super) fn told(&self) -> String {
        format!("Written to {}: {}\n", self.path.display(), self.written.join(", "))
    }
}

/// A new file for a secret, which its owner alone can read. It is made before the secret is asked for: where nothing can be
/// written is found while nothing has happened yet, and no secret is lost that is shown but once. A file that nothing was
/// written to does not stay.
#[derive(Debug)]
pub(super) struct SecretFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl SecretFile {
    /// Makes the file.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or there is such a file: it may be open to somebody, or hold another secret.
    pub(super) fn make(path: &Path) -> Result<Self, Failure> {
        match create_new(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file, written: false }),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Err(Failure::Usage(format!(
                "{}: there is such a file already, and it is left as it is: name a new one",
                path.display()
            ))),
            Err(cause) => Err(Failure::File { deed: "make", path: path.to_owned(), cause }),
        }
    }

    /// Writes the secret, and keeps the file.
    ///
    /// # Errors
    ///
    /// When it cannot be written. The file is gone then.
    pub(super) fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_all());
        self.written = written.is_ok();
        written.map_err(|cause| Failure::File { deed: "write", path: self.path.clone(), cause })
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.written {
            // An empty file or half a secret is of no use, and would be in the way of the next try.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The file is new, so that its mode is ours and no link leads elsewhere.
fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("a/b");
        let mut directory = PrivateDirectory::open(&path).unwrap();
        directory.write_pem("svid.0.key", "PRIVATE KEY", [&b"key"[..]]).unwrap();
        directory.write_pem("svid.0.key", "PRIVATE KEY", [&b"new"[..]]).unwrap();
        assert_eq!((mode(&path), mode(&path.join("svid.0.key"))), (0o700, 0o600));
        let text = fs::read_to_string(path.join("svid.0.key")).unwrap();
        assert_eq!(text, "-----BEGIN PRIVATE KEY-----\nbmV3\n-----END PRIVATE KEY-----\n");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_secret_goes_into_a_new_file_of_its_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("two.key");
        SecretFile::make(&path).unwrap().write(b"secret").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o600, b"secret".to_vec()));
        let error = SecretFile::make(&path).unwrap_err();
        assert!(error.to_string().contains("name a new one"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"secret", "the one that is there stays");
    }

    #[test]
    fn a_file_that_got_no_secret_does_not_stay() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("two.key");
        drop(SecretFile::make(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_others_may_enter_gets_no_key() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = PrivateDirectory::open(base.path()).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_directory_of_another_user_gets_no_key() {
        if !geteuid().is_root() {
            println!("not root: no directory can be given away, so this checks nothing");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(base.path(), Some(4242), None).unwrap();
        let error = PrivateDirectory::open(base.path()).unwrap_err();
        assert!(error.to_string().contains("belongs to user 4242"), "{error}");
    }
}
