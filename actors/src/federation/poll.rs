//! When a bundle is asked for, and when silence becomes an alarm: pure, so that every rule can be tested at any time.

use std::time::Duration;

use quorate_proto_identity::{
    UnixMillis,
    bundle::{REFRESH_DEFAULT_SECONDS, REFRESH_MOST_SECONDS},
};
use tokio::time::Instant;

/// So many intervals without a retrieval, and a bundle is stale. A publisher has a new key in its bundle for three hints
/// before it signs (FED-03, FED-04): from then on SVIDs may come that this bundle cannot verify.
pub(crate) const STALE_INTERVALS: u32 = 3;

/// So many older bundles in a row, and it is an alarm (ATK-39): one may be a server that is behind its fellows.
pub(crate) const OLDER_ALARM: u32 = 3;

/// Over how much time a new leader spreads the first retrievals of bundles that are held already. It does not know when they
/// were last fetched, and asks no peer the moment it leads.
const SPREAD: Duration = Duration::from_secs(60);

/// Within how much time a bundle is asked for that is not held, or whose relationship is new.
const SOON: Duration = Duration::from_secs(1);

/// What each relationship adds to the time over which watches are opened: 200 a second.
const WATCH_SHARE: Duration = Duration::from_millis(5);

/// How much earlier than the interval a retrieval may come, as a part of it (one in so many): peers that were configured
/// together are not asked together for ever.
const JITTER_PART: u32 = 10;

/// The time between two retrievals: the hint (BND-16, FED-07), five minutes without one above zero (BND-35), not less than
/// the relationship's floor, and not more than a day. While nothing is held, the floor: somebody waits for it, and
/// that is no more often than a peer may ask for (FED-47).
pub(crate) fn interval(held: bool, hint: Option<i64>, floor: u32) -> Duration {
    let floor = i64::from(floor).max(1);
    let wanted = if held { hint.filter(|hint| *hint > 0).unwrap_or(REFRESH_DEFAULT_SECONDS) } else { floor };
    let seconds = wanted.min(REFRESH_MOST_SECONDS).max(floor);
    Duration::from_secs(seconds.unsigned_abs())
}

/// The same, somewhat shorter by chance; never longer, for the publisher counts on it.
pub(crate) fn jittered(interval: Duration, random: u64) -> Duration {
    interval - part(interval / JITTER_PART, random)
}

/// The wait before the first retrieval by this leader.
pub(crate) fn first_wait(held: bool, interval: Duration, random: u64) -> Duration {
    part(if held { interval.min(SPREAD) } else { SOON }, random)
}

/// The wait before a retrieval that something new has made due.
pub(crate) fn soon(random: u64) -> Duration {
    part(SOON, random)
}

/// The wait before a watch is opened, beside those of so many relationships: each costs a handshake, perhaps a token, and a
/// leader opens them all when it comes to lead.
pub(crate) fn watch_wait(relationships: usize, random: u64) -> Duration {
    let relationships = u32::try_from(relationships).unwrap_or(u32::MAX);
    part(WATCH_SHARE.saturating_mul(relationships).min(SPREAD), random)
}

/// A part of `whole`, evenly by chance.
fn part(whole: Duration, random: u64) -> Duration {
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    whole.mul_f64(fraction)
}

/// How far the retrievals of one relationship have come under this leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// When this leader began to mind it, or fetched it last with success: by a clock that nobody sets.
    fresh_at: Instant,
    /// When it was last fetched with success.
    pub(crate) last_success: Option<UnixMillis>,
    /// When it was last tried.
    pub(crate) last_try: Option<UnixMillis>,
    /// Why the last try failed.
    pub(crate) error: Option<String>,
    /// How many in a row were older than what was fetched before.
    pub(crate) older_in_row: u32,
}

impl Record {
    /// Nothing was tried yet.
    pub(crate) fn new(at: Instant) -> Self {
        Self { fresh_at: at, last_success: None, last_try: None, error: None, older_in_row: 0 }
    }

    /// A retrieval brought what can be held, or the tag of what is.
    pub(crate) fn succeeded(&mut self, now: UnixMillis, at: Instant) {
        self.fresh_at = at;
        (self.last_try, self.last_success) = (Some(now), Some(now));
        self.error = None;
        self.older_in_row = 0;
    }

    /// A retrieval brought nothing.
    pub(crate) fn failed(&mut self, now: UnixMillis, words: String) {
        self.last_try = Some(now);
        self.error = Some(words);
    }

    /// A retrieval brought an older bundle. Answers whether that is an alarm now: once for each row.
    pub(crate) fn older(&mut self, now: UnixMillis, words: String) -> bool {
        self.failed(now, words);
        self.older_in_row = self.older_in_row.saturating_add(1);
        self.older_in_row == OLDER_ALARM
    }

    /// Whether nothing was fetched for too long, by an interval of this length.
    pub(crate) fn is_stale(&self, at: Instant, interval: Duration) -> bool {
        at.saturating_duration_since(self.fresh_at) > interval.saturating_mul(STALE_INTERVALS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Accepts: FED-07, BND-16, BND-35
    #[test]
    fn the_hint_is_the_interval_within_the_floor_and_a_day() {
        for (hint, floor, wanted) in [
            (Some(300), 60, 300),
            (Some(10), 60, 60),
            (Some(10), 5, 10),
            (Some(1_000_000_000), 60, 86_400),
            (None, 60, 300),
            (None, 600, 600),
            (Some(3_600), 7_200, 7_200),
        ] {
            assert_eq!(interval(true, hint, floor), seconds(wanted), "{hint:?} {floor}");
        }
    }

    /// Refuses: BND-16, FED-07. XB-24: a hint that cannot be meant is as good as none, and none makes a loop without a pause.
    #[test]
    fn a_hint_of_zero_or_less_is_none_and_nothing_makes_the_interval_zero() {
        for hint in [0, -1, i64::MIN] {
            assert_eq!(interval(true, Some(hint), 60), seconds(300));
        }
        assert_eq!(interval(true, Some(1), 0), seconds(1));
        assert_eq!(interval(false, None, 0), seconds(1));
        assert_eq!(interval(true, Some(i64::MAX), 0), seconds(86_400));
    }

    #[test]
    fn what_is_not_held_is_asked_for_at_the_floor() {
        assert_eq!(interval(false, None, 60), seconds(60));
        assert_eq!(interval(false, None, 5), seconds(5));
    }

    #[test]
    fn chance_makes_a_wait_shorter_by_a_tenth_at_most_and_never_longer() {
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            let wait = jittered(seconds(300), random);
            assert!((seconds(270)..=seconds(300)).contains(&wait), "{wait:?}");
            assert!(first_wait(true, seconds(300), random) <= seconds(60));
            assert!(first_wait(true, seconds(5), random) <= seconds(5));
            assert!(first_wait(false, seconds(300), random) <= seconds(1));
        }
    }

    #[test]
    fn three_intervals_without_success_are_stale_and_a_success_ends_it() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut record = Record::new(start);
        assert!(!record.is_stale(start + millis(180_000), seconds(60)));
        record.failed(UnixMillis(1), "no".into());
        assert!(record.is_stale(start + millis(180_001), seconds(60)), "a failure is no success");
        // The clock of the day was set back meanwhile, which neither makes a bundle old nor keeps it young.
        record.succeeded(UnixMillis(-1_000_000_000), start + millis(200_000));
        assert!(!record.is_stale(start + millis(380_000), seconds(60)));
        assert!(record.is_stale(start + millis(380_001), seconds(60)));
        assert_eq!(record.error, None);
    }

    #[test]
    fn watches_of_many_relationships_are_opened_over_a_longer_time() {
        assert!(watch_wait(1, u64::MAX) <= Duration::from_millis(5), "a lone one at once");
        assert!((seconds(4)..=seconds(5)).contains(&watch_wait(1_000, u64::MAX - u64::MAX / 100)));
        assert_eq!((watch_wait(1_000, 0), watch_wait(0, u64::MAX)), (seconds(0), seconds(0)));
        assert!(watch_wait(usize::MAX, u64::MAX) <= SPREAD);
    }

    /// ATK-39.
    #[test]
    fn the_third_older_bundle_in_a_row_is_an_alarm_and_a_good_one_begins_a_new_row() {
        let now = UnixMillis(0);
        let mut record = Record::new(Instant::now());
        let row = |record: &mut Record| (0..4).map(|_| record.older(now, "older".into())).collect::<Vec<_>>();
        assert_eq!(row(&mut record), [false, false, true, false]);
        record.succeeded(now, Instant::now());
        assert_eq!(row(&mut record), [false, false, true, false]);
    }
}
