//! Whether this node may tell strangers the trust domain's keys: only what is the newest, as far as it can know (FED-23).

use std::time::Duration;

use super::Node;
use crate::warnings::cut_off_millis;

/// Refresh hints that a peer may lag behind before an authority that it does not know signs (FED-03). A node that was cut
/// off for so long may have missed one, or a revocation, and nobody waits for it any more.
const LAG_HINTS: u32 = 3;

/// However small the hint is, an election is no reason to stop.
const SHORTEST_LAG: Duration = Duration::from_secs(60);

impl Node {
    /// Why this node tells nobody its keys now; none when it may. The words are for strangers: what exactly is wrong is for
    /// the operator, in `/ready`. It costs next to nothing, because anybody may cause it to be asked.
    pub(crate) fn why_no_keys_are_told(&self) -> Option<&'static str> {
        if self.missing().is_some() {
            return Some(if self.is_founded() {
                "it may not sign, so what it has may be old"
            } else {
                "no authority is founded on it"
            });
        }
        let cut_off = Duration::from_millis(cut_off_millis(self)?);
        let hint = self.consensus().state().read(|state| state.bundle().refresh_hint);
        (cut_off > longest_lag(hint)).then_some("it has been cut off from its cluster, so what it has may be old")
    }
}

/// How long a node answers that hears nothing of its cluster, for a refresh hint in seconds.
fn longest_lag(refresh_hint: u32) -> Duration {
    Duration::from_secs(u64::from(refresh_hint)).saturating_mul(LAG_HINTS).max(SHORTEST_LAG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_cut_off_answers_through_elections_and_for_three_hints() {
        assert_eq!(longest_lag(1), Duration::from_secs(60));
        assert_eq!(longest_lag(300), Duration::from_secs(900));
    }
}
