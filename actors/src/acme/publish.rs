//! Certificates of web authorities as this node serves them: keys opened into memory, published to its HTTPS servers.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use quorate_proto_identity::{KeyError, PrivateKey, UnixSeconds, Validity};
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::{State, federation::SecretName, web::WebCertificate};
use tokio::sync::watch;

use crate::secrets::{SecretError, Secrets};

/// What a server of one domain proves itself with. The key is in memory alone and is wiped with the last copy.
#[derive(Clone)]
pub struct WebIdentity {
    /// The DNS name.
    pub domain: String,
    /// Leaf first, each DER.
    pub chain: Vec<Bytes>,
    /// The leaf's private key.
    pub key: PrivateKey,
    /// The leaf's.
    pub validity: Validity,
    /// The secret that holds the key, which tells one certificate of a domain from the next.
    secret: SecretName,
    recorded_at: UnixSeconds,
}

impl std::fmt::Debug for WebIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebIdentity")
            .field("domain", &self.domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// What this node serves, by domain.
pub type WebIdentities = BTreeMap<String, Arc<WebIdentity>>;

/// The certificates that this node serves. Clones are the same; it outlives a restart of the actor.
#[derive(Debug, Clone)]
pub struct WebCertificates {
    published: Arc<watch::Sender<Arc<WebIdentities>>>,
}

impl Default for WebCertificates {
    fn default() -> Self {
        Self { published: Arc::new(watch::Sender::new(Arc::default())) }
    }
}

impl WebCertificates {
    /// The certificates and their changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<WebIdentities>> {
        self.published.subscribe()
    }
}

/// Why a certificate is not served by this node. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Its key could not be opened: it may not be sealed to this node yet.
    #[error("the key of the certificate of {domain} could not be opened")]
    Secret {
        /// Which.
        domain: String,
        /// Why not.
        source: SecretError,
    },
    /// What was opened is no key.
    #[error("the key of the certificate of {domain} is none")]
    Key {
        /// Which.
        domain: String,
        /// Why not.
        source: KeyError,
    },
    /// The task was lost.
    #[error("the task that opens keys was lost")]
    Lost,
}

/// Opens what is new and publishes what there is. One that cannot be opened leaves the one before in place: an old
/// certificate is better than none.
pub(super) async fn publish(
    published: &WebCertificates,
    state: &StateReader,
    secrets: &Secrets,
) -> Result<(), PublishError> {
    let recorded = state.read(recorded);
    let before = Arc::clone(&published.published.borrow());
    let mut identities = WebIdentities::new();
    let mut failed = None;
    for (domain, certificate) in recorded {
        let held = before.get(&domain);
        let is_same =
            |held: &Arc<WebIdentity>| held.secret == certificate.key && held.recorded_at == certificate.recorded_at;
        if let Some(held) = held.filter(|held| is_same(held)) {
            identities.insert(domain, Arc::clone(held));
            continue;
        }
        match open(&domain, certificate, secrets).await {
            Ok(identity) => {
                tracing::info!(%domain, not_after = identity.validity.not_after().0, "a web certificate is served");
                identities.insert(domain, Arc::new(identity));
            }
            Err(error) => {
                if let Some(held) = held {
                    identities.insert(domain, Arc::clone(held));
                }
                failed = failed.or(Some(error));
            }
        }
    }
    let is_same = identities.len() == before.len()
        && identities
            .iter()
            .all(|(domain, identity)| before.get(domain).is_some_and(|held| Arc::ptr_eq(held, identity)));
    if !is_same {
        published.published.send_replace(Arc::new(identities));
    }
    failed.map_or(Ok(()), Err)
}

fn recorded(state: &State) -> Vec<(String, WebCertificate)> {
    let certified = state.web_domains().filter_map(|domain| Some((domain.domain.clone(), domain.certificate.clone()?)));
    certified.collect()
}

async fn open(domain: &str, certificate: WebCertificate, secrets: &Secrets) -> Result<WebIdentity, PublishError> {
    let domain = domain.to_owned();
    let opened = secrets.open(&certificate.key).await;
    let opened = opened.map_err(|source| PublishError::Secret { domain: domain.clone(), source })?;
    let key = PrivateKey::from_pkcs8(&opened).map_err(|source| PublishError::Key { domain: domain.clone(), source })?;
    let WebCertificate { chain, key: secret, validity, recorded_at } = certificate;
    Ok(WebIdentity { domain, chain, key, validity, secret, recorded_at })
}
