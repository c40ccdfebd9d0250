//! Log entries, from openraft's form to the store's records and back.
//!
//! A record says by its kind what the body is; the body of a batch is the machine's own stored form, so nothing is
//! encoded twice.

use bytes::Bytes;
use quorate_raft_store::Record;

use crate::{
    batch::Batch,
    log_id::{from_raft, to_raft},
    membership::{self, MembershipError},
    type_config::{Entry, EntryPayload},
};

/// An entry without content: a new leader's first.
const BLANK: u8 = 0;
/// A batch of commands.
const COMMANDS: u8 = 1;
/// A membership.
const MEMBERSHIP: u8 = 2;

/// A record of the log could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// Its kind is not known: a newer version of this program wrote it.
    #[error("log entry {index} has kind {kind}, which this version does not know: run a newer one")]
    UnknownKind {
        /// Where it stands.
        index: u64,
        /// Its kind.
        kind: u8,
    },
    /// The membership in it cannot be read.
    #[error("log entry {index} cannot be read")]
    Membership {
        /// Where it stands.
        index: u64,
        /// What is wrong with it.
        source: MembershipError,
    },
}

/// The store's form of an entry.
pub(crate) fn to_record(entry: &Entry) -> Record {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(batch) => (COMMANDS, batch.encoded().clone()),
        EntryPayload::Membership(membership) => (MEMBERSHIP, membership::encode(membership).into()),
    };
    Record { log_id: from_raft(&entry.log_id), kind, body }
}

/// openraft's form of a record. Commands stay encoded until they are applied.
pub(crate) fn from_record(record: Record) -> Result<Entry, EntryError> {
    let index = record.log_id.index;
    let payload = match record.kind {
        BLANK => EntryPayload::Blank,
        COMMANDS => EntryPayload::Normal(Batch::from_encoded(record.body)),
        MEMBERSHIP => EntryPayload::Membership(
            membership::decode(&record.body).map_err(|source| EntryError::Membership { index, source })?,
        ),
        kind => return Err(EntryError::UnknownKind { index, kind }),
    };
    Ok(Entry { log_id: to_raft(record.log_id), payload })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use quorate_raft_store::LogId;

    use super::*;
    use crate::{membership::RaftNode, type_config::Membership};

    fn record(kind: u8, body: Bytes) -> Record {
        Record { log_id: LogId { term: 2, node: 1, index: 5 }, kind, body }
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_the_same_record() {
        let membership = Membership::new(
            vec![BTreeSet::from([1])],
            BTreeMap::from([(1, RaftNode { name: "node-1".to_owned(), addresses: Vec::new() })]),
        );
        let batch = Batch::new(Vec::new());
        for (kind, body) in [
            (BLANK, Bytes::new()),
            (COMMANDS, batch.encoded().clone()),
            (MEMBERSHIP, membership::encode(&membership).into()),
        ] {
            let record = record(kind, body);
            assert_eq!(to_record(&from_record(record.clone()).unwrap()), record);
        }
    }

    /// What the numbers stand for never changes: they are in every log.
    #[test]
    fn the_kinds_of_version_1_are_what_they_were() {
        assert_eq!((BLANK, COMMANDS, MEMBERSHIP), (0, 1, 2));
    }

    #[test]
    fn a_kind_from_the_future_is_refused_with_what_to_do() {
        let error = from_record(record(77, Bytes::new())).unwrap_err();
        assert!(error.to_string().contains("run a newer one"), "{error}");
    }
}
