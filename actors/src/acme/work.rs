//! The steps of an order, as the leader takes them. Each is recorded before the next begins.

use std::{collections::BTreeMap, time::Duration};

use quorate_proto_identity::{KeyError, KeyType, PrivateKey, UnixMillis};
use quorate_raft_consensus::{LinearizeError, Proposal, ProposeError};
use quorate_raft_machine::{
    Caller, Operation, Refusal, State,
    federation::{SecretName, SecretNameError},
    web::{ACCOUNT_SECRET, AcmeSettings, NewWebCertificate, WebDomain},
};
use tokio::time::Instant;

use super::{AcmeAccount, AcmeArguments, AcmeClient, AcmeError, AcmeOrder, OrderStanding, due::Step};
use crate::{secrets::SecretError, sources::KeySourceError};

/// How long a proposal or a read-index round may take.
const STEP_TIME_LIMIT: Duration = Duration::from_secs(10);

/// How often a step is tried while the authority cannot be reached, before the order is given up and counts as failed.
const TRIES_PER_STEP: u32 = 5;

/// What begins the names of certificate keys.
const KEY_PREFIX: &str = "acme/key/";

/// Why a step was not taken. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkError {
    /// Leadership could not be confirmed.
    #[error("leadership could not be confirmed")]
    Linearize(#[from] LinearizeError),
    /// The authority could not be asked.
    #[error("the authority did not take the step")]
    Acme(#[source] AcmeError),
    /// A secret could not be opened or put.
    #[error("a key could not be kept")]
    Secret(#[from] SecretError),
    /// A key cannot be named so.
    #[error("a key could not be named")]
    Name(#[from] SecretNameError),
    /// No key could be made.
    #[error(transparent)]
    NoKey(#[from] KeySourceError),
    /// A secret holds no key.
    #[error("a secret holds no private key")]
    Key(#[from] KeyError),
    /// Consensus did not take the command.
    #[error("the step could not be recorded")]
    Propose(#[from] ProposeError),
    /// The command was refused.
    #[error("the step was not recorded")]
    Refused(#[from] Refusal),
    /// The state has moved on: settings or order are others by now.
    #[error("the order is not there any more")]
    Gone,
    /// The task was lost.
    #[error("the task that took the step was lost")]
    Lost,
}

/// Tries of the step that each domain is at, as this leader counts them.
#[derive(Debug, Default)]
pub(crate) struct Tries(BTreeMap<String, (u32, UnixMillis)>);

impl Tries {
    /// Before when the domain's step is not tried again.
    pub(crate) fn not_before(&self, domain: &str) -> UnixMillis {
        self.0.get(domain).map_or(UnixMillis(0), |(_, at)| *at)
    }

    /// Whether the next try is the last one.
    pub(crate) fn is_last(&self, domain: &str) -> bool {
        self.0.get(domain).is_some_and(|(count, _)| count.saturating_add(1) >= TRIES_PER_STEP)
    }

    pub(crate) fn succeeded(&mut self, domain: &str) {
        self.0.remove(domain);
    }

    /// Counts one that failed; gives how many there were in a row.
    pub(crate) fn failed(&mut self, domain: &str, now: UnixMillis, wait: impl Fn(u32) -> Duration) -> u32 {
        let count = self.0.get(domain).map_or(0, |(count, _)| *count).saturating_add(1);
        let wait = i64::try_from(wait(count).as_millis()).unwrap_or(i64::MAX);
        self.0.insert(domain.to_owned(), (count, now.plus(wait)));
        count
    }
}

/// What a step starts from.
struct Look {
    settings: AcmeSettings,
    known: WebDomain,
}

fn look(state: &State, domain: &str) -> Option<Look> {
    Some(Look { settings: state.acme().settings.clone()?, known: state.web_domain(domain)?.clone() })
}

/// Takes a step. An authority that says no ends the order, which is recorded; one that cannot be reached is tried again, and
/// after the last try counts as a no.
pub(super) async fn take(
    arguments: &AcmeArguments,
    client: &dyn AcmeClient,
    domain: &str,
    step: Step,
    give_up: bool,
) -> Result<(), WorkError> {
    // An office can be over without its holder knowing, and two leaders would place two orders.
    arguments.handle.ensure_linearizable(Instant::now() + STEP_TIME_LIMIT).await?;
    let read = arguments.handle.state().read(|state| look(state, domain)).ok_or(WorkError::Gone)?;
    let taken = match step {
        Step::Place => place(arguments, client, &read).await,
        Step::Challenge => challenge(arguments, client, &read).await,
        Step::Finish => finish(arguments, client, &read).await,
    };
    let reason = match &taken {
        Err(WorkError::Acme(AcmeError::Refused { reason })) => reason.clone(),
        Err(WorkError::Acme(AcmeError::NotNow { reason })) if give_up => reason.clone(),
        Ok(()) | Err(_) => return taken,
    };
    tracing::warn!(domain, reason, "an order for a web certificate failed");
    let order = read.known.order.map(|order| order.url);
    propose(arguments, Operation::FailWebOrder { domain: domain.to_owned(), order, reason }).await
}

/// Places an order. Account and certificate keys are kept before anybody hears of them; one that a leader made which then
/// died is cleared away here.
async fn place(arguments: &AcmeArguments, client: &dyn AcmeClient, read: &Look) -> Result<(), WorkError> {
    let domain = &read.known.domain;
    for stray in arguments.handle.state().read(|state| stray_keys(state, domain)) {
        propose(arguments, Operation::DeleteSecret { name: stray }).await?;
    }
    let account = account(arguments, &read.settings).await?;
    let url = client.place(&account, domain).await.map_err(WorkError::Acme)?;
    let mark: [u8; 8] = arguments.sources.random();
    let key = SecretName::new(&format!("{KEY_PREFIX}{domain}/{:016x}", u64::from_be_bytes(mark)))?;
    let made = arguments.keys.generate(KeyType::EcP256)?;
    let put = arguments.secrets.seal(&key, made.pkcs8())?;
    tracing::info!(%domain, order = url, "a web certificate is ordered");
    let directory = read.settings.directory.clone();
    let begin = Operation::BeginWebOrder { domain: domain.clone(), url, directory, key };
    propose_all(arguments, vec![put, begin]).await
}

/// Keys of a domain that neither its certificate nor its order has.
fn stray_keys(state: &State, domain: &str) -> Vec<SecretName> {
    let prefix = format!("{KEY_PREFIX}{domain}/");
    let known = state.web_domain(domain);
    let used = |name: &SecretName| {
        known.is_some_and(|known| {
            known.certificate.as_ref().is_some_and(|certificate| certificate.key == *name)
                || known.order.as_ref().is_some_and(|order| order.key == *name)
        })
    };
    let names = state.secrets().map(|secret| &secret.name).filter(|name| name.as_str().starts_with(&prefix));
    names.filter(|name| !used(name)).cloned().collect()
}

/// Learns what the order waits for, and has every member answer it. Recording it is acknowledged once every connected member
/// has applied it: whichever the authority meets knows the answer.
async fn challenge(arguments: &AcmeArguments, client: &dyn AcmeClient, read: &Look) -> Result<(), WorkError> {
    let account = account(arguments, &read.settings).await?;
    let order = order(read)?;
    match client.standing(&account, &order).await.map_err(WorkError::Acme)? {
        OrderStanding::Challenge(challenge) => {
            let (domain, order, challenge) = (order.domain, order.url, Box::new(challenge));
            propose(arguments, Operation::SetWebChallenge { domain, order, challenge }).await
        }
        OrderStanding::Proved => finish(arguments, client, read).await,
    }
}

/// Ends the order and records its certificate.
async fn finish(arguments: &AcmeArguments, client: &dyn AcmeClient, read: &Look) -> Result<(), WorkError> {
    let account = account(arguments, &read.settings).await?;
    let order = order(read)?;
    let secret = read.known.order.as_ref().map(|order| order.key.clone()).ok_or(WorkError::Gone)?;
    let opened = match arguments.secrets.open(&secret).await {
        Ok(opened) => opened,
        // A restored cluster may have the order and not the key.
        Err(error @ SecretError::NotFound { .. }) => {
            return Err(WorkError::Acme(AcmeError::Refused { reason: error.to_string() }));
        }
        Err(error) => return Err(error.into()),
    };
    let key = PrivateKey::from_pkcs8(&opened)?;
    let issued = client.finish(&account, &order, &key).await.map_err(WorkError::Acme)?;
    let (domain, order) = (order.domain, order.url);
    let not_after = issued.validity.not_after().0;
    tracing::info!(target: "quorate::security", %domain, not_after, "a web certificate was issued");
    let new = NewWebCertificate { domain, order, chain: issued.chain, validity: issued.validity };
    propose(arguments, Operation::RecordWebCertificate(Box::new(new))).await
}

fn order(read: &Look) -> Result<AcmeOrder, WorkError> {
    let order = read.known.order.as_ref().ok_or(WorkError::Gone)?;
    let (url, domain) = (order.url.clone(), read.known.domain.clone());
    Ok(AcmeOrder { url, domain, challenge: read.settings.challenge })
}

/// The account, whose key is made and kept if there is none.
async fn account(arguments: &AcmeArguments, settings: &AcmeSettings) -> Result<AcmeAccount, WorkError> {
    let name = SecretName::new(ACCOUNT_SECRET)?;
    let _alone = arguments.account.lock().await;
    let is_there = arguments.handle.state().read(|state| state.secret(&name).is_some());
    let key = if is_there {
        PrivateKey::from_pkcs8(&arguments.secrets.open(&name).await?)?
    } else {
        let made = arguments.keys.generate(KeyType::EcP256)?;
        arguments.secrets.put(&name, made.pkcs8(), Caller::node()).await?;
        made
    };
    Ok(AcmeAccount { directory: settings.directory.clone(), contact: settings.contact.clone(), key })
}

/// Proposes one operation in the node's own name.
async fn propose(arguments: &AcmeArguments, operation: Operation) -> Result<(), WorkError> {
    propose_all(arguments, vec![operation]).await
}

/// Proposes operations as one command in the node's own name. The first refusal is the error.
async fn propose_all(arguments: &AcmeArguments, operations: Vec<Operation>) -> Result<(), WorkError> {
    let proposal = Proposal::new(Caller::node(), operations).within(STEP_TIME_LIMIT);
    let applied = match arguments.handle.propose(proposal).await {
        // Done; a member that could not be waited for is cut off, and answers nobody.
        Ok(applied) | Err(ProposeError::NotEverywhere { applied, .. }) => applied,
        Err(error) => return Err(error.into()),
    };
    match applied.outcome.results.into_iter().find_map(Result::err) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}
