//! Why a measurement could not be made.

use std::path::PathBuf;
use thiserror::Error;

/// Why a measurement could not be made. None of them is a slow result: that is reported, not raised.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// The program under test is not beside this one.
    #[error("{0} is not there; build it the same way first: cargo build --release --workspace")]
    NotBuilt(PathBuf),
    /// The node ended or stayed silent before it served.
    #[error("the node did not say 'ready': {0}")]
    NotReady(String),
    /// This user may not do what the measurement takes. Nothing was measured.
    #[error("skipped: {0}")]
    NotPermitted(String),
    /// A file or a process could not be used.
    #[error("{what}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A call was refused, or its answer never came.
    #[error("{what}: {status}")]
    Call {
        /// Which call.
        what: &'static str,
        /// Its status.
        status: Box<tonic::Status>,
    },
    /// An answer does not hold what the measurement counts.
    #[error("{0}")]
    Unexpected(String),
    /// The crypto library refused; it does not for good input.
    #[error("cryptography: {0}")]
    Crypto(String),
    /// A task of the measurement ended early.
    #[error("a task of the measurement ended: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A report could not be written as JSON.
    #[error("report: {0}")]
    Report(#[from] serde_json::Error),
}

impl Trouble {
    /// For `map_err` on system calls.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// For `map_err` on the error numbers of system calls.
    pub(crate) fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::System { what, source: errno.into() }
    }

    /// For `map_err` on calls.
    pub(crate) fn call(what: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |status| Self::Call { what, status: Box::new(status) }
    }

    /// For `map_err` on the crypto library's errors, which say nothing.
    pub(crate) fn crypto<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Crypto(format!("{what}: {error}"))
    }
}
