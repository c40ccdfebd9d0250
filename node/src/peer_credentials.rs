//! Who is at the other end of a unix socket, as the kernel noted it at connect.
//!
//! ```text
//!   SO_PEERCRED    process, user, group
//!   SO_PEERGROUPS  supplementary groups (groups.rs, the one unsafe module)
//!   SO_PEERPIDFD   a descriptor of the very process; looked at by `PeerProcess`, then closed
//! ```
//!
//! None of it can be chosen by the peer, and none changes when the peer passes the socket on or
//! becomes another user later (ATK-15, ATK-16).

mod groups;

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use quorate_actors::attestation::{PeerCredentials, PeerProcess, ProcessError};

/// Why a connection has no known peer. It is closed then: nothing is answered to nobody.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The kernel did not answer.
    #[error("the kernel did not tell the peer of the connection")]
    Credentials(#[source] io::Error),
    /// The process has ended, or lives in a namespace that is not visible here.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Asks the kernel for the process that opened this connection.
///
/// # Errors
/// When the kernel does not say, or the process is gone.
pub fn of(socket: &impl AsFd) -> Result<PeerProcess, PeerError> {
    let credentials =
        getsockopt(socket, sockopt::PeerCredentials).map_err(|errno| PeerError::Credentials(errno.into()))?;
    // Older kernels and some sandboxes have no SO_PEERGROUPS: then no group selector is made.
    let groups = groups::supplementary_groups(socket.as_fd()).ok().map(Vec::into_boxed_slice);
    let pidfd = match getsockopt(socket, sockopt::PeerPidfd) {
        Ok(pidfd) => Some(pidfd),
        // Before Linux 6.5. What `PeerProcess` does without one is its own to say.
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => None,
        // The process was reaped before we asked (kernels before 6.16).
        Err(Errno::ESRCH | Errno::EINVAL | Errno::ENODATA) => {
            return Err(ProcessError::Ended { pid: credentials.pid() }.into());
        }
        Err(errno) => return Err(PeerError::Credentials(errno.into())),
    };
    let credentials =
        PeerCredentials { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid(), groups };
    Ok(PeerProcess::new(credentials, pidfd.as_ref().map(AsFd::as_fd))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_connection_of_our_own_is_recognised_as_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let peer = of(&server).unwrap();
        assert_eq!(peer.pid().unsigned_abs(), std::process::id());
        assert_eq!(peer.credentials().uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.credentials().gid, nix::unistd::getegid().as_raw());
        let mut ours: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let mut seen = peer.credentials().groups.clone().unwrap().into_vec();
        ours.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, ours);
        peer.check().unwrap();
    }
}
