//! Invitations: made, listed, taken back. The secret is told once, in the answer that makes it (ATK-07).

use quorate_proto_api::cluster::{
    ChangeResponse, Invitation as WireInvitation, InviteRequest, InviteResponse, ListInvitationsRequest,
    ListInvitationsResponse, MemberRole as WireRole, RevokeInvitationRequest,
};
use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::invitation::INVITATION_LIFETIME_LIMIT;
use quorate_raft_machine::{MemberRole, NewInvitation, Operation, State};
use tonic::{Request, Response, Status};

use super::ClusterService;
use super::change::{changed, instant, node_name};
use crate::invitation::{Invitation, InvitationSecret, InvitingPeer, MOST_PEERS};
use crate::peer::address::PeerAddress;
use crate::service::reads::{Consistency, NOT_FOUNDED, at_applied_index, look};
use crate::service::writes::at_log_index;

/// Life of an invitation whose maker does not say, in seconds: long enough to carry it to a machine by hand.
const DEFAULT_LIFETIME: u32 = 600;

/// Makes an invitation.
pub(super) async fn invite(
    service: &ClusterService,
    request: Request<InviteRequest>,
) -> Result<Response<InviteResponse>, Status> {
    service.ready_to_change(&request).await?;
    let InviteRequest { name, role, region, zone, labels, lifetime, dry_run } = request.get_ref().clone();
    let name = node_name(&name)?;
    let role = wanted_role(role)?;
    let lifetime = i64::from(if lifetime == 0 { DEFAULT_LIFETIME } else { lifetime });
    if lifetime > INVITATION_LIFETIME_LIMIT {
        return Err(Status::invalid_argument(format!(
            "lifetime is {lifetime} s: an invitation holds for at most {INVITATION_LIFETIME_LIMIT} s"
        )));
    }
    let (trust_domain, time, peers) = service.reads.applied().read(|state| {
        let cluster = state.cluster().ok_or_else(|| Status::unavailable(NOT_FOUNDED))?;
        Ok::<_, Status>((cluster.trust_domain.clone(), state.counters().time.seconds(), inviting(service, state)))
    })?;
    if peers.is_empty() {
        return Err(Status::failed_precondition(
            "no member of the cluster has an address that a newcomer could dial: set peer.advertise in the configuration \
             of a node, or listen on an address that others can reach, and restart it",
        ));
    }
    // By the log's time, which is the one that it expires by.
    let expires_at = UnixSeconds(time.0.max(service.node.sources().now().seconds().0).saturating_add(lifetime));
    let kind = role.map_or("a member in the role that the plan wants", |role| match role {
        MemberRole::Voter => "a voter",
        MemberRole::Learner => "a learner",
    });
    let place = place(&region, &zone);
    if dry_run {
        let sentence =
            format!("A node named {name}{place} would be invited, as {kind}, until {}.", instant(expires_at));
        return Ok(Response::new(InviteResponse {
            invitation: String::new(),
            expires_at: expires_at.0,
            sentences: vec![sentence],
            log_index: 0,
        }));
    }
    let secret = InvitationSecret::from_random(service.node.sources().random());
    let operation = Operation::CreateInvitation(Box::new(NewInvitation {
        secret_hash: secret.hash(),
        name: name.clone(),
        role,
        region,
        zone,
        labels,
        expires_at,
    }));
    let invitation = Invitation::new(trust_domain, name.clone(), secret, peers)
        .map_err(|error| Status::internal(format!("no invitation could be put together: {error}")))?;
    let (_done, log_index) = service.change(&request, operation).await?;
    let sentences = vec![
        format!("A node named {name}{place} is invited, as {kind}, once, until {}.", instant(expires_at)),
        "On that node: quorate node --config FILE --join-file PATH, with the invitation in the file.".to_owned(),
    ];
    let answer =
        InviteResponse { invitation: invitation.to_text().to_string(), expires_at: expires_at.0, sentences, log_index };
    Ok(at_log_index(answer, Some(log_index)))
}

/// The members that a newcomer can turn to: voters first, then learners, this node before others of its kind.
fn inviting(service: &ClusterService, state: &State) -> Vec<InvitingPeer> {
    let own = service.consensus().member();
    let raft = service.consensus().raft_members();
    let mut members: Vec<_> = state
        .members()
        .filter(|member| member.record.status.is_admitted() && member.has_joined())
        .filter(|member| raft.contains(member.number.get()))
        .collect();
    members.sort_by_key(|member| (!raft.is_voter(member.number.get()), Some(member.number) != own, member.number));
    members
        .into_iter()
        .filter_map(|member| {
            let addresses: Vec<PeerAddress> =
                member.record.addresses.iter().filter_map(|address| PeerAddress::new(address).ok()).collect();
            (!addresses.is_empty()).then(|| InvitingPeer { key: member.record.identity_key.clone(), addresses })
        })
        .take(MOST_PEERS)
        .collect()
}

fn wanted_role(number: i32) -> Result<Option<MemberRole>, Status> {
    match WireRole::try_from(number) {
        Ok(WireRole::Unspecified) => Ok(None),
        Ok(WireRole::Voter) => Ok(Some(MemberRole::Voter)),
        Ok(WireRole::Learner) => Ok(Some(MemberRole::Learner)),
        Err(_) => Err(Status::invalid_argument(format!("role: {number} is no role that this node knows"))),
    }
}

fn place(region: &str, zone: &str) -> String {
    match (region, zone) {
        ("", "") => String::new(),
        (region, "") => format!(" in region {region}"),
        ("", zone) => format!(" in zone {zone}"),
        (region, zone) => format!(" in region {region}, zone {zone}"),
    }
}

/// Lists the invitations that are in the state.
pub(super) async fn list(
    service: &ClusterService,
    request: &Request<ListInvitationsRequest>,
) -> Result<Response<ListInvitationsResponse>, Status> {
    let state = service.reads.current(Consistency::of(request)?).await?;
    let (invitations, applied) = look(state, |state| {
        let now = state.counters().time.seconds();
        state
            .invitations()
            .map(|held| {
                let NewInvitation { secret_hash: _, name, role, region, zone, labels, expires_at } = &held.invitation;
                WireInvitation {
                    name: name.to_string(),
                    role: wire_role(*role).into(),
                    region: region.clone(),
                    zone: zone.clone(),
                    labels: labels.clone(),
                    expires_at: expires_at.0,
                    expired: held.has_expired(now),
                }
            })
            .collect()
    });
    Ok(at_applied_index(ListInvitationsResponse { invitations }, applied))
}

fn wire_role(role: Option<MemberRole>) -> WireRole {
    match role {
        None => WireRole::Unspecified,
        Some(MemberRole::Voter) => WireRole::Voter,
        Some(MemberRole::Learner) => WireRole::Learner,
    }
}

/// Takes an invitation back.
pub(super) async fn revoke(
    service: &ClusterService,
    request: Request<RevokeInvitationRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    service.ready_to_change(&request).await?;
    let name = node_name(&request.get_ref().name)?;
    if request.get_ref().dry_run {
        let there = service.reads.applied().read(|state| state.invitation(&name).is_some());
        if !there {
            return Err(Status::not_found(format!("there is no invitation for a node named {name}")));
        }
        return Ok(changed(vec![format!("The invitation for {name} would be taken back.")], Vec::new(), None));
    }
    let (_done, log_index) = service.change(&request, Operation::DeleteInvitation { name: name.clone() }).await?;
    let sentence = format!("The invitation for {name} is taken back: nobody can join by it any more.");
    Ok(changed(vec![sentence], Vec::new(), Some(log_index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_newcomer_stands_is_told_as_far_as_it_is_known() {
        assert_eq!(place("", ""), "");
        assert_eq!(place("eu", ""), " in region eu");
        assert_eq!(place("", "a"), " in zone a");
        assert_eq!(place("eu", "a"), " in region eu, zone a");
    }

    #[test]
    fn a_role_that_is_none_is_refused() {
        assert_eq!(wanted_role(0).unwrap(), None);
        assert_eq!(wanted_role(2).unwrap(), Some(MemberRole::Learner));
        assert_eq!(wanted_role(9).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
