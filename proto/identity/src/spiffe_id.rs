//! The SPIFFE ID: parse, build from segments, membership of a trust domain.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::trust_domain::{TrustDomain, TrustDomainError, check_name};

/// Longest SPIFFE ID, in bytes, scheme included (ID-21, ID-22, ID-24; refused on input too, A-04).
pub const SPIFFE_ID_LIMIT: usize = 2048;

/// What every SPIFFE ID begins with, in lower case only (ID-02, A-01).
pub(crate) const SCHEME_PREFIX: &str = "spiffe://";

/// A SPIFFE ID: `spiffe://`, the name of a trust domain, and a path that may be empty.
///
/// The text is kept as it came, because nothing is ever normalised: what is not canonical is not a SPIFFE ID. Equality
/// is therefore equality of bytes (ID-26). Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Length of the trust domain name; the path begins after it.
    name_length: u8,
}

impl SpiffeId {
    /// Takes the whole text of an ID.
    ///
    /// # Errors
    /// Any text that breaks a rule of section 2 of the SPIFFE ID standard (ID-01 to ID-26).
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        let name_length = check(text)?;
        Ok(Self { text: text.into(), name_length })
    }

    /// Joins a trust domain and a path that begins with `/`; the empty path gives the ID of the trust domain.
    ///
    /// # Errors
    /// When the path is not one that [`SpiffeId::parse`] takes.
    pub fn from_path(trust_domain: &TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        if !path.is_empty() && !path.starts_with('/') {
            return Err(SpiffeIdError::PathStart);
        }
        Self::parse(&format!("{SCHEME_PREFIX}{trust_domain}{path}"))
    }

    /// Joins a trust domain and path segments.
    ///
    /// Each segment is checked by itself before joining, so that a segment made of foreign text can never add a level
    /// (ATK-02): `a/b` is refused as a segment.
    ///
    /// # Errors
    /// When a segment is empty, `.`, `..`, or holds a byte outside `[a-zA-Z0-9._-]` (ID-16, ID-17, ID-19), or the whole
    /// is longer than [`SPIFFE_ID_LIMIT`].
    pub fn from_segments(trust_domain: &TrustDomain, segments: &[&str]) -> Result<Self, SpiffeIdError> {
        let mut text = format!("{SCHEME_PREFIX}{trust_domain}");
        for segment in segments {
            check_segment(segment, text.len().saturating_add(1))?;
            text.push('/');
            text.push_str(segment);
        }
        Self::parse(&text)
    }

    /// The ID of a trust domain itself. A checked name makes it valid by construction.
    pub(crate) fn of_trust_domain(trust_domain: &TrustDomain) -> Self {
        let name = trust_domain.as_str();
        // A name has at most 255 bytes, so its length always fits.
        let name_length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        Self { text: format!("{SCHEME_PREFIX}{name}").into(), name_length }
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path with its leading `/`, or the empty text for the ID of a trust domain.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.path_start()..).unwrap_or_default()
    }

    /// The name of the trust domain that the ID belongs to.
    #[must_use]
    pub fn trust_domain_name(&self) -> &str {
        self.text.get(SCHEME_PREFIX.len()..self.path_start()).unwrap_or_default()
    }

    /// The trust domain that the ID belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain::from_checked(self.trust_domain_name())
    }

    /// Whether the ID lies in this very trust domain: `a.example.org` is not inside `example.org` (ID-26).
    #[must_use]
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_name() == trust_domain.as_str()
    }

    /// Whether this is the ID of a trust domain, which names an authority and never a workload (ID-30, X509-34).
    #[must_use]
    pub fn is_trust_domain_id(&self) -> bool {
        self.path().is_empty()
    }

    fn path_start(&self) -> usize {
        SCHEME_PREFIX.len().saturating_add(usize::from(self.name_length))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SpiffeId({})", self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl AsRef<str> for SpiffeId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Why a text is not a SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than [`SPIFFE_ID_LIMIT`] (ID-22, A-04).
    #[error("the SPIFFE ID has {length} bytes, the most is {SPIFFE_ID_LIMIT}")]
    TooLong {
        /// How many bytes the text has.
        length: usize,
    },
    /// It does not begin with `spiffe://`, in lower case (ID-02, A-01).
    #[error("the SPIFFE ID does not begin with spiffe://")]
    Scheme,
    /// The part before the first `/` is not a trust domain name.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// A path handed in by itself does not begin with `/`.
    #[error("the path does not begin with /")]
    PathStart,
    /// Two `/` in a row, or one at the end (ID-16, ID-18).
    #[error("the path has an empty segment at position {position}")]
    EmptySegment {
        /// Where the segment should begin, counted in bytes from the start of the ID.
        position: usize,
    },
    /// A segment `.` or `..` (ID-17).
    #[error("the path has the segment . or .. at position {position}")]
    DotSegment {
        /// Where the segment begins, counted in bytes from the start of the ID.
        position: usize,
    },
    /// A byte outside `[a-zA-Z0-9._-]` (ID-04, ID-05, ID-15, ID-19).
    #[error("the path holds the byte 0x{byte:02x} at position {position}, allowed are a-z A-Z 0-9 . - _")]
    PathByte {
        /// The first byte that is not allowed.
        byte: u8,
        /// Where it stands, counted in bytes from the start of the ID.
        position: usize,
    },
}

/// Checks a whole ID and answers the length of its trust domain name.
fn check(text: &str) -> Result<u8, SpiffeIdError> {
    if text.len() > SPIFFE_ID_LIMIT {
        return Err(SpiffeIdError::TooLong { length: text.len() });
    }
    let rest = text.strip_prefix(SCHEME_PREFIX).ok_or(SpiffeIdError::Scheme)?;
    let (name, path) = match rest.split_once('/') {
        Some((name, path)) => (name, Some(path)),
        None => (rest, None),
    };
    check_name(name)?;
    let name_length = u8::try_from(name.len()).map_err(|_| TrustDomainError::TooLong { length: name.len() })?;
    if let Some(path) = path {
        let mut position = SCHEME_PREFIX.len().saturating_add(name.len()).saturating_add(1);
        for segment in path.split('/') {
            check_segment(segment, position)?;
            position = position.saturating_add(segment.len()).saturating_add(1);
        }
    }
    Ok(name_length)
}

/// Checks one segment that begins at `position` of the ID.
fn check_segment(segment: &str, position: usize) -> Result<(), SpiffeIdError> {
    match segment {
        "" => Err(SpiffeIdError::EmptySegment { position }),
        "." | ".." => Err(SpiffeIdError::DotSegment { position }),
        _ => match segment.bytes().enumerate().find(|(_, byte)| !is_segment_byte(*byte)) {
            Some((offset, byte)) => Err(SpiffeIdError::PathByte { byte, position: position.saturating_add(offset) }),
            None => Ok(()),
        },
    }
}

const fn is_segment_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}
