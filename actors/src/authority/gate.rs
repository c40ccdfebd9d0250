//! The gates in front of activations and revocations: what the leader learns for the pure decision of
//! [`machine`](quorate_raft_machine::authority::gate), and how long it waits for a better answer.
//!
//! Members report what they have applied all the time; of their streams they are asked. A member that is connected applies
//! and sends within milliseconds, so a try waits a little; one that is cut off is not waited for within a try.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_identity::{AuthorityId, MemberNumber, TrustDomain, UnixSeconds};
use quorate_raft_machine::{
    AuthorityKind, AuthorityState, State,
    authority::gate::{
        Knowledge, MemberReport, WaitsFor, activation_waits_for, confirmation_waits_for, live_until, not_applied,
        revocation_waits_for,
    },
};
use tokio::{task::JoinSet, time::Instant};

use super::AuthorityArguments;
use crate::{
    peers::{STREAMS_WAIT_LIMIT, StreamsAsked, StreamsTold, StreamsWait, ask_streams, streams_told},
    watchers::{WatchingPeer, ask_watchers},
};

/// How long one try waits for members that are connected to apply an authority: they do within milliseconds, unless they
/// are catching up.
const APPLY_WAIT: Duration = Duration::from_secs(2);

/// How long one try waits for peers to confirm a bundle: over a watch they do within moments.
const CONFIRMATION_WAIT: Duration = Duration::from_millis(500);

/// How often it is looked whether they have.
const APPLY_LOOK: Duration = Duration::from_millis(10);

/// A gate is shut. What is behind it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{step} authority {authority} waits: {}", in_words(.waits_for))]
pub(crate) struct GateShut {
    /// What is behind it.
    pub(crate) step: GatedStep,
    /// Which authority it is about.
    pub(crate) authority: AuthorityId,
    /// What is waited for.
    pub(crate) waits_for: Vec<WaitsFor>,
}

/// A step with a gate in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatedStep {
    Publication,
    Confirmation,
    Activation,
    Revocation,
}

impl std::fmt::Display for GatedStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Publication => "the publication of",
            Self::Confirmation => "the confirmation by peers of",
            Self::Activation => "the activation of",
            Self::Revocation => "the revocation of",
        })
    }
}

fn in_words(waits_for: &[WaitsFor]) -> String {
    waits_for.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// How streams are waited for that have not been sent an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// For [`STREAMS_WAIT_LIMIT`], and then no more: a client that reads nothing must not keep authorities from moving on
    /// in their time. They were prepared long ago, and nothing is waited for as a rule.
    Bounded,
    /// Until they have it: an operator is told of them, and may force the step.
    Strict,
}

/// Where in the log this leader first saw each authority that is prepared. Whoever has applied that much has applied the
/// authority; whoever was cut off since need not come back for it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    seen: Mutex<BTreeMap<AuthorityId, u64>>,
}

impl Gate {
    /// Takes note of what is prepared at an applied index, and forgets what is not any more.
    pub(crate) fn look(&self, applied_index: u64, state: &State) {
        let authorities = AuthorityKind::ALL.into_iter().flat_map(|kind| state.authorities(kind));
        let prepared: BTreeSet<AuthorityId> = authorities
            .filter(|authority| authority.state == AuthorityState::Prepared)
            .map(|authority| authority.id)
            .collect();
        let mut seen = self.seen.lock();
        seen.retain(|id, _| prepared.contains(id));
        for id in prepared {
            seen.entry(id).or_insert(applied_index);
        }
    }

    fn index_of(&self, id: &AuthorityId) -> Option<u64> {
        self.seen.lock().get(id).copied()
    }
}

/// What this node knows of the members now.
pub(super) struct Known {
    now: UnixSeconds,
    own: Option<MemberNumber>,
    reports: Vec<MemberReport>,
}

impl Known {
    pub(super) fn now(arguments: &AuthorityArguments) -> Self {
        let report = |contact: quorate_raft_consensus::MemberContact| MemberReport {
            member: contact.number,
            applied_index: contact.applied_index,
            connected: contact.connected,
        };
        Self {
            now: arguments.workshop.sources.now().seconds(),
            own: arguments.handle.member(),
            reports: arguments.handle.members().into_iter().map(report).collect(),
        }
    }

    pub(super) fn knowledge(&self) -> Knowledge<'_> {
        Knowledge { now: self.now, own: self.own, reports: &self.reports }
    }

    fn connected(&self) -> Vec<MemberNumber> {
        self.reports.iter().filter(|report| report.connected).map(|report| report.member).collect()
    }
}

/// Waits for the gate in front of an authority's activation, for one try.
pub(crate) async fn pass(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
    streams: Streams,
) -> Result<(), GateShut> {
    if cfg!(feature = "planted-no-gate") {
        return Ok(());
    }
    let mut waits_for = until_applied(arguments, id).await;
    if waits_for.is_empty() {
        let wait = StreamsWait::Sent(STREAMS_WAIT_LIMIT);
        let lacking = lacking(&ask_members(arguments, kind, None, wait).await);
        let known = Known::now(arguments);
        let index = index_of(arguments, id);
        waits_for = arguments
            .handle
            .state()
            .read(|state| activation_waits_for(state, (kind, id), index, &lacking, &known.knowledge()));
        if streams == Streams::Bounded {
            waits_for.retain(|waits| !passes_by(waits, id));
        }
    }
    if waits_for.is_empty() {
        return Ok(());
    }
    Err(GateShut { step: GatedStep::Activation, authority: id.clone(), waits_for })
}

/// Whether an activation in its time goes on without this; it is told if it does.
fn passes_by(waits_for: &WaitsFor, id: &AuthorityId) -> bool {
    let WaitsFor::Streams { member, streams, .. } = waits_for else { return false };
    tracing::warn!(
        authority_id = %id, member = member.get(), streams,
        "an authority begins to sign though some streams have not fetched a bundle with it"
    );
    true
}

/// What the gate in front of an activation waits for at this moment, streams not asked.
pub(super) fn waits_for_now(arguments: &AuthorityArguments, kind: AuthorityKind, id: &AuthorityId) -> Vec<WaitsFor> {
    let known = Known::now(arguments);
    let index = index_of(arguments, id);
    let state = arguments.handle.state();
    state.read(|state| activation_waits_for(state, (kind, id), index, &BTreeMap::new(), &known.knowledge()))
}

fn index_of(arguments: &AuthorityArguments, id: &AuthorityId) -> u64 {
    let state = arguments.handle.state();
    state.read_at(|applied_index, state| arguments.gate.look(applied_index, state));
    arguments.gate.index_of(id).unwrap_or_else(|| state.applied_index())
}

/// Waits until every live member has applied an authority. Gives those that have not.
async fn until_applied(arguments: &AuthorityArguments, id: &AuthorityId) -> Vec<WaitsFor> {
    let index = index_of(arguments, id);
    let until = Instant::now() + APPLY_WAIT;
    loop {
        let known = Known::now(arguments);
        let waits_for = arguments.handle.state().read(|state| not_applied(state, index, &known.knowledge()));
        let soon = waits_for.iter().any(|waits| matches!(waits, WaitsFor::Member { connected: true, .. }));
        // Nobody who is cut off comes back within the wait of one try.
        if waits_for.is_empty() || !soon || Instant::now() >= until {
            return waits_for;
        }
        tokio::time::sleep(APPLY_LOOK).await;
    }
}

/// Waits until every live member has applied an authority, and so serves it to readers elsewhere, for one try.
pub(super) async fn pass_publication(arguments: &AuthorityArguments, id: &AuthorityId) -> Result<(), GateShut> {
    let waits_for = until_applied(arguments, id).await;
    if waits_for.is_empty() {
        return Ok(());
    }
    Err(GateShut { step: GatedStep::Publication, authority: id.clone(), waits_for })
}

/// Waits until every known peer has confirmed the bundle with an authority in it, for one try.
pub(super) async fn pass_confirmation(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
) -> Result<(), GateShut> {
    let confirmed = confirming_peers(arguments).await;
    let waits_for = arguments.handle.state().read(|state| confirmation_waits_for(state, (kind, id), &confirmed));
    if waits_for.is_empty() {
        return Ok(());
    }
    Err(GateShut { step: GatedStep::Confirmation, authority: id.clone(), waits_for })
}

/// The trust domains that have confirmed the bundle as it is, at whichever member they watch. A peer's bundles are
/// replicated, so that what one of its nodes has confirmed is what its cluster has agreed on.
async fn confirming_peers(arguments: &AuthorityArguments) -> BTreeSet<TrustDomain> {
    let sequence = arguments.handle.state().read(|state| state.bundle().sequence);
    let known = Known::now(arguments);
    let deadline = Instant::now() + CONFIRMATION_WAIT.saturating_mul(2);
    let mut answers = JoinSet::new();
    for member in known.connected().into_iter().filter(|member| Some(*member) != known.own) {
        let handle = arguments.handle.clone();
        answers.spawn(async move {
            let answer = ask_watchers(&handle, member, sequence, CONFIRMATION_WAIT, deadline).await;
            answer.map_err(|error| (member, error))
        });
    }
    let mut watching = arguments.watchers.snapshot();
    while let Some(answer) = answers.join_next().await {
        match answer {
            Ok(Ok(peers)) => watching.extend(peers),
            Ok(Err((member, error))) => {
                tracing::debug!(%member, error = &error as &dyn std::error::Error, "a member does not tell of its watches");
            }
            Err(lost) => tracing::warn!(error = %lost, "a question after watches was lost"),
        }
    }
    let has = |peer: &WatchingPeer| peer.confirmed.is_some_and(|confirmed| confirmed >= sequence);
    watching.into_iter().filter(has).filter_map(|peer| peer.trust_domain).collect()
}

/// Waits for the gate in front of an authority's revocation, for one try.
pub(super) async fn pass_revocation(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
) -> Result<(), GateShut> {
    let depending = match kind {
        AuthorityKind::X509 => {
            let wait = StreamsWait::Moved(STREAMS_WAIT_LIMIT);
            depending(&ask_members(arguments, kind, Some(id), wait).await)
        }
        AuthorityKind::Jwt => BTreeMap::new(),
    };
    let waits_for = revocation_waits(arguments, kind, id, &depending);
    if waits_for.is_empty() {
        return Ok(());
    }
    Err(GateShut { step: GatedStep::Revocation, authority: id.clone(), waits_for })
}

pub(super) fn revocation_waits(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
    depending: &BTreeMap<MemberNumber, u64>,
) -> Vec<WaitsFor> {
    let known = Known::now(arguments);
    arguments.handle.state().read(|state| revocation_waits_for(state, (kind, id), depending, &known.knowledge()))
}

/// Asks this node and every member that is connected after their streams, all at once. One that does not answer is not in
/// what comes back.
pub(super) async fn ask_members(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    authority: Option<&AuthorityId>,
    wait: StreamsWait,
) -> BTreeMap<MemberNumber, StreamsTold> {
    let asked = StreamsAsked { kind, authority: authority.cloned(), wait };
    let known = Known::now(arguments);
    // The answer comes after the wait of the one asked, and has its way to go.
    let deadline = Instant::now() + STREAMS_WAIT_LIMIT.saturating_mul(2);
    let mut answers = JoinSet::new();
    for member in known.connected().into_iter().filter(|member| Some(*member) != known.own) {
        let (handle, asked) = (arguments.handle.clone(), asked.clone());
        answers.spawn(async move { (member, ask_streams(&handle, member, &asked, deadline).await) });
    }
    let mut told = BTreeMap::new();
    if let Some(own) = known.own {
        told.insert(own, streams_told(&arguments.streams, &asked).await);
    }
    while let Some(answer) = answers.join_next().await {
        match answer {
            Ok((member, Ok(streams))) => drop(told.insert(member, streams)),
            Ok((member, Err(error))) => {
                // It was cut off meanwhile, as a rule; what it has applied, it sends to its streams by itself.
                tracing::warn!(%member, error = &error as &dyn std::error::Error, "a member does not tell of its streams");
            }
            Err(lost) => tracing::warn!(error = %lost, "a question after streams was lost"),
        }
    }
    told
}

fn lacking(told: &BTreeMap<MemberNumber, StreamsTold>) -> BTreeMap<MemberNumber, u64> {
    told.iter().map(|(member, streams)| (*member, streams.lacking)).collect()
}

pub(super) fn depending(told: &BTreeMap<MemberNumber, StreamsTold>) -> BTreeMap<MemberNumber, u64> {
    told.iter().map(|(member, streams)| (*member, streams.depending)).collect()
}

/// How many members may be signing.
pub(super) fn live_members(arguments: &AuthorityArguments) -> Vec<MemberNumber> {
    let now = arguments.workshop.sources.now().seconds();
    arguments.handle.state().read(|state| live_until(state, now).into_keys().collect())
}
