//! A snapshot that a leader sends, taken straight into the store (ATK-28).
//!
//! ```text
//!   head: sender, vote, size ─► cap, room on disk, is it our leader? ─► chunks: counted, written, read ─► digest
//!        ─► durable ─► Raft installs it
//! ```
//!
//! One is taken at a time. A newer one takes the place of an older, whose sender may be gone without a word.

use std::sync::Arc;

use openraft::raft::SnapshotResponse;
use parking_lot::Mutex;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::install_snapshot_request::Part;
use quorate_raft_store::{LogId as StoredLogId, snapshot::SnapshotMeta as StoredMeta};
use tokio::{
    sync::{Notify, OwnedMutexGuard},
    time::timeout,
};
use tonic::{Status, Streaming};

use super::wire::{self, from_vote};
use crate::{
    engine::Engine,
    limits::{SNAPSHOT_BYTES_MAX, SNAPSHOT_STALL_LIMIT},
    log_id::{from_raft, to_raft},
    membership::decode_stored,
    node::Node,
    snapshot::{ReceiveError, Receiving, SnapshotData},
    stop::with_causes,
    type_config::{Snapshot, SnapshotMeta, Vote},
};

/// Longest name of a snapshot.
const ID_BYTES_MAX: usize = 256;

/// Lets one snapshot in at a time.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    busy: Arc<tokio::sync::Mutex<()>>,
    /// Tells the one that is being taken to give way.
    give_way: Mutex<Arc<Notify>>,
}

impl Intake {
    /// Waits for the one before to end, having asked it to.
    async fn enter(&self) -> (OwnedMutexGuard<()>, Arc<Notify>) {
        let mine = Arc::new(Notify::new());
        let before = std::mem::replace(&mut *self.give_way.lock(), Arc::clone(&mine));
        before.notify_one();
        (Arc::clone(&self.busy).lock_owned().await, mine)
    }
}

/// What the head announced, checked.
struct Announced {
    vote: Vote,
    meta: SnapshotMeta,
    stored: StoredMeta,
    bytes: u64,
    digest: [u8; 32],
}

/// Takes a snapshot from member `caller`, whose head is the first part of the stream and was authenticated.
pub(crate) async fn receive(
    node: &Arc<Node>,
    engine: &Engine,
    head: proto::SnapshotHead,
    mut parts: Streaming<proto::InstallSnapshotRequest>,
) -> Result<proto::InstallSnapshotResponse, Status> {
    let announced = check(node, head)?;
    let own_vote = || engine.raft().server_metrics().borrow().vote;
    if announced.vote < own_vote() {
        return Ok(answer(&own_vote()));
    }
    let (_entered, give_way) = node.intake.enter().await;
    let taking = take(node, engine, &announced, &mut parts);
    let data = tokio::select! {
        biased;
        () = give_way.notified() => return Err(Status::aborted("a newer snapshot took its place")),
        taken = taking => taken?,
    };
    let Announced { vote, meta, .. } = announced;
    let installed = engine.raft().install_full_snapshot(vote, Snapshot { meta, snapshot: Box::new(data) }).await;
    match installed {
        Ok(SnapshotResponse { vote }) => {
            engine.elections.heard_of_leader();
            Ok(answer(&vote))
        }
        Err(fatal) => Err(Status::unavailable(with_causes(&fatal))),
    }
}

fn answer(vote: &Vote) -> proto::InstallSnapshotResponse {
    proto::InstallSnapshotResponse { vote: Some(from_vote(vote)) }
}

/// Refuses what is too large or makes no sense before any of it is taken.
fn check(node: &Node, head: proto::SnapshotHead) -> Result<Announced, Status> {
    let invalid = |what: &str| Status::invalid_argument(format!("the snapshot is refused: {what}"));
    if head.bytes > SNAPSHOT_BYTES_MAX {
        return Err(invalid("it is larger than any may be"));
    }
    if node.space.available().is_some_and(|free| free < head.bytes.saturating_add(node.config.space_reserve_bytes)) {
        return Err(Status::resource_exhausted("there is no room for the snapshot on this member's disk"));
    }
    if head.id.len() > ID_BYTES_MAX {
        return Err(invalid("its name is too long"));
    }
    let vote = wire::to_vote(head.vote.as_ref()).map_err(|error| invalid(&error.to_string()))?;
    if !vote.committed {
        return Err(invalid("its sender was not elected"));
    }
    let last = head.last.map(|id| StoredLogId { term: id.term, node: id.member, index: id.index });
    let membership = decode_stored(&head.membership).map_err(|error| invalid(&with_causes(&error)))?;
    if membership.log_id().as_ref().map(from_raft) > last {
        return Err(invalid("its membership is newer than itself"));
    }
    let digest = head.digest.as_ref().try_into().map_err(|_| invalid("its digest has another length"))?;
    Ok(Announced {
        vote,
        meta: SnapshotMeta {
            last_log_id: last.map(to_raft),
            last_membership: membership,
            snapshot_id: head.id.clone(),
        },
        stored: StoredMeta { last_log_id: last, id: head.id, membership: head.membership },
        bytes: head.bytes,
        digest,
    })
}

/// Takes the chunks.
async fn take(
    node: &Node,
    engine: &Engine,
    announced: &Announced,
    parts: &mut Streaming<proto::InstallSnapshotRequest>,
) -> Result<SnapshotData, Status> {
    let (snapshots, meta) = (engine.snapshots.clone(), announced.stored.clone());
    let mut receiving = blocking(node, engine, move || snapshots.receive(&meta)).await?;
    loop {
        let part = timeout(SNAPSHOT_STALL_LIMIT, parts.message()).await;
        let part = part.map_err(|_elapsed| Status::deadline_exceeded("the snapshot stood still"))??;
        let chunk = match part.map(|part| part.part) {
            None => break,
            Some(Some(Part::Chunk(chunk))) => chunk,
            Some(Some(Part::Head(_)) | None) => {
                return Err(Status::invalid_argument("a chunk of the snapshot was expected"));
            }
        };
        if receiving.bytes().saturating_add(chunk.len() as u64) > announced.bytes {
            return Err(Status::invalid_argument("the snapshot is longer than announced"));
        }
        // Taking a snapshot from a leader is hearing of it (ELE-10).
        engine.elections.heard_of_leader();
        receiving = blocking(node, engine, move || -> Result<Receiving, ReceiveError> {
            receiving.take(&chunk)?;
            Ok(receiving)
        })
        .await?;
    }
    if receiving.bytes() != announced.bytes {
        return Err(Status::data_loss("the snapshot is shorter than announced"));
    }
    let digest = announced.digest;
    blocking(node, engine, move || receiving.finish(digest)).await
}

/// Works where blocking is allowed. A disk that fails ends consensus here, as it does under the log.
async fn blocking<T: Send + 'static>(
    node: &Node,
    engine: &Engine,
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, Status> {
    match node.sources.run_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let (failed, error) = (error.is_disk_failure(), with_causes(&error));
            if failed {
                node.stop.record(format!("a snapshot could not be received: {error}"));
                let raft = engine.raft();
                tokio::spawn(async move { drop(raft.shutdown().await) });
            }
            tracing::warn!(%error, "a snapshot from the leader was not taken");
            Err(Status::data_loss(error))
        }
        Err(lost) => Err(Status::unavailable(lost.to_string())),
    }
}
