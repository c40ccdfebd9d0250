//! The live serials of an issuing key: every certificate that it signed and that has not ended (CRL-06).
//!
//! What a revocation is about is found here, in memory and beside the key, and not in the ledger, which may lack rows. A
//! certificate is in the list before it is signed, so that none is handed out that a revocation would miss; it costs one
//! short lock of one of many parts, and no lock is held while anything is signed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use quorate_proto_identity::{EntryId, SerialNumber, SpiffeId, UnixSeconds};

/// How many certificates a key's list has, unless configured otherwise: at some 64 bytes each 64 MiB, and more than a node
/// signs in the life of an SVID. A list that is full has a gap, and its key is replaced and revoked whole (CRL-06).
pub(crate) const LIVE_SERIALS_LIMIT: usize = 1_000_000;

/// How many parts a list has, each with a lock of its own: more than there are threads that sign.
const SHARDS: usize = 16;

/// How long after its end a certificate stays in the list, in seconds: a verifier's clock may be behind (CRL-08).
const ENDED_KEPT: i64 = 60;

/// A certificate that a key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveSerial {
    /// Its serial number.
    pub(crate) serial: SerialNumber,
    /// Whom it names.
    pub(crate) spiffe_id: SpiffeId,
    /// The entry that it was signed for; none when it was minted.
    pub(crate) entry: Option<EntryId>,
    /// When it ends.
    pub(crate) not_after: UnixSeconds,
}

/// The list of one key.
#[derive(Debug)]
pub(crate) struct LiveSerials {
    shards: [Mutex<Vec<LiveSerial>>; SHARDS],
    count: AtomicUsize,
    limit: usize,
    has_gap: AtomicBool,
}

impl LiveSerials {
    /// An empty list with room for so many.
    pub(crate) fn new(limit: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, count: AtomicUsize::new(0), limit, has_gap: AtomicBool::new(false) }
    }

    /// Takes a certificate in, before it is signed. One that finds no room is left out, and leaves a gap: nobody waits for
    /// room, and nobody takes the list for complete any more. Says whether that was the first.
    pub(crate) fn add(&self, live: LiveSerial) -> bool {
        if self.count.fetch_add(1, Ordering::AcqRel) >= self.limit {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return !self.has_gap.swap(true, Ordering::AcqRel);
        }
        self.shard(live.serial).lock().push(live);
        false
    }

    /// Whether a certificate is missing, so that a revocation may mean one that is not found here.
    pub(crate) fn has_gap(&self) -> bool {
        self.has_gap.load(Ordering::Acquire)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Lets go of what has ended.
    pub(crate) fn sweep(&self, now: UnixSeconds) {
        let ended = now.minus(ENDED_KEPT);
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|live| live.not_after >= ended);
            self.count.fetch_sub(before.saturating_sub(shard.len()), Ordering::AcqRel);
            if shard.capacity() / 4 > shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    /// The certificates that a condition picks.
    pub(crate) fn matching(&self, mut picks: impl FnMut(&LiveSerial) -> bool) -> Vec<LiveSerial> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.lock().iter().filter(|live| picks(live)).cloned());
        }
        found
    }

    /// The certificate with this serial number.
    pub(crate) fn find(&self, serial: SerialNumber) -> Option<LiveSerial> {
        self.shard(serial).lock().iter().find(|live| live.serial == serial).cloned()
    }

    fn shard(&self, serial: SerialNumber) -> &Mutex<Vec<LiveSerial>> {
        // Serial numbers are random, so one byte of them spreads them evenly.
        let byte = serial.as_bytes().last().copied().unwrap_or_default();
        let [first, ..] = &self.shards;
        self.shards.get(usize::from(byte) % SHARDS).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn live(number: u8, not_after: i64) -> LiveSerial {
        LiveSerial {
            serial: SerialNumber::from_random([number; 16]),
            spiffe_id: SpiffeId::parse("spiffe://example.org/a").unwrap(),
            entry: None,
            not_after: NOW.plus(not_after),
        }
    }

    #[test]
    fn what_was_added_is_found_until_a_minute_after_its_end() {
        let list = LiveSerials::new(100);
        for number in 0..100 {
            assert!(!list.add(live(number, i64::from(number))));
        }
        assert_eq!(list.find(live(7, 7).serial), Some(live(7, 7)));
        assert_eq!(list.matching(|live| live.not_after < NOW.plus(3)).len(), 3);
        list.sweep(NOW.plus(50 + ENDED_KEPT));
        assert_eq!((list.len(), list.matching(|_| true).len()), (50, 50));
        assert_eq!(list.find(live(49, 49).serial), None);
        assert!(!list.has_gap());
    }

    #[test]
    fn crl_06_a_list_that_is_full_says_so_once_and_for_all() {
        let list = LiveSerials::new(2);
        assert!(!list.add(live(1, 1)) && !list.add(live(2, 2)));
        assert!(list.add(live(3, 3)), "the first that is left out");
        assert!(!list.add(live(4, 4)));
        list.sweep(NOW.plus(1000));
        assert!(list.has_gap() && list.len() == 0, "room comes back, and what was left out does not");
    }

    #[test]
    fn many_threads_add_at_once_and_none_is_lost() {
        let list = LiveSerials::new(10_000);
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let list = &list;
                scope.spawn(move || {
                    for number in 0..=255_u8 {
                        let mut serial = [thread; 16];
                        serial[15] = number;
                        list.add(LiveSerial { serial: SerialNumber::from_random(serial), ..live(0, 10) });
                    }
                });
            }
        });
        assert_eq!((list.len(), list.matching(|_| true).len()), (2048, 2048));
    }
}
