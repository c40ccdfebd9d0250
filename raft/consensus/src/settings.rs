//! The time settings of consensus: one row for members on one site, one for members at a distance.
//!
//! The rows are those of the table "Settings" in the elections rules; each figure there was found by experiment.

use std::time::Duration;

use quorate_raft_machine::NetworkProfile;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The time limit of each AppendEntries and read-index call. Raft's own heartbeats go out at 1.5 times it.
    pub heartbeat_interval: Duration,
    /// The time limit of a Vote call. Elections are started by our driver, never by this timer (ELE-01).
    pub election_timeout_min: Duration,
    /// One millisecond above the minimum: Raft draws between the two, and the draw must not matter.
    pub election_timeout_max: Duration,
    /// How long a leader's contact protects it from other candidates (ELE-02).
    pub lease: Duration,
    /// The least wait without contact before a voter asks the others.
    pub timer_min: Duration,
    /// The longest such wait; it is drawn anew each time.
    pub timer_max: Duration,
    /// The time limit of a round of PreVote (ELE-01).
    pub ask: Duration,
    /// How long a soft grant keeps other candidates away (ELE-05).
    pub sticky: Duration,
    /// A leader without a quorum acknowledgement for this long steps down (ELE-04).
    pub step_down: Duration,
    /// The pace of heartbeats that we send ourselves, where the interval above is a time limit only.
    pub own_heartbeat: Option<Duration>,
}

impl Settings {
    /// The row for voters that are so far from each other.
    pub const fn of(profile: NetworkProfile) -> &'static Self {
        match profile {
            NetworkProfile::Site => &Self::SITE,
            NetworkProfile::Distance => &Self::DISTANCE,
        }
    }

    /// Members on one site.
    pub const SITE: Self = Self {
        heartbeat_interval: Duration::from_millis(100),
        election_timeout_min: Duration::from_millis(101),
        election_timeout_max: Duration::from_millis(102),
        lease: Duration::from_millis(300),
        timer_min: Duration::from_millis(300),
        timer_max: Duration::from_millis(600),
        ask: Duration::from_millis(150),
        sticky: Duration::from_millis(150),
        step_down: Duration::from_millis(600),
        own_heartbeat: None,
    };

    /// Members at round trips of about 150 ms.
    pub const DISTANCE: Self = Self {
        heartbeat_interval: Duration::from_millis(1000),
        election_timeout_min: Duration::from_millis(250),
        election_timeout_max: Duration::from_millis(251),
        lease: Duration::from_millis(600),
        timer_min: Duration::from_millis(600),
        timer_max: Duration::from_millis(1200),
        ask: Duration::from_millis(300),
        sticky: Duration::from_millis(300),
        step_down: Duration::from_millis(2000),
        own_heartbeat: Some(Duration::from_millis(100)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_lets_a_lease_end_before_a_voter_asks_and_a_leader_step_down_after_it() {
        for profile in [NetworkProfile::Site, NetworkProfile::Distance] {
            let row = Settings::of(profile);
            assert!(row.election_timeout_min < row.election_timeout_max, "{profile:?}");
            assert!(row.lease <= row.timer_min, "{profile:?}: asking within the lease only wastes a round");
            assert!(row.timer_min < row.timer_max, "{profile:?}: without room to draw, votes split");
            assert!(row.lease < row.step_down, "{profile:?}: a leader gives up later than others stop obeying it");
        }
    }
}
