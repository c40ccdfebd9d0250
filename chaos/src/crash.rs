//! Rounds of writing, killing and looking.

use crate::node::Place;
use crate::oracle::Oracle;
use crate::registrar::Registrar;
use crate::say;
use crate::trouble::Trouble;
use crate::writers::{Shared, Writers, lock};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// A round's kill comes at most so many acknowledged writes after the first hundred.
const FURTHER_WRITES: u64 = 400;

/// And at most so many microseconds after that, so that it does not follow an answer.
const FURTHER_MICROS: u64 = 20_000;

/// Every so many rounds, on average, the node is killed once more while it recovers.
const ONE_IN: u32 = 3;

/// The latest moment of such a kill, in microseconds after the start.
const RECOVERY_MICROS: u64 = 200_000;

/// How long the writers of a round may take until enough is acknowledged. A node that hangs is a failure, not a wait.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// What a run did.
#[derive(Default)]
struct Tally {
    kills: u32,
    kills_in_recovery: u32,
    fewest_writes: u64,
}

/// All rounds of one seed.
pub(crate) async fn run(rounds: u32, seed: u64, writes: u64) -> Result<(), Trouble> {
    say(&format!(
        "crash: {rounds} rounds, seed {seed}; again with: quorate-chaos crash --rounds {rounds} --seed {seed}"
    ));
    let start = Instant::now();
    let directory =
        tempfile::Builder::new().prefix("quorate-crash-").tempdir().map_err(Trouble::system("temporary directory"))?;
    let place = Place::prepare(directory.path())?;
    let oracle: Shared = Arc::new(Mutex::new(Oracle::default()));
    let mut tally = Tally { fewest_writes: u64::MAX, ..Tally::default() };
    let result = all_rounds(&place, &oracle, &mut tally, rounds, seed, writes).await;
    if let Err(trouble) = result {
        let kept = directory.keep();
        say(&format!("crash: everything is kept in {}", kept.display()));
        return Err(trouble);
    }
    let (kept, lost) = lock(&oracle).unanswered();
    say(&format!(
        "crash: {} acknowledged writes, at least {} a round, all there after each of {} kills ({} of them while it \
         recovered); of {} writes in flight {kept} were kept and {lost} were not; {:.0} s",
        lock(&oracle).acknowledged_so_far(),
        tally.fewest_writes,
        tally.kills,
        tally.kills_in_recovery,
        kept + lost,
        start.elapsed().as_secs_f64()
    ));
    proved(&tally, rounds, kept + lost)
}

/// A run in which nothing was killed in the midst of anything would pass just as well; it is no proof.
fn proved(tally: &Tally, rounds: u32, in_flight: u64) -> Result<(), Trouble> {
    if tally.kills < rounds {
        return Err(Trouble::ProvesNothing(format!("{} kills in {rounds} rounds", tally.kills)));
    }
    if in_flight == 0 {
        return Err(Trouble::ProvesNothing("no write was in flight at any kill".to_owned()));
    }
    Ok(())
}

async fn all_rounds(
    place: &Place,
    oracle: &Shared,
    tally: &mut Tally,
    rounds: u32,
    seed: u64,
    writes: u64,
) -> Result<(), Trouble> {
    let mut node = place.start()?;
    node.found().await?;
    node.serving().await?;
    for round in 1..=rounds {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_add(u64::from(round)));
        let before = lock(oracle).acknowledged_so_far();
        let mut writers = Writers::start(&place.admin_socket(), oracle, round, seed);
        let enough = before + writes + random.gen_range(0..FURTHER_WRITES);
        let reached = timeout(ROUND_LIMIT, writers.reach(enough)).await == Ok(true);
        sleep(Duration::from_micros(random.gen_range(0..FURTHER_MICROS))).await;
        let killed = node.kill().await?;
        writers.ended().await?;
        let acknowledged = lock(oracle).acknowledged_so_far() - before;
        if !reached || !killed {
            let what = format!("round {round}: {acknowledged} writes acknowledged, node killed: {killed}");
            return Err(Trouble::NotServing { what, log: place.log() });
        }
        tally.kills += 1;
        tally.fewest_writes = tally.fewest_writes.min(acknowledged);
        if random.gen_ratio(1, ONE_IN) {
            let recovering = place.start()?;
            sleep(Duration::from_micros(random.gen_range(0..RECOVERY_MICROS))).await;
            if recovering.kill().await? {
                tally.kills += 1;
                tally.kills_in_recovery += 1;
            }
        }
        node = place.start()?;
        node.serving().await?;
        let found = Registrar::new(&place.admin_socket()).everything().await?;
        let entries = found.len();
        let broken = lock(oracle).compare(found);
        if let Some(first) = broken.first() {
            let kept = place.log().with_file_name("");
            return Err(Trouble::Broken { count: broken.len(), first: first.clone(), kept });
        }
        say(&format!("crash: round {round}: {acknowledged} acknowledged, {entries} entries, all as they must be"));
    }
    node.kill().await.map(drop)
}
