//! Rows as bytes, one after the other in a block.
//!
//! ```text
//!   kind (1), ID (16), issued at (8), not after (8), lengths (2 + 1 + 1), SPIFFE ID, issuing key, entry
//! ```
//!
//! A gap has its count and the time of its first row in place of an ID, and no texts.

use quorate_proto_identity::{AuthorityId, EntryId, SerialNumber, SpiffeId, UnixSeconds};

use super::record::{Issued, IssuedId, LedgerGap, LedgerRow};

/// Bytes of a row before its texts.
const HEAD_BYTES: usize = 1 + 16 + 8 + 8 + 2 + 1 + 1;

const X509: u8 = 1;
const JWT: u8 = 2;
const GAP: u8 = 3;

/// The rows of a block. Ends at the block's end, and where it cannot be read.
pub(super) struct Rows<'a>(pub(super) &'a [u8]);

impl Iterator for Rows<'_> {
    type Item = LedgerRow;

    fn next(&mut self) -> Option<LedgerRow> {
        let (kind, rest) = self.0.split_first()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (issued_at, rest) = rest.split_first_chunk()?;
        let (not_after, rest) = rest.split_first_chunk()?;
        let (spiffe_id_length, rest) = rest.split_first_chunk()?;
        let (key_length, rest) = rest.split_first()?;
        let (entry_length, rest) = rest.split_first()?;
        let (spiffe_id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*spiffe_id_length)))?;
        let (issuing_key, rest) = rest.split_at_checked(usize::from(*key_length))?;
        let (entry, rest) = rest.split_at_checked(usize::from(*entry_length))?;
        let (issued_at, not_after) = (from_ordered(*issued_at), from_ordered(*not_after));
        let id = match *kind {
            X509 => IssuedId::Serial(SerialNumber::new(*id).ok()?),
            JWT => IssuedId::Jti(*id),
            GAP => {
                self.0 = rest;
                let (from, count) = id.split_first_chunk()?;
                let count = u64::from_be_bytes(*count.first_chunk()?);
                return Some(LedgerRow::Gap(LedgerGap { count, from: from_ordered(*from), to: issued_at, not_after }));
            }
            _ => return None,
        };
        let entry = match text(entry)? {
            "" => None,
            entry => Some(EntryId::new(entry).ok()?),
        };
        let spiffe_id = SpiffeId::parse(text(spiffe_id)?).ok()?;
        let issuing_key = AuthorityId::new(text(issuing_key)?).ok()?;
        self.0 = rest;
        Some(LedgerRow::Issued(Issued { id, spiffe_id, entry, issued_at, not_after, issuing_key }))
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// How many bytes a row takes.
pub(super) fn size(row: &LedgerRow) -> usize {
    match row {
        LedgerRow::Issued(issued) => {
            let entry = issued.entry.as_ref().map_or(0, |entry| entry.as_str().len());
            let texts = issued.spiffe_id.as_str().len().saturating_add(issued.issuing_key.as_str().len());
            HEAD_BYTES.saturating_add(texts).saturating_add(entry)
        }
        LedgerRow::Gap(_) => HEAD_BYTES,
    }
}

/// Appends a row.
pub(super) fn append(row: &LedgerRow, block: &mut Vec<u8>) {
    match row {
        LedgerRow::Issued(issued) => {
            let (kind, id) = match &issued.id {
                IssuedId::Serial(serial) => (X509, serial.as_bytes()),
                IssuedId::Jti(jti) => (JWT, jti),
            };
            let entry = issued.entry.as_ref().map_or("", EntryId::as_str);
            let texts = [issued.spiffe_id.as_str(), issued.issuing_key.as_str(), entry];
            append_row(block, kind, id, issued.issued_at, issued.not_after, texts);
        }
        LedgerRow::Gap(gap) => {
            let mut id = [0; 16];
            let (from, count) = id.split_at_mut(8);
            from.copy_from_slice(&ordered(gap.from));
            count.copy_from_slice(&gap.count.to_be_bytes());
            append_row(block, GAP, &id, gap.to, gap.not_after, ["", "", ""]);
        }
    }
}

fn append_row(
    block: &mut Vec<u8>,
    kind: u8,
    id: &[u8; 16],
    issued_at: UnixSeconds,
    not_after: UnixSeconds,
    [spiffe_id, key, entry]: [&str; 3],
) {
    let lengths = (u16::try_from(spiffe_id.len()), u8::try_from(key.len()), u8::try_from(entry.len()));
    // A SPIFFE ID has at most 2048 bytes, the other two at most 255; what has more is none of ours, and not noted.
    let (Ok(spiffe_id_length), Ok(key_length), Ok(entry_length)) = lengths else { return };
    block.push(kind);
    block.extend_from_slice(id);
    block.extend_from_slice(&ordered(issued_at));
    block.extend_from_slice(&ordered(not_after));
    block.extend_from_slice(&spiffe_id_length.to_be_bytes());
    block.extend_from_slice(&[key_length, entry_length]);
    for text in [spiffe_id, key, entry] {
        block.extend_from_slice(text.as_bytes());
    }
}

/// A time whose bytes sort as the time does, before 1970 too.
pub(super) fn ordered(time: UnixSeconds) -> [u8; 8] {
    (time.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn from_ordered(bytes: [u8; 8]) -> UnixSeconds {
    UnixSeconds((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row that is told from others by its number.
    pub(crate) fn issued(number: u8, not_after: i64) -> LedgerRow {
        LedgerRow::Issued(Issued {
            id: IssuedId::Serial(SerialNumber::from_random([number; 16])),
            spiffe_id: SpiffeId::parse(&format!("spiffe://example.org/a/{number}")).unwrap(),
            entry: Some(EntryId::new(&format!("entry-{number}")).unwrap()),
            issued_at: UnixSeconds(not_after - 10),
            not_after: UnixSeconds(not_after),
            issuing_key: AuthorityId::new("0a0b0c").unwrap(),
        })
    }

    fn token() -> LedgerRow {
        let LedgerRow::Issued(issued) = issued(9, 300) else { unreachable!() };
        LedgerRow::Issued(Issued { id: IssuedId::Jti([0; 16]), entry: None, ..issued })
    }

    fn gap() -> LedgerRow {
        LedgerRow::Gap(LedgerGap {
            count: 1 << 40,
            from: UnixSeconds(-7),
            to: UnixSeconds(9),
            not_after: UnixSeconds(400),
        })
    }

    #[test]
    fn a_block_that_is_cut_short_gives_what_can_be_read() {
        let rows = [issued(1, 100), token(), gap(), issued(2, 200)];
        let mut block = Vec::new();
        for row in &rows {
            append(row, &mut block);
        }
        assert_eq!(block.len(), rows.iter().map(size).sum::<usize>());
        for length in 0..=block.len() {
            let read: Vec<LedgerRow> = Rows(&block[..length]).collect();
            assert!(rows.starts_with(&read), "{length}");
        }
        assert_eq!(Rows(&block).count(), rows.len());
    }

    #[test]
    fn times_sort_as_their_bytes_do() {
        let times = [i64::MIN, -1, 0, 1, 1_800_000_000, i64::MAX];
        for pair in times.windows(2) {
            assert!(ordered(UnixSeconds(pair[0])) < ordered(UnixSeconds(pair[1])));
        }
        for time in times {
            assert_eq!(from_ordered(ordered(UnixSeconds(time))), UnixSeconds(time));
        }
    }
}
