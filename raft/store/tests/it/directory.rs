//! The data directory: who may use it, and what its stage allows.

use crate::support::*;
use quorate_raft_store::WalIdentity;
use quorate_raft_store::directory::{DirectoryError, FIRST_PEERS_BYTES_MAX, NodeDirectory, Stage};
use quorate_raft_store::disk::{Disk, PowerLoss, RealDisk, SimulatedDisk};
use quorate_raft_store::free_space::FreeSpace;
use quorate_raft_store::log::{OpenError, Wal};
use std::error::Error;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn path() -> PathBuf {
    Path::new(ROOT).join("node")
}

fn open(disk: &SimulatedDisk) -> Result<NodeDirectory, DirectoryError> {
    NodeDirectory::open(shared(disk), &path())
}

fn open_real(path: &Path) -> Result<NodeDirectory, DirectoryError> {
    NodeDirectory::open(Arc::new(RealDisk), path)
}

#[test]
fn wal_18_a_new_directory_is_empty_then_founding_then_a_member_for_good() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    assert_eq!((directory.stage(), directory.identity()), (Stage::Empty, None));
    assert!(matches!(directory.advance(Stage::Member(IDENTITY)), Err(DirectoryError::WrongStage { .. })));
    directory.advance(Stage::Founding(IDENTITY)).unwrap();
    let other = WalIdentity { member: 9, ..IDENTITY };
    let refused = directory.advance(Stage::Member(other)).unwrap_err();
    assert!(refused.to_string().contains("cannot become member 9"), "{refused}");
    directory.advance(Stage::Member(IDENTITY)).unwrap();
    for stage in [Stage::Empty, Stage::Founding(IDENTITY), Stage::Member(other)] {
        assert!(directory.advance(stage).is_err());
    }
    drop(directory);
    assert_eq!(open(&disk.after_power_loss(PowerLoss::Lost, 0)).unwrap().stage(), Stage::Member(IDENTITY));
}

#[test]
fn wal_18_a_directory_that_joins_keeps_its_number_and_becomes_whichever_member_it_is_told() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    directory.advance(Stage::Joining([1; 16])).unwrap();
    assert_eq!(directory.identity(), None);
    for stage in [Stage::Empty, Stage::Founding(IDENTITY), Stage::Joining([2; 16])] {
        assert!(directory.advance(stage).is_err(), "{stage}");
    }
    drop(directory);
    let mut directory = open(&disk.after_power_loss(PowerLoss::Lost, 0)).unwrap();
    assert_eq!(directory.stage(), Stage::Joining([1; 16]));
    directory.advance(Stage::Member(IDENTITY)).unwrap();
    assert!(directory.advance(Stage::Joining([1; 16])).is_err());
    assert_eq!(directory.identity(), Some(IDENTITY));
}

#[test]
fn what_a_newcomer_was_told_of_its_peers_survives_a_crash_and_is_checked() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    assert_eq!(directory.first_peers().unwrap(), None);
    directory.save_first_peers(b"these").unwrap();
    directory.save_first_peers(b"those").unwrap();
    assert!(directory.save_first_peers(&vec![0; FIRST_PEERS_BYTES_MAX + 1]).is_err());
    drop(directory);
    let after = disk.after_power_loss(PowerLoss::Lost, 0);
    let directory = open(&after).unwrap();
    assert_eq!(directory.first_peers().unwrap().as_deref(), Some(b"those".as_slice()));
    after.flip_bit(path().join("first-peers"), 70).unwrap();
    let refused = directory.first_peers().unwrap_err();
    assert!(matches!(refused, DirectoryError::FirstPeersDamaged { .. }), "{refused}");
}

#[test]
fn wal_18_a_member_whose_log_is_gone_is_refused() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    directory.advance(Stage::Founding(IDENTITY)).unwrap();
    directory.advance(Stage::Member(IDENTITY)).unwrap();
    let refused = Wal::open(directory.disk(), &directory.log_directory(), IDENTITY, inline());
    assert!(matches!(refused, Err(OpenError::Empty { .. })));
}

#[test]
fn wal_18_a_log_without_a_stage_file_is_refused() {
    let disk = SimulatedDisk::new(ROOT);
    let directory = open(&disk).unwrap();
    Wal::create(directory.disk(), &directory.log_directory(), IDENTITY, inline()).unwrap().0.close().unwrap();
    drop(directory);
    disk.remove(path().join("identity-stage")).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(matches!(&error, DirectoryError::StageMissing { .. }), "{error}");
    assert!(error.to_string().contains("identity-stage is missing"), "{error}");
}

#[test]
fn a_crash_at_any_step_of_a_change_leaves_one_stage_or_the_next() {
    for steps in 0..12 {
        for (seed, kind) in (0..).zip(PowerLoss::ALL) {
            let disk = SimulatedDisk::new(ROOT);
            let mut directory = open(&disk).unwrap();
            directory.advance(Stage::Founding(IDENTITY)).unwrap();
            disk.stop_after(steps);
            let is_done = directory.advance(Stage::Member(IDENTITY)).is_ok();
            let stage = open(&disk.after_power_loss(kind, seed)).unwrap().stage();
            let legal = stage == Stage::Member(IDENTITY) || (!is_done && stage == Stage::Founding(IDENTITY));
            assert!(legal, "step {steps}, {kind:?}: {stage}");
        }
    }
}

#[test]
fn a_restore_that_was_cut_short_leaves_an_empty_directory() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    directory.advance(Stage::Restoring(IDENTITY)).unwrap();
    for stage in [Stage::Empty, Stage::Founding(IDENTITY), Stage::Joining([1; 16])] {
        assert!(directory.advance(stage).is_err(), "{stage}");
    }
    let wal = Wal::create(directory.disk(), &directory.log_directory(), IDENTITY, inline()).unwrap().0;
    wal.close().unwrap();
    drop((wal, directory));
    // Crashes while it is tidied up change nothing about that.
    for steps in 0..24 {
        let disk = disk.after_power_loss(PowerLoss::Lost, steps);
        disk.stop_after(steps);
        drop(open(&disk));
        let disk = disk.after_power_loss(PowerLoss::Cut, steps);
        let directory = open(&disk).unwrap();
        assert_eq!((directory.stage(), directory.identity()), (Stage::Empty, None), "step {steps}");
        assert!(disk.list(&directory.log_directory()).unwrap_or_default().is_empty(), "step {steps}");
    }
}

#[test]
fn a_restore_ends_as_the_member_that_it_began_as() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    directory.advance(Stage::Restoring(IDENTITY)).unwrap();
    assert!(directory.advance(Stage::Member(WalIdentity { member: 9, ..IDENTITY })).is_err());
    directory.advance(Stage::Member(IDENTITY)).unwrap();
    assert!(directory.advance(Stage::Restoring(IDENTITY)).is_err());
    drop(directory);
    assert_eq!(open(&disk.after_power_loss(PowerLoss::Lost, 0)).unwrap().stage(), Stage::Member(IDENTITY));
}

#[test]
fn a_crash_at_any_step_of_the_first_start_can_be_started_over() {
    for steps in 0..12 {
        for (seed, kind) in (0..).zip(PowerLoss::ALL) {
            let disk = SimulatedDisk::new(ROOT);
            disk.stop_after(steps);
            drop(open(&disk));
            assert_eq!(open(&disk.after_power_loss(kind, seed)).unwrap().stage(), Stage::Empty);
        }
    }
}

#[test]
fn every_flipped_bit_of_the_stage_file_is_noticed() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    directory.advance(Stage::Founding(IDENTITY)).unwrap();
    drop(directory);
    let file = path().join("identity-stage");
    let content = disk.content(&file).unwrap();
    for bit in 0..content.len() as u64 * 8 {
        let copy = disk.copy_after_kill();
        copy.flip_bit(&file, bit).unwrap();
        assert!(matches!(open(&copy), Err(DirectoryError::StageDamaged { .. })), "bit {bit}");
    }
    for damage in [vec![], content[..10].to_vec(), vec![0; 5000]] {
        disk.overwrite(&file, damage).unwrap();
        let error = open(&disk).unwrap_err();
        assert!(error.to_string().contains("identity-stage is damaged"), "{error}");
        assert!(error.to_string().contains("never start on an empty one"), "a lone node: {error}");
    }
}

#[test]
fn a_second_node_on_the_same_directory_is_refused_and_told_who_has_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("node");
    let first = open_real(&path).unwrap();
    let error = open_real(&path).unwrap_err();
    assert!(error.to_string().contains("is in use: stop the other node"), "{error}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains(&format!("process {}", std::process::id())), "{cause}");
    drop(first);
    open_real(&path).unwrap();
}

#[test]
fn a_directory_that_others_can_enter_or_read_is_refused_and_nothing_in_it_is_changed() {
    let home = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o755, 0o750, 0o710, 0o701, 0o704, 0o720, 0o702, 0o1777] {
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = open_real(home.path()).unwrap_err();
        assert!(error.to_string().contains("can be entered or read by others"), "{error}");
        assert!(error.to_string().contains("chmod 0700"), "{error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    open_real(home.path()).unwrap();
}

#[test]
fn files_and_links_in_place_of_a_directory_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    for path in [file, link] {
        assert!(matches!(open_real(&path), Err(DirectoryError::NotADirectory { .. })), "{}", path.display());
    }
    let error = open_real(&home.path().join("no/parent")).unwrap_err();
    assert!(matches!(error, DirectoryError::Io(_)), "{error}");
}

#[test]
fn what_a_node_makes_is_for_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("node");
    let directory = open_real(&path).unwrap();
    let (wal, _) = Wal::create(directory.disk(), &directory.log_directory(), IDENTITY, inline()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&directory.log_directory()), 0o700);
    for file in ["LOCK", "mark", "s-1.wal"] {
        assert_eq!(mode(&directory.log_directory().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&path.join("identity-stage")), 0o600);
    wal.close().unwrap();
}

#[test]
fn a_full_disk_is_an_error_and_the_reserve_is_seen_to_be_gone() {
    let disk = SimulatedDisk::new(ROOT);
    let directory = open(&disk).unwrap();
    let free = |reserve| FreeSpace::measure(&disk, directory.path(), reserve).unwrap();
    assert!(free(1 << 20).is_enough());
    disk.set_capacity(Some(1000));
    assert!(!free(1 << 20).is_enough());
    assert!(free(100).is_enough());
    disk.set_capacity(Some(5));
    let full = SimulatedDisk::new(ROOT);
    full.set_capacity(Some(5));
    let error = open(&full).unwrap_err();
    assert!(matches!(&error, DirectoryError::Io(_)), "{error}");
    assert!(full.list(&path()).unwrap().iter().all(|name| name != "identity-stage"));
    let real = FreeSpace::measure(&RealDisk, &std::env::temp_dir(), 1).unwrap();
    assert!(real.is_enough() && real.available_bytes > 1);
}

#[test]
fn a_read_only_disk_is_an_error_that_names_the_file_and_nothing_is_changed() {
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open(&disk).unwrap();
    directory.advance(Stage::Founding(IDENTITY)).unwrap();
    Wal::create(directory.disk(), &directory.log_directory(), IDENTITY, inline()).unwrap().0.close().unwrap();
    drop(directory);
    disk.set_read_only(true);
    let error = open(&disk).unwrap_err();
    assert_eq!(error.to_string(), "cannot create /data/node/LOCK");
    assert!(error.source().unwrap().to_string().contains("read-only"), "{error:?}");
    let error = Wal::open(shared(&disk), &path().join("log"), IDENTITY, inline()).unwrap_err();
    let cause = error.source().unwrap();
    assert_eq!(cause.to_string(), "cannot create /data/node/log/LOCK");
    disk.set_read_only(false);
    assert_eq!(open(&disk).unwrap().stage(), Stage::Founding(IDENTITY));
}
