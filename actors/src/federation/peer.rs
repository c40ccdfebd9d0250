//! One relationship on the node that leads: asks the endpoint at its time, and has what is new recorded.
//!
//! The actor is started by the [`keeper`](super::keeper) when this node comes to lead or the relationship is made, and
//! stopped when either is over. It owns one timer and at most one retrieval at a time: whatever its endpoint does, no other
//! relationship waits for it. Where the endpoint is a Federation API that pushes, a watch runs beside; polling goes on
//! underneath.
//!
//! ```text
//!   timer ──> retrieve ──> compare ──> propose ──> recorded on every member
//!     ^        (here, or another member)               |
//!     +── hint, floor, jitter ── record ──> board <────+── watch: pushed, confirmed when the members have it
//! ```

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::{MemberNumber, TrustDomain, UnixMillis};
use quorate_raft_machine::federation::{Endpoint, ForeignOrigin, Relationship};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    FederationArguments,
    fetching::{Retrieved, retrieve},
    poll::{self, Record},
    source::{Document, FetchError, Fetched},
    status::{RelationshipStatus, cut},
    taking::{TakeError, Taken, take},
    watching,
};
use crate::{
    errors::with_causes,
    mailbox::{Envelope, Outcome},
    metrics,
};

/// Operators that wait for one retrieval.
const WAITING_LIMIT: usize = 16;

/// What came of a retrieval that an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// Whether another bundle is held now.
    pub changed: bool,
    /// `spiffe_sequence` of the bundle that is held.
    pub sequence: Option<u64>,
    /// The host that answered, after redirects.
    pub host: String,
    /// Which member fetched.
    pub fetched_by: Option<MemberNumber>,
}

/// Where an operator's answer goes.
pub(crate) type RefreshReply = oneshot::Sender<Result<Refreshed, String>>;

/// What a relationship is told.
pub(crate) enum PeerMessage {
    /// The relationship, a bundle it depends on, or what is held may be another one: look.
    Look,
    /// The time has come.
    Wake,
    /// Fetch now, for an operator.
    Refresh { accept_older: bool, reply: RefreshReply },
    /// A retrieval came to its end.
    Tried(Box<Tried>),
    /// A watch was opened, or is over.
    Watching(bool),
    /// A watch brought a document.
    Pushed(Result<Taken, String>),
}

/// The end of a retrieval.
pub(crate) struct Tried {
    /// Which: one that was given up for another says nothing any more.
    run: u64,
    outcome: Result<Got, TryError>,
}

/// What a retrieval brought.
struct Got {
    /// Nothing when the endpoint said that nothing has changed.
    taken: Option<Taken>,
    etag: Option<String>,
    host: String,
    address: String,
    by: Option<MemberNumber>,
}

/// Why a retrieval brought nothing.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Take(String),
    #[error("{0}")]
    Older(String),
    #[error("the task that fetched was lost")]
    Lost,
}

/// The actor.
pub(crate) struct PeerActor;

/// What it starts from.
pub(crate) struct PeerArguments {
    pub(crate) federation: FederationArguments,
    pub(crate) relationship: Arc<Relationship>,
    /// Whether it has just been made, so that nobody has asked the endpoint yet.
    pub(crate) is_new: bool,
}

/// A tag, and which version of what is held it stands for.
struct Tag {
    etag: String,
    version: u64,
}

/// What it keeps.
pub(crate) struct PeerState {
    federation: FederationArguments,
    relationship: Arc<Relationship>,
    record: Record,
    tag: Option<Tag>,
    /// Version of the foreign bundle when it was last looked at.
    seen: Option<u64>,
    fetched_by: Option<MemberNumber>,
    watching: bool,
    /// The retrieval that goes on, and who waits for it.
    running: Option<AbortHandle>,
    run: u64,
    waiting: Vec<RefreshReply>,
    next: Option<(UnixMillis, AbortHandle)>,
    watch: Option<AbortHandle>,
    /// Retrieval, watch and timer; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for PeerActor {
    type Msg = Envelope<PeerMessage>;
    type State = PeerState;
    type Arguments = PeerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let PeerArguments { federation, relationship, is_new } = arguments;
        let mut state = PeerState {
            federation,
            relationship,
            record: Record::new(Instant::now()),
            tag: None,
            seen: None,
            fetched_by: None,
            watching: false,
            running: None,
            run: 0,
            waiting: Vec::new(),
            next: None,
            watch: None,
            tasks: JoinSet::new(),
        };
        state.seen = state.held().map(|held| held.version);
        let random = state.random();
        let wait =
            if is_new { poll::soon(random) } else { poll::first_wait(state.seen.is_some(), state.interval(), random) };
        state.wake_in(&myself, wait);
        state.watch(&myself);
        state.tell();
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
            PeerMessage::Look => state.look(&myself),
            PeerMessage::Wake => state.fetch(&myself, false),
            PeerMessage::Refresh { accept_older, reply } => state.refresh(&myself, accept_older, reply),
            PeerMessage::Tried(tried) => state.tried(&myself, *tried),
            // The last words of a watch that was given up are not about the present one.
            PeerMessage::Watching(open) => state.watching = open && state.watch.is_some(),
            PeerMessage::Pushed(result) => state.pushed(result),
        }
        state.tell();
        Ok(())
    }
}

impl PeerState {
    fn trust_domain(&self) -> &TrustDomain {
        &self.relationship.trust_domain
    }

    fn held(&self) -> Option<Arc<quorate_raft_machine::federation::ForeignBundle>> {
        self.federation.core.state.read(|state| state.foreign_bundle(self.trust_domain()).cloned())
    }

    fn random(&self) -> u64 {
        self.federation.core.sources.random_u64()
    }

    fn interval(&self) -> Duration {
        let held = self.held();
        let hint = held.as_ref().and_then(|held| held.bundle.refresh_hint());
        poll::interval(held.is_some(), hint, self.relationship.poll.floor)
    }

    /// Compares with the state what was started from.
    fn look(&mut self, myself: &ActorRef<Envelope<PeerMessage>>) {
        let current = self.federation.core.state.read(|state| state.relationship(self.trust_domain()).cloned());
        // The keeper stops who is not needed any more.
        let Some(current) = current else { return };
        if current.revision != self.relationship.revision {
            self.relationship = current;
            self.tag = None;
            self.fetched_by = None;
            self.record = Record::new(Instant::now());
            self.give_up_run();
            let random = self.random();
            self.wake_in(myself, poll::soon(random));
            self.watch(myself);
        }
        let held = self.held();
        let version = held.as_ref().map(|held| held.version);
        let by_hand = held.is_some_and(|held| held.origin == ForeignOrigin::Operator);
        let is_other = std::mem::replace(&mut self.seen, version) != version;
        // Somebody has put a bundle in place by hand, and without it nothing worked: now it may.
        if self.running.is_none() && self.record.error.is_some() && (self.lacks_bundle() || is_other && by_hand) {
            let random = self.random();
            self.wake_in(myself, poll::soon(random));
        }
    }

    /// Whether the last retrieval failed for want of a bundle that is held by now.
    fn lacks_bundle(&self) -> bool {
        self.record.last_success.is_none() && self.relationship.endpoint.server_spiffe_id().is_some()
    }

    fn refresh(&mut self, myself: &ActorRef<Envelope<PeerMessage>>, accept_older: bool, reply: RefreshReply) {
        if self.waiting.len() >= WAITING_LIMIT {
            // Whoever waits no more has dropped its end.
            drop(
                reply.send(Err("too many wait for a retrieval of this bundle already; see what comes of those".into())),
            );
            return;
        }
        // Who asks has perhaps just changed the relationship, and the news of that may still be under way.
        self.look(myself);
        self.waiting.push(reply);
        if accept_older {
            // What goes on would be judged by the other rule.
            self.give_up_run();
        }
        self.fetch(myself, accept_older);
    }

    fn give_up_run(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    fn fetch(&mut self, myself: &ActorRef<Envelope<PeerMessage>>, accept_older: bool) {
        if self.running.is_some() {
            return;
        }
        if let Some((_, alarm)) = self.next.take() {
            alarm.abort();
        }
        let held = self.held();
        // The tag stands for what is held only as long as nobody has put something else in its place (FED-10).
        let tag = self.tag.take_if(|tag| held.as_ref().is_none_or(|held| held.version != tag.version));
        drop(tag);
        let etag = self.tag.as_ref().filter(|_| !accept_older).map(|tag| tag.etag.clone());
        let (federation, relationship, by) = (self.federation.clone(), Arc::clone(&self.relationship), self.fetched_by);
        self.run = self.run.wrapping_add(1);
        let run = self.run;
        let lost = Tried { run, outcome: Err(TryError::Lost) };
        let outcome = Outcome::new(myself, PeerMessage::Tried(Box::new(lost)));
        let running = self.tasks.spawn(async move {
            let tried = fetch_and_take(&federation, &relationship, etag, by, accept_older).await;
            outcome.say(PeerMessage::Tried(Box::new(Tried { run, outcome: tried })));
        });
        self.running = Some(running);
    }

    fn tried(&mut self, myself: &ActorRef<Envelope<PeerMessage>>, tried: Tried) {
        let Tried { run, outcome } = tried;
        if run != self.run || self.running.take().is_none() {
            return;
        }
        let now = self.federation.core.sources.now();
        let trust_domain = self.trust_domain().clone();
        let reply = match outcome {
            Ok(got) => {
                let Got { taken, etag, host, address, by } = got;
                let changed = matches!(taken, Some(Taken::Replaced { .. }));
                let held = self.held();
                let sequence = held.as_ref().and_then(|held| held.bundle.sequence());
                self.record.succeeded(now, Instant::now());
                self.fetched_by = by;
                // Not what is held now: an operator may have put another one in its place since (FED-10).
                if let (Some(etag), Some(taken)) = (etag, &taken) {
                    self.tag = Some(Tag { etag, version: taken.version() });
                }
                self.seen = held.map(|held| held.version);
                metrics::bundle_fetched(if changed { "changed" } else { "unchanged" });
                // FED-53.
                tracing::info!(
                    trust_domain = %trust_domain, profile = self.relationship.endpoint.profile(), host, address,
                    sequence, changed, member = by.map(MemberNumber::get), "the bundle of a foreign trust domain was fetched"
                );
                Ok(Refreshed { changed, sequence, host, fetched_by: by })
            }
            Err(error) => {
                let words = cut(with_causes(&error));
                let alarm = if let TryError::Older(words) = &error {
                    metrics::bundle_fetched("older");
                    self.record.older(now, words.clone())
                } else {
                    metrics::bundle_fetched("failed");
                    // The member that could help cannot any more.
                    self.fetched_by = None;
                    self.record.failed(now, words.clone());
                    false
                };
                tracing::warn!(
                    trust_domain = %trust_domain, profile = self.relationship.endpoint.profile(),
                    url = %self.relationship.endpoint.url(), error = words, "the bundle of a foreign trust domain was not fetched"
                );
                if alarm {
                    tracing::error!(
                        target: "quorate::security", trust_domain = %trust_domain, error = words,
                        "a foreign bundle endpoint goes on serving an older bundle"
                    );
                }
                Err(words)
            }
        };
        // A failure too waits for the next interval (FED-47).
        let wait = poll::jittered(self.interval(), self.random());
        self.wake_in(myself, wait);
        // Whoever is answered finds the same on the board.
        self.tell();
        for waiting in self.waiting.drain(..) {
            drop(waiting.send(reply.clone()));
        }
    }

    fn pushed(&mut self, result: Result<Taken, String>) {
        let now = self.federation.core.sources.now();
        match result {
            Ok(taken) => {
                let changed = matches!(taken, Taken::Replaced { .. });
                metrics::bundle_pushed(if changed { "changed" } else { "unchanged" });
                tracing::info!(
                    trust_domain = %self.trust_domain(), sequence = taken.sequence(), changed,
                    "a foreign trust domain pushed its bundle"
                );
                self.record.succeeded(now, Instant::now());
                self.seen = self.held().map(|held| held.version);
            }
            Err(words) => {
                metrics::bundle_pushed("refused");
                tracing::warn!(trust_domain = %self.trust_domain(), error = words, "a bundle that was pushed is not taken");
            }
        }
    }

    /// Has a watch run where the relationship says so, anew.
    fn watch(&mut self, myself: &ActorRef<Envelope<PeerMessage>>) {
        if let Some(watch) = self.watch.take() {
            watch.abort();
            self.watching = false;
        }
        if matches!(&self.relationship.endpoint, Endpoint::Api { watch: true, .. }) {
            let (federation, relationship) = (self.federation.clone(), Arc::clone(&self.relationship));
            let watching = watching::keep_watch(federation, relationship, myself.clone());
            self.watch = Some(self.tasks.spawn(watching));
        }
    }

    fn wake_in(&mut self, myself: &ActorRef<Envelope<PeerMessage>>, wait: Duration) {
        if let Some((_, alarm)) = self.next.take() {
            alarm.abort();
        }
        let rings_at = Instant::now() + wait;
        let myself = myself.clone();
        let alarm = self.tasks.spawn(async move {
            tokio::time::sleep_until(rings_at).await;
            drop(myself.send_message(Envelope::own(PeerMessage::Wake)));
        });
        let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        self.next = Some((self.federation.core.sources.now().plus(millis), alarm));
    }

    /// Writes on the board how this relationship is.
    fn tell(&self) {
        self.federation.board.set(RelationshipStatus {
            last_success: self.record.last_success.map(UnixMillis::seconds),
            last_try: self.record.last_try.map(UnixMillis::seconds),
            next_try: self.next.as_ref().map(|(at, _)| at.seconds()),
            error: self.record.error.clone(),
            stale: self.record.is_stale(Instant::now(), self.interval()),
            fetched_by: self.fetched_by,
            watching: self.watching,
            older_in_row: self.record.older_in_row,
            ..RelationshipStatus::new(self.trust_domain().clone())
        });
    }
}

/// Fetches, and has what came recorded if it is another bundle.
async fn fetch_and_take(
    federation: &FederationArguments,
    relationship: &Arc<Relationship>,
    etag: Option<String>,
    by: Option<MemberNumber>,
    accept_older: bool,
) -> Result<Got, TryError> {
    let Retrieved { fetched, by } = retrieve(federation, relationship, etag, by).await?;
    match fetched {
        Fetched::NotModified { host, address } => Ok(Got { taken: None, etag: None, host, address, by }),
        Fetched::Document(Document { bytes, etag, host, address }) => {
            let taken = take(federation, relationship, &bytes, accept_older).await.map_err(|error| match error {
                TakeError::Older { .. } => TryError::Older(error.to_string()),
                TakeError::Document(_) | TakeError::Propose(_) | TakeError::Refused(_) | TakeError::NoResult => {
                    TryError::Take(with_causes(&error))
                }
            })?;
            Ok(Got { taken: Some(taken), etag, host, address, by })
        }
    }
}
