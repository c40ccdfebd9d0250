//! What can be looked for in the ledger, and how an answer goes on.

use std::{fmt, str::FromStr};

use quorate_proto_identity::{AuthorityId, EntryId, SpiffeId, UnixSeconds};

use super::record::{Issued, IssuedId, LedgerRow};

/// Most rows of a page, whatever is asked for: at most some 3 MiB.
pub const LEDGER_PAGE_LIMIT: usize = 1000;

/// What is looked for. What is not set matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerQuery {
    /// What was issued under this serial number or `jti`.
    pub id: Option<IssuedId>,
    /// What was issued to this SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// What was issued for this entry.
    pub entry: Option<EntryId>,
    /// What this key has signed.
    pub issuing_key: Option<AuthorityId>,
    /// What ends at this instant or later. Rows of what has ended are removed within minutes.
    pub ends_from: Option<UnixSeconds>,
    /// What ends at this instant or earlier.
    pub ends_to: Option<UnixSeconds>,
    /// Most rows of the page; 0 and more than [`LEDGER_PAGE_LIMIT`] are that many.
    pub limit: usize,
    /// Where the page begins: what the page before gave.
    pub page: Option<LedgerPosition>,
}

/// A part of an answer, in the order of ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerPage {
    /// The rows found. Gaps are found by every query, because what was looked for may be missing there.
    pub rows: Vec<LedgerRow>,
    /// Where the answer goes on; none at its end. A page may be short, and even empty, and go on all the same: one call
    /// reads only so much.
    pub next: Option<LedgerPosition>,
}

impl LedgerQuery {
    /// How many rows a page has.
    pub(crate) fn page_size(&self) -> usize {
        match self.limit {
            0 => LEDGER_PAGE_LIMIT,
            limit => limit.min(LEDGER_PAGE_LIMIT),
        }
    }

    /// Whether a row is to be in the answer.
    pub(crate) fn matches(&self, row: &LedgerRow) -> bool {
        let end = row.not_after();
        let in_time = self.ends_from.is_none_or(|from| end >= from) && self.ends_to.is_none_or(|to| end <= to);
        in_time
            && match row {
                LedgerRow::Issued(issued) => self.matches_issued(issued),
                LedgerRow::Gap(_) => true,
            }
    }

    fn matches_issued(&self, issued: &Issued) -> bool {
        self.id.is_none_or(|id| id == issued.id)
            && self.spiffe_id.as_ref().is_none_or(|id| *id == issued.spiffe_id)
            && self.entry.as_ref().is_none_or(|entry| issued.entry.as_ref() == Some(entry))
            && self.issuing_key.as_ref().is_none_or(|key| *key == issued.issuing_key)
    }
}

/// A place between two rows. It stays good while rows are added and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerPosition {
    /// The key of the block.
    pub(super) block: u128,
    /// How many of its rows come before.
    pub(super) row: u32,
}

/// A text that is no place in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no place in the ledger: give back what the page before gave")]
pub struct InvalidPosition;

impl fmt::Display for LedgerPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}{:08x}", self.block, self.row)
    }
}

impl FromStr for LedgerPosition {
    type Err = InvalidPosition;

    /// Reads what `Display` prints.
    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let digits = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (block, row) = text.split_at_checked(32).filter(|_| digits).ok_or(InvalidPosition)?;
        let block = u128::from_str_radix(block, 16).map_err(|_| InvalidPosition)?;
        let row = u32::from_str_radix(row, 16).map_err(|_| InvalidPosition)?;
        Ok(Self { block, row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_prints_and_parses_back() {
        let place = LedgerPosition { block: 1 << 127 | 5, row: 7 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "0", &"g".repeat(40), &"+".repeat(40)] {
            assert_eq!(wrong.parse::<LedgerPosition>(), Err(InvalidPosition), "{wrong}");
        }
    }
}
