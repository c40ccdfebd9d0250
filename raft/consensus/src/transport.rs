//! The seam between members and the network (SIM-02): how a node listens for its peers and dials them.
//!
//! ```text
//!   production   TCP, TLS 1.3 with raw public keys: each end proves its identity key     (the node crate)
//!   simulation   plain connections that name a key first                                (chaos)
//!   tests        pipes in memory that can be cut                                        (this crate)
//! ```
//!
//! A transport proves *which key* is at the other end and nothing more. Whose key it is, and whether its owner may say
//! what it says, is decided for each call from the replicated state (ATK-25, ATK-27).

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// What a transport does takes its time.
pub type TransportFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Listens for peers and dials them.
pub trait Transport: Send + Sync + 'static {
    /// Opens the port of this node. Called once.
    ///
    /// # Errors
    ///
    /// When the port cannot be opened.
    fn listen(&self) -> TransportFuture<'_, Box<dyn Incoming>>;

    /// Connects to a peer and makes sure that it holds one of the keys asked for. Names are resolved now, not earlier.
    ///
    /// # Errors
    ///
    /// When nobody answers, or somebody else does.
    fn dial<'a>(&'a self, peer: &'a Destination) -> TransportFuture<'a, Connection>;
}

/// Connections that peers have opened, handshake over.
pub trait Incoming: Send + 'static {
    /// The next one. An error ends listening for good; a handshake that fails is none and is passed over.
    fn next(&mut self) -> TransportFuture<'_, Connection>;
}

/// What is spoken over a connection, agreed in the handshake (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Between members: `quorate-peer/1`.
    Peer,
    /// A newcomer's: `quorate-join/1`. Nothing but `Join` is answered on it.
    Join,
}

impl Protocol {
    /// Its name in ALPN.
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Peer => b"quorate-peer/1",
            Self::Join => b"quorate-join/1",
        }
    }
}

/// Whom to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Host names or IP addresses with port, tried in their order.
    pub addresses: Vec<String>,
    /// Identity keys (subjectPublicKeyInfo, DER) of which the peer must prove one.
    pub keys: Vec<Bytes>,
    /// What is to be spoken.
    pub protocol: Protocol,
}

/// Who is at the other end, as far as the handshake proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKey {
    /// The peer's identity key: subjectPublicKeyInfo, DER.
    pub key: Bytes,
    /// What was agreed to be spoken.
    pub protocol: Protocol,
    /// From where, for people.
    pub address: String,
}

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A connection whose other end has proved a key.
pub struct Connection {
    stream: Box<dyn Stream>,
    peer: Arc<PeerKey>,
}

impl Connection {
    /// A connection over `stream`.
    pub fn new(stream: impl Stream, peer: PeerKey) -> Self {
        Self { stream: Box::new(stream), peer: Arc::new(peer) }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Arc<PeerKey> {
        &self.peer
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<PeerKey>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The transport of a node that has no peers: it refuses, and nobody calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTransport;

impl Transport for NoTransport {
    fn listen(&self) -> TransportFuture<'_, Box<dyn Incoming>> {
        Box::pin(async { Ok(Box::new(Nobody) as Box<dyn Incoming>) })
    }

    fn dial<'a>(&'a self, _peer: &'a Destination) -> TransportFuture<'a, Connection> {
        Box::pin(async { Err(io::Error::new(io::ErrorKind::Unsupported, "this node was started without peers")) })
    }
}

struct Nobody;

impl Incoming for Nobody {
    fn next(&mut self) -> TransportFuture<'_, Connection> {
        Box::pin(std::future::pending())
    }
}
