//! The keys of token issuers, found by OpenID Connect discovery and kept.
//!
//! ```text
//!   issuer that a rule names ──► <issuer>/.well-known/openid-configuration ──► its issuer is the same? jwks_uri
//!                                         (guarded client)                          |
//!        keys, for an hour   <──  one fetch at a time, for all who wait  <──────────┘
//!        unknown kid: again, at most once a minute          failed: not again for half a minute; old keys serve on
//! ```
//!
//! Only issuers that an operator has named are asked, never what a token says (ATK-31). Where `jwks_uri` leads is judged as a
//! redirect of the issuer's: it does not lead from a public address to a private one (ATK-37).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_proto_identity::bearer::{IssuerKeys, KEY_SET_LIMIT};
use quorate_proto_identity::{EndpointUrl, EndpointUrlError};
use serde::Deserialize;
use tokio::sync::Mutex as TurnMutex;
use tokio::time::Instant;

use crate::outbound::{AddressRules, Get, Limits, Outbound, Reach, ServerCheck, Target, UrlTrust};

/// How long keys are used before they are fetched again. Issuers announce new keys hours ahead, and a token with a new one
/// is a reason to look earlier.
const KEYS_LIFE: Duration = Duration::from_secs(3_600);

/// How long keys are still used when their issuer does not answer.
const STALE_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// How soon an issuer is asked again because of a `kid` that its keys lack: tokens with such a one cost nothing to make.
const UNKNOWN_KEY_PACE: Duration = Duration::from_secs(60);

/// How soon an issuer that failed is asked again.
const FAILURE_PACE: Duration = Duration::from_secs(30);

/// How long a call waits for keys: discovery and key set together.
const FETCH_LIMIT: Duration = Duration::from_secs(8);

/// Largest discovery document, in bytes; usual ones have 5 KiB.
const DOCUMENT_LIMIT: usize = 64 * 1024;

/// Most issuers whose keys are kept. Beyond them the one that was fetched first is dropped, and fetched again when needed.
const ISSUERS_LIMIT: usize = 1_024;

/// Where the discovery document of an issuer is (OpenID Connect Discovery, section 4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// The keys of issuers. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Issuers {
    outbound: Outbound,
    known: Arc<Mutex<BTreeMap<String, Arc<Known>>>>,
}

/// What is known of one issuer.
#[derive(Debug, Default)]
struct Known {
    held: Mutex<Held>,
    /// Held by whoever fetches, so that a flood of tokens makes one request.
    turn: TurnMutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    keys: Option<(Arc<IssuerKeys>, Instant)>,
    failed: Option<(String, Instant)>,
}

/// Why there are no keys, in words for whoever asks.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoKeys(String);

impl Issuers {
    pub(super) fn new(outbound: Outbound) -> Self {
        Self { outbound, known: Arc::default() }
    }

    /// The keys of an issuer that a rule names, with the one of this `kid` if the issuer has it.
    ///
    /// # Errors
    /// When there are none, in words.
    pub(super) async fn keys(&self, issuer: &str, key_id: Option<&str>) -> Result<Arc<IssuerKeys>, NoKeys> {
        let known = self.entry(issuer);
        if let Some(answer) = known.held.lock().answer(key_id) {
            return answer;
        }
        let _turn = known.turn.lock().await;
        // Somebody may have fetched them while this one waited.
        if let Some(answer) = known.held.lock().answer(key_id) {
            return answer;
        }
        let fetched = self.fetch(issuer).await;
        let mut held = known.held.lock();
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                tracing::info!(issuer, keys = keys.count(), "the keys of a token issuer were fetched");
                *held = Held { keys: Some((Arc::clone(&keys), Instant::now())), failed: None };
                Ok(keys)
            }
            Err(NoKeys(why)) => {
                tracing::warn!(issuer, why, "the keys of a token issuer cannot be fetched");
                held.failed = Some((why.clone(), Instant::now()));
                held.stale().ok_or(NoKeys(why))
            }
        }
    }

    fn entry(&self, issuer: &str) -> Arc<Known> {
        let mut known = self.known.lock();
        if let Some(found) = known.get(issuer) {
            return Arc::clone(found);
        }
        if known.len() >= ISSUERS_LIMIT {
            let oldest = known.iter().min_by_key(|(_, known)| known.held.lock().keys.as_ref().map(|(_, at)| *at));
            if let Some(oldest) = oldest.map(|(issuer, _)| issuer.clone()) {
                known.remove(&oldest);
            }
        }
        Arc::clone(known.entry(issuer.to_owned()).or_default())
    }

    async fn fetch(&self, issuer: &str) -> Result<IssuerKeys, NoKeys> {
        let deadline = Instant::now() + FETCH_LIMIT;
        let document = discovery_url(issuer).map_err(|error| NoKeys(error.to_string()))?;
        let (body, from) = self.get(Target::of_operator(document.clone()), DOCUMENT_LIMIT, deadline).await?;
        let Discovered { issuer: named, jwks_uri } = serde_json::from_slice(&body)
            .map_err(|error| NoKeys(format!("its discovery document cannot be read: {error}")))?;
        if named != issuer {
            return Err(NoKeys("its discovery document names another issuer".to_owned()));
        }
        let keys = EndpointUrl::parse(&jwks_uri).map_err(|error| NoKeys(format!("its jwks_uri: {error}")))?;
        // On the issuer's own host it is where the operator sent us; elsewhere it is where the issuer leads to.
        let same_host = (keys.host(), keys.port()) == (document.host(), document.port());
        let trust = if same_host { UrlTrust::Operator } else { UrlTrust::Followed { from } };
        let target = Target { url: keys, trust, accept_private: None };
        let (body, _) = self.get(target, KEY_SET_LIMIT, deadline).await?;
        IssuerKeys::parse(&body).map_err(|error| NoKeys(format!("its key set: {error}")))
    }

    async fn get(&self, target: Target, bytes: usize, deadline: Instant) -> Result<(bytes::Bytes, Reach), NoKeys> {
        let time = deadline.saturating_duration_since(Instant::now());
        let get = Get { limits: Limits { body_bytes: bytes, time }, ..Get::new(target, ServerCheck::web()) };
        let answer = self.outbound.get(&get).await.map_err(|error| NoKeys(error.words()))?;
        let reach = AddressRules::default().judge(answer.address.ip(), UrlTrust::Operator, None);
        Ok((answer.body, reach.unwrap_or(Reach::Public)))
    }
}

impl Held {
    /// What can be answered without asking the issuer; none when it is to be asked.
    fn answer(&self, key_id: Option<&str>) -> Option<Result<Arc<IssuerKeys>, NoKeys>> {
        let failed_lately = self.failed.as_ref().filter(|(_, at)| at.elapsed() < FAILURE_PACE);
        if let Some((keys, at)) = &self.keys {
            let is_known = key_id.is_none_or(|id| keys.has(id));
            let is_fresh = at.elapsed() < if is_known { KEYS_LIFE } else { UNKNOWN_KEY_PACE };
            if is_fresh || failed_lately.is_some() && at.elapsed() < STALE_LIFE {
                return Some(Ok(Arc::clone(keys)));
            }
        }
        failed_lately.map(|(why, _)| Err(NoKeys(why.clone())))
    }

    /// Keys that are old and may still be used, since newer ones cannot be had.
    fn stale(&self) -> Option<Arc<IssuerKeys>> {
        self.keys.as_ref().filter(|(_, at)| at.elapsed() < STALE_LIFE).map(|(keys, _)| Arc::clone(keys))
    }
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// An issuer with a path keeps it, and loses a slash at its end.
fn discovery_url(issuer: &str) -> Result<EndpointUrl, EndpointUrlError> {
    EndpointUrl::parse(&format!("{}{WELL_KNOWN}", issuer.strip_suffix('/').unwrap_or(issuer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(age: Duration, failed: Option<Duration>) -> Held {
        let keys = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k",
            "x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}]}"#;
        let keys = Arc::new(IssuerKeys::parse(keys.as_bytes()).unwrap());
        let now = Instant::now();
        Held { keys: Some((keys, now - age)), failed: failed.map(|ago| ("down".to_owned(), now - ago)) }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_fetched_again_when_old_or_for_an_unknown_kid_but_not_at_every_call() {
        tokio::time::advance(STALE_LIFE * 2).await;
        let minute = Duration::from_secs(60);
        let asks = |held: &Held, kid: &str| held.answer(Some(kid)).is_none();
        assert!(!asks(&held(minute / 2, None), "k") && !asks(&held(minute / 2, None), "new"));
        assert!(!asks(&held(minute * 2, None), "k") && asks(&held(minute * 2, None), "new"));
        assert!(asks(&held(KEYS_LIFE, None), "k"));
        assert!(!asks(&held(KEYS_LIFE, Some(Duration::from_secs(1))), "k"), "an issuer that is down is left alone");
        assert!(asks(&held(KEYS_LIFE, Some(minute)), "k"));
        let none = Held { keys: None, failed: Some(("down".to_owned(), Instant::now())) };
        assert_eq!(none.answer(None).unwrap().unwrap_err().to_string(), "down");
        assert!(held(KEYS_LIFE * 2, None).stale().is_some() && held(STALE_LIFE, None).stale().is_none());
    }

    #[test]
    fn the_document_of_an_issuer_is_below_its_path() {
        let url = |issuer: &str| discovery_url(issuer).unwrap().to_string();
        assert_eq!(url("https://a.example"), "https://a.example/.well-known/openid-configuration");
        assert_eq!(url("https://a.example/"), "https://a.example/.well-known/openid-configuration");
        assert_eq!(url("https://a.example/realm/b"), "https://a.example/realm/b/.well-known/openid-configuration");
    }
}
