//! Changes of the membership, as an operator asks for them: recorded by a command, carried out by whoever leads, and waited
//! for here.

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{Handle, Proposal, ProposeError};
use quorate_raft_machine::{Caller, Done, MemberRole, Operation, Refusal};
use tokio::time::{Instant, timeout_at};

use super::report::{Aim, Progress, could_still_sign, named, progress};
use crate::own::Own;

/// How often it is looked how far a change has come, beside every log entry that is applied: the Raft group's own changes
/// are told of by nothing else.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much of the time that an operator gives goes to the command itself; the rest is for what follows from it.
const COMMAND_TIME_LIMIT: Duration = Duration::from_secs(10);

/// Asks for changes of the membership, on any node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Membership {
    handle: Handle,
    own: Arc<Own>,
}

/// A change that has come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipChange {
    /// What was done, a sentence each, in the order in which it was.
    pub steps: Vec<String>,
    /// Where in the log the command stands that began it.
    pub log_index: u64,
}

/// Why a change of the membership was not made, or is not finished.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The command was refused, and nothing changed: the message says what stands against it.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The command was not applied, or is not known to be.
    #[error("the change could not be recorded")]
    Propose(#[from] ProposeError),
    /// The change is recorded and goes on by itself, whoever leads; the time given was too short for all of it. Asking for
    /// the same again waits for the rest.
    #[error("the change is recorded and goes on; it waits for {waits_for}")]
    Unfinished {
        /// What has been done, a sentence each.
        steps: Vec<String>,
        /// What is waited for.
        waits_for: String,
        /// Where in the log the command stands.
        log_index: u64,
    },
    /// A command of one operation came back without a result; a fault of the program.
    #[error("the command came back without a result")]
    NoResult,
}

impl Membership {
    pub(crate) fn new(handle: Handle, own: Arc<Own>) -> Self {
        Self { handle, own }
    }

    /// Makes a member a voter, because the operator wants it: root keys are sealed to it, then it gets its vote. Returns
    /// when it has it.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn promote(
        &self,
        asker: &Caller,
        number: MemberNumber,
        deadline: Instant,
    ) -> Result<MembershipChange, MembershipError> {
        self.set_role(asker, number, MemberRole::Voter, deadline).await
    }

    /// Makes a member a learner, because the operator wants it: it loses its vote, then the root keys. Returns when no root
    /// is sealed to it any more. What it has opened before it may remember: that is what removal as compromised is for.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn demote(
        &self,
        asker: &Caller,
        number: MemberNumber,
        deadline: Instant,
    ) -> Result<MembershipChange, MembershipError> {
        self.set_role(asker, number, MemberRole::Learner, deadline).await
    }

    /// Removes a member: it signs no more, leaves the Raft group, and loses what was sealed to it. Returns when its record
    /// is closed; with `compromised` only when a new root and a new token key sign, which it cannot open (design section
    /// 2, property 6), what stood under those that it could open has been replaced, and they have left the bundle.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn remove(
        &self,
        asker: &Caller,
        number: MemberNumber,
        compromised: bool,
        deadline: Instant,
    ) -> Result<MembershipChange, MembershipError> {
        let (name, could) = self.handle.state().read(|state| (named(state, number), could_still_sign(state, number)));
        let operation = Operation::RemoveMember { number, compromised };
        let (done, log_index) = self.propose(asker, operation, deadline).await?;
        let revoked = if let Done::MemberLeaving { revoked, .. } = done { revoked } else { 0 };
        let mut steps = vec![format!(
            "{name} is to leave, and signs nothing more: {revoked} issuing certificates of it are revoked."
        )];
        if !compromised {
            steps.extend(could);
        }
        if self.is_own(number) {
            // It will not hear of its own end.
            steps.push(
                "This is the node that was asked: the others carry the removal on, and it hears no more of it.".into(),
            );
            return Ok(MembershipChange { steps, log_index });
        }
        let aim = if compromised { Aim::GoneCompromised } else { Aim::Gone };
        self.wait(aim, number, steps, log_index, deadline).await
    }

    /// How far a member has come towards an aim, as this node's state and log tell. For those who show it while it goes on.
    #[must_use]
    pub fn progress(&self, aim: Aim, number: MemberNumber) -> Progress {
        let group = self.handle.raft_members();
        let contacts = self.handle.members();
        // Elsewhere the contacts tell of this node alone.
        let absent = contacts.iter().filter(|contact| !contact.connected).map(|contact| contact.number);
        let absent: Vec<MemberNumber> = absent.filter(|_| self.handle.role().borrow().is_leader()).collect();
        self.handle.state().read(|state| {
            let live = state.live_members(state.counters().time.seconds());
            let absent: Vec<MemberNumber> = absent.into_iter().filter(|number| live.contains(number)).collect();
            progress(aim, number, state, &group, &absent)
        })
    }

    /// What the machine of a member could still sign if it were removed now, and not as compromised: a sentence each.
    #[must_use]
    pub fn could_still_sign(&self, number: MemberNumber) -> Vec<String> {
        self.handle.state().read(|state| could_still_sign(state, number))
    }

    async fn set_role(
        &self,
        asker: &Caller,
        number: MemberNumber,
        role: MemberRole,
        deadline: Instant,
    ) -> Result<MembershipChange, MembershipError> {
        let name = self.handle.state().read(|state| named(state, number));
        let operation = Operation::SetMemberRole { number, role, pinned: true };
        let (_, log_index) = self.propose(asker, operation, deadline).await?;
        let steps = vec![format!("{name} is to be a {}.", role.name())];
        self.wait(role.into(), number, steps, log_index, deadline).await
    }

    async fn propose(
        &self,
        asker: &Caller,
        operation: Operation,
        deadline: Instant,
    ) -> Result<(Done, u64), MembershipError> {
        let mut proposal = Proposal::new(asker.clone(), vec![operation]).within(COMMAND_TIME_LIMIT);
        proposal.deadline = proposal.deadline.min(deadline);
        let applied = match self.handle.propose(proposal).await {
            // What is waited for afterwards is more than that every connected member has applied the command.
            Ok(applied) | Err(ProposeError::NotEverywhere { applied, .. }) => applied,
            Err(error) => return Err(error.into()),
        };
        let result = applied.outcome.results.into_iter().next().ok_or(MembershipError::NoResult)?;
        Ok((result.map_err(MembershipError::Refused)?, applied.log_index))
    }

    /// Waits until an aim is reached, and gives the sentences of the way there.
    async fn wait(
        &self,
        aim: Aim,
        number: MemberNumber,
        mut steps: Vec<String>,
        log_index: u64,
        deadline: Instant,
    ) -> Result<MembershipChange, MembershipError> {
        let state = self.handle.state();
        let mut applied = state.watch_applied_index();
        loop {
            applied.borrow_and_update();
            let reached = self.progress(aim, number);
            let Some(waits_for) = reached.waits_for else {
                steps.extend(reached.done);
                return Ok(MembershipChange { steps, log_index });
            };
            if Instant::now() >= deadline {
                steps.extend(reached.done);
                return Err(MembershipError::Unfinished { steps, waits_for, log_index });
            }
            // Whether something was applied, the time is over, or consensus has gone: it is looked again.
            let look = (Instant::now() + LOOK_EVERY).min(deadline);
            if let Ok(Err(_gone)) = timeout_at(look, applied.changed()).await {
                tokio::time::sleep_until(look).await;
            }
        }
    }

    fn is_own(&self, number: MemberNumber) -> bool {
        self.handle.state().read(|state| self.own.member(state)).is_ok_and(|own| own.number == number)
            || self.handle.member() == Some(number)
    }
}
