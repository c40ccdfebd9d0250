//! What was revoked: the records, and what commands bring.

use bytes::Bytes;
use quorate_proto_identity::x509::RevocationReason;
use quorate_proto_identity::{AuthorityId, EntryId, MemberNumber, SerialNumber, SpiffeId, UnixSeconds};

/// Most revocations that the state keeps, bans and token rules among them. Each is looked at by every issuer, and one that
/// is for certificates or tokens goes when those have ended; ten thousand at once is a reason to replace an authority.
pub const REVOCATIONS_LIMIT: usize = 10_000;

/// Most revoked leaves that the state keeps: as many as fit the set of CRLs, at about 50 bytes each.
pub const REVOKED_LEAVES_LIMIT: usize = 20_000;

/// Most bytes of one CRL, which is some 5,000 leaves: a key that has more of them revoked is revoked whole (CRL-05). It is
/// a quarter of what the set may have, so that one CRL alone cannot fill it.
pub const CRL_BYTES_LIMIT: usize = 256 * 1024;

/// How long after the end of the last revoked certificate CRLs are still handed out, in seconds: verifiers' clocks may be
/// behind, and one that refuses everybody without a CRL is to see the set go last (CRL-08).
pub const CRL_LINGER: i64 = 3_600;

/// Longest `jti` that a rule may name, in bytes. Ours have 36.
pub const JTI_LIMIT: usize = 255;

/// Most issuing keys that one command revokes, so that it holds up `apply` for a moment only.
pub const KEYS_PER_REVOCATION: usize = 1_000;

/// What a revocation is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationTarget {
    /// One X509-SVID.
    Serial {
        /// Its serial number.
        serial: SerialNumber,
    },
    /// Whatever was issued with this SPIFFE ID, tokens too.
    SpiffeId(SpiffeId),
    /// Whatever was issued for this registration entry, tokens too.
    Entry(EntryId),
    /// Whatever this member signed. Tokens are signed by keys that all members share, so they are not among it.
    Node(MemberNumber),
    /// One token.
    Jti {
        /// Its `jti`, at most [`JTI_LIMIT`] bytes.
        jti: String,
        /// Its `exp`: later the rule is worth nothing.
        expires_at: UnixSeconds,
    },
}

impl RevocationTarget {
    /// Whether certificates are revoked by it, so that CRLs are to be handed out (CRL-08).
    #[must_use]
    pub const fn is_of_certificates(&self) -> bool {
        match self {
            Self::Serial { .. } | Self::SpiffeId(_) | Self::Entry(_) | Self::Node(_) => true,
            Self::Jti { .. } => false,
        }
    }

    /// Whether tokens are refused by it.
    #[must_use]
    pub const fn is_of_tokens(&self) -> bool {
        match self {
            Self::SpiffeId(_) | Self::Entry(_) | Self::Jti { .. } => true,
            Self::Serial { .. } | Self::Node(_) => false,
        }
    }
}

/// A revocation as an operator wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevocation {
    /// What it is about.
    pub target: RevocationTarget,
    /// Why.
    pub reason: RevocationReason,
    /// Whether no node issues to it any more, until the revocation is removed.
    pub ban: bool,
}

/// A revocation, as the state keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Ascending from 1, never given again.
    pub number: u64,
    /// What it is about.
    pub target: RevocationTarget,
    /// Of an entry, the SPIFFE ID that it gave when this was applied: what tokens of it say.
    pub subject: Option<SpiffeId>,
    /// Why.
    pub reason: RevocationReason,
    /// Whether no node issues to it, until it is removed.
    pub ban: bool,
    /// Whether tokens are refused because of it: those of its subject that were issued up to `up_to`, or the one with its
    /// `jti`.
    pub token_rule: bool,
    /// When it was applied, in the log's time.
    pub created_at: UnixSeconds,
    /// Certificates and tokens issued up to this instant are meant.
    pub up_to: UnixSeconds,
    /// When the last certificate or token that it can be about has ended. A ban has no end.
    pub expires_at: UnixSeconds,
    /// When the last certificate that it can be about has ended; none if it is of tokens alone. Tokens need no CRLs, and
    /// their keys live longer.
    pub certificates_end: Option<UnixSeconds>,
}

impl Revocation {
    /// The SPIFFE ID whose tokens its rule refuses.
    #[must_use]
    pub fn token_subject(&self) -> Option<&SpiffeId> {
        match &self.target {
            RevocationTarget::SpiffeId(id) => Some(id),
            RevocationTarget::Entry(_) => self.subject.as_ref(),
            RevocationTarget::Serial { .. } | RevocationTarget::Node(_) | RevocationTarget::Jti { .. } => None,
        }
    }

    /// Until when CRLs are handed out because of it, if at all (CRL-08).
    #[must_use]
    pub fn keeps_crls_until(&self) -> Option<UnixSeconds> {
        self.certificates_end.map(|end| end.plus(CRL_LINGER))
    }

    /// Whether nothing depends on it any more.
    #[must_use]
    pub fn is_prunable(&self, now: UnixSeconds) -> bool {
        !self.ban && now > self.expires_at.plus(CRL_LINGER)
    }
}

/// A leaf that is in a CRL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedLeaf {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Whom it named.
    pub spiffe_id: SpiffeId,
    /// When it ends.
    pub not_after: UnixSeconds,
    /// The number of the revocation that it is in the CRL for.
    pub revocation: u64,
}

impl RevokedLeaf {
    /// Until when CRLs are handed out because of it, and it is kept (CRL-08).
    #[must_use]
    pub fn keeps_crls_until(&self) -> UnixSeconds {
        self.not_after.plus(CRL_LINGER)
    }
}

/// The next CRL of an issuing key or of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCrl {
    /// Whose: the issuing key or root that signed it.
    pub issuer: AuthorityId,
    /// The CRL, DER, at most [`CRL_BYTES_LIMIT`].
    pub crl: Bytes,
    /// Every revocation up to this number that concerns the key is in it. Of no meaning for a root.
    pub covers: u64,
    /// The leaves that it adds to the key's last CRL. None for a root.
    pub revoked: Vec<RevokedLeaf>,
}
