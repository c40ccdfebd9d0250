//! PostgreSQL with `clientcert=verify-ca` and `ssl_crl_file`.
//!
//! It does not run as root: where this program does, the server is the user of Debian's package. It reads its files at
//! start and on SIGHUP, in the process that takes connections and between two of them: once it says that it was told to,
//! the next connection is checked by the new ones.

use super::files::Files;
use super::handshake::{alert, connect};
use super::{Chain, Opinion, View, installed};
use crate::node::{LOOK, free_address};
use crate::trouble::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The user that Debian's package makes.
const USER: &str = "postgres";

/// How long it may take to start, and to read new files.
const LOAD_LIMIT: Duration = Duration::from_secs(20);

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Asks for TLS: length 8, and the number that stands for it.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Begins a session by protocol 3.0.
const STARTUP: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";

/// What it writes when it was told to read its files again, and when it could not.
const TOLD: &str = "received SIGHUP";
const NOT_RELOADED: &str = "SSL configuration was not reloaded";

/// A server that runs. It ends with this.
#[derive(Debug)]
pub(crate) struct PostgreSql {
    files: Files,
    address: SocketAddr,
    child: Child,
}

impl PostgreSql {
    /// Where it is installed: Debian keeps one directory for each version.
    pub(crate) fn find() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut places: Vec<String> =
            versions.map(|version| version.path().join("bin").display().to_string()).collect();
        places.sort_unstable_by(|a, b| b.cmp(a));
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let program = installed("postgres", &places)?;
        program.with_file_name("initdb").is_file().then_some(program)
    }

    /// Makes a cluster in this directory and starts it on loopback.
    pub(crate) async fn start(program: PathBuf, directory: PathBuf, view: &View) -> Result<Self, Trouble> {
        let files = Files::within(directory, Some(USER))?;
        let address = free_address(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let data = files.path("data");
        let mut initdb = as_owner(&program.with_file_name("initdb"), &files);
        let made = initdb.arg("--pgdata").arg(&data).args(["--auth=trust", "--no-sync", "--username=postgres"]);
        let made = made.args(["--encoding=UTF8", "--locale=C"]).output().await.map_err(Trouble::system("initdb"))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
            return Err(Trouble::Command { command: "initdb".to_owned(), said });
        }
        files.write(view)?;
        files.put("data/postgresql.conf", &configuration(&files, address))?;
        files.put("data/pg_hba.conf", "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n")?;
        files.put("log", "")?;
        let log = fs::OpenOptions::new().append(true).open(files.path("log")).map_err(Trouble::system("its log"))?;
        let child = as_owner(&program, &files)
            .arg("-D")
            .arg(&data)
            .stderr(log)
            .spawn()
            .map_err(Trouble::system(program.display().to_string()))?;
        let server = Self { files, address, child };
        server.until("ready to accept connections", 0).await?;
        Ok(server)
    }

    /// Gives it other files, and waits until it has read them.
    pub(crate) async fn load(&mut self, view: &View) -> Result<(), Trouble> {
        let told = self.said(TOLD)?;
        self.files.write(view)?;
        self.signal(Signal::SIGHUP)?;
        self.until(TOLD, told).await?;
        match self.said(NOT_RELOADED)? {
            0 => Ok(()),
            _ => Err(Trouble::NotReached(format!(
                "PostgreSQL with its new files; see {}",
                self.files.path("log").display()
            ))),
        }
    }

    /// Waits until it has said this more often than so many times.
    async fn until(&self, what: &str, before: usize) -> Result<(), Trouble> {
        let give_up = Instant::now() + LOAD_LIMIT;
        while self.said(what)? <= before {
            if Instant::now() > give_up {
                let log = self.files.path("log");
                return Err(Trouble::NotReached(format!(
                    "PostgreSQL: {what:?} within {LOAD_LIMIT:?}; see {}",
                    log.display()
                )));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    fn said(&self, what: &str) -> Result<usize, Trouble> {
        let log = self.files.path("log");
        let text = fs::read_to_string(&log).map_err(Trouble::system(log.display().to_string()))?;
        Ok(text.matches(what).count())
    }

    /// What it says to a client with this chain.
    pub(crate) async fn ask(&self, view: &View, chain: &Chain) -> Opinion {
        match timeout(ANSWER_LIMIT, self.begin(view, chain)).await {
            Ok(Ok(opinion)) => opinion,
            Ok(Err(error)) => alert(&error),
            Err(_) => Opinion::Refuses("no answer".to_owned()),
        }
    }

    async fn begin(&self, view: &View, chain: &Chain) -> io::Result<Opinion> {
        let mut plain = TcpStream::connect(self.address).await?;
        plain.write_all(&SSL_REQUEST).await?;
        if plain.read_u8().await? != b'S' {
            return Ok(Opinion::Refuses("no TLS".to_owned()));
        }
        let mut stream = connect(plain, view, Some(chain)).await?;
        stream.write_all(STARTUP).await?;
        // `R` asks for no password: the certificate was enough. `E` is an error, whose text follows.
        if stream.read_u8().await? == b'R' {
            return Ok(Opinion::Accepts);
        }
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        Ok(Opinion::Refuses(String::from_utf8_lossy(&said).into_owned()))
    }

    /// Ends it at once: it has nothing to keep.
    pub(crate) async fn stop(mut self) -> Result<(), Trouble> {
        self.signal(Signal::SIGQUIT)?;
        self.child.wait().await.map(drop).map_err(Trouble::system("wait for PostgreSQL"))
    }

    fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| Trouble::NotReached("PostgreSQL; it has ended".to_owned()))?;
        kill(Pid::from_raw(pid), signal)
            .map_err(|errno| Trouble::system(format!("{signal} to PostgreSQL"))(errno.into()))
    }
}

/// A program of the server, run as whom its files belong to.
fn as_owner(program: &Path, files: &Files) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/").kill_on_drop(true).env("LC_ALL", "C");
    if let Some((user, group)) = files.owner() {
        command.uid(user).gid(group);
    }
    command
}

fn configuration(files: &Files, address: SocketAddr) -> String {
    let path = |name: &str| files.path(name).display().to_string();
    format!(
        "listen_addresses = '{host}'\nport = {port}\nunix_socket_directories = ''\nfsync = off\nshared_buffers = 16MB\n\
         max_connections = 20\nlogging_collector = off\nssl = on\nssl_cert_file = '{server}'\nssl_key_file = '{key}'\n\
         ssl_ca_file = '{roots}'\nssl_crl_file = '{crls}'\n",
        host = address.ip(),
        port = address.port(),
        server = path("server.pem"),
        key = path("server.key"),
        roots = path("roots.pem"),
        crls = path("crls.pem"),
    )
}
