//! The transport that consensus is given: TCP and TLS, one port, opened when it is wanted.
//!
//! A node that is alone and has invited nobody opens no port. It is opened at the start of a node that belongs to a
//! cluster of several, is about to join one, or says in its configuration where to listen; and at the first
//! invitation.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use quorate_raft_consensus::StateReader;
use quorate_raft_consensus::transport::{Connection, Destination, Incoming, Transport, TransportFuture};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::dial::dial;
use super::guard::{Guard, LIMITS};
use super::listen::{Port, Reception, WAITING};
use super::tls::PeerTls;
use crate::shutdown::stop_signal;

/// The transport of a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct PeerTransport {
    inner: Arc<Inner>,
}

struct Inner {
    listen: SocketAddr,
    /// The node's keys are read once its directory is its own, which consensus sees to.
    tls: watch::Sender<Option<PeerTls>>,
    /// Handshakes run here and not beside the heartbeats of consensus: a flood of them costs signatures.
    runtime: runtime::Handle,
    members: Members,
    /// The port once it is open, until the one who listens has it.
    port: Mutex<Option<TcpListener>>,
    /// Where the port is, once it is open.
    opened: watch::Sender<Option<SocketAddr>>,
}

/// Whose keys members have, as far as this node has applied; nobody's before it has begun to.
#[derive(Clone, Default)]
pub(super) struct Members(Arc<OnceLock<StateReader>>);

impl Members {
    /// Whether a member that was not removed has this key.
    pub(super) fn have(&self, key: &[u8]) -> bool {
        self.0.get().is_some_and(|state| {
            state.read(|state| {
                let mut present = state.members().filter(|member| !member.record.status.has_gone());
                present.any(|member| member.record.identity_key.as_ref() == key)
            })
        })
    }
}

impl PeerTransport {
    /// A transport that listens at `listen` once it is opened. Handshakes run on `runtime`, and wait until the node has
    /// [an identity](Self::identify).
    #[must_use]
    pub fn new(listen: SocketAddr, runtime: runtime::Handle) -> Self {
        let inner = Inner {
            listen,
            tls: watch::Sender::new(None),
            runtime,
            members: Members::default(),
            port: Mutex::new(None),
            opened: watch::Sender::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Gives the node its identity. Before that nobody is dialled and nobody answered.
    pub fn identify(&self, tls: PeerTls) {
        self.inner.tls.send_replace(Some(tls));
    }

    /// Opens the port, if it is not open yet, and says where it is.
    ///
    /// # Errors
    /// When the system does not let this process listen there.
    pub async fn open(&self) -> io::Result<SocketAddr> {
        let mut port = self.inner.port.lock().await;
        if let Some(address) = *self.inner.opened.borrow() {
            return Ok(address);
        }
        let listener = TcpListener::bind(self.inner.listen).await?;
        let address = listener.local_addr()?;
        *port = Some(listener);
        self.inner.opened.send_replace(Some(address));
        tracing::info!(%address, "the peer port is open");
        Ok(address)
    }

    /// Where the port is, once it is open.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        *self.inner.opened.borrow()
    }

    /// Lets the transport tell members from strangers.
    pub fn know_members(&self, state: StateReader) {
        // A second call would say the same.
        let _ = self.inner.members.0.set(state);
    }

    /// The identity, once there is one.
    async fn tls(&self) -> io::Result<PeerTls> {
        let mut tls = self.inner.tls.subscribe();
        let identified = tls.wait_for(Option::is_some).await;
        let tls = identified.ok().and_then(|tls| tls.clone());
        tls.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "this node has no identity"))
    }

    fn reception(&self, tls: &PeerTls, taken: mpsc::Sender<Connection>) -> Reception {
        Reception {
            acceptor: TlsAcceptor::from(tls.server()),
            guard: Guard::new(LIMITS),
            members: self.inner.members.clone(),
            taken,
        }
    }
}

impl Transport for PeerTransport {
    fn listen(&self) -> TransportFuture<'_, Box<dyn Incoming>> {
        Box::pin(async {
            let (taken, waiting) = mpsc::channel(WAITING);
            let (stop, mut stopping) = stop_signal();
            let transport = self.clone();
            self.inner.runtime.spawn(async move {
                let mut opened = transport.inner.opened.subscribe();
                let tls = tokio::select! {
                    biased;
                    () = stopping.asked() => return,
                    tls = async {
                        drop(opened.wait_for(Option::is_some).await);
                        transport.tls().await
                    } => tls,
                };
                let listener = transport.inner.port.lock().await.take();
                if let (Some(listener), Ok(tls)) = (listener, tls) {
                    transport.reception(&tls, taken).run(listener, stopping).await;
                }
            });
            Ok(Box::new(Port { waiting, _stop: stop }) as Box<dyn Incoming>)
        })
    }

    fn dial<'a>(&'a self, peer: &'a Destination) -> TransportFuture<'a, Connection> {
        Box::pin(async move { dial(&self.tls().await?, peer).await })
    }
}
