//! The product under test: a node started through `quorate demo --dir`, or one that runs already.

use crate::clients::Clients;
use crate::process::Process;
use crate::trouble::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a node may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The one node's directory, as the demo lays it out.
const NODE: &str = "node-1";

/// The trust domain of the demo.
pub(crate) const TRUST_DOMAIN: &str = "example.org";

/// A node that answers.
pub(crate) struct Product {
    directory: PathBuf,
    process: Process,
    started: Option<Started>,
}

/// What has to be ended again.
struct Started {
    demo: Child,
    _directory: TempDir,
}

impl Product {
    /// A node that somebody started with `quorate demo --dir DIRECTORY`.
    pub(crate) fn running(directory: &Path) -> Result<Self, Trouble> {
        let directory = directory.to_path_buf();
        let path = directory.join(NODE).join("node.pid");
        let text = fs::read_to_string(&path).map_err(Trouble::system(path.display().to_string()))?;
        let pid = text
            .trim()
            .parse()
            .map_err(|_| Trouble::Unexpected(format!("{} holds no process number", path.display())))?;
        Ok(Self { directory, process: Process::of(pid)?, started: None })
    }

    /// Starts a node of its own, in a directory that goes with it.
    pub(crate) async fn start() -> Result<Self, Trouble> {
        let program = sibling("quorate")?;
        let directory = tempfile::Builder::new()
            .prefix("quorate-bench-")
            .tempdir()
            .map_err(Trouble::system("temporary directory"))?;
        let mut demo = Command::new(&program)
            .arg("demo")
            .arg("--dir")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Trouble::system(program.display().to_string()))?;
        let output = demo.stdout.take().ok_or_else(|| Trouble::NotReady("it has no output".to_owned()))?;
        let mut lines = BufReader::new(output).lines();
        let mut seen = String::new();
        let ready = timeout(START_LIMIT, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.trim() == "ready" {
                    return true;
                }
                seen.push_str(&line);
                seen.push('\n');
            }
            false
        });
        if ready.await != Ok(true) {
            return Err(Trouble::NotReady(seen));
        }
        // What it says later is read and forgotten, or a full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let found = Self::running(directory.path())?;
        Ok(Self { started: Some(Started { demo, _directory: directory }), ..found })
    }

    /// The node given, or a new one.
    pub(crate) async fn find_or_start(directory: Option<&Path>) -> Result<Self, Trouble> {
        match directory {
            Some(directory) => Self::running(directory),
            None => Self::start().await,
        }
    }

    /// The node's process.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// The node's directory: its files are on the same disk as the log.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.join(NODE)
    }

    /// The Workload API's socket.
    pub(crate) fn workload_socket(&self) -> PathBuf {
        self.directory().join("workload.sock")
    }

    /// The administrators' socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.directory().join("admin.sock")
    }

    /// Clients for both sockets.
    pub(crate) fn clients(&self) -> Clients {
        Clients::new(self.workload_socket(), self.admin_socket())
    }

    /// Ends what was started here, as Ctrl-C does.
    pub(crate) async fn stop(self) -> Result<(), Trouble> {
        let Some(mut started) = self.started else { return Ok(()) };
        if let Some(pid) = started.demo.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGINT).map_err(Trouble::errno("interrupt the demo"))?;
        }
        match timeout(STOP_LIMIT, started.demo.wait()).await {
            Ok(ended) => ended.map(drop).map_err(Trouble::system("wait for the demo")),
            Err(_) => started.demo.kill().await.map_err(Trouble::system("kill the demo")),
        }
    }
}

/// A program of the same build: it lies beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, Trouble> {
    let this = std::env::current_exe().map_err(Trouble::system("path of this program"))?;
    let path = this.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(Trouble::NotBuilt(path)) }
}
