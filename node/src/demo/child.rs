//! One node of a demonstration: a child process, its log beside it, started again when it dies.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::layout::NodeFiles;

/// How long a node may take to stop when asked: its own limit for draining is 10 s, and then it is ended.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What can go wrong with a child process.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The node's log could not be opened.
    #[error("cannot write {path}")]
    Log {
        /// The log's path.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The process could not be started.
    #[error("cannot start {name}")]
    Start {
        /// The node.
        name: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// It ended by itself before it served.
    #[error("{name} {how} before it served; the end of its log, {log}:\n{tail}")]
    Ended {
        /// The node.
        name: String,
        /// How it ended.
        how: String,
        /// Where its whole log is.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
}

/// A running node.
#[derive(Debug)]
pub(super) struct NodeProcess {
    files: NodeFiles,
    child: Child,
    id: u32,
}

impl NodeProcess {
    /// Starts the node with the program that is running now.
    ///
    /// The child has a process group of its own, so that a Ctrl-C at the terminal reaches the demonstration alone,
    /// which then stops it in order; it is told to end with its parent, however that ends.
    pub(super) fn start(files: NodeFiles) -> Result<Self, ChildError> {
        let path = files.log();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|log| Ok((log.try_clone()?, log)))
            .map_err(|cause| ChildError::Log { path, cause })?;
        let start = |cause| ChildError::Start { name: files.title(), cause };
        let mut command = Command::new(std::env::current_exe().map_err(start)?);
        command.arg("node").arg("--config").arg(files.configuration()).arg("--pid-file").arg(files.process_id());
        // There until it was used: a node that was killed while it joined goes on with the same one.
        if files.invitation().exists() {
            command.arg("--join-file").arg(files.invitation());
        }
        let child = command
            .arg("--end-with-parent")
            .stdin(Stdio::null())
            .stdout(log.0)
            .stderr(log.1)
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let id = child.id().ok_or_else(|| start(io::Error::other("it ended at once")))?;
        Ok(Self { files, child, id })
    }

    /// The process ID.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn files(&self) -> &NodeFiles {
        &self.files
    }

    /// Waits for the end of the process.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// The error that tells of an end nobody asked for, with what the node last said.
    pub(super) fn ended_error(&self, status: ExitStatus) -> ChildError {
        ChildError::Ended {
            name: self.files.title(),
            how: describe(status),
            log: self.files.log(),
            tail: tail(&self.files),
        }
    }

    /// Asks the node to stop, waits, and ends it if it does not.
    pub(super) async fn stop(mut self) -> io::Result<ExitStatus> {
        if let Ok(id) = i32::try_from(self.id)
            && self.child.try_wait()?.is_none()
        {
            // The child is ours and not yet waited for, so the number is still its own.
            kill(Pid::from_raw(id), Signal::SIGTERM).map_err(io::Error::from)?;
        }
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => status,
            Err(_elapsed) => {
                self.child.kill().await?;
                self.child.wait().await
            }
        }
    }
}

/// How a process ended, in words: "ended with exit code 3", "was ended by signal 9".
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last lines of the node's log: what a person needs when it did not start.
fn tail(files: &NodeFiles) -> String {
    const LINES: usize = 10;
    let text = std::fs::read_to_string(files.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    lines.into_iter().skip(skipped).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
