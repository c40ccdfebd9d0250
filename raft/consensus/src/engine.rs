//! A running Raft: opened on the log and the snapshots of this member, with the tasks that serve it.
//!
//! ```text
//!   open:   log ─┐
//!                ├─► newest snapshot into the state ─► Raft::new replays what is known to be committed
//!   snapshots ───┘
//!   serve:  driver │ batcher │ compactor │ free space          stop: batcher drains ─► Raft ─► log closed
//! ```

use std::{sync::Arc, time::Duration};

use openraft::{
    SnapshotPolicy,
    error::RaftError,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use parking_lot::Mutex;
use quorate_proto_identity::{ClusterId, MemberNumber};
use quorate_raft_store::{
    WalIdentity,
    log::{OpenError, Wal},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    adapter::Adapter,
    batcher::{Batcher, new_slots},
    compaction::{Compactor, LogGrowth},
    driver::Driver,
    elections::{Elections, Electorate},
    forwarding::Forwarder,
    limits::{CLOSE_TIME_LIMIT, DRAIN_TIME_LIMIT},
    log_storage::LogStorage,
    network::PeerNetworks,
    node::{Node, Places},
    peer::calls::PeerElectorate,
    queue::Job,
    role::Role,
    runtime::seed_thread,
    settings::{RAFT_LEASE, RAFT_RPC_LIMIT, RAFT_VOTE_LIMIT, follow_the_policy},
    snapshot::Snapshots,
    stop::with_causes,
    telemetry,
    type_config::{Raft, TypeConfig},
    unsynced::Unsynced,
};

/// How often a leader makes sure that its log knows whether it needs others for a quorum.
const MEMBERSHIP_LOOK: Duration = Duration::from_secs(1);

/// Raft, open and not yet served.
pub(crate) struct Opened {
    pub(crate) raft: Raft,
    wal: Wal,
    growth: Arc<LogGrowth>,
    identity: WalIdentity,
    elections: Arc<Elections>,
    snapshots: Snapshots,
    storage: LogStorage,
}

/// Raft, with its tasks.
pub(crate) struct Engine {
    raft: Raft,
    pub(crate) cluster: ClusterId,
    pub(crate) member: MemberNumber,
    /// What peer service and network share with the driver.
    pub(crate) elections: Arc<Elections>,
    /// The other voters, as they are asked.
    pub(crate) electorate: Arc<dyn Electorate>,
    /// The batcher's: taken by whoever hands over (ELE-09).
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) snapshots: Snapshots,
    /// What this node has appended as a leader and not synced yet.
    unsynced: Arc<Unsynced>,
    wal: Wal,
    growth: Arc<LogGrowth>,
    batcher: Mutex<Option<JoinHandle<()>>>,
    driver: Mutex<Option<JoinHandle<()>>>,
    helpers: Vec<JoinHandle<()>>,
}

/// Figures for health.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) term: u64,
    pub(crate) last_log_index: Option<u64>,
    pub(crate) committed_index: Option<u64>,
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) purged_index: Option<u64>,
    pub(crate) log_bytes: u64,
}

/// Why Raft could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The log was not opened; the cause says what to do.
    #[error("the Raft log cannot be used")]
    Log(#[from] OpenError),
    /// The newest snapshot cannot be read, or a file cannot be removed; the cause says what to do.
    #[error("the snapshots cannot be used")]
    Snapshot(#[from] crate::snapshot::LoadError),
    /// The node's directory says that it is member 0, a number that no member has (ELE-04).
    #[error("the data directory belongs to member 0, which there is not: restore the directory from a copy")]
    NoNumber,
    /// What is in the log cannot be applied, or Raft came to an end at once.
    #[error("consensus cannot start: {reason}")]
    Raft {
        /// What Raft said.
        reason: Arc<str>,
    },
    /// Blocking work was lost: the process is stopping.
    #[error(transparent)]
    Lost(#[from] crate::sources::WorkLost),
}

/// Whether the log is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogIs {
    /// It must be there (WAL-18).
    There,
    /// It is made; what a founding that broke off has left is removed.
    Made,
}

impl Opened {
    /// Opens log and snapshots, brings the state up to what is known to be committed, and starts Raft. Nothing is
    /// elected and nothing proposed before [`serve`](Self::serve).
    pub(crate) async fn open(node: &Node, identity: WalIdentity, log_is: LogIs) -> Result<Self, EngineError> {
        let disk = Arc::clone(&node.disk);
        let Places { log, snapshots } = node.places.clone();
        let options = node.config.log;
        let (wal, snapshots, loaded) = node
            .sources
            .run_blocking(move || -> Result<_, EngineError> {
                let (wal, recovered) = match log_is {
                    LogIs::There => Wal::open(Arc::clone(&disk), &log, identity, options)?,
                    LogIs::Made => Wal::create(Arc::clone(&disk), &log, identity, options)?,
                };
                tracing::info!(
                    last = ?recovered.last, committed = ?recovered.committed, purged = ?recovered.purged,
                    torn_bytes = recovered.torn_bytes, secured_bytes = recovered.secured_bytes, "the log is open"
                );
                let (snapshots, loaded) = Snapshots::open(disk, &snapshots, identity, recovered.purged)?;
                Ok((wal, snapshots, loaded))
            })
            .await??;
        let newest = loaded.as_ref().and_then(|loaded| loaded.last_applied);
        if let Some(loaded) = loaded {
            let index = loaded.last_applied.map_or(0, |id| id.index);
            *node.shared.applied.write() = loaded;
            node.config.tap.replaced(index);
            node.shared.publish(index, Vec::new(), true);
        }
        let growth = LogGrowth::new(node.config.snapshot, newest);
        let log =
            LogStorage::new(wal.clone(), identity.member, Arc::clone(&growth), node.sources.clone(), node.stop.clone());
        let adapter = Adapter {
            shared: Arc::clone(&node.shared),
            snapshots: snapshots.clone(),
            growth: Arc::clone(&growth),
            sources: node.sources.clone(),
            stop: node.stop.clone(),
            tap: Arc::clone(&node.config.tap),
        };
        let settings = node.settings();
        let config = Arc::new(raft_config(&identity));
        let elections = Arc::new(Elections::new(identity.member, settings, Instant::now()));
        let networks = PeerNetworks {
            peers: Arc::clone(&node.peers),
            elections: Arc::clone(&elections),
            sources: node.sources.clone(),
            unsynced: log.unsynced(),
        };
        let storage = log.clone();
        node.peers.identify(identity);
        seed_thread(node.sources.random_u64());
        let raft = Raft::new(identity.member, config, networks, log, adapter).await.map_err(|fatal| {
            EngineError::Raft { reason: node.stop.get().unwrap_or_else(|| with_causes(&fatal).into()) }
        })?;
        Ok(Self { raft, wal, growth, identity, elections, snapshots, storage })
    }

    /// Starts what serves Raft.
    pub(crate) fn serve(self, node: &Arc<Node>, member: MemberNumber, jobs: mpsc::Receiver<Job>) -> Engine {
        let Self { raft, wal, growth, identity, elections, snapshots, storage } = self;
        let electorate: Arc<dyn Electorate> = Arc::new(PeerElectorate(Arc::clone(&node.peers)));
        let driver = Driver {
            raft: raft.clone(),
            member: member.get(),
            elections: Arc::clone(&elections),
            electorate: Arc::clone(&electorate),
            role: node.role.clone(),
            sources: node.sources.clone(),
            stop: node.stop.clone(),
        };
        let slots = new_slots();
        let batcher = Batcher {
            jobs,
            raft: raft.clone(),
            forwarder: Forwarder { node: Arc::clone(node) },
            role: node.role.subscribe(),
            closing: node.closing.subscribe(),
            sources: node.sources.clone(),
            sequences: node.sequences.clone(),
            limits: node.config.batch,
            member: member.get(),
            boot: node.boot,
            stop: node.stop.clone(),
            slots: Arc::clone(&slots),
        };
        let compactor = Compactor {
            raft: raft.clone(),
            wal: wal.clone(),
            growth: Arc::clone(&growth),
            shared: Arc::clone(&node.shared),
            space: Arc::clone(&node.space),
        };
        let (log, queue) = (wal.clone(), node.queue.clone());
        let sample = move || {
            let committed = log.recovered_now().committed.map_or(0, |id| id.index);
            telemetry::sample(committed, log.bytes_after(None), log.syncs(), queue.len());
        };
        let space = Arc::clone(&node.space).watch(node.sources.clone(), sample);
        let policy = follow_the_policy(Arc::clone(node), Arc::clone(&elections));
        Engine {
            cluster: ClusterId::new(identity.cluster),
            member,
            elections,
            electorate,
            slots,
            driver: Mutex::new(Some(tokio::spawn(driver.run()))),
            batcher: Mutex::new(Some(tokio::spawn(batcher.run(DRAIN_TIME_LIMIT)))),
            snapshots,
            unsynced: storage.unsynced(),
            helpers: vec![
                tokio::spawn(compactor.run()),
                tokio::spawn(space),
                tokio::spawn(policy),
                tokio::spawn(tell_the_membership(raft.clone(), node.role.subscribe(), storage.clone())),
                tokio::spawn(end_with_the_disk(raft.clone(), storage.unsynced())),
                tokio::spawn(crate::reporting::report(Arc::clone(node))),
                tokio::spawn(Arc::clone(node).mind_the_contact()),
                tokio::spawn(Arc::clone(&node.peers).forget_the_gone()),
                tokio::spawn(crate::announcing::announce(Arc::clone(node), member)),
            ],
            raft,
            wal,
            growth,
        }
    }

    /// Ends a Raft that is not served, because founding broke off.
    pub(crate) async fn abandon(self, node: &Node) {
        // Both can only fail by being over already.
        drop(self.raft.shutdown().await);
        close_log(self.wal, node).await;
    }
}

impl Engine {
    /// Raft.
    pub(crate) fn raft(&self) -> Raft {
        self.raft.clone()
    }

    /// Answers AppendEntries, and counts what was accepted as contact with a leader (ELE-10).
    pub(crate) async fn append_entries(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<u64>, RaftError<u64>> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let answer = self.raft().append_entries(request).await?;
        let matching = match &answer {
            AppendEntriesResponse::HigherVote(_) => return Ok(answer),
            AppendEntriesResponse::Conflict => None,
            AppendEntriesResponse::Success => last,
            AppendEntriesResponse::PartialSuccess(matching) => *matching,
        };
        self.elections.heard_of_leader();
        // What this node appended while it led may still be on its way to the disk.
        if let Some(matching) = matching {
            self.unsynced.durable(matching.index).await;
        }
        Ok(answer)
    }

    /// Who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<MemberNumber> {
        self.raft().server_metrics().borrow().current_leader.and_then(MemberNumber::new)
    }

    /// Figures for health.
    pub(crate) fn figures(&self) -> Figures {
        let log = self.wal.recovered_now();
        Figures {
            term: log.vote.map_or(0, |vote| vote.term),
            last_log_index: log.last.map(|id| id.index),
            committed_index: log.committed.map(|id| id.index),
            snapshot_index: self.growth.snapshot_index(),
            purged_index: log.purged.map(|id| id.index),
            log_bytes: self.wal.bytes_after(None),
        }
    }

    /// Stops in order. The caller has closed the queue. Each step has a time limit, so that a disk that hangs keeps nobody
    /// waiting: `false`, when the log could not be closed, and its writer may still be at work.
    pub(crate) async fn stop(&self, node: &Node) -> bool {
        let batcher = self.batcher.lock().take();
        if let Some(batcher) = batcher {
            join(batcher, DRAIN_TIME_LIMIT * 2).await;
        }
        node.stop.record_end("consensus was shut down");
        let raft_ended = timeout(CLOSE_TIME_LIMIT, self.raft().shutdown()).await.is_ok();
        for helper in &self.helpers {
            helper.abort();
        }
        let driver = self.driver.lock().take();
        if let Some(driver) = driver {
            join(driver, DRAIN_TIME_LIMIT).await;
        }
        close_log(self.wal.clone(), node).await && raft_ended
    }
}

/// Tells the log, whenever this node has come to lead, whether it needs others for a quorum.
async fn tell_the_membership(raft: Raft, mut role: watch::Receiver<Role>, storage: LogStorage) {
    while role.wait_for(Role::is_leader).await.is_ok() {
        let membership = raft.server_metrics().borrow().membership_config.membership().clone();
        storage.learn_membership(&membership);
        // The log forgets it with what it cuts off: looked at again from time to time, and at each new office.
        drop(timeout(MEMBERSHIP_LOOK, role.changed()).await);
    }
}

/// Ends Raft when what it was told to be durable never will be (WAL-09).
async fn end_with_the_disk(raft: Raft, unsynced: Arc<Unsynced>) {
    unsynced.failed().await;
    // It can only fail by being over already.
    drop(raft.shutdown().await);
}

/// Waits for a task, but not for ever.
async fn join(mut task: JoinHandle<()>, limit: Duration) {
    if timeout(limit, &mut task).await.is_err() {
        tracing::warn!("a task of consensus did not end in time and is cut off");
        task.abort();
    }
}

/// Settles the log's mark and gives its lock back. `false` when that did not come about in time.
async fn close_log(wal: Wal, node: &Node) -> bool {
    match timeout(CLOSE_TIME_LIMIT, node.sources.run_blocking(move || wal.close())).await {
        Ok(Ok(Ok(()))) => true,
        Ok(Ok(Err(error))) => {
            tracing::warn!(error = %with_causes(&error), "the log was not closed in order");
            true
        }
        Ok(Err(_lost)) => {
            tracing::warn!("the log was not closed in order");
            true
        }
        Err(_elapsed) => {
            tracing::error!("the disk does not answer: the log is left as it is");
            false
        }
    }
}

/// openraft's configuration: elections, heartbeats and snapshots are ours to start. Its times fit all settings.
pub(crate) fn raft_config(identity: &WalIdentity) -> openraft::Config {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: identity.to_string(),
        heartbeat_interval: millis(RAFT_RPC_LIMIT),
        election_timeout_min: millis(RAFT_VOTE_LIMIT),
        election_timeout_max: millis(RAFT_LEASE),
        enable_tick: true,
        enable_heartbeat: true,
        enable_elect: false,
        // By bytes, see `compaction`; and a purge policy that never finds anything to purge.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..openraft::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raft_never_starts_an_election_by_itself_as_ele_01_says() {
        let config = raft_config(&WalIdentity { cluster: [1; 16], member: 1 });
        assert!(!config.enable_elect);
        assert!(config.election_timeout_min < config.election_timeout_max);
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
    }
}
