//! What goes in comes back: in order, after a restart, from memory and from disk.

use crate::support::*;
use quorate_raft_store::disk::{RealDisk, SimulatedDisk};
use quorate_raft_store::log::{Drive, MAX_RECORD_BYTES, OpenError, Wal, WalError, WalOptions};
use quorate_raft_store::{Record, Vote, WalIdentity};
use std::sync::Arc;

#[test]
fn a_log_gives_back_everything_after_a_restart() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let answers = Answers::default();
    let led = Vote { term: 5, node: 3, committed: true };
    wal.save_vote(led, answers.callback()).unwrap();
    for index in 0..100 {
        wal.append(records(5, index..index + 1, 100), answers.callback()).unwrap();
    }
    wal.save_committed(log_id(5, 90)).unwrap();
    wal.truncate(log_id(5, 95)).unwrap();
    wal.append(records(6, 95..97, 3000), answers.callback()).unwrap();
    wal.purge(log_id(5, 40), answers.callback()).unwrap();
    assert_eq!(answers.count(), 103);
    assert!(answers.all_ok());
    let before = content(&wal);
    wal.close().unwrap();
    let (reopened, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.vote, Some(led));
    assert_eq!(recovered.committed, Some(log_id(5, 90)));
    assert_eq!(recovered.purged, Some(log_id(5, 40)));
    assert_eq!(recovered.last, Some(log_id(6, 96)));
    assert_eq!(recovered.entries, 41..97);
    assert_eq!((recovered.torn_bytes, recovered.secured_bytes), (0, 0));
    let expected = [records(5, 41..95, 100), records(6, 95..97, 3000)].concat();
    assert_eq!(content(&reopened).1, expected);
    assert_eq!(content(&reopened), before);
}

#[test]
fn a_thread_writes_on_a_real_disk_what_is_read_back_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("log");
    let disk = Arc::new(RealDisk);
    let options = WalOptions::default();
    let (wal, _) = Wal::create(disk.clone(), &directory, IDENTITY, options).unwrap();
    let answers = Answers::default();
    for index in 0..50 {
        wal.append(records(1, index..index + 1, 300), answers.callback()).unwrap();
        // Readable at once, durable or not.
        assert_eq!(wal.read(index..index + 1, 1).unwrap(), records(1, index..index + 1, 300));
    }
    wal.close().unwrap();
    assert_eq!(answers.count(), 50);
    assert!(answers.all_ok());
    let (wal, recovered) = Wal::open(disk, &directory, IDENTITY, options).unwrap();
    assert_eq!(recovered.entries, 0..50);
    assert_eq!(content(&wal).1, records(1, 0..50, 300));
}

#[test]
fn wal_01_the_log_is_locked_and_a_second_opener_is_told_who_has_it() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("log");
    let disk = Arc::new(RealDisk);
    let options = WalOptions::default();
    let (wal, _) = Wal::create(disk.clone(), &directory, IDENTITY, options).unwrap();
    let error = Wal::open(disk.clone(), &directory, IDENTITY, options).unwrap_err();
    let OpenError::Locked { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().contains(&format!("process {}", std::process::id())), "{source}");
    wal.close().unwrap();
    Wal::open(disk, &directory, IDENTITY, options).unwrap();
}

#[test]
fn wal_01_segments_are_consecutive_and_roll_at_their_size() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let answers = Answers::default();
    for index in 0..200 {
        wal.append(records(1, index..index + 1, 100), answers.callback()).unwrap();
    }
    wal.close().unwrap();
    let names = quorate_raft_store::disk::Disk::list(&disk, &directory()).unwrap();
    let segments = names.iter().filter(|name| name.ends_with(".wal")).count();
    assert!(segments > 10, "{names:?}");
    for number in 1..=segments {
        let length = disk.content(directory().join(format!("s-{number}.wal"))).unwrap().len();
        assert!(length as u64 <= SMALL_SEGMENT + 300, "segment {number} has {length} bytes");
    }
    assert!(names.contains(&"mark".to_owned()));
}

#[test]
fn a_cut_that_spans_segments_and_a_purge_past_the_end_are_replayed() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let answers = Answers::default();
    wal.append(records(1, 0..60, 100), answers.callback()).unwrap();
    wal.append(records(1, 60..61, 100), answers.callback()).unwrap();
    wal.truncate(log_id(1, 10)).unwrap();
    wal.append(records(2, 10..12, 100), answers.callback()).unwrap();
    wal.settle(answers.callback()).unwrap();
    let (wal, recovered) = open(&disk.restart()).unwrap();
    assert_eq!(recovered.entries, 0..12);
    wal.purge(log_id(3, 500), answers.callback()).unwrap();
    assert_eq!(wal.range(), 501..501);
    wal.append(records(3, 501..503, 100), answers.callback()).unwrap();
    wal.close().unwrap();
    let (wal, recovered) = open(&disk.restart()).unwrap();
    assert_eq!(recovered.purged, Some(log_id(3, 500)));
    assert_eq!(content(&wal).1, records(3, 501..503, 100));
    assert!(answers.all_ok());
}

#[test]
fn reading_is_bounded_by_bytes_gives_at_least_one_and_uses_bounded_memory() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let answers = Answers::default();
    wal.append(records(1, 0..100, 100), answers.callback()).unwrap();
    assert!(wal.cached_bytes() <= inline().cache_bytes);
    assert_eq!(wal.read(10..90, 1000).unwrap(), records(1, 10..20, 100));
    assert_eq!(wal.read(10..90, 0).unwrap(), records(1, 10..11, 100));
    assert_eq!(wal.read(95..200, usize::MAX).unwrap(), records(1, 95..100, 100));
    assert_eq!(wal.read(100..200, usize::MAX).unwrap(), []);
    assert_eq!(wal.read_cached(98..100, usize::MAX), Some(records(1, 98..100, 100)));
    assert_eq!(wal.read_cached(0..100, usize::MAX), None);
    assert_eq!(wal.bytes_after(Some(89)), 10 * 132);
    assert_eq!(wal.bytes_after(None), 100 * 132);
    assert_eq!(wal.bytes_after(Some(99)), 0);
}

#[test]
fn an_entry_that_does_not_follow_is_refused_and_nothing_is_taken() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let answers = Answers::default();
    let refused = wal.append(records(1, 1..2, 1), answers.callback());
    assert!(matches!(refused, Err(WalError::OutOfOrder { expected: 0, found: 1 })));
    let refused = wal.append(vec![record(1, 0, 5 << 20)], answers.callback());
    assert!(matches!(refused, Err(WalError::TooLarge { .. })));
    assert!(answers.all_failed());
    assert_eq!(answers.count(), 2);
    assert!(matches!(wal.truncate(log_id(1, 7)), Err(WalError::CannotTruncate { index: 7 })));
    wal.append(records(1, 0..1, 1), Answers::default().callback()).unwrap();
    assert_eq!(wal.range(), 0..1);
}

#[test]
fn wal_04_a_log_of_another_member_or_cluster_is_refused() {
    let disk = SimulatedDisk::new(ROOT);
    create(&disk).close().unwrap();
    let other = WalIdentity { member: 4, ..IDENTITY };
    let error = Wal::open(shared(&disk), &directory(), other, inline()).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { found: IDENTITY, .. }), "{error}");
    assert!(error.to_string().contains("belongs to member 3"), "{error}");
}

#[test]
fn wal_18_an_empty_directory_is_no_log() {
    let disk = SimulatedDisk::new(ROOT);
    assert!(matches!(open(&disk), Err(OpenError::Empty { .. })));
    quorate_raft_store::disk::Disk::create_dir(&disk, &directory()).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(error.to_string().contains("mount the right disk"), "{error}");
}

#[test]
fn a_closed_log_takes_nothing_more() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    wal.close().unwrap();
    let answers = Answers::default();
    assert!(matches!(wal.save_vote(vote(1), answers.callback()), Err(WalError::Closed)));
    assert!(matches!(wal.close(), Err(WalError::Closed)));
    assert_eq!(answers.count(), 1);
}

#[test]
fn wal_03_entries_of_the_largest_size_fit_and_segments_stay_within_their_bound() {
    let disk = SimulatedDisk::new(ROOT);
    let options = WalOptions { drive: Drive::Manual, ..WalOptions::default() };
    let (wal, _) = Wal::create(shared(&disk), &directory(), IDENTITY, options).unwrap();
    let answers = Answers::default();
    // All in the queue at once, small ones between large ones.
    for index in 0..12 {
        let size = if index % 2 == 0 { MAX_RECORD_BYTES } else { 100 };
        wal.append(vec![record(1, index, size)], answers.callback()).unwrap();
    }
    wal.run_queued();
    wal.append(vec![record(1, 12, MAX_RECORD_BYTES), record(1, 13, MAX_RECORD_BYTES)], answers.callback()).unwrap();
    wal.close().unwrap();
    assert!(answers.all_ok());
    assert_eq!(answers.count(), 13);
    for number in 1..=2 {
        let length = disk.content(directory().join(format!("s-{number}.wal"))).unwrap().len();
        assert!(length < 32 << 20, "segment {number} has {length} bytes");
    }
    let (wal, recovered) = Wal::open(shared(&disk), &directory(), IDENTITY, options).unwrap();
    assert_eq!(recovered.entries, 0..14);
    assert_eq!(wal.read(10..14, usize::MAX).unwrap()[3], record(1, 13, MAX_RECORD_BYTES));
}

#[test]
fn a_queue_that_nobody_drains_has_a_bound() {
    let disk = SimulatedDisk::new(ROOT);
    let options = WalOptions { drive: Drive::Manual, ..inline() };
    let (wal, _) = Wal::create(shared(&disk), &directory(), IDENTITY, options).unwrap();
    let body = record(1, 0, MAX_RECORD_BYTES).body;
    let mut taken = 0;
    let refused = loop {
        let entry = Record { body: body.clone(), ..record(1, taken, 0) };
        match wal.append(vec![entry], Answers::default().callback()) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the queue has no bound");
    };
    assert!(matches!(refused, WalError::QueueFull { .. }), "{refused}");
    wal.run_queued();
    let answers = Answers::default();
    wal.append(records(1, taken..taken + 1, 10), answers.callback()).unwrap();
    wal.run_queued();
    assert!(answers.all_ok(), "a full queue is no failure of the disk");
}
