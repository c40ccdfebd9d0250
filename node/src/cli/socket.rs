//! Which socket a command talks to.
//!
//! | Commands | `--socket` | else | else |
//! |-|-|-|-|
//! | `fetch` | a path, or a `unix:` or `tcp:` address | `SPIFFE_ENDPOINT_SOCKET`, an address (EP-11 to EP-14) | |
//! | the others | a path, or a `unix:` address | `QUORATE_ADMIN_SOCKET`, likewise | the configuration's default |

use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::{CONSISTENCY_HEADER, CONSISTENCY_LINEARIZABLE, WORKLOAD_HEADER, WORKLOAD_HEADER_VALUE};
use quorate_proto_identity::WorkloadEndpoint;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::failure::{Failure, Surface};
use super::output::Format;
use crate::config::DEFAULT_ADMIN_SOCKET;

/// Names the admin socket when `--socket` does not.
pub(crate) const ADMIN_SOCKET_VARIABLE: &str = "QUORATE_ADMIN_SOCKET";

/// Names the Workload API when `--socket` does not (EP-11).
pub(crate) const WORKLOAD_SOCKET_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Longest path of a unix socket that Linux takes, without the final zero byte (`sockaddr_un`).
const SOCKET_PATH_LIMIT: usize = 107;

/// What every command on the admin socket takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArgs {
    /// The node's admin socket [default: QUORATE_ADMIN_SOCKET, then /run/quorate/admin/admin.sock]
    #[arg(long, visible_alias = "admin-socket", value_name = "PATH")]
    socket: Option<OsString>,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// What a command takes that reads from the admin socket.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// See every change that was acknowledged before, whichever node took it. Asks the leader, so there has to be one
    #[arg(long)]
    consistent: bool,
}

/// What every command on the Workload API takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkloadArgs {
    /// The Workload API's socket, a path or an address [default: SPIFFE_ENDPOINT_SOCKET]
    #[arg(long, value_name = "PATH")]
    socket: Option<OsString>,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

impl AdminArgs {
    /// Whether a socket was named on the command line.
    pub(crate) fn names_a_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Chooses the socket and makes a channel to it. It dials at the first call.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        let address = admin_address(self.socket.clone(), std::env::var_os(ADMIN_SOCKET_VARIABLE))?;
        Ok(Connection::new(Surface::Admin, dialable(address)?))
    }
}

impl ReadArgs {
    /// Chooses the socket and makes a channel to it. All requests on it ask for the kind of read that is wanted.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        Ok(Connection { consistent: self.consistent, ..self.admin.connect()? })
    }

    /// The form of the answer.
    pub(crate) fn output(&self) -> Format {
        self.admin.output
    }
}

impl WorkloadArgs {
    /// Chooses the socket and makes a channel to it. It dials at the first call.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        let address = workload_address(self.socket.clone(), std::env::var_os(WORKLOAD_SOCKET_VARIABLE))?;
        Ok(Connection::new(Surface::Workload, dialable(address)?))
    }
}

/// A channel that knows where it leads, so that its failures can say so.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    surface: Surface,
    address: Address,
    channel: Channel,
    consistent: bool,
}

impl Connection {
    fn new(surface: Surface, address: Address) -> Self {
        let channel = channel(&address);
        Self { surface, address, channel, consistent: false }
    }

    /// The channel, for a client.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with a deadline, and with the headers that the Workload API (EP-08) and the kind of read ask for.
    pub(crate) fn request<T>(&self, message: T, limit: Duration) -> Request<T> {
        let mut request = self.stream_request(message);
        request.set_timeout(limit);
        request
    }

    /// A request for a stream, which has no deadline.
    pub(crate) fn stream_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if self.surface == Surface::Workload {
            request.metadata_mut().insert(WORKLOAD_HEADER, MetadataValue::from_static(WORKLOAD_HEADER_VALUE));
        }
        if self.consistent {
            request.metadata_mut().insert(CONSISTENCY_HEADER, MetadataValue::from_static(CONSISTENCY_LINEARIZABLE));
        }
        request
    }

    /// The same connection, whose reads are linearizable from here on.
    pub(crate) fn consistent(self) -> Self {
        Self { consistent: true, ..self }
    }

    /// Makes a failure of a call that failed; `deed` goes on from "cannot".
    pub(crate) fn failed(&self, deed: &'static str) -> impl Fn(Status) -> Failure {
        move |status| Failure::call(self.surface, deed, &self.address, &status)
    }
}

fn admin_address(given: Option<OsString>, variable: Option<OsString>) -> Result<Address, Failure> {
    match (given, variable.filter(|value| !value.is_empty())) {
        (Some(given), _) => path_or_address("--socket", given),
        (None, Some(value)) => path_or_address(ADMIN_SOCKET_VARIABLE, value),
        (None, None) => Ok(Address::Unix(DEFAULT_ADMIN_SOCKET.into())),
    }
}

fn workload_address(given: Option<OsString>, variable: Option<OsString>) -> Result<Address, Failure> {
    match (given, variable.filter(|value| !value.is_empty())) {
        (Some(given), _) => path_or_address("--socket", given),
        (None, Some(value)) => address(WORKLOAD_SOCKET_VARIABLE, &value.to_string_lossy()),
        (None, None) => Err(Failure::Usage(format!(
            "where is the Workload API? Give --socket PATH, or set {WORKLOAD_SOCKET_VARIABLE}=unix:///PATH"
        ))),
    }
}

/// An address if it begins like one, else a path.
fn path_or_address(source: &'static str, value: OsString) -> Result<Address, Failure> {
    match value.to_str() {
        Some(text) if text.starts_with("unix:") || text.starts_with("tcp:") => address(source, text),
        Some("") => Err(Failure::Usage(format!("{source}: the path is empty"))),
        _ => Ok(Address::Unix(Path::new(&value).to_owned())),
    }
}

/// Refuses a path that can be no socket's: no node, however long it is waited for, will answer there.
fn dialable(address: Address) -> Result<Address, Failure> {
    if let Address::Unix(path) = &address {
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            return Err(Failure::Usage(format!(
                "{}: the path has {length} bytes, and the path of a socket may have {SOCKET_PATH_LIMIT}",
                path.display()
            )));
        }
        if std::fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(Failure::Usage(format!("{}: there is something else than a socket", path.display())));
        }
    }
    Ok(address)
}

fn address(source: &'static str, text: &str) -> Result<Address, Failure> {
    match WorkloadEndpoint::parse(text) {
        Ok(WorkloadEndpoint::Unix(path)) => Ok(Address::Unix(path)),
        Ok(WorkloadEndpoint::Tcp(address)) => Ok(Address::Tcp(address)),
        Err(error) => Err(Failure::Usage(format!("{source}: {text:?}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix(path: &str) -> Address {
        Address::Unix(path.into())
    }

    fn some(text: &str) -> Option<OsString> {
        Some(text.into())
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_default() {
        assert_eq!(admin_address(some("/a"), some("/b")).unwrap(), unix("/a"));
        assert_eq!(admin_address(None, some("/b")).unwrap(), unix("/b"));
        assert_eq!(admin_address(None, some("")).unwrap(), unix(DEFAULT_ADMIN_SOCKET));
        assert_eq!(admin_address(None, None).unwrap(), unix(DEFAULT_ADMIN_SOCKET));
        assert_eq!(admin_address(some("unix:///a"), None).unwrap(), unix("/a"));
    }

    #[test]
    fn the_workload_api_is_where_the_standards_variable_says() {
        // EP-11 to EP-14.
        assert_eq!(workload_address(None, some("unix:///w")).unwrap(), unix("/w"));
        assert_eq!(
            workload_address(None, some("tcp://127.0.0.1:8000")).unwrap(),
            Address::Tcp(([127, 0, 0, 1], 8000).into())
        );
        assert_eq!(workload_address(some("/a"), some("unix:///w")).unwrap(), unix("/a"));
        let error = workload_address(None, some("/w")).unwrap_err();
        assert!(error.to_string().starts_with("SPIFFE_ENDPOINT_SOCKET: \"/w\": "), "{error}");
        let error = workload_address(None, None).unwrap_err();
        assert!(error.to_string().contains("--socket PATH"), "{error}");
    }
}
