//! The address of a Workload Endpoint, as `SPIFFE_ENDPOINT_SOCKET` holds it (EP-11 to EP-14).

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest address, in bytes. A socket path has at most 107; percent-encoding triples that.
pub const ENDPOINT_ADDRESS_LIMIT: usize = 1024;

/// Where a Workload API is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WorkloadEndpoint {
    /// `unix:///run/spiffe/agent.sock`, or `unix:/run/spiffe/agent.sock`.
    Unix(PathBuf),
    /// `tcp://127.0.0.1:8000`: an address and never a name (EP-14).
    Tcp(SocketAddr),
}

impl WorkloadEndpoint {
    /// Takes the URI.
    ///
    /// # Errors
    /// Another scheme; for `unix` an authority, a path that is not absolute, a query or a fragment; for `tcp` anything
    /// but an IP address and a port.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > ENDPOINT_ADDRESS_LIMIT {
            return Err(EndpointError::TooLong { length: text.len() });
        }
        let (scheme, rest) = text.split_once(':').ok_or(EndpointError::Scheme)?;
        match scheme {
            "unix" => parse_unix(rest),
            "tcp" => parse_tcp(rest),
            _ => Err(EndpointError::Scheme),
        }
    }
}

impl fmt::Display for WorkloadEndpoint {
    /// The URI in its usual form; it parses back to the same address.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => {
                formatter.write_str("unix://")?;
                for byte in path.as_os_str().as_encoded_bytes() {
                    if *byte == b'/' || is_path_byte(*byte) {
                        write!(formatter, "{}", char::from(*byte))?;
                    } else {
                        write!(formatter, "%{byte:02X}")?;
                    }
                }
                Ok(())
            }
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
        }
    }
}

impl FromStr for WorkloadEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not the address of a Workload Endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Longer than [`ENDPOINT_ADDRESS_LIMIT`].
    #[error("the endpoint address has {length} bytes, the most is {ENDPOINT_ADDRESS_LIMIT}")]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// Neither `unix:` nor `tcp:` (EP-12).
    #[error("the endpoint address does not begin with unix: or tcp:")]
    Scheme,
    /// `unix://host/path`: the part after `//` must be empty (EP-13).
    #[error("a unix endpoint address has no host; write unix:///absolute/path")]
    UnixAuthority,
    /// The path is missing, relative, or only `/` (EP-13).
    #[error("a unix endpoint address needs an absolute path; write unix:///absolute/path")]
    UnixPath,
    /// A query, a fragment, or a character that a URI path cannot hold (EP-13).
    #[error("a unix endpoint address holds the byte 0x{byte:02x}, which must be percent-encoded")]
    UnixByte {
        /// The first byte that is not allowed.
        byte: u8,
    },
    /// `%` without two hexadecimal digits, or an encoded NUL.
    #[error("a unix endpoint address holds a percent sign without a usable byte behind it")]
    UnixEscape,
    /// Anything but an IP address and a port after `tcp://` (EP-14).
    #[error("a tcp endpoint address is an IP address and a port; write tcp://127.0.0.1:8000")]
    Tcp,
}

fn parse_unix(rest: &str) -> Result<WorkloadEndpoint, EndpointError> {
    // `unix:///p` has an authority that is empty, which is as good as none.
    let path = match rest.strip_prefix("//") {
        Some("") => return Err(EndpointError::UnixPath),
        Some(after) if !after.starts_with('/') => return Err(EndpointError::UnixAuthority),
        Some(after) => after,
        None => rest,
    };
    if !path.starts_with('/') || path == "/" {
        return Err(EndpointError::UnixPath);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.and_then(hex_digit));
                match digits {
                    [Some(high), Some(low)] if high | low != 0 => high << 4 | low,
                    _ => return Err(EndpointError::UnixEscape),
                }
            }
            b'/' => byte,
            _ if is_path_byte(byte) => byte,
            _ => return Err(EndpointError::UnixByte { byte }),
        });
    }
    Ok(WorkloadEndpoint::Unix(OsString::from_vec(decoded).into()))
}

fn parse_tcp(rest: &str) -> Result<WorkloadEndpoint, EndpointError> {
    let address = rest.strip_prefix("//").ok_or(EndpointError::Tcp)?;
    // A scope ("%eth0") is read by the library, but it is no part of a URI's host.
    if address.contains('%') {
        return Err(EndpointError::Tcp);
    }
    address.parse().map(WorkloadEndpoint::Tcp).map_err(|_| EndpointError::Tcp)
}

/// The bytes that stand for themselves in a path: `pchar` without `%` (RFC 3986 section 3.3).
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

const fn hex_digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}
