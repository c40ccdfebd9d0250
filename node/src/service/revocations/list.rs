//! Revocations as they are kept, and how one is lifted.

use std::collections::BTreeMap;

use quorate_proto_api::cluster::{
    ChangeResponse, ListRevocationsResponse, RemoveRevocationRequest, Revocation as WireRevocation,
};
use quorate_raft_machine::{Operation, State};
use tonic::{Request, Response, Status};

use super::{RevocationsService, story, target};
use crate::service::reads::{Consistency, at_applied_index};
use crate::service::writes::{at_log_index, refused};

/// Everything that is kept.
pub(super) fn listed(state: &State) -> ListRevocationsResponse {
    let mut certificates = BTreeMap::<u64, u64>::new();
    for (_, leaf) in state.revoked_leaves() {
        let count = certificates.entry(leaf.revocation).or_default();
        *count = count.saturating_add(1);
    }
    let wire = |revocation: &quorate_raft_machine::Revocation| WireRevocation {
        number: revocation.number,
        target: Some(target::to_wire(&revocation.target, state)),
        subject: revocation.subject.as_ref().map(ToString::to_string).unwrap_or_default(),
        reason: target::wire_reason(revocation.reason).into(),
        ban: revocation.ban,
        token_rule: revocation.token_rule,
        up_to: revocation.up_to.0,
        expires_at: revocation.expires_at.0,
        certificates: certificates.get(&revocation.number).copied().unwrap_or_default(),
    };
    ListRevocationsResponse {
        revocations: state.revocations().map(wire).collect(),
        crls: Some(story::crl_state(state)),
    }
}

/// Lifts what can be lifted of a revocation.
pub(super) async fn remove(
    service: &RevocationsService,
    request: Request<RemoveRevocationRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    let state = service.reads.current(Consistency::of(&request)?).await?;
    let caller = service.writes.caller(&request);
    let RemoveRevocationRequest { number, dry_run } = request.into_inner();
    let (sentences, warnings) = state.read(|state| announced(state, number))?;
    if dry_run {
        let answer = ChangeResponse { sentences, warnings, log_index: 0 };
        return Ok(at_applied_index(answer, state.applied_index()));
    }
    let written = service.writes.write(caller, vec![Operation::RemoveRevocation { number }]).await?;
    match written.results.into_iter().next() {
        Some(Ok(_)) => {}
        Some(Err(refusal)) => return Err(refused(&refusal)),
        None => return Err(Status::internal("the command has no outcome")),
    }
    let log_index = written.log_index;
    Ok(at_log_index(ChangeResponse { sentences, warnings, log_index }, Some(log_index)))
}

fn announced(state: &State, number: u64) -> Result<(Vec<String>, Vec<String>), Status> {
    let known = state
        .revocation(number)
        .ok_or_else(|| Status::not_found(format!("there is no revocation {number}: `quorate revocations list`")))?;
    let lifted = match (known.ban, known.token_rule) {
        (true, true) => "bans nobody and refuses no token any more",
        (true, false) => "bans nobody any more",
        (false, true) => "refuses no token any more",
        (false, false) => {
            return Err(Status::failed_precondition(format!(
                "revocation {number} bans nobody and refuses no token: a certificate that is revoked stays revoked, until it \
                 ends"
            )));
        }
    };
    let mut warnings = Vec::new();
    if known.target.is_of_certificates() {
        warnings.push("Certificates that are in CRLs because of it stay there until they have ended.".to_owned());
    }
    Ok((vec![format!("Revocation {number} {lifted}.")], warnings))
}
