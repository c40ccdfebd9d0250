//! The product under test: nodes started through `quorate demo --dir`, or those that run already.

use crate::clients::Clients;
use crate::process::Process;
use crate::scrape;
use crate::trouble::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a node may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What the directory of a node is called, as the demo lays it out; its number follows.
const NODE: &str = "node-";

/// How often a cluster is asked who leads.
const LOOK: Duration = Duration::from_millis(20);

/// The trust domain of the demo.
pub(crate) const TRUST_DOMAIN: &str = "example.org";

/// The trust domains of the demo of federation.
pub(crate) const FEDERATED: [&str; 2] = ["one.example", "two.example"];

/// Nodes that answer, one or several that are a cluster.
pub(crate) struct Product {
    directories: Vec<PathBuf>,
    process: Process,
    started: Option<Started>,
}

/// What has to be ended again.
struct Started {
    demo: Child,
    directory: TempDir,
}

impl Started {
    /// Starts `quorate demo` in a directory of its own, and waits until it is ready.
    async fn demo(nodes: usize, arguments: &[&str]) -> Result<Self, Trouble> {
        let program = sibling("quorate")?;
        let directory = tempfile::Builder::new()
            .prefix("quorate-bench-")
            // Callers of other users pass through it to the sockets.
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .map_err(Trouble::system("temporary directory"))?;
        let mut demo = Command::new(&program)
            .arg("demo")
            .arg("--dir")
            .arg(directory.path())
            .args(["--nodes", &nodes.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // When a measurement fails; its nodes end with it.
            .kill_on_drop(true)
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
        Ok(Self { demo, directory })
    }

    /// Ends it, as Ctrl-C does; tells the directory.
    async fn end(mut self) -> Result<TempDir, Trouble> {
        if let Some(pid) = self.demo.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGINT).map_err(Trouble::errno("interrupt the demo"))?;
        }
        match timeout(STOP_LIMIT, self.demo.wait()).await {
            Ok(ended) => ended.map(drop).map_err(Trouble::system("wait for the demo"))?,
            Err(_) => self.demo.kill().await.map_err(Trouble::system("kill the demo"))?,
        }
        Ok(self.directory)
    }
}

impl Product {
    /// The nodes that somebody started with `quorate demo --dir DIRECTORY`.
    pub(crate) fn running(directory: &Path) -> Result<Self, Trouble> {
        let mut directories: Vec<PathBuf> = Vec::new();
        let mut pids: Vec<i32> = Vec::new();
        for number in 1.. {
            let node = directory.join(format!("{NODE}{number}"));
            if number > 1 && !node.exists() {
                break;
            }
            let path = node.join("node.pid");
            let text = fs::read_to_string(&path).map_err(Trouble::system(path.display().to_string()))?;
            let pid = text
                .trim()
                .parse()
                .map_err(|_| Trouble::Unexpected(format!("{} holds no process number", path.display())))?;
            directories.push(node);
            pids.push(pid);
        }
        Ok(Self { directories, process: Process::together(pids)?, started: None })
    }

    /// Starts nodes of its own, in a directory that goes with them.
    pub(crate) async fn start(nodes: usize) -> Result<Self, Trouble> {
        let started = Started::demo(nodes, &[]).await?;
        let found = Self::running(started.directory.path())?;
        Ok(Self { started: Some(started), ..found })
    }

    /// Two clusters that trust each other, of so many nodes each, without those that keep them up: their processes have
    /// ended, their directory goes with what is answered beside them.
    pub(crate) async fn federated(nodes: usize) -> Result<([Self; 2], TempDir), Trouble> {
        let started = Started::demo(nodes, &["--federation"]).await?;
        let of = |domain: &str| Self::running(&started.directory.path().join(domain));
        let [one, two] = FEDERATED;
        let pair = [of(one)?, of(two)?];
        Ok((pair, started.end().await?))
    }

    /// The same nodes without those that keep them up: their processes have ended, their directory goes with what is
    /// answered beside them.
    pub(crate) async fn taken_over(mut self) -> Result<(Self, TempDir), Trouble> {
        let Some(started) = self.started.take() else {
            return Err(Trouble::Unexpected(
                "nodes that somebody else started are not killed; leave out --dir".to_owned(),
            ));
        };
        let directory = started.end().await?;
        Ok((self, directory))
    }

    /// The nodes given, or new ones.
    pub(crate) async fn find_or_start(directory: Option<&Path>, nodes: usize) -> Result<Self, Trouble> {
        match directory {
            Some(directory) => Self::running(directory),
            None => Self::start(nodes).await,
        }
    }

    /// The processes of all nodes.
    pub(crate) fn process(&self) -> Process {
        self.process.clone()
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.directories.len()
    }

    /// A node's configuration, counted from 0.
    pub(crate) fn configuration_of(&self, node: usize) -> PathBuf {
        self.directories.get(node).cloned().unwrap_or_default().join("node.toml")
    }

    /// The first node's directory: its files are on the same disk as the log.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directories.first().cloned().unwrap_or_default()
    }

    /// The first node's Workload API socket.
    pub(crate) fn workload_socket(&self) -> PathBuf {
        self.workload_socket_of(0)
    }

    /// A node's Workload API socket, counted from 0; round again behind the last.
    pub(crate) fn workload_socket_of(&self, node: usize) -> PathBuf {
        self.directory_of(node).join("workload.sock")
    }

    /// The administrators' socket of a node, counted from 0; round again behind the last.
    pub(crate) fn admin_socket_of(&self, node: usize) -> PathBuf {
        self.directory_of(node).join("admin.sock")
    }

    /// Clients for both sockets of the first node.
    pub(crate) fn clients(&self) -> Clients {
        self.clients_of(0)
    }

    /// Clients for both sockets of a node, counted from 0; round again behind the last.
    pub(crate) fn clients_of(&self, node: usize) -> Clients {
        let directory = self.directory_of(node);
        Clients::new(directory.join("workload.sock"), directory.join("admin.sock"))
    }

    fn directory_of(&self, node: usize) -> PathBuf {
        self.directories.get(node % self.nodes().max(1)).cloned().unwrap_or_default()
    }

    /// Which node leads, counted from 0.
    pub(crate) async fn leader(&self) -> Result<usize, Trouble> {
        let find = async {
            loop {
                for node in 0..self.nodes() {
                    if self.clients_of(node).admin().leads().await? {
                        return Ok(node);
                    }
                }
                sleep(LOOK).await;
            }
        };
        timeout(START_LIMIT, find).await.unwrap_or_else(|_| Err(Trouble::NotReady("no node leads".to_owned())))
    }

    /// Waits until a node, counted from 0, serves this process: what was written on another one has to come there first.
    pub(crate) async fn served_by(&self, node: usize) -> Result<(), Trouble> {
        let clients = self.clients_of(node);
        let served = async {
            while clients.workload().first().await.is_err() {
                sleep(LOOK).await;
            }
        };
        let late = |_| Trouble::NotReady(format!("node-{} does not serve this process", node + 1));
        timeout(START_LIMIT, served).await.map_err(late)
    }

    /// How often all nodes together have synced their logs; none where they do not count that.
    pub(crate) async fn syncs(&self) -> Result<Option<u64>, Trouble> {
        let mut all = 0;
        for directory in &self.directories {
            match scrape::log_syncs(&directory.join("node.toml")).await? {
                Some(syncs) => all += syncs,
                None => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    /// Ends what was started here, as Ctrl-C does.
    pub(crate) async fn stop(self) -> Result<(), Trouble> {
        match self.started {
            Some(started) => started.end().await.map(drop),
            None => Ok(()),
        }
    }
}

/// A program of the same build: it lies beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf, Trouble> {
    let this = std::env::current_exe().map_err(Trouble::system("path of this program"))?;
    let path = this.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(Trouble::NotBuilt(path)) }
}
