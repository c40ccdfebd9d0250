//! When this node asks for an issuing certificate: a pure step from what it holds to what it does next.
//!
//! ```text
//!   none held ──ask──> asked ──recorded and applied──> held ──half life, less──> asked (the old one signs on)
//!                        |                               |      a random part
//!                        +──refused: wait, ask again <───+──end, revoked──> none held
//! ```

use quorate_proto_identity::{UnixMillis, Validity};

use super::renewal::BACKDATE_SECONDS;

/// Wait after the first failure. A new node has no leader for a second or so.
const FIRST_WAIT: i64 = 250;

/// No wait is longer than this: a leader that is back must not be left alone for long, and one call a minute from
/// each of hundreds of nodes is nothing to it.
const LONGEST_WAIT: i64 = 30_000;

/// No wait is longer than this while none is held: the node serves nobody until it has one.
const LONGEST_WAIT_WITHOUT: i64 = 2_000;

/// No wait is longer than this part of a certificate's life, so that a short one still leaves room for several tries.
const LIFE_PART: i64 = 20;

/// A renewal comes before half of the life by up to this part of that half, at random: members whose certificates were
/// recorded together, by one activation, do not all ask the leader at once. Never later than half: what is left of the
/// life then is the life that a leaf is sure to get (design section 3, lifetimes).
const JITTER_PART: i64 = 5;

/// A certificate that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Its time.
    pub(crate) validity: Validity,
    /// When it is to be renewed.
    pub(crate) renew_at: UnixMillis,
}

/// What asking has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Asking {
    /// A request is on its way.
    pub(crate) in_flight: bool,
    /// How many have failed since the last success.
    pub(crate) failures: u32,
    /// When the last one failed.
    pub(crate) failed_at: Option<UnixMillis>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for a certificate.
    Ask,
    /// Nothing before this instant.
    WaitUntil(UnixMillis),
    /// Nothing until the request on its way is answered.
    WaitForAnswer,
}

impl Held {
    /// A certificate that is renewed at half of its life, or earlier by the jitter that `random` gives.
    pub(crate) fn new(validity: Validity, random: u64) -> Self {
        let half = life(&validity) / 2;
        // 0 to the widest, evenly enough: the range is tiny beside 2^64.
        let range = u64::try_from((half / JITTER_PART).saturating_add(1)).unwrap_or(1);
        let jitter = i64::try_from(random.checked_rem(range).unwrap_or(0)).unwrap_or(0);
        let issued = validity.not_before().plus(BACKDATE_SECONDS);
        Self { validity, renew_at: issued.millis().plus(half.saturating_sub(jitter)) }
    }

    /// Tenths of its life that are left at `now`, begun ones too: 10 when it is new, 0 once it has ended.
    pub(crate) fn tenths_left(&self, now: UnixMillis) -> i64 {
        let left = self.validity.not_after().millis().since(now).max(0);
        let life = life(&self.validity).max(1);
        left.saturating_mul(10).saturating_add(life).saturating_sub(1).checked_div(life).unwrap_or(0).clamp(0, 10)
    }

    /// When fewer tenths are left than at `now`.
    pub(crate) fn next_tenth(&self, now: UnixMillis) -> UnixMillis {
        let left = self.tenths_left(now).saturating_sub(1).max(0);
        self.validity.not_after().millis().plus((life(&self.validity) / 10).saturating_mul(left).saturating_neg())
    }

    /// The part of its life that is left at `now`: 1 when it is new, 0 once it has ended.
    pub(crate) fn part_left(&self, now: UnixMillis) -> f64 {
        let left = self.validity.not_after().millis().since(now).max(0);
        (left as f64 / life(&self.validity).max(1) as f64).min(1.0)
    }
}

/// Milliseconds from signing to the end.
fn life(validity: &Validity) -> i64 {
    validity.not_after().millis().since(validity.not_before().plus(BACKDATE_SECONDS).millis()).max(0)
}

/// Decides, from the certificate held (if any), what asking has come to, and the time.
pub(crate) fn next_step(held: Option<&Held>, asking: &Asking, now: UnixMillis) -> Step {
    if asking.in_flight {
        return Step::WaitForAnswer;
    }
    let renewal = held.map_or(now, |held| held.renew_at);
    let retry = asking.failed_at.map_or(now, |failed| failed.plus(wait(held, asking.failures)));
    let at = renewal.max(retry);
    if now >= at { Step::Ask } else { Step::WaitUntil(at) }
}

fn wait(held: Option<&Held>, failures: u32) -> i64 {
    let longest =
        held.map_or(LONGEST_WAIT_WITHOUT, |held| (life(&held.validity) / LIFE_PART).clamp(FIRST_WAIT, LONGEST_WAIT));
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1_i64 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_proto_identity::UnixSeconds;

    use super::*;

    const START: UnixSeconds = UnixSeconds(1_800_000_000);

    /// One that is renewed at half its life to the millisecond.
    fn certificate(life: i64) -> Held {
        Held::new(Validity::new(START.minus(BACKDATE_SECONDS), START.plus(life)).unwrap(), 0)
    }

    #[test]
    fn without_a_certificate_it_asks_at_once_and_with_one_at_half_life() {
        let now = START.millis();
        assert_eq!(next_step(None, &Asking::default(), now), Step::Ask);
        let held = certificate(100);
        let half = now.plus(50_000);
        assert_eq!(next_step(Some(&held), &Asking::default(), now), Step::WaitUntil(half));
        assert_eq!(next_step(Some(&held), &Asking::default(), half), Step::Ask);
        let asked = Asking { in_flight: true, ..Asking::default() };
        assert_eq!(next_step(Some(&held), &asked, half), Step::WaitForAnswer);
    }

    #[test]
    fn failures_are_followed_by_growing_waits() {
        let now = START.millis();
        let failed = |failures| Asking { in_flight: false, failures, failed_at: Some(now) };
        assert_eq!(next_step(None, &failed(1), now), Step::WaitUntil(now.plus(250)));
        assert_eq!(next_step(None, &failed(3), now), Step::WaitUntil(now.plus(1000)));
        assert_eq!(next_step(None, &failed(60), now), Step::WaitUntil(now.plus(LONGEST_WAIT_WITHOUT)));
        let held = certificate(86_400);
        let half = held.renew_at;
        let failed = Asking { failed_at: Some(half), ..failed(60) };
        assert_eq!(next_step(Some(&held), &failed, half), Step::WaitUntil(half.plus(LONGEST_WAIT)));
    }

    #[test]
    fn what_is_left_of_a_certificate_is_counted_in_tenths() {
        let held = certificate(100);
        let at = |seconds: i64| START.millis().plus(seconds * 1000);
        assert_eq!(
            [0, 1, 50, 51, 90, 99, 100, 101].map(|second| held.tenths_left(at(second))),
            [10, 10, 5, 5, 1, 1, 0, 0]
        );
        assert_eq!(held.next_tenth(at(0)), at(10));
        assert_eq!(held.next_tenth(at(51)), at(60));
        assert_eq!(held.next_tenth(at(95)), at(100));
        assert!((held.part_left(at(75)) - 0.25).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn a_renewal_comes_in_the_fifth_of_half_the_life_before_its_end(life in 2_i64..10_000_000, random: u64) {
            let held = Held::new(certificate(life).validity, random);
            let half = life * 1000 / 2;
            let after = held.renew_at.since(START.millis());
            prop_assert!(after <= half && after >= half - half / JITTER_PART);
        }

        #[test]
        fn a_certificate_leaves_time_for_several_tries(life in 12_i64..10_000_000, failures in 1_u32..100) {
            let held = certificate(life);
            let half = held.renew_at;
            let asking = Asking { in_flight: false, failures, failed_at: Some(half) };
            if let Step::WaitUntil(next) = next_step(Some(&held), &asking, half) {
                let left = held.validity.not_after().millis().since(half);
                prop_assert!(next.since(half) * 5 <= left, "{} of {left}", next.since(half));
            }
        }
    }
}
