//! What operators want of authorities, carried out by the leader.
//!
//! Each command is one try: what a gate waits for is answered, and whoever wants the step asks again. So a try survives
//! nothing and need not: the asker goes on with whoever leads next ([`Authorities`](super::Authorities)).

use std::collections::BTreeSet;

use quorate_proto_identity::AuthorityId;
use quorate_raft_consensus::{Proposal, ProposeError};
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, AuthorityView, Caller, Done, Operation, Refusal, RefusalCode,
    authority::gate::WaitsFor,
};

use super::{
    AuthorityArguments, RotationProgress, STEP_TIME_LIMIT,
    gate::{self, GateShut, Streams},
    issuing::{IssuingError, confirm_office},
    progress::standing,
    rotation::{RotationError, tell},
    steps,
};
use crate::errors::with_causes;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Make one and put it into the bundle.
    Prepare,
    /// Let a prepared one sign.
    Activate { id: AuthorityId, force: bool },
    /// Replace what stands under an old one.
    Taint { id: AuthorityId },
    /// Take a tainted one out of the bundle.
    Revoke { id: AuthorityId, force: bool },
    /// Have another take the place of one that signs or is about to.
    Replace { id: AuthorityId, compromised: bool },
    /// Tell how far members and streams are.
    Progress,
    /// Tell what the gate in front of the next step of one waits for, and take no step.
    Gate { id: AuthorityId },
}

/// A command, and who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorityCommand {
    pub(crate) asker: Caller,
    pub(crate) kind: AuthorityKind,
    pub(crate) wanted: Wanted,
}

/// An authority that came to another state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityChange {
    /// Which.
    pub id: AuthorityId,
    /// The state that it is in.
    pub state: AuthorityState,
    /// When it ends.
    pub not_after: quorate_proto_identity::UnixSeconds,
    /// Where in the log the command stands.
    pub log_index: u64,
    /// What the gate would have waited for, had the step not been forced; in words.
    pub passed_by: Vec<String>,
    /// Names of the members whose workloads are refused because of that.
    pub fails_for: Vec<String>,
    /// Trust domains whose workloads refuse ours because of that, as far as they are known.
    pub fails_for_peers: Vec<String>,
}

/// What came of a try.
#[derive(Debug)]
pub(crate) enum Tried {
    /// The step was taken. If not every connected member is known to have applied it, why not.
    Moved(AuthorityChange, Option<String>),
    /// The gate is shut, for these; in words.
    Waits(Vec<String>),
    Refused(Refusal),
    /// This node does not lead, or not surely.
    NotLeader(String),
    Failed(String),
    Standing(RotationProgress),
}

/// Carries a command out, as far as one try gets. Whoever gave up while it waited at a gate has been told that the step was
/// not taken, and then it is not.
pub(crate) async fn carry_out(
    arguments: &AuthorityArguments,
    command: AuthorityCommand,
    given_up: impl Fn() -> bool + Send + Sync,
) -> Tried {
    match try_once(arguments, command, given_up).await {
        Ok(tried) => tried,
        Err(RotationError::Gate(GateShut { waits_for, .. })) => {
            Tried::Waits(waits_for.iter().map(ToString::to_string).collect())
        }
        Err(RotationError::Issuing(IssuingError::Refused(refusal))) => Tried::Refused(refusal),
        Err(RotationError::Issuing(
            error @ (IssuingError::NotLeader { .. } | IssuingError::Linearize(_) | IssuingError::Member(_)),
        )) => Tried::NotLeader(with_causes(&error)),
        Err(error) => Tried::Failed(with_causes(&error)),
    }
}

async fn try_once(
    arguments: &AuthorityArguments,
    command: AuthorityCommand,
    given_up: impl Fn() -> bool + Send + Sync,
) -> Result<Tried, RotationError> {
    let nobody_waits = || Tried::Failed("whoever asked for the step waits for it no more".to_owned());
    let AuthorityCommand { asker, kind, wanted } = command;
    confirm_office(arguments).await?;
    // A leader that is on its way out would know what it makes.
    arguments.handle.state().read(|state| arguments.own.member(state)).map_err(IssuingError::from)?;
    match wanted {
        Wanted::Prepare => {
            let active = arguments.handle.state().read(|state| state.active_authority(kind)).map(|active| active.id);
            let (done, log_index) = steps::prepare(arguments, &asker, kind, active).await?;
            Ok(moved(arguments, &done, log_index, &[], None))
        }
        Wanted::Activate { id, force } => {
            expect(arguments, kind, &id, AuthorityState::Prepared)?;
            let gate = gate::pass(arguments, kind, &id, Streams::Strict).await;
            if given_up() {
                return Ok(nobody_waits());
            }
            let passed_by = forced(arguments, &asker, "activate", gate, force)?;
            let (done, log_index) = steps::activate(arguments, &asker, kind, &id).await?;
            Ok(moved(arguments, &done, log_index, &passed_by, None))
        }
        Wanted::Taint { id } => withdraw(arguments, &asker, steps::taint(kind, &id), &[]).await,
        Wanted::Revoke { id, force } => {
            expect(arguments, kind, &id, AuthorityState::Tainted)?;
            let gate = gate::pass_revocation(arguments, kind, &id).await;
            if given_up() {
                return Ok(nobody_waits());
            }
            let passed_by = forced(arguments, &asker, "revoke", gate, force)?;
            withdraw(arguments, &asker, steps::revoke(kind, &id), &passed_by).await
        }
        Wanted::Replace { id, compromised } => {
            withdraw(arguments, &asker, Operation::MarkAuthority { kind, id, compromised }, &[]).await
        }
        Wanted::Progress => Ok(Tried::Standing(standing(arguments, kind).await)),
        Wanted::Gate { id } => Ok(Tried::Moved(look(arguments, kind, &id).await?, None)),
    }
}

/// What the next step of an authority would be forced past now. Nothing is changed by looking.
async fn look(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
) -> Result<AuthorityChange, IssuingError> {
    let found = arguments.handle.state().read(|state| state.authority(kind, id));
    let Some(found) = found else {
        let message = format!("there is no {} authority {id}", kind.word());
        return Err(Refusal::new(RefusalCode::NotFound, message).into());
    };
    let gate = match found.state {
        AuthorityState::Prepared => gate::pass(arguments, kind, id, Streams::Strict).await,
        AuthorityState::Tainted => gate::pass_revocation(arguments, kind, id).await,
        AuthorityState::Active | AuthorityState::Old | AuthorityState::Revoked => Ok(()),
    };
    let waits_for = gate.map_or_else(|shut| shut.waits_for, |()| Vec::new());
    Ok(changed(found, 0, &waits_for))
}

/// Refuses what `apply` would refuse before anybody is waited for.
fn expect(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
    wanted: AuthorityState,
) -> Result<(), IssuingError> {
    let found = arguments.handle.state().read(|state| state.authority(kind, id));
    let Some(found) = found else {
        let message = format!("there is no {} authority {id}", kind.word());
        return Err(Refusal::new(RefusalCode::NotFound, message).into());
    };
    if found.state == wanted {
        return Ok(());
    }
    let message = format!("the {} authority {id} is {}, and not {}", kind.word(), found.state.name(), wanted.name());
    Err(Refusal::new(RefusalCode::WrongState, message).into())
}

/// What a gate waits for if the step is forced past it; else its being shut is the answer. Who forces it, and past whom, is
/// recorded before the step is proposed; what came of the step, its own record tells on every node.
fn forced(
    arguments: &AuthorityArguments,
    asker: &Caller,
    step: &str,
    gate: Result<(), GateShut>,
    force: bool,
) -> Result<Vec<WaitsFor>, GateShut> {
    match gate {
        Ok(()) => Ok(Vec::new()),
        Err(shut) if force => {
            let detail = [
                ("authority", shut.authority.to_string()),
                ("step", step.to_owned()),
                ("waits_for", shut.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            ];
            arguments.audit.acted(asker, "authority.force", &detail);
            tracing::warn!(
                target: "quorate::security",
                authority_id = %shut.authority, reason = %shut,
                "a step in the life of an authority was forced past its gate"
            );
            Ok(shut.waits_for)
        }
        Err(shut) => Err(shut),
    }
}

/// Proposes what takes something away: it is answered when every connected member has applied it, or with a word on why
/// that is not known.
async fn withdraw(
    arguments: &AuthorityArguments,
    asker: &Caller,
    operation: Operation,
    passed_by: &[WaitsFor],
) -> Result<Tried, RotationError> {
    let proposal = Proposal::new(asker.clone(), vec![operation]).within(STEP_TIME_LIMIT);
    let (applied, not_everywhere) = match arguments.handle.propose(proposal).await {
        Ok(applied) => (applied, None),
        Err(ProposeError::NotEverywhere { applied, reason }) => (applied, Some(reason.to_string())),
        Err(error) => return Err(IssuingError::from(error).into()),
    };
    let log_index = applied.log_index;
    let result = applied.outcome.results.into_iter().next().ok_or(IssuingError::NoResult)?;
    let done = result.map_err(IssuingError::from)?;
    Ok(moved(arguments, &done, log_index, passed_by, not_everywhere))
}

fn moved(
    arguments: &AuthorityArguments,
    done: &Done,
    log_index: u64,
    passed_by: &[WaitsFor],
    not_everywhere: Option<String>,
) -> Tried {
    tell(done);
    let (Done::AuthorityMoved { kind, id, .. } | Done::AuthorityMarked { kind, id }) = done else {
        return Tried::Failed("the command came back with the result of another".into());
    };
    let found = arguments.handle.state().read(|state| state.authority(*kind, id));
    let Some(found) = found else {
        return Tried::Failed(format!("the {} authority {id} was removed meanwhile", kind.word()));
    };
    Tried::Moved(changed(found, log_index, passed_by), not_everywhere)
}

fn changed(found: AuthorityView, log_index: u64, passed_by: &[WaitsFor]) -> AuthorityChange {
    let fails_for: BTreeSet<&str> = passed_by.iter().filter_map(WaitsFor::name).collect();
    let fails_for_peers: BTreeSet<String> =
        passed_by.iter().flat_map(WaitsFor::peers).map(ToString::to_string).collect();
    AuthorityChange {
        id: found.id,
        state: found.state,
        not_after: found.validity.not_after(),
        log_index,
        passed_by: passed_by.iter().map(ToString::to_string).collect(),
        fails_for: fails_for.into_iter().map(str::to_owned).collect(),
        fails_for_peers: fails_for_peers.into_iter().collect(),
    }
}
