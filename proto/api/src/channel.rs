//! Client channels: one function makes all of them (SIM-01).
//!
//! ```text
//!   command line, bench, tests ──► channel(&Address) ──► lazy HTTP/2 over a unix or TCP socket
//!                                                          one set of settings for everybody
//! ```
//!
//! The settings are those that simulation was tried with, and production has them too, so that what is simulated is
//! what runs. tonic 0.14.9 exposes every one of them on `Endpoint`; before 0.14 the two about reset streams were
//! hyper's alone.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

/// How long a dial may take. A socket on the same host answers in microseconds; what takes seconds is a full backlog,
/// and there waiting longer helps nobody.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may be silent before it is asked whether it lives, idle ones too. Without this a healed cut
/// of half a second killed connections for good (SIM-09).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the answer to that question may take. Interval and limit together are how long a dead peer goes unnoticed.
pub const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(1);

/// Deadline of a call that reads, or that writes one thing. A write waits for a sync and for the quorum; ten seconds
/// are several elections long.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Deadline of a call that carries a batch or a listing of everything.
pub const BULK_CALL_LIMIT: Duration = Duration::from_secs(60);

/// How many streams that we reset HTTP/2 keeps in mind, so that late frames for them are no error.
const RESET_STREAMS: usize = 64;

/// How long it keeps them in mind: for ever, or h2 forgets by the real clock, and each cancelled call leaves behind a
/// state that depends on real time (SIM-01: traces differed under load). The count above is what bounds it.
const RESET_STREAM_DURATION: Duration = Duration::from_secs(1 << 30);

/// The authority that requests name. Nothing on a local socket looks at it, and HTTP/2 needs one.
const AUTHORITY: &str = "http://localhost";

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP socket, without TLS: the Workload API's second transport (EP-06, EP-10).
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}

/// Makes a channel. It dials at its first call, and again whenever the connection was lost.
///
/// Calls have no deadline of their own here, since streams have none: set [`CALL_LIMIT`] or [`BULK_CALL_LIMIT`] on the
/// request. A dial that fails is the failure of the call that needed it, with the `std::io::Error` among its sources.
#[must_use]
pub fn channel(address: &Address) -> Channel {
    let address = address.clone();
    endpoint().connect_with_connector_lazy(tower::service_fn(move |_| {
        let address = address.clone();
        async move { Connection::dial(&address).await.map(TokioIo::new) }
    }))
}

/// Makes a channel over connections that `dial` makes: between members, and in simulation. As [`channel`] in all else.
///
/// `dial` is called at the first call, and again whenever the connection was lost.
pub fn channel_over<D, F, S>(dial: D) -> Channel
where
    D: Fn() -> F + Send + Sync + 'static,
    F: Future<Output = std::io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    endpoint().connect_with_connector_lazy(tower::service_fn(move |_| {
        let dialled = dial();
        async move { dialled.await.map(TokioIo::new) }
    }))
}

/// The settings, without a destination.
fn endpoint() -> Endpoint {
    Endpoint::from_static(AUTHORITY)
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .http2_max_concurrent_reset_streams(RESET_STREAMS)
        .http2_reset_stream_duration(RESET_STREAM_DURATION)
}

/// A connection of either kind.
enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    async fn dial(address: &Address) -> std::io::Result<Self> {
        match address {
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tcp(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[tokio::test]
    async fn a_call_that_cannot_dial_fails_as_unavailable_with_the_cause_among_its_sources() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("nobody.sock"));
        let mut client = crate::health::health_client::HealthClient::new(channel(&address));

        let status = client.check(crate::health::HealthCheckRequest::default()).await.unwrap_err();

        assert_eq!(status.code(), tonic::Code::Unavailable);
        let mut source = status.source();
        while let Some(cause) = source {
            if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
                assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
                return;
            }
            source = cause.source();
        }
        panic!("no io::Error among the sources of {status:?}");
    }

    #[test]
    fn an_address_prints_as_the_endpoint_variable_takes_it() {
        assert_eq!(Address::Unix("/run/w.sock".into()).to_string(), "unix:///run/w.sock");
        assert_eq!(Address::Tcp(([127, 0, 0, 1], 8000).into()).to_string(), "tcp://127.0.0.1:8000");
    }
}
