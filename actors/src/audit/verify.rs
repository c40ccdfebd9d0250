//! Whether a trail is what it was: intact, cut off, or altered. Works on files alone, and with anchors.
//!
//! ```text
//!   files ──► walked from the oldest on ──► a record that does not follow from the one before ──────────► altered
//!                                     └──► ends ──┐
//!   anchors (replicated state), head (node) ──────┴─► a hash that differs at an anchored record ────────► altered
//!                                                 └─► fewer records than were anchored ─────────────────► cut off
//! ```
//!
//! Whoever can write the files can compute all hashes anew, so the chain alone shows accidents and clumsiness; anchors, of
//! which the other members hold copies that nobody can change alone, show the rest. What was added after the last anchor,
//! and cut off or changed since with all hashes made right, shows in nothing but the head that a running node remembers.

use std::path::Path;

use quorate_raft_consensus::disk::Disk;

use super::{
    chain::{ChainError, TORN, file_names, first_record, read},
    record::{FILES_REMOVED, GAP, RECORDS_LOST, Record, RecordHash},
    walk::{Head, Unsound, Walk, Why},
};

/// A head that is known from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// How people call it.
    pub name: String,
    /// The number of the record, and its hash.
    pub head: Head,
}

/// What a trail is. Ordered by how bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every record follows from the one before, and every anchor that reaches into it is met.
    Intact,
    /// What is there is sound, and its end is missing.
    CutOff,
    /// Something was changed, taken out or moved.
    Altered,
}

impl Verdict {
    /// What people and programs call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::CutOff => "cut off",
            Self::Altered => "altered",
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it makes of the trail.
    pub verdict: Verdict,
    /// In which file.
    pub file: Option<String>,
    /// On which line, from 1.
    pub line: Option<u64>,
    /// The record that stands there or should.
    pub record: u64,
    /// What it is.
    pub flaw: Flaw,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// A line does not follow from those before it.
    Line(Why),
    /// A file does not go on from the end of the one before it.
    NotOn {
        /// The head before it.
        expected: Head,
        /// What it says that it goes on from.
        found: Head,
    },
    /// The trail does not begin with its first record, and no record says that the oldest files were removed.
    NoStart,
    /// At an anchored record there is another hash.
    Anchor {
        /// Which anchor.
        name: String,
        /// The anchored hash.
        expected: RecordHash,
        /// The hash that is there.
        found: RecordHash,
    },
    /// The trail begins behind everything that is known of it from elsewhere, so nothing says that it is the one that was
    /// written: whoever makes a trail anew can give it any numbers, and a record about files that were removed.
    Untied {
        /// The newest head that is known.
        name: String,
        /// Its record.
        records: u64,
    },
    /// A file says that it is another member's than the one before it.
    OtherMember {
        /// Whose the file before was.
        expected: u64,
        /// Whose this one is.
        found: u64,
    },
    /// There are fewer records than were anchored.
    Short {
        /// Which anchor.
        name: String,
        /// How many records it tells of.
        records: u64,
        /// The newest anchor that is met, if there is one.
        met: Option<String>,
    },
    /// The node found so itself, and went on behind what was anchored.
    Lost {
        /// The first record that is gone.
        from: u64,
        /// The last one.
        to: u64,
    },
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(why) => why.fmt(f),
            Self::NotOn { expected, found } if found.records > expected.records => {
                write!(f, "records {} to {} are missing before it", expected.records.saturating_add(1), found.records)
            }
            Self::NotOn { expected, found } => write!(
                f,
                "it goes on from record {} with hash {}, and the file before it ends with record {} with hash {}",
                found.records, found.hash, expected.records, expected.hash
            ),
            Self::NoStart => f.write_str(
                "the trail begins in the middle, and no record says that older files were removed to stay within what is kept",
            ),
            Self::Anchor { name, expected, found } => {
                write!(f, "{name} has hash {expected}, and the record has {found}: it, or one before it, was changed")
            }
            Self::Untied { name, records } => write!(
                f,
                "{name} tells of record {records}, and the trail begins behind it: nothing that is known says that it is the \
                 one that was written"
            ),
            Self::OtherMember { expected, found } => {
                write!(f, "the file is of member {found}, and the one before it of member {expected}")
            }
            Self::Short { name, records, met } => {
                write!(f, "{name} tells of {records} records, and no more are there")?;
                match met {
                    Some(met) => write!(f, "; up to {met} they are as they were"),
                    None => Ok(()),
                }
            }
            Self::Lost { from, to } => write!(
                f,
                "records {from} to {to} were gone when the node looked; it said so here, and went on behind them"
            ),
        }
    }
}

/// What should be known, and is no flaw of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Log entries have no records here.
    Gap {
        /// The first log index.
        from: u64,
        /// The last one.
        to: u64,
        /// Why.
        reason: String,
    },
    /// A crash left an incomplete line, which counts for nothing.
    SetAside {
        /// In which file.
        file: String,
        /// How many bytes.
        bytes: u64,
    },
    /// The last file ends within a line: a crash left it, or the node is writing it now. At its next start the node sets it
    /// aside.
    Torn {
        /// In which file.
        file: String,
        /// How many bytes.
        bytes: u64,
    },
    /// The oldest files were removed to stay within what is kept.
    Removed {
        /// The last record in them.
        to: u64,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gap { from, to, reason } => write!(f, "log entries {from} to {to} have no records: {reason}"),
            Self::SetAside { file, bytes } => {
                write!(
                    f,
                    "{file} ends with {bytes} bytes of an incomplete line, which the node set aside after a crash"
                )
            }
            Self::Torn { file, bytes } => write!(
                f,
                "{file} ends with {bytes} bytes of an incomplete line: a crash left it, or it is being written"
            ),
            Self::Removed { to } => write!(f, "records 1 to {to} were removed to stay within what is kept"),
        }
    }
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// The number of the first record that is there; 0 where there is none.
    pub first: u64,
    /// The last sound record.
    pub head: Head,
    /// How many files there are.
    pub files: usize,
    /// What is wrong, in the order of the trail; what is wrong with anchors comes last.
    pub findings: Vec<Finding>,
    /// What else there is to know.
    pub notes: Vec<Note>,
    /// The anchors that are met.
    pub met: Vec<Anchor>,
    /// The anchors of records that were removed meanwhile.
    pub before: Vec<Anchor>,
    /// Whose trail it is, as the oldest file says.
    pub member: Option<u64>,
}

/// Looks through the trail in a directory. Blocks. Everything is read; at most one file at a time is in memory.
///
/// # Errors
/// When a file cannot be read.
pub fn verify(disk: &dyn Disk, directory: &Path, anchors: &[Anchor]) -> Result<Verification, ChainError> {
    let names = file_names(disk, directory)?;
    let mut run = Run { anchors, hashes: vec![None; anchors.len()], ..Run::default() };
    for name in &names {
        let content = read(disk, &directory.join(name))?;
        run.file(name, &content);
    }
    Ok(run.end(names.len()))
}

#[derive(Default)]
struct Run<'a> {
    anchors: &'a [Anchor],
    /// The hash at each anchor's record.
    hashes: Vec<Option<RecordHash>>,
    first: Option<Head>,
    head: Head,
    findings: Vec<Finding>,
    notes: Vec<Note>,
    /// What records about removed files say: the last record in them and its hash.
    removed: Vec<Head>,
    /// The end of the file before, if it was not sound.
    loose: Option<Loose>,
    member: Option<u64>,
}

/// An end that does not follow from what is before.
struct Loose {
    file: String,
    unsound: Unsound,
    bytes: u64,
    hash: RecordHash,
}

impl Run<'_> {
    fn file(&mut self, name: &str, content: &[u8]) {
        let mut is_first_line = true;
        for step in Walk::new(content) {
            match step {
                Ok(walked) => {
                    if std::mem::take(&mut is_first_line) {
                        self.begins(name, &walked.record);
                    }
                    self.says(name, walked.line, &walked.record);
                    self.head = walked.head;
                    for (anchor, hash) in self.anchors.iter().zip(&mut self.hashes) {
                        if anchor.head.records == walked.head.records {
                            *hash = Some(walked.head.hash);
                        }
                    }
                }
                Err(unsound) => {
                    self.settle_loose(None);
                    let rest = content.get(unsound.offset..).unwrap_or_default();
                    let (bytes, hash) = (rest.len() as u64, RecordHash::of_bytes(rest));
                    if is_first_line {
                        self.head.records =
                            self.head.records.max(first_record(name).unwrap_or_default().saturating_sub(1));
                    }
                    self.loose = Some(Loose { file: name.to_owned(), unsound, bytes, hash });
                }
            }
        }
    }

    /// A file begins: it must go on from the end of the one before.
    fn begins(&mut self, name: &str, record: &Record) {
        self.settle_loose(Some(record));
        if let (Some(expected), Some(found)) = (self.member, record.member)
            && expected != found
        {
            self.find(Verdict::Altered, Some(name), Some(1), record.record, Flaw::OtherMember { expected, found });
        }
        // The oldest file decides: a file that somebody adds does not choose the anchors.
        self.member = self.member.or(record.member);
        let previous = record.said("previous").and_then(RecordHash::parse).unwrap_or_default();
        let from = Head { records: record.record.saturating_sub(1), hash: previous };
        if self.first.is_none() {
            self.first = Some(from);
        } else if from != self.head {
            let flaw = Flaw::NotOn { expected: self.head, found: from };
            self.find(Verdict::Altered, Some(name), Some(1), record.record, flaw);
        }
        if first_record(name) != Some(record.record) {
            let expected = first_record(name).unwrap_or_default();
            let why = Why::OutOfOrder { expected, found: record.record };
            self.find(Verdict::Altered, Some(name), Some(1), record.record, Flaw::Line(why));
        }
    }

    /// Judges the loose end of the file before, now that it is known what comes after it.
    fn settle_loose(&mut self, next: Option<&Record>) {
        let Some(Loose { file, unsound, bytes, hash }) = self.loose.take() else { return };
        let is_declared = next.is_some_and(|next| {
            next.said("set_aside_file") == Some(&file)
                && next.said("set_aside_bytes").and_then(|said| said.parse().ok()) == Some(bytes)
                && next.said("set_aside_sha256").and_then(RecordHash::parse) == Some(hash)
                && next.said("set_aside_reason") == Some(TORN)
        });
        if unsound.why == Why::Torn && is_declared {
            self.notes.push(Note::SetAside { file, bytes });
            return;
        }
        let record = match &unsound.why {
            Why::Missing { found, .. } | Why::OutOfOrder { found, .. } => *found,
            Why::Torn | Why::NoRecord | Why::NoBeginning | Why::LaterFormat(_) | Why::Hash { .. } => {
                self.head.records.saturating_add(1)
            }
        };
        self.find(Verdict::Altered, Some(&file), Some(unsound.line), record, Flaw::Line(unsound.why));
    }

    fn says(&mut self, name: &str, line: u64, record: &Record) {
        let number = |detail| record.said(detail).and_then(|text| text.parse().ok()).unwrap_or_default();
        match record.what.as_ref() {
            GAP => {
                let reason = record.said("reason").unwrap_or_default().to_owned();
                self.notes.push(Note::Gap { from: number("from"), to: number("to"), reason });
            }
            RECORDS_LOST => {
                let flaw = Flaw::Lost { from: number("from"), to: number("to") };
                self.find(Verdict::CutOff, Some(name), Some(line), record.record, flaw);
            }
            FILES_REMOVED => {
                let hash = record.said("last_hash").and_then(RecordHash::parse).unwrap_or_default();
                self.removed.push(Head { records: number("last_record"), hash });
            }
            _ => {}
        }
    }

    fn find(&mut self, verdict: Verdict, file: Option<&str>, line: Option<u64>, record: u64, flaw: Flaw) {
        self.findings.push(Finding { verdict, file: file.map(str::to_owned), line, record, flaw });
    }

    fn end(mut self, files: usize) -> Verification {
        if let Some(Loose { file, unsound: Unsound { why: Why::Torn, line, .. }, bytes, .. }) = &self.loose
            && *line > 1
        {
            self.notes.push(Note::Torn { file: file.clone(), bytes: *bytes });
            self.loose = None;
        }
        self.settle_loose(None);
        let first = self.first.unwrap_or_default();
        if first.records > 0 {
            if self.removed.contains(&first) {
                self.notes.push(Note::Removed { to: first.records });
            } else {
                self.find(Verdict::Altered, None, None, first.records.saturating_add(1), Flaw::NoStart);
            }
        }
        let (mut met, mut before) = (Vec::new(), Vec::new());
        let hashes = std::mem::take(&mut self.hashes);
        let mut known: Vec<(&Anchor, Option<RecordHash>)> = self.anchors.iter().zip(hashes).collect();
        known.sort_by_key(|(anchor, _)| anchor.head.records);
        let newest = known.last().map(|(anchor, _)| *anchor);
        for (anchor, hash) in known {
            let Anchor { name, head } = anchor;
            // The first file says what it goes on from, which is as good as the record itself.
            let hash = hash.or_else(|| (head.records == first.records).then_some(first.hash));
            match hash {
                Some(found) if found == head.hash => met.push(anchor.clone()),
                Some(found) => {
                    let flaw = Flaw::Anchor { name: name.clone(), expected: head.hash, found };
                    self.find(Verdict::Altered, None, None, head.records, flaw);
                }
                None if head.records <= first.records => before.push(anchor.clone()),
                None if head.records > self.head.records => {
                    let met = met.last().map(|met| met.name.clone());
                    let flaw = Flaw::Short { name: name.clone(), records: head.records, met };
                    self.find(Verdict::CutOff, None, None, self.head.records, flaw);
                }
                // Within what is not sound, or was lost and is told of already.
                None => {}
            }
        }
        // A node anchors each file that is full at once, so only a trail that went on without a leader for all that it keeps
        // begins behind its newest anchor; and never behind the head that its node remembers.
        if let Some(Anchor { name, head }) = newest
            && head.records < first.records
        {
            let flaw = Flaw::Untied { name: name.clone(), records: head.records };
            self.find(Verdict::Altered, None, None, first.records.saturating_add(1), flaw);
        }
        let verdict = self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Intact);
        Verification {
            verdict,
            first: if files == 0 { 0 } else { first.records.saturating_add(1) },
            head: self.head,
            files,
            findings: self.findings,
            notes: self.notes,
            met,
            before,
            member: self.member,
        }
    }
}
