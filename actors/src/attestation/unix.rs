//! The unix workload attestor: what the kernel says of a process, as selectors with SPIRE's names.
//!
//! Everything is read through the process's directory in `/proc`, and believed only once the process was found alive
//! and the same afterwards ([`PeerProcess::check`]). What this node may not read, or cannot vouch for, gives no
//! selector; that is logged and counted, and never a reason to refuse the rest.

use std::{
    fs::{File, metadata},
    io::{self, Read},
    os::{fd::AsFd, unix::ffi::OsStrExt, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::Mode,
};
use quorate_proto_identity::selector::{Selector, SelectorSet};

use super::{
    executable::{Digests, ExecutableId, current_executable, verified_path},
    names::Names,
    process::{PeerProcess, ProcessError},
};
use crate::metrics;

/// The type of every selector made here.
const KIND: &str = "unix";

/// How many supplementary groups of a process count. Linux allows 65,536; a thousand is beyond what directory services
/// give anyone, and each one costs two selectors in every comparison.
const GROUPS_LIMIT: usize = 1024;

/// The most that is read of a process's status: about 64 lines and eleven bytes a group.
const STATUS_BYTES_LIMIT: u64 = 1 << 20;

/// A process that was looked at: what it may call itself, and what that was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    selectors: SelectorSet,
    facts: Facts,
}

/// What must stay as it is for the selectors to stand (ATK-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    /// The owner of the process's directory: its effective user and group, unless it may not be dumped; then root.
    owner: (u32, u32),
    /// Its effective user and group.
    user: (u32, u32),
    /// The file it runs, where this node may know it.
    executable: Option<ExecutableId>,
}

impl Attested {
    /// The selectors of the process.
    #[must_use]
    pub fn selectors(&self) -> &SelectorSet {
        &self.selectors
    }
}

/// What a second look at a process found.
#[derive(Debug)]
pub(crate) enum SecondLook {
    /// Process, user, group and executable are what they were: the selectors stand.
    Same,
    /// It is the same process, but it runs another program or as someone else: it must be attested afresh.
    Changed,
    /// The process is gone.
    Gone(ProcessError),
}

/// The attestor. Attesting blocks; a second look costs a few system calls and does not.
#[derive(Debug)]
pub(crate) struct UnixAttestor {
    digests: Digests,
    names: Names,
}

impl UnixAttestor {
    /// An attestor that hashes executables of at most this many bytes.
    pub(crate) fn new(executable_bytes_limit: u64) -> Self {
        Self { digests: Digests::new(executable_bytes_limit), names: Names::default() }
    }

    /// Looks at the process that opened a connection. May block on files and on the system's directory of users.
    ///
    /// `before` is what the same connection was attested as earlier, if it was. A connection never gains anything by
    /// what its process turns into: a fork can hold the connection while the process itself runs a program of higher
    /// rights, so only what held before and holds now is left. The new program opens a connection of its own.
    pub(crate) fn attest(&self, process: &PeerProcess, before: Option<&Attested>) -> Result<Attested, ProcessError> {
        #[cfg(feature = "simulation")]
        if let Some(selectors) = process.simulated_selectors() {
            let facts = Facts { owner: (0, 0), user: (0, 0), executable: None };
            return Ok(Attested { selectors: selectors.clone(), facts });
        }
        let attested = self.look(process).map_err(|error| unreadable(process, error))?;
        // Read first, check afterwards: all that was read belongs to this process, or the check fails (ATK-15).
        process.check()?;
        Ok(match before {
            None => attested,
            Some(before) => {
                let both = attested.selectors.iter().filter(|selector| before.selectors.contains(selector));
                Attested { selectors: both.cloned().collect(), facts: attested.facts }
            }
        })
    }

    fn look(&self, process: &PeerProcess) -> io::Result<Attested> {
        let path = directory(process.pid());
        let directory = File::open(&path)?;
        let owner = directory.metadata()?;
        // The owner is read before the status: a change between the two shows at the next look, as another owner.
        let status = read_status(open_under(&directory, "status")?)?;
        let user = (status.uid, status.gid);
        let mut found = Found::default();
        self.user_and_groups(process, status, &mut found);
        let executable = self.executable(&path, &directory, &mut found);
        let facts = Facts { owner: (owner.uid(), owner.gid()), user, executable };
        Ok(Attested { selectors: SelectorSet::new(found.selectors), facts })
    }

    /// User and groups count where the socket and the process agree: whoever connected, and still is that.
    fn user_and_groups(&self, process: &PeerProcess, status: Status, found: &mut Found) {
        let peer = process.credentials();
        if status.uid == peer.uid {
            found.add("uid", status.uid);
            found.name("user", self.names.user(status.uid));
        } else {
            found.missing("uid", &"the process changed its user since it connected");
        }
        if status.gid == peer.gid {
            found.add("gid", status.gid);
            found.name("group", self.names.group(status.gid));
        } else {
            found.missing("gid", &"the process changed its group since it connected");
        }
        let agreed = |group: &u32| peer.groups.as_ref().is_none_or(|groups| groups.contains(group));
        let mut groups: Vec<u32> = status.groups.into_iter().filter(agreed).collect();
        if groups.len() > GROUPS_LIMIT {
            found.missing("supplementary_gid", &"the process has more supplementary groups than count");
            groups.truncate(GROUPS_LIMIT);
        }
        for group in groups {
            found.add("supplementary_gid", group);
            found.name("supplementary_group", self.names.group(group));
        }
    }

    fn executable(&self, path: &Path, directory: &File, found: &mut Found) -> Option<ExecutableId> {
        // Through the link of the process, not along a path: this is the very file that runs.
        let opened = open_under(directory, "exe").and_then(|file| Ok((ExecutableId::of(&file.metadata()?), file)));
        let (id, mut file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                found.missing("path", &error);
                found.missing("sha256", &error);
                // A file that may not be read may still be told from another one.
                return current_executable(path);
            }
        };
        let link = readlinkat(directory, "exe").map(PathBuf::from);
        match link.map_err(io::Error::from) {
            Ok(link) => match verified_path(link, id) {
                Ok(path) => found.path(&path),
                Err(error) => found.missing("path", &error),
            },
            Err(error) => found.missing("path", &error),
        }
        match self.digests.sha256(&mut file) {
            Ok(digest) => found.add("sha256", digest),
            Err(error) => found.missing("sha256", &error),
        }
        Some(id)
    }
}

/// Looks again, cheaply, at a process that was attested before: a handful of system calls, none of which blocks.
pub(crate) fn look_again(process: &PeerProcess, attested: &Attested) -> SecondLook {
    #[cfg(feature = "simulation")]
    if process.simulated_selectors().is_some() {
        return SecondLook::Same;
    }
    let same = same_facts(process, &attested.facts);
    match process.check() {
        Err(gone) => SecondLook::Gone(gone),
        Ok(()) if same => SecondLook::Same,
        Ok(()) => SecondLook::Changed,
    }
}

fn same_facts(process: &PeerProcess, before: &Facts) -> bool {
    let path = directory(process.pid());
    let Ok(found) = metadata(&path) else { return false };
    if (found.uid(), found.gid()) != before.owner {
        return false;
    }
    // Root owns the directory of a process that runs as root, and of one that may not be dumped, which every process
    // becomes that gives up root: there only the status tells the two apart.
    if before.owner == (0, 0) {
        let status = File::open(path.join("status")).and_then(read_status);
        if !status.is_ok_and(|status| (status.uid, status.gid) == before.user) {
            return false;
        }
    }
    current_executable(&path) == before.executable
}

fn directory(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

fn open_under(directory: &File, name: &str) -> io::Result<File> {
    let opened = openat(directory.as_fd(), name, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty());
    Ok(File::from(opened?))
}

fn unreadable(process: &PeerProcess, source: io::Error) -> ProcessError {
    match process.check() {
        Err(gone) => gone,
        Ok(()) => ProcessError::Unreadable { pid: process.pid(), source },
    }
}

/// The part of `/proc/<pid>/status` that counts.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

fn read_status(file: File) -> io::Result<Status> {
    // A page holds all of it for a process with few groups, so that it takes one read.
    let mut text = Vec::with_capacity(4096);
    file.take(STATUS_BYTES_LIMIT).read_to_end(&mut text)?;
    // The command's name is on a line of its own, escaped, so that nobody can add lines with it.
    parse_status(&String::from_utf8_lossy(&text)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_status(text: &str) -> Option<Status> {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    // Real, effective, saved and file-system: the effective one is what the process acts as.
    let effective = |name: &str| line(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    Some(Status {
        uid: effective("Uid:")?,
        gid: effective("Gid:")?,
        groups: line("Groups:")?.split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect(),
    })
}

/// Selectors as they are found.
#[derive(Default)]
struct Found {
    selectors: Vec<Selector>,
}

impl Found {
    fn add(&mut self, name: &'static str, value: impl std::fmt::Display) {
        match Selector::new(KIND, &format!("{name}:{value}")) {
            Ok(selector) => self.selectors.push(selector),
            Err(error) => self.missing(name, &error),
        }
    }

    fn name(&mut self, name: &'static str, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.add(name, value),
            None => self.missing(name, &"the system knows no name for it"),
        }
    }

    fn path(&mut self, path: &Path) {
        // A path that is no text could only be written lossily, and two paths could then look alike.
        match std::str::from_utf8(path.as_os_str().as_bytes()) {
            Ok(path) => self.add("path", path),
            Err(error) => self.missing("path", &error),
        }
    }

    /// Says that a selector is not given, and why.
    fn missing(&self, name: &'static str, reason: &dyn std::fmt::Display) {
        metrics::selector_missing(name);
        tracing::debug!(selector = name, reason = %reason, "a workload gets no selector of this kind");
    }
}

#[cfg(test)]
mod tests;
