//! A disk that refuses: the first error is for good, and what was acknowledged is there afterwards.

use super::model::Life;
use crate::support::*;
use quorate_raft_store::disk::{Fault, FaultKind, PowerLoss, Seeded, SimulatedDisk};
use quorate_raft_store::log::WalError;

#[test]
fn wal_09_after_the_first_error_every_call_fails_and_nothing_is_written_any_more() {
    for kind in [FaultKind::Write, FaultKind::SyncData] {
        let disk = SimulatedDisk::new(ROOT);
        let wal = create(&disk);
        let before = Answers::default();
        wal.append(records(1, 0..1, 10), before.callback()).unwrap();
        disk.plan(Fault { kind, after: 0 });
        let after = Answers::default();
        // Taken into the queue, answered with the error.
        wal.append(records(1, 1..2, 10), after.callback()).unwrap();
        let operations = disk.operations();
        assert!(matches!(wal.append(records(1, 2..3, 10), after.callback()), Err(WalError::Failed(_))));
        assert!(matches!(wal.save_vote(vote(9), after.callback()), Err(WalError::Failed(_))));
        assert!(matches!(wal.purge(log_id(1, 0), after.callback()), Err(WalError::Failed(_))));
        assert!(matches!(wal.save_committed(log_id(1, 0)), Err(WalError::Failed(_))));
        assert!(matches!(wal.truncate(log_id(1, 0)), Err(WalError::Failed(_))));
        assert!(matches!(wal.close(), Err(WalError::Failed(_))));
        assert!(before.all_ok() && after.all_failed());
        assert_eq!((before.count(), after.count()), (1, 4));
        assert_eq!(disk.operations(), operations, "{kind:?}: something was written after the error");
        let text = wal.failure().unwrap();
        let cause = std::error::Error::source(&text).unwrap().to_string();
        assert!(cause.contains("s-1.wal"), "{cause}");
    }
}

#[test]
fn wal_09_what_waits_in_the_queue_gets_the_error_too() {
    let mut life = Life::begin();
    let answers = Answers::default();
    life.disk.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    for index in 0..10 {
        life.wal.append(records(1, index..index + 1, 400_000), answers.callback()).unwrap();
    }
    life.wal.run_queued();
    assert_eq!(answers.count(), 10);
    assert!(answers.all_failed());
    assert!(!life.call(&mut Seeded::new(1)));
}

#[test]
fn wal_15_after_any_error_a_restart_keeps_what_was_acknowledged_and_makes_the_rest_durable() {
    for kind in [FaultKind::Write, FaultKind::SyncData, FaultKind::SyncDir] {
        for seed in 0..60 {
            let random = &mut Seeded::new(seed);
            let mut life = Life::begin();
            life.disk.plan(Fault { kind, after: random.below(30) });
            life.live(random, 60);
            life.wal.run_queued();
            let restarted = life.disk.restart();
            let life = match life.reopened(&restarted) {
                Ok(life) => life,
                Err(trouble) => panic!("{kind:?}, seed {seed}: {trouble:?}"),
            };
            // The page cache said that those frames were there; now they must be, or consensus would build on
            // what the next power cut takes.
            for loss in PowerLoss::ALL {
                if let Err(trouble) = life.reopened(&life.disk.after_power_loss(loss, seed)) {
                    panic!("{kind:?}, seed {seed}, {loss:?} after the restart: {trouble:?}");
                }
            }
        }
    }
}

#[test]
fn wal_17_a_full_disk_ends_the_log_and_opening_it_again_needs_no_space() {
    for seed in 0..60 {
        let random = &mut Seeded::new(seed);
        let mut life = Life::begin();
        life.disk.set_capacity(Some(4000 + random.below(20_000)));
        life.live(random, 500);
        life.wal.run_queued();
        assert!(life.wal.failure().is_some(), "seed {seed}: the disk was not full");
        let disk = life.disk.restart();
        if let Err(trouble) = life.reopened(&disk) {
            panic!("seed {seed}: {trouble:?}");
        }
    }
}

#[test]
fn a_failed_read_is_an_error_of_that_read_only() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    wal.append(records(1, 0..50, 100), Answers::default().callback()).unwrap();
    disk.plan(Fault { kind: FaultKind::Read, after: 0 });
    assert!(wal.read(0..5, usize::MAX).is_err());
    assert_eq!(wal.read(0..5, usize::MAX).unwrap(), records(1, 0..5, 100));
}

#[test]
fn an_entry_that_rots_while_the_log_is_open_is_noticed_when_it_is_read() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    wal.append(records(1, 0..10, 100), Answers::default().callback()).unwrap();
    let body = records(1, 2..3, 100)[0].body.clone();
    let content = disk.content(directory().join("s-1.wal")).unwrap();
    let place = content.windows(100).position(|window| window == body).unwrap() as u64;
    disk.flip_bit(directory().join("s-1.wal"), (place + 50) * 8).unwrap();
    let error = wal.read(2..3, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("entry 2") && error.to_string().contains("s-1.wal"), "{error}");
}
