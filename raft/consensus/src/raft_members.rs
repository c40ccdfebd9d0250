//! Who takes part in Raft, and changes of it: the leader's to make.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use openraft::{
    ChangeMembers, LogIdOptionExt,
    error::{ChangeMembershipError, ClientWriteError, RaftError},
};
use quorate_proto_identity::MemberNumber;
use tokio::time::{Instant, timeout_at};

use crate::{engine::Engine, membership::RaftNode, stop::with_causes, type_config::Raft};

/// Who takes part in Raft by the newest membership in this node's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftMembers {
    /// The voters of each configuration; two of them while a change is on its way.
    pub voters: Vec<BTreeSet<u64>>,
    /// Those who follow the log without a vote.
    pub learners: BTreeSet<u64>,
    /// Log index of the entry that it stands in.
    pub log_index: u64,
}

impl RaftMembers {
    /// Whether this member has a vote in any configuration.
    #[must_use]
    pub fn is_voter(&self, number: u64) -> bool {
        self.voters.iter().any(|voters| voters.contains(&number))
    }

    /// Whether this member gets the log.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.is_voter(number) || self.learners.contains(&number)
    }
}

/// Why the membership was not changed, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipChangeError {
    /// Ask the leader.
    #[error("this node does not lead")]
    NotLeader {
        /// Who leads, as far as this node knows.
        leader: Option<MemberNumber>,
    },
    /// Another change is on its way. Try again when it is done.
    #[error("another change of the membership is on its way")]
    InProgress,
    /// The member is no learner yet, or has no record in the state: add it first.
    #[error("member {0} does not follow the log yet")]
    NotAMember(u64),
    /// No voter would be left.
    #[error("a cluster without voters cannot be")]
    NoVoters,
    /// It did not come about before the deadline, and may still.
    #[error("the change was not committed in time")]
    Deadline,
    /// Consensus has ended on this node.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
}

impl Engine {
    /// See [`Handle::raft_members`](crate::Handle::raft_members).
    pub(crate) fn raft_members(&self) -> RaftMembers {
        let books = self.raft().server_metrics();
        let books = books.borrow();
        let membership = books.membership_config.membership();
        RaftMembers {
            voters: membership.get_joint_config().clone(),
            learners: membership.learner_ids().collect(),
            log_index: books.membership_config.log_id().index().unwrap_or(0),
        }
    }

    /// See [`Handle::caught_up`](crate::Handle::caught_up).
    pub(crate) fn lag(&self, number: u64) -> Option<u64> {
        let books = self.raft().data_metrics();
        let books = books.borrow();
        let last = books.last_log.index().unwrap_or(0);
        // A member that has confirmed nothing to this leader is not known to have anything.
        let matched = books.replication.as_ref()?.get(&number)?.as_ref()?;
        Some(last.saturating_sub(matched.index))
    }
}

/// Adds a member that follows the log. Does nothing when it does already.
pub(crate) async fn add_learner(
    raft: &Raft,
    number: u64,
    node: RaftNode,
    deadline: Instant,
) -> Result<(), MembershipChangeError> {
    change(raft, ChangeMembers::AddNodes(BTreeMap::from([(number, node)])), deadline).await
}

/// Makes these members, and no others, the voters; all of them must follow the log. Who was a voter follows it on.
pub(crate) async fn change_voters(
    raft: &Raft,
    voters: BTreeSet<u64>,
    deadline: Instant,
) -> Result<(), MembershipChangeError> {
    change(raft, ChangeMembers::ReplaceAllVoters(voters), deadline).await
}

/// Takes a member out of Raft, voter or learner: it gets no log any more.
pub(crate) async fn drop_from_raft(
    raft: &Raft,
    members: &RaftMembers,
    number: u64,
    deadline: Instant,
) -> Result<(), MembershipChangeError> {
    if !members.contains(number) {
        return Ok(());
    }
    if members.is_voter(number) {
        change(raft, ChangeMembers::RemoveVoters(BTreeSet::from([number])), deadline).await?;
    }
    change(raft, ChangeMembers::RemoveNodes(BTreeSet::from([number])), deadline).await
}

async fn change(
    raft: &Raft,
    change: ChangeMembers<u64, RaftNode>,
    deadline: Instant,
) -> Result<(), MembershipChangeError> {
    // Voters that are no longer wanted stay as learners: whoever wants them gone says so.
    match timeout_at(deadline, raft.change_membership(change, true)).await {
        Err(_elapsed) => Err(MembershipChangeError::Deadline),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::Fatal(fatal))) => Err(MembershipChangeError::Stopped { reason: with_causes(&fatal).into() }),
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
            Err(MembershipChangeError::NotLeader { leader: forward.leader_id.and_then(MemberNumber::new) })
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => Err(match error {
            ChangeMembershipError::InProgress(_) => MembershipChangeError::InProgress,
            ChangeMembershipError::EmptyMembership(_) => MembershipChangeError::NoVoters,
            ChangeMembershipError::LearnerNotFound(missing) => MembershipChangeError::NotAMember(missing.node_id),
        }),
    }
}
