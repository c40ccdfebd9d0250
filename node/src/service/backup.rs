//! Backups of the whole state: `quorate.cluster.v1.Backup`.
//!
//! ```text
//!   a call ──► one at a time ──► read index ──► view of the state ──► sealed parts ──► the caller's file
//! ```

use std::sync::Arc;
use std::time::Duration;

use quorate_actors::backup::{Backup, BackupRefusal, Freshness};
use quorate_proto_api::cluster::backup_server::{Backup as BackupApi, BackupServer};
use quorate_proto_api::cluster::{BackupPart, CreateBackupRequest};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::writes::Writes;
use crate::node::Node;
use crate::telemetry::SECURITY;

/// How long it may take to know that this node is up to date, before anything is streamed.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);

/// How long a backup may take. While one is read, what is written meanwhile stands in memory beside what was; a million
/// entries are 130 MB and take seconds, so an hour is a very slow line.
const BACKUP_TIME_LIMIT: Duration = Duration::from_secs(3_600);

/// Backups that a node makes at a time. Each keeps the state as it was in memory.
const BACKUPS_AT_ONCE: usize = 1;

/// Parts that wait for a slow reader, of 1 MiB each.
const PARTS_BUFFER: usize = 2;

/// The service.
#[derive(Clone)]
pub(super) struct BackupService {
    node: Node,
    writes: Writes,
    turns: Arc<Semaphore>,
}

/// Puts the service together.
pub(super) fn service(node: &Node) -> BackupServer<BackupService> {
    let turns = Arc::new(Semaphore::new(BACKUPS_AT_ONCE));
    BackupServer::new(BackupService { node: node.clone(), writes: Writes::new(node), turns })
}

type Parts = Map<ReceiverStream<bytes::Bytes>, fn(bytes::Bytes) -> Result<BackupPart, Status>>;

#[tonic::async_trait]
impl BackupApi for BackupService {
    type CreateStream = Parts;

    async fn create(&self, request: Request<CreateBackupRequest>) -> Result<Response<Self::CreateStream>, Status> {
        let caller = self.writes.caller(&request);
        let audit = self.node.audit();
        audit.may_administer().map_err(|blocked| Status::resource_exhausted(blocked.to_string()))?;
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_taken| {
            Status::resource_exhausted("this node is making another backup: wait for it, or ask another node")
        })?;
        let (consensus, custody) = (self.node.consensus(), Arc::clone(self.node.custody()));
        let deadline = Instant::now() + BEGIN_LIMIT;
        let without_quorum = request.get_ref().without_quorum;
        let freshness = if without_quorum { Freshness::AsApplied } else { Freshness::UpToDate };
        let (sources, build) = (self.node.sources(), env!("CARGO_PKG_VERSION"));
        let backup = Backup::begin(consensus, freshness, custody, sources, build, deadline).await;
        let backup = backup.map_err(|refusal| refused(&refusal))?;
        let (log_index, entries) = (backup.header().log_index, backup.header().entries);
        tracing::info!(target: SECURITY, log_index, entries, without_quorum, caller = ?caller.identity, "a backup is being made");
        // Whoever has the recovery key and this has the trust domain.
        audit.acted(
            &caller,
            "backup.create",
            &[
                ("log_index", log_index.to_string()),
                ("entries", entries.to_string()),
                ("without_quorum", without_quorum.to_string()),
            ],
        );
        let (parts, stream) = mpsc::channel(PARTS_BUFFER);
        tokio::spawn(async move {
            let _turn = turn;
            match timeout(BACKUP_TIME_LIMIT, backup.send(&parts)).await {
                Ok(Ok(true)) => tracing::info!(target: SECURITY, log_index, "a backup was handed over"),
                Ok(Ok(false)) => {
                    tracing::warn!(log_index, "a backup was not taken: its reader has gone, or has stopped")
                }
                Ok(Err(error)) => tracing::error!(log_index, %error, "a backup came to no end"),
                Err(_elapsed) => tracing::warn!(log_index, "a backup was given up: its reader is too slow"),
            }
        });
        let part: fn(bytes::Bytes) -> Result<BackupPart, Status> = |data| Ok(BackupPart { data });
        Ok(Response::new(ReceiverStream::new(stream).map(part)))
    }
}

fn refused(refusal: &BackupRefusal) -> Status {
    let mut text = refusal.to_string();
    let mut source = std::error::Error::source(refusal);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    match refusal {
        BackupRefusal::NoRecoveryKey | BackupRefusal::RecoveryKey { .. } => Status::failed_precondition(text),
        BackupRefusal::NotFounded
        | BackupRefusal::NotYetSealed { .. }
        | BackupRefusal::NotCurrent(_)
        | BackupRefusal::Lost(_) => Status::unavailable(text),
        BackupRefusal::Sign(_) => Status::internal(text),
    }
}
