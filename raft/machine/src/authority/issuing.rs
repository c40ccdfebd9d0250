//! Issuing certificates: each makes its member live.

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixSeconds, Validity};

use super::gone_at;

/// Most issuing certificates that the state keeps. A member renews at half life and what has ended is pruned, so a
/// member has two or three of them; restarts add some.
pub const ISSUING_CERTIFICATES_LIMIT: usize = 20_000;

/// Most unexpired issuing certificates of one member, so that one that restarts in a loop fills no bundle of CRLs.
pub const ISSUING_CERTIFICATES_PER_MEMBER: usize = 1_000;

/// Most bytes of a certificate that the state records. An RSA-4096 certificate of our profile has about 1,500.
pub const CERTIFICATE_BYTES_LIMIT: usize = 16 * 1024;

/// Most bytes of a CRL that is recorded with its issuer; it is empty, so it is smaller than the certificate.
pub const FIRST_CRL_BYTES_LIMIT: usize = 16 * 1024;

/// How far in the past a certificate may begin, in seconds (design section 3, lifetimes); it comes on top of its life.
pub const BACKDATE: i64 = 30;

/// An issuing certificate of a member, as recorded in the log. While one of a member's is unexpired and unrevoked, the
/// member is live: it may be signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingCertificate {
    /// Whose it is.
    pub member: MemberNumber,
    /// The subject key ID of its key, lower-case hexadecimal.
    pub key_id: AuthorityId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The root that signed it.
    pub issuer: AuthorityId,
    /// The certificate, DER.
    pub certificate: Bytes,
    /// When it is valid.
    pub validity: Validity,
    /// When it was recorded, in the log's time.
    pub recorded_at: UnixSeconds,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixSeconds>,
}

impl IssuingCertificate {
    /// Whether its member may sign with it at this instant.
    #[must_use]
    pub fn is_live(&self, now: UnixSeconds) -> bool {
        self.revoked_at.is_none() && now <= self.validity.not_after()
    }

    /// Whether it ended so long ago that it can be removed.
    pub(crate) fn is_prunable(&self, now: UnixSeconds) -> bool {
        now >= gone_at(&self.validity)
    }
}

/// Whether a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum IssuingKeyState {
    /// Not yet: CRLs are handed out, and not everybody may have this key's (CRL-07).
    Prepared = 1,
    /// It may, while it has a certificate.
    Signing = 2,
}

impl IssuingKeyState {
    /// The state that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Prepared, Self::Signing].into_iter().find(|state| *state as u32 == number)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Signing => "signing",
        }
    }
}

/// A key that issuing certificates were made for. A CRL belongs to it and not to one of its certificates (CRL-02).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuingKey {
    /// Its subject key ID, lower-case hexadecimal.
    pub id: AuthorityId,
    /// The member that made it.
    pub member: MemberNumber,
    /// Its newest CRL, DER, signed by it.
    pub crl: Bytes,
    /// Until when that CRL is current: no certificate of the key ends later (CRL-03).
    pub crl_next_update: UnixSeconds,
    /// Its place among the keys of all members, ascending in the order in which they were recorded.
    pub number: u64,
    /// The start of its member's process that made it.
    pub boot: u64,
    /// Whether it may sign.
    pub state: IssuingKeyState,
    /// Every revocation up to this number that concerns it is in its CRL.
    pub covered: u64,
    /// When it was recorded, in the log's time.
    pub recorded_at: UnixSeconds,
}
