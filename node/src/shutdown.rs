//! Telling many tasks that it is time to stop, and the order in which a node stops.
//!
//! ```text
//!   signal ──> leadership handed over, if it is here
//!          ──> sockets take nobody new ──> actors: streams end (Unavailable), ledger flushed
//!          ──> answers under way finish, at most DRAIN ──> consensus: last sync, log closed, directory unlocked
//!   a second signal ends the process at once
//! ```

use std::time::Duration;

use tokio::sync::watch;

/// How long answers under way may take once a stop was asked for. A load balancer or systemd waits
/// longer than that before it kills.
pub const DRAIN: Duration = Duration::from_secs(10);

/// The one who says stop.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// One who listens for it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

/// A pair: nothing is asked yet.
#[must_use]
pub fn stop_signal() -> (Stop, Stopping) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Stopping(receiver))
}

impl Stop {
    /// Asks all that listen to stop; again changes nothing.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Waits until stop was asked for, or the one who could ask is gone.
    pub async fn asked(&mut self) {
        drop(self.0.wait_for(|asked| *asked).await);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_listen_hear_it_also_late() {
        let (stop, stopping) = stop_signal();
        let mut first = stopping.clone();
        let waiting = tokio::spawn(async move { first.asked().await });
        assert!(!stopping.is_asked());
        stop.ask();
        waiting.await.unwrap();
        let mut late = stopping.clone();
        late.asked().await;
        assert!(late.is_asked());
        drop(stop);
        late.asked().await;
    }
}
