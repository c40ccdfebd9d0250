//! The private half of the recovery key, read where it is needed: offline, from a file or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_actors::keys::RecoveryPrivateKey;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::files::STANDARD_INPUT;

/// Most bytes of the file: PEM of a PKCS#8 document of 48 bytes, and room for comments around it.
const FILE_BYTES_LIMIT: u64 = 16 * 1024;

/// Permission bits of others. Whoever reads the key and a backup can sign as the authority.
const OTHERS: u32 = 0o077;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Reads the key from a file that nobody else may read, or from standard input when the path is `-`.
///
/// # Errors
/// When it cannot be read, others may read it, or it holds no such key.
pub(super) fn read(path: &Path) -> Result<RecoveryPrivateKey, Failure> {
    let failed = |cause| Failure::Given { path: path.to_owned(), cause };
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    if path == Path::new(STANDARD_INPUT) {
        io::stdin().lock().take(FILE_BYTES_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & OTHERS != 0 {
            return Err(Failure::Usage(format!(
                "{}: others may read the recovery key (mode {:04o}): run chmod 600 on it",
                path.display(),
                mode & 0o7777
            )));
        }
        file.take(FILE_BYTES_LIMIT).read_to_end(&mut bytes).map_err(failed)?;
    }
    std::str::from_utf8(&bytes).ok().and_then(decode).ok_or_else(|| {
        Failure::Usage(format!(
            "{}: this is no recovery key: give the file recovery.pem that `quorate recovery-key new` wrote",
            path.display()
        ))
    })
}

fn decode(text: &str) -> Option<RecoveryPrivateKey> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let mut joined = Zeroizing::new(String::with_capacity(body.len()));
    joined.extend(body.chars().filter(|character| !character.is_whitespace()));
    let document = Zeroizing::new(STANDARD.decode(joined.as_bytes()).ok()?);
    RecoveryPrivateKey::from_pkcs8(&document)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use quorate_actors::keys::new_recovery_key;
    use quorate_proto_identity::UnixSeconds;
    use quorate_raft_machine::RecoveryKey;

    use super::*;
    use crate::cli::certificates::pem;

    #[test]
    fn the_key_reads_back_from_its_file_and_from_no_file_that_others_may_read() {
        let (private, public) = new_recovery_key().unwrap();
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("recovery.pem");
        fs::write(&path, pem("PRIVATE KEY", &private)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap().id(), RecoveryKey::new(public, UnixSeconds(0)).id);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_name() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("recovery.pem");
        let short = format!("{BEGIN}\nAAAA\n{END}\n");
        for text in [&b""[..], b"text", b"\xff\xfe", short.as_bytes(), BEGIN.as_bytes()] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("recovery.pem: this is no recovery key"), "{text:?}");
        }
    }
}
