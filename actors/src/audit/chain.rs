//! A trail on disk, open to be added to: the one place that writes it.
//!
//! ```text
//!   data_dir/audit/  00000000000000000001.jsonl    full: synced, closed, never written again
//!                    00000000000000041873.jsonl    its first line has the number in its name, and the hash of 41872
//!                    begin.tmp                     the next file, until it is whole
//! ```
//!
//! | What can happen | What is done about it |
//! |-|-|
//! | the process is killed within a line | the file stays as it is; the next one begins with the last whole record, and says how many bytes of the old one count for nothing, with their hash |
//! | whole lines after the last sound one | the same, loudly: no crash leaves such, and a verification says "altered" |
//! | the disk is full | nothing is added; the same records are offered again later, to the same place |
//! | a sync fails | the trail is given up until a restart: what was not synced may be gone, and asking again proves nothing (as WAL-09) |
//! | more bytes than are kept | the oldest file goes, after a record that says so and is synced |

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::disk::{Disk, DiskFile, OpenMode};

use super::{
    record::{FILE_BEGIN, FILES_REMOVED, FORMAT, Kind, Position, RECORDS_LOST, Record, RecordHash},
    walk::{Head, Walk, Why},
};

/// How large a file becomes before the next one is begun. Small enough that opening a trail, which reads the last file whole,
/// takes some tenths of a second; large enough that a file holds some 40,000 records.
pub const FILE_BYTES: u64 = 16 << 20;

/// Most bytes of a file that are read. A file ends with the records that filled it, which are offered at most
/// [`BATCH_BYTES`](super::writer::BATCH_BYTES) at a time; what is far larger is none of ours.
pub(crate) const FILE_READ_LIMIT: u64 = 64 << 20;

/// Name of a file that is not whole yet.
const UNFINISHED: &str = "begin.tmp";

/// How the names of files end.
const SUFFIX: &str = ".jsonl";

/// Added to the names of files that can be no part of the trail. They are kept to be looked at.
const DAMAGED: &str = ".damaged";

/// How much is written to a trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes after which a file is full.
    pub file_bytes: u64,
    /// Bytes of all files together beyond which the oldest go. The newest stays in any case.
    pub keep_bytes: u64,
}

/// Whose trail it is, as each file says at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    /// The name of the node.
    pub(crate) node: String,
    /// Its number.
    pub(crate) member: u64,
    /// The cluster's ID.
    pub(crate) cluster: String,
}

/// The trail could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The disk refused. Nothing was added; it may be tried again.
    #[error("cannot {deed} {}", path.display())]
    Io {
        /// What was tried.
        deed: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was written may not be on the disk. Only a restart, which reads it again, can tell.
    #[error("cannot sync {}; restart the node, which then looks at what is there", path.display())]
    Sync {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record could not be written as JSON: a fault of this program.
    #[error("a record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl ChainError {
    /// Whether trying again can help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Sync { .. } | Self::Json(_) => false,
        }
    }
}

/// A file of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// The number of its first record.
    first: u64,
    /// The hash that it goes on from.
    previous: RecordHash,
    bytes: u64,
}

/// The file that is written to.
#[derive(Debug)]
struct Current {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Where the next line goes.
    length: u64,
    /// There may be something behind `length`, of a write that failed.
    has_remains: bool,
}

/// An open trail. All calls block.
#[derive(Debug)]
pub(crate) struct Chain {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    limits: Limits,
    owner: Owner,
    /// All files, the oldest first; the last one is `current`.
    parts: VecDeque<Part>,
    current: Current,
    head: Head,
    synced: Head,
    covered: Position,
}

/// What of the last file counts for nothing.
struct SetAside {
    file: String,
    bytes: usize,
    hash: RecordHash,
    reason: &'static str,
}

impl Chain {
    /// Opens a trail to go on with it, or begins one.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        limits: Limits,
        owner: Owner,
        now: UnixMillis,
    ) -> Result<Self, ChainError> {
        make_directory(disk.as_ref(), directory)?;
        let mut names = file_names(disk.as_ref(), directory)?;
        let mut unusable = Vec::new();
        let found = loop {
            let Some(name) = names.pop() else { break None };
            let content = read(disk.as_ref(), &directory.join(&name))?;
            match Ending::of(&content) {
                Some(ending) => break Some((name, content, ending)),
                None => unusable.push(name),
            }
        };
        for name in &unusable {
            tracing::error!(file = %directory.join(name).display(), "a file of the audit trail is no such file any more; it is kept beside the trail");
            rename(disk.as_ref(), &directory.join(name), &directory.join(format!("{name}{DAMAGED}")))?;
        }
        if !unusable.is_empty() {
            sync_directory(disk.as_ref(), directory)?;
        }
        let mut parts = VecDeque::new();
        for name in &names {
            parts.push_back(part(disk.as_ref(), directory, name)?);
        }
        let Some((name, content, ending)) = found else {
            let parts = VecDeque::new();
            return Self::begin(disk, directory, limits, owner, parts, Head::default(), Position::default(), None, now);
        };
        parts.push_back(part(disk.as_ref(), directory, &name)?);
        let (head, covered) = (ending.head, ending.covered);
        let Some(reason) = ending.unsound else {
            let path = directory.join(&name);
            let file = open(disk.as_ref(), &path, OpenMode::ReadWrite)?;
            let current = Current { file, path, length: content.len() as u64, has_remains: false };
            // What an earlier process wrote may not be synced; it counts as synced only after the next sync.
            let synced = Head::default();
            return Ok(Self {
                disk,
                directory: directory.to_owned(),
                limits,
                owner,
                parts,
                current,
                head,
                synced,
                covered,
            });
        };
        let rest = content.get(ending.sound_bytes..).unwrap_or_default();
        let aside = SetAside { file: name, bytes: rest.len(), hash: RecordHash::of_bytes(rest), reason };
        tracing::warn!(
            file = %aside.file, bytes = aside.bytes, reason, records = head.records,
            "the end of the audit trail is not sound; it is left as it is, and the trail goes on in a new file"
        );
        Self::begin(disk, directory, limits, owner, parts, head, covered, Some(&aside), now)
    }

    /// Begins a file after `head`.
    #[expect(clippy::too_many_arguments, reason = "all of a chain that is not open yet")]
    fn begin(
        disk: Arc<dyn Disk>,
        directory: &Path,
        limits: Limits,
        owner: Owner,
        mut parts: VecDeque<Part>,
        head: Head,
        covered: Position,
        aside: Option<&SetAside>,
        now: UnixMillis,
    ) -> Result<Self, ChainError> {
        let begun = begin_file(disk.as_ref(), directory, &owner, head, covered, aside, now)?;
        parts.push_back(begun.part);
        let (current, head) = (begun.current, begun.head);
        let directory = directory.to_owned();
        Ok(Self { disk, directory, limits, owner, parts, current, head, synced: head, covered })
    }

    /// The last record that was added.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// The last record that is known to be synced; none before the first sync of this process.
    pub(crate) fn synced(&self) -> Head {
        self.synced
    }

    /// Up to where the log has its records here.
    pub(crate) fn covered(&self) -> Position {
        self.covered
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes that may still be written to the file system.
    pub(crate) fn free_space(&self) -> Result<u64, ChainError> {
        self.disk.free_space(&self.directory).map_err(failed("ask for the free space of", &self.directory))
    }

    /// Adds records, all of them or, where that fails, none. What derives from the log and is here already is passed over:
    /// a restart applies the log again. Says how many were added, and whether a file became full, which is then synced.
    pub(crate) fn append(&mut self, records: &mut [Record], now: UnixMillis) -> Result<Appended, ChainError> {
        let full = self.current.length >= self.limits.file_bytes;
        if full {
            self.rotate(now)?;
        }
        let mut lines = Vec::new();
        let (mut head, mut covered, mut added) = (self.head, self.covered, 0_usize);
        for record in records {
            if record.position().is_some_and(|position| position <= covered) {
                continue;
            }
            let next = head.records.saturating_add(1);
            // Records that were lost keep their numbers: the record that says so comes after the last of them.
            record.record = if record.what == RECORDS_LOST { record.record.max(next) } else { next };
            let (line, hash) = record.encode(head.hash)?;
            head = Head { records: record.record, hash };
            covered = record.covers().map_or(covered, |position| position.max(covered));
            lines.extend_from_slice(&line);
            added = added.saturating_add(1);
        }
        self.write(&lines)?;
        (self.head, self.covered) = (head, covered);
        Ok(Appended { records: added, rotated: full })
    }

    /// Makes everything that was added durable.
    pub(crate) fn sync(&mut self) -> Result<Head, ChainError> {
        if self.synced != self.head {
            let path = &self.current.path;
            self.current.file.sync_data().map_err(|source| ChainError::Sync { path: path.clone(), source })?;
            self.synced = self.head;
        }
        Ok(self.synced)
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), ChainError> {
        let current = &mut self.current;
        if lines.is_empty() {
            return Ok(());
        }
        if current.has_remains {
            current
                .file
                .truncate(current.length)
                .map_err(failed("cut the remains of a failed write off", &current.path))?;
            current.has_remains = false;
        }
        if let Err(source) = current.file.write_at(current.length, lines) {
            current.has_remains = current.file.truncate(current.length).is_err();
            return Err(failed("write to", &current.path)(source));
        }
        current.length = current.length.saturating_add(lines.len() as u64);
        if let Some(part) = self.parts.back_mut() {
            part.bytes = current.length;
        }
        Ok(())
    }

    /// Goes on in a new file, and lets the oldest go if there is too much.
    fn rotate(&mut self, now: UnixMillis) -> Result<(), ChainError> {
        self.sync()?;
        let (disk, directory) = (self.disk.as_ref(), self.directory.as_path());
        let begun = begin_file(disk, directory, &self.owner, self.head, self.covered, None, now)?;
        self.parts.push_back(begun.part);
        (self.current, self.head, self.synced) = (begun.current, begun.head, begun.head);
        self.remove_oldest(now)
    }

    /// Removes the oldest files that are more than is kept. First a record says so, and is synced: a file that is missing
    /// without one was taken away by somebody else.
    fn remove_oldest(&mut self, now: UnixMillis) -> Result<(), ChainError> {
        while self.bytes() > self.limits.keep_bytes && self.parts.len() > 1 {
            let (Some(oldest), Some(next)) = (self.parts.front(), self.parts.get(1)) else { return Ok(()) };
            let (name, last) = (file_name(oldest.first), next.first.saturating_sub(1));
            let mut record = Record::new(now, Kind::Trail, FILES_REMOVED)
                .with("file", &name)
                .with("last_record", last)
                .with("last_hash", next.previous);
            record.record = self.head.records.saturating_add(1);
            let (line, hash) = record.encode(self.head.hash)?;
            self.write(&line)?;
            self.head = Head { records: record.record, hash };
            self.sync()?;
            let path = self.directory.join(&name);
            match self.disk.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
                Ok(()) | Err(_) => {}
            }
            sync_directory(self.disk.as_ref(), &self.directory)?;
            self.parts.pop_front();
            tracing::info!(file = name, "the oldest file of the audit trail was removed: more is not kept");
        }
        Ok(())
    }
}

/// What adding records came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// How many were added.
    pub(crate) records: usize,
    /// Whether a new file was begun for them.
    pub(crate) rotated: bool,
}

/// How a file ends.
struct Ending {
    head: Head,
    covered: Position,
    /// Bytes up to the end of the last sound record.
    sound_bytes: usize,
    /// Why what comes after that is not sound, if there is anything.
    unsound: Option<&'static str>,
}

impl Ending {
    /// None when not even the first line is sound.
    fn of(content: &[u8]) -> Option<Self> {
        let mut ending: Option<Self> = None;
        for step in Walk::new(content) {
            match step {
                Ok(walked) => {
                    let ending = ending.get_or_insert(Self {
                        head: Head::default(),
                        covered: Position::default(),
                        sound_bytes: 0,
                        unsound: None,
                    });
                    ending.head = walked.head;
                    ending.covered = walked.record.covers().map_or(ending.covered, |to| to.max(ending.covered));
                    ending.sound_bytes = ending.sound_bytes.saturating_add(walked.bytes.len()).saturating_add(1);
                }
                Err(unsound) => {
                    let ending = ending.as_mut()?;
                    ending.unsound = Some(if unsound.why == Why::Torn { TORN } else { UNSOUND });
                }
            }
        }
        ending
    }
}

/// Set aside because the file ended within a line.
pub(crate) const TORN: &str = "torn";
/// Set aside because whole lines did not follow from those before.
pub(crate) const UNSOUND: &str = "damaged";

/// Up to where the log has its records in a trail that nobody has opened, at the start of a process: what is applied again
/// up to there need not be offered. Nothing is changed, and nothing believed that opening would not believe.
pub(crate) fn peek(disk: &dyn Disk, directory: &Path) -> Position {
    let Ok(names) = file_names(disk, directory) else { return Position::default() };
    let newest = names.last().and_then(|name| read(disk, &directory.join(name)).ok());
    newest.and_then(|content| Ending::of(&content)).map_or(Position::default(), |ending| ending.covered)
}

struct Begun {
    part: Part,
    current: Current,
    head: Head,
}

/// Makes a file with its first line, whole or not at all.
fn begin_file(
    disk: &dyn Disk,
    directory: &Path,
    owner: &Owner,
    after: Head,
    covered: Position,
    aside: Option<&SetAside>,
    now: UnixMillis,
) -> Result<Begun, ChainError> {
    let mut record = Record::new(now, Kind::Trail, FILE_BEGIN)
        .with("format", FORMAT)
        .with("previous", after.hash)
        .with("node", &owner.node)
        .with("cluster", &owner.cluster)
        .with("covered", covered);
    record.member = Some(owner.member).filter(|member| *member != 0);
    if let Some(SetAside { file, bytes, hash, reason }) = aside {
        record = record
            .with("set_aside_file", file)
            .with("set_aside_bytes", bytes)
            .with("set_aside_sha256", hash)
            .with("set_aside_reason", reason);
    }
    record.record = after.records.saturating_add(1);
    let (line, hash) = record.encode(after.hash)?;
    let unfinished = directory.join(UNFINISHED);
    match disk.unlink(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &unfinished)(error)),
        Ok(()) | Err(_) => {}
    }
    let file = open(disk, &unfinished, OpenMode::CreateNew)?;
    file.write_at(0, &line).map_err(failed("write to", &unfinished))?;
    file.sync_data().map_err(failed("sync", &unfinished))?;
    let path = directory.join(file_name(record.record));
    rename(disk, &unfinished, &path)?;
    sync_directory(disk, directory)?;
    let length = line.len() as u64;
    Ok(Begun {
        part: Part { first: record.record, previous: after.hash, bytes: length },
        current: Current { file, path, length, has_remains: false },
        head: Head { records: record.record, hash },
    })
}

/// The name of the file whose first record has this number: names sort as numbers do.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The number in a file's name.
pub(crate) fn first_record(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    digits.parse().ok().filter(|_| digits.len() == 20)
}

/// The names of a trail's files, the oldest first. None where there is no directory.
pub(crate) fn file_names(disk: &dyn Disk, directory: &Path) -> Result<Vec<String>, ChainError> {
    let mut names = match disk.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("list", directory)(error)),
    };
    names.retain(|name| first_record(name).is_some());
    names.sort_unstable();
    Ok(names)
}

/// A whole file.
pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, ChainError> {
    let file = open(disk, path, OpenMode::Read)?;
    let length = file.length().map_err(failed("read", path))?;
    if length > FILE_READ_LIMIT {
        let problem = format!("it has {length} bytes, and no file of a trail has more than {FILE_READ_LIMIT}");
        return Err(failed("read", path)(io::Error::new(io::ErrorKind::FileTooLarge, problem)));
    }
    read_range(file.as_ref(), 0, length).map_err(failed("read", path))
}

/// A part of a file; shorter where the file ends.
pub(crate) fn read_range(file: &dyn DiskFile, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut filled = 0_usize;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(from.saturating_add(filled as u64), rest)? {
            0 => break,
            count => filled = filled.saturating_add(count),
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// What the first line of a file says of it.
fn part(disk: &dyn Disk, directory: &Path, name: &str) -> Result<Part, ChainError> {
    let path = directory.join(name);
    let file = open(disk, &path, OpenMode::Read)?;
    let bytes = file.length().map_err(failed("read", &path))?;
    let beginning = read_range(file.as_ref(), 0, bytes.min(FIRST_LINE_LIMIT)).map_err(failed("read", &path))?;
    let first = Walk::new(&beginning).next().and_then(Result::ok);
    let previous = first.as_ref().and_then(|walked| walked.record.said("previous").and_then(RecordHash::parse));
    // What the name says is good enough for a file that somebody has damaged: it is only to be counted and removed.
    let first = first_record(name).unwrap_or_default();
    Ok(Part { first, previous: previous.unwrap_or(RecordHash::NONE), bytes })
}

/// Longest first line of a file: names and numbers of bounded length.
const FIRST_LINE_LIMIT: u64 = 4096;

fn make_directory(disk: &dyn Disk, directory: &Path) -> Result<(), ChainError> {
    match disk.create_dir(directory) {
        Ok(()) => sync_directory(disk, directory.parent().unwrap_or(directory)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make", directory)(error)),
    }
}

fn open(disk: &dyn Disk, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, ChainError> {
    disk.open(path, mode).map_err(failed("open", path))
}

fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), ChainError> {
    disk.rename(from, to).map_err(failed("rename", from))
}

fn sync_directory(disk: &dyn Disk, directory: &Path) -> Result<(), ChainError> {
    disk.sync_dir(directory).map_err(|source| ChainError::Sync { path: directory.to_owned(), source })
}

pub(crate) fn failed(deed: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ChainError {
    let path = path.to_owned();
    move |source| ChainError::Io { deed, path, source }
}
