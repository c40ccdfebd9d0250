//! X509-SVIDs verified (X509-SVID standard section 5; A-08 to A-14).
//!
//! ```text
//!  chain --> leaf profile (ours) --> bundle of the leaf's own trust domain --> path (rustls-webpki)
//!                                                                                |
//!                        VerifiedX509Svid <-- key usage of each issuer (ours) <--+
//! ```
//!
//! rustls-webpki builds the path: signatures, dates, names, `cA`, path lengths, name constraints, unknown critical
//! extensions. It looks at no key usage, at nothing of a leaf's profile, and at nothing of an anchor but name and key
//! (A-13, A-14); that is done here. No host name is ever compared: the peer is who its SPIFFE ID says (FED-40).

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeIdIter, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};

use super::certificate::{Certificate, CertificateError};
use super::crl::{CrlSet, CrlSource};
use crate::bundle::BundleSource;
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::trust_domain::TrustDomain;
use crate::validity::UnixSeconds;

/// Most certificates that a peer may send: a leaf and the six intermediates that the path builder goes through at most.
pub const CHAIN_LIMIT: usize = 7;

/// What the peer uses its SVID for (A-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The peer is a TLS client: an extended key usage, if there is one, lists clientAuth.
    Client,
    /// The peer is a TLS server: an extended key usage, if there is one, lists serverAuth.
    Server,
    /// The role is not known: either of the two will do.
    Any,
}

/// The proof that an X509-SVID was verified. Only [`verify_x509_svid`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedX509Svid {
    spiffe_id: SpiffeId,
    leaf: Certificate,
}

impl VerifiedX509Svid {
    /// Who the peer is.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The leaf.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }
}

/// Verifies the certificates that a peer sent, leaf first, against the bundle of the leaf's own trust domain (X509-30,
/// BND-05).
///
/// That the peer holds the private key is for the handshake to prove; whether this ID may do what it asks is for the
/// caller to decide (XC-42).
///
/// # Errors
/// The first rule that is broken.
pub fn verify_x509_svid<C: AsRef<[u8]>>(
    chain: &[C],
    bundles: &(impl BundleSource + ?Sized),
    now: UnixSeconds,
    purpose: Purpose,
) -> Result<VerifiedX509Svid, SvidError> {
    verify(chain, bundles, &NoCrls, now, purpose)
}

/// The same, and refuses a peer whose leaf or issuing certificate is revoked by the CRLs of its own trust domain, or has an
/// issuer of which they have none (CRL-12). A trust domain that publishes no set is not checked. CRLs are current to their
/// nextUpdate.
///
/// Whoever verifies connections with it replaces its whole TLS configuration when the set changes, session store and
/// ticketer too, and closes those of peers that are now refused: a resumed session is not verified again.
///
/// # Errors
/// The first rule that is broken; [`SvidError::is_revoked`] tells a revocation from the rest.
pub fn verify_unrevoked_x509_svid<C: AsRef<[u8]>>(
    chain: &[C],
    bundles: &(impl BundleSource + ?Sized),
    crls: &(impl CrlSource + ?Sized),
    now: UnixSeconds,
    purpose: Purpose,
) -> Result<VerifiedX509Svid, SvidError> {
    verify(chain, bundles, crls, now, purpose)
}

/// No trust domain publishes CRLs.
struct NoCrls;

impl CrlSource for NoCrls {
    fn crls(&self, _trust_domain: &TrustDomain) -> Option<&CrlSet> {
        None
    }
}

fn verify<C: AsRef<[u8]>>(
    chain: &[C],
    bundles: &(impl BundleSource + ?Sized),
    crls: &(impl CrlSource + ?Sized),
    now: UnixSeconds,
    purpose: Purpose,
) -> Result<VerifiedX509Svid, SvidError> {
    if chain.len() > CHAIN_LIMIT {
        return Err(SvidError::ChainTooLong { length: chain.len() });
    }
    let (leaf_der, others) = chain.split_first().ok_or(SvidError::NoCertificate)?;
    let leaf = Certificate::parse(leaf_der.as_ref())?;
    let spiffe_id = check_leaf_profile(&leaf)?;
    check_purpose(&leaf, purpose)?;
    let trust_domain = spiffe_id.trust_domain();
    let bundle =
        bundles.bundle(&trust_domain).ok_or_else(|| SvidError::NoBundle { trust_domain: trust_domain.clone() })?;
    let anchors: Vec<CertificateDer<'_>> = bundle
        .x509_authorities()
        .iter()
        .filter(|anchor| anchor.is_signing_certificate() && anchor.validity().contains(now))
        .map(|anchor| CertificateDer::from(anchor.der()))
        .collect();
    let anchors: Vec<_> = anchors.iter().filter_map(|anchor| webpki::anchor_from_trusted_cert(anchor).ok()).collect();
    if anchors.is_empty() {
        return Err(SvidError::NoAuthority { trust_domain });
    }
    let leaf_der = CertificateDer::from(leaf.der());
    let end_entity = EndEntityCert::try_from(&leaf_der).map_err(SvidError::Path)?;
    let intermediates: Vec<_> = others.iter().map(|certificate| CertificateDer::from(certificate.as_ref())).collect();
    let lists = crls.crls(&trust_domain).map(CrlSet::lists);
    let revocation = match &lists {
        None => None,
        Some(lists) => {
            let options = RevocationOptionsBuilder::new(lists).map_err(|_none| SvidError::NoCrls)?;
            Some(
                options
                    .with_depth(RevocationCheckDepth::Chain)
                    .with_status_policy(UnknownStatusPolicy::Deny)
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build(),
            )
        }
    };
    // Before 1970 nothing is valid, as at its first second.
    let seconds = u64::try_from(now.0).unwrap_or_default();
    end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            AnyPurpose,
            revocation,
            Some(&check_issuers),
        )
        .map_err(SvidError::Path)?;
    Ok(VerifiedX509Svid { spiffe_id, leaf })
}

/// Checks the profile of a leaf by itself, without any signature: what an SVID must hold before it is worth a look at
/// who signed it. Also for an SVID of one's own (X509-01 to X509-06, X509-31 to X509-34, A-09, A-10).
///
/// # Errors
/// The first rule that is broken.
pub fn check_leaf_profile(leaf: &Certificate) -> Result<SpiffeId, SvidError> {
    let extensions = leaf.extensions();
    if extensions.is_ca == Some(true) {
        return Err(SvidError::Authority);
    }
    let spiffe_id = match extensions.uri_names.as_slice() {
        [name] => SpiffeId::parse(name)?,
        names => return Err(SvidError::UriNames { count: names.len() }),
    };
    if spiffe_id.is_trust_domain_id() {
        return Err(SvidError::NoPath);
    }
    match extensions.key_usage {
        Some(usage) if usage.key_cert_sign() || usage.crl_sign() => Err(SvidError::SigningKeyUsage),
        Some(usage) if usage.digital_signature() => Ok(spiffe_id),
        _ => Err(SvidError::NoDigitalSignature),
    }
}

/// Why an X509-SVID is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The peer sent no certificate (XC-32).
    #[error("there is no certificate")]
    NoCertificate,
    /// The peer sent more than [`CHAIN_LIMIT`] certificates.
    #[error("the chain has {length} certificates, the most is {CHAIN_LIMIT}")]
    ChainTooLong {
        /// How many it sent.
        length: usize,
    },
    /// The leaf cannot be read.
    #[error("the leaf cannot be read")]
    Certificate(#[from] CertificateError),
    /// Not exactly one URI name (X509-02, X509-03).
    #[error("the leaf has {count} URI names, an X509-SVID has exactly one")]
    UriNames {
        /// How many it has.
        count: usize,
    },
    /// The URI name is not a SPIFFE ID (X509-03, X509-33).
    #[error("the leaf's URI name is not a SPIFFE ID")]
    SpiffeId(#[from] SpiffeIdError),
    /// The SPIFFE ID is that of a trust domain (X509-34).
    #[error("the leaf's SPIFFE ID has no path")]
    NoPath,
    /// The certificate presented is an authority's (X509-13, X509-31).
    #[error("the certificate is an authority's and identifies no workload")]
    Authority,
    /// The leaf may sign certificates or CRLs (X509-32).
    #[error("the leaf's key usage has keyCertSign or cRLSign")]
    SigningKeyUsage,
    /// The leaf has no key usage, or one without digitalSignature (A-09).
    #[error("the leaf's key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// The leaf has an extended key usage that does not list the role the peer plays (A-12).
    #[error("the leaf's extended key usage does not allow the role the peer plays")]
    Purpose,
    /// No bundle of the leaf's trust domain is known (XC-14).
    #[error("no bundle is known for the trust domain {trust_domain}")]
    NoBundle {
        /// The leaf's trust domain.
        trust_domain: TrustDomain,
    },
    /// The bundle holds no X.509 authority that is in date (XC-15, XC-39).
    #[error("the bundle of {trust_domain} has no X.509 authority in date")]
    NoAuthority {
        /// The leaf's trust domain.
        trust_domain: TrustDomain,
    },
    /// The CRLs of the leaf's trust domain are none: a fault of whoever gave them.
    #[error("the set of CRLs is empty")]
    NoCrls,
    /// No path leads to an authority of the bundle, or the CRLs refuse every one that does.
    #[error("no path leads to an authority of the trust domain")]
    Path(#[source] webpki::Error),
}

impl SvidError {
    /// Whether the leaf or an issuing certificate is revoked, or is not covered by the CRLs of its trust domain.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        matches!(self, Self::Path(webpki::Error::CertRevoked | webpki::Error::UnknownRevocationStatus))
    }
}

fn check_purpose(leaf: &Certificate, purpose: Purpose) -> Result<(), SvidError> {
    let Some(usage) = leaf.extensions().extended_key_usage else { return Ok(()) };
    let fits = usage.any
        || match purpose {
            Purpose::Client => usage.client_auth,
            Purpose::Server => usage.server_auth,
            Purpose::Any => usage.client_auth || usage.server_auth,
        };
    if fits { Ok(()) } else { Err(SvidError::Purpose) }
}

/// Extended key usage is checked on the leaf, by us. The path builder would apply a wish to the intermediates as well,
/// where the standard leaves its meaning open (X509-28).
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        purposes.into_iter().try_for_each(|purpose| purpose.map(drop))
    }
}

/// Each intermediate of a path reads by our own rules and may sign certificates (X509-20, XC-24).
fn check_issuers(path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
    for issuer in path.intermediate_certificates() {
        let issuer = Certificate::parse(&issuer.der()).map_err(|_| webpki::Error::BadDer)?;
        if !issuer.is_signing_certificate() {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
    }
    Ok(())
}
