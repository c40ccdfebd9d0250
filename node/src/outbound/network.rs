//! Names looked up and connections opened: the two things that the guarded client does with a network.
//!
//! They are behind one small trait, so that a test can have a name server that flaps or lies, and hosts at addresses that
//! this machine does not have.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::TrustAnchors;
use tokio::net::TcpStream;

/// How long one question to one name server may take. A few must fit into the 10 s of a retrieval.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);

/// How often a question is asked again.
const QUESTION_ATTEMPTS: usize = 2;

/// What comes of an operation of a network, some time later.
pub type NetworkFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Looks names up and opens connections.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// The addresses of a host.
    fn resolve(&self, host: String) -> NetworkFuture<Result<Vec<IpAddr>, NameError>>;

    /// A connection to exactly this address.
    fn dial(&self, address: SocketAddr) -> NetworkFuture<io::Result<TcpStream>>;
}

/// A name could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// No name server answered, or none knows the name.
    #[error(transparent)]
    Lookup(#[from] Box<NetError>),
    /// A resolver that is not the system's said so.
    #[error("{0}")]
    Words(String),
}

/// The network of the machine, with names by `/etc/hosts` and DNS.
#[derive(Clone)]
pub struct SystemNetwork {
    /// None where the system says of no name server: then only addresses can be dialled.
    resolver: Option<TokioResolver>,
}

impl SystemNetwork {
    /// By these name servers, or by the system's (`/etc/resolv.conf`) when none is given. A host without any still has
    /// addresses to dial, so that is no error before a name is looked up.
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        let resolver = resolver(servers, None);
        if let Err(error) = &resolver {
            tracing::warn!(%error, "names of foreign endpoints cannot be looked up: check /etc/resolv.conf, or set federation.dns_servers");
        }
        Self { resolver: resolver.ok() }
    }
}

impl fmt::Debug for SystemNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemNetwork")
    }
}

impl Network for SystemNetwork {
    fn resolve(&self, host: String) -> NetworkFuture<Result<Vec<IpAddr>, NameError>> {
        let resolver = self.resolver.clone();
        Box::pin(async move {
            let resolver = resolver.ok_or_else(|| NameError::Words("this host has no name server".into()))?;
            // The last dot says that the name is whole: no search list makes another host of it.
            let name = if host.ends_with('.') { host } else { format!("{host}.") };
            Ok(resolver.lookup_ip(name).await.map_err(Box::new)?.iter().collect())
        })
    }

    fn dial(&self, address: SocketAddr) -> NetworkFuture<io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// A resolver over these name servers, or over the system's when none is given; with trust anchors it answers only what
/// DNSSEC proves, or proves to be unsigned.
///
/// # Errors
/// When the system's configuration cannot be read.
pub fn resolver(servers: &[SocketAddr], anchors: Option<Arc<TrustAnchors>>) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = QUESTION_LIMIT;
    options.attempts = QUESTION_ATTEMPTS;
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(anchors);
    }
    builder.build()
}
