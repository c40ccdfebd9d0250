//! Proposals: what is asked of consensus, what comes back, and what is known when nothing does.

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::MemberNumber;
use quorate_raft_machine::{Caller, Operation, Outcome, StoredError};
use tokio::time::Instant;

use crate::{limits::PROPOSAL_TIME_LIMIT, queue::Ticket};

/// Operations that somebody wants done, as one command: applied one after the other, with nothing in between.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Who asks, for the audit record.
    pub caller: Caller,
    /// What is to be done. Each succeeds or is refused by itself.
    pub operations: Vec<Operation>,
    /// When the proposer stops waiting (ELE-08).
    pub deadline: Instant,
}

impl Proposal {
    /// A proposal with the usual time limit, [`PROPOSAL_TIME_LIMIT`].
    pub fn new(caller: Caller, operations: Vec<Operation>) -> Self {
        Self { caller, operations, deadline: Instant::now() + PROPOSAL_TIME_LIMIT }
    }

    /// A proposal that is given up after `limit`.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.deadline = Instant::now() + limit;
        self
    }
}

/// A command that is committed and applied on this node: whoever reads the state now sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The log index of the entry that carried it.
    pub log_index: u64,
    /// One result for each operation.
    pub outcome: Outcome,
}

/// A proposal whose outcome is not known, and the right to repeat it under its origin.
///
/// While this value lives, the state keeps the outcome (as long as no more than a thousand are open), so that
/// [`Handle::repeat`](crate::Handle::repeat) gets the answer of the first try and does nothing twice.
#[derive(Debug)]
pub struct Unresolved {
    pub(crate) ticket: Arc<Ticket>,
}

/// Why a proposal's outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Uncertainty {
    /// The deadline passed while the command was on its way through the log.
    #[error("no answer came within the time limit")]
    Deadline,
    /// Another member took the lead meanwhile; the entry may survive under it or not.
    #[error("leadership moved while the command was on its way")]
    LeadershipMoved,
    /// The command was sent before, and sending it again came to nothing. It may be repeated once more.
    #[error("it was not known before, and the repeat was not taken: {reason}")]
    NotRepeated {
        /// Why not, with causes.
        reason: Arc<str>,
    },
    /// Consensus ended on this node while the command was on its way.
    #[error("consensus ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
}

/// Why a proposal was not applied, or is not known to be.
///
/// All but [`OutcomeUnknown`](Self::OutcomeUnknown) and [`NotEverywhere`](Self::NotEverywhere) mean that nothing was done
/// and nothing will be.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// This node belongs to no cluster yet: found one (`quorate cluster init`) or join one.
    #[error("this node belongs to no cluster yet")]
    Unfounded,
    /// No leader was there before the deadline. Another node may answer, or the same one later.
    #[error("there is no leader to take the command")]
    NoLeader {
        /// Who led last, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// Too many proposals wait already. Try again later.
    #[error("too many proposals are waiting (limit: {proposals} proposals or {bytes} bytes)")]
    Overloaded {
        /// How many may wait.
        proposals: usize,
        /// How many bytes they may have together.
        bytes: usize,
    },
    /// The command holds something that no log may hold, such as more operations than one command may have.
    #[error("the command cannot be stored")]
    Invalid(#[source] StoredError),
    /// The command can never be taken: it is too large. Split it up.
    #[error("the command has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// The encoded size of the command.
        bytes: usize,
        /// The most that one command may have.
        limit: usize,
    },
    /// The disk is nearly full. Free some space on the node's data directory. Deletes and revocations are taken for a
    /// good while longer than what makes the state grow.
    #[error("only {available} bytes are free for the log, and {reserve} are kept free of such a change")]
    NoSpace {
        /// Free bytes at the last look.
        available: u64,
        /// Bytes that proposals of this kind leave free.
        reserve: u64,
    },
    /// The audit trail of this node cannot be written, and the command would be an operator's act without a record. Send it
    /// to another node, or do what the reason says.
    #[error("{reason}")]
    NotRecorded {
        /// Why, and what to do.
        reason: Arc<str>,
    },
    /// The leader does not take the command: its disk is nearly full, or it cannot read what a newer node sent.
    #[error("the leader refused the command: {reason}")]
    RefusedByLeader {
        /// What it said.
        reason: Arc<str>,
    },
    /// Consensus has ended on this node until it is started again.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
    /// It is applied on this node, and takes rights away, but not every connected member is known to have applied it
    /// (design section 2, property 5). Where it is not applied, what was withdrawn may be used a little longer: until the
    /// member is connected again, or its issuing certificate ends.
    #[error("it is done, but not every connected member is known to have applied it: {reason}")]
    NotEverywhere {
        /// What was done.
        applied: Applied,
        /// Why it is not known.
        reason: Arc<str>,
    },
    /// The command may have been applied, or may be later. Only its origin can repeat it safely (ELE-08).
    #[error("the outcome is unknown: {cause}")]
    OutcomeUnknown {
        /// Why.
        cause: Uncertainty,
        /// The right to repeat it.
        unresolved: Unresolved,
    },
}

impl ProposeError {
    /// Whether the same proposal may be made anew, by anybody, with some hope and without doing it twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoLeader { .. } | Self::Overloaded { .. } => true,
            Self::Unfounded
            | Self::Invalid(_)
            | Self::TooLarge { .. }
            | Self::NoSpace { .. }
            | Self::NotRecorded { .. }
            | Self::RefusedByLeader { .. }
            | Self::NotEverywhere { .. }
            | Self::Stopped { .. }
            | Self::OutcomeUnknown { .. } => false,
        }
    }
}
