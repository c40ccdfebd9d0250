//! Consensus on one node, from an empty directory to its end: what all handles share.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::{Mutex, RwLock};
use quorate_proto_identity::{MemberNumber, UnixMillis};
use quorate_raft_machine::{Caller, Command, Operation, Origin};
use quorate_raft_store::{
    directory::{DirectoryError, NodeDirectory, Stage},
    disk::Disk,
};
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    ask::Answerer,
    clock::ClockStatus,
    config::Config,
    contact::Contact,
    driver::{announce_stop, before_the_driver},
    engine::{Engine, EngineError, LogIs, Opened},
    everywhere::Everywhere,
    handle::Handle,
    joining::{FirstPeers, FoundingAnswerer},
    limits::{QUESTIONS_IN_FLIGHT_MAX, TRANSFER_BEFORE_STOP_LIMIT},
    origin::Sequences,
    peer::{Peers, receiving::Intake},
    queue::{Job, Queue, queue},
    reader::{Shared, StateReader},
    reads::ReadRounds,
    reports::Reports,
    role::Role,
    settings::Settings,
    sources::{Sources, WorkLost},
    space::{Limits, Space},
    stop::{StopCause, with_causes},
    transport::Transport,
};

/// Starts consensus.
#[derive(Debug)]
pub struct Consensus;

/// Why consensus did not start. Nothing is served then; the cause says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's directory cannot be used: another process has it, others may write to it, or it cannot be read.
    #[error("the data directory {} cannot be used", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        source: DirectoryError,
    },
    /// Log, snapshots or their content cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The peer port cannot be opened: the address is in use, or is none of this host's.
    #[error("the peer port cannot be opened")]
    Listen {
        /// What the system said.
        source: std::io::Error,
    },
    /// The process is stopping already.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// Where things lie in the node's directory.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) log: PathBuf,
    pub(crate) snapshots: PathBuf,
}

/// What all handles of a node share.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) sources: Sources,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) places: Places,
    pub(crate) stop: StopCause,
    pub(crate) shared: Arc<Shared>,
    pub(crate) role: watch::Sender<Role>,
    pub(crate) closing: watch::Sender<bool>,
    pub(crate) queue: Queue,
    /// The other end of the queue, until a batcher has it.
    pub(crate) jobs: Mutex<Option<mpsc::Receiver<Job>>>,
    pub(crate) sequences: Sequences,
    /// Tells this start of the process from every other.
    pub(crate) boot: u64,
    pub(crate) space: Arc<Space>,
    /// The other members.
    pub(crate) peers: Arc<Peers>,
    /// Rounds of reading.
    pub(crate) reads: ReadRounds,
    /// What members have reported.
    pub(crate) reports: Reports,
    /// What is waited for to be applied everywhere.
    pub(crate) everywhere: Everywhere,
    /// Whether this member is connected.
    pub(crate) contact: watch::Sender<Contact>,
    /// How its clock stands.
    pub(crate) clock: watch::Sender<ClockStatus>,
    /// Who answers other members' questions.
    pub(crate) answerer: RwLock<Option<Arc<dyn Answerer>>>,
    /// How many questions may be worked on.
    pub(crate) questions: Arc<Semaphore>,
    /// Who answers nodes that are founded together.
    pub(crate) founding_answerer: RwLock<Option<Arc<dyn FoundingAnswerer>>>,
    /// Takes snapshots from leaders.
    pub(crate) intake: Intake,
    /// Turns true when peers are answered no more.
    pub(crate) ended: watch::Sender<bool>,
    /// Serves the peer port.
    pub(crate) server: Mutex<Option<JoinHandle<()>>>,
    /// Raft, once this node belongs to a cluster.
    pub(crate) engine: OnceLock<Engine>,
    /// The node's directory; its lock is held as long as it is here. Whoever founds or stops holds the mutex.
    pub(crate) directory: tokio::sync::Mutex<Option<NodeDirectory>>,
}

impl Consensus {
    /// Opens the node's directory and, when this node belongs to a cluster, its log and snapshots; the state is then at
    /// what the log knows to be committed. On an empty directory it waits to be founded, or to join. The peer port is open
    /// from here on.
    ///
    /// After a crash more may be committed than the log knows. Whoever must not act on an older state waits for
    /// [`Role::Leader`] or [`Handle::ensure_linearizable`]: both stand for everything that was acknowledged before.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(
        mut config: Config,
        sources: Sources,
        disk: Arc<dyn Disk>,
        transport: Arc<dyn Transport>,
    ) -> Result<Handle, StartError> {
        crate::telemetry::describe();
        config.batch = config.batch.bounded();
        let runtime = config.runtime.clone();
        on_runtime(&runtime, start(config, sources, disk, transport)).await?
    }
}

/// Runs a future on the runtime of consensus, whichever runtime the caller is on.
pub(crate) async fn on_runtime<T: Send + 'static>(
    runtime: &runtime::Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, WorkLost> {
    runtime.spawn(work).await.map_err(|_lost| WorkLost)
}

async fn start(
    config: Config,
    sources: Sources,
    disk: Arc<dyn Disk>,
    transport: Arc<dyn Transport>,
) -> Result<Handle, StartError> {
    let path = config.data_dir.clone();
    let opening = Arc::clone(&disk);
    let directory = sources
        .run_blocking(move || {
            NodeDirectory::open(opening, &path).map_err(|source| StartError::Directory { directory: path, source })
        })
        .await??;
    let stage = directory.stage();
    let places = Places { log: directory.log_directory(), snapshots: directory.snapshot_directory() };
    let first_peers = first_peers(&directory, stage);
    let (queue, jobs) = queue(config.queue);
    let shared = Shared::new();
    if let Some(first) = &first_peers {
        shared.roster.begin_with(first.epoch, &first.peers);
    }
    // The port last of what can fail without a trace, and before anything is served.
    let incoming = transport.listen().await.map_err(|source| StartError::Listen { source })?;
    let node = Arc::new(Node {
        peers: Peers::new(transport, Arc::clone(&shared.roster), config.runtime.clone()),
        reads: ReadRounds::default(),
        reports: Reports::default(),
        everywhere: Everywhere::default(),
        contact: watch::Sender::new(Contact::CutOff { since: Instant::now() }),
        clock: watch::Sender::new(ClockStatus::default()),
        answerer: RwLock::new(None),
        questions: Arc::new(Semaphore::new(QUESTIONS_IN_FLIGHT_MAX)),
        founding_answerer: RwLock::new(None),
        intake: Intake::default(),
        ended: watch::Sender::new(false),
        server: Mutex::new(None),
        space: Space::new(
            Arc::clone(&disk),
            config.data_dir.clone(),
            Limits::new(config.space_reserve_bytes, config.space_floor_bytes),
        ),
        boot: sources.random_u64(),
        stop: StopCause::default(),
        shared,
        role: before_the_driver(),
        closing: watch::Sender::new(false),
        queue,
        jobs: Mutex::new(Some(jobs)),
        sequences: Sequences::new(),
        engine: OnceLock::new(),
        places,
        directory: tokio::sync::Mutex::new(Some(directory)),
        config,
        sources,
        disk,
    });
    node.space.look(&node.sources).await;
    match stage {
        Stage::Empty | Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_) => {}
        Stage::Member(identity) => {
            let member = MemberNumber::new(identity.member).ok_or(EngineError::NoNumber)?;
            let opened = Opened::open(&node, identity, LogIs::There).await?;
            node.serve(opened, member);
        }
    }
    *node.server.lock() = Some(tokio::spawn(crate::peer::server::serve(Arc::clone(&node), incoming)));
    Ok(Handle::new(node))
}

/// Whom a newcomer was told of. It counts until the state says more, so that a damaged file keeps no member from starting.
fn first_peers(directory: &NodeDirectory, stage: Stage) -> Option<FirstPeers> {
    match stage {
        Stage::Empty | Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_) => None,
        Stage::Member(_) => match directory.first_peers() {
            Ok(bytes) => FirstPeers::decode(&bytes?),
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "whom this node was told of when it joined is not known");
                None
            }
        },
    }
}

impl Node {
    /// A reader of the applied state.
    pub(crate) fn reader(&self) -> StateReader {
        StateReader::new(Arc::clone(&self.shared))
    }

    /// Starts the tasks of an opened Raft. Does nothing when one runs already.
    pub(crate) fn serve(self: &Arc<Self>, opened: Opened, member: MemberNumber) -> bool {
        let Some(jobs) = self.jobs.lock().take() else { return false };
        // Until the driver has looked: a member, of which nothing more is known.
        self.role.send_replace(Role::Follower { leader: None });
        self.engine.set(opened.serve(self, member, jobs)).is_ok()
    }

    /// The settings of the policy that is applied so far, or those of the configuration where there is none.
    pub(crate) fn settings(&self) -> &'static Settings {
        let applied = self.shared.applied.read();
        Settings::of(applied.state.policy().map_or(self.config.network, |policy| policy.network))
    }

    /// The command of a proposal, before the batcher stamps and numbers it.
    pub(crate) fn envelope(&self, caller: Caller, operations: Vec<Operation>) -> Command {
        let node = self.engine.get().map_or(0, |engine| engine.member.get());
        Command {
            origin: Origin { node, boot: self.boot, sequence: 0, acknowledged: 0 },
            caller,
            time: UnixMillis(0),
            operations,
        }
    }

    /// Why consensus has ended, or is about to.
    pub(crate) fn stop_reason(&self) -> Arc<str> {
        self.stop.get().unwrap_or_else(|| Arc::from("consensus is shutting down"))
    }

    /// Stops in order; see [`Handle::shutdown`].
    pub(crate) async fn shutdown(self: &Arc<Self>) {
        let node = Arc::clone(self);
        let stopping = on_runtime(&self.config.runtime, async move {
            if let Some(engine) = node.engine.get()
                && !*node.closing.borrow()
            {
                engine.hand_over_before_stop(&node, TRANSFER_BEFORE_STOP_LIMIT).await;
            }
            node.closing.send_replace(true);
            let mut directory = node.directory.lock().await;
            if directory.is_none() {
                return;
            }
            let closed = match node.engine.get() {
                Some(engine) => engine.stop(&node).await,
                None => true,
            };
            node.ended.send_replace(true);
            if let Some(server) = node.server.lock().take() {
                server.abort();
            }
            node.stop.record_end("consensus was shut down");
            announce_stop(&node.role, node.stop_reason());
            // The lock on the directory goes last: whoever gets it finds everything closed. Where the disk hangs it is kept
            // until the process ends, since the log's writer may still wake up.
            if closed {
                *directory = None;
            }
        });
        if stopping.await.is_err() {
            tracing::warn!("the runtime of consensus was gone before consensus was shut down");
        }
    }
}
