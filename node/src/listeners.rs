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
//! ```

pub mod admission;
pub mod socket_path;

pub(crate) mod accept;
mod authority;
