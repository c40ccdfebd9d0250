//! Power cuts at any instant: nothing acknowledged is lost, no torn tail that may legally be there is refused.

use super::model::{Life, OPTIONS, Trouble};
use crate::support::*;
use quorate_raft_store::disk::{PowerLoss, Seeded, SimulatedDisk};
use quorate_raft_store::log::{Wal, WalOptions};

/// Lives a log for a while, cuts the power, and says what was found; several times over on the same disk.
fn image(seed: u64, lies: bool) -> Result<u64, Trouble> {
    let random = &mut Seeded::new(seed);
    // Now and then every group gets a segment of its own.
    let segment_bytes = if random.one_in(4) { 1 } else { OPTIONS.segment_bytes };
    let mut life = Life::begin_with(WalOptions { segment_bytes, ..OPTIONS });
    let mut acknowledged = 0;
    for _round in 0..3 {
        if lies {
            life.disk.lie_about_syncs(random.draw(), 2);
        }
        if random.one_in(2) {
            // In the midst of whatever is being done then.
            life.disk.stop_after(random.below(150));
        }
        let calls = random.below(60);
        life.live(random, calls);
        acknowledged += life.acknowledged() as u64;
        let mut disk = cut(&life.disk, random);
        if random.one_in(3) {
            // The power goes out again while the log is being opened.
            disk.stop_after(random.below(12));
            drop(Wal::open(shared(&disk), &directory(), IDENTITY, OPTIONS));
            disk = cut(&disk, random);
        }
        life = life.reopened(&disk)?;
    }
    Ok(acknowledged)
}

fn cut(disk: &SimulatedDisk, random: &mut Seeded) -> SimulatedDisk {
    let kind = PowerLoss::ALL[usize::try_from(random.below(PowerLoss::ALL.len() as u64)).unwrap()];
    if random.one_in(8) { disk.copy_after_kill() } else { disk.after_power_loss(kind, random.draw()) }
}

#[test]
fn wal_12_and_wal_15_a_power_cut_loses_nothing_acknowledged_and_no_legal_torn_tail_is_refused() {
    let images = rounds("QUORATE_POWER_LOSS_IMAGES", 200);
    let mut acknowledged = 0;
    for seed in 0..images.div_ceil(3) {
        match image(seed, false) {
            Ok(count) => acknowledged += count,
            Err(trouble) => panic!("seed {seed}: {trouble:?}"),
        }
    }
    // A run in which nothing was acknowledged would prove nothing.
    assert!(acknowledged > images * 5, "{acknowledged} acknowledged in {images} images");
}

#[test]
fn wal_19_a_disk_that_ignores_half_of_the_syncs_is_found_out() {
    let runs = rounds("QUORATE_POWER_LOSS_IMAGES", 200).div_ceil(3);
    let found_out = (0..runs).filter(|seed| image(*seed, true).is_err()).count() as u64;
    assert!(found_out * 4 > runs, "{found_out} of {runs} runs on a lying disk were found out");
}

/// Runs `deed` on a fresh log, cut off after every possible number of steps, under every kind of power cut.
fn at_each_step(prepare: impl Fn(&mut Life), deed: impl Fn(&mut Life)) {
    let mut is_finished = false;
    for steps in 0..60 {
        for (position, kind) in (0..).zip(PowerLoss::ALL) {
            for chance in 0..4 {
                let mut life = Life::begin();
                prepare(&mut life);
                life.disk.stop_after(steps);
                deed(&mut life);
                is_finished = life.wal.failure().is_none();
                let disk = life.disk.after_power_loss(kind, steps * 100 + position * 10 + chance);
                if let Err(trouble) = life.reopened(&disk) {
                    panic!("step {steps}, {kind:?}, chance {chance}: {trouble:?}");
                }
            }
        }
        if is_finished {
            return;
        }
    }
    panic!("the deed never came to its end");
}

fn fill(life: &mut Life, count: u64) {
    let random = &mut Seeded::new(11);
    life.live(random, count);
    life.wal.run_queued();
}

#[test]
fn wal_08_a_roll_cut_off_at_any_step_leaves_a_log_that_opens() {
    let longer_than_a_segment = |life: &mut Life| {
        let next = life.wal.range().end;
        life.append(records(1_000, next..next + 1, 5000));
    };
    at_each_step(
        |life| {
            fill(life, 25);
            longer_than_a_segment(life);
        },
        |life| {
            longer_than_a_segment(life);
            longer_than_a_segment(life);
        },
    );
}

#[test]
fn wal_15_an_opening_cut_off_at_any_step_can_be_repeated() {
    let random = &mut Seeded::new(5);
    for steps in 0..20 {
        for kind in PowerLoss::ALL {
            for chance in 0..4 {
                let mut life = Life::begin();
                fill(&mut life, 30);
                let disk = life.disk.after_power_loss(PowerLoss::ALL[chance], random.draw());
                disk.stop_after(steps);
                drop(Wal::open(shared(&disk), &directory(), IDENTITY, OPTIONS));
                let disk = disk.after_power_loss(kind, random.draw());
                if let Err(trouble) = life.reopened(&disk) {
                    panic!("step {steps}, {kind:?}: {trouble:?}");
                }
            }
        }
    }
}
