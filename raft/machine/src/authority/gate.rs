//! The gates in front of activation and revocation (design section 3; section 2, property 3), as a decision over what the
//! leader knows. It asks nobody and waits for nothing: who does, asks again when it knows more.
//!
//! ```text
//!   activate  every live member has applied it ── their open streams have it ── publication time is over
//!                  │ no, for a member that is
//!                  │   connected    it will have, soon
//!                  └── cut off      until it is back, its certificate has ended, or an operator fences it
//!
//!   revoke    no connected member signs under it ── no stream of theirs was last sent what stands under it
//! ```
//!
//! Streams count on members that are connected. One that is cut off and had applied the authority before pushed it to its
//! streams then; and it cannot be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_proto_identity::{AuthorityId, MemberNumber, TrustDomain, UnixSeconds};

use super::{AuthorityKind, AuthorityState, AuthorityView, published_at};
use crate::state::State;

/// How much longer than the leader's clock says a member counts as live, in seconds. A member measures the end of its
/// certificate by its own clock; both may be 5 s off, in opposite directions, before either stops signing.
pub const CLOCK_MARGIN: i64 = 10;

/// What a leader knows of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberReport {
    /// Which member.
    pub member: MemberNumber,
    /// How far it has applied the log, as it said itself.
    pub applied_index: u64,
    /// Whether it is connected (design section 2).
    pub connected: bool,
}

/// What a leader knows when it asks for a gate.
#[derive(Debug, Clone, Copy)]
pub struct Knowledge<'a> {
    /// Its time.
    pub now: UnixSeconds,
    /// Which member it is. It has applied what its own state holds, whatever its record says.
    pub own: Option<MemberNumber>,
    /// What members reported, itself not needed.
    pub reports: &'a [MemberReport],
}

impl Knowledge<'_> {
    fn report(&self, member: MemberNumber) -> Option<&MemberReport> {
        self.reports.iter().find(|report| report.member == member)
    }

    fn has_applied(&self, member: MemberNumber, index: u64) -> bool {
        Some(member) == self.own || self.report(member).is_some_and(|report| report.applied_index >= index)
    }

    /// Whether a member is connected, as far as is known.
    #[must_use]
    pub fn is_connected(&self, member: MemberNumber) -> bool {
        Some(member) == self.own || self.report(member).is_some_and(|report| report.connected)
    }
}

/// What a gate waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitsFor {
    /// A live member that has not applied an authority.
    Member {
        /// Which.
        member: MemberNumber,
        /// Its name.
        name: String,
        /// Whether it is connected, so that it will soon.
        connected: bool,
        /// When its last issuing certificate ends.
        until: UnixSeconds,
    },
    /// Open streams of a member that have not been sent an authority.
    Streams {
        /// Whose.
        member: MemberNumber,
        /// Its name.
        name: String,
        /// How many.
        streams: u64,
    },
    /// Readers of the bundle, who come by in their own time.
    Publication {
        /// Until when; none when the time has not begun, because not every live member is known to serve it.
        until: Option<UnixSeconds>,
        /// Those among them that are known: trust domains that we have a relationship with, and that have not confirmed
        /// it.
        peers: Vec<TrustDomain>,
    },
    /// A connected member that signs under an authority which is to be revoked.
    Signs {
        /// Which.
        member: MemberNumber,
        /// Its name.
        name: String,
    },
    /// Streams of a member that were last sent something under an authority which is to be revoked.
    Depends {
        /// Whose.
        member: MemberNumber,
        /// Its name.
        name: String,
        /// How many; none when the member is connected and does not say.
        streams: Option<u64>,
    },
}

impl WaitsFor {
    /// The name of the member whose workloads would be refused if nothing were waited for.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Member { name, .. }
            | Self::Streams { name, .. }
            | Self::Signs { name, .. }
            | Self::Depends { name, .. } => Some(name),
            Self::Publication { .. } => None,
        }
    }

    /// The trust domains whose workloads would refuse ours if nothing were waited for, as far as they are known.
    #[must_use]
    pub fn peers(&self) -> &[TrustDomain] {
        match self {
            Self::Publication { peers, .. } => peers,
            Self::Member { .. } | Self::Streams { .. } | Self::Signs { .. } | Self::Depends { .. } => &[],
        }
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { member, name, connected: true, until: _ } => {
                write!(formatter, "{name} (member {member}) has not applied it yet")
            }
            Self::Member { member, name, connected: false, until } => write!(
                formatter,
                "{name} (member {member}) is cut off and may not know it; it is waited for until it is back, or its \
                 certificate ends at {until}, or it is fenced"
            ),
            Self::Streams { member, name, streams } => {
                write!(formatter, "{streams} streams of {name} (member {member}) have not fetched it yet")
            }
            Self::Publication { until, peers } => {
                match until {
                    Some(until) => write!(formatter, "readers of the bundle have time until {until}")?,
                    None => formatter
                        .write_str("readers of the bundle have no time yet: not every live member serves it")?,
                }
                write_peers(formatter, peers)
            }
            Self::Signs { member, name } => {
                write!(formatter, "{name} (member {member}) has no issuing certificate under another root yet")
            }
            Self::Depends { member, name, streams: Some(streams) } => {
                write!(formatter, "{streams} streams of {name} (member {member}) still have SVIDs under it")
            }
            Self::Depends { member, name, streams: None } => {
                write!(formatter, "{name} (member {member}) does not say what its streams have")
            }
        }
    }
}

/// Most peers that are named in words.
const NAMED_PEERS: usize = 10;

fn write_peers(formatter: &mut fmt::Formatter<'_>, peers: &[TrustDomain]) -> fmt::Result {
    let named: Vec<&str> = peers.iter().take(NAMED_PEERS).map(TrustDomain::as_str).collect();
    match (named.is_empty(), peers.len().saturating_sub(named.len())) {
        (true, _) => Ok(()),
        (false, 0) => write!(formatter, " ({} among them)", named.join(", ")),
        (false, more) => write!(formatter, " ({} and {more} more peers among them)", named.join(", ")),
    }
}

/// Live members, with the end of the last certificate of each: those that may be signing, by whatever clock.
#[must_use]
pub fn live_until(state: &State, now: UnixSeconds) -> BTreeMap<MemberNumber, UnixSeconds> {
    let mut live = BTreeMap::new();
    for issuing in state.issuing_certificates().filter(|issuing| issuing.is_live(now.minus(CLOCK_MARGIN))) {
        let end = issuing.validity.not_after();
        let latest = live.entry(issuing.member).or_insert(end);
        *latest = end.max(*latest);
    }
    live
}

/// The live members that have not applied the log up to `index`, where the authority was prepared at the latest: the first
/// part of the gate in front of an activation.
#[must_use]
pub fn not_applied(state: &State, index: u64, knowledge: &Knowledge<'_>) -> Vec<WaitsFor> {
    let lacks = |(member, until): (MemberNumber, UnixSeconds)| {
        (!knowledge.has_applied(member, index)).then(|| WaitsFor::Member {
            member,
            name: name_of(state, member),
            connected: knowledge.is_connected(member),
            until,
        })
    };
    live_until(state, knowledge.now).into_iter().filter_map(lacks).collect()
}

/// All that an activation waits for: live members that have not applied the log up to `index`, streams that `lacking` says
/// have not been sent the authority, and readers of the bundle. Nothing is waited for by nothing else.
#[must_use]
pub fn activation_waits_for(
    state: &State,
    (kind, id): (AuthorityKind, &AuthorityId),
    index: u64,
    lacking: &BTreeMap<MemberNumber, u64>,
    knowledge: &Knowledge<'_>,
) -> Vec<WaitsFor> {
    let mut waits_for = not_applied(state, index, knowledge);
    let live = live_until(state, knowledge.now);
    let counts = |(member, streams): &(&MemberNumber, &u64)| {
        **streams > 0 && live.contains_key(*member) && knowledge.is_connected(**member)
    };
    waits_for.extend(lacking.iter().filter(counts).map(|(member, streams)| WaitsFor::Streams {
        member: *member,
        name: name_of(state, *member),
        streams: *streams,
    }));
    let has_ended = |authority: &AuthorityView| knowledge.now > authority.validity.not_after();
    if let Some(authority) = state.authority(kind, id)
        && let until = published_at(state, &authority)
        && until.is_none_or(|until| knowledge.now < until)
        && !state.active_authority(kind).is_none_or(|active| has_ended(&active))
    {
        waits_for.push(WaitsFor::Publication { until, peers: peers(state) });
    }
    waits_for
}

/// The trust domains that are known to read our bundle: those that we have a relationship with, if anything is served to
/// them.
fn peers(state: &State) -> Vec<TrustDomain> {
    if !state.serves_bundle_endpoint() {
        return Vec::new();
    }
    state.relationships().map(|relationship| relationship.trust_domain.clone()).collect()
}

/// What a confirmation of an authority by all known peers waits for: those of which `confirmed` does not say that they have
/// the bundle in force. Nothing is waited for by nothing else.
#[must_use]
pub fn confirmation_waits_for(
    state: &State,
    (kind, id): (AuthorityKind, &AuthorityId),
    confirmed: &BTreeSet<TrustDomain>,
) -> Vec<WaitsFor> {
    let mut peers = peers(state);
    peers.retain(|peer| !confirmed.contains(peer));
    if peers.is_empty() {
        return Vec::new();
    }
    let until = state.authority(kind, id).and_then(|authority| published_at(state, &authority));
    vec![WaitsFor::Publication { until, peers }]
}

/// All that a revocation waits for: connected members that sign under the authority, and streams of connected members that
/// `depending` says were last sent something under it. A connected member that is not in there has not said.
///
/// Nothing that a stream carries stands under a token key, so one is revoked at once: that its tokens die is what is wanted.
#[must_use]
pub fn revocation_waits_for(
    state: &State,
    (kind, id): (AuthorityKind, &AuthorityId),
    depending: &BTreeMap<MemberNumber, u64>,
    knowledge: &Knowledge<'_>,
) -> Vec<WaitsFor> {
    match kind {
        AuthorityKind::X509 => {}
        AuthorityKind::Jwt => return Vec::new(),
    }
    let mut waits_for = Vec::new();
    for member in connected_members(state, knowledge) {
        let name = name_of(state, member);
        if signs_under(state, member, id, knowledge.now) {
            waits_for.push(WaitsFor::Signs { member, name: name.clone() });
        }
        let streams = depending.get(&member).copied();
        if streams != Some(0) {
            waits_for.push(WaitsFor::Depends { member, name, streams });
        }
    }
    waits_for
}

/// Admitted members that are connected, in the order of their numbers.
fn connected_members<'a>(state: &'a State, knowledge: &'a Knowledge<'_>) -> impl Iterator<Item = MemberNumber> + 'a {
    let admitted = state.members().filter(|member| member.record.status.is_admitted());
    admitted.map(|member| member.number).filter(|member| knowledge.is_connected(*member))
}

/// Whether a member has no other root to sign under than the one that is to be revoked.
fn signs_under(state: &State, member: MemberNumber, id: &AuthorityId, now: UnixSeconds) -> bool {
    let mut live =
        state.issuing_certificates().filter(|issuing| issuing.member == member && issuing.is_live(now)).peekable();
    let stays = |issuer: &AuthorityId| {
        issuer != id && state.x509_authority(issuer).is_some_and(|root| root.state != AuthorityState::Tainted)
    };
    live.peek().is_some() && !live.any(|issuing| stays(&issuing.issuer))
}

fn name_of(state: &State, member: MemberNumber) -> String {
    state.member(member).map(|member| member.record.name.to_string()).unwrap_or_default()
}
