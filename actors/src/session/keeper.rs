//! Session keepers: which groups does a change concern?
//!
//! There are a few, sharded by selectors, started and restarted by the [`supervisor`](crate::supervisor). A keeper only
//! routes: it finds the groups that an event concerns by an index over their selectors and has them refreshed, a limited
//! number at a time, by tasks of its own. It waits for no signature and reads nothing from `/proc`. The groups that a foreign
//! bundle concerns it finds by another index, of the trust domains that their entries federate with.
//!
//! When a keeper ends, for whatever reason, its state is dropped, and with it every group that it looked after is
//! closed: their streams end with `Unavailable`, and callers that come again find the keeper's successor.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quorate_proto_identity::{AuthorityId, Selector, SelectorSet, TrustDomain, UnixMillis};
use quorate_raft_consensus::{AppliedEvents, Handle};
use quorate_raft_machine::{AuthorityKind, Event, entry::Entry};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{
    clock::{ShardClock, run_clock},
    core::Core,
    group::Group,
    interests::Interests,
    turns::{Pace, Turns},
};
use crate::{
    events::{self, News},
    issuer::lease::IssuanceStatus,
    mailbox::{Address, Envelope},
    peers::StreamsTold,
    refusal::Refusal,
};

/// How many messages a keeper's mailbox takes: registrations of new groups, and events, which wait for room.
pub(crate) const KEEPER_MAILBOX_LIMIT: usize = 4096;

/// How many groups one keeper takes. A group is a user and program; hosts have hundreds.
const GROUPS_LIMIT: usize = 16_384;

/// How long a group without sessions is kept after its last use, in milliseconds: longer than a client takes to come
/// back.
const UNUSED_KEPT_MILLIS: i64 = 60_000;

/// All keepers, as callers see them.
#[derive(Debug)]
pub(crate) struct Keepers {
    shards: Vec<Arc<Shard>>,
    numbers: AtomicU64,
    core: Arc<Core>,
}

/// A keeper as callers see it: its address, and the groups that it looks after.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) address: Address<KeeperMessage>,
    clock: Arc<ShardClock>,
    interests: Arc<Interests>,
    groups: Mutex<BTreeMap<SelectorSet, Arc<Group>>>,
}

impl Shard {
    pub(crate) fn new(address: Address<KeeperMessage>) -> Arc<Self> {
        Arc::new(Self { address, clock: Arc::default(), interests: Arc::default(), groups: Mutex::default() })
    }

    /// Closes all groups.
    fn close(&self, refusal: &Refusal) {
        let groups = std::mem::take(&mut *self.groups.lock());
        for group in groups.into_values() {
            group.close(refusal);
        }
    }

    /// Removes a group that nobody uses: only this map and the keeper know of it. Says whether the keeper is to forget it,
    /// as it is to forget one that had to make room before.
    fn remove_unused(&self, group: &Arc<Group>, unused_since: UnixMillis) -> bool {
        let mut groups = self.groups.lock();
        if group.is_closed() {
            return true;
        }
        if Arc::strong_count(group) > 2 || !group.is_unused_since(unused_since) {
            return false;
        }
        groups.remove(&group.selectors);
        true
    }
}

/// Lets go of all groups that nobody uses at the moment, however lately they were: whoever runs one program after the
/// other, each with a hash of its own, must not keep the callers of others out (ATK-20). What connections use stays, and
/// is bounded by their number.
fn make_room(groups: &mut BTreeMap<SelectorSet, Arc<Group>>) {
    let refusal = Refusal::unavailable("too many kinds of callers are connected");
    groups.retain(|_, group| {
        // Nobody can come by it meanwhile: that takes the lock on this map.
        let unused = Arc::strong_count(group) <= 2 && group.is_unused_since(UnixMillis(i64::MAX));
        if unused {
            group.close(&refusal);
        }
        !unused
    });
}

/// All open streams of this node, for whoever must know what has reached them.
#[derive(Clone)]
pub(crate) struct OpenStreams {
    shards: Vec<Arc<Shard>>,
    core: Arc<Core>,
}

impl OpenStreams {
    pub(crate) fn new(shards: Vec<Arc<Shard>>, core: Arc<Core>) -> Self {
        Self { shards, core }
    }

    /// How many open streams carry our CRLs while they are handed out.
    pub(crate) fn crl_streams(&self) -> u64 {
        let groups = |shard: &Arc<Shard>| shard.groups.lock().values().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(groups).map(|group| group.crl_streams()).sum()
    }

    /// What open streams have of a kind of authority, and of one of them.
    pub(crate) fn told(&self, kind: AuthorityKind, authority: Option<&AuthorityId>) -> StreamsTold {
        let signs_under = match kind {
            AuthorityKind::X509 => self.core.leases.held().map(|lease| lease.root.clone()),
            AuthorityKind::Jwt => self.core.tokens.active_id(),
        };
        let mut told = StreamsTold { signs_under, ..StreamsTold::default() };
        // Without a bundle nothing was ever sent, and no stream is open.
        let Ok(bundle) = self.core.bundles.current(&self.core.state) else { return told };
        let now = self.core.sources.now().seconds();
        let groups = |shard: &Arc<Shard>| shard.groups.lock().values().cloned().collect::<Vec<_>>();
        for group in self.shards.iter().flat_map(groups) {
            told.lacking = told.lacking.saturating_add(group.lacking(&bundle, kind));
            if kind == AuthorityKind::X509 {
                group.count_standing(authority, now, &mut told);
            }
        }
        told
    }
}

impl Keepers {
    pub(crate) fn new(shards: Vec<Arc<Shard>>, core: Arc<Core>) -> Self {
        Self { shards, numbers: AtomicU64::new(1), core }
    }

    /// The group of these selectors. One that is new is made known to its keeper before anything is read for it, so that
    /// no event can be missed.
    pub(crate) fn group(&self, selectors: &SelectorSet) -> Result<Arc<Group>, Refusal> {
        let mut hasher = DefaultHasher::new();
        selectors.hash(&mut hasher);
        let count = self.shards.len().max(1);
        let index = usize::try_from(hasher.finish()).unwrap_or_default().checked_rem(count).unwrap_or_default();
        let shard = self.shards.get(index).ok_or_else(|| Refusal::unavailable("no session keeper is running"))?;
        let mut groups = shard.groups.lock();
        if let Some(group) = groups.get(selectors)
            && !group.is_closed()
        {
            return Ok(Arc::clone(group));
        }
        if groups.len() >= GROUPS_LIMIT {
            make_room(&mut groups);
        }
        if groups.len() >= GROUPS_LIMIT {
            return Err(Refusal::unavailable(format!(
                "callers of {GROUPS_LIMIT} different kinds are connected, which is the limit"
            )));
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let of_shard = (Arc::clone(&shard.clock), Arc::clone(&shard.interests));
        let group = Group::new(number, selectors.clone(), of_shard, self.core.sources.now());
        // Under the lock: a keeper that ends closes either this group or the door to it.
        shard.address.try_send(KeeperMessage::Register(Arc::clone(&group)))?;
        groups.insert(selectors.clone(), Arc::clone(&group));
        Ok(group)
    }
}

/// What a keeper is told.
pub(crate) enum KeeperMessage {
    /// A new group; sent before anything is read for it.
    Register(Arc<Group>),
    /// Something was applied, or all must be looked at afresh.
    News(News),
    /// The lease came, went, or was renewed.
    Lease(IssuanceStatus),
    /// The clock says that groups may be due, or unused.
    Tick,
    /// A refresh of this pace has ended.
    Refreshed(Pace),
}

/// The keeper.
pub(crate) struct Keeper;

/// What a keeper starts from.
#[derive(Clone)]
pub(crate) struct KeeperArguments {
    pub(crate) shard: Arc<Shard>,
    pub(crate) core: Arc<Core>,
    pub(crate) handle: Handle,
}

/// What a keeper keeps. Dropping it ends all sessions of its groups.
pub(crate) struct KeeperState {
    arguments: KeeperArguments,
    groups: BTreeMap<u64, Arc<Group>>,
    by_selector: HashMap<Selector, BTreeSet<u64>>,
    turns: Turns,
    /// Refreshes, the clock, and what listens to events and to the lease; they die with the keeper.
    tasks: JoinSet<()>,
}

impl Drop for KeeperState {
    fn drop(&mut self) {
        self.arguments.shard.close(&Refusal::unavailable("the session keeper was restarted"));
    }
}

impl Actor for Keeper {
    type Msg = Envelope<KeeperMessage>;
    type State = KeeperState;
    type Arguments = KeeperArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        let shard = Arc::clone(&arguments.shard);
        tasks.spawn(events::forward(arguments.handle.events(), shard.address.clone(), KeeperMessage::News));
        tasks.spawn(events::follow(arguments.core.leases.status(), myself.clone(), KeeperMessage::Lease));
        tasks.spawn(run_clock(myself, Arc::clone(&shard.clock), Arc::clone(&arguments.core)));
        Ok(KeeperState {
            arguments,
            groups: BTreeMap::new(),
            by_selector: HashMap::new(),
            turns: Turns::default(),
            tasks,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _permit) = envelope.open();
        match message {
            KeeperMessage::Register(group) => state.register(group),
            KeeperMessage::News(News::Applied(applied)) => state.applied(&applied),
            KeeperMessage::News(News::Afresh) => state.want_all(),
            KeeperMessage::Lease(status) => state.lease(&status),
            KeeperMessage::Tick => state.tick(),
            KeeperMessage::Refreshed(pace) => state.turns.ended(pace),
        }
        state.start_refreshes(&myself);
        Ok(())
    }
}

impl KeeperState {
    fn register(&mut self, group: Arc<Group>) {
        for selector in &group.selectors {
            self.by_selector.entry(selector.clone()).or_default().insert(group.number);
        }
        // A tick that came before this message did not know the group, and may have forgotten when it is due.
        self.arguments.shard.clock.lower(group.due());
        self.groups.insert(group.number, group);
    }

    fn unregister(&mut self, group: &Group) {
        for selector in &group.selectors {
            if let Some(groups) = self.by_selector.get_mut(selector) {
                groups.remove(&group.number);
                if groups.is_empty() {
                    self.by_selector.remove(selector);
                }
            }
        }
        self.groups.remove(&group.number);
    }

    fn applied(&mut self, applied: &AppliedEvents) {
        for event in &applied.events {
            match event {
                Event::EntryChanged { id: _, before, after } => {
                    for entry in [before, after].into_iter().flatten() {
                        self.want_concerned(entry);
                    }
                }
                // The roots, the bundle, or what this node serves at all.
                Event::Founded
                | Event::ScopesChanged
                | Event::BundleChanged { .. }
                | Event::X509AuthorityChanged { .. }
                | Event::MemberChanged { .. }
                // Who is banned, and which CRLs go along.
                | Event::RevocationChanged { .. }
                | Event::CrlsSwitched { .. }
                | Event::CrlSetChanged => self.want_all(),
                Event::ForeignBundleChanged { trust_domain } => self.want_federated(trust_domain),
                // New lifetimes count from the next signature on; tokens are made by the call; of issuing certificates
                // the lease speaks.
                Event::PolicyChanged
                | Event::JwtAuthorityChanged { .. }
                | Event::IssuingCertificateChanged { .. }
                | Event::IssuingKeyActivated { .. }
                | Event::CrlRecorded { .. } => {}
                // What the cluster is made of is nothing that a workload sees.
                Event::InvitationChanged { .. }
                | Event::RecoveryKeyChanged
                | Event::PlanChanged
                | Event::RelationshipChanged { .. }
                | Event::SecretChanged { .. }
                | Event::AcmeChanged
                | Event::WebDomainChanged { .. }
                | Event::OidcChanged
                | Event::AccessChanged
                | Event::EpochRaised { .. }
                | Event::VersionRaised { .. }
                | Event::TimeReset { .. } => {}
            }
        }
    }

    /// An entry concerns the groups that have all of its selectors. They all are among those that have its rarest one.
    fn want_concerned(&mut self, entry: &Entry) {
        let mut rarest: Option<&BTreeSet<u64>> = None;
        for selector in &entry.selectors {
            let Some(having) = self.by_selector.get(selector) else { return };
            if rarest.is_none_or(|rarest| having.len() < rarest.len()) {
                rarest = Some(having);
            }
        }
        let Some(rarest) = rarest else { return };
        let has_all =
            |number: &&u64| self.groups.get(number).is_some_and(|group| entry.selectors.is_subset_of(&group.selectors));
        let concerned: Vec<u64> = rarest.iter().filter(has_all).copied().collect();
        for number in concerned {
            self.turns.want(number, Pace::AtOnce);
        }
    }

    /// A foreign bundle concerns the groups whose entries federate with its trust domain. Their answers need no new signature.
    fn want_federated(&mut self, domain: &TrustDomain) {
        let core = &self.arguments.core;
        core.bundles.foreign.forget_old(&core.state, domain);
        for number in self.arguments.shard.interests.of(domain) {
            self.turns.want(number, Pace::AtOnce);
        }
    }

    fn want_all(&mut self) {
        let numbers: Vec<u64> = self.groups.keys().copied().collect();
        for number in numbers {
            self.turns.want(number, Pace::Background);
        }
    }

    fn lease(&mut self, status: &IssuanceStatus) {
        let core = &self.arguments.core;
        match status {
            IssuanceStatus::Ready { .. } => self.want_all(),
            IssuanceStatus::Starting => {}
            // What is missing is the token key, of which no stream knows.
            IssuanceStatus::Waiting { .. } if core.leases.current(core.sources.now()).is_ok() => self.want_all(),
            IssuanceStatus::Waiting { reason } | IssuanceStatus::Ended { reason } => {
                let refusal = Refusal::unavailable(format!("this node cannot issue SVIDs now: {reason}"));
                for group in self.groups.values() {
                    group.end_sessions(&refusal);
                }
            }
        }
    }

    fn tick(&mut self) {
        let shard = Arc::clone(&self.arguments.shard);
        let now = self.arguments.core.sources.now();
        shard.clock.reset();
        let mut due = Vec::new();
        let mut unused = Vec::new();
        for (number, group) in &self.groups {
            if group.due() <= now {
                due.push(*number);
            } else {
                shard.clock.lower(group.due());
            }
            if shard.remove_unused(group, now.plus(-UNUSED_KEPT_MILLIS)) {
                unused.push(Arc::clone(group));
            }
        }
        for number in due {
            self.turns.want(number, Pace::Background);
        }
        for group in unused {
            self.unregister(&group);
        }
    }

    fn start_refreshes(&mut self, myself: &ActorRef<Envelope<KeeperMessage>>) {
        while self.tasks.try_join_next().is_some() {}
        while let Some((number, pace)) = self.turns.next() {
            let Some(group) = self.groups.get(&number).cloned() else {
                self.turns.ended(pace);
                continue;
            };
            let (core, ended) = (Arc::clone(&self.arguments.core), Ended(myself.clone(), pace));
            self.tasks.spawn(async move {
                let _ended = ended;
                group.refresh(&core, pace).await;
            });
        }
    }
}

/// Tells the keeper that a refresh has ended, also when it panicked.
struct Ended(ActorRef<Envelope<KeeperMessage>>, Pace);

impl Drop for Ended {
    fn drop(&mut self) {
        // Fails only when the keeper is gone.
        drop(self.0.send_message(Envelope::own(KeeperMessage::Refreshed(self.1))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atk_20_kinds_of_callers_that_went_make_room_and_those_that_are_there_stay() {
        let group = |number: u64| {
            let selectors = SelectorSet::new([Selector::parse(&format!("unix:sha256:{number}")).unwrap()]);
            Group::new(number, selectors, <(Arc<ShardClock>, Arc<Interests>)>::default(), UnixMillis(0))
        };
        let (went, connected) = (group(1), group(2));
        let mut groups: BTreeMap<_, _> =
            [&went, &connected].map(|group| (group.selectors.clone(), Arc::clone(group))).into();
        // The keeper knows both; a connection knows one of them.
        let connection = Arc::clone(&connected);
        make_room(&mut groups);
        assert_eq!(groups.into_values().map(|group| group.number).collect::<Vec<_>>(), [2]);
        assert!(went.is_closed() && !connection.is_closed());
    }
}
