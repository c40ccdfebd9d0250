//! The ledger on disk: blocks of rows in one sled tree, in the order of their ends.
//!
//! ```text
//!   latest not after (8, big-endian), number (8)  ->  row, row, ...
//! ```
//!
//! A block holds what was issued within a second or so. It was four trees with an insertion into each for every row:
//! that took a third of the processor time of a signed request. Now an issued SVID costs the copying of its row, and
//! a search reads the blocks through: some hundred megabytes for a million SVIDs, for a question that people ask.

use std::{
    io,
    path::{Path, PathBuf},
};

use quorate_proto_identity::UnixSeconds;
use quorate_raft_consensus::WorkLost;
use sled::{Batch, Db, IVec, Tree};

use super::{
    block::{Rows, append, ordered, size},
    query::{LedgerPage, LedgerPosition, LedgerQuery},
    record::{LedgerGap, LedgerRow},
};
use crate::metrics;

/// Memory that sled may use to cache what it read. The ledger is written far more than it is read.
const CACHE_BYTES: u64 = 16 << 20;

/// How many blocks one round of pruning removes, so that it does not hold the writer up for long.
const PRUNE_LIMIT: usize = 1_000;

/// How many blocks one page of an answer reads at most: some fifty megabytes, a tenth of a second for which the writer waits.
const SEARCH_LIMIT: usize = 256;

/// How many bytes of rows are kept: some ten million. What ends first goes first, and leaves a gap.
pub(crate) const BYTES_LIMIT: u64 = 2 << 30;

/// The tree of blocks.
const TREE: &str = "rows";

/// The key, in the database's own tree, of how many bytes all blocks have. A crash may leave it off by a second's worth.
const BYTES_KEY: &str = "bytes";

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

    /// Writes rows as one block; they are safe after the next [`flush`](Self::flush).
    pub(crate) fn write(&self, rows: &[LedgerRow]) -> Result<(), StoreError> {
        let Some(end) = rows.iter().map(LedgerRow::not_after).max() else { return Ok(()) };
        let mut block = Vec::with_capacity(rows.iter().map(size).sum());
        for row in rows {
            append(row, &mut block);
        }
        let bytes = self.bytes()?.saturating_add(length(&block));
        let key = [ordered(end), self.database.generate_id()?.to_be_bytes()].concat();
        self.blocks.insert(key, block)?;
        self.set_bytes(bytes)
    }

    /// A page of what a query finds. Reads at most [`SEARCH_LIMIT`] blocks.
    pub(crate) fn search(&self, query: &LedgerQuery) -> Result<LedgerPage, StoreError> {
        let first = query.ends_from.map_or(0, |from| u128::from_be_bytes(joined(ordered(from))));
        let begin = query.page.map_or(first, |page| page.block.max(first));
        let mut rows = Vec::new();
        for (read, block) in self.blocks.range(begin.to_be_bytes()..).enumerate() {
            let (key, block) = block?;
            let block_key = number(&key);
            if read >= SEARCH_LIMIT {
                return Ok(LedgerPage { rows, next: Some(LedgerPosition { block: block_key, row: 0 }) });
            }
            let passed = query.page.filter(|page| page.block == block_key).map_or(0, |page| page.row);
            for (place, row) in (0_u32..).zip(Rows(&block)).skip_while(|(place, _)| *place < passed) {
                if !query.matches(&row) {
                    continue;
                }
                if rows.len() >= query.page_size() {
                    return Ok(LedgerPage { rows, next: Some(LedgerPosition { block: block_key, row: place }) });
                }
                rows.push(row);
            }
        }
        Ok(LedgerPage { rows, next: None })
    }

    /// Removes blocks whose rows all ended before `now`, a limited number; and, past `bytes_limit`, those that end first,
    /// in whose place it leaves a gap. Says how many rows that were.
    pub(crate) fn prune(&self, now: UnixSeconds, bytes_limit: u64) -> Result<usize, StoreError> {
        let (mut batch, mut pruned) = (Batch::default(), 0_usize);
        let (mut bytes, mut gap): (u64, Option<LedgerGap>) = (self.bytes()?, None);
        for block in self.blocks.iter().take(PRUNE_LIMIT) {
            let (key, block) = block?;
            let ended = *key < ordered(now)[..];
            if !ended && bytes <= bytes_limit {
                break;
            }
            let unended = Rows(&block).filter(|row| !ended && row.not_after() >= now);
            gap = unended.map(gap_of).chain(gap).reduce(LedgerGap::joined);
            pruned = pruned.saturating_add(Rows(&block).count());
            bytes = bytes.saturating_sub(length(&block));
            batch.remove(key);
        }
        self.blocks.apply_batch(batch)?;
        self.set_bytes(bytes)?;
        if let Some(gap) = gap {
            tracing::warn!(rows = gap.count, "the ledger of issued SVIDs is full, and has let go of what ends first");
            self.write(&[LedgerRow::Gap(gap)])?;
        }
        Ok(pruned)
    }

    /// How many bytes the blocks have.
    fn bytes(&self) -> Result<u64, StoreError> {
        let stored = self.database.get(BYTES_KEY)?;
        let stored = stored.as_deref().and_then(|bytes| bytes.first_chunk().copied());
        Ok(stored.map_or(0, u64::from_be_bytes))
    }

    fn set_bytes(&self, bytes: u64) -> Result<(), StoreError> {
        self.database.insert(BYTES_KEY, &bytes.to_be_bytes())?;
        Ok(())
    }

    /// Writes out what was changed. Blocks.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.database.flush()?;
        Ok(())
    }

    /// How many rows there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.blocks.iter().values().map(|block| Rows(&block.unwrap()).count()).sum()
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

fn gap_of(row: LedgerRow) -> LedgerGap {
    match row {
        LedgerRow::Issued(issued) => LedgerGap::of(&issued),
        LedgerRow::Gap(gap) => gap,
    }
}

fn length(block: &[u8]) -> u64 {
    u64::try_from(block.len()).unwrap_or(u64::MAX)
}

/// The key of the first block that can end at this time.
fn joined(end: [u8; 8]) -> [u8; 16] {
    let mut key = [0; 16];
    key.split_at_mut(8).0.copy_from_slice(&end);
    key
}

fn number(key: &IVec) -> u128 {
    key.first_chunk().map_or(0, |key| u128::from_be_bytes(*key))
}

#[cfg(test)]
mod tests {
    use super::{super::block::tests::issued, *};

    fn open(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().join("ledger")).unwrap()
    }

    /// All pages of an answer, and how many there were.
    fn search(store: &Store, query: &LedgerQuery) -> (Vec<LedgerRow>, usize) {
        let (mut query, mut rows) = (query.clone(), Vec::new());
        for pages in 1.. {
            let page = store.search(&query).unwrap();
            rows.extend(page.rows);
            query.page = page.next;
            if query.page.is_none() {
                return (rows, pages);
            }
        }
        unreachable!()
    }

    fn all(store: &Store) -> Vec<LedgerRow> {
        search(store, &LedgerQuery::default()).0
    }

    #[test]
    fn rows_are_found_again_after_the_ledger_was_closed() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        store.write(&[issued(1, 100), issued(2, 200)]).unwrap();
        store.flush().unwrap();
        drop(store);
        let store = open(&directory);
        let LedgerRow::Issued(second) = issued(2, 200) else { unreachable!() };
        for query in [
            LedgerQuery { id: Some(second.id), ..LedgerQuery::default() },
            LedgerQuery { spiffe_id: Some(second.spiffe_id.clone()), ..LedgerQuery::default() },
            LedgerQuery { entry: second.entry.clone(), ..LedgerQuery::default() },
            LedgerQuery { ends_from: Some(UnixSeconds(101)), ..LedgerQuery::default() },
        ] {
            assert_eq!(search(&store, &query).0, [issued(2, 200)], "{query:?}");
        }
        let by_key = LedgerQuery { issuing_key: Some(second.issuing_key), ..LedgerQuery::default() };
        assert_eq!(search(&store, &by_key).0.len(), 2);
        let ended = LedgerQuery { ends_to: Some(UnixSeconds(100)), ..LedgerQuery::default() };
        assert_eq!(search(&store, &ended).0, [issued(1, 100)]);
    }

    #[test]
    fn an_answer_comes_in_pages_that_go_on_where_the_one_before_ended() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        let rows: Vec<LedgerRow> = (1..=200).map(|number| issued(number, i64::from(number))).collect();
        for block in rows.chunks(7) {
            store.write(block).unwrap();
        }
        for limit in [1, 3, 7, 199, 200] {
            let (found, pages) = search(&store, &LedgerQuery { limit, ..LedgerQuery::default() });
            assert_eq!((found, pages), (rows.clone(), 200_usize.div_ceil(limit)), "{limit}");
        }
        // What comes and goes between two pages moves none of the others.
        let first = store.search(&LedgerQuery { limit: 10, ..LedgerQuery::default() }).unwrap();
        store.prune(UnixSeconds(8), u64::MAX).unwrap();
        store.write(&[issued(201, 500)]).unwrap();
        let rest = search(&store, &LedgerQuery { page: first.next, ..LedgerQuery::default() }).0;
        assert_eq!((&rest[..190], &rest[190..]), (&rows[10..], &[issued(201, 500)][..]));
    }

    #[test]
    fn one_page_reads_only_so_many_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        for _ in 0..SEARCH_LIMIT {
            store.write(&[issued(1, 100)]).unwrap();
        }
        store.write(&[issued(2, 200)]).unwrap();
        let LedgerRow::Issued(wanted) = issued(2, 200) else { unreachable!() };
        let query = LedgerQuery { id: Some(wanted.id), ..LedgerQuery::default() };
        assert_eq!(store.search(&query).unwrap().rows, []);
        assert_eq!(search(&store, &query), (vec![issued(2, 200)], 2));
    }

    #[test]
    fn a_block_goes_when_the_last_of_its_rows_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        store.write(&[]).unwrap();
        for block in [vec![issued(1, -5)], vec![issued(2, 99), issued(3, 100)], vec![issued(4, 101)]] {
            store.write(&block).unwrap();
        }
        assert_eq!(store.prune(UnixSeconds(100), u64::MAX).unwrap(), 1);
        assert_eq!(all(&store), [issued(2, 99), issued(3, 100), issued(4, 101)]);
        assert_eq!(store.prune(UnixSeconds(101), u64::MAX).unwrap(), 2);
        assert_eq!(store.prune(UnixSeconds(i64::MAX), u64::MAX).unwrap(), 1);
        assert_eq!((store.count(), store.bytes().unwrap()), (0, 0));
    }

    #[test]
    fn a_full_ledger_lets_go_of_what_ends_first_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        for number in 11..=20 {
            store.write(&[issued(number, 100 + i64::from(number))]).unwrap();
        }
        let limit = store.bytes().unwrap() / 2;
        assert_eq!(store.prune(UnixSeconds(50), limit).unwrap(), 5);
        let rows = all(&store);
        let gap = LedgerGap { count: 5, from: UnixSeconds(101), to: UnixSeconds(105), not_after: UnixSeconds(115) };
        assert_eq!(rows[0], LedgerRow::Gap(gap));
        assert_eq!(rows[1..], (16..=20).map(|number| issued(number, 100 + i64::from(number))).collect::<Vec<_>>());
        // Whatever is looked for may be what is missing.
        let query = LedgerQuery { entry: Some("other".parse().unwrap()), ..LedgerQuery::default() };
        assert_eq!(search(&store, &query).0, [LedgerRow::Gap(gap)]);
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
}
