//! The trust domain's policy: lifetimes and key types, checked against each other.
//!
//! ```text
//!  root_lifetime ----- / 6 --> issuing_lifetime ----- / 2 --> x509_svid_lifetime
//!       |
//!       +--- / 9 --> refresh_hint <-- / 9 ---+
//!                                            |
//!                             jwt_key_lifetime ----- / 6 --> jwt_svid_lifetime
//! ```
//!
//! An arrow reads "at most this part of". Each keeps a promise of design section 3: an issuer outlives what it signs by
//! enough for rotation to keep out of the way, and every reader of a bundle endpoint has come by three times between
//! `prepare` (at half of what is left) and `activate` (at a sixth).

use quorate_proto_identity::KeyType;

/// Longest lifetime of an authority, in seconds: 20 years, which is longer than any key type offered here is trusted.
pub const AUTHORITY_LIFETIME_LIMIT: u32 = 20 * 366 * 24 * 3_600;

/// Shortest lifetime of anything signed, in seconds. Renewal is due at half life, and times are whole seconds.
pub const SHORTEST_LIFETIME: u32 = 2;

/// An issuing certificate lives at most this part of its root's life: activation of a new root comes at a sixth of what
/// the old one has left, so no issuing certificate outlives its root.
pub const ISSUING_PER_ROOT: u32 = 6;

/// A leaf lives at most this part of its issuing certificate's life: issuing certificates are renewed at half life, so
/// this is the life that a leaf is sure to get.
pub const LEAF_PER_ISSUING: u32 = 2;

/// A token lives at most this part of its key's life, as issuing certificates do of their root's.
pub const TOKEN_PER_KEY: u32 = 6;

/// How many refresh hints readers of the bundle have to learn of a new authority before it signs (FED-03).
pub const REFRESH_HINTS_TO_PUBLISH: u32 = 3;

/// Three refresh hints fit into a third of an authority's life, the time between `prepare` and `activate`.
pub const REFRESH_HINTS_PER_AUTHORITY: u32 = 9;

/// The publication time fits into a third of an authority's life, the time between `prepare` and `activate`.
pub const PUBLICATION_TIMES_PER_AUTHORITY: u32 = 3;

/// Longest settle time, in seconds: an hour is more than any consumer takes that reads its files again.
pub const CRL_SETTLE_LIMIT: u32 = 3_600;

/// A new key settles for at most this part of an issuing certificate's life: certificates are renewed at half life, so
/// the former key has that half left to sign with, and a new one is ready long before it ends.
pub const CRL_SETTLE_PER_ISSUING: u32 = 4;

/// The policy of a trust domain. All lifetimes are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Life of a root certificate.
    pub root_lifetime: u32,
    /// Life of a node's issuing certificate, which is its lease (design section 2, property 4).
    pub issuing_lifetime: u32,
    /// Life of an X509-SVID whose entry does not say.
    pub x509_svid_lifetime: u32,
    /// Life of a token key.
    pub jwt_key_lifetime: u32,
    /// Life of a JWT-SVID whose entry does not say.
    pub jwt_svid_lifetime: u32,
    /// How often readers of the bundle should come back.
    pub refresh_hint: u32,
    /// Key type of roots.
    pub root_key_type: KeyType,
    /// Key type of issuing certificates.
    pub issuing_key_type: KeyType,
    /// Key type of the X509-SVIDs whose key a node makes.
    pub x509_svid_key_type: KeyType,
    /// Type of token keys.
    pub jwt_key_type: KeyType,
    /// Which row of election settings members use (`spec/elections.md`, settings).
    pub network: NetworkProfile,
    /// When CRLs are handed out (CRL-08).
    pub crl_mode: CrlMode,
    /// How long the CRL of a new issuing key is out before that key signs, while CRLs are handed out (CRL-07), in seconds.
    /// [`Policy::crl_settle_time`] says what counts.
    pub crl_settle: u32,
    /// Least time from the preparation of an authority to its activation, for those who read the bundle elsewhere, in
    /// seconds.
    pub publication_time: u32,
    /// Whether each SVID that is issued is a record of the audit log.
    pub audit_issuance: AuditIssuance,
    /// What tells that other trust domains know an authority that is prepared (FED-03).
    pub publication: Publication,
}

impl Default for Policy {
    /// The defaults of design section 3; a token key lives for a week, and the refresh hint is SPIRE's.
    fn default() -> Self {
        Self {
            root_lifetime: 30 * 24 * 3_600,
            issuing_lifetime: 24 * 3_600,
            x509_svid_lifetime: 3_600,
            jwt_key_lifetime: 7 * 24 * 3_600,
            jwt_svid_lifetime: 300,
            refresh_hint: 300,
            root_key_type: KeyType::EcP256,
            issuing_key_type: KeyType::EcP256,
            x509_svid_key_type: KeyType::EcP256,
            jwt_key_type: KeyType::EcP256,
            network: NetworkProfile::Site,
            crl_mode: CrlMode::WhenRevoked,
            crl_settle: 10,
            publication_time: 0,
            audit_issuance: AuditIssuance::Off,
            publication: Publication::Hints,
        }
    }
}

/// How far apart members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum NetworkProfile {
    /// On one site, or a few milliseconds from each other.
    Site = 1,
    /// In regions up to 150 ms round trip apart.
    Distance = 2,
}

impl NetworkProfile {
    /// The profile that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Site, Self::Distance].into_iter().find(|profile| *profile as u32 == number)
    }
}

/// When CRLs are handed out (CRL-08).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum CrlMode {
    /// Never. What is revoked is refused by our own services alone.
    Off = 1,
    /// From the first revocation on, until an hour after the last revoked certificate has ended.
    WhenRevoked = 2,
    /// Always: for consumers with a fixed flag, which refuse everybody while there is no CRL.
    Always = 3,
}

impl CrlMode {
    /// The mode that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Off, Self::WhenRevoked, Self::Always].into_iter().find(|mode| *mode as u32 == number)
    }
}

/// What tells that readers of our bundle elsewhere know an authority that is prepared, while a bundle endpoint or the
/// Federation API is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u32)]
pub enum Publication {
    /// Three refresh hints, from when the last live member served it: who reads at an anonymous endpoint is not known.
    #[default]
    Hints = 0,
    /// As well, but at once when each trust domain that we have a relationship with has confirmed, over a watch, that it
    /// has it in force. Who reads our bundle without that is not waited for.
    ConfirmedByPeers = 1,
}

impl Publication {
    /// The choice that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Hints, Self::ConfirmedByPeers].into_iter().find(|choice| *choice as u32 == number)
    }
}

/// Whether each SVID that is issued is a record of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum AuditIssuance {
    /// It is none.
    Off = 1,
    /// It is one; an SVID is issued even if the record cannot be written.
    Recorded = 2,
    /// It is one; without the record there is no SVID.
    Required = 3,
}

impl AuditIssuance {
    /// The choice that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Off, Self::Recorded, Self::Required].into_iter().find(|choice| *choice as u32 == number)
    }
}

impl Policy {
    /// How long the CRL of a new key is out before the key signs, in seconds: what the policy says, but at most a quarter
    /// of an issuing certificate's life, or a key would hardly sign before it is renewed.
    #[must_use]
    pub fn crl_settle_time(&self) -> u32 {
        self.crl_settle.min(self.issuing_lifetime.checked_div(CRL_SETTLE_PER_ISSUING).unwrap_or(0))
    }

    /// Checks every value by itself and against the others.
    ///
    /// # Errors
    /// The first rule that is broken, with both values and what to change.
    pub fn check(&self) -> Result<(), PolicyError> {
        in_range("root_lifetime", self.root_lifetime, AUTHORITY_LIFETIME_LIMIT)?;
        in_range("issuing_lifetime", self.issuing_lifetime, AUTHORITY_LIFETIME_LIMIT)?;
        in_range("x509_svid_lifetime", self.x509_svid_lifetime, AUTHORITY_LIFETIME_LIMIT)?;
        in_range("jwt_key_lifetime", self.jwt_key_lifetime, AUTHORITY_LIFETIME_LIMIT)?;
        in_range("jwt_svid_lifetime", self.jwt_svid_lifetime, AUTHORITY_LIFETIME_LIMIT)?;
        if self.refresh_hint == 0 {
            return Err(PolicyError::NoRefreshHint);
        }
        let root = ("root_lifetime", self.root_lifetime);
        let issuing = ("issuing_lifetime", self.issuing_lifetime);
        let jwt_key = ("jwt_key_lifetime", self.jwt_key_lifetime);
        let hint = ("refresh_hint", self.refresh_hint);
        at_most_part(issuing, ISSUING_PER_ROOT, root)?;
        at_most_part(("x509_svid_lifetime", self.x509_svid_lifetime), LEAF_PER_ISSUING, issuing)?;
        at_most_part(hint, REFRESH_HINTS_PER_AUTHORITY, root)?;
        at_most_part(("jwt_svid_lifetime", self.jwt_svid_lifetime), TOKEN_PER_KEY, jwt_key)?;
        at_most_part(hint, REFRESH_HINTS_PER_AUTHORITY, jwt_key)?;
        let publication = ("publication_time", self.publication_time);
        at_most_part(publication, PUBLICATION_TIMES_PER_AUTHORITY, root)?;
        at_most_part(publication, PUBLICATION_TIMES_PER_AUTHORITY, jwt_key)?;
        if self.crl_settle > CRL_SETTLE_LIMIT {
            return Err(PolicyError::CrlSettle { value: self.crl_settle });
        }
        signs_for_others("root_key_type", self.root_key_type)?;
        signs_for_others("issuing_key_type", self.issuing_key_type)?;
        signs_for_others("jwt_key_type", self.jwt_key_type)
    }
}

fn in_range(field: &'static str, value: u32, longest: u32) -> Result<(), PolicyError> {
    if (SHORTEST_LIFETIME..=longest).contains(&value) {
        Ok(())
    } else {
        Err(PolicyError::Range { field, value, longest })
    }
}

fn at_most_part(short: (&'static str, u32), part: u32, long: (&'static str, u32)) -> Result<(), PolicyError> {
    if u64::from(short.1).saturating_mul(u64::from(part)) <= u64::from(long.1) {
        return Ok(());
    }
    let lower = long.1.checked_div(part).filter(|lower| *lower >= SHORTEST_LIFETIME);
    let raise = short.1.checked_mul(part).filter(|raise| *raise <= AUTHORITY_LIFETIME_LIMIT);
    Err(PolicyError::TooLong {
        field: short.0,
        value: short.1,
        limiting: long.0,
        limiting_value: long.1,
        part,
        lower,
        raise,
    })
}

/// What mends a value that is too long beside another: only what the ranges of both allow is proposed.
fn remedy(field: &str, lower: Option<u32>, limiting: &str, raise: Option<u32>) -> String {
    match (lower, raise) {
        (Some(lower), Some(raise)) => {
            format!("lower {field} to at most {lower} s, or raise {limiting} to at least {raise} s")
        }
        (Some(lower), None) => format!("lower {field} to at most {lower} s"),
        (None, Some(raise)) => format!("raise {limiting} to at least {raise} s"),
        (None, None) => format!("lower {field} and raise {limiting}"),
    }
}

/// Ed25519 is for leaves alone: too many verifiers refuse it in chains, and the JWT-SVID standard does not list EdDSA.
fn signs_for_others(field: &'static str, key_type: KeyType) -> Result<(), PolicyError> {
    if key_type.is_for_authorities() { Ok(()) } else { Err(PolicyError::KeyType { field, key_type }) }
}

/// Why a policy is refused. Nothing of it is taken over; the operator changes the value that the message names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A lifetime is too short to renew, or absurdly long.
    #[error("{field} is {value} s, which is not between {SHORTEST_LIFETIME} s and {longest} s: change {field}")]
    Range {
        /// Which value.
        field: &'static str,
        /// What it was.
        value: u32,
        /// The most it may be.
        longest: u32,
    },
    /// The refresh hint is 0.
    #[error("refresh_hint is 0 s, so readers of the bundle would never pause: set it to 1 s or more")]
    NoRefreshHint,
    /// The settle time is absurdly long.
    #[error("crl_settle is {value} s: set it to at most {CRL_SETTLE_LIMIT} s")]
    CrlSettle {
        /// What it was.
        value: u32,
    },
    /// One value is too long beside another.
    #[error(
        "{field} is {value} s, more than 1/{part} of {limiting}, which is {limiting_value} s: {}",
        remedy(field, *lower, limiting, *raise)
    )]
    TooLong {
        /// The value that is too long.
        field: &'static str,
        /// What it was.
        value: u32,
        /// The value beside which it is too long.
        limiting: &'static str,
        /// What that one was.
        limiting_value: u32,
        /// Which part of that one it may be.
        part: u32,
        /// The most that would pass in its place, if anything would.
        lower: Option<u32>,
        /// The least that would pass in place of the other, if anything would.
        raise: Option<u32>,
    },
    /// The key type is not for this use.
    #[error(
        "{field} is {key_type}, which may be used for X509-SVIDs only: choose ec-p256, ec-p384, rsa-2048 or rsa-4096"
    )]
    KeyType {
        /// Which value.
        field: &'static str,
        /// What it was.
        key_type: KeyType,
    },
}
