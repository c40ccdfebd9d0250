//! The demonstration's own check of what it was given: it believes the node no more than any workload should.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_proto_api::workload::{JwtsvidResponse, X509svidResponse};
use quorate_proto_identity::jwt_svid::JwtError;
use quorate_proto_identity::x509::{Purpose, SvidError};
use quorate_proto_identity::{
    Bundle, Certificate, PrivateKey, SerialNumber, SpiffeId, UnixSeconds, verify_jwt_svid, verify_x509_svid,
};

/// What the node issued is not what a client can accept.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The answer holds no SVID with the user's ID.
    #[error("the node answered without an {what} for {wanted}")]
    Missing {
        /// X509-SVID or JWT-SVID.
        what: &'static str,
        /// Whose.
        wanted: String,
    },
    /// A part of the answer is malformed.
    #[error("the {what} that the node sent cannot be read: {cause}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The private key is not the one in the certificate.
    #[error("the private key that came with the X509-SVID belongs to another certificate")]
    ForeignKey,
    /// The X509-SVID does not verify.
    #[error("the X509-SVID does not verify")]
    X509(#[from] SvidError),
    /// The JWT-SVID does not verify.
    #[error("the JWT-SVID does not verify")]
    Jwt(#[from] JwtError),
}

/// A verified X509-SVID, in words for people.
pub(super) struct SeenX509 {
    pub(super) spiffe_id: SpiffeId,
    pub(super) serial: String,
    pub(super) valid: String,
    pub(super) chain: String,
}

/// A verified JWT-SVID, in words for people.
pub(super) struct SeenJwt {
    pub(super) spiffe_id: SpiffeId,
    pub(super) valid: String,
    pub(super) key: String,
}

/// Verifies the user's X509-SVID: its chain with the bundle that came with it, and that the key is its own.
pub(super) fn verified_x509(answer: &X509svidResponse, user: &SpiffeId) -> Result<SeenX509, VerifyError> {
    let svid = answer
        .svids
        .iter()
        .find(|svid| svid.spiffe_id == user.as_str())
        .ok_or_else(|| VerifyError::Missing { what: "X509-SVID", wanted: user.to_string() })?;
    let chain = Certificate::parse_concatenated(&svid.x509_svid).map_err(malformed("certificate chain"))?;
    let mut bundle = Bundle::new(user.trust_domain());
    for root in Certificate::parse_concatenated(&svid.bundle).map_err(malformed("bundle"))? {
        bundle.add_x509_authority(root);
    }
    let chain_der: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    let verified = verify_x509_svid(&chain_der, &bundle, now(), Purpose::Any)?;
    let key = PrivateKey::from_pkcs8(&svid.x509_svid_key).map_err(malformed("private key"))?;
    if key.public_key() != verified.leaf().public_key() {
        return Err(VerifyError::ForeignKey);
    }
    let intermediates = chain.len().saturating_sub(1);
    Ok(SeenX509 {
        spiffe_id: verified.spiffe_id().clone(),
        serial: serial(verified.leaf()),
        valid: until(verified.leaf().validity().not_after()),
        chain: format!(
            "leaf and {intermediates} issuing certificate, {} root in the bundle",
            bundle.x509_authorities().len()
        ),
    })
}

/// Verifies the user's JWT-SVID with the keys of the JWT bundle.
pub(super) fn verified_jwt(
    answer: &JwtsvidResponse,
    audience: &str,
    key_set: &[u8],
    user: &SpiffeId,
) -> Result<SeenJwt, VerifyError> {
    let svid = answer
        .svids
        .iter()
        .find(|svid| svid.spiffe_id == user.as_str())
        .ok_or_else(|| VerifyError::Missing { what: "JWT-SVID", wanted: user.to_string() })?;
    let bundle = Bundle::parse_jwt_key_set(&user.trust_domain(), key_set).map_err(malformed("JWT bundle"))?.bundle;
    let verified = verify_jwt_svid(&svid.svid, audience, &bundle, now())?;
    let keys: Vec<&str> = bundle.jwt_authorities().iter().map(|key| key.key_id.as_str()).collect();
    Ok(SeenJwt { spiffe_id: verified.spiffe_id().clone(), valid: until(verified.expires_at()), key: keys.join(", ") })
}

fn malformed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> VerifyError {
    move |cause| VerifyError::Malformed { what, cause: cause.to_string() }
}

fn serial(leaf: &Certificate) -> String {
    <[u8; 16]>::try_from(leaf.serial())
        .ok()
        .and_then(|bytes| SerialNumber::new(bytes).ok())
        .map_or_else(|| leaf.serial().iter().map(|byte| format!("{byte:02x}")).collect(), SerialNumber::to_hex)
}

fn until(end: UnixSeconds) -> String {
    format!("until {end}, {} s from now", end.0.saturating_sub(now().0))
}

/// The client's own clock: the demonstration is a workload here, not a part of a node.
#[expect(
    clippy::disallowed_methods,
    reason = "a client verifies by the clock of its own process, as any workload does"
)]
fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
