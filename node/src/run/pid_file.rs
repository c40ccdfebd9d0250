//! The file with the process number, for scripts that want to signal a node.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why it was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the process number to {path:?}")]
pub struct PidFileError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A written file; removed when dropped.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it aside and renames it into place, so that no reader sees half a number.
    pub(super) fn write(path: &Path) -> Result<Self, PidFileError> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".new");
        let failed = |source| PidFileError { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside).map_err(failed)?;
        // Whatever the umask is: others may know the number, only we may change it.
        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        fs::rename(&aside, path).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another node may have written its own there since.
        let ours = fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if ours {
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_number_while_the_node_runs_and_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists(), "it is another's now");
    }
}
