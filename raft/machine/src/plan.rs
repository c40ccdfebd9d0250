//! The plan of the membership, and what the leader does to come to it.
//!
//! ```text
//!   state: what is wanted of each member      Raft group: what is       health: who is there, who has caught up
//!                        |                            |                             |
//!                        +------------- next_steps(PlanView) -----------------------+
//!                                               |
//!         SealTokens, AddLearner | SealRoots, AddVoter | DemoteVoter, StripRootSeals | DropFromRaft, CompleteRemoval
//!         admission              | promotion           | demotion                    | removal
//! ```
//!
//! [`next_steps`] is a pure function and remembers nothing: whichever leader asks, after whichever half of a step
//! another one died, gets what is to be done next.

mod automatic;
mod steps;
mod view;

pub use steps::{Step, next_steps};
pub use view::{MemberHealth, PlanView};

use crate::outcome::Refusal;

/// Most voters (design section 1): every one more makes each commit slower, and seven survive the loss of three.
pub const VOTERS_LIMIT: u32 = 7;

/// Longest time after which a dead voter is replaced, in seconds: a week.
pub const DEAD_VOTER_GRACE_LIMIT: u32 = 7 * 24 * 3_600;

/// What the membership is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipPlan {
    /// How many voters there are to be, 1 to [`VOTERS_LIMIT`]. Odd numbers are worth their cost: four survive no more
    /// losses than three.
    pub voters: u32,
    /// How long a voter may be out of contact before a learner takes its place, in seconds. A restart and an upgrade of
    /// the machine fit into the default of 5 minutes.
    pub dead_voter_grace: u32,
    /// Whether roles that no operator chose are given out to fit the plan; if not, roles change by command alone.
    pub automatic: bool,
}

impl Default for MembershipPlan {
    fn default() -> Self {
        Self { voters: 3, dead_voter_grace: 300, automatic: true }
    }
}

impl MembershipPlan {
    /// Checks the plan's own numbers.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if !(1..=VOTERS_LIMIT).contains(&self.voters) {
            return Err(Refusal::invalid(format!("voters is {}, it must be 1 to {VOTERS_LIMIT}", self.voters)));
        }
        if self.dead_voter_grace == 0 || self.dead_voter_grace > DEAD_VOTER_GRACE_LIMIT {
            return Err(Refusal::invalid(format!(
                "dead_voter_grace is {} s, it must be 1 to {DEAD_VOTER_GRACE_LIMIT} s",
                self.dead_voter_grace
            )));
        }
        Ok(())
    }
}
