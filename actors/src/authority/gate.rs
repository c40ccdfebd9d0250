//! The gate in front of every activation (design section 3; section 2, property 3): an authority signs only when every
//! live member has applied its public half, and has sent it to its open streams.
//!
//! ```text
//!   prepared ──> every live member has applied it? ──yes──> its open streams have it? ──yes, or 1 s over──> activate
//!                     │ no, for a member that is                                        
//!                     │   connected    it will have, soon
//!                     └── cut off      until it is back, its certificate has ended, or an operator fences it
//! ```
//!
//! Streams are waited for on members that are connected. One that is cut off and had applied the authority before pushed
//! it to its streams then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_identity::{AuthorityId, MemberNumber, UnixSeconds};
use quorate_raft_consensus::MemberContact;
use quorate_raft_machine::{AuthorityKind, AuthorityState, State};
use tokio::{task::JoinSet, time::Instant};

use super::AuthorityArguments;
use crate::peers::{STREAMS_WAIT_LIMIT, ask_streams, until_sent};

/// How long one try waits for members that are connected to apply an authority: they do within milliseconds, unless they
/// are catching up.
const APPLY_WAIT: Duration = Duration::from_secs(2);

/// How often it is looked whether they have.
const APPLY_LOOK: Duration = Duration::from_millis(10);

/// How much longer than the leader's clock says a member counts as live, in seconds. A member measures the end of its
/// certificate by its own clock; both may be 5 s off, in opposite directions, before either stops signing.
const CLOCK_MARGIN: i64 = 10;

/// The gate is shut. What is behind it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("authority {authority} does not sign yet: {}", in_words(.waits_for))]
pub(crate) struct GateShut {
    /// Which authority is to be activated.
    pub(crate) authority: AuthorityId,
    /// Who has not applied it.
    pub(crate) waits_for: Vec<WaitsFor>,
}

/// A live member that has not applied an authority, as far as this leader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WaitsFor {
    /// Which member.
    pub(crate) member: MemberNumber,
    /// Its name.
    pub(crate) name: String,
    /// Whether it is connected, so that it will soon.
    pub(crate) connected: bool,
    /// When its last issuing certificate ends.
    pub(crate) until: UnixSeconds,
}

fn in_words(waits_for: &[WaitsFor]) -> String {
    let words = |member: &WaitsFor| {
        let WaitsFor { member, name, connected, until } = member;
        if *connected {
            format!("{name} (member {member}) has not applied it yet")
        } else {
            format!(
                "{name} (member {member}) is cut off and may not know it; it is waited for until it is back, or its \
                 certificate ends at {until}, or it is fenced"
            )
        }
    };
    waits_for.iter().map(words).collect::<Vec<_>>().join("; ")
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
        let roots = state.x509_authorities().map(|root| (&root.id, root.state));
        let keys = state.jwt_authorities().map(|key| (&key.id, key.state));
        let prepared: BTreeSet<&AuthorityId> =
            roots.chain(keys).filter(|(_, state)| *state == AuthorityState::Prepared).map(|(id, _)| id).collect();
        let mut seen = self.seen.lock();
        seen.retain(|id, _| prepared.contains(id));
        for id in prepared {
            if !seen.contains_key(id) {
                seen.insert(id.clone(), applied_index);
            }
        }
    }

    fn index_of(&self, id: &AuthorityId) -> Option<u64> {
        self.seen.lock().get(id).copied()
    }
}

/// Who is live, with the end of its last certificate.
fn live_members(state: &State, now: UnixSeconds) -> BTreeMap<MemberNumber, UnixSeconds> {
    let mut live = BTreeMap::new();
    for issuing in state.issuing_certificates().filter(|issuing| issuing.is_live(now.minus(CLOCK_MARGIN))) {
        let end = issuing.validity.not_after();
        let latest = live.entry(issuing.member).or_insert(end);
        *latest = end.max(*latest);
    }
    live
}

/// Who of the live members has not applied `index`, by what members reported.
fn not_applied(
    state: &State,
    live: &BTreeMap<MemberNumber, UnixSeconds>,
    own: Option<MemberNumber>,
    contacts: &[MemberContact],
    index: u64,
) -> Vec<WaitsFor> {
    let lacks = |(member, until): (&MemberNumber, &UnixSeconds)| {
        let contact = contacts.iter().find(|contact| contact.number == *member);
        let applied = Some(*member) == own || contact.is_some_and(|contact| contact.applied_index >= index);
        (!applied).then(|| WaitsFor {
            member: *member,
            name: state.member(*member).map(|member| member.record.name.to_string()).unwrap_or_default(),
            connected: contact.is_some_and(|contact| contact.connected),
            until: *until,
        })
    };
    live.iter().filter_map(lacks).collect()
}

/// Waits for the gate in front of an authority's activation.
pub(crate) async fn pass(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
) -> Result<(), GateShut> {
    if cfg!(feature = "planted-no-gate") {
        return Ok(());
    }
    let live = until_applied(arguments, id).await?;
    until_streams_have(arguments, kind, id, live).await;
    Ok(())
}

/// Waits until every live member has applied an authority. Gives those that are live.
async fn until_applied(arguments: &AuthorityArguments, id: &AuthorityId) -> Result<Vec<MemberNumber>, GateShut> {
    let (handle, sources) = (&arguments.handle, &arguments.workshop.sources);
    let state = handle.state();
    state.read_at(|applied_index, state| arguments.gate.look(applied_index, state));
    let index = arguments.gate.index_of(id).unwrap_or_else(|| state.applied_index());
    let until = Instant::now() + APPLY_WAIT;
    loop {
        let contacts = handle.members();
        let now = sources.now().seconds();
        let (live, waits_for) = state.read(|state| {
            let live = live_members(state, now);
            // The leader itself has applied it, whatever its record says meanwhile; all others are waited for.
            let waits_for = not_applied(state, &live, handle.member(), &contacts, index);
            (live, waits_for)
        });
        if waits_for.is_empty() {
            return Ok(live.into_keys().collect());
        }
        // Nobody who is cut off comes back within the wait of one try.
        if waits_for.iter().all(|member| !member.connected) || Instant::now() >= until {
            return Err(GateShut { authority: id.clone(), waits_for });
        }
        tokio::time::sleep(APPLY_LOOK).await;
    }
}

/// Waits until the open streams of this node and of the connected live members have been sent an authority, at most
/// [`STREAMS_WAIT_LIMIT`]: one that reads has it within milliseconds, and a client that reads nothing must not keep the
/// authority from moving on. As a rule the authority was prepared long ago and nothing is waited for.
async fn until_streams_have(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    id: &AuthorityId,
    live: Vec<MemberNumber>,
) {
    let own = arguments.handle.member();
    let connected: BTreeSet<MemberNumber> =
        arguments.handle.members().into_iter().filter(|contact| contact.connected).map(|c| c.number).collect();
    // The answer comes after the wait of the one asked, and has its way to go.
    let deadline = Instant::now() + STREAMS_WAIT_LIMIT.saturating_mul(2);
    let mut asked = JoinSet::new();
    for member in live.into_iter().filter(|member| Some(*member) != own && connected.contains(member)) {
        let handle = arguments.handle.clone();
        asked.spawn(async move { (member, ask_streams(&handle, member, kind, STREAMS_WAIT_LIMIT, deadline).await) });
    }
    let lacking = until_sent(&arguments.streams, kind, STREAMS_WAIT_LIMIT).await;
    if lacking > 0 {
        tell_lacking(id, own, lacking);
    }
    while let Some(answered) = asked.join_next().await {
        match answered {
            Ok((_, Ok(0))) => {}
            Ok((member, Ok(lacking))) => tell_lacking(id, Some(member), usize::try_from(lacking).unwrap_or(usize::MAX)),
            Ok((member, Err(error))) => {
                // It was cut off meanwhile; it has applied the authority, and sends it to its streams by itself.
                tracing::warn!(%member, error = &error as &dyn std::error::Error, "a member does not tell of its streams");
            }
            Err(lost) => tracing::warn!(error = %lost, "a question after streams was lost"),
        }
    }
}

fn tell_lacking(id: &AuthorityId, member: Option<MemberNumber>, streams: usize) {
    tracing::warn!(
        authority_id = %id, member = member.map(|member| member.get()), streams,
        "an authority begins to sign though some streams have not fetched a bundle with it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> MemberNumber {
        MemberNumber::new(number).unwrap()
    }

    fn contact(member: u64, applied_index: u64, connected: bool) -> MemberContact {
        MemberContact {
            number: number(member),
            applied_index,
            last_report: None,
            connected,
            clock_offset_millis: None,
            round_trip: None,
        }
    }

    /// Property 3: live members are waited for, connected or not, until they have reported what is asked for.
    #[test]
    fn whoever_is_live_and_has_not_reported_the_index_is_waited_for() {
        let live: BTreeMap<MemberNumber, UnixSeconds> =
            (1..=5).map(|member| (number(member), UnixSeconds(9))).collect();
        // The leader itself, one that has applied it, one that was cut off after that, one that has not, one unheard of.
        let contacts = [contact(2, 7, true), contact(3, 8, false), contact(4, 6, true)];
        let waits_for = not_applied(&State::new(), &live, Some(number(1)), &contacts, 7);
        let found: Vec<_> = waits_for.iter().map(|member| (member.member.get(), member.connected)).collect();
        assert_eq!(found, [(4, true), (5, false)]);
        let shut = GateShut { authority: AuthorityId::new("0a").unwrap(), waits_for };
        assert!(shut.to_string().contains("(member 5) is cut off"), "{shut}");
    }

    /// Property 3: no state of the leader's own record opens the gate.
    #[test]
    fn a_leader_that_does_not_know_who_it_is_waits_for_all_who_are_live() {
        let live = BTreeMap::from([(number(1), UnixSeconds(9)), (number(2), UnixSeconds(9))]);
        let waits_for = not_applied(&State::new(), &live, None, &[contact(1, 7, true)], 7);
        assert_eq!(waits_for.iter().map(|member| member.member.get()).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn nobody_is_waited_for_who_is_not_live() {
        let contacts = [contact(2, 0, true)];
        let live = BTreeMap::from([(number(1), UnixSeconds(9))]);
        assert_eq!(not_applied(&State::new(), &live, Some(number(1)), &contacts, 7), []);
    }
}
