//! Whose turn it is to be refreshed: the budgets of a keeper.
//!
//! A change that concerns everybody (a root that was tainted, a new bundle, a new lease) has every group of a node looked
//! at, and may have a hundred thousand SVIDs signed. What concerns few (an entry that was created, changed or deleted) must
//! not wait behind that, and neither must callers that come for the first time: those are answered on tasks of their own,
//! and share the processors with what runs here. So the two kinds have queues and budgets of their own, and what runs in
//! the background gives way after each signature ([`Pace`]).

use std::collections::{BTreeSet, VecDeque};

/// How many refreshes of one keeper run at once because of what concerns few. Most are a few signatures of some forty
/// microseconds on one core.
const URGENT_AT_ONCE: usize = 4;

/// How many refreshes of one keeper run at once because of what concerns all. Two keep the keepers of a node, of which
/// there are four, at work on eight cores; on fewer, what they take is bounded by the rest after each signature.
const BACKGROUND_AT_ONCE: usize = 2;

/// How a refresh shares the processors with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Somebody waits for it.
    AtOnce,
    /// It gives way to all else after each signature: forty microseconds later it is its turn again.
    Background,
}

/// The groups that wait for a refresh, and how many have theirs.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    urgent: Queue,
    background: Queue,
}

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<u64>,
    waiting: BTreeSet<u64>,
    running: usize,
}

impl Queue {
    fn push(&mut self, group: u64) {
        if self.waiting.insert(group) {
            self.order.push_back(group);
        }
    }

    /// The next one that still waits.
    fn pop(&mut self) -> Option<u64> {
        while let Some(group) = self.order.pop_front() {
            if self.waiting.remove(&group) {
                return Some(group);
            }
        }
        None
    }
}

impl Turns {
    /// A group is to be refreshed; once, however often that is wanted meanwhile.
    pub(crate) fn want(&mut self, group: u64, pace: Pace) {
        match pace {
            Pace::AtOnce => self.urgent.push(group),
            Pace::Background if self.urgent.waiting.contains(&group) => {}
            Pace::Background => self.background.push(group),
        }
    }

    /// The next group whose turn it is, if there is room for it.
    pub(crate) fn next(&mut self) -> Option<(u64, Pace)> {
        if self.urgent.running < URGENT_AT_ONCE
            && let Some(group) = self.urgent.pop()
        {
            // One look serves both.
            self.background.waiting.remove(&group);
            self.urgent.running = self.urgent.running.saturating_add(1);
            return Some((group, Pace::AtOnce));
        }
        if self.background.running < BACKGROUND_AT_ONCE
            && let Some(group) = self.background.pop()
        {
            self.background.running = self.background.running.saturating_add(1);
            return Some((group, Pace::Background));
        }
        None
    }

    /// A refresh has ended.
    pub(crate) fn ended(&mut self, pace: Pace) {
        let queue = match pace {
            Pace::AtOnce => &mut self.urgent,
            Pace::Background => &mut self.background,
        };
        queue.running = queue.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_few_does_not_wait_behind_what_concerns_all() {
        let mut turns = Turns::default();
        for group in 0..1_000 {
            turns.want(group, Pace::Background);
        }
        let mut running = 0;
        while turns.next().is_some() {
            running += 1;
        }
        assert_eq!(running, BACKGROUND_AT_ONCE);
        turns.want(700, Pace::AtOnce);
        turns.want(700, Pace::AtOnce);
        assert_eq!(turns.next(), Some((700, Pace::AtOnce)));
        assert_eq!(turns.next(), None);
        turns.ended(Pace::Background);
        assert!(turns.next().is_some_and(|(group, pace)| group < 700 && pace == Pace::Background));
    }

    #[test]
    fn one_look_serves_whoever_wanted_one() {
        let mut turns = Turns::default();
        turns.want(1, Pace::Background);
        turns.want(1, Pace::AtOnce);
        turns.want(1, Pace::Background);
        assert_eq!(turns.next(), Some((1, Pace::AtOnce)));
        assert_eq!(turns.next(), None);
        // While it is looked at, it may be wanted again.
        turns.want(1, Pace::Background);
        assert_eq!(turns.next(), Some((1, Pace::Background)));
    }
}
