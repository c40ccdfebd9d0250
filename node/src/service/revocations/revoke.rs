//! Revoking, and deleting with revocation.

use quorate_actors::{CutOff, RevokeError};
use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_proto_api::cluster::{DeleteAndRevokeRequest, RevokeRequest, RevokeResponse};
use quorate_raft_machine::{Done, NewRevocation, Operation, RevocationTarget};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{RevocationsService, story, target, wait};
use crate::service::reads::{Consistency, at_applied_index};
use crate::service::writes::{at_log_index, not_applied, refused};

/// Revokes, and answers when that has been carried out.
pub(super) async fn revoke(
    service: &RevocationsService,
    request: Request<RevokeRequest>,
) -> Result<Response<RevokeResponse>, Status> {
    let revocations = service.revocations()?;
    let state = service.reads.current(Consistency::of(&request)?).await?;
    let caller = service.writes.caller(&request);
    let RevokeRequest { target, reason, ban, not_compromised, revoke_cut_off, dry_run, wait_millis } =
        request.into_inner();
    let reason = target::reason(reason)?;
    let target = state.read(|state| target::from_wire(target, state))?;
    let new = NewRevocation { target, reason, ban };
    check(&new, not_compromised)?;
    if let RevocationTarget::Entry(id) = &new.target
        && state.read(|state| state.entry(id).is_none())
    {
        return Err(no_entry(id));
    }
    if dry_run {
        let plan = revocations.plan(&new.target, CutOff::RevokeKeys).await.map_err(|error| status(&error))?;
        let answer = state.read(|state| {
            let (will, warnings) = story::announced(&new, false, &plan.cut_off, state);
            story::dry_run(will, warnings, &plan.cut_off, state)
        });
        return Ok(at_applied_index(answer, state.applied_index()));
    }
    let cut_off = if revoke_cut_off { CutOff::RevokeKeys } else { CutOff::Refuse };
    let deadline = Instant::now() + wait(wait_millis);
    let outcome = revocations.revoke(&caller, new.clone(), cut_off, deadline).await.map_err(|error| status(&error))?;
    let answer = state.read(|state| {
        let (will, warnings) = story::announced(&new, false, &outcome.cut_off, state);
        story::done(will, warnings, new.target.is_of_certificates(), &outcome, state)
    });
    Ok(at_log_index(answer, Some(outcome.log_index)))
}

/// Deletes an entry and revokes what was issued for it, in one command.
pub(super) async fn delete_entry(
    service: &RevocationsService,
    request: Request<DeleteAndRevokeRequest>,
) -> Result<Response<RevokeResponse>, Status> {
    let revocations = service.revocations()?;
    let state = service.reads.current(Consistency::of(&request)?).await?;
    let caller = service.writes.caller(&request);
    let DeleteAndRevokeRequest { entry_id, reason, revoke_cut_off, dry_run, wait_millis } = request.into_inner();
    let id = target::entry_id(&entry_id)?;
    let reason = target::reason(reason)?;
    let new = NewRevocation { target: RevocationTarget::Entry(id.clone()), reason, ban: false };
    if state.read(|state| state.entry(&id).is_none()) {
        return Err(no_entry(&id));
    }
    let cut_off = if revoke_cut_off || dry_run { CutOff::RevokeKeys } else { CutOff::Refuse };
    let plan = revocations.plan(&new.target, cut_off).await.map_err(|error| status(&error))?;
    // Told from the state before the command: afterwards there is no such entry.
    let (will, warnings) = state.read(|state| story::announced(&new, true, &plan.cut_off, state));
    if dry_run {
        let answer = state.read(|state| story::dry_run(will, warnings, &plan.cut_off, state));
        return Ok(at_applied_index(answer, state.applied_index()));
    }
    let deadline = Instant::now() + wait(wait_millis);
    let delete = Operation::DeleteEntry { id, revoke: Some(reason) };
    let written = service.writes.write(caller.clone(), vec![delete]).await?;
    let number = match written.results.into_iter().next() {
        Some(Ok(Done::EntryDeleted { revocation: Some(number), .. })) => number,
        Some(Err(refusal)) => return Err(refused(&refusal)),
        Some(Ok(_)) | None => return Err(Status::internal("the entry was deleted with an outcome of another kind")),
    };
    let finished = revocations.finish(&caller, plan, number, written.log_index, deadline).await;
    let outcome = finished.map_err(|error| status(&error))?;
    let answer = state.read(|state| story::done(will, warnings, true, &outcome, state));
    Ok(at_log_index(answer, Some(outcome.log_index)))
}

/// What is refused before anybody is asked.
fn check(new: &NewRevocation, not_compromised: bool) -> Result<(), Status> {
    match &new.target {
        RevocationTarget::Node(_) if !not_compromised => Err(Status::failed_precondition(
            "a node whose keys may be in wrong hands is not revoked like this, because root and token keys that it could \
             open would go on: `quorate cluster remove --compromised` replaces them. For one that was retired in good \
             order, say that it is not compromised (--not-compromised). Nothing was changed",
        )),
        RevocationTarget::Serial { .. } | RevocationTarget::Jti { .. } if new.ban => Err(Status::invalid_argument(
            "ban: one certificate or token cannot be banned; ban its SPIFFE ID, its entry or its node",
        )),
        RevocationTarget::Serial { .. }
        | RevocationTarget::SpiffeId(_)
        | RevocationTarget::Entry(_)
        | RevocationTarget::Node(_)
        | RevocationTarget::Jti { .. } => Ok(()),
    }
}

fn no_entry(id: &quorate_proto_identity::EntryId) -> Status {
    Status::not_found(format!(
        "no entry has the ID {id}; what was issued for one that is deleted is revoked by its SPIFFE ID"
    ))
}

/// What a caller is told of a revocation that was not made, or is not finished.
pub(super) fn status(error: &RevokeError) -> Status {
    match error {
        RevokeError::NoSuchSerial { .. } => Status::not_found(error.to_string()),
        RevokeError::CutOff(_) => Status::failed_precondition(format!("{error}. Nothing was changed")),
        RevokeError::Refused(refusal) => refused(refusal),
        RevokeError::Propose(error) => not_applied(error),
        RevokeError::Unfinished { log_index, .. } => {
            let text = format!("{error}. Do not repeat it; `quorate revocations list` shows how far it is");
            let mut status = Status::deadline_exceeded(text);
            status.metadata_mut().insert(LOG_INDEX_HEADER, (*log_index).into());
            status
        }
        RevokeError::NoResult => Status::internal(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_actors::CutOffMember;
    use quorate_proto_identity::{MemberNumber, SpiffeId, UnixSeconds};
    use quorate_raft_machine::RevocationReason;

    use super::*;

    fn new(target: RevocationTarget, ban: bool) -> NewRevocation {
        NewRevocation { target, reason: RevocationReason::Unspecified, ban }
    }

    #[test]
    fn a_node_is_revoked_by_those_alone_who_say_that_nobody_else_has_its_keys() {
        let node = new(RevocationTarget::Node(MemberNumber::new(2).unwrap()), false);
        let status = check(&node, false).unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains("cluster remove --compromised"), "{status}");
        assert!(check(&node, true).is_ok());
    }

    #[test]
    fn what_has_an_end_of_its_own_is_not_banned() {
        let jti = RevocationTarget::Jti { jti: "a".into(), expires_at: UnixSeconds(1) };
        assert_eq!(check(&new(jti.clone(), true), false).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert!(check(&new(jti, false), false).is_ok());
        let id = RevocationTarget::SpiffeId(SpiffeId::parse("spiffe://example.org/a").unwrap());
        assert!(check(&new(id, true), false).is_ok());
    }

    /// CRL-06: the command names the node and says what its workloads lose, before anything is done.
    #[test]
    fn crl_06_issuers_that_are_cut_off_are_named_and_nothing_is_changed() {
        let cut_off = CutOffMember {
            number: MemberNumber::new(3).unwrap(),
            name: "node-3".into(),
            until: UnixSeconds(1_800_000_000),
        };
        let status = status(&RevokeError::CutOff(vec![cut_off]));
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains("node-3") && status.message().contains("Nothing was changed"), "{status}");
    }

    #[test]
    fn what_is_recorded_and_goes_on_says_where_in_the_log_it_stands() {
        let error = RevokeError::Unfinished { number: 4, log_index: 77, waits_for: "the CRLs of node-2".into() };
        let status = status(&error);
        assert_eq!(status.metadata().get(LOG_INDEX_HEADER).unwrap(), "77");
        assert!(status.message().contains("node-2"), "{status}");
    }
}
