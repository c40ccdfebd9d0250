//! Whoever drives the writer: a thread, or the caller.

use super::error::WalError;
use super::index::LogIndex;
use super::limits::MARK_SYNC_DELAY;
use super::options::Drive;
use super::queue::{Deed, Next, Queue};
use super::writer::{Writer, refuse_all};
use crate::disk::DiskLock;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

#[derive(Debug)]
pub(crate) enum Driver {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Inline { writer: Box<Mutex<Option<Held>>>, runs_at_once: bool },
}

/// A writer, and the lock on its directory (WAL-01), which is given back when it goes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) writer: Writer,
    pub(crate) _lock: Box<dyn DiskLock>,
}

impl Driver {
    /// Sets the writer going.
    pub(crate) fn start(drive: Drive, held: Held, index: Arc<Mutex<LogIndex>>, queue: Arc<Queue>) -> io::Result<Self> {
        let runs_at_once = match drive {
            Drive::Thread => return Ok(Self::Thread(Mutex::new(Some(start_thread(held, index, queue)?)))),
            Drive::Inline => true,
            Drive::Manual => false,
        };
        Ok(Self::Inline { writer: Box::new(Mutex::new(Some(held))), runs_at_once })
    }

    /// Writes what is queued, if that is the caller's to do at once.
    pub(crate) fn run_at_once(&self, queue: &Queue) {
        match self {
            Self::Inline { runs_at_once: true, .. } => self.run_queued(queue),
            Self::Inline { runs_at_once: false, .. } | Self::Thread(_) => {}
        }
    }

    /// Writes what is queued, in place. Does nothing when a thread does it, or from a callback: the run that called
    /// back goes on with whatever the callback queued.
    pub(crate) fn run_queued(&self, queue: &Queue) {
        let Self::Inline { writer, .. } = self else { return };
        let Some(mut held) = writer.try_lock() else { return };
        loop {
            let group = queue.take_group();
            match held.as_mut() {
                Some(held) if !group.is_empty() => held.writer.run(group, queue),
                Some(_) | None => return,
            }
        }
    }

    /// Waits until everything up to the queued close is done, and lets go of the directory.
    pub(crate) fn finish(&self, queue: &Queue) -> Result<(), WalError> {
        match self {
            Self::Thread(thread) => {
                let thread = thread.lock().take();
                if thread.is_some_and(|thread| thread.join().is_err()) {
                    return Err(WalError::Closed);
                }
            }
            Self::Inline { writer, .. } => {
                self.run_queued(queue);
                *writer.lock() = None;
            }
        }
        Ok(())
    }
}

fn start_thread(held: Held, index: Arc<Mutex<LogIndex>>, queue: Arc<Queue>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || {
        // Also when a callback panics: whoever still waits is told, and nobody waits for ever.
        let _guard = Guard { index, queue: Arc::clone(&queue) };
        drive(held, &queue);
    })
}

fn drive(mut held: Held, queue: &Queue) {
    loop {
        let patience = held.writer.is_unsettled().then_some(MARK_SYNC_DELAY);
        match queue.wait(patience) {
            Next::Group(group) => {
                let is_last = group.iter().any(|operation| matches!(operation.deed, Deed::Close));
                held.writer.run(group, queue);
                if is_last {
                    return;
                }
                // Those who were just answered have their next entries ready in a moment, on the same cores. Letting
                // them run first is no waiting window (an idle machine comes back at once), and makes whole groups
                // of what would be two halves in turn: 16.0 entries a sync instead of 10.3 with 16 in flight, 255
                // instead of 144 with 256.
                std::thread::yield_now();
            }
            Next::Idle => held.writer.settle_when_idle(queue),
            Next::Abandoned => {
                if held.writer.is_unsettled() {
                    held.writer.settle_when_idle(queue);
                }
                return;
            }
        }
    }
}

struct Guard {
    index: Arc<Mutex<LogIndex>>,
    queue: Arc<Queue>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.index.lock().is_closed = true;
        refuse_all(&self.queue, &Err(WalError::Closed));
    }
}
