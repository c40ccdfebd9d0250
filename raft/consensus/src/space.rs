//! Free space, looked at by a timer, so that proposals are refused before the disk is full.
//!
//! A log that meets a full disk is a log whose write failed, and a failed write ends consensus for good (WAL-09). The
//! reserve keeps it from coming to that. The look costs a system call, so it is not taken for each write.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quorate_raft_store::{disk::Disk, free_space::FreeSpace};
use tokio::time::{MissedTickBehavior, interval};

use crate::{limits::SPACE_SAMPLE_INTERVAL, proposal::ProposeError, sources::Sources, stop::with_causes, telemetry};

/// What the last look found.
#[derive(Debug)]
pub(crate) struct Space {
    available: AtomicU64,
    reserve: u64,
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

impl Space {
    /// Nothing has been looked at yet: until then there is room.
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: PathBuf, reserve: u64) -> Arc<Self> {
        Arc::new(Self { available: AtomicU64::new(u64::MAX), reserve, disk, directory })
    }

    /// Refuses when less than the reserve was free at the last look.
    pub(crate) fn check(&self) -> Result<(), ProposeError> {
        let available = self.available.load(Ordering::Relaxed);
        if available < self.reserve {
            return Err(ProposeError::NoSpace { available, reserve: self.reserve });
        }
        Ok(())
    }

    /// Free bytes at the last look, if there was one.
    pub(crate) fn available(&self) -> Option<u64> {
        Some(self.available.load(Ordering::Relaxed)).filter(|available| *available != u64::MAX)
    }

    /// Looks now. Where free space cannot be told, the last answer stands: the log itself will say if the disk is gone.
    pub(crate) async fn look(self: &Arc<Self>, sources: &Sources) {
        let space = Arc::clone(self);
        let measure = move || FreeSpace::measure(space.disk.as_ref(), &space.directory, space.reserve);
        match sources.run_blocking(measure).await {
            Ok(Ok(FreeSpace { available_bytes, .. })) => {
                let before = self.available.swap(available_bytes, Ordering::Relaxed);
                self.report(before, available_bytes);
                telemetry::free_space(available_bytes);
            }
            Ok(Err(error)) => tracing::warn!(error = %with_causes(&error), "free space cannot be told"),
            Err(_lost) => {}
        }
    }

    fn report(&self, before: u64, now: u64) {
        if now < self.reserve && before >= self.reserve {
            tracing::error!(
                available_bytes = now,
                reserve_bytes = self.reserve,
                directory = %self.directory.display(),
                "the disk is nearly full: proposals are refused until space is freed"
            );
        } else if now >= self.reserve && before < self.reserve {
            tracing::info!(available_bytes = now, "there is space on the disk again: proposals are taken");
        }
    }

    /// Looks again and again.
    pub(crate) async fn watch(self: Arc<Self>, sources: Sources, after_each: impl Fn() + Send + Sync) {
        let mut ticks = interval(SPACE_SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&sources).await;
            after_each();
        }
    }
}
