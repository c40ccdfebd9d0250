//! X.509 authorities: the roots of the trust domain.

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, UnixSeconds, Validity};

use super::{AuthorityState, AuthorityTimes, Sealed, root_gone_at};

/// A root: a key pair made by the leader, shared by all nodes through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Authority {
    /// Its certificate's subject key ID, lower-case hexadecimal.
    pub id: AuthorityId,
    /// The self-signed certificate, DER.
    pub certificate: Bytes,
    /// Its newest CRL, DER (CRL-03).
    pub crl: Bytes,
    /// When the last of the certificates in that CRL ends; none while it is empty. They keep CRLs on (CRL-08).
    pub crl_keeps_until: Option<UnixSeconds>,
    /// When the certificate is valid.
    pub validity: Validity,
    /// Where it stands in its life.
    pub state: AuthorityState,
    /// When it came there.
    pub times: AuthorityTimes,
    /// Its private key, as long as it is in use.
    pub sealed: Option<Sealed>,
}

impl X509Authority {
    /// Whether it has ended and can be removed. One that is active stays until another takes its place.
    pub(crate) fn is_prunable(&self, now: UnixSeconds) -> bool {
        self.state != AuthorityState::Active && now >= root_gone_at(&self.validity)
    }
}
