//! `quorate keygen`

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use quorate_actors::keys::{FileCustody, FileCustodyError, KeyCustody as _, WhenMissing};
use quorate_raft_store::directory::{DirectoryError, NodeDirectory, Stage};
use quorate_raft_store::disk::RealDisk;
use serde::Serialize;

use super::failure::Failure;
use super::output::{Format, answer};
use crate::config::key_text;
use crate::hardening;

/// What `quorate keygen` takes.
#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// The node's data directory, made if it is not there. Run this as the user that the node runs as
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
enum KeygenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The keys cannot be read or made.
    #[error(transparent)]
    Custody(#[from] FileCustodyError),
}

/// The public half of a node's identity.
#[derive(Serialize)]
struct Identity {
    key: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        writeln!(f, "Identity key  {key}")?;
        writeln!(
            f,
            "In the list   NAME = {{ addresses = [\"HOST:8082\"], key = \"{key}\" }}    below [cluster.initial]"
        )
    }
}

/// Makes a node's keys if it has none, and prints what other nodes know it by. Again it prints the same.
pub(super) fn run(args: &KeygenArgs) -> Result<(), Failure> {
    hardening::shut();
    let identity = identity(&args.data_dir)
        .map_err(|error| Failure::Local { deed: "make the node's keys", cause: Box::new(error) })?;
    answer(args.output, &identity, &identity)
}

fn identity(data_dir: &Path) -> Result<Identity, KeygenError> {
    // The lock is held meanwhile: no node makes keys at the same time.
    let directory = NodeDirectory::open(Arc::new(RealDisk), data_dir)?;
    let when_missing = match directory.stage() {
        Stage::Member(_) => WhenMissing::Refuse,
        Stage::Empty | Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_) => WhenMissing::Make,
    };
    let custody = FileCustody::open(data_dir, None, when_missing)?;
    Ok(Identity { key: key_text(custody.identity_public_key().spki_der()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_directory_has_the_same_key() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("data");
        let first = identity(&data).unwrap();
        assert_eq!(identity(&data).unwrap().key, first.key);
        assert!(first.key.starts_with("MCowBQYDK2VwAyEA"), "an Ed25519 key: {}", first.key);
        assert!(first.to_string().contains(&format!("key = \"{}\"", first.key)));
        let other = identity(&base.path().join("other")).unwrap();
        assert_ne!(other.key, first.key);
    }

    #[test]
    fn a_directory_that_a_node_holds_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("data");
        let _node = NodeDirectory::open(Arc::new(RealDisk), &data).unwrap();
        assert!(matches!(identity(&data), Err(KeygenError::Directory(DirectoryError::InUse { .. }))));
    }
}
