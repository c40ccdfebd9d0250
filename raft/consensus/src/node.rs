//! Consensus on one node, from an empty directory to its end: what all handles share.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use quorate_proto_identity::{MemberNumber, UnixMillis};
use quorate_raft_machine::{Caller, Command, Operation, Origin};
use quorate_raft_store::{
    directory::{DirectoryError, NodeDirectory, Stage},
    disk::Disk,
};
use tokio::{
    runtime,
    sync::{mpsc, watch},
};

use crate::{
    config::Config,
    driver::{announce_stop, before_the_driver},
    engine::{Engine, EngineError, LogIs, Opened},
    handle::Handle,
    limits::TRANSFER_BEFORE_STOP_LIMIT,
    origin::Sequences,
    queue::{Job, Queue, queue},
    reader::Shared,
    role::Role,
    settings::Settings,
    sources::{Sources, WorkLost},
    space::{Limits, Space},
    stop::StopCause,
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
    /// Raft, once this node belongs to a cluster.
    pub(crate) engine: OnceLock<Engine>,
    /// The node's directory; its lock is held as long as it is here. Whoever founds or stops holds the mutex.
    pub(crate) directory: tokio::sync::Mutex<Option<NodeDirectory>>,
}

impl Consensus {
    /// Opens the node's directory and, when this node belongs to a cluster, its log and snapshots; the state is then at
    /// what the log knows to be committed. On an empty directory it waits to be founded.
    ///
    /// After a crash more may be committed than the log knows. Whoever must not act on an older state waits for
    /// [`Role::Leader`] or [`Handle::ensure_linearizable`]: both stand for everything that was acknowledged before.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(mut config: Config, sources: Sources, disk: Arc<dyn Disk>) -> Result<Handle, StartError> {
        crate::telemetry::describe();
        config.batch = config.batch.bounded();
        let runtime = config.runtime.clone();
        on_runtime(&runtime, start(config, sources, disk)).await?
    }
}

/// Runs a future on the runtime of consensus, whichever runtime the caller is on.
pub(crate) async fn on_runtime<T: Send + 'static>(
    runtime: &runtime::Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, WorkLost> {
    runtime.spawn(work).await.map_err(|_lost| WorkLost)
}

async fn start(config: Config, sources: Sources, disk: Arc<dyn Disk>) -> Result<Handle, StartError> {
    let path = config.data_dir.clone();
    let opening = Arc::clone(&disk);
    let directory = sources
        .run_blocking(move || {
            NodeDirectory::open(opening, &path).map_err(|source| StartError::Directory { directory: path, source })
        })
        .await??;
    let stage = directory.stage();
    let places = Places { log: directory.log_directory(), snapshots: directory.snapshot_directory() };
    let (queue, jobs) = queue(config.queue);
    let node = Arc::new(Node {
        space: Space::new(
            Arc::clone(&disk),
            config.data_dir.clone(),
            Limits::new(config.space_reserve_bytes, config.space_floor_bytes),
        ),
        boot: sources.random_u64(),
        stop: StopCause::default(),
        shared: Shared::new(),
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
        Stage::Empty | Stage::Founding(_) => {}
        Stage::Member(identity) => {
            let member = MemberNumber::new(identity.member).ok_or(EngineError::NoNumber)?;
            let opened = Opened::open(&node, identity, LogIs::There).await?;
            node.serve(opened, member);
        }
    }
    Ok(Handle::new(node))
}

impl Node {
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
            if let Some(engine) = node.engine.get() {
                engine.stop(&node).await;
            }
            node.stop.record_end("consensus was shut down");
            announce_stop(&node.role, node.stop_reason());
            // The lock on the directory goes last: whoever gets it finds everything closed.
            *directory = None;
        });
        if stopping.await.is_err() {
            tracing::warn!("the runtime of consensus was gone before consensus was shut down");
        }
    }
}
