//! The fixture: one node of its own for each test, in a directory of its own.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_proto_api::WORKLOAD_HEADER;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{InitRequest, Policy, StatusRequest, StatusResponse};
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, CountEntriesRequest};
use quorate_proto_api::spire::types::{Entry, Selector, Spiffeid};
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use quorate_proto_identity::UnixSeconds;
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Longest wait for anything: machines that build something else meanwhile are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(10);

/// A client of the Workload API that sends the header.
pub(crate) type Workload =
    SpiffeWorkloadApiClient<InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>>;

/// One node and its directory.
pub(crate) struct TestNode {
    directory: TempDir,
    child: Option<Child>,
    pub(crate) trust_domain: String,
    pub(crate) name: String,
    pub(crate) operations: SocketAddr,
    /// Where other nodes reach it.
    pub(crate) peer: SocketAddr,
    /// What `quorate node` is given beside its configuration.
    pub(crate) arguments: Vec<String>,
}

impl TestNode {
    /// Writes a configuration; starts nothing.
    pub(crate) fn prepare() -> Self {
        Self::named("node-1")
    }

    /// The same for a node of another name.
    pub(crate) fn named(name: &str) -> Self {
        Self::of_domain("example.org", name)
    }

    /// The same for a node of another trust domain.
    pub(crate) fn of_domain(trust_domain: &str, name: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("quorate-it-").tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let operations = free_port();
        let (name, peer) = (name.to_owned(), free_port());
        let trust_domain = trust_domain.to_owned();
        let node = Self { directory, child: None, trust_domain, name, operations, peer, arguments: Vec::new() };
        node.configure("");
        node
    }

    /// Starts a node that waits for its founding.
    pub(crate) async fn waiting() -> Self {
        let mut node = Self::prepare();
        node.start().await;
        node
    }

    /// Starts a node, founds the authority with the usual policy and waits until it may sign.
    pub(crate) async fn ready() -> Self {
        Self::ready_with(Policy::default()).await
    }

    /// The same with another policy.
    pub(crate) async fn ready_with(policy: Policy) -> Self {
        let node = Self::waiting().await;
        node.found(policy).await.unwrap();
        node.wait_ready().await;
        node
    }

    /// Writes the configuration anew, with further lines at its end.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "trust_domain = {domain:?}\nname = {name:?}\ndata_dir = {data:?}\n\
             [workload_api]\nsocket = {workload:?}\n[admin]\nsocket = {admin:?}\n\
             [peer]\nlisten = \"{peer}\"\n[operations]\nlisten = \"{operations}\"\n{more}",
            domain = self.trust_domain,
            name = self.name,
            peer = self.peer,
            data = self.path("data"),
            workload = self.workload_socket(),
            admin = self.admin_socket(),
            operations = self.operations,
        );
        fs::write(self.configuration(), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.path("node.toml")
    }

    pub(crate) fn workload_socket(&self) -> PathBuf {
        self.path("w/workload.sock")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.path("a/admin.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("node.log")).unwrap_or_default()
    }

    /// A copy of a program where every user of the host may run it: what cargo built may lie in somebody's home.
    pub(crate) fn lend(&self, program: &Path) -> PathBuf {
        let copy = self.path(program.file_name().unwrap().to_str().unwrap());
        // By a process of its own: a descriptor open for writing here could be inherited by a child that another test
        // starts at this moment, and what somebody may still write to cannot be run (ETXTBSY).
        assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        copy
    }

    /// The command that runs this node in the foreground.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.arg("node").arg("--config").arg(self.configuration()).arg("--pid-file").arg(self.path("node.pid"));
        command.args(&self.arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Starts the process and waits until the admin socket answers.
    pub(crate) async fn start(&mut self) {
        self.start_command(self.command()).await;
    }

    /// The same, with at most this many descriptors.
    pub(crate) async fn start_with_descriptors(&mut self, limit: u32) {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\"")).stdin(Stdio::null());
        let command = self.command();
        shell.arg(command.get_program()).args(command.get_args());
        self.start_command(shell).await;
    }

    async fn start_command(&mut self, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.path("node.log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        let since = Instant::now();
        while self.status().await.is_err() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the node ended ({ended:?}):\n{}", self.log());
            assert!(since.elapsed() < PATIENCE, "the node does not answer:\n{}", self.log());
            tokio::time::sleep(PACE).await;
        }
    }

    /// Runs a node that is expected to refuse its start; answers its exit code and what it said.
    pub(crate) fn refused_start(&self) -> (i32, String) {
        let output = ended(self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), said)
    }

    /// Runs a command of the program against this node's admin socket.
    pub(crate) fn quorate(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(arguments).arg("--socket").arg(self.admin_socket()).stdin(Stdio::null());
        ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The same for one that has to work; what it printed.
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let output = self.quorate(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes an invitation where this node reads it at its next start.
    pub(crate) fn invited_by(&mut self, invitation: &str) {
        let path = self.path("invitation");
        fs::write(&path, invitation).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        self.arguments = vec!["--join-file".to_owned(), path.display().to_string()];
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the process to end.
    pub(crate) async fn wait_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if since.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("the node does not end:\n{}", self.log());
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// SIGKILL, as a power cut does it to a process.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_end().await;
    }

    pub(crate) fn admin_channel(&self) -> Channel {
        channel(&Address::Unix(self.admin_socket()))
    }

    pub(crate) fn workload_channel(&self) -> Channel {
        channel(&Address::Unix(self.workload_socket()))
    }

    pub(crate) async fn status(&self) -> Result<StatusResponse, Status> {
        let mut client = ClusterClient::new(self.admin_channel());
        client.status(StatusRequest::default()).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn found(&self, policy: Policy) -> Result<(), Status> {
        let mut client = ClusterClient::new(self.admin_channel());
        let request = InitRequest { policy: Some(policy), ..InitRequest::default() };
        client.init(request).await.map(drop)
    }

    pub(crate) async fn wait_ready(&self) {
        let ready = async || self.status().await.is_ok_and(|status| status.ready);
        self.until("the node is ready", ready).await;
    }

    /// Waits for a condition, with a bound.
    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let since = Instant::now();
        while !condition().await {
            assert!(since.elapsed() < PATIENCE, "waited in vain until {what}:\n{}", self.log());
            tokio::time::sleep(PACE).await;
        }
    }

    /// A client that sends the header on every call.
    pub(crate) fn workload(&self) -> Workload {
        let with_header: fn(Request<()>) -> Result<Request<()>, Status> = |mut request| {
            request.metadata_mut().insert(WORKLOAD_HEADER, MetadataValue::from_static("true"));
            Ok(request)
        };
        SpiffeWorkloadApiClient::with_interceptor(self.workload_channel(), with_header)
    }

    pub(crate) fn bare_workload(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.workload_channel())
    }

    /// Registers this test's own process, by its program, under a path.
    pub(crate) async fn register(&self, path: &str) -> String {
        self.create(entry(path, &[("unix", &own_path_selector())])).await.unwrap()
    }

    /// Creates an entry; the code of the item's status if it is refused.
    pub(crate) async fn create(&self, entry: Entry) -> Result<String, Code> {
        let mut client = EntryClient::new(self.admin_channel());
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let mut response = client.batch_create_entry(request).await.map_err(|status| status.code())?.into_inner();
        let result = response.results.pop().unwrap();
        let code = Code::from(result.status.unwrap().code);
        if code == Code::Ok { Ok(result.entry.unwrap().id) } else { Err(code) }
    }

    pub(crate) async fn delete(&self, id: &str) {
        let mut client = EntryClient::new(self.admin_channel());
        let request = BatchDeleteEntryRequest { ids: vec![id.to_owned()] };
        let response = client.batch_delete_entry(request).await.unwrap().into_inner();
        assert_eq!(response.results[0].status.as_ref().unwrap().code, 0);
    }

    pub(crate) async fn count(&self) -> i32 {
        let mut client = EntryClient::new(self.admin_channel());
        client.count_entries(CountEntriesRequest { filter: None }).await.unwrap().into_inner().count
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            // Shown with the failing test's output.
            println!("log of the node:\n{}", self.log());
        }
    }
}

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_quorate"))
}

/// An entry under the built-in parent.
pub(crate) fn entry(path: &str, selectors: &[(&str, &str)]) -> Entry {
    let id = |path: &str| Some(Spiffeid { trust_domain: "example.org".to_owned(), path: path.to_owned() });
    Entry {
        spiffe_id: id(path),
        parent_id: id("/spire/nodes"),
        selectors: selectors
            .iter()
            .map(|(kind, value)| Selector { r#type: (*kind).to_owned(), value: (*value).to_owned() })
            .collect(),
        ..Entry::default()
    }
}

/// The selector that only this test program has.
pub(crate) fn own_path_selector() -> String {
    format!("path:{}", std::env::current_exe().unwrap().canonicalize().unwrap().display())
}

/// Waits for a child that should end by itself.
fn ended(mut child: Child) -> Output {
    let since = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if since.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the program does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(PACE);
    }
    child.wait_with_output().unwrap()
}

/// The time of the world.
pub(crate) fn now() -> UnixSeconds {
    UnixSeconds(i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap())
}

/// A port nobody listens on now, below those that the system gives to outgoing connections: a node of a cluster that is
/// down for a moment must find its own port free again.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let scatter = u16::try_from(std::process::id() % 16_000).unwrap();
    loop {
        let offset = (u32::from(scatter) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % 16_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 16_384 + u16::try_from(offset).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
