//! What a process has used: processor time to the nanosecond, memory as the kernel counts it.

use crate::trouble::Trouble;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

/// A process that is watched from outside, or this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pid: Pid,
    clock: ClockId,
}

impl Process {
    /// The process of this number.
    pub(crate) fn of(pid: i32) -> Result<Self, Trouble> {
        let pid = Pid::from_raw(pid);
        let clock = clock_getcpuclockid(pid).map_err(Trouble::errno(format!("processor clock of {pid}")))?;
        Ok(Self { pid, clock })
    }

    /// This process.
    pub(crate) fn this() -> Result<Self, Trouble> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Processor time used so far by all its threads, in user and system mode, those that ended too.
    pub(crate) fn cpu(&self) -> Result<Duration, Trouble> {
        let time = clock_gettime(self.clock).map_err(Trouble::errno(format!("processor time of {}", self.pid)))?;
        Ok(Duration::from(time))
    }

    /// Memory it holds, in bytes; pages that it shares count by its part (`Pss`).
    pub(crate) fn memory(&self) -> Result<u64, Trouble> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = fs::read_to_string(&path).map_err(Trouble::system(path.clone()))?;
        text.lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| Trouble::Unexpected(format!("{path} has no line Pss")))
    }
}

/// Lets this process, and those it starts, open as many files as it may.
pub(crate) fn raise_file_limit() -> Result<u64, Trouble> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Trouble::errno("limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(Trouble::errno("limit of open files"))?;
    Ok(most)
}
