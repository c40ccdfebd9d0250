//! Revocation: what was revoked, the CRLs that say so, who gets them, and what falls due (`spec/revocation.md`).
//!
//! ```text
//!   Revoke ──> Revocation n: ban, token rule     crls_are_on: from this very log index on (CRL-08)
//!                  |
//!                  v  each issuer signs a CRL of its key with what is live of it
//!   RecordCrl { covers: n, revoked } ──> the key's CRL, RevokedLeaf ...
//!                  |                                          due ──> RevokeGoneKeys, SignRootCrl,
//!                  v                                                  ActivateIssuingKey, Prune
//!   CrlSet: one CRL of every root in the bundle and every unrevoked issuing key, or nothing (CRL-05)
//!                  |
//!                  v  crl_set_for: who may have it (CRL-10, CRL-11)
//!               streams
//! ```
//!
//! Everything here is a function of the state. What follows from the records (who is banned, which tokens are refused, the
//! set itself) is kept beside them and brought up to date with each change, so that a read costs no more than a look.

mod audience;
pub(crate) mod index;
mod records;
mod schedule;
mod set;

pub use audience::{CrlAudience, CrlDecision, crl_set_for};
pub use records::{
    CRL_BYTES_LIMIT, CRL_LINGER, JTI_LIMIT, KEYS_PER_REVOCATION, NewCrl, NewRevocation, REVOCATIONS_LIMIT,
    REVOKED_LEAVES_LIMIT, Revocation, RevocationTarget, RevokedLeaf,
};
pub(crate) use schedule::is_settled;
pub use schedule::{KeyRevocationCause, RevocationDue, due};
pub use set::{CRL_SET_BYTES_LIMIT, CRL_SET_HIGH_WATER, CrlSet};

pub use quorate_proto_identity::x509::RevocationReason;
