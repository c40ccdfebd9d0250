//! Listening sockets, and the connections that come in on them.
//!
//! ```text
//!   socket_path   places a unix socket: mode, group, who could replace it
//!        |
//!   accept        takes connections for as long as the process lives; errors are waited out
//!        |
//!   admission     how many connections and calls each user of the host may hold
//!        |
//!   authority     mends what gRPC's C core sends as `:authority` on a unix socket
//!        |
//!   connection    one HTTP/2 connection: limits, first request, idle time, graceful end
//!        |
//!   service::gate each request: header rule, call limit, panics caught
//! ```
//!
//! tonic's own server is not used for accepting: it hands out no descriptor to ask for peer
//! credentials, holds silent connections for ever, and has ended its loop on an accept error
//! before (RUSTSEC-2024-0376, ATK-23).

pub mod admission;
pub mod connection;
pub mod socket_path;

pub(crate) mod accept;
mod authority;

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Gid;
use quorate_actors::attestation::ProcessError;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::peer_credentials::{self, PeerError};
use crate::service::gate::Gate;
use crate::shutdown::{Stop, Stopping, stop_signal};

use admission::Admission;
use connection::Connection;
use socket_path::{PlacedSocket, SocketError};

/// A unix socket on which gRPC services are served, from the first accept to the last answer.
#[derive(Debug)]
pub struct Serving {
    name: &'static str,
    stop: Stop,
    task: JoinHandle<()>,
}

/// What a unix socket is placed and served with.
#[derive(Debug)]
pub struct UnixSettings {
    /// Which socket it is, in logs and metrics: `workload` or `admin`.
    pub name: &'static str,
    /// Mode of the socket file.
    pub mode: u32,
    /// Group of the socket file, when not the process's own.
    pub group: Option<Gid>,
    /// How much each user may hold.
    pub admission: Arc<Admission>,
    /// How long answers may take after [`Serving::stop`].
    pub drain: Duration,
}

/// A placed socket that nobody is answered on yet: connections wait in the kernel's queue.
#[derive(Debug)]
pub struct Bound {
    socket: PlacedSocket,
    settings: UnixSettings,
}

impl Bound {
    /// Places the socket.
    ///
    /// # Errors
    /// When the path breaks a rule or is in use.
    pub fn bind(path: &std::path::Path, settings: UnixSettings) -> Result<Self, SocketError> {
        let socket = PlacedSocket::place(path, settings.mode, settings.group)?;
        Ok(Self { socket, settings })
    }

    /// Begins to answer. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub fn serve(self, gate: Gate) -> std::io::Result<Serving> {
        let Self { socket, settings } = self;
        let (listener, place) = socket.into_parts();
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (stop, stopping) = stop_signal();
        let UnixSettings { name, admission, drain, .. } = settings;
        let admit = move |stream, stopping| admit(stream, name, &admission, &gate, stopping);
        let task = tokio::spawn(async move {
            accept::accept_loop(name, listener, admit, stopping, drain).await;
            drop(place);
        });
        Ok(Serving { name, stop, task })
    }
}

impl Serving {
    /// Takes no further connections, asks the open ones to finish, and answers when all have ended
    /// or the drain time is over. The socket file is gone then.
    pub async fn stop(self) {
        self.stop.ask();
        if let Err(error) = self.task.await {
            tracing::error!(listener = self.name, %error, "the accept loop ended badly");
        }
    }

    /// Takes no further connections and asks the open ones to finish, without waiting.
    pub fn begin_stop(&self) {
        self.stop.ask();
    }
}

/// Decides about one new connection; none if it is closed at once.
fn admit(
    stream: UnixStream,
    name: &'static str,
    admission: &Arc<Admission>,
    gate: &Gate,
    stopping: Stopping,
) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
    let process = match peer_credentials::of(&stream) {
        Ok(process) => process,
        Err(PeerError::Process(error @ ProcessError::Ended { .. })) => {
            // Anybody can bring this about as often as they like, so it is not told loudly.
            tracing::debug!(listener = name, %error, "a process connected and ended");
            return None;
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(listener = name, error, "the kernel did not say who connected");
            return None;
        }
    };
    let user = process.credentials().uid;
    let permit = match admission.admit(user) {
        Ok(permit) => permit,
        Err(refused) => {
            metrics::counter!(crate::metrics::CONNECTIONS_REFUSED, "listener" => name).increment(1);
            tracing::debug!(listener = name, user, %refused, "connection refused");
            return None;
        }
    };
    let connection = Connection::new(process, permit);
    Some(connection::serve(stream, connection, gate.clone(), stopping))
}
