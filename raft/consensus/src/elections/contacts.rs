//! When who was last heard of (ELE-10).
//!
//! Raft's own figures will not do: they are defaults right after a start, and freeze while the disk stalls. So those who
//! hear of a peer write it down here: the peer service for what a leader sends, the network for what followers answer.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A promise to one candidate, which keeps the others away for a while (ELE-05).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SoftGrant {
    /// The candidate; this node itself while it asks.
    pub(crate) to: u64,
    /// Until when.
    pub(crate) until: Instant,
}

/// The record. It is kept in memory only, as long as the process lives.
#[derive(Debug)]
pub(crate) struct Contacts {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    leader: Instant,
    acknowledged: BTreeMap<u64, Instant>,
    soft_grant: Option<SoftGrant>,
    last_attempt: Option<Instant>,
}

impl Contacts {
    /// The record of a process that starts now. Starting counts as contact: whoever has just come back knows nothing of
    /// the leader that the others may have.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            inner: Mutex::new(Inner {
                leader: now,
                acknowledged: BTreeMap::new(),
                soft_grant: None,
                last_attempt: None,
            }),
        }
    }

    /// A leader was heard of: an AppendEntries was accepted, or a part of a snapshot came.
    pub(crate) fn heard_of_leader(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.leader = inner.leader.max(now);
    }

    /// `member` has acknowledged, as a follower, a call that was sent at `sent`. When it was sent counts, not when the
    /// answer came: this node was its leader then, for sure.
    pub(crate) fn acknowledged(&self, member: u64, sent: Instant) {
        let mut inner = self.inner.lock();
        inner.acknowledged.entry(member).and_modify(|known| *known = sent.max(*known)).or_insert(sent);
    }

    /// When the newest call was sent that `member` has acknowledged.
    pub(crate) fn acknowledged_at(&self, member: u64) -> Option<Instant> {
        self.inner.lock().acknowledged.get(&member).copied()
    }

    /// When a leader was last heard of.
    pub(crate) fn leader(&self) -> Instant {
        self.inner.lock().leader
    }

    /// The newest instant that a majority of each configuration has acknowledged since, this node (`own`) counted as one
    /// that does so now. `None` when a majority never has.
    pub(crate) fn quorum(&self, own: u64, configurations: &[BTreeSet<u64>], now: Instant) -> Option<Instant> {
        let inner = self.inner.lock();
        let oldest_of_quorum = |voters: &BTreeSet<u64>| {
            let instant = |voter| if voter == own { Some(now) } else { inner.acknowledged.get(&voter).copied() };
            let mut instants: Vec<Instant> = voters.iter().filter_map(|voter| instant(*voter)).collect();
            instants.sort_unstable_by(|a, b| b.cmp(a));
            instants.get(voters.len() / 2).copied()
        };
        // A change of membership needs both of its majorities, so the older one counts.
        configurations
            .iter()
            .map(oldest_of_quorum)
            .try_fold(now, |oldest, of_one| of_one.map(|of_one| oldest.min(of_one)))
    }

    /// The promise in force at `now`.
    pub(crate) fn soft_grant(&self, now: Instant) -> Option<SoftGrant> {
        self.inner.lock().soft_grant.filter(|promise| promise.until > now)
    }

    /// Promises.
    pub(crate) fn promise(&self, promise: SoftGrant) {
        self.inner.lock().soft_grant = Some(promise);
    }

    /// Takes back what was promised to `to`.
    pub(crate) fn release(&self, to: u64) {
        let mut inner = self.inner.lock();
        inner.soft_grant = inner.soft_grant.filter(|promise| promise.to != to);
    }

    /// When this node last asked, or stood for election.
    pub(crate) fn last_attempt(&self) -> Option<Instant> {
        self.inner.lock().last_attempt
    }

    /// This node asks, or stands.
    pub(crate) fn attempted(&self, now: Instant) {
        self.inner.lock().last_attempt = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OWN: u64 = 1;

    fn voters(configurations: &[&[u64]]) -> Vec<BTreeSet<u64>> {
        configurations.iter().map(|voters| voters.iter().copied().collect()).collect()
    }

    #[test]
    fn starting_counts_as_contact_and_contact_never_goes_back_as_ele_10_says() {
        let start = Instant::now();
        let contacts = Contacts::new(start);
        assert_eq!(contacts.leader(), start);
        let later = start + Duration::from_secs(1);
        contacts.heard_of_leader(later);
        contacts.heard_of_leader(start);
        assert_eq!(contacts.leader(), later);
    }

    #[test]
    fn a_quorum_has_acknowledged_since_the_oldest_of_its_newest_majority_ele_04() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let contacts = Contacts::new(start);
        let five = voters(&[&[1, 2, 3, 4, 5]]);
        assert_eq!(contacts.quorum(OWN, &five, at(100)), None, "nobody has answered");
        contacts.acknowledged(2, at(10));
        assert_eq!(contacts.quorum(OWN, &five, at(100)), None, "two of five");
        contacts.acknowledged(3, at(50));
        contacts.acknowledged(4, at(70));
        assert_eq!(contacts.quorum(OWN, &five, at(100)), Some(at(50)));
        contacts.acknowledged(3, at(20));
        assert_eq!(contacts.quorum(OWN, &five, at(100)), Some(at(50)), "an answer that was overtaken changes nothing");
        let alone = voters(&[&[1]]);
        assert_eq!(contacts.quorum(OWN, &alone, at(100)), Some(at(100)));
    }

    #[test]
    fn a_joint_membership_needs_both_of_its_majorities() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let contacts = Contacts::new(start);
        let joint = voters(&[&[1, 2, 3], &[3, 4, 5]]);
        contacts.acknowledged(2, at(90));
        assert_eq!(contacts.quorum(OWN, &joint, at(100)), None);
        contacts.acknowledged(4, at(30));
        contacts.acknowledged(5, at(40));
        assert_eq!(contacts.quorum(OWN, &joint, at(100)), Some(at(30)), "this node has no vote in the second");
    }

    #[test]
    fn a_promise_ends_by_itself() {
        let start = Instant::now();
        let contacts = Contacts::new(start);
        let promise = SoftGrant { to: 2, until: start + Duration::from_millis(150) };
        contacts.promise(promise);
        assert_eq!(contacts.soft_grant(start), Some(promise));
        assert_eq!(contacts.soft_grant(promise.until), None);
        contacts.release(3);
        assert_eq!(contacts.soft_grant(start), Some(promise), "it was another's");
        contacts.release(2);
        assert_eq!(contacts.soft_grant(start), None);
    }
}
