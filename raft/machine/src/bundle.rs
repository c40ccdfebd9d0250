//! The trust domain's own bundle: what others need to verify what we sign.

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, UnixSeconds};

/// Content of the bundle, made anew whenever an authority or the refresh hint changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundleContent {
    /// Roots, in the order of their IDs.
    pub x509_authorities: Vec<BundleX509Authority>,
    /// Token keys, in the order of their IDs.
    pub jwt_authorities: Vec<BundleJwtAuthority>,
    /// `spiffe_refresh_hint`, in seconds.
    pub refresh_hint: u32,
    /// `spiffe_sequence`: one higher whenever anything above is different, and never otherwise.
    pub sequence: u64,
}

/// A root in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleX509Authority {
    /// Its subject key ID, lower-case hexadecimal.
    pub id: AuthorityId,
    /// The certificate, DER.
    pub certificate: Bytes,
    /// Whether what it signed is to be replaced.
    pub tainted: bool,
}

/// A token key in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleJwtAuthority {
    /// The `kid` of its tokens.
    pub id: AuthorityId,
    /// The public key: subjectPublicKeyInfo, DER.
    pub public_key: Bytes,
    /// The end of its life.
    pub expires_at: UnixSeconds,
    /// Whether its tokens are to be replaced.
    pub tainted: bool,
}

impl BundleContent {
    /// Whether two bundles say the same, whatever their sequence numbers.
    pub(crate) fn same_content(&self, other: &Self) -> bool {
        let Self { x509_authorities, jwt_authorities, refresh_hint, sequence: _ } = self;
        *x509_authorities == other.x509_authorities
            && *jwt_authorities == other.jwt_authorities
            && *refresh_hint == other.refresh_hint
    }
}
