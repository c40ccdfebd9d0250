//! Several members in one process, each on a disk in memory, over a network that can be cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use quorate_proto_identity::{MemberNumber, NodeName};
use quorate_raft_consensus::{
    Admitted, Applied, Config, Consensus, Handle, JoinError, JoinRequest, MemberNode,
    transport::{Destination, Protocol},
};
use quorate_raft_machine::{COMMAND_VERSION, MemberRole, NewInvitation, Operation};
use quorate_raft_store::disk::SimulatedDisk;
use tokio::time::Instant;

use super::{
    NOW, PATIENCE, ROOT, TestClock, create, eventually, found_operation, has,
    net::{TestNet, address_of, key_of},
    proposal, sources,
};

/// One member.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: TestClock,
    pub(crate) handle: Handle,
}

/// A cluster. Member `n` has the name `node-n` and, once it has joined in order, the number `n`.
pub(crate) struct Cluster {
    pub(crate) net: TestNet,
    pub(crate) members: BTreeMap<u64, Member>,
    configure: fn(&mut Config),
}

/// The name of member `number`.
pub(crate) fn name(number: u64) -> String {
    format!("node-{number}")
}

fn config(number: u64) -> Config {
    let mut config = Config::new(format!("{ROOT}/{}", name(number)), tokio::runtime::Handle::current());
    config.space_reserve_bytes = 0;
    config.announcement.identity_key = key_of(&name(number));
    config.announcement.addresses = vec![address_of(&name(number))];
    config.announcement.build = "test".to_owned();
    config
}

impl Cluster {
    /// A cluster of so many voters.
    pub(crate) async fn of(voters: u64) -> Self {
        Self::configured(voters, |_| {}).await
    }

    /// A cluster of so many voters, each configured like this.
    pub(crate) async fn configured(voters: u64, configure: fn(&mut Config)) -> Self {
        let mut cluster = Self { net: TestNet::default(), members: BTreeMap::new(), configure };
        cluster.start(1, SimulatedDisk::new(ROOT)).await;
        let first = cluster.handle(1);
        let member = MemberNode { name: NodeName::new(&name(1)).unwrap(), addresses: vec![address_of(&name(1))] };
        let founded = first.found(&member).await.unwrap();
        let mut operation = found_operation(founded.cluster);
        if let Operation::Found(found) = &mut operation {
            found.member.identity_key = key_of(&name(1));
            found.member.addresses = vec![address_of(&name(1))];
        }
        let applied = first.propose(proposal(vec![operation])).await.unwrap();
        assert!(applied.outcome.results[0].is_ok(), "{:?}", applied.outcome);
        for number in 2..=voters {
            cluster.add_learner(number).await;
        }
        let all: BTreeSet<u64> = (1..=voters).collect();
        cluster.handle(1).change_voters(all, Instant::now() + PATIENCE).await.unwrap();
        cluster
    }

    /// Starts a member on this disk.
    pub(crate) async fn start(&mut self, number: u64, disk: SimulatedDisk) {
        let clock = TestClock::new();
        self.start_with(number, disk, clock).await;
    }

    /// Starts a member on this disk, by this clock.
    pub(crate) async fn start_with(&mut self, number: u64, disk: SimulatedDisk, clock: TestClock) {
        self.start_at(number, disk, clock, vec![address_of(&name(number))]).await;
    }

    /// Starts a member that says that it is reached there.
    pub(crate) async fn start_at(
        &mut self,
        number: u64,
        disk: SimulatedDisk,
        clock: TestClock,
        addresses: Vec<String>,
    ) {
        let mut config = config(number);
        config.announcement.addresses = addresses;
        (self.configure)(&mut config);
        let transport = self.net.transport(&name(number));
        let handle = Consensus::start(config, sources(&clock), Arc::new(disk.clone()), transport).await.unwrap();
        self.members.insert(number, Member { name: name(number), number, disk, clock, handle });
    }

    /// Starts a member on a disk that may be out of order. Gives back whether it came up.
    pub(crate) async fn try_start(&mut self, number: u64, disk: SimulatedDisk, clock: TestClock) -> bool {
        let mut config = config(number);
        (self.configure)(&mut config);
        let transport = self.net.transport(&name(number));
        let started = Consensus::start(config, sources(&clock), Arc::new(disk.clone()), transport).await;
        let up = started.map(|handle| Member { name: name(number), number, disk, clock, handle });
        let came_up = up.is_ok();
        self.members.extend(up.ok().map(|member| (number, member)));
        came_up
    }

    /// Starts a new node, invites it, lets it join and follow the log.
    pub(crate) async fn add_learner(&mut self, number: u64) {
        self.start(number, SimulatedDisk::new(ROOT)).await;
        let secret = self.invite(number).await;
        self.join(number, secret).await.unwrap();
        let leader = self.leader().await;
        let member = MemberNumber::new(number).unwrap();
        leader.add_learner(member, Instant::now() + PATIENCE).await.unwrap();
        self.until_caught_up(number).await;
    }

    /// Makes an invitation for a member, and gives its secret.
    pub(crate) async fn invite(&self, number: u64) -> Bytes {
        let secret = Bytes::from(format!("the secret of an invitation for {}", name(number)));
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &secret);
        let invitation = NewInvitation {
            secret_hash: hash.as_ref().try_into().unwrap(),
            name: NodeName::new(&name(number)).unwrap(),
            role: Some(MemberRole::Voter),
            region: String::new(),
            zone: String::new(),
            labels: BTreeMap::new(),
            expires_at: NOW.plus(3_600),
        };
        let applied = self.leader().await;
        let applied = applied.propose(proposal(vec![Operation::CreateInvitation(Box::new(invitation))])).await.unwrap();
        assert!(applied.outcome.results[0].is_ok(), "{:?}", applied.outcome);
        secret
    }

    /// Asks for admission at every member.
    pub(crate) async fn admit(&self, number: u64, secret: Bytes) -> Result<Admitted, JoinError> {
        self.admit_to(number, "example.org", secret).await
    }

    /// The same, as a node that is configured for this trust domain.
    pub(crate) async fn admit_to(&self, number: u64, trust_domain: &str, secret: Bytes) -> Result<Admitted, JoinError> {
        let handle = self.handle(number);
        let incarnation = handle.begin_joining().await?;
        let targets: Vec<Destination> =
            self.members.values().filter(|member| member.number != number).map(at).collect();
        let request = JoinRequest {
            trust_domain: trust_domain.to_owned(),
            name: name(number),
            sealing_key: Bytes::from_static(b"sealing"),
            addresses: vec![address_of(&name(number))],
            version: COMMAND_VERSION,
            build: "test".to_owned(),
            secret,
            incarnation,
        };
        handle.admit_at(&targets, &request, Instant::now() + PATIENCE).await
    }

    /// Asks for admission and goes on as a member.
    pub(crate) async fn join(&self, number: u64, secret: Bytes) -> Result<(), JoinError> {
        let admitted = self.admit(number, secret).await?;
        self.handle(number).join(admitted).await
    }

    pub(crate) fn handle(&self, number: u64) -> Handle {
        self.members[&number].handle.clone()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.members.values().map(|member| member.name.as_str()).collect()
    }

    /// Waits until somebody leads, and gives its handle.
    pub(crate) async fn leader(&self) -> Handle {
        self.handle(self.leader_number().await)
    }

    /// Waits until somebody leads, and gives its number. Of several who say so, the one of the latest term.
    pub(crate) async fn leader_number(&self) -> u64 {
        let mut leader = 0;
        eventually("somebody leads", || {
            let leading = self.members.values().filter(|member| member.handle.role().borrow().is_leader());
            let newest = leading.max_by_key(|member| member.handle.health().term).map(|member| member.number);
            leader = newest.unwrap_or(0);
            leader != 0
        })
        .await;
        leader
    }

    /// Waits until a member has applied what the leader has.
    pub(crate) async fn until_caught_up(&self, number: u64) {
        let leader = self.leader().await;
        let target = leader.state().applied_index();
        let member = self.handle(number);
        eventually("the member has caught up", || member.state().applied_index() >= target).await;
    }

    /// Creates an entry at a member, and waits until it is acknowledged.
    pub(crate) async fn create_at(&self, number: u64, entry: &str) -> Applied {
        let applied = self.handle(number).propose(proposal(vec![create(entry)])).await.unwrap();
        assert!(applied.outcome.results[0].is_ok(), "{:?}", applied.outcome);
        applied
    }

    /// Waits until all members have the entry.
    pub(crate) async fn until_all_have(&self, entry: &str) {
        for member in self.members.values() {
            eventually(&format!("{} has {entry}", member.name), || has(&member.handle, entry)).await;
        }
    }

    /// A member goes down without a word, as by kill -9: what it had not synced is still in the page cache.
    pub(crate) async fn kill(&mut self, number: u64) -> (SimulatedDisk, TestClock) {
        let member = self.members.remove(&number).unwrap();
        self.net.down(&member.name);
        let image = member.disk.restart();
        // What is left of the old process can reach nobody and writes to a disk that nobody reads any more.
        tokio::spawn(async move { member.handle.shutdown().await });
        (image, member.clock)
    }

    /// Cuts a member off from all others.
    pub(crate) fn isolate(&self, number: u64) {
        self.net.isolate(&name(number), &self.names());
    }

    /// Ends [`isolate`](Self::isolate).
    pub(crate) fn rejoin(&self, number: u64) {
        self.net.rejoin(&name(number), &self.names());
    }
}

/// Where a newcomer asks a member.
pub(crate) fn at(member: &Member) -> Destination {
    Destination {
        addresses: vec![address_of(&member.name)],
        keys: vec![key_of(&member.name)],
        protocol: Protocol::Join,
    }
}
