//! A snapshot on its way to a member that is behind the purged log.
//!
//! Chunks are read one at a time, behind the Blocking seam, while the one before is on the wire; nothing holds more than
//! a few of them. There is no time limit for the whole, which depends on its size, but one for standing still.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::Vote;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::install_snapshot_request::Part;
use quorate_raft_store::snapshot::Snapshot as StoredSnapshot;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Lane, Peers, calls::CallError, client, wire};
use crate::{
    limits::{SNAPSHOT_INSTALL_LIMIT, SNAPSHOT_STALL_LIMIT},
    sources::Sources,
    stop::with_causes,
    type_config::Snapshot,
};

/// Chunks between the disk and the wire.
const CHUNKS_AHEAD: usize = 2;

impl Peers {
    /// Sends a snapshot and waits until it is installed. Gives the receiver's vote.
    pub(crate) async fn send_snapshot(
        &self,
        member: u64,
        vote: Vote<u64>,
        snapshot: Snapshot,
        sources: &Sources,
    ) -> Result<Vote<u64>, CallError> {
        let stored = snapshot.snapshot.file().cloned();
        let Some(stored) = stored else {
            return Err(CallError::Failed(Status::internal("there is no snapshot file to send")));
        };
        let sender = self.sender().ok_or(CallError::NotAMember)?;
        let meta = stored.meta();
        let head = proto::SnapshotHead {
            sender: Some(sender),
            vote: Some(wire::from_vote(&vote)),
            last: snapshot.meta.last_log_id.as_ref().map(wire::from_log_id),
            membership: meta.membership.clone(),
            id: meta.id.clone(),
            bytes: stored.bytes(),
            chunks: stored.chunks(),
            digest: Bytes::copy_from_slice(&stored.digest()),
        };
        tracing::info!(member, bytes = stored.bytes(), "a snapshot is being sent to a member that is behind the log");
        let (parts, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (progress, mut watched) = watch::channel(SNAPSHOT_STALL_LIMIT);
        let feeding = tokio::spawn(feed(head, stored, parts, progress, sources.clone()));
        let channel = self.line(member, Lane::Work).channel();
        let mut client = client(channel);
        let call = client.install_snapshot(ReceiverStream::new(receiver));
        tokio::pin!(call);
        let result = loop {
            let limit = *watched.borrow_and_update();
            tokio::select! {
                biased;
                answer = &mut call => break answer.map_err(CallError::Failed),
                () = sleep_until(Instant::now() + limit) => break Err(CallError::Deadline(limit)),
                Ok(()) = watched.changed() => {}
            }
        };
        feeding.abort();
        Ok(wire::to_vote(result?.into_inner().vote.as_ref())?)
    }
}

/// Reads the file into the stream, and tells after each part how long to wait for the next.
async fn feed(
    head: proto::SnapshotHead,
    stored: StoredSnapshot,
    parts: mpsc::Sender<proto::InstallSnapshotRequest>,
    progress: watch::Sender<Duration>,
    sources: Sources,
) {
    let request = |part| proto::InstallSnapshotRequest { part: Some(part) };
    if parts.send(request(Part::Head(head))).await.is_err() {
        return;
    }
    let reader = Arc::new(parking_lot::Mutex::new(stored.read()));
    loop {
        let reading = Arc::clone(&reader);
        match sources.run_blocking(move || reading.lock().next()).await {
            Ok(Some(Ok(chunk))) => {
                if parts.send(request(Part::Chunk(chunk))).await.is_err() {
                    return;
                }
                progress.send_replace(SNAPSHOT_STALL_LIMIT);
            }
            Ok(None) => break,
            // The stream ends short of what its head says, and the receiver refuses it.
            Ok(Some(Err(error))) => {
                tracing::error!(error = %with_causes(&error), "a snapshot cannot be read, and so not be sent");
                break;
            }
            Err(_lost) => break,
        }
    }
    drop(parts);
    // All of it is out of our hands: the receiver checks and installs it.
    progress.send_replace(SNAPSHOT_INSTALL_LIMIT);
}
