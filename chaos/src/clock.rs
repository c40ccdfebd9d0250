//! The clocks of a run: one that only grows, for what happened when, and the wall's, by which SVIDs are verified.

use quorate_proto_identity::UnixSeconds;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When a run began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// A run begins now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The same in nanoseconds, as histories count.
    pub(crate) fn nanos(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "a workload verifies by the clock of its own process")]
pub(crate) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixSeconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
