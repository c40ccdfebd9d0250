//! What a newcomer may ask, and how this node asks when it is one.
//!
//! A newcomer's connection proves a key and nothing else. The secret of an invitation, or a place in the founding list,
//! is what lets it in; the state decides, once and for all members (INV-10), and says why not.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use quorate_proto_api::channel::channel_over;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::{join_client::JoinClient, join_server::Join};
use quorate_proto_identity::{MemberNumber, NodeName, UnixMillis};
use quorate_raft_machine::{Admission, COMMAND_VERSION, Caller, Done, Operation, Refusal};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{
    clock::ClockVerdict,
    handle::Handle,
    joining::{Admitted, FoundingStatus, JoinError, JoinRequest, KnownPeer, clock_is_off},
    limits::{JOIN_ANSWER_BYTES_MAX, JOIN_MESSAGE_BYTES_MAX, MEMBER_ADDRESSES_MAX, PROPOSAL_TIME_LIMIT},
    node::Node,
    proposal::{Proposal, ProposeError},
    stop::{causes_onto, with_causes},
    transport::{Destination, PeerKey, Protocol},
};

/// Answers newcomers.
pub(crate) struct JoinService {
    node: Arc<Node>,
}

impl JoinService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }
}

#[tonic::async_trait]
impl Join for JoinService {
    async fn admit(&self, request: Request<proto::AdmitRequest>) -> Result<Response<proto::AdmitResponse>, Status> {
        let key = newcomer(&request)?;
        let (node, message) = (Arc::clone(&self.node), request.into_inner());
        // A task of its own: a newcomer that goes away has been admitted all the same, and asks again.
        match tokio::spawn(async move { admit(&node, key, message).await }).await {
            Ok(answer) => answer.map(Response::new),
            Err(_lost) => Err(Status::internal("the call was lost on this member")),
        }
    }

    async fn founding(
        &self,
        request: Request<proto::FoundingRequest>,
    ) -> Result<Response<proto::FoundingResponse>, Status> {
        newcomer(&request)?;
        let answerer = self.node.founding_answerer.read().clone();
        let answerer = answerer.ok_or_else(|| Status::unavailable("this node is not ready yet"))?;
        let proto::FoundingRequest { trust_domain, list } = request.into_inner();
        let FoundingStatus { empty, same_list, name, member } = answerer.founding(&trust_domain, &list);
        Ok(Response::new(proto::FoundingResponse { empty, same_list, name, member }))
    }
}

/// The key of a newcomer.
fn newcomer<T>(request: &Request<T>) -> Result<Bytes, Status> {
    let peer = request.extensions().get::<Arc<PeerKey>>();
    let peer = peer.filter(|peer| peer.protocol == Protocol::Join);
    peer.map(|peer| peer.key.clone()).ok_or_else(|| Status::permission_denied("this connection proved no key"))
}

async fn admit(node: &Arc<Node>, key: Bytes, message: proto::AdmitRequest) -> Result<proto::AdmitResponse, Status> {
    let trust_domain = node.reader().read(|state| state.cluster().map(|cluster| cluster.trust_domain.clone()));
    let trust_domain =
        trust_domain.ok_or_else(|| Status::unavailable("this node belongs to no founded cluster yet"))?;
    if trust_domain.as_str() != message.trust_domain {
        return Err(Status::failed_precondition(format!(
            "this cluster is the trust domain {trust_domain}, and the newcomer is configured for {}",
            message.trust_domain.escape_debug()
        )));
    }
    if node.clock.borrow().verdict == ClockVerdict::Refuse {
        return Err(Status::unavailable("this member's own clock is off: ask another one"));
    }
    if let Some(off) = clock_is_off(UnixMillis(message.sent_at), node.sources.now()) {
        return Err(Status::failed_precondition(format!(
            "the newcomer's clock is off by {off} ms: set it right, and let it ask again"
        )));
    }
    let name = message.name.clone();
    let admission = admission(key, message)?;
    refuse_strangers(node, &admission).await?;
    let operation = Operation::AdmitMember(Box::new(admission));
    let proposal = Proposal::new(Caller::node(), vec![operation]);
    let applied = Handle::new(Arc::clone(node)).propose(proposal).await.map_err(|error| not_now(&error))?;
    let number = match applied.outcome.results.into_iter().next() {
        Some(Ok(Done::MemberAdmitted { number })) => number,
        Some(Ok(_)) | None => return Err(Status::internal("the state answered something else")),
        Some(Err(refusal)) => return Err(refused(&name, refusal)),
    };
    tracing::info!(target: "quorate::security", %name, member = number.get(), "a newcomer was admitted");
    answer(node, number, applied.log_index)
}

/// Refuses a newcomer that shows nothing that the cluster knows before anything of it gets into the log (ATK-26). What
/// this member does not know may only be new: then it counts what is committed.
async fn refuse_strangers(node: &Arc<Node>, admission: &Admission) -> Result<(), Status> {
    let is_known = || node.reader().read(|state| state.check_newcomer(admission));
    if is_known().is_ok() {
        return Ok(());
    }
    let read = node.reads.read(node, Instant::now() + PROPOSAL_TIME_LIMIT).await;
    read.map_err(|error| Status::unavailable(with_causes(&error)))?;
    is_known().map_err(|refusal| refused(admission.name.as_str(), refusal))
}

fn refused(name: &str, refusal: Refusal) -> Status {
    tracing::warn!(target: "quorate::security", %name, reason = %refusal.message, "a newcomer was refused");
    Status::permission_denied(refusal.message)
}

/// The admission that the state is asked for.
fn admission(identity_key: Bytes, message: proto::AdmitRequest) -> Result<Admission, Status> {
    let invalid = |what: &str| Status::invalid_argument(format!("the newcomer's {what}"));
    if message.addresses.len() > MEMBER_ADDRESSES_MAX {
        return Err(invalid("addresses are too many"));
    }
    let incarnation = message.incarnation.as_ref().try_into();
    let secret_hash = (!message.secret.is_empty()).then(|| {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &message.secret).as_ref());
        hash
    });
    Ok(Admission {
        secret_hash,
        incarnation: incarnation.map_err(|_| invalid("directory number has another length than 16 bytes"))?,
        name: NodeName::new(&message.name).map_err(|error| invalid(&format!("name cannot be: {error}")))?,
        identity_key,
        sealing_key: message.sealing_key,
        addresses: message.addresses,
        version: message.version,
        build: message.build,
    })
}

/// A refusal that says nothing of the newcomer: it may ask again.
fn not_now(error: &ProposeError) -> Status {
    Status::unavailable(with_causes(error))
}

fn answer(node: &Node, number: MemberNumber, log_index: u64) -> Result<proto::AdmitResponse, Status> {
    node.reader().read(|state| {
        let cluster =
            state.cluster().ok_or_else(|| Status::unavailable("this node belongs to no founded cluster yet"))?;
        let peers = state.members().filter(|member| member.number != number && !member.record.status.has_gone());
        let admitted = Admitted {
            cluster: cluster.id,
            epoch: cluster.epoch,
            member: number,
            log_index,
            peers: peers
                .map(|member| KnownPeer {
                    member: member.number,
                    name: member.record.name.as_str().to_owned(),
                    key: member.record.identity_key.clone(),
                    addresses: member.record.addresses.clone(),
                })
                .collect(),
        };
        Ok(proto::AdmitResponse::from(&admitted))
    })
}

/// A client for a newcomer's questions at one destination.
fn client(node: &Node, target: &Destination) -> JoinClient<Channel> {
    let transport = Arc::clone(node.peers.transport());
    let target = Arc::new(Destination { protocol: Protocol::Join, ..target.clone() });
    let channel = channel_over(move || {
        let (transport, target) = (Arc::clone(&transport), Arc::clone(&target));
        async move { transport.dial(&target).await }
    });
    JoinClient::new(channel)
        .max_decoding_message_size(JOIN_ANSWER_BYTES_MAX)
        .max_encoding_message_size(JOIN_MESSAGE_BYTES_MAX)
}

/// See [`Handle::admit_at`](crate::Handle::admit_at).
pub(crate) async fn admit_at(
    node: &Arc<Node>,
    targets: &[Destination],
    request: &JoinRequest,
) -> Result<Admitted, JoinError> {
    let mut last = JoinError::Unreachable { reason: Arc::from("there is no address to ask at") };
    for target in targets {
        let message = proto::AdmitRequest {
            trust_domain: request.trust_domain.clone(),
            name: request.name.clone(),
            sealing_key: request.sealing_key.clone(),
            addresses: request.addresses.clone(),
            version: COMMAND_VERSION.max(request.version),
            build: request.build.clone(),
            secret: request.secret.clone(),
            incarnation: Bytes::copy_from_slice(&request.incarnation),
            sent_at: node.sources.now().0,
        };
        match client(node, target).admit(message).await {
            Ok(answer) => {
                return Admitted::try_from(answer.into_inner())
                    .map_err(|problem| JoinError::BadAnswer { reason: problem.into() });
            }
            Err(status) => {
                let error = join_error(&status);
                if matches!(error, JoinError::Refused { .. }) {
                    return Err(error);
                }
                // The one who answered knows best why not now.
                if !matches!((&last, &error), (JoinError::NotNow { .. }, JoinError::Unreachable { .. })) {
                    last = error;
                }
            }
        }
    }
    Err(last)
}

/// See [`Handle::ask_founding`](crate::Handle::ask_founding).
pub(crate) async fn ask_founding(
    node: &Arc<Node>,
    target: &Destination,
    trust_domain: &str,
    list: Bytes,
) -> Result<FoundingStatus, JoinError> {
    let message = proto::FoundingRequest { trust_domain: trust_domain.to_owned(), list };
    match client(node, target).founding(message).await {
        Ok(answer) => {
            let proto::FoundingResponse { empty, same_list, name, member } = answer.into_inner();
            Ok(FoundingStatus { empty, same_list, name, member })
        }
        Err(status) => Err(join_error(&status)),
    }
}

/// What an error status means for a newcomer. A decision has one of three codes; everything else may pass.
fn join_error(status: &Status) -> JoinError {
    let cause = std::error::Error::source(status);
    let was_answered = cause.is_none();
    let reason = Arc::from(causes_onto(status.message().to_owned(), cause));
    let decided = matches!(status.code(), Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument);
    if decided {
        JoinError::Refused { reason }
    } else if was_answered {
        JoinError::NotNow { reason }
    } else {
        JoinError::Unreachable { reason }
    }
}
