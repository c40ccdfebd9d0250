//! What a crash leaves of a trail at any instant, and that going on from it loses and doubles nothing.

use quorate_raft_store::disk::{Fault, FaultKind, PowerLoss, SimulatedDisk};

use super::{
    super::verify::{Flaw, Note, Verdict},
    *,
};

const ROOT: &str = "/disk";
const DIRECTORY: &str = "/disk/audit";

fn disk() -> (SimulatedDisk, Arc<dyn Disk>) {
    let disk = SimulatedDisk::new(ROOT);
    let shared = Arc::new(disk.clone());
    (disk, shared)
}

/// Records acts 1 to 12 and syncs after every third; stops where the disk does. Gives the last synced head.
fn record(disk: &Arc<dyn Disk>) -> Result<Head, (Head, ChainError)> {
    let mut synced = Head::default();
    let mut chain = open(disk, Path::new(DIRECTORY), LIMITS).map_err(|error| (synced, error))?;
    for index in 1..=12 {
        append(&mut chain, [act(index)]).map_err(|error| (synced, error))?;
        if index % 3 == 0 {
            synced = chain.sync().map_err(|error| (synced, error))?;
        }
        synced = if chain.synced().records > synced.records { chain.synced() } else { synced };
    }
    Ok(synced)
}

/// A restart applies the log again: every act is offered once more, and is there once.
fn goes_on(disk: &Arc<dyn Disk>, synced: Head, about: &str) {
    let directory = Path::new(DIRECTORY);
    let mut chain = open(disk, directory, LIMITS).unwrap_or_else(|error| panic!("{about}: {error:?}"));
    append(&mut chain, (1..=12).map(act)).unwrap();
    chain.sync().unwrap();
    let indexes: Vec<u64> = acts_in(disk, directory).iter().map(|position| position.index).collect();
    assert_eq!(indexes, (1..=12).collect::<Vec<_>>(), "{about}");
    let told = judged(disk, directory, &[synced, chain.head()]);
    assert_eq!(told.verdict, Verdict::Intact, "{about}: {told:?}");
    assert_eq!(told.head, chain.head(), "{about}");
}

#[test]
fn a_process_killed_at_any_instant_leaves_a_trail_that_goes_on_without_loss_or_double() {
    for operations in 1.. {
        let (simulated, shared) = disk();
        simulated.stop_after(operations);
        let synced = match record(&shared) {
            Ok(_) => break,
            Err((synced, _)) => synced,
        };
        let after: Arc<dyn Disk> = Arc::new(simulated.copy_after_kill());
        goes_on(&after, synced, &format!("killed after {operations} operations"));
    }
}

#[test]
fn a_line_torn_at_any_byte_is_set_aside_and_said_so() {
    let one_file = Limits { file_bytes: 1 << 20, ..LIMITS };
    let (simulated, shared) = disk();
    let (_, heads) = trail(&shared, Path::new(DIRECTORY), one_file, 12);
    let path = format!("{DIRECTORY}/{:020}.jsonl", 1);
    let content = simulated.content(&path).unwrap();
    let last = content[..content.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for length in last + 1..content.len() {
        let torn = simulated.copy_after_kill();
        torn.overwrite(&path, content[..length].to_vec()).unwrap();
        let after: Arc<dyn Disk> = Arc::new(torn.clone());
        goes_on(&after, heads[11], &format!("torn at byte {length}"));
        let told = judged(&after, Path::new(DIRECTORY), &[]);
        let file = format!("{:020}.jsonl", 1);
        assert_eq!(told.notes, [Note::SetAside { file, bytes: (length - last) as u64 }]);
        assert_eq!(torn.content(&path).unwrap(), content[..length], "what is there stays as it is");
    }
}

#[test]
fn what_was_synced_survives_a_power_loss_at_any_instant() {
    for kind in PowerLoss::ALL {
        for operations in 1.. {
            let (simulated, shared) = disk();
            simulated.stop_after(operations);
            let synced = match record(&shared) {
                Ok(_) => break,
                Err((synced, _)) => synced,
            };
            let after: Arc<dyn Disk> = Arc::new(simulated.after_power_loss(kind, operations));
            let mut chain = open(&after, Path::new(DIRECTORY), LIMITS).unwrap();
            append(&mut chain, (1..=12).map(act)).unwrap();
            let told = judged(&after, Path::new(DIRECTORY), &[synced]);
            let about = format!("{kind:?} after {operations} operations");
            // Pages may come back in any order: what is behind a hole counts for nothing, and is told. No anchor is missed.
            assert!(told.findings.iter().all(|finding| matches!(finding.flaw, Flaw::Line(_))), "{about}: {told:?}");
            assert!(synced.records == 0 || told.met.len() == 1, "{about}: {told:?}");
            let indexes: Vec<u64> =
                acts_in(&after, Path::new(DIRECTORY)).iter().map(|position| position.index).collect();
            assert!(indexes.ends_with(&[12]), "{about}: {indexes:?}");
        }
    }
}

#[test]
fn a_full_disk_takes_nothing_by_halves_and_everything_later() {
    let (simulated, shared) = disk();
    let mut chain = open(&shared, Path::new(DIRECTORY), LIMITS).unwrap();
    append(&mut chain, [act(1)]).unwrap();
    simulated.set_capacity(Some(simulated.content(format!("{DIRECTORY}/{:020}.jsonl", 1)).unwrap().len() as u64 + 100));
    let before = chain.head();
    let mut records = vec![act(2), act(3)];
    let error = chain.append(&mut records, NOW).unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    assert_eq!((chain.head(), judged(&shared, Path::new(DIRECTORY), &[before]).verdict), (before, Verdict::Intact));
    simulated.set_capacity(None);
    assert_eq!(chain.append(&mut records, NOW).unwrap().records, 2);
    assert_eq!(judged(&shared, Path::new(DIRECTORY), &[chain.head()]).verdict, Verdict::Intact);
    assert_eq!(acts_in(&shared, Path::new(DIRECTORY)).len(), 3);
}

#[test]
fn a_write_that_failed_halfway_is_written_over() {
    let (simulated, shared) = disk();
    let mut chain = open(&shared, Path::new(DIRECTORY), LIMITS).unwrap();
    simulated.plan(Fault { kind: FaultKind::Write, after: 0 });
    let mut records = vec![act(1), act(2)];
    chain.append(&mut records, NOW).unwrap_err();
    append(&mut chain, [act(1)]).unwrap();
    assert_eq!(judged(&shared, Path::new(DIRECTORY), &[chain.head()]).verdict, Verdict::Intact);
}

#[test]
fn a_failed_sync_is_not_tried_again() {
    let (simulated, shared) = disk();
    let mut chain = open(&shared, Path::new(DIRECTORY), LIMITS).unwrap();
    append(&mut chain, [act(1)]).unwrap();
    simulated.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    let error = chain.sync().unwrap_err();
    assert!(!error.is_passing(), "{error:?}");
}

#[test]
fn what_is_looked_at_before_consensus_starts_is_what_opening_finds() {
    let (_, shared) = disk();
    assert_eq!(super::super::chain::peek(shared.as_ref(), Path::new(DIRECTORY)), Position::default());
    let (chain, _) = trail(&shared, Path::new(DIRECTORY), LIMITS, 12);
    assert_eq!(super::super::chain::peek(shared.as_ref(), Path::new(DIRECTORY)), chain.covered());
    assert_eq!(chain.covered().index, 12);
}

#[test]
fn records_that_were_anchored_and_are_gone_keep_their_numbers() {
    let (_, shared) = disk();
    let (mut chain, _) = trail(&shared, Path::new(DIRECTORY), LIMITS, 2);
    let mut lost = Record::new(NOW, Kind::Trail, super::super::record::RECORDS_LOST).with("from", 4).with("to", 9);
    lost.record = 10;
    append(&mut chain, [lost, act(3)]).unwrap();
    assert_eq!(chain.head().records, 11);
    let told = judged(&shared, Path::new(DIRECTORY), &[chain.head()]);
    assert_eq!((told.verdict, told.findings[0].flaw.clone()), (Verdict::CutOff, Flaw::Lost { from: 4, to: 9 }));
}
