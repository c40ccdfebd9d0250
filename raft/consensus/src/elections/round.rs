//! A round of PreVote: who would vote for this node, and which terms they are in (ELE-01, ELE-06).

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{PreVoteAnswer, is_quorum};

/// The answers so far.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    asked_at: Instant,
    own_term: u64,
    answers: BTreeMap<u64, PreVoteAnswer>,
}

impl Round {
    /// A round that begins now, in this term.
    pub(crate) fn new(asked_at: Instant, own_term: u64) -> Self {
        Self { asked_at, own_term, answers: BTreeMap::new() }
    }

    /// A voter has answered.
    pub(crate) fn answer(&mut self, member: u64, answer: PreVoteAnswer) {
        self.answers.insert(member, answer);
    }

    /// When the voters were asked.
    pub(crate) fn asked_at(&self) -> Instant {
        self.asked_at
    }

    /// The term that the candidate was in.
    pub(crate) fn own_term(&self) -> u64 {
        self.own_term
    }

    /// The highest term that was answered with, by those who would grant and by those who would not.
    pub(crate) fn highest_term(&self) -> Option<u64> {
        self.answers.values().map(|answer| answer.term).max()
    }

    /// Whether a majority of every configuration would vote for this node, which votes for itself where it has a vote.
    pub(crate) fn is_won(&self, own: u64, configurations: &[BTreeSet<u64>]) -> bool {
        is_quorum(configurations, |voter| voter == own || self.answers.get(&voter).is_some_and(|answer| answer.granted))
    }

    /// Whether so many have refused that no answer that is still out could win it.
    pub(crate) fn is_lost(&self, own: u64, configurations: &[BTreeSet<u64>]) -> bool {
        !is_quorum(configurations, |voter| voter == own || self.answers.get(&voter).is_none_or(|answer| answer.granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u64 = 1;

    fn voters(configurations: &[&[u64]]) -> Vec<BTreeSet<u64>> {
        configurations.iter().map(|voters| voters.iter().copied().collect()).collect()
    }

    fn round(answers: &[(u64, bool)]) -> Round {
        let mut round = Round::new(Instant::now(), 3);
        for (member, granted) in answers {
            round.answer(*member, PreVoteAnswer { granted: *granted, term: *member });
        }
        round
    }

    #[test]
    fn a_round_needs_a_majority_of_every_joint_configuration_ele_01() {
        let joint = voters(&[&[1, 2, 3], &[3, 4, 5]]);
        assert!(!round(&[(2, true)]).is_won(OWN, &joint), "it has no vote in the second");
        assert!(!round(&[(2, true), (4, true)]).is_won(OWN, &joint));
        assert!(round(&[(3, true), (4, true)]).is_won(OWN, &joint));
        assert!(round(&[(2, true), (4, true), (5, true)]).is_won(OWN, &joint));
        assert!(!round(&[(2, true)]).is_won(OWN, &[]), "no configuration, no majority");
    }

    #[test]
    fn half_of_the_voters_are_no_majority() {
        let four = voters(&[&[1, 2, 3, 4]]);
        assert!(!round(&[(2, true)]).is_won(OWN, &four));
        assert!(round(&[(2, true), (3, true)]).is_won(OWN, &four));
    }

    #[test]
    fn a_round_is_lost_when_what_is_still_out_cannot_win_it() {
        let five = voters(&[&[1, 2, 3, 4, 5]]);
        assert!(!round(&[(2, false), (3, false)]).is_lost(OWN, &five));
        assert!(round(&[(2, false), (3, false), (4, false)]).is_lost(OWN, &five));
    }

    #[test]
    fn refusals_tell_their_term_too_ele_06() {
        assert_eq!(round(&[(2, true), (9, false)]).highest_term(), Some(9));
        assert_eq!(round(&[]).highest_term(), None);
    }
}
