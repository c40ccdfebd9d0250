//! A network in memory for several nodes in one process: each is reached by its name, and can be cut off.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft_consensus::transport::{Connection, Destination, Incoming, PeerKey, Transport, TransportFuture};
use quorate_raft_machine::MemberServices;
use tokio::{io::copy_bidirectional, io::duplex, sync::mpsc, task::AbortHandle};

use crate::BundleSource;

/// Bytes that a connection holds in each direction.
const PIPE_BYTES: usize = 256 * 1024;

/// What connects the nodes.
#[derive(Clone, Default)]
pub(super) struct Network(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    listeners: BTreeMap<String, Listener>,
    cut: BTreeMap<String, bool>,
    pipes: Vec<(String, String, AbortHandle)>,
    outside: BTreeMap<String, Arc<dyn BundleSource>>,
    serves: MemberServices,
}

struct Listener {
    key: Bytes,
    connections: mpsc::UnboundedSender<Connection>,
}

impl Network {
    /// The network as a node of this name and identity key sees it. Its address is its name.
    pub(super) fn transport(&self, name: &str, key: Bytes) -> Arc<dyn Transport> {
        Arc::new(Plug { network: self.clone(), name: name.to_owned(), key })
    }

    /// Cuts a node off from all others: what is open breaks, and nothing new comes about.
    pub(super) fn cut(&self, name: &str) {
        let mut inner = self.0.lock();
        inner.cut.insert(name.to_owned(), true);
        inner.pipes.retain(|(from, to, pipe)| {
            let broken = from == name || to == name;
            if broken {
                pipe.abort();
            }
            !broken && !pipe.is_finished()
        });
    }

    /// What every node that starts from here on says that it serves to others than our workloads.
    pub(super) fn set_serves(&self, serves: MemberServices) {
        self.0.lock().serves = serves;
    }

    /// What a node is to say that it serves.
    pub(super) fn serves(&self) -> MemberServices {
        self.0.lock().serves.clone()
    }

    /// What a node that starts from here on reaches outside of the cluster.
    pub(super) fn set_outside(&self, name: &str, source: Arc<dyn BundleSource>) {
        self.0.lock().outside.insert(name.to_owned(), source);
    }

    /// What a node reaches outside of the cluster.
    pub(super) fn outside(&self, name: &str) -> Option<Arc<dyn BundleSource>> {
        self.0.lock().outside.get(name).cloned()
    }

    /// Connects it again.
    pub(super) fn heal(&self, name: &str) {
        self.0.lock().cut.insert(name.to_owned(), false);
    }

    fn dial(&self, from: &Plug, to: &Destination) -> io::Result<Connection> {
        let mut inner = self.0.lock();
        let is_cut = |inner: &Inner, name: &str| inner.cut.get(name).copied().unwrap_or(false);
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "nobody can be reached there");
        let found = to.addresses.iter().find_map(|address| {
            let listener = inner.listeners.get(address)?;
            let reachable = !is_cut(&inner, address) && !is_cut(&inner, &from.name);
            (reachable && to.keys.contains(&listener.key)).then(|| (address.clone(), listener))
        });
        let (address, listener) = found.ok_or_else(refused)?;
        let (near, mut near_end) = duplex(PIPE_BYTES);
        let (far, mut far_end) = duplex(PIPE_BYTES);
        let peer = |key: &Bytes, address: &str| PeerKey {
            key: key.clone(),
            protocol: to.protocol,
            address: address.to_owned(),
        };
        let accepted = Connection::new(far, peer(&from.key, &from.name));
        listener.connections.send(accepted).map_err(|_closed| refused())?;
        let dialled = Connection::new(near, peer(&listener.key, &address));
        let pipe = tokio::spawn(async move {
            // Whoever ends first ends both.
            drop(copy_bidirectional(&mut near_end, &mut far_end).await);
        });
        inner.pipes.push((from.name.clone(), address, pipe.abort_handle()));
        Ok(dialled)
    }
}

struct Plug {
    network: Network,
    name: String,
    key: Bytes,
}

impl Transport for Plug {
    fn listen(&self) -> TransportFuture<'_, Box<dyn Incoming>> {
        Box::pin(async move {
            let (connections, accepted) = mpsc::unbounded_channel();
            let listener = Listener { key: self.key.clone(), connections };
            self.network.0.lock().listeners.insert(self.name.clone(), listener);
            Ok(Box::new(Accepted(accepted)) as Box<dyn Incoming>)
        })
    }

    fn dial<'a>(&'a self, peer: &'a Destination) -> TransportFuture<'a, Connection> {
        Box::pin(async move { self.network.dial(self, peer) })
    }
}

struct Accepted(mpsc::UnboundedReceiver<Connection>);

impl Incoming for Accepted {
    fn next(&mut self) -> TransportFuture<'_, Connection> {
        Box::pin(async move {
            match self.0.recv().await {
                Some(connection) => Ok(connection),
                // The node listens anew under this name.
                None => std::future::pending().await,
            }
        })
    }
}
