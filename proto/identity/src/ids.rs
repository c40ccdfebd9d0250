//! Identifiers of entries, nodes, members, authorities, certificates and clusters.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;

use crate::hex;

/// Longest entry ID, in bytes; the registration API says so.
pub const ENTRY_ID_LIMIT: usize = 255;

/// Longest node name, in bytes: that of a DNS label, since it is often a host's.
pub const NODE_NAME_LIMIT: usize = 63;

/// Longest authority ID, in bytes: a key identifier in hexadecimal has 40, and 64 leave room for a whole SHA-256.
pub const AUTHORITY_ID_LIMIT: usize = 64;

/// Why a text is not an identifier of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {rule}")]
pub struct InvalidId {
    /// What was given, cut after 80 characters.
    pub text: String,
    /// What it should have been, for example "an entry ID".
    pub what: &'static str,
    /// The rule of that kind, in one line.
    pub rule: &'static str,
}

impl InvalidId {
    fn new(text: &str, what: &'static str, rule: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), what, rule }
    }
}

/// The ID of a registration entry, chosen by the caller or a random UUID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(Arc<str>);

impl EntryId {
    /// Takes 1 to [`ENTRY_ID_LIMIT`] of `[A-Za-z0-9_.-]`.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        if in_limit(text, ENTRY_ID_LIMIT) && text.bytes().all(is_id_byte) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId::new(text, "an entry ID", "1 to 255 of A-Z a-z 0-9 _ . -"))
    }

    /// Makes a version 4 UUID (RFC 9562) of random bytes.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62);
        let digits = hex::encode(&(bits | (0x4 << 76) | (0x2 << 62)).to_be_bytes());
        let mut text = String::with_capacity(36);
        for (position, digit) in digits.chars().enumerate() {
            if matches!(position, 8 | 12 | 16 | 20) {
                text.push('-');
            }
            text.push(digit);
        }
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a node, unique in its cluster: a segment of its SPIFFE ID, the value of selectors, and the name of a
/// directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// Takes 1 to [`NODE_NAME_LIMIT`] of `[a-z0-9._-]`, the first a letter or a digit, so that the name can be neither
    /// `..`, nor a hidden file, nor read as an option on a command line.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let is_name_byte = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if in_limit(text, NODE_NAME_LIMIT) && starts_well && text.bytes().all(is_name_byte) {
            return Ok(Self(text.into()));
        }
        let rule = "1 to 63 of a-z 0-9 . _ -, the first a letter or digit";
        Err(InvalidId::new(text, "a node name", rule))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The ID of a signing authority: for X.509 the subject key identifier in hexadecimal, for tokens the `kid`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityId(Arc<str>);

impl AuthorityId {
    /// Takes 1 to [`AUTHORITY_ID_LIMIT`] of `[A-Za-z0-9_.-]`.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        if in_limit(text, AUTHORITY_ID_LIMIT) && text.bytes().all(is_id_byte) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId::new(text, "an authority ID", "1 to 64 of A-Z a-z 0-9 _ . -"))
    }

    /// The ID of the authority with this subject key identifier.
    #[must_use]
    pub fn from_subject_key_id(subject_key_id: &[u8; 20]) -> Self {
        Self(hex::encode(subject_key_id).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_id_byte(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-')
}

const fn in_limit(text: &str, limit: usize) -> bool {
    !text.is_empty() && text.len() <= limit
}

macro_rules! text_id {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text_id!(EntryId, NodeName, AuthorityId);

/// The number of a member in consensus: given when it is admitted, counted from 1, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberNumber(NonZeroU64);

impl MemberNumber {
    /// The number of the member that founds a cluster.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Takes any number but 0.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The number after this one, or `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for MemberNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The serial number of a certificate: positive, at most 16 bytes (F6, CRL-01).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber([u8; 16]);

impl SerialNumber {
    /// The least of them.
    pub const LEAST: Self = Self(1_u128.to_be_bytes());

    /// The greatest of them.
    pub const GREATEST: Self = Self((u128::MAX >> 1).to_be_bytes());

    /// Takes a big-endian number.
    ///
    /// # Errors
    /// When it is zero, or its top bit is set, which DER would read as a sign.
    pub fn new(bytes: [u8; 16]) -> Result<Self, InvalidId> {
        let number = u128::from_be_bytes(bytes);
        if number == 0 || number >> 127 == 1 {
            let rule = "a positive number of at most 127 bits";
            return Err(InvalidId::new(&hex::encode(&bytes), "a serial number", rule));
        }
        Ok(Self(bytes))
    }

    /// Takes the digits of an INTEGER in DER: big-endian, shorter where zeros lead. Nothing when they are no serial number.
    #[must_use]
    pub fn from_big_endian(digits: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        let start = bytes.len().checked_sub(digits.len())?;
        bytes.get_mut(start..)?.copy_from_slice(digits);
        Self::new(bytes).ok()
    }

    /// Makes a serial number of random bytes; 126 bits of them count.
    ///
    /// The second bit is set, so that every serial takes 16 bytes in DER: nothing random changes the length of a
    /// certificate.
    #[must_use]
    pub const fn from_random(random: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(random) & !(1 << 127) | (1 << 126);
        Self(number.to_be_bytes())
    }

    /// The number in big-endian bytes, leading zeros included.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The number in hexadecimal, 32 digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Display for SerialNumber {
    /// In decimal, as tools of the X.509 world print and take it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SerialNumber({})", self.to_hex())
    }
}

impl FromStr for SerialNumber {
    type Err = InvalidId;

    /// Reads what `Display` prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let only_digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let refused = || InvalidId::new(text, "a serial number", "a positive decimal of at most 127 bits");
        let number: u128 = text.parse().ok().filter(|_| only_digits).ok_or_else(refused)?;
        Self::new(number.to_be_bytes()).map_err(|_| refused())
    }
}

/// The ID of a cluster: 16 random bytes drawn when it is founded. Two clusters that share a trust domain name never
/// share this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// Takes the bytes as they are.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = InvalidId;

    /// Reads what `Display` prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || InvalidId::new(text, "a cluster ID", "32 lower-case hexadecimal digits");
        hex::decode(text).map(Self).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids_have_the_alphabet_and_length_of_the_registration_api() {
        assert!(EntryId::new("A.b_c-9").is_ok());
        assert!(EntryId::new(&"a".repeat(255)).is_ok());
        for wrong in ["", "a/b", "a b", "ä", &"a".repeat(256)] {
            assert!(EntryId::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn random_entry_ids_are_uuids_of_version_4() {
        assert_eq!(EntryId::from_random([0xff; 16]).as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(EntryId::from_random([0; 16]).as_str(), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn node_names_are_safe_as_path_segments_and_file_names() {
        assert!(NodeName::new("node-1.eu_west").is_ok());
        assert!(NodeName::new(&"a".repeat(63)).is_ok());
        for wrong in ["", ".", "..", ".a", "-a", "_a", "A", "a/b", "a:b", &"a".repeat(64)] {
            assert!(NodeName::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn member_numbers_start_at_one() {
        assert_eq!(MemberNumber::new(0), None);
        assert_eq!(MemberNumber::new(1), Some(MemberNumber::FIRST));
        assert_eq!(MemberNumber::FIRST.next().map(MemberNumber::get), Some(2));
        assert_eq!(MemberNumber::new(u64::MAX).and_then(MemberNumber::next), None);
    }

    #[test]
    fn serial_numbers_are_positive_and_random_ones_have_one_length() {
        assert!(SerialNumber::new([0; 16]).is_err());
        assert!(SerialNumber::new([0x80; 16]).is_err());
        assert_eq!(SerialNumber::from_random([0xff; 16]).as_bytes()[0], 0x7f);
        assert_eq!(SerialNumber::from_random([0; 16]).as_bytes()[0], 0x40);
        let mut one = [0; 16];
        one[15] = 1;
        let one = SerialNumber::new(one).unwrap();
        assert_eq!(one.to_string(), "1");
        assert_eq!(one.to_hex(), "00000000000000000000000000000001");
        for serial in [one, SerialNumber::from_random([0xab; 16])] {
            assert_eq!(serial.to_string().parse(), Ok(serial));
        }
        for wrong in ["", "0", "01", "-1", "+1", "1a", "999999999999999999999999999999999999999"] {
            assert!(wrong.parse::<SerialNumber>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cluster_ids_print_what_they_parse() {
        let id = ClusterId::new([0x5a; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("5A".repeat(16).parse::<ClusterId>().is_err());
    }
}
