//! When a list says that it was made (CRL-04).

use crate::validity::{UnixMillis, UnixSeconds};

/// How far in the past a list says that it was made, in seconds: whoever checks it may have a clock that is behind, and most
/// refuse a list from the future.
pub const CRL_BACKDATE: i64 = 30;

/// What the next list of a key may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThisUpdate {
    /// This may be its thisUpdate.
    At(UnixSeconds),
    /// None yet: it would lie in the future. From this instant on there is one. What is revoked until then shares the list.
    From(UnixMillis),
}

/// The thisUpdate of a list made at `now`, by that of the key's last list: [`CRL_BACKDATE`] seconds back, at least a second
/// after the last one, and never in the future (CRL-04). The distance is also a reserve: that many lists can follow each
/// other without a wait.
#[must_use]
pub fn this_update(last: Option<UnixSeconds>, now: UnixMillis) -> ThisUpdate {
    let backdated = now.seconds().minus(CRL_BACKDATE);
    let wanted = last.map_or(backdated, |last| backdated.max(last.plus(1)));
    if wanted <= now.seconds() { ThisUpdate::At(wanted) } else { ThisUpdate::From(wanted.millis()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_500);

    #[test]
    fn crl_04_lists_lie_thirty_seconds_back_and_a_burst_of_them_a_second_apart() {
        let back = NOW.seconds().minus(30);
        assert_eq!(this_update(None, NOW), ThisUpdate::At(back));
        assert_eq!(this_update(Some(back), NOW), ThisUpdate::At(back.plus(1)));
        assert_eq!(this_update(Some(back.minus(600)), NOW), ThisUpdate::At(back));
        assert_eq!(this_update(Some(NOW.seconds().minus(1)), NOW), ThisUpdate::At(NOW.seconds()));
        let next = NOW.seconds().plus(1).millis();
        assert_eq!(this_update(Some(NOW.seconds()), NOW), ThisUpdate::From(next));
        assert_eq!(this_update(Some(NOW.seconds()), next), ThisUpdate::At(next.seconds()));
    }

    proptest! {
        #[test]
        fn crl_04_lists_grow_by_a_second_and_never_lie_ahead(last in -100_i64..100, now in 0_i64..100_000) {
            let (last, now) = (NOW.seconds().plus(last), NOW.plus(now));
            match this_update(Some(last), now) {
                ThisUpdate::At(at) => prop_assert!(at > last && at <= now.seconds()),
                ThisUpdate::From(from) => {
                    prop_assert!(from > now);
                    prop_assert!(matches!(this_update(Some(last), from), ThisUpdate::At(_)));
                }
            }
        }
    }
}
