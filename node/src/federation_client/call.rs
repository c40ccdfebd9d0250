//! One call: prepare the credential, connect, ask, and once more if a held token was refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use quorate_actors::{Document, FetchRequest, Fetched};
use quorate_proto_api::federation::federation_client::FederationClient as GeneratedClient;
use quorate_proto_api::federation::get_bundle_response::Answer;
use quorate_proto_api::federation::{Bundle, BundleFormat, GetBundleRequest};
use quorate_proto_identity::TrustDomain;
use quorate_proto_identity::bundle::BUNDLE_LIMIT;
use quorate_raft_machine::federation::{ApiCredential, ApiServer, Endpoint as RelationshipEndpoint, EndpointPins};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::credential::{Shown, oauth_client};
use super::error::ClientError;
use super::oauth::Tokens;
use crate::outbound::{Outbound, Pins, ServerCheck, Target};

/// Largest message: a bundle of the largest size, and what is said about it.
pub(super) const MESSAGE_LIMIT: usize = BUNDLE_LIMIT + 64 * 1024;

/// Largest head of an answer: a status and its words.
const HEAD_BYTES_LIMIT: u32 = 16 * 1024;

/// How long a connection is idle before it is asked whether it lives.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long the answer to that may take.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(10);

/// The authority of requests before the real one takes its place.
const NOWHERE: &str = "http://federation-api";

/// The protocol that gRPC is spoken over.
const HTTP2: &[u8] = b"h2";

/// What is asked, and by whose rules: a request whose relationship leads to a Federation API.
pub(super) struct Ask<'a> {
    request: &'a FetchRequest,
    pub(super) credential: &'a ApiCredential,
    server: ServerCheck,
    target: Target,
    etag: &'a str,
}

/// Asks Federation APIs for this node. Cheap to clone; all clones hold the same tokens.
#[derive(Debug, Clone)]
pub struct FederationClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    outbound: Outbound,
    tokens: Tokens,
}

/// A connection, and what was shown over it.
pub(super) struct Line {
    pub(super) client: GeneratedClient<Channel>,
    pub(super) shown: Shown,
    pub(super) address: SocketAddr,
}

impl FederationClient {
    /// A client that dials by the guarded client of this node.
    #[must_use]
    pub fn new(outbound: Outbound) -> Self {
        Self { inner: Arc::new(Inner { outbound, tokens: Tokens::default() }) }
    }

    /// Gets the bundle, unless it is the one that is held.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub async fn get(&self, request: &FetchRequest) -> Result<Fetched, ClientError> {
        let ask = Ask::new(request, request.etag.as_deref().unwrap_or_default())?;
        let host = ask.host();
        let asked = self.asked_twice(&ask, async |line: Line, message| {
            let Line { mut client, shown, address } = line;
            let mut request = Request::new(message);
            shown.put_into(request.metadata_mut());
            (client.get_bundle(request).await.map(Response::into_inner), shown, address)
        });
        let (answered, address) = asked.await?;
        match answered.answer {
            Some(Answer::Unchanged(_)) if !ask.etag.is_empty() => {
                Ok(Fetched::NotModified { host: host.to_owned(), address: address.to_string() })
            }
            Some(Answer::Unchanged(_)) => {
                Err(answer(host, "it says that nothing has changed, and we said nothing of what we have"))
            }
            Some(Answer::Bundle(bundle)) => Ok(Fetched::Document(ask.document(bundle, address)?)),
            None => Err(answer(host, "it is empty")),
        }
    }

    /// Asks, and once more with a fresh token when one that was held is refused.
    pub(super) async fn asked_twice<T>(
        &self,
        ask: &Ask<'_>,
        call: impl AsyncFn(Line, GetBundleRequest) -> (Result<T, Status>, Shown, SocketAddr),
    ) -> Result<(T, SocketAddr), ClientError> {
        let deadline = ask.request.deadline;
        let host = ask.host();
        let limit = deadline.saturating_duration_since(Instant::now());
        let late = |_| ClientError::Time { host: host.to_owned(), seconds: limit.as_secs() };
        let mut is_fresh = false;
        loop {
            let line = timeout_at(deadline, self.line(ask, deadline)).await.map_err(late)??;
            let (called, shown, address) = timeout_at(deadline, call(line, ask.message())).await.map_err(late)?;
            let status = match called {
                Ok(answered) => return Ok((answered, address)),
                Err(status) => status,
            };
            let is_refused = status.code() == tonic::Code::Unauthenticated;
            let (true, false, Shown::Token(token, _)) = (is_refused, is_fresh, &shown) else {
                return Err(ClientError::of_status(host, ask.credential.name(), &status));
            };
            // The server may have changed its keys, or taken the token back: a new one tells.
            self.inner.tokens.forget(&oauth_client(ask.credential, ask.secret())?, token);
            is_fresh = true;
        }
    }

    async fn line(&self, ask: &Ask<'_>, deadline: Instant) -> Result<Line, ClientError> {
        let Inner { outbound, tokens } = &*self.inner;
        let identity = ask.request.identity.as_deref();
        let shown = Shown::prepare(ask.credential, ask.secret(), identity, tokens, outbound).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let connection = outbound.connect(&ask.target, &ask.server, shown.certificate(), &[HTTP2], left).await?;
        let host = ask.host();
        if connection.stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Err(ClientError::NotHttp2 { host: host.to_owned() });
        }
        let address = connection.address;
        let channel = channel(&ask.target, connection.stream).await?;
        let client = GeneratedClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        Ok(Line { client, shown, address })
    }

    /// Forgets a token that a watch was ended over.
    pub(super) fn forget(&self, credential: &ApiCredential, secret: Option<&[u8]>, shown: &Shown) {
        if let (Shown::Token(token, _), Ok(client)) = (shown, oauth_client(credential, secret)) {
            self.inner.tokens.forget(&client, token);
        }
    }
}

impl<'a> Ask<'a> {
    pub(super) fn new(request: &'a FetchRequest, etag: &'a str) -> Result<Self, ClientError> {
        let relationship = &*request.relationship;
        let RelationshipEndpoint::Api { url, server, credential, watch: _ } = &relationship.endpoint else {
            return Err(ClientError::OtherProfile { profile: relationship.endpoint.profile() });
        };
        let EndpointPins { hosts, keys } = relationship.pins.clone();
        let pins = Pins { hosts, keys };
        let server = match (server, &request.verify_with) {
            (ApiServer::Web, _) => ServerCheck::Web { roots: None, pins },
            (ApiServer::Spiffe(id), Some(bundle)) => {
                ServerCheck::Spiffe { id: id.clone(), bundle: Arc::clone(bundle), pins }
            }
            (ApiServer::Spiffe(id), None) => {
                return Err(ClientError::NoBundle { trust_domain: id.trust_domain(), id: id.clone() });
            }
        };
        let mut target = Target::of_operator(url.clone());
        target.accept_private = relationship.poll.accept_private;
        Ok(Self { request, credential, server, target, etag })
    }

    pub(super) fn host(&self) -> &str {
        self.target.url.host()
    }

    pub(super) fn secret(&self) -> Option<&'a [u8]> {
        self.request.secret.as_ref().map(|secret| secret.as_slice())
    }

    fn message(&self) -> GetBundleRequest {
        GetBundleRequest {
            trust_domain: self.request.relationship.trust_domain.to_string(),
            format: BundleFormat::Spiffe.into(),
            etag: self.etag.to_owned(),
        }
    }

    fn document(&self, bundle: Bundle, address: SocketAddr) -> Result<Document, ClientError> {
        document(self.host(), &self.request.relationship.trust_domain, bundle, address)
    }
}

pub(super) fn answer(host: &str, fault: impl Into<String>) -> ClientError {
    ClientError::Answer { host: host.to_owned(), fault: fault.into() }
}

/// The document of a bundle that is the one asked for.
pub(super) fn document(
    host: &str,
    wanted: &TrustDomain,
    bundle: Bundle,
    address: SocketAddr,
) -> Result<Document, ClientError> {
    let Bundle { trust_domain, format, document, sequence: _, etag, metadata: _ } = bundle;
    // The document itself never says whose it is (BND-04): who asked says it, and who answers has to agree.
    if trust_domain != wanted.as_str() {
        let found: String = trust_domain.chars().filter(|character| !character.is_control()).take(255).collect();
        return Err(answer(host, format!("it is the bundle of {found}, and not of {wanted}")));
    }
    if format != i32::from(BundleFormat::Spiffe) {
        return Err(answer(host, "it is no SPIFFE bundle document, which was asked for"));
    }
    if document.len() > BUNDLE_LIMIT {
        return Err(answer(host, format!("it has {} bytes, and at most {BUNDLE_LIMIT} are taken", document.len())));
    }
    let etag = (!etag.is_empty()).then_some(etag);
    Ok(Document { bytes: document, etag, host: host.to_owned(), address: address.to_string() })
}

/// A channel over a connection that is there. It dials nothing: when the connection is lost, so is the channel.
async fn channel(target: &Target, stream: TlsStream<TcpStream>) -> Result<Channel, ClientError> {
    let host = target.url.host();
    let origin = format!("https://{}", target.url.authority());
    let origin = origin.parse().map_err(|_| answer(host, "its URL cannot be asked"))?;
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let endpoint = Endpoint::from_static(NOWHERE)
        .origin(origin)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEAD_BYTES_LIMIT);
    let connecting = endpoint.connect_with_connector(tower::service_fn(move |_| {
        let stream = once.lock().take();
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    }));
    connecting.await.map_err(|error| answer(host, format!("HTTP/2 does not come about: {error}")))
}
