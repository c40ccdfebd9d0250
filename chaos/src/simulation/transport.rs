//! The transport between simulated members: plain connections over the simulated network that name a key first.
//!
//! ```text
//!   dialler                                    listener
//!     "q" protocol, length, own key  ──────────►  reads it, within a time limit
//!     reads it: is it one of those wanted?  ◄───  length, own key
//! ```
//!
//! Nothing is proved here: the nodes of a simulation do not lie about their keys, and TLS has tests of its own.

use super::{chance, world::World};
use bytes::Bytes;
use quorate_raft_consensus::transport::{
    Connection, Destination, Incoming, PeerKey, Protocol, Transport, TransportFuture,
};
use rand::rngs::SmallRng;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

/// The port of every node.
pub(crate) const PORT: u16 = 8082;

/// How long a dial that was refused waits before it says so. The simulated network refuses at once what a real one
/// leaves without an answer.
const REFUSAL_WAIT_MILLIS: (u64, u64) = (10, 400);

/// How long the other end may take to name its key.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(1);

/// Handshakes and fresh connections that wait to be taken.
const CONNECTIONS_WAITING: usize = 64;

/// The transport of one boot of a node.
pub(crate) struct SimulatedTransport {
    key: Bytes,
    random: Mutex<SmallRng>,
}

impl SimulatedTransport {
    /// The transport of this boot of this node, whose identity key is `key`.
    pub(crate) fn new(world: &World, node: usize, boot: u64, key: Bytes) -> Self {
        Self { key, random: Mutex::new(chance::stream(world.seed(), "dial", node as u64, boot)) }
    }

    fn refusal_wait(&self) -> Duration {
        let (least, most) = REFUSAL_WAIT_MILLIS;
        chance::millis(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner), least, most)
    }

    async fn connect(&self, peer: &Destination) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address to dial");
        for address in &peer.addresses {
            match self.connect_to(address, peer).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: &str, peer: &Destination) -> io::Result<Connection> {
        let mut stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(refused) => {
                sleep(self.refusal_wait()).await;
                return Err(refused);
            }
        };
        let handshake = async {
            stream.write_all(&greeting(Some(peer.protocol), &self.key)?).await?;
            read_key(&mut stream).await
        };
        let key = timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_late| io::ErrorKind::TimedOut)??;
        if !peer.keys.contains(&key) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else answers there"));
        }
        let peer = PeerKey { key, protocol: peer.protocol, address: address.to_owned() };
        Ok(Connection::new(stream, peer))
    }
}

impl Transport for SimulatedTransport {
    fn listen(&self) -> TransportFuture<'_, Box<dyn Incoming>> {
        Box::pin(async {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
            let (sender, connections) = mpsc::channel(CONNECTIONS_WAITING);
            tokio::spawn(accept(listener, self.key.clone(), sender));
            Ok(Box::new(Accepted { connections }) as Box<dyn Incoming>)
        })
    }

    fn dial<'a>(&'a self, peer: &'a Destination) -> TransportFuture<'a, Connection> {
        Box::pin(self.connect(peer))
    }
}

/// Accepts, and shakes hands with each newcomer beside the others: one that says nothing holds nobody up.
async fn accept(listener: TcpListener, key: Bytes, connections: mpsc::Sender<Connection>) {
    while let Ok((mut stream, from)) = listener.accept().await {
        let (key, connections) = (key.clone(), connections.clone());
        tokio::spawn(async move {
            let handshake = async {
                let protocol = match stream.read_u8().await? {
                    0 => Protocol::Peer,
                    _ => Protocol::Join,
                };
                let theirs = read_key(&mut stream).await?;
                stream.write_all(&greeting(None, &key)?).await?;
                Ok::<_, io::Error>((protocol, theirs))
            };
            if let Ok(Ok((protocol, key))) = timeout(HANDSHAKE_LIMIT, handshake).await {
                let peer = PeerKey { key, protocol, address: from.to_string() };
                // Nobody takes connections any more when the node is stopping.
                drop(connections.send(Connection::new(stream, peer)).await);
            }
        });
    }
}

struct Accepted {
    connections: mpsc::Receiver<Connection>,
}

impl Incoming for Accepted {
    fn next(&mut self) -> TransportFuture<'_, Connection> {
        Box::pin(async {
            self.connections.recv().await.ok_or_else(|| io::Error::new(io::ErrorKind::BrokenPipe, "the port is closed"))
        })
    }
}

fn greeting(protocol: Option<Protocol>, key: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(key.len() + 3);
    bytes.extend(protocol.map(|protocol| u8::from(protocol == Protocol::Join)));
    bytes.extend(u16::try_from(key.len()).map_err(io::Error::other)?.to_be_bytes());
    bytes.extend_from_slice(key);
    Ok(bytes)
}

async fn read_key(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut key = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut key).await?;
    Ok(key.into())
}
