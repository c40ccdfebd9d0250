//! Elections, as pure decisions over what is known (`elections.md`, ELE-01 to ELE-11).
//!
//! openraft never starts an election by itself here (`enable_elect = false`, ELE-01), and it never makes a leader step
//! down that has lost its quorum. The driver looks, asks [`decide`], and does what it says; what voters are asked is
//! answered by [`grant`]:
//!
//! ```text
//!   candidate   Raft's books, Contacts, the clock ──► View ──────► decide ──► Ask ─► round of PreVote ─┐
//!                                                       ▲                     TakeOn(term)             │
//!                                                       └───────── Round ◄─── Elect                    │
//!   leader      acknowledgements per peer ────────────► View ──────► decide ──► StepDown                │
//!   voter       own log, leader contact, soft grant ──► VoterView ─► grant ──► Granted | Refused(why) ◄─┘
//! ```
//!
//! - `contacts`: when who was last heard of, the one shared record of it (ELE-10)
//! - `grants`: what a voter answers (ELE-02, ELE-05, ELE-09)
//! - `round`: the answers to a round of PreVote, counted (ELE-01, ELE-06)
//! - `ballot`: the three applied to this node's Raft, which is what the peer service calls
//!
//! Nothing in here waits, draws or reads a clock, but for `ballot`.

mod ballot;
mod contacts;
mod grants;
mod round;

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

pub(crate) use self::{
    ballot::{Elections, Electorate, ElectorateFuture, PreVoteAnswer, last_log},
    contacts::{Contacts, SoftGrant},
    grants::{Grant, Request, VoterView, grant},
    round::Round,
};
use crate::settings::Settings;

/// What this node is in Raft's own books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It receives the log only, or belongs to no cluster.
    Learner,
    /// It is a voter that does not lead.
    Follower,
    /// It has asked for votes.
    Candidate,
    /// It has won an election in the current term.
    Leader,
}

/// All that a decision depends on.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    /// The monotonic time of the decision.
    pub(crate) now: Instant,
    /// This member.
    pub(crate) own: u64,
    /// What it is.
    pub(crate) standing: Standing,
    /// The term that it is in.
    pub(crate) term: u64,
    /// The voters of each configuration; two of them while a change of membership is on its way.
    pub(crate) configurations: &'a [BTreeSet<u64>],
    /// When a leader was last heard of, or when the process started (ELE-10).
    pub(crate) leader_contact: Instant,
    /// While it leads: the newest instant that a quorum has acknowledged since, or when it won (ELE-04).
    pub(crate) quorum_acknowledged: Instant,
    /// When this node last asked, or stood for election.
    pub(crate) last_attempt: Option<Instant>,
    /// What it has promised to whom (ELE-05).
    pub(crate) soft_grant: Option<SoftGrant>,
    /// How long it waits this time, drawn anew for each wait.
    pub(crate) timer: Duration,
    /// The round of PreVote that has just ended.
    pub(crate) round: Option<&'a Round>,
    /// How long the clock still counts as too far from the others' to lead (ELE-11); nothing when it is near enough.
    pub(crate) clock_is_off_for: Option<Duration>,
    /// The settings in force.
    pub(crate) settings: &'a Settings,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask all voters whether they would vote for this node (ELE-01).
    Ask,
    /// Take this term on, then look again: the voters are ahead (ELE-06).
    TakeOn(u64),
    /// Stand for election now, once.
    Elect,
    /// Leave the office: the quorum is out of reach, or the clock is off (ELE-04, ELE-11).
    StepDown,
    /// Nothing; look again when something changes, or after this time.
    Wait(Option<Duration>),
}

/// Decides what to do about elections.
pub(crate) fn decide(view: &View<'_>) -> Action {
    match view.standing {
        Standing::Learner => Action::Wait(None),
        Standing::Leader => decide_as_leader(view),
        Standing::Follower | Standing::Candidate => decide_as_voter(view),
    }
}

fn decide_as_leader(view: &View<'_>) -> Action {
    // Nobody could take over from a sole voter: it leads whatever its clock says.
    if is_sole_voter(view.own, view.configurations) {
        return Action::Wait(None);
    }
    if view.clock_is_off_for.is_some() {
        return Action::StepDown;
    }
    let silence = view.now.saturating_duration_since(view.quorum_acknowledged);
    match view.settings.step_down.checked_sub(silence) {
        Some(left) if !left.is_zero() => Action::Wait(Some(left)),
        Some(_) | None => Action::StepDown,
    }
}

fn decide_as_voter(view: &View<'_>) -> Action {
    if !is_voter(view.own, view.configurations) {
        return Action::Wait(None);
    }
    if is_sole_voter(view.own, view.configurations) {
        return decide_alone(view);
    }
    if view.clock_is_off_for.is_some() {
        return Action::Wait(view.clock_is_off_for);
    }
    if let Some(action) = view.round.and_then(|round| conclude(view, round)) {
        return action;
    }
    let waited_from = view.last_attempt.map_or(view.leader_contact, |attempt| attempt.max(view.leader_contact));
    // What is promised to another candidate is not given to oneself meanwhile.
    let promised = view.soft_grant.filter(|promise| promise.to != view.own).map(|promise| promise.until);
    let due = waited_from + view.timer;
    let due = promised.map_or(due, |until| until.max(due));
    match due.checked_duration_since(view.now) {
        Some(left) if !left.is_zero() => Action::Wait(Some(left)),
        Some(_) | None => Action::Ask,
    }
}

/// A sole voter elects at once (ELE-11). Its election is over when its vote is synced. Asking again before is harmless and
/// raises the term, so a slow disk is given the time that a voter would wait.
fn decide_alone(view: &View<'_>) -> Action {
    match view.last_attempt.map(|at| view.now.saturating_duration_since(at)) {
        Some(since) if since < view.settings.timer_min => Action::Wait(Some(view.settings.timer_min - since)),
        Some(_) | None => Action::Elect,
    }
}

/// What follows from a round that has ended; nothing, when it was lost or something came between.
fn conclude(view: &View<'_>, round: &Round) -> Option<Action> {
    let overtaken = view.leader_contact > round.asked_at() || view.term < round.own_term();
    if overtaken || !round.is_won(view.own, view.configurations) {
        return None;
    }
    Some(match round.highest_term() {
        Some(term) if term > view.term => Action::TakeOn(term),
        Some(_) | None => Action::Elect,
    })
}

/// Whether `own` votes in any of the configurations.
fn is_voter(own: u64, configurations: &[BTreeSet<u64>]) -> bool {
    configurations.iter().any(|voters| voters.contains(&own))
}

/// Whether `own` is a majority of every configuration by itself.
pub(crate) fn is_sole_voter(own: u64, configurations: &[BTreeSet<u64>]) -> bool {
    !configurations.is_empty() && configurations.iter().all(|voters| voters.len() == 1 && voters.contains(&own))
}

/// Whether those for whom `has` holds are a majority of every configuration.
fn is_quorum(configurations: &[BTreeSet<u64>], has: impl Fn(u64) -> bool) -> bool {
    !configurations.is_empty()
        && configurations.iter().all(|voters| {
            let count = voters.iter().filter(|voter| has(**voter)).count();
            count > voters.len() / 2
        })
}

#[cfg(test)]
mod tests;
