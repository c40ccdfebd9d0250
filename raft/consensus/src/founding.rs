//! Founding: this node becomes the sole voter of a new cluster.
//!
//! ```text
//!   Empty ──► Founding(cluster ID, 1) ──► log made, membership synced ──► Member(cluster ID, 1) ──► elected
//!               │ a crash here: found() begins again with the same identity, on a new log;
//!               └ nothing in the old one was acknowledged (WAL-18)
//! ```
//!
//! The stage is durable before the log is made, and says "member" before anything is proposed: an empty log under a member
//! is a lost disk, never a fresh start.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::error::{InitializeError, RaftError};
use quorate_proto_identity::{ClusterId, MemberNumber};
use quorate_raft_store::{
    WalIdentity,
    directory::{DirectoryError, NodeDirectory, Stage},
};
use tokio::time::timeout;

use crate::{
    engine::{EngineError, LogIs, Opened},
    membership::{MemberNode, RaftNode},
    node::{Node, on_runtime},
    role::Role,
    sources::WorkLost,
    stop::with_causes,
};

/// How long the election of a sole voter may take: it is one sync.
const ELECTION_TIME_LIMIT: Duration = Duration::from_secs(10);

/// The cluster that a founding made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Founded {
    /// Its random number, which tells it from every other. The command that founds the authority carries it.
    pub cluster: ClusterId,
    /// The number of this node in it.
    pub member: MemberNumber,
}

/// Why a cluster was not founded.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// Consensus has ended on this node, or is being shut down.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
    /// How far founding has come could not be written down.
    #[error("the identity of this node cannot be saved")]
    Directory(#[from] DirectoryError),
    /// The log could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Raft refused, or came to an end.
    #[error("consensus did not take the membership: {reason}")]
    Raft {
        /// What it said.
        reason: String,
    },
    /// The node did not win its own election in time. Founding is done; it may still win.
    #[error("this node was not elected in time")]
    NotElected,
    /// The process is stopping.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

impl Node {
    /// See [`Handle::found`](crate::Handle::found).
    pub(crate) async fn found(self: Arc<Self>, member: &MemberNode) -> Result<Founded, FoundError> {
        let raft_node = RaftNode::from(member);
        let runtime = self.config.runtime.clone();
        on_runtime(&runtime, async move {
            let founded = self.complete_founding(raft_node).await?;
            self.wait_for_election().await?;
            Ok(founded)
        })
        .await?
    }

    /// Founds, or completes a founding that broke off, or does nothing when it is done.
    async fn complete_founding(self: &Arc<Self>, raft_node: RaftNode) -> Result<Founded, FoundError> {
        let mut directory = self.directory.lock().await;
        if let Some(engine) = self.engine.get() {
            return Ok(Founded { cluster: engine.cluster, member: engine.member });
        }
        if let Some(reason) = self.stop.get() {
            return Err(FoundError::Stopped { reason });
        }
        let identity = self.identity(&directory)?;
        let member = MemberNumber::FIRST;
        self.advance(&mut directory, Stage::Founding(identity)).await?;
        let opened = Opened::open(self, identity, LogIs::Made).await?;
        let initialized = match initialize(&opened, member, raft_node).await {
            Ok(()) => self.advance(&mut directory, Stage::Member(identity)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = initialized {
            opened.abandon(self).await;
            return Err(error);
        }
        self.serve(opened, member);
        Ok(Founded { cluster: ClusterId::new(identity.cluster), member })
    }
}

impl Node {
    /// The identity of an earlier try if there was one, or a new one.
    fn identity(&self, directory: &Option<NodeDirectory>) -> Result<WalIdentity, FoundError> {
        let Some(directory) = directory else {
            return Err(FoundError::Stopped { reason: self.stop_reason() });
        };
        let new = || WalIdentity { cluster: self.sources.random(), member: MemberNumber::FIRST.get() };
        Ok(directory.identity().unwrap_or_else(new))
    }

    /// Moves the directory on to a stage, where blocking is allowed: it is two syncs.
    async fn advance(&self, directory: &mut Option<NodeDirectory>, stage: Stage) -> Result<(), FoundError> {
        let advanced = self.in_directory(directory, move |held| held.advance(stage)).await?;
        Ok(advanced.ok_or_else(|| FoundError::Stopped { reason: self.stop_reason() })??)
    }

    /// Does something with the directory where blocking is allowed. `None` when it has been given back.
    pub(crate) async fn in_directory<T: Send + 'static>(
        &self,
        directory: &mut Option<NodeDirectory>,
        work: impl FnOnce(&mut NodeDirectory) -> T + Send + 'static,
    ) -> Result<Option<T>, WorkLost> {
        let Some(mut held) = directory.take() else { return Ok(None) };
        let (held, done) = self
            .sources
            .run_blocking(move || {
                let done = work(&mut held);
                (held, done)
            })
            .await?;
        *directory = Some(held);
        Ok(Some(done))
    }

    async fn wait_for_election(&self) -> Result<(), FoundError> {
        let mut role = self.role.subscribe();
        let settled = role.wait_for(|role| role.is_leader() || role.is_stopped());
        match timeout(ELECTION_TIME_LIMIT, settled).await.map(|settled| settled.map(|role| role.clone())) {
            Ok(Ok(Role::Stopped { reason })) => Err(FoundError::Stopped { reason }),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(FoundError::NotElected),
        }
    }
}

/// Writes the first membership: this node, sole voter.
async fn initialize(opened: &Opened, member: MemberNumber, raft_node: RaftNode) -> Result<(), FoundError> {
    match opened.raft.initialize(BTreeMap::from([(member.get(), raft_node)])).await {
        Ok(()) => Ok(()),
        Err(RaftError::APIError(error @ (InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_)))) => {
            Err(FoundError::Raft { reason: with_causes(&error) })
        }
        Err(RaftError::Fatal(fatal)) => Err(FoundError::Raft { reason: with_causes(&fatal) }),
    }
}
