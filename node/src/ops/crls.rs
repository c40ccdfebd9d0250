//! `/crl`: the complete set of CRLs, for consumers that read files.
//!
//! | Path | 200 |
//! |-|-|
//! | `/crl` | every CRL in PEM, one after the other: nginx's `ssl_crl`, PostgreSQL's `ssl_crl_file`, OpenSSL's `-CRLfile` |
//! | `/crl.der` | the same in DER, one after the other |
//!
//! There is the complete set or none (CRL-05), and never an empty body with 200: a consumer that was given an empty file
//! does not start, or keeps the last one (CRL-08).

use std::sync::Arc;

use bytes::Bytes;
use quorate_raft_machine::{CrlMode, CrlSet, State};

/// What there is to hand out.
#[derive(Debug, Clone)]
pub enum Crls {
    /// The complete set.
    Complete(Arc<CrlSet>),
    /// None, because none are wanted: why, in words.
    Off(String),
    /// None for now: why, in words.
    NotNow(String),
}

impl Crls {
    /// As the state wants it.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let Some(policy) = state.policy() else {
            return Self::NotNow("no authority is founded yet".to_owned());
        };
        if let Some(set) = state.crl_set() {
            return Self::Complete(set);
        }
        if state.crls_are_on() {
            return Self::NotNow(
                "all CRLs together are more than may be handed out; whole keys are being revoked until they fit"
                    .to_owned(),
            );
        }
        Self::Off(match policy.crl_mode {
            CrlMode::Off => "the policy hands out no CRLs (crl_mode is off)".to_owned(),
            CrlMode::WhenRevoked | CrlMode::Always => {
                "nothing is revoked, and the policy hands out CRLs only when something is (crl_mode is when-revoked); \
                 consumers with a fixed flag need crl_mode = \"always\""
                    .to_owned()
            }
        })
    }
}

/// Every CRL in PEM.
pub(super) fn pem(set: &CrlSet) -> Bytes {
    set.crls().map(|crl| crate::pem::pem("X509 CRL", crl)).collect::<String>().into()
}

/// Every CRL in DER.
pub(super) fn der(set: &CrlSet) -> Bytes {
    let mut bytes = Vec::with_capacity(set.bytes());
    set.crls().for_each(|crl| bytes.extend_from_slice(crl));
    bytes.into()
}
