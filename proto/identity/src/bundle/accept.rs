//! A bundle just fetched against the one that is stored (FED-09, A-33, ATK-39).

use super::{Bundle, JwtAuthority};

/// What to do with a bundle just fetched. The whole replaces the stored one or is dropped; nothing is ever merged
/// (BND-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// Sequence and contents are those of the stored one.
    Unchanged,
    /// The sequence has grown.
    Newer,
    /// One of the two has no sequence: the one retrieved last is current.
    WithoutSequence,
    /// The same sequence with other contents: taken, and an alarm is due, for the publisher breaks its promise
    /// (BND-12).
    SameSequence,
    /// The sequence has gone back: the stored one stays, and an alarm is due.
    Older,
}

impl Acceptance {
    /// Whether the fetched bundle replaces the stored one.
    #[must_use]
    pub const fn replaces(self) -> bool {
        match self {
            Self::Newer | Self::WithoutSequence | Self::SameSequence => true,
            Self::Unchanged | Self::Older => false,
        }
    }

    /// Whether somebody should look at it.
    #[must_use]
    pub const fn is_alarming(self) -> bool {
        match self {
            Self::SameSequence | Self::Older => true,
            Self::Unchanged | Self::Newer | Self::WithoutSequence => false,
        }
    }
}

impl Bundle {
    /// Compares a bundle just fetched with the one stored for the same trust domain.
    #[must_use]
    pub fn accept_over(&self, stored: &Self) -> Acceptance {
        let same = self.has_contents_of(stored);
        match (self.sequence(), stored.sequence()) {
            (Some(fetched), Some(kept)) if fetched < kept => Acceptance::Older,
            (Some(fetched), Some(kept)) if fetched > kept => Acceptance::Newer,
            (Some(_), Some(_)) if !same => Acceptance::SameSequence,
            (None, None) if !same => Acceptance::WithoutSequence,
            (Some(_), None) | (None, Some(_)) => Acceptance::WithoutSequence,
            _ => Acceptance::Unchanged,
        }
    }

    /// Whether both hold the same authorities, in any order, and the same hint.
    #[must_use]
    pub fn has_contents_of(&self, other: &Self) -> bool {
        fn key_ids(bundle: &Bundle) -> Vec<&JwtAuthority> {
            let mut authorities: Vec<_> = bundle.jwt_authorities().iter().collect();
            authorities.sort_unstable_by(|left, right| left.key_id.cmp(&right.key_id));
            authorities
        }
        fn certificates(bundle: &Bundle) -> Vec<&[u8]> {
            let mut certificates: Vec<_> =
                bundle.x509_authorities().iter().map(|certificate| certificate.der()).collect();
            certificates.sort_unstable();
            certificates
        }
        self.trust_domain() == other.trust_domain()
            && self.refresh_hint() == other.refresh_hint()
            && certificates(self) == certificates(other)
            && key_ids(self) == key_ids(other)
    }
}
