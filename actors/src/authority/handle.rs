//! The life of authorities as operators see it, on any node: the leader takes the steps, and this node asks it, again if
//! another takes its place meanwhile.

use std::time::Duration;

use quorate_proto_identity::{AuthorityId, UnixSeconds};
use quorate_raft_consensus::{AskError, Handle, LinearizeError, Sources};
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, AuthorityView, Caller, Refusal, RefusalCode, State,
    authority::{TimelineStep, timeline},
};
use tokio::time::Instant;

use super::{
    RotationProgress,
    commands::{AuthorityChange, AuthorityCommand, Tried, Wanted},
};
use crate::{
    audit::{Auditor, TrailBlocked},
    peers::{PeerError, ask_authority},
};

/// The longest that one try may take: a leader waits a few seconds at a gate, and makes an RSA key in about as many.
const TRY_TIME_LIMIT: Duration = Duration::from_secs(15);

/// Wait before the next try, when the one before was refused for the moment.
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// How long it takes this node to apply what the leader has committed, at most.
const APPLY_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Asks for steps in the life of authorities, on any node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authorities {
    handle: Handle,
    sources: Sources,
    audit: Auditor,
}

/// Past and coming steps, as of an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// This node's time.
    pub now: UnixSeconds,
    /// The steps, by their time.
    pub steps: Vec<TimelineStep>,
}

/// Why a step was not taken, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The step was refused, and nothing changed: the life cycle does not have it, or the authority is not known. The code
    /// tells which.
    #[error("{0}")]
    Refused(#[source] Refusal),
    /// The gate did not open within the time given, and nothing changed. Wait longer, do something about those that are
    /// named, or force the step.
    #[error("the gate is shut: {}", .waits_for.join("; "))]
    Waits {
        /// What is waited for; one entry each, in words.
        waits_for: Vec<String>,
    },
    /// The step was taken, and within the time given not every connected member was known to have applied it. It holds, and
    /// those that are cut off apply it when they are back.
    #[error("the step was taken, and not every connected member is known to have applied it: {reason}")]
    NotEverywhere {
        /// What was done.
        change: AuthorityChange,
        /// Why that is not known.
        reason: String,
    },
    /// No leader took the question within the time given. Whether the step was taken, the authorities tell.
    #[error("no leader answered in time: {reason}")]
    NoLeader {
        /// What was heard last.
        reason: String,
    },
    /// The leader could not take the step: a key could not be opened, or the command not be recorded.
    #[error("the leader could not take the step: {reason}")]
    Failed {
        /// Why, with causes.
        reason: String,
    },
    /// The audit trail of this node cannot be written, so nothing was asked for.
    #[error(transparent)]
    NotRecorded(#[from] TrailBlocked),
    /// This node could not make sure that what it reads is new.
    #[error("this node could not read what the cluster has agreed on")]
    Read(#[from] LinearizeError),
}

impl Authorities {
    pub(crate) fn new(handle: Handle, sources: Sources, audit: Auditor) -> Self {
        Self { handle, sources, audit }
    }

    /// The authorities of a kind in every state that is kept, as the cluster has agreed on them by now.
    ///
    /// # Errors
    /// [`AuthorityError::Read`].
    pub async fn list(&self, kind: AuthorityKind, deadline: Instant) -> Result<Vec<AuthorityView>, AuthorityError> {
        self.handle.read_index(deadline).await?;
        Ok(self.handle.state().read(|state| state.authorities(kind)))
    }

    /// Past and coming steps of all authorities.
    ///
    /// # Errors
    /// [`AuthorityError::Read`].
    pub async fn timeline(&self, deadline: Instant) -> Result<Timeline, AuthorityError> {
        self.handle.read_index(deadline).await?;
        let now = self.sources.now().seconds();
        Ok(Timeline { now, steps: self.handle.state().read(|state| timeline(state, now)) })
    }

    /// Makes an authority of a kind and puts it into the bundle. It does not sign yet.
    ///
    /// # Errors
    /// [`AuthorityError`]; refused with `WrongState` while another is prepared.
    pub async fn prepare(
        &self,
        asker: &Caller,
        kind: AuthorityKind,
        deadline: Instant,
    ) -> Result<AuthorityChange, AuthorityError> {
        let before = self.handle.state().read(|state| state.authorities(kind));
        let is_new = move |state: &State| {
            let known = |id: &AuthorityId| before.iter().any(|known| known.id == *id);
            let prepared = |authority: &AuthorityView| authority.state == AuthorityState::Prepared;
            state.authorities(kind).into_iter().find(|authority| prepared(authority) && !known(&authority.id))
        };
        self.until_moved(asker, kind, Wanted::Prepare, deadline, |_| {}, is_new).await
    }

    /// Lets a prepared authority sign, once its gate is open: every live member has applied it, their open streams have
    /// been sent it, and the publication time is over. Until then, `tell` hears what is waited for, whenever that changes.
    /// Forced, it waits for nobody; whose workloads are refused then is in the answer, and in the log.
    ///
    /// # Errors
    /// [`AuthorityError`]; [`AuthorityError::Waits`] when the gate has not opened by the deadline.
    pub async fn activate(
        &self,
        asker: &Caller,
        kind: AuthorityKind,
        id: &AuthorityId,
        force: bool,
        deadline: Instant,
        tell: impl FnMut(&[String]) + Send,
    ) -> Result<AuthorityChange, AuthorityError> {
        let wanted = Wanted::Activate { id: id.clone(), force };
        let reached = in_state(kind, id, &[AuthorityState::Active]);
        self.until_moved(asker, kind, wanted, deadline, tell, reached).await
    }

    /// Taints an old authority: what stands under it is replaced at once, and when this returns, no connected member gives
    /// out anything under it (INV-06).
    ///
    /// # Errors
    /// [`AuthorityError`]; refused with `WrongState` unless it is old.
    pub async fn taint(
        &self,
        asker: &Caller,
        kind: AuthorityKind,
        id: &AuthorityId,
        deadline: Instant,
    ) -> Result<AuthorityChange, AuthorityError> {
        let reached = in_state(kind, id, &[AuthorityState::Tainted, AuthorityState::Revoked]);
        self.until_moved(asker, kind, Wanted::Taint { id: id.clone() }, deadline, |_| {}, reached).await
    }

    /// Takes a tainted authority out of the bundle, once no connected member signs under it and no stream of theirs was last
    /// sent what stands under it. Until then, `tell` hears what is waited for. Forced, it waits for nobody.
    ///
    /// # Errors
    /// [`AuthorityError`]; [`AuthorityError::Waits`] when streams depend on it at the deadline.
    pub async fn revoke(
        &self,
        asker: &Caller,
        kind: AuthorityKind,
        id: &AuthorityId,
        force: bool,
        deadline: Instant,
        tell: impl FnMut(&[String]) + Send,
    ) -> Result<AuthorityChange, AuthorityError> {
        let wanted = Wanted::Revoke { id: id.clone(), force };
        let reached = in_state(kind, id, &[AuthorityState::Revoked]);
        self.until_moved(asker, kind, wanted, deadline, tell, reached).await
    }

    /// Has another authority take the place of one that signs or is about to, or of the active one when none is named. From
    /// this command on it goes by itself, whoever leads: another is prepared and activated; with `compromised`, the one that
    /// is replaced is tainted then, and revoked as soon as nothing depends on it. [`progress`](Self::progress) tells how far
    /// that is.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub async fn replace(
        &self,
        asker: &Caller,
        kind: AuthorityKind,
        id: Option<&AuthorityId>,
        compromised: bool,
        deadline: Instant,
    ) -> Result<AuthorityChange, AuthorityError> {
        let id = match id {
            Some(id) => id.clone(),
            None => {
                self.handle.read_index(deadline).await?;
                let active = self.handle.state().read(|state| state.active_authority(kind));
                let none = || Refusal::new(RefusalCode::NotFounded, "no authority has been founded yet");
                active.map(|active| active.id).ok_or_else(|| AuthorityError::Refused(none()))?
            }
        };
        let wanted = Wanted::Replace { id, compromised };
        // Said twice, it changes nothing; so there is nothing to look for in the state.
        self.until_moved(asker, kind, wanted, deadline, |_| {}, |_| None).await
    }

    /// How far members and streams are on the active authority of a kind.
    ///
    /// # Errors
    /// [`AuthorityError::NoLeader`].
    pub async fn progress(&self, kind: AuthorityKind, deadline: Instant) -> Result<RotationProgress, AuthorityError> {
        let command = AuthorityCommand { asker: Caller::node(), kind, wanted: Wanted::Progress };
        loop {
            let reason = match self.ask(&command, deadline).await {
                Ok(Tried::Standing(standing)) => return Ok(standing),
                Ok(Tried::NotLeader(reason) | Tried::Failed(reason)) => reason,
                Ok(tried) => format!("{tried:?}"),
                Err(error) => crate::errors::with_causes(&error),
            };
            self.pause(deadline).await.ok_or(AuthorityError::NoLeader { reason })?;
        }
    }

    /// What the gate in front of the next step of an authority waits for now: of a prepared one its activation, of a tainted
    /// one its revocation. Nothing is changed; forced, the step would go past what is told, at the cost of who is named.
    ///
    /// # Errors
    /// [`AuthorityError`]; refused with `NotFound` when there is no such authority.
    pub async fn gate(
        &self,
        kind: AuthorityKind,
        id: &AuthorityId,
        deadline: Instant,
    ) -> Result<AuthorityChange, AuthorityError> {
        let wanted = Wanted::Gate { id: id.clone() };
        self.until_moved(&Caller::node(), kind, wanted, deadline, |_| {}, |_| None).await
    }

    /// Asks until a step was taken. If an earlier try may have been heard, the state tells whether it was.
    async fn until_moved(
        &self,
        asker: &Caller,
        kind: AuthorityKind,
        wanted: Wanted,
        deadline: Instant,
        mut tell: impl FnMut(&[String]) + Send,
        reached: impl Fn(&State) -> Option<AuthorityView> + Send,
    ) -> Result<AuthorityChange, AuthorityError> {
        // As with every command of an operator: by the trail of the node that is asked. The leader's is asked there.
        if !matches!(wanted, Wanted::Gate { .. } | Wanted::Progress) {
            self.audit.may_administer()?;
        }
        let command = AuthorityCommand { asker: asker.clone(), kind, wanted };
        let (mut told, mut unsure) = (Vec::new(), false);
        loop {
            let over = match self.ask(&command, deadline).await {
                Ok(Tried::Moved(change, not_everywhere)) => {
                    self.wait_applied(change.log_index, deadline).await;
                    let Some(reason) = not_everywhere else { return Ok(change) };
                    return Err(AuthorityError::NotEverywhere { change, reason });
                }
                Ok(Tried::Waits(waits_for)) => {
                    if told != waits_for {
                        tell(&waits_for);
                        told.clone_from(&waits_for);
                    }
                    AuthorityError::Waits { waits_for }
                }
                Ok(Tried::Refused(refusal)) if unsure => {
                    return self.reached(&reached).await.ok_or(AuthorityError::Refused(refusal));
                }
                Ok(Tried::Refused(refusal)) => return Err(AuthorityError::Refused(refusal)),
                Ok(Tried::Failed(reason)) => {
                    unsure = true;
                    AuthorityError::Failed { reason }
                }
                Ok(Tried::NotLeader(reason)) => AuthorityError::NoLeader { reason },
                Ok(Tried::Standing(_)) => AuthorityError::Failed { reason: "an answer to another question".into() },
                // The time was over before the leader had waited as long as it does: what it waited for before tells more.
                Err(PeerError::Ask(AskError::Deadline)) if !told.is_empty() && Instant::now() >= deadline => {
                    AuthorityError::Waits { waits_for: told.clone() }
                }
                Err(error) => {
                    unsure |= may_have_been_heard(&error);
                    AuthorityError::NoLeader { reason: crate::errors::with_causes(&error) }
                }
            };
            self.pause(deadline).await.ok_or(over)?;
        }
    }

    async fn ask(&self, command: &AuthorityCommand, deadline: Instant) -> Result<Tried, PeerError> {
        ask_authority(&self.handle, command, deadline.min(Instant::now() + TRY_TIME_LIMIT)).await
    }

    /// Waits before the next try; nothing when the time is over.
    async fn pause(&self, deadline: Instant) -> Option<()> {
        if Instant::now() + TRY_PAUSE >= deadline {
            return None;
        }
        tokio::time::sleep(TRY_PAUSE).await;
        Some(())
    }

    /// Whoever asked reads here what was done. One that is cut off meanwhile reads it later.
    async fn wait_applied(&self, log_index: u64, deadline: Instant) {
        let deadline = deadline.min(Instant::now() + APPLY_TIME_LIMIT);
        let _ = self.handle.state().wait_applied(log_index, deadline).await;
    }

    /// What an earlier try has brought about, if it has.
    async fn reached(&self, reached: &(impl Fn(&State) -> Option<AuthorityView> + Send)) -> Option<AuthorityChange> {
        let log_index = self.handle.read_index(Instant::now() + APPLY_TIME_LIMIT).await.ok()?;
        let found = self.handle.state().read(|state| reached(state))?;
        Some(AuthorityChange {
            id: found.id,
            state: found.state,
            not_after: found.validity.not_after(),
            log_index,
            passed_by: Vec::new(),
            fails_for: Vec::new(),
            fails_for_peers: Vec::new(),
        })
    }
}

/// Whether an authority is in one of these states.
fn in_state(
    kind: AuthorityKind,
    id: &AuthorityId,
    states: &'static [AuthorityState],
) -> impl Fn(&State) -> Option<AuthorityView> + Send + use<> {
    let id = id.clone();
    move |state| state.authority(kind, &id).filter(|authority| states.contains(&authority.state))
}

/// Whether a question that was not answered may have been carried out.
fn may_have_been_heard(error: &PeerError) -> bool {
    match error {
        PeerError::Ask(error) => match error {
            AskError::Unfounded | AskError::NoLeader | AskError::NoMember(_) | AskError::TooLarge { .. } => false,
            AskError::Unreachable { .. } | AskError::Refused { .. } | AskError::Deadline | AskError::Stopped { .. } => {
                true
            }
        },
        PeerError::Malformed(_) => true,
    }
}
