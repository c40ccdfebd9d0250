//! Traffic between the nodes of a cluster: how this node finds its peers, and how both ends prove who they are.
//!
//! ```text
//!   consensus ── Transport ──► transport ──► dial      names resolved now, every address tried, in order
//!                                  |           |
//!                                  |         tls       TLS 1.3, raw public keys both ways, pinned by whoever dials
//!                                  |           |
//!                                  └──────► listen    own accept loop, limits before anything is proved (ATK-26)
//! ```
//!
//! A connection proves a key and nothing more. Whose key it is, and what its owner may say, consensus looks up in the
//! replicated state at every call (ATK-25, ATK-27).

pub mod address;
pub mod dial;
pub mod tls;
pub mod transport;

mod guard;
mod listen;
mod socket;

#[cfg(test)]
mod tests;
