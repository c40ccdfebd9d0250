//! How much of this node strangers may hold at the peer port (ATK-26).
//!
//! ```text
//!   accepted ──► handshake            proved a key ──► connection
//!                |  most at once: the oldest goes       |  of members: most in all and most of one key
//!                |  for a new one, first of the         |  of strangers: few, until they are members or
//!                |  same source                         |  consensus has ended them
//! ```
//!
//! A source is an IPv4 address or the /64 of an IPv6 one: what one machine gets without asking. Who opens connections
//! and says nothing pushes out others of its own; a real handshake takes two round trips and is done before its turn to
//! be pushed out comes.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::CONNECTIONS;

/// The name of this listener in logs and metrics.
pub(super) const LISTENER: &str = "peer";

/// What may be held at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Handshakes in all. Each holds a descriptor and some 20 KiB until [`HANDSHAKE_LIMIT`](super::listen).
    pub(super) handshakes: usize,
    /// Handshakes of one source: many nodes may be behind one address, and each begins a few at a time.
    pub(super) handshakes_per_source: usize,
    /// Connections in all: two or three of each of the most members there may be.
    pub(super) connections: usize,
    /// Connections of one key. A member holds a few; those that a crash left behind end by themselves.
    pub(super) connections_per_key: usize,
    /// Connections of keys that no member has: newcomers, and members whose admission was not applied here yet.
    pub(super) strangers: usize,
    /// Those of one source.
    pub(super) strangers_per_source: usize,
}

/// The limits in use.
pub(super) const LIMITS: Limits = Limits {
    handshakes: 512,
    handshakes_per_source: 64,
    connections: 2048,
    connections_per_key: 32,
    strangers: 128,
    strangers_per_source: 32,
};

/// Counts what is held.
#[derive(Debug)]
pub(super) struct Guard {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// In the order in which they began.
    handshakes: BTreeMap<u64, Begun>,
    begun: u64,
    connections: usize,
    by_key: HashMap<Bytes, usize>,
    strangers: usize,
    strangers_by_source: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Begun {
    source: IpAddr,
    pushed_out: Arc<Notify>,
}

/// Why a connection that proved a key is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// There are as many as there may be.
    #[error("there are as many connections as there may be")]
    Connections,
    /// This key has.
    #[error("this key has as many connections as it may")]
    Key,
    /// Keys that no member has.
    #[error("keys that no member has hold as many connections as they may")]
    Strangers,
}

impl Guard {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, held: Mutex::default() })
    }

    /// Counts a handshake that begins. When there are as many as there may be, the oldest is pushed out: of the same
    /// source if that has its share, else of all.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr) -> Handshake {
        let source = source_of(address);
        let mut held = self.held.lock();
        let mut of_source = held.handshakes.iter().filter(|(_, begun)| begun.source == source).map(|(id, _)| *id);
        let oldest_of_source = of_source.next();
        let count = usize::from(oldest_of_source.is_some()) + of_source.count();
        let oldest = if count >= self.limits.handshakes_per_source {
            oldest_of_source
        } else if held.handshakes.len() >= self.limits.handshakes {
            held.handshakes.keys().next().copied()
        } else {
            None
        };
        if let Some(begun) = oldest.and_then(|oldest| held.handshakes.remove(&oldest)) {
            begun.pushed_out.notify_one();
        }
        held.begun += 1;
        let id = held.begun;
        let pushed_out = Arc::new(Notify::new());
        held.handshakes.insert(id, Begun { source, pushed_out: Arc::clone(&pushed_out) });
        Handshake { guard: Arc::clone(self), id, source, pushed_out }
    }

    /// Handshakes in flight, for tests.
    #[cfg(test)]
    pub(super) fn handshakes(&self) -> usize {
        self.held.lock().handshakes.len()
    }

    fn count(&self, held: &mut Held, key: &Bytes) -> Result<(), Full> {
        if held.connections >= self.limits.connections {
            return Err(Full::Connections);
        }
        let of_key = held.by_key.entry(key.clone()).or_default();
        if *of_key >= self.limits.connections_per_key {
            return Err(Full::Key);
        }
        *of_key += 1;
        held.connections += 1;
        metrics::gauge!(CONNECTIONS, "listener" => LISTENER).set(held.connections as f64);
        Ok(())
    }

    fn count_stranger(&self, held: &mut Held, source: IpAddr) -> Result<(), Full> {
        let of_source = held.strangers_by_source.get(&source).copied().unwrap_or(0);
        if held.strangers >= self.limits.strangers || of_source >= self.limits.strangers_per_source {
            return Err(Full::Strangers);
        }
        held.strangers += 1;
        held.strangers_by_source.insert(source, of_source + 1);
        Ok(())
    }
}

/// A handshake in flight, until dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    guard: Arc<Guard>,
    id: u64,
    source: IpAddr,
    pushed_out: Arc<Notify>,
}

impl Handshake {
    /// Waits until this handshake has to make room for another.
    pub(super) async fn pushed_out(&self) {
        self.pushed_out.notified().await;
    }

    /// The handshake is over and a key was proved: counts the connection that it made.
    pub(super) fn established(self, key: &Bytes, is_member: bool) -> Result<Permit, Full> {
        let guard = Arc::clone(&self.guard);
        let mut held = guard.held.lock();
        if !is_member {
            guard.count_stranger(&mut held, self.source)?;
        }
        let stranger = (!is_member).then_some(self.source);
        if let Err(full) = guard.count(&mut held, key) {
            release_stranger(&mut held, stranger);
            return Err(full);
        }
        drop(held);
        Ok(Permit { guard: Arc::clone(&self.guard), key: key.clone(), stranger })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.guard.held.lock().handshakes.remove(&self.id);
    }
}

/// A counted connection, until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    guard: Arc<Guard>,
    key: Bytes,
    stranger: Option<IpAddr>,
}

impl Permit {
    /// The key that was proved.
    pub(super) fn key(&self) -> &Bytes {
        &self.key
    }

    /// The key's owner was admitted since: the connection is no stranger's any more.
    pub(super) fn was_admitted(&mut self) {
        release_stranger(&mut self.guard.held.lock(), self.stranger.take());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.guard.held.lock();
        release_stranger(&mut held, self.stranger.take());
        held.connections = held.connections.saturating_sub(1);
        metrics::gauge!(CONNECTIONS, "listener" => LISTENER).set(held.connections as f64);
        if let Some(count) = held.by_key.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.by_key.remove(&self.key);
            }
        }
    }
}

fn release_stranger(held: &mut Held, source: Option<IpAddr>) {
    let Some(source) = source else { return };
    held.strangers = held.strangers.saturating_sub(1);
    if let Some(count) = held.strangers_by_source.get_mut(&source) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            held.strangers_by_source.remove(&source);
        }
    }
}

/// What counts as one source.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const FEW: Limits = Limits {
        handshakes: 4,
        handshakes_per_source: 2,
        connections: 5,
        connections_per_key: 2,
        strangers: 2,
        strangers_per_source: 1,
    };

    fn from(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    }

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    /// Whether a handshake was asked to make room, once.
    async fn is_out(handshake: &Handshake) -> bool {
        tokio::select! {
            biased;
            () = handshake.pushed_out() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_source_that_takes_its_share_pushes_out_its_own_atk_26() {
        let guard = Guard::new(FEW);
        let other = guard.begin(from(9));
        let first = guard.begin(from(1));
        let second = guard.begin(from(1));
        let third = guard.begin(from(1));
        assert!(is_out(&first).await);
        assert!(!is_out(&second).await && !is_out(&third).await && !is_out(&other).await);
        assert_eq!(guard.handshakes(), 3);
        drop((first, second, third, other));
        assert_eq!(guard.handshakes(), 0);
    }

    #[tokio::test]
    async fn when_all_room_is_taken_the_oldest_makes_room_atk_26() {
        let guard = Guard::new(FEW);
        let all: Vec<Handshake> = (1..=4).map(|last| guard.begin(from(last))).collect();
        let newest = guard.begin(from(5));
        assert!(is_out(&all[0]).await && !is_out(&all[1]).await && !is_out(&newest).await);
        assert_eq!(guard.handshakes(), 4);
    }

    #[test]
    fn connections_are_limited_in_all_and_by_key() {
        let guard = Guard::new(FEW);
        let connect = |name| guard.begin(from(1)).established(&key(name), true);
        let held = [connect("a").unwrap(), connect("a").unwrap()];
        assert_eq!(connect("a").unwrap_err(), Full::Key);
        let more = [connect("b").unwrap(), connect("b").unwrap(), connect("c").unwrap()];
        assert_eq!(connect("d").unwrap_err(), Full::Connections);
        drop((held, more));
        connect("a").unwrap();
    }

    #[test]
    fn strangers_get_little_room_until_they_are_admitted() {
        let guard = Guard::new(FEW);
        let connect = |last, name| guard.begin(from(last)).established(&key(name), false);
        let mut first = connect(1, "a").unwrap();
        assert_eq!(connect(1, "b").unwrap_err(), Full::Strangers);
        let _second = connect(2, "b").unwrap();
        assert_eq!(connect(3, "c").unwrap_err(), Full::Strangers);
        first.was_admitted();
        connect(3, "c").unwrap();
        connect(1, "d").unwrap();
    }

    #[test]
    fn addresses_of_one_machine_are_one_source() {
        let one: IpAddr = "2001:db8:1:2:a::1".parse().unwrap();
        let two: IpAddr = "2001:db8:1:2:b::2".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(source_of(one), source_of(two));
        assert_eq!(source_of(mapped), from(1));
        assert_ne!(source_of(one), source_of("2001:db8:1:3::1".parse().unwrap()));
    }
}
