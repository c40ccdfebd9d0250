//! Revocation: what was revoked stops being handed out, and the CRLs that say so reach every stream.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor) on every node. It signs the CRLs of this
//! node's issuing keys, and, where the node leads, does what is due for all: keys that are gone, CRLs of roots, new keys that
//! may sign. What must not wait for an actor does not: bans and token rules are read from the state by whoever issues, and
//! whoever puts an answer together first withdraws what was revoked ([`withdrawal`]).
//!
//! ```text
//!   operator ── Revocations (handle) ── Revoke n ──> log ──> applied on every node
//!                   ^                                          |            |
//!                   | COVERED, SENT                            v            v
//!                   |                         withdrawal: lists, cache    RevocationActor ── own CRLs ── RecordCrl ──> log
//!                   |                                          |            | where it leads: gone keys, root CRLs,
//!                   +── streams <── keepers <── new SVIDs <────+            +   ActivateIssuingKey, prune
//!                           ^──────────────── the set of CRLs <──────────────────────────────── applied
//! ```

mod due;
mod handle;
mod keys;
mod own;
mod questions;
mod signing;
pub(crate) mod withdrawal;

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::{MemberNumber, UnixMillis};
use quorate_raft_consensus::Role;
use quorate_raft_machine::{RevocationDue, revocation};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::Mutex,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

pub use handle::{CrlsHandedOut, CutOff, CutOffMember, RevocationPlan, Revocations, RevokeError, RevokeOutcome};

use self::{due::DueError, own::OwnError};
use crate::{
    authority::{AuthorityArguments, office},
    events,
    mailbox::{Address, Envelope, Outcome},
    session::core::Core,
};

/// How many messages wait: news of the log, which waits for room outside, and the actor's own.
pub(crate) const REVOCATION_MAILBOX_LIMIT: usize = 256;

/// Wait before what could not be done is tried again; doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Longest wait before what could not be done is tried again.
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// The longest sleep: what is due is a time of day, which can be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What the actor is told.
pub(crate) enum RevocationMessage {
    /// Something was applied; what, the state says.
    News,
    /// This node leads, or does not any more.
    Role(Role),
    /// The time has come to look.
    Wake,
    /// Signing this node's CRLs came to this end.
    OwnDone(Result<(), OwnError>),
    /// Doing what was due came to this end.
    DueDone(Result<(), DueError>),
}

/// The actor.
pub(crate) struct RevocationActor;

/// What it starts from, and what questions of other members are answered from.
#[derive(Clone)]
pub(crate) struct RevocationArguments {
    pub(crate) core: Arc<Core>,
    pub(crate) authority: AuthorityArguments,
    /// One CRL of a root is made at a time.
    pub(crate) roots: Arc<Mutex<()>>,
    pub(crate) address: Address<RevocationMessage>,
}

/// Work that goes on, and how often it has failed.
#[derive(Debug, Default)]
struct Work {
    running: bool,
    failures: u32,
}

/// What it keeps.
pub(crate) struct RevocationState {
    arguments: RevocationArguments,
    leader: Result<(), Option<MemberNumber>>,
    own: Work,
    due: Work,
    /// What was last told of a step that waits.
    told: Option<String>,
    alarm: Option<(Instant, AbortHandle)>,
    /// Work, alarm and listeners; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for RevocationActor {
    type Msg = Envelope<RevocationMessage>;
    type State = RevocationState;
    type Arguments = RevocationArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        let handle = &arguments.authority.handle;
        tasks.spawn(events::forward(handle.events(), arguments.address.clone(), |_| RevocationMessage::News));
        tasks.spawn(events::follow(arguments.core.keyring.dooms(), myself.clone(), |_| RevocationMessage::Wake));
        tasks.spawn(events::follow(handle.role(), myself, RevocationMessage::Role));
        let (own, due) = (Work::default(), Work::default());
        Ok(RevocationState { arguments, leader: Err(None), own, due, told: None, alarm: None, tasks })
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
            RevocationMessage::News => {}
            RevocationMessage::Wake => {
                // The alarm has rung, and its task may not have ended yet: it must not pass for one that is still to ring.
                if let Some((_, alarm)) = state.alarm.take() {
                    alarm.abort();
                }
            }
            RevocationMessage::Role(role) => {
                state.leader = office(&role);
                state.due.failures = 0;
            }
            RevocationMessage::OwnDone(result) => state.own_done(result),
            RevocationMessage::DueDone(result) => state.due_done(result),
        }
        state.go_on(&myself);
        Ok(())
    }
}

impl RevocationState {
    /// Does what there is to do and is not being done, and sets the alarm for the rest.
    fn go_on(&mut self, myself: &ActorRef<Envelope<RevocationMessage>>) {
        self.doom_own_keys();
        // What has failed is tried again by the alarm, and not by each piece of news.
        let alarm_is_set = self.alarm.as_ref().is_some_and(|(_, alarm)| !alarm.is_finished());
        let waits = |work: &Work| work.running || (work.failures > 0 && alarm_is_set);
        if !waits(&self.own) && own::is_wanted(&self.arguments) {
            self.own.running = true;
            let arguments = self.arguments.clone();
            let outcome = Outcome::new(myself, RevocationMessage::OwnDone(Err(OwnError::TaskLost)));
            self.tasks.spawn(async move {
                let result = own::do_own(&arguments).await;
                outcome.say(RevocationMessage::OwnDone(result));
            });
        }
        if !waits(&self.due) && self.leader.is_ok() && self.is_anything_due() {
            self.due.running = true;
            let arguments = self.arguments.clone();
            let outcome = Outcome::new(myself, RevocationMessage::DueDone(Err(DueError::Lost)));
            self.tasks.spawn(async move {
                let result = due::do_what_is_due(&arguments).await;
                outcome.say(RevocationMessage::DueDone(result));
            });
        }
        self.set_alarm(myself);
    }

    fn is_anything_due(&self) -> bool {
        let now = self.arguments.core.sources.now().seconds();
        self.arguments.core.state.read(|state| due::is_anything_due(state, now))
    }

    /// Notes which keys of this process are to be revoked whole, so that the issuer asks for another one.
    fn doom_own_keys(&self) {
        let core = &self.arguments.core;
        let now = core.sources.now().seconds();
        let steps = core.state.read(|state| if state.crls_are_on() { revocation::due(state, now) } else { Vec::new() });
        for step in steps {
            if let RevocationDue::RevokeGoneKeys { keys } = step {
                for (held, cause) in keys.into_iter().filter_map(|(key, cause)| Some((core.keyring.get(&key)?, cause)))
                {
                    if held.doom() {
                        tracing::warn!(
                            target: "quorate::security", authority_id = %held.id, ?cause,
                            "an issuing key of this node is to be revoked whole"
                        );
                    }
                }
            }
        }
    }

    fn own_done(&mut self, result: Result<(), OwnError>) {
        self.own.running = false;
        match result {
            Ok(()) => self.own.failures = 0,
            Err(error) => {
                self.own.failures = self.own.failures.saturating_add(1);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    failures = self.own.failures,
                    "a CRL of this node could not be recorded and is tried again"
                );
            }
        }
    }

    fn due_done(&mut self, result: Result<(), DueError>) {
        self.due.running = false;
        match result {
            Ok(()) => {
                self.due.failures = 0;
                self.told = None;
            }
            Err(DueError::Waits(reason)) => {
                // No failure: it is told once, and when it is something else that is waited for.
                self.due.failures = 1;
                if self.leader.is_ok() && self.told.as_ref() != Some(&reason) {
                    tracing::info!(reason, "a step of revocation waits");
                    self.told = Some(reason);
                }
            }
            Err(error) => {
                self.due.failures = self.due.failures.saturating_add(1);
                if self.leader.is_ok() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        failures = self.due.failures,
                        "a step of revocation failed and is tried again"
                    );
                }
            }
        }
    }

    /// Sets the alarm to when there may be something to do.
    fn set_alarm(&mut self, myself: &ActorRef<Envelope<RevocationMessage>>) {
        let now = self.arguments.core.sources.now();
        let next = self.arguments.core.state.read(|state| due::next_instant(state, now.seconds()));
        let left = next.unwrap_or(UnixMillis(i64::MAX)).since(now).max(0).unsigned_abs();
        let retry = [&self.own, &self.due].into_iter().filter_map(|work| retry(work.failures)).min();
        let again = if own::is_wanted(&self.arguments) { Some(LONGEST_RETRY) } else { None };
        let sleep = [Some(LONGEST_SLEEP), Some(Duration::from_millis(left)), retry, again].into_iter().flatten().min();
        let rings_at = Instant::now() + sleep.unwrap_or(LONGEST_SLEEP);
        if let Some((before, alarm)) = self.alarm.take() {
            let failed = self.own.failures > 0 || self.due.failures > 0;
            if failed && before <= rings_at && !alarm.is_finished() {
                // It rings for what has failed, however much news comes meanwhile. One that was set before anything had failed
                // may ring much later.
                self.alarm = Some((before, alarm));
                return;
            }
            alarm.abort();
        }
        let myself = myself.clone();
        let alarm = self.tasks.spawn(async move {
            tokio::time::sleep_until(rings_at).await;
            drop(myself.send_message(Envelope::own(RevocationMessage::Wake)));
        });
        self.alarm = Some((rings_at, alarm));
    }
}

/// How long to wait after so many failures.
fn retry(failures: u32) -> Option<Duration> {
    let doublings = failures.checked_sub(1)?.min(8);
    Some(FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY))
}
