//! The faults of a run, drawn from its seed: who, what, for how long (FLT-01, FLT-02).

use crate::fleet::{Fleet, Member};
use crate::progress;
use crate::run::Run;
use crate::trouble::Trouble;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use tokio::time::sleep;

/// How long a killed node stays dead, in milliseconds.
const DEAD: Range<u64> = 0..2_000;

/// How long a node stands still, in milliseconds: from less than any timeout to past all of them.
const STILL: Range<u64> = 100..5_000;

/// How long nothing happens between two faults, in milliseconds.
const CALM: Range<u64> = 300..2_500;

/// How long a leader is looked for when the fault is for the leader.
const LEADER_LIMIT: Duration = Duration::from_secs(10);

/// Which faults a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Faults {
    /// All kinds.
    Mixed,
    /// Kills alone.
    Kills,
    /// Pauses alone.
    Pauses,
    /// None: what the load alone brings about.
    None,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// SIGKILL (FLT-01).
    Kill,
    /// SIGSTOP, and SIGCONT later (FLT-02).
    Pause,
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Leader,
    Follower,
    Minority,
    Majority,
    All,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
struct Fault {
    deed: Deed,
    target: Target,
    length: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deed = match self.deed {
            Deed::Kill => "SIGKILL",
            Deed::Pause => "SIGSTOP",
        };
        write!(formatter, "{deed} {:?} for {:.1} s", self.target, self.length.as_secs_f64())
    }
}

/// The faults that took effect.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effect {
    /// Processes that died of SIGKILL.
    pub(crate) kills: u32,
    /// Processes that stood still.
    pub(crate) pauses: u32,
    /// Faults that hit the leader among others.
    pub(crate) leaders: u32,
}

/// Does one fault after the other until the time is over; the last one is over, too, when this ends.
pub(crate) async fn rage(run: &Run, seed: u64, faults: Faults, length: Duration) -> Result<Effect, Trouble> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut effect = Effect::default();
    while run.clock.elapsed() < length {
        sleep(Duration::from_millis(random.gen_range(CALM))).await;
        let Some(fault) = draw(&mut random, faults) else { continue };
        let victims = victims(&run.fleet, fault.target, &mut random).await?;
        let names: Vec<&str> = victims.iter().map(|member| member.name()).collect();
        progress(&format!("  {:>8.3} s {fault}: {}", run.clock.elapsed().as_secs_f64(), names.join(" ")));
        let leader = run.fleet.leader().await;
        let leads = leader.and_then(|leader| run.fleet.members().get(leader)).map(Member::name);
        if leads.is_some_and(|name| names.contains(&name)) {
            effect.leaders += 1;
        }
        match fault.deed {
            Deed::Kill => effect.kills += kill(&victims, fault.length).await?,
            Deed::Pause => effect.pauses += pause(&victims, fault.length).await?,
        }
    }
    Ok(effect)
}

/// The leader and its followers are hit more often than many at once, since those faults leave somebody to serve.
fn draw(random: &mut SmallRng, faults: Faults) -> Option<Fault> {
    let coin = random.gen_ratio(1, 2);
    let deed = match faults {
        Faults::None => return None,
        Faults::Kills => Deed::Kill,
        Faults::Pauses => Deed::Pause,
        Faults::Mixed if coin => Deed::Kill,
        Faults::Mixed => Deed::Pause,
    };
    let target = match random.gen_range(0..12) {
        0..5 => Target::Leader,
        5..8 => Target::Follower,
        8 => Target::Minority,
        9..11 => Target::Majority,
        _ => Target::All,
    };
    let length = match deed {
        Deed::Kill => random.gen_range(DEAD),
        Deed::Pause => random.gen_range(STILL),
    };
    Some(Fault { deed, target, length: Duration::from_millis(length) })
}

async fn victims<'a>(fleet: &'a Fleet, target: Target, random: &mut SmallRng) -> Result<Vec<&'a Member>, Trouble> {
    let count = fleet.members().len();
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(random);
    let minority = count.saturating_sub(1) / 2;
    let chosen: Vec<usize> = match target {
        Target::Leader => vec![fleet.await_leader(LEADER_LIMIT).await?],
        Target::Follower => {
            let leader = fleet.await_leader(LEADER_LIMIT).await?;
            order.into_iter().filter(|index| *index != leader).take(1).collect()
        }
        Target::Minority => order.into_iter().take(minority.max(1)).collect(),
        Target::Majority => order.into_iter().take(count - minority).collect(),
        Target::All => order,
    };
    chosen.into_iter().map(|index| fleet.member(index)).collect()
}

/// Kills, waits, starts again, and waits until each of them may sign.
async fn kill(victims: &[&Member], length: Duration) -> Result<u32, Trouble> {
    // All are marked first, so that nobody is asked to be well while the others die.
    for member in victims {
        member.condition.faulted();
    }
    let mut kills = 0;
    for member in victims {
        kills += u32::from(member.kill().await?);
    }
    sleep(length).await;
    for member in victims {
        member.start().await?;
    }
    for member in victims {
        member.ready().await?;
    }
    Ok(kills)
}

/// Lets stand still, waits, lets go on.
async fn pause(victims: &[&Member], length: Duration) -> Result<u32, Trouble> {
    for member in victims {
        member.condition.faulted();
    }
    let mut pauses = 0;
    for member in victims {
        pauses += u32::from(member.pause().await?);
    }
    sleep(length).await;
    for member in victims {
        member.resume().await?;
    }
    Ok(pauses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_faults() {
        let drawn = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            (0..50).filter_map(|_| draw(&mut random, Faults::Mixed)).map(|fault| fault.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_target_and_both_deeds_are_drawn() {
        let mut random = SmallRng::seed_from_u64(1);
        let drawn: Vec<Fault> = (0..200).filter_map(|_| draw(&mut random, Faults::Mixed)).collect();
        for target in [Target::Leader, Target::Follower, Target::Minority, Target::Majority, Target::All] {
            for deed in [Deed::Kill, Deed::Pause] {
                assert!(drawn.iter().any(|fault| fault.target == target && fault.deed == deed), "{target:?} {deed:?}");
            }
        }
    }
}
