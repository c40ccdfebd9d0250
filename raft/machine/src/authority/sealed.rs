//! Sealed private keys: what the state may hold of them.
//!
//! This crate cannot open them and does not know how they were sealed. It checks sizes and recipients, and erases them
//! when they go out of use.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use quorate_proto_identity::MemberNumber;

use crate::members::MEMBERS_LIMIT;
use crate::outcome::Refusal;

/// Most recipients of one key: every member, and a recovery key.
pub const SEALED_RECIPIENTS_LIMIT: usize = MEMBERS_LIMIT + 1;

/// Most bytes sealed for one recipient: an RSA-4096 key in PKCS#8 has about 2,400, the seal adds 48.
pub const SEALED_BYTES_LIMIT: usize = 8 * 1024;

/// Most bytes sealed for all recipients of one key together: every member and an RSA-4096 key fit, and what one object of
/// a snapshot may have (4 MiB) is not reached, however many commands add recipients.
pub const SEALED_TOTAL_LIMIT: usize = 3 * 1024 * 1024;

/// A private key, sealed to each of those who may open it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// How it was sealed; a number that key custody gives meaning to.
    pub suite: u32,
    /// One part for each recipient, each recipient once.
    pub parts: Vec<SealedFor>,
}

/// A private key, sealed to one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedFor {
    /// Who may open it.
    pub recipient: Recipient,
    /// What the recipient needs beside its own key to open it (HPKE's `enc`).
    pub encapsulated_key: Bytes,
    /// The sealed key.
    pub ciphertext: Bytes,
}

/// Who may open a sealed key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipient {
    /// A member, with its sealing key.
    Member(MemberNumber),
    /// The holder of an offline recovery key, known by this ID.
    RecoveryKey(String),
}

impl SealedFor {
    /// How much it counts towards [`SEALED_TOTAL_LIMIT`].
    pub(crate) fn bytes(&self) -> usize {
        self.encapsulated_key.len().saturating_add(self.ciphertext.len())
    }
}

impl Sealed {
    /// The part for this recipient, if there is one.
    #[must_use]
    pub fn part_for(&self, recipient: &Recipient) -> Option<&SealedFor> {
        self.parts.iter().find(|part| part.recipient == *recipient)
    }

    /// Checks that the key is sealed to somebody, and each part of it ([`check_parts`]).
    pub(crate) fn check(&self, may_open: impl Fn(&Recipient) -> Result<(), Refusal>) -> Result<(), Refusal> {
        if self.parts.is_empty() {
            return Err(Refusal::invalid("the private key is sealed to nobody"));
        }
        check_parts(&self.parts, may_open)
    }
}

/// Checks numbers and sizes, that each recipient may open the key, and that each is named once.
pub(crate) fn check_parts(
    parts: &[SealedFor],
    may_open: impl Fn(&Recipient) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    if parts.len() > SEALED_RECIPIENTS_LIMIT {
        return Err(Refusal::invalid(format!(
            "the private key is sealed to {} recipients, the most is {SEALED_RECIPIENTS_LIMIT}",
            parts.len()
        )));
    }
    let mut seen = BTreeSet::new();
    for part in parts {
        if !seen.insert(&part.recipient) {
            return Err(Refusal::invalid(format!("the private key is sealed twice to {}", part.recipient)));
        }
        if part.ciphertext.is_empty()
            || part.ciphertext.len() > SEALED_BYTES_LIMIT
            || part.encapsulated_key.len() > SEALED_BYTES_LIMIT
        {
            return Err(Refusal::invalid(format!(
                "the private key sealed to {} is empty or has more than {SEALED_BYTES_LIMIT} bytes",
                part.recipient
            )));
        }
        may_open(&part.recipient)?;
    }
    Ok(())
}

impl fmt::Display for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(number) => write!(formatter, "member {number}"),
            Self::RecoveryKey(id) => write!(formatter, "recovery key {id}"),
        }
    }
}

impl fmt::Debug for Sealed {
    /// Names the recipients; of the sealed keys not even the ciphertext.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sealed").field("suite", &self.suite).field("parts", &self.parts).finish()
    }
}

impl fmt::Debug for SealedFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealedFor({}, {} bytes)", self.recipient, self.ciphertext.len())
    }
}
