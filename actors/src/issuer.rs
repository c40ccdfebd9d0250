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
mod surroundings;
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
use quorate_raft_machine::{AuthorityKind, AuthorityState, Event, IssuingCertificate, Recipient, State};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};

use self::{
    asking::{AskError, Asked, PrepareError, Prepared},
    lease::{IssuanceStatus, Lease},
    request::{Asking, Step, next_step},
    surroundings::Surroundings,
    tokens::TokenKey,
};
use crate::{
    authority::{Workshop, office, own_context},
    errors::with_causes,
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

/// How long a request is sent again before another key is made, in milliseconds: through an election, and much shorter than
/// the CRL that goes with it is valid.
const ASKED_KEPT_MILLIS: i64 = 60_000;

/// Tenths that are left of a certificate at its beginning.
const NEW_TENTHS: i64 = 10;

/// From how many tenths on the end of a lease is told: at five of them half is gone, and a renewal was due.
const TENTHS_TOLD_FROM: i64 = 6;

/// Wait after the token key could not be opened, in milliseconds: a key service may be away for a moment.
const OPEN_WAIT_MILLIS: i64 = 1000;

/// What the issuer is told.
pub(crate) enum IssuerMessage {
    /// Something was applied.
    News(News),
    /// The time has come to look.
    Wake,
    /// Who leads has changed, or is told for the first time.
    Role(Role),
    /// Whether this node's clock may be trusted, and whether it is connected.
    Surroundings(Surroundings),
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
    pub(crate) address: Address<IssuerMessage>,
}

/// What it keeps.
pub(crate) struct IssuerState {
    arguments: IssuerArguments,
    /// Keys that this process made and whose certificates may still be good or still come.
    keys: HashMap<AuthorityId, PrivateKey>,
    asking: Asking,
    /// What was asked for and has not come: asked for again, with the same key, when asking failed.
    asked: Option<Asked>,
    /// The request that is on its way.
    request: Option<AbortHandle>,
    /// Whether this node leads, or who does.
    office: Result<(), Option<MemberNumber>>,
    surroundings: Surroundings,
    /// Tenths of the lease's life that were left when it was last warned of its end.
    tenths_told: i64,
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
        tasks.spawn(events::follow(arguments.handle.role(), myself.clone(), IssuerMessage::Role));
        tasks.spawn(surroundings::watch(arguments.handle.clone(), myself));
        // An issuer that is started again finds the key of the lease where the one before left it.
        let held = arguments.core.leases.held();
        let keys = held.iter().map(|lease| (lease.key_id.clone(), lease.issuer().key().clone())).collect();
        let swept_at = arguments.core.sources.now();
        Ok(IssuerState {
            arguments,
            keys,
            asking: Asking::default(),
            asked: None,
            request: None,
            office: Err(None),
            surroundings: Surroundings::default(),
            tenths_told: NEW_TENTHS,
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
            IssuerMessage::Role(role) => state.role(&role),
            IssuerMessage::Surroundings(surroundings) => state.surroundings(surroundings),
            IssuerMessage::Prepared(Ok(Prepared { key, asked })) => {
                // The key is known before the answer comes, because the log may be faster than the answer.
                state.keys.insert(asked.key_id.clone(), key);
                state.ask(&myself, asked);
            }
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
                Event::EntryChanged { .. }
                | Event::ScopesChanged
                | Event::BundleChanged { .. }
                | Event::InvitationChanged { .. }
                | Event::RecoveryKeyChanged
                | Event::PlanChanged
                | Event::EpochRaised { .. }
                | Event::VersionRaised { .. }
                | Event::TimeReset { .. } => {}
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

    /// Another leader may give at once what the one before did not.
    fn role(&mut self, role: &Role) {
        let office = office(role);
        if self.office != office && office != Err(None) {
            self.asking.failed_at = None;
            if let Some(request) = self.request.take() {
                // Whoever it was sent to may never answer. Its end is told as that of a lost task, and asked for again.
                request.abort();
            }
        }
        self.office = office;
    }

    /// Stops all signing while this node's clock is not to be trusted (design section 4, clocks), and allows it again.
    fn surroundings(&mut self, surroundings: Surroundings) {
        self.arguments.core.leases.halt(surroundings.halt.clone());
        self.surroundings = surroundings;
    }

    /// Takes up what the state has, says how things stand, and does what comes next.
    fn go_on(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>) {
        let now = self.arguments.core.sources.now();
        let member = self.take_up_certificate(now);
        let withdrawn = self.withdraw_revoked(&member);
        self.take_up_token_key(myself, now);
        let lease = self.arguments.core.leases.held();
        let overdue = lease.as_ref().is_some_and(|lease| self.is_overdue(lease, now));
        self.say_status(&member, now, overdue, withdrawn);
        self.count_down(lease.as_deref(), now, overdue);
        let mut next = lease.as_ref().map_or(UnixMillis(i64::MAX), |lease| {
            lease.held().next_tenth(now).min(lease.validity.not_after().plus(1).millis())
        });
        if member.is_ok() {
            // Under a root that signs no more the node signs on, for what it must, and has another certificate soon. An
            // activation brings one along; what is missed by it is a certificate that was recorded at the same time.
            let kept = lease.as_ref().filter(|lease| self.is_under_active_root(lease)).map(|lease| lease.held());
            match next_step(kept.as_ref(), &self.asking, now) {
                Step::Ask if self.has_leader() => self.ask_or_prepare(myself, now),
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
        let current = self.arguments.core.leases.held();
        if let (Some(lease), Some(asked)) = (&current, &self.asked)
            && lease.key_id == asked.key_id
            && !self.asking.in_flight
        {
            // The log brought what no answer told of.
            self.asking = Asking::default();
            self.asked = None;
        }
        if number.is_err() {
            self.asked = None;
        }
        // Keys are kept while a certificate of theirs is held or on its way.
        let asked = &self.asked;
        self.keys.retain(|id, _| {
            current.as_ref().is_some_and(|lease| lease.key_id == *id)
                || asked.as_ref().is_some_and(|asked| asked.key_id == *id)
        });
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

    /// Whether the root of a lease is the one that signs now.
    fn is_under_active_root(&self, lease: &Lease) -> bool {
        let state = self.arguments.core.state.read(|state| state.x509_authority(&lease.root).map(|root| root.state));
        state == Some(AuthorityState::Active)
    }

    /// Whether a lease should have been renewed by now and could not be: it has failed, or there is nobody to ask.
    fn is_overdue(&self, lease: &Lease, now: UnixMillis) -> bool {
        now >= lease.held().renew_at && (self.asking.failures > 0 || !self.has_leader())
    }

    fn hold(&mut self, recorded: &IssuingCertificate) {
        let Some(key) = self.keys.get(&recorded.key_id) else { return };
        match Lease::new(recorded, key.clone(), self.arguments.core.sources.random_u64()) {
            Ok(lease) => {
                tracing::info!(
                    target: "quorate::security",
                    authority_id = %recorded.issuer, serial = %recorded.serial, until = %recorded.validity.not_after(),
                    "this node signs with a new issuing certificate"
                );
                self.trouble = None;
                self.tenths_told = NEW_TENTHS;
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
        let Some((cluster, number, active)) = found else {
            // No member (any more), or no key: what is still open is wiped.
            core.tokens.set(None);
            return;
        };
        let waits = self.open_failed_at.is_some_and(|failed| now.since(failed) < OPEN_WAIT_MILLIS);
        if core.tokens.active_id().as_ref() == Some(&active.id) || self.opening.as_ref() == Some(&active.id) || waits {
            return;
        }
        let own = Recipient::Member(number);
        if active.sealed.as_ref().is_some_and(|sealed| sealed.part_for(&own).is_none()) {
            // A newcomer's: the leader seals it on its way here, and the event of that wakes this up.
            self.trouble = Some("the token key is not sealed to this node yet".into());
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
                self.trouble = None;
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

    fn say_status(&self, member: &Result<MemberNumber, NotAMember>, now: UnixMillis, overdue: bool, again: bool) {
        let core = &self.arguments.core;
        let held = core.leases.held().filter(|lease| now.seconds() <= lease.validity.not_after());
        let halt = core.leases.halted();
        let status = match (member, held) {
            (Err(error), _) => IssuanceStatus::Waiting { reason: error.to_string().into() },
            (Ok(_), _) if halt.is_some() => IssuanceStatus::Waiting { reason: halt.unwrap_or_default() },
            (Ok(_), Some(lease)) if core.tokens.can_sign(now.seconds()) => {
                let warning = if overdue {
                    Some(self.reason("there is no leader to renew this node's issuing certificate"))
                } else {
                    self.surroundings.warning.clone()
                };
                IssuanceStatus::Ready { until: lease.validity.not_after(), warning }
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

    /// Tells how much of the lease is left: always in the metrics, and in the log as soon as it is overdue, again with
    /// every tenth that goes.
    fn count_down(&mut self, lease: Option<&Lease>, now: UnixMillis, overdue: bool) {
        let Some(lease) = lease else {
            metrics::lease_left(0.0);
            return;
        };
        let held = lease.held();
        metrics::lease_left(held.part_left(now));
        let tenths_left = held.tenths_left(now);
        if !overdue || tenths_left >= self.tenths_told.min(TENTHS_TOLD_FROM) {
            return;
        }
        self.tenths_told = tenths_left;
        let until = lease.validity.not_after();
        let reason = self.reason("no leader is known to ask for another one");
        tracing::warn!(
            target: "quorate::security",
            tenths_left, %until, reason = %reason,
            "this node's issuing certificate is not renewed, and at its end the node signs nothing more"
        );
    }

    fn reason(&self, otherwise: &str) -> Arc<str> {
        self.trouble.clone().unwrap_or_else(|| otherwise.into())
    }

    /// Whether there is somebody to ask.
    fn has_leader(&self) -> bool {
        self.office != Err(None)
    }

    /// Sends what was asked for before once more, while it is young, or makes a new key and asks for that.
    fn ask_or_prepare(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, now: UnixMillis) {
        match self.asked.take() {
            Some(asked) if now.since(asked.made_at).abs() < ASKED_KEPT_MILLIS => self.ask(myself, asked),
            Some(_) | None => self.prepare(myself),
        }
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

    /// Sends a request.
    fn ask(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, asked: Asked) {
        self.asking.in_flight = true;
        let (arguments, request) = (self.arguments.clone(), asked.request.clone());
        self.asked = Some(asked);
        let outcome = Outcome::new(myself, IssuerMessage::Answered(Err(AskError::Lost)));
        self.request = Some(self.tasks.spawn(async move {
            let answer = asking::ask(&arguments, request).await;
            outcome.say(IssuerMessage::Answered(answer));
        }));
    }

    fn failed(&mut self, error: &(dyn std::error::Error + 'static), want_of_leader: bool) {
        self.asking.in_flight = false;
        self.asking.failures = self.asking.failures.saturating_add(1);
        self.asking.failed_at = Some(self.arguments.core.sources.now());
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
