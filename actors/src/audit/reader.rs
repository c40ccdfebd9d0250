//! Reading a trail from its files, forwards, a piece at a time: to show it, and to follow it.
//!
//! Nothing is verified here: that is what [`verify`](super::verify) is for. A line that is no record is passed over.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::disk::{Disk, OpenMode};

use super::{
    chain::{ChainError, failed, file_name, file_names, first_record, read_range},
    record::{Line, Record, timestamp},
};

/// How much is read at once: some hundreds of records.
const PIECE_BYTES: u64 = 256 * 1024;

/// The longest line that is read: far above what a record of ours has. What is longer is passed over.
const LINE_BYTES_LIMIT: u64 = 8 << 20;

/// Which records are wanted. What is not given asks for nothing in particular.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// At or after this time.
    pub since: Option<UnixMillis>,
    /// Whoever acted, as the record names them, contains this.
    pub who: Option<String>,
    /// The act has this name, or one that begins with this and a dot.
    pub what: Option<String>,
    /// It names this SPIFFE ID.
    pub spiffe_id: Option<String>,
}

impl Filter {
    /// Whether a record is wanted.
    #[must_use]
    pub fn wants(&self, record: &Record) -> bool {
        let Self { since, who, what, spiffe_id } = self;
        let begins = |what: &str| {
            let rest = record.what.strip_prefix(what);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || what.ends_with('.'))
        };
        // Times of records are all of one length, so that their texts are ordered as they are.
        since.is_none_or(|since| record.time >= timestamp(since))
            && who.as_ref().is_none_or(|who| record.who.as_ref().is_some_and(|of| of.contains(who.as_str())))
            && what.as_ref().is_none_or(|what| begins(what))
            && spiffe_id.as_ref().is_none_or(|id| record.spiffe_id.as_ref() == Some(id))
    }
}

/// A record as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The line, without its newline.
    pub line: String,
    /// What it says.
    pub record: Record,
}

/// Where in the trail a reading is.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// The number of the record that is wanted next.
    next: u64,
    /// The file, by its first record, and how far it was read.
    place: Option<(u64, u64)>,
}

impl Reader {
    /// Begins with the record of this number, or with the first that is kept.
    pub fn new(disk: Arc<dyn Disk>, directory: impl AsRef<Path>, from: u64) -> Self {
        Self { disk, directory: directory.as_ref().to_owned(), next: from.max(1), place: None }
    }

    /// The next records, up to the one of the number `last`; none when there are no more of them. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn read(&mut self, last: u64) -> Result<Vec<Shown>, ChainError> {
        while self.next <= last {
            let Some((first, offset)) = self.place()? else { break };
            let path = self.directory.join(file_name(first));
            let file = match self.disk.open(&path, OpenMode::Read) {
                Ok(file) => file,
                // The oldest file was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let Some(next) = self.after(first)? else { break };
                    self.place = Some((next, 0));
                    continue;
                }
                Err(error) => return Err(failed("open", &path)(error)),
            };
            let mut length = PIECE_BYTES;
            let (records, taken) = loop {
                let piece = read_range(file.as_ref(), offset, length).map_err(failed("read", &path))?;
                let (records, taken) = self.take(&piece, last);
                let is_whole = (piece.len() as u64) < length;
                if taken > 0 || is_whole || length > LINE_BYTES_LIMIT {
                    break (records, taken);
                }
                length = length.saturating_mul(2);
            };
            if taken == 0 {
                // The end of what is there, unless another file goes on.
                let Some(next) = self.after(first)? else { break };
                self.place = Some((next, 0));
                continue;
            }
            self.place = Some((first, offset.saturating_add(taken as u64)));
            if !records.is_empty() {
                return Ok(records);
            }
        }
        Ok(Vec::new())
    }

    /// Takes whole lines; says how many bytes those were.
    fn take(&mut self, piece: &[u8], last: u64) -> (Vec<Shown>, usize) {
        let (mut records, mut taken) = (Vec::new(), 0_usize);
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            let Some(bytes) = line.strip_suffix(b"\n") else { break };
            let parsed = Line::parse(bytes).and_then(|line| line.record());
            if let Some(record) = parsed {
                if record.record > last {
                    break;
                }
                if record.record >= self.next {
                    self.next = record.record.saturating_add(1);
                    let line = String::from_utf8_lossy(bytes).into_owned();
                    records.push(Shown { line, record });
                }
            }
            taken = taken.saturating_add(line.len());
        }
        (records, taken)
    }

    fn place(&mut self) -> Result<Option<(u64, u64)>, ChainError> {
        if self.place.is_none() {
            let firsts = self.firsts()?;
            let holds = firsts.iter().rev().find(|first| **first <= self.next).or_else(|| firsts.first());
            self.place = holds.map(|first| (*first, 0));
        }
        Ok(self.place)
    }

    fn after(&self, first: u64) -> Result<Option<u64>, ChainError> {
        Ok(self.firsts()?.into_iter().find(|other| *other > first))
    }

    fn firsts(&self) -> Result<Vec<u64>, ChainError> {
        let names = file_names(self.disk.as_ref(), &self.directory)?;
        Ok(names.iter().filter_map(|name| first_record(name)).collect())
    }
}
