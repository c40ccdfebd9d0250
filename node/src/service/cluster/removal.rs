//! A member that must not sign any more: fenced for now, or removed for good.

use quorate_actors::Aim;
use quorate_proto_api::cluster::{ChangeResponse, FenceRequest, Progress, RemoveRequest};
use quorate_proto_identity::{MemberNumber, UnixSeconds};
use quorate_raft_machine::{Done, Operation, State};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::ClusterService;
use super::change::{Stand, Steps, Subject, changed, counted, dry_run, follow, instant, node_name};
use super::roles::voters;
use super::status::news;
use crate::service::writes::at_log_index;

/// What is said of the removal of the node that was asked.
const OWN_END: &str = "The removal is recorded, and the others carry it on; it hears no more of it, being itself";

/// Revokes a member's issuing certificates.
pub(super) async fn fence(
    service: &ClusterService,
    request: Request<FenceRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    service.ready_to_change(&request).await?;
    let subject = service.subject(&request.get_ref().name)?;
    let (title, number) = (subject.title(), subject.number());
    let now = service.node.sources().now().seconds();
    let end = service.reads.applied().read(|state| signs_until(state, number, now));
    let mut warnings = Vec::new();
    if let Some(end) = end
        && !is_connected(service, number).await
    {
        warnings.push(format!(
            "{title} is cut off: it learns of this when it is back, and until {} it may sign.",
            instant(end)
        ));
    }
    if request.get_ref().dry_run {
        let sentence = match end {
            Some(_) => format!("All issuing certificates of {title} would be revoked; it would sign nothing."),
            None => format!("{title} has no issuing certificate that holds: there would be nothing to revoke."),
        };
        return Ok(changed(vec![sentence], warnings, None));
    }
    let operation = Operation::RevokeIssuingCertificate { member: number, serial: None };
    let (done, log_index) = service.change(&request, operation).await?;
    let count = if let Done::IssuingCertificatesRevoked { count, .. } = done { count } else { 0 };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let sentence =
        format!("{} of {title} revoked; every connected member has applied it.", counted(count, "issuing certificate"));
    Ok(changed(vec![sentence], warnings, Some(log_index)))
}

/// Removes a member, and tells the steps until it has gone.
pub(super) async fn remove(
    service: &ClusterService,
    request: Request<RemoveRequest>,
) -> Result<Response<ReceiverStream<Result<Progress, Status>>>, Status> {
    service.ready_to_change(&request).await?;
    let RemoveRequest { name, compromised, dry_run: dry } = request.get_ref().clone();
    let subject = subject(service, &name, compromised)?;
    let number = subject.number();
    let membership = service.membership()?;
    let (will, mut warnings) = announced(&subject, compromised);
    if !compromised {
        warnings.extend(membership.could_still_sign(number));
    }
    if dry {
        return Ok(dry_run(service, will, warnings).await);
    }
    let (_done, log_index) = service.change(&request, Operation::RemoveMember { number, compromised }).await?;
    let aim = if compromised { Aim::GoneCompromised } else { Aim::Gone };
    let is_own = service.consensus().member() == Some(number);
    let (mut steps, stream) = Steps::new();
    let service = service.clone();
    tokio::spawn(async move {
        steps.will(will, warnings).await;
        let done = if is_own {
            // The others speak to it no more once it has gone, so it will not hear of its own end.
            Some(vec![format!("{OWN_END} {}.", subject.title())])
        } else {
            follow(&service, &mut steps, |_service| Stand::of(membership.progress(aim, number))).await
        };
        if let Some(done) = done {
            steps.done(done, Vec::new(), log_index).await;
        }
    });
    Ok(at_log_index(stream, Some(log_index)))
}

/// Whom to remove. That the keys of one that was removed may be in wrong hands can turn out later.
fn subject(service: &ClusterService, name: &str, compromised: bool) -> Result<Subject, Status> {
    let missing = match service.subject(name) {
        Err(missing) if compromised && missing.code() == tonic::Code::NotFound => missing,
        found => return found,
    };
    let name = node_name(name)?;
    let raft = service.consensus().raft_members();
    let gone = |state: &State| state.members().filter(|member| member.record.name == name).last().cloned();
    service.reads.applied().read(gone).map(|member| Subject { member, raft }).ok_or(missing)
}

fn announced(subject: &Subject, compromised: bool) -> (Vec<String>, Vec<String>) {
    let title = subject.title();
    let number = subject.number().get();
    let mut will = Vec::new();
    if !subject.member.record.status.has_gone() {
        will.push(format!(
            "{title} will be removed: its issuing certificates are revoked at once, it is taken out of the Raft group, and \
             what is sealed to it is erased."
        ));
    }
    let mut warnings = Vec::new();
    if compromised {
        will.push(
            "Every root and token key that it could open is replaced: new ones are made, sealed to those who remain, and \
             sign as soon as every live member knows them."
                .to_owned(),
        );
        warnings.push(
            "What the old keys signed is still accepted: they stay in the bundle, and SVIDs that are out hold until they \
             are renewed."
                .to_owned(),
        );
    }
    if subject.raft.is_voter(number) {
        let after = voters(&subject.raft).saturating_sub(1);
        warnings.push(format!("It votes: the cluster goes on with {}.", counted(after, "voter")));
    }
    (will, warnings)
}

/// The end of the newest issuing certificate that holds.
fn signs_until(state: &State, number: MemberNumber, now: UnixSeconds) -> Option<UnixSeconds> {
    let live = state.issuing_certificates().filter(|issuing| issuing.member == number && issuing.is_live(now));
    live.map(|issuing| issuing.validity.not_after()).max()
}

/// Whether the leader hears of a member. What cannot be known counts as not.
async fn is_connected(service: &ClusterService, number: MemberNumber) -> bool {
    let news = news(&service.node).await;
    news.is_some_and(|news| news.members.iter().any(|member| member.member == number.get() && member.connected))
}
