//! What a frame carries: records of kind, length, log ID and body (WAL-02).
//!
//! ```text
//!   0      1      2        4        8       16      24      32
//!   | type | kind | zero   | length | term  | node  | index | body ...
//! ```
//!
//! All numbers are little-endian. A record has no checksum of its own: the frame's covers it, and for
//! reads past the cache the index in memory keeps one for each body.

use super::checkpoint::Checkpoint;
use crate::bytes_reader::BytesReader;
use crate::log_id::{LogId, Vote};

/// Length of what stands before a record's body.
pub(crate) const RECORD_HEADER_BYTES: usize = 32;

const CHECKPOINT: u8 = 1;
const ENTRY: u8 = 2;
const VOTE: u8 = 3;
const COMMITTED: u8 = 4;
const TRUNCATE: u8 = 5;
const PURGE: u8 = 6;

/// One record, its body borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// First record of a segment, and nowhere else (WAL-04).
    Checkpoint(Checkpoint),
    /// An entry.
    Entry { log_id: LogId, kind: u8, body: &'a [u8] },
    /// The vote, a record of the same stream (WAL-04).
    Vote(Vote),
    /// What is known to be committed.
    Committed(LogId),
    /// Entries from this one on are gone, and the last is now another.
    Truncate { from: LogId, last: Option<LogId> },
    /// Entries up to and with this one are gone.
    Purge(LogId),
}

impl Item<'_> {
    /// Appends the record to a payload.
    pub(crate) fn encode(&self, payload: &mut Vec<u8>) {
        let none = LogId { term: 0, node: 0, index: 0 };
        match self {
            Self::Checkpoint(checkpoint) => {
                put(payload, CHECKPOINT, 0, none, &checkpoint.encode());
            }
            Self::Entry { log_id, kind, body } => put(payload, ENTRY, *kind, *log_id, body),
            Self::Vote(vote) => {
                let log_id = LogId { term: vote.term, node: vote.node, index: 0 };
                put(payload, VOTE, u8::from(vote.committed), log_id, &[]);
            }
            Self::Committed(log_id) => put(payload, COMMITTED, 0, *log_id, &[]),
            Self::Truncate { from, last } => {
                let mut body = Vec::new();
                put_optional_log_id(&mut body, *last);
                put(payload, TRUNCATE, 0, *from, &body);
            }
            Self::Purge(upto) => put(payload, PURGE, 0, *upto, &[]),
        }
    }
}

fn put(payload: &mut Vec<u8>, tag: u8, kind: u8, log_id: LogId, body: &[u8]) {
    // Bodies are bounded far below 4 GiB before they come here.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    payload.extend_from_slice(&[tag, kind, 0, 0]);
    payload.extend_from_slice(&length.to_le_bytes());
    put_log_id(payload, log_id);
    payload.extend_from_slice(body);
}

pub(crate) fn put_log_id(bytes: &mut Vec<u8>, log_id: LogId) {
    for number in [log_id.term, log_id.node, log_id.index] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

pub(crate) fn put_optional_log_id(bytes: &mut Vec<u8>, log_id: Option<LogId>) {
    bytes.push(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(bytes, log_id);
    }
}

pub(crate) fn read_log_id(reader: &mut BytesReader<'_>) -> Option<LogId> {
    Some(LogId { term: reader.u64()?, node: reader.u64()?, index: reader.u64()? })
}

/// `None` when malformed, `Some(None)` when there is none.
pub(crate) fn read_optional_log_id(reader: &mut BytesReader<'_>) -> Option<Option<LogId>> {
    match reader.u8()? {
        0 => Some(None),
        1 => read_log_id(reader).map(Some),
        _ => None,
    }
}

/// Takes a payload apart: each record, with the place of its body in the payload.
pub(crate) struct Items<'a> {
    payload: &'a [u8],
    place: usize,
}

/// A payload that is not made of records, though its checksum holds: a fault of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Items<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { payload, place: 0 }
    }

    fn read(&mut self) -> Option<(usize, Item<'a>)> {
        let mut reader = BytesReader::new(self.payload.get(self.place..)?);
        let tag = reader.u8()?;
        let kind = reader.u8()?;
        let zero = reader.array::<2>()?;
        let length = usize::try_from(reader.u32()?).ok()?;
        let log_id = read_log_id(&mut reader)?;
        let body = reader.bytes(length)?;
        let body_place = self.place + RECORD_HEADER_BYTES;
        let item = match tag {
            CHECKPOINT => Item::Checkpoint(Checkpoint::decode(body)?),
            ENTRY => Item::Entry { log_id, kind, body },
            VOTE => Item::Vote(Vote { term: log_id.term, node: log_id.node, committed: kind == 1 }),
            COMMITTED => Item::Committed(log_id),
            TRUNCATE => {
                let last = read_optional_log_id(&mut BytesReader::new(body))?;
                Item::Truncate { from: log_id, last }
            }
            PURGE => Item::Purge(log_id),
            _ => return None,
        };
        if zero != [0, 0] {
            return None;
        }
        self.place = body_place + length;
        Some((body_place, item))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<(usize, Item<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.place >= self.payload.len() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            self.place = self.payload.len();
        }
        Some(read.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_kind_come_back_as_they_were_written() {
        let log_id = LogId { term: 3, node: 2, index: 7 };
        let items = [
            Item::Checkpoint(Checkpoint::default()),
            Item::Entry { log_id, kind: 4, body: b"body" },
            Item::Vote(Vote { term: 9, node: 1, committed: true }),
            Item::Committed(log_id),
            Item::Truncate { from: log_id, last: None },
            Item::Truncate { from: log_id, last: Some(log_id) },
            Item::Purge(log_id),
        ];
        let mut payload = Vec::new();
        items.iter().for_each(|item| item.encode(&mut payload));
        let read: Result<Vec<_>, _> = Items::new(&payload).map(|item| item.map(|(_, item)| item)).collect();
        assert_eq!(read.as_deref(), Ok(items.as_slice()));
    }

    #[test]
    fn a_payload_cut_anywhere_is_malformed_or_ends_between_records() {
        let mut payload = Vec::new();
        let log_id = LogId { term: 1, node: 1, index: 0 };
        Item::Entry { log_id, kind: 0, body: b"abc" }.encode(&mut payload);
        for length in 1..payload.len() {
            let mut items = Items::new(&payload[..length]);
            assert_eq!(items.next(), Some(Err(Malformed)), "cut at {length}");
            assert_eq!(items.next(), None);
        }
    }
}
