//! How long what is signed is valid, and when it is renewed: pure rules over given instants.
//!
//! ```text
//!   begins (30 s back)   issued            renewal, +-10 %                       not after
//!        |------------------|------------------~|~------------------------------------|
//!                           0                 1/2 of life                             1
//! ```

use quorate_proto_identity::{UnixMillis, UnixSeconds, Validity};

/// How far in the past everything signed begins, in seconds: clocks of verifiers may be behind (design section 3).
pub(crate) const BACKDATE_SECONDS: i64 = 30;

/// Jitter of a renewal: at most this part of half the life, either way, so that what was signed together is not renewed
/// together.
const JITTER_PART: i64 = 10;

/// A renewal must move the end by at least this part of the life; else it would be made again and again while the issuer
/// nears its own end, and gain nothing.
const GAIN_PART: i64 = 10;

/// A validity that was granted, and whether the issuer's own end cut it short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    /// From when to when.
    pub(crate) validity: Validity,
    /// When it was signed.
    pub(crate) issued_at: UnixMillis,
    /// Whether it ends before the time that was asked for.
    pub(crate) cut_short: bool,
}

/// Grants `ttl` seconds from `now`, at most to the issuer's end. Nothing when no second is left.
pub(crate) fn grant(now: UnixMillis, ttl: u32, issuer_end: UnixSeconds) -> Option<Granted> {
    let start = now.seconds();
    let wanted = start.plus(i64::from(ttl));
    let end = wanted.min(issuer_end);
    if end <= start {
        return None;
    }
    let validity = Validity::new(start.minus(BACKDATE_SECONDS), end).ok()?;
    Some(Granted { validity, issued_at: now, cut_short: end < wanted })
}

impl Granted {
    /// Milliseconds from signing to the end.
    fn life(&self) -> i64 {
        self.validity.not_after().millis().since(self.issued_at).max(0)
    }

    /// When it is to be renewed: at half life, moved by the jitter that `random` gives.
    pub(crate) fn renew_at(&self, random: u64) -> UnixMillis {
        let half = self.life() / 2;
        let widest = half / JITTER_PART;
        // 0 to 2 * widest, evenly enough: the range is tiny beside 2^64.
        let range = u64::try_from(widest.saturating_mul(2).saturating_add(1)).unwrap_or(1);
        let jitter = i64::try_from(random.checked_rem(range).unwrap_or(0)).unwrap_or(0).saturating_sub(widest);
        self.issued_at.plus(half.saturating_add(jitter))
    }

    /// Whether something granted now in its place would end later by enough to be worth it.
    pub(crate) fn gains(&self, now: UnixMillis, ttl: u32, issuer_end: UnixSeconds) -> bool {
        grant(now, ttl, issuer_end).is_some_and(|next| {
            let gained = next.validity.not_after().since(self.validity.not_after()).saturating_mul(1000);
            gained.saturating_mul(GAIN_PART) >= self.life()
        })
    }

    /// Whether it is to be replaced at `now`: its time has come, or a new issuer lets what was cut short live longer;
    /// and in both cases only if that gains enough.
    pub(crate) fn is_due(
        &self,
        now: UnixMillis,
        renew_at: UnixMillis,
        other_issuer: bool,
        ttl: u32,
        issuer_end: UnixSeconds,
    ) -> bool {
        let expired = now.seconds() > self.validity.not_after();
        expired || ((now >= renew_at || (self.cut_short && other_issuer)) && self.gains(now, ttl, issuer_end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_500);

    fn granted(ttl: u32, issuer_seconds: i64) -> Granted {
        grant(NOW, ttl, NOW.seconds().plus(issuer_seconds)).unwrap()
    }

    #[test]
    fn a_grant_begins_in_the_past_and_ends_with_the_shorter_of_wish_and_issuer() {
        let whole = granted(3600, 86_400);
        assert_eq!(whole.validity.not_before(), NOW.seconds().minus(30));
        assert_eq!(whole.validity.not_after(), NOW.seconds().plus(3600));
        assert!(!whole.cut_short);
        let cut = granted(3600, 600);
        assert_eq!(cut.validity.not_after(), NOW.seconds().plus(600));
        assert!(cut.cut_short);
        assert_eq!(grant(NOW, 3600, NOW.seconds()), None);
    }

    #[test]
    fn near_the_issuers_end_nothing_is_renewed_until_there_is_a_new_issuer() {
        let cut = granted(3600, 600);
        let issuer_end = NOW.seconds().plus(600);
        let half = NOW.plus(300_000);
        assert!(!cut.is_due(half, half, false, 3600, issuer_end), "the end would not move");
        let next_end = NOW.seconds().plus(86_400);
        assert!(cut.is_due(NOW.plus(1000), half, true, 3600, next_end), "cut short, and now it need not be");
        let whole = granted(3600, 86_400);
        assert!(!whole.is_due(NOW.plus(1000), half, true, 3600, next_end), "whole, so it waits for its half life");
    }

    proptest! {
        #[test]
        fn renewal_comes_at_half_life_within_a_tenth(ttl in 2_u32..1_000_000, random: u64) {
            let granted = granted(ttl, 10_000_000);
            let half = granted.life() / 2;
            let offset = granted.renew_at(random).since(NOW) - half;
            prop_assert!(offset.abs() <= half / 10);
            prop_assert!(granted.renew_at(random) < granted.validity.not_after().millis());
        }

        #[test]
        fn what_is_due_gains_a_tenth_or_has_expired(
            ttl in 2_u32..100_000,
            issuer in 1_i64..100_000,
            later in 0_i64..200_000_000,
            next_issuer in 0_i64..200_000,
            other_issuer: bool,
            random: u64,
        ) {
            let granted = granted(ttl, issuer);
            let now = NOW.plus(later);
            let end = NOW.seconds().plus(next_issuer);
            let renew_at = granted.renew_at(random);
            if granted.is_due(now, renew_at, other_issuer, ttl, end) {
                let expired = now.seconds() > granted.validity.not_after();
                prop_assert!(expired || granted.gains(now, ttl, end));
                prop_assert!(expired || now >= renew_at || granted.cut_short);
            }
        }

        #[test]
        fn nothing_granted_outlives_its_issuer(ttl in 1_u32..u32::MAX, issuer in -10_i64..1_000_000_000) {
            let end = NOW.seconds().plus(issuer);
            if let Some(granted) = grant(NOW, ttl, end) {
                prop_assert!(granted.validity.not_after() <= end);
                prop_assert!(granted.validity.not_after() > NOW.seconds());
                prop_assert!(granted.validity.seconds() <= i64::from(ttl) + BACKDATE_SECONDS);
            }
        }
    }
}
