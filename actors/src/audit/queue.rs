//! What waits to be written to the trail: bounded, filled without ever waiting, and honest about what found no room.
//!
//! ```text
//!   apply ────► applied, replaced ──┐
//!   issuers ──► issued              ├──► [ bounded by bytes ] ──► writer
//!   services ─► not admitted ───────┘          │ full: what comes is counted, not kept; the count stands in its place
//! ```

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use quorate_raft_consensus::AppliedCommand;
use tokio::sync::{Notify, oneshot};

use super::record::Record;

/// Bytes of commands that wait, as they are in the log. What a log holds between two snapshots (32 MiB) fits in: a node that
/// applies all of it at a start, or to catch up, finds room for it even if the disk takes nothing meanwhile. In memory they
/// are two to three times that.
pub(crate) const QUEUE_BYTES: usize = 48 << 20;

/// Bytes of it that records of this node alone may take, so that a flood of them leaves room for what every node is to have.
const LOCAL_BYTES: usize = 16 << 20;

/// What a record of this node's own counts for.
const LOCAL_WEIGHT: usize = 1024;

/// What a marker counts for.
const MARKER_WEIGHT: usize = 128;

/// Told whether a record is on the disk, synced.
pub(crate) type Receipt = oneshot::Sender<bool>;

/// What waits, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum Item {
    /// The commands of one log entry were applied.
    Applied {
        /// Its log index.
        log_index: u64,
        /// The size that it counts for.
        bytes: usize,
        /// The commands.
        commands: Vec<AppliedCommand>,
    },
    /// The state was replaced by one that holds everything up to this log index.
    Replaced {
        /// The index.
        log_index: u64,
    },
    /// Log entries found no room here.
    Unheard {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// Something that happened at this node alone.
    Local {
        /// The record, without its number.
        record: Box<Record>,
        /// Who waits for it.
        receipt: Option<Receipt>,
    },
    /// Records of this node alone found no room here, since the last time that something was taken.
    Dropped {
        /// How many.
        count: u64,
    },
    /// Everything up to this log index is to be durable before this is answered.
    Settle {
        /// The index.
        log_index: u64,
        /// Who waits.
        receipt: Receipt,
    },
}

impl Item {
    fn weight(&self) -> usize {
        match self {
            Self::Applied { bytes, .. } => bytes.saturating_add(MARKER_WEIGHT),
            Self::Local { .. } => LOCAL_WEIGHT,
            Self::Replaced { .. } | Self::Unheard { .. } | Self::Dropped { .. } | Self::Settle { .. } => MARKER_WEIGHT,
        }
    }
}

/// The queue. Cheap to clone; all clones are the same, and outlive the actor that works it off.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Waiting>,
    filled: Notify,
    limit: usize,
    local_limit: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
    local_bytes: usize,
    /// Records of this node alone that found no room since the last batch was taken.
    dropped: u64,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self::with_limits(QUEUE_BYTES, LOCAL_BYTES)
    }

    pub(crate) fn with_limits(limit: usize, local_limit: usize) -> Self {
        let inner = Inner { waiting: Mutex::default(), filled: Notify::new(), limit, local_limit };
        Self { inner: Arc::new(inner) }
    }

    /// Takes an item in, or notes that there was no room for it. A receipt that finds no room is dropped, which whoever
    /// waits for it notices at once.
    pub(crate) fn push(&self, item: Item) {
        let weight = item.weight();
        let mut waiting = self.inner.waiting.lock();
        let local_weight = if matches!(item, Item::Local { .. }) { weight } else { 0 };
        let is_full = waiting.bytes.saturating_add(weight) > self.inner.limit;
        let is_locally_full = waiting.local_bytes.saturating_add(local_weight) > self.inner.local_limit;
        if let Item::Applied { log_index, .. } = item
            && is_full
        {
            waiting.unheard(log_index);
        } else if matches!(item, Item::Local { .. }) && is_locally_full {
            waiting.dropped = waiting.dropped.saturating_add(1);
        } else {
            waiting.local_bytes = waiting.local_bytes.saturating_add(local_weight);
            waiting.bytes = waiting.bytes.saturating_add(weight);
            waiting.items.push_back(item);
        }
        drop(waiting);
        self.inner.filled.notify_one();
    }

    /// Waits until there is something, and takes the oldest of it: at most so many items, and so many bytes unless a single
    /// item has more.
    pub(crate) async fn take(&self, items: usize, bytes: usize) -> Vec<Item> {
        loop {
            let taken = self.try_take(items, bytes);
            if !taken.is_empty() {
                return taken;
            }
            self.inner.filled.notified().await;
        }
    }

    fn try_take(&self, most: usize, bytes: usize) -> Vec<Item> {
        let mut waiting = self.inner.waiting.lock();
        let (mut taken, mut weight) = (Vec::new(), 0_usize);
        while taken.len() < most {
            let Some(next) = waiting.items.front().map(Item::weight) else { break };
            weight = weight.saturating_add(next);
            if weight > bytes && !taken.is_empty() {
                break;
            }
            let Some(item) = waiting.items.pop_front() else { break };
            waiting.bytes = waiting.bytes.saturating_sub(next);
            if matches!(item, Item::Local { .. }) {
                waiting.local_bytes = waiting.local_bytes.saturating_sub(next);
            }
            taken.push(item);
        }
        let count = std::mem::take(&mut waiting.dropped);
        if count > 0 {
            taken.push(Item::Dropped { count });
        }
        taken
    }

    /// Whether more than half of the room is taken: from then on administrative acts are refused, so that those which are
    /// under way already, here and at other nodes, find theirs.
    pub(crate) fn is_half_full(&self) -> bool {
        self.inner.waiting.lock().bytes > self.inner.limit / 2
    }

    /// Whether a record of this node's own would find room.
    pub(crate) fn has_room_for_own(&self) -> bool {
        self.inner.waiting.lock().local_bytes.saturating_add(LOCAL_WEIGHT) <= self.inner.local_limit
    }
}

impl Waiting {
    /// One marker stands for all log entries in a row that found no room.
    fn unheard(&mut self, log_index: u64) {
        match self.items.back_mut() {
            Some(Item::Unheard { to, .. }) => *to = log_index,
            Some(_) | None => {
                let marker = Item::Unheard { from: log_index, to: log_index };
                self.bytes = self.bytes.saturating_add(marker.weight());
                self.items.push_back(marker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::UnixMillis;

    use super::{super::record::Kind, *};

    fn applied(log_index: u64, bytes: usize) -> Item {
        Item::Applied { log_index, bytes, commands: Vec::new() }
    }

    fn local() -> Item {
        Item::Local { record: Box::new(Record::new(UnixMillis(0), Kind::Local, "x")), receipt: None }
    }

    fn told(items: &[Item]) -> Vec<String> {
        items
            .iter()
            .map(|item| match item {
                Item::Applied { log_index, .. } => format!("applied {log_index}"),
                Item::Unheard { from, to } => format!("unheard {from}-{to}"),
                Item::Dropped { count } => format!("dropped {count}"),
                Item::Local { .. } => "local".to_owned(),
                Item::Replaced { .. } | Item::Settle { .. } => "other".to_owned(),
            })
            .collect()
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_in_its_place() {
        let queue = Queue::with_limits(1_000, 2_048);
        for index in 1..=5 {
            queue.push(applied(index, 300));
        }
        assert!(queue.is_half_full());
        let items = queue.take(10, usize::MAX).await;
        assert_eq!(told(&items), ["applied 1", "applied 2", "unheard 3-5"]);
        queue.push(applied(6, 300));
        assert_eq!(told(&queue.take(10, usize::MAX).await), ["applied 6"]);
    }

    #[tokio::test]
    async fn a_flood_of_this_nodes_own_records_leaves_room_for_what_all_nodes_have() {
        let queue = Queue::with_limits(10_000, 2_048);
        for _ in 0..10 {
            queue.push(local());
        }
        assert!(!queue.has_room_for_own());
        queue.push(applied(1, 300));
        assert_eq!(told(&queue.take(10, usize::MAX).await), ["local", "local", "applied 1", "dropped 8"]);
        assert!(queue.has_room_for_own());
    }

    #[tokio::test]
    async fn a_batch_ends_at_its_limits_and_is_never_empty() {
        let queue = Queue::with_limits(10_000, 2_048);
        for index in 1..=3 {
            queue.push(applied(index, 1_000));
        }
        assert_eq!(told(&queue.take(10, 10).await), ["applied 1"]);
        assert_eq!(told(&queue.take(1, usize::MAX).await), ["applied 2"]);
    }
}
