//! What openraft calls to reach other members.
//!
//! The settings in force set the deadline of each call; the line counts those that pass (SIM-09). A member
//! that cannot be reached is tried again after 100 ms, not after openraft's 500 (`elections.md`, "Calls and traps").

#[cfg(feature = "planted-early-answer")]
mod early;

use std::{future::Future, io, sync::Arc, time::Duration};

use openraft::{
    RaftNetwork, RaftNetworkFactory,
    error::{Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use tokio::time::{Instant, timeout};

use crate::{
    elections::Elections,
    membership::RaftNode,
    peer::{Lane, Peers, calls::CallError, wire},
    sources::Sources,
    type_config::{Snapshot, TypeConfig, Vote},
    unsynced::Unsynced,
};

/// How long replication waits after an unreachable member, instead of openraft's 500 ms.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long this node's disk may take for an append before nothing more is sent: the deadline of a heartbeat.
const STALL_LIMIT: Duration = Duration::from_millis(100);

/// Makes clients; making one dials nobody.
#[derive(Clone)]
pub(crate) struct PeerNetworks {
    pub(crate) peers: Arc<Peers>,
    pub(crate) elections: Arc<Elections>,
    pub(crate) sources: Sources,
    /// What this node has appended and not synced yet.
    pub(crate) unsynced: Arc<Unsynced>,
}

/// The way to one member.
pub(crate) struct PeerNetwork {
    member: u64,
    networks: PeerNetworks,
    #[cfg(feature = "planted-early-answer")]
    late: Option<tokio::sync::mpsc::UnboundedSender<early::Sent>>,
}

impl RaftNetworkFactory<TypeConfig> for PeerNetworks {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, _node: &RaftNode) -> PeerNetwork {
        PeerNetwork {
            member: target,
            networks: self.clone(),
            #[cfg(feature = "planted-early-answer")]
            late: None,
        }
    }
}

impl PeerNetwork {
    async fn append(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        let PeerNetworks { peers, elections, unsynced, .. } = &self.networks;
        // A leader whose disk does not answer can commit nothing, and makes room for another.
        if timeout(limit, unsynced.not_stalled(STALL_LIMIT)).await.is_err() {
            return Err(CallError::OwnDiskStalls);
        }
        let sent = Instant::now();
        let term = request.vote.leader_id.term;
        let sent_range =
            (request.prev_log_id, request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id));
        let call = peers.call(self.member, Lane::Raft, limit, |mut client, sender| async move {
            client.append_entries(wire::from_append(&request, sender)).await
        });
        let response = wire::to_append_response(&call.await?)?;
        if peers.matches.has_lost(self.member, term, &sent_range, &response) {
            return Err(CallError::LostEntries);
        }
        let matching = match &response {
            AppendEntriesResponse::HigherVote(_) => return Ok(response),
            AppendEntriesResponse::Conflict => None,
            AppendEntriesResponse::Success => sent_range.1,
            AppendEntriesResponse::PartialSuccess(matching) => *matching,
        };
        // Raft commits by what it is told now, and counts this node as having it (design property 1).
        if let Some(matching) = matching {
            unsynced.durable(matching.index).await;
        }
        elections.acknowledged(self.member, sent);
        Ok(response)
    }
}

/// An error as openraft wants it: it waits a little after what could not be reached, and not after what was slow.
fn to_raft_error<E: std::error::Error>(error: &CallError) -> RPCError<u64, RaftNode, E> {
    match error {
        CallError::Deadline(_) | CallError::OwnDiskStalls | CallError::Bad(_) => NetworkError::new(error).into(),
        CallError::NotAMember | CallError::LostEntries | CallError::Failed(_) => Unreachable::new(error).into(),
    }
}

impl RaftNetwork<TypeConfig> for PeerNetwork {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, RaftNode, RaftError<u64>>> {
        let limit = self.networks.elections.settings().rpc_limit.min(option.hard_ttl());
        #[cfg(feature = "planted-early-answer")]
        let answered = self.append_early(request, limit).await;
        #[cfg(not(feature = "planted-early-answer"))]
        let answered = self.append(request, limit).await;
        answered.map_err(|error| to_raft_error(&error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, RaftNode, RaftError<u64>>> {
        let transfer = self.networks.elections.is_transfer(&request.vote);
        let limit = self.networks.elections.settings().vote_limit.min(option.hard_ttl());
        let call = self.networks.peers.call(self.member, Lane::Raft, limit, |mut client, sender| async move {
            client.vote(wire::from_vote_request(&request, transfer, sender)).await
        });
        let answered = call.await.and_then(|answer| Ok(wire::to_vote_response(&answer)?));
        answered.map_err(|error| to_raft_error(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let PeerNetworks { peers, sources, .. } = &self.networks;
        let (term, range) = (vote.leader_id.term, (None, snapshot.meta.last_log_id));
        let sending = peers.send_snapshot(self.member, vote, snapshot, sources);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => match sent {
                Ok(answered) => {
                    if answered <= vote {
                        peers.matches.has_lost(self.member, term, &range, &AppendEntriesResponse::Success);
                    }
                    Ok(SnapshotResponse { vote: answered })
                }
                Err(error) => Err(Unreachable::new(&io::Error::other(error.reason().to_string())).into()),
            },
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
