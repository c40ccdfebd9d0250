//! Requests are read to their end, also where they were answered before it.
//!
//! ```text
//!   member ── report, report, report ──► this node, which leads no more: the answers end
//!          ── report, end of request ──► read, and thrown away
//! ```
//!
//! Were the rest not read, h2 would reset the request, and for a while pass over what still comes of it. How long, it
//! measures by the real clock, and a server has no setting for that (a client has: SIM-01). To what comes later it answers
//! with another reset, of which a connection bears a thousand. So no request is reset: its sender ends it when it sees
//! that the answer has.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body_util::{BodyStream, StreamBody};
use tokio::runtime;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    body::Body,
    codegen::{Service, http::Request},
    server::NamedService,
};

/// A service for members whose requests are read to their end. What is still read counts among the calls of its
/// connection, and ends with it.
#[derive(Debug, Clone)]
pub(super) struct Drained<S>(pub(super) S);

impl<S: NamedService> NamedService for Drained<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Drained<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.0.call(request.map(|body| Body::new(StreamBody::new(ReadToItsEnd::new(body)))))
    }
}

/// A body that is read on when whoever reads it stops.
struct ReadToItsEnd {
    /// Nothing once it has ended, well or not.
    rest: Option<BodyStream<Body>>,
}

impl ReadToItsEnd {
    fn new(body: Body) -> Self {
        Self { rest: Some(BodyStream::new(body)) }
    }
}

impl Stream for ReadToItsEnd {
    type Item = <BodyStream<Body> as Stream>::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(rest).poll_next(context));
        if !matches!(frame, Some(Ok(_))) {
            self.rest = None;
        }
        Poll::Ready(frame)
    }
}

impl Drop for ReadToItsEnd {
    fn drop(&mut self) {
        // Outside of a runtime there is no connection either that more could come on.
        if let (Some(mut rest), Ok(runtime)) = (self.rest.take(), runtime::Handle::try_current()) {
            runtime.spawn(async move { while let Some(Ok(_)) = rest.next().await {} });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::{sync::mpsc, time::timeout};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    /// Reads one frame, and answers while more are to come.
    #[derive(Clone)]
    struct Impatient;

    impl Service<Request<Body>> for Impatient {
        type Response = ();
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

        fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            Box::pin(async move {
                assert!(BodyStream::new(request.into_body()).next().await.is_some());
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn sim_01_a_request_that_was_answered_early_is_read_until_its_sender_ends_it() {
        let (sender, parts) = mpsc::channel(1);
        let part = || async { BodyStream::new(Full::new(Bytes::from_static(b"a part"))).next().await.unwrap() };
        sender.send(part().await).await.unwrap();
        let body = Body::new(StreamBody::new(ReceiverStream::new(parts)));
        Drained(Impatient).call(Request::new(body)).await.unwrap();
        for _ in 0..100 {
            let sent = timeout(Duration::from_secs(10), sender.send(part().await)).await;
            sent.expect("somebody reads in time").expect("nobody has dropped the request");
        }
    }
}
