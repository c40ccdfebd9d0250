//! Chance, all of it from one seed: a stream of numbers for each use, so that one more draw here moves nothing there.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::time::Duration;

/// The stream of this use in the run of this seed; `first` and `second` tell apart nodes, boots and clients.
pub(crate) fn stream(seed: u64, purpose: &str, first: u64, second: u64) -> SmallRng {
    let mut state = seed;
    for byte in purpose.bytes() {
        state = mixed(state ^ u64::from(byte));
    }
    SmallRng::seed_from_u64(mixed(mixed(state ^ first) ^ second))
}

/// One step of SplitMix64, which spreads neighbours far apart.
fn mixed(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A time between these two, in whole milliseconds, both included.
pub(crate) fn millis(random: &mut SmallRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.gen_range(least..=most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_a_stream_of_its_own_and_the_same_again() {
        let draw = |purpose, first, second| stream(7, purpose, first, second).r#gen::<u64>();
        assert_eq!(draw("entropy", 1, 2), draw("entropy", 1, 2));
        let others = [draw("entropy", 2, 1), draw("entropy", 1, 3), draw("faults", 1, 2), draw("entropy", 0, 0)];
        assert!(!others.contains(&draw("entropy", 1, 2)), "{others:?}");
    }
}
