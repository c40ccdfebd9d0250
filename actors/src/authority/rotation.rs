//! What is due in the life of authorities, done: prepare, publish, activate, taint, revoke, prune.

use quorate_proto_identity::AuthorityId;
use quorate_raft_machine::{AuthorityKind, Caller, Done, Due, Operation, State, due};

use super::{
    AuthorityArguments,
    documents::DocumentError,
    gate::{self, GateShut, Streams},
    issuing::{IssuingError, confirm_office, propose},
    steps,
};
use crate::metrics;

/// Why something that is due was not done. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// Signing or proposing failed.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// A key or certificate could not be made.
    #[error("the new authority could not be made")]
    Document(#[from] DocumentError),
    /// What it takes for the step is still missing.
    #[error(transparent)]
    Gate(#[from] GateShut),
    /// The task ended without a word: a fault of the program, which the log tells of.
    #[error("the task that took the step was lost")]
    Lost,
}

/// Does everything that is due now, in order. A leader that is on its way out does none of it: what it makes it would know,
/// compromised as it may be, and its successor comes at once (design section 2, property 6).
pub(crate) async fn do_what_is_due(arguments: &AuthorityArguments) -> Result<(), RotationError> {
    let state = arguments.handle.state();
    let now = arguments.workshop.sources.now().seconds();
    if state.read(|state| due(state, now).is_empty()) {
        return Ok(());
    }
    confirm_office(arguments).await?;
    state.read(|state| arguments.own.member(state)).map_err(IssuingError::from)?;
    let steps = state.read(|state| due(state, now));
    let mut failed = None;
    // One kind of authority does not wait for the gate of the other.
    for step in steps {
        // Another leader may have taken it while this one waited at the gate of the step before.
        let still_due = state.read(|state| due(state, now).contains(&step).then(|| succeeded_by(state, &step)));
        let Some(succeeds) = still_due else { continue };
        let name = name(&step);
        let result = take(arguments, step, succeeds).await;
        let outcome = match &result {
            Ok(()) => "done",
            Err(RotationError::Gate(_)) => "waits",
            Err(RotationError::Issuing(_) | RotationError::Document(_) | RotationError::Lost) => "failed",
        };
        metrics::authority_step(name, outcome);
        failed = failed.or(result.err());
    }
    failed.map_or(Ok(()), Err)
}

/// Which authority is active while it is due to make another.
fn succeeded_by(state: &State, step: &Due) -> Option<AuthorityId> {
    if let Due::Prepare { kind } = step { state.active_authority(*kind).map(|active| active.id) } else { None }
}

async fn take(arguments: &AuthorityArguments, step: Due, succeeds: Option<AuthorityId>) -> Result<(), RotationError> {
    let asker = Caller::node();
    let done = match step {
        Due::Prepare { kind } => steps::prepare(arguments, &asker, kind, succeeds).await?.0,
        Due::Publish { kind, id } => {
            gate::pass_publication(arguments, &id).await?;
            propose(arguments, Operation::MarkPublished { kind, id, confirmed: false }).await?.0
        }
        Due::Confirm { kind, id } => {
            gate::pass_confirmation(arguments, kind, &id).await?;
            propose(arguments, Operation::MarkPublished { kind, id, confirmed: true }).await?.0
        }
        Due::Activate { kind, id } => {
            gate::pass(arguments, kind, &id, Streams::Bounded).await?;
            steps::activate(arguments, &asker, kind, &id).await?.0
        }
        Due::Taint { kind, id } => propose(arguments, steps::taint(kind, &id)).await?.0,
        Due::Revoke { kind, id } => {
            gate::pass_revocation(arguments, kind, &id).await?;
            propose(arguments, steps::revoke(kind, &id)).await?.0
        }
        Due::PruneAuthorities => propose(arguments, Operation::PruneAuthorities).await?.0,
        Due::PruneExpiredEntries => return prune_entries(arguments).await,
    };
    tell(&done);
    Ok(())
}

/// Says in the log what came of a step.
pub(super) fn tell(done: &Done) {
    if let Done::AuthorityMoved { kind, id, state } = done {
        tracing::info!(
            target: "quorate::security",
            authority_id = %id, kind = kind.word(), state = state.name(),
            "an authority moved on in its life"
        );
    } else if let Done::AuthorityPublished { kind, id, confirmed } = done {
        tracing::info!(
            target: "quorate::security",
            authority_id = %id, kind = kind.word(), confirmed,
            "an authority that is prepared is served by every live member, or in force at every known peer"
        );
    } else if let Done::AuthoritiesPruned { x509, jwt, issuing } = done {
        tracing::info!(
            target: "quorate::security",
            x509, jwt, issuing,
            "authorities and issuing certificates that had expired were removed"
        );
    }
}

/// Removes expired entries, a limited number a command, until none is left.
async fn prune_entries(arguments: &AuthorityArguments) -> Result<(), RotationError> {
    while let Done::EntriesPruned { more: true, .. } = propose(arguments, Operation::PruneExpiredEntries).await?.0 {}
    Ok(())
}

fn name(step: &Due) -> &'static str {
    match step {
        Due::Prepare { kind: AuthorityKind::X509 } => "prepare_x509",
        Due::Prepare { kind: AuthorityKind::Jwt } => "prepare_jwt",
        Due::Publish { kind: AuthorityKind::X509, .. } => "publish_x509",
        Due::Publish { kind: AuthorityKind::Jwt, .. } => "publish_jwt",
        Due::Confirm { kind: AuthorityKind::X509, .. } => "confirm_x509",
        Due::Confirm { kind: AuthorityKind::Jwt, .. } => "confirm_jwt",
        Due::Activate { kind: AuthorityKind::X509, .. } => "activate_x509",
        Due::Activate { kind: AuthorityKind::Jwt, .. } => "activate_jwt",
        Due::Taint { kind: AuthorityKind::X509, .. } => "taint_x509",
        Due::Taint { kind: AuthorityKind::Jwt, .. } => "taint_jwt",
        Due::Revoke { kind: AuthorityKind::X509, .. } => "revoke_x509",
        Due::Revoke { kind: AuthorityKind::Jwt, .. } => "revoke_jwt",
        Due::PruneAuthorities => "prune_authorities",
        Due::PruneExpiredEntries => "prune_entries",
    }
}
