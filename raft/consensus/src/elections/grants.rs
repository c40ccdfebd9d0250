//! What a voter answers to PreVote and Vote (ELE-02, ELE-05, ELE-09).

use tokio::time::Instant;

use super::SoftGrant;
use crate::{settings::Settings, type_config::LogId};

/// What is asked of a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Who wants to lead.
    pub(crate) candidate: u64,
    /// The last entry of its log.
    pub(crate) last: Option<LogId>,
    /// The leader hands over to it (ELE-09).
    pub(crate) transfer: bool,
}

/// All that a voter's answer depends on.
#[derive(Debug, Clone)]
pub(crate) struct VoterView<'a> {
    /// The monotonic time of the answer.
    pub(crate) now: Instant,
    /// The last entry of this voter's log.
    pub(crate) last: Option<LogId>,
    /// When it last heard of a leader, or started (ELE-10).
    pub(crate) leader_contact: Instant,
    /// If it leads: the newest instant that a quorum has acknowledged since.
    pub(crate) quorum_acknowledged: Option<Instant>,
    /// What it has promised to whom.
    pub(crate) soft_grant: Option<SoftGrant>,
    /// The settings in force.
    pub(crate) settings: &'a Settings,
}

/// A voter's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Yes. The voter keeps other candidates away for a while.
    Granted(SoftGrant),
    /// No.
    Refused(Refusal),
}

/// Why a vote is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The candidate lacks entries that may be committed.
    #[error("its log ends before this voter's")]
    ShorterLog,
    /// There is a leader, as far as this voter can tell.
    #[error("a leader was heard of within the lease")]
    LeaderInContact,
    /// This voter is the leader, and its quorum obeys it.
    #[error("this voter leads, with its quorum")]
    LeadsItself,
    /// Another candidate asked first, or this voter asks itself.
    #[error("another candidate was promised the vote")]
    Promised,
}

/// Whether a voter would vote for a candidate. It is asked the same for PreVote and for Vote; whose term is higher is
/// Raft's business.
///
/// Who votes in the voter's own books is not looked at: it may have slept through a change of membership.
pub(crate) fn grant(view: &VoterView<'_>, request: &Request) -> Grant {
    if request.last < view.last {
        return Grant::Refused(Refusal::ShorterLog);
    }
    let within_lease = |instant: Instant| view.now.saturating_duration_since(instant) < view.settings.lease;
    // A leader that hands over has fallen silent on purpose, and not for the length of a lease.
    if !request.transfer {
        if view.quorum_acknowledged.is_some_and(within_lease) {
            return Grant::Refused(Refusal::LeadsItself);
        }
        if within_lease(view.leader_contact) {
            return Grant::Refused(Refusal::LeaderInContact);
        }
    }
    let promised_to_another =
        view.soft_grant.is_some_and(|promise| promise.to != request.candidate && promise.until > view.now);
    if promised_to_another {
        return Grant::Refused(Refusal::Promised);
    }
    Grant::Granted(SoftGrant { to: request.candidate, until: view.now + view.settings.sticky })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::log_id::to_raft;

    const SETTINGS: &Settings = &Settings::SITE;

    fn log(term: u64, index: u64) -> Option<LogId> {
        Some(to_raft(quorate_raft_store::LogId { term, node: 1, index }))
    }

    /// A follower that has heard of no leader for exactly a lease.
    fn view() -> VoterView<'static> {
        let start = Instant::now();
        VoterView {
            now: start + SETTINGS.lease,
            last: log(3, 10),
            leader_contact: start,
            quorum_acknowledged: None,
            soft_grant: None,
            settings: SETTINGS,
        }
    }

    fn request() -> Request {
        Request { candidate: 2, last: log(3, 10), transfer: false }
    }

    #[test]
    fn a_candidate_needs_a_log_that_is_at_least_the_voters_ele_02() {
        assert!(matches!(grant(&view(), &request()), Grant::Granted(_)));
        for (last, granted) in
            [(log(3, 11), true), (log(4, 1), true), (log(3, 9), false), (log(2, 99), false), (None, false)]
        {
            let answer = grant(&view(), &Request { last, ..request() });
            assert_eq!(matches!(answer, Grant::Granted(_)), granted, "{last:?}: {answer:?}");
        }
        let empty = VoterView { last: None, ..view() };
        assert!(matches!(grant(&empty, &Request { last: None, ..request() }), Grant::Granted(_)));
    }

    #[test]
    fn a_leaders_contact_within_the_lease_protects_it_ele_02() {
        let mut view = view();
        view.leader_contact += Duration::from_millis(1);
        assert_eq!(grant(&view, &request()), Grant::Refused(Refusal::LeaderInContact));
    }

    #[test]
    fn a_leader_votes_for_nobody_while_its_quorum_obeys_it_ele_02() {
        let mut view = view();
        view.quorum_acknowledged = Some(view.now - SETTINGS.lease + Duration::from_millis(1));
        assert_eq!(grant(&view, &request()), Grant::Refused(Refusal::LeadsItself));
        view.quorum_acknowledged = Some(view.now - SETTINGS.lease);
        assert!(matches!(grant(&view, &request()), Grant::Granted(_)));
    }

    #[test]
    fn who_was_promised_a_vote_first_keeps_others_away_for_a_while_and_may_ask_again_ele_05() {
        let mut view = view();
        let Grant::Granted(promise) = grant(&view, &request()) else { panic!("refused") };
        assert_eq!(promise, SoftGrant { to: 2, until: view.now + SETTINGS.sticky });
        view.soft_grant = Some(promise);
        let other = Request { candidate: 3, ..request() };
        assert_eq!(grant(&view, &other), Grant::Refused(Refusal::Promised));
        assert!(matches!(grant(&view, &request()), Grant::Granted(_)));
        view.now = promise.until;
        assert!(matches!(grant(&view, &other), Grant::Granted(_)));
    }

    #[test]
    fn a_transfer_leaves_the_lease_out_and_the_log_in_ele_09() {
        let mut view = view();
        view.leader_contact = view.now;
        view.quorum_acknowledged = Some(view.now);
        let transfer = Request { transfer: true, ..request() };
        assert!(matches!(grant(&view, &transfer), Grant::Granted(_)));
        let behind = Request { last: log(3, 9), ..transfer };
        assert_eq!(grant(&view, &behind), Grant::Refused(Refusal::ShorterLog));
    }
}
