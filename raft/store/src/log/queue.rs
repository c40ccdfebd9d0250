//! What waits for the writer, in order.

use super::error::WalError;
use super::limits::{GROUP_BYTES, OPERATION_OVERHEAD_BYTES};
use super::record::RECORD_HEADER_BYTES;
use crate::log_id::{LogId, Record, Vote};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Called once, on the writer's thread: with Ok after the sync returned and the mark was written
/// (WAL-06), or with the first error (WAL-09). It must not block, and it may call the log again.
pub type Callback = Box<dyn FnOnce(Result<(), WalError>) + Send>;

/// A request, and who wants to know when it is durable.
pub(crate) struct Operation {
    pub(crate) deed: Deed,
    pub(crate) callback: Option<Callback>,
}

/// What is asked of the writer.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Entries; `serial` is the index's number of the first, the others follow.
    Append {
        serial: u64,
        records: Vec<Record>,
    },
    Vote(Vote),
    Committed(LogId),
    Truncate {
        from: LogId,
        last: Option<LogId>,
    },
    Purge(LogId),
    /// Sync everything, the mark too (WAL-07).
    Settle,
    /// Settle, then take no more.
    Close,
}

impl Deed {
    /// Writes nothing, and is answered in its turn.
    pub(crate) fn nothing() -> Self {
        Self::Append { serial: 0, records: Vec::new() }
    }

    /// What it adds to a frame.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { records, .. } => records.iter().map(|record| RECORD_HEADER_BYTES + record.body.len()).sum(),
            Self::Vote(_)
            | Self::Committed(_)
            | Self::Truncate { .. }
            | Self::Purge(_)
            | Self::Settle
            | Self::Close => OPERATION_OVERHEAD_BYTES,
        }
    }

    /// Whether someone's right to go on depends on it being durable. The others are covered by a later
    /// sync: a cut-off end that comes back, or an older commit index, costs a little work, no truth.
    pub(crate) fn needs_sync(&self) -> bool {
        match self {
            // The planted bug leaves a vote to a later sync; the simulation has to catch it.
            Self::Vote(_) => !cfg!(feature = "planted-unsynced-vote"),
            Self::Append { .. } | Self::Purge(_) | Self::Settle | Self::Close => true,
            Self::Committed(_) | Self::Truncate { .. } => false,
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("deed", &self.deed).finish_non_exhaustive()
    }
}

/// The queue between callers and the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    operations: VecDeque<Operation>,
    bytes: usize,
    /// Nothing more can come: no handle is left, or the log was closed. A failing writer answers whatever waits, a
    /// close too, and must find out by this that it is to end.
    is_abandoned: bool,
}

/// What the writer finds when it looks.
#[derive(Debug)]
pub(crate) enum Next {
    /// Operations for one frame.
    Group(Vec<Operation>),
    /// Nothing came within the time given.
    Idle,
    /// Nothing will come any more.
    Abandoned,
}

impl Queue {
    pub(crate) fn push(&self, operation: Operation) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += operation.deed.bytes() + OPERATION_OVERHEAD_BYTES;
        waiting.is_abandoned |= matches!(operation.deed, Deed::Close);
        waiting.operations.push_back(operation);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.lock().bytes
    }

    pub(crate) fn abandon(&self) {
        self.waiting.lock().is_abandoned = true;
        self.arrived.notify_one();
    }

    /// What is there now, up to a group's size (WAL-05); empty when nothing is.
    pub(crate) fn take_group(&self) -> Vec<Operation> {
        self.waiting.lock().take_group()
    }

    /// Waits for a group; without `patience`, for ever.
    pub(crate) fn wait(&self, patience: Option<Duration>) -> Next {
        let mut waiting = self.waiting.lock();
        loop {
            let group = waiting.take_group();
            if !group.is_empty() {
                return Next::Group(group);
            }
            if waiting.is_abandoned {
                return Next::Abandoned;
            }
            match patience {
                None => self.arrived.wait(&mut waiting),
                Some(patience) => {
                    let is_late = self.arrived.wait_for(&mut waiting, patience).timed_out();
                    if is_late && waiting.operations.is_empty() && !waiting.is_abandoned {
                        return Next::Idle;
                    }
                }
            }
        }
    }
}

impl Waiting {
    fn take_group(&mut self) -> Vec<Operation> {
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(operation) = self.operations.front() {
            let more = operation.deed.bytes();
            if !group.is_empty() && bytes + more > GROUP_BYTES {
                break;
            }
            bytes += more;
            self.bytes = self.bytes.saturating_sub(more + OPERATION_OVERHEAD_BYTES);
            group.extend(self.operations.pop_front());
        }
        group
    }
}

/// Cuts entries into appends that fit one group each; an entry larger than a group stands alone.
pub(crate) fn split_append(first_serial: u64, records: Vec<Record>) -> Vec<Deed> {
    let mut deeds = Vec::new();
    let mut serial = first_serial;
    let mut part = Vec::new();
    let mut bytes = 0;
    for (number, record) in (first_serial..).zip(records) {
        let more = RECORD_HEADER_BYTES + record.body.len();
        if !part.is_empty() && bytes + more > GROUP_BYTES {
            deeds.push(Deed::Append { serial, records: std::mem::take(&mut part) });
            serial = number;
            bytes = 0;
        }
        bytes += more;
        part.push(record);
    }
    if !part.is_empty() {
        deeds.push(Deed::Append { serial, records: part });
    }
    deeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn records(sizes: &[usize]) -> Vec<Record> {
        let body = |size: &usize| Bytes::from(vec![7; *size]);
        let log_id = |index| LogId { term: 1, node: 1, index };
        (0..).zip(sizes).map(|(index, size)| Record { log_id: log_id(index), kind: 0, body: body(size) }).collect()
    }

    #[test]
    fn wal_05_a_group_is_all_that_waits_up_to_one_mebibyte() {
        let queue = Queue::default();
        for deed in split_append(0, records(&[GROUP_BYTES / 2; 5])) {
            queue.push(Operation { deed, callback: None });
        }
        queue.push(Operation { deed: Deed::Settle, callback: None });
        let mut sizes = Vec::new();
        loop {
            let group = queue.take_group();
            if group.is_empty() {
                break;
            }
            sizes.push(group.iter().map(|operation| operation.deed.bytes()).sum::<usize>());
        }
        assert!(sizes.iter().all(|size| *size <= GROUP_BYTES), "{sizes:?}");
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_close_that_a_failing_writer_answered_still_ends_the_writer() {
        let queue = Queue::default();
        queue.push(Operation { deed: Deed::Close, callback: None });
        assert_eq!(queue.take_group().len(), 1, "taken to be refused, while the writer was busy with its failure");
        assert!(matches!(queue.wait(None), Next::Abandoned));
    }

    #[test]
    fn an_entry_larger_than_a_group_stands_alone_and_serials_follow_on() {
        let deeds = split_append(10, records(&[100, 2 * GROUP_BYTES, 100, 100]));
        let shape: Vec<(u64, usize)> =
            deeds
                .iter()
                .filter_map(|deed| {
                    if let Deed::Append { serial, records } = deed { Some((*serial, records.len())) } else { None }
                })
                .collect();
        assert_eq!(shape, [(10, 1), (11, 1), (12, 2)]);
    }
}
