//! What the plan looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_proto_identity::MemberNumber;

use crate::members::{Member, MemberRole};
use crate::plan::MembershipPlan;
use crate::state::State;

/// The cluster as its leader sees it at an instant.
#[derive(Debug, Clone)]
pub struct PlanView<'a> {
    /// The leader's state, applied up to a read index of its own term.
    pub state: &'a State,
    /// The leader.
    pub leader: MemberNumber,
    /// Voters of the Raft group: one set, or two while a change stands half way, the newer last.
    pub voters: Vec<BTreeSet<MemberNumber>>,
    /// Learners of the Raft group.
    pub learners: BTreeSet<MemberNumber>,
    /// How members stand with the leader. One that is not in here was never heard of, and counts neither as connected
    /// nor as dead.
    pub health: BTreeMap<MemberNumber, MemberHealth>,
}

/// How a member stands with the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberHealth {
    /// Whether it is connected (design section 2). The leader itself is.
    pub connected: bool,
    /// How long it has been out of contact, as far as this leader knows; zero while it is connected. A new leader begins
    /// to count when its term does, so that no change of leader makes anybody look dead.
    pub silent_for: Duration,
    /// Whether it has all of the log but what is under way to it.
    pub caught_up: bool,
}

impl PlanView<'_> {
    /// The plan of the state.
    pub(super) fn plan(&self) -> MembershipPlan {
        self.state.plan()
    }

    /// Voters of the newest set.
    pub(super) fn voters_now(&self) -> BTreeSet<MemberNumber> {
        self.voters.last().cloned().unwrap_or_default()
    }

    /// Whether a change of voters stands half way.
    pub(super) fn is_between(&self) -> bool {
        self.voters.len() > 1
    }

    /// Whether the member is a voter in any set that counts.
    pub(super) fn votes(&self, number: MemberNumber) -> bool {
        self.voters.iter().any(|voters| voters.contains(&number))
    }

    /// Whether the member is in the Raft group at all.
    pub(super) fn is_in_group(&self, number: MemberNumber) -> bool {
        self.votes(number) || self.learners.contains(&number)
    }

    /// Whether the member is there now.
    pub(super) fn is_connected(&self, number: MemberNumber) -> bool {
        number == self.leader || self.health.get(&number).is_some_and(|health| health.connected)
    }

    /// Whether the member is there now and has the log.
    pub(super) fn is_caught_up(&self, number: MemberNumber) -> bool {
        number == self.leader || self.health.get(&number).is_some_and(|health| health.connected && health.caught_up)
    }

    /// Whether the member has been out of contact for as long as the plan waits.
    pub(super) fn is_dead(&self, number: MemberNumber) -> bool {
        let grace = Duration::from_secs(u64::from(self.plan().dead_voter_grace));
        let silent = |health: &MemberHealth| !health.connected && health.silent_for >= grace;
        number != self.leader && self.health.get(&number).is_some_and(silent)
    }

    /// Admitted members that are to be voters, in the order of their numbers.
    pub(super) fn wanted_voters(&self) -> Vec<&Member> {
        let wanted = |member: &&Member| member.record.status.is_admitted() && member.record.role == MemberRole::Voter;
        self.state.members().filter(wanted).collect()
    }

    /// Whether a group of these voters would have its quorum now.
    pub(super) fn has_quorum(&self, voters: &BTreeSet<MemberNumber>) -> bool {
        let connected = voters.iter().filter(|voter| self.is_connected(**voter)).count();
        !voters.is_empty() && connected > voters.len() / 2
    }
}
