//! All sessions of one set of selectors: one answer, computed once, shared by all of them.
//!
//! Selectors say nothing of a process that another one could not have too, so the callers of a host fall into few
//! groups (one for each user and program), however many connections there are.
//!
//! ```text
//!             refresh (an event, a renewal, a first caller)
//!   idle ────────────────────────────────> computing ──┐ asked again meanwhile: compute again
//!     ^                                        │  ^────┘
//!     └──────────── publish to all slots ──────┘
//! ```
//!
//! A group computes at most once at a time, on whoever's task came first; the others find their slots filled. No lock
//! is held while anything is read or signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use quorate_proto_identity::{AuthorityId, SelectorSet, TrustDomain, UnixMillis, UnixSeconds};
use quorate_raft_machine::AuthorityKind;
use tokio::time::Instant;

use super::{
    answer::{Answer, CallersBundles, Kind, X509Answer},
    clock::ShardClock,
    core::Core,
    identities::Identities,
    interests::Interests,
    slot::Slot,
    turns::Pace,
};
use crate::{bundles::BundleAnswers, metrics, peers::StreamsTold, refusal::Refusal};

/// How many streams a group may have. They share one answer, so this bounds file descriptors and memory, not work:
/// at some 10 KiB a stream this is 640 MiB, for one user and program (ATK-20).
pub(crate) const STREAMS_PER_GROUP_LIMIT: usize = 65_536;

/// How many unary calls a group may have in work at once. They share no answer: each is a signature, or a check of one,
/// and an RSA signature takes a millisecond of a thread (ATK-20).
const CALLS_PER_GROUP_LIMIT: usize = 1024;

/// How often a computation is repeated because the state changed under it, before its caller is told to come again.
const TRIES: usize = 8;

/// Wait before a computation that panicked is begun again, in milliseconds.
const FAULT_WAIT_MILLIS: i64 = 1000;

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    /// Which one, in the order of their making.
    pub(crate) number: u64,
    /// What its callers were attested as.
    pub(crate) selectors: SelectorSet,
    /// When it is next to be refreshed without an event, in Unix milliseconds.
    due: AtomicI64,
    /// When it was last asked for anything, in Unix milliseconds.
    used_at: AtomicI64,
    sessions: AtomicU64,
    calls: AtomicUsize,
    /// Whether the log has a refusal of its callers since they last had an identity.
    told: AtomicBool,
    inner: Mutex<Inner>,
    shard: Arc<ShardClock>,
    interests: Arc<Interests>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: BTreeMap<u64, (Kind, Arc<Slot>)>,
    identities: Option<Arc<Identities>>,
    /// The foreign trust domains that concern it, as its keeper knows.
    domains: BTreeSet<TrustDomain>,
    x509: Option<Arc<X509Answer>>,
    x509_version: u64,
    bundles: Option<Arc<CallersBundles>>,
    x509_bundles_version: u64,
    jwt_bundles_version: u64,
    computing: bool,
    again: bool,
    closed: Option<Refusal>,
}

/// What a computation found.
struct Computed {
    identities: Arc<Identities>,
    x509: Option<Arc<X509Answer>>,
    bundles: Arc<CallersBundles>,
}

/// What was found before.
#[derive(Default)]
struct Before {
    identities: Option<Arc<Identities>>,
    x509: Option<Arc<X509Answer>>,
    bundles: Option<Arc<CallersBundles>>,
}

impl Group {
    pub(crate) fn new(
        number: u64,
        selectors: SelectorSet,
        (shard, interests): (Arc<ShardClock>, Arc<Interests>),
        now: UnixMillis,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            selectors,
            due: AtomicI64::new(i64::MAX),
            used_at: AtomicI64::new(now.0),
            sessions: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            inner: Mutex::default(),
            shard,
            interests,
        })
    }

    /// Whether its keeper has ended; a caller then looks for another group of the same selectors.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().closed.is_some()
    }

    /// Ends all sessions, and all that would still come.
    pub(crate) fn close(&self, refusal: &Refusal) {
        let slots = {
            let mut inner = self.inner.lock();
            inner.closed = Some(refusal.clone());
            std::mem::take(&mut inner.slots)
        };
        for (_, slot) in slots.into_values() {
            slot.end(refusal.clone());
        }
    }

    /// Ends the sessions that there are now.
    pub(crate) fn end_sessions(&self, refusal: &Refusal) {
        let slots = {
            let mut inner = self.inner.lock();
            inner.x509 = None;
            std::mem::take(&mut inner.slots)
        };
        for (_, slot) in slots.into_values() {
            slot.end(refusal.clone());
        }
    }

    /// When it is next to be refreshed without an event.
    pub(crate) fn due(&self) -> UnixMillis {
        UnixMillis(self.due.load(Ordering::Acquire))
    }

    /// Whether nobody has asked for anything since `instant`, and no session is open.
    pub(crate) fn is_unused_since(&self, instant: UnixMillis) -> bool {
        self.used_at.load(Ordering::Relaxed) < instant.0 && self.inner.lock().slots.is_empty()
    }

    /// Counts a unary call until the answer is dropped; refuses one too many.
    pub(crate) fn call(&self) -> Result<Call<'_>, Refusal> {
        let call = Call { calls: &self.calls };
        if self.calls.fetch_add(1, Ordering::Relaxed) < CALLS_PER_GROUP_LIMIT {
            return Ok(call);
        }
        Err(Refusal::unavailable(format!(
            "callers of one kind may have {CALLS_PER_GROUP_LIMIT} calls in work, and they do"
        )))
    }

    /// Whether a refusal of a caller is to be told in the log: once for all callers of a kind, until they have an identity
    /// again. Clients without one ask again and again, and must not fill the log (ATK-20).
    pub(crate) fn first_refusal(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// What its callers are entitled to now; for calls that make something of it at once.
    pub(crate) fn identities(&self, core: &Core) -> Result<Arc<Identities>, Refusal> {
        let now = core.sources.now();
        self.used_at.store(now.0, Ordering::Relaxed);
        let before = self.inner.lock().identities.clone();
        if let Some(before) = &before
            && before.hold_at(core.state.applied_index(), now.seconds())
        {
            return Ok(Arc::clone(before));
        }
        let read = core.identities(&self.selectors, before.as_ref())?;
        if before.is_none_or(|before| !Arc::ptr_eq(&before, &read)) {
            self.inner.lock().identities = Some(Arc::clone(&read));
        }
        Ok(read)
    }

    /// Opens a session: its slot is in place before anything is computed, so that no event can be missed, and then
    /// filled here and now unless somebody else is about to.
    pub(crate) async fn open(self: &Arc<Self>, core: &Core, kind: Kind) -> Result<Membership, Refusal> {
        let now = core.sources.now();
        self.used_at.store(now.0, Ordering::Relaxed);
        let slot = Slot::new();
        let number = self.sessions.fetch_add(1, Ordering::SeqCst);
        let ready = {
            let mut inner = self.inner.lock();
            if let Some(refusal) = &inner.closed {
                return Err(refusal.clone());
            }
            if inner.slots.len() >= STREAMS_PER_GROUP_LIMIT {
                return Err(Refusal::unavailable(format!(
                    "callers of one kind may have {STREAMS_PER_GROUP_LIMIT} streams, and they are open"
                )));
            }
            inner.slots.insert(number, (kind, Arc::clone(&slot)));
            let ready = inner.ready(kind);
            if let Some((_, answer)) = &ready {
                // With the last session that had this answer, the wish to have it renewed went too.
                self.due.fetch_min(answer.due().0, Ordering::AcqRel);
                self.shard.lower(answer.due());
            }
            ready
        };
        metrics::streams(kind.name(), 1.0);
        let membership = Membership { group: Arc::clone(self), number, kind, slot };
        match ready {
            Some((version, answer)) if core.is_good(&answer, &self.selectors, now) => {
                membership.slot.put(version, || Answer::X509Svids(answer));
                if self.inner.lock().x509_version != version {
                    // A newer one came before this one was in its place, and passed the empty slot over.
                    self.refresh(core, Pace::AtOnce).await;
                }
            }
            Some(_) | None => self.refresh(core, Pace::AtOnce).await,
        }
        Ok(membership)
    }

    /// Computes what is wanted and hands it to all sessions. If somebody is doing that already, they do it once more.
    pub(crate) async fn refresh(&self, core: &Core, pace: Pace) {
        if !self.inner.lock().begin() {
            return;
        }
        let started = Instant::now();
        // If this task is dropped in the middle, the next one must not find the group busy for ever.
        let mut computing = Computing { group: self, core, done: false };
        loop {
            let (served, x509_wanted, before) = {
                let mut inner = self.inner.lock();
                inner.again = false;
                let wanted = inner.slots.values().any(|(kind, _)| *kind == Kind::X509Svids);
                // What is read from here on is new enough for the sessions that have a number by now. One that comes
                // later may have been opened because of a change that this misses: it asks for a computation itself.
                let served = self.sessions.load(Ordering::SeqCst);
                let before = Before {
                    identities: inner.identities.clone(),
                    x509: inner.x509.clone(),
                    bundles: inner.bundles.clone(),
                };
                (served, wanted, before)
            };
            let computed = self.compute(core, x509_wanted, pace, before).await;
            if self.publish(computed, served, x509_wanted) {
                break;
            }
        }
        computing.done = true;
        metrics::refreshed(started.elapsed().as_secs_f64());
    }

    /// Reads, signs, and checks that what was read still stands.
    async fn compute(
        &self,
        core: &Core,
        x509_wanted: bool,
        pace: Pace,
        mut before: Before,
    ) -> Result<Computed, Refusal> {
        for _ in 0..TRIES {
            let lease = core.lease().await?;
            let identities = core.identities(&self.selectors, before.identities.as_ref())?;
            // Before their bundles are read: of what changes after that, the keeper lets this group know.
            self.concern(&identities.federates_with);
            if identities.entries.is_empty() {
                return Err(Refusal::no_identity());
            }
            let bundles = core.callers_bundles(&identities, before.bundles.as_ref())?;
            let mut x509 = None;
            if x509_wanted {
                // Before the SVIDs are looked at: one whose renewal comes due while others are made is not passed over.
                let looked_at = core.sources.now();
                let withdrawals = core.withdrawals();
                let svids = core.x509_svids(&identities, &lease, &bundles, pace).await?;
                // A signature takes its time; an entry that changed or went meanwhile must not go out (property 5), and
                // nothing under a root that was tainted meanwhile (INV-06).
                let withdrawn = withdrawals != core.withdrawals();
                let now_good = core.bundles.current(&core.state)?;
                let tainted = svids.iter().any(|(_, svid)| now_good.replaces_svid(svid));
                if withdrawn || tainted || !core.still_stand(&identities, &self.selectors) {
                    before.identities = Some(identities);
                    before.bundles = Some(bundles);
                    continue;
                }
                let answer = match &before.x509 {
                    Some(before) if before.is_made_of(&identities, &svids, &bundles, withdrawals) => Arc::clone(before),
                    Some(_) | None => Arc::new(X509Answer::new(Arc::clone(&identities), svids, &bundles, withdrawals)),
                };
                answer.look_ahead(looked_at, &bundles);
                x509 = Some(answer);
            }
            return Ok(Computed { identities, x509, bundles });
        }
        Err(Refusal::unavailable("registrations change faster than they can be answered"))
    }

    /// Says which foreign trust domains concern this group from here on.
    fn concern(&self, domains: &BTreeSet<TrustDomain>) {
        let mut inner = self.inner.lock();
        if inner.domains != *domains {
            self.interests.change(self.number, &inner.domains, domains);
            inner.domains.clone_from(domains);
        }
    }

    /// Hands what was computed to the sessions with lower numbers than `served`. Says whether that was all: if somebody
    /// asked again meanwhile, it was not.
    fn publish(&self, computed: Result<Computed, Refusal>, served: u64, x509_wanted: bool) -> bool {
        let mut ended = Vec::new();
        let finished = {
            let mut inner = self.inner.lock();
            let due = match computed {
                Ok(computed) => {
                    self.told.store(false, Ordering::Relaxed);
                    inner.take_up(computed, served)
                }
                Err(refusal) => {
                    inner.x509 = None;
                    inner.bundles = None;
                    inner.identities = None;
                    let later = inner.slots.split_off(&served);
                    let taken = std::mem::replace(&mut inner.slots, later);
                    ended.extend(taken.into_values().map(|(_, slot)| (slot, refusal.clone())));
                    // Whoever is still there opens a new stream; until then nothing is due.
                    UnixMillis(i64::MAX)
                }
            };
            // A session that came meanwhile and wants SVIDs has not been thought of.
            let unserved =
                !x509_wanted && inner.slots.values().any(|(kind, slot)| *kind == Kind::X509Svids && slot.is_new());
            let finished = !(inner.again || unserved);
            inner.computing = !finished;
            // Under the lock: a session that opens takes the answer that is there, and lowers this to its renewal.
            self.due.store(due.0, Ordering::Release);
            self.shard.lower(due);
            finished
        };
        for (slot, refusal) in ended {
            slot.end(refusal);
        }
        finished
    }

    /// How many of its open streams have yet to fetch what this bundle has of a kind of authority.
    pub(crate) fn lacking(&self, bundle: &BundleAnswers, authorities: AuthorityKind) -> u64 {
        let inner = self.inner.lock();
        let has_roots = inner.x509.as_ref().is_some_and(|answer| answer.has_roots_of(bundle));
        let own = inner.bundles.as_ref().map(|bundles| &bundles.own);
        let has_bundle = own.is_some_and(|own| own.roots_since >= bundle.roots_since);
        let has_token_keys = own.is_some_and(|own| own.token_keys_since >= bundle.token_keys_since);
        // Without it in the newest answer, it takes one that is newer still.
        let wanted = |version: u64, has_it: bool| version.saturating_add(u64::from(!has_it));
        let x509 = wanted(inner.x509_version, has_roots);
        let x509_bundles = wanted(inner.x509_bundles_version, has_bundle);
        let jwt_bundles = wanted(inner.jwt_bundles_version, has_token_keys);
        let lacks = |(kind, slot): &&(Kind, Arc<Slot>)| match (authorities, kind) {
            (AuthorityKind::X509, Kind::X509Svids) => slot.lacks(x509),
            (AuthorityKind::X509, Kind::X509Bundles) => slot.lacks(x509_bundles),
            (AuthorityKind::Jwt, Kind::JwtBundles) => slot.lacks(jwt_bundles),
            (AuthorityKind::X509, Kind::JwtBundles) | (AuthorityKind::Jwt, Kind::X509Svids | Kind::X509Bundles) => {
                false
            }
        };
        count(inner.slots.values().filter(lacks).count())
    }

    /// How many of its open streams carry our CRLs while they are handed out: none of those that get foreign bundles (CRL-10).
    pub(crate) fn crl_streams(&self) -> u64 {
        let inner = self.inner.lock();
        let svids = inner.x509.as_ref().is_none_or(|answer| answer.takes_crls.takes());
        let bundles = inner.bundles.as_ref().is_none_or(|bundles| bundles.takes_crls.takes());
        let carries = |(kind, slot): &&(Kind, Arc<Slot>)| match kind {
            Kind::X509Svids => svids && slot.ended().is_none(),
            Kind::X509Bundles => bundles && slot.ended().is_none(),
            Kind::JwtBundles => false,
        };
        count(inner.slots.values().filter(carries).count())
    }

    /// Counts under which roots stands what its open streams were sent last, `authority` told apart.
    pub(crate) fn count_standing(&self, authority: Option<&AuthorityId>, now: UnixSeconds, told: &mut StreamsTold) {
        let inner = self.inner.lock();
        for standing in inner.slots.values().filter_map(|(_, slot)| slot.sent()) {
            told.sent = told.sent.saturating_add(1);
            let Some(authority) = authority else { continue };
            told.depending = told.depending.saturating_add(u64::from(standing.depends_on(authority, now)));
            told.under = told.under.saturating_add(u64::from(standing.is_under(authority, now)));
        }
    }

    fn leave(&self, number: u64) {
        self.inner.lock().slots.remove(&number);
    }
}

impl Inner {
    /// Marks the group as computing; if it is already, marks that it must do so again.
    fn begin(&mut self) -> bool {
        if self.computing {
            self.again = true;
            return false;
        }
        self.computing = true;
        true
    }

    /// An answer that a new session of this kind may have at once, if it proves good, and its version.
    fn ready(&self, kind: Kind) -> Option<(u64, Arc<X509Answer>)> {
        match kind {
            Kind::X509Svids => self.x509.clone().map(|answer| (self.x509_version, answer)),
            Kind::X509Bundles | Kind::JwtBundles => None,
        }
    }

    /// Takes a new state over and fills the slots whose answer changed; of those from `served` on, only the ones that had
    /// an answer. Gives the next instant at which to look again.
    fn take_up(&mut self, computed: Computed, served: u64) -> UnixMillis {
        let ends_at = computed.identities.ends_at.map_or(UnixMillis(i64::MAX), |end| end.plus(1).millis());
        self.identities = Some(computed.identities);
        let unchanged = match (&self.x509, &computed.x509) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None | Some(_), None) => true,
            (None, Some(_)) => false,
        };
        if !unchanged {
            self.x509_version = self.x509_version.saturating_add(1);
        }
        if computed.x509.is_some() {
            self.x509 = computed.x509;
        }
        self.take_up_bundles(computed.bundles);
        let (x509, version, bundles) = (&self.x509, self.x509_version, &self.bundles);
        let (x509_bundles_version, jwt_bundles_version) = (self.x509_bundles_version, self.jwt_bundles_version);
        let put_bundles = |slot: &Slot, version, answer: fn(Arc<CallersBundles>) -> Answer| {
            bundles.as_ref().is_some_and(|bundles| slot.put(version, || answer(Arc::clone(bundles))))
        };
        let mut pushed = 0_usize;
        for (number, (kind, slot)) in &self.slots {
            if *number >= served && slot.is_new() {
                continue;
            }
            let filled = match kind {
                Kind::X509Svids => {
                    x509.as_ref().is_some_and(|answer| slot.put(version, || Answer::X509Svids(Arc::clone(answer))))
                }
                Kind::X509Bundles => put_bundles(slot, x509_bundles_version, Answer::X509Bundles),
                Kind::JwtBundles => put_bundles(slot, jwt_bundles_version, Answer::JwtBundles),
            };
            pushed = pushed.saturating_add(usize::from(filled));
        }
        metrics::pushed(pushed);
        let wants_x509 = self.slots.values().any(|(kind, _)| *kind == Kind::X509Svids);
        let renew_at = x509.as_ref().filter(|_| wants_x509).map_or(UnixMillis(i64::MAX), |answer| answer.due());
        renew_at.min(ends_at)
    }

    /// Takes bundles over; those of a kind are a new version only if other ones would go out.
    fn take_up_bundles(&mut self, now: Arc<CallersBundles>) {
        let before = self.bundles.as_ref();
        let same_x509 = before.is_some_and(|before| Arc::ptr_eq(&before.x509, &now.x509) || before.x509 == now.x509);
        let same_jwt = before.is_some_and(|before| Arc::ptr_eq(&before.jwt, &now.jwt) || before.jwt == now.jwt);
        self.x509_bundles_version = self.x509_bundles_version.saturating_add(u64::from(!same_x509));
        self.jwt_bundles_version = self.jwt_bundles_version.saturating_add(u64::from(!same_jwt));
        self.bundles = Some(now);
    }
}

fn count(streams: usize) -> u64 {
    u64::try_from(streams).unwrap_or(u64::MAX)
}

/// Marks a running computation, and mends the group when it is dropped before its end.
struct Computing<'a> {
    group: &'a Group,
    core: &'a Core,
    done: bool,
}

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.group.inner.lock().computing = false;
        // Others may be waiting for what this one began: the keeper finishes it. After a fault of the program not at once,
        // or the same fault would come again as fast as the machine can.
        let wait = if std::thread::panicking() { FAULT_WAIT_MILLIS } else { 0 };
        let at = self.core.sources.now().plus(wait);
        self.group.due.store(at.0, Ordering::Release);
        self.group.shard.lower(at);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.interests.change(self.number, &self.inner.get_mut().domains, &BTreeSet::new());
    }
}

/// A unary call in work.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    calls: &'a AtomicUsize,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A session's place in its group; gives it up when dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    group: Arc<Group>,
    number: u64,
    kind: Kind,
    slot: Arc<Slot>,
}

impl Membership {
    /// Has the keeper look at the time of day again, and at what is due.
    pub(crate) fn look_again(&self) {
        self.group.shard.lowered.notify_one();
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What the session's caller was attested as.
    pub(crate) fn selectors(&self) -> &SelectorSet {
        &self.group.selectors
    }

    pub(crate) fn is_in(&self, group: &Arc<Group>) -> bool {
        Arc::ptr_eq(&self.group, group)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.group.leave(self.number);
        metrics::streams(self.kind.name(), -1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Why a slot's stream ends, if it does.
    fn end(slot: &Slot) -> Option<Refusal> {
        match slot.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(refusal)) => Some(refusal),
            Poll::Ready(Ok(_)) | Poll::Pending => None,
        }
    }

    fn group() -> Arc<Group> {
        Group::new(1, SelectorSet::default(), <(Arc<ShardClock>, Arc<Interests>)>::default(), UnixMillis(0))
    }

    fn join(group: &Group) -> Arc<Slot> {
        let slot = Slot::new();
        let number = group.sessions.fetch_add(1, Ordering::SeqCst);
        group.inner.lock().slots.insert(number, (Kind::X509Bundles, Arc::clone(&slot)));
        slot
    }

    #[test]
    fn a_stream_lacks_a_bundle_until_it_has_fetched_it_or_has_ended() {
        let group = group();
        let (first, second) = (join(&group), join(&group));
        let bundles = Arc::new(CallersBundles::empty(7));
        assert_eq!(group.lacking(&bundles.own, AuthorityKind::X509), 2);
        assert_eq!(group.lacking(&bundles.own, AuthorityKind::Jwt), 0, "these streams are of roots");
        group.inner.lock().take_up_bundles(Arc::clone(&bundles));
        for slot in [&first, &second] {
            slot.put(1, || Answer::X509Bundles(Arc::clone(&bundles)));
        }
        assert_eq!(group.lacking(&bundles.own, AuthorityKind::X509), 2, "it waits in both places");
        assert_eq!(end(&first), None);
        assert_eq!(group.lacking(&bundles.own, AuthorityKind::X509), 1, "one has fetched it");
        second.end(Refusal::no_identity());
        assert_eq!(group.lacking(&bundles.own, AuthorityKind::X509), 0);
        assert_eq!(group.lacking(&BundleAnswers::empty(8), AuthorityKind::X509), 1);
    }

    #[test]
    fn atk_20_refusals_are_told_once_for_all_callers_of_a_kind() {
        let group = group();
        assert!(group.first_refusal());
        assert!(!group.first_refusal());
    }

    #[test]
    fn atk_20_calls_in_work_are_limited_for_each_kind_of_caller() {
        let (flooded, other) = (group(), group());
        let calls: Vec<_> = (0..CALLS_PER_GROUP_LIMIT).map(|_| flooded.call().unwrap()).collect();
        assert!(matches!(flooded.call(), Err(Refusal::Unavailable(_))));
        other.call().unwrap();
        drop(calls);
        flooded.call().unwrap();
    }

    #[test]
    fn a_session_that_was_opened_after_the_state_was_read_is_not_refused_by_what_was_found() {
        let group = group();
        let earlier = join(&group);
        let served = group.sessions.load(Ordering::SeqCst);
        // Its entry may have been created after the read: it waits for the next computation, which it asked for.
        let later = join(&group);
        assert!(group.inner.lock().begin());
        assert!(!group.inner.lock().begin(), "it is being computed already");
        assert!(!group.publish(Err(Refusal::no_identity()), served, true), "another computation follows");
        assert_eq!(end(&earlier), Some(Refusal::no_identity()));
        assert_eq!(end(&later), None);
        group.inner.lock().again = false;
        let served = group.sessions.load(Ordering::SeqCst);
        assert!(group.publish(Err(Refusal::no_identity()), served, true));
        assert_eq!(end(&later), Some(Refusal::no_identity()));
    }
}
