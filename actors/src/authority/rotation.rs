//! What is due in the life of authorities, done: prepare, activate, prune.

use quorate_proto_identity::AuthorityId;
use quorate_raft_machine::{AuthorityKind, AuthorityState, Done, Due, NewIssuingCertificate, Operation, due};

use super::{
    AuthorityArguments,
    documents::{DocumentError, SealingRecipient},
    gate::{self, GateShut},
    issuing::{IssuingError, Snapshot, confirm_office, open_root, propose, sign, snapshot, wanted_by_live_members},
    sealing::recipients,
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
    /// Not every live member has applied the authority that is to sign.
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
        let name = name(&step);
        let result = take(arguments, step).await;
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

async fn take(arguments: &AuthorityArguments, step: Due) -> Result<(), RotationError> {
    let state = arguments.handle.state();
    let read = state.read(snapshot).map_err(IssuingError::from)?;
    let done = match step {
        Due::PrepareX509Authority => prepare_root(arguments, &read).await?,
        Due::PrepareJwtAuthority => prepare_token_key(arguments, &read).await?,
        Due::ActivateX509Authority { id } => activate_root(arguments, &read, id).await?,
        Due::ActivateJwtAuthority { id } => {
            gate::pass(arguments, AuthorityKind::Jwt, &id).await?;
            propose(arguments, Operation::ActivateJwtAuthority { id }).await?.0
        }
        Due::PruneAuthorities => propose(arguments, Operation::PruneAuthorities).await?.0,
        Due::PruneExpiredEntries => return prune_entries(arguments).await,
    };
    tell(&done);
    Ok(())
}

/// Says in the log what came of a step.
fn tell(done: &Done) {
    if let Done::AuthorityMoved { kind, id, state } = done {
        tracing::info!(
            target: "quorate::security",
            authority_id = %id, kind = kind_name(*kind), state = state_name(*state),
            "an authority moved on in its life"
        );
    } else if let Done::AuthoritiesPruned { x509, jwt, issuing } = done {
        tracing::info!(
            target: "quorate::security",
            x509, jwt, issuing,
            "authorities and issuing certificates that had expired were removed"
        );
    }
}

fn kind_name(kind: AuthorityKind) -> &'static str {
    match kind {
        AuthorityKind::X509 => "x509",
        AuthorityKind::Jwt => "jwt",
    }
}

fn state_name(state: AuthorityState) -> &'static str {
    match state {
        AuthorityState::Prepared => "prepared",
        AuthorityState::Active => "active",
        AuthorityState::Old => "old",
        AuthorityState::Tainted => "tainted",
        AuthorityState::Revoked => "revoked",
    }
}

/// To whom a new key is sealed, this node among them. Should it be removed before the key is recorded, `apply` refuses the
/// key for that.
fn recipients_with_own(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
) -> Result<Vec<SealingRecipient>, IssuingError> {
    arguments.handle.state().read(|state| {
        arguments.own.member(state)?;
        Ok(recipients(state, kind))
    })
}

async fn prepare_root(arguments: &AuthorityArguments, read: &Snapshot) -> Result<Done, RotationError> {
    let recipients = recipients_with_own(arguments, AuthorityKind::X509)?;
    let (cluster, policy) = (&read.cluster, &read.policy);
    let made = arguments
        .workshop
        .root(cluster.id, &cluster.trust_domain, policy.root_key_type, policy.root_lifetime, &recipients)
        .await?;
    Ok(propose(arguments, Operation::PrepareX509Authority(Box::new(made))).await?.0)
}

async fn prepare_token_key(arguments: &AuthorityArguments, read: &Snapshot) -> Result<Done, RotationError> {
    let recipients = recipients_with_own(arguments, AuthorityKind::Jwt)?;
    let policy = &read.policy;
    let made = arguments
        .workshop
        .token_key(read.cluster.id, policy.jwt_key_type, policy.jwt_key_lifetime, &recipients)
        .await?;
    Ok(propose(arguments, Operation::PrepareJwtAuthority(Box::new(made))).await?.0)
}

/// Activates a root with an issuing certificate under it for every live member, once the gate is open.
async fn activate_root(
    arguments: &AuthorityArguments,
    read: &Snapshot,
    id: AuthorityId,
) -> Result<Done, RotationError> {
    gate::pass(arguments, AuthorityKind::X509, &id).await?;
    let now = arguments.workshop.sources.now().seconds();
    let (root, wanted) = arguments.handle.state().read(|state| {
        let root = state.x509_authority(&id).cloned().ok_or(IssuingError::NoRoot)?;
        Ok::<_, IssuingError>((root, wanted_by_live_members(state, now)?))
    })?;
    let signer = open_root(arguments, read, &root).await?;
    let mut issuing_certificates: Vec<NewIssuingCertificate> = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        issuing_certificates.push(sign(arguments, read, &signer, wanted).await?);
    }
    Ok(propose(arguments, Operation::ActivateX509Authority { id, issuing_certificates }).await?.0)
}

/// Removes expired entries, a limited number a command, until none is left.
async fn prune_entries(arguments: &AuthorityArguments) -> Result<(), RotationError> {
    while let Done::EntriesPruned { more: true, .. } = propose(arguments, Operation::PruneExpiredEntries).await?.0 {}
    Ok(())
}

fn name(step: &Due) -> &'static str {
    match step {
        Due::PrepareX509Authority => "prepare_x509",
        Due::ActivateX509Authority { .. } => "activate_x509",
        Due::PrepareJwtAuthority => "prepare_jwt",
        Due::ActivateJwtAuthority { .. } => "activate_jwt",
        Due::PruneAuthorities => "prune_authorities",
        Due::PruneExpiredEntries => "prune_entries",
    }
}
