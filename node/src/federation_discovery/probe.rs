//! One look at a place that was found: who answers there, what it shows, and what it serves.
//!
//! | kind | server | what is read |
//! |-|-|-|
//! | `https_web` | checked (FED-26); where that fails, looked at without | the bundle, when the check holds |
//! | `https_spiffe` | nobody can check it yet | the bundle, believed by nobody |
//! | Federation API | checked as its kind is | its document, for its policy |
//! | not said | checked as `https_web` is | nothing |
//!
//! Every look is of [`Outbound`], with its rules of addresses, sizes and times (ATK-36, ATK-37).

use std::net::SocketAddr;

use bytes::Bytes;
use quorate_proto_api::FEDERATION_DOCUMENT_PATH;
use quorate_proto_identity::{Bundle, EndpointUrl, TrustDomain};

use super::document::{DOCUMENT_BYTES_LIMIT, Document, Policy};
use super::find::Found;
use super::fingerprint::{SeenCertificate, seen_chain};
use super::text::Kind;
use crate::outbound::{Get, Limits, Outbound, OutboundError, ServerCheck, Target, UrlTrust};

/// What was seen at a place.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The address that was connected to.
    pub address: Option<SocketAddr>,
    /// What the server showed, its own certificate first.
    pub certificates: Vec<SeenCertificate>,
    /// Why no authority of the web vouches for the host; nothing when one does, or when that was not asked.
    pub web_trust: Option<String>,
    /// The document of the bundle as it was served.
    pub document: Option<Bytes>,
    /// The bundle in it.
    pub bundle: Option<Bundle>,
    /// Whom a Federation API answers.
    pub policy: Option<Policy>,
    /// What did not go well, a sentence each.
    pub obstacles: Vec<String>,
}

/// Looks at places for one trust domain.
#[derive(Debug, Clone)]
pub struct Prober {
    /// The guarded client.
    pub outbound: Outbound,
    /// Whose bundle is looked for.
    pub domain: TrustDomain,
    /// How far the places are trusted.
    pub trust: UrlTrust,
}

/// An answer of either kind, as far as it is shown.
struct Looked {
    address: SocketAddr,
    certificates: Vec<SeenCertificate>,
    body: Bytes,
}

impl Prober {
    /// Looks once.
    pub async fn look(&self, found: &Found) -> Seen {
        let mut seen = Seen::default();
        match &found.kind {
            Some(Kind::Web { .. }) => {
                if let Some(body) = self.look_web(&found.url, Limits::default(), &mut seen).await {
                    self.take_bundle(body, &mut seen);
                }
            }
            Some(Kind::Spiffe { .. }) => {
                if let Some(body) = self.look_anyhow(&found.url, Limits::default(), &mut seen).await {
                    self.take_bundle(body, &mut seen);
                }
            }
            Some(Kind::Api { id }) => {
                let limits = Limits { body_bytes: DOCUMENT_BYTES_LIMIT, ..Limits::default() };
                match found.url.join(FEDERATION_DOCUMENT_PATH) {
                    Ok(url) if id.is_some() => {
                        let body = self.look_anyhow(&url, limits, &mut seen).await;
                        self.take_policy(body, &url, &mut seen);
                    }
                    Ok(url) => {
                        let body = self.look_web(&url, limits, &mut seen).await;
                        self.take_policy(body, &url, &mut seen);
                    }
                    Err(error) => seen.obstacles.push(error.to_string()),
                }
            }
            None => self.look_at_server(&found.url, ServerCheck::web(), &mut seen).await,
        }
        seen
    }

    /// The document of a Federation API at a host, and what its server showed.
    ///
    /// # Errors
    /// When it was not had. A server that no authority of the web vouches for is asked all the same, which is noted.
    pub async fn document(&self, at: &EndpointUrl) -> Result<(Document, Seen), String> {
        let url = at.join(FEDERATION_DOCUMENT_PATH).map_err(|error| error.to_string())?;
        let limits = Limits { body_bytes: DOCUMENT_BYTES_LIMIT, ..Limits::default() };
        let mut seen = Seen::default();
        let body = match self.look_web(&url, limits, &mut seen).await {
            Some(body) => Some(body),
            None if seen.web_trust.is_some() => {
                seen.obstacles.clear();
                self.look_anyhow(&url, limits, &mut seen).await
            }
            None => None,
        };
        let Some(body) = body else { return Err(seen.obstacles.join("; ")) };
        let document = Document::parse(&self.domain, url.as_str(), &body).map_err(|error| format!("{url}: {error}"))?;
        Ok((document, seen))
    }

    /// Asks a server that has to prove its host; one that cannot is looked at all the same, and not asked.
    async fn look_web(&self, url: &EndpointUrl, limits: Limits, seen: &mut Seen) -> Option<Bytes> {
        match self.get(url, ServerCheck::web(), limits, true).await {
            Ok(looked) => Some(seen.take(looked)),
            Err(error @ (OutboundError::Certificate { .. } | OutboundError::NoWebRoots)) => {
                seen.web_trust = Some(error.words());
                self.look_at_server(url, ServerCheck::Anybody, seen).await;
                seen.obstacles.push(format!("no certificate authority of the web vouches for {}", url.host()));
                None
            }
            Err(error) => {
                seen.obstacles.push(error.words());
                None
            }
        }
    }

    /// Asks a server that cannot prove anything yet.
    async fn look_anyhow(&self, url: &EndpointUrl, limits: Limits, seen: &mut Seen) -> Option<Bytes> {
        match self.get(url, ServerCheck::Anybody, limits, false).await {
            Ok(looked) => Some(seen.take(looked)),
            Err(error) => {
                seen.obstacles.push(error.words());
                None
            }
        }
    }

    /// Looks at a server and asks nothing.
    async fn look_at_server(&self, url: &EndpointUrl, check: ServerCheck, seen: &mut Seen) {
        let limits = Limits::default();
        let connected = self.outbound.connect(&self.target(url), &check, None, &[b"http/1.1"], limits.time).await;
        match connected {
            Ok(connection) => {
                seen.address = Some(connection.address);
                seen.certificates = seen_chain(&connection.certificates);
            }
            Err(error @ (OutboundError::Certificate { .. } | OutboundError::NoWebRoots)) => {
                seen.web_trust = Some(error.words());
                let (target, check) = (self.target(url), ServerCheck::Anybody);
                let anybody = self.outbound.connect(&target, &check, None, &[b"http/1.1"], limits.time);
                if let Ok(connection) = anybody.await {
                    seen.address = Some(connection.address);
                    seen.certificates = seen_chain(&connection.certificates);
                }
            }
            Err(error) => seen.obstacles.push(error.words()),
        }
    }

    async fn get(
        &self,
        url: &EndpointUrl,
        check: ServerCheck,
        limits: Limits,
        follow_redirects: bool,
    ) -> Result<Looked, OutboundError> {
        let get = Get { follow_redirects, limits, ..Get::new(self.target(url), check) };
        let answer = self.outbound.get(&get).await?;
        Ok(Looked { address: answer.address, certificates: seen_chain(&answer.certificates), body: answer.body })
    }

    fn target(&self, url: &EndpointUrl) -> Target {
        Target { trust: self.trust, ..Target::discovered(url.clone()) }
    }

    fn take_bundle(&self, body: Bytes, seen: &mut Seen) {
        match Bundle::parse(&self.domain, &body) {
            Ok(parsed) => {
                seen.document = Some(body);
                seen.bundle = Some(parsed.bundle);
            }
            Err(error) => seen.obstacles.push(format!("what it serves is no bundle: {error}")),
        }
    }

    fn take_policy(&self, body: Option<Bytes>, url: &EndpointUrl, seen: &mut Seen) {
        let Some(body) = body else { return };
        match Document::parse(&self.domain, url.as_str(), &body) {
            Ok(document) => seen.policy = Some(document.policy),
            Err(error) => seen.obstacles.push(error.to_string()),
        }
    }
}

impl Seen {
    fn take(&mut self, looked: Looked) -> Bytes {
        self.address = Some(looked.address);
        self.certificates = looked.certificates;
        looked.body
    }
}
