//! One node as its services see it: configuration, consensus, and the actors once there is an authority.
//!
//! ```text
//!   start ──> waiting ──────────────> founded ─────────> serving ──────> ready
//!               |   `cluster init`      |  actors start    |  lease held, token keys open
//!               |   (founding.rs)       |                  |
//!          admin: Cluster, Health   reads of the state   Workload API, minting
//! ```

use std::sync::{Arc, OnceLock};

use nix::unistd::Gid;
use quorate_actors::keys::{FileCustody, FileCustodyError, KeyCustody, WhenMissing};
use quorate_actors::sources::FreshKeys;
use quorate_actors::{Dependencies, IssuanceStatus, Settings, System, SystemStatus};
use quorate_proto_identity::{NodeName, TrustDomain, UnixMillis};
use quorate_raft_consensus::{Consensus, Handle, Sources, StateReader};
use quorate_raft_store::disk::RealDisk;
use tokio::runtime;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::config::Config;
use crate::ops::Readiness;
use crate::shutdown::Stopping;

/// Where systemd puts the credentials of a service; a node's own keys can be handed in there.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Name of the ledger of issued SVIDs in the data directory.
const LEDGER_DIRECTORY: &str = "ledger";

/// One node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    admin_group: Option<Gid>,
    consensus: Handle,
    sources: Sources,
    custody: Arc<dyn KeyCustody>,
    started_at: UnixMillis,
    stopping: Stopping,
    system: OnceLock<System>,
    /// Tells those who wait that `system` is set.
    serving: watch::Sender<bool>,
    /// Held by the one call that founds.
    founding: Mutex<()>,
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
    /// The cluster in the data directory has no member of this name.
    #[error("the cluster in the data directory has no member named {name}; its members: {members}. Correct `name`")]
    UnknownName {
        /// The configured name.
        name: NodeName,
        /// The names there are.
        members: String,
    },
    /// The actors could not be started.
    #[error(transparent)]
    Actors(#[from] quorate_actors::StartError),
}

/// How the actors came to an end.
#[derive(Debug, thiserror::Error)]
pub enum ActorsEnd {
    /// They could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// One of them ended too often.
    #[error("the actor {actor} ended too often; the process gives up so that it is started afresh")]
    Failed {
        /// Which one.
        actor: &'static str,
    },
}

impl Node {
    /// Locks the data directory, reads the log and the node's keys. Serves nothing yet.
    ///
    /// # Errors
    /// When the directory is in use, damaged, open to others, or not this node's.
    pub async fn start(
        config: Config,
        admin_group: Option<Gid>,
        sources: Sources,
        consensus_runtime: runtime::Handle,
        stopping: Stopping,
    ) -> Result<Self, StartError> {
        let consensus_config = quorate_raft_consensus::Config::new(&config.data_dir, consensus_runtime);
        let consensus = Consensus::start(consensus_config, sources.clone(), Arc::new(RealDisk)).await?;
        let opened = open_custody(&config, &consensus).and_then(|custody| {
            check_identity(&config, &consensus.state())?;
            Ok(custody)
        });
        let custody = match opened {
            Ok(custody) => custody,
            Err(error) => {
                consensus.shutdown().await;
                return Err(error);
            }
        };
        let inner = Inner {
            admin_group,
            consensus,
            custody,
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
        Readiness::from_reasons(self.missing().into_iter().collect())
    }

    fn missing(&self) -> Option<String> {
        if self.inner.stopping.is_asked() {
            return Some("the node is stopping".to_owned());
        }
        if !self.is_founded() {
            return Some("no authority is founded on this node: run quorate cluster init".to_owned());
        }
        let Some(system) = self.system() else { return Some("the node is starting".to_owned()) };
        match &*system.issuance().borrow() {
            IssuanceStatus::Ready { until } if self.inner.sources.now().seconds() <= *until => None,
            // The actor that says so looks at the clock now and then; this looks now.
            IssuanceStatus::Ready { .. } => Some("the node's issuing certificate has expired".to_owned()),
            IssuanceStatus::Starting => Some("the node has not asked for its issuing certificate yet".to_owned()),
            IssuanceStatus::Waiting { reason } => Some(format!("the node may not sign yet: {reason}")),
            IssuanceStatus::Ended { reason } => Some(format!("the node signs no more: {reason}")),
        }
    }

    /// Waits for the founding if need be, starts the actors, and answers when they have come to an end.
    pub async fn keep_actors(&self) -> ActorsEnd {
        let system = match self.start_actors().await {
            Ok(system) => system,
            Err(error) => return error.into(),
        };
        let mut status = system.status();
        loop {
            if let SystemStatus::Failed { actor } = &*status.borrow_and_update() {
                return ActorsEnd::Failed { actor };
            }
            if status.changed().await.is_err() {
                return ActorsEnd::Failed { actor: "supervisor" };
            }
        }
    }

    async fn start_actors(&self) -> Result<&System, StartError> {
        let state = self.inner.consensus.state();
        let mut applied = state.watch_applied_index();
        while !self.is_founded() {
            // The sender lives as long as the handle that this node holds.
            drop(applied.changed().await);
        }
        check_identity(&self.inner.config, &state)?;
        let Inner { consensus, sources, custody, config, .. } = &*self.inner;
        let system = System::start(Dependencies {
            handle: consensus.clone(),
            sources: sources.clone(),
            keys: Arc::new(FreshKeys),
            custody: Arc::clone(custody),
            name: config.name.clone(),
            ledger_dir: config.data_dir.join(LEDGER_DIRECTORY),
            settings: Settings::default(),
        })
        .await?;
        let system = self.inner.system.get_or_init(|| system);
        self.inner.serving.send_replace(true);
        Ok(system)
    }

    /// Ends the actors: open streams end with `Unavailable`.
    pub async fn stop_actors(&self) {
        if let Some(system) = self.system() {
            system.stop().await;
        }
    }

    /// Ends what still runs, and lets the directory go. Everything that was answered is synced.
    pub async fn shutdown(&self) {
        self.stop_actors().await;
        self.inner.consensus.shutdown().await;
    }
}

fn open_custody(config: &Config, consensus: &Handle) -> Result<Arc<dyn KeyCustody>, StartError> {
    let credentials = std::env::var_os(CREDENTIALS_VARIABLE).map(std::path::PathBuf::from);
    // A member's keys are in the cluster's record; until the directory says that it is one, nothing was sealed to them.
    // The directory is asked, and not the role: that moves while the node starts.
    let when_missing = if consensus.member().is_none() { WhenMissing::Make } else { WhenMissing::Refuse };
    Ok(Arc::new(FileCustody::open(&config.data_dir, credentials.as_deref(), when_missing)?))
}

/// Whether the state in the data directory is the one that the configuration speaks of.
fn check_identity(config: &Config, state: &StateReader) -> Result<(), StartError> {
    state.read(|state| {
        let Some(cluster) = state.cluster() else { return Ok(()) };
        if cluster.trust_domain != config.trust_domain {
            return Err(StartError::OtherTrustDomain {
                found: cluster.trust_domain.clone(),
                configured: config.trust_domain.clone(),
            });
        }
        if state.member_by_name(&config.name).is_none() {
            let members: Vec<&str> = state.members().map(|member| member.record.name.as_str()).collect();
            return Err(StartError::UnknownName { name: config.name.clone(), members: members.join(", ") });
        }
        Ok(())
    })
}
