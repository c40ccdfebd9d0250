//! Certificates of web authorities by ACME (RFC 8555): what is wanted, and how far each order is.

use bytes::Bytes;
use quorate_proto_identity::{EndpointUrl, UnixSeconds, Validity};

use super::{WebSettingsError, check_domain, in_range, once};
use crate::federation::SecretName;
use crate::state::State;

/// The shared secret that holds the key of the ACME account, PKCS #8.
pub const ACCOUNT_SECRET: &str = "acme/account";

/// Most domains. A cluster has one name for its bundle endpoint, one for the discovery provider, one for the Federation
/// API, and old ones beside them while it moves; each is an order of its own, so that one that fails holds up no other.
pub const WEB_DOMAINS_LIMIT: usize = 16;

/// Most contacts of the account.
pub const CONTACTS_LIMIT: usize = 4;

/// Longest contact, in bytes: the longest address of RFC 5321 and `mailto:`.
const CONTACT_BYTES_LIMIT: usize = 263;

/// Most certificates of a chain: web authorities hand out two to four.
pub const WEB_CHAIN_LIMIT: usize = 8;

/// Longest certificate of a chain, in bytes. One with a hundred names and an RSA-4096 signature has under 6 KiB.
pub const WEB_CERTIFICATE_BYTES_LIMIT: usize = 16 * 1024;

/// Longest URL of an order, token or key authorization, in bytes: all of them are paths or base64url of the authority's.
const TEXT_LIMIT: usize = 2048;

/// Longest reason of a failure that is kept, in bytes.
pub const FAILURE_REASON_LIMIT: usize = 512;

/// How control over a domain is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum AcmeChallenge {
    /// By a certificate in a TLS handshake on port 443 of the domain (RFC 8737): our HTTPS listeners answer it.
    TlsAlpn01 = 1,
    /// By a file at `http://DOMAIN/.well-known/acme-challenge/` on port 80 (RFC 8555 section 8.3): `[acme] http_listen`.
    Http01 = 2,
}

impl AcmeChallenge {
    /// The challenge that a stored number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::TlsAlpn01, Self::Http01].into_iter().find(|challenge| *challenge as u32 == number)
    }

    /// Its name in RFC 8555 and RFC 8737.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

/// Which authority is asked, and for which domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSettings {
    /// The directory of the authority.
    pub directory: EndpointUrl,
    /// Whom the authority writes to: `mailto:` URLs.
    pub contact: Vec<String>,
    /// Whether the operator has agreed to its terms.
    pub terms_agreed: bool,
    /// DNS names in lower case, each with a certificate of its own.
    pub domains: Vec<String>,
    /// How control over them is proved.
    pub challenge: AcmeChallenge,
}

impl AcmeSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first rule that is broken, with what to write instead.
    pub fn check(&self) -> Result<(), WebSettingsError> {
        if !self.terms_agreed {
            return Err(WebSettingsError::Terms);
        }
        in_range("domains", self.domains.len() as u64, 1, WEB_DOMAINS_LIMIT as u64)?;
        in_range("contacts", self.contact.len() as u64, 0, CONTACTS_LIMIT as u64)?;
        self.domains.iter().try_for_each(|domain| check_domain(domain))?;
        once(&self.domains)?;
        match self.contact.iter().find(|contact| !is_contact(contact)) {
            Some(contact) => Err(WebSettingsError::Contact { value: contact.clone() }),
            None => Ok(()),
        }
    }
}

fn is_contact(contact: &str) -> bool {
    let address = contact.strip_prefix("mailto:").and_then(|address| address.split_once('@'));
    let is_plain = contact.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b',' | b'"' | b'\\'));
    contact.len() <= CONTACT_BYTES_LIMIT
        && is_plain
        && address.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty())
}

/// The settings, and how often they were set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acme {
    /// One higher with each change; 0 while nothing was ever set.
    pub revision: u64,
    /// The settings; none while ACME is off.
    pub settings: Option<AcmeSettings>,
}

/// How a domain stands: its certificate, the order under way, what failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebDomain {
    /// The DNS name.
    pub domain: String,
    /// The newest certificate, which every member serves.
    pub certificate: Option<WebCertificate>,
    /// The order under way.
    pub order: Option<WebOrder>,
    /// What failed since the last certificate, if anything did.
    pub failure: Option<WebFailure>,
    /// Since when an operator wants another certificate, whatever becomes of the one there is.
    pub requested_at: Option<UnixSeconds>,
}

impl WebDomain {
    /// A domain for which nothing was done yet.
    #[must_use]
    pub const fn new(domain: String) -> Self {
        Self { domain, certificate: None, order: None, failure: None, requested_at: None }
    }

    /// The shared secrets that hold the keys of its certificate and of the one to be.
    pub fn keys(&self) -> impl Iterator<Item = &SecretName> {
        let certificate = self.certificate.iter().map(|certificate| &certificate.key);
        certificate.chain(self.order.iter().map(|order| &order.key))
    }
}

/// A certificate of a web authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebCertificate {
    /// Leaf first, each DER.
    pub chain: Vec<Bytes>,
    /// The shared secret that holds its private key, PKCS #8.
    pub key: SecretName,
    /// The leaf's.
    pub validity: Validity,
    /// When it was recorded, in the log's time.
    pub recorded_at: UnixSeconds,
}

/// An order that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebOrder {
    /// Where the authority keeps it: whoever leads goes on with it there.
    pub url: String,
    /// The directory of that authority: an order does not outlive a change of it.
    pub directory: EndpointUrl,
    /// The shared secret that holds the private key of the certificate to be.
    pub key: SecretName,
    /// What proves control over the domain. Every member answers it.
    pub challenge: Option<WebChallenge>,
    /// When it was begun, in the log's time.
    pub begun_at: UnixSeconds,
}

impl WebOrder {
    /// Whether an order's URL can be kept.
    pub(crate) fn is_url(url: &str) -> bool {
        (1..=TEXT_LIMIT).contains(&url.len()) && url.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

/// What a member shows to whoever checks that we control a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebChallenge {
    /// Where it is shown.
    pub kind: AcmeChallenge,
    /// The authority's token, which names the file of HTTP-01.
    pub token: String,
    /// The token and the thumbprint of the account's key: what the file says, and what the certificate of TLS-ALPN-01
    /// holds the digest of. It is public.
    pub key_authorization: String,
}

impl WebChallenge {
    /// Checks that it can be served: an authority that sends something else is not one.
    pub(crate) fn is_usable(&self) -> bool {
        let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_token = |text: &str| (1..=TEXT_LIMIT).contains(&text.len()) && text.bytes().all(is_token_byte);
        let parts = self.key_authorization.split_once('.');
        is_token(&self.token) && parts.is_some_and(|(token, thumb)| token == self.token && is_token(thumb))
    }
}

/// Orders that failed, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebFailure {
    /// How many.
    pub count: u32,
    /// Why the last one did, in the authority's words or ours; at most [`FAILURE_REASON_LIMIT`] bytes.
    pub reason: String,
    /// When, in the log's time.
    pub at: UnixSeconds,
}

/// A certificate that came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebCertificate {
    /// The DNS name.
    pub domain: String,
    /// The order that it came of.
    pub order: String,
    /// Leaf first, each DER.
    pub chain: Vec<Bytes>,
    /// The leaf's.
    pub validity: Validity,
}

impl NewWebCertificate {
    /// Checks its sizes.
    pub(crate) fn is_usable(&self) -> bool {
        (1..=WEB_CHAIN_LIMIT).contains(&self.chain.len())
            && self.chain.iter().all(|der| (1..=WEB_CERTIFICATE_BYTES_LIMIT).contains(&der.len()))
    }
}

impl State {
    /// The ACME settings; revision 0 while nothing was ever set.
    #[must_use]
    pub fn acme(&self) -> &Acme {
        static NONE: Acme = Acme { revision: 0, settings: None };
        self.acme.get(&()).unwrap_or(&NONE)
    }

    /// The domains that certificates are wanted for, in their order.
    pub fn web_domains(&self) -> impl Iterator<Item = &WebDomain> {
        self.web_domains.values()
    }

    /// How the domain of this name stands.
    #[must_use]
    pub fn web_domain(&self, domain: &str) -> Option<&WebDomain> {
        self.web_domains.get(&domain.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AcmeSettings {
        AcmeSettings {
            directory: EndpointUrl::parse("https://acme.example/dir").unwrap(),
            contact: vec!["mailto:ops@example.org".to_owned()],
            terms_agreed: true,
            domains: vec!["bundle.example.org".to_owned(), "oidc.example.org".to_owned()],
            challenge: AcmeChallenge::TlsAlpn01,
        }
    }

    #[test]
    fn settings_are_checked_value_by_value() {
        settings().check().unwrap();
        let changes: [fn(&mut AcmeSettings); 9] = [
            |s| s.terms_agreed = false,
            |s| s.domains.clear(),
            |s| s.domains = (0..=WEB_DOMAINS_LIMIT).map(|n| format!("d{n}.example.org")).collect(),
            |s| s.domains.push("oidc.example.org".to_owned()),
            |s| s.domains.push("*.example.org".to_owned()),
            |s| s.domains.push("OIDC2.example.org".to_owned()),
            |s| s.domains.push("a b.example.org".to_owned()),
            |s| s.contact = vec!["ops@example.org".to_owned()],
            |s| s.contact = vec!["mailto:ops@example.org?cc=a@b".to_owned()],
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = settings();
            change(&mut changed);
            assert!(changed.check().is_err(), "change {number}: {changed:?}");
        }
    }

    #[test]
    fn a_challenge_names_one_file_and_nothing_else() {
        let challenge = |token: &str, authorization: &str| WebChallenge {
            kind: AcmeChallenge::Http01,
            token: token.to_owned(),
            key_authorization: authorization.to_owned(),
        };
        assert!(challenge("a-B_9", "a-B_9.thumb").is_usable());
        for (token, authorization) in
            [("", ".t"), ("../a", "../a.t"), ("a", "b.t"), ("a", "a."), ("a", "a"), ("a", "a.t/"), ("a", "a.t.u")]
        {
            assert!(!challenge(token, authorization).is_usable(), "{token} {authorization}");
        }
    }
}
