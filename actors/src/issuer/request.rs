//! When this node asks for an issuing certificate: a pure step from what it holds to what it does next.
//!
//! ```text
//!   none held ──ask──> asked ──recorded and applied──> held ──half life──> asked (the old one signs on)
//!                        |                               |
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

/// When a certificate is to be renewed: half of its life after it was signed.
pub(crate) fn renew_at(validity: &Validity) -> UnixMillis {
    let issued = validity.not_before().plus(BACKDATE_SECONDS);
    issued.millis().plus(life(validity) / 2)
}

/// Milliseconds from signing to the end.
fn life(validity: &Validity) -> i64 {
    validity.not_after().millis().since(validity.not_before().plus(BACKDATE_SECONDS).millis()).max(0)
}

/// Decides, from the certificate held (if any), what asking has come to, and the time.
pub(crate) fn next_step(held: Option<&Validity>, asking: &Asking, now: UnixMillis) -> Step {
    if asking.in_flight {
        return Step::WaitForAnswer;
    }
    let renewal = held.map_or(now, renew_at);
    let retry = asking.failed_at.map_or(now, |failed| failed.plus(wait(held, asking.failures)));
    let at = renewal.max(retry);
    if now >= at { Step::Ask } else { Step::WaitUntil(at) }
}

fn wait(held: Option<&Validity>, failures: u32) -> i64 {
    let longest =
        held.map_or(LONGEST_WAIT_WITHOUT, |validity| (life(validity) / LIFE_PART).clamp(FIRST_WAIT, LONGEST_WAIT));
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1_i64 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_proto_identity::UnixSeconds;

    use super::*;

    const START: UnixSeconds = UnixSeconds(1_800_000_000);

    fn certificate(life: i64) -> Validity {
        Validity::new(START.minus(BACKDATE_SECONDS), START.plus(life)).unwrap()
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
        let half = renew_at(&held);
        let failed = Asking { failed_at: Some(half), ..failed(60) };
        assert_eq!(next_step(Some(&held), &failed, half), Step::WaitUntil(half.plus(LONGEST_WAIT)));
    }

    proptest! {
        #[test]
        fn a_certificate_leaves_time_for_several_tries(life in 12_i64..10_000_000, failures in 1_u32..100) {
            let held = certificate(life);
            let half = renew_at(&held);
            let asking = Asking { in_flight: false, failures, failed_at: Some(half) };
            if let Step::WaitUntil(next) = next_step(Some(&held), &asking, half) {
                let left = held.not_after().millis().since(half);
                prop_assert!(next.since(half) * 5 <= left, "{} of {left}", next.since(half));
            }
        }
    }
}
