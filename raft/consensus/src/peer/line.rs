//! A channel to a member that is closed and dialled again when it falls silent (SIM-09).
//!
//! A connection over a cut that has healed may stay dead for seconds: TCP waits ever longer between tries, and nothing
//! tells the difference between a slow answer and none. What tells is a row of missed deadlines. A new connection costs
//! one handshake.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_api::channel::channel_over;
use tokio::{runtime, time::Instant};
use tonic::transport::Channel;

use super::{destination, roster::Roster};
use crate::{limits::MISSED_DEADLINES_MAX, transport::Transport};

/// One connection to one member.
pub(crate) struct Line {
    member: u64,
    transport: Arc<dyn Transport>,
    roster: Arc<Roster>,
    runtime: runtime::Handle,
    channel: Mutex<Option<Channel>>,
    missed: AtomicU32,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("member", &self.member).finish_non_exhaustive()
    }
}

impl Line {
    /// A line that nobody has dialled yet.
    pub(super) fn new(
        member: u64,
        transport: Arc<dyn Transport>,
        roster: Arc<Roster>,
        runtime: runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self { member, transport, roster, runtime, channel: Mutex::new(None), missed: AtomicU32::new(0) })
    }

    /// Its channel. Addresses and key are looked up at each dial (design section 4, "Peers are pinned").
    pub(crate) fn channel(&self) -> Channel {
        self.channel.lock().get_or_insert_with(|| self.make()).clone()
    }

    fn make(&self) -> Channel {
        // Its tasks belong to consensus, and not to whoever happens to call first.
        let _entered = self.runtime.enter();
        let (member, transport, roster) = (self.member, Arc::clone(&self.transport), Arc::clone(&self.roster));
        channel_over(move || {
            let (transport, roster) = (Arc::clone(&transport), Arc::clone(&roster));
            async move {
                let Some(destination) = destination(&roster, member) else {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        format!("nothing is known of member {member}, or it was removed"),
                    ));
                };
                transport.dial(&destination).await
            }
        })
    }

    /// A call is begun that is waited for at most for `limit`. It counts as a missed deadline if the watch is dropped
    /// about then without having been told of an answer; a call that is given up earlier says nothing of the connection.
    pub(crate) fn watch(self: &Arc<Self>, limit: Duration) -> CallWatch {
        CallWatch { line: Arc::clone(self), counts_from: Instant::now() + limit * 9 / 10, answered: false }
    }

    fn missed(&self) {
        if self.missed.fetch_add(1, Ordering::AcqRel) + 1 >= MISSED_DEADLINES_MAX {
            self.missed.store(0, Ordering::Release);
            // The next call dials. Calls that still wait on the old channel keep it until they are given up.
            *self.channel.lock() = None;
            tracing::debug!(member = self.member, "a connection missed its deadlines and is dialled again");
        }
    }
}

/// Watches over one call.
#[derive(Debug)]
pub(crate) struct CallWatch {
    line: Arc<Line>,
    counts_from: Instant,
    answered: bool,
}

impl CallWatch {
    /// Something came back: an answer, or an error that is not a deadline. Then the connection lives, or is dialled again
    /// by itself.
    pub(crate) fn answered(mut self) {
        self.answered = true;
        self.line.missed.store(0, Ordering::Release);
    }
}

impl Drop for CallWatch {
    fn drop(&mut self) {
        if !self.answered && Instant::now() >= self.counts_from {
            self.line.missed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::NoTransport;

    const LIMIT: Duration = Duration::from_millis(100);

    fn line() -> Arc<Line> {
        let line = Line::new(2, Arc::new(NoTransport), Roster::new(), runtime::Handle::current());
        line.channel();
        line
    }

    fn is_dialled(line: &Line) -> bool {
        line.channel.lock().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_of_missed_deadlines_has_a_connection_dialled_again_sim_09() {
        let line = line();
        for missed in 1..=MISSED_DEADLINES_MAX {
            let watch = line.watch(LIMIT);
            tokio::time::advance(LIMIT).await;
            drop(watch);
            assert_eq!(is_dialled(&line), missed < MISSED_DEADLINES_MAX, "after {missed}");
        }
        line.channel();
        assert!(is_dialled(&line));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_row_and_a_call_that_is_given_up_early_is_no_part_of_it_sim_09() {
        let line = line();
        for round in 0..MISSED_DEADLINES_MAX * 3 {
            let watch = line.watch(LIMIT);
            if round % 2 == 0 {
                tokio::time::advance(LIMIT).await;
                drop(watch);
            } else {
                watch.answered();
            }
        }
        for _ in 0..MISSED_DEADLINES_MAX * 3 {
            drop(line.watch(LIMIT));
        }
        assert!(is_dialled(&line));
    }
}
