//! What each follower has acknowledged in the term of this leader, so that a follower that lost it again is noticed.
//!
//! A log that goes back within a term was put back: a copy of an old disk, or a disk that lied. The follower promised to
//! keep what is gone, so nobody may count on it any more (FLT-18). openraft 0.9 panics over such an answer, and takes the
//! leader's consensus with it; here it never sees one, and the follower gets nothing more from this leader.

use std::collections::BTreeMap;

use openraft::raft::AppendEntriesResponse;
use parking_lot::Mutex;

use crate::type_config::LogId;

/// What was acknowledged, by member.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    members: Mutex<BTreeMap<u64, Matched>>,
}

#[derive(Debug, Clone, Copy)]
struct Matched {
    /// The term of the leader that it was acknowledged to.
    term: u64,
    last: Option<LogId>,
    reported: bool,
}

impl Matches {
    /// Takes note of an answer to an append of what lies between the two log IDs, sent in `term`. Whether it says that
    /// something is gone that was acknowledged before.
    pub(crate) fn has_lost(
        &self,
        member: u64,
        term: u64,
        (previous, last): &(Option<LogId>, Option<LogId>),
        response: &AppendEntriesResponse<u64>,
    ) -> bool {
        let mut members = self.members.lock();
        let matched = members.entry(member).or_insert(Matched { term, last: None, reported: false });
        if matched.term != term {
            *matched = Matched { term, last: None, reported: false };
        }
        match response {
            AppendEntriesResponse::Success => matched.last = matched.last.max(*last),
            AppendEntriesResponse::PartialSuccess(matching) => matched.last = matched.last.max(*matching),
            AppendEntriesResponse::HigherVote(_) => {}
            AppendEntriesResponse::Conflict => {
                let lost = previous.is_some() && *previous <= matched.last;
                if lost && !std::mem::replace(&mut matched.reported, true) {
                    tracing::error!(
                        member, acknowledged = ?matched.last, asked_for = ?previous,
                        "a member has lost log entries that it had acknowledged: its disk was put back to an older state. \
                         It gets nothing more: remove it, and let it join anew on an empty directory"
                    );
                }
                return lost;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_id::to_raft;

    fn at(index: u64) -> Option<LogId> {
        Some(to_raft(quorate_raft_store::LogId { term: 1, node: 1, index }))
    }

    #[test]
    fn what_was_acknowledged_in_this_term_may_not_be_missing_later_flt_18() {
        let matches = Matches::default();
        let answer = |term, range: (u64, u64), response: AppendEntriesResponse<u64>| {
            matches.has_lost(2, term, &(at(range.0), at(range.1)), &response)
        };
        assert!(!answer(1, (9, 9), AppendEntriesResponse::Conflict), "nothing was acknowledged yet");
        assert!(!answer(1, (3, 8), AppendEntriesResponse::Success));
        assert!(!answer(1, (9, 9), AppendEntriesResponse::Conflict), "it never had that");
        assert!(answer(1, (8, 8), AppendEntriesResponse::Conflict));
        assert!(answer(1, (5, 5), AppendEntriesResponse::Conflict));
        assert!(!answer(2, (5, 5), AppendEntriesResponse::Conflict), "another leader may have cut it off");
        assert!(!answer(2, (1, 9), AppendEntriesResponse::PartialSuccess(at(4))));
        assert!(answer(2, (4, 4), AppendEntriesResponse::Conflict));
        assert!(!answer(2, (5, 5), AppendEntriesResponse::Conflict));
    }
}
