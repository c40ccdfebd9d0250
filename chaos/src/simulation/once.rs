//! One run: a cluster is put together, faults happen, everything is mended, and everything must be well.

use super::{
    chance, checks,
    faults::{Faults, LATENCY_MAX},
    host::{self, Cast},
    missing,
    world::{Counts, Phase, World},
};
use rand::Rng;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use turmoil::{Builder, Sim};

/// How far virtual time goes in one step. Messages are delivered between steps.
const STEP: Duration = Duration::from_millis(2);

/// How long putting the cluster together may take.
const BEGINNING_LIMIT: Duration = Duration::from_secs(20);

/// How long faults go on.
const FAULTS: Duration = Duration::from_secs(5);

/// How long they go on where little succeeds under them.
const FAULTS_LIMIT: Duration = Duration::from_secs(30);

/// How long after the mending each node must write and read again (INV-13): the lease of a leader that is gone, some
/// elections, and the connections that were lost dialled again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(8);

/// How long clients go on after that.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// How long what is under way at the end takes where all is well.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long catching up may take after that.
const ENDING_LIMIT: Duration = Duration::from_secs(6);

/// Unaccepted connections and segments of a simulated socket; fewer make the network panic.
const TCP_CAPACITY: usize = 1024;

/// What came of a run.
pub(crate) struct Outcome {
    /// What was done and how much succeeded.
    pub(crate) counts: Counts,
    /// Promises that were broken.
    pub(crate) broken: Vec<String>,
    /// Hash and count of the trace.
    pub(crate) fingerprint: String,
    /// How many nodes there were.
    pub(crate) nodes: usize,
    /// How much time passed in it.
    pub(crate) virtual_time: Duration,
    /// How long the mended cluster took.
    pub(crate) recovery: Duration,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, trace: Option<&Path>) -> Result<Outcome, host::Failure> {
    let nodes = if chance::stream(seed, "shape", 0, 0).gen_bool(0.8) { 3 } else { 5 };
    let world = Arc::new(World::new(seed, nodes, trace.is_some()));
    let mut run = Run { world: Arc::clone(&world), sim: simulation(seed, nodes, &world)?, nodes };
    let recovery = run.all_of_it();
    let elapsed = run.sim.elapsed();
    // Nodes are taken down while their network is still there.
    run.end();
    if let Some(path) = trace {
        world.write_trace(path)?;
    }
    let mut broken = world.all_broken();
    let recovery = recovery.unwrap_or_else(|failure| {
        broken.push(failure);
        Duration::ZERO
    });
    let counts = world.lock().counts.clone();
    let fingerprint = world.fingerprint();
    Ok(Outcome { counts, broken, fingerprint, nodes, virtual_time: elapsed, recovery })
}

fn simulation(seed: u64, nodes: usize, world: &Arc<World>) -> Result<Sim<'static>, host::Failure> {
    let cast = Arc::new(Cast::new(seed, nodes).ok_or("the keys of the nodes could not be made")?);
    let mut sim = Builder::new()
        .rng_seed(seed)
        .tick_duration(STEP)
        .tcp_capacity(TCP_CAPACITY)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(LATENCY_MAX)
        .simulation_duration(Duration::from_secs(3_600))
        .build();
    for node in 0..nodes {
        let (world, cast) = (Arc::clone(world), Arc::clone(&cast));
        sim.host(host::name(node), move || host::run(Arc::clone(&world), Arc::clone(&cast), node));
    }
    Ok(sim)
}

struct Run {
    world: Arc<World>,
    sim: Sim<'static>,
    nodes: usize,
}

impl Run {
    /// Gives how long the mended cluster took, or what kept the run from going on.
    fn all_of_it(&mut self) -> Result<Duration, String> {
        let nodes = self.nodes;
        if !self.until(BEGINNING_LIMIT, |world| checks::all_are_voters(world, nodes))? {
            return Err("the cluster was not put together in time".to_owned());
        }
        self.enter(Phase::Faults);
        let begin = self.sim.elapsed();
        let mut faults = Faults::new(&self.world, nodes, begin);
        // A run whose faults let nothing succeed goes on until something has.
        while self.sim.elapsed() < begin + FAULTS || self.proves_too_little(begin) {
            let now = self.sim.elapsed();
            faults.step(&mut self.sim, now);
            self.step()?;
        }
        faults.heal(&mut self.sim);
        self.enter(Phase::Healing);
        let mended = self.sim.elapsed();
        let recovered = |world: &World| world.lock().places.iter().all(|place| place.recovered);
        if !self.until(RECOVERY_LIMIT, recovered)? {
            let late: Vec<String> = self.world.handles().iter().map(|(_, h)| format!("{:?}", h.health())).collect();
            return Err(format!(
                "INV-13: not every node writes and reads {RECOVERY_LIMIT:?} after the mending: {late:#?}"
            ));
        }
        let recovery = self.sim.elapsed() - mended;
        self.until(AFTERWARDS, |_| false)?;
        self.enter(Phase::Ending);
        self.until(LAST_ANSWERS, |_| false)?;
        if !self.until(ENDING_LIMIT, |world| checks::all_are_level(world, nodes))? {
            let levels: Vec<_> = self.world.handles().iter().map(|(_, h)| h.state().applied_index()).collect();
            return Err(format!("INV-13: members are not level though nobody writes: {levels:?}"));
        }
        checks::at_the_end(&self.world);
        Ok(recovery)
    }

    fn proves_too_little(&self, begin: Duration) -> bool {
        missing(&self.world.lock().counts).is_some() && self.sim.elapsed() < begin + FAULTS_LIMIT
    }

    fn enter(&self, phase: Phase) {
        self.world.lock().phase = phase;
        self.world.trace(None, &format!("{phase:?}"));
    }

    /// Goes on until something is so, or for so long. Says whether it is.
    fn until(&mut self, limit: Duration, is_so: impl Fn(&World) -> bool) -> Result<bool, String> {
        let end = self.sim.elapsed() + limit;
        while self.sim.elapsed() < end {
            if is_so(&self.world) {
                return Ok(true);
            }
            self.step()?;
        }
        Ok(false)
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.step_begins(self.sim.elapsed());
        self.sim.step().map_err(|failure| failure.to_string())?;
        checks::after_step(&self.world);
        match self.world.all_broken().first() {
            // What follows a broken promise tells nothing more.
            Some(_) => Err("the run ended with the step in which that was seen".to_owned()),
            None => Ok(()),
        }
    }

    fn end(mut self) {
        for node in 0..self.nodes {
            let handle = self.world.goes_down(node);
            self.sim.crash(host::name(node));
            drop(handle);
        }
    }
}
