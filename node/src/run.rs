//! A node's process: what starts in which order, and what stops in which.
//!
//! ```text
//!   configuration ──> logs, hardening ──> directory locked, log read (consensus, on a runtime of its own)
//!     ──> sockets placed ──> admin, Workload API and operations answer
//!     ──> peer port, if others need it ──> a cluster is entered: by invitation, by list, by `cluster init`
//!     ──> once this node's own record is applied (at once, if it was a member before): actors ──> ready
//!   signal, or actors that cannot go on ──> shutdown (see that module)
//! ```
//!
//! Before there is an authority the admin socket answers what it can, and the Workload API answers
//! `Unavailable` (SB-04).

mod pid_file;
mod signals;

use std::path::PathBuf;

use metrics_exporter_prometheus::PrometheusHandle;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Group};
use quorate_actors::sources::system_sources;
use tokio::runtime::{Builder, Runtime};

use crate::acme::{http01, serving};
use crate::bundle_endpoint::{BundleEndpoint, BundleEndpointError};
use crate::config::{Config, GroupName};
use crate::federation_api::{FederationApi, FederationApiError};
use crate::https::{HttpsError, HttpsServer};
use crate::invitation::InvitationFile;
use crate::listeners::admission::Admission;
use crate::listeners::socket_path::SocketError;
use crate::listeners::{Bound, UnixSettings};
use crate::metrics::START_TIME;
use crate::node::{ActorsEnd, Node, Start, StartError};
use crate::oidc::{OidcError, OidcServer};
use crate::ops::{Crls, Operations, Shown};
use crate::service;
use crate::shutdown::{DRAIN, stop_signal};
use crate::{hardening, telemetry, warnings};

use pid_file::PidFile;
pub use pid_file::PidFileError;
use signals::Signals;

/// Threads that consensus has to itself, so that signing load cannot starve heartbeats: one that
/// appends and one that answers.
const CONSENSUS_THREADS: usize = 2;

/// Mode of the workload socket: every user of the host may connect, and is told apart.
const WORKLOAD_MODE: u32 = 0o777;

/// Mode of the admin socket.
const ADMIN_MODE: u32 = 0o660;

/// Connections of the admin socket: operators, registrars, a controller or two.
const ADMIN_CONNECTIONS: usize = 1024;

/// Calls in flight of one user of the admin socket.
const ADMIN_CALLS_PER_USER: usize = 8192;

/// Descriptors a node needs beside connections: log, snapshots, ledger, sockets, attestation.
const OTHER_DESCRIPTORS: u64 = 512;

/// How the process was asked to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Where to write the process number, when somebody wants it.
    pub pid_file: Option<PathBuf>,
    /// Whether to end when the parent process ends: for children of a demonstration.
    pub end_with_parent: bool,
    /// Where the invitation is, when the node is to join a cluster.
    pub join: Option<InvitationFile>,
}

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logs or metrics could not be set up.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// The system refused threads, signals or timers.
    #[error("the process could not be set up")]
    Process(#[source] std::io::Error),
    /// The group of the admin socket is not known on this host.
    #[error("admin.group: this host has no group {group:?}; create it, or write its number")]
    UnknownGroup {
        /// The configured name.
        group: String,
    },
    /// The node itself could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A socket could not be placed.
    #[error("{option}")]
    Socket {
        /// The option that says where.
        option: &'static str,
        /// What is wrong.
        source: SocketError,
    },
    /// The operations address could not be listened on.
    #[error("operations.listen: cannot listen on {address}; is another process there?")]
    Operations {
        /// The configured address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The OIDC discovery provider could not be started.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// HTTP-01 challenges cannot be answered.
    #[error("acme.http_listen")]
    Http01(#[source] HttpsError),
    /// The bundle endpoint could not be started.
    #[error(transparent)]
    BundleEndpoint(#[from] BundleEndpointError),
    /// The Federation API could not be started.
    #[error(transparent)]
    FederationApi(#[from] FederationApiError),
    /// The peer port could not be listened on.
    #[error("peer.listen: cannot listen on {address}; is another process there?")]
    Peer {
        /// The configured address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The services could not be put together.
    #[error(transparent)]
    Services(#[from] service::BrokenDescriptors),
    /// The process number could not be written.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The actors could not be started or kept running; a restart of the process is the remedy.
    #[error(transparent)]
    Actors(#[from] ActorsEnd),
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it could not start, or could not go on. Nothing is left half done: what was synced is there
/// at the next start.
pub fn run(config: Config, options: &RunOptions) -> Result<(), RunError> {
    telemetry::start_logging(config.log)?;
    telemetry::log_panics();
    hardening::shut();
    if options.end_with_parent {
        prctl::set_pdeathsig(Signal::SIGTERM).map_err(|errno| RunError::Process(errno.into()))?;
    }
    let descriptors = hardening::raise_descriptor_limit();
    let wanted = config.workload_api.max_connections as u64 + OTHER_DESCRIPTORS;
    if descriptors < wanted {
        tracing::warn!(descriptors, wanted, "fewer descriptors than configured connections need: raise LimitNOFILE");
    }
    let runtimes = Runtimes::start().map_err(RunError::Process)?;
    let outcome = runtimes.main.block_on(serve(config, options, &runtimes.consensus));
    runtimes.stop();
    outcome
}

/// Two runtimes: signing load on one cannot starve the other.
struct Runtimes {
    main: Runtime,
    consensus: Runtime,
}

impl Runtimes {
    fn start() -> std::io::Result<Self> {
        Ok(Self {
            main: Builder::new_multi_thread().thread_name("node").enable_all().build()?,
            consensus: Builder::new_multi_thread()
                .worker_threads(CONSENSUS_THREADS)
                .thread_name("consensus")
                .enable_all()
                .build()?,
        })
    }

    /// Whatever still runs is cut: all that had to be finished is.
    fn stop(self) {
        self.main.shutdown_background();
        self.consensus.shutdown_background();
    }
}

async fn serve(config: Config, options: &RunOptions, consensus: &Runtime) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(RunError::Process)?;
    let registry = telemetry::metrics()?;
    let admin_group = config.admin.group.as_ref().map(resolve).transpose()?;
    let (stop, stopping) = stop_signal();
    // The directory is locked from here on: a second node on it is refused before it touches anything.
    let sources = system_sources(tokio::runtime::Handle::current());
    let started = sources.now().seconds().0 as f64;
    metrics::gauge!(START_TIME, "version" => env!("CARGO_PKG_VERSION")).set(started);
    let start = Start {
        admin_group,
        sources,
        consensus_runtime: consensus.handle().clone(),
        stopping,
        join: options.join.clone(),
    };
    let node = Node::start(config, start).await?;
    let served = answer(&node, options, registry).await;
    match served {
        Ok(serving) => {
            let port = tokio::spawn({
                let node = node.clone();
                async move { node.keep_port().await }
            });
            let end = tokio::select! {
                biased;
                name = signals.next() => {
                    tracing::info!(signal = name, "stopping");
                    Ok(())
                }
                end = node.keep_actors() => Err(RunError::Actors(end)),
            };
            let orderly = async {
                node.hand_over().await;
                stop.ask();
                serving.begin_stop();
                node.stop_actors().await;
                serving.finish().await;
                port.abort();
                node.shutdown().await;
            };
            tokio::select! {
                biased;
                () = orderly => tracing::info!("stopped"),
                name = signals.next() => tracing::warn!(signal = name, "told again: ending at once"),
            }
            end
        }
        Err(error) => {
            stop.ask();
            node.shutdown().await;
            Err(error)
        }
    }
}

/// All that answers.
struct ServingAll {
    workload: crate::listeners::Serving,
    admin: crate::listeners::Serving,
    bundle_endpoint: BundleEndpoint,
    federation_api: FederationApi,
    oidc: OidcServer,
    http01: Option<HttpsServer>,
    operations: Option<Operations>,
    _pid_file: Option<PidFile>,
}

impl ServingAll {
    fn begin_stop(&self) {
        self.workload.begin_stop();
        self.admin.begin_stop();
        self.bundle_endpoint.begin_stop();
        self.federation_api.begin_stop();
        self.oidc.begin_stop();
        self.http01.iter().for_each(HttpsServer::begin_stop);
    }

    async fn finish(self) {
        let http01 = async {
            if let Some(http01) = self.http01 {
                http01.stop().await;
            }
        };
        tokio::join!(
            self.workload.stop(),
            self.admin.stop(),
            self.bundle_endpoint.stop(),
            self.federation_api.stop(),
            self.oidc.stop(),
            http01
        );
        if let Some(operations) = self.operations {
            operations.stop().await;
        }
    }
}

async fn answer(node: &Node, options: &RunOptions, registry: PrometheusHandle) -> Result<ServingAll, RunError> {
    let config = node.config();
    let socket = |option| move |source| RunError::Socket { option, source };
    // All are placed before one answers, so that a wrong path stops the start and not the service.
    let admin = Bound::bind(
        &config.admin.socket,
        UnixSettings {
            name: "admin",
            mode: ADMIN_MODE,
            group: node.admin_group(),
            admission: Admission::new("admin", ADMIN_CONNECTIONS, ADMIN_CALLS_PER_USER),
            drain: DRAIN,
        },
    )
    .map_err(socket("admin.socket"))?;
    let limits = &config.workload_api;
    let workload = Bound::bind(
        &limits.socket,
        UnixSettings {
            name: "workload",
            mode: WORKLOAD_MODE,
            group: None,
            admission: Admission::new("workload", limits.max_connections, limits.max_calls_per_user),
            drain: DRAIN,
        },
    )
    .map_err(socket("workload_api.socket"))?;
    let operations = match config.operations.listen {
        Some(address) => {
            let (asked, looked_at, state) = (node.clone(), node.clone(), node.consensus().state());
            let shown = Shown {
                metrics: registry,
                readiness: Box::new(move || asked.readiness()),
                look: Box::new(move || warnings::set_gauges(&looked_at)),
                crls: Box::new(move || state.read(Crls::of)),
                hosts: config.operations.hosts.clone(),
            };
            let operations =
                Operations::start(address, shown).await.map_err(|source| RunError::Operations { address, source })?;
            tracing::info!(address = %operations.address(), "operations are served");
            Some(operations)
        }
        None => None,
    };
    let acme = serving::hooks(node);
    let bundle_endpoint = BundleEndpoint::start(node, Some(acme.clone())).await?;
    let federation_api = FederationApi::start(node, Some(acme.clone())).await?;
    let oidc = OidcServer::start(node, &acme).await?;
    let http01 = http01::start(node).await.map_err(RunError::Http01)?;
    node.open_port_at_start().await.map_err(|(address, source)| RunError::Peer { address, source })?;
    let pid_file = options.pid_file.as_deref().map(PidFile::write).transpose()?;
    let admin = admin.serve(service::admin(node)).map_err(RunError::Process)?;
    let workload = workload.serve(service::workload(node)?).map_err(RunError::Process)?;
    tracing::info!(
        workload_api = %config.workload_api.socket.display(),
        admin = %config.admin.socket.display(),
        version = env!("CARGO_PKG_VERSION"),
        "the node answers"
    );
    Ok(ServingAll { workload, admin, bundle_endpoint, federation_api, oidc, http01, operations, _pid_file: pid_file })
}

/// Looks a group up in the host's directory.
pub(crate) fn resolve(group: &GroupName) -> Result<Gid, RunError> {
    match group {
        GroupName::Number(number) => Ok(Gid::from_raw(*number)),
        GroupName::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid),
            Ok(None) | Err(_) => Err(RunError::UnknownGroup { group: name.clone() }),
        },
    }
}
