//! Nodes that are children of this process, to be killed and started: founded by `quorate demo`, then taken over from it,
//! for it would start again what died, in its own time.

use crate::clients::Clients;
use crate::process::Process;
use crate::product::{Product, sibling};
use crate::scrape::{self, Snapshots};
use crate::trouble::Trouble;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How often a node is asked whether it serves.
const LOOK: Duration = Duration::from_millis(20);

/// How long one such question may take.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a node may take until it serves, before the measurement gives up.
const SERVE_LIMIT: Duration = Duration::from_secs(120);

/// A cluster of children.
pub(crate) struct OwnNodes {
    program: PathBuf,
    product: Product,
    children: Vec<Option<Child>>,
    _directory: Arc<TempDir>,
}

impl OwnNodes {
    /// Founds a cluster of so many nodes and starts them; a node leads when this is done.
    pub(crate) async fn found(nodes: usize) -> Result<Self, Trouble> {
        let (product, directory) = Product::start(nodes).await?.taken_over().await?;
        let mut own = Self::of(product, Arc::new(directory))?;
        own.start_all().await?;
        Ok(own)
    }

    /// Nodes that were taken over, none of which runs.
    pub(crate) fn of(product: Product, directory: Arc<TempDir>) -> Result<Self, Trouble> {
        let program = sibling("quorate")?;
        let children = (0..product.nodes()).map(|_| None).collect();
        Ok(Self { program, product, children, _directory: directory })
    }

    /// Starts all nodes, and waits until each serves.
    pub(crate) async fn start_all(&mut self) -> Result<(), Trouble> {
        for node in 0..self.count() {
            self.start(node)?;
        }
        for node in 0..self.count() {
            self.serves(node).await?;
        }
        Ok(())
    }

    /// Adds to the configuration of a node that does not run.
    pub(crate) fn configure(&self, node: usize, text: &str) -> Result<(), Trouble> {
        let path = self.configuration_of(node);
        let file = OpenOptions::new().append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(Trouble::system(path.display().to_string()))
    }

    /// The process of a node that runs.
    pub(crate) fn process_of(&self, node: usize) -> Result<Process, Trouble> {
        let pid = self.children.get(node).and_then(Option::as_ref).and_then(Child::id);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        Process::of(pid.ok_or_else(|| Trouble::Unexpected(format!("node-{} does not run", node + 1)))?)
    }

    /// The administrators' socket of a node.
    pub(crate) fn admin_socket_of(&self, node: usize) -> PathBuf {
        self.product.admin_socket_of(node)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.children.len()
    }

    /// The first node's directory: its files are on the same disk as the log.
    pub(crate) fn directory(&self) -> PathBuf {
        self.product.directory()
    }

    /// Clients for both sockets of a node, counted from 0.
    pub(crate) fn clients_of(&self, node: usize) -> Clients {
        self.product.clients_of(node)
    }

    /// A node's configuration.
    pub(crate) fn configuration_of(&self, node: usize) -> PathBuf {
        self.product.configuration_of(node)
    }

    /// Which node leads, counted from 0. All must be running.
    pub(crate) async fn leader(&self) -> Result<usize, Trouble> {
        self.product.leader().await
    }

    /// How a node's snapshots stand.
    pub(crate) async fn snapshots(&self, node: usize) -> Result<Snapshots, Trouble> {
        scrape::snapshots(&self.configuration_of(node)).await
    }

    /// Starts a node that is not running; tells when.
    pub(crate) fn start(&mut self, node: usize) -> Result<Instant, Trouble> {
        let configuration = self.configuration_of(node);
        let path = configuration.with_file_name("node.log");
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(Trouble::system(path.display().to_string()))?;
        let errors = log.try_clone().map_err(Trouble::system(path.display().to_string()))?;
        let started = Instant::now();
        let child = Command::new(&self.program)
            .arg("node")
            .arg("--config")
            .arg(configuration)
            .arg("--end-with-parent")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Trouble::system(self.program.display().to_string()))?;
        if let Some(place) = self.children.get_mut(node) {
            *place = Some(child);
        }
        Ok(started)
    }

    /// Kills a node with SIGKILL, as kill -9 does, and waits for its end.
    pub(crate) async fn kill(&mut self, node: usize) -> Result<(), Trouble> {
        let Some(mut child) = self.children.get_mut(node).and_then(Option::take) else { return Ok(()) };
        child.kill().await.map_err(Trouble::system(format!("kill node-{}", node + 1)))
    }

    /// Kills all of them and waits for their ends, so that nothing is written in their directory while it goes.
    pub(crate) async fn stop(mut self) -> Result<(), Trouble> {
        for node in 0..self.count() {
            self.kill(node).await?;
        }
        Ok(())
    }

    /// Waits until a node serves this process on its Workload API.
    pub(crate) async fn serves(&self, node: usize) -> Result<(), Trouble> {
        let clients = self.clients_of(node);
        let served = async {
            while !matches!(timeout(ANSWER, clients.workload().first()).await, Ok(Ok(_))) {
                sleep(LOOK).await;
            }
        };
        let late = |_| Trouble::NotReady(format!("node-{} does not serve after {SERVE_LIMIT:?}", node + 1));
        timeout(SERVE_LIMIT, served).await.map_err(late)
    }
}
