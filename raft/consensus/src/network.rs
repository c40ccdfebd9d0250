//! What openraft calls to reach other members.
//!
//! There is no peer service in this version: a Raft group has one voter, and openraft never calls a network for it. A
//! call that is made all the same is answered at once with an error that says so; nothing is pretended.

use std::{future::Future, time::Duration};

use openraft::{
    RaftNetwork, RaftNetworkFactory,
    error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};

use crate::{
    membership::RaftNode,
    type_config::{Snapshot, TypeConfig, Vote},
};

/// How long replication waits after an unreachable member, instead of openraft's 500 ms.
const BACKOFF: Duration = Duration::from_millis(100);

/// A member cannot be reached because this version has no peer service.
#[derive(Debug, thiserror::Error)]
#[error("member {member} cannot be reached: this version runs a single voter and has no peer service")]
pub(crate) struct NoPeerService {
    member: u64,
}

/// Makes clients that reach nobody.
#[derive(Debug, Default)]
pub(crate) struct NoPeers;

/// A client that reaches nobody.
#[derive(Debug)]
pub(crate) struct NoPeer {
    member: u64,
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, _node: &RaftNode) -> NoPeer {
        NoPeer { member: target }
    }
}

impl NoPeer {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(&NoPeerService { member: self.member })
    }
}

impl RaftNetwork<TypeConfig> for NoPeer {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, RaftNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, RaftNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        Err(self.unreachable().into())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
