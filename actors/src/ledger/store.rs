//! The ledger on disk: blocks of records in one sled tree, in the order of their ends.
//!
//! ```text
//!   latest not after (8, big-endian), number (8)
//!       -> record, record, ...: serial (16), not after (8), ID length (2), key length (1), SPIFFE ID, issuing key
//! ```
//!
//! A block holds what was issued within a second or so. It was four trees with an insertion into each for every record:
//! that took a third of the processor time of a signed request. Now an issued SVID costs the copying of its record, and
//! a search reads the blocks through: some hundred megabytes for a million SVIDs, for a question that people ask.

use std::{
    io,
    path::{Path, PathBuf},
};

use quorate_proto_identity::{AuthorityId, SerialNumber, SpiffeId, UnixSeconds};
use quorate_raft_consensus::WorkLost;
use sled::{Batch, Db, Tree};

use super::Issued;
use crate::metrics;

/// Memory that sled may use to cache what it read. The ledger is written far more than it is read.
const CACHE_BYTES: u64 = 16 << 20;

/// How many blocks one round of pruning removes, so that it does not hold the writer up for long.
const PRUNE_LIMIT: usize = 1_000;

/// The tree's name.
const TREE: &str = "blocks";

/// Bytes of a record before its texts.
const HEAD_BYTES: usize = 16 + 8 + 2 + 1;

/// Appended to the name of a ledger that was set aside. Only the last one is kept.
const SET_ASIDE: &str = "damaged";

/// Why the ledger could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The store failed.
    #[error("the ledger's store failed")]
    Sled(#[from] sled::Error),
    /// The damaged ledger could not be moved out of the way.
    #[error("the damaged ledger at {} could not be set aside", path.display())]
    SetAside { path: PathBuf, source: io::Error },
    /// The work was lost on its way to another thread.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// An open ledger.
pub(crate) struct Store {
    database: Db,
    blocks: Tree,
}

impl Store {
    /// Opens the ledger; sets a damaged one aside and begins anew. Blocks.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let error = match Self::try_open(directory) {
            Ok(store) => return Ok(store),
            Err(error) if is_passing(&error) => return Err(error.into()),
            Err(error) => error,
        };
        let aside = directory.with_extension(SET_ASIDE);
        tracing::error!(
            error = &error as &dyn std::error::Error, kept_at = %aside.display(),
            "the ledger of issued SVIDs is damaged; it is set aside and begun anew"
        );
        metrics::ledger_set_aside();
        let failed = |source| StoreError::SetAside { path: directory.to_owned(), source };
        match std::fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        std::fs::rename(directory, &aside).map_err(failed)?;
        Ok(Self::try_open(directory)?)
    }

    fn try_open(directory: &Path) -> Result<Self, sled::Error> {
        let configuration = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            // Flushes are ours to time, and never on a thread that serves others.
            .flush_every_ms(None);
        let database = configuration.open()?;
        Ok(Self { blocks: database.open_tree(TREE)?, database })
    }

    /// Writes records as one block; they are safe after the next [`flush`](Self::flush).
    pub(crate) fn write(&self, records: &[Issued]) -> Result<(), StoreError> {
        let Some(end) = records.iter().map(|issued| issued.not_after).max() else { return Ok(()) };
        let mut block = Vec::with_capacity(records.iter().map(size).sum());
        for issued in records {
            append(issued, &mut block);
        }
        let key = [ordered(end), self.database.generate_id()?.to_be_bytes()].concat();
        self.blocks.insert(key, block)?;
        Ok(())
    }

    /// The record of a serial number. Reads the blocks through.
    pub(crate) fn by_serial(&self, serial: SerialNumber) -> Result<Option<Issued>, StoreError> {
        for block in self.blocks.iter().values() {
            if let Some(found) = Records(&block?).find(|record| record.serial == *serial.as_bytes()) {
                return Ok(found.parse());
            }
        }
        Ok(None)
    }

    /// Removes blocks whose records all ended before `now`, a limited number. Says how many records that were.
    pub(crate) fn prune(&self, now: UnixSeconds) -> Result<usize, StoreError> {
        let mut batch = Batch::default();
        let mut pruned = 0_usize;
        for block in self.blocks.range(..ordered(now)).take(PRUNE_LIMIT) {
            let (key, block) = block?;
            pruned = pruned.saturating_add(Records(&block).count());
            batch.remove(key);
        }
        self.blocks.apply_batch(batch)?;
        Ok(pruned)
    }

    /// Writes out what was changed. Blocks.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.database.flush()?;
        Ok(())
    }

    /// How many records there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.blocks.iter().values().map(|block| Records(&block.unwrap()).count()).sum()
    }
}

/// Whether a failure is one of the moment, such as a lock that another process holds or a full disk, and no damage.
fn is_passing(error: &sled::Error) -> bool {
    match error {
        // sled reports a held lock as an error of kind `Other`, and a short read as one of its own kind.
        sled::Error::Io(error) => error.kind() != io::ErrorKind::UnexpectedEof,
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => false,
    }
}

/// The bytes of a block, record by record.
struct Records<'a>(&'a [u8]);

/// One record within a block.
struct Record<'a> {
    serial: [u8; 16],
    not_after: [u8; 8],
    spiffe_id: &'a [u8],
    issuing_key: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    /// Ends at the block's end, and where it cannot be read.
    fn next(&mut self) -> Option<Record<'a>> {
        let (serial, rest) = self.0.split_first_chunk()?;
        let (not_after, rest) = rest.split_first_chunk()?;
        let (id_length, rest) = rest.split_first_chunk()?;
        let (key_length, rest) = rest.split_first()?;
        let (spiffe_id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*id_length)))?;
        let (issuing_key, rest) = rest.split_at_checked(usize::from(*key_length))?;
        self.0 = rest;
        Some(Record { serial: *serial, not_after: *not_after, spiffe_id, issuing_key })
    }
}

impl Record<'_> {
    fn parse(&self) -> Option<Issued> {
        Some(Issued {
            serial: SerialNumber::new(self.serial).ok()?,
            spiffe_id: SpiffeId::parse(std::str::from_utf8(self.spiffe_id).ok()?).ok()?,
            not_after: from_ordered(self.not_after),
            issuing_key: AuthorityId::new(std::str::from_utf8(self.issuing_key).ok()?).ok()?,
        })
    }
}

fn size(issued: &Issued) -> usize {
    HEAD_BYTES.saturating_add(issued.spiffe_id.as_str().len()).saturating_add(issued.issuing_key.as_str().len())
}

fn append(issued: &Issued, block: &mut Vec<u8>) {
    let id = issued.spiffe_id.as_str().as_bytes();
    let key = issued.issuing_key.as_str().as_bytes();
    // A SPIFFE ID has at most 2048 bytes, a key's ID far less than 255; what has more is none of ours, and not noted.
    let (Ok(id_length), Ok(key_length)) = (u16::try_from(id.len()), u8::try_from(key.len())) else { return };
    block.extend_from_slice(issued.serial.as_bytes());
    block.extend_from_slice(&ordered(issued.not_after));
    block.extend_from_slice(&id_length.to_be_bytes());
    block.push(key_length);
    block.extend_from_slice(id);
    block.extend_from_slice(key);
}

/// A time whose bytes sort as the time does, before 1970 too.
fn ordered(time: UnixSeconds) -> [u8; 8] {
    (time.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn from_ordered(bytes: [u8; 8]) -> UnixSeconds {
    UnixSeconds((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(number: u8, not_after: i64) -> Issued {
        Issued {
            serial: SerialNumber::from_random([number; 16]),
            spiffe_id: SpiffeId::parse("spiffe://example.org/a/b").unwrap(),
            not_after: UnixSeconds(not_after),
            issuing_key: AuthorityId::new("0a0b0c").unwrap(),
        }
    }

    #[test]
    fn a_record_is_found_again_after_the_ledger_was_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let store = Store::open(&path).unwrap();
        store.write(&[issued(1, 100), issued(2, 200)]).unwrap();
        store.flush().unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.by_serial(issued(2, 0).serial).unwrap(), Some(issued(2, 200)));
        assert_eq!(store.by_serial(issued(3, 0).serial).unwrap(), None);
        assert_eq!(store.count(), 2);
    }

    #[test]
    fn a_block_goes_when_the_last_of_its_records_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("ledger")).unwrap();
        store.write(&[]).unwrap();
        for block in [vec![issued(1, -5)], vec![issued(2, 99), issued(3, 100)], vec![issued(4, 101)]] {
            store.write(&block).unwrap();
        }
        assert_eq!(store.prune(UnixSeconds(100)).unwrap(), 1);
        assert_eq!(store.count(), 3);
        assert!(store.by_serial(issued(3, 0).serial).unwrap().is_some());
        assert_eq!(store.prune(UnixSeconds(101)).unwrap(), 2);
        assert_eq!(store.prune(UnixSeconds(i64::MAX)).unwrap(), 1);
        assert_eq!(store.count(), 0);
    }

    #[test]
    fn a_block_that_is_cut_short_gives_what_can_be_read() {
        let mut block = Vec::new();
        append(&issued(1, 100), &mut block);
        append(&issued(2, 200), &mut block);
        for length in 0..=block.len() {
            let whole = Records(&block[..length]).map(|record| record.parse().unwrap()).collect::<Vec<_>>();
            assert!([issued(1, 100), issued(2, 200)].starts_with(&whole), "{length}");
        }
        assert_eq!(block.len(), size(&issued(1, 100)) * 2);
    }

    #[test]
    fn a_damaged_ledger_is_set_aside_and_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("conf"), vec![0xff; 64]).unwrap();
        let store = Store::open(&path).unwrap();
        store.write(&[issued(1, 100)]).unwrap();
        assert!(path.with_extension("damaged").join("conf").exists());
    }

    #[test]
    fn a_ledger_in_use_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let _first = Store::open(&path).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Sled(_))));
        assert!(!path.with_extension("damaged").exists());
    }

    #[test]
    fn times_sort_as_their_bytes_do() {
        let times = [i64::MIN, -1, 0, 1, 1_800_000_000, i64::MAX];
        for pair in times.windows(2) {
            assert!(ordered(UnixSeconds(pair[0])) < ordered(UnixSeconds(pair[1])));
        }
        for time in times {
            assert_eq!(from_ordered(ordered(UnixSeconds(time))), UnixSeconds(time));
        }
    }
}
