//! What is due in the life of authorities, done: prepare, activate, prune.

use std::time::Duration;

use quorate_proto_identity::{AuthorityId, MemberNumber};
use quorate_raft_machine::{AuthorityKind, AuthorityState, Done, Due, NewIssuingCertificate, Operation, due};
use tokio::time::Instant;

use super::{
    AuthorityArguments,
    documents::{DocumentError, recipients},
    issuing::{IssuingError, Snapshot, confirm_office, open_root, propose, sign, snapshot},
};
use crate::metrics;

/// How long an activation waits for streams that do not fetch the bundle with the new authority. One that reads has it
/// within milliseconds; a client that reads nothing must not keep the authority from moving on.
const SENT_WAIT: Duration = Duration::from_secs(1);

/// How often it is looked whether they have.
const SENT_LOOK: Duration = Duration::from_millis(10);

/// Why something that is due was not done. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    /// Signing or proposing failed.
    #[error(transparent)]
    Issuing(#[from] IssuingError),
    /// A key or certificate could not be made.
    #[error("the new authority could not be made")]
    Document(#[from] DocumentError),
    /// A live member has sent no request since this node leads, so no certificate under the new root can be made for it
    /// (design section 3, activation). It is asked for one when members are more than this node.
    #[error("member {member} is live and its request for an issuing certificate is not known here")]
    NoRequest {
        /// Which member.
        member: MemberNumber,
    },
    /// The task ended without a word: a fault of the program, which the log tells of.
    #[error("the task that took the step was lost")]
    Lost,
}

/// Does everything that is due now, in order.
pub(crate) async fn do_what_is_due(arguments: &AuthorityArguments) -> Result<(), RotationError> {
    let state = arguments.handle.state();
    let now = arguments.workshop.sources.now().seconds();
    if state.read(|state| due(state, now).is_empty()) {
        return Ok(());
    }
    confirm_office(arguments).await.map_err(IssuingError::from)?;
    let steps = state.read(|state| due(state, now));
    for step in steps {
        let name = name(&step);
        let result = take(arguments, step).await;
        metrics::authority_step(name, if result.is_ok() { "done" } else { "failed" });
        result?;
    }
    Ok(())
}

async fn take(arguments: &AuthorityArguments, step: Due) -> Result<(), RotationError> {
    let state = arguments.handle.state();
    let read = state.read(snapshot).map_err(IssuingError::from)?;
    let done = match step {
        Due::PrepareX509Authority => prepare_root(arguments, &read).await?,
        Due::PrepareJwtAuthority => prepare_token_key(arguments, &read).await?,
        Due::ActivateX509Authority { id } => activate_root(arguments, &read, id).await?,
        Due::ActivateJwtAuthority { id } => {
            until_sent(arguments, AuthorityKind::Jwt, &id).await;
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

async fn prepare_root(arguments: &AuthorityArguments, read: &Snapshot) -> Result<Done, RotationError> {
    let recipients = arguments.handle.state().read(|state| recipients(state, AuthorityKind::X509));
    let (cluster, policy) = (&read.cluster, &read.policy);
    let made = arguments
        .workshop
        .root(cluster.id, &cluster.trust_domain, policy.root_key_type, policy.root_lifetime, &recipients)
        .await?;
    Ok(propose(arguments, Operation::PrepareX509Authority(Box::new(made))).await?.0)
}

async fn prepare_token_key(arguments: &AuthorityArguments, read: &Snapshot) -> Result<Done, RotationError> {
    let recipients = arguments.handle.state().read(|state| recipients(state, AuthorityKind::Jwt));
    let policy = &read.policy;
    let made = arguments
        .workshop
        .token_key(read.cluster.id, policy.jwt_key_type, policy.jwt_key_lifetime, &recipients)
        .await?;
    Ok(propose(arguments, Operation::PrepareJwtAuthority(Box::new(made))).await?.0)
}

/// Activates a root with an issuing certificate under it for every live member.
///
/// The gate of design section 3: every live member has applied the root, and sent it to its streams. While this node is
/// the only member it has applied the root, or it would not be due; its streams are waited for. With more members, those
/// must be asked as well.
async fn activate_root(
    arguments: &AuthorityArguments,
    read: &Snapshot,
    id: AuthorityId,
) -> Result<Done, RotationError> {
    until_sent(arguments, AuthorityKind::X509, &id).await;
    let now = arguments.workshop.sources.now().seconds();
    let found = arguments.handle.state().read(|state| (state.x509_authority(&id).cloned(), state.live_members(now)));
    let (root, live) = found;
    let root = root.ok_or(IssuingError::NoRoot)?;
    let signer = open_root(arguments, read, &root).await?;
    let mut issuing_certificates: Vec<NewIssuingCertificate> = Vec::with_capacity(live.len());
    for member in live {
        let request = arguments.requests.of(member).ok_or(RotationError::NoRequest { member })?;
        issuing_certificates.push(sign(arguments, read, &signer, &request).await?);
    }
    Ok(propose(arguments, Operation::ActivateX509Authority { id, issuing_certificates }).await?.0)
}

/// Waits until the open streams of this node have fetched a bundle with a prepared authority, at most [`SENT_WAIT`].
///
/// As a rule the authority was prepared long ago and nothing is waited for. After the expiry of the one before, or with
/// lives of seconds, both steps come one after the other, and what it signs must not be known sooner than it is.
async fn until_sent(arguments: &AuthorityArguments, kind: AuthorityKind, id: &AuthorityId) {
    let until = Instant::now() + SENT_WAIT;
    loop {
        let lacking = arguments.streams.lacking(kind);
        if lacking == 0 {
            return;
        }
        if Instant::now() >= until {
            tracing::warn!(
                authority_id = %id, kind = kind_name(kind), streams = lacking,
                "an authority begins to sign though some streams have not fetched a bundle with it"
            );
            return;
        }
        tokio::time::sleep(SENT_LOOK).await;
    }
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
