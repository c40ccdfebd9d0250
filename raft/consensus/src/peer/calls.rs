//! The client's side of the calls between members: whom, over which line, for how long.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::{Sender, peer_client::PeerClient};
use tokio::time::timeout;
use tonic::{Response, Status, transport::Channel};

use super::{Lane, Peers, client, wire};
use crate::{
    elections::{Electorate, ElectorateFuture, PreVoteAnswer},
    limits::VOUCH_TIME_LIMIT,
    stop::with_causes,
    type_config::LogId,
};

/// How long the driver's own questions may take at most; it drops what it no longer waits for.
const ELECTORATE_TIME_LIMIT: Duration = Duration::from_secs(1);

/// Why a call came to nothing. Whether the other end heard it is not known but for [`NotAMember`](Self::NotAMember).
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// This node has no number to call under.
    #[error("this node belongs to no cluster yet")]
    NotAMember,
    /// No answer in time.
    #[error("no answer came within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The other end, or the way to it, said no.
    #[error("{}", describe(.0))]
    Failed(Status),
    /// The member says that it lacks what it has acknowledged: its disk was put back to an older state (FLT-18).
    #[error(
        "the member has lost log entries that it had acknowledged: remove it, and let it join on an empty directory"
    )]
    LostEntries,
    /// Nothing was sent.
    #[error("this node's own disk does not answer")]
    OwnDiskStalls,
    /// The answer cannot be read.
    #[error("the answer makes no sense")]
    Bad(#[from] wire::WireError),
}

impl CallError {
    /// In words, with causes.
    pub(crate) fn reason(&self) -> Arc<str> {
        with_causes(self).into()
    }
}

fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

impl Peers {
    /// Makes a call and waits for its answer, at most for `limit`.
    pub(crate) async fn call<T, F>(
        &self,
        member: u64,
        lane: Lane,
        limit: Duration,
        call: impl FnOnce(PeerClient<Channel>, Sender) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let sender = self.sender().ok_or(CallError::NotAMember)?;
        let line = self.line(member, lane);
        let watch = line.watch(limit);
        match timeout(limit, call(client(line.channel()), sender)).await {
            Err(_elapsed) => Err(CallError::Deadline(limit)),
            Ok(result) => {
                watch.answered();
                result.map(Response::into_inner).map_err(CallError::Failed)
            }
        }
    }

    /// Asks the members that this node knows whose key this is; the first who knows is believed. They are members that
    /// this node authenticates, and none of them would vouch for one that it has applied the removal of.
    pub(crate) async fn ask_to_vouch(self: &Arc<Self>, key: &Bytes) -> Option<u64> {
        let own = self.identity()?.member;
        let mut answers = tokio::task::JoinSet::new();
        for member in self.roster.others(own) {
            let (peers, key) = (Arc::clone(self), key.clone());
            answers.spawn(async move {
                let asked = peers.call(member, Lane::Work, VOUCH_TIME_LIMIT, |mut client, sender| async move {
                    client.vouch(proto::VouchRequest { sender: Some(sender), key }).await
                });
                asked.await.map_or(0, |answer| answer.member)
            });
        }
        while let Some(answer) = answers.join_next().await {
            if let Ok(member) = answer
                && member != 0
            {
                return Some(member);
            }
        }
        None
    }
}

/// The other voters, as the driver reaches them.
#[derive(Clone)]
pub(crate) struct PeerElectorate(pub(crate) Arc<Peers>);

impl Electorate for PeerElectorate {
    fn pre_vote(&self, member: u64, last: Option<LogId>) -> ElectorateFuture<Option<PreVoteAnswer>> {
        let peers = Arc::clone(&self.0);
        Box::pin(async move {
            let last = last.as_ref().map(wire::from_log_id);
            let call = peers.call(member, Lane::Raft, ELECTORATE_TIME_LIMIT, |mut client, sender| async move {
                client.pre_vote(proto::PreVoteRequest { sender: Some(sender), last }).await
            });
            match call.await {
                Ok(answer) => Some(PreVoteAnswer { granted: answer.granted, term: answer.term }),
                Err(error) => {
                    tracing::debug!(member, error = %with_causes(&error), "a voter did not answer PreVote");
                    None
                }
            }
        })
    }

    fn take_over(&self, member: u64, term: u64, last: LogId) -> ElectorateFuture<Result<(), String>> {
        let peers = Arc::clone(&self.0);
        Box::pin(async move {
            let last = Some(wire::from_log_id(&last));
            let call = peers.call(member, Lane::Raft, ELECTORATE_TIME_LIMIT, |mut client, sender| async move {
                client.take_over(proto::TakeOverRequest { sender: Some(sender), term, last }).await
            });
            match call.await {
                Ok(answer) if answer.accepted => Ok(()),
                Ok(answer) => Err(answer.reason),
                Err(error) => Err(with_causes(&error)),
            }
        })
    }
}
