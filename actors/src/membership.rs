//! The membership: brings the Raft group and the seals after what the records want, on the node that leads.
//!
//! The actor is started and restarted by the [`supervisor`](crate::supervisor) on every node; where the node does not lead
//! it does nothing. What is to be done next is decided by a pure function of the state machine's crate
//! ([`next_steps`](quorate_raft_machine::next_steps)), from the state, the Raft group and what the leader hears of the
//! members. It remembers nothing, so whichever leader asks, after whichever half of a step another one died, goes on where
//! that one stopped.
//!
//! ```text
//!   records, plan (state) ─┐
//!   voters, learners (Raft)├─> next_steps ──> seal tokens, add learner, seal roots, add voter, ...  (one after the other)
//!   who is there (reports) ┘        ^                                   │
//!                                   └───────── look again ──────────────┘
//! ```
//!
//! What an operator wants comes in by command ([`Membership`]), not by message: any node takes it, any leader does it.

mod handle;
mod report;
mod steps;

use std::time::Duration;

use quorate_raft_consensus::Role;
use quorate_raft_machine::Event;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::Instant,
};

pub use handle::{Membership, MembershipChange, MembershipError};
pub use report::{Aim, Progress};

use self::steps::{StepError, reconcile};
use crate::{
    authority::AuthorityArguments,
    events::{self, News},
    mailbox::{Address, Envelope, Outcome},
};

/// Events wait for room outside; all else is the actor's own.
pub(crate) const MEMBERSHIP_MAILBOX_LIMIT: usize = 64;

/// How often the leader looks without being told to: who is there and who has caught up is in no log.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Wait after steps were taken: they make the next ones due, and nothing can make this node propose without end.
const PAUSE: Duration = Duration::from_millis(20);

/// First wait after a step that failed; doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Longest wait after a step that failed.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What the membership is told.
pub(crate) enum MembershipMessage {
    /// Something was applied.
    News(News),
    /// This node leads, or does not any more.
    Role(Role),
    /// The time has come to look.
    Wake,
    /// Steps were taken, so many, or one failed.
    Reconciled(Result<usize, StepError>),
}

/// The actor.
pub(crate) struct MembershipActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct MembershipArguments {
    /// Sealing and proposing are the authority's deeds.
    pub(crate) authority: AuthorityArguments,
    pub(crate) address: Address<MembershipMessage>,
}

/// What it keeps.
pub(crate) struct MembershipState {
    arguments: MembershipArguments,
    /// Since when this node leads, if it does.
    leads_since: Option<Instant>,
    /// Steps are being taken; one run at a time.
    running: bool,
    /// Something changed while they were.
    again: bool,
    failures: u32,
    /// What failed last, so that it is told once.
    told: Option<String>,
    alarm: Option<(Instant, AbortHandle)>,
    /// The run, the alarm and listeners; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for MembershipActor {
    type Msg = Envelope<MembershipMessage>;
    type State = MembershipState;
    type Arguments = MembershipArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        let handle = &arguments.authority.handle;
        tasks.spawn(events::forward(handle.events(), arguments.address.clone(), MembershipMessage::News));
        tasks.spawn(events::follow(handle.role(), myself, MembershipMessage::Role));
        Ok(MembershipState {
            arguments,
            leads_since: None,
            running: false,
            again: false,
            failures: 0,
            told: None,
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
            MembershipMessage::News(news) if concerns(&news) => {
                state.again = state.running;
                state.wake_in(&myself, PAUSE);
            }
            MembershipMessage::News(_) => {}
            MembershipMessage::Role(role) => state.role(&myself, &role),
            MembershipMessage::Wake => state.run(&myself),
            MembershipMessage::Reconciled(result) => state.reconciled(&myself, result),
        }
        Ok(())
    }
}

impl MembershipState {
    fn role(&mut self, myself: &ActorRef<Envelope<MembershipMessage>>, role: &Role) {
        self.leads_since = role.is_leader().then(|| self.leads_since.unwrap_or_else(Instant::now));
        self.failures = 0;
        self.run(myself);
    }

    fn run(&mut self, myself: &ActorRef<Envelope<MembershipMessage>>) {
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
        let Some(leads_since) = self.leads_since else { return };
        if self.running {
            return;
        }
        self.running = true;
        let arguments = self.arguments.authority.clone();
        let outcome = Outcome::new(myself, MembershipMessage::Reconciled(Err(StepError::Lost)));
        self.tasks.spawn(async move {
            let result = reconcile(&arguments, leads_since).await;
            outcome.say(MembershipMessage::Reconciled(result));
        });
    }

    fn reconciled(&mut self, myself: &ActorRef<Envelope<MembershipMessage>>, result: Result<usize, StepError>) {
        self.running = false;
        let wait = match result {
            Ok(taken) => {
                self.failures = 0;
                self.told = None;
                if taken > 0 || std::mem::take(&mut self.again) { PAUSE } else { LOOK_EVERY }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let text = error.to_string();
                if self.leads_since.is_some() && self.told.as_ref() != Some(&text) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a change of the membership failed and is tried again"
                    );
                    self.told = Some(text);
                }
                FIRST_RETRY.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(LONGEST_RETRY)
            }
        };
        self.wake_in(myself, wait);
    }

    /// Looks again after a while, or earlier if that was meant before.
    fn wake_in(&mut self, myself: &ActorRef<Envelope<MembershipMessage>>, wait: Duration) {
        // While a run goes on, its end sets the next alarm; after a failure, events do not shorten the wait.
        if self.leads_since.is_none() || self.running {
            return;
        }
        let rings_at = Instant::now() + wait;
        let waits = self.alarm.as_ref().filter(|(_, alarm)| !alarm.is_finished());
        if waits.is_some_and(|(set, _)| *set <= rings_at || self.failures > 0) {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.abort();
        }
        let myself = myself.clone();
        let alarm = self.tasks.spawn(async move {
            tokio::time::sleep_until(rings_at).await;
            drop(myself.send_message(Envelope::own(MembershipMessage::Wake)));
        });
        self.alarm = Some((rings_at, alarm));
    }
}

/// Whether what was applied can make a step due.
fn concerns(news: &News) -> bool {
    let News::Applied(applied) = news else { return true };
    applied.events.iter().any(|event| match event {
        Event::Founded
        | Event::X509AuthorityChanged { .. }
        | Event::JwtAuthorityChanged { .. }
        | Event::MemberChanged { .. }
        | Event::RecoveryKeyChanged
        | Event::PlanChanged
        // To be sealed to whom it is not yet.
        | Event::SecretChanged { .. } => true,
        Event::EntryChanged { .. }
        | Event::ScopesChanged
        | Event::PolicyChanged
        | Event::AccessChanged
        | Event::BundleChanged { .. }
        | Event::IssuingCertificateChanged { .. }
        | Event::InvitationChanged { .. }
        | Event::RelationshipChanged { .. }
        | Event::ForeignBundleChanged { .. }
        | Event::AcmeChanged
        | Event::WebDomainChanged { .. }
        | Event::OidcChanged
        | Event::EpochRaised { .. }
        | Event::VersionRaised { .. }
        | Event::TimeReset { .. }
        | Event::RevocationChanged { .. }
        | Event::CrlRecorded { .. }
        | Event::IssuingKeyActivated { .. }
        | Event::CrlsSwitched { .. }
        | Event::CrlSetChanged => false,
    })
}
