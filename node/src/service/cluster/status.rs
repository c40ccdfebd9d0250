//! How a node stands, at one instant of its state.

use std::collections::BTreeMap;

use quorate_actors::IssuanceStatus;
use quorate_proto_api::cluster::{Member as WireMember, Role as WireRole, StatusResponse};
use quorate_proto_identity::{MemberNumber, TrustDomain, UnixSeconds};
use quorate_raft_consensus::{Health, Role};
use quorate_raft_machine::{Member, MemberRole, MemberStatus, State, node_id};

use crate::node::Node;
use crate::ops::Readiness;

/// The answer to `Status`. It is given at any time, before the founding too.
pub(super) fn of(node: &Node) -> StatusResponse {
    let now = node.sources().now().seconds();
    let health = node.consensus().health();
    let readiness = node.readiness();
    let mut status = node.consensus().state().read_at(|applied, state| of_state(applied, state, now));
    of_process(&mut status, &health, readiness);
    status.node_name = node.config().name.to_string();
    if status.trust_domain.is_empty() {
        status.trust_domain = node.config().trust_domain.as_str().to_owned();
    }
    if let Some(system) = node.system()
        && let IssuanceStatus::Ready { until } = &*system.issuance().borrow()
    {
        status.issuing_not_after = until.0;
    }
    status
}

/// What the replicated state says.
fn of_state(applied: u64, state: &State, now: UnixSeconds) -> StatusResponse {
    let Some(cluster) = state.cluster() else {
        return StatusResponse::default();
    };
    let ends = issuing_ends(state, now);
    StatusResponse {
        founded: true,
        trust_domain: cluster.trust_domain.as_str().to_owned(),
        cluster_id: cluster.id.to_string(),
        applied_index: applied,
        state_hash: state.state_hash().to_string(),
        members: state
            .members()
            .filter(|member| member.record.status == MemberStatus::Admitted)
            .map(|member| to_wire(member, &cluster.trust_domain, ends.get(&member.number).copied()))
            .collect(),
        entries_count: state.entry_count() as u64,
        bundle_sequence: state.bundle().sequence,
        policy_revision: state.policy_revision(),
        ..StatusResponse::default()
    }
}

/// What the process says.
fn of_process(status: &mut StatusResponse, health: &Health, readiness: Readiness) {
    status.role = role(&health.role).into();
    status.member = health.member.map_or(0, MemberNumber::get);
    status.term = health.term;
    status.leader = health.leader.map_or(0, MemberNumber::get);
    status.ready = readiness.ready;
    status.reasons = readiness.reasons;
    if let Some(reason) = &health.stopped {
        status.reasons.push(format!("consensus has ended on this node until it is restarted: {reason}"));
    }
    if let Some(free) = health.free_space_bytes.filter(|free| *free < health.space_reserve_bytes) {
        let reserve = health.space_reserve_bytes;
        status.reasons.push(format!(
            "the disk is nearly full: {free} bytes are free; below {reserve} only deletes, revocations and the \
             authority's own upkeep are taken"
        ));
    }
    env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
}

/// When the newest live issuing certificate of each member ends.
fn issuing_ends(state: &State, now: UnixSeconds) -> BTreeMap<MemberNumber, UnixSeconds> {
    let mut ends: BTreeMap<MemberNumber, UnixSeconds> = BTreeMap::new();
    for issuing in state.issuing_certificates().filter(|issuing| issuing.is_live(now)) {
        let end = issuing.validity.not_after();
        ends.entry(issuing.member).and_modify(|newest| *newest = end.max(*newest)).or_insert(end);
    }
    ends
}

fn to_wire(member: &Member, trust_domain: &TrustDomain, issuing_end: Option<UnixSeconds>) -> WireMember {
    let record = &member.record;
    WireMember {
        number: member.number.get(),
        name: record.name.to_string(),
        spiffe_id: node_id(trust_domain, record.name.as_str()).map(|id| id.to_string()).unwrap_or_default(),
        region: record.region.clone(),
        zone: record.zone.clone(),
        labels: record.labels.clone(),
        voter: record.role == MemberRole::Voter,
        issuing_not_after: issuing_end.map_or(0, |end| end.0),
        ..WireMember::default()
    }
}

fn role(role: &Role) -> WireRole {
    match role {
        Role::Unfounded => WireRole::Waiting,
        Role::Learner { .. } => WireRole::Learner,
        Role::Follower { .. } => WireRole::Follower,
        Role::Candidate => WireRole::Candidate,
        Role::Leader { .. } => WireRole::Leader,
        Role::Stopped { .. } => WireRole::Stopped,
    }
}
