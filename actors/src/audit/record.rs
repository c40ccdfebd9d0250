//! A record, and how records are chained: one line of JSON each, whose hash covers the line and the hash before.
//!
//! ```text
//!   {"record":7,"time":"2026-11-23T12:00:00.123Z","kind":"administrative", ... ,"hash":"<64 hex digits>"}
//!   └─────────────────────────────── body ───────────────────────────────┘
//!   hash = SHA-256(the hash of record 6, 32 bytes, then the body)
//! ```
//!
//! The hash covers bytes and not meaning, so that whoever verifies a trail needs no JSON library that agrees with ours.
//! `docs/reference/audit.md` describes it for strangers.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use aws_lc_rs::digest::{Context, SHA256};
use quorate_proto_identity::UnixMillis;
use serde::{Deserialize, Serialize};

/// The version of the form, as each file says at its beginning.
pub(crate) const FORMAT: &str = "1";

/// What stands between the body of a line and its hash.
const HASH_KEY: &[u8] = b",\"hash\":\"";

/// What ends a line.
const LINE_END: &[u8] = b"\"}";

/// Hex digits of a hash.
const HASH_DIGITS: usize = 64;

/// The hash of a record: SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RecordHash(pub [u8; 32]);

impl RecordHash {
    /// What stands before the first record of all.
    pub const NONE: Self = Self([0; 32]);

    /// Reads 64 hex digits, in lower case as we write them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_bytes(text.as_bytes())
    }

    fn parse_bytes(digits: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        if digits.len() != HASH_DIGITS {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }

    /// The hash of a record with this body that follows this one.
    fn of(previous: Self, body: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&previous.0);
        context.update(body);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// SHA-256 of some bytes, for what is no record.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref());
        Self(hash)
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a' - 10),
        _ => None,
    }
}

impl fmt::Display for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RecordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What sort of record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An operation of the replicated log, done or refused. Every node has the same.
    Administrative,
    /// An SVID that this node issued.
    Issuance,
    /// Something else that happened at this node alone.
    Local,
    /// What the trail says of itself: where a file begins, what is missing.
    Trail,
}

/// Where in the log an operation stands. Ordered as they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The log index of its entry.
    pub index: u64,
    /// The place of its command within the entry, from 0.
    pub command: u32,
    /// The place of the operation within its command, from 0.
    pub operation: u32,
}

impl Position {
    /// Past everything that the entry at this index holds.
    pub(crate) const fn after(index: u64) -> Self {
        Self { index, command: u32::MAX, operation: u32::MAX }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (index, command, operation) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { index: index.parse().ok()?, command: command.parse().ok()?, operation: operation.parse().ok()? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.index, self.command, self.operation)
    }
}

/// One record. Fields are written in this order; what is absent is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1, without a gap.
    pub record: u64,
    /// When, RFC 3339 in UTC with milliseconds: by the log's stamp for what derives from the log, by this node's clock
    /// otherwise.
    pub time: String,
    /// What sort of record it is.
    pub kind: Kind,
    /// What was done: `entry.create`, `x509.issue`.
    pub what: Cow<'static, str>,
    /// Log index: of the operation, or how much of the log was applied when an SVID was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Place of the command within its log entry, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<u32>,
    /// Place of the operation within its command, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u32>,
    /// Who asked: `node:1`, `unix:uid=0,gid=0,pid=77`, or a SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The number of the member that took the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<u64>,
    /// From where: a socket path or a network address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The SPIFFE ID that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// The registration entry that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
    /// The serial number of a certificate, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The `jti` of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// `done`, or `refused:` and the reason's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Cow<'static, str>>,
    /// What else there is to know, never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detail: BTreeMap<Cow<'static, str>, String>,
}

impl Record {
    /// A record that says no more yet. Its number is given when it is appended.
    pub(crate) fn new(time: UnixMillis, kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            record: 0,
            time: timestamp(time),
            kind,
            what: what.into(),
            index: None,
            command: None,
            operation: None,
            who: None,
            member: None,
            from: None,
            spiffe_id: None,
            entry_id: None,
            serial: None,
            jti: None,
            outcome: None,
            detail: BTreeMap::new(),
        }
    }

    /// Adds a detail.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.detail.insert(Cow::Borrowed(name), value.to_string());
        self
    }

    /// Where in the log it stands, if it derives from the log.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        if self.kind != Kind::Administrative {
            return None;
        }
        Some(Position { index: self.index?, command: self.command?, operation: self.operation? })
    }

    /// Up to where the log has its records in the trail, once this one is in it; nothing when it says nothing of that.
    pub(crate) fn covers(&self) -> Option<Position> {
        match self.kind {
            Kind::Administrative => self.position(),
            Kind::Trail if self.what == FILE_BEGIN => Position::parse(self.detail.get("covered")?),
            Kind::Trail => self.index.map(Position::after),
            Kind::Issuance | Kind::Local => None,
        }
    }

    /// A detail of the trail's own records.
    pub(crate) fn said(&self, name: &str) -> Option<&str> {
        self.detail.get(name).map(String::as_str)
    }

    /// The line, with its newline, and the hash of the record.
    ///
    /// # Errors
    /// Never for a record of ours: text and numbers can always be written as JSON.
    pub(crate) fn encode(&self, previous: RecordHash) -> Result<(Vec<u8>, RecordHash), serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        // The brace that ends the object comes after the hash.
        line.pop();
        let hash = RecordHash::of(previous, &line);
        line.extend_from_slice(HASH_KEY);
        line.extend_from_slice(hash.to_string().as_bytes());
        line.extend_from_slice(LINE_END);
        line.push(b'\n');
        Ok((line, hash))
    }
}

/// The first record of each file.
pub(crate) const FILE_BEGIN: &str = "file.begin";
/// Log entries that have no records here.
pub(crate) const GAP: &str = "gap";
/// Everything up to a log index is in the trail, before a snapshot makes it impossible to tell again.
pub(crate) const SETTLED: &str = "settled";
/// The oldest files are removed, to stay within what is kept.
pub(crate) const FILES_REMOVED: &str = "files.removed";
/// Records that were anchored are not here any more: the trail was cut off, or lost.
pub(crate) const RECORDS_LOST: &str = "records.lost";

/// A line of a file, taken apart but not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    body: &'a [u8],
    /// The hash that it claims to have.
    pub(crate) hash: RecordHash,
}

impl<'a> Line<'a> {
    /// Takes a line without its newline apart. None when it has not the form of a record.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(LINE_END)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(HASH_DIGITS)?)?;
        let body = rest.strip_suffix(HASH_KEY)?;
        Some(Self { body, hash: RecordHash::parse_bytes(digits)? })
    }

    /// The hash that it should have after this one.
    pub(crate) fn hash_after(&self, previous: RecordHash) -> RecordHash {
        RecordHash::of(previous, self.body)
    }

    /// What it says.
    pub(crate) fn record(&self) -> Option<Record> {
        let mut json = Vec::with_capacity(self.body.len().saturating_add(1));
        json.extend_from_slice(self.body);
        json.push(b'}');
        serde_json::from_slice(&json).ok()
    }
}

/// An instant as records have it.
#[must_use]
pub fn timestamp(time: UnixMillis) -> String {
    let seconds = time.seconds();
    let text = seconds.to_string();
    let whole = text.strip_suffix('Z').unwrap_or(&text);
    format!("{whole}.{:03}Z", time.since(seconds.millis()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        let mut record =
            Record::new(UnixMillis(1_795_435_200_123), Kind::Administrative, "entry.create").with("a", "é\"\n");
        record.record = 7;
        record.index = Some(9);
        record
    }

    #[test]
    fn a_line_says_what_the_record_said_and_its_hash_covers_it() {
        let (line, hash) = record().encode(RecordHash([3; 32])).unwrap();
        let text = String::from_utf8(line.clone()).unwrap();
        assert!(
            text.starts_with(r#"{"record":7,"time":"2026-11-23T12:00:00.123Z","kind":"administrative","#),
            "{text}"
        );
        let parsed = Line::parse(&line[..line.len() - 1]).unwrap();
        assert_eq!(parsed.record().unwrap(), record());
        assert_eq!((parsed.hash, parsed.hash_after(RecordHash([3; 32]))), (hash, hash));
        assert_ne!(parsed.hash_after(RecordHash([4; 32])), hash);
        // A line is a JSON object as a whole, too.
        assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn hashes_print_and_parse_back() {
        let hash = RecordHash(std::array::from_fn(|at| u8::try_from(at * 8 % 256).unwrap()));
        assert_eq!(RecordHash::parse(&hash.to_string()), Some(hash));
        for digit in b"0123456789abcdef" {
            let value = u8::from_str_radix(std::str::from_utf8(&[*digit]).unwrap(), 16).unwrap();
            assert_eq!(nibble(*digit), Some(value));
        }
        assert_eq!(nibble(b'A'), None);
        assert_eq!(RecordHash::parse("00"), None);
    }

    #[test]
    fn positions_are_ordered_as_operations_are_applied() {
        let position = |index, command, operation| Position { index, command, operation };
        assert!(position(1, 5, 9) < position(2, 0, 0));
        assert!(position(2, 0, 9) < position(2, 1, 0));
        assert!(position(2, 7, 9) < Position::after(2));
        assert_eq!(Position::parse(&Position::after(2).to_string()), Some(Position::after(2)));
        assert_eq!(Position::parse("1.2"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_line_or_none_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Line::parse(&bytes).and_then(|line| line.record());
        }

        #[test]
        fn any_flipped_bit_of_a_line_shows(at in 0_usize..4096, bit in 0_u8..8) {
            let (line, hash) = record().encode(RecordHash::NONE).unwrap();
            let mut line = line[..line.len() - 1].to_vec();
            let at = at % line.len();
            line[at] ^= 1 << bit;
            let sound = Line::parse(&line).is_some_and(|line| line.hash_after(RecordHash::NONE) == line.hash && line.hash == hash);
            prop_assert!(!sound);
        }
    }
}
