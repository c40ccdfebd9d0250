//! Programs that use libraries of others (go-spiffe, py-spiffe), and speak mutual TLS with each other without end.
//!
//! ```text
//!   this program ── peers, begin ──► client ── every so often ──► dials a peer
//!                ◄── ok, failed ────                 and answers whoever it is to know
//! ```

use crate::trouble::Trouble;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a client may take until it listens: an interpreter starts, and the first SVID comes.
const START_LIMIT: Duration = Duration::from_secs(40);

/// How long a client may take to end once it was told to: the handshakes that are under way come to their end.
const END_LIMIT: Duration = Duration::from_secs(15);

/// A program of others, by what it is called and its command line.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: String,
    command: Vec<String>,
}

/// Reads `NAME=COMMAND ARGUMENT...`.
pub(super) fn program(text: &str) -> Result<Program, String> {
    let (name, command) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=COMMAND"))?;
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if name.is_empty() || command.is_empty() {
        return Err(format!("{text:?} is not NAME=COMMAND"));
    }
    Ok(Program { name: name.to_owned(), command })
}

/// A client that runs.
#[derive(Debug)]
pub(super) struct Client {
    /// What it is called: its program and its node.
    pub(super) name: String,
    /// Its SPIFFE ID.
    pub(super) id: String,
    /// Where it answers.
    pub(super) address: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

/// One handshake, as the client that dialled tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It came about.
    Ok,
    /// It did not.
    Failed {
        /// How long it took.
        took: Duration,
        /// With whom, and what was said.
        what: String,
    },
}

impl Client {
    /// Starts a client with the Workload API of this socket, and waits until it listens.
    pub(super) async fn start(
        program: &Program,
        name: String,
        id: String,
        socket: &Path,
        pace: Duration,
    ) -> Result<Self, Trouble> {
        let failed = || Trouble::system(format!("start {}", program.command.join(" ")));
        let mut words = program.command.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        let mut child = command
            .args(words)
            .args(["converse", &id, &pace.as_millis().to_string()])
            .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed())?;
        let input = child.stdin.take();
        let none = || failed()(std::io::ErrorKind::BrokenPipe.into());
        let mut output = BufReader::new(child.stdout.take().ok_or_else(none)?).lines();
        let first = timeout(START_LIMIT, output.next_line()).await;
        let first = first.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let Some(address) = first.strip_prefix("listening ") else {
            return Err(Trouble::NotReached(format!("that {name} listens within {START_LIMIT:?}: it said {first:?}")));
        };
        Ok(Self { address: address.to_owned(), name, id, child, input, output })
    }

    /// Tells it whom to speak with, and has it begin.
    pub(super) async fn begin(&mut self, peers: &[(String, String)]) -> Result<(), Trouble> {
        let mut text: String = peers.iter().map(|(id, address)| format!("{id} {address}\n")).collect();
        text.push_str("begin\n");
        let Some(input) = &mut self.input else { return Ok(()) };
        let written = async {
            input.write_all(text.as_bytes()).await?;
            input.flush().await
        };
        written.await.map_err(Trouble::system(format!("tell {} its peers", self.name)))
    }

    /// The next handshake that it tells of; none once it is quiet, or has ended.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            let line = self.output.next_line().await.ok().flatten()?;
            if line == "quiet" {
                return None;
            }
            if let Some(told) = told(&line) {
                return Some(told);
            }
        }
    }

    /// Has it dial nobody any more; it answers on, since others may be about to dial it.
    pub(super) async fn be_quiet(&mut self) {
        if let Some(input) = &mut self.input {
            // One that is gone is quiet.
            drop(input.write_all(b"quiet\n").await);
            drop(input.flush().await);
        }
    }

    /// Has it end, and waits for that.
    pub(super) async fn end(mut self) -> Result<(), Trouble> {
        self.input = None;
        match timeout(END_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Trouble::NotReached(format!("that {} ends well: {status}", self.name))),
            Ok(Err(error)) => Err(Trouble::system(format!("wait for {}", self.name))(error)),
            Err(_) => Err(Trouble::NotReached(format!("that {} ends within {END_LIMIT:?}", self.name))),
        }
    }
}

fn told(line: &str) -> Option<Told> {
    if line.strip_prefix("ok ").is_some() {
        return Some(Told::Ok);
    }
    let mut words = line.strip_prefix("failed ")?.splitn(3, ' ');
    let (_begun, took, what) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    Some(Told::Failed { took: Duration::from_millis(took), what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_tells_is_read() {
        assert_eq!(told("ok 12"), Some(Told::Ok));
        let failed = Told::Failed { took: Duration::from_millis(31), what: "spiffe://a/b it hung".to_owned() };
        assert_eq!(told("failed 1700000000000 31 spiffe://a/b it hung"), Some(failed));
        assert_eq!(told("listening 127.0.0.1:1"), None);
    }

    #[test]
    fn a_program_has_a_name_and_a_command() {
        let read = program("python=/usr/bin/python3 -B client.py").unwrap();
        assert_eq!((read.name.as_str(), read.command.len()), ("python", 3));
        for wrong in ["python", "=x", "python= "] {
            assert!(program(wrong).is_err(), "{wrong}");
        }
    }
}
