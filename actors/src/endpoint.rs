//! The endpoint certificate: what this node shows to other trust domains, as server and as client.
//!
//! It is an X509-SVID with the ID `spiffe://<trust domain>/spire/server`, for a key that this process made and keeps in
//! memory. A root signs it itself, and always the oldest one of the bundle that was not tainted: a peer that slept through
//! a rotation still has that root, so it can fetch the newest bundle by itself (FED-36, FED-41; decision record 0022). The
//! certificate moves to the next root when that one leaves the bundle or is tainted, and not before.
//!
//! ```text
//!   somebody wants it ──> make key, CSR ──> leader (topic ENDPOINT): admitted? live? ──> sign under the oldest good root
//!         ^                                                                                   |
//!         |                                    published to servers and clients <── checked ──+
//!         +── half life; root gone or tainted; this node no member any more: withdrawn
//! ```
//!
//! Nothing of it is in the log: it opens nothing inside the cluster, it lives as long as an X509-SVID does (one hour unless
//! the policy says otherwise), and without a quorum there is no change of the bundle that it could be needed to tell of. The
//! actor is started and restarted by the [`supervisor`](crate::supervisor); its end interrupts nobody.

mod asking;
mod signing;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, PrivateKey, SerialNumber, SpiffeId, TrustDomain, UnixMillis, UnixSeconds};
use quorate_raft_consensus::{Handle, Role};
use quorate_raft_machine::{AuthorityState, State};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

pub(crate) use signing::EndpointSigner;

use self::asking::{AskError, Asked};
use crate::{
    authority::{Workshop, office},
    events,
    mailbox::{Address, Envelope, Outcome},
    metrics,
    session::core::Core,
};

/// How many messages wait: news of the log, which waits for room outside, and the actor's own.
pub(crate) const ENDPOINT_MAILBOX_LIMIT: usize = 64;

/// First wait after a certificate was not had; doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait after a certificate was not had.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// The longest sleep: ends of certificates are times of day, which can be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A root signs endpoint certificates while so many parts of a certificate's life are left of its own; near its end the
/// certificates would otherwise be shorter and shorter ones.
const ROOT_LEFT_PART: i64 = 4;

/// What this node proves itself with to other trust domains. The key is in memory alone and is wiped with the last copy.
#[derive(Clone)]
pub struct EndpointIdentity {
    /// The certificate, DER; nothing stands between it and the root.
    pub chain: Vec<Bytes>,
    /// Its private key.
    pub key: PrivateKey,
    /// `spiffe://<trust domain>/spire/server`.
    pub spiffe_id: SpiffeId,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The subject key ID of the root that signed it.
    pub root: AuthorityId,
    /// When it ends.
    pub not_after: UnixSeconds,
}

impl std::fmt::Debug for EndpointIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointIdentity")
            .field("spiffe_id", &self.spiffe_id)
            .field("serial", &self.serial)
            .field("root", &self.root)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The ID that nodes show to other trust domains: of the domain's servers together, because any of them may answer.
#[must_use]
pub fn endpoint_id(trust_domain: &TrustDomain) -> Option<SpiffeId> {
    SpiffeId::from_segments(trust_domain, &["spire", "server"]).ok()
}

/// The root that signs endpoint certificates at `now`: the oldest one that signed and was not tainted. One that is about to
/// end gives way to the next. `lifetime` is that of a certificate, in seconds.
pub(crate) fn signing_root(
    state: &State,
    now: UnixSeconds,
    lifetime: u32,
) -> Option<&quorate_raft_machine::X509Authority> {
    let wanted_left = i64::from(lifetime) / ROOT_LEFT_PART;
    let mut good: Vec<_> = state
        .x509_authorities()
        .filter(|root| may_sign(root.state) && root.sealed.is_some() && now < root.validity.not_after())
        .collect();
    // The one that is active is the newest, also where others came in the same second.
    let age = |root: &&quorate_raft_machine::X509Authority| {
        (root.state == AuthorityState::Active, root.times.activated_at, root.times.prepared_at)
    };
    good.sort_by_key(age);
    let long_enough = |root: &&quorate_raft_machine::X509Authority| root.validity.not_after().since(now) >= wanted_left;
    good.iter().copied().find(long_enough).or_else(|| good.last().copied())
}

/// A root that is prepared signs nothing yet: peers may not have it.
const fn may_sign(state: AuthorityState) -> bool {
    matches!(state, AuthorityState::Active | AuthorityState::Old)
}

/// Where the certificate is published, and whether anybody wants it. Outlives a restart of the actor.
#[derive(Debug, Clone)]
pub(crate) struct EndpointShared {
    published: Arc<watch::Sender<Option<Arc<EndpointIdentity>>>>,
    wanted: Arc<watch::Sender<bool>>,
}

impl Default for EndpointShared {
    fn default() -> Self {
        Self { published: Arc::new(watch::Sender::new(None)), wanted: Arc::new(watch::Sender::new(false)) }
    }
}

impl EndpointShared {
    /// The certificate and its changes; from the first call on one is kept good.
    pub(crate) fn identity(&self) -> watch::Receiver<Option<Arc<EndpointIdentity>>> {
        self.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
        self.published.subscribe()
    }
}

/// What the actor is told.
pub(crate) enum EndpointMessage {
    /// Something was applied; what, the state says.
    News,
    /// Who leads has changed.
    Role(Role),
    /// Somebody wants the certificate, or nobody yet; which, is in what is shared.
    Wanted,
    /// The time has come to look.
    Wake,
    /// A certificate came, or did not.
    Answered(Result<Box<Asked>, AskError>),
}

/// The actor.
pub(crate) struct EndpointActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct EndpointArguments {
    pub(crate) handle: Handle,
    pub(crate) core: Arc<Core>,
    pub(crate) workshop: Workshop,
    pub(crate) shared: EndpointShared,
    pub(crate) address: Address<EndpointMessage>,
}

/// What it keeps.
pub(crate) struct EndpointState {
    arguments: EndpointArguments,
    /// When what is published is to be renewed.
    renew_at: UnixMillis,
    in_flight: bool,
    failures: u32,
    failed_at: Option<UnixMillis>,
    /// What failed last, so that it is told once.
    told: Option<String>,
    has_leader: bool,
    alarm: Option<AbortHandle>,
    /// Requests, alarm and listeners; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for EndpointActor {
    type Msg = Envelope<EndpointMessage>;
    type State = EndpointState;
    type Arguments = EndpointArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        let handle = &arguments.handle;
        tasks.spawn(events::forward(handle.events(), arguments.address.clone(), |_| EndpointMessage::News));
        tasks.spawn(events::follow(handle.role(), myself.clone(), EndpointMessage::Role));
        tasks.spawn(events::follow(arguments.shared.wanted.subscribe(), myself, |_| EndpointMessage::Wanted));
        Ok(EndpointState {
            // One that a forerunner of this actor published is replaced: when it was to be renewed is not known.
            renew_at: UnixMillis(0),
            in_flight: false,
            failures: 0,
            failed_at: None,
            told: None,
            has_leader: false,
            alarm: None,
            tasks,
            arguments,
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
            EndpointMessage::News | EndpointMessage::Wanted | EndpointMessage::Wake => {}
            EndpointMessage::Role(role) => {
                state.has_leader = office(&role) != Err(None);
                // Another leader may give at once what the one before did not.
                state.failed_at = None;
            }
            EndpointMessage::Answered(result) => state.answered(result),
        }
        state.go_on(&myself);
        Ok(())
    }
}

/// How a member stands at this node, as far as its endpoint certificate is concerned.
struct Standing {
    /// Whether it may have one: admitted, not banned, and live.
    is_member: bool,
    /// Whether the root of the one that is held signs no more.
    root_is_gone: bool,
}

impl EndpointState {
    fn go_on(&mut self, myself: &ActorRef<Envelope<EndpointMessage>>) {
        let now = self.arguments.core.sources.now();
        let held = self.arguments.shared.published.borrow().clone();
        let standing = self.standing(held.as_deref(), now.seconds());
        let has_ended = held.as_ref().is_some_and(|held| now.seconds() > held.not_after);
        if held.is_some() && (!standing.is_member || has_ended) {
            tracing::warn!(target: "quorate::security", has_ended, "this node has no endpoint certificate any more");
            self.arguments.shared.published.send_replace(None);
            metrics::endpoint_certificate_end(0);
        }
        let held = held.filter(|_| standing.is_member && !has_ended);
        let is_due = held.is_none() || standing.root_is_gone || now >= self.renew_at;
        let is_wanted = *self.arguments.shared.wanted.borrow();
        // A failure of a time to come is one of before the clock was set back.
        let waits = self.failed_at.is_some_and(|failed| failed <= now && now < failed.plus(self.retry_millis()));
        if is_wanted && is_due && standing.is_member && self.has_leader && !self.in_flight && !waits {
            self.ask(myself);
        }
        self.set_alarm(myself, now, held.as_deref());
    }

    fn standing(&self, held: Option<&EndpointIdentity>, now: UnixSeconds) -> Standing {
        let core = &self.arguments.core;
        core.state.read(|state| {
            let member = core.own.member(state).ok();
            let is_member = member.is_some_and(|member| state.live_members(now).contains(&member.number));
            let root = held.and_then(|held| state.x509_authority(&held.root));
            Standing { is_member, root_is_gone: held.is_some() && !root.is_some_and(|root| may_sign(root.state)) }
        })
    }

    fn ask(&mut self, myself: &ActorRef<Envelope<EndpointMessage>>) {
        self.in_flight = true;
        let arguments = self.arguments.clone();
        let outcome = Outcome::new(myself, EndpointMessage::Answered(Err(AskError::Lost)));
        self.tasks.spawn(async move {
            let result = asking::ask(&arguments).await;
            outcome.say(EndpointMessage::Answered(result.map(Box::new)));
        });
    }

    fn answered(&mut self, result: Result<Box<Asked>, AskError>) {
        self.in_flight = false;
        match result {
            Ok(asked) => {
                let Asked { identity, granted } = *asked;
                self.failures = 0;
                self.failed_at = None;
                self.told = None;
                self.renew_at = granted.renew_at(self.arguments.core.sources.random_u64());
                tracing::info!(
                    target: "quorate::security", serial = %identity.serial, root = %identity.root,
                    until = %identity.not_after, "this node has an endpoint certificate"
                );
                metrics::endpoint_certificate_end(identity.not_after.0);
                self.arguments.shared.published.send_replace(Some(Arc::new(identity)));
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.failed_at = Some(self.arguments.core.sources.now());
                let text = crate::errors::with_causes(&error);
                // An election is no trouble: it is told once it lasts.
                if self.failures > 2 && self.told.as_ref() != Some(&text) {
                    tracing::warn!(error = text, "no endpoint certificate was had; it is asked for again");
                    self.told = Some(text);
                }
            }
        }
    }

    fn retry_millis(&self) -> i64 {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(LONGEST_RETRY);
        i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
    }

    /// Rings when something may have to be done without news: a renewal, an end, a further try.
    fn set_alarm(
        &mut self,
        myself: &ActorRef<Envelope<EndpointMessage>>,
        now: UnixMillis,
        held: Option<&EndpointIdentity>,
    ) {
        if let Some(alarm) = self.alarm.take() {
            alarm.abort();
        }
        let next = match (self.failed_at, held) {
            (Some(failed), _) => failed.plus(self.retry_millis()),
            (None, Some(held)) => self.renew_at.min(held.not_after.plus(1).millis()),
            (None, None) => UnixMillis(i64::MAX),
        };
        // At least a moment: an alarm that rings at once while a request is on its way would ring without end.
        let sleep = Duration::from_millis(next.since(now).max(100).unsigned_abs()).min(LONGEST_SLEEP);
        let myself = myself.clone();
        self.alarm = Some(self.tasks.spawn(async move {
            tokio::time::sleep(sleep).await;
            drop(myself.send_message(Envelope::own(EndpointMessage::Wake)));
        }));
    }
}
