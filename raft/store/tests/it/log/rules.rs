//! The rules of writing, one by one.

use super::model::OPTIONS;
use crate::support::*;
use quorate_raft_store::LogId;
use quorate_raft_store::disk::{Disk, Fault, FaultKind, PowerLoss, SimulatedDisk};
use quorate_raft_store::log::{Drive, Wal, WalOptions};
use std::time::{Duration, Instant};

fn manual(disk: &SimulatedDisk) -> Wal {
    Wal::create(shared(disk), &directory(), IDENTITY, OPTIONS).unwrap().0
}

fn mark(disk: &SimulatedDisk) -> Vec<u8> {
    disk.content(directory().join("mark")).unwrap()
}

#[test]
fn wal_05_what_waits_becomes_one_write_and_one_sync() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = manual(&disk);
    let (operations, syncs, counted) = (disk.operations(), disk.syncs(), wal.syncs());
    let answers = Answers::default();
    for index in 0..20 {
        wal.append(records(1, index..index + 1, 10), answers.callback()).unwrap();
    }
    wal.save_vote(vote(3), answers.callback()).unwrap();
    wal.run_queued();
    assert_eq!(answers.count(), 21);
    // The frame, its sync, and the mark.
    assert_eq!((disk.operations() - operations, disk.syncs() - syncs), (3, 1));
    assert_eq!(wal.syncs() - counted, 1);
}

#[test]
fn what_nobody_waits_for_is_written_without_a_sync() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    wal.append(records(1, 0..3, 10), Answers::default().callback()).unwrap();
    let syncs = disk.syncs();
    wal.save_committed(log_id(1, 2)).unwrap();
    wal.truncate(log_id(1, 1)).unwrap();
    assert_eq!(disk.syncs(), syncs);
    let (_, recovered) = open(&disk.restart()).unwrap();
    assert_eq!((recovered.committed, recovered.last), (Some(log_id(1, 2)), Some(log_id(1, 0))));
}

#[test]
fn wal_06_the_mark_moves_only_after_the_sync_and_before_the_answer() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let before = mark(&disk);
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (seen_by_callback, disk_of_callback) = (std::sync::Arc::clone(&seen), disk.clone());
    let callback = Box::new(move |_: Result<(), _>| *seen_by_callback.lock() = mark(&disk_of_callback));
    wal.append(records(1, 0..1, 10), callback).unwrap();
    assert_ne!(*seen.lock(), before, "the mark had moved when the answer came");
    let synced = mark(&disk);
    disk.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    let answers = Answers::default();
    wal.append(records(1, 1..2, 10), answers.callback()).unwrap();
    assert!(answers.all_failed());
    assert_eq!(mark(&disk), synced, "the mark said more than the truth");
}

fn mark_after_power_loss(disk: &SimulatedDisk) -> Vec<u8> {
    mark(&disk.after_power_loss(PowerLoss::Lost, 0))
}

#[test]
fn wal_07_the_mark_is_synced_at_a_roll_and_at_a_clean_stop() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let made = mark_after_power_loss(&disk);
    wal.append(records(1, 0..1, 10), Answers::default().callback()).unwrap();
    assert_eq!(mark_after_power_loss(&disk), made, "not with every write");
    wal.append(records(1, 1..2, 4000), Answers::default().callback()).unwrap();
    wal.append(records(1, 2..3, 10), Answers::default().callback()).unwrap();
    let rolled = mark_after_power_loss(&disk);
    assert_ne!(rolled, made);
    wal.close().unwrap();
    assert_ne!(mark_after_power_loss(&disk), rolled);
    assert_eq!(mark_after_power_loss(&disk), mark(&disk));
}

#[test]
fn wal_07_a_second_after_the_last_write_everything_is_synced_the_mark_too() {
    let disk = SimulatedDisk::new(ROOT);
    let options = WalOptions { drive: Drive::Thread, ..inline() };
    let (wal, _) = Wal::create(shared(&disk), &directory(), IDENTITY, options).unwrap();
    wal.append(records(1, 0..1, 10), Answers::default().callback()).unwrap();
    wal.save_committed(log_id(1, 0)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let opened = open(&disk.after_power_loss(PowerLoss::Lost, 0)).unwrap().1;
        let is_settled = mark_after_power_loss(&disk) == mark(&disk);
        if opened.committed.is_some() && is_settled {
            break;
        }
        assert!(Instant::now() < deadline, "nothing was synced");
        std::thread::yield_now();
    }
    wal.close().unwrap();
}

#[test]
fn wal_12_a_torn_tail_is_cut_off_and_the_log_goes_on_behind_it() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    wal.append(records(1, 0..3, 50), Answers::default().callback()).unwrap();
    let segment = directory().join("s-1.wal");
    let synced = disk.content(&segment).unwrap();
    wal.append(records(1, 3..6, 50), Answers::default().callback()).unwrap();
    let whole = disk.content(&segment).unwrap();
    let old_mark = {
        let fresh = SimulatedDisk::new(ROOT);
        create(&fresh).append(records(1, 0..3, 50), Answers::default().callback()).unwrap();
        mark(&fresh)
    };
    for length in synced.len()..whole.len() {
        let torn = disk.copy_after_kill();
        torn.overwrite(directory().join("mark"), old_mark.clone()).unwrap();
        torn.overwrite(&segment, whole[..length].to_vec()).unwrap();
        let (wal, recovered) = open(&torn).unwrap();
        assert_eq!(recovered.entries, 0..3);
        assert_eq!(recovered.torn_bytes as usize, length - synced.len());
        assert_eq!(torn.content(&segment).unwrap(), synced);
        wal.append(records(2, 3..4, 20), Answers::default().callback()).unwrap();
        let (wal, recovered) = open(&torn.after_power_loss(PowerLoss::Lost, 0)).unwrap();
        assert_eq!(recovered.entries, 0..4);
        assert_eq!(content(&wal).1[3], record(2, 3, 20));
    }
}

#[test]
fn an_old_frame_that_reappears_behind_a_new_one_does_not_join_on() {
    let lives = |term| {
        let disk = SimulatedDisk::new(ROOT);
        let wal = create(&disk);
        let made = disk.content(directory().join("s-1.wal")).unwrap().len();
        let at_first = mark(&disk);
        wal.append(vec![record(term, 0, 50)], Answers::default().callback()).unwrap();
        wal.append(vec![record(term, 1, 50)], Answers::default().callback()).unwrap();
        (disk.restart(), at_first, made)
    };
    // The same lengths, the same sequence numbers, another first entry.
    let ((old, _, made), (new, at_first, _)) = (lives(1), lives(2));
    let segment = directory().join("s-1.wal");
    let frame = 48 + 32 + 50;
    let mut mixed = new.content(&segment).unwrap();
    let from = made + frame;
    mixed[from..from + frame].copy_from_slice(&old.content(&segment).unwrap()[from..from + frame]);
    new.overwrite(&segment, mixed).unwrap();
    new.overwrite(directory().join("mark"), at_first).unwrap();
    let (wal, recovered) = open(&new).unwrap();
    assert_eq!(recovered.entries, 0..1);
    assert_eq!(recovered.torn_bytes as usize, frame);
    assert_eq!(content(&wal).1, [record(2, 0, 50)]);
}

#[test]
fn wal_15_a_frame_beyond_the_mark_is_kept_and_is_durable_before_anyone_builds_on_it() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    disk.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    let answers = Answers::default();
    wal.append(records(1, 0..3, 50), answers.callback()).unwrap();
    assert!(answers.all_failed());
    let disk = disk.restart();
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries, 0..3);
    assert!(recovered.secured_bytes > 0);
    let (_, recovered) = open(&disk.after_power_loss(PowerLoss::Lost, 0)).unwrap();
    assert_eq!(recovered.entries, 0..3);
    assert_eq!(recovered.secured_bytes, 0);
}

fn segments(disk: &SimulatedDisk) -> Vec<String> {
    disk.list(&directory()).unwrap().into_iter().filter(|name| name.ends_with(".wal")).collect()
}

fn hundred_entries() -> (SimulatedDisk, Wal) {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    for index in 0..100 {
        wal.append(records(1, index..index + 1, 100), Answers::default().callback()).unwrap();
    }
    (disk, wal)
}

#[test]
fn wal_16_purged_segments_are_removed_and_a_removal_that_was_lost_is_repeated() {
    let (disk, wal) = hundred_entries();
    let all = segments(&disk);
    assert!(all.len() > 5);
    wal.purge(log_id(1, 50), Answers::default().callback()).unwrap();
    let left = segments(&disk);
    assert!(left.len() < all.len() && left.len() > 2, "{left:?}");
    assert_eq!(wal.range(), 51..100);
    assert_eq!(content(&wal).1, records(1, 51..100, 100));
    assert_eq!(segments(&disk.after_power_loss(PowerLoss::Lost, 0)), left, "the removal is synced");
    // The purge is durable, the removals are not.
    let (disk, wal) = hundred_entries();
    disk.plan(Fault { kind: FaultKind::SyncDir, after: 0 });
    wal.purge(log_id(1, 50), Answers::default().callback()).unwrap();
    for seed in 0..30 {
        let image = disk.after_power_loss(PowerLoss::RandomPages, seed);
        let (wal, recovered) = open(&image).unwrap();
        assert_eq!(recovered.entries, 51..100);
        assert_eq!(segments(&image), left);
        assert_eq!(content(&wal).1, records(1, 51..100, 100));
    }
}

#[test]
fn wal_14_a_purge_past_the_end_leaves_no_hole() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let past = LogId { term: 4, node: 2, index: 1000 };
    wal.append(records(1, 0..10, 100), Answers::default().callback()).unwrap();
    wal.purge(past, Answers::default().callback()).unwrap();
    let refused = wal.append(records(4, 10..11, 10), Answers::default().callback());
    assert!(refused.is_err());
    wal.append(records(4, 1001..1002, 10), Answers::default().callback()).unwrap();
    let (_, recovered) = open(&disk.restart()).unwrap();
    assert_eq!((recovered.purged, recovered.entries), (Some(past), 1001..1002));
}

#[test]
fn wal_18_a_log_is_made_anew_where_a_founding_was_interrupted() {
    for steps in 0..12 {
        for (seed, kind) in (0..).zip(PowerLoss::ALL) {
            let disk = SimulatedDisk::new(ROOT);
            disk.stop_after(steps);
            let first = Wal::create(shared(&disk), &directory(), IDENTITY, inline());
            let is_made = first.is_ok();
            let disk = disk.after_power_loss(kind, seed);
            if is_made {
                assert_eq!(open(&disk.copy_after_kill()).unwrap().1.entries, 0..0, "a made log is durable");
            }
            let (wal, recovered) = Wal::create(shared(&disk), &directory(), IDENTITY, inline()).unwrap();
            assert_eq!(recovered.last, None);
            wal.append(records(1, 0..1, 10), Answers::default().callback()).unwrap();
            assert_eq!(open(&disk.restart()).unwrap().1.entries, 0..1);
        }
    }
}
