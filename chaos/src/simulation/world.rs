//! What all of a run share: virtual time, disks, the handles of nodes that are up, the history, the trace, and what was
//! found broken.

use super::trace::Trace;
use crate::history::{History, Kind, Line, Op};
use quorate_actors::IssuanceStatus;
use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::{Contact, Handle, Role};
use quorate_raft_machine::StateHash;
use quorate_raft_store::disk::SimulatedDisk;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How long contact must still last for a member to count as connected: hosts of one step are up to two steps apart.
const CONTACT_MARGIN: Duration = Duration::from_millis(10);

/// How long after a leap a node's calls may still fail of it.
const LEAP_IS_FELT: Duration = Duration::from_secs(1);

/// How long after a leap nobody's contact is judged: the longest leap, and the limit of contact.
const CLOCKS_ARE_APART: Duration = Duration::from_millis(2_600);

/// When runs take place, in milliseconds since 1970.
const EPOCH_MILLIS: i64 = 1_800_000_000_000;

/// The root of each simulated disk.
pub(crate) const DISK_ROOT: &str = "/disk";

/// The most promises that a run reports as broken: the first are what matters.
const BROKEN_LIMIT: usize = 20;

/// What the clients of a run do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The cluster is being put together; nobody asks anything.
    Beginning,
    /// Clients ask, and faults happen.
    Faults,
    /// Clients ask, and everything is mended.
    Healing,
    /// Clients stop; what is under way comes to its end.
    Ending,
}

/// What took effect in a run, and what succeeded. A run in which little did proves nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// How often each fault took effect, by its name.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Writes that were acknowledged while faults happened.
    pub(crate) writes: u64,
    /// Linearizable reads that were answered while faults happened.
    pub(crate) reads: u64,
    /// Writes whose outcome was not known and that were repeated under their origin.
    pub(crate) repeats: u64,
    /// Writes whose outcome stayed unknown.
    pub(crate) unknown: u64,
    /// How often a node came to lead.
    pub(crate) terms: u64,
    /// Snapshots written or installed.
    pub(crate) snapshots: u64,
    /// State hashes that two members or more had at one index.
    pub(crate) hashes_compared: u64,
    /// Withdrawals after which every connected member was looked at.
    pub(crate) withdrawals: u64,
    /// Calls of the Workload API that were answered.
    pub(crate) calls: u64,
    /// SVIDs handed out.
    pub(crate) svids: u64,
    /// Authorities that began to sign after the founding.
    pub(crate) activations: u64,
    /// Steps in the life of authorities that operators took.
    pub(crate) steps: u64,
}

/// A node as the world has it.
pub(crate) struct Place {
    /// Its disk, as its present boot sees it.
    pub(crate) disk: SimulatedDisk,
    /// How often it was started.
    pub(crate) boot: u64,
    /// Its member number, once it has one.
    pub(crate) number: Option<u64>,
    /// Consensus, while it is up.
    pub(crate) handle: Option<Handle>,
    /// How far its clock is ahead of the world's, in milliseconds.
    pub(crate) clock_millis: i64,
    /// The last index of its log when it was last looked at.
    pub(crate) last_log_index: u64,
    /// The index that was applied when it was last looked at, in this boot.
    pub(crate) applied_index: u64,
    /// The sequence number of its bundle then.
    pub(crate) sequence: u64,
    /// Whether consensus may end on it, since its disk was made to fail.
    pub(crate) may_stop: bool,
    /// Whether its disk may have lost what it said was synced.
    pub(crate) lied: bool,
    /// The last vote that it granted to another: term and member.
    granted: Option<(u64, u64)>,
    /// Whether it wrote and read after the healing.
    pub(crate) recovered: bool,
    /// Whether it may sign, while it is up.
    issuance: Option<watch::Receiver<IssuanceStatus>>,
    /// When its monotonic clock leapt last, in nanoseconds of virtual time.
    leapt_ns: Option<u64>,
    /// An instant of its own monotonic clock, and the virtual time then.
    anchor: Option<(Instant, u64)>,
    /// Where its boot is told to let time leap.
    leaps: Option<mpsc::UnboundedSender<Duration>>,
}

/// The world of one run.
pub(crate) struct World {
    seed: u64,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    /// Virtual time at the beginning of this step, in nanoseconds.
    now_ns: u64,
    /// Orders what happens within a step.
    sequence: u64,
    pub(crate) phase: Phase,
    /// Whether writers begin nothing for a moment.
    pub(crate) writers_pause: bool,
    pub(crate) places: Vec<Place>,
    history: History,
    next_process: u64,
    trace: Trace,
    broken: Vec<String>,
    pub(crate) counts: Counts,
    /// Who led: term and member, with the boot that did.
    leaders: BTreeMap<(u64, usize), u64>,
    /// The state hash at an index, and who had it first.
    hashes: BTreeMap<u64, (StateHash, usize)>,
    /// Entries that were acknowledged and that nobody ever changes.
    kept: BTreeMap<String, i64>,
    /// SPIFFE IDs whose entries are gone for ever, by acknowledgement.
    gone: BTreeSet<String>,
    /// Time that has passed for everybody at once, in milliseconds: the clocks show it, no timer does.
    passed_millis: i64,
    /// Authorities that are tainted, by acknowledgement.
    tainted: BTreeSet<String>,
    /// Authorities that somebody has asked to be tainted, revoked, or replaced as compromised.
    condemned: BTreeSet<String>,
    /// Serial numbers of certificates, with the certificate that has each.
    serials: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Token keys that signed, by their IDs.
    token_keys: BTreeSet<String>,
    /// Votes that were granted in this step: who, and to which member.
    pub(crate) grants: Vec<(usize, u64)>,
}

impl World {
    /// A world of so many nodes, with empty disks.
    pub(crate) fn new(seed: u64, nodes: usize, keep_trace: bool) -> Self {
        let place = |_| Place {
            disk: SimulatedDisk::new(DISK_ROOT),
            boot: 0,
            number: None,
            handle: None,
            clock_millis: 0,
            last_log_index: 0,
            applied_index: 0,
            sequence: 0,
            may_stop: false,
            lied: false,
            granted: None,
            recovered: false,
            issuance: None,
            leapt_ns: None,
            anchor: None,
            leaps: None,
        };
        Self {
            seed,
            inner: Mutex::new(Inner {
                now_ns: 0,
                sequence: 0,
                phase: Phase::Beginning,
                writers_pause: false,
                places: (0..nodes).map(place).collect(),
                history: History::default(),
                next_process: 1,
                trace: Trace::new(keep_trace),
                broken: Vec::new(),
                counts: Counts::default(),
                leaders: BTreeMap::new(),
                hashes: BTreeMap::new(),
                kept: BTreeMap::new(),
                gone: BTreeSet::new(),
                passed_millis: 0,
                tainted: BTreeSet::new(),
                condemned: BTreeSet::new(),
                serials: BTreeMap::new(),
                token_keys: BTreeSet::new(),
                grants: Vec::new(),
            }),
        }
    }

    /// The seed of the run.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The world, for as long as nobody waits.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step begins at this virtual time.
    pub(crate) fn step_begins(&self, elapsed: Duration) {
        let mut inner = self.lock();
        inner.now_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        inner.sequence = 0;
    }

    /// What the clients do now.
    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// What a node's clock shows.
    pub(crate) fn wall_clock(&self, node: usize) -> UnixMillis {
        let ahead = self.lock().places.get(node).map_or(0, |place| place.clock_millis);
        self.true_time().plus(ahead)
    }

    /// What a clock that is right shows.
    pub(crate) fn true_time(&self) -> UnixMillis {
        let inner = self.lock();
        let elapsed = i64::try_from(inner.now_ns / 1_000_000).unwrap_or(i64::MAX);
        UnixMillis(EPOCH_MILLIS + inner.passed_millis + elapsed)
    }

    /// So much time has passed for everybody, at once.
    pub(crate) fn time_passes(&self, millis: i64) {
        self.lock().passed_millis += millis;
    }

    /// A node starts: which boot it is, and the disk that it finds.
    pub(crate) fn boots(&self, node: usize) -> Option<(u64, SimulatedDisk)> {
        let mut inner = self.lock();
        let place = inner.places.get_mut(node)?;
        place.boot += 1;
        place.applied_index = 0;
        place.sequence = 0;
        let found = (place.boot, place.disk.clone());
        let boot = place.boot;
        inner.trace_line(Some(node), &format!("boots for the time {boot}"));
        Some(found)
    }

    /// Consensus of a node is up. Told from within the node.
    pub(crate) fn is_up(&self, node: usize, handle: Handle) {
        let mut inner = self.lock();
        let now_ns = inner.now_ns;
        if let Some(place) = inner.places.get_mut(node) {
            place.handle = Some(handle);
            place.anchor = Some((Instant::now(), now_ns));
        }
    }

    /// The actors of a node are up, and say whether it may sign.
    pub(crate) fn has_actors(&self, node: usize, issuance: watch::Receiver<IssuanceStatus>) {
        if let Some(place) = self.lock().places.get_mut(node) {
            place.issuance = Some(issuance);
        }
    }

    /// Nodes that are up and may sign.
    pub(crate) fn serving(&self) -> Vec<(usize, Handle)> {
        let inner = self.lock();
        let may_sign = |place: &Place| {
            let issuance = place.issuance.as_ref()?;
            matches!(*issuance.borrow(), IssuanceStatus::Ready { .. }).then(|| place.handle.clone())?
        };
        inner.places.iter().enumerate().filter_map(|(node, place)| Some((node, may_sign(place)?))).collect()
    }

    /// Whether nothing is done to the node itself: its clock is right, its disk works, its time did not leap of late.
    pub(crate) fn is_undisturbed(&self, node: usize) -> bool {
        let inner = self.lock();
        inner.places.get(node).is_some_and(|place| {
            let leapt =
                place.leapt_ns.is_some_and(|at| inner.now_ns.saturating_sub(at) < LEAP_IS_FELT.as_nanos() as u64);
            place.clock_millis == 0 && !place.may_stop && !leapt
        })
    }

    /// How much time has passed for everybody at once, in milliseconds.
    pub(crate) fn passed_millis(&self) -> i64 {
        self.lock().passed_millis
    }

    /// An entry is gone for ever, by acknowledgement.
    pub(crate) fn is_gone(&self, spiffe_id: String) {
        self.lock().gone.insert(spiffe_id);
    }

    /// SPIFFE IDs whose entries are gone for ever.
    pub(crate) fn all_gone(&self) -> BTreeSet<String> {
        self.lock().gone.clone()
    }

    /// An authority is tainted, by acknowledgement.
    pub(crate) fn is_tainted(&self, id: String) {
        self.lock().tainted.insert(id);
    }

    /// Authorities that are tainted, by acknowledgement.
    pub(crate) fn all_tainted(&self) -> BTreeSet<String> {
        self.lock().tainted.clone()
    }

    /// Somebody asks for an authority to be tainted, revoked, or replaced as compromised.
    pub(crate) fn is_condemned(&self, id: String) {
        self.lock().condemned.insert(id);
    }

    /// Whether anybody has.
    pub(crate) fn was_condemned(&self, id: &str) -> bool {
        self.lock().condemned.contains(id)
    }

    /// A certificate was handed out: no other one has its serial number (INV-09).
    pub(crate) fn has_serial(&self, serial: &[u8], der: &[u8]) {
        let mut inner = self.lock();
        let known = inner.serials.entry(serial.to_vec()).or_insert_with(|| der.to_vec());
        if known != der {
            inner.broken_line(format!("INV-09: two certificates have the serial number {serial:02x?}"));
        }
    }

    /// A token key signs on some node.
    pub(crate) fn token_key_signs(&self, id: String) {
        let mut inner = self.lock();
        if inner.token_keys.insert(id.clone()) {
            inner.counts.activations += 1;
            inner.trace_line(None, &format!("token key {id} signs"));
        }
    }

    /// The node wrote and read after the healing.
    pub(crate) fn has_recovered(&self, node: usize) {
        let mut inner = self.lock();
        if let Some(place) = inner.places.get_mut(node) {
            place.recovered = true;
        }
        inner.trace_line(Some(node), "has recovered");
    }

    /// Whether a member knows itself to be connected, and will for a moment yet.
    pub(crate) fn is_connected(&self, node: usize, handle: &Handle) -> bool {
        let Contact::Connected { until } = *handle.contact().borrow() else { return false };
        let inner = self.lock();
        // Contact is measured by two monotonic clocks, which do not run apart like that: a process that was stopped finds
        // that time has passed for the others too.
        let apart = |place: &Place| {
            place.leapt_ns.is_some_and(|at| Duration::from_nanos(inner.now_ns.saturating_sub(at)) < CLOCKS_ARE_APART)
        };
        if inner.places.iter().any(apart) {
            return false;
        }
        let anchor = inner.places.get(node).and_then(|place| place.anchor);
        anchor.is_some_and(|(instant, then_ns)| {
            let since = Duration::from_nanos(inner.now_ns.saturating_sub(then_ns));
            until > instant + since + CONTACT_MARGIN
        })
    }

    /// Lets the monotonic clock of a node leap. Says whether there is one to.
    pub(crate) fn leap(&self, node: usize, by: Duration) -> bool {
        let inner = self.lock();
        let leaps = inner.places.get(node).and_then(|place| place.leaps.as_ref());
        leaps.is_some_and(|leaps| leaps.send(by).is_ok())
    }

    /// Where a boot hears of its leaps.
    pub(crate) fn hear_leaps(&self, node: usize) -> mpsc::UnboundedReceiver<Duration> {
        let (sender, receiver) = mpsc::unbounded_channel();
        if let Some(place) = self.lock().places.get_mut(node) {
            place.leaps = Some(sender);
        }
        receiver
    }

    /// The clock of a node has leapt.
    pub(crate) fn has_leapt(&self, node: usize, by: Duration) {
        let mut inner = self.lock();
        let now_ns = inner.now_ns;
        if let Some(place) = inner.places.get_mut(node) {
            place.leapt_ns = Some(now_ns);
            if let Some((instant, _)) = &mut place.anchor {
                *instant += by;
            }
        }
    }

    /// A node goes down: its handle is nobody's any more but the caller's, who drops it when the node is gone.
    pub(crate) fn goes_down(&self, node: usize) -> Option<Handle> {
        let mut inner = self.lock();
        let place = inner.places.get_mut(node)?;
        place.leaps = None;
        place.anchor = None;
        place.issuance = None;
        place.handle.take()
    }

    /// The handles of all nodes that are up.
    pub(crate) fn handles(&self) -> Vec<(usize, Handle)> {
        let inner = self.lock();
        let up = inner.places.iter().enumerate();
        up.filter_map(|(node, place)| Some((node, place.handle.clone()?))).collect()
    }

    /// A promise was broken.
    pub(crate) fn broken(&self, what: String) {
        self.lock().broken_line(what);
    }

    /// Which promises were broken so far.
    pub(crate) fn all_broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    /// Adds a line to the trace.
    pub(crate) fn trace(&self, node: Option<usize>, what: &str) {
        self.lock().trace_line(node, what);
    }

    /// A fault took effect.
    pub(crate) fn fault(&self, name: &'static str, what: &str) {
        let mut inner = self.lock();
        *inner.counts.faults.entry(name).or_default() += 1;
        inner.trace_line(None, &format!("fault {name} {what}"));
    }

    /// A new process for the history.
    pub(crate) fn new_process(&self) -> u64 {
        let mut inner = self.lock();
        let process = inner.next_process;
        inner.next_process += 1;
        process
    }

    /// Adds a line to the history, and to the trace.
    pub(crate) fn record(&self, process: u64, kind: Kind, op: Op, key: &str, value: Option<i64>, refused: bool) {
        let mut inner = self.lock();
        let time_ns = inner.stamp();
        inner.trace_at(time_ns, None, &format!("process {process} {kind:?} {op:?} {key} {value:?} {refused}"));
        inner.history.push(Line { process, kind, op, key: key.to_owned(), value, refused, time_ns });
    }

    /// Looks at the history.
    pub(crate) fn with_history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock().history)
    }

    /// An entry that nobody will ever change was acknowledged.
    pub(crate) fn keeps(&self, key: String, mark: i64) {
        self.lock().kept.insert(key, mark);
    }

    /// Entries that must be there for ever.
    pub(crate) fn kept(&self) -> BTreeMap<String, i64> {
        self.lock().kept.clone()
    }

    /// A node's role changed. Each leader ID, a term and a member, is one boot's alone (INV-04): a leader that comes back
    /// must win again (ELE-03).
    pub(crate) fn role_changed(&self, node: usize, boot: u64, role: &Role) {
        let mut inner = self.lock();
        inner.trace_line(Some(node), &format!("is {role}"));
        match role {
            Role::Leader { term } => {
                let before = inner.leaders.insert((*term, node), boot);
                if before.is_none() {
                    inner.counts.terms += 1;
                }
                if let Some(before) = before.filter(|before| *before != boot) {
                    inner.broken_line(format!(
                        "INV-04: node {node} leads in term {term} as boot {boot}, and did as boot {before}"
                    ));
                }
            }
            Role::Stopped { reason } => {
                let expected = inner.places.get(node).is_some_and(|place| place.may_stop);
                if !expected {
                    inner.broken_line(format!("node {node}: consensus ended though its disk works: {reason}"));
                }
            }
            Role::Unfounded | Role::Learner { .. } | Role::Follower { .. } | Role::Candidate => {}
        }
    }

    /// A voter granted its vote: never a lower one than before, whatever became of its disk (INV-04).
    pub(crate) fn granted_vote(&self, node: usize, term: u64, member: u64) {
        let mut inner = self.lock();
        inner.trace_line(Some(node), &format!("grants {member} its vote of term {term}"));
        inner.grants.push((node, member));
        let Some(place) = inner.places.get_mut(node) else { return };
        let before = place.granted.replace((term, member));
        let may_forget = place.lied;
        if let Some(before) = before.filter(|before| *before > (term, member) && !may_forget) {
            inner.broken_line(format!(
                "INV-04: node {node} granted member {member} its vote of term {term}, after member {} in term {}",
                before.1, before.0
            ));
        }
    }

    /// A snapshot was written or installed.
    pub(crate) fn snapshot_taken(&self, node: usize, log_index: u64) {
        let mut inner = self.lock();
        inner.counts.snapshots += 1;
        inner.trace_line(Some(node), &format!("snapshot {log_index}"));
    }

    /// A member has this hash at this index: the others that were there had the same (INV-03).
    pub(crate) fn has_hash(&self, node: usize, index: u64, hash: StateHash) {
        let mut inner = self.lock();
        match inner.hashes.get(&index).copied() {
            None => {
                inner.hashes.insert(index, (hash, node));
            }
            Some((_, first)) if first == node => {}
            Some((known, _)) if known == hash => inner.counts.hashes_compared += 1,
            Some((known, first)) => inner.broken_line(format!(
                "INV-03: at index {index} node {node} has state hash {hash}, node {first} has {known}"
            )),
        }
    }

    /// The trace's hash and count.
    pub(crate) fn fingerprint(&self) -> String {
        self.lock().trace.fingerprint()
    }

    /// Writes the trace to a file, and the history beside it.
    ///
    /// # Errors
    /// As the file system says.
    pub(crate) fn write_trace(&self, path: &Path) -> std::io::Result<()> {
        let inner = self.lock();
        inner.trace.write_to(path)?;
        inner.history.write_to(std::io::BufWriter::new(std::fs::File::create(path.with_extension("jsonl"))?))
    }
}

impl Inner {
    /// The time of what happens now: later than everything before.
    fn stamp(&mut self) -> u64 {
        self.sequence += 1;
        self.now_ns + self.sequence
    }

    fn trace_line(&mut self, node: Option<usize>, what: &str) {
        let time_ns = self.stamp();
        self.trace_at(time_ns, node, what);
    }

    fn trace_at(&mut self, time_ns: u64, node: Option<usize>, what: &str) {
        let (millis, rest) = (time_ns / 1_000_000, time_ns % 1_000_000);
        let line = match node {
            Some(node) => format!("{millis:>6}.{rest:06} node {node} {what}"),
            None => format!("{millis:>6}.{rest:06} {what}"),
        };
        self.trace.push(line);
    }

    fn broken_line(&mut self, what: String) {
        self.trace_line(None, &format!("BROKEN {what}"));
        if self.broken.len() < BROKEN_LIMIT {
            self.broken.push(what);
        }
    }
}
