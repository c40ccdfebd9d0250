//! Log IDs and votes, from the store's form to openraft's and back.

use openraft::{CommittedLeaderId, raft::VoteRequest};
use quorate_raft_store as store;

use crate::type_config::{LogId, Vote};

/// The store's form of a log ID.
pub(crate) fn from_raft(id: &LogId) -> store::LogId {
    store::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

/// openraft's form of a log ID.
pub(crate) fn to_raft(id: store::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, id.node), id.index)
}

/// The store's form of a vote.
pub(crate) fn vote_from_raft(vote: &Vote) -> store::Vote {
    store::Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

/// openraft's form of a vote.
pub(crate) fn vote_to_raft(vote: store::Vote) -> Vote {
    if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) }
}

/// A vote of `term` for nobody, which Raft takes whatever its log holds: the way to make it leave an office (ELE-04), or
/// take a term on (ELE-06). No member has number 0, and every candidate of that term outranks it.
pub(crate) fn vote_for_nobody(term: u64) -> VoteRequest<u64> {
    const NOBODY: u64 = 0;
    let highest = LogId::new(CommittedLeaderId::new(u64::MAX, u64::MAX), u64::MAX);
    VoteRequest::new(Vote::new(term, NOBODY), Some(highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ids_and_votes_come_back_as_they_went() {
        let id = store::LogId { term: 4, node: 2, index: 99 };
        assert_eq!(from_raft(&to_raft(id)), id);
        for committed in [false, true] {
            let vote = store::Vote { term: 4, node: 2, committed };
            assert_eq!(vote_from_raft(&vote_to_raft(vote)), vote);
        }
    }
}
