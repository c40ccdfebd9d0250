//! A child writes as fast as it can, tells each number once it is durable, and is killed with SIGKILL at a random
//! moment: whatever it told is there.

use crate::support::*;
use quorate_raft_store::disk::{RealDisk, Seeded};
use quorate_raft_store::log::{OpenError, Wal, WalOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// Makes this test binary the child: the directory to write to.
const CHILD: &str = "QUORATE_STORE_CRASH_CHILD";
/// Below it a round proves too little.
const ACKNOWLEDGED_AT_LEAST: u64 = 100;
/// Enough that the writer always finds something to write.
const IN_FLIGHT: usize = 16;
/// Rolls every few hundred entries, so that kills meet rolls and purges too.
const OPTIONS: WalOptions =
    WalOptions { segment_bytes: 64 << 10, cache_bytes: 4096, drive: quorate_raft_store::log::Drive::Thread };

#[test]
fn what_a_killed_writer_acknowledged_is_there() {
    if let Some(directory) = std::env::var_os(CHILD) {
        return write_until_killed(&PathBuf::from(directory));
    }
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("log");
    let random = &mut Seeded::new(u64::from(std::process::id()));
    let mut acknowledged_in_all = 0;
    for round in 0..rounds("QUORATE_CRASH_ROUNDS", 20) {
        let (count, last) = one_round(&directory, ACKNOWLEDGED_AT_LEAST + random.below(400));
        assert!(count >= ACKNOWLEDGED_AT_LEAST, "round {round}: only {count} were acknowledged");
        acknowledged_in_all += count;
        let (wal, recovered) = Wal::open(Arc::new(RealDisk), &directory, IDENTITY, OPTIONS).unwrap();
        assert!(recovered.entries.end > last, "round {round}: {last} was acknowledged, {recovered:?} is there");
        for index in recovered.entries.clone() {
            assert_eq!(wal.read(index..index + 1, 1).unwrap(), [entry(index)], "round {round}");
        }
        wal.close().unwrap();
    }
    assert!(acknowledged_in_all > 0);
}

fn entry(index: u64) -> quorate_raft_store::Record {
    record(1, index, 50 + usize::try_from(index % 300).unwrap())
}

/// Lets a child write until it has told `numbers` numbers, then kills it. How many it told, and the largest.
fn one_round(directory: &Path, numbers: u64) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::what_a_killed_writer_acknowledged_is_there", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut count = 0;
    let mut last = 0;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        // The last line may be torn; every whole one counts, also those that were in the pipe at the kill.
        let line = line.unwrap();
        let Some(number) = line.strip_prefix("durable ").and_then(|text| text.strip_suffix('.')) else {
            assert!(count >= numbers || line.is_empty(), "the child says: {line}");
            continue;
        };
        count += 1;
        last = last.max(number.parse().unwrap());
        if count == numbers {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (count, last)
}

/// The child. It purges now and then, as a node does after a snapshot.
fn write_until_killed(directory: &Path) {
    let disk = Arc::new(RealDisk);
    let (wal, recovered) = match Wal::open(disk.clone(), directory, IDENTITY, OPTIONS) {
        Err(OpenError::Empty { .. }) => Wal::create(disk, directory, IDENTITY, OPTIONS).unwrap(),
        result => result.unwrap(),
    };
    let (permit, permits) = sync_channel(IN_FLIGHT);
    (0..IN_FLIGHT).for_each(|_| permit.send(()).unwrap());
    for index in recovered.entries.end.. {
        permits.recv().unwrap();
        let permit = permit.clone();
        let callback = move |result: Result<(), _>| {
            result.unwrap();
            // One call, so that a kill cannot take a number apart and leave a smaller one.
            std::io::stderr().write_all(format!("durable {index}.\n").as_bytes()).unwrap();
            permit.send(()).unwrap();
        };
        wal.append(vec![entry(index)], Box::new(callback)).unwrap();
        if index % 1000 == 999 {
            wal.purge(log_id(1, index - 500), Box::new(|result| result.unwrap())).unwrap();
        }
    }
}
