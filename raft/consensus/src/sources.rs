//! Where time, chance and blocking work come from (SIM-02, SIM-03).
//!
//! The code of a cluster takes these from outside, so that one thread can run a whole cluster from one seed. Monotonic
//! time needs no seam: it is `tokio::time` everywhere. Two more seams have their own homes: the disk is
//! [`quorate_raft_store::disk::Disk`], and the network is [`Transport`](crate::transport::Transport).

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use quorate_proto_identity::UnixMillis;
use tokio::sync::oneshot;

use crate::role::Role;

/// Tells the time of day.
///
/// Only the leader's batcher stamps commands with it; `apply` never reads a clock (design property 8).
pub trait WallClock: Send + Sync + 'static {
    /// The time now, in milliseconds since 1970. It may jump in either direction.
    fn now(&self) -> UnixMillis;
}

/// Gives random bytes fit for keys and identifiers.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the whole of `bytes`. There is no failure: a process without randomness cannot go on.
    fn fill(&self, bytes: &mut [u8]);
}

/// A piece of blocking work.
pub type Work = Box<dyn FnOnce() + Send + 'static>;

/// The future of a piece of blocking work: ready when it has run, or will never run.
pub type WorkDone = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Runs what would block a thread: file I/O, hashing of large files, snapshot encoding.
///
/// In production this is a pool of threads; in simulation a seeded wait, then the work inline (SIM-03).
pub trait Blocking: Send + Sync + 'static {
    /// Starts `work`. The work runs to its end even when the future is dropped.
    fn run(&self, work: Work) -> WorkDone;
}

/// Hears what consensus does, in order. A simulation makes its trace of it.
///
/// Calls come from the tasks of consensus and must return at once.
pub trait Observer: Send + Sync + 'static {
    /// The node's role changed.
    fn role(&self, _role: &Role) {}

    /// This voter granted another member its vote of this term, and is about to tell it. From here on it must never grant a
    /// lower one (INV-04).
    fn granted_vote(&self, _term: u64, _member: u64) {}

    /// A log entry was applied. `commands` counts the commands in it, none for entries of Raft's own.
    fn applied(&self, _log_index: u64, _commands: usize) {}

    /// A snapshot up to this log index was written, or received and installed.
    fn snapshot(&self, _log_index: u64) {}
}

/// The observer of production: hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}

/// Everything that comes from outside, in one bundle that is cheap to clone.
#[derive(Clone)]
pub struct Sources {
    inner: Arc<Inner>,
}

struct Inner {
    wall: Arc<dyn WallClock>,
    entropy: Arc<dyn Entropy>,
    blocking: Arc<dyn Blocking>,
    observer: Arc<dyn Observer>,
}

/// Blocking work did not come to its end: it panicked, or the pool that should have run it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blocking work was lost before it finished")]
pub struct WorkLost;

impl Sources {
    /// A bundle without an observer.
    pub fn new(wall: impl WallClock, entropy: impl Entropy, blocking: impl Blocking) -> Self {
        Self {
            inner: Arc::new(Inner {
                wall: Arc::new(wall),
                entropy: Arc::new(entropy),
                blocking: Arc::new(blocking),
                observer: Arc::new(NoObserver),
            }),
        }
    }

    /// The same sources, heard by `observer`.
    #[must_use]
    pub fn with_observer(&self, observer: impl Observer) -> Self {
        Self {
            inner: Arc::new(Inner {
                wall: Arc::clone(&self.inner.wall),
                entropy: Arc::clone(&self.inner.entropy),
                blocking: Arc::clone(&self.inner.blocking),
                observer: Arc::new(observer),
            }),
        }
    }

    /// The time of day.
    pub fn now(&self) -> UnixMillis {
        self.inner.wall.now()
    }

    /// Fills `bytes` at random.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.inner.entropy.fill(bytes);
    }

    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number of 64 bits.
    pub fn random_u64(&self) -> u64 {
        u64::from_le_bytes(self.random())
    }

    /// Runs `work` where blocking is allowed and gives its result.
    ///
    /// # Errors
    ///
    /// [`WorkLost`] when it panicked or could not be run.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkLost> {
        let (sender, receiver) = oneshot::channel();
        let done = self.inner.blocking.run(Box::new(move || {
            // Nobody waits any more: the result is dropped here, which is all that can be done with it.
            drop(sender.send(work()));
        }));
        done.await;
        receiver.await.map_err(|_closed| WorkLost)
    }

    /// Who listens.
    pub fn observer(&self) -> &dyn Observer {
        self.inner.observer.as_ref()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
