//! A node with everything but sockets: consensus on a temporary directory, the actors, and callers of choice; alone, or one
//! of several on a network in memory.

use std::{
    collections::BTreeMap,
    future::Future,
    os::unix::fs::DirBuilderExt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_identity::{
    EntryId, KeyType, NodeName, PrivateKey, Selector, SelectorSet, SpiffeId, TrustDomain, UnixMillis,
};
use quorate_raft_consensus::{Announcement, Config, Consensus, Handle, MemberNode, Proposal, Sources, WallClock};
use quorate_raft_machine::{COMMAND_VERSION, Caller as Asker, Done, EntryDraft, Operation, Policy};
use quorate_raft_store::disk::RealDisk;
use tempfile::TempDir;
use tokio::runtime;
use tokio_stream::{Stream, StreamExt};

use super::network::Network;
use crate::{
    Caller, Dependencies, IssuanceStatus, Refusal, Settings, System,
    attestation::{PeerCredentials, PeerProcess},
    audit::{AuditSettings, Auditor, Limits},
    authority::founding::{FoundingPlan, plan},
    keys::{FileCustody, KeyCustody, WhenMissing},
    sources::{BlockingPool, KeySource, KeySourceError, SystemClock, SystemEntropy},
};

/// The bound of every wait.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// The system's clock, and how far it was set off.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<AtomicI64>);

impl Clock {
    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(super) fn set_back(&self, by: Duration) {
        self.0.fetch_sub(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl WallClock for Clock {
    fn now(&self) -> UnixMillis {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }
}

/// Makes fresh keys, remembers them, and lets a test step in while one is made.
#[derive(Clone, Default)]
pub(super) struct WatchedKeys {
    pub(super) made: Arc<Mutex<Vec<PrivateKey>>>,
    pub(super) hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnMut() + Send>;

impl KeySource for WatchedKeys {
    fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeySourceError> {
        let key = PrivateKey::generate(kind).map_err(|_| KeySourceError { kind })?;
        self.made.lock().push(key.clone());
        if let Some(hook) = &mut *self.hook.lock() {
            hook();
        }
        Ok(key)
    }
}

/// The node.
pub(super) struct World {
    pub(super) name: NodeName,
    pub(super) network: Network,
    pub(super) directory: TempDir,
    pub(super) handle: Handle,
    pub(super) system: System,
    pub(super) clock: Clock,
    pub(super) keys: WatchedKeys,
    pub(super) custody: Arc<dyn KeyCustody>,
    pub(super) sources: Sources,
    pub(super) settings: Settings,
    pub(super) audit: Auditor,
}

pub(super) fn trust_domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

pub(super) fn id(path: &str) -> SpiffeId {
    SpiffeId::from_path(&trust_domain(), path).unwrap()
}

/// Settings of tests: programs are not hashed, because the test's own is large.
pub(super) fn settings() -> Settings {
    Settings { executable_bytes_limit: 1, ..Settings::default() }
}

impl World {
    /// A founded node that may sign.
    pub(super) async fn ready() -> Self {
        Self::with(Policy::default(), settings()).await
    }

    /// The same, by another policy or other settings.
    pub(super) async fn with(policy: Policy, settings: Settings) -> Self {
        let world = Self::unfounded(settings).await;
        world.found(policy).await;
        world.until_ready().await;
        world
    }

    /// A node on an empty directory.
    pub(super) async fn unfounded(settings: Settings) -> Self {
        Self::on(&Network::default(), "node-1", settings).await
    }

    /// A node of this name on an empty directory.
    pub(super) async fn on(network: &Network, name: &str, settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let clock = Clock::default();
        let sources = Sources::new(clock.clone(), SystemEntropy::new(), BlockingPool::new(runtime::Handle::current()));
        std::fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
        let custody: Arc<dyn KeyCustody> = Arc::new(FileCustody::open(&data, None, WhenMissing::Make).unwrap());
        let (name, network) = (NodeName::new(name).unwrap(), network.clone());
        let audit = trail(&directory, &sources);
        let handle = consensus(&directory, &name, &network, &sources, custody.as_ref(), &audit).await;
        let keys = WatchedKeys::default();
        let system = System::start(Dependencies {
            handle: handle.clone(),
            sources: sources.clone(),
            keys: Arc::new(keys.clone()),
            custody: Arc::clone(&custody),
            name: name.clone(),
            ledger_dir: Some(data.join("ledger")),
            audit: audit.clone(),
            answerer: None,
            bundle_source: network.outside(name.as_str()),
            acme_client: None,
            settings: settings.clone(),
        });
        let system = system.await.unwrap();
        Self { name, network, directory, handle, system, clock, keys, custody, sources, settings, audit }
    }

    /// Stops the actors and starts them anew, as a process that starts again on the same log.
    pub(super) async fn restart_actors(&mut self) {
        self.system.stop().await;
        self.system = System::start(self.dependencies()).await.unwrap();
    }

    /// Stops everything and starts it anew on the same directory, as a new process.
    pub(super) async fn restart_node(&mut self) {
        self.stop().await;
        self.start().await;
    }

    /// Ends the process.
    pub(super) async fn stop(&self) {
        self.system.stop().await;
        self.handle.shutdown().await;
    }

    /// Begins a new one on the same directory.
    pub(super) async fn start(&mut self) {
        let custody = self.custody.as_ref();
        self.audit = trail(&self.directory, &self.sources);
        self.handle = consensus(&self.directory, &self.name, &self.network, &self.sources, custody, &self.audit).await;
        self.system = System::start(self.dependencies()).await.unwrap();
    }

    fn dependencies(&self) -> Dependencies {
        Dependencies {
            handle: self.handle.clone(),
            sources: self.sources.clone(),
            keys: Arc::new(self.keys.clone()),
            custody: Arc::clone(&self.custody),
            name: self.name.clone(),
            ledger_dir: Some(self.directory.path().join("data").join("ledger")),
            audit: self.audit.clone(),
            answerer: None,
            bundle_source: None,
            acme_client: None,
            settings: self.settings.clone(),
        }
    }

    pub(super) async fn found(&self, policy: Policy) {
        let name = self.name.clone();
        let node = MemberNode { name: name.clone(), addresses: vec![name.to_string()] };
        let founded = self.handle.found(&node).await.unwrap();
        let founding = FoundingPlan {
            cluster: founded.cluster,
            member: founded.member,
            trust_domain: trust_domain(),
            policy,
            name,
            region: String::new(),
            zone: String::new(),
            labels: BTreeMap::new(),
            addresses: node.addresses,
            version: COMMAND_VERSION,
            build: "test".into(),
        };
        let keys = Arc::new(self.keys.clone());
        let operation = plan(founding, &self.sources, keys, Arc::clone(&self.custody)).await.unwrap();
        self.propose(operation).await;
    }

    pub(super) async fn propose(&self, operation: Operation) -> Done {
        let proposal = Proposal::new(Asker::node(), vec![operation]);
        self.handle.propose(proposal).await.unwrap().outcome.results.remove(0).unwrap()
    }

    pub(super) async fn until_ready(&self) {
        self.until(|status| matches!(status, IssuanceStatus::Ready { .. })).await;
    }

    pub(super) async fn until(&self, wanted: impl FnMut(&IssuanceStatus) -> bool) -> IssuanceStatus {
        let mut issuance = self.system.issuance();
        within(issuance.wait_for(wanted)).await.unwrap().clone()
    }

    /// Registers an entry for callers that this test's user started.
    pub(super) async fn register(&self, entry: &str, path: &str) {
        self.register_draft(draft(entry, path)).await;
    }

    pub(super) async fn register_draft(&self, draft: EntryDraft) {
        let done = self.propose(Operation::CreateEntry(Box::new(draft))).await;
        assert!(matches!(done, Done::EntryCreated { .. }), "{done:?}");
    }

    pub(super) async fn delete(&self, entry: &str) {
        self.propose(Operation::DeleteEntry { id: EntryId::new(entry).unwrap(), revoke: None }).await;
    }
}

/// The audit trail of a node, in files that are full after a few records, anchored soon.
fn trail(directory: &TempDir, sources: &Sources) -> Auditor {
    Auditor::new(AuditSettings {
        directory: directory.path().join("data").join("audit"),
        limits: Limits { file_bytes: 4_096, keep_bytes: 1 << 20 },
        floor_bytes: 0,
        anchor_every: Duration::from_millis(50),
        disk: Arc::new(RealDisk),
        sources: sources.clone(),
    })
}

/// Consensus of a node, as far as the test's directory has come.
async fn consensus(
    directory: &TempDir,
    name: &NodeName,
    network: &Network,
    sources: &Sources,
    custody: &dyn KeyCustody,
    audit: &Auditor,
) -> Handle {
    let identity_key = Bytes::copy_from_slice(custody.identity_public_key().spki_der());
    let mut config = Config::new(directory.path().join("data"), runtime::Handle::current());
    config.announcement = Announcement {
        identity_key: identity_key.clone(),
        addresses: vec![name.to_string()],
        build: "test".into(),
        serves: network.serves(),
    };
    config.tap = audit.tap().unwrap();
    let transport = network.transport(name.as_str(), identity_key);
    Consensus::start(config, sources.clone(), Arc::new(RealDisk), transport).await.unwrap()
}

/// An entry for callers that this test's user started, under the built-in parent.
pub(super) fn draft(entry: &str, path: &str) -> EntryDraft {
    let uid = nix::unistd::geteuid();
    let selectors = SelectorSet::new([Selector::new("unix", &format!("uid:{uid}")).unwrap()]);
    EntryDraft::new(EntryId::new(entry).unwrap(), id(path), id("/spire/nodes"), selectors)
}

/// This very process as a caller, on a connection of its own.
pub(super) fn caller() -> Arc<Caller> {
    let credentials = PeerCredentials {
        pid: i32::try_from(std::process::id()).unwrap(),
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        groups: None,
    };
    Caller::new(PeerProcess::new(credentials, None).unwrap())
}

/// Waits, within bounds.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it takes too long")
}

/// The next item of a stream that has one.
pub(super) async fn next<T>(stream: &mut (impl Stream<Item = Result<T, Refusal>> + Unpin)) -> Result<T, Refusal> {
    within(stream.next()).await.expect("the stream has another item")
}

/// Reads a stream until an item is as wanted.
pub(super) async fn until<T>(
    stream: &mut (impl Stream<Item = Result<T, Refusal>> + Unpin),
    mut wanted: impl FnMut(&T) -> bool,
) -> T {
    loop {
        let item = next(stream).await.unwrap();
        if wanted(&item) {
            return item;
        }
    }
}
