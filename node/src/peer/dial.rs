//! Dialling a peer: every address of every name, one after the other and soon beside each other, until one proves the
//! key that is wanted.
//!
//! ```text
//!   addresses ──► looked up now ──► attempt 1 ──────────────► refused, silent, or another key
//!    in order                       attempt 2, STAGGER later ─► the first that proves a wanted key is taken,
//!                                   attempt 3, ...              the others are dropped
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_raft_consensus::transport::{Connection, Destination, PeerKey};
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::socket;
use super::tls::{PeerTls, agreed};

/// How long an attempt has to itself before the next address is tried beside it: a round trip over half the globe.
const STAGGER: Duration = Duration::from_millis(300);

/// How long one attempt may take, TCP and TLS together: several round trips over half the globe, with one lost packet.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(4);

/// How long a name may take to be looked up.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(2);

/// Most addresses that are tried in one dial.
const MOST_ATTEMPTS: usize = 16;

/// Why nobody could be reached: what became of each address. Shown to operators as it is.
#[derive(Debug)]
pub struct DialError {
    failures: Vec<(String, io::Error)>,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            return f.write_str("the peer has no address");
        }
        f.write_str("no address of the peer leads to it: ")?;
        for (number, (address, error)) in self.failures.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}

/// Dials a peer.
///
/// # Errors
/// A [`DialError`] in an `io::Error`, when no address led to the peer.
pub(super) async fn dial(tls: &PeerTls, peer: &Destination) -> io::Result<Connection> {
    let config = tls.client(peer.keys.clone(), peer.protocol).map_err(io::Error::other)?;
    let mut failures = Vec::new();
    let mut waiting = look_up_all(&peer.addresses, &mut failures).await.into_iter();
    let mut attempts = JoinSet::new();
    loop {
        match waiting.next() {
            Some((name, address)) => {
                attempts.spawn(attempt(name, address, Arc::clone(&config)));
            }
            None if attempts.is_empty() => return Err(refused(failures)),
            None => {}
        }
        tokio::select! {
            biased;
            ended = attempts.join_next() => match ended {
                Some(Ok((_, Ok(connection)))) => return Ok(connection),
                Some(Ok((address, Err(error)))) => failures.push((address, error)),
                Some(Err(_)) | None => {}
            },
            () = sleep(STAGGER) => {}
        }
    }
}

fn refused(failures: Vec<(String, io::Error)>) -> io::Error {
    let kind = failures.last().map_or(io::ErrorKind::AddrNotAvailable, |(_, error)| error.kind());
    io::Error::new(kind, DialError { failures })
}

/// All addresses, in the order of the names, each once. Looked up at every dial: a name may have moved.
async fn look_up_all(names: &[String], failures: &mut Vec<(String, io::Error)>) -> Vec<(String, SocketAddr)> {
    let mut found: Vec<(String, SocketAddr)> = Vec::new();
    for name in names {
        match timeout(LOOK_UP_LIMIT, lookup_host(name)).await {
            Ok(Ok(addresses)) => {
                for address in addresses {
                    if found.len() < MOST_ATTEMPTS && !found.iter().any(|(_, known)| *known == address) {
                        found.push((name.clone(), address));
                    }
                }
            }
            Ok(Err(error)) => failures.push((name.clone(), error)),
            Err(_late) => failures.push((name.clone(), late("the name was not looked up in time"))),
        }
    }
    found
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// One attempt, with what it was for.
async fn attempt(name: String, address: SocketAddr, config: Arc<ClientConfig>) -> (String, io::Result<Connection>) {
    let shown = if name == address.to_string() { name } else { format!("{name} ({address})") };
    let connecting = connect(address, config);
    let connected = timeout(ATTEMPT_LIMIT, connecting).await.unwrap_or_else(|_| Err(late("no answer in time")));
    (shown, connected)
}

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    socket::prepare(&stream)?;
    let stream = TlsConnector::from(config).connect(PeerTls::nobody(), stream).await.map_err(told)?;
    let (_, session) = stream.get_ref();
    let protocol = agreed(session.alpn_protocol());
    let key = session.peer_certificates().and_then(<[_]>::first);
    let (Some(protocol), Some(key)) = (protocol, key) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what answers there is no node of ours"));
    };
    let key = Bytes::copy_from_slice(key);
    Ok(Connection::new(stream, PeerKey { key, protocol, address: address.to_string() }))
}

/// The one failure that an operator has to act on is said in words of ours.
fn told(error: io::Error) -> io::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let other_key = rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
    if tls == Some(&other_key) {
        let message = "another node answers there: it holds another identity key than the one that is pinned";
        return io::Error::new(io::ErrorKind::PermissionDenied, message);
    }
    error
}
