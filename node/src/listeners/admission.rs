//! How many connections and calls each user of the host may hold at a socket (ATK-20, ATK-21).
//!
//! A user is whom the kernel names in the peer credentials. Processes are no unit: a flood forks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::metrics::CONNECTIONS;

/// Of the connections of a socket, the share that one user may have: three of four. A user that
/// takes all it can get leaves a quarter to the others.
const USER_SHARE: (usize, usize) = (3, 4);

/// The limits of one socket, and who holds how much of them.
#[derive(Debug)]
pub struct Admission {
    listener: &'static str,
    most_connections: usize,
    most_calls_per_user: usize,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    connections: usize,
    by_user: HashMap<u32, User>,
}

#[derive(Debug, Default)]
struct User {
    connections: usize,
    calls: Arc<AtomicUsize>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The socket has as many as it may.
    Full,
    /// This user has.
    UserFull,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the limit of connections is reached",
            Self::UserFull => "this user's limit of connections is reached",
        })
    }
}

impl Admission {
    /// At most `most_connections` at once, and `most_calls_per_user` calls and streams in flight
    /// for each user; `listener` names the socket in metrics.
    #[must_use]
    pub fn new(listener: &'static str, most_connections: usize, most_calls_per_user: usize) -> Arc<Self> {
        Arc::new(Self { listener, most_connections, most_calls_per_user, users: Mutex::default() })
    }

    /// Counts a new connection of a user.
    ///
    /// # Errors
    /// When the socket or the user has as many as it may.
    pub fn admit(self: &Arc<Self>, user: u32) -> Result<ConnectionPermit, Refused> {
        let (of, whole) = USER_SHARE;
        let mut users = self.users.lock();
        if users.connections >= self.most_connections {
            return Err(Refused::Full);
        }
        let held = users.by_user.get(&user).map_or(0, |user| user.connections);
        if held >= (self.most_connections * of / whole).max(1) {
            return Err(Refused::UserFull);
        }
        users.connections += 1;
        self.show(users.connections);
        let entry = users.by_user.entry(user).or_default();
        entry.connections += 1;
        let calls = Arc::clone(&entry.calls);
        Ok(ConnectionPermit { admission: Arc::clone(self), user, calls })
    }

    fn show(&self, connections: usize) {
        metrics::gauge!(CONNECTIONS, "listener" => self.listener).set(connections as f64);
    }

    /// Connections held at present.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.users.lock().connections
    }
}

/// A counted connection, until dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    user: u32,
    calls: Arc<AtomicUsize>,
}

impl ConnectionPermit {
    /// Counts a call or stream; none when the user has as many in flight as it may.
    #[must_use]
    pub fn call(&self) -> Option<CallPermit> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        // The permit takes its count back when dropped, so that it is right on refusal too.
        let permit = CallPermit(Arc::clone(&self.calls));
        (before < self.admission.most_calls_per_user).then_some(permit)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut users = self.admission.users.lock();
        users.connections = users.connections.saturating_sub(1);
        self.admission.show(users.connections);
        if let Some(user) = users.by_user.get_mut(&self.user) {
            user.connections = user.connections.saturating_sub(1);
            if user.connections == 0 {
                users.by_user.remove(&self.user);
            }
        }
    }
}

/// A counted call or stream, until dropped.
#[derive(Debug)]
pub struct CallPermit(Arc<AtomicUsize>);

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_never_gets_all_connections_atk_20() {
        let admission = Admission::new("test", 8, 10);
        let flood: Vec<_> = (0..6).map(|_| admission.admit(1000).unwrap()).collect();
        assert_eq!(admission.admit(1000).unwrap_err(), Refused::UserFull);
        let other = admission.admit(1001).unwrap();
        let _more = admission.admit(1002).unwrap();
        assert_eq!(admission.admit(1003).unwrap_err(), Refused::Full);
        drop(other);
        admission.admit(1003).unwrap();
        drop(flood);
        admission.admit(1000).unwrap();
    }

    #[test]
    fn calls_are_counted_over_all_connections_of_a_user_atk_20() {
        let admission = Admission::new("test", 8, 3);
        let (first, second) = (admission.admit(7).unwrap(), admission.admit(7).unwrap());
        let calls = [first.call().unwrap(), second.call().unwrap(), second.call().unwrap()];
        assert!(first.call().is_none());
        assert!(admission.admit(8).unwrap().call().is_some(), "another user is not concerned");
        drop(calls);
        assert!(first.call().is_some());
    }

    #[test]
    fn nothing_is_kept_of_a_user_that_left() {
        let admission = Admission::new("test", 8, 3);
        drop(admission.admit(7).unwrap());
        assert_eq!(admission.connections(), 0);
        assert!(admission.users.lock().by_user.is_empty());
    }
}
