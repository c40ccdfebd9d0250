//! The X509-SVIDs of this node: one for each entry in use, made when first wanted, shared by all who want it.
//!
//! A thousand callers that want the same SVID at once make one key: the first makes it, the others wait for that one.
//! No lock is held while anything is signed.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quorate_proto_identity::{AuthorityId, EntryId, SerialNumber, UnixMillis};
use quorate_raft_consensus::sources::Sources;
use quorate_raft_machine::{Policy, entry::Entry};
use tokio::sync::OnceCell;

use super::{
    lease::Lease,
    svid::{EntryVersion, IssueError, Svid, issue, x509_ttl},
};
use crate::{
    audit::{Auditor, Issuance, Mark},
    ledger::{Issued, IssuedId, Ledger},
    metrics,
    sources::KeySource,
};

/// How many parts the map has, each with a lock of its own: far more than there are threads.
const SHARDS: usize = 32;

/// How long an SVID that nobody holds is kept, in milliseconds: longer than a client takes to reconnect.
const UNUSED_KEPT_MILLIS: i64 = 10 * 60 * 1000;

/// How many SVIDs are kept in all. Those that sessions hold are bounded by the sessions; this bounds what callers who
/// come and go leave behind. An SVID with its key takes about 2 KiB.
const KEPT_LIMIT: usize = 100_000;

/// The cache, and what signs.
pub(crate) struct Svids {
    shards: [Mutex<HashMap<EntryId, Arc<Flight>>>; SHARDS],
    sources: Sources,
    keys: Arc<dyn KeySource>,
    ledger: Ledger,
    audit: Auditor,
    withdrawals: AtomicU64,
}

/// One SVID, being made or made.
struct Flight {
    version: EntryVersion,
    svid: OnceCell<Arc<Svid>>,
    used_at: AtomicI64,
}

impl Flight {
    /// Whether whoever wants the SVID of this version now may have this one. One that is still being made is as new
    /// as any.
    fn serves(
        &self,
        version: &EntryVersion,
        now: UnixMillis,
        lease: &Lease,
        ttl: u32,
        replaced: &Replaced<'_>,
    ) -> bool {
        self.version == *version && self.svid.get().is_none_or(|svid| !svid.is_due(now, lease, ttl) && !replaced(svid))
    }
}

/// Whether an SVID is replaced at once: its root is tainted or has left the bundle, or its issuing key is revoked or about
/// to be.
pub(crate) type Replaced<'a> = dyn Fn(&Svid) -> bool + Send + Sync + 'a;

impl Svids {
    pub(crate) fn new(sources: Sources, keys: Arc<dyn KeySource>, ledger: Ledger, audit: Auditor) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, sources, keys, ledger, audit, withdrawals: AtomicU64::new(0) }
    }

    /// The SVID of an entry: the one that is there, or a new one where there is none or its time has come.
    pub(crate) async fn get(
        &self,
        entry: &Arc<Entry>,
        lease: &Arc<Lease>,
        policy: &Policy,
        replaced: &Replaced<'_>,
    ) -> Result<Arc<Svid>, IssueError> {
        let now = self.sources.now();
        let version = EntryVersion::of(entry);
        let ttl = x509_ttl(entry, policy);
        let flight = {
            let mut shard = self.shard(&entry.id).lock();
            match shard.get(&entry.id) {
                Some(flight) if flight.serves(&version, now, lease, ttl, replaced) => Arc::clone(flight),
                Some(_) | None => {
                    let flight = Arc::new(Flight { version, svid: OnceCell::new(), used_at: AtomicI64::new(0) });
                    shard.insert(entry.id.clone(), Arc::clone(&flight));
                    flight
                }
            }
        };
        flight.used_at.store(now.0, Ordering::Relaxed);
        if let Some(svid) = flight.svid.get() {
            return Ok(Arc::clone(svid));
        }
        // A failure is not kept: the next caller tries again.
        let svid = flight.svid.get_or_try_init(|| self.make(entry, lease, policy)).await?;
        Ok(Arc::clone(svid))
    }

    async fn make(&self, entry: &Arc<Entry>, lease: &Arc<Lease>, policy: &Policy) -> Result<Arc<Svid>, IssueError> {
        self.audit.may_issue(policy.audit_issuance)?;
        let svid = issue(&self.sources, &self.keys, lease, entry, policy).await?;
        let issuance = Issuance {
            what: "x509.issue",
            caller: None,
            spiffe_id: &entry.spiffe_id,
            entry_id: Some(&entry.id),
            mark: Mark::Serial(svid.serial),
            key: &svid.issuing_key,
            expires_at: svid.granted.validity.not_after(),
        };
        self.audit.issued(policy.audit_issuance, issuance).await?;
        metrics::issued("x509", "workload");
        self.ledger.record(Issued {
            id: IssuedId::Serial(svid.serial),
            spiffe_id: entry.spiffe_id.clone(),
            entry: Some(entry.id.clone()),
            issued_at: svid.granted.issued_at.seconds(),
            not_after: svid.granted.validity.not_after(),
            issuing_key: svid.issuing_key.clone(),
        });
        tracing::debug!(
            target: "quorate::security",
            entry_id = %entry.id, spiffe_id = %entry.spiffe_id, serial = %svid.serial,
            "an X509-SVID was signed"
        );
        Ok(Arc::new(svid))
    }

    /// Forgets an entry's SVID: the entry is gone.
    pub(crate) fn forget(&self, id: &EntryId) {
        self.shard(id).lock().remove(id);
    }

    /// Forgets what an issuing certificate has signed, because it was revoked: nobody is given that any more.
    pub(crate) fn withdraw(&self, key_id: &AuthorityId, serial: SerialNumber) {
        // First the number: whoever puts an answer together now must see that it may hold what is forgotten.
        self.withdrawals.fetch_add(1, Ordering::AcqRel);
        let of_another = |svid: &Arc<Svid>| svid.issuing_serial != serial || svid.issuing_key != *key_id;
        for shard in &self.shards {
            // What is still being made may be made with it.
            shard.lock().retain(|_, flight| flight.svid.get().is_some_and(of_another));
        }
    }

    /// Forgets SVIDs that were revoked, and what is being made at this moment, which may be one of them.
    pub(crate) fn withdraw_serials(&self, serials: &BTreeSet<SerialNumber>) {
        for shard in &self.shards {
            shard.lock().retain(|_, flight| flight.svid.get().is_some_and(|svid| !serials.contains(&svid.serial)));
        }
        // Last the number: whoever has taken one of them by now has read it before, and sees that it has changed. Nobody
        // takes one after this.
        self.withdrawals.fetch_add(1, Ordering::AcqRel);
    }

    /// How often SVIDs were withdrawn. An answer that was made at another count may hold one of them.
    pub(crate) fn withdrawals(&self) -> u64 {
        self.withdrawals.load(Ordering::Acquire)
    }

    /// Lets go of what nobody holds and has not been wanted for long, or has expired.
    pub(crate) fn sweep(&self) {
        let now = self.sources.now();
        let mut left = 0_usize;
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, flight| keep(flight, now));
            if shard.len() > KEPT_LIMIT / SHARDS {
                // Too many: whatever no answer holds goes.
                shard.retain(|_, flight| is_held(flight));
            }
            left = left.saturating_add(shard.len());
        }
        metrics::cached_svids(left);
    }

    fn shard(&self, id: &EntryId) -> &Mutex<HashMap<EntryId, Arc<Flight>>> {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let index = usize::try_from(hasher.finish()).unwrap_or_default() % SHARDS;
        let [first, ..] = &self.shards;
        self.shards.get(index).unwrap_or(first)
    }
}

fn is_held(flight: &Arc<Flight>) -> bool {
    Arc::strong_count(flight) > 1 || flight.svid.get().is_some_and(|svid| Arc::strong_count(svid) > 1)
}

fn keep(flight: &Arc<Flight>, now: UnixMillis) -> bool {
    let expired = flight.svid.get().is_some_and(|svid| now.seconds() > svid.granted.validity.not_after());
    let unused = now.since(UnixMillis(flight.used_at.load(Ordering::Relaxed))) > UNUSED_KEPT_MILLIS;
    !expired && (is_held(flight) || !unused)
}
