//! A network in memory: pipes between members, each direction of which can be cut and delayed.
//!
//! A cut loses nothing and delivers nothing, as TCP does over a cut that heals in time: what is sent waits. A dial over a
//! cut waits too, for the dialler's own time limit to pass.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_identity::{KeyType, PrivateKey};
use quorate_raft_consensus::transport::{
    Connection, Destination, Incoming, PeerKey, Protocol, Transport, TransportFuture,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 1 << 20;
/// Pieces that are on their way in one direction.
const PIECES: usize = 4096;

/// How one direction between two members is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    open: bool,
    delay: Duration,
}

/// The network. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct TestNet {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    links: Mutex<BTreeMap<(String, String), watch::Sender<Link>>>,
    ports: Mutex<BTreeMap<String, Port>>,
}

/// The port of a running member.
struct Port {
    accept: mpsc::UnboundedSender<Connection>,
    /// Falls when the member goes down, and takes its connections with it.
    alive: watch::Sender<bool>,
}

/// The identity key of the member of this name, the same in all tests of this run.
pub(crate) fn key_of(name: &str) -> Bytes {
    static KEYS: Mutex<BTreeMap<String, Bytes>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock();
    keys.entry(name.to_owned()).or_insert_with(new_key).clone()
}

/// A key that no member has.
pub(crate) fn new_key() -> Bytes {
    Bytes::copy_from_slice(PrivateKey::generate(KeyType::Ed25519).unwrap().public_key().spki_der())
}

/// The address of the member of this name.
pub(crate) fn address_of(name: &str) -> String {
    format!("{name}.example.org:8082")
}

impl TestNet {
    /// The transport of a member, which proves its key.
    pub(crate) fn transport(&self, name: &str) -> Arc<dyn Transport> {
        self.transport_with_key(name, key_of(name))
    }

    /// A transport that proves another key than the member's.
    pub(crate) fn transport_with_key(&self, name: &str, key: Bytes) -> Arc<dyn Transport> {
        Arc::new(TestTransport { net: self.clone(), name: name.to_owned(), key, alive: watch::Sender::new(true) })
    }

    /// Nothing gets from `from` to `to` any more.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.link(from, to).send_modify(|link| link.open = false);
    }

    /// What waits from `from` to `to` arrives.
    pub(crate) fn heal(&self, from: &str, to: &str) {
        self.link(from, to).send_modify(|link| link.open = true);
    }

    /// Cuts both directions between a member and all others of these names.
    pub(crate) fn isolate(&self, name: &str, others: &[&str]) {
        for other in others.iter().filter(|other| **other != name) {
            self.cut(name, other);
            self.cut(other, name);
        }
    }

    /// Heals both directions between a member and all others of these names.
    pub(crate) fn rejoin(&self, name: &str, others: &[&str]) {
        for other in others.iter().filter(|other| **other != name) {
            self.heal(name, other);
            self.heal(other, name);
        }
    }

    /// What is sent from `from` to `to` takes this long.
    pub(crate) fn delay(&self, from: &str, to: &str, delay: Duration) {
        self.link(from, to).send_modify(|link| link.delay = delay);
    }

    /// A member goes down without a word: its connections break.
    pub(crate) fn down(&self, name: &str) {
        if let Some(port) = self.inner.ports.lock().remove(name) {
            port.alive.send_replace(false);
        }
    }

    fn link(&self, from: &str, to: &str) -> watch::Sender<Link> {
        let mut links = self.inner.links.lock();
        let key = (from.to_owned(), to.to_owned());
        links.entry(key).or_insert_with(|| watch::Sender::new(Link { open: true, delay: Duration::ZERO })).clone()
    }

    /// The pipe from one end to the other, and back.
    fn pipe(&self, from: &str, to: &str, alive: [watch::Receiver<bool>; 2]) -> (DuplexStream, DuplexStream) {
        let ((near, near_end), (far, far_end)) = (duplex(PIPE_BYTES), duplex(PIPE_BYTES));
        let ((near_read, near_write), (far_read, far_write)) = (split(near_end), split(far_end));
        for (read, write, link) in
            [(near_read, far_write, self.link(from, to)), (far_read, near_write, self.link(to, from))]
        {
            tokio::spawn(carry(read, write, link.subscribe(), alive.clone()));
        }
        (near, far)
    }
}

/// Carries bytes in one direction until either end is gone.
async fn carry(
    mut read: ReadHalf<DuplexStream>,
    mut write: WriteHalf<DuplexStream>,
    mut link: watch::Receiver<Link>,
    alive: [watch::Receiver<bool>; 2],
) {
    let (pieces, mut queue) = mpsc::channel::<(Instant, Bytes)>(PIECES);
    let delays = link.clone();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count) = read.read(&mut buffer).await
            && count > 0
        {
            let arrives = Instant::now() + delays.borrow().delay;
            if pieces.send((arrives, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((arrives, piece)) = queue.recv().await {
            sleep_until(arrives).await;
            if link.wait_for(|link| link.open).await.is_err() || write.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(write.shutdown().await);
    };
    let [mut near, mut far] = alive;
    tokio::select! {
        biased;
        _ = near.wait_for(|alive| !alive) => {}
        _ = far.wait_for(|alive| !alive) => {}
        ((), ()) = async { tokio::join!(reading, writing) } => {}
    }
}

/// One member's way into the network.
struct TestTransport {
    net: TestNet,
    name: String,
    key: Bytes,
    /// Until the member goes down: what is left of its process then reaches nobody.
    alive: watch::Sender<bool>,
}

impl TestTransport {
    async fn connect(&self, peer: &Destination) -> io::Result<Connection> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let name = peer.addresses.iter().find_map(|address| address.strip_suffix(".example.org:8082"));
        let name = name.filter(|_| *self.alive.borrow()).ok_or_else(refused)?;
        for (from, to) in [(self.name.as_str(), name), (name, self.name.as_str())] {
            let link = self.net.link(from, to);
            link.subscribe().wait_for(|link| link.open).await.map_err(|_| refused())?;
        }
        if !peer.keys.contains(&key_of(name)) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the peer proved another key"));
        }
        let (accept, far_alive) = {
            let ports = self.net.inner.ports.lock();
            let port = ports.get(name).ok_or_else(refused)?;
            (port.accept.clone(), port.alive.subscribe())
        };
        let (near, far) = self.net.pipe(&self.name, name, [self.alive.subscribe(), far_alive]);
        let peer_of = |key: Bytes, name: &str, protocol: Protocol| PeerKey { key, protocol, address: address_of(name) };
        accept
            .send(Connection::new(far, peer_of(self.key.clone(), &self.name, peer.protocol)))
            .map_err(|_| refused())?;
        Ok(Connection::new(near, peer_of(key_of(name), name, peer.protocol)))
    }
}

impl Transport for TestTransport {
    fn listen(&self) -> TransportFuture<'_, Box<dyn Incoming>> {
        let (accept, incoming) = mpsc::unbounded_channel();
        let port = Port { accept, alive: self.alive.clone() };
        self.net.inner.ports.lock().insert(self.name.clone(), port);
        let net = Arc::downgrade(&self.net.inner);
        Box::pin(async move { Ok(Box::new(Accepted { incoming, _net: net }) as Box<dyn Incoming>) })
    }

    fn dial<'a>(&'a self, peer: &'a Destination) -> TransportFuture<'a, Connection> {
        Box::pin(self.connect(peer))
    }
}

struct Accepted {
    incoming: mpsc::UnboundedReceiver<Connection>,
    _net: Weak<Inner>,
}

impl Incoming for Accepted {
    fn next(&mut self) -> TransportFuture<'_, Connection> {
        Box::pin(async move {
            match self.incoming.recv().await {
                Some(connection) => Ok(connection),
                None => std::future::pending().await,
            }
        })
    }
}
