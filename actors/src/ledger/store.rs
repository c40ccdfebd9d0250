//! The ledger on disk: four sled trees, of which three are indexes over the first.
//!
//! ```text
//!   serial    serial (16)                           -> not after (8), ID length (2), SPIFFE ID, issuing key
//!   id        SPIFFE ID, 0, serial                  -> nothing
//!   key       issuing key, 0, serial                -> nothing
//!   end       not after (8, big-endian), serial     -> nothing
//! ```
//!
//! Neither an ID nor a key ID holds a zero byte, so no prefix is another's. A crash can leave an index behind the first
//! tree by what was not flushed; readers go through the first tree, so that they see nothing twice or halfway.

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

/// How many records one round of pruning removes, so that it does not hold the writer up for long.
const PRUNE_LIMIT: usize = 50_000;

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
    by_serial: Tree,
    by_id: Tree,
    by_key: Tree,
    by_end: Tree,
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
        Ok(Self {
            by_serial: database.open_tree("serial")?,
            by_id: database.open_tree("id")?,
            by_key: database.open_tree("key")?,
            by_end: database.open_tree("end")?,
            database,
        })
    }

    /// Writes records; they are safe after the next [`flush`](Self::flush).
    pub(crate) fn write(&self, records: &[Issued]) -> Result<(), StoreError> {
        let (mut serials, mut ids, mut keys, mut ends) =
            (Batch::default(), Batch::default(), Batch::default(), Batch::default());
        for issued in records {
            serials.insert(issued.serial.as_bytes(), value(issued));
            ids.insert(index_key(issued.spiffe_id.as_str(), issued.serial), &[]);
            keys.insert(index_key(issued.issuing_key.as_str(), issued.serial), &[]);
            ends.insert(end_key(issued.not_after, issued.serial), &[]);
        }
        // The end index first: what is found by it can be removed, even if a crash leaves out the rest.
        self.by_end.apply_batch(ends)?;
        self.by_serial.apply_batch(serials)?;
        self.by_id.apply_batch(ids)?;
        self.by_key.apply_batch(keys)?;
        Ok(())
    }

    /// The record of a serial number.
    pub(crate) fn by_serial(&self, serial: SerialNumber) -> Result<Option<Issued>, StoreError> {
        Ok(self.by_serial.get(serial.as_bytes())?.and_then(|value| parse(serial, &value)))
    }

    /// Removes records of what had ended before `now`, a limited number. Says how many.
    pub(crate) fn prune(&self, now: UnixSeconds) -> Result<usize, StoreError> {
        let ended = ..ordered(now);
        let mut pruned = 0_usize;
        let (mut serials, mut ids, mut keys, mut ends) =
            (Batch::default(), Batch::default(), Batch::default(), Batch::default());
        for key in self.by_end.range(ended).keys().take(PRUNE_LIMIT) {
            let key = key?;
            if let Some(serial) = serial_at_end(&key)
                && let Some(issued) = self.by_serial(serial)?
            {
                serials.remove(serial.as_bytes());
                ids.remove(index_key(issued.spiffe_id.as_str(), serial));
                keys.remove(index_key(issued.issuing_key.as_str(), serial));
            }
            ends.remove(key);
            pruned = pruned.saturating_add(1);
        }
        self.by_id.apply_batch(ids)?;
        self.by_key.apply_batch(keys)?;
        self.by_serial.apply_batch(serials)?;
        self.by_end.apply_batch(ends)?;
        Ok(pruned)
    }

    /// Writes out what was changed. Blocks.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.database.flush()?;
        Ok(())
    }

    /// How many records each tree has.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> [usize; 4] {
        [self.by_serial.len(), self.by_id.len(), self.by_key.len(), self.by_end.len()]
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

fn value(issued: &Issued) -> Vec<u8> {
    let id = issued.spiffe_id.as_str().as_bytes();
    let key = issued.issuing_key.as_str().as_bytes();
    // A SPIFFE ID has at most 2048 bytes.
    let length = u16::try_from(id.len()).unwrap_or(u16::MAX);
    [&ordered(issued.not_after), length.to_be_bytes().as_slice(), id, key].concat()
}

fn parse(serial: SerialNumber, value: &[u8]) -> Option<Issued> {
    let (not_after, rest) = value.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (id, key) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some(Issued {
        serial,
        spiffe_id: SpiffeId::parse(std::str::from_utf8(id).ok()?).ok()?,
        not_after: from_ordered(*not_after),
        issuing_key: AuthorityId::new(std::str::from_utf8(key).ok()?).ok()?,
    })
}

fn index_key(text: &str, serial: SerialNumber) -> Vec<u8> {
    [text.as_bytes(), &[0], serial.as_bytes()].concat()
}

fn end_key(not_after: UnixSeconds, serial: SerialNumber) -> Vec<u8> {
    [ordered(not_after).as_slice(), serial.as_bytes()].concat()
}

fn serial_at_end(key: &[u8]) -> Option<SerialNumber> {
    key.last_chunk::<16>().and_then(|bytes| SerialNumber::new(*bytes).ok())
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
        assert_eq!(store.counts(), [2; 4]);
    }

    #[test]
    fn what_has_ended_is_removed_everywhere_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("ledger")).unwrap();
        store.write(&[issued(1, -5), issued(2, 99), issued(3, 100), issued(4, 101)]).unwrap();
        assert_eq!(store.prune(UnixSeconds(100)).unwrap(), 2);
        assert_eq!(store.counts(), [2; 4]);
        assert!(store.by_serial(issued(3, 0).serial).unwrap().is_some());
        assert_eq!(store.prune(UnixSeconds(i64::MAX)).unwrap(), 2);
        assert_eq!(store.counts(), [0; 4]);
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
