//! What a process has used: processor time to the nanosecond, memory as the kernel counts it.

use crate::trouble::Trouble;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

/// Processes that are watched from outside, or this one. What several used is what they used together.
#[derive(Clone, Debug)]
pub(crate) struct Process(Vec<(Pid, ClockId)>);

impl Process {
    /// The process of this number.
    pub(crate) fn of(pid: i32) -> Result<Self, Trouble> {
        Self::together([pid])
    }

    /// The processes of these numbers.
    pub(crate) fn together(pids: impl IntoIterator<Item = i32>) -> Result<Self, Trouble> {
        let clocks = pids.into_iter().map(|pid| {
            let pid = Pid::from_raw(pid);
            let clock = clock_getcpuclockid(pid).map_err(Trouble::errno(format!("processor clock of {pid}")))?;
            Ok((pid, clock))
        });
        clocks.collect::<Result<_, _>>().map(Self)
    }

    /// This process.
    pub(crate) fn this() -> Result<Self, Trouble> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Processor time used so far by all its threads, in user and system mode, those that ended too.
    pub(crate) fn cpu(&self) -> Result<Duration, Trouble> {
        let mut used = Duration::ZERO;
        for (pid, clock) in &self.0 {
            let time = clock_gettime(*clock).map_err(Trouble::errno(format!("processor time of {pid}")))?;
            used += Duration::from(time);
        }
        Ok(used)
    }

    /// Memory it holds, in bytes; pages that it shares count by its part (`Pss`).
    pub(crate) fn memory(&self) -> Result<u64, Trouble> {
        self.0.iter().map(|(pid, _)| memory(*pid)).sum()
    }
}

fn memory(pid: Pid) -> Result<u64, Trouble> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(Trouble::system(path.clone()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| Trouble::Unexpected(format!("{path} has no line Pss")))
}

/// Lets this process, and those it starts, open as many files as it may.
pub(crate) fn raise_file_limit() -> Result<u64, Trouble> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Trouble::errno("limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(Trouble::errno("limit of open files"))?;
    Ok(most)
}
