//! The issuer: keeps this node's issuing certificate and token key good, and publishes them to all who sign.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor). It signs nothing itself: callers sign on
//! their own threads with what it publishes ([`lease::Leases`], [`tokens::TokenKeys`]), so it is never a bottleneck, and
//! its restart interrupts nobody. Issuing keys are made here, live in memory only ([`keyring::Keyring`]), and are wiped
//! when their certificates have ended: until then a CRL of theirs may have to be signed.
//!
//! ```text
//!   make key, CSR, first CRL ──> authority (leader) ──> recorded in the log ──> applied here ──> lease published
//!         ^                                                                                        |
//!         ^                                                  while CRLs are out: once everybody has the key's (CRL-07)
//!         +─────────────────── half life, nothing held, or the key is to be revoked whole ─────────+
//! ```

mod asking;
mod holding;
pub(crate) mod keyring;
pub(crate) mod lease;
pub(crate) mod minter;
mod opening;
pub(crate) mod renewal;
mod request;
pub(crate) mod serials;
mod surroundings;
pub(crate) mod svid;
pub(crate) mod svids;
mod telling;
pub(crate) mod tokens;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixMillis};
use quorate_raft_consensus::{Handle, Role};
use quorate_raft_machine::Event;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};

use self::{
    asking::{AskError, Asked, PrepareError, Prepared},
    lease::Lease,
    opening::{OPEN_WAIT_MILLIS, OpenError},
    request::{Asking, Step, next_step},
    surroundings::Surroundings,
    telling::NEW_TENTHS,
    tokens::TokenKey,
};
use crate::{
    authority::{Workshop, office},
    events::{self, News},
    mailbox::{Address, Envelope, Outcome},
    metrics,
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
        tasks.spawn(events::follow(arguments.core.keyring.dooms(), myself.clone(), |_| IssuerMessage::Wake));
        tasks.spawn(surroundings::watch(arguments.handle.clone(), myself));
        let swept_at = arguments.core.sources.now();
        Ok(IssuerState {
            arguments,
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
            IssuerMessage::News(news) if !state.heard(&news) => return Ok(()),
            IssuerMessage::News(_) | IssuerMessage::Wake => {}
            IssuerMessage::Role(role) => state.role(&role),
            IssuerMessage::Surroundings(surroundings) => state.surroundings(surroundings),
            IssuerMessage::Prepared(Ok(Prepared { key, asked })) => {
                // The key is known before the answer comes, because the log may be faster than the answer.
                state.arguments.core.keyring.add(asked.key_id.clone(), key);
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
    /// Takes note of what was applied, and says whether it can change anything here.
    fn heard(&mut self, news: &News) -> bool {
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
                | Event::RelationshipChanged { .. }
                | Event::ForeignBundleChanged { .. }
                | Event::SecretChanged { .. }
                | Event::AcmeChanged
                | Event::WebDomainChanged { .. }
                | Event::OidcChanged
                | Event::AccessChanged
                | Event::EpochRaised { .. }
                | Event::VersionRaised { .. }
                | Event::TimeReset { .. }
                | Event::CrlRecorded { .. }
                | Event::CrlSetChanged => {}
                Event::Founded | Event::X509AuthorityChanged { .. } => {
                    // A root that signs may be what was missing: what failed for want of it is asked for at once.
                    self.asking.failed_at = None;
                    concerned = true;
                }
                Event::PolicyChanged
                | Event::JwtAuthorityChanged { .. }
                | Event::IssuingCertificateChanged { .. }
                | Event::MemberChanged { .. }
                | Event::RevocationChanged { .. }
                | Event::IssuingKeyActivated { .. }
                | Event::CrlsSwitched { .. } => concerned = true,
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
        let before = self.arguments.core.leases.held();
        let member = self.take_up_certificate(now);
        let withdrawn = self.withdraw_revoked(&member);
        self.take_up_token_key(myself, now);
        let lease = self.arguments.core.leases.held();
        let overdue = lease.as_ref().is_some_and(|lease| self.is_overdue(lease, now));
        // Whoever listens looks again at every change of the lease, also when the next one ends in the same second: what the
        // one before has signed may have to be replaced.
        let is_same = before.map(|before| before.serial) == lease.as_ref().map(|lease| lease.serial);
        self.say_status(&member, now, overdue, withdrawn || !is_same);
        self.count_down(lease.as_deref(), now, overdue);
        let mut next = lease.as_ref().map_or(UnixMillis(i64::MAX), |lease| {
            lease.held().next_tenth(now).min(lease.validity.not_after().plus(1).millis())
        });
        if member.is_ok() {
            // Under a root that signs no more the node signs on, for what it must, and has another certificate soon. An
            // activation brings one along; what is missed by it is a certificate that was recorded at the same time.
            let whole = lease.as_ref().filter(|lease| !self.is_doomed(lease));
            let kept = whole.filter(|lease| self.is_under_active_root(lease)).map(|lease| lease.held());
            match next_step(kept.as_ref(), &self.asking, now) {
                // While everybody gets the CRL of its next key (CRL-07), nothing more is asked for.
                Step::Ask if self.settling_key(now.seconds()).is_some() => {}
                Step::Ask if self.has_leader() => {
                    // A further certificate does for a key that is young, and is wanted for its root alone.
                    let further = whole.filter(|lease| now < lease.held().renew_at).cloned();
                    self.ask_or_prepare(myself, now, further.as_deref());
                }
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
            self.arguments.core.keyring.sweep(now.seconds());
        }
        self.set_alarm(myself, now, next);
    }

    /// Whether there is somebody to ask.
    fn has_leader(&self) -> bool {
        self.office != Err(None)
    }

    /// Sends what was asked for before once more, while it is young, or makes a new key and asks for that.
    fn ask_or_prepare(&mut self, myself: &ActorRef<Envelope<IssuerMessage>>, now: UnixMillis, further: Option<&Lease>) {
        let young = self.asked.take().filter(|asked| now.since(asked.made_at).abs() < ASKED_KEPT_MILLIS);
        match (young.filter(|asked| asked.is_new || further.is_some()), further) {
            (Some(asked), _) => self.ask(myself, asked),
            (None, Some(lease)) => match asking::prepare_further(&self.arguments, lease) {
                Ok(asked) => self.ask(myself, asked),
                Err(error) => self.failed(&error, false),
            },
            (None, None) => self.prepare(myself),
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
