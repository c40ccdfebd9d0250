//! Opening a log: what of it is true, what is a torn tail, and what is damage (WAL-10 to WAL-15).
//!
//! First everything is read and judged, and nothing is written: a refusal leaves the disk as it was.
//! Only then torn ends are cut off and what is not known to be synced is made so.

use super::error::{Action, IoFailure, OpenError};
use super::frame::{BadFrame, read_frame, scan_headers};
use super::index::LogIndex;
use super::limits::MAX_SEGMENT_BYTES;
use super::mark::{MARK_NAME, Mark, MarkState, Position};
use super::replay::{Replay, damaged};
use super::segment;
use super::writer::{ClosedSegment, Writer, WriterParts};
use crate::disk::{Disk, OpenMode, read_file};
use crate::log_id::{LogId, Vote, WalIdentity};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a log held when it was opened. Entries are read through
/// [`Wal::read`](super::Wal::read), because they need not fit into memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote that was saved.
    pub vote: Option<Vote>,
    /// The last commit index that was saved; a hint, older than the truth after a crash.
    pub committed: Option<LogId>,
    /// The newest entry that was purged.
    pub purged: Option<LogId>,
    /// The newest entry, or what was purged when there is none.
    pub last: Option<LogId>,
    /// Indexes of the entries that are there.
    pub entries: Range<u64>,
    /// Bytes of a torn tail that were cut off (WAL-12).
    pub torn_bytes: u64,
    /// Bytes that were intact but not known to be synced, and are now (WAL-15).
    pub secured_bytes: u64,
}

/// What was found, before anything is changed.
struct Findings {
    /// Numbers that follow each other without a gap; the last is the one to write on.
    segments: Vec<u64>,
    closed: VecDeque<ClosedSegment>,
    /// Content of the last segment.
    content: Vec<u8>,
    /// Where its valid frames end.
    end: u64,
    /// How far it is known to be synced.
    evidence: u64,
    next_sequence: u64,
    chain: u32,
    mark: MarkState,
    /// A segment that was being made when power was lost.
    torn_segment: Option<u64>,
    /// Segments before a gap: purged, but the removal of one was lost.
    leftovers: Vec<u64>,
    /// Copies that were never finished.
    copies: Vec<String>,
}

pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    identity: WalIdentity,
    segment_bytes: u64,
    index: LogIndex,
) -> Result<(Writer, Recovered), OpenError> {
    let mut index = index;
    let (findings, state) = examine(disk.as_ref(), directory, identity, &mut index)?;
    let torn_bytes = (findings.content.len() as u64).saturating_sub(findings.end);
    let secured_bytes = findings.end.saturating_sub(findings.evidence);
    let recovered = Recovered {
        vote: state.vote,
        committed: state.committed,
        purged: state.purged,
        last: state.last,
        entries: index.range(),
        torn_bytes,
        secured_bytes,
    };
    index.state = state;
    let mark = repair(disk.as_ref(), directory, &findings)?;
    let number = findings.segments.last().copied().unwrap_or_default();
    for closed in findings.segments.iter().rev().skip(1) {
        let path = segment::path(directory, *closed);
        let file = disk.open(&path, OpenMode::Read).map_err(|source| IoFailure::new(Action::Open, &path, source))?;
        index.add_file(*closed, file);
    }
    let path = segment::path(directory, number);
    let file = disk.open(&path, OpenMode::ReadWrite).map_err(|source| IoFailure::new(Action::Open, &path, source))?;
    index.add_file(number, Arc::clone(&file));
    let active_max_index = findings.closed.back().and_then(|segment| segment.max_index);
    let mut closed = findings.closed;
    closed.pop_back();
    let mut writer = Writer::new(WriterParts {
        disk: Arc::clone(disk),
        directory: directory.to_path_buf(),
        identity,
        segment_bytes,
        index: Arc::new(Mutex::new(index)),
        state,
        file,
        segment: number,
        length: findings.end,
        max_index: active_max_index,
        closed,
        next_sequence: findings.next_sequence,
        chain: findings.chain,
        mark,
    });
    writer.remove_purged_segments()?;
    Ok((writer, recovered))
}

/// Reads and judges; changes nothing.
fn examine(
    disk: &dyn Disk,
    directory: &Path,
    identity: WalIdentity,
    index: &mut LogIndex,
) -> Result<(Findings, super::checkpoint::LogState), OpenError> {
    let names = match disk.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Empty { directory: directory.to_path_buf() });
        }
        result => result.map_err(|source| IoFailure::new(Action::List, directory, source))?,
    };
    let copies = names.iter().filter(|name| segment::is_copy(name)).cloned().collect();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let mark_file = directory.join(MARK_NAME);
    let has_mark = names.iter().any(|name| name == MARK_NAME);
    let Some(newest) = numbers.last().copied() else {
        if has_mark {
            return Err(damaged(&mark_file, 0, "all segments are missing"));
        }
        return Err(OpenError::Empty { directory: directory.to_path_buf() });
    };
    let Some(mark) = Mark::read(disk, directory)? else {
        return Err(damaged(&mark_file, 0, "there is no valid mark beside a log"));
    };
    if mark.invalid_slots > 0 {
        tracing::warn!(file = %mark_file.display(), "one half of the mark is damaged, the other is used");
    }
    let run = newest_run(&numbers);
    let leftovers: Vec<u64> = numbers.iter().copied().filter(|n| !run.contains(n)).collect();
    if !run.contains(&mark.position.segment) {
        let missing = segment::path(directory, mark.position.segment);
        return Err(damaged(&missing, mark.position.offset, "the segment is missing"));
    }
    let mut replay = Replay::new(identity);
    let mut segments: Vec<u64> = run.collect();
    let mut torn_segment = None;
    let mut last_content = read_segment(disk, &segment::path(directory, newest))?;
    if is_torn_start(directory, newest, &last_content, mark, segments.len())? {
        torn_segment = segments.pop();
        let number = segments.last().copied().unwrap_or_default();
        last_content = read_segment(disk, &segment::path(directory, number))?;
    }
    let mut closed = VecDeque::new();
    let mut end = 0;
    let mut evidence = 0;
    let count = segments.len();
    for (position, number) in (1..).zip(segments.iter().copied()) {
        let path = segment::path(directory, number);
        let is_last = position == count;
        let older = if is_last { Vec::new() } else { read_segment(disk, &path)? };
        let content = if is_last { &last_content } else { &older };
        let read = replay.segment(&path, number, content, index)?;
        end = read.end;
        evidence = read.evidence;
        if mark.position.segment == number {
            evidence = evidence.max(mark.position.offset);
        }
        let is_complete = read.bad.is_none() && end >= evidence && end > 0;
        if !is_complete && (!is_last || end < evidence || end == 0) {
            let problem = read.bad.unwrap_or_else(|| "it is shorter than what was synced".to_owned());
            return Err(damaged(&path, end, &problem));
        }
        closed.push_back(ClosedSegment { number, max_index: read.max_index });
    }
    check_no_holes(directory, &replay, index, &leftovers, &segments)?;
    let (next_sequence, chain) = replay.next_frame();
    let findings = Findings {
        segments,
        closed,
        content: last_content,
        end,
        evidence,
        next_sequence,
        chain,
        mark,
        torn_segment,
        leftovers,
        copies,
    };
    Ok((findings, replay.state))
}

/// The numbers up to the newest that follow each other without a gap.
fn newest_run(numbers: &[u64]) -> Range<u64> {
    let Some(newest) = numbers.last().copied() else { return 0..0 };
    let mut first = newest;
    for number in numbers.iter().rev().skip(1) {
        if *number + 1 != first {
            break;
        }
        first = *number;
    }
    first..newest + 1
}

fn read_segment(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, OpenError> {
    let fail = |source| IoFailure::new(Action::Read, path, source);
    let file = disk.open(path, OpenMode::Read).map_err(fail)?;
    let length = file.length().map_err(fail)?;
    if length > MAX_SEGMENT_BYTES {
        return Err(damaged(path, MAX_SEGMENT_BYTES, "it is longer than any segment may be"));
    }
    Ok(read_file(file.as_ref(), MAX_SEGMENT_BYTES).map_err(fail)?)
}

/// Whether the newest segment was being made when power was lost, so that it never came to hold
/// anything: its frame 0 is not valid, and nothing says that it was synced. Everything in it then came
/// after everything before it, and the segment before is the last.
fn is_torn_start(
    directory: &Path,
    number: u64,
    content: &[u8],
    mark: MarkState,
    segments: usize,
) -> Result<bool, OpenError> {
    let path = segment::path(directory, number);
    let problem = match read_frame(content, number, 0) {
        Ok(_) => return Ok(false),
        Err(BadFrame::Version(source)) => return Err(OpenError::Version { file: path, source }),
        Err(problem) => problem,
    };
    let says_synced = scan_headers(content, number, 0).any(|header| header.synced_upto > 0);
    if mark.position.segment == number || says_synced || segments == 1 {
        return Err(damaged(&path, 0, &problem.to_string()));
    }
    Ok(true)
}

/// WAL-14: the first entry follows what is purged, the last is what the state says.
fn check_no_holes(
    directory: &Path,
    replay: &Replay,
    index: &LogIndex,
    leftovers: &[u64],
    segments: &[u64],
) -> Result<(), OpenError> {
    let state = &replay.state;
    let first = state.purged.map_or(0, |purged| purged.index + 1);
    if index.range() == (first..state.next_index()) {
        return Ok(());
    }
    let oldest = segments.first().copied().unwrap_or_default();
    let missing = oldest.saturating_sub(1).max(1);
    let problem = if leftovers.is_empty() && oldest == 1 {
        format!("entries {:?} are there, {:?} should be", index.range(), first..state.next_index())
    } else {
        format!("the segment is missing: entries {first} to {} are not all there", state.next_index())
    };
    Err(damaged(&segment::path(directory, missing), 0, &problem))
}

/// Makes the disk say what was found, and all of it durable.
fn repair(disk: &dyn Disk, directory: &Path, findings: &Findings) -> Result<Mark, OpenError> {
    let sync_directory = || disk.sync_dir(directory).map_err(|source| IoFailure::new(Action::Sync, directory, source));
    for name in &findings.copies {
        remove(disk, &directory.join(name))?;
    }
    if let Some(number) = findings.torn_segment {
        tracing::info!(segment = number, "a segment that power loss left unfinished is removed");
        remove(disk, &segment::path(directory, number))?;
        sync_directory()?;
    }
    let number = findings.segments.last().copied().unwrap_or_default();
    let path = segment::path(directory, number);
    if findings.end > findings.evidence {
        secure(disk, directory, number, findings)?;
        sync_directory()?;
    } else if findings.content.len() as u64 > findings.end {
        let fail = |action, source| IoFailure::new(action, &path, source).at(findings.end);
        let file = disk.open(&path, OpenMode::ReadWrite).map_err(|e| fail(Action::Open, e))?;
        file.truncate(findings.end).map_err(|e| fail(Action::Truncate, e))?;
        file.sync_data().map_err(|e| fail(Action::Sync, e))?;
    }
    let mut mark = Mark::open(disk, directory, findings.mark)?;
    mark.settle(Position { segment: number, offset: findings.end })?;
    for number in &findings.leftovers {
        tracing::warn!(
            segment = number,
            "a segment before a gap is removed: all that is not purged stands behind the gap"
        );
        remove(disk, &segment::path(directory, *number))?;
    }
    if !findings.leftovers.is_empty() {
        sync_directory()?;
    }
    Ok(mark)
}

/// WAL-15: the frames beyond the evidence may have been acknowledged, and may yet be nowhere but in the page cache,
/// marked clean by a sync that failed. The segment is written anew, synced, and renamed over the old one, which keeps
/// its bytes until that instant.
///
/// A full disk has no room for that (WAL-17). There the frames are written once more where they stand, which makes
/// their pages dirty again, so that the sync is a real one. A power cut in the midst of it finds each sector as it was
/// or as it is to be, and these are the same. It comes second, because it does not get away from a bad sector.
fn secure(disk: &dyn Disk, directory: &Path, number: u64, findings: &Findings) -> Result<(), IoFailure> {
    let end = usize::try_from(findings.end).unwrap_or(usize::MAX);
    let content = findings.content.get(..end).unwrap_or(&findings.content);
    match copy_anew(disk, directory, number, content) {
        Err(failure) if is_full(&failure.source) => {
            remove(disk, &segment::copy_path(directory, number))?;
            rewrite_in_place(disk, &segment::path(directory, number), findings.evidence, content)
        }
        result => result,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn copy_anew(disk: &dyn Disk, directory: &Path, number: u64, content: &[u8]) -> Result<(), IoFailure> {
    let copy = segment::copy_path(directory, number);
    let fail = |action, source| IoFailure::new(action, &copy, source);
    let file = disk.open(&copy, OpenMode::CreateNew).map_err(|e| fail(Action::Create, e))?;
    file.write_at(0, content).map_err(|e| fail(Action::Write, e))?;
    file.sync_data().map_err(|e| fail(Action::Sync, e))?;
    disk.rename(&copy, &segment::path(directory, number)).map_err(|e| fail(Action::Rename, e))
}

fn rewrite_in_place(disk: &dyn Disk, path: &Path, from: u64, content: &[u8]) -> Result<(), IoFailure> {
    let fail = |action, source| IoFailure::new(action, path, source).at(from);
    let tail = content.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
    let file = disk.open(path, OpenMode::ReadWrite).map_err(|e| fail(Action::Open, e))?;
    // Also what is torn behind them goes.
    file.truncate(content.len() as u64).map_err(|e| fail(Action::Truncate, e))?;
    file.write_at(from, tail).map_err(|e| fail(Action::Write, e))?;
    file.sync_data().map_err(|e| fail(Action::Sync, e))
}

/// Removes a file; one that is already gone is no failure.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), IoFailure> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IoFailure::new(Action::Remove, path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
