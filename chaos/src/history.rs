//! What clients asked and were told, as JSON lines: for our own checker, and for any other.
//!
//! ```text
//!   {"process":3,"type":"invoke","op":"create","key":"k4","value":17,"time_ns":81000000}
//!   {"process":3,"type":"ok","op":"create","key":"k4","value":17,"time_ns":94000000}
//! ```
//!
//! A process has one operation under way at a time. Its end is `ok`, `fail` (it was not done and never will be) or `info`
//! (nobody knows: an invocation without any end counts as that too). A key holds nothing or one mark, a number.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::{Deserialize, Serialize};

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Who. A process whose operation ended as `info` goes on under another number.
    pub(crate) process: u64,
    /// Whether it begins or how it ends.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// What is done.
    pub(crate) op: Op,
    /// To what.
    pub(crate) key: String,
    /// The mark that is written, or was read. Nothing for a delete, and for a read that found nothing.
    pub(crate) value: Option<i64>,
    /// The answer was a refusal that tells of the state: there is such an entry already, or there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) refused: bool,
    /// When, in nanoseconds since the run began.
    pub(crate) time_ns: u64,
}

/// Whether a line begins an operation or ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It is asked for.
    Invoke,
    /// It was answered.
    Ok,
    /// It was not done and will not be.
    Fail,
    /// Whether it was done, or will be yet, is not known.
    Info,
}

/// What is done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Puts a mark where there is none; refused where there is one.
    Create,
    /// Puts another mark where there is one; refused where there is none.
    Update,
    /// Takes the mark away; refused where there is none.
    Delete,
    /// Looks.
    Read,
}

/// The lines of a run, in the order of their times.
#[derive(Debug, Default)]
pub(crate) struct History {
    lines: Vec<Line>,
}

impl History {
    /// Adds a line. Its time is not before that of the line before.
    pub(crate) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// All lines so far.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Writes them, one JSON object a line.
    ///
    /// # Errors
    /// As the writer says.
    pub(crate) fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        for line in &self.lines {
            serde_json::to_writer(&mut out, line)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// The operations on each key, in the order in which they began. Those that failed are left out, and so are reads
    /// that nobody answered: neither says anything.
    pub(crate) fn by_key(&self) -> BTreeMap<&str, Vec<Operation>> {
        let mut keys: BTreeMap<&str, Vec<Operation>> = BTreeMap::new();
        let mut open: BTreeMap<u64, (&str, usize)> = BTreeMap::new();
        for line in &self.lines {
            if line.kind == Kind::Invoke {
                let operations = keys.entry(&line.key).or_default();
                open.insert(line.process, (&line.key, operations.len()));
                operations.push(Operation {
                    process: line.process,
                    op: line.op,
                    asked: line.value,
                    begun_ns: line.time_ns,
                    end: None,
                    failed: false,
                });
            } else if let Some((key, number)) = open.remove(&line.process)
                && let Some(operation) = keys.get_mut(key).and_then(|operations| operations.get_mut(number))
            {
                operation.failed = line.kind == Kind::Fail;
                if line.kind == Kind::Ok {
                    operation.end = Some(End { ended_ns: line.time_ns, value: line.value, refused: line.refused });
                }
            }
        }
        for operations in keys.values_mut() {
            operations.retain(|operation| !operation.failed && (operation.op != Op::Read || operation.end.is_some()));
        }
        keys
    }
}

/// An operation, from its beginning to its end if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Who asked.
    pub(crate) process: u64,
    /// What was asked.
    pub(crate) op: Op,
    /// The mark that was to be written.
    pub(crate) asked: Option<i64>,
    /// When it was asked.
    pub(crate) begun_ns: u64,
    /// What the answer was; none when nobody knows what became of it.
    pub(crate) end: Option<End>,
    failed: bool,
}

/// The answer to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// When it came.
    pub(crate) ended_ns: u64,
    /// What was read or written.
    pub(crate) value: Option<i64>,
    /// Whether it was refused for what the state was.
    pub(crate) refused: bool,
}

#[cfg(test)]
impl Operation {
    /// An operation of a test.
    pub(crate) fn of_test(process: u64, op: Op, asked: Option<i64>, begun_ns: u64, end: Option<End>) -> Self {
        Self { process, op, asked, begun_ns, end, failed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(process: u64, kind: Kind, op: Op, value: Option<i64>, time_ns: u64) -> Line {
        Line { process, kind, op, key: "k".to_owned(), value, refused: false, time_ns }
    }

    #[test]
    fn a_line_is_written_as_outside_checkers_read_it_and_read_back() {
        let mut history = History::default();
        history.push(line(3, Kind::Invoke, Op::Create, Some(17), 81));
        let mut out = Vec::new();
        history.write_to(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "{\"process\":3,\"type\":\"invoke\",\"op\":\"create\",\"key\":\"k\",\"value\":17,\"time_ns\":81}\n"
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), history.lines()[0]);
    }

    #[test]
    fn what_failed_and_reads_without_an_answer_are_left_out_and_what_is_open_stays_open() {
        let mut history = History::default();
        history.push(line(1, Kind::Invoke, Op::Create, Some(1), 1));
        history.push(line(2, Kind::Invoke, Op::Read, None, 2));
        history.push(line(3, Kind::Invoke, Op::Update, Some(2), 3));
        history.push(line(4, Kind::Invoke, Op::Delete, None, 4));
        history.push(line(3, Kind::Fail, Op::Update, Some(2), 5));
        history.push(line(1, Kind::Ok, Op::Create, Some(1), 6));
        history.push(line(4, Kind::Info, Op::Delete, None, 7));
        let keys = history.by_key();
        let found: Vec<(Op, bool)> =
            keys["k"].iter().map(|operation| (operation.op, operation.end.is_some())).collect();
        assert_eq!(found, [(Op::Create, true), (Op::Delete, false)]);
    }
}
