//! What can go wrong with a client's run.

use std::time::Duration;
use thiserror::Error;

/// Why the client's run failed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The arguments name no command.
    #[error("usage: fetch|renew|jwt|serve|dial|refused ...")]
    Usage,
    /// An argument is no number.
    #[error("an argument is no number")]
    Number(#[from] std::num::ParseIntError),
    /// The whole run took longer than it may.
    #[error("not done after {0:?}")]
    TooSlow(Duration),
    /// The Workload API refused or could not be reached.
    #[error("workload API: {0}")]
    WorkloadApi(#[from] spiffe::WorkloadApiError),
    /// The source of X.509 material failed.
    #[error("source: {0}")]
    Source(#[from] spiffe::X509SourceError),
    /// A SPIFFE ID in the arguments is malformed.
    #[error("SPIFFE ID: {0}")]
    Id(#[from] spiffe::SpiffeIdError),
    /// A token did not validate locally.
    #[error("local validation: {0}")]
    Jwt(#[from] spiffe::JwtSvidError),
    /// A TLS configuration could not be made.
    #[error("TLS configuration: {0}")]
    Tls(#[from] spiffe_rustls::Error),
    /// A connection failed, or its handshake did.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// What was received is not what has to be.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    /// A failed expectation.
    pub(crate) fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }
}
