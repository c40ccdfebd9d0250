//! A node as a child process, with a directory that outlives it.

use crate::registrar::{Registrar, TRUST_DOMAIN};
use crate::trouble::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a node may take until it serves, recovery included.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(60);

/// How often it is asked whether it serves.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// How long a signal that stops a process may take to be seen in `/proc`.
const SIGNAL_LIMIT: Duration = Duration::from_secs(2);

/// Ports for nodes lie below those that the system gives to clients: a node binds its port again at each start, and
/// meanwhile no client may have been given it; nor may somebody who dials a dead node meet himself.
const FIRST_PORT: u16 = 10_240;

/// The first port that is not taken for nodes.
const LAST_PORT: u16 = 32_000;

/// What tells one node of a cluster from another.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Its name, also that of its directory.
    pub(crate) name: String,
    /// Where it listens for the others.
    pub(crate) peer: SocketAddr,
    /// Where the others dial it.
    pub(crate) advertised: SocketAddr,
    /// The network namespace that it runs in; the one of this program when there is none.
    pub(crate) namespace: Option<String>,
    /// Its trust domain.
    pub(crate) trust_domain: String,
    /// What its configuration has besides, in TOML.
    pub(crate) further: String,
}

impl Layout {
    /// A node on loopback with a port of its own.
    pub(crate) fn on_loopback(name: impl Into<String>) -> Result<Self, Trouble> {
        let peer = free_address(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        Ok(Self {
            name: name.into(),
            peer,
            advertised: peer,
            namespace: None,
            trust_domain: TRUST_DOMAIN.to_owned(),
            further: String::new(),
        })
    }
}

/// Where a node keeps its things, and how it is started.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    program: PathBuf,
    directory: PathBuf,
    name: String,
    namespace: Option<String>,
}

impl Place {
    /// Lays out a directory for a node that is alone.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, Trouble> {
        Self::lay_out(directory.to_path_buf(), &Layout::on_loopback("node-1")?)
    }

    /// Lays out a directory: configuration, with the sockets within it.
    pub(crate) fn lay_out(directory: PathBuf, layout: &Layout) -> Result<Self, Trouble> {
        let place =
            Self { program: program()?, directory, name: layout.name.clone(), namespace: layout.namespace.clone() };
        fs::create_dir_all(&place.directory).map_err(Trouble::system(place.directory.display().to_string()))?;
        let text = format!(
            "trust_domain = {:?}\n\
             name = {:?}\n\
             data_dir = {:?}\n\
             [workload_api]\n\
             socket = {:?}\n\
             [admin]\n\
             socket = {:?}\n\
             [peer]\n\
             listen = \"{}\"\n\
             advertise = \"{}\"\n\
             [operations]\n\
             listen = \"none\"\n\
             {}",
            layout.trust_domain,
            place.name,
            place.directory.join("data"),
            place.workload_socket(),
            place.admin_socket(),
            layout.peer,
            layout.advertised,
            layout.further,
        );
        fs::write(place.configuration(), text).map_err(Trouble::system("write the configuration"))?;
        Ok(place)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The administrators' socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// The workloads' socket.
    pub(crate) fn workload_socket(&self) -> PathBuf {
        self.directory.join("workload.sock")
    }

    /// What all its lives wrote.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// Starts the node; it need not serve yet.
    pub(crate) fn start(&self) -> Result<Running, Trouble> {
        self.run(&self.program, &[])
    }

    /// Starts the node with another program than it had before.
    pub(crate) fn start_with(&self, program: &Path) -> Result<Running, Trouble> {
        self.run(program, &[])
    }

    /// Starts the node for the first time, by an invitation.
    pub(crate) fn join(&self, invitation: &str) -> Result<Running, Trouble> {
        let path = self.directory.join("invitation");
        // Whoever can read it can join in this node's place, so a node refuses one that others can read.
        let opened = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let written = opened.and_then(|mut file| file.write_all(invitation.as_bytes()));
        written.map_err(Trouble::system("write the invitation"))?;
        self.run(&self.program, &["--join-file", &path.display().to_string()])
    }

    fn run(&self, program: &Path, further: &[&str]) -> Result<Running, Trouble> {
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(Trouble::system("open the log twice"))?;
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        let child = command
            .arg("node")
            .arg("--config")
            .arg(self.configuration())
            .args(further)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Trouble::system(program.display().to_string()))?;
        Ok(Running { place: self.clone(), child })
    }

    fn open_log(&self) -> Result<File, Trouble> {
        let path = self.log();
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened.map_err(Trouble::system(path.display().to_string()))
    }

    /// What `quorate ARGUMENTS` prints, as an operator on this node's host would call it.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Result<String, Trouble> {
        let output = Command::new(&self.program)
            .args(arguments)
            .arg("--socket")
            .arg(self.admin_socket())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Trouble::system(self.program.display().to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(Trouble::Command {
            command: format!("quorate {}", arguments.join(" ")),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// The program under test: it lies beside this one.
pub(crate) fn program() -> Result<PathBuf, Trouble> {
    let this = std::env::current_exe().map_err(Trouble::system("path of this program"))?;
    let program = this.with_file_name("quorate");
    if program.exists() { Ok(program) } else { Err(Trouble::NotBuilt(program)) }
}

/// An address with a port that nobody listens on. Where to begin is left to chance, so that two runs at a time do not
/// meet.
pub(crate) fn free_address(host: IpAddr) -> Result<SocketAddr, Trouble> {
    let span = LAST_PORT - FIRST_PORT;
    let begin = rand::random::<u16>() % span;
    let addresses = (0..span).map(|step| SocketAddr::new(host, FIRST_PORT + (begin + step) % span));
    let mut last = None;
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(Trouble::system("find a free port")(error))
}

/// A node that runs.
#[derive(Debug)]
pub(crate) struct Running {
    place: Place,
    child: Child,
}

impl Running {
    /// Waits until the node answers calls about entries.
    pub(crate) async fn serving(&mut self) -> Result<(), Trouble> {
        self.wait(async |mut registrar| registrar.serves().await).await
    }

    /// Founds the authority, once its socket is open.
    pub(crate) async fn found(&mut self) -> Result<(), Trouble> {
        self.wait(async |mut registrar| registrar.found().await.is_ok()).await
    }

    /// Waits until this is so; asked again and again with clients for the node's socket.
    pub(crate) async fn wait(&mut self, done: impl AsyncFn(Registrar) -> bool) -> Result<(), Trouble> {
        let registrar = Registrar::new(&self.place.admin_socket());
        let give_up = Instant::now() + START_LIMIT;
        while !done(registrar.clone()).await {
            if let Some(status) = self.child.try_wait().map_err(Trouble::system("look at the node"))? {
                return Err(self.not_serving(format!("it ended with {status}")));
            }
            if Instant::now() > give_up {
                return Err(self.not_serving(format!("no answer after {START_LIMIT:?}")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn not_serving(&self, what: String) -> Trouble {
        Trouble::NotServing { what: format!("{}: {what}", self.place.name), log: self.place.log() }
    }

    /// Its process number; none once it was waited for.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Whether it ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, Trouble> {
        self.child.try_wait().map_err(Trouble::system("look at the node"))
    }

    /// Stops it with SIGSTOP, and tells whether it stands still: every thread of it, as the kernel says.
    pub(crate) async fn pause(&self) -> Result<bool, Trouble> {
        self.signal(Signal::SIGSTOP)?;
        let give_up = Instant::now() + SIGNAL_LIMIT;
        while Instant::now() < give_up {
            if self.state() == Some('T') {
                return Ok(true);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Lets it go on after a pause.
    pub(crate) fn resume(&self) -> Result<(), Trouble> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        let Some(pid) = self.pid() else { return Ok(()) };
        kill(Pid::from_raw(pid), signal)
            .map_err(|errno| Trouble::system(format!("{signal} to {}", self.place.name))(errno.into()))
    }

    /// The state of the process: `R`, `S`, `T` for stopped. The name in `/proc/PID/stat` may hold anything but ends
    /// with the last parenthesis.
    fn state(&self) -> Option<char> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid()?)).ok()?;
        text.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next())
    }

    /// Processor time that its threads have used so far, to the nanosecond.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let mut used = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()?)).ok()? {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            used += Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
        }
        Some(used)
    }

    /// Kills it with SIGKILL, and tells whether that is what it died of. It need not be running: one that stands still
    /// dies of it too.
    pub(crate) async fn kill(mut self) -> Result<bool, Trouble> {
        self.child.start_kill().map_err(Trouble::system("kill the node"))?;
        let status = self.child.wait().await.map_err(Trouble::system("wait for the node"))?;
        Ok(status.signal() == Some(Signal::SIGKILL as i32))
    }

    /// Has it end as an operator ends it, with SIGTERM, and waits for that.
    pub(crate) async fn stop(mut self) -> Result<(), Trouble> {
        self.signal(Signal::SIGTERM)?;
        match tokio::time::timeout(START_LIMIT, self.child.wait()).await {
            Ok(ended) => ended.map(drop).map_err(Trouble::system("wait for the node")),
            Err(_) => Err(self.not_serving(format!("it did not end within {START_LIMIT:?} of SIGTERM"))),
        }
    }
}
