//! Questions between the actors of members, which consensus only carries.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use quorate_proto_identity::MemberNumber;

/// What a question is about. Consensus gives no meaning to any of them.
pub mod topics {
    /// A member asks the leader for an issuing certificate.
    pub const ISSUE: u32 = 1;
    /// The leader asks a member what its open streams have been sent.
    pub const STREAMS: u32 = 2;
    /// A member asks the leader what it hears of the members.
    pub const STATUS: u32 = 3;
    /// A member that an operator asked asks the leader to hand over.
    pub const TRANSFER: u32 = 4;
    /// A member that an operator asked asks the leader to take a step in the life of an authority.
    pub const AUTHORITY: u32 = 5;
    /// Somebody asks a member whether what it signed of a revocation is in recorded CRLs.
    pub const COVERED: u32 = 8;
    /// Somebody asks a member whether its open streams have been sent the CRLs of some log index.
    pub const SENT: u32 = 9;
    /// Somebody asks a member whether it signed a certificate.
    pub const LEAF: u32 = 10;
    /// A member asks the leader to revoke issuing keys whole.
    pub const REVOKE_KEYS: u32 = 11;
    /// A member asks the leader how the relationships are, or to fetch a bundle now.
    pub const FEDERATION: u32 = 12;
    /// The leader asks a member to fetch a bundle.
    pub const FETCH: u32 = 13;
    /// A member asks the leader for an endpoint certificate.
    pub const ENDPOINT: u32 = 14;
    /// Somebody asks a member who watches our bundle there, and what they have confirmed.
    pub const WATCHERS: u32 = 15;
}

/// The answer to a question, some time later: in the form of its topic, or in words why there is none.
pub type AnswerFuture = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'static>>;

/// Answers the questions of other members.
///
/// The future runs in a task of its own, and is dropped when the time of the one who asked is over.
pub trait Answerer: Send + Sync + 'static {
    /// Answers a question of the member `from`, which is authenticated.
    fn answer(&self, from: MemberNumber, topic: u32, question: Bytes) -> AnswerFuture;
}

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// This node belongs to no cluster yet.
    #[error("this node belongs to no cluster yet")]
    Unfounded,
    /// The question was for the leader, and nobody is known to lead.
    #[error("there is no leader to ask")]
    NoLeader,
    /// The state knows no such member, or it was removed.
    #[error("there is no member {0} to ask")]
    NoMember(MemberNumber),
    /// The member could not be reached, or the connection broke. Whether it heard the question is not known.
    #[error("member {member} cannot be reached: {reason}")]
    Unreachable {
        /// Which member.
        member: MemberNumber,
        /// What went wrong.
        reason: Arc<str>,
    },
    /// The member heard the question and has no answer.
    #[error("member {member} has no answer: {reason}")]
    Refused {
        /// Which member.
        member: MemberNumber,
        /// What it said.
        reason: Arc<str>,
    },
    /// No answer came before the deadline.
    #[error("no answer came within the time limit")]
    Deadline,
    /// The question or its answer is larger than one message may be.
    #[error("{bytes} bytes are more than a question or answer may have ({limit})")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Consensus has ended on this node.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
}
