//! Signing authorities: their life cycle, and when each step falls due.
//!
//! ```text
//!            prepare          activate           (next one active)
//!  (leader) ---------> prepared ------> active -------------------> old ------ end is past ------> pruned
//!                                                                    | taint                         ^
//!                                                                    v        revoke                 |
//!                                                                 tainted ------------> revoked -----+
//!
//!  in the bundle:      yes              yes                         yes, tainted too    no
//!  X.509 key kept:     yes              yes                         yes (signs its CRL) erased
//!  token key kept:     yes              yes                         erased              erased
//! ```
//!
//! Every other step is refused. A root goes when its end is past, a token key [`EXPIRY_GRACE`] later. The gate in front of
//! activation (every live member has applied the authority) is kept by whoever proposes it; [`State::live_members`](crate::State::live_members) says who they are.

pub mod gate;
mod issuing;
mod jwt;
mod publication;
mod schedule;
mod sealed;
mod timeline;
mod view;
mod x509;

pub use issuing::{
    BACKDATE, CERTIFICATE_BYTES_LIMIT, FIRST_CRL_BYTES_LIMIT, ISSUING_CERTIFICATES_LIMIT,
    ISSUING_CERTIFICATES_PER_MEMBER, IssuingCertificate, IssuingKey, IssuingKeyState,
};
pub use jwt::JwtAuthority;
pub use publication::{published_at, published_at_from, readers_time};
pub use schedule::{Due, EXPIRY_GRACE, activate_at, due, gone_at, next_due_at, prepare_at, root_gone_at};
pub(crate) use sealed::check_parts;
pub use sealed::{Recipient, SEALED_BYTES_LIMIT, SEALED_RECIPIENTS_LIMIT, SEALED_TOTAL_LIMIT, Sealed, SealedFor};
pub use timeline::{Milestone, TimelineStep, timeline};
pub use view::AuthorityView;
pub use x509::X509Authority;

use quorate_proto_identity::UnixSeconds;

/// Most authorities of a kind that the state keeps. A forced rotation adds one and every routine rotation one, all gone
/// after their own end; each is in every bundle, so many of them would weigh on every handshake.
pub const AUTHORITIES_LIMIT: usize = 64;

/// What an authority signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum AuthorityKind {
    /// Issuing certificates: a root.
    X509 = 1,
    /// JWT-SVIDs: a token key.
    Jwt = 2,
}

impl AuthorityKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::X509, Self::Jwt];

    /// The kind that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// The word for it in logs and on command lines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }

    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::X509 => "X.509 authority",
            Self::Jwt => "JWT authority",
        }
    }
}

/// Where an authority stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum AuthorityState {
    /// In the bundle, not signing yet.
    Prepared = 1,
    /// Signing.
    Active = 2,
    /// In the bundle until its own end (a token key a little longer), signing no more.
    Old = 3,
    /// As old, and everything under it is being replaced.
    Tainted = 4,
    /// Out of the bundle.
    Revoked = 5,
}

impl AuthorityState {
    /// Every state, in the order of life.
    pub const ALL: [Self; 5] = [Self::Prepared, Self::Active, Self::Old, Self::Tainted, Self::Revoked];

    /// Whether an authority in this state is in the bundle.
    #[must_use]
    pub const fn in_bundle(self) -> bool {
        !matches!(self, Self::Revoked)
    }

    /// Whether a root in this state keeps its sealed private half: as long as it is in the bundle, because it signs
    /// its CRL (design section 2, property 6).
    #[must_use]
    pub const fn keeps_x509_key(self) -> bool {
        self.in_bundle()
    }

    /// Whether a token key in this state keeps its sealed private half: until it is old.
    #[must_use]
    pub const fn keeps_jwt_key(self) -> bool {
        matches!(self, Self::Prepared | Self::Active)
    }

    /// Whether an authority in this state signs for its kind, or is about to.
    #[must_use]
    pub const fn signs_or_will(self) -> bool {
        matches!(self, Self::Prepared | Self::Active)
    }

    /// The state that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u32 == number)
    }

    /// The standard word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }

    /// Whether one step of the life cycle leads from this state to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Prepared, Self::Active)
                | (Self::Active, Self::Old)
                | (Self::Old, Self::Tainted)
                | (Self::Tainted, Self::Revoked)
        )
    }
}

/// When an authority came to each state, in the log's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuthorityTimes {
    /// When it entered the bundle.
    pub prepared_at: UnixSeconds,
    /// When it began to sign.
    pub activated_at: Option<UnixSeconds>,
    /// When it became old.
    pub retired_at: Option<UnixSeconds>,
    /// When it was tainted.
    pub tainted_at: Option<UnixSeconds>,
    /// When it left the bundle by revocation.
    pub revoked_at: Option<UnixSeconds>,
    /// When a member was found to be compromised, if that was while this authority signed or was about to: somebody may
    /// have its key, so it is to be replaced at once.
    pub suspected_at: Option<UnixSeconds>,
    /// When an operator asked for another in its place, without any suspicion.
    pub replace_at: Option<UnixSeconds>,
    /// When the leader found that every live member had applied it: since then each of their bundle endpoints serves it,
    /// and readers of the bundle have their time (FED-03).
    pub published_at: Option<UnixSeconds>,
    /// When every trust domain that we have a relationship with had confirmed that it has it in force.
    pub confirmed_at: Option<UnixSeconds>,
}

impl AuthorityTimes {
    /// Notes that `state` was reached at `now`.
    pub(crate) fn note(&mut self, state: AuthorityState, now: UnixSeconds) {
        match state {
            AuthorityState::Prepared => self.prepared_at = now,
            AuthorityState::Active => self.activated_at = Some(now),
            AuthorityState::Old => self.retired_at = Some(now),
            AuthorityState::Tainted => self.tainted_at = Some(now),
            AuthorityState::Revoked => self.revoked_at = Some(now),
        }
    }
}
