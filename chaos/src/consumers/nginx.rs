//! nginx with `ssl_verify_client` and `ssl_crl`: a reverse proxy's way to ask clients for certificates.
//!
//! It reads its files at start and on SIGHUP, and serves with the old ones until its new workers are there: each
//! configuration has a number, which its answers name.

use super::files::Files;
use super::handshake::{alert, connect};
use super::{Chain, Opinion, View, installed};
use crate::node::{LOOK, free_address};
use crate::trouble::Trouble;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How long it may take until it answers by new files.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A server that runs. It ends with this.
#[derive(Debug)]
pub(crate) struct Nginx {
    files: Files,
    address: SocketAddr,
    child: Child,
    configuration: u64,
}

impl Nginx {
    /// Where it is installed.
    pub(crate) fn find() -> Option<PathBuf> {
        installed("nginx", &["/usr/sbin"])
    }

    /// Starts it on loopback, with its files in this directory.
    pub(crate) async fn start(program: PathBuf, directory: PathBuf, view: &View) -> Result<Self, Trouble> {
        let files = Files::within(directory, None)?;
        let address = free_address(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        files.write(view)?;
        files.put("nginx.conf", &configuration(&files, address, 1))?;
        let child = Command::new(&program)
            .arg("-p")
            .arg(files.path(""))
            .arg("-c")
            .arg(files.path("nginx.conf"))
            .arg("-e")
            .arg(files.path("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Killed, it would leave its workers behind; it is told to end when this is dropped.
            .kill_on_drop(false)
            .spawn()
            .map_err(Trouble::system(program.display().to_string()))?;
        let nginx = Self { files, address, child, configuration: 1 };
        nginx.loaded(view).await?;
        Ok(nginx)
    }

    /// Gives it other files, and waits until it answers by them.
    pub(crate) async fn load(&mut self, view: &View) -> Result<(), Trouble> {
        self.configuration += 1;
        self.files.write(view)?;
        self.files.put("nginx.conf", &configuration(&self.files, self.address, self.configuration))?;
        self.signal(Signal::SIGHUP)?;
        self.loaded(view).await
    }

    async fn loaded(&self, view: &View) -> Result<(), Trouble> {
        let give_up = Instant::now() + LOAD_LIMIT;
        loop {
            // Without a certificate it refuses, and says by which configuration.
            let said = match timeout(ANSWER_LIMIT, self.get(view, None)).await {
                Ok(Ok(said)) if said.contains(&self.number()) => return Ok(()),
                Ok(Ok(said)) => said,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "nothing".to_owned(),
            };
            if Instant::now() > give_up {
                let what = format!("nginx with its new files within {LOAD_LIMIT:?}; it says: {said}");
                return Err(Trouble::NotReached(what));
            }
            sleep(LOOK).await;
        }
    }

    /// As its answers name the configuration.
    fn number(&self) -> String {
        format!(" {} ", self.configuration)
    }

    /// What it says to a client with this chain.
    pub(crate) async fn ask(&self, view: &View, chain: &Chain) -> Opinion {
        let newest = async {
            loop {
                // A worker of the configuration before takes connections until it is told to end.
                let said = self.get(view, Some(chain)).await?;
                if said.contains(&self.number()) {
                    return Ok(said);
                }
                sleep(LOOK).await;
            }
        };
        match timeout(ANSWER_LIMIT, newest).await {
            Ok(Ok(said)) if said.starts_with("HTTP/1.1 200 ") => Opinion::Accepts,
            Ok(Ok(said)) => Opinion::of_openssl(&said),
            Ok(Err(error)) => alert(&error),
            Err(_) => Opinion::Refuses("no answer".to_owned()),
        }
    }

    async fn get(&self, view: &View, chain: Option<&Chain>) -> io::Result<String> {
        let mut stream = connect(TcpStream::connect(self.address).await?, view, chain).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // It closes without a word of farewell when its old workers end.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            Ok(_) | Err(_) => Ok(String::from_utf8_lossy(&answer).into_owned()),
        }
    }

    /// Ends it, as its own script does.
    pub(crate) async fn stop(mut self) -> Result<(), Trouble> {
        self.signal(Signal::SIGTERM)?;
        self.child.wait().await.map(drop).map_err(Trouble::system("wait for nginx"))
    }

    fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| Trouble::NotReached("nginx; it has ended".to_owned()))?;
        kill(Pid::from_raw(pid), signal).map_err(|errno| Trouble::system(format!("{signal} to nginx"))(errno.into()))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // One that was stopped has no number any more.
        let _ = self.signal(Signal::SIGTERM);
    }
}

/// Everything it writes is in its directory.
fn configuration(files: &Files, address: SocketAddr, number: u64) -> String {
    let path = |name: &str| files.path(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {};\n", path(name)))
        .concat();
    format!(
        "daemon off;\nworker_processes 1;\npid {pid};\nerror_log {log} notice;\nevents {{ worker_connections 128; }}\n\
         http {{\n{temporary}    access_log off;\n    server {{\n        listen {address} ssl;\n        \
         ssl_certificate {server};\n        ssl_certificate_key {key};\n        ssl_client_certificate {roots};\n        \
         ssl_crl {crls};\n        ssl_verify_client on;\n        ssl_verify_depth 3;\n        \
         ssl_session_tickets off;\n        error_page 495 496 = @refused;\n        \
         location / {{ return 200 \"accepted {number} \\n\"; }}\n        \
         location @refused {{ return 403 \"refused {number} $ssl_client_verify\\n\"; }}\n    }}\n}}\n",
        pid = path("nginx.pid"),
        log = path("error.log"),
        server = path("server.pem"),
        key = path("server.key"),
        roots = path("roots.pem"),
        crls = path("crls.pem"),
    )
}
