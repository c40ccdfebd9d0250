//! The trail as others see it: where records are handed over, and who is asked whether they still can be.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_identity::{AuthorityId, EntryId, SerialNumber, SpiffeId, UnixSeconds};
use quorate_raft_consensus::{AppliedCommand, Settling, Sources, Tap, disk::Disk};
use quorate_raft_machine::{AuditIssuance, Caller};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};

use super::{
    acts,
    chain::{self, Limits},
    queue::{Item, Queue},
    reader::Reader,
    record::{Kind, Position, Record},
    walk::Head,
};
use crate::{metrics, refusal::Refusal};

/// How long an SVID waits for its record where the policy wants the record first. A sync takes milliseconds; whoever waits
/// longer is told to come again.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

/// How many callers that were not admitted are told of in one second; the others are counted into the next record. Anybody
/// who reaches a socket can be refused there as often as he likes (ATK-48).
const DENIALS_PER_SECOND: u32 = 10;

/// Whether the trail can be written, and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrailStatus {
    /// What is synced.
    pub head: Head,
    /// Bytes of all files.
    pub bytes: u64,
    /// Why nothing can be written.
    pub blocked: Option<Arc<str>>,
}

/// What a trail is kept with.
#[derive(Clone)]
pub struct AuditSettings {
    /// Where it is kept; made if it is not there.
    pub directory: PathBuf,
    /// How much of it.
    pub limits: Limits,
    /// Free bytes that records of issuance leave: what the Raft log needs is not theirs to take.
    pub floor_bytes: u64,
    /// How long after the first record that is not anchored the head is anchored: [`ANCHOR_EVERY`](super::ANCHOR_EVERY) but
    /// in tests.
    pub anchor_every: Duration,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Clock and blocking work.
    pub sources: Sources,
}

/// The trail cannot be written, so nothing is changed that should be in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the audit trail of this node cannot be written: {reason}. Nothing was changed. Make room on the disk of {}, or send \
     this to another node",
    directory.display()
)]
pub struct TrailBlocked {
    /// Why.
    pub reason: Arc<str>,
    /// Where the trail is.
    pub directory: PathBuf,
}

/// The handle. Cheap to clone; all clones are the same. A node that keeps no trail has one that forgets what it is told.
#[derive(Clone)]
pub struct Auditor {
    shared: Option<Arc<Shared>>,
}

pub(crate) struct Shared {
    pub(crate) settings: AuditSettings,
    pub(crate) queue: Queue,
    pub(crate) status: watch::Sender<TrailStatus>,
    /// Up to where the log had its records here when this process started.
    covered: Position,
    /// The last log index that was applied: what an SVID was issued from.
    applied: AtomicU64,
    /// The last log index that a writer took out of the queue.
    pub(crate) taken: AtomicU64,
    denials: Mutex<Denials>,
    /// Refusals of strangers, apart from those: a flood of the one does not hide the other.
    strangers: Mutex<Denials>,
}

/// Callers not admitted, in the present second.
#[derive(Debug, Clone, Copy)]
struct Denials {
    since: Instant,
    told: u32,
    untold: u64,
}

/// Somebody of another trust domain asked for something, and was answered or refused.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `federation.bundle`, `federation.watch`, ...
    pub what: &'static str,
    /// Who, as far as that was proved; none when it was not.
    pub who: Option<String>,
    /// The address that the call came from.
    pub from: String,
    /// Why it was refused, in one word; none when it was answered.
    pub refused: Option<&'static str>,
    /// How it proved who it is, what it was told, and what else there is to know; never a credential.
    pub detail: Vec<(&'static str, String)>,
}

/// An SVID that is about to be handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issuance<'a> {
    /// `x509.issue`, `jwt.issue`, `x509.mint`, `jwt.mint`, `x509.endpoint`.
    pub(crate) what: &'static str,
    /// Who asked, where that is not a workload by way of the Workload API.
    pub(crate) caller: Option<&'a Caller>,
    /// Whose it is.
    pub(crate) spiffe_id: &'a SpiffeId,
    /// The entry that gives it.
    pub(crate) entry_id: Option<&'a EntryId>,
    /// What it is found again by.
    pub(crate) mark: Mark<'a>,
    /// The issuing key or token key that signed it.
    pub(crate) key: &'a AuthorityId,
    /// Its end.
    pub(crate) expires_at: UnixSeconds,
}

/// What an SVID is found again by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mark<'a> {
    /// The serial number of a certificate.
    Serial(SerialNumber),
    /// The `jti` of a token.
    Jti(&'a str),
}

impl Auditor {
    /// A trail in this directory. What it has already is looked at here, so it blocks, briefly; nothing is written before
    /// the actor runs.
    #[must_use]
    pub fn new(settings: AuditSettings) -> Self {
        let covered = chain::peek(settings.disk.as_ref(), &settings.directory);
        let shared = Shared {
            settings,
            queue: Queue::new(),
            status: watch::Sender::new(TrailStatus::default()),
            covered,
            applied: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            denials: Mutex::new(Denials { since: Instant::now(), told: 0, untold: 0 }),
            strangers: Mutex::new(Denials { since: Instant::now(), told: 0, untold: 0 }),
        };
        Self { shared: Some(Arc::new(shared)) }
    }

    /// Where no trail is kept.
    #[must_use]
    pub const fn none() -> Self {
        Self { shared: None }
    }

    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// Hears what is applied; to be handed to consensus before it starts.
    #[must_use]
    pub fn tap(&self) -> Option<Arc<dyn Tap>> {
        let shared = Arc::clone(self.shared.as_ref()?);
        Some(Arc::new(AuditTap { shared }))
    }

    /// Whether an act of an operator may be proposed: its record must find room and a disk.
    ///
    /// # Errors
    /// [`TrailBlocked`]; the text says what to do.
    pub fn may_administer(&self) -> Result<(), TrailBlocked> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let reason = shared.status.borrow().blocked.clone().or_else(|| {
            shared.queue.is_half_full().then(|| Arc::from("more is waiting to be written to it than the disk takes"))
        });
        match reason {
            None => Ok(()),
            Some(reason) => Err(TrailBlocked { reason, directory: shared.settings.directory.clone() }),
        }
    }

    /// Whether an SVID may be signed, as far as its record goes: asked before, so that nothing is signed in vain.
    ///
    /// # Errors
    /// `Unavailable`, under a policy that wants the record first.
    pub(crate) fn may_issue(&self, demand: AuditIssuance) -> Result<(), Refusal> {
        if demand != AuditIssuance::Required {
            return Ok(());
        }
        let Some(shared) = &self.shared else {
            return Err(Refusal::unavailable(
                "this node keeps no audit trail, and the policy wants each SVID recorded in one",
            ));
        };
        match &shared.status.borrow().blocked {
            Some(reason) => Err(Refusal::unavailable(format!(
                "the policy wants each SVID recorded, and the audit trail cannot be written: {reason}"
            ))),
            None if !shared.queue.has_room_for_own() => Err(Refusal::unavailable(
                "the policy wants each SVID recorded, and more records are waiting than the disk takes",
            )),
            None => Ok(()),
        }
    }

    /// Records an SVID as the policy wants it. Where it wants the record first, this ends when it is on the disk.
    ///
    /// # Errors
    /// `Unavailable`, under such a policy, when it did not get there; the SVID must not be handed out then.
    pub(crate) async fn issued(&self, demand: AuditIssuance, issuance: Issuance<'_>) -> Result<(), Refusal> {
        if demand == AuditIssuance::Off {
            return Ok(());
        }
        self.may_issue(demand)?;
        let Some(shared) = &self.shared else { return Ok(()) };
        let record = Box::new(shared.issuance(issuance));
        if demand != AuditIssuance::Required {
            shared.queue.push(Item::Local { record, receipt: None });
            return Ok(());
        }
        let (receipt, written) = oneshot::channel();
        shared.queue.push(Item::Local { record, receipt: Some(receipt) });
        match timeout(RECORD_LIMIT, written).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) | Err(_) => {
                metrics::audit_withheld();
                Err(Refusal::unavailable(
                    "the SVID was not recorded in the audit trail in time, so it is not handed out",
                ))
            }
        }
    }

    /// Records an act of an operator that is no command of the log: `what` is its name, `detail` what else there is to know.
    /// Whoever calls has asked [`may_administer`](Self::may_administer) first.
    pub fn acted(&self, caller: &Caller, what: &'static str, detail: &[(&'static str, String)]) {
        let Some(shared) = &self.shared else { return };
        let mut record = Record::new(shared.settings.sources.now(), Kind::Local, what);
        record.index = Some(shared.applied.load(Ordering::Relaxed));
        record.who = Some(acts::who(&caller.identity, 0));
        record.from = Some(caller.address.clone()).filter(|address| !address.is_empty());
        record.outcome = Some("done".into());
        record = detail.iter().fold(record, |record, (name, value)| record.with(name, value));
        shared.queue.push(Item::Local { record: Box::new(record), receipt: None });
    }

    /// Records that somebody of another trust domain asked, and what came of it. Who is answered is known and limited in
    /// rate; of refusals at most ten in a second have a record each, and the next one counts the others.
    pub fn asked(&self, asked: Asked) {
        let Some(shared) = &self.shared else { return };
        let Asked { what, who, from, refused, detail } = asked;
        let Some(untold) = refused.map_or(Some(0), |_| shared.strangers.lock().tell()) else { return };
        let mut record = Record::new(shared.settings.sources.now(), Kind::Local, what);
        record.index = Some(shared.applied.load(Ordering::Relaxed));
        record.who = who.map(|who| who.get(..who.floor_char_boundary(ASKED_TEXT_LIMIT)).unwrap_or_default().to_owned());
        record.from = Some(from);
        record.outcome = Some(refused.map_or("done".into(), |reason| format!("refused:{reason}").into()));
        record = detail.into_iter().fold(record, |record, (name, value)| {
            let cut = value.get(..value.floor_char_boundary(ASKED_TEXT_LIMIT)).unwrap_or_default();
            record.with(name, cut)
        });
        if untold > 0 {
            record = record.with("others_not_told", untold);
        }
        shared.queue.push(Item::Local { record: Box::new(record), receipt: None });
    }

    /// Records that a caller was not admitted to an administrative service. At most ten in a second have a record
    /// each; the next one counts the others.
    pub fn denied(&self, caller: &Caller, method: &str) {
        let Some(shared) = &self.shared else { return };
        let Some(untold) = shared.denials.lock().tell() else { return };
        let mut record = Record::new(shared.settings.sources.now(), Kind::Local, "authorization.denied");
        record.who = Some(acts::who(&caller.identity, 0));
        record.from = Some(caller.address.clone()).filter(|address| !address.is_empty());
        record.outcome = Some("refused:permission_denied".into());
        let cut = method.get(..method.floor_char_boundary(METHOD_BYTES_LIMIT)).unwrap_or_default();
        record = record.with("method", cut);
        if untold > 0 {
            record = record.with("others_not_told", untold);
        }
        shared.queue.push(Item::Local { record: Box::new(record), receipt: None });
    }

    /// Whether the trail can be written and how far it reaches, and the changes of that; none where none is kept.
    #[must_use]
    pub fn status(&self) -> Option<watch::Receiver<TrailStatus>> {
        self.shared.as_ref().map(|shared| shared.status.subscribe())
    }

    /// What the trail is kept with; none where none is kept.
    #[must_use]
    pub fn settings(&self) -> Option<&AuditSettings> {
        self.shared.as_ref().map(|shared| &shared.settings)
    }

    /// Reads the trail from the record of this number on; none where none is kept.
    #[must_use]
    pub fn reader(&self, from: u64) -> Option<Reader> {
        let settings = self.settings()?;
        Some(Reader::new(Arc::clone(&settings.disk), settings.directory.clone(), from))
    }

    /// Waits until everything handed over before is on the disk, for a few seconds at most. Says whether it is.
    pub async fn flush(&self) -> bool {
        let Some(shared) = &self.shared else { return true };
        let (receipt, settled) = oneshot::channel();
        shared.queue.push(Item::Settle { log_index: 0, receipt });
        timeout(RECORD_LIMIT, settled).await.is_ok_and(|settled| settled.unwrap_or(false))
    }
}

impl Denials {
    /// Whether one more has a record of its own, and then how many before it had none.
    fn tell(&mut self) -> Option<u64> {
        if self.since.elapsed() >= Duration::from_secs(1) {
            (self.since, self.told) = (Instant::now(), 0);
        }
        if self.told >= DENIALS_PER_SECOND {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = self.told.saturating_add(1);
        Some(std::mem::take(&mut self.untold))
    }
}

/// Longest name and detail of a call from another trust domain that are recorded, in bytes; much of it is what strangers say
/// of themselves, or what a token says of its bearer.
const ASKED_TEXT_LIMIT: usize = 512;

/// Longest name of a method that is recorded; ours are shorter, and a caller can write what it likes.
const METHOD_BYTES_LIMIT: usize = 128;

impl std::fmt::Debug for Auditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let directory = self.settings().map(|settings| &settings.directory);
        f.debug_struct("Auditor").field("directory", &directory).finish_non_exhaustive()
    }
}

impl Shared {
    fn issuance(&self, issuance: Issuance<'_>) -> Record {
        let Issuance { what, caller, spiffe_id, entry_id, mark, key, expires_at } = issuance;
        let mut record = Record::new(self.settings.sources.now(), Kind::Issuance, what);
        record.index = Some(self.applied.load(Ordering::Relaxed));
        // A workload is whoever the entry's selectors match; the entry says which those are.
        record.who = Some(caller.map_or_else(|| "workload".to_owned(), |caller| acts::who(&caller.identity, 0)));
        record.from = caller.map(|caller| caller.address.clone()).filter(|address| !address.is_empty());
        record.spiffe_id = Some(spiffe_id.to_string());
        record.entry_id = entry_id.map(ToString::to_string);
        match mark {
            Mark::Serial(serial) => record.serial = Some(serial.to_string()),
            Mark::Jti(jti) => record.jti = Some(jti.to_owned()),
        }
        record.outcome = Some("done".into());
        record.with("key", key).with("expires_at", expires_at)
    }
}

/// What consensus tells.
struct AuditTap {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for AuditTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditTap").finish_non_exhaustive()
    }
}

impl Tap for AuditTap {
    fn applied(&self, log_index: u64, bytes: usize, commands: Vec<AppliedCommand>) {
        self.shared.applied.store(log_index, Ordering::Relaxed);
        // What a restart applies again is in the trail already, but for the entry that was being written.
        if log_index >= self.shared.covered.index {
            self.shared.queue.push(Item::Applied { log_index, bytes, commands });
        }
    }

    fn replaced(&self, log_index: u64) {
        self.shared.applied.store(log_index, Ordering::Relaxed);
        self.shared.queue.push(Item::Replaced { log_index });
    }

    fn permits(&self) -> Result<(), Arc<str>> {
        let auditor = Auditor { shared: Some(Arc::clone(&self.shared)) };
        auditor.may_administer().map_err(|blocked| blocked.to_string().into())
    }

    fn settled(&self, log_index: u64) -> Settling {
        let (receipt, settled) = oneshot::channel();
        self.shared.queue.push(Item::Settle { log_index, receipt });
        Box::pin(async move {
            // Dropped without a word, the trail was given up: there is nothing to wait for.
            let _ = settled.await;
        })
    }
}
