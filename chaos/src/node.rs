//! A node as a child process, with a directory that outlives it.

use crate::registrar::{Registrar, TRUST_DOMAIN};
use crate::trouble::Trouble;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long a node may take until it serves, recovery included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often it is asked whether it serves.
const LOOK: Duration = Duration::from_millis(10);

/// Where a node keeps its things, and how it is started.
pub(crate) struct Place {
    program: PathBuf,
    directory: PathBuf,
}

impl Place {
    /// Lays out a directory: configuration with sockets within it and free ports on loopback.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, Trouble> {
        let this = std::env::current_exe().map_err(Trouble::system("path of this program"))?;
        let program = this.with_file_name("quorate");
        if !program.exists() {
            return Err(Trouble::NotBuilt(program));
        }
        let place = Self { program, directory: directory.to_path_buf() };
        let (peer, operations) = (free_port()?, free_port()?);
        let text = format!(
            "trust_domain = {TRUST_DOMAIN:?}\n\
             name = \"node-1\"\n\
             data_dir = {:?}\n\
             [workload_api]\n\
             socket = {:?}\n\
             [admin]\n\
             socket = {:?}\n\
             [peer]\n\
             listen = \"127.0.0.1:{peer}\"\n\
             advertise = \"127.0.0.1:{peer}\"\n\
             [operations]\n\
             listen = \"127.0.0.1:{operations}\"\n",
            directory.join("data"),
            directory.join("workload.sock"),
            place.admin_socket(),
        );
        fs::write(place.configuration(), text).map_err(Trouble::system("write the configuration"))?;
        Ok(place)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    /// The administrators' socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// What all its lives wrote.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    /// Starts the node; it need not serve yet.
    pub(crate) fn start(&self) -> Result<Running<'_>, Trouble> {
        let log = self.open_log()?;
        let errors = log.try_clone().map_err(Trouble::system("open the log twice"))?;
        let child = Command::new(&self.program)
            .arg("node")
            .arg("--config")
            .arg(self.configuration())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(Trouble::system(self.program.display().to_string()))?;
        Ok(Running { place: self, child })
    }

    fn open_log(&self) -> Result<File, Trouble> {
        let path = self.log();
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        opened.map_err(Trouble::system(path.display().to_string()))
    }
}

/// A port that was free a moment ago. The node binds it again at each start, so it is chosen once.
fn free_port() -> Result<u16, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::system("find a free port"))?;
    listener.local_addr().map(|address| address.port()).map_err(Trouble::system("find a free port"))
}

/// A node that runs.
pub(crate) struct Running<'a> {
    place: &'a Place,
    child: Child,
}

impl Running<'_> {
    /// Waits until the node answers calls about entries.
    pub(crate) async fn serving(&mut self) -> Result<(), Trouble> {
        self.wait(async |mut registrar| registrar.serves().await).await
    }

    /// Founds the authority, once its socket is open.
    pub(crate) async fn found(&mut self) -> Result<(), Trouble> {
        self.wait(async |mut registrar| registrar.found().await.is_ok()).await
    }

    async fn wait(&mut self, done: impl AsyncFn(Registrar) -> bool) -> Result<(), Trouble> {
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
        Trouble::NotServing { what, log: self.place.log() }
    }

    /// Kills it with SIGKILL, and tells whether that is what it died of.
    pub(crate) async fn kill(mut self) -> Result<bool, Trouble> {
        self.child.start_kill().map_err(Trouble::system("kill the node"))?;
        let status = self.child.wait().await.map_err(Trouble::system("wait for the node"))?;
        Ok(status.signal() == Some(nix::sys::signal::Signal::SIGKILL as i32))
    }
}
