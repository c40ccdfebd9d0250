//! What one Raft entry carries: a batch of commands going in, their outcomes coming out.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft_machine::{Command, CommandBatch, Outcome, StoredError};

/// A batch of commands in its stored form, shared by all who hold the entry.
///
/// The decoded commands are beside it only until they are applied: a leader that has just encoded them need not decode
/// them again, and the log in memory keeps the bytes alone.
#[derive(Clone)]
pub(crate) struct Batch {
    inner: Arc<Inner>,
}

struct Inner {
    encoded: Bytes,
    decoded: Mutex<Option<Vec<Command>>>,
}

impl Batch {
    /// Encodes commands.
    pub(crate) fn new(commands: Vec<Command>) -> Self {
        let batch = CommandBatch { commands };
        let encoded = batch.encode();
        Self { inner: Arc::new(Inner { encoded, decoded: Mutex::new(Some(batch.commands)) }) }
    }

    /// A batch as it came from the disk or from a peer. It is not looked at before it is applied.
    pub(crate) fn from_encoded(encoded: Bytes) -> Self {
        Self { inner: Arc::new(Inner { encoded, decoded: Mutex::new(None) }) }
    }

    /// The stored form.
    pub(crate) fn encoded(&self) -> &Bytes {
        &self.inner.encoded
    }

    /// Whether the commands are still beside the bytes.
    pub(crate) fn is_decoded(&self) -> bool {
        self.inner.decoded.lock().is_some()
    }

    /// The commands, which are taken out if they are there and decoded otherwise.
    ///
    /// # Errors
    ///
    /// When the bytes are no batch that this version can apply.
    pub(crate) fn take_commands(&self) -> Result<Vec<Command>, StoredError> {
        if let Some(commands) = self.inner.decoded.lock().take() {
            return Ok(commands);
        }
        CommandBatch::decode(self.inner.encoded.clone()).map(|batch| batch.commands)
    }
}

impl fmt::Debug for Batch {
    /// Sizes only: commands hold sealed keys and the names of callers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("bytes", &self.inner.encoded.len()).finish_non_exhaustive()
    }
}

/// One outcome for each command of a batch; none for entries of Raft's own.
#[derive(Debug, Default)]
pub(crate) struct BatchOutcome {
    pub(crate) outcomes: Vec<Outcome>,
}
