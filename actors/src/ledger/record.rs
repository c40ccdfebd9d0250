//! What the ledger holds: what was issued, and where something of that is missing.

use quorate_proto_identity::{AuthorityId, EntryId, SerialNumber, SpiffeId, UnixSeconds};

/// What tells an issued document from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IssuedId {
    /// The serial number of an X509-SVID.
    Serial(SerialNumber),
    /// The `jti` of a JWT-SVID, which it prints as 32 hexadecimal digits.
    Jti([u8; 16]),
}

/// Something that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Which.
    pub id: IssuedId,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// The entry that it was issued for; none when it was minted.
    pub entry: Option<EntryId>,
    /// When it was signed.
    pub issued_at: UnixSeconds,
    /// Its end; the row is removed after it.
    pub not_after: UnixSeconds,
    /// The subject key ID of the issuing key, or the `kid` of the token key: what a stolen key has signed can be listed.
    pub issuing_key: AuthorityId,
}

/// Rows that are missing: the ledger could not keep up, or had no room for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerGap {
    /// How many.
    pub count: u64,
    /// When the first of them was issued.
    pub from: UnixSeconds,
    /// When the last of them was.
    pub to: UnixSeconds,
    /// When the last of them ends; the gap is removed after it.
    pub not_after: UnixSeconds,
}

impl LedgerGap {
    /// The gap that one row leaves.
    pub(crate) fn of(issued: &Issued) -> Self {
        Self { count: 1, from: issued.issued_at, to: issued.issued_at, not_after: issued.not_after }
    }

    /// Both gaps as one.
    pub(crate) fn joined(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            not_after: self.not_after.max(other.not_after),
        }
    }
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerRow {
    /// Something was issued.
    Issued(Issued),
    /// Rows are missing here, so a search may have missed what it looked for.
    Gap(LedgerGap),
}

impl LedgerRow {
    /// After which instant it may be removed.
    pub(crate) fn not_after(&self) -> UnixSeconds {
        match self {
            Self::Issued(issued) => issued.not_after,
            Self::Gap(gap) => gap.not_after,
        }
    }
}
