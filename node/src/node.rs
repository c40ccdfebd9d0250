//! One node as its services see it: configuration, consensus, and the actors once there is an authority.
//!
//! ```text
//!   start ──> waiting ──────────────────> member ──────────> serving ──────> ready
//!               |   `cluster init`          |  own record      |  lease held, token keys open
//!               |   invitation (joining)    |  applied:        |
//!               |   list (founding::listed) |  actors start    |
//!          admin: Cluster, Health       reads of the state   Workload API, minting
//! ```

mod actors;
mod endpoint;
mod identity;
mod port;
mod publishing;

use std::sync::{Arc, OnceLock};

use nix::unistd::Gid;
use parking_lot::RwLock;
use quorate_actors::audit::Auditor;
use quorate_actors::keys::{FileCustodyError, KeyCustody};
use quorate_actors::{IssuanceStatus, System};
use quorate_proto_identity::{MemberNumber, NodeName, TrustDomain, UnixMillis};
use quorate_raft_consensus::{Announcement, Consensus, Handle, Sources};
use quorate_raft_store::disk::RealDisk;
use tokio::runtime;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::config::Config;
use crate::founding::listed::HowFar;
use crate::invitation::InvitationFile;
use crate::joining::{JoinFailure, Joining};
use crate::ops::Readiness;
use crate::outbound::{Outbound, OutboundSettings, OutboundStartError};
use crate::peer::tls::{PeerTls, TlsError};
use crate::peer::transport::PeerTransport;
use crate::shutdown::Stopping;
use crate::warnings;

pub use actors::ActorsEnd;
pub(crate) use identity::own_keys;

/// One node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    admin_group: Option<Gid>,
    consensus: Handle,
    transport: PeerTransport,
    outbound: Outbound,
    sources: Sources,
    custody: Arc<dyn KeyCustody>,
    /// The invitation that this node was started with, if it is to be used.
    joining: Option<Joining>,
    audit: Auditor,
    /// How far this node is on its way into a cluster, in words.
    progress: RwLock<Option<String>>,
    started_at: UnixMillis,
    stopping: Stopping,
    system: OnceLock<System>,
    /// Tells those who wait that `system` is set.
    serving: watch::Sender<bool>,
    /// Held by the one call that founds.
    founding: Mutex<()>,
}

/// What a node is started with, beside its configuration.
pub struct Start {
    /// The group whose members may use the admin socket.
    pub admin_group: Option<Gid>,
    /// Clock, randomness and blocking work.
    pub sources: Sources,
    /// The runtime that consensus has to itself.
    pub consensus_runtime: runtime::Handle,
    /// Turns when the process is about to stop.
    pub stopping: Stopping,
    /// Where the invitation is, when the node is to join by one.
    pub join: Option<InvitationFile>,
}

/// Why a node could not start. Nothing is served then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory, the log or a snapshot cannot be used.
    #[error(transparent)]
    Consensus(#[from] quorate_raft_consensus::StartError),
    /// The node's own keys cannot be used.
    #[error(transparent)]
    Custody(#[from] FileCustodyError),
    /// The node's own keys cannot be proved to peers.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The invitation cannot be used.
    #[error(transparent)]
    Join(#[from] JoinFailure),
    /// The data directory is of another trust domain. It is fixed at the founding.
    #[error(
        "the data directory holds the authority of trust domain {found}, and trust_domain is {configured}: correct the \
         configuration, or name another data_dir"
    )]
    OtherTrustDomain {
        /// The one in the state.
        found: TrustDomain,
        /// The one in the configuration.
        configured: TrustDomain,
    },
    /// The cluster in the data directory has no member of this name, or another one.
    #[error("the cluster in the data directory has no member named {name}; its members: {members}. Correct `name`")]
    UnknownName {
        /// The configured name.
        name: NodeName,
        /// The names there are.
        members: String,
    },
    /// The member that lives in the data directory has another name.
    #[error("the data directory is that of member {found} of the cluster, and name is {configured}: correct `name`")]
    OtherName {
        /// The name in the state.
        found: NodeName,
        /// The configured one.
        configured: NodeName,
    },
    /// The keys in the data directory are not those of the member that lives there.
    #[error(
        "identity.key in the data directory is not the key of member {name} in the cluster's record: restore the right \
         one from a copy, or remove this node and join it again with an empty data directory"
    )]
    OtherKeys {
        /// The member.
        name: NodeName,
    },
    /// The member that lives in the data directory was removed from the cluster. It never comes back; its node can, as
    /// a new member.
    #[error(
        "member {name} was removed from the cluster: empty the data directory and join again, by a new invitation \
         (quorate cluster invite --name {name})"
    )]
    Removed {
        /// The member.
        name: NodeName,
    },
    /// What the configuration says of how others are reached cannot be used.
    #[error(transparent)]
    Outbound(#[from] OutboundStartError),
    /// The actors could not be started.
    #[error(transparent)]
    Actors(#[from] quorate_actors::StartError),
}

impl Node {
    /// Locks the data directory, reads the log and the node's keys. Serves nothing yet.
    ///
    /// # Errors
    /// When the directory is in use, damaged, open to others, or not this node's; when the invitation cannot be used.
    pub async fn start(config: Config, start: Start) -> Result<Self, StartError> {
        let Start { admin_group, sources, consensus_runtime, stopping, join } = start;
        let outbound = Outbound::new(&OutboundSettings::from(&config.federation), &sources)?;
        let transport = PeerTransport::new(config.peer.listen, runtime::Handle::current());
        let mut consensus_config = quorate_raft_consensus::Config::new(&config.data_dir, consensus_runtime);
        // Told to the cluster whenever its record has something else. The key is not known before the directory is ours.
        consensus_config.announcement = Announcement {
            addresses: config.addresses().iter().map(ToString::to_string).collect(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            serves: config.services(),
            ..Announcement::default()
        };
        let audit = actors::audit_trail(&config, &sources).await;
        if let Some(tap) = audit.tap() {
            consensus_config.tap = tap;
        }
        let given = Arc::new(transport.clone());
        let consensus = Consensus::start(consensus_config, sources.clone(), Arc::new(RealDisk), given).await?;
        let opened = open(&config, &consensus, &transport, join.as_ref());
        let (custody, joining) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                consensus.shutdown().await;
                return Err(error);
            }
        };
        consensus.answer_founding_with(Arc::new(HowFar {
            consensus: consensus.clone(),
            name: config.name.clone(),
            trust_domain: config.trust_domain.clone(),
            list: config.initial.as_ref().map(|list| list.checksum(&config.trust_domain)),
        }));
        let inner = Inner {
            admin_group,
            consensus,
            transport,
            outbound,
            custody,
            joining,
            audit,
            progress: RwLock::new(None),
            started_at: sources.now(),
            sources,
            stopping,
            system: OnceLock::new(),
            serving: watch::Sender::new(false),
            founding: Mutex::new(()),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The configuration that this node was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The group whose members may use the admin socket.
    #[must_use]
    pub fn admin_group(&self) -> Option<Gid> {
        self.inner.admin_group
    }

    /// Consensus on this node: proposals, reads, health.
    #[must_use]
    pub fn consensus(&self) -> &Handle {
        &self.inner.consensus
    }

    /// The connections to other nodes, and the port that they connect to.
    #[must_use]
    pub fn transport(&self) -> &PeerTransport {
        &self.inner.transport
    }

    /// The client for what others serve over HTTPS.
    #[must_use]
    pub fn outbound(&self) -> &Outbound {
        &self.inner.outbound
    }

    /// Clock, randomness and blocking work.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.inner.sources
    }

    /// The node's own keys.
    #[must_use]
    pub fn custody(&self) -> &Arc<dyn KeyCustody> {
        &self.inner.custody
    }

    /// The audit trail of this node.
    #[must_use]
    pub fn audit(&self) -> &Auditor {
        &self.inner.audit
    }

    /// When the process started.
    #[must_use]
    pub fn started_at(&self) -> UnixMillis {
        self.inner.started_at
    }

    /// Turns when the process is about to stop: streams end then.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.inner.stopping.clone()
    }

    /// The actors, once there is an authority: they issue, attest and mint.
    #[must_use]
    pub fn system(&self) -> Option<&System> {
        self.inner.system.get()
    }

    /// Whether an authority was founded, as far as this node has applied.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.inner.consensus.state().read(|state| state.cluster().is_some())
    }

    /// This node's number in its cluster, once its own admission is applied here.
    #[must_use]
    pub fn number(&self) -> Option<MemberNumber> {
        let number = self.inner.consensus.member()?;
        let is_there =
            |state: &quorate_raft_machine::State| state.cluster().is_some() && state.member(number).is_some();
        self.inner.consensus.state().read(is_there).then_some(number)
    }

    /// What this node does to come into a cluster, when `cluster init` is not for it.
    pub(crate) fn enters_by_other_means(&self) -> Option<&'static str> {
        if self.inner.joining.is_some() {
            return Some("this node was started to join a cluster by invitation, so it founds none");
        }
        self.inner.config.initial.as_ref().map(|_| {
            "this node's configuration has [cluster.initial]: the cluster is founded by itself once all nodes of that \
             list answer"
        })
    }

    /// Says how far this node is on its way into a cluster, for those who ask whether it is ready.
    pub(crate) fn tell_progress(&self, progress: String) {
        *self.inner.progress.write() = Some(progress);
    }

    /// Waits for the one turn to found.
    pub(crate) async fn founding_turn(&self) -> MutexGuard<'_, ()> {
        self.inner.founding.lock().await
    }

    /// Waits until the actors run.
    pub async fn serving(&self) -> &System {
        let mut serving = self.inner.serving.subscribe();
        loop {
            drop(serving.wait_for(|serving| *serving).await);
            if let Some(system) = self.inner.system.get() {
                return system;
            }
        }
    }

    /// Whether this node may sign now and holds the token keys (design section 2, property 4), and if
    /// not, what is missing.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness::from_reasons(self.missing().into_iter().collect()).with_warnings(warnings::of(self))
    }

    /// Why this node may not sign, if it may not: readiness without its warnings, so that strangers may cause it to be asked.
    pub(crate) fn missing(&self) -> Option<String> {
        if self.inner.stopping.is_asked() {
            return Some("the node is stopping".to_owned());
        }
        let Some(system) = self.system() else { return Some(self.not_serving()) };
        match &*system.issuance().borrow() {
            IssuanceStatus::Ready { until, .. } if self.inner.sources.now().seconds() <= *until => None,
            // The actor that says so looks at the clock now and then; this looks now.
            IssuanceStatus::Ready { .. } => Some("the node's issuing certificate has expired".to_owned()),
            IssuanceStatus::Starting => Some("the node has not asked for its issuing certificate yet".to_owned()),
            IssuanceStatus::Waiting { reason } => Some(format!("the node may not sign yet: {reason}")),
            IssuanceStatus::Ended { reason } => Some(format!("the node signs no more: {reason}")),
        }
    }

    fn not_serving(&self) -> String {
        if self.number().is_some() {
            return "the node is starting".to_owned();
        }
        if let Some(progress) = self.inner.progress.read().clone() {
            return progress;
        }
        if self.consensus().member().is_some() {
            return "the node waits for the cluster's state".to_owned();
        }
        match self.enters_by_other_means() {
            Some(reason) => reason.to_owned(),
            None => "no authority is founded on this node: run quorate cluster init, or start it with an invitation \
                     (--join-file)"
                .to_owned(),
        }
    }

    /// Ends what still runs, and lets the directory go. Everything that was answered is synced.
    pub async fn shutdown(&self) {
        self.stop_actors().await;
        self.inner.consensus.shutdown().await;
    }
}

/// What takes the directory to be this node's own.
fn open(
    config: &Config,
    consensus: &Handle,
    transport: &PeerTransport,
    join: Option<&InvitationFile>,
) -> Result<(Arc<dyn KeyCustody>, Option<Joining>), StartError> {
    let custody = identity::open_custody(config, consensus)?;
    identity::check(config, consensus, custody.as_ref())?;
    let joining = identity::invitation_to_use(config, consensus, join)?;
    transport.know_members(consensus.state());
    transport.identify(PeerTls::new(Arc::clone(&custody))?);
    Ok((custody, joining))
}
