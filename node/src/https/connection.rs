//! One connection of a stranger, from the handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::admission::{InFlight, Patience, Place};
use super::tls::{self, Chosen};
use super::{Body, GoesOn, Handler, Peer, full};
use crate::metrics::{HTTPS_HANDSHAKES, HTTPS_REQUESTS};
use crate::shutdown::Stopping;

/// How long a handshake may take, over a slow line too.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may be open before its first request has come whole: clients send it at once (slowloris).
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long the head of a request may take to arrive.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may be without a request: pollers come again after minutes, by a new one.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// How long a connection that was asked to end may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of request line and headers.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// Streams open at once on one connection: a poller has one, a watcher a few.
const MAX_STREAMS: u32 = 32;

/// Streams reset by the peer before we accepted them, and by us for its errors; beyond them the connection is closed (rapid
/// reset, ATK-22).
const MAX_RESETS: usize = 32;

/// Receive windows of a stream and of a connection: requests are a few KiB.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;

/// What one stream may buffer to send.
const SEND_BUFFER: usize = 256 * 1024;

/// How often an HTTP/2 connection is asked for a sign of life, and how long that may take: a watcher whose host is gone does
/// not hold its place for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);

/// What all connections of a server share.
pub(super) struct Serving {
    pub(super) name: &'static str,
    pub(super) tls: Option<tls::Acceptor>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) answer_limit: Option<Duration>,
}

/// Serves one connection to its end; when `stopping` turns it is asked to finish.
pub(super) async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    serving: Arc<Serving>,
    place: Place,
    mut stopping: Stopping,
) {
    // Answers are small and whole: waiting for more to send gains nothing.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &serving.tls else {
        let peer = Peer { address, certificates: Vec::new() };
        return talk(stream, peer, false, &serving, place, stopping).await;
    };
    let activity = Arc::clone(place.activity());
    let shaken = tokio::select! {
        biased;
        () = stopping.asked() => return,
        () = activity.evicted() => return,
        shaken = timeout(HANDSHAKE_LIMIT, shake_hands(tls, stream)) => shaken,
    };
    let result = match &shaken {
        Ok(Shaken::Http(_)) => "established",
        Ok(Shaken::Challenge) => "challenge",
        Ok(Shaken::Nothing) => "no_certificate",
        Ok(Shaken::Failed) => "failed",
        Err(_late) => "timeout",
    };
    metrics::counter!(HTTPS_HANDSHAKES, "listener" => serving.name, "result" => result).increment(1);
    let Ok(Shaken::Http(stream)) = shaken else { return };
    let (_, session) = stream.get_ref();
    let certificates =
        session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    talk(*stream, Peer { address, certificates }, is_http2, &serving, place, stopping).await;
}

/// What came of a handshake.
enum Shaken {
    Http(Box<TlsStream<TcpStream>>),
    Challenge,
    Nothing,
    Failed,
}

async fn shake_hands(tls: &tls::Acceptor, stream: TcpStream) -> Shaken {
    let Ok(start) = LazyConfigAcceptor::new(Acceptor::default(), stream).await else { return Shaken::Failed };
    match tls.choose(&start.client_hello()) {
        Chosen::Http(config) => match start.into_stream(config).await {
            Ok(stream) => Shaken::Http(Box::new(stream)),
            Err(error) => {
                tracing::debug!(%error, "a handshake failed");
                Shaken::Failed
            }
        },
        Chosen::Challenge(config) => {
            if let Ok(mut stream) = start.into_stream(config).await {
                // The handshake was the answer (RFC 8737 section 3).
                let _ = stream.shutdown().await;
            }
            Shaken::Challenge
        }
        Chosen::Nothing => Shaken::Nothing,
    }
}

/// Answers requests until the connection ends.
async fn talk<S>(stream: S, peer: Peer, is_http2: bool, serving: &Arc<Serving>, place: Place, mut stopping: Stopping)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::new(place);
    let activity = Arc::clone(place.activity());
    let (peer, shared) = (Arc::new(peer), Arc::clone(serving));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&shared, &place, &peer, request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let protocol = protocol(is_http2);
    let connection = protocol.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let patience = Patience { first: FIRST_REQUEST_LIMIT, idle: IDLE_LIMIT, answer: serving.answer_limit };
    let is_taken_back = tokio::select! {
        biased;
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(listener = serving.name, error, "a connection ended with an error");
            }
            return;
        }
        () = activity.evicted() => true,
        () = activity.too_long(patience) => true,
        () = stopping.asked() => false,
    };
    connection.as_mut().graceful_shutdown();
    if is_taken_back {
        let _ = timeout(FAREWELL_LIMIT, connection).await;
    } else {
        // The accept loop cuts what takes longer than its drain time.
        let _ = connection.await;
    }
}

fn protocol(is_http2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    if is_http2 { builder.http2_only() } else { builder.http1_only() }
}

/// The answer to one request, which counts as under way until its body has been sent or given up.
fn answer(
    serving: &Arc<Serving>,
    place: &Place,
    peer: &Arc<Peer>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Guarded>> + Send + use<> {
    let may_ask = place.may_ask();
    let in_flight = place.activity().begin();
    let name = serving.name;
    let answering = may_ask.then(|| {
        let request = request.map(|body| body.map_err(super::BodyError::from).boxed_unsync());
        serving.handler.handle(peer, request)
    });
    async move {
        let response = match answering {
            Some(answering) => answering.await,
            None => too_often(),
        };
        metrics::counter!(HTTPS_REQUESTS, "listener" => name, "status" => class(response.status())).increment(1);
        let goes_on = response.extensions().get::<GoesOn>().is_some();
        response.map(|body| Guarded { body, in_flight, goes_on })
    }
}

fn too_often() -> Response<Body> {
    let mut response = Response::new(full("this address asks too often; ask again later\n"));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A status as a label: few enough for a metric.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        304 => "304",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        429 => "429",
        503 => "503",
        100..=199 => "1xx",
        201..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// A body whose request is under way until it is dropped.
pub(super) struct Guarded {
    body: Body,
    in_flight: InFlight,
    goes_on: bool,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = super::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, super::BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if self.goes_on && polled.is_ready() {
            self.in_flight.renew();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
