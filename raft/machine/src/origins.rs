//! Origins: how a command that is sent again gets the outcome of the first time.
//!
//! ```text
//!   origin (node 2, boot 7):   floor = 40        kept outcomes: 41, 42, 44
//!
//!   a command with sequence 42      -> the kept outcome; nothing happens again
//!                           43, 45  -> new: carried out, outcome kept
//!                           39      -> refused: acknowledged or evicted, so it may have been carried out
//! ```
//!
//! The floor rises with what the origin acknowledges and, when it acknowledges nothing, with evictions. What lies at or
//! below the floor is never carried out: after an eviction nobody can say whether it already was.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::Origin;
use crate::hash::StateHash;
use crate::objects::{Object, Objects};
use crate::outcome::{Outcome, REFUSAL_MESSAGE_LIMIT};
use crate::stored;

/// Most outcomes that are kept for an origin above its floor (design section 4).
pub const OUTCOMES_PER_ORIGIN: usize = 1_024;

/// Most bytes of kept outcomes of an origin, the message of a refusal counted as [`REFUSAL_MESSAGE_LIMIT`] bytes however
/// it is worded: what is evicted must not depend on words. An outcome of a single operation counts about 60 bytes, or
/// that limit, so the count is met first, unless an origin sends large batches and acknowledges none.
pub const OUTCOME_BYTES_PER_ORIGIN: usize = 1024 * 1024;

/// Most starts of one node that are remembered. A repeat can only come from a process that still runs, or from a message
/// of it that is under way for seconds; four starts take longer than that.
pub const BOOTS_PER_NODE: usize = 4;

/// Most origins in all. Reached only with more nodes than one cluster is made for; then the one unused for longest goes.
pub const ORIGINS_LIMIT: usize = 4_096;

/// What is remembered of an origin, beside the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OriginRecord {
    /// Member number of the node.
    pub(crate) node: u64,
    /// Which start of its process.
    pub(crate) boot: u64,
    /// No sequence up to this one will ever be carried out.
    pub(crate) floor: u64,
    /// Log index of its latest command.
    pub(crate) last_used: u64,
}

/// A kept outcome, as stored bytes: a repeat is rare, and bytes are the smallest form.
///
/// Messages of refusals stand apart. A later version may word them better while older members still run, so they are no
/// part of what members must agree on: they enter neither the state hash nor the count of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptOutcome {
    /// Member number of the node.
    pub(crate) node: u64,
    /// Which start of its process.
    pub(crate) boot: u64,
    /// Which of its commands.
    pub(crate) sequence: u64,
    /// The stored form of the outcome, without messages.
    pub(crate) outcome: Vec<u8>,
    /// The messages of its refusals, in order.
    pub(crate) messages: Vec<String>,
}

impl KeptOutcome {
    /// What it counts towards [`OUTCOME_BYTES_PER_ORIGIN`].
    pub(crate) fn weight(&self) -> usize {
        self.outcome.len().saturating_add(self.messages.len().saturating_mul(REFUSAL_MESSAGE_LIMIT))
    }
}

/// What the state knows of a command before it is carried out.
pub(crate) enum Seen {
    /// It was not carried out before.
    Never,
    /// It was, with this outcome.
    Before(Outcome),
    /// It lies at or below the floor.
    Forgotten,
}

/// The outcomes of one origin, apart from the others so that finding and evicting them costs nothing more.
#[derive(Debug, Clone, Default)]
struct Kept {
    outcomes: Objects<u64, KeptOutcome>,
    bytes: usize,
}

/// All origins and their kept outcomes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins {
    records: Objects<(u64, u64), OriginRecord>,
    kept: BTreeMap<(u64, u64), Arc<Kept>>,
}

impl Origins {
    /// Whether a command was carried out before.
    pub(crate) fn look_up(&self, origin: &Origin) -> Seen {
        let key = (origin.node, origin.boot);
        let Some(record) = self.records.get(&key) else {
            return Seen::Never;
        };
        if origin.sequence <= record.floor {
            return Seen::Forgotten;
        }
        match self.kept.get(&key).and_then(|kept| kept.outcomes.get(&origin.sequence)) {
            // Bytes that this very program wrote read back; were it not so, saying "forgotten" is the safe answer.
            Some(kept) => stored::outcome::decode(&kept.outcome, &kept.messages).map_or(Seen::Forgotten, Seen::Before),
            None => Seen::Never,
        }
    }

    /// Keeps the outcome of a command, and evicts what is acknowledged or too much.
    pub(crate) fn keep(&mut self, origin: &Origin, log_index: u64, outcome: &Outcome) {
        let key = (origin.node, origin.boot);
        if self.records.get(&key).is_none() {
            self.make_room(origin.node);
        }
        let mut floor = self.records.get(&key).map_or(0, |record| record.floor);
        let kept = Arc::make_mut(self.kept.entry(key).or_default());
        let (outcome, messages) = stored::outcome::encode(outcome);
        let Origin { node, boot, sequence, acknowledged: _ } = *origin;
        let outcome = KeptOutcome { node, boot, sequence, outcome, messages };
        kept.bytes = kept.bytes.saturating_add(outcome.weight());
        kept.outcomes.put(sequence, outcome);
        // An origin that acknowledges the command it is sending is mistaken; its outcome is kept all the same.
        floor = floor.max(origin.acknowledged.min(origin.sequence.saturating_sub(1)));
        while let Some(lowest) = kept.outcomes.first_key().copied() {
            let crowded = kept.outcomes.len() > OUTCOMES_PER_ORIGIN || kept.bytes > OUTCOME_BYTES_PER_ORIGIN;
            if lowest > floor && !(crowded && kept.outcomes.len() > 1) {
                break;
            }
            floor = floor.max(lowest);
            if let Some(evicted) = kept.outcomes.remove(&lowest) {
                kept.bytes = kept.bytes.saturating_sub(evicted.weight());
            }
        }
        let record = OriginRecord { node: origin.node, boot: origin.boot, floor, last_used: log_index };
        self.records.put(key, record);
    }

    /// Forgets the start of the node that was unused for longest when it has too many, or of any node when all have.
    fn make_room(&mut self, node: u64) {
        let boots = || self.records.range((node, 0)..=(node, u64::MAX));
        let stale = if boots().count() >= BOOTS_PER_NODE {
            boots().min_by_key(|(key, record)| (record.last_used, **key)).map(|(key, _)| *key)
        } else if self.records.len() >= ORIGINS_LIMIT {
            self.records.iter().min_by_key(|(key, record)| (record.last_used, **key)).map(|(key, _)| *key)
        } else {
            None
        };
        if let Some(key) = stale {
            self.records.remove(&key);
            self.kept.remove(&key);
        }
    }

    /// The sum over all origins and kept outcomes.
    pub(crate) fn hash(&self) -> StateHash {
        self.kept.values().fold(self.records.hash(), |sum, kept| sum.plus(kept.outcomes.hash()))
    }

    /// Every origin, in the order of node and boot.
    pub(crate) fn records(&self) -> impl Iterator<Item = &OriginRecord> {
        self.records.values()
    }

    /// Every kept outcome, in the order of node, boot and sequence.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &KeptOutcome> {
        self.kept.values().flat_map(|kept| kept.outcomes.values())
    }

    /// Puts back an origin from a snapshot; `false` if it is there already.
    pub(crate) fn restore_record(&mut self, record: OriginRecord) -> bool {
        let key = (record.node, record.boot);
        let is_new = self.records.get(&key).is_none();
        self.records.put(key, record);
        self.kept.entry(key).or_default();
        is_new
    }

    /// Puts back a kept outcome from a snapshot; `false` if it is there already.
    pub(crate) fn restore_outcome(&mut self, outcome: KeptOutcome) -> bool {
        let kept = Arc::make_mut(self.kept.entry((outcome.node, outcome.boot)).or_default());
        kept.bytes = kept.bytes.saturating_add(outcome.weight());
        let is_new = kept.outcomes.get(&outcome.sequence).is_none();
        kept.outcomes.put(outcome.sequence, outcome);
        is_new
    }
}

impl Object for OriginRecord {
    const KIND: u8 = stored::kind::ORIGIN;

    fn stored(&self) -> Vec<u8> {
        stored::origin::encode_record(self)
    }
}

impl Object for KeptOutcome {
    const KIND: u8 = stored::kind::OUTCOME;

    fn stored(&self) -> Vec<u8> {
        stored::origin::encode_outcome(self, &self.messages)
    }

    fn hashed(&self) -> Vec<u8> {
        stored::origin::encode_outcome(self, &[])
    }
}
