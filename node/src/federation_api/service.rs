//! The calls of `quorate.federation.v1.Federation`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use quorate_actors::audit::Asked;
use quorate_proto_api::federation::federation_server::{Federation, FederationServer};
use quorate_proto_api::federation::{
    DiscoverRequest, DiscoverResponse, GetBundleRequest, GetBundleResponse, WatchBundleRequest, WatchBundleResponse,
    get_bundle_response::Answer, watch_bundle_request,
};
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::State;
use quorate_raft_machine::access::ApiScope;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::content::{Content, Contents, Said, format};
use super::discovery::{self, Places};
use super::door::{Admitted, Call, Door};
use super::watch::Watching;
use crate::node::Node;

/// Largest message that is read from a caller: names and numbers.
const REQUEST_BYTES_LIMIT: usize = 64 * 1024;

/// How long a watch may take to say what it wants.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What all calls share.
pub(super) struct Api {
    pub(super) node: Node,
    pub(super) door: Door,
    places: Places,
    contents: Contents,
    /// Turns with every change that watches have to look at.
    pub(super) changes: watch::Receiver<u64>,
}

impl Api {
    pub(super) fn new(node: &Node, changes: watch::Receiver<u64>) -> Self {
        Self {
            node: node.clone(),
            door: Door::new(node),
            places: Places::of(node.config()),
            contents: Contents::default(),
            changes,
        }
    }

    /// How others can ask for our bundle.
    ///
    /// # Errors
    /// `Unavailable` before the founding.
    pub(super) fn discovered(&self) -> Result<DiscoverResponse, Status> {
        let state = self.node.consensus().state();
        state
            .read(|state| discovery::document(state, &self.places))
            .ok_or_else(|| Status::unavailable("no authority is founded on this node yet"))
    }

    /// The bundle as this node has it, and who says so.
    ///
    /// # Errors
    /// `Unavailable` while the node may not sign or has been cut off: what it has may be old (FED-23).
    pub(super) fn content(&self) -> Result<(Arc<Content>, Said), Status> {
        if let Some(reason) = self.node.why_no_keys_are_told() {
            return Err(Status::unavailable(format!(
                "no bundle is served by this node at the moment: {reason}; ask again, or another node"
            )));
        }
        let look = |state: &State| {
            let authority = state.active_x509_authority().map(|root| root.id.to_string());
            Some((self.contents.current(state)?, authority))
        };
        let found = self.node.consensus().state().read(look);
        let (content, authority_id) =
            found.ok_or_else(|| Status::unavailable("no authority is founded on this node yet"))?;
        let said = Said { node: self.node.config().name.to_string(), authority_id, at: self.door.now() };
        Ok((content, said))
    }

    /// Records that somebody who may ask was given nothing, for another reason than who it is.
    fn not_given(&self, admitted: &Admitted, what: &'static str, status: &Status) {
        let words = [
            (Code::NotFound, "not_found"),
            (Code::InvalidArgument, "invalid_argument"),
            (Code::ResourceExhausted, "resource_exhausted"),
        ];
        let code = words.iter().find(|(code, _)| *code == status.code()).map_or("unavailable", |(_, word)| word);
        let detail = vec![("reason", status.message().to_owned())];
        self.node.audit().asked(Asked { refused: Some(code), ..admitted.record(what, detail) });
    }

    /// A caller that names a trust domain means ours, or is at the wrong place.
    pub(super) fn check_name(&self, wanted: &str) -> Result<(), Status> {
        if wanted.is_empty() {
            return Ok(());
        }
        let wanted = TrustDomain::parse_name_or_id(wanted)
            .map_err(|error| Status::invalid_argument(format!("trust_domain: {error}")))?;
        let own = &self.node.config().trust_domain;
        if wanted == *own {
            return Ok(());
        }
        Err(Status::not_found(format!("this is the trust domain {own}, which has no bundle of {wanted} to give")))
    }
}

/// The service.
#[derive(Clone)]
pub(super) struct FederationService(Arc<Api>);

/// Puts the service together.
pub(super) fn service(api: &Arc<Api>) -> FederationServer<FederationService> {
    FederationServer::new(FederationService(Arc::clone(api))).max_decoding_message_size(REQUEST_BYTES_LIMIT)
}

/// What a watch sends.
type Events = Pin<Box<dyn Stream<Item = Result<WatchBundleResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Federation for FederationService {
    type WatchBundleStream = Events;

    async fn discover(&self, _request: Request<DiscoverRequest>) -> Result<Response<DiscoverResponse>, Status> {
        self.0.discovered().map(Response::new)
    }

    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<GetBundleResponse>, Status> {
        let call = Call::of(&request, "federation.bundle", ApiScope::Get)?;
        let GetBundleRequest { trust_domain, format: wanted, etag } = request.into_inner();
        let admitted = self.0.door.admit(&call).await?;
        let asked = self.0.check_name(&trust_domain).and_then(|()| format(wanted));
        let found = asked.and_then(|wanted| self.0.content().map(|(content, said)| (wanted, content, said)));
        let (wanted, content, said) = found.inspect_err(|status| self.0.not_given(&admitted, call.what, status))?;
        let is_known = content.is_known(wanted, &etag);
        let answer = if is_known {
            Answer::Unchanged(content.unchanged(&said))
        } else {
            Answer::Bundle(content.bundle(wanted, &said))
        };
        let told = if is_known { "unchanged" } else { wanted.as_str_name() };
        let detail = vec![("sequence", content.sequence.to_string()), ("told", told.to_owned())];
        self.0.node.audit().asked(admitted.record(call.what, detail));
        Ok(Response::new(GetBundleResponse { answer: Some(answer) }))
    }

    async fn watch_bundle(
        &self,
        request: Request<Streaming<WatchBundleRequest>>,
    ) -> Result<Response<Self::WatchBundleStream>, Status> {
        let call = Call::of(&request, "federation.watch", ApiScope::Watch)?;
        let mut said = request.into_inner();
        // Who may not ask is told so before it has said what it wants.
        let admitted = self.0.door.admit(&call).await?;
        let first = timeout(START_LIMIT, said.message()).await;
        let first = first.map_err(|_late| Status::deadline_exceeded("a watch begins with the message start"))??;
        let Some(watch_bundle_request::Request::Start(start)) = first.and_then(|message| message.request) else {
            return Err(Status::invalid_argument("a watch begins with the message start"));
        };
        let opened = self.0.check_name(&start.trust_domain);
        let opened = opened.and_then(|()| Watching::open(&self.0, admitted.clone(), &start));
        let watching = opened.inspect_err(|status| self.0.not_given(&admitted, call.what, status))?;
        Ok(Response::new(Box::pin(watching.run(said))))
    }
}
