//! Stored forms: the bytes that each version wrote are read for ever.
//!
//! Files in `tests/stored/` hold what a version wrote, in hexadecimal, and are never edited. A later version adds files of
//! its own and goes on reading these.

use crate::support::*;
use bytes::Bytes;
use quorate_raft_store::directory::{NodeDirectory, Stage};
use quorate_raft_store::disk::{Disk, OpenMode, SimulatedDisk};
use quorate_raft_store::log::{Wal, WalOptions};
use quorate_raft_store::snapshot::{SnapshotMeta, SnapshotStore};
use quorate_raft_store::{Vote, WalIdentity};
use std::path::Path;

/// Name of each file, and what version 1 wrote into it.
const LOG_V1: [(&str, &str); 3] = [
    ("log/mark", include_str!("../stored/log-mark-v1.hex")),
    ("log/s-1.wal", include_str!("../stored/log-s-1-v1.hex")),
    ("log/s-2.wal", include_str!("../stored/log-s-2-v1.hex")),
];
const SNAPSHOTS_V1: [(&str, &str); 2] = [
    ("snapshots/snap-4-1-9.snapshot", include_str!("../stored/snapshot-v1.hex")),
    ("snapshots/snap-empty.snapshot", include_str!("../stored/snapshot-empty-v1.hex")),
];
const STAGE: &str = "identity-stage";
const STAGE_EMPTY_V1: &str = include_str!("../stored/stage-empty-v1.hex");
const STAGE_FOUNDING_V1: &str = include_str!("../stored/stage-founding-v1.hex");
const STAGE_JOINING_V1: &str = include_str!("../stored/stage-joining-v1.hex");
const STAGE_RESTORING_V1: &str = include_str!("../stored/stage-restoring-v1.hex");
const STAGE_MEMBER_V1: &str = include_str!("../stored/stage-member-v1.hex");

/// Rolls after the first few records.
fn options() -> WalOptions {
    WalOptions { segment_bytes: 600, ..inline() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// A disk that holds nothing but these files.
fn disk_with(files: &[(&str, &str)]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(ROOT);
    for (name, content) in files {
        let path = Path::new(ROOT).join(name);
        // Made once; the second file of a directory finds it there.
        drop(disk.create_dir(path.parent().unwrap()));
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_at(0, &unhex(content)).unwrap();
    }
    disk
}

/// Checks that a disk holds these files with just these bytes.
fn assert_written(disk: &SimulatedDisk, files: &[(&str, &str)]) {
    for (name, content) in files {
        assert_eq!(hex(&disk.content(Path::new(ROOT).join(name)).unwrap()), hex(&unhex(content)), "{name}");
    }
}

/// A log in which every kind of record stands, over a roll.
fn write_log(disk: &SimulatedDisk) {
    let wal = Wal::create(shared(disk), &directory(), IDENTITY, options()).unwrap().0;
    let answers = Answers::default();
    wal.save_vote(Vote { term: 1, node: 3, committed: true }, answers.callback()).unwrap();
    wal.append(records(1, 0..3, 40), answers.callback()).unwrap();
    wal.save_committed(log_id(1, 1)).unwrap();
    wal.truncate(log_id(1, 2)).unwrap();
    wal.append(records(4, 2..4, 30), answers.callback()).unwrap();
    wal.save_vote(Vote { term: 5, node: 2, committed: false }, answers.callback()).unwrap();
    wal.purge(log_id(1, 0), answers.callback()).unwrap();
    wal.close().unwrap();
    assert!(answers.all_ok());
}

/// A snapshot in two chunks, and one of the state before the first entry.
fn write_snapshots(disk: &SimulatedDisk) {
    let store = SnapshotStore::open(shared(disk), &Path::new(ROOT).join("snapshots"), IDENTITY).unwrap();
    let meta = SnapshotMeta { last_log_id: None, id: "empty".to_owned(), membership: Bytes::new() };
    store.begin(&meta).unwrap().finish(None).unwrap();
    let mut writer = store.begin(&snapshot_meta()).unwrap();
    writer.write(b"one chunk").unwrap();
    writer.write(b"another").unwrap();
    writer.finish(None).unwrap();
}

fn snapshot_meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(log_id(4, 9)),
        id: "4-1-9-id".to_owned(),
        membership: Bytes::from_static(b"members"),
    }
}

fn open_directory(disk: &SimulatedDisk) -> NodeDirectory {
    NodeDirectory::open(shared(disk), Path::new(ROOT)).unwrap()
}

#[test]
fn version_1_of_the_log_is_read_and_still_written_so() {
    let (wal, recovered) = Wal::open(shared(&disk_with(&LOG_V1)), &directory(), IDENTITY, options()).unwrap();
    assert_eq!(recovered.vote, Some(Vote { term: 5, node: 2, committed: false }));
    assert_eq!((recovered.committed, recovered.purged), (Some(log_id(1, 1)), Some(log_id(1, 0))));
    assert_eq!((recovered.last, recovered.torn_bytes, recovered.secured_bytes), (Some(log_id(4, 3)), 0, 0));
    assert_eq!(content(&wal).1, [record(1, 1, 40), record(4, 2, 30), record(4, 3, 30)]);
    let disk = SimulatedDisk::new(ROOT);
    write_log(&disk);
    assert_written(&disk, &LOG_V1);
}

#[test]
fn version_1_of_snapshots_is_read_and_still_written_so() {
    let disk = disk_with(&SNAPSHOTS_V1);
    let store = SnapshotStore::open(shared(&disk), &Path::new(ROOT).join("snapshots"), IDENTITY).unwrap();
    let snapshot = store.latest().unwrap().unwrap();
    assert_eq!(snapshot.meta(), &snapshot_meta());
    let chunks: Vec<Bytes> = snapshot.read().map(|chunk| chunk.unwrap()).collect();
    assert_eq!(chunks, [&b"one chunk"[..], b"another"]);
    let disk = SimulatedDisk::new(ROOT);
    write_snapshots(&disk);
    assert_written(&disk, &SNAPSHOTS_V1);
}

#[test]
fn version_1_of_the_stage_is_read_and_still_written_so() {
    let founding = WalIdentity { cluster: [0xab; 16], member: 1 };
    let stages = [
        (STAGE_EMPTY_V1, Stage::Empty),
        (STAGE_FOUNDING_V1, Stage::Founding(founding)),
        (STAGE_JOINING_V1, Stage::Joining([0x2a; 16])),
        (STAGE_RESTORING_V1, Stage::Restoring(founding)),
        (STAGE_MEMBER_V1, Stage::Member(founding)),
    ];
    for (stored, stage) in stages {
        // One that was being restored is empty again when it is opened.
        let found = if stage == Stage::Restoring(founding) { Stage::Empty } else { stage };
        assert_eq!(open_directory(&disk_with(&[(STAGE, stored)])).stage(), found);
    }
    // A directory is founded, joins or is restored, never two of them.
    for begun in [Stage::Founding(founding), Stage::Joining([0x2a; 16]), Stage::Restoring(founding)] {
        let disk = SimulatedDisk::new(ROOT);
        let mut directory = open_directory(&disk);
        let passed = [Stage::Empty, begun, Stage::Member(founding)];
        for (stored, stage) in stages.into_iter().filter(|(_, stage)| passed.contains(stage)) {
            directory.advance(stage).unwrap();
            assert_written(&disk, &[(STAGE, stored)]);
        }
    }
}

/// Prints what goes into the files of a new version: `cargo test -p quorate-raft-store print_ -- --ignored --nocapture`.
#[test]
#[ignore = "prints the bytes that this version writes, for new files"]
fn print_what_this_version_writes() {
    let disk = SimulatedDisk::new(ROOT);
    write_log(&disk);
    write_snapshots(&disk);
    for (name, _) in LOG_V1.iter().chain(&SNAPSHOTS_V1) {
        println!("{name} {}", hex(&disk.content(Path::new(ROOT).join(name)).unwrap()));
    }
    let disk = SimulatedDisk::new(ROOT);
    let mut directory = open_directory(&disk);
    let founding = WalIdentity { cluster: [0xab; 16], member: 1 };
    for stage in [Stage::Empty, Stage::Founding(founding), Stage::Member(founding)] {
        directory.advance(stage).unwrap();
        println!("{stage:?} {}", hex(&disk.content(Path::new(ROOT).join(STAGE)).unwrap()));
    }
}
