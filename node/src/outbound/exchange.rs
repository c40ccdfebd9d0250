//! One request over one connection, with a limit on everything that a server can grow.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::Clock;
use super::error::{OutboundError, Phase, shown};

/// Bytes of the head of an answer.
const HEAD_BYTES: usize = 64 * 1024;

/// Headers of an answer.
const HEADERS: usize = 100;

/// An answer as it came over one connection.
pub(super) struct Exchanged {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Sends a request and reads the answer; its body only when `reads` says so of its status.
pub(super) async fn exchange<S>(
    stream: S,
    host: &str,
    request: Request<Full<Bytes>>,
    body_bytes: usize,
    clock: Clock,
    reads: impl Fn(StatusCode) -> bool,
) -> Result<Exchanged, OutboundError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |source| OutboundError::Http { host: host.to_owned(), source };
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS).max_buf_size(HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with this function: whatever the server still has to say then is not read.
    let mut driver = JoinSet::new();
    // How it ends is said by the request, which fails with it.
    driver.spawn(async move { drop(connection.await) });
    let response = clock.within(Phase::Asking, sender.send_request(request)).await?.map_err(broken)?;
    let (head, body) = response.into_parts();
    let body = if reads(head.status) {
        let answer = Response::from_parts(head.clone(), body);
        clock.within(Phase::Reading, read(host, answer, body_bytes)).await??
    } else {
        Bytes::new()
    };
    Ok(Exchanged { status: head.status, headers: head.headers, body })
}

async fn read(host: &str, answer: Response<Incoming>, limit: usize) -> Result<Bytes, OutboundError> {
    let too_large = || OutboundError::TooLarge { host: host.to_owned(), limit };
    for encoding in answer.headers().get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            let encoding = shown(&String::from_utf8_lossy(encoding.as_bytes()));
            return Err(OutboundError::Encoded { host: host.to_owned(), encoding });
        }
    }
    let announced = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = answer.into_body();
    // What a server announces costs it nothing, so room is made for what comes.
    let mut read = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|source| OutboundError::Http { host: host.to_owned(), source })?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len().saturating_add(data.len()) > limit {
            return Err(too_large());
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}
