//! The peer port: accepts, has each end prove its key, and hands over what came of it.
//!
//! tonic's own server takes connections with a loop that has ended on a bad handshake before (RUSTSEC-2024-0376,
//! ATK-23), and knows no limits before a call is made. Here a handshake that fails is nothing but a count.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quorate_raft_consensus::transport::{Connection, Incoming, PeerKey, TransportFuture};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::guard::{Guard, Handshake, LISTENER, Permit};
use super::socket;
use super::tls::agreed;
use super::transport::Members;
use crate::listeners::accept::accept_loop;
use crate::metrics::{CONNECTIONS_REFUSED, PEER_HANDSHAKES};
use crate::shutdown::{Stop, Stopping};

/// How long a handshake may take: two round trips over half the globe, with one lost packet.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How often it is looked whether the key of a stranger's connection is a member's by now, which then leaves its place
/// to others. Consensus ends those of strangers that nobody vouches for, and those of newcomers, after their time; it does
/// not end one that it knows from elsewhere, such as that of a leader who sends this node the state.
const STRANGER_LOOK: Duration = Duration::from_secs(10);

/// Connections that wait to be taken by consensus.
pub(super) const WAITING: usize = 16;

/// What every new connection is treated with.
#[derive(Clone)]
pub(super) struct Reception {
    pub(super) acceptor: TlsAcceptor,
    pub(super) guard: Arc<Guard>,
    pub(super) members: Members,
    pub(super) taken: mpsc::Sender<Connection>,
}

impl Reception {
    /// Takes connections until told to stop, or until nobody wants them any more.
    pub(super) async fn run(self, listener: TcpListener, stopping: Stopping) {
        let admit = move |stream: TcpStream, stopping| {
            let from = stream.peer_addr().ok()?;
            let handshake = self.guard.begin(from.ip());
            Some(self.clone().receive(stream, from.to_string(), handshake, stopping))
        };
        accept_loop(LISTENER, listener, admit, stopping, Duration::ZERO).await;
    }

    async fn receive(self, stream: TcpStream, address: String, handshake: Handshake, mut stopping: Stopping) {
        let shaking = timeout(HANDSHAKE_LIMIT, self.shake(stream));
        let result = tokio::select! {
            biased;
            () = stopping.asked() => return,
            () = handshake.pushed_out() => "pushed_out",
            shaken = shaking => match shaken {
                Err(_late) => "timeout",
                Ok(Err(error)) => {
                    // Anybody can bring this about as often as they like, so it is not told loudly.
                    tracing::debug!(from = address, %error, "a handshake at the peer port failed");
                    "failed"
                }
                Ok(Ok((stream, peer))) => self.hand_over(stream, PeerKey { address, ..peer }, handshake).await,
            },
        };
        metrics::counter!(PEER_HANDSHAKES, "result" => result).increment(1);
    }

    async fn shake(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, PeerKey)> {
        socket::prepare(&stream)?;
        let stream = self.acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        // A client that offers no protocol gets through the handshake; it is none of ours.
        let protocol = agreed(session.alpn_protocol());
        let key = session.peer_certificates().and_then(<[_]>::first);
        let (Some(protocol), Some(key)) = (protocol, key) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client names no protocol of ours"));
        };
        let key = Bytes::copy_from_slice(key);
        Ok((stream, PeerKey { key, protocol, address: String::new() }))
    }

    async fn hand_over(&self, stream: TlsStream<TcpStream>, peer: PeerKey, handshake: Handshake) -> &'static str {
        let is_member = self.members.have(&peer.key);
        let permit = match handshake.established(&peer.key, is_member) {
            Ok(permit) => permit,
            Err(full) => {
                metrics::counter!(CONNECTIONS_REFUSED, "listener" => LISTENER).increment(1);
                tracing::debug!(from = peer.address, %full, "a connection at the peer port was refused");
                return "full";
            }
        };
        let look = (!is_member).then(|| Box::pin(sleep(STRANGER_LOOK)));
        let stream = Guarded { stream, permit, look, members: self.members.clone() };
        // Consensus may be busy; a client that has waited for so long dials again.
        match timeout(HANDSHAKE_LIMIT, self.taken.send(Connection::new(stream, peer))).await {
            Ok(Ok(())) => "established",
            Ok(Err(_)) | Err(_) => "not_taken",
        }
    }
}

/// A connection that is counted: as a stranger's, as long as its key is no member's.
struct Guarded {
    stream: TlsStream<TcpStream>,
    permit: Permit,
    look: Option<Pin<Box<Sleep>>>,
    members: Members,
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while let Some(look) = &mut this.look
            && look.as_mut().poll(context).is_ready()
        {
            if this.members.have(this.permit.key()) {
                this.permit.was_admitted();
                this.look = None;
            } else {
                look.as_mut().reset(Instant::now() + STRANGER_LOOK);
            }
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
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

/// What came of the handshakes. The port is closed when this is dropped.
pub(super) struct Port {
    pub(super) waiting: mpsc::Receiver<Connection>,
    pub(super) _stop: Stop,
}

impl Incoming for Port {
    fn next(&mut self) -> TransportFuture<'_, Connection> {
        Box::pin(async {
            match self.waiting.recv().await {
                Some(connection) => Ok(connection),
                None => Err(io::Error::new(io::ErrorKind::NotConnected, "the peer port was closed")),
            }
        })
    }
}
