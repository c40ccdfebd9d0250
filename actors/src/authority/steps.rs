//! The steps in the life of authorities, as the leader takes them: because they are due, or because an operator wants them.

use quorate_proto_identity::AuthorityId;
use quorate_raft_machine::{
    AuthorityKind, Caller, Done, NewIssuingCertificate, NewJwtAuthority, NewX509Authority, Operation,
};

use super::{
    AuthorityArguments,
    documents::SealingRecipient,
    issuing::{IssuingError, open_root, propose_for, sign, snapshot, wanted_by_live_members},
    rotation::RotationError,
    sealing::recipients,
};

/// Makes an authority and has it prepared, as long as the one that it is to succeed is the active one. Gives what was done,
/// and its log index.
pub(super) async fn prepare(
    arguments: &AuthorityArguments,
    asker: &Caller,
    kind: AuthorityKind,
    succeeds: Option<AuthorityId>,
) -> Result<(Done, u64), RotationError> {
    let read = arguments.handle.state().read(snapshot).map_err(IssuingError::from)?;
    let recipients = recipients_with_own(arguments, kind)?;
    let (cluster, policy, workshop) = (&read.cluster, &read.policy, &arguments.workshop);
    let operation = match kind {
        AuthorityKind::X509 => {
            let (key_type, lifetime) = (policy.root_key_type, policy.root_lifetime);
            let made = workshop.root(cluster.id, &cluster.trust_domain, key_type, lifetime, &recipients).await?;
            Operation::PrepareX509Authority(Box::new(NewX509Authority { succeeds, ..made }))
        }
        AuthorityKind::Jwt => {
            let (key_type, lifetime) = (policy.jwt_key_type, policy.jwt_key_lifetime);
            let made = workshop.token_key(cluster.id, key_type, lifetime, &recipients).await?;
            Operation::PrepareJwtAuthority(Box::new(NewJwtAuthority { succeeds, ..made }))
        }
    };
    Ok(propose_for(arguments, asker, operation).await?)
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

/// Lets a prepared authority sign; a root with an issuing certificate under it for every live member. Whoever calls this
/// has passed the gate, or has been told what it waits for.
pub(super) async fn activate(
    arguments: &AuthorityArguments,
    asker: &Caller,
    kind: AuthorityKind,
    id: &AuthorityId,
) -> Result<(Done, u64), RotationError> {
    let operation = match kind {
        AuthorityKind::X509 => Operation::ActivateX509Authority {
            id: id.clone(),
            issuing_certificates: certificates_under(arguments, id).await?,
        },
        AuthorityKind::Jwt => Operation::ActivateJwtAuthority { id: id.clone() },
    };
    Ok(propose_for(arguments, asker, operation).await?)
}

async fn certificates_under(
    arguments: &AuthorityArguments,
    id: &AuthorityId,
) -> Result<Vec<NewIssuingCertificate>, IssuingError> {
    let now = arguments.workshop.sources.now().seconds();
    let (read, root, wanted) = arguments.handle.state().read(|state| {
        let root = state.x509_authority(id).cloned().ok_or(IssuingError::NoRoot)?;
        Ok::<_, IssuingError>((snapshot(state)?, root, wanted_by_live_members(state, now)?))
    })?;
    let signer = open_root(arguments, &read, &root).await?;
    let mut certificates = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        certificates.push(sign(arguments, &read, &signer, wanted).await?);
    }
    Ok(certificates)
}

/// The command that taints an old authority.
pub(super) fn taint(kind: AuthorityKind, id: &AuthorityId) -> Operation {
    let id = id.clone();
    match kind {
        AuthorityKind::X509 => Operation::TaintX509Authority { id },
        AuthorityKind::Jwt => Operation::TaintJwtAuthority { id },
    }
}

/// The command that takes a tainted authority out of the bundle.
pub(super) fn revoke(kind: AuthorityKind, id: &AuthorityId) -> Operation {
    let id = id.clone();
    match kind {
        AuthorityKind::X509 => Operation::RevokeX509Authority { id },
        AuthorityKind::Jwt => Operation::RevokeJwtAuthority { id },
    }
}
