//! What is on a simulated disk: visible and durable, and what is planned to go wrong. Test only.

use super::seeded::Seeded;
use super::simulated::{Fault, FaultKind, Slowness};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything on the disk, and what is planned to go wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Storage {
    pub(super) files: BTreeMap<u64, Inode>,
    pub(super) visible: BTreeMap<PathBuf, Node>,
    pub(super) durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since the directory was last synced, by directory, in order.
    pub(super) pending_names: BTreeMap<PathBuf, Vec<NameChange>>,
    pub(super) next_inode: u64,
    pub(super) boot: u64,
    pub(super) locks: BTreeMap<PathBuf, (u64, String)>,
    pub(super) faults: Vec<Fault>,
    pub(super) lies: Option<(Seeded, u64)>,
    pub(super) capacity: Option<u64>,
    pub(super) slowness: Option<Slowness>,
    pub(super) delay: Duration,
    pub(super) is_read_only: bool,
    pub(super) stop_after: Option<u64>,
    pub(super) operations: u64,
    pub(super) syncs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) visible: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate { length: u64 },
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link { name: PathBuf, node: Node },
    Unlink { name: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

impl Change {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
            }
            Self::Truncate { length } => {
                content.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
            }
        }
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link { name, node } => {
                names.insert(name.clone(), *node);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// What a real disk says when it breaks (EIO is 5).
pub(super) fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

pub(super) fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Storage {
    /// Counts a call that changes something; fails it when the power is out.
    pub(super) fn step(&mut self, boot: u64) -> io::Result<()> {
        self.alive(boot)?;
        if self.is_read_only {
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        }
        if self.stop_after.is_some_and(|limit| self.operations >= limit) {
            return Err(broken());
        }
        self.operations += 1;
        Ok(())
    }

    pub(super) fn alive(&self, boot: u64) -> io::Result<()> {
        if self.boot == boot { Ok(()) } else { Err(io::Error::other("this process has ended")) }
    }

    /// Whether a planned fault of this kind falls due now.
    pub(super) fn falls_due(&mut self, kind: FaultKind) -> bool {
        let mut due = false;
        self.faults.retain_mut(|fault| {
            if fault.kind != kind {
                return true;
            }
            if fault.after == 0 {
                due = true;
                return false;
            }
            fault.after -= 1;
            true
        });
        due
    }

    pub(super) fn lies_now(&mut self) -> bool {
        self.lies.as_mut().is_some_and(|(random, times)| random.one_in(*times))
    }

    pub(super) fn used(&self) -> u64 {
        self.visible
            .values()
            .filter_map(|node| match node {
                Node::File(number) => self.files.get(number),
                Node::Directory => None,
            })
            .map(|inode| inode.visible.len() as u64)
            .sum()
    }

    pub(super) fn change_name(&mut self, change: NameChange, place: &Path) {
        change.apply(&mut self.visible);
        let parent = place.parent().unwrap_or(Path::new("/")).to_path_buf();
        self.pending_names.entry(parent).or_default().push(change);
    }

    pub(super) fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.files.get_mut(&number).ok_or_else(not_found)
    }

    pub(super) fn file_number(&self, path: &Path) -> io::Result<u64> {
        match self.visible.get(path) {
            Some(Node::File(number)) => Ok(*number),
            Some(Node::Directory) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(not_found()),
        }
    }
}

impl Storage {
    /// A new boot meets the disk as it is, with nothing planned.
    pub(super) fn forget_faults(&mut self) {
        self.faults.clear();
        self.lies = None;
        self.stop_after = None;
        self.slowness = None;
    }
}
