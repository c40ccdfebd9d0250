//! The trust domain name: parse, compare, print.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::spiffe_id::{SCHEME_PREFIX, SpiffeId};

/// Longest trust domain name, in bytes (ID-23).
pub const TRUST_DOMAIN_NAME_LIMIT: usize = 255;

/// The name of a trust domain, for example `example.org`.
///
/// It is compared byte for byte (ID-26) and is never looked at as a DNS name, a host or an address (ID-12): `..` and
/// `999.999.999.999` are legal names. So never use one as a file name without escaping it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain {
    name: Arc<str>,
}

impl TrustDomain {
    /// Takes a bare name.
    ///
    /// # Errors
    /// When the name is empty, longer than [`TRUST_DOMAIN_NAME_LIMIT`], or holds a byte outside `[a-z0-9._-]` (ID-03,
    /// ID-08 to ID-11, ID-23). Nothing is normalised: upper case is refused, not lowered.
    pub fn new(name: &str) -> Result<Self, TrustDomainError> {
        check_name(name)?;
        Ok(Self { name: name.into() })
    }

    /// Takes a bare name or the ID of a trust domain (`spiffe://example.org`).
    ///
    /// For operators' input only; documents and messages say which of the two forms they hold (BND-28).
    ///
    /// # Errors
    /// As [`TrustDomain::new`]; an ID with a path is refused too.
    pub fn parse_name_or_id(text: &str) -> Result<Self, TrustDomainError> {
        Self::new(text.strip_prefix(SCHEME_PREFIX).unwrap_or(text))
    }

    /// Takes a name that another parser has already checked.
    pub(crate) fn from_checked(name: &str) -> Self {
        Self { name: name.into() }
    }

    /// The bare name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The SPIFFE ID of the trust domain itself: the name without a path.
    #[must_use]
    pub fn id(&self) -> SpiffeId {
        SpiffeId::of_trust_domain(self)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TrustDomain({})", self.name)
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// Why a text is not a trust domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustDomainError {
    /// There is no name (ID-03).
    #[error("the trust domain name is empty")]
    Empty,
    /// The name has more than [`TRUST_DOMAIN_NAME_LIMIT`] bytes (ID-23).
    #[error("the trust domain name has {length} bytes, the most is {TRUST_DOMAIN_NAME_LIMIT}")]
    TooLong {
        /// How many bytes the name has.
        length: usize,
    },
    /// A byte outside `[a-z0-9._-]` (ID-09). Upper case, ports, userinfo, brackets and percent signs all end here.
    #[error("the trust domain name holds the byte 0x{byte:02x} at position {position}, allowed are a-z 0-9 . - _")]
    Byte {
        /// The first byte that is not allowed.
        byte: u8,
        /// Where it stands in the name, counted from 0.
        position: usize,
    },
}

/// The rules of a name, on a borrowed text.
pub(crate) fn check_name(name: &str) -> Result<(), TrustDomainError> {
    if name.is_empty() {
        return Err(TrustDomainError::Empty);
    }
    if name.len() > TRUST_DOMAIN_NAME_LIMIT {
        return Err(TrustDomainError::TooLong { length: name.len() });
    }
    match name.bytes().enumerate().find(|(_, byte)| !is_name_byte(*byte)) {
        Some((position, byte)) => Err(TrustDomainError::Byte { byte, position }),
        None => Ok(()),
    }
}

/// Written as a match and not as a pattern of a regular expression: printed in the standard's order the class reads as
/// a range and lets `/`, `:` and `@` in.
const fn is_name_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}
