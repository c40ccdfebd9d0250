//! What ends a run.

use std::path::PathBuf;
use thiserror::Error;

/// What ends a run: a promise that was broken, or a run that could not be made.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// A promise was broken. This is what the program looks for.
    #[error("{} promises broken, the first: {first}; everything is kept in {kept}", count)]
    Broken {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
        /// Where the node's files and logs are.
        kept: PathBuf,
    },
    /// The run did too little to prove anything.
    #[error("this run proves nothing: {0}")]
    ProvesNothing(String),
    /// The program under test is not beside this one.
    #[error("{0} is not there; build it first: cargo build --workspace")]
    NotBuilt(PathBuf),
    /// The node did not serve in time, or ended by itself.
    #[error("the node does not serve: {what}; its log is {log}")]
    NotServing {
        /// What was seen.
        what: String,
        /// Where it wrote.
        log: PathBuf,
    },
    /// A command of the product failed that must not.
    #[error("{command}: {said}")]
    Command {
        /// The command line.
        command: String,
        /// What it wrote on its standard error.
        said: String,
    },
    /// Invariants did not hold. This is what the program looks for.
    #[error("{count} violations, the first: {first}; everything is kept in {kept}")]
    Violated {
        /// How many.
        count: u64,
        /// The first of them.
        first: String,
        /// Where files, logs and history are.
        kept: PathBuf,
    },
    /// What was measured is not what was promised.
    #[error("not reached: {0}")]
    NotReached(String),
    /// This machine or this user cannot make what the run needs. Nothing was found, and nothing was tried.
    #[error("skipped: {0}")]
    NotPermitted(String),
    /// A call that must succeed did not.
    #[error("{what}: {status}")]
    Call {
        /// Which call.
        what: &'static str,
        /// Its status.
        status: Box<tonic::Status>,
    },
    /// A file or a process could not be used.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The environment says something else than a number of rounds.
    #[error("{variable} is {text:?}, not a number of rounds")]
    Rounds {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        text: String,
    },
    /// A writer's task ended by itself.
    #[error("a writer ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Trouble {
    /// For `map_err` on system calls.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// For `map_err` on calls.
    pub(crate) fn call(what: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |status| Self::Call { what, status: Box::new(status) }
    }
}
