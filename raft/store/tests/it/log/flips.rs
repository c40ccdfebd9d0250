//! Damage: it is refused, by name and place, and nothing on disk is changed; or it harmed nothing.

use super::model::{Life, OPTIONS, State};
use crate::support::*;
use quorate_raft_store::disk::{Disk, Seeded, SimulatedDisk};
use quorate_raft_store::log::{OpenError, Wal};

/// A log of several segments that was stopped cleanly, and what it held.
fn settled(seed: u64) -> (SimulatedDisk, State) {
    let mut life = Life::begin();
    let random = &mut Seeded::new(seed);
    life.live(random, 80);
    life.wal.run_queued();
    life.wal.close().unwrap();
    (life.disk.restart(), life.history.last().unwrap().clone())
}

fn files(disk: &SimulatedDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(&directory()).unwrap();
    names.into_iter().map(|name| (name.clone(), disk.content(directory().join(name)).unwrap())).collect()
}

fn try_open(disk: &SimulatedDisk) -> Result<State, OpenError> {
    let (wal, recovered) = Wal::open(shared(disk), &directory(), IDENTITY, OPTIONS)?;
    Ok(State::of(&wal, &recovered))
}

#[test]
fn wal_11_a_flipped_bit_is_refused_with_file_and_remedy_or_harms_nothing() {
    let flips = rounds("QUORATE_BIT_FLIPS", 2000);
    let random = &mut Seeded::new(2);
    let logs: Vec<_> = (0..10).map(settled).collect();
    let mut refused = 0;
    for flip in 0..flips {
        let (disk, state) = &logs[usize::try_from(flip % 10).unwrap()];
        let before = files(disk);
        let disk = disk.copy_after_kill();
        // Each file as often as another, and the end of the last segment more often still.
        let last = before.len() - 1;
        let place = if random.one_in(3) { last } else { usize::try_from(random.below(before.len() as u64)).unwrap() };
        let (name, content) = &before[place];
        let length = content.len() as u64;
        let byte = if random.one_in(3) { length - 1 - random.below(length.min(300)) } else { random.below(length) };
        let bit = byte * 8 + random.below(8);
        disk.flip_bit(directory().join(name), bit).unwrap();
        let damaged = files(&disk);
        match try_open(&disk) {
            Ok(found) => {
                assert_eq!(name, "mark", "flip {flip}: bit {bit} of {name} passed in silence");
                assert_eq!(found, *state, "flip {flip} in the mark");
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.contains(name.as_str()), "flip {flip} in {name}: {text}");
                let has_remedy = text.contains("join it again") && text.contains("never start on an empty one");
                assert!(has_remedy || matches!(error, OpenError::Version { .. }), "{text}");
                assert_eq!(files(&disk), damaged, "flip {flip}: a refusal changed the disk");
            }
        }
    }
    assert!(refused * 2 > flips, "{refused} of {flips}");
}

#[test]
fn wal_13_a_missing_emptied_or_shortened_segment_is_refused() {
    let mut refused = 0;
    for seed in 0..10 {
        let (disk, state) = settled(seed);
        let names = disk.list(&directory()).unwrap();
        let numbers = names.iter().filter_map(|name| name.strip_prefix("s-")?.strip_suffix(".wal")?.parse().ok());
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        for number in numbers {
            let name = format!("s-{number}.wal");
            let path = directory().join(&name);
            let copy = disk.copy_after_kill();
            copy.remove(&path).unwrap();
            match try_open(&copy) {
                Err(error) => {
                    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
                    refused += 1;
                }
                // It held nothing but what was cut off or purged later, as an interrupted purge leaves it.
                Ok(found) => assert_eq!(found, state, "a missing segment passed in silence"),
            }
            let content = disk.content(&path).unwrap();
            for length in [0, 1, 47, 48, content.len() / 2, content.len() - 1] {
                let copy = disk.copy_after_kill();
                copy.overwrite(&path, content[..length].to_vec()).unwrap();
                let error = try_open(&copy).expect_err(&name);
                assert!(error.to_string().contains(&name), "{name} cut to {length}: {error}");
            }
        }
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn wal_13_a_log_without_a_valid_mark_is_refused() {
    let (disk, _) = settled(1);
    let mark = directory().join("mark");
    for damage in [vec![], vec![0; 1024], vec![0xff; 1024], vec![7; 100], vec![0; 5000]] {
        let copy = disk.copy_after_kill();
        copy.overwrite(&mark, damage).unwrap();
        let error = try_open(&copy).unwrap_err();
        assert!(error.to_string().contains("no valid mark beside a log"), "{error}");
    }
    let copy = disk.copy_after_kill();
    copy.remove(&mark).unwrap();
    assert!(try_open(&copy).unwrap_err().to_string().contains("no valid mark"));
}

#[test]
fn wal_13_a_mark_without_a_log_is_refused() {
    let (disk, _) = settled(1);
    for name in disk.list(&directory()).unwrap().iter().filter(|name| name.ends_with(".wal")) {
        disk.remove(directory().join(name)).unwrap();
    }
    let error = try_open(&disk).unwrap_err();
    assert!(error.to_string().contains("all segments are missing"), "{error}");
}

#[test]
fn wal_10_what_a_later_frame_says_is_evidence_even_with_an_old_mark() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    let mark = disk.content(directory().join("mark")).unwrap();
    for index in 0..5 {
        wal.append(records(1, index..index + 1, 50), Answers::default().callback()).unwrap();
    }
    drop(wal);
    // The mark as it was before: a power cut may leave it so.
    disk.overwrite(directory().join("mark"), mark).unwrap();
    let length = disk.content(directory().join("s-1.wal")).unwrap().len() as u64;
    let frame = 48 + 32 + 50;
    for back in 1..4 {
        let copy = disk.restart().copy_after_kill();
        copy.flip_bit(directory().join("s-1.wal"), (length - back * frame - 10) * 8).unwrap();
        let error = open(&copy).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[test]
fn wal_20_rot_in_the_last_synced_frame_counts_as_a_torn_tail_only_while_the_mark_is_old() {
    let disk = SimulatedDisk::new(ROOT);
    let wal = create(&disk);
    wal.append(records(1, 0..3, 50), Answers::default().callback()).unwrap();
    wal.settle(Answers::default().callback()).unwrap();
    let mark = disk.content(directory().join("mark")).unwrap();
    wal.append(records(1, 3..4, 50), Answers::default().callback()).unwrap();
    let disk = disk.restart();
    let last_byte = disk.content(directory().join("s-1.wal")).unwrap().len() as u64 - 1;
    disk.flip_bit(directory().join("s-1.wal"), last_byte * 8).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Damaged { .. })), "the mark knows of the frame");
    disk.overwrite(directory().join("mark"), mark).unwrap();
    let (_, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.entries, 0..3);
    assert!(recovered.torn_bytes > 0);
}
