//! The state that a segment starts from, in its frame 0 (WAL-04).

use super::record::{Item, put_optional_log_id, read_optional_log_id};
use crate::bytes_reader::BytesReader;
use crate::header::StoredForm;
use crate::log_id::{LogId, Vote, WalIdentity};

/// What the log says besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogState {
    pub(crate) vote: Option<Vote>,
    /// The newest entry, or what was purged when there is none.
    pub(crate) last: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}

impl LogState {
    /// The state after one more record. Entries are checked for order by whoever keeps them.
    pub(crate) fn apply(&mut self, item: &Item<'_>) {
        match item {
            Item::Checkpoint(_) => {}
            Item::Entry { log_id, .. } => self.last = Some(*log_id),
            Item::Vote(vote) => self.vote = Some(*vote),
            Item::Committed(log_id) => self.committed = Some(*log_id),
            Item::Truncate { last, .. } => self.last = *last,
            Item::Purge(upto) => {
                self.purged = Some(*upto);
                if self.last.is_none_or(|last| last.index < upto.index) {
                    self.last = Some(*upto);
                }
            }
        }
    }

    /// The index that the next entry must have (WAL-14: no holes).
    pub(crate) fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }
}

/// Format version, owner, segment and state, as frame 0 of each segment carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) version: u8,
    pub(crate) identity: WalIdentity,
    pub(crate) state: LogState,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self::new(WalIdentity { cluster: [0; 16], member: 0 }, LogState::default())
    }
}

impl Checkpoint {
    pub(crate) fn new(identity: WalIdentity, state: LogState) -> Self {
        Self { version: StoredForm::Log.current(), identity, state }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.version];
        bytes.extend_from_slice(&self.identity.cluster);
        bytes.extend_from_slice(&self.identity.member.to_le_bytes());
        bytes.push(u8::from(self.state.vote.is_some()));
        if let Some(vote) = self.state.vote {
            bytes.extend_from_slice(&vote.term.to_le_bytes());
            bytes.extend_from_slice(&vote.node.to_le_bytes());
            bytes.push(u8::from(vote.committed));
        }
        for log_id in [self.state.last, self.state.committed, self.state.purged] {
            put_optional_log_id(&mut bytes, log_id);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = BytesReader::new(bytes);
        let version = reader.u8()?;
        let identity = WalIdentity { cluster: reader.array()?, member: reader.u64()? };
        let vote = match reader.u8()? {
            0 => None,
            _ => Some(Vote { term: reader.u64()?, node: reader.u64()?, committed: reader.u8()? == 1 }),
        };
        let last = read_optional_log_id(&mut reader)?;
        let committed = read_optional_log_id(&mut reader)?;
        let purged = read_optional_log_id(&mut reader)?;
        let state = LogState { vote, last, committed, purged };
        reader.is_empty().then_some(Self { version, identity, state })
    }
}
