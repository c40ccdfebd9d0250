//! Secrets: from a file that nobody else may read, or from standard input. Never from an argument, which every user of the
//! host can see.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::{GivenError, STANDARD_INPUT};

/// Longest secret, in bytes: what the cluster keeps. API keys and client secrets have some dozens.
const SECRET_BYTES_LIMIT: usize = quorate_actors::secrets::SECRET_BYTES_LIMIT;

/// Permission bits of others.
const OTHERS: u32 = 0o077;

/// Reads a secret: the text of the file without white space around it, so that the newline of an editor does no harm.
///
/// # Errors
///
/// When it cannot be read, others may read it, or it is empty or too long.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, GivenError> {
    let failed = GivenError::unreadable(path);
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_LIMIT + 1));
    if path == Path::new(STANDARD_INPUT) {
        take(io::stdin().lock(), &mut bytes).map_err(&failed)?;
    } else {
        let file = File::open(path).map_err(&failed)?;
        let mode = file.metadata().map_err(&failed)?.mode();
        if mode & OTHERS != 0 {
            let what = format!("others may read this secret (mode {:04o}): run chmod 600 on it", mode & 0o7777);
            return Err(GivenError::wrong(path, what));
        }
        take(file, &mut bytes).map_err(&failed)?;
    }
    if bytes.len() > SECRET_BYTES_LIMIT {
        return Err(GivenError::wrong(path, format!("a secret has at most {SECRET_BYTES_LIMIT} bytes")));
    }
    let secret = Zeroizing::new(bytes.trim_ascii().to_vec());
    if secret.is_empty() {
        return Err(GivenError::wrong(path, "there is no secret in it"));
    }
    Ok(secret)
}

/// The room is there already, so that no copy is left behind by growing.
fn take(source: impl Read, bytes: &mut Vec<u8>) -> io::Result<usize> {
    source.take(SECRET_BYTES_LIMIT as u64 + 1).read_to_end(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (base, path)
    }

    #[test]
    fn a_secret_is_taken_without_the_newline_of_its_file() {
        let (_base, path) = file(b"  s3cret key\n", 0o600);
        assert_eq!(read(&path).unwrap().as_slice(), b"s3cret key");
    }

    #[test]
    fn a_secret_that_others_may_read_that_is_empty_or_too_long_is_refused() {
        for (text, mode, said) in [
            (&b"s"[..], 0o640, "chmod 600"),
            (b" \n", 0o600, "there is no secret"),
            (&[b'x'; SECRET_BYTES_LIMIT + 1], 0o600, "at most"),
        ] {
            let (_base, path) = file(text, mode);
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
