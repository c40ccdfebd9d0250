//! One HTTP/2 connection on a unix socket, from its preface to its end.
//!
//! Every number a client could grow is bounded here (ATK-21, ATK-22, ATK-26); what a user may hold
//! over all its connections is `admission`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quorate_actors::Caller;
use quorate_actors::attestation::PeerProcess;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::admission::{CallPermit, ConnectionPermit};
use super::authority::Mended;
use crate::service::gate::{Gate, GatedBody, GatedFuture};
use crate::shutdown::Stopping;

/// Streams open at once on one connection: a client library opens a handful, a proxy some dozens.
const MAX_STREAMS: u32 = 256;

/// Largest header list of a request, in bytes: a gRPC request carries a few hundred; metadata of
/// ours at most a few dozen more.
const MAX_HEADER_BYTES: u32 = 8 * 1024;

/// Streams reset by the peer before we accepted them, and by us for its errors, that are kept
/// account of; beyond them the connection is closed (rapid reset, ATK-22).
const MAX_RESETS: usize = 64;

/// Receive window of a stream: a request is a few KiB, the largest (a batch of entries) goes
/// through in several windows.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Receive window of a connection.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// What one stream may buffer to send.
const SEND_BUFFER: usize = 256 * 1024;

/// How long a connection may be open before its first request: clients send it at once, and a
/// connection that only sits there costs a descriptor (slowloris).
const FIRST_REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may be without any stream. Clients hold a stream or dial again.
const IDLE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long a connection that was asked to end for idleness may take.
const IDLE_END_LIMIT: Duration = Duration::from_secs(10);

/// How often a connection is asked for a sign of life, and how long it may take: a process that
/// is stopped, or has stopped reading, does not hold its connection for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(5 * 60);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(60);

/// A connection as its requests see it.
#[derive(Debug)]
pub struct Connection {
    caller: Arc<Caller>,
    permit: ConnectionPermit,
    opened: Instant,
    streams: AtomicUsize,
    requests: AtomicU64,
    /// Milliseconds after `opened` at which the last stream ended.
    idle_since: AtomicU64,
}

impl Connection {
    pub(super) fn new(process: PeerProcess, permit: ConnectionPermit) -> Arc<Self> {
        Arc::new(Self {
            caller: Caller::new(process),
            permit,
            opened: Instant::now(),
            streams: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
        })
    }

    /// The process at the other end, as the kernel noted it when it connected.
    #[must_use]
    pub fn process(&self) -> &PeerProcess {
        self.caller.process()
    }

    /// The caller that this process is: attested once, and looked at again whenever it is answered.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Counts a request until the answer's end is dropped; none over the user's limit.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let call = self.permit.call()?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(InFlight { connection: Arc::clone(self), _call: call })
    }

    /// What the connection's timer should do now.
    fn due(&self) -> Due {
        if self.requests.load(Ordering::Relaxed) == 0 {
            return Due::Cut;
        }
        if self.streams.load(Ordering::Relaxed) > 0 {
            return Due::Wait(IDLE_LIMIT);
        }
        let since = Duration::from_millis(self.idle_since.load(Ordering::Relaxed));
        let idle = self.opened.elapsed().saturating_sub(since);
        match IDLE_LIMIT.checked_sub(idle) {
            Some(left) if !left.is_zero() => Due::Wait(left),
            Some(_) | None => Due::End,
        }
    }
}

enum Due {
    /// No request came: not worth a farewell.
    Cut,
    /// Idle for too long: ask it to end.
    End,
    /// Look again after this time.
    Wait(Duration),
}

/// A request of a connection, until dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    connection: Arc<Connection>,
    _call: CallPermit,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let age = u64::try_from(self.connection.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.connection.idle_since.store(age, Ordering::Relaxed);
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection to its end; when `stopping` turns true it is asked to finish.
pub(super) async fn serve(stream: UnixStream, connection: Arc<Connection>, gate: Gate, mut stopping: Stopping) {
    let service = Requests { gate, connection: Arc::clone(&connection) };
    let serving = protocol().serve_connection(TokioIo::new(Mended::new(stream)), service);
    tokio::pin!(serving);
    let timer = sleep(FIRST_REQUEST_LIMIT);
    tokio::pin!(timer);
    let mut ending = false;
    loop {
        tokio::select! {
            biased;
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                return;
            }
            () = stopping.asked(), if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
                // How long it may take from here is the accept loop's to say.
                timer.as_mut().reset(Instant::now() + IDLE_LIMIT);
            }
            () = timer.as_mut() => match connection.due() {
                Due::Cut => return,
                Due::End if ending => return,
                Due::End => {
                    ending = true;
                    serving.as_mut().graceful_shutdown();
                    timer.as_mut().reset(Instant::now() + IDLE_END_LIMIT);
                }
                Due::Wait(time) => timer.as_mut().reset(Instant::now() + time),
            },
        }
    }
}

fn protocol() -> http2::Builder<TokioExecutor> {
    let mut protocol = http2::Builder::new(TokioExecutor::new());
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    protocol
}

/// hands each request of a connection to the gate.
struct Requests {
    gate: Gate,
    connection: Arc<Connection>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<GatedBody>;
    type Error = std::convert::Infallible;
    type Future = GatedFuture;

    fn call(&self, request: Request<Incoming>) -> GatedFuture {
        self.gate.pass(&self.connection, request)
    }
}
