//! Callers with users of their own: a connection each that a node takes for another user's.
//!
//! ```text
//!   bench ── "connect to this socket" ──> caller, a child that is user 700,000 + n
//!     ^                                      |  connect(2): the kernel notes process, user and group
//!     `───── the connected socket ───────────┘  SCM_RIGHTS; the child stands there until it is let go
//! ```
//!
//! A node believes what the kernel noted of the connection *and* what `/proc` says of that process (ATK-15, ATK-16), and
//! takes a user only where both agree. A thread that takes on another user around `connect` gets no further than the
//! first half: `/proc` shows the user of the process. So each user is a process, this very program in another role, which
//! costs some hundred kilobytes and nothing while it stands there; all traffic is the bench's own.
//!
//! The socket is handed over by rustix, whose call is safe: nix gives a bare number, and to own that takes unsafe code.

use crate::trouble::Trouble;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    Shutdown, recvmsg, sendmsg,
};
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::io::Interest;

/// The first of the users: beyond those of the system and of most directories, below those of the other scenarios.
const FIRST_USER: u32 = 700_000;

/// The role's name on the command line.
pub(crate) const ROLE: &str = "caller";

/// A message needs a byte for the descriptor to travel with.
const CARRIER: &[u8] = b"c";

/// A process that connects as a user of its own.
#[derive(Debug)]
pub(crate) struct Caller {
    user: u32,
    door: tokio::net::UnixStream,
    child: Child,
}

impl Caller {
    /// Starts the process of a user, counted from 0. It takes root to make a process another user's.
    pub(crate) fn start(number: usize) -> Result<Self, Trouble> {
        if !nix::unistd::getuid().is_root() {
            return Err(Trouble::NotPermitted("callers have users of their own here, which takes root".to_owned()));
        }
        let user = FIRST_USER + u32::try_from(number).map_err(Trouble::crypto("user"))?;
        let (door, theirs) = UnixStream::pair().map_err(Trouble::system("pair of sockets"))?;
        // The path of the program may lead through directories that the user may not enter; this link does not.
        let child = Command::new("/proc/self/exe")
            .arg(ROLE)
            .uid(user)
            .gid(user)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(Trouble::system(format!("start a process of user {user}")))?;
        let failed = Trouble::system("pair of sockets");
        let door = door.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(door)).map_err(failed)?;
        Ok(Self { user, door, child })
    }

    /// Its user, as the selector that a node gives it.
    pub(crate) fn selector(&self) -> (&'static str, String) {
        ("unix", format!("uid:{}", self.user))
    }

    /// A new connection to this socket, made by the process.
    pub(crate) async fn connect(&self, socket: &Path) -> Result<tokio::net::UnixStream, Trouble> {
        let connected = self.ask(socket).await;
        connected.map_err(Trouble::system(format!("user {} connects to {}", self.user, socket.display())))
    }

    async fn ask(&self, socket: &Path) -> std::io::Result<tokio::net::UnixStream> {
        // Far less than a socket's buffer takes at once.
        let line = format!("{}\n", socket.display());
        self.door.async_io(Interest::WRITABLE, || self.door.try_write(line.as_bytes())).await?;
        let connection = self.door.async_io(Interest::READABLE, || receive(&self.door)).await?;
        let connection = UnixStream::from(connection);
        connection.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(connection)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // At the end of its input it ends by itself.
        if rustix::net::shutdown(&self.door, Shutdown::Both).is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// Takes one descriptor from the door.
fn receive(door: impl AsFd) -> std::io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut carrier = [0; CARRIER.len()];
    recvmsg(door, &mut [IoSliceMut::new(&mut carrier)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message { descriptors.next() } else { None }
    });
    descriptor.ok_or_else(|| std::io::Error::other("it could not; what it said is above"))
}

/// What the child does: for each path that it reads it connects and hands the connection over, until its input ends.
pub(crate) fn serve() -> Result<(), Trouble> {
    let input = stdin().as_fd().try_clone_to_owned().map_err(Trouble::system("input"))?;
    let door = UnixStream::from(input);
    let mut paths = BufReader::new(door.try_clone().map_err(Trouble::system("input"))?);
    let mut path = String::new();
    while paths.read_line(&mut path).map_err(Trouble::system("input"))? > 0 {
        let connection = UnixStream::connect(path.trim_end()).map_err(Trouble::system(path.clone()))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [connection.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let sent = sendmsg(&door, &[IoSlice::new(CARRIER)], &mut control, SendFlags::empty());
        sent.map_err(|error| Trouble::system("hand over a connection")(error.into()))?;
        path.clear();
    }
    Ok(())
}
