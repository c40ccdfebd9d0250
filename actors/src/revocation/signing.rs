//! The next CRL of a key: when it may be of, and its signature (CRL-02 to CRL-04).

use std::time::Duration;

use quorate_proto_identity::{
    PrivateKey, UnixSeconds,
    x509::{CrlError, CrlTemplate, ParsedCrl, RevokedCertificate, ThisUpdate, build_crl, this_update},
};
use quorate_raft_consensus::{Sources, WorkLost};

use crate::sources::is_slow;

/// Waits until the next CRL of a key may be made, and gives its thisUpdate. As a rule nothing is waited for: the last thirty
/// seconds are a reserve (CRL-04).
pub(super) async fn until_allowed(sources: &Sources, last: &ParsedCrl) -> UnixSeconds {
    loop {
        let now = sources.now();
        match this_update(Some(last.this_update), now) {
            ThisUpdate::At(at) => return at,
            ThisUpdate::From(from) => {
                let wait = from.since(now).clamp(1, 1000).unsigned_abs();
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}

/// Signs the CRL that follows the last one; a signature that takes long elsewhere.
pub(super) async fn sign(
    sources: &Sources,
    key: &PrivateKey,
    last: &ParsedCrl,
    this_update: UnixSeconds,
    next_update: UnixSeconds,
    revoked: Vec<RevokedCertificate>,
) -> Result<Result<Vec<u8>, CrlError>, WorkLost> {
    let number = last.number.saturating_add(1);
    let make =
        move |key: &PrivateKey| build_crl(&CrlTemplate { this_update, next_update, number, revoked: &revoked }, key);
    if is_slow(key.key_type()) {
        let key = key.clone();
        return sources.run_blocking(move || make(&key)).await;
    }
    Ok(make(key))
}
