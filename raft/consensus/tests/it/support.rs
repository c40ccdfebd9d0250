//! A node under test: its disk, its sources, and the commands that tests propose.

pub(crate) mod cluster;
pub(crate) mod net;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_identity::{
    AuthorityId, ClusterId, EntryId, KeyType, MemberNumber, NodeName, PrivateKey, Selector, SelectorSet, SerialNumber,
    SpiffeId, TrustDomain, UnixMillis, UnixSeconds, Validity,
    x509::{AuthorityTemplate, CrlTemplate, build_crl, build_root},
};
use quorate_raft_consensus::{
    Blocking, Config, Consensus, Entropy, Handle, MemberNode, Proposal, Sources, WallClock, Work, WorkDone,
    transport::NoTransport,
};
use quorate_raft_machine::{
    Caller, EntryDraft, Found, MemberDraft, MemberRole, MemberStatus, NewJwtAuthority, NewX509Authority, Operation,
    Policy, Recipient, Sealed, SealedFor,
};
use quorate_raft_store::disk::{Seeded, SimulatedDisk};
use tokio::sync::oneshot;

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// When the tests take place.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

pub(crate) const ROOT: &str = "/disk";
pub(crate) const DATA_DIR: &str = "/disk/node-1";

/// A clock that a test sets.
#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(NOW.millis().0)))
    }

    pub(crate) fn set(&self, now: UnixMillis) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl WallClock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

struct TestEntropy(Mutex<Seeded>);

impl Entropy for TestEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut seeded = self.0.lock();
        for byte in bytes {
            *byte = u8::try_from(seeded.below(256)).unwrap();
        }
    }
}

/// Each piece of work on a thread of its own.
struct Threads;

impl Blocking for Threads {
    fn run(&self, work: Work) -> WorkDone {
        let (done, wait) = oneshot::channel();
        std::thread::spawn(move || {
            work();
            // Nobody waits any more: that is all right.
            done.send(()).ok();
        });
        Box::pin(async move { drop(wait.await) })
    }
}

/// Sources for one start of a node; each start draws other numbers.
pub(crate) fn sources(clock: &TestClock) -> Sources {
    static STARTS: AtomicU64 = AtomicU64::new(1);
    let seed = STARTS.fetch_add(1, Ordering::Relaxed);
    Sources::new(clock.clone(), TestEntropy(Mutex::new(Seeded::new(seed))), Threads)
}

/// A node on a disk in memory.
pub(crate) struct TestNode {
    pub(crate) disk: SimulatedDisk,
    pub(crate) clock: TestClock,
    pub(crate) handle: Handle,
}

/// The transport of a node without peers.
pub(crate) fn no_peers() -> Arc<NoTransport> {
    Arc::new(NoTransport)
}

/// The usual configuration, with a reserve that a disk in memory has.
pub(crate) fn config() -> Config {
    let mut config = Config::new(PathBuf::from(DATA_DIR), tokio::runtime::Handle::current());
    config.space_reserve_bytes = 0;
    config
}

impl TestNode {
    /// An empty node.
    pub(crate) async fn empty() -> Self {
        Self::start(SimulatedDisk::new(ROOT), config()).await
    }

    /// A node whose authority is founded, with these settings.
    pub(crate) async fn founded_with(config: Config) -> Self {
        let node = Self::start(SimulatedDisk::new(ROOT), config).await;
        node.found().await;
        node
    }

    /// A node whose authority is founded.
    pub(crate) async fn founded() -> Self {
        Self::founded_with(config()).await
    }

    /// A node on whatever is on this disk.
    pub(crate) async fn start(disk: SimulatedDisk, config: Config) -> Self {
        let clock = TestClock::new();
        let handle = Consensus::start(config, sources(&clock), Arc::new(disk.clone()), no_peers()).await.unwrap();
        Self { disk, clock, handle }
    }

    /// Founds cluster and authority.
    pub(crate) async fn found(&self) {
        let founded = self.handle.found(&member_node()).await.unwrap();
        let applied = self.propose(vec![found_operation(founded.cluster)]).await;
        assert!(applied.outcome.results[0].is_ok(), "{:?}", applied.outcome);
    }

    /// Proposes and takes the answer.
    pub(crate) async fn propose(&self, operations: Vec<Operation>) -> quorate_raft_consensus::Applied {
        self.handle.propose(proposal(operations)).await.unwrap()
    }

    /// Creates an entry and waits until it is acknowledged.
    pub(crate) async fn create(&self, name: &str) -> quorate_raft_consensus::Applied {
        let applied = self.propose(vec![create(name)]).await;
        assert!(applied.outcome.results[0].is_ok(), "{:?}", applied.outcome);
        applied
    }

    /// Whether the entry of this name is in the applied state.
    pub(crate) fn has(&self, name: &str) -> bool {
        has(&self.handle, name)
    }

    /// Stops in order and starts again on the same disk.
    pub(crate) async fn restart(self, config: Config) -> Self {
        self.handle.shutdown().await;
        let disk = self.disk.restart();
        drop(self.handle);
        Self::start_led(disk, config).await
    }

    /// A node on this disk, which leads.
    pub(crate) async fn start_led(disk: SimulatedDisk, config: Config) -> Self {
        let node = Self::start(disk, config).await;
        assert!(node.handle.wait_for_leadership(PATIENCE).await, "{:?}", node.handle.health());
        node
    }
}

/// Whether the entry of this name is in the applied state.
pub(crate) fn has(handle: &Handle, name: &str) -> bool {
    let id = EntryId::new(name).unwrap();
    handle.state().read(|state| state.entry(&id).is_some())
}

/// A proposal by the node itself.
pub(crate) fn proposal(operations: Vec<Operation>) -> Proposal {
    Proposal::new(Caller::node(), operations).within(PATIENCE)
}

pub(crate) fn member_node() -> MemberNode {
    MemberNode { name: NodeName::new("node-1").unwrap(), addresses: vec!["node-1.example.org:8082".to_owned()] }
}

fn trust_domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// Creates an entry whose ID is `name`.
pub(crate) fn create(name: &str) -> Operation {
    create_with_hint(name, String::new())
}

/// Creates an entry with a hint, to give it size.
pub(crate) fn create_with_hint(name: &str, hint: String) -> Operation {
    let domain = trust_domain();
    Operation::CreateEntry(Box::new(EntryDraft {
        id: EntryId::new(name).unwrap(),
        spiffe_id: SpiffeId::from_path(&domain, &format!("/workload/{name}")).unwrap(),
        parent_id: SpiffeId::from_path(&domain, "/spire/nodes").unwrap(),
        selectors: SelectorSet::new([Selector::parse("unix:uid:1000").unwrap()]),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Default::default(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint,
        additional_attributes: None,
        crl_per_domain: false,
    }))
}

/// Founds the authority, with a real root and keys sealed by nobody in particular.
pub(crate) fn found_operation(cluster_id: ClusterId) -> Operation {
    let trust_domain = trust_domain();
    let policy = Policy::default();
    let validity = |seconds: u32| Validity::new(NOW, NOW.plus(i64::from(seconds))).unwrap();
    let root_key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let root_validity = validity(policy.root_lifetime);
    let template = AuthorityTemplate {
        trust_domain: &trust_domain,
        serial: SerialNumber::new([1; 16]).unwrap(),
        validity: root_validity,
    };
    let certificate = build_root(&template, &root_key).unwrap();
    let crl = CrlTemplate { this_update: NOW, next_update: root_validity.not_after(), number: 1, revoked: &[] };
    let jwt_key = PrivateKey::generate(KeyType::EcP256).unwrap();
    Operation::Found(Box::new(Found {
        cluster_id,
        trust_domain,
        policy,
        member: member_draft(),
        x509_authority: NewX509Authority {
            certificate: Bytes::copy_from_slice(certificate.der()),
            crl: build_crl(&crl, &root_key).unwrap().into(),
            sealed: sealed(),
            succeeds: None,
        },
        jwt_authority: NewJwtAuthority {
            id: AuthorityId::new("token-key-1").unwrap(),
            public_key: Bytes::copy_from_slice(jwt_key.public_key().spki_der()),
            validity: validity(policy.jwt_key_lifetime),
            sealed: sealed(),
            succeeds: None,
        },
    }))
}

fn member_draft() -> MemberDraft {
    MemberDraft {
        name: NodeName::new("node-1").unwrap(),
        identity_key: Bytes::copy_from_slice(PrivateKey::generate(KeyType::Ed25519).unwrap().public_key().spki_der()),
        sealing_key: Bytes::from_static(b"sealing"),
        incarnation: None,
        region: String::new(),
        zone: String::new(),
        labels: Default::default(),
        addresses: vec!["node-1.example.org:8082".to_owned()],
        version: 1,
        build: "test".to_owned(),
        role: MemberRole::Voter,
        role_pinned: false,
        status: MemberStatus::Admitted,
        serves: quorate_raft_machine::MemberServices::default(),
    }
}

fn sealed() -> Sealed {
    Sealed {
        suite: 1,
        parts: vec![SealedFor {
            recipient: Recipient::Member(MemberNumber::FIRST),
            encapsulated_key: Bytes::from_static(b"encapsulated"),
            ciphertext: Bytes::from_static(b"sealed"),
        }],
    }
}

/// Waits until something is so, and fails the test when it does not come about.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never came about: {what}");
}

/// An error with its causes.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
