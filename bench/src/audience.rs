//! Many open streams of X509-SVIDs, and what has reached them.
//!
//! ```text
//!   stream ──► its task: what does this message carry? ──┐
//!   stream ──► its task ─────────────────────────────────┼──► Audience: a goal, and how many streams have reached it
//!   stream ──► its task ─────────────────────────────────┘      each stream's counts since the goal was set
//! ```
//!
//! A message is a complete state, so a stream is at the goal or not by the last one that it got. Roots and issuing
//! certificates are the same bytes in thousands of messages: each is read once and known again by them.

use crate::clients::{Workload, next};
use crate::trouble::Trouble;
use bytes::Bytes;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{AuthorityId, Certificate};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What every stream is to have.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// This root among those that it trusts.
    Trusts(AuthorityId),
    /// This root no more.
    Distrusts(AuthorityId),
    /// All of its SVIDs under this root.
    IsUnder(AuthorityId),
    /// A complete set of CRLs in which all of these serial numbers are.
    Lists(Arc<[Vec<u8>]>),
}

/// All streams, read by tasks of their own that end with this.
pub(crate) struct Audience {
    hall: Arc<Hall>,
    tasks: JoinSet<()>,
}

/// What the tasks share.
struct Hall {
    goal: RwLock<Option<Goal>>,
    streams: Mutex<Vec<Arc<Mutex<Seen>>>>,
    progress: Mutex<Progress>,
    changed: Notify,
    known: Known,
}

#[derive(Default)]
struct Progress {
    at_goal: usize,
    /// When each stream was there, in the order of their coming.
    times: Vec<Instant>,
    /// Why a stream ended; none should.
    ended: Option<String>,
}

/// What one stream has seen.
#[derive(Default)]
struct Seen {
    at_goal: bool,
    messages: u64,
    roots: Arc<[AuthorityId]>,
    crls: Vec<Bytes>,
    svids: BTreeMap<u64, Svid>,
}

/// One SVID of a stream.
struct Svid {
    leaf: u64,
    under: AuthorityId,
    changes: u64,
}

/// What the streams saw since the goal was set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Streams that are open.
    pub(crate) streams: usize,
    /// SVIDs that they have, each stream's counted.
    pub(crate) svids: usize,
    /// Messages to all of them.
    pub(crate) messages: u64,
    /// Most messages to one of them.
    pub(crate) most_messages: u64,
    /// How often SVIDs changed, all together.
    pub(crate) changes: u64,
    /// How often that SVID changed that changed most often in one stream.
    pub(crate) most_changes: u64,
}

impl Audience {
    /// No stream yet.
    pub(crate) fn new() -> Self {
        let hall = Hall {
            goal: RwLock::default(),
            streams: Mutex::default(),
            progress: Mutex::default(),
            changed: Notify::new(),
            known: Known::default(),
        };
        Self { hall: Arc::new(hall), tasks: JoinSet::new() }
    }

    /// Opens a stream and takes its first message.
    pub(crate) async fn admit(&mut self, mut client: Workload) -> Result<(), Trouble> {
        let mut stream = client.open().await?;
        let first = next(&mut stream).await?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        self.hall.take(&seen, &first)?;
        lock(&self.hall.streams).push(Arc::clone(&seen));
        let hall = Arc::clone(&self.hall);
        self.tasks.spawn(async move {
            // The connection lives as long as its client.
            let _client = client;
            loop {
                let taken = match next(&mut stream).await {
                    Ok(message) => hall.take(&seen, &message),
                    Err(trouble) => Err(trouble),
                };
                if let Err(trouble) = taken {
                    return hall.end(&trouble);
                }
            }
        });
        Ok(())
    }

    /// Sets a goal. All counts begin anew; streams that are there already count as such from this instant.
    pub(crate) fn aim(&self, goal: Goal) {
        // Messages wait for this lock, so that each belongs to one goal.
        let mut current = self.hall.goal.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut progress = lock(&self.hall.progress);
        progress.at_goal = 0;
        progress.times.clear();
        for seen in lock(&self.hall.streams).iter() {
            let mut seen = lock(seen);
            seen.messages = 0;
            seen.svids.values_mut().for_each(|svid| svid.changes = 0);
            seen.at_goal = seen.is_at(&goal);
            if seen.at_goal {
                progress.at_goal += 1;
                progress.times.push(now);
            }
        }
        *current = Some(goal);
    }

    /// Waits until every stream is at the goal; tells when each was, the last one last.
    pub(crate) async fn reached(&self, limit: Duration) -> Result<Vec<Instant>, Trouble> {
        let all = lock(&self.hall.streams).len();
        let reached = async {
            loop {
                let changed = self.hall.changed.notified();
                {
                    let progress = lock(&self.hall.progress);
                    if let Some(ended) = &progress.ended {
                        return Err(Trouble::Unexpected(format!("a stream ended: {ended}")));
                    }
                    if progress.at_goal >= all {
                        return Ok(progress.times.clone());
                    }
                }
                changed.await;
            }
        };
        let late = |_| {
            let (there, goal) = (lock(&self.hall.progress).at_goal, self.hall.goal.read());
            let goal = goal.unwrap_or_else(PoisonError::into_inner);
            Err(Trouble::Unexpected(format!("{there} of {all} streams are there after {limit:?}: {goal:?}")))
        };
        timeout(limit, reached).await.unwrap_or_else(late)
    }

    /// What was seen since the goal was set.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for seen in lock(&self.hall.streams).iter() {
            let seen = lock(seen);
            counts.streams += 1;
            counts.svids += seen.svids.len();
            counts.messages += seen.messages;
            counts.most_messages = counts.most_messages.max(seen.messages);
            for svid in seen.svids.values() {
                counts.changes += svid.changes;
                counts.most_changes = counts.most_changes.max(svid.changes);
            }
        }
        counts
    }
}

impl Hall {
    /// Notes what a message carries.
    fn take(&self, seen: &Mutex<Seen>, message: &X509svidResponse) -> Result<(), Trouble> {
        let goal = self.goal.read().unwrap_or_else(PoisonError::into_inner);
        let arrived = {
            let mut seen = lock(seen);
            seen.take(message, &self.known)?;
            let arrived = !seen.at_goal && goal.as_ref().is_some_and(|goal| seen.is_at(goal));
            seen.at_goal |= arrived;
            arrived
        };
        if arrived {
            let mut progress = lock(&self.progress);
            progress.at_goal += 1;
            progress.times.push(Instant::now());
            drop(progress);
            self.changed.notify_one();
        }
        Ok(())
    }

    fn end(&self, trouble: &Trouble) {
        lock(&self.progress).ended.get_or_insert_with(|| trouble.to_string());
        self.changed.notify_one();
    }
}

impl Seen {
    fn take(&mut self, message: &X509svidResponse, known: &Known) -> Result<(), Trouble> {
        self.messages += 1;
        self.crls.clone_from(&message.crl);
        for svid in &message.svids {
            let (leaf, issuing) = split(&svid.x509_svid)?;
            let (leaf, under) = (hash(leaf), known.issuer(issuing)?);
            match self.svids.get_mut(&hash(&svid.spiffe_id)) {
                Some(before) => {
                    before.changes += u64::from(before.leaf != leaf);
                    (before.leaf, before.under) = (leaf, under);
                }
                None => {
                    self.svids.insert(hash(&svid.spiffe_id), Svid { leaf, under, changes: 0 });
                }
            }
        }
        if let Some(svid) = message.svids.first() {
            self.roots = known.roots(&svid.bundle)?;
        }
        Ok(())
    }

    fn is_at(&self, goal: &Goal) -> bool {
        match goal {
            Goal::Trusts(root) => self.roots.contains(root),
            Goal::Distrusts(root) => !self.roots.contains(root),
            Goal::IsUnder(root) => self.svids.values().all(|svid| svid.under == *root),
            // Sixteen random bytes are found nowhere else in a list.
            Goal::Lists(serials) => serials.iter().all(|serial| self.crls.iter().any(|crl| contains(crl, serial))),
        }
    }
}

/// Certificates that were read before, by their bytes.
#[derive(Default)]
struct Known {
    issuers: Mutex<HashMap<Vec<u8>, AuthorityId>>,
    roots: Mutex<HashMap<Vec<u8>, Arc<[AuthorityId]>>>,
}

impl Known {
    /// Under which root an issuing certificate stands.
    fn issuer(&self, certificate: &[u8]) -> Result<AuthorityId, Trouble> {
        let mut issuers = lock(&self.issuers);
        if let Some(root) = issuers.get(certificate) {
            return Ok(root.clone());
        }
        let unreadable = || Trouble::Unexpected("an issuing certificate that cannot be read".to_owned());
        let parsed = Certificate::parse(certificate).map_err(|_| unreadable())?;
        let key_id = parsed.extensions().authority_key_id.as_deref().and_then(|id| <[u8; 20]>::try_from(id).ok());
        let root = AuthorityId::from_subject_key_id(&key_id.ok_or_else(unreadable)?);
        issuers.insert(certificate.to_vec(), root.clone());
        Ok(root)
    }

    /// The roots of a bundle.
    fn roots(&self, bundle: &[u8]) -> Result<Arc<[AuthorityId]>, Trouble> {
        let mut known = lock(&self.roots);
        if let Some(roots) = known.get(bundle) {
            return Ok(Arc::clone(roots));
        }
        let parsed = Certificate::parse_concatenated(bundle);
        let parsed = parsed.map_err(|_| Trouble::Unexpected("a bundle that cannot be read".to_owned()))?;
        let roots: Arc<[AuthorityId]> = parsed.iter().map(Certificate::authority_id).collect();
        known.insert(bundle.to_vec(), Arc::clone(&roots));
        Ok(roots)
    }
}

/// Leaf, and what follows it: two certificates in DER, one behind the other. The length of the first is in its header.
fn split(chain: &[u8]) -> Result<(&[u8], &[u8]), Trouble> {
    let length = match chain {
        [0x30, 0x81, low, ..] => 3 + usize::from(*low),
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    let parts = chain.split_at_checked(length).filter(|(leaf, issuing)| !leaf.is_empty() && !issuing.is_empty());
    parts.ok_or_else(|| Trouble::Unexpected("an SVID that is not a leaf and its issuing certificate".to_owned()))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len().max(1)).any(|window| window == wanted)
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_split_behind_its_leaf_whatever_the_form_of_its_length() {
        let short = [&[0x30, 0x81, 0x02, 1, 2][..], &[0x30, 0x00]].concat();
        assert_eq!(split(&short).unwrap(), (&short[..5], &short[5..]));
        let long = [&[0x30, 0x82, 0x00, 0x01, 7][..], &[0x30]].concat();
        assert_eq!(split(&long).unwrap(), (&long[..5], &long[5..]));
        for bad in [&[][..], &[0x30, 0x82], &[0x30, 0x81, 0x09, 1], &[0x31, 0x81, 0x00, 1]] {
            split(bad).unwrap_err();
        }
        split(&long[..5]).unwrap_err();
    }

    #[test]
    fn a_serial_number_is_found_in_the_middle_of_a_list() {
        assert!(contains(b"abcdef", b"cde"));
        assert!(!contains(b"abcdef", b"ce"));
        assert!(!contains(b"ab", b"abc"));
    }
}
