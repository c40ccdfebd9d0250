//! What the cluster is to web clients: certificates of their authorities (ACME), and the OpenID Connect discovery
//! provider.
//!
//! ```text
//!   SetAcme: directory, contact, domains ──> which domains want a certificate
//!        for each domain, by whoever leads:
//!          BeginWebOrder ──> SetWebChallenge ──> RecordWebCertificate         (its key: a shared secret, sealed to all)
//!                 |               every member answers it         |
//!                 └── FailWebOrder: counted, tried again later ───┘
//!   SetOidc: issuer, cache time ──> documents of the issuer and of those before it, until their overlap ends
//! ```
//!
//! Every half of an order is in the state before the next one begins, so whichever leader comes goes on where another
//! stopped. Who orders when is decided in `actors` (`acme`), by a pure function of what is here.

mod acme;
mod oidc;

pub use acme::{
    ACCOUNT_SECRET, Acme, AcmeChallenge, AcmeSettings, CONTACTS_LIMIT, FAILURE_REASON_LIMIT, NewWebCertificate,
    WEB_CERTIFICATE_BYTES_LIMIT, WEB_CHAIN_LIMIT, WEB_DOMAINS_LIMIT, WebCertificate, WebChallenge, WebDomain,
    WebFailure, WebOrder,
};
pub use oidc::{
    FORMER_ISSUERS_LIMIT, FormerIssuer, ISSUER_OVERLAP_LIMIT, ISSUERS_LIMIT, JWKS_CACHE_TIME_DEFAULT,
    JWKS_CACHE_TIME_LIMIT, OidcProvider, OidcSettings, host_of,
};

use quorate_proto_identity::EndpointUrlError;
use quorate_proto_identity::dns_name::DnsNameError;

/// Why settings of ACME or of the discovery provider are refused. Nothing of them is taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebSettingsError {
    /// A URL that is none of an HTTPS server.
    #[error("{field} {value:?} is not usable")]
    Url {
        /// Which setting.
        field: &'static str,
        /// What it was.
        value: String,
        /// Why not.
        source: EndpointUrlError,
    },
    /// An issuer is compared byte for byte by those who rely on it, so there is one way to write it.
    #[error(
        "issuer {value:?} {fault}: write it as https://HOST or https://HOST/PATH, in lower case, with no slash at its end"
    )]
    Issuer {
        /// What it was.
        value: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A domain that no certificate can be had for by a challenge, or that no request is addressed to.
    #[error("domain {value:?} is not usable")]
    Domain {
        /// What it was.
        value: String,
        /// Why not.
        source: DnsNameError,
    },
    /// A domain in another form than the one it is compared in.
    #[error("domain {value:?} {fault}")]
    DomainForm {
        /// What it was.
        value: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A contact that an ACME server cannot use.
    #[error("contact {value:?} is not usable: write mailto: and an address")]
    Contact {
        /// What it was.
        value: String,
    },
    /// A value that is out of its range.
    #[error("{field} is {value}, which is not between {least} and {most}")]
    Range {
        /// Which setting.
        field: &'static str,
        /// What it was.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// Without that no authority issues anything.
    #[error("the authority's terms of service are to be agreed to: read them, then give --agree-to-terms")]
    Terms,
    /// The same thing twice.
    #[error("{value:?} is given twice")]
    Repeated {
        /// What.
        value: String,
    },
}

/// Checks a domain: a DNS name in lower case, without wildcard.
fn check_domain(domain: &str) -> Result<(), WebSettingsError> {
    let form = |fault| Err(WebSettingsError::DomainForm { value: domain.to_owned(), fault });
    if domain.starts_with("*.") {
        return form("is a wildcard, and neither TLS-ALPN-01 nor HTTP-01 can prove one: name each host");
    }
    quorate_proto_identity::dns_name::check_dns_name(domain)
        .map_err(|source| WebSettingsError::Domain { value: domain.to_owned(), source })?;
    if domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return form("has capital letters: write it in lower case, as it is compared");
    }
    Ok(())
}

fn in_range(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), WebSettingsError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(WebSettingsError::Range { field, value, least, most }) }
}

fn once<'a>(values: impl IntoIterator<Item = &'a String>) -> Result<(), WebSettingsError> {
    let mut seen = std::collections::BTreeSet::new();
    match values.into_iter().find(|value| !seen.insert(value.as_str())) {
        Some(value) => Err(WebSettingsError::Repeated { value: value.clone() }),
        None => Ok(()),
    }
}
