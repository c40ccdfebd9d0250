//! The answers to members.
//!
//! Each call is tested by itself: the connection's key has to be that of the member that the call names, and cluster and
//! epoch have to be this node's (ATK-25, ATK-27). What is done then runs in a task of its own, which outlives a caller
//! that has stopped waiting (`elections.md`, "Calls and traps") and keeps a panic from taking the connection and all its
//! calls with it (SIM-07).

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use openraft::error::RaftError;
use parking_lot::Mutex;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::install_snapshot_request::Part;
use quorate_proto_api::peer::peer_server::Peer;
use quorate_proto_identity::MemberNumber;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming};

use super::{receiving, wire};
use crate::{
    engine::Engine,
    limits::{PROPOSAL_TIME_LIMIT, QUESTION_BYTES_MAX, READ_ROUND_TIME_LIMIT},
    node::Node,
    stop::with_causes,
    transport::{PeerKey, Protocol},
    type_config::Vote,
};

/// The longest that a question may be worked on here, whatever its asker says.
const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(60);

/// How often the log tells of refused calls: a member that was left behind by a recovery calls forty times a second.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Answers members.
pub(crate) struct PeerService {
    node: Arc<Node>,
    refusals: Mutex<Refusals>,
}

/// Refused calls that the log has not told of.
#[derive(Default)]
pub(super) struct Refusals {
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    /// How many were passed over since the log told of one; nothing when it is not to tell of this one.
    pub(super) fn count_and_tell(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now < told + REFUSALS_TOLD_EVERY) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl PeerService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, refusals: Mutex::default() }
    }

    /// Who calls, if it may.
    fn caller<T>(&self, request: &Request<T>, sender: Option<&proto::Sender>) -> Result<u64, Status> {
        let peer = request.extensions().get::<Arc<PeerKey>>();
        let peer = peer.filter(|peer| peer.protocol == Protocol::Peer);
        let peer = peer.ok_or_else(|| Status::permission_denied("this connection proved no key"))?;
        let peers = &self.node.peers;
        peers.roster().authenticate(peers.identity(), &peer.key, sender).map_err(|refusal| {
            if let Some(untold) = self.refusals.lock().count_and_tell(Instant::now()) {
                tracing::info!(
                    target: "quorate::security",
                    address = %peer.address, member = sender.map(|sender| sender.member), reason = %refusal, untold,
                    "a call of a peer was refused"
                );
            }
            Status::permission_denied(refusal.to_string())
        })
    }
}

/// Runs `work` in a task of its own.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<Response<T>, Status> {
    match tokio::spawn(work).await {
        Ok(done) => done.map(Response::new),
        Err(_lost) => Err(Status::internal("the call was lost on this member")),
    }
}

/// Raft, if this node has one.
fn engine(node: &Node) -> Result<&Engine, Status> {
    node.engine.get().ok_or_else(|| Status::unavailable("this node belongs to no cluster yet"))
}

/// A call that only a leader or candidate may make in its own name.
fn in_its_own_name(vote: &Vote, caller: u64) -> Result<(), Status> {
    if vote.leader_id.node_id == caller {
        Ok(())
    } else {
        Err(Status::permission_denied("the vote is another member's"))
    }
}

fn invalid(error: &wire::WireError) -> Status {
    Status::invalid_argument(with_causes(error))
}

fn ended(error: &RaftError<u64>) -> Status {
    Status::unavailable(with_causes(error))
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn pre_vote(
        &self,
        request: Request<proto::PreVoteRequest>,
    ) -> Result<Response<proto::PreVoteResponse>, Status> {
        let caller = self.caller(&request, request.get_ref().sender.as_ref())?;
        let last = request.get_ref().last.as_ref().map(wire::to_log_id);
        let engine = engine(&self.node)?;
        let answer = engine.elections.pre_vote(&engine.raft(), caller, last);
        Ok(Response::new(proto::PreVoteResponse { granted: answer.granted, term: answer.term }))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteResponse>, Status> {
        let caller = self.caller(&request, request.get_ref().sender.as_ref())?;
        let message = request.into_inner();
        let vote = wire::to_vote_request(&message).map_err(|error| invalid(&error))?;
        in_its_own_name(&vote.vote, caller)?;
        let node = Arc::clone(&self.node);
        detached(async move {
            let engine = engine(&node)?;
            let (term, member) = (vote.vote.leader_id.term, vote.vote.leader_id.node_id);
            let answer = engine.elections.vote(&engine.raft(), vote, message.transfer).await;
            if answer.as_ref().is_ok_and(|answer| answer.vote_granted) {
                node.sources.observer().granted_vote(term, member);
            }
            answer.map(|answer| wire::from_vote_response(&answer)).map_err(|error| ended(&error))
        })
        .await
    }

    async fn append_entries(
        &self,
        request: Request<proto::AppendEntriesRequest>,
    ) -> Result<Response<proto::AppendEntriesResponse>, Status> {
        let caller = self.caller(&request, request.get_ref().sender.as_ref())?;
        let append = wire::to_append(request.into_inner()).map_err(|error| invalid(&error))?;
        in_its_own_name(&append.vote, caller)?;
        let node = Arc::clone(&self.node);
        detached(async move {
            let engine = engine(&node)?;
            let answer = engine.append_entries(append).await.map_err(|error| ended(&error))?;
            Ok(wire::from_append_response(&answer))
        })
        .await
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<proto::InstallSnapshotRequest>>,
    ) -> Result<Response<proto::InstallSnapshotResponse>, Status> {
        let (metadata, extensions, mut parts) = request.into_parts();
        let first = timeout(READ_ROUND_TIME_LIMIT, parts.message()).await;
        let first = first.map_err(|_elapsed| Status::deadline_exceeded("the head of the snapshot did not come"))??;
        let Some(Part::Head(head)) = first.and_then(|first| first.part) else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        let request = Request::from_parts(metadata, extensions, ());
        let caller = self.caller(&request, head.sender.as_ref())?;
        in_its_own_name(&wire::to_vote(head.vote.as_ref()).map_err(|error| invalid(&error))?, caller)?;
        let node = Arc::clone(&self.node);
        detached(async move { receiving::receive(&node, engine(&node)?, head, parts).await }).await
    }

    async fn take_over(
        &self,
        request: Request<proto::TakeOverRequest>,
    ) -> Result<Response<proto::TakeOverResponse>, Status> {
        let caller = self.caller(&request, request.get_ref().sender.as_ref())?;
        let proto::TakeOverRequest { sender: _, term, last } = request.into_inner();
        let last = last.as_ref().map(wire::to_log_id).ok_or(wire::WireError::Missing("log ID"));
        let last = last.map_err(|error| invalid(&error))?;
        let node = Arc::clone(&self.node);
        detached(async move {
            let engine = engine(&node)?;
            let taken = engine.elections.take_over(&engine.raft(), caller, term, last).await;
            let reason = taken.as_ref().err().map(|refused| with_causes(refused)).unwrap_or_default();
            Ok(proto::TakeOverResponse { accepted: taken.is_ok(), reason })
        })
        .await
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeResponse>, Status> {
        let caller = self.caller(&request, request.get_ref().sender.as_ref())?;
        let proto::ProposeRequest { sender: _, commands, limit_millis } = request.into_inner();
        let limit = Duration::from_millis(limit_millis).min(PROPOSAL_TIME_LIMIT);
        let node = Arc::clone(&self.node);
        detached(async move { node.take_forwarded(caller, commands, Instant::now() + limit).await }).await
    }

    async fn read_index(
        &self,
        request: Request<proto::ReadIndexRequest>,
    ) -> Result<Response<proto::ReadIndexResponse>, Status> {
        self.caller(&request, request.get_ref().sender.as_ref())?;
        let node = Arc::clone(&self.node);
        detached(async move {
            let index = node.reads.index(&node, Instant::now() + READ_ROUND_TIME_LIMIT).await;
            index
                .map(|index| proto::ReadIndexResponse { index })
                .map_err(|error| Status::unavailable(error.to_string()))
        })
        .await
    }

    async fn await_applied(
        &self,
        request: Request<proto::AwaitAppliedRequest>,
    ) -> Result<Response<proto::AwaitAppliedResponse>, Status> {
        self.caller(&request, request.get_ref().sender.as_ref())?;
        let proto::AwaitAppliedRequest { sender: _, index, limit_millis } = request.into_inner();
        let deadline = Instant::now() + Duration::from_millis(limit_millis).min(PROPOSAL_TIME_LIMIT);
        let node = Arc::clone(&self.node);
        detached(async move {
            let members = node.await_everywhere_as_leader(index, deadline).await;
            let members = members.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok(proto::AwaitAppliedResponse { members })
        })
        .await
    }

    type ReportStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<proto::ReportResponse, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<proto::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let peer = request.extensions().get::<Arc<PeerKey>>().cloned();
        let peer = peer.ok_or_else(|| Status::permission_denied("this connection proved no key"))?;
        let answers = crate::reports::answer(Arc::clone(&self.node), peer, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vouch(&self, request: Request<proto::VouchRequest>) -> Result<Response<proto::VouchResponse>, Status> {
        self.caller(&request, request.get_ref().sender.as_ref())?;
        let member = self.node.peers.roster().applied_member_with(&request.get_ref().key).unwrap_or(0);
        Ok(Response::new(proto::VouchResponse { member }))
    }

    async fn ask(&self, request: Request<proto::AskRequest>) -> Result<Response<proto::AskResponse>, Status> {
        let caller = self.caller(&request, request.get_ref().sender.as_ref())?;
        let caller = MemberNumber::new(caller).ok_or_else(|| Status::permission_denied("nobody has number 0"))?;
        let proto::AskRequest { sender: _, topic, question } = request.into_inner();
        if question.len() > QUESTION_BYTES_MAX {
            return Err(Status::invalid_argument("the question is longer than any may be"));
        }
        let Ok(_permit) = Arc::clone(&self.node.questions).try_acquire_owned() else {
            return Err(Status::resource_exhausted("this member is answering too many questions already"));
        };
        let answerer = self.node.answerer.read().clone();
        let answerer = answerer.ok_or_else(|| Status::unavailable("nobody answers questions on this member yet"))?;
        // Unlike Raft's calls this one ends with its caller.
        let answering = tokio::spawn(timeout(ANSWER_TIME_LIMIT, answerer.answer(caller, topic, question)));
        let _ends = AbortOnDrop(answering.abort_handle());
        match answering.await {
            Ok(Ok(Ok(answer))) => Ok(Response::new(proto::AskResponse { answer })),
            Ok(Ok(Err(reason))) => Err(Status::failed_precondition(reason)),
            Ok(Err(_elapsed)) => Err(Status::deadline_exceeded("there was no answer in time")),
            Err(_lost) => Err(Status::internal("the question was lost on this member")),
        }
    }
}

/// Ends a task when its caller is gone.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
