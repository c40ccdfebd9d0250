//! Why something was not fetched, in words that an operator can act on.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use quorate_proto_identity::SpiffeId;
use quorate_proto_identity::endpoint_url::EndpointUrlError;
use quorate_proto_identity::x509::SvidError;

use super::address::AddressFault;
use super::network::NameError;

/// What was being done when the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Looking the name up.
    Resolving,
    /// Opening a connection.
    Connecting,
    /// Agreeing on TLS.
    Handshake,
    /// Waiting for the head of the answer.
    Asking,
    /// Reading the answer.
    Reading,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolving => "its name was looked up",
            Self::Connecting => "a connection was opened",
            Self::Handshake => "TLS was being agreed on",
            Self::Asking => "the answer was waited for",
            Self::Reading => "the answer was read",
        })
    }
}

/// The most characters of a server's own text that are told on: a head may have 64 KiB of them.
const SHOWN_LIMIT: usize = 256;

/// A server's text as errors tell it: cut short. What follows a `?` is left out, since links that are signed carry their
/// credentials there.
pub(super) fn shown(text: &str) -> String {
    let (told, query) = text.split_once('?').map_or((text, ""), |(told, _)| (told, "?..."));
    let mut shown: String = told.chars().take(SHOWN_LIMIT).collect();
    if told.chars().nth(SHOWN_LIMIT).is_some() {
        shown.push_str("...");
    }
    shown.push_str(query);
    shown
}

/// Why a request got no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The name is not known, or no name server answers.
    #[error("the host {host} cannot be looked up")]
    Name {
        /// Which host.
        host: String,
        /// What the resolver says.
        #[source]
        source: NameError,
    },
    /// The name has no address.
    #[error("the host {host} has no address")]
    NoAddress {
        /// Which host.
        host: String,
    },
    /// The name leads where nothing may be sent (ATK-37).
    #[error("nothing is sent to {address}, an address of {host}")]
    Address {
        /// Which host.
        host: String,
        /// Which of its addresses.
        address: IpAddr,
        /// Why not.
        #[source]
        source: AddressFault,
    },
    /// The hosts of this peer are pinned, and this is none of them.
    #[error("the host {host} is none of those pinned for this peer")]
    PinnedHost {
        /// Which host.
        host: String,
    },
    /// No connection came about.
    #[error("no connection to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// TLS was not agreed on, for another reason than the certificate.
    #[error("no TLS with {host} at {address}")]
    Tls {
        /// Which host.
        host: String,
        /// Where it was reached.
        address: SocketAddr,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The server's certificate is not the one that was to be met (FED-26, FED-40).
    #[error("the certificate of {host} at {address} is refused")]
    Certificate {
        /// Which host.
        host: String,
        /// Where it was reached.
        address: SocketAddr,
        /// Why.
        #[source]
        source: Arc<CertificateRefusal>,
    },
    /// There is nothing to check a public certificate with.
    #[error(
        "no certificate authorities of the web are known here: install the system's (package ca-certificates), or name a file \
         of them in federation.web_roots"
    )]
    NoWebRoots,
    /// The settings of TLS are not taken by the library, or this node's certificate does not fit its key.
    #[error("TLS cannot be set up")]
    Settings(#[from] rustls::Error),
    /// The request cannot be sent.
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    /// The server does not speak HTTP as it is written, or broke off.
    #[error("{host} answers with no HTTP that can be read")]
    Http {
        /// Which host.
        host: String,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
    /// Another status than 200.
    #[error("{host} answers with status {status}, where only 200 is taken")]
    Status {
        /// Which host.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// A redirect without a target, or one that breaks the rules of endpoint URLs (FED-28, FED-44).
    #[error("{host} redirects to {location:?}, which is not followed")]
    Location {
        /// Which host.
        host: String,
        /// Where it leads to.
        location: String,
        /// Why not there.
        #[source]
        source: EndpointUrlError,
    },
    /// It redirects, and to nowhere.
    #[error("{host} redirects and does not say where to")]
    NoLocation {
        /// Which host.
        host: String,
    },
    /// It redirects, and redirects are off for this peer (FED-28).
    #[error("{host} redirects to {location:?}, and redirects are not followed for this peer")]
    RedirectsOff {
        /// Which host.
        host: String,
        /// Where to.
        location: String,
    },
    /// More redirects than are followed (ATK-36).
    #[error("there are more than {limit} redirects")]
    TooManyRedirects {
        /// How many are followed.
        limit: usize,
    },
    /// The body is compressed, which was not asked for (a small one can unpack to any size).
    #[error("{host} answers with content-encoding {encoding:?}; only plain answers are taken")]
    Encoded {
        /// Which host.
        host: String,
        /// Which encoding.
        encoding: String,
    },
    /// The body is too large (ATK-36).
    #[error("{host} answers with more than {limit} bytes")]
    TooLarge {
        /// Which host.
        host: String,
        /// The most that is taken.
        limit: usize,
    },
    /// The time was over (ATK-36).
    #[error("the time limit of {} s was over while {phase}", .limit.as_secs_f32())]
    Time {
        /// What was being done.
        phase: Phase,
        /// How long everything may take.
        limit: Duration,
    },
}

impl OutboundError {
    /// Whether the host was not reached at all, so that another member of the cluster may reach it.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Name { .. }
                | Self::NoAddress { .. }
                | Self::Connect { .. }
                | Self::Time { phase: Phase::Resolving | Phase::Connecting, .. }
        )
    }

    /// The error with all its causes, in one line.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            // Some libraries repeat their cause in their own words.
            if !words.contains(&next) {
                words.push_str(": ");
                words.push_str(&next);
            }
            cause = error.source();
        }
        words
    }
}

/// Why a server's certificate is not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CertificateRefusal {
    /// By the rules of the web (RFC 6125, FED-26): issuer, host, dates.
    #[error("{0}")]
    Web(rustls::CertificateError),
    /// It is no X509-SVID that the bundle of its trust domain vouches for (FED-40).
    #[error("it is no X509-SVID that the bundle held for its trust domain vouches for")]
    Svid(#[from] SvidError),
    /// It is the SVID of somebody else (FED-40).
    #[error("it is that of {found}, and the endpoint's SPIFFE ID is to be {wanted}")]
    OtherId {
        /// Who was to be met.
        wanted: SpiffeId,
        /// Who was met.
        found: SpiffeId,
    },
    /// Its key is not a pinned one.
    #[error("its key is none of those pinned for this peer; the SHA-256 of its public key is {found}")]
    PinnedKey {
        /// What the key is, in hexadecimal.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_text_is_told_on_cut_short_and_without_what_a_signed_link_carries() {
        assert_eq!(shown("http://other.example/b"), "http://other.example/b");
        assert_eq!(shown("http://other.example/b?signature=s3cret"), "http://other.example/b?...");
        assert_eq!(shown(&"\u{e4}".repeat(60_000)).chars().count(), SHOWN_LIMIT + 3);
    }
}
