//! Members with real logs on disks in memory, real drivers, and a network of function calls that can be cut, in paused
//! time: what takes seconds there takes milliseconds here, whatever else the machine does.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, pending},
    sync::Arc,
    time::Duration,
};

use openraft::{
    RaftNetwork, RaftNetworkFactory,
    error::{Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use parking_lot::Mutex;
use quorate_proto_identity::{MemberNumber, UnixMillis};
use quorate_raft_store::{
    WalIdentity,
    disk::{Seeded, SimulatedDisk},
    log::{Drive, Wal},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    adapter::Adapter,
    batch::Batch,
    batcher::new_slots,
    driver::{Driver, before_the_driver},
    elections::{Elections, Electorate, ElectorateFuture, PreVoteAnswer},
    engine::raft_config,
    membership::RaftNode,
    role::Role,
    settings::Settings,
    sources::{Blocking, Entropy, Sources, WallClock, Work, WorkDone},
    testing::{Parts, command, parts_of},
    transfer::{Transfer, TransferError},
    type_config::{LogId, Raft, Snapshot, TypeConfig, Vote},
};

/// How long a test waits, in its own time, for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who can reach whom, and how long that takes.
#[derive(Default)]
pub(super) struct Links {
    inner: Mutex<LinksInner>,
}

#[derive(Default)]
struct LinksInner {
    /// Ordered pairs: from, to.
    cut: BTreeSet<(u64, u64)>,
    one_way: Duration,
    ends: BTreeMap<u64, End>,
    pre_votes: u64,
    votes: u64,
}

/// What is reached of a member.
#[derive(Clone)]
struct End {
    raft: Raft,
    elections: Arc<Elections>,
}

impl Links {
    /// Has a member do something for another, unless a message is lost on its way: then nothing comes back, ever. What
    /// has been begun goes on when the caller waits no longer.
    async fn call<T, F>(&self, from: u64, to: u64, deed: impl FnOnce(End) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let one_way = self.inner.lock().one_way;
        sleep(one_way).await;
        let end = {
            let inner = self.inner.lock();
            if inner.cut.contains(&(from, to)) { None } else { inner.ends.get(&to).cloned() }
        };
        let Some(end) = end else { return pending().await };
        let done = tokio::spawn(deed(end)).await.unwrap();
        sleep(one_way).await;
        let is_lost = self.inner.lock().cut.contains(&(to, from));
        if is_lost { pending().await } else { done }
    }

    /// Cuts one direction.
    pub(super) fn cut(&self, from: u64, to: u64) {
        self.inner.lock().cut.insert((from, to));
    }

    /// What is sent takes this long from now on.
    pub(super) fn take(&self, one_way: Duration) {
        self.inner.lock().one_way = one_way;
    }

    /// Everything can be reached again.
    pub(super) fn heal(&self) {
        self.inner.lock().cut.clear();
    }

    /// How many Vote calls were made so far.
    pub(super) fn votes(&self) -> u64 {
        self.inner.lock().votes
    }

    /// How many PreVote calls were made so far.
    pub(super) fn pre_votes(&self) -> u64 {
        self.inner.lock().pre_votes
    }
}

/// The network of one member.
#[derive(Clone)]
struct Network {
    own: u64,
    links: Arc<Links>,
    elections: Arc<Elections>,
}

/// Its way to one other.
struct Way {
    to: u64,
    network: Network,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, _node: &RaftNode) -> Way {
        Way { to: target, network: self.clone() }
    }
}

type RpcError = RPCError<u64, RaftNode, RaftError<u64>>;

impl RaftNetwork<TypeConfig> for Way {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let Network { own, links, elections } = &self.network;
        let sent = Instant::now();
        let limit = elections.settings().rpc_limit;
        let answer = links.call(*own, self.to, |end| async move {
            let answer = end.raft.append_entries(request).await;
            if !matches!(answer, Err(_) | Ok(AppendEntriesResponse::HigherVote(_))) {
                end.elections.heard_of_leader();
            }
            answer
        });
        let answer = timeout(limit, answer).await.map_err(|elapsed| NetworkError::new(&elapsed))?;
        let answer = answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.to, error)))?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            elections.acknowledged(self.to, sent);
        }
        Ok(answer)
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let Network { own, links, elections } = &self.network;
        links.inner.lock().votes += 1;
        let transfer = elections.is_transfer(&request.vote);
        links
            .call(*own, self.to, move |end| async move { end.elections.vote(&end.raft, request, transfer).await })
            .await
            .map_err(|error| RPCError::RemoteError(RemoteError::new(self.to, error)))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        Err(Unreachable::new(&std::io::Error::other("no snapshots in these tests")).into())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(100)))
    }
}

impl Electorate for Network {
    fn pre_vote(&self, member: u64, last: Option<LogId>) -> ElectorateFuture<Option<PreVoteAnswer>> {
        let Self { own, links, .. } = self.clone();
        links.inner.lock().pre_votes += 1;
        Box::pin(async move {
            Some(links.call(own, member, move |end| async move { end.elections.pre_vote(&end.raft, own, last) }).await)
        })
    }

    fn take_over(&self, member: u64, term: u64, last: LogId) -> ElectorateFuture<Result<(), String>> {
        let Self { own, links, .. } = self.clone();
        Box::pin(async move {
            let asked = links
                .call(own, member, move |end| async move { end.elections.take_over(&end.raft, own, term, last).await });
            asked.await.map_err(|refused| refused.to_string())
        })
    }
}

/// A running member.
pub(super) struct Member {
    pub(super) raft: Raft,
    pub(super) elections: Arc<Elections>,
    pub(super) role: watch::Receiver<Role>,
    pub(super) adapter: Adapter,
    pub(super) disk: SimulatedDisk,
    /// The batcher's, if there was one.
    pub(super) slots: Arc<Semaphore>,
    electorate: Arc<dyn Electorate>,
    wal: Wal,
    driver: JoinHandle<()>,
}

/// All members.
pub(super) struct World {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) links: Arc<Links>,
    settings: &'static Settings,
    seed: u64,
    sequence: u64,
}

struct Draws(Mutex<Seeded>);

impl Entropy for Draws {
    fn fill(&self, bytes: &mut [u8]) {
        let mut seeded = self.0.lock();
        bytes.fill_with(|| u8::try_from(seeded.below(256)).unwrap());
    }
}

struct Noon;

impl WallClock for Noon {
    fn now(&self) -> UnixMillis {
        UnixMillis(0)
    }
}

struct Inline;

impl Blocking for Inline {
    fn run(&self, work: Work) -> WorkDone {
        work();
        Box::pin(std::future::ready(()))
    }
}

/// What became of the writes of a writer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) longest_gap: Duration,
}

impl Written {
    fn add(&mut self, is_written: bool, gap: Duration) {
        self.good += u64::from(is_written);
        self.failed += u64::from(!is_written);
        self.longest_gap = self.longest_gap.max(gap);
    }
}

/// A writer at work.
pub(super) struct Writer {
    written: Arc<Mutex<Written>>,
    task: JoinHandle<()>,
}

impl Writer {
    /// What became of its writes so far.
    pub(super) fn written(&self) -> Written {
        *self.written.lock()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    /// Voters 1 to `count`, of which the first leads, with links that take no time.
    pub(super) async fn founded(count: u64, settings: &'static Settings, seed: u64) -> Self {
        Self::founded_at_a_distance(count, settings, Duration::ZERO, seed).await
    }

    /// The same, with links that take `one_way` each way.
    pub(super) async fn founded_at_a_distance(
        count: u64,
        settings: &'static Settings,
        one_way: Duration,
        seed: u64,
    ) -> Self {
        let links = Arc::new(Links::default());
        links.inner.lock().one_way = one_way;
        let mut world = Self { members: BTreeMap::new(), links, settings, seed, sequence: 0 };
        for number in 1..=count {
            world.start(number, SimulatedDisk::new("/disk"), true).await;
        }
        world.raft(1).initialize(BTreeMap::from([(1, RaftNode::default())])).await.unwrap();
        world.leader().await;
        for number in 2..=count {
            world.add_voter(number).await;
        }
        world
    }

    /// Starts a member on this disk.
    pub(super) async fn start(&mut self, number: u64, disk: SimulatedDisk, is_new: bool) {
        self.seed += 1;
        let identity = WalIdentity { cluster: [3; 16], member: number };
        let Parts { disk, wal, log, adapter, stop } = parts_of(identity, disk, Drive::Inline, is_new);
        let sources = Sources::new(Noon, Draws(Mutex::new(Seeded::new(self.seed))), Inline);
        let elections = Arc::new(Elections::new(number, self.settings, Instant::now()));
        let network = Network { own: number, links: Arc::clone(&self.links), elections: Arc::clone(&elections) };
        let config = Arc::new(raft_config(&identity));
        let raft = Raft::new(number, config, network.clone(), log, adapter.clone()).await.unwrap();
        let sender = before_the_driver();
        let role = sender.subscribe();
        let electorate: Arc<dyn Electorate> = Arc::new(network);
        let driver = Driver {
            raft: raft.clone(),
            member: number,
            elections: Arc::clone(&elections),
            electorate: Arc::clone(&electorate),
            role: sender,
            sources,
            stop,
        };
        let driver = tokio::spawn(driver.run());
        self.links.inner.lock().ends.insert(number, End { raft: raft.clone(), elections: Arc::clone(&elections) });
        let slots = new_slots();
        let member = Member { raft, elections, role, adapter, disk, slots, electorate, wal, driver };
        self.members.insert(number, member);
    }

    /// Ends a member at once, as `kill -9` does, and gives its disk as it is found afterwards.
    pub(super) async fn kill(&mut self, number: u64) -> SimulatedDisk {
        let member = self.members.remove(&number).unwrap();
        self.links.inner.lock().ends.remove(&number);
        member.driver.abort();
        let disk = member.disk.copy_after_kill();
        member.raft.shutdown().await.unwrap();
        drop(member.wal);
        disk
    }

    pub(super) fn raft(&self, number: u64) -> &Raft {
        &self.members[&number].raft
    }

    pub(super) fn term(&self, number: u64) -> u64 {
        self.raft(number).server_metrics().borrow().vote.leader_id.term
    }

    pub(super) fn role(&self, number: u64) -> Role {
        self.members[&number].role.borrow().clone()
    }

    /// Who says that it leads, in the highest term that anybody says so in.
    pub(super) fn leader_now(&self) -> Option<(u64, u64)> {
        let leads = |(number, member): (&u64, &Member)| {
            if let Role::Leader { term } = &*member.role.borrow() { Some((*term, *number)) } else { None }
        };
        self.members.iter().filter_map(leads).max().map(|(term, number)| (number, term))
    }

    /// Waits until somebody leads, confirmed. Gives its number and term.
    pub(super) async fn leader(&self) -> (u64, u64) {
        self.eventually("somebody leads", || self.leader_now()).await
    }

    /// Waits until somebody leads in a term after `term`.
    pub(super) async fn leader_after(&self, term: u64) -> (u64, u64) {
        self.eventually("another term has a leader", || self.leader_now().filter(|(_, new)| *new > term)).await
    }

    /// Waits, with a bound, until something is there.
    pub(super) async fn eventually<T>(&self, what: &str, mut is_there: impl FnMut() -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(there) = is_there() {
                    return there;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        let Ok(there) = timeout(PATIENCE, waiting).await else { panic!("never came about: {what}") };
        there
    }

    /// Makes a member a voter.
    pub(super) async fn add_voter(&self, number: u64) {
        let (leader, _) = self.leader().await;
        let raft = self.raft(leader);
        raft.add_learner(number, RaftNode::default(), true).await.unwrap();
        let books = raft.server_metrics().borrow().clone();
        let mut voters: BTreeSet<u64> = books.membership_config.membership().voter_ids().collect();
        voters.insert(number);
        raft.change_membership(voters, false).await.unwrap();
    }

    /// Writes through this member. `false` when it was not acknowledged within `limit`.
    pub(super) async fn write(&mut self, number: u64, limit: Duration) -> bool {
        self.sequence += 1;
        let batch = Batch::new(vec![command(self.sequence)]);
        matches!(timeout(limit, self.raft(number).client_write(batch)).await, Ok(Ok(_)))
    }

    /// Writes through whoever leads, until it is acknowledged.
    pub(super) async fn write_somewhere(&mut self) -> u64 {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Some((leader, _)) = self.leader_now()
                && self.write(leader, Duration::from_millis(500)).await
            {
                return leader;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("nobody took a write");
    }

    /// Has the leader hand over.
    pub(super) async fn transfer(&self, to: Option<u64>) -> Result<u64, TransferError> {
        let (leader, _) = self.leader().await;
        let member = &self.members[&leader];
        let transfer = Transfer {
            raft: member.raft.clone(),
            member: MemberNumber::new(leader).unwrap(),
            elections: &member.elections,
            electorate: &*member.electorate,
            slots: &member.slots,
            role: member.role.clone(),
        };
        transfer.run(to.and_then(MemberNumber::new), Instant::now() + PATIENCE).await.map(MemberNumber::get)
    }

    /// Writes without end through whoever leads, as a batcher does: with a slot, and only while this member leads.
    pub(super) fn write_without_end(&self, writer: u64) -> Writer {
        let members: Vec<_> = self
            .members
            .values()
            .map(|member| (member.raft.clone(), Arc::clone(&member.slots), member.role.clone()))
            .collect();
        let written = Arc::new(Mutex::new(Written::default()));
        let record = Arc::clone(&written);
        let task = tokio::spawn(async move {
            let mut last = Instant::now();
            for sequence in 1.. {
                let leading = members.iter().find(|(_, _, role)| role.borrow().is_leader()).cloned();
                let Some((raft, slots, role)) = leading else {
                    sleep(Duration::from_millis(1)).await;
                    continue;
                };
                let slot = slots.acquire().await.unwrap();
                let leads = role.borrow().is_leader();
                if !leads {
                    continue;
                }
                let mut command = command(sequence);
                command.origin.node = writer;
                let is_written = raft.client_write(Batch::new(vec![command])).await.is_ok();
                drop(slot);
                record.lock().add(is_written, last.elapsed());
                last = Instant::now();
                sleep(Duration::from_millis(5)).await;
            }
        });
        Writer { written, task }
    }

    /// Cuts a member off in both directions.
    pub(super) fn cut_off(&self, number: u64) {
        for other in self.members.keys().filter(|other| **other != number) {
            self.links.cut(number, *other);
            self.links.cut(*other, number);
        }
    }

    /// Waits until all members have applied the same entries, and checks that they are in the same state.
    pub(super) async fn agrees(&mut self) {
        self.write_somewhere().await;
        let applied = |member: &Member| {
            let applied = member.adapter.shared.applied.read();
            (applied.last_applied, applied.state.state_hash())
        };
        self.eventually("all members agree", || {
            let mut states = self.members.values().map(applied);
            let first = states.next()?;
            states.all(|other| other == first).then_some(())
        })
        .await;
    }
}
