//! How far the trust domain is with the authority that signs now: which members sign under it, and how many streams have
//! moved to it.

use std::collections::BTreeSet;

use quorate_proto_identity::{AuthorityId, MemberNumber, UnixSeconds};
use quorate_raft_machine::authority::{activate_at, published_at};
use quorate_raft_machine::{AuthorityKind, AuthorityState, Due, State, due};

use super::{
    AuthorityArguments,
    gate::{ask_members, depending, live_members, revocation_waits, waits_for_now},
};
use crate::peers::StreamsWait;

/// How far members and streams are on the active authority of a kind, as the leader sees it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RotationProgress {
    /// Live members that sign under it.
    pub members_on: u64,
    /// Live members.
    pub members_all: u64,
    /// Streams of connected members that were last sent nothing but what stands under it.
    pub streams_on: u64,
    /// Streams of connected members that were sent something.
    pub streams_all: u64,
    /// What the steps that are due wait for; one entry each, in words.
    pub waits_for: Vec<String>,
}

impl RotationProgress {
    /// Whether everything is on the active authority, and nothing is due.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.members_on == self.members_all && self.streams_on == self.streams_all && self.waits_for.is_empty()
    }
}

/// Asks all members that are connected.
pub(super) async fn standing(arguments: &AuthorityArguments, kind: AuthorityKind) -> RotationProgress {
    let state = arguments.handle.state();
    let now = arguments.workshop.sources.now().seconds();
    let active = state.read(|state| state.active_authority(kind)).map(|active| active.id);
    let told = ask_members(arguments, kind, active.as_ref(), StreamsWait::None).await;
    let live: BTreeSet<MemberNumber> = live_members(arguments).into_iter().collect();
    let on = live.iter().filter(|member| {
        let signs_under = told.get(member).map(|told| &told.signs_under);
        signs_under.map_or_else(
            || recorded_under(&state.read(|state| newest(state, **member, now)), &active),
            |under| *under == active,
        )
    });
    let members_on = count(on.count());
    let streams = told
        .values()
        .fold((0_u64, 0_u64), |(on, all), told| (on.saturating_add(told.under), all.saturating_add(told.sent)));
    RotationProgress {
        members_on,
        members_all: count(live.len()),
        streams_on: streams.0,
        streams_all: streams.1,
        waits_for: waits_for(arguments, kind, now).await,
    }
}

/// The root above a member's newest live issuing certificate: what it signs under when it is back.
fn newest(state: &State, member: MemberNumber, now: UnixSeconds) -> Option<AuthorityId> {
    let own = state.issuing_certificates().filter(|issuing| issuing.member == member && issuing.is_live(now));
    own.max_by_key(|issuing| (issuing.recorded_at, issuing.validity.not_after())).map(|issuing| issuing.issuer.clone())
}

/// Whether a member that was not heard is recorded under the active root. Of token keys nothing is recorded for members.
fn recorded_under(newest: &Option<AuthorityId>, active: &Option<AuthorityId>) -> bool {
    newest.is_some() && newest == active
}

/// What the steps of a kind that are due wait for.
async fn waits_for(arguments: &AuthorityArguments, kind: AuthorityKind, now: UnixSeconds) -> Vec<String> {
    let mut words = Vec::new();
    for step in arguments.handle.state().read(|state| due(state, now)) {
        match step {
            Due::Prepare { kind: of } if of == kind => words.push("another one is to be made".to_owned()),
            Due::Activate { kind: of, id } if of == kind => {
                let waits = waits_for_now(arguments, kind, &id);
                words.push(in_words(&format!("{id} is to sign"), &waits));
            }
            Due::Publish { kind: of, id } | Due::Confirm { kind: of, id } if of == kind => {
                let waits = waits_for_now(arguments, kind, &id);
                words.push(in_words(&format!("{id} is to be known elsewhere before it signs"), &waits));
            }
            Due::Taint { kind: of, id } if of == kind => words.push(format!("{id} is to be tainted")),
            Due::Revoke { kind: of, id } if of == kind => {
                let told = ask_members(arguments, kind, Some(&id), StreamsWait::None).await;
                let waits = revocation_waits(arguments, kind, &id, &depending(&told));
                words.push(in_words(&format!("{id} is to be revoked"), &waits));
            }
            Due::Prepare { .. }
            | Due::Activate { .. }
            | Due::Publish { .. }
            | Due::Confirm { .. }
            | Due::Taint { .. }
            | Due::Revoke { .. }
            | Due::PruneAuthorities
            | Due::PruneExpiredEntries => {}
        }
    }
    words.extend(readers_have_time(arguments, kind, now));
    words
}

/// A prepared authority that would sign already, if readers of the bundle elsewhere did not have their time yet.
fn readers_have_time(arguments: &AuthorityArguments, kind: AuthorityKind, now: UnixSeconds) -> Option<String> {
    let id = arguments.handle.state().read(|state| {
        let active = state.active_authority(kind)?;
        let is_wanted = active.is_to_be_replaced() || now >= activate_at(&active.validity);
        let prepared = state.authorities(kind).into_iter().find(|other| other.state == AuthorityState::Prepared)?;
        let waits = published_at(state, &prepared).is_some_and(|until| now < until);
        let is_told = due(state, now).iter().any(|step| matches!(step, Due::Confirm { kind: of, .. } if *of == kind));
        (is_wanted && waits && !is_told).then_some(prepared.id)
    })?;
    Some(in_words(&format!("{id} is to sign"), &waits_for_now(arguments, kind, &id)))
}

fn in_words(what: &str, waits_for: &[quorate_raft_machine::authority::gate::WaitsFor]) -> String {
    if waits_for.is_empty() {
        return what.to_owned();
    }
    let words: Vec<String> = waits_for.iter().map(ToString::to_string).collect();
    format!("{what}: {}", words.join("; "))
}

fn count(members: usize) -> u64 {
    u64::try_from(members).unwrap_or(u64::MAX)
}
