//! The time settings of consensus: one row for members on one site, one for members at a distance.
//!
//! The rows are those of the table "Settings" in the elections rules; each figure there was found by experiment. Which one
//! is in force, the replicated policy says, and a change of it takes effect at once: driver, network and peer service look
//! the row up each time. Raft itself takes its own times once, when it is built, and keeps them; so it gets times that fit
//! both rows ([`RAFT_RPC_LIMIT`], [`RAFT_VOTE_LIMIT`], [`RAFT_LEASE`]), and what is tighter in a row is ours to see to.

use std::{sync::Arc, time::Duration};

use quorate_raft_machine::NetworkProfile;

use crate::{elections::Elections, node::Node};

/// How long Raft itself waits for an AppendEntries. Its own heartbeats go out at 1.5 times that, which is of no use to
/// anybody: the pace is ours.
pub const RAFT_RPC_LIMIT: Duration = Duration::from_secs(1);

/// How long Raft itself waits for an answer to Vote: long enough for a round trip of 150 ms and a sync.
pub const RAFT_VOTE_LIMIT: Duration = Duration::from_millis(200);

/// How long Raft itself refuses votes after a leader's contact. It has to be longer than [`RAFT_VOTE_LIMIT`], because Raft
/// draws between the two. And a leader that hands over is silent for as long (ELE-09): the shortest lease of ours has to
/// outlast that silence and the election that follows.
pub const RAFT_LEASE: Duration = Duration::from_millis(201);

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The time limit of each AppendEntries and read-index call.
    pub rpc_limit: Duration,
    /// The time limit of a Vote call.
    pub vote_limit: Duration,
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
    /// The pace of a leader's heartbeats.
    pub heartbeat: Duration,
    /// How long a leader that hands over is silent before its successor stands (ELE-09): [`RAFT_LEASE`], and half a round
    /// trip, because the last heartbeat may have waited for the answer to the one before.
    pub silence: Duration,
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
        rpc_limit: Duration::from_millis(100),
        vote_limit: Duration::from_millis(101),
        lease: Duration::from_millis(300),
        timer_min: Duration::from_millis(300),
        timer_max: Duration::from_millis(600),
        ask: Duration::from_millis(150),
        sticky: Duration::from_millis(150),
        step_down: Duration::from_millis(600),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(210),
    };

    /// Members at round trips of about 150 ms.
    pub const DISTANCE: Self = Self {
        rpc_limit: Duration::from_millis(1000),
        vote_limit: RAFT_VOTE_LIMIT,
        lease: Duration::from_millis(600),
        timer_min: Duration::from_millis(600),
        timer_max: Duration::from_millis(1200),
        ask: Duration::from_millis(300),
        sticky: Duration::from_millis(300),
        step_down: Duration::from_millis(2000),
        heartbeat: Duration::from_millis(100),
        silence: Duration::from_millis(300),
    };
}

/// Puts the row in force that the applied policy names, whenever it names another one. Ends with the state.
pub(crate) async fn follow_the_policy(node: Arc<Node>, elections: Arc<Elections>) {
    let mut applied = node.shared.index.subscribe();
    loop {
        let settings = node.settings();
        if elections.settings() != settings {
            tracing::info!(lease = ?settings.lease, "other time settings of consensus are in force, by policy");
            elections.set_settings(settings);
        }
        if applied.changed().await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_lets_a_lease_end_before_a_voter_asks_and_a_leader_step_down_after_it() {
        for profile in [NetworkProfile::Site, NetworkProfile::Distance] {
            let row = Settings::of(profile);
            assert!(row.lease <= row.timer_min, "{profile:?}: asking within the lease only wastes a round");
            assert!(row.timer_min < row.timer_max, "{profile:?}: without room to draw, votes split");
            assert!(row.lease < row.step_down, "{profile:?}: a leader gives up later than others stop obeying it");
            assert!(row.heartbeat * 2 < row.lease, "{profile:?}: one lost heartbeat must not end a lease");
        }
    }

    #[test]
    fn rafts_own_times_fit_every_row() {
        assert!(RAFT_VOTE_LIMIT < RAFT_LEASE);
        for profile in [NetworkProfile::Site, NetworkProfile::Distance] {
            let row = Settings::of(profile);
            assert!(row.rpc_limit <= RAFT_RPC_LIMIT, "{profile:?}");
            assert!(row.vote_limit <= RAFT_VOTE_LIMIT, "{profile:?}");
            assert!(
                RAFT_LEASE < row.lease,
                "{profile:?}: with Raft's lease longer than ours the median gap was 1.36 s"
            );
        }
    }
}
