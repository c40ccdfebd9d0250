//! What this node is to its cluster at the moment.

use std::{fmt, sync::Arc};

use quorate_proto_identity::MemberNumber;

/// The part this node plays in consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The node belongs to no cluster yet: its directory is empty, or founding was begun and not finished.
    Unfounded,
    /// The node receives the log without taking part in elections.
    Learner {
        /// Who leads, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// The node is a voter and does not lead.
    Follower {
        /// Who leads, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// The node asks for votes, or has won them and has not yet confirmed its office with a quorum.
    Candidate,
    /// The node leads, and has confirmed it by a read-index round in this term (ELE-07).
    Leader {
        /// The term it leads in.
        term: u64,
    },
    /// Consensus has ended on this node until the process is started again. Reads of the applied state go on.
    Stopped {
        /// What ended it, with its causes.
        reason: Arc<str>,
    },
}

impl Role {
    /// Whether this node leads, confirmed.
    pub fn is_leader(&self) -> bool {
        matches!(self, Self::Leader { .. })
    }

    /// Whether consensus has ended here.
    pub fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped { .. })
    }

    /// One word for metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unfounded => "unfounded",
            Self::Learner { .. } => "learner",
            Self::Follower { .. } => "follower",
            Self::Candidate => "candidate",
            Self::Leader { .. } => "leader",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// All names, in the order that metrics list them.
    pub(crate) const NAMES: [&'static str; 6] = ["unfounded", "learner", "follower", "candidate", "leader", "stopped"];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader { term } => write!(f, "leader in term {term}"),
            Self::Stopped { reason } => write!(f, "stopped: {reason}"),
            Self::Follower { leader: Some(leader) } | Self::Learner { leader: Some(leader) } => {
                write!(f, "{} of member {leader}", self.name())
            }
            Self::Unfounded | Self::Learner { .. } | Self::Follower { .. } | Self::Candidate => {
                f.write_str(self.name())
            }
        }
    }
}
