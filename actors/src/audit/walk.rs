//! One file of a trail, walked line by line: each record is compared with the one before it.
//!
//! Shared by who opens a trail to go on with it and by who verifies one, so that both mean the same by "sound".

use std::fmt;

use super::record::{FILE_BEGIN, FORMAT, Line, RECORDS_LOST, Record, RecordHash};

/// Where a trail is: its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The number of the last record; 0 before the first.
    pub records: u64,
    /// Its hash.
    pub hash: RecordHash,
}

/// A record that follows from the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walked<'a> {
    /// Its line, from 1.
    pub(crate) line: u64,
    /// The bytes of the line, without the newline.
    pub(crate) bytes: &'a [u8],
    /// What it says.
    pub(crate) record: Record,
    /// The head once it is in the trail.
    pub(crate) head: Head,
}

/// Where a file stops being sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsound {
    /// The line, from 1.
    pub(crate) line: u64,
    /// Where in the file it begins.
    pub(crate) offset: usize,
    /// The head before it.
    pub(crate) before: Head,
    /// What is wrong with it.
    pub(crate) why: Why,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The file ends within it: what a crash leaves of a line that was being written.
    Torn,
    /// It has not the form of a record.
    NoRecord,
    /// It is the first line and does not say where the file goes on from.
    NoBeginning,
    /// It is of a later form than this program knows.
    LaterFormat(String),
    /// Its number is higher than the next one: records between are missing.
    Missing {
        /// The number that should follow.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// Its number was there already: lines stand in another order, or twice.
    OutOfOrder {
        /// The number that should follow.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// Its hash does not follow from the record before it and its own text.
    Hash {
        /// The hash that it should have.
        expected: RecordHash,
        /// The hash that stands there.
        found: RecordHash,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn => f.write_str("the file ends within this line"),
            Self::NoRecord => f.write_str("this is no record"),
            Self::NoBeginning => f.write_str("the file does not say what it goes on from"),
            Self::LaterFormat(format) => {
                write!(f, "the file is of form {format}, and this program knows {FORMAT}: use a newer one")
            }
            Self::Missing { expected, found } => {
                let last = found.saturating_sub(1);
                match last.cmp(expected) {
                    std::cmp::Ordering::Greater => write!(f, "records {expected} to {last} are missing before it"),
                    std::cmp::Ordering::Equal | std::cmp::Ordering::Less => {
                        write!(f, "record {expected} is missing before it")
                    }
                }
            }
            Self::OutOfOrder { expected, found } => {
                write!(f, "record {found} stands where {expected} should: lines are out of order")
            }
            Self::Hash { expected, found } => {
                write!(f, "its hash should be {expected} and is {found}: it was changed, or the one before it")
            }
        }
    }
}

/// Walks through a file.
pub(crate) struct Walk<'a> {
    content: &'a [u8],
    offset: usize,
    line: u64,
    head: Option<Head>,
    over: bool,
}

impl<'a> Walk<'a> {
    /// Begins with the first line. What it goes on from, it says itself; whoever knows better compares.
    pub(crate) fn new(content: &'a [u8]) -> Self {
        Self { content, offset: 0, line: 0, head: None, over: false }
    }

    fn step(&mut self) -> Option<Result<Walked<'a>, Unsound>> {
        let rest = self.content.get(self.offset..).filter(|rest| !rest.is_empty())?;
        self.line = self.line.saturating_add(1);
        let before = self.head.unwrap_or_default();
        let unsound = |why| Unsound { line: self.line, offset: self.offset, before, why };
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
            return Some(Err(unsound(Why::Torn)));
        };
        let bytes = rest.get(..length)?;
        let found = Line::parse(bytes).and_then(|line| Some((line, line.record()?)));
        let Some((line, record)) = found else { return Some(Err(unsound(Why::NoRecord))) };
        let (previous, follows) = match self.head {
            Some(head) => (head.hash, head.records.saturating_add(1)),
            None => match beginning(&record) {
                Ok(previous) => (previous, record.record),
                Err(why) => return Some(Err(unsound(why))),
            },
        };
        let hash = line.hash_after(previous);
        let jumps = record.what == RECORDS_LOST && record.record > follows;
        let why = if record.record > follows && !jumps {
            Some(Why::Missing { expected: follows, found: record.record })
        } else if record.record < follows {
            Some(Why::OutOfOrder { expected: follows, found: record.record })
        } else if hash != line.hash {
            Some(Why::Hash { expected: hash, found: line.hash })
        } else {
            None
        };
        if let Some(why) = why {
            return Some(Err(unsound(why)));
        }
        let head = Head { records: record.record, hash };
        self.head = Some(head);
        self.offset = self.offset.saturating_add(length).saturating_add(1);
        Some(Ok(Walked { line: self.line, bytes, record, head }))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Walked<'a>, Unsound>;

    /// Ends at the file's end, and after what is unsound.
    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let step = self.step();
        self.over = !matches!(step, Some(Ok(_)));
        step
    }
}

/// What a file says that it goes on from.
fn beginning(record: &Record) -> Result<RecordHash, Why> {
    if record.what != FILE_BEGIN {
        return Err(Why::NoBeginning);
    }
    match record.said("format") {
        Some(FORMAT) => {}
        Some(other) => return Err(Why::LaterFormat(other.to_owned())),
        None => return Err(Why::NoBeginning),
    }
    record.said("previous").and_then(RecordHash::parse).ok_or(Why::NoBeginning)
}
