//! The authority: signs issuing certificates and moves authorities through their life, on the node that leads.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor) on every node; where the node does not
//! lead it refuses. It acts only on a role that consensus has confirmed, and asks again (a read-index round) before each
//! piece of work, because an office can be over without its holder knowing (ELE-07). Every step is checked once more by
//! `apply`, so a leader that was replaced in the middle of one neither skips nor repeats it.
//!
//! ```text
//!   issuers of all members ── request: CSR, first CRL ──> sign with the active root ──> RecordIssuingCertificate
//!   clock, set from the state ──> what is due? ──> prepare; publish; gate, then activate; taint; gate, then revoke; prune
//!   operators, on any node    ──> Authorities  ──> the same steps, one try after the other
//! ```
//!
//! Roots are opened for a signature and wiped after it; no key is kept open here.

mod commands;
mod documents;
pub mod founding;
mod gate;
mod handle;
mod issuing;
mod progress;
mod rotation;
mod sealing;
mod steps;

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::{MemberNumber, UnixMillis, UnixSeconds};
use quorate_raft_consensus::{Handle, Role};
use quorate_raft_machine::{authority::next_due_at, due};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

pub use commands::AuthorityChange;
pub(crate) use commands::{AuthorityCommand, Tried, Wanted};
pub use documents::DocumentError;
pub(crate) use documents::{Workshop, first_crl, own_context};
pub(crate) use gate::Gate;
pub use handle::{Authorities, AuthorityError, Timeline};
pub(crate) use issuing::{
    IssuingError, IssuingRequest, Snapshot, confirm_office, open_root, propose, sign_and_record, snapshot,
};
pub use progress::RotationProgress;
pub(crate) use sealing::{SealTo, seal_lacking, secret_recipients};

use crate::{
    audit::Auditor,
    events,
    mailbox::{Address, Envelope, Outcome},
    own::Own,
    session::keeper::OpenStreams,
    watchers::Watchers,
};

/// How many requests may wait: two from each of the most members that a cluster has.
pub(crate) const AUTHORITY_MAILBOX_LIMIT: usize = 2048;

/// How long a member's request for an issuing certificate may take, there and back: a read-index round, a signature and a
/// proposal are milliseconds. A leader that does not answer for so long is about to be replaced.
pub(crate) const ISSUE_TIME_LIMIT: Duration = Duration::from_secs(5);

/// How long a proposal or a read-index round of the authority may take.
pub(crate) const STEP_TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long one try of an operator's command may take on the leader: both waits at a gate, an RSA key, and the proposal.
pub(crate) const COMMAND_TIME_LIMIT: Duration = Duration::from_secs(30);

/// Wait before what is due is looked at again after a step that succeeded: one step makes the next one due, and nothing
/// can make this node propose without end.
const PAUSE: Duration = Duration::from_millis(20);

/// First wait after a step that failed; doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// Longest wait after a step that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The longest sleep: what is due is a time of day, which can be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What the authority is told.
pub(crate) enum AuthorityMessage {
    /// A member wants an issuing certificate; it learns the log index at which it is recorded.
    Issue { request: IssuingRequest, reply: oneshot::Sender<Result<u64, IssuingError>> },
    /// An operator wants something of the authorities; it learns what came of one try.
    Command { command: AuthorityCommand, reply: oneshot::Sender<Tried> },
    /// Something was applied; what, the state says.
    News,
    /// This node leads, or does not any more.
    Role(Role),
    /// The time has come to look at what is due.
    Wake,
    /// Doing what was due came to this end.
    Rotated(Result<(), rotation::RotationError>),
}

/// The actor.
pub(crate) struct AuthorityActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct AuthorityArguments {
    pub(crate) handle: Handle,
    pub(crate) own: Arc<Own>,
    pub(crate) workshop: Workshop,
    /// Where authorities that are prepared were first seen; outlives a restart.
    pub(crate) gate: Arc<Gate>,
    /// The streams that an authority must have reached before it signs.
    pub(crate) streams: OpenStreams,
    /// Where it is recorded who forced a step.
    pub(crate) audit: Auditor,
    /// The peers that watch our bundle at this node.
    pub(crate) watchers: Watchers,
    pub(crate) address: Address<AuthorityMessage>,
}

/// What it keeps.
pub(crate) struct AuthorityState {
    arguments: AuthorityArguments,
    leader: Result<(), Option<MemberNumber>>,
    /// Doing what is due; one at a time.
    rotating: bool,
    failures: u32,
    /// What was last told of a step that waits at its gate.
    told_shut: Option<gate::GateShut>,
    alarm: Option<(Instant, AbortHandle)>,
    /// Signatures, rotation, alarms and listeners; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for AuthorityActor {
    type Msg = Envelope<AuthorityMessage>;
    type State = AuthorityState;
    type Arguments = AuthorityArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        tasks.spawn(events::forward(arguments.handle.events(), arguments.address.clone(), |_| AuthorityMessage::News));
        tasks.spawn(events::follow(arguments.handle.role(), myself, AuthorityMessage::Role));
        Ok(AuthorityState {
            arguments,
            leader: Err(None),
            rotating: false,
            failures: 0,
            told_shut: None,
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
        let (message, permit) = envelope.open();
        match message {
            AuthorityMessage::Issue { request, reply } => {
                // As it is now: the message that tells of a new role may still be on its way.
                let office = office(&state.arguments.handle.role().borrow());
                match office {
                    Ok(()) => {
                        let arguments = state.arguments.clone();
                        state.tasks.spawn(async move {
                            let _permit = permit;
                            // Whoever asked may have gone; the certificate is recorded all the same.
                            drop(reply.send(sign_and_record(&arguments, request).await));
                        });
                    }
                    Err(leader) => drop(reply.send(Err(IssuingError::NotLeader { leader }))),
                }
            }
            AuthorityMessage::Command { command, reply } => {
                let office = office(&state.arguments.handle.role().borrow());
                match office {
                    Ok(()) => {
                        let arguments = state.arguments.clone();
                        state.tasks.spawn(async move {
                            let _permit = permit;
                            let tried = commands::carry_out(&arguments, command, || reply.is_closed()).await;
                            drop(reply.send(tried));
                        });
                    }
                    Err(_) => drop(reply.send(Tried::NotLeader("this node does not lead".into()))),
                }
            }
            AuthorityMessage::News => {
                state.look_at_gate();
                state.set_alarm(&myself);
            }
            AuthorityMessage::Role(role) => state.role(&myself, &role),
            AuthorityMessage::Wake => state.rotate(&myself),
            AuthorityMessage::Rotated(result) => state.rotated(&myself, result),
        }
        Ok(())
    }
}

impl AuthorityState {
    fn role(&mut self, myself: &ActorRef<Envelope<AuthorityMessage>>, role: &Role) {
        self.leader = office(role);
        self.failures = 0;
        self.look_at_gate();
        self.rotate(myself);
    }

    /// Takes note of authorities that are prepared, as soon as they are.
    fn look_at_gate(&self) {
        let gate = &self.arguments.gate;
        self.arguments.handle.state().read_at(|applied_index, state| gate.look(applied_index, state));
    }

    /// Does what is due, if this node leads and is not at it already.
    fn rotate(&mut self, myself: &ActorRef<Envelope<AuthorityMessage>>) {
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
        if self.leader.is_err() || self.rotating {
            return;
        }
        self.rotating = true;
        let arguments = self.arguments.clone();
        let outcome = Outcome::new(myself, AuthorityMessage::Rotated(Err(rotation::RotationError::Lost)));
        self.tasks.spawn(async move {
            let result = rotation::do_what_is_due(&arguments).await;
            outcome.say(AuthorityMessage::Rotated(result));
        });
    }

    fn rotated(&mut self, myself: &ActorRef<Envelope<AuthorityMessage>>, result: Result<(), rotation::RotationError>) {
        self.rotating = false;
        match result {
            Ok(()) => {
                self.failures = 0;
                self.told_shut = None;
            }
            Err(rotation::RotationError::Gate(shut)) => {
                // No failure: whoever is waited for has not come yet. It is told once, and when somebody else is.
                self.failures = 1;
                if self.leader.is_ok() && self.told_shut.as_ref() != Some(&shut) {
                    tracing::warn!(reason = %shut, "a step in the life of an authority waits");
                    self.told_shut = Some(shut);
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.leader.is_ok() {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        failures = self.failures,
                        "a step of the authority failed and is tried again"
                    );
                }
            }
        }
        self.set_alarm(myself);
    }

    /// Sets the alarm to when something may be due next.
    fn set_alarm(&mut self, myself: &ActorRef<Envelope<AuthorityMessage>>) {
        if self.leader.is_err() || self.rotating {
            return;
        }
        let now = self.arguments.workshop.sources.now();
        let state = self.arguments.handle.state();
        let something = state.read(|state| !due(state, now.seconds()).is_empty());
        let next = state.read(|state| next_due_at(state, now.seconds())).map(UnixSeconds::millis);
        let at = if something {
            now.plus(i64::try_from(self.retry().as_millis()).unwrap_or(i64::MAX))
        } else {
            next.unwrap_or(UnixMillis(i64::MAX))
        };
        let sleep = Duration::from_millis(at.since(now).max(0).unsigned_abs()).min(LONGEST_SLEEP);
        // Compared by the clock that is slept by: the time of day may have been set since.
        let rings_at = Instant::now() + sleep;
        if self.alarm.as_ref().is_some_and(|(set, alarm)| *set <= rings_at && !alarm.is_finished()) {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
        let myself = myself.clone();
        let alarm = self.tasks.spawn(async move {
            tokio::time::sleep(sleep).await;
            drop(myself.send_message(Envelope::own(AuthorityMessage::Wake)));
        });
        self.alarm = Some((rings_at, alarm));
    }

    /// How long to wait with what is due: hardly, unless it has just failed.
    fn retry(&self) -> Duration {
        match self.failures.checked_sub(1) {
            None => PAUSE,
            Some(doublings) => FIRST_RETRY.saturating_mul(1 << doublings.min(8)).min(LONGEST_RETRY),
        }
    }
}

/// Whether a node of this role leads, and if not, who does as far as is known.
pub(crate) fn office(role: &Role) -> Result<(), Option<MemberNumber>> {
    match role {
        Role::Leader { .. } => Ok(()),
        Role::Follower { leader } | Role::Learner { leader } => Err(*leader),
        Role::Unfounded | Role::Candidate | Role::Stopped { .. } => Err(None),
    }
}
