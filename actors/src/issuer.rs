//! The issuer: keeps this node's issuing certificate and token key good, and publishes them to all who sign.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor). It signs nothing itself: callers sign on
//! their own threads with what it publishes ([`lease::Leases`], [`tokens::TokenKeys`]), so it is never a bottleneck, and
//! its restart interrupts nobody. Issuing keys are made here, live in memory only, and are wiped when their
//! certificates have ended.
//!
//! ```text
//!   make key, CSR, first CRL ──> authority (leader) ──> recorded in the log ──> applied here ──> lease published
//!         ^                                                                                        |
//!         +─────────────────── half life, or nothing held ─────────────────────────────────────────+
//! ```

mod asking;
pub(crate) mod lease;
pub(crate) mod minter;
pub(crate) mod renewal;
mod request;
pub(crate) mod svid;
pub(crate) mod svids;
pub(crate) mod tokens;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use quorate_proto_identity::{AuthorityId, MemberNumber, PrivateKey, SerialNumber, UnixMillis};
use quorate_raft_consensus::{Handle, Role};
use quorate_raft_machine::{AuthorityKind, AuthorityState, Event, IssuingCertificate, State};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use self::{
    asking::{AskError, PrepareError, Prepared},
    lease::{IssuanceStatus, Lease},
    request::{Asking, Step, next_step},
    tokens::TokenKey,
};
use crate::{
    authority::{AuthorityMessage, Workshop, office, own_context},
    events::{self, News},
    keys::{CustodyError, open_key},
    mailbox::{Address, Envelope, Outcome},
    metrics,
    own::NotAMember,
    session::core::Core,
};

/// How many messages wait: events, which wait for room outside, and the issuer's own.
pub(crate) const ISSUER_MAILBOX_LIMIT: usize = 1024;

/// The longest sleep: ends of certificates are times of day, which can be set, and machines are suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How often unused SVIDs are let go of, in milliseconds.
const SWEEP_EVERY_MILLIS: i64 = 60_000;

/// Wait after the token key could not be opened, in milliseconds: a key service may be away for a moment.
const OPEN_WAIT_MILLIS: i64 = 1000;

/// What the issuer is told.
pub(crate) enum IssuerMessage {
    /// Something was applied.
    News(News),
    /// The time has come to look.
    Wake,
    /// A key and what is to be sent for it are made, or not.
    Prepared(Result<Prepared, PrepareError>),
    /// A request was answered: its certificate is recorded and applied here, or not.
    Answered(Result<(), AskError>),
    /// The token key was opened, or not.
    Opened(AuthorityId, Result<Arc<TokenKey>, OpenError>),
}

/// Why the token key was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("its private half is not in the state")]
    Erased,
    #[error(transparent)]
    Custody(#[from] CustodyError),
    #[error("it cannot sign tokens")]
    Unusable(#[from] quorate_proto_identity::jwt_svid::JwtSignError),
    #[error("the task that opened it was lost")]
    Lost,
}

/// The actor.
pub(crate) struct IssuerActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct IssuerArguments {
    pub(crate) handle: Handle,
    pub(crate) core: Arc<Core>,
    pub(crate) workshop: Workshop,
    pub(crate) authority: Address<AuthorityMessage>,
    pub(crate) address: Address<IssuerMessage>,
}

/// What it keeps.
pub(crate) struct IssuerState {
    arguments: IssuerArguments,
    /// Keys that this process made and whose certificates may still be good or still come.
    keys: HashMap<AuthorityId, PrivateKey>,
    asking: Asking,
    /// The key whose certificate is being asked for.
    asked: Option<AuthorityId>,
    /// Why the last thing failed that must succeed before this node can sign.
    trouble: Option<Arc<str>>,
    opening: Option<AuthorityId>,
    /// Revoked certificates of this node whose SVIDs were withdrawn.
    withdrawn: BTreeSet<(AuthorityId, SerialNumber)>,
    /// When opening the token key failed last.
    open_failed_at: Option<UnixMillis>,
    swept_at: UnixMillis,
    alarm: Option<AbortHandle>,
    /// Requests, opening, alarm and listener; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for IssuerActor {
    type Msg = Envelope<IssuerMessage>;
    type State = IssuerState;
    type Arguments = IssuerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        tasks.spawn(events::forward(arguments.handle.events(), arguments.address.clone(), IssuerMessage::News));
        tasks.spawn(wake_on_roles(myself.clone(), arguments.handle.role()));
        // An issuer that is started again finds the key of the lease where the one before left it.
        let held = arguments.core.leases.held();
        let keys = held.iter().map(|lease| (lease.key_id.clone(), lease.issuer().key().clone())).collect();
        let swept_at = arguments.core.sources.now();
        drop(myself.send_message(Envelope::own(IssuerMessage::Wake)));
        Ok(IssuerState {
            arguments,
            keys,
            asking: Asking::default(),
            asked: None,
            trouble: None,
            opening: None,
            withdrawn: BTreeSet::new(),
            open_failed_at: None,
            swept_at,
            alarm: None,
            tasks,
        })
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
            IssuerMessage::News(news) if !state.concerns(&news) => return Ok(()),
            IssuerMessage::News(_) | IssuerMessage::Wake => {}
            IssuerMessage::Prepared(Ok(prepared)) => state.ask(&myself, prepared),
            IssuerMessage::Prepared(Err(error)) => state.failed(&error, false),
            IssuerMessage::Answered(Ok(())) => {
                metrics::issuing_request("recorded");
                state.asking = Asking::default();
                state.asked = None;
            }
            IssuerMessage::Answered(Err(error)) => {
                metrics::issuing_request("failed");
                state.failed(&error, error.is_want_of_leader());
            }
            IssuerMessage::Opened(id, result) => state.opened(&id, result),
        }
        state.go_on(&myself);
        Ok(())
    }
}

impl IssuerState {
    /// Whether what was applied can change anything here.
    fn concerns(&self, news: &News) -> bool {
        let News::Applied(applied) = news else { return true };
        let mut concerned = false;
        for event in &applied.events {
            match event {
                Event::EntryChanged { id, before: _, after: None } => self.arguments.core.svids.forget(id),
                Event::EntryChanged { .. } | Event::ScopesChanged | Event::BundleChanged { .. } => {}
                Event::Founded
                | Event::PolicyChanged
                | Event::X509AuthorityChanged { .. }
                | Event::JwtAuthorityChanged { .. }
                | Event::IssuingCertificateChanged { .. }
                | Event::MemberChanged { .. } => concerned = true,
            }
        }
        concerned
    }

    /// Takes up what the state has, says how things stand, and does what comes next.
    fn go_on(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>) {
        let now = self.arguments.core.sources.now();
        let member = self.take_up_certificate(now);
        let withdrawn = self.withdraw_revoked(&member);
        self.take_up_token_key(myself, now);
        self.say_status(&member, now, withdrawn);
        let lease = self.arguments.core.leases.held();
        let held = lease.as_ref().map(|lease| &lease.validity);
        let mut next = held.map_or(UnixMillis(i64::MAX), |validity| validity.not_after().plus(1).millis());
        if member.is_ok() {
            // Under a root that is tainted or gone the node signs on, for what it must, and has another certificate soon.
            let kept = lease.as_ref().filter(|lease| self.has_good_root(lease)).map(|lease| &lease.validity);
            match next_step(kept, &self.asking, now) {
                Step::Ask if self.has_leader() => self.prepare(myself),
                // Whoever is to be asked is not known, or is not sure of its office. A change of role wakes this up.
                Step::Ask => {}
                Step::WaitUntil(at) => next = next.min(at),
                Step::WaitForAnswer => {}
            }
        }
        if let Some(failed) = self.open_failed_at {
            next = next.min(failed.plus(OPEN_WAIT_MILLIS));
        }
        if now.since(self.swept_at) >= SWEEP_EVERY_MILLIS {
            self.swept_at = now;
            self.arguments.core.svids.sweep();
        }
        self.set_alarm(myself, now, next);
    }

    /// Publishes the best of the certificates that the state has for keys of this process, or takes the lease away.
    fn take_up_certificate(&mut self, now: UnixMillis) -> Result<MemberNumber, NotAMember> {
        let core = &self.arguments.core;
        let keys = &self.keys;
        let found = core.state.read(|state| {
            let number = core.own.member(state)?.number;
            Ok((number, best_certificate(state, number, keys, now).cloned()))
        });
        let (number, best) = match found {
            Ok((number, best)) => (Ok(number), best),
            Err(error) => (Err(error), None),
        };
        let held = core.leases.held();
        match (&held, best) {
            (Some(held), Some(best)) if held.is(&best) => {}
            (_, Some(best)) => self.hold(&best),
            (Some(_), None) => {
                core.leases.set(None);
                tracing::error!(target: "quorate::security", "this node's issuing certificate has ended or was revoked");
            }
            (None, None) => {}
        }
        // Keys are kept while a certificate of theirs is held or on its way.
        let current = self.arguments.core.leases.held();
        let asked = self.asked.clone();
        self.keys
            .retain(|id, _| current.as_ref().is_some_and(|lease| lease.key_id == *id) || asked.as_ref() == Some(id));
        number
    }

    /// Has replaced at once, and not when its time has come, what this node signed with a certificate that was revoked
    /// since. Says whether there was one.
    fn withdraw_revoked(&mut self, member: &Result<MemberNumber, NotAMember>) -> bool {
        let Ok(member) = member else { return false };
        let core = &self.arguments.core;
        let revoked: BTreeSet<(AuthorityId, SerialNumber)> = core.state.read(|state| {
            let own = state.issuing_certificates().filter(|issuing| issuing.member == *member);
            let revoked = own.filter(|issuing| issuing.revoked_at.is_some());
            revoked.map(|issuing| (issuing.key_id.clone(), issuing.serial)).collect()
        });
        let mut new = revoked.difference(&self.withdrawn).peekable();
        let any = new.peek().is_some();
        for (key_id, serial) in new {
            core.svids.withdraw(key_id, *serial);
        }
        self.withdrawn = revoked;
        any
    }

    /// Whether the root of a lease is one that SVIDs may be signed under.
    fn has_good_root(&self, lease: &Lease) -> bool {
        let state = self.arguments.core.state.read(|state| state.x509_authority(&lease.root).map(|root| root.state));
        matches!(state, Some(AuthorityState::Prepared | AuthorityState::Active | AuthorityState::Old))
    }

    fn hold(&mut self, recorded: &IssuingCertificate) {
        let Some(key) = self.keys.get(&recorded.key_id) else { return };
        match Lease::new(recorded, key.clone()) {
            Ok(lease) => {
                tracing::info!(
                    target: "quorate::security",
                    authority_id = %recorded.issuer, serial = %recorded.serial, until = %recorded.validity.not_after(),
                    "this node signs with a new issuing certificate"
                );
                self.trouble = None;
                self.arguments.core.leases.set(Some(Arc::new(lease)));
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a recorded issuing certificate is unusable");
                self.trouble = Some(error.to_string().into());
            }
        }
    }

    /// Opens the active token key unless it is open; it stays sealed in the state and is wiped from memory with its last
    /// user.
    fn take_up_token_key(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, now: UnixMillis) {
        let core = &self.arguments.core;
        if let Some(open) = core.tokens.active_id()
            && !core.state.read(|state| state.jwt_authority(&open).is_some_and(|key| signs_tokens(key.state)))
        {
            // Tainted, revoked or gone: whatever becomes of its successor, this one signs nothing any more.
            core.tokens.set(None);
        }
        let found = core.state.read(|state| {
            let own = core.own.member(state).ok()?;
            let active = state.active_jwt_authority()?;
            Some((state.cluster()?.id, own.number, active.clone()))
        });
        let Some((cluster, number, active)) = found else { return };
        let waits = self.open_failed_at.is_some_and(|failed| now.since(failed) < OPEN_WAIT_MILLIS);
        if core.tokens.active_id().as_ref() == Some(&active.id) || self.opening.as_ref() == Some(&active.id) || waits {
            return;
        }
        self.opening = Some(active.id.clone());
        let custody = Arc::clone(&self.arguments.workshop.custody);
        let outcome = Outcome::new(myself, IssuerMessage::Opened(active.id.clone(), Err(OpenError::Lost)));
        self.tasks.spawn(async move {
            let opened = async {
                let sealed = active.sealed.as_ref().ok_or(OpenError::Erased)?;
                let context = own_context(cluster, AuthorityKind::Jwt, active.id.clone(), number);
                let key = open_key(custody.as_ref(), sealed, &context).await?;
                Ok(Arc::new(TokenKey::new(active.id.clone(), key, &active.validity)?))
            };
            let opened = opened.await;
            outcome.say(IssuerMessage::Opened(active.id, opened));
        });
    }

    fn opened(&mut self, id: &AuthorityId, result: Result<Arc<TokenKey>, OpenError>) {
        if self.opening.as_ref() == Some(id) {
            self.opening = None;
        }
        match result {
            Ok(key) => {
                tracing::info!(target: "quorate::security", authority_id = %id, "this node signs tokens with another key");
                self.open_failed_at = None;
                self.arguments.core.tokens.set(Some(key));
            }
            Err(error) => {
                tracing::error!(
                    authority_id = %id, error = &error as &dyn std::error::Error,
                    "the token key could not be opened"
                );
                self.open_failed_at = Some(self.arguments.core.sources.now());
                self.trouble = Some(format!("the token key could not be opened: {}", with_causes(&error)).into());
            }
        }
    }

    fn say_status(&self, member: &Result<MemberNumber, NotAMember>, now: UnixMillis, again: bool) {
        let core = &self.arguments.core;
        let held = core.leases.held().filter(|lease| now.seconds() <= lease.validity.not_after());
        let status = match (member, held) {
            (Err(error), _) => IssuanceStatus::Waiting { reason: error.to_string().into() },
            (Ok(_), Some(lease)) if core.tokens.can_sign(now.seconds()) => {
                IssuanceStatus::Ready { until: lease.validity.not_after() }
            }
            (Ok(_), Some(_)) => {
                IssuanceStatus::Waiting { reason: self.reason("the token key is not open yet, or has expired") }
            }
            (Ok(_), None) if !self.has_leader() => {
                IssuanceStatus::Waiting { reason: "no leader is known to ask for an issuing certificate".into() }
            }
            (Ok(_), None) => {
                IssuanceStatus::Waiting { reason: self.reason("an issuing certificate is being asked for") }
            }
        };
        core.leases.say(status, again);
    }

    fn reason(&self, otherwise: &str) -> Arc<str> {
        self.trouble.clone().unwrap_or_else(|| otherwise.into())
    }

    /// Whether there is somebody to ask.
    fn has_leader(&self) -> bool {
        !matches!(office(&self.arguments.handle.role().borrow()), Err(None))
    }

    /// Makes a key, and what is to be sent for it.
    fn prepare(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>) {
        self.asking.in_flight = true;
        let arguments = self.arguments.clone();
        let outcome = Outcome::new(myself, IssuerMessage::Prepared(Err(PrepareError::Lost)));
        self.tasks.spawn(async move {
            let prepared = asking::prepare(&arguments).await;
            outcome.say(IssuerMessage::Prepared(prepared));
        });
    }

    /// Sends the request. The key is known before the answer comes, because the log may be faster than the answer.
    fn ask(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, prepared: Prepared) {
        let Prepared { key, request } = prepared;
        let id = AuthorityId::from_subject_key_id(&key.public_key().subject_key_id());
        self.keys.insert(id.clone(), key);
        self.asked = Some(id);
        let arguments = self.arguments.clone();
        let outcome = Outcome::new(myself, IssuerMessage::Answered(Err(AskError::Lost)));
        self.tasks.spawn(async move {
            let answer = asking::ask(&arguments, request).await;
            outcome.say(IssuerMessage::Answered(answer));
        });
    }

    fn failed(&mut self, error: &(dyn std::error::Error + 'static), want_of_leader: bool) {
        self.asking.in_flight = false;
        self.asking.failures = self.asking.failures.saturating_add(1);
        self.asking.failed_at = Some(self.arguments.core.sources.now());
        self.asked = None;
        let failures = self.asking.failures;
        if want_of_leader && failures == 1 {
            tracing::debug!(error, failures, "no issuing certificate was given, asking again soon");
        } else {
            tracing::warn!(error, failures, "no issuing certificate was given, asking again soon");
        }
        self.trouble = Some(format!("no issuing certificate was given: {}", with_causes(error)).into());
    }

    fn set_alarm(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, now: UnixMillis, next: UnixMillis) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        let sleep = Duration::from_millis(next.since(now).max(0).unsigned_abs()).min(LONGEST_SLEEP);
        let myself = myself.clone();
        self.alarm = Some(self.tasks.spawn(async move {
            tokio::time::sleep(sleep).await;
            drop(myself.send_message(Envelope::own(IssuerMessage::Wake)));
        }));
    }
}

/// Wakes the issuer whenever the node's role changes: there may be somebody to ask now.
async fn wake_on_roles(myself: ActorRef<Envelope<IssuerMessage>>, mut role: watch::Receiver<Role>) {
    while role.changed().await.is_ok() {
        if myself.send_message(Envelope::own(IssuerMessage::Wake)).is_err() {
            return;
        }
    }
}

/// An error and its causes on one line: operators read what to do in the cause.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether a token key that was opened may be used: an old one until its successor is open, because every bundle still
/// has it; a tainted one never.
fn signs_tokens(state: AuthorityState) -> bool {
    match state {
        AuthorityState::Active | AuthorityState::Old => true,
        AuthorityState::Prepared | AuthorityState::Tainted | AuthorityState::Revoked => false,
    }
}

/// The certificate to sign with: of those that are good and whose key this process has, one under the root that signs,
/// and of these the one that ends last.
fn best_certificate<'a>(
    state: &'a State,
    member: MemberNumber,
    keys: &HashMap<AuthorityId, PrivateKey>,
    now: UnixMillis,
) -> Option<&'a IssuingCertificate> {
    let under_active = |issuing: &IssuingCertificate| {
        state.x509_authority(&issuing.issuer).is_some_and(|root| root.state == AuthorityState::Active)
    };
    state
        .issuing_certificates()
        .filter(|issuing| {
            issuing.member == member && issuing.is_live(now.seconds()) && keys.contains_key(&issuing.key_id)
        })
        .max_by_key(|issuing| (under_active(issuing), issuing.validity.not_after(), issuing.recorded_at))
}
