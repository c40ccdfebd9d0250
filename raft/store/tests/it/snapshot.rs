//! Snapshots: whole or not there, checked when read, and never passed over in silence.

use crate::support::*;
use bytes::Bytes;
use quorate_raft_store::disk::{Disk, Fault, FaultKind, PowerLoss, Seeded, SimulatedDisk};
use quorate_raft_store::snapshot::{MAX_CHUNK_BYTES, Snapshot, SnapshotError, SnapshotMeta, SnapshotStore};
use quorate_raft_store::{LogId, WalIdentity};
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(ROOT).join("snapshots")
}

fn open(disk: &SimulatedDisk) -> SnapshotStore {
    SnapshotStore::open(shared(disk), &directory(), IDENTITY).unwrap()
}

fn meta(index: u64) -> SnapshotMeta {
    let membership = Bytes::from_static(b"members");
    SnapshotMeta { last_log_id: Some(log_id(2, index)), id: format!("snapshot {index}"), membership }
}

/// Content that tells which snapshot it belongs to.
fn chunks(index: u64) -> Vec<Vec<u8>> {
    (0..5).map(|number| format!("{index}/{number};").repeat(300).into_bytes()).collect()
}

fn write(store: &SnapshotStore, index: u64) -> Result<Snapshot, SnapshotError> {
    let mut writer = store.begin(&meta(index))?;
    for chunk in chunks(index) {
        writer.write(&chunk)?;
    }
    writer.finish(None)
}

fn read(snapshot: &Snapshot) -> Vec<u8> {
    snapshot.read().flat_map(|chunk| chunk.unwrap()).collect()
}

fn names(disk: &SimulatedDisk) -> Vec<String> {
    disk.list(&directory()).unwrap()
}

#[test]
fn a_snapshot_is_read_back_chunk_by_chunk_with_what_it_is_of() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    assert!(store.latest().unwrap().is_none());
    let written = write(&store, 70).unwrap();
    let snapshot = store.latest().unwrap().unwrap();
    assert_eq!(snapshot.meta(), &meta(70));
    assert_eq!(read(&snapshot), chunks(70).concat());
    assert_eq!(snapshot.read().count(), 5);
    assert_eq!(snapshot.bytes(), chunks(70).concat().len() as u64);
    assert_eq!(snapshot.digest(), written.digest());
    assert_eq!(names(&disk), ["snap-2-1-70.snapshot"]);
}

#[test]
fn a_large_snapshot_is_synced_in_parts_so_that_the_log_never_waits_behind_the_whole() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    let before = disk.syncs();
    let mut writer = store.begin(&meta(1)).unwrap();
    for _ in 0..10 {
        writer.write(&vec![9; MAX_CHUNK_BYTES]).unwrap();
    }
    assert_eq!(disk.syncs() - before, 2, "one for each 4 MiB");
    writer.finish(None).unwrap();
    assert_eq!(disk.syncs() - before, 3);
}

#[test]
fn content_of_any_size_is_cut_into_bounded_chunks_and_has_one_digest() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    let content = vec![9; 2 * MAX_CHUNK_BYTES + 10];
    let mut writer = store.begin(&meta(1)).unwrap();
    writer.write(&content).unwrap();
    let whole = writer.finish(None).unwrap();
    assert!(whole.read().all(|chunk| chunk.unwrap().len() <= MAX_CHUNK_BYTES));
    let mut writer = store.begin(&meta(2)).unwrap();
    content.chunks(100_000).for_each(|chunk| writer.write(chunk).unwrap());
    writer.write(&[]).unwrap();
    assert_eq!(writer.finish(Some(whole.digest())).unwrap().digest(), whole.digest());
    let empty = store.begin(&meta(3)).unwrap().finish(None).unwrap();
    assert_eq!(empty.read().count(), 0);
    empty.verify().unwrap();
}

#[test]
fn a_received_snapshot_that_is_not_what_was_announced_leaves_nothing() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    let mut writer = store.begin(&meta(5)).unwrap();
    writer.write(b"something else").unwrap();
    assert!(matches!(writer.finish(Some([1; 32])), Err(SnapshotError::WrongDigest)));
    assert_eq!(names(&disk), Vec::<String>::new());
    drop(store.begin(&meta(6)).unwrap());
    assert_eq!(names(&disk), Vec::<String>::new());
}

#[test]
fn a_crash_at_any_step_of_writing_leaves_the_old_snapshot_or_the_new_whole() {
    let mut is_finished = false;
    for steps in 0..40 {
        for (seed, kind) in (0..).zip(PowerLoss::ALL) {
            let disk = SimulatedDisk::new(ROOT);
            let store = open(&disk);
            write(&store, 10).unwrap();
            disk.stop_after(steps);
            let result = write(&store, 20).and_then(|snapshot| store.prune(&snapshot));
            is_finished = result.is_ok();
            let disk = disk.after_power_loss(kind, steps * 10 + seed);
            let store = open(&disk);
            assert!(names(&disk).iter().all(|name| name.ends_with(".snapshot")), "{:?}", names(&disk));
            let latest = store.latest().unwrap().unwrap();
            let index = latest.meta().last_log_id.unwrap().index;
            assert_eq!(read(&latest), chunks(index).concat(), "step {steps}, {kind:?}");
            if is_finished {
                assert_eq!(index, 20, "what was finished is durable");
            }
        }
        if is_finished {
            return;
        }
    }
    assert!(is_finished, "the writing never came to its end");
}

#[test]
fn pruning_keeps_the_newest_and_readers_of_a_pruned_one_go_on() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    let old = write(&store, 10).unwrap();
    write(&store, 20).unwrap();
    let newest = write(&store, 30).unwrap();
    assert_eq!(store.prune(&newest).unwrap(), 2);
    assert_eq!(names(&disk), ["snap-2-1-30.snapshot"]);
    assert_eq!(read(&old), chunks(10).concat());
}

/// ATK-14, ATK-28.
#[test]
fn a_flipped_bit_anywhere_in_a_snapshot_is_noticed() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    let path = write(&store, 10).unwrap().path().to_path_buf();
    let bits = disk.content(&path).unwrap().len() as u64 * 8;
    let random = &mut Seeded::new(4);
    let head = 0..800;
    let tail = bits - 600..bits;
    let middle = (0..1000).map(|_| random.below(bits));
    for bit in head.chain(tail).chain(middle) {
        let copy = disk.copy_after_kill();
        copy.flip_bit(&path, bit).unwrap();
        let error = open(&copy).latest().expect_err("a flip");
        assert!(error.to_string().contains("snap-2-1-10.snapshot"), "bit {bit}: {error}");
    }
}

/// ATK-14, ATK-28.
#[test]
fn a_snapshot_cut_anywhere_is_noticed() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    let path = write(&store, 10).unwrap().path().to_path_buf();
    let content = disk.content(&path).unwrap();
    for length in (0..content.len()).step_by(13) {
        let copy = disk.copy_after_kill();
        copy.overwrite(&path, content[..length].to_vec()).unwrap();
        assert!(matches!(open(&copy).latest(), Err(SnapshotError::Damaged { .. })), "cut to {length}");
    }
}

/// ATK-14: never a state that the log does not continue.
#[test]
fn a_damaged_snapshot_is_passed_over_only_while_the_log_holds_everything_after_an_older_one() {
    let disk = SimulatedDisk::new(ROOT);
    let store = open(&disk);
    write(&store, 10).unwrap();
    let newest = write(&store, 20).unwrap();
    let chosen = |purged: Option<LogId>| store.choose(purged).map(|found| found.map(|s| s.meta().clone()));
    assert_eq!(chosen(Some(log_id(2, 20))).unwrap(), Some(meta(20)));
    disk.flip_bit(newest.path(), 3000).unwrap();
    assert!(matches!(store.latest(), Err(SnapshotError::Damaged { .. })));
    assert_eq!(chosen(Some(log_id(2, 10))).unwrap(), Some(meta(10)));
    let error = chosen(Some(log_id(2, 11))).unwrap_err();
    assert!(error.to_string().contains("join it again"), "{error}");
    assert!(error.to_string().contains("restore the data directory from a copy"), "a lone node: {error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("snap-2-1-20.snapshot"), "{cause}");
    disk.flip_bit(directory().join("snap-2-1-10.snapshot"), 3000).unwrap();
    assert_eq!(chosen(None).unwrap(), None, "the log holds everything from its first entry");
    assert!(matches!(chosen(Some(log_id(2, 1))), Err(SnapshotError::NoneCovers { .. })));
}

#[test]
fn a_snapshot_of_another_member_is_refused() {
    let disk = SimulatedDisk::new(ROOT);
    write(&open(&disk), 10).unwrap();
    let other = WalIdentity { member: 9, ..IDENTITY };
    let store = SnapshotStore::open(shared(&disk), &directory(), other).unwrap();
    assert!(matches!(store.choose(None), Err(SnapshotError::Foreign { .. })));
}

/// ATK-28.
#[test]
fn metadata_without_bound_is_refused() {
    let disk = SimulatedDisk::new(ROOT);
    let membership = Bytes::from(vec![0; 2 << 20]);
    let too_large = SnapshotMeta { membership, ..meta(1) };
    assert!(matches!(open(&disk).begin(&too_large), Err(SnapshotError::MetaTooLarge { .. })));
}

#[test]
fn a_full_or_failing_disk_is_an_error_and_leaves_the_old_snapshot() {
    for fault in [None, Some(FaultKind::Write), Some(FaultKind::SyncData), Some(FaultKind::SyncDir)] {
        let disk = SimulatedDisk::new(ROOT);
        let store = open(&disk);
        write(&store, 10).unwrap();
        match fault {
            Some(kind) => disk.plan(Fault { kind, after: 0 }),
            None => disk.set_capacity(Some(12_000)),
        }
        let error = write(&store, 20).unwrap_err();
        assert!(matches!(error, SnapshotError::Io(_)), "{error}");
        let disk = disk.after_power_loss(PowerLoss::Lost, 1);
        assert_eq!(open(&disk).latest().unwrap().unwrap().meta(), &meta(10));
    }
}
