//! Addresses at which nodes dial each other: a host and a port.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest host name (RFC 1035 section 2.3.4, as text without the final dot).
const LONGEST_HOST: usize = 253;

/// Longest label of a host name (RFC 1035 section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Host and port that others dial; a name is looked up at each dial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress(String);

/// Why a text is no such address. Write a host name or an IP address, a colon and a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no port, or the host is none.
    #[error("{text:?} is not a host and a port; write for example \"node-1.example.org:8082\"")]
    NoHostAndPort {
        /// What was given.
        text: String,
    },
    /// It cannot be dialled: it stands for all addresses of the host that listens.
    #[error("{text:?} stands for every address of a host; write the one others can dial")]
    Wildcard {
        /// What was given.
        text: String,
    },
}

impl PeerAddress {
    /// Checks a text.
    ///
    /// # Errors
    /// When nobody could dial it.
    pub fn new(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::NoHostAndPort { text: text.to_owned() };
        if let Ok(numeric) = text.parse::<SocketAddr>() {
            if matches!(numeric.ip(), IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
                return Err(AddressError::Wildcard { text: text.to_owned() });
            }
            return if numeric.port() == 0 { Err(wrong()) } else { Ok(Self(text.to_owned())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port_good = port.parse::<u16>().is_ok_and(|port| port != 0);
        if port_good && is_host_name(host) { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }

    /// The address of a socket, unless it stands for every address of this host or has no port.
    #[must_use]
    pub fn of_socket(socket: SocketAddr) -> Option<Self> {
        Self::new(&socket.to_string()).ok()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text can be the name of a host.
pub(crate) fn is_host_name(host: &str) -> bool {
    let label_good = |label: &str| {
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    !host.is_empty() && host.len() <= LONGEST_HOST && host.split('.').all(label_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_dialled_is_an_address_and_nothing_else() {
        for good in ["node-1.example.org:8082", "10.0.0.1:8082", "[2001:db8::1]:8082", "localhost:1", "a_b:65535"] {
            assert_eq!(PeerAddress::new(good).unwrap().to_string(), good);
        }
        for bad in ["", ":", "node-1", "node-1:", "node-1:0", "10.0.0.1:0", "a..b:1", "a b:1", "a:65536", "http://a:1"]
        {
            let refused = PeerAddress::new(bad).unwrap_err();
            assert!(matches!(refused, AddressError::NoHostAndPort { .. }), "{bad:?}: {refused}");
        }
        for wildcard in ["0.0.0.0:8082", "[::]:8082"] {
            assert!(matches!(PeerAddress::new(wildcard), Err(AddressError::Wildcard { .. })), "{wildcard}");
        }
    }
}
