//! Files that an operator gives: secrets, and bundles of foreign trust domains. On the command line, and by a configuration.

pub(crate) mod bundle;
pub(crate) mod secret;

use std::io;
use std::path::{Path, PathBuf};

/// The name that stands for standard input, where a file to read is asked for on the command line.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Why a file that was given is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It does not hold what it should, or others may read what they should not.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
}

impl GivenError {
    fn unreadable(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Unreadable { path: path.clone(), cause }
    }

    fn wrong(path: &Path, what: impl Into<String>) -> Self {
        Self::Wrong { path: path.to_owned(), what: what.into() }
    }
}
