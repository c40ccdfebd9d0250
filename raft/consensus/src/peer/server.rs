//! The peer port: who is let in, and how many (ATK-25, ATK-26).
//!
//! ```text
//!   Incoming ──► Protocol::Join ──► few, for a short time ──────────────────────► Join service, small messages
//!            └─► Protocol::Peer ──► key known? ── no ──► another member's word ─► Peer service
//!                                       └── yes ───────────────────────────────►
//! ```
//!
//! Nothing that a stranger sends is read before its key is known: a connection that nobody vouches for is dropped.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_api::peer::{join_server::JoinServer, peer_server::PeerServer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use super::{
    drained::Drained,
    gate::Gated,
    join::JoinService,
    service::{PeerService, Refusals},
};
use crate::{
    limits::{
        CALLS_PER_CONNECTION_MAX, CONNECTIONS_PER_PEER_MAX, CONNECTIONS_TO_VOUCH_MAX, JOIN_ANSWER_BYTES_MAX,
        JOIN_CONNECTION_TIME_LIMIT, JOIN_CONNECTIONS_MAX, JOIN_MESSAGE_BYTES_MAX, PEER_CONNECTIONS_MAX,
        PEER_MESSAGE_BYTES_MAX, VOUCH_PAUSE,
    },
    node::Node,
    transport::{Connection, Incoming, Protocol},
};

/// What one call of a member may have on the way: a whole AppendEntries, so that it needs no second round trip.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// What all calls of one connection may have on the way.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How long a connection may be silent before the member is asked whether it lives.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long the answer to that may take.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(5);
/// Calls that a newcomer's connection may have open.
const JOIN_CALLS_MAX: u32 = 4;
/// Connections that a server has not taken up yet.
const HANDOVER: usize = 16;

/// Serves the peer port until the task is cut off.
pub(crate) async fn serve(node: Arc<Node>, mut incoming: Box<dyn Incoming>) {
    let (peers, to_peers) = mpsc::channel(HANDOVER);
    // Room for all that may be in, so that the port never waits for their server.
    let (newcomers, to_newcomers) = mpsc::channel(JOIN_CONNECTIONS_MAX);
    let mut tasks = JoinSet::new();
    let service = PeerServer::new(PeerService::new(Arc::clone(&node)))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_LIMIT))
        .add_service(Drained(service));
    tasks.spawn(async move { server.serve_with_incoming(accepted(to_peers)).await });
    let service = JoinServer::new(JoinService::new(Arc::clone(&node)))
        .max_decoding_message_size(JOIN_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(JOIN_ANSWER_BYTES_MAX);
    let server = Server::builder().max_concurrent_streams(JOIN_CALLS_MAX).add_service(service);
    tasks.spawn(async move { server.serve_with_incoming(accepted(to_newcomers)).await });

    let door = Arc::new(Door::new());
    let mut checks = JoinSet::new();
    loop {
        while checks.try_join_next().is_some() {}
        let connection = match incoming.next().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::error!(%error, "the peer port is closed: no member can reach this node until it is restarted");
                return;
            }
        };
        match connection.peer().protocol {
            Protocol::Join => {
                if let Some(gated) = door.newcomer(connection) {
                    // The server is gone only when everything is.
                    drop(newcomers.try_send(gated));
                }
            }
            Protocol::Peer if node.peers.roster().admits(&connection.peer().key, Instant::now()) => {
                if let Some(gated) = door.member(&node, connection) {
                    drop(peers.send(gated).await);
                }
            }
            Protocol::Peer => {
                let Ok(permit) = Arc::clone(&door.checking).try_acquire_owned() else { continue };
                let (node, door, peers) = (Arc::clone(&node), Arc::clone(&door), peers.clone());
                checks.spawn(async move {
                    match door.unknown(&node, connection).await {
                        Some(gated) => drop(peers.send(gated).await),
                        None => sleep(VOUCH_PAUSE).await,
                    }
                    drop(permit);
                });
            }
        }
    }
}

fn accepted(receiver: mpsc::Receiver<Gated>) -> impl tokio_stream::Stream<Item = io::Result<Gated>> {
    tokio_stream::StreamExt::map(ReceiverStream::new(receiver), Ok)
}

/// Counts who is in.
struct Door {
    checking: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    all: Arc<Semaphore>,
    by_key: Mutex<BTreeMap<Bytes, Arc<Semaphore>>>,
    strangers: Mutex<Refusals>,
}

impl Door {
    fn new() -> Self {
        Self {
            checking: Arc::new(Semaphore::new(CONNECTIONS_TO_VOUCH_MAX)),
            newcomers: Arc::new(Semaphore::new(JOIN_CONNECTIONS_MAX)),
            all: Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX)),
            by_key: Mutex::new(BTreeMap::new()),
            strangers: Mutex::default(),
        }
    }

    /// Lets a newcomer in for a while, if there is room.
    fn newcomer(&self, connection: Connection) -> Option<Gated> {
        let permit = Arc::clone(&self.newcomers).try_acquire_owned().ok()?;
        Some(Gated::new(connection, sleep(JOIN_CONNECTION_TIME_LIMIT), vec![permit]))
    }

    /// Lets somebody in whom this node does not know, if another member vouches for it.
    async fn unknown(&self, node: &Arc<Node>, connection: Connection) -> Option<Gated> {
        let peer = Arc::clone(connection.peer());
        let Some(member) = node.peers.ask_to_vouch(&peer.key).await else {
            if let Some(untold) = self.strangers.lock().count_and_tell(Instant::now()) {
                tracing::info!(
                    target: "quorate::security",
                    address = %peer.address, untold,
                    "a peer with a key that no member knows was refused"
                );
            }
            return None;
        };
        tracing::info!(member, "another member vouches for a peer that this node does not know yet");
        let (roster, now) = (node.peers.roster(), Instant::now());
        roster.vouch(peer.key.clone(), member, now);
        if roster.admits(&peer.key, now) { self.member(node, connection) } else { None }
    }

    /// Lets a member in, until it is removed, if it has not too many connections open.
    fn member(&self, node: &Arc<Node>, connection: Connection) -> Option<Gated> {
        let key = connection.peer().key.clone();
        let permits = self.room_for(&key)?;
        let (refused, mut ended) = (Arc::clone(node.peers.roster()).refused(key), node.ended.subscribe());
        let cut = async move {
            tokio::select! {
                biased;
                () = refused => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        };
        Some(Gated::new(connection, cut, permits))
    }

    fn room_for(&self, key: &Bytes) -> Option<Vec<OwnedSemaphorePermit>> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let of_key = {
            let mut by_key = self.by_key.lock();
            by_key.retain(|_, open| open.available_permits() < CONNECTIONS_PER_PEER_MAX);
            let of_key =
                by_key.entry(key.clone()).or_insert_with(|| Arc::new(Semaphore::new(CONNECTIONS_PER_PEER_MAX)));
            Arc::clone(of_key).try_acquire_owned().ok()?
        };
        Some(vec![all, of_key])
    }
}
