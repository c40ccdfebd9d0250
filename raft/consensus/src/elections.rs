//! When to stand for election: the decision, as a function of what is known (`elections.md`).
//!
//! openraft never starts an election by itself here (`enable_elect = false`, ELE-01). The driver looks, asks
//! [`decide`], and does what it says:
//!
//! ```text
//!   what Raft reports, the clock ──► View ──► decide ──► Elect | Wait(until)
//! ```
//!
//! What is decided today is the case of a sole voter, which elects itself at once (ELE-11). Where a membership has
//! several voters, a candidate must first ask the others (ELE-01 to ELE-06), and asking needs the peer service: without
//! it the answer is to wait, so that a node never raises a term that the others did not agree to.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

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
    /// The voters of each configuration; two of them while a change of membership is on its way.
    pub(crate) configurations: &'a [BTreeSet<u64>],
    /// When this node last stood for election.
    pub(crate) last_attempt: Option<Instant>,
    /// The settings in force.
    pub(crate) settings: &'a Settings,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Stand for election now.
    Elect,
    /// Nothing; look again when something changes, or after this time.
    Wait(Option<Duration>),
}

/// Decides whether to stand for election.
pub(crate) fn decide(view: &View<'_>) -> Action {
    match view.standing {
        Standing::Leader | Standing::Learner => return Action::Wait(None),
        Standing::Follower | Standing::Candidate => {}
    }
    if !is_sole_voter(view.own, view.configurations) {
        return Action::Wait(None);
    }
    // An election of a sole voter is over when its vote is synced. Asking again before is harmless and raises the term,
    // so a slow disk is given the time that a voter would wait.
    match view.last_attempt.map(|at| view.now.saturating_duration_since(at)) {
        Some(since) if since < view.settings.timer_min => Action::Wait(Some(view.settings.timer_min - since)),
        Some(_) | None => Action::Elect,
    }
}

/// Whether `own` is a majority of every configuration by itself.
fn is_sole_voter(own: u64, configurations: &[BTreeSet<u64>]) -> bool {
    !configurations.is_empty() && configurations.iter().all(|voters| voters.len() == 1 && voters.contains(&own))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 1;

    fn voters(configurations: &[&[u64]]) -> Vec<BTreeSet<u64>> {
        configurations.iter().map(|voters| voters.iter().copied().collect()).collect()
    }

    fn view<'a>(standing: Standing, configurations: &'a [BTreeSet<u64>]) -> View<'a> {
        View { now: Instant::now(), own: OWN, standing, configurations, last_attempt: None, settings: &Settings::SITE }
    }

    #[test]
    fn a_sole_voter_elects_at_once_as_ele_11_says() {
        let sole = voters(&[&[OWN]]);
        assert_eq!(decide(&view(Standing::Follower, &sole)), Action::Elect);
        assert_eq!(decide(&view(Standing::Candidate, &sole)), Action::Elect);
    }

    #[test]
    fn a_sole_voter_does_not_raise_its_term_again_while_its_vote_is_being_synced() {
        let sole = voters(&[&[OWN]]);
        let mut view = view(Standing::Candidate, &sole);
        view.last_attempt = Some(view.now);
        assert_eq!(decide(&view), Action::Wait(Some(Settings::SITE.timer_min)));
        view.now += Settings::SITE.timer_min;
        assert_eq!(decide(&view), Action::Elect);
    }

    #[test]
    fn a_leader_and_a_learner_never_stand() {
        let sole = voters(&[&[OWN]]);
        assert_eq!(decide(&view(Standing::Leader, &sole)), Action::Wait(None));
        assert_eq!(decide(&view(Standing::Learner, &sole)), Action::Wait(None));
        assert_eq!(decide(&view(Standing::Follower, &[])), Action::Wait(None));
    }

    #[test]
    fn a_voter_among_others_never_stands_unasked_as_ele_01_says() {
        for configurations in [voters(&[&[OWN, 2, 3]]), voters(&[&[2]]), voters(&[&[OWN], &[OWN, 2]])] {
            assert_eq!(decide(&view(Standing::Follower, &configurations)), Action::Wait(None), "{configurations:?}");
        }
    }
}
