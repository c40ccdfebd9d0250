//! How a node stands, at one instant of its state, and what the leader hears of the members.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quorate_actors::IssuanceStatus;
use quorate_proto_api::cluster::{
    ClockVerdict as WireVerdict, Member as WireMember, MemberRole as WireMemberRole, MemberStatus as WireMemberStatus,
    RaftRole, Role as WireRole, StatusResponse,
};
use quorate_proto_api::peer::{MemberNews, MembersAnswer, MembersQuestion};
use quorate_proto_identity::{MemberNumber, TrustDomain, UnixSeconds};
use quorate_raft_consensus::{ClockVerdict, Health, RaftMembers, Role, topics};
use quorate_raft_machine::{Member, MemberRole, MemberStatus, State, node_id};
use tokio::time::Instant;

use super::plan;
use crate::node::Node;
use crate::ops::Readiness;
use crate::warnings::cut_off_millis;

/// How long the leader is waited for. A status is asked for when something is wrong, and then it has to come at once;
/// 150 ms are a round trip between far regions.
const NEWS_LIMIT: Duration = Duration::from_millis(600);

/// The answer to `Status`. It is given at any time, before the founding too.
pub(super) async fn of(node: &Node, removed_members: bool) -> StatusResponse {
    let news = news(node).await;
    let now = node.sources().now().seconds();
    let consensus = node.consensus();
    let raft = consensus.raft_members();
    let health = consensus.health();
    let readiness = node.readiness();
    let mut status = consensus.state().read_at(|applied, state| of_state(applied, state, now, &raft, removed_members));
    of_process(&mut status, &health, readiness);
    of_contact(&mut status, node);
    status.node_name = node.config().name.to_string();
    if status.trust_domain.is_empty() {
        status.trust_domain = node.config().trust_domain.as_str().to_owned();
    }
    if let Some(system) = node.system()
        && let IssuanceStatus::Ready { until, .. } = &*system.issuance().borrow()
    {
        status.issuing_not_after = until.0;
    }
    add_news(&mut status, news);
    status
}

/// What the leader hears of the members; nothing when it does not answer soon.
pub(super) async fn news(node: &Node) -> Option<MembersAnswer> {
    let consensus = node.consensus();
    consensus.leader()?;
    let question = Bytes::from(MembersQuestion {}.encode_to_vec());
    let answer = consensus.ask(None, topics::STATUS, question, Instant::now() + NEWS_LIMIT).await.ok()?;
    MembersAnswer::decode(answer).ok()
}

/// What the replicated state says.
fn of_state(
    applied: u64,
    state: &State,
    now: UnixSeconds,
    raft: &RaftMembers,
    removed_members: bool,
) -> StatusResponse {
    let Some(cluster) = state.cluster() else {
        return StatusResponse::default();
    };
    let ends = issuing_ends(state, now);
    let time = state.counters().time.seconds();
    StatusResponse {
        founded: true,
        trust_domain: cluster.trust_domain.as_str().to_owned(),
        cluster_id: cluster.id.to_string(),
        epoch: cluster.epoch,
        command_version: state.version(),
        applied_index: applied,
        state_hash: state.state_hash().to_string(),
        members: state
            .members()
            .filter(|member| removed_members || !member.record.status.has_gone())
            .map(|member| to_wire(member, &cluster.trust_domain, ends.get(&member.number).copied(), raft))
            .collect(),
        entries_count: state.entry_count() as u64,
        bundle_sequence: state.bundle().sequence,
        policy_revision: state.policy_revision(),
        plan: Some(plan::to_wire(state.plan())),
        open_invitations: state
            .invitations()
            .filter(|invitation| !invitation.has_expired(time))
            .count()
            .try_into()
            .unwrap_or(u32::MAX),
        recovery_key: state.recovery_key().map(|key| key.id.clone()).unwrap_or_default(),
        log_time: time.0,
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
    status.reasons.extend(readiness.warnings);
    env!("CARGO_PKG_VERSION").clone_into(&mut status.version);
    let leader = status.members.iter_mut().find(|member| member.number == status.leader && status.leader != 0);
    if let Some(leader) = leader {
        leader.leads = true;
        status.leader_name.clone_from(&leader.name);
    }
}

/// What this node knows of its own contact and clock.
fn of_contact(status: &mut StatusResponse, node: &Node) {
    if status.founded {
        status.cut_off_millis = cut_off_millis(node);
        status.connected = status.cut_off_millis.is_none();
    }
    let clock = node.consensus().clock();
    status.clock_offset_millis = clock.offset_to_median_millis;
    status.clock_verdict = match (clock.offset_to_median_millis, clock.verdict) {
        (None, _) => WireVerdict::Unspecified,
        (Some(_), ClockVerdict::Good) => WireVerdict::Good,
        (Some(_), ClockVerdict::Warn) => WireVerdict::Warn,
        (Some(_), ClockVerdict::Refuse) => WireVerdict::Refuse,
    }
    .into();
}

/// What the leader hears, at its members; and of this node what it knows itself.
fn add_news(status: &mut StatusResponse, news: Option<MembersAnswer>) {
    status.leader_answered = news.is_some();
    let news: BTreeMap<u64, MemberNews> =
        news.into_iter().flat_map(|news| news.members).map(|member| (member.member, member)).collect();
    let (own, applied, offset) = (status.member, status.applied_index, status.clock_offset_millis);
    for member in &mut status.members {
        if let Some(news) = news.get(&member.number) {
            let heard = news.report_age_millis.is_some() || news.applied_index > 0;
            member.applied_index = heard.then_some(news.applied_index);
            member.connected = Some(news.connected);
            member.report_age_millis = news.report_age_millis;
            member.clock_offset_millis = news.clock_offset_millis;
            member.round_trip_micros = news.round_trip_micros;
        }
        if member.number == own && own != 0 {
            member.applied_index = Some(applied);
            member.clock_offset_millis = member.clock_offset_millis.or(offset);
        }
    }
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

fn to_wire(
    member: &Member,
    trust_domain: &TrustDomain,
    issuing_end: Option<UnixSeconds>,
    raft: &RaftMembers,
) -> WireMember {
    let record = &member.record;
    let number = member.number.get();
    let raft_role = if raft.is_voter(number) {
        RaftRole::Voter
    } else if raft.contains(number) {
        RaftRole::Learner
    } else {
        RaftRole::None
    };
    WireMember {
        number,
        name: record.name.to_string(),
        spiffe_id: node_id(trust_domain, record.name.as_str()).map(|id| id.to_string()).unwrap_or_default(),
        region: record.region.clone(),
        zone: record.zone.clone(),
        labels: record.labels.clone(),
        voter: record.role == MemberRole::Voter,
        issuing_not_after: issuing_end.map_or(0, |end| end.0),
        wanted_role: match record.role {
            MemberRole::Voter => WireMemberRole::Voter,
            MemberRole::Learner => WireMemberRole::Learner,
        }
        .into(),
        raft_role: raft_role.into(),
        status: match record.status {
            MemberStatus::Admitted => WireMemberStatus::Admitted,
            MemberStatus::Leaving | MemberStatus::LeavingCompromised => WireMemberStatus::Leaving,
            MemberStatus::Removed => WireMemberStatus::Removed,
            MemberStatus::Compromised => WireMemberStatus::Compromised,
        }
        .into(),
        version: record.version,
        build: record.build.clone(),
        addresses: record.addresses.clone(),
        role_pinned: record.role_pinned,
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
