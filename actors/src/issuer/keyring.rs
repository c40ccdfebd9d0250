//! The issuing keys of this process: each with the list of what it signed, kept until the last certificate for it has ended,
//! because until then its CRL may have to be signed anew (CRL-06).
//!
//! The keyring outlives a restart of the actors that use it. Its keys are written nowhere: with the process they are gone,
//! which the start that their certificates name lets everybody see.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use quorate_proto_identity::{AuthorityId, PrivateKey, SerialNumber, UnixSeconds};
use quorate_raft_machine::State;
use tokio::sync::watch;

use super::serials::{LiveSerial, LiveSerials};
use crate::revocation::withdrawal::FoundLeaf;

/// An issuing key that this process made.
pub(crate) struct HeldKey {
    /// Its subject key ID.
    pub(crate) id: AuthorityId,
    /// What it signed and has not ended.
    pub(crate) serials: LiveSerials,
    key: PrivateKey,
    is_doomed: AtomicBool,
    /// What is revoked of what it signed.
    found: Mutex<BTreeMap<SerialNumber, FoundLeaf>>,
    dooms: watch::Sender<u64>,
}

impl HeldKey {
    /// The key itself.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Whether the key is to be revoked whole, so that what it signed is replaced as soon as another key signs.
    pub(crate) fn is_doomed(&self) -> bool {
        self.is_doomed.load(Ordering::Acquire)
    }

    /// Notes that the key is to be revoked whole. Says whether that is new.
    pub(crate) fn doom(&self) -> bool {
        let is_new = !self.is_doomed.swap(true, Ordering::AcqRel);
        if is_new {
            self.dooms.send_modify(|count| *count = count.wrapping_add(1));
        }
        is_new
    }

    /// Takes a certificate into the list, before it is signed.
    pub(crate) fn will_sign(&self, live: LiveSerial) {
        if self.serials.add(live) {
            tracing::error!(
                target: "quorate::security",
                authority_id = %self.id, count = self.serials.len(),
                "the list of what an issuing key signed is full: the key is replaced, and then revoked whole (CRL-06)"
            );
            self.doom();
        }
    }

    /// Notes what is revoked of what it signed.
    pub(crate) fn note_found(&self, found: impl Iterator<Item = FoundLeaf>) {
        let mut kept = self.found.lock();
        for found in found {
            kept.entry(found.serial()).or_insert(found);
        }
    }

    /// Whether a certificate of it is revoked.
    pub(crate) fn is_revoked(&self, serial: SerialNumber) -> bool {
        self.found.lock().contains_key(&serial)
    }

    /// What is revoked, has not ended and is not in the key's recorded CRL, in the order of serial numbers.
    pub(crate) fn not_recorded(&self, state: &State, now: UnixSeconds) -> Vec<FoundLeaf> {
        let mut kept = self.found.lock();
        kept.retain(|_, found| now <= found.leaf.not_after);
        if kept.is_empty() {
            return Vec::new();
        }
        let recorded: std::collections::BTreeSet<SerialNumber> =
            state.revoked_leaves_of(&self.id).map(|leaf| leaf.serial).collect();
        kept.values().filter(|found| !recorded.contains(&found.serial())).cloned().collect()
    }
}

impl fmt::Debug for HeldKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys.
#[derive(Debug)]
pub(crate) struct Keyring {
    keys: RwLock<BTreeMap<AuthorityId, Arc<HeldKey>>>,
    /// How often a key was found to be in need of replacement.
    dooms: watch::Sender<u64>,
    /// Which start of the process they belong to, drawn at random.
    pub(crate) boot: u64,
    serials_limit: usize,
}

impl Keyring {
    /// Without a key; `serials_limit` is how many certificates the list of each has.
    pub(crate) fn new(boot: u64, serials_limit: usize) -> Self {
        Self { keys: RwLock::default(), dooms: watch::Sender::new(0), boot, serials_limit }
    }

    /// Takes a new key in.
    pub(crate) fn add(&self, id: AuthorityId, key: PrivateKey) {
        let serials = LiveSerials::new(self.serials_limit);
        let held = HeldKey {
            id: id.clone(),
            serials,
            key,
            is_doomed: AtomicBool::new(false),
            found: Mutex::default(),
            dooms: self.dooms.clone(),
        };
        self.keys.write().insert(id, Arc::new(held));
    }

    /// The key with this subject key ID.
    pub(crate) fn get(&self, id: &AuthorityId) -> Option<Arc<HeldKey>> {
        self.keys.read().get(id).cloned()
    }

    /// Whether there is a key with this subject key ID.
    pub(crate) fn has(&self, id: &AuthorityId) -> bool {
        self.keys.read().contains_key(id)
    }

    /// Every key, in the order of their IDs.
    pub(crate) fn all(&self) -> Vec<Arc<HeldKey>> {
        self.keys.read().values().cloned().collect()
    }

    /// Whether what this key signed is replaced as soon as another key signs.
    pub(crate) fn is_doomed(&self, id: &AuthorityId) -> bool {
        self.keys.read().get(id).is_some_and(|held| held.is_doomed())
    }

    /// Tells when a key is found to be in need of replacement.
    pub(crate) fn dooms(&self) -> watch::Receiver<u64> {
        self.dooms.subscribe()
    }

    /// Keeps the keys that a condition picks; the others are wiped with their last user.
    pub(crate) fn retain(&self, picks: impl Fn(&HeldKey) -> bool) {
        self.keys.write().retain(|_, held| picks(held));
    }

    /// Lets go of what has ended in the lists of all keys.
    pub(crate) fn sweep(&self, now: UnixSeconds) {
        for held in self.all() {
            held.serials.sweep(now);
        }
    }

    /// Which key signed the certificate with this serial number, and what it says.
    pub(crate) fn find(&self, serial: SerialNumber) -> Option<(AuthorityId, LiveSerial)> {
        self.all().into_iter().find_map(|held| Some((held.id.clone(), held.serials.find(serial)?)))
    }
}
