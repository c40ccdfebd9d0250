//! ACME: the leader has certificates of web authorities issued and renewed, and every node opens and publishes them.
//!
//! ```text
//!   settings, domains (state) ──> due? ──> place the order ──> BeginWebOrder ──> challenge ──> SetWebChallenge
//!                                  ^                                                                 |
//!                                  |       every member answers it, from the state, by whichever way it is asked
//!                                  |                                                                 v
//!                                  +── FailWebOrder, later again <── finish: validated, CSR, chain ──> RecordWebCertificate
//!
//!   RecordWebCertificate ──> on every node: open its key ──> published to the HTTPS servers
//! ```
//!
//! The actor is started and restarted by the supervisor on every node. Each half of an order is in the
//! log before the next begins, so whoever leads after a `kill -9` goes on with the order that is there: at the authority it is
//! found again by its URL and the account's key, which is a shared secret. What is due is decided by pure functions (`due`),
//! what is said to the authority lies behind a trait ([`AcmeClient`]), because there is no HTTP in this crate.

mod client;
mod due;
mod publish;
mod work;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quorate_proto_identity::{UnixMillis, UnixSeconds};
use quorate_raft_consensus::{Handle, Role, Sources};
use quorate_raft_machine::{Event, State};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::Mutex,
    task::{AbortHandle, JoinSet},
};

pub use client::{AcmeAccount, AcmeClient, AcmeError, AcmeFuture, AcmeOrder, IssuedWebCertificate, OrderStanding};
pub use publish::{WebCertificates, WebIdentities, WebIdentity};

use self::{
    due::{Due, whats_due},
    publish::PublishError,
    work::{Tries, WorkError},
};
use crate::{
    events::{self, News},
    mailbox::{Address, Envelope, Outcome},
    secrets::Secrets,
    sources::KeySource,
};

/// When the next order of a domain is due, for those who ask how it stands.
#[must_use]
pub fn next_order_at(state: &State, domain: &str) -> Option<UnixSeconds> {
    due::next_order_at(state, state.web_domain(domain)?)
}

/// Events wait for room outside; all else is the actor's own.
pub(crate) const ACME_MAILBOX_LIMIT: usize = 64;

/// First wait after a key could not be opened, or a step could not be taken; doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Longest wait after that.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// The longest sleep: what is due is a time of day, which can be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What the actor is told.
pub(crate) enum AcmeMessage {
    /// Something was applied.
    News(News),
    /// This node leads, or does not any more.
    Role(Role),
    /// The time has come to look.
    Wake,
    /// The next step of a domain's order was taken, or not.
    Stepped(String, Result<(), WorkError>),
    /// What there is was opened and published, or not all of it.
    Published(Result<(), PublishError>),
}

/// The actor.
pub(crate) struct AcmeActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct AcmeArguments {
    pub(crate) handle: Handle,
    pub(crate) sources: Sources,
    pub(crate) keys: Arc<dyn KeySource>,
    pub(crate) secrets: Secrets,
    /// Who speaks with authorities; none where there is nobody, and then nothing is ordered here.
    pub(crate) client: Option<Arc<dyn AcmeClient>>,
    /// Held while the account's key is looked for and made: steps of several domains begin at once, and two keys were two
    /// accounts, of which one has the other's orders.
    pub(crate) account: Arc<Mutex<()>>,
    pub(crate) published: WebCertificates,
    pub(crate) address: Address<AcmeMessage>,
}

/// What it keeps.
pub(crate) struct AcmeState {
    arguments: AcmeArguments,
    leads: bool,
    /// Domains whose next step is being taken; one step a domain at a time.
    busy: BTreeSet<String>,
    tries: Tries,
    publishing: bool,
    /// Something changed while it was published.
    again: bool,
    publish_failures: u32,
    alarm: Option<AbortHandle>,
    /// Steps, publishing, the alarm and listeners; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for AcmeActor {
    type Msg = Envelope<AcmeMessage>;
    type State = AcmeState;
    type Arguments = AcmeArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        tasks.spawn(events::forward(arguments.handle.events(), arguments.address.clone(), AcmeMessage::News));
        tasks.spawn(events::follow(arguments.handle.role(), myself.clone(), AcmeMessage::Role));
        let mut state = AcmeState {
            arguments,
            leads: false,
            busy: BTreeSet::new(),
            tries: Tries::default(),
            publishing: false,
            again: false,
            publish_failures: 0,
            alarm: None,
            tasks,
        };
        state.publish(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.tasks.try_join_next().is_some() {}
        let (message, _permit) = envelope.open();
        match message {
            AcmeMessage::News(news) if concerns(&news) => state.publish(&myself),
            AcmeMessage::News(_) => return Ok(()),
            AcmeMessage::Role(role) => {
                state.leads = role.is_leader();
                state.tries = Tries::default();
            }
            AcmeMessage::Wake => {
                if state.publish_failures > 0 {
                    state.publish(&myself);
                }
            }
            AcmeMessage::Stepped(domain, result) => {
                state.busy.remove(&domain);
                state.stepped(&domain, result);
            }
            AcmeMessage::Published(result) => state.published(&myself, result),
        }
        state.go_on(&myself);
        Ok(())
    }
}

impl AcmeState {
    /// Takes what is due, where this node leads, and sets the alarm to what is due next.
    fn go_on(&mut self, myself: &ActorRef<Envelope<AcmeMessage>>) {
        let now = self.arguments.sources.now();
        let mut next = LONGEST_SLEEP;
        if self.leads && self.arguments.client.is_some() {
            let looked = self.arguments.handle.state().read(|state| whats_due(state, now.seconds()));
            for Due { domain, step, at } in looked {
                if self.busy.contains(&domain) {
                    continue;
                }
                let wait = millis_until(now, at.millis().max(self.tries.not_before(&domain)));
                if wait.is_zero() {
                    self.step(myself, domain, step);
                } else {
                    next = next.min(wait);
                }
            }
        }
        if self.publish_failures > 0 {
            next = next.min(backoff(self.publish_failures));
        }
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        let myself = myself.clone();
        self.alarm = Some(self.tasks.spawn(async move {
            tokio::time::sleep(next).await;
            drop(myself.send_message(Envelope::own(AcmeMessage::Wake)));
        }));
    }

    fn step(&mut self, myself: &ActorRef<Envelope<AcmeMessage>>, domain: String, step: due::Step) {
        let Some(client) = self.arguments.client.clone() else { return };
        self.busy.insert(domain.clone());
        let arguments = self.arguments.clone();
        let give_up = self.tries.is_last(&domain);
        let lost = AcmeMessage::Stepped(domain.clone(), Err(WorkError::Lost));
        let outcome = Outcome::new(myself, lost);
        self.tasks.spawn(async move {
            let result = work::take(&arguments, client.as_ref(), &domain, step, give_up).await;
            outcome.say(AcmeMessage::Stepped(domain, result));
        });
    }

    fn stepped(&mut self, domain: &str, result: Result<(), WorkError>) {
        match result {
            Ok(()) => self.tries.succeeded(domain),
            Err(error) => {
                let failures = self.tries.failed(domain, self.arguments.sources.now(), backoff);
                if self.leads {
                    tracing::warn!(
                        domain,
                        failures,
                        error = &error as &dyn std::error::Error,
                        "a step of an order for a web certificate failed"
                    );
                }
            }
        }
    }

    /// Opens the keys of the certificates there are, and publishes them.
    fn publish(&mut self, myself: &ActorRef<Envelope<AcmeMessage>>) {
        if self.publishing {
            self.again = true;
            return;
        }
        self.publishing = true;
        let arguments = self.arguments.clone();
        let outcome = Outcome::new(myself, AcmeMessage::Published(Err(PublishError::Lost)));
        self.tasks.spawn(async move {
            let state = arguments.handle.state();
            let result = publish::publish(&arguments.published, &state, &arguments.secrets).await;
            outcome.say(AcmeMessage::Published(result));
        });
    }

    fn published(&mut self, myself: &ActorRef<Envelope<AcmeMessage>>, result: Result<(), PublishError>) {
        self.publishing = false;
        match result {
            Ok(()) => self.publish_failures = 0,
            Err(error) => {
                if self.publish_failures == 0 {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a web certificate is not served by this node, and it is tried again"
                    );
                }
                self.publish_failures = self.publish_failures.saturating_add(1);
            }
        }
        if std::mem::take(&mut self.again) {
            self.publish(myself);
        }
    }
}

/// The wait after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_RETRY)
}

fn millis_until(now: UnixMillis, at: UnixMillis) -> Duration {
    Duration::from_millis(at.since(now).max(0).unsigned_abs())
}

/// Whether what was applied can make a step due, or change what is served.
fn concerns(news: &News) -> bool {
    let News::Applied(applied) = news else { return true };
    applied.events.iter().any(|event| {
        matches!(
            event,
            Event::Founded | Event::AcmeChanged | Event::WebDomainChanged { .. } | Event::SecretChanged { .. }
        )
    })
}
