//! A trust domain's authorities, with sequence number and refresh hint: the trust bundle.

mod accept;
mod jwk;
mod jwt_key_set;
mod map;
mod parse;
mod print;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use accept::Acceptance;
pub use map::{BUNDLE_MAP_LIMIT, BundleMap, BundleMapError};
pub use parse::{BUNDLE_LIMIT, BundleError, ParsedBundle, SkipReason, SkippedKey};

use crate::key::PublicKey;
use crate::trust_domain::TrustDomain;
use crate::x509::Certificate;

/// The public key of a JWK, if it is one that is known here.
pub(crate) fn from_jwk(jwk: &serde_json::Map<String, serde_json::Value>) -> Option<PublicKey> {
    jwk::from_jwk(jwk).ok()
}

/// Shortest time between two polls of a bundle endpoint, in seconds.
pub const REFRESH_LEAST_SECONDS: i64 = 60;

/// Longest time between two polls of a bundle endpoint, in seconds.
pub const REFRESH_MOST_SECONDS: i64 = 24 * 60 * 60;

/// Time between two polls when the document gives no usable hint, in seconds (BND-35, FED-07).
pub const REFRESH_DEFAULT_SECONDS: i64 = 300;

/// A key that signs JWT-SVIDs, with its `kid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    /// The `kid`: any text, compared byte for byte.
    pub key_id: String,
    /// The public key.
    pub public_key: PublicKey,
}

/// The authorities of one trust domain.
///
/// A document does not say whose it is (BND-04); this type always does. Each certificate is in it once, and each `kid`
/// names one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    x509_authorities: Vec<Certificate>,
    jwt_authorities: Vec<JwtAuthority>,
    sequence: Option<u64>,
    refresh_hint: Option<i64>,
}

impl Bundle {
    /// A bundle without any authority: every SVID of the trust domain is invalid (BND-20).
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            sequence: None,
            refresh_hint: None,
        }
    }

    /// Adds an X.509 authority; one that is there already is not added again, which the answer says (XB-27).
    pub fn add_x509_authority(&mut self, certificate: Certificate) -> bool {
        let is_new = !self.x509_authorities.contains(&certificate);
        if is_new {
            self.x509_authorities.push(certificate);
        }
        is_new
    }

    /// Adds a JWT authority, unless its `kid` is taken, which the answer says.
    pub fn add_jwt_authority(&mut self, authority: JwtAuthority) -> bool {
        let is_new = self.jwt_authority(&authority.key_id).is_none();
        if is_new {
            self.jwt_authorities.push(authority);
        }
        is_new
    }

    /// Sets `spiffe_sequence` (BND-12).
    pub fn set_sequence(&mut self, sequence: Option<u64>) {
        self.sequence = sequence;
    }

    /// Sets `spiffe_refresh_hint`, in seconds (BND-15).
    pub fn set_refresh_hint(&mut self, seconds: Option<i64>) {
        self.refresh_hint = seconds;
    }

    /// Whose authorities these are.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The certificates that X509-SVIDs are verified with.
    #[must_use]
    pub fn x509_authorities(&self) -> &[Certificate] {
        &self.x509_authorities
    }

    /// The keys that JWT-SVIDs are verified with.
    #[must_use]
    pub fn jwt_authorities(&self) -> &[JwtAuthority] {
        &self.jwt_authorities
    }

    /// The JWT authority with this `kid`.
    #[must_use]
    pub fn jwt_authority(&self, key_id: &str) -> Option<&JwtAuthority> {
        self.jwt_authorities.iter().find(|authority| authority.key_id == key_id)
    }

    /// `spiffe_sequence`, if it is known.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// `spiffe_refresh_hint` as it was written, in seconds; see [`Bundle::refresh_interval_seconds`] for one to poll
    /// by.
    #[must_use]
    pub fn refresh_hint(&self) -> Option<i64> {
        self.refresh_hint
    }

    /// The time between two polls, in seconds: the hint within [`REFRESH_LEAST_SECONDS`]..[`REFRESH_MOST_SECONDS`];
    /// without one above zero the default.
    #[must_use]
    pub fn refresh_interval_seconds(&self) -> i64 {
        self.refresh_hint
            .filter(|hint| *hint > 0)
            .unwrap_or(REFRESH_DEFAULT_SECONDS)
            .clamp(REFRESH_LEAST_SECONDS, REFRESH_MOST_SECONDS)
    }

    /// The X.509 authorities as the Workload API carries them: DER, one after the other (WAPI-19).
    #[must_use]
    pub fn x509_authorities_der(&self) -> Vec<u8> {
        self.x509_authorities.iter().flat_map(|certificate| certificate.der()).copied().collect()
    }
}

/// Where verification finds the bundle of a trust domain.
///
/// There is one bundle for a name and never a pool of several (FED-51).
pub trait BundleSource {
    /// The bundle of exactly this trust domain.
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle>;
}

impl BundleSource for Bundle {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        (self.trust_domain == *trust_domain).then_some(self)
    }
}

impl BundleSource for BTreeMap<TrustDomain, Bundle> {
    /// A bundle filed under another name than its own is not found.
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.get(trust_domain).filter(|bundle| bundle.trust_domain == *trust_domain)
    }
}

impl<S: BundleSource + ?Sized> BundleSource for Arc<S> {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        (**self).bundle(trust_domain)
    }
}

impl<S: BundleSource + ?Sized> BundleSource for &S {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        (**self).bundle(trust_domain)
    }
}
