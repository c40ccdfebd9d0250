//! Discovery: from a trust domain's name to proposals, which an operator compares and accepts. DNS is not trust.
//!
//! ```text
//!   name ──► find      DNS-SD (PTR, SRV, TXT), else SRV         where, and which profile: said, never guessed (FED-50)
//!        `─► document  https://<name>/.well-known/spiffe-federation
//!                 |
//!                 v
//!             probe     one guarded connection to each place: what it shows, and what it serves (ATK-37)
//!                 |
//!                 v
//!             proposal  host, address, issuer, fingerprints, who vouches ──► the operator compares them by another way,
//!                                                                            and accepts: an ordinary relationship
//! ```
//!
//! Nothing is changed here, and nothing that is found is believed: a proposal says what was seen and by whom it is
//! vouched for. What authenticates an endpoint is what every relationship needs, however it came about: a certificate
//! for the host (`https_web`), a bundle or a fingerprint by another way (`https_spiffe`), pins.

pub mod dns;
pub mod document;
pub mod find;
pub mod fingerprint;
pub mod probe;
pub mod proposal;
pub mod records;
pub mod text;

use std::path::PathBuf;
use std::sync::Arc;

use quorate_proto_identity::{EndpointUrl, TrustDomain};
use quorate_raft_machine::federation::EndpointPins;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::dns::{Dns, DnsSetupError};
use self::find::{Findings, Found, NoDnsName, find};
use self::probe::{Prober, Seen};
use self::proposal::Proposal;
use self::records::Records;
use crate::outbound::{AddressRules, Outbound, UrlTrust};

/// Places that are looked at, at most: what a search can find at the most, eight instances with four places each.
const PLACES_LIMIT: usize = 32;

/// Places that are looked at at a time: each may take its ten seconds.
const LOOKS_AT_A_TIME: usize = 8;

/// Discovery on this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Discovery {
    outbound: Outbound,
    anchors: Option<PathBuf>,
}

/// What a search came to.
#[derive(Debug, Clone, Default)]
pub struct Discovered {
    /// The proposals, those wanted most first.
    pub proposals: Vec<Proposal>,
    /// What was passed over and why, a sentence each.
    pub remarks: Vec<String>,
}

/// Nothing can be looked for.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The trust domain's name is none of DNS.
    #[error(transparent)]
    Name(#[from] NoDnsName),
    /// DNS cannot be asked from this node.
    #[error(transparent)]
    Setup(#[from] DnsSetupError),
    /// The document that was asked for was not had.
    #[error("{0}")]
    Document(String),
}

impl Discovery {
    /// Discovery by the guarded client, with these trust anchors for DNSSEC beside the root's.
    #[must_use]
    pub fn new(outbound: Outbound, anchors: Option<PathBuf>) -> Self {
        Self { outbound, anchors }
    }

    /// Searches for a trust domain's endpoints, and looks at each.
    ///
    /// # Errors
    /// When there is no way to search. That nothing was found is no error, and explained.
    pub async fn search(&self, domain: &TrustDomain, pins: &EndpointPins) -> Result<Discovered, DiscoveryError> {
        // Made anew each time: an operator compares what is published now, and not what was.
        let dns = Dns::new(self.outbound.dns_servers(), self.anchors.as_deref())?;
        self.search_by(domain, pins, &dns).await
    }

    async fn search_by(
        &self,
        domain: &TrustDomain,
        pins: &EndpointPins,
        records: &dyn Records,
    ) -> Result<Discovered, DiscoveryError> {
        let Findings { mut found, mut remarks } = find(domain, records).await?;
        let prober = Prober { outbound: self.outbound.clone(), domain: domain.clone(), trust: UrlTrust::Discovered };
        if found.is_empty() {
            match EndpointUrl::parse(&format!("https://{}", domain.as_str())) {
                Ok(at) => match prober.document(&at).await {
                    Ok((document, _)) => {
                        found = document.found;
                        remarks.extend(document.remarks);
                    }
                    Err(why) => remarks.push(format!("{at}: no document of a Federation API: {why}")),
                },
                Err(error) => remarks.push(error.to_string()),
            }
        }
        Ok(looked_at(prober, found, pins, remarks).await)
    }

    /// Asks for the document of a Federation API at a URL that an operator gave, and looks at each place in it.
    ///
    /// # Errors
    /// When the document was not had.
    pub async fn ask(
        &self,
        domain: &TrustDomain,
        at: &EndpointUrl,
        pins: &EndpointPins,
    ) -> Result<Discovered, DiscoveryError> {
        let mut prober = Prober { outbound: self.outbound.clone(), domain: domain.clone(), trust: UrlTrust::Operator };
        let (document, Seen { address, web_trust, .. }) =
            prober.document(at).await.map_err(DiscoveryError::Document)?;
        let mut remarks = document.remarks;
        if let Some(why) = web_trust {
            remarks.push(format!("nobody vouches for the server of the document at {at}: {why}"));
        }
        // What a document names is the word of whoever serves it: it leads to nothing narrower than its own place.
        let reach = address.map(|address| AddressRules::default().judge(address.ip(), UrlTrust::Operator, None));
        prober.trust = match reach {
            Some(Ok(from)) => UrlTrust::Followed { from },
            Some(Err(_)) | None => UrlTrust::Discovered,
        };
        Ok(looked_at(prober, document.found, pins, remarks).await)
    }
}

/// Looks at every place, several at a time, and keeps their order.
async fn looked_at(prober: Prober, mut found: Vec<Found>, pins: &EndpointPins, mut remarks: Vec<String>) -> Discovered {
    if found.len() > PLACES_LIMIT {
        remarks.push(format!("of {} places only {PLACES_LIMIT} were looked at", found.len()));
        found.truncate(PLACES_LIMIT);
    }
    let turns = Arc::new(Semaphore::new(LOOKS_AT_A_TIME));
    let mut looks = JoinSet::new();
    for (position, found) in found.into_iter().enumerate() {
        let (prober, turns) = (prober.clone(), Arc::clone(&turns));
        looks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turns.acquire_owned().await;
            let seen = prober.look(&found).await;
            (position, found, seen)
        });
    }
    let mut looked = looks.join_all().await;
    looked.sort_by_key(|(position, ..)| *position);
    let propose = |(_, found, seen)| Proposal::new(&prober.domain, found, seen, pins.clone());
    Discovered { proposals: looked.into_iter().map(propose).collect(), remarks }
}
