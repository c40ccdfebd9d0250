//! When a child that ended is started again, and when that would only hide a fault: a pure decision.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    /// So many ends within `window` are tolerated; one more, and the fault goes up.
    pub(crate) most: usize,
    /// The time that ends are counted over.
    pub(crate) window: Duration,
    /// Wait before the second restart within the window. The first one is immediate: most faults strike once.
    pub(crate) first_wait: Duration,
    /// No wait is longer than this.
    pub(crate) longest_wait: Duration,
}

/// The policy of all our actors: ten ends in a minute are no accident. The waits add up to some ten seconds, well
/// inside the window, so that a child that dies at each start does reach the limit.
pub(crate) const RESTART_POLICY: RestartPolicy = RestartPolicy {
    most: 10,
    window: Duration::from_secs(60),
    first_wait: Duration::from_millis(50),
    longest_wait: Duration::from_secs(2),
};

/// What to do about a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start it again after this wait.
    RestartAfter(Duration),
    /// Stop everything under this supervisor and say so upwards.
    Escalate,
}

/// When a child ended lately; never longer than the policy's `most` and one.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    ends: VecDeque<Instant>,
}

impl RestartPolicy {
    /// Takes note of an end at `now` and decides.
    pub(crate) fn decide(&self, history: &mut History, now: Instant) -> Decision {
        while history.ends.front().is_some_and(|end| now.saturating_duration_since(*end) >= self.window) {
            history.ends.pop_front();
        }
        let before = history.ends.len();
        if before >= self.most {
            return Decision::Escalate;
        }
        history.ends.push_back(now);
        let Some(doublings) = before.checked_sub(1) else {
            return Decision::RestartAfter(Duration::ZERO);
        };
        let factor = 1_u32.checked_shl(u32::try_from(doublings).unwrap_or(u32::MAX)).unwrap_or(u32::MAX);
        Decision::RestartAfter(self.first_wait.saturating_mul(factor).min(self.longest_wait))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RestartPolicy = RestartPolicy {
        most: 4,
        window: Duration::from_secs(10),
        first_wait: Duration::from_millis(100),
        longest_wait: Duration::from_millis(300),
    };

    #[test]
    fn waits_grow_to_their_ceiling_and_then_the_fault_goes_up() {
        let mut history = History::default();
        let now = Instant::now();
        let decisions: Vec<_> = (0..5).map(|_| POLICY.decide(&mut history, now)).collect();
        let after = |milliseconds| Decision::RestartAfter(Duration::from_millis(milliseconds));
        assert_eq!(decisions, [after(0), after(100), after(200), after(300), Decision::Escalate]);
    }

    #[test]
    fn ends_far_apart_are_each_the_first() {
        let mut history = History::default();
        let start = Instant::now();
        for step in 0..20 {
            let decision = POLICY.decide(&mut history, start + POLICY.window * step);
            assert_eq!(decision, Decision::RestartAfter(Duration::ZERO));
        }
    }

    proptest! {
        #[test]
        fn never_more_restarts_in_a_window_than_the_limit(gaps in prop::collection::vec(0_u64..6_000, 1..60)) {
            let mut history = History::default();
            let mut now = Instant::now();
            let mut restarts: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                match POLICY.decide(&mut history, now) {
                    Decision::RestartAfter(wait) => {
                        prop_assert!(wait <= POLICY.longest_wait);
                        restarts.push(now);
                    }
                    Decision::Escalate => {
                        let recent = restarts.iter().filter(|at| now.duration_since(**at) < POLICY.window).count();
                        prop_assert_eq!(recent, POLICY.most);
                    }
                }
                let recent = restarts.iter().filter(|at| now.duration_since(**at) < POLICY.window).count();
                prop_assert!(recent <= POLICY.most);
                prop_assert!(history.ends.len() <= POLICY.most);
            }
        }
    }
}
