//! Where production takes time, chance, blocking work and keys from: the only clock and the only randomness of the
//! process (SIM-02, SIM-03). Everything else is handed these.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use quorate_proto_identity::{
    key::{KeyType, PrivateKey},
    validity::UnixMillis,
};
use quorate_raft_consensus::sources::{Blocking, Entropy, Sources, WallClock, Work, WorkDone};
use tokio::runtime::Handle;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system for the time")]
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is as wrong as any other clock: certificates will refuse it.
        let milliseconds = since.map_or(0, |since| since.as_millis());
        UnixMillis(i64::try_from(milliseconds).unwrap_or(i64::MAX))
    }
}

/// The random numbers of the operating system, through the crypto provider.
#[derive(Debug, Default)]
pub struct SystemEntropy {
    random: SystemRandom,
}

impl SystemEntropy {
    /// The one source of it.
    #[must_use]
    pub fn new() -> Self {
        Self { random: SystemRandom::new() }
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if self.random.fill(bytes).is_err() {
            // Without randomness nothing this process could do from here on would be safe: no key, no serial number.
            tracing::error!("the operating system gives no random numbers");
            std::process::abort();
        }
    }
}

/// The runtime's pool of threads for work that blocks.
#[derive(Debug, Clone)]
pub struct BlockingPool {
    runtime: Handle,
}

impl BlockingPool {
    /// The pool of this runtime.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

impl Blocking for BlockingPool {
    fn run(&self, work: Work) -> WorkDone {
        let running = self.runtime.spawn_blocking(work);
        // Work that panicked is seen by its owner as an answer that never comes.
        Box::pin(async move { drop(running.await) })
    }
}

/// The sources of a production process, with this runtime's pool for what blocks.
#[must_use]
pub fn system_sources(runtime: Handle) -> Sources {
    Sources::new(SystemClock, SystemEntropy::new(), BlockingPool::new(runtime))
}

/// Makes key pairs. A simulation hands out fixed ones instead (SIM-02).
pub trait KeySource: Send + Sync + 'static {
    /// A new key pair of this type.
    ///
    /// # Errors
    /// When the crypto provider refuses; that is not the caller's fault and may be retried.
    fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeySourceError>;
}

/// No key pair could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key pair of type {kind} could be made")]
pub struct KeySourceError {
    /// The type that was wanted.
    pub kind: KeyType,
}

/// Makes every key afresh.
#[derive(Debug, Clone, Copy, Default)]
pub struct FreshKeys;

impl KeySource for FreshKeys {
    fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeySourceError> {
        PrivateKey::generate(kind).map_err(|_refused| KeySourceError { kind })
    }
}

/// Whether making or using a key of this type takes a millisecond or more, so that it must not happen on a thread that
/// serves others: RSA does (2048 bits: some 90 ms to make, 1 ms to sign), the others take tens of microseconds.
#[must_use]
pub(crate) fn is_slow(kind: KeyType) -> bool {
    matches!(kind, KeyType::Rsa2048 | KeyType::Rsa4096)
}
