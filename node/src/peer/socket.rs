//! Settings of the TCP sockets between nodes.

use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

/// How long a connection may be silent before the kernel asks whether the other end lives. HTTP/2 asks sooner while a
/// connection is in use; this is for what it does not watch.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(15);

/// How often the kernel asks then.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// After how many questions without an answer the connection is gone.
const KEEP_ALIVE_COUNT: u32 = 3;

/// How long sent bytes may go unacknowledged. The kernel's own limit is a quarter of an hour, for which a connection to
/// a machine that lost its power would stay.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Makes a socket fit for small messages that must not wait, and lets it notice that the other end is gone.
///
/// # Errors
/// When the socket is closed already.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(KEEP_ALIVE_IDLE))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(KEEP_ALIVE_INTERVAL))?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEP_ALIVE_COUNT)?;
    let unacknowledged = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &unacknowledged)?;
    Ok(())
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
