//! Who watches our bundle, and what of it they have put in force: kept in the memory of the node that they are connected to.
//!
//! ```text
//!   Federation API: WatchBundle ──► Watchers::open(peer) ──► WatchGuard ── confirm(sequence) ──┐
//!                                                               │ dropped: the watch is over   v
//!   the leader's gate, `federation status` ──► topic WATCHERS ──► snapshot: peer, watches, sent, confirmed
//! ```
//!
//! Nothing here is replicated: a lost node loses its watches, and the peers open them elsewhere. Whoever waits for a
//! confirmation asks every connected member, and takes the highest one: a peer's bundles are replicated, so that what one of
//! its nodes has confirmed is what its cluster has agreed on.

mod questions;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use quorate_proto_identity::TrustDomain;
use tokio::sync::watch;

pub use questions::{WatchersTold, watching_at};
pub(crate) use questions::{answer_watchers, ask_watchers};

/// Most watches of one trust domain on one node. A peer's leader keeps one open at one of our nodes; when its office moves,
/// the old one may be there for a minute, and some peers open one for each of their nodes.
pub const WATCHES_PER_PEER_LIMIT: usize = 16;

/// Most watches on one node: two for each of the most relationships that there may be, since a peer comes back sooner than
/// its lost connection is noticed. One costs a stream and some hundred bytes.
pub const WATCHES_LIMIT: usize = 4_096;

/// Longest text by which a peer says why it did not take a bundle, in bytes.
pub const REFUSAL_BYTES_LIMIT: usize = 512;

/// The watches that are open on this node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Watchers {
    shared: Arc<Shared>,
}

struct Shared {
    open: Mutex<Open>,
    /// Counts changes, for those who wait for a confirmation.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Open {
    /// By the number of the watch.
    watches: BTreeMap<u64, Watch>,
    last: u64,
}

/// One watch.
#[derive(Debug, Clone, Default)]
struct Watch {
    peer: Option<TrustDomain>,
    sent: u64,
    confirmed: Option<u64>,
    refusal: Option<String>,
}

/// What the watches of one trust domain say, taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchingPeer {
    /// Which trust domain; none for those who did not have to say, or whose credential names no trust domain.
    pub trust_domain: Option<TrustDomain>,
    /// How many are open.
    pub watches: u64,
    /// The highest sequence that one of them was sent; 0 before any.
    pub sent: u64,
    /// The highest sequence that one of them has confirmed.
    pub confirmed: Option<u64>,
    /// Why one of them did not take what it was last sent.
    pub refusal: Option<String>,
}

/// There are too many watches already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyWatches {
    /// Of this trust domain.
    #[error(
        "this node already has {WATCHES_PER_PEER_LIMIT} watches of this trust domain, which is the most: close some, or watch at another node"
    )]
    OfPeer,
    /// Of all.
    #[error("this node already has {WATCHES_LIMIT} watches, which is the most: watch at another node")]
    OfAll,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { shared: Arc::new(Shared { open: Mutex::default(), changes: watch::Sender::new(0) }) }
    }
}

impl Watchers {
    /// Opens a watch of a trust domain; of none, when the one who asks was not asked to name one, and all those share one
    /// limit.
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, peer: Option<&TrustDomain>) -> Result<WatchGuard, TooManyWatches> {
        let number = {
            let mut open = self.shared.open.lock();
            if open.watches.len() >= WATCHES_LIMIT {
                return Err(TooManyWatches::OfAll);
            }
            let of_peer = open.watches.values().filter(|watch| watch.peer.as_ref() == peer).count();
            if of_peer >= WATCHES_PER_PEER_LIMIT {
                return Err(TooManyWatches::OfPeer);
            }
            open.last = open.last.saturating_add(1);
            let number = open.last;
            open.watches.insert(number, Watch { peer: peer.cloned(), ..Watch::default() });
            number
        };
        self.changed();
        Ok(WatchGuard { watchers: self.clone(), number })
    }

    /// How many watches are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.open.lock().watches.len()
    }

    /// What the peers that watch here have, in the order of their names; those without a name come first.
    #[must_use]
    pub fn snapshot(&self) -> Vec<WatchingPeer> {
        let mut peers: BTreeMap<Option<TrustDomain>, WatchingPeer> = BTreeMap::new();
        for watch in self.shared.open.lock().watches.values() {
            let Watch { peer, sent, confirmed, refusal } = watch;
            let told = peers.entry(peer.clone()).or_insert_with(|| WatchingPeer {
                trust_domain: peer.clone(),
                watches: 0,
                sent: 0,
                confirmed: None,
                refusal: None,
            });
            told.watches = told.watches.saturating_add(1);
            told.sent = told.sent.max(*sent);
            told.confirmed = told.confirmed.max(*confirmed);
            if refusal.is_some() {
                told.refusal.clone_from(refusal);
            }
        }
        peers.into_values().collect()
    }

    /// Whether every watch that names a trust domain has confirmed this sequence or a higher one. So it is where nobody
    /// watches.
    #[must_use]
    pub fn all_confirmed(&self, sequence: u64) -> bool {
        let is_confirmed = |watch: &Watch| watch.confirmed.is_some_and(|confirmed| confirmed >= sequence);
        self.shared.open.lock().watches.values().filter(|watch| watch.peer.is_some()).all(is_confirmed)
    }

    /// Hears of every watch that is opened, confirmed or closed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Watch)) {
        if let Some(watch) = self.shared.open.lock().watches.get_mut(&number) {
            change(watch);
        }
        self.changed();
    }

    fn changed(&self) {
        self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchers").field("open", &self.count()).finish_non_exhaustive()
    }
}

/// An open watch; dropped, it is closed.
#[derive(Debug)]
pub struct WatchGuard {
    watchers: Watchers,
    number: u64,
}

impl WatchGuard {
    /// The subscriber is being sent the bundle of this sequence.
    pub fn sent(&self, sequence: u64) {
        self.watchers.change(self.number, |watch| watch.sent = sequence);
    }

    /// The subscriber has the bundle of this sequence in force. One that it was not sent yet does not count: it would hold
    /// for a bundle that nobody knows.
    pub fn confirm(&self, sequence: u64) {
        self.watchers.change(self.number, |watch| {
            if sequence <= watch.sent {
                watch.confirmed = watch.confirmed.max(Some(sequence));
                watch.refusal = None;
            }
        });
    }

    /// The subscriber did not take the bundle that it was sent, for this reason.
    pub fn refuse(&self, reason: &str) {
        let cut = reason.get(..reason.floor_char_boundary(REFUSAL_BYTES_LIMIT)).unwrap_or_default();
        self.watchers.change(self.number, |watch| watch.refusal = Some(cut.to_owned()));
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.watchers.shared.open.lock().watches.remove(&self.number);
        self.watchers.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> TrustDomain {
        TrustDomain::new(name).unwrap()
    }

    #[test]
    fn the_highest_confirmation_of_a_peer_counts_while_its_watch_is_open() {
        let watchers = Watchers::default();
        let peer = domain("partner.example");
        let old = watchers.open(Some(&peer)).unwrap();
        let new = watchers.open(Some(&peer)).unwrap();
        old.sent(4);
        old.confirm(4);
        new.sent(5);
        assert!(!watchers.all_confirmed(0) && !watchers.all_confirmed(4));
        new.confirm(5);
        let [told] = watchers.snapshot().try_into().unwrap();
        assert_eq!((told.watches, told.sent, told.confirmed), (2, 5, Some(5)));
        assert!(watchers.all_confirmed(4) && !watchers.all_confirmed(5));
        drop(new);
        assert_eq!(watchers.snapshot()[0].confirmed, Some(4));
        drop(old);
        assert_eq!(watchers.snapshot(), []);
    }

    #[test]
    fn a_confirmation_of_what_was_not_sent_does_not_count_and_a_refusal_is_told_until_the_next_confirmation() {
        let watchers = Watchers::default();
        let guard = watchers.open(Some(&domain("a.example"))).unwrap();
        guard.sent(2);
        guard.confirm(9);
        assert_eq!(watchers.snapshot()[0].confirmed, None);
        guard.refuse(&"é".repeat(REFUSAL_BYTES_LIMIT));
        assert_eq!(watchers.snapshot()[0].refusal.as_ref().unwrap().len(), REFUSAL_BYTES_LIMIT);
        guard.confirm(2);
        assert_eq!(watchers.snapshot()[0].refusal, None);
    }

    #[test]
    fn watches_are_limited_for_each_peer_and_a_closed_one_makes_room() {
        let watchers = Watchers::default();
        let peer = domain("a.example");
        let mut open: Vec<_> = (0..WATCHES_PER_PEER_LIMIT).map(|_| watchers.open(Some(&peer)).unwrap()).collect();
        assert_eq!(watchers.open(Some(&peer)).unwrap_err(), TooManyWatches::OfPeer);
        let _other = watchers.open(Some(&domain("b.example"))).unwrap();
        let _nameless = watchers.open(None).unwrap();
        open.pop();
        watchers.open(Some(&peer)).unwrap();
    }
}
