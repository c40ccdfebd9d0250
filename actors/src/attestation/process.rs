//! The process at the other end of a connection, and the proof that it is still that process (ATK-15, SB-28).
//!
//! A process ID is reused, so it proves nothing by itself. The kernel hands out a descriptor of the very process that
//! connected (`SO_PEERPIDFD`); what is kept of it is its inode number, which no other process ever has on kernels since
//! 6.9, and not the descriptor: one a connection would use up the descriptor limit. Where that number means nothing
//! (older kernels), the process ID together with the time of the process's start takes its place.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{stat::fstat, statfs::fstatfs},
};
#[cfg(feature = "simulation")]
use quorate_proto_identity::SelectorSet;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The file system that gives each process an inode of its own, since Linux 6.9 (`PID_FS_MAGIC`).
const PIDFS_MAGIC: i64 = 0x5049_4446;

/// Where the start time is in `/proc/<pid>/stat`, counted from the field after the command's name, which may hold
/// blanks and brackets (proc_pid_stat(5): field 22, and the state, field 3, comes first after the name).
const START_TIME_AFTER_NAME: usize = 19;

/// What the kernel says of the peer of a unix socket, as it was when the peer connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The process (`SO_PEERCRED`).
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups (`SO_PEERGROUPS`), or nothing where the kernel did not say.
    pub groups: Option<Box<[u32]>>,
}

/// The process that opened a connection: made once, at accept, from what the kernel says of the socket.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerProcess {
    credentials: PeerCredentials,
    pid: Pid,
    proof: Proof,
    /// What a simulation says that the process is, in place of a process.
    #[cfg(feature = "simulation")]
    simulated: Option<SelectorSet>,
}

/// What no later process with the same process ID can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The inode of its descriptor, on pidfs.
    Inode(u64),
    /// When it started, in clock ticks since boot.
    StartTime(u64),
}

/// The process that a connection belonged to is gone, or cannot be told from others.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The peer is not visible from here: it is in a process namespace that this one does not contain, or the socket's
    /// other end was passed to it in a way that lost its origin.
    #[error("the peer's process is not visible to this node (process ID {pid})")]
    Invisible {
        /// What the kernel gave for its ID.
        pid: i32,
    },
    /// The process has ended. Its ID may belong to another one by now.
    #[error("the peer's process {pid} has ended")]
    Ended {
        /// Its ID.
        pid: i32,
    },
    /// The kernel would not say.
    #[error("the peer's process {pid} could not be looked at")]
    Unreadable {
        /// Its ID.
        pid: i32,
        /// Why.
        source: io::Error,
    },
}

impl PeerProcess {
    /// Takes what the kernel says of an accepted connection. `pidfd` is the descriptor from `SO_PEERPIDFD`, where the
    /// kernel has it (6.5); it is only looked at, and may be closed afterwards.
    ///
    /// # Errors
    /// When the process is not visible, or has ended already.
    pub fn new(credentials: PeerCredentials, pidfd: Option<BorrowedFd<'_>>) -> Result<Self, ProcessError> {
        let number = credentials.pid;
        let pid = Pid::from_raw(number).filter(|_| number > 0).ok_or(ProcessError::Invisible { pid: number })?;
        let inode = match pidfd {
            Some(pidfd) => own_inode(pidfd).map_err(|source| ProcessError::Unreadable { pid: number, source })?,
            None => None,
        };
        let proof = match inode {
            Some(inode) => Proof::Inode(inode),
            None => Proof::StartTime(start_time(pid).map_err(|error| ended_or(number, error))?),
        };
        let process = Self {
            credentials,
            pid,
            proof,
            #[cfg(feature = "simulation")]
            simulated: None,
        };
        process.check()?;
        Ok(process)
    }

    /// A caller that is no process: it is attested as what it is said to be, and lives for ever. For simulations alone,
    /// which have neither sockets nor processes.
    #[cfg(feature = "simulation")]
    #[must_use]
    pub fn simulated(selectors: SelectorSet) -> Self {
        let credentials = PeerCredentials { pid: Pid::INIT.as_raw_pid(), uid: 0, gid: 0, groups: None };
        Self { credentials, pid: Pid::INIT, proof: Proof::StartTime(0), simulated: Some(selectors) }
    }

    /// What a simulation says that the process is.
    #[cfg(feature = "simulation")]
    pub(super) fn simulated_selectors(&self) -> Option<&SelectorSet> {
        self.simulated.as_ref()
    }

    /// Its ID.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.credentials.pid
    }

    /// What the kernel said of it when it connected.
    #[must_use]
    pub fn credentials(&self) -> &PeerCredentials {
        &self.credentials
    }

    /// Checks that the process still lives and that its ID still means it.
    ///
    /// IDs are not reused while their process lives. So when this succeeds, whatever was read through that ID between
    /// the connection and now was read of this process: read first, check afterwards, and only then trust.
    ///
    /// # Errors
    /// When it has ended, or could not be looked at.
    pub fn check(&self) -> Result<(), ProcessError> {
        #[cfg(feature = "simulation")]
        if self.simulated.is_some() {
            return Ok(());
        }
        let number = self.pid();
        let same = match self.proof {
            Proof::Inode(inode) => {
                let current = pidfd_open(self.pid, PidfdFlags::empty());
                let current = current.map_err(|error| ended_or(number, error.into()))?;
                let found = fstat(&current).map_err(|error| ended_or(number, error.into()))?;
                found.st_ino == inode && !has_exited(current.as_fd()).map_err(|error| ended_or(number, error))?
            }
            Proof::StartTime(ticks) => start_time(self.pid).map_err(|error| ended_or(number, error))? == ticks,
        };
        if same { Ok(()) } else { Err(ProcessError::Ended { pid: number }) }
    }
}

impl fmt::Debug for PeerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerProcess")
            .field("credentials", &self.credentials)
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

/// The inode of a process's descriptor, if it is the process's own: before pidfs all descriptors shared one.
fn own_inode(pidfd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let system = fstatfs(pidfd)?;
    if system.filesystem_type().0 != PIDFS_MAGIC {
        return Ok(None);
    }
    Ok(Some(fstat(pidfd)?.st_ino))
}

/// Whether the process has exited, even if nobody has waited for it yet: its descriptor becomes readable.
fn has_exited(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::new(pidfd, PollFlags::POLLIN)];
    Ok(poll(&mut polled, PollTimeout::ZERO)? > 0)
}

/// When the process started, in clock ticks since boot.
fn start_time(pid: Pid) -> io::Result<u64> {
    let mut text = String::new();
    // Bounded by the kernel: some fifty numbers and a name of at most 64 bytes.
    File::open(format!("/proc/{}/stat", pid.as_raw_pid()))?.take(4096).read_to_string(&mut text)?;
    // A process that was not waited for yet has ended all the same.
    parse_start_time(&text).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.clone().next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(START_TIME_AFTER_NAME)?.parse().ok()
}

fn ended_or(pid: i32, error: io::Error) -> ProcessError {
    // ESRCH comes from /proc and pidfd_open alike once the process is gone.
    if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH) {
        ProcessError::Ended { pid }
    } else {
        ProcessError::Unreadable { pid, source: error }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A real process that waits until it is killed.
    pub(crate) struct Sleeper(pub(crate) Child);

    impl Sleeper {
        pub(crate) fn start() -> Self {
            let mut command = Command::new("/bin/sleep");
            command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            Self(command.spawn().unwrap())
        }

        pub(crate) fn credentials(&self) -> PeerCredentials {
            PeerCredentials {
                pid: i32::try_from(self.0.id()).unwrap(),
                uid: nix::unistd::geteuid().as_raw(),
                gid: nix::unistd::getegid().as_raw(),
                groups: None,
            }
        }

        pub(crate) fn peer(&self) -> PeerProcess {
            let credentials = self.credentials();
            let pidfd = pidfd_open(Pid::from_raw(credentials.pid).unwrap(), PidfdFlags::empty()).unwrap();
            PeerProcess::new(credentials, Some(pidfd.as_fd())).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_living_process_passes_and_a_dead_one_does_not_even_before_it_is_reaped() {
        let mut sleeper = Sleeper::start();
        let peer = sleeper.peer();
        assert!(matches!(peer.proof, Proof::Inode(_) | Proof::StartTime(_)));
        peer.check().unwrap();
        sleeper.0.kill().unwrap();
        // Not waited for: the process is a zombie and still holds its ID.
        let pid = Pid::from_raw(peer.pid()).unwrap();
        let dead = (0..10_000).any(|_| {
            std::thread::yield_now();
            peer.check().is_err()
        });
        assert!(dead, "the process {pid:?} was killed");
        assert!(matches!(peer.check(), Err(ProcessError::Ended { .. })));
        sleeper.0.wait().unwrap();
        assert!(matches!(peer.check(), Err(ProcessError::Ended { .. })));
    }

    #[test]
    fn atk_15_another_process_under_the_same_id_is_not_the_peer() {
        let (first, second) = (Sleeper::start(), Sleeper::start());
        // What a recycled ID looks like: the proof of one process beside the ID of another.
        let recycled = PeerProcess { proof: first.peer().proof, ..second.peer() };
        if matches!(recycled.proof, Proof::Inode(_)) {
            assert!(matches!(recycled.check(), Err(ProcessError::Ended { .. })));
        }
        let recycled = PeerProcess { proof: Proof::StartTime(1), ..second.peer() };
        assert!(matches!(recycled.check(), Err(ProcessError::Ended { .. })));
    }

    #[test]
    fn without_a_descriptor_the_start_time_is_the_proof() {
        let mut sleeper = Sleeper::start();
        let peer = PeerProcess::new(sleeper.credentials(), None).unwrap();
        assert!(matches!(peer.proof, Proof::StartTime(_)));
        peer.check().unwrap();
        sleeper.0.kill().unwrap();
        sleeper.0.wait().unwrap();
        assert!(matches!(peer.check(), Err(ProcessError::Ended { .. })));
        let late = PeerProcess::new(sleeper.credentials(), None);
        assert!(matches!(late, Err(ProcessError::Ended { .. })));
    }

    #[test]
    fn a_peer_of_another_process_namespace_is_refused() {
        let credentials = PeerCredentials { pid: 0, uid: 0, gid: 0, groups: None };
        assert!(matches!(PeerProcess::new(credentials, None), Err(ProcessError::Invisible { pid: 0 })));
    }

    #[test]
    fn the_name_of_a_command_cannot_forge_its_start_time() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(parse_start_time(&format!("42 (sh) {fields}")), Some(777));
        assert_eq!(parse_start_time(&format!("42 (a) S 9 9 9 9) {fields}")), Some(777));
        assert_eq!(parse_start_time("42 (sh) Z 1 2 3"), None);
        assert_eq!(parse_start_time("42 (sh"), None);
    }
}
