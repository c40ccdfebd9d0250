//! From a directory that may be empty to running actors: entering a cluster, waiting for its state, starting.

use std::sync::Arc;
use std::time::Duration;

use quorate_actors::audit::{ANCHOR_EVERY, AuditSettings, Auditor, FILE_BYTES, Limits};
use quorate_actors::sources::FreshKeys;
use quorate_actors::{Dependencies, Settings, System, SystemStatus};
use quorate_raft_consensus::Sources;
use quorate_raft_store::disk::RealDisk;
use quorate_raft_store::free_space::FREE_SPACE_FLOOR_BYTES;
use tokio::time::Instant;

use super::{Inner, Node, StartError, identity};
use crate::acme::AcmeOverHttps;
use crate::answers::NodeAnswers;
use crate::bundle_source::NodeBundleSource;
use crate::config::Config;
use crate::founding::listed::ListedError;
use crate::joining::JoinFailure;

/// How long a hand-over before a stop may take: two elections on one site. Whoever sent the signal waits.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// Name of the ledger of issued SVIDs in the data directory.
const LEDGER_DIRECTORY: &str = "ledger";

/// Name of the audit trail in the data directory.
const AUDIT_DIRECTORY: &str = "audit";

/// The audit trail, not written to yet: consensus tells it from its start on what is applied, and its actor writes that
/// once this node is a member and the directory surely its own.
pub(super) async fn audit_trail(config: &Config, sources: &Sources) -> Auditor {
    let settings = AuditSettings {
        directory: config.data_dir.join(AUDIT_DIRECTORY),
        limits: Limits { file_bytes: FILE_BYTES, keep_bytes: config.audit.keep_bytes },
        floor_bytes: FREE_SPACE_FLOOR_BYTES,
        anchor_every: ANCHOR_EVERY,
        disk: Arc::new(RealDisk),
        sources: sources.clone(),
    };
    // Lost work means that the process is stopping, and then nothing is recorded any more.
    sources.run_blocking(move || Auditor::new(settings)).await.unwrap_or_else(|_lost| Auditor::none())
}

/// How the actors came to an end, or why they never began.
#[derive(Debug, thiserror::Error)]
pub enum ActorsEnd {
    /// They could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node did not join the cluster that it was invited to.
    #[error("this node did not join")]
    Join(#[from] JoinFailure),
    /// The node did not come into the cluster of its founding list.
    #[error(transparent)]
    Listed(#[from] ListedError),
    /// One of them ended too often.
    #[error("the actor {actor} ended too often; the process gives up so that it is started afresh")]
    Failed {
        /// Which one.
        actor: &'static str,
    },
}

impl Node {
    /// Enters a cluster if this node is to, waits until it is a member, starts the actors, and answers when they have
    /// come to an end.
    pub async fn keep_actors(&self) -> ActorsEnd {
        if let Err(error) = self.enter_cluster().await {
            return error;
        }
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

    async fn enter_cluster(&self) -> Result<(), ActorsEnd> {
        if let Some(joining) = &self.inner.joining {
            return Ok(self.join(joining).await?);
        }
        match &self.inner.config.initial {
            Some(list) if !self.is_founded() => Ok(self.enter_by_list(list).await?),
            Some(_) | None => Ok(()),
        }
    }

    async fn start_actors(&self) -> Result<&System, StartError> {
        let state = self.inner.consensus.state();
        let mut applied = state.watch_applied_index();
        // A newcomer applies the whole log, and its own admission near the end of it.
        while self.number().is_none() {
            // The sender lives as long as the handle that this node holds.
            drop(applied.changed().await);
        }
        let Inner { consensus, outbound, sources, custody, config, .. } = &*self.inner;
        identity::check(config, consensus, custody.as_ref())?;
        let system = System::start(Dependencies {
            handle: consensus.clone(),
            sources: sources.clone(),
            keys: Arc::new(FreshKeys),
            custody: Arc::clone(custody),
            name: config.name.clone(),
            ledger_dir: Some(config.data_dir.join(LEDGER_DIRECTORY)),
            audit: self.inner.audit.clone(),
            answerer: Some(NodeAnswers::new(consensus.clone())),
            bundle_source: Some(NodeBundleSource::new(outbound.clone())),
            acme_client: Some(Arc::new(AcmeOverHttps::new(outbound.clone()))),
            settings: Settings {
                foreign_claims: config.workload_api.foreign_jwt_claims.clone(),
                ..Settings::default()
            },
        })
        .await?;
        let system = self.inner.system.get_or_init(|| system);
        self.inner.serving.send_replace(true);
        tokio::spawn(crate::relationships::propose(self.clone()));
        Ok(system)
    }

    /// Hands leadership to another voter, if this node leads and there is one: before the actors that do a leader's work
    /// end here, so that no member waits for its certificate meanwhile (ELE-09).
    pub(crate) async fn hand_over(&self) {
        let consensus = &self.inner.consensus;
        let has_others = consensus.raft_members().voters.last().is_some_and(|voters| voters.len() > 1);
        let leads = consensus.role().borrow().is_leader();
        if leads && has_others {
            let handing = consensus.transfer_leadership(None, Instant::now() + HAND_OVER_LIMIT);
            match handing.await {
                Ok(_) => tracing::info!("leadership was handed over"),
                Err(error) => tracing::warn!(%error, "leadership was not handed over before the stop"),
            }
        }
    }

    /// Ends the actors: open streams end with `Unavailable`.
    pub async fn stop_actors(&self) {
        if let Some(system) = self.system() {
            system.stop().await;
        }
    }
}
