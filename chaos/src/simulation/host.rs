//! The software of a simulated node: consensus on its disk and transport, and the clients beside it.

use super::{
    clients,
    keys::{ListedKeys, StandIn},
    operator,
    sources::sources,
    transport::{PORT, SimulatedTransport},
    workloads,
    world::World,
};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use quorate_actors::founding::{FoundingPlan, plan};
use quorate_actors::keys::KeyCustody;
use quorate_actors::{Dependencies, Settings, System};
use quorate_proto_identity::{KeyType, NodeName, TrustDomain, UnixSeconds};
use quorate_raft_consensus::transport::{Destination, Protocol};
use quorate_raft_consensus::{Announcement, Config, Consensus, Handle, JoinRequest, MemberNode, Proposal, Sources};
use quorate_raft_machine::{COMMAND_VERSION, Caller, MembershipPlan, NewInvitation, Operation, Policy};
use quorate_raft_store::log::Drive;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime;
use tokio::time::{Instant, sleep};

/// The trust domain of all runs.
const TRUST_DOMAIN: &str = "example.org";

/// Bytes of log that bring about a snapshot: small, so that a run of seconds has some, and members that fall behind the
/// purged log.
const SNAPSHOT_LOG_BYTES: u64 = 48 * 1024;

/// Bytes of log that are kept below a snapshot.
const TAIL_BYTES: u64 = 8 * 1024;

/// Length at which a segment of the log is followed by a new one.
const SEGMENT_BYTES: u64 = 32 * 1024;

/// How long one step of putting the cluster together may take before it is tried again.
const STEP_LIMIT: Duration = Duration::from_secs(2);

/// Life of a token key: short, so that a run that lets time pass sees some follow each other.
pub(crate) const TOKEN_KEY_LIFE_SECONDS: u32 = 120;

/// The pause before it is.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// What the nodes of a run have in common, and keep from boot to boot.
pub(crate) struct Cast {
    keys: ListedKeys,
    custodies: Vec<Arc<StandIn>>,
}

/// Anything that ends a node's software, in words.
pub(crate) type Failure = Box<dyn std::error::Error>;

impl Cast {
    /// The cast of a run with so many nodes.
    pub(crate) fn new(seed: u64, nodes: usize) -> Option<Self> {
        let custodies: Option<Vec<_>> = (0..nodes).map(|node| StandIn::new(seed, node).map(Arc::new)).collect();
        Some(Self { keys: ListedKeys::new(seed), custodies: custodies? })
    }

    fn custody(&self, node: usize) -> Result<&Arc<StandIn>, Failure> {
        self.custodies.get(node).ok_or_else(|| "there is no such node".into())
    }

    /// How a node that is to be joined is reached.
    fn destinations(&self, but: usize) -> Vec<Destination> {
        let others = self.custodies.iter().enumerate().filter(|(node, _)| *node != but);
        others
            .map(|(node, custody)| Destination {
                addresses: vec![address(node)],
                keys: vec![custody.identity_key()],
                protocol: Protocol::Join,
            })
            .collect()
    }
}

/// The name of a node, as a host of the network and as a member.
pub(crate) fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

fn address(node: usize) -> String {
    format!("{}:{PORT}", name(node))
}

/// Runs a node until it is crashed.
///
/// # Errors
/// When it does not start: whatever was done to its disk, it has to.
pub(crate) async fn run(world: Arc<World>, cast: Arc<Cast>, node: usize) -> Result<(), Failure> {
    let (boot, disk) = world.boots(node).ok_or("there is no such node")?;
    let sources = sources(&world, node, boot);
    let custody = Arc::clone(cast.custody(node)?);
    let transport = SimulatedTransport::new(&world, node, boot, custody.identity_key());
    let config = config(node, custody.identity_key());
    let started = Consensus::start(config, sources.clone(), Arc::new(disk), Arc::new(transport)).await;
    let handle = started.map_err(|error| format!("node {node} does not start: {}", with_causes(&error)))?;
    world.is_up(node, handle.clone());
    tokio::spawn(leap(Arc::clone(&world), node));
    let dependencies = Dependencies {
        handle: handle.clone(),
        sources: sources.clone(),
        keys: Arc::new(cast.keys.clone()),
        custody,
        name: node_name(node)?,
        ledger_dir: None,
        audit: quorate_actors::audit::Auditor::none(),
        answerer: None,
        bundle_source: None,
        acme_client: None,
        settings: Settings { keepers: 1, ..Settings::default() },
    };
    let system = Arc::new(System::start(dependencies).await?);
    world.has_actors(node, system.issuance());
    if node == 0 {
        tokio::spawn(found(handle.clone(), sources.clone(), Arc::clone(&cast), Arc::clone(&world)));
    } else {
        tokio::spawn(join(handle.clone(), Arc::clone(&cast), Arc::clone(&world), node));
    }
    clients::start(&world, node, boot, &handle);
    workloads::start(&world, node, boot, &handle, &system);
    operator::start(&world, node, boot, &handle, &system);
    std::future::pending().await
}

/// Lets this node's time run on at once, when it is told to.
async fn leap(world: Arc<World>, node: usize) {
    let mut leaps = world.hear_leaps(node);
    while let Some(by) = leaps.recv().await {
        world.has_leapt(node, by);
        tokio::time::advance(by).await;
    }
}

fn config(node: usize, identity_key: Bytes) -> Config {
    let mut config = Config::new(format!("{}/data", super::world::DISK_ROOT), runtime::Handle::current());
    config.announcement = Announcement {
        identity_key,
        addresses: vec![address(node)],
        build: "simulated".to_owned(),
        ..Announcement::default()
    };
    config.log.drive = Drive::Inline;
    config.log.segment_bytes = SEGMENT_BYTES;
    config.log.cache_bytes = 64 * 1024;
    config.snapshot.log_bytes = SNAPSHOT_LOG_BYTES;
    config.snapshot.tail_bytes = TAIL_BYTES;
    config.space_reserve_bytes = 0;
    config
}

/// The policy of a run: everything that signs for others signs deterministically.
fn policy() -> Policy {
    Policy {
        root_key_type: KeyType::Rsa2048,
        issuing_key_type: KeyType::Rsa2048,
        x509_svid_key_type: KeyType::Ed25519,
        jwt_key_type: KeyType::Rsa2048,
        jwt_key_lifetime: TOKEN_KEY_LIFE_SECONDS,
        jwt_svid_lifetime: 10,
        refresh_hint: 5,
        ..Policy::default()
    }
}

/// Founds the cluster and invites the others, and goes on after a crash where it was.
async fn found(handle: Handle, sources: Sources, cast: Arc<Cast>, world: Arc<World>) {
    while let Err(error) = try_to_found(&handle, &sources, &cast, &world).await {
        world.trace(Some(0), &format!("founding: {error}"));
        sleep(STEP_PAUSE).await;
    }
}

async fn try_to_found(handle: &Handle, sources: &Sources, cast: &Cast, world: &World) -> Result<(), String> {
    let state = handle.state();
    if handle.cluster().is_none() || state.read(|state| state.cluster().is_none()) {
        let member = MemberNode { name: node_name(0)?, addresses: vec![address(0)] };
        let founded = handle.found(&member).await.map_err(|error| with_causes(&error))?;
        let founding = FoundingPlan {
            cluster: founded.cluster,
            member: founded.member,
            trust_domain: TrustDomain::new(TRUST_DOMAIN).map_err(|error| error.to_string())?,
            policy: policy(),
            name: member.name,
            region: String::new(),
            zone: String::new(),
            labels: BTreeMap::new(),
            addresses: member.addresses,
            version: COMMAND_VERSION,
            build: "simulated".to_owned(),
        };
        let custody: Arc<dyn KeyCustody> = cast.custodies.first().cloned().ok_or("nobody founds")?;
        let operation = plan(founding, sources, Arc::new(cast.keys.clone()), custody).await;
        propose(handle, operation.map_err(|error| with_causes(&error))?).await?;
    }
    if cast.custodies.len() > 3 && state.read(|state| state.plan().voters as usize != cast.custodies.len()) {
        let voters = u32::try_from(cast.custodies.len()).unwrap_or(3);
        propose(handle, Operation::SetPlan(MembershipPlan { voters, ..MembershipPlan::default() })).await?;
    }
    if state.read(|state| state.entry_count() == 0) {
        propose(handle, workloads::entry(workloads::LASTING).ok_or("no entry")?).await?;
    }
    for node in 1..cast.custodies.len() {
        let invited = node_name(node)?;
        if state.read(|state| state.member_by_name(&invited).is_some()) {
            continue;
        }
        let invitation = NewInvitation {
            secret_hash: hash(&secret(world.seed(), node)),
            name: invited,
            role: None,
            region: String::new(),
            zone: String::new(),
            labels: BTreeMap::new(),
            expires_at: UnixSeconds(sources.now().seconds().0 + 600),
        };
        propose(handle, Operation::CreateInvitation(Box::new(invitation))).await?;
    }
    Ok(())
}

/// Joins, and goes on after a crash where it was.
async fn join(handle: Handle, cast: Arc<Cast>, world: Arc<World>, node: usize) {
    while handle.cluster().is_none() {
        sleep(STEP_PAUSE).await;
        if let Err(error) = try_to_join(&handle, &cast, &world, node).await {
            world.trace(Some(node), &format!("joining: {error}"));
        }
    }
}

async fn try_to_join(handle: &Handle, cast: &Cast, world: &World, node: usize) -> Result<(), String> {
    let custody = cast.custody(node).map_err(|error| error.to_string())?;
    let request = JoinRequest {
        trust_domain: TRUST_DOMAIN.to_owned(),
        name: name(node),
        sealing_key: Bytes::copy_from_slice(custody.sealing_public_key()),
        addresses: vec![address(node)],
        version: COMMAND_VERSION,
        build: "simulated".to_owned(),
        secret: Bytes::copy_from_slice(&secret(world.seed(), node)),
        incarnation: handle.begin_joining().await.map_err(|error| with_causes(&error))?,
    };
    let admitted = handle.admit_at(&cast.destinations(node), &request, Instant::now() + STEP_LIMIT).await;
    handle.join(admitted.map_err(|error| with_causes(&error))?).await.map_err(|error| with_causes(&error))
}

/// The secret that admits a node.
fn secret(seed: u64, node: usize) -> [u8; 32] {
    hash(format!("the secret of node {node} in run {seed}").as_bytes())
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}

async fn propose(handle: &Handle, operation: Operation) -> Result<(), String> {
    let proposal = Proposal::new(Caller::node(), vec![operation]).within(STEP_LIMIT);
    let applied = handle.propose(proposal).await.map_err(|error| with_causes(&error))?;
    match applied.outcome.results.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(refusal)) => Err(refusal.to_string()),
        None => Err("no result".to_owned()),
    }
}

fn node_name(node: usize) -> Result<NodeName, String> {
    NodeName::new(&name(node)).map_err(|error| error.to_string())
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
