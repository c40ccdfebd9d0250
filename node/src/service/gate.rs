//! What every request passes before a service sees it, and every answer after.
//!
//! ```text
//!   request ──> header rule ──> user's call limit ──> service ──> answer, counted until its end
//!                   |                  |                  |
//!            InvalidArgument      Unavailable      a panic: Internal, and the connection lives on
//! ```

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use quorate_proto_api::{WORKLOAD_HEADER, WORKLOAD_HEADER_VALUE};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;

use super::workload::WorkloadServer;
use crate::listeners::connection::{Connection, InFlight};
use crate::metrics::{CALLS_REFUSED, HANDLER_PANICS};

/// Paths that need the security header: the Workload API and reflection (A-23).
const HEADER_PATHS: [&str; 2] = [WORKLOAD_PATH, "/grpc.reflection."];

/// Where the Workload API's methods are.
const WORKLOAD_PATH: &str = "/SpiffeWorkloadAPI/";

/// The services of one socket, and the rules in front of them. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    name: &'static str,
    routes: Routes,
    /// Called without a router in between, which costs a workload's call more than all the rest of this file.
    workload: Option<WorkloadServer>,
    header_rule: bool,
}

/// The answer of a service, to be.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate before these services; `name` is the socket's, for metrics and logs.
    #[must_use]
    pub fn new(name: &'static str, routes: Routes) -> Self {
        Self { name, routes: routes.prepare(), workload: None, header_rule: false }
    }

    /// Puts the Workload API beside these services, and asks for its security header.
    ///
    /// The header `workload.spiffe.io: true` is asked for on the Workload API and on reflection
    /// (EP-08, EP-09): a browser or a confused server can be made to send a request to a local
    /// socket, but not with this header (ATK-19).
    #[must_use]
    pub(super) fn with_workload_api(mut self, server: WorkloadServer) -> Self {
        self.workload = Some(server);
        self.header_rule = true;
        self
    }

    /// Takes one request of a connection.
    pub(crate) fn pass(&self, connection: &Arc<Connection>, mut request: Request<Incoming>) -> GatedFuture {
        if self.header_rule && !header_is_right(request.uri().path(), request.headers()) {
            return self.refuse(
                "header",
                &Status::invalid_argument(format!(
                    "security header missing from request: send the metadata {WORKLOAD_HEADER}: \
                     {WORKLOAD_HEADER_VALUE}, once"
                )),
            );
        }
        let Some(in_flight) = connection.begin() else {
            return self.refuse("calls", &Status::unavailable("this user has too many calls and streams open"));
        };
        request.extensions_mut().insert(Arc::clone(connection));
        match catch_unwind(AssertUnwindSafe(|| self.call(request))) {
            Ok(future) => GatedFuture(State::Running(self.name, future, Some(in_flight))),
            Err(_) => GatedFuture(State::Done(Some(after_panic(self.name)))),
        }
    }

    fn call(&self, request: Request<Incoming>) -> Answering {
        match &self.workload {
            Some(server) if request.uri().path().starts_with(WORKLOAD_PATH) => server.clone().call(request),
            Some(_) | None => Box::pin(self.routes.clone().call(request)),
        }
    }

    fn refuse(&self, reason: &'static str, status: &Status) -> GatedFuture {
        metrics::counter!(CALLS_REFUSED, "listener" => self.name, "reason" => reason).increment(1);
        GatedFuture(State::Done(Some(answer(status))))
    }
}

fn header_is_right(path: &str, headers: &HeaderMap) -> bool {
    if !HEADER_PATHS.iter().any(|prefix| path.starts_with(prefix)) {
        return true;
    }
    let mut values = headers.get_all(WORKLOAD_HEADER).iter();
    let first = values.next().map(http::HeaderValue::as_bytes);
    first == Some(WORKLOAD_HEADER_VALUE.as_bytes()) && values.next().is_none()
}

fn answer(status: &Status) -> Response<GatedBody> {
    let response = Status::into_http::<Body>(status.clone());
    response.map(|inner| GatedBody { name: "", inner: Some(inner), _in_flight: None })
}

/// The panic itself was logged by the hook that `telemetry` sets.
fn panicked(name: &'static str) -> Status {
    metrics::counter!(HANDLER_PANICS, "listener" => name).increment(1);
    Status::internal("internal error")
}

fn after_panic(name: &'static str) -> Response<GatedBody> {
    answer(&panicked(name))
}

/// The answer to a request, to be.
pub(crate) struct GatedFuture(State);

enum State {
    Done(Option<Response<GatedBody>>),
    Running(&'static str, Answering, Option<InFlight>),
}

impl Future for GatedFuture {
    type Output = Result<Response<GatedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Done(response) => Poll::Ready(Ok(response.take().unwrap_or_default())),
            State::Running(name, future, in_flight) => {
                let name = *name;
                match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                    Ok(Poll::Pending) => Poll::Pending,
                    Ok(Poll::Ready(Ok(response))) => {
                        let in_flight = in_flight.take();
                        Poll::Ready(Ok(response.map(|inner| GatedBody {
                            name,
                            inner: Some(inner),
                            _in_flight: in_flight,
                        })))
                    }
                    Err(_) => Poll::Ready(Ok(after_panic(name))),
                }
            }
        }
    }
}

/// The body of an answer: counts as in flight until it is dropped, and turns a panic into trailers.
#[derive(Debug, Default)]
pub(crate) struct GatedBody {
    name: &'static str,
    /// None after a panic: what panicked once is not polled again.
    inner: Option<Body>,
    _in_flight: Option<InFlight>,
}

impl HttpBody for GatedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let name = self.name;
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(context))) {
            Ok(polled) => polled,
            Err(_) => {
                self.inner = None;
                let mut trailers = HeaderMap::new();
                let written = panicked(name).add_header(&mut trailers);
                Poll::Ready(written.is_ok().then(|| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
