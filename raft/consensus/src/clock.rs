//! The clocks of the members, compared (design section 4, "Clocks").
//!
//! ```text
//!   member   t0 ──────── report ────────► t1   leader        ahead = ((t0 - t1) + (t3 - t2)) / 2
//!            t3 ◄─────── answer ───────── t2                 good, if the round trip was quick
//! ```
//!
//! Each member tells the leader how far it is ahead; the leader takes the median, itself included, and tells it with
//! each answer. A clock that is wrong alone is then the one that is off, the leader's too.

use std::time::Duration;

use crate::limits::{CLOCK_REFUSE_LIMIT, CLOCK_SAMPLE_ROUND_TRIP_MAX, CLOCK_STEP_MAX, CLOCK_WARN_LIMIT};

/// What the offset of a clock means for its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum ClockVerdict {
    /// It agrees with the others, or nothing is known of it.
    #[default]
    Good,
    /// It is off by more than [`CLOCK_WARN_LIMIT`]: somebody should see to it.
    Warn,
    /// It is off by more than [`CLOCK_REFUSE_LIMIT`]: the node does not lead, sign or join.
    Refuse,
}

/// How the clock of this node stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockStatus {
    /// How far it is ahead of the median of the members, in milliseconds; none before the first good sample.
    pub offset_to_median_millis: Option<i64>,
    /// What that means.
    pub verdict: ClockVerdict,
}

impl ClockStatus {
    /// The status of a clock that is so far ahead of the median.
    #[must_use]
    pub fn ahead_by(millis: i64) -> Self {
        Self { offset_to_median_millis: Some(millis), verdict: verdict(millis) }
    }
}

/// What an offset means.
#[must_use]
pub fn verdict(millis: i64) -> ClockVerdict {
    let off = Duration::from_millis(millis.unsigned_abs());
    if off > CLOCK_REFUSE_LIMIT {
        ClockVerdict::Refuse
    } else if off > CLOCK_WARN_LIMIT {
        ClockVerdict::Warn
    } else {
        ClockVerdict::Good
    }
}

/// Four timestamps, Unix milliseconds: two of the member's clock, two of the leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) sent: i64,
    pub(crate) received: i64,
    pub(crate) answered: i64,
    pub(crate) returned: i64,
    /// The round trip by the monotonic clock.
    pub(crate) round_trip: Duration,
}

impl Sample {
    /// How far the member is ahead of the leader; none when the sample says little: it was slow, or the member's clock
    /// was set meanwhile.
    pub(crate) fn offset(&self) -> Option<i64> {
        let by_wall = self.returned.saturating_sub(self.sent);
        let by_monotonic = i64::try_from(self.round_trip.as_millis()).unwrap_or(i64::MAX);
        let stepped = by_wall.abs_diff(by_monotonic) > millis(CLOCK_STEP_MAX);
        if stepped || self.round_trip > CLOCK_SAMPLE_ROUND_TRIP_MAX {
            return None;
        }
        let there = self.sent.saturating_sub(self.received);
        let back = self.returned.saturating_sub(self.answered);
        Some(there.saturating_add(back) / 2)
    }
}

/// The median of offsets to the leader; of two in the middle the one that is nearer to the leader, since nobody can tell
/// which of two clocks is wrong, and only one of them leads. 0 for none.
pub(crate) fn median(mut offsets: Vec<i64>) -> i64 {
    offsets.sort_unstable();
    let middle = [offsets.len().saturating_sub(1) / 2, offsets.len() / 2];
    middle
        .iter()
        .filter_map(|index| offsets.get(*index))
        .min_by_key(|offset| offset.unsigned_abs())
        .copied()
        .unwrap_or(0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ahead: i64, there: i64, back: i64) -> Sample {
        let round_trip = Duration::from_millis(u64::try_from(there + back).unwrap());
        Sample {
            sent: 1_000 + ahead,
            received: 1_000 + there,
            answered: 1_000 + there,
            returned: 1_000 + ahead + there + back,
            round_trip,
        }
    }

    #[test]
    fn four_timestamps_give_the_offset_to_within_half_the_round_trip() {
        for ahead in [-3_600_000, -7, 0, 7, 3_600_000] {
            assert_eq!(sample(ahead, 10, 10).offset(), Some(ahead));
            assert!(sample(ahead, 20, 0).offset().unwrap().abs_diff(ahead) <= 10);
        }
    }

    #[test]
    fn a_slow_sample_and_one_over_which_the_clock_was_set_say_nothing() {
        assert_eq!(sample(0, 900, 900).offset(), None);
        let mut stepped = sample(0, 5, 5);
        stepped.returned += 60_000;
        assert_eq!(stepped.offset(), None);
    }

    #[test]
    fn a_clock_that_is_wrong_alone_is_off_from_the_median_whoever_leads() {
        // The leader is an hour ahead of two others: they are behind it, and the median is theirs.
        assert_eq!(median(vec![0, -3_600_000, -3_600_000]), -3_600_000);
        assert_eq!(median(vec![0, 3, 3_600_000]), 3);
        assert_eq!(median(vec![0, 9_000]), 0);
        assert_eq!(median(vec![0, -9_000]), 0);
        assert_eq!(median(vec![-9_000, 0, 3, 4]), 0);
        assert_eq!(median(vec![]), 0);
    }

    #[test]
    fn more_than_a_second_is_worth_a_warning_and_more_than_five_are_too_many() {
        for (millis, expected) in [
            (0, ClockVerdict::Good),
            (1_000, ClockVerdict::Good),
            (-1_001, ClockVerdict::Warn),
            (5_000, ClockVerdict::Warn),
            (-5_001, ClockVerdict::Refuse),
            (i64::MIN, ClockVerdict::Refuse),
        ] {
            assert_eq!(verdict(millis), expected, "{millis}");
        }
    }
}
