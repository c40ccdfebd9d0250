//! What is done to a cluster, at moments that the seed chooses (`FLT-01`, `FLT-03` to `FLT-09`, `FLT-11`).
//!
//! ```text
//!   network   isolate, split, one way, hold (delay, and everything after it overtaken), lose what is in flight, slow link
//!   process   kill; leap: the node's own time runs on while it did nothing, as after SIGSTOP
//!   disk      power loss of one, of all, in the midst of a write; sync fails; a leader's disk that lied
//!   clock     set off by seconds, forwards or back
//! ```
//!
//! A fault lasts as long as the seed says. A node that was crashed finds on its disk what a crash of that kind leaves.

use super::{chance, host::name, world::World};
use quorate_raft_store::disk::{Fault, FaultKind, PowerLoss};
use rand::{Rng, rngs::SmallRng, seq::SliceRandom};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use turmoil::Sim;

/// The pause between two faults, in milliseconds: least and most.
const PAUSE_MILLIS: (u64, u64) = (60, 560);

/// How long a link stays cut, one way or both, in milliseconds. Beyond the longest, steps down and elections are over.
const CUT_MILLIS: (u64, u64) = (50, 1_400);

/// How long messages are held.
const HOLD_MILLIS: (u64, u64) = (20, 400);

/// How long a crashed node is down. Sometimes so short that it comes back within its leader's lease.
const DOWN_MILLIS: (u64, u64) = (4, 900);

/// How long a clock is off, and by how much.
const CLOCK_MILLIS: (u64, u64) = (200, 1_500);
const STEP_MILLIS: i64 = 9_000;

/// How long a slow link is slow, and how slow.
const SLOW_MILLIS: (u64, u64) = (200, 1_200);
const LATENCY_MILLIS: (u64, u64) = (15, 60);

/// How far a node's monotonic clock leaps.
const LEAP_MILLIS: (u64, u64) = (100, 1_500);

/// How long a candidate whose election is disturbed stays cut off: an election of the others fits into it.
const DISTURBANCE_MILLIS: (u64, u64) = (900, 1_300);

/// What is left of a token key's life when time has passed: less than a sixth of it, so that the next one is due at once,
/// and more than a run still takes.
const TOKEN_KEY_LEFT_SECONDS: i64 = 19;

/// How long writers pause before a lying disk loses what it promised: everything that was acknowledged is everywhere then.
const WRITERS_PAUSE: Duration = Duration::from_millis(150);

/// The latency of a link that is not slow, at most.
pub(crate) const LATENCY_MAX: Duration = Duration::from_millis(8);

/// The next step after a fault began.
#[derive(Debug, Clone)]
enum Then {
    /// The link of these two is as good as the others again, whatever was done to it.
    Mend(usize, usize),
    /// The power of this node goes, if it has not gone already.
    PowerLoss(usize),
    /// The node is started again.
    Start(usize),
    /// The node's clock is right again.
    ClockRight(usize),
    /// The leader's disk, which lied, loses what it promised, and the node comes back at once.
    LoseLies(usize),
    /// Writers pause.
    WritersPause,
    /// Writers go on.
    WritersGoOn,
}

/// What is done to a run.
pub(crate) struct Faults {
    world: Arc<World>,
    nodes: usize,
    random: SmallRng,
    next_at: Duration,
    /// What is to happen when, in the order in which it was decided.
    due: Vec<(Duration, Then)>,
    /// Links that something is done to: nothing else is, until it is over.
    links: BTreeMap<(usize, usize), ()>,
    /// Nodes that are down.
    down: BTreeMap<usize, ()>,
    /// Elections that are to be disturbed, still.
    armed: u32,
}

fn link(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Faults {
    /// The faults of a run whose clients begin at `begin`.
    pub(crate) fn new(world: &Arc<World>, nodes: usize, begin: Duration) -> Self {
        Self {
            world: Arc::clone(world),
            nodes,
            random: chance::stream(world.seed(), "faults", 0, 0),
            next_at: begin,
            due: Vec::new(),
            links: BTreeMap::new(),
            down: BTreeMap::new(),
            armed: 0,
        }
    }

    /// Does what is due at `now`, and something new if it is time for it.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>, now: Duration) {
        self.carry_on(sim, now);
        self.disturb_election(sim, now);
        if now >= self.next_at {
            let (least, most) = PAUSE_MILLIS;
            self.next_at = now + chance::millis(&mut self.random, least, most);
            self.begin(sim, now);
        }
    }

    /// Mends everything, and starts whoever is down.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        self.due.clear();
        self.armed = 0;
        for (a, b) in self.links.clone().into_keys() {
            self.mend(sim, a, b);
        }
        for node in 0..self.nodes {
            self.set_clock(node, 0);
            // A disk that fails, or is about to, is one that somebody replaces the machine around.
            let fails = self.world.lock().places.get(node).is_some_and(|place| place.may_stop);
            if fails && !self.down.contains_key(&node) {
                self.lose_power(sim, node);
            }
        }
        for node in std::mem::take(&mut self.down).into_keys() {
            sim.bounce(name(node));
        }
        self.world.lock().writers_pause = false;
        self.world.trace(None, "everything is mended");
    }

    fn carry_on(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        for (_, then) in due {
            self.carry_out(sim, now, then);
        }
    }

    fn carry_out(&mut self, sim: &mut Sim<'_>, now: Duration, then: Then) {
        match then {
            Then::Mend(a, b) => self.mend(sim, a, b),
            Then::PowerLoss(node) => {
                if !self.down.contains_key(&node) {
                    self.lose_power(sim, node);
                    let (least, most) = DOWN_MILLIS;
                    let back = now + chance::millis(&mut self.random, least, most);
                    self.due.push((back, Then::Start(node)));
                }
            }
            Then::Start(node) => {
                if self.down.remove(&node).is_some() {
                    sim.bounce(name(node));
                }
            }
            Then::ClockRight(node) => self.set_clock(node, 0),
            Then::LoseLies(node) => {
                if !self.down.contains_key(&node) {
                    self.world.fault("lying disk", &name(node));
                    self.crash(sim, node, Some(PowerLoss::Lost));
                    self.down.remove(&node);
                    sim.bounce(name(node));
                }
            }
            Then::WritersPause => self.world.lock().writers_pause = true,
            Then::WritersGoOn => self.world.lock().writers_pause = false,
        }
    }

    /// Begins a fault, if the one that the seed chose can be had now.
    fn begin(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let victim = self.victim();
        let kind = self.random.gen_range(0..100);
        match kind {
            0..=11 => self.isolate(sim, now, victim),
            12..=19 => self.split(sim, now),
            20..=29 => self.one_way(sim, now, victim),
            30..=41 => self.hold(sim, now),
            42..=47 => self.lose_in_flight(sim),
            48..=52 => self.slow_link(sim, now),
            53..=60 => self.restart(sim, now, victim, false),
            61..=70 => self.restart(sim, now, victim, true),
            71..=73 => self.power_loss_of_all(sim, now),
            74..=79 => self.power_loss_in_a_write(now, victim),
            80..=81 => self.sync_fails(now, victim),
            82..=84 => self.clock_step(now, victim),
            85..=86 => self.leap(victim),
            87..=91 => self.time_passes(),
            92..=93 => self.lying_leader(now),
            _ => self.armed += 1,
        }
    }

    /// The leader half of the time, otherwise anybody.
    fn victim(&mut self) -> usize {
        let leader = self.leader();
        let anybody = self.random.gen_range(0..self.nodes);
        if self.random.gen_bool(0.5) { leader.unwrap_or(anybody) } else { anybody }
    }

    fn leader(&self) -> Option<usize> {
        let up = self.world.handles();
        up.into_iter().find(|(_, handle)| handle.role().borrow().is_leader()).map(|(node, _)| node)
    }

    fn others(&self, node: usize) -> Vec<usize> {
        (0..self.nodes).filter(|other| *other != node).collect()
    }

    /// Takes a link for a fault, unless one has it.
    fn take(&mut self, a: usize, b: usize) -> bool {
        a != b && self.links.insert(link(a, b), ()).is_none()
    }

    /// Makes a link good again, if something was done to it.
    fn mend(&mut self, sim: &mut Sim<'_>, a: usize, b: usize) {
        if self.links.remove(&link(a, b)).is_some() {
            sim.release(name(a), name(b));
            sim.set_link_max_message_latency(name(a), name(b), LATENCY_MAX);
        }
    }

    fn cut(&mut self, sim: &mut Sim<'_>, now: Duration, pairs: &[(usize, usize)], limits: (u64, u64)) -> usize {
        let until = now + chance::millis(&mut self.random, limits.0, limits.1);
        let mut cut = 0;
        for (a, b) in pairs {
            if self.take(*a, *b) {
                sim.partition(name(*a), name(*b));
                self.due.push((until, Then::Mend(*a, *b)));
                cut += 1;
            }
        }
        cut
    }

    fn isolate(&mut self, sim: &mut Sim<'_>, now: Duration, victim: usize) {
        let pairs: Vec<_> = self.others(victim).into_iter().map(|other| (victim, other)).collect();
        if self.cut(sim, now, &pairs, CUT_MILLIS) > 0 {
            self.world.fault("isolate", &name(victim));
        }
    }

    /// Any set of links: halves, bridges, rings.
    fn split(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let mut pairs = Vec::new();
        for a in 0..self.nodes {
            for b in a + 1..self.nodes {
                if self.random.gen_bool(0.4) {
                    pairs.push((a, b));
                }
            }
        }
        if self.cut(sim, now, &pairs, CUT_MILLIS) > 0 {
            self.world.fault("split", &format!("{pairs:?}"));
        }
    }

    /// One that is heard and hears nothing, or the other way round.
    fn one_way(&mut self, sim: &mut Sim<'_>, now: Duration, victim: usize) {
        let (least, most) = CUT_MILLIS;
        let until = now + chance::millis(&mut self.random, least, most);
        let is_deaf = self.random.gen_bool(0.5);
        let mut cut = 0;
        for other in self.others(victim) {
            if self.random.gen_bool(0.8) && self.take(victim, other) {
                let (from, to) = if is_deaf { (other, victim) } else { (victim, other) };
                sim.partition_oneway(name(from), name(to));
                self.due.push((until, Then::Mend(victim, other)));
                cut += 1;
            }
        }
        if cut > 0 {
            self.world.fault("one way", &format!("{} deaf: {is_deaf}", name(victim)));
        }
    }

    /// Everything on some links comes later, and is overtaken by what takes another way.
    fn hold(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let mut held = 0;
        for a in 0..self.nodes {
            for b in a + 1..self.nodes {
                if self.random.gen_bool(0.4) && self.take(a, b) {
                    sim.hold(name(a), name(b));
                    let (least, most) = HOLD_MILLIS;
                    self.due.push((now + chance::millis(&mut self.random, least, most), Then::Mend(a, b)));
                    held += 1;
                }
            }
        }
        if held > 0 {
            self.world.fault("hold", &held.to_string());
        }
    }

    /// What is under way between two is lost; what they send next is not.
    fn lose_in_flight(&mut self, sim: &mut Sim<'_>) {
        let mut lost = 0;
        for a in 0..self.nodes {
            for b in a + 1..self.nodes {
                if self.random.gen_bool(0.4) && !self.links.contains_key(&(a, b)) {
                    sim.partition(name(a), name(b));
                    sim.repair(name(a), name(b));
                    lost += 1;
                }
            }
        }
        if lost > 0 {
            self.world.fault("lose", &lost.to_string());
        }
    }

    fn slow_link(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let (a, b) = (self.random.gen_range(0..self.nodes), self.random.gen_range(0..self.nodes));
        if self.take(a, b) {
            let (least, most) = LATENCY_MILLIS;
            sim.set_link_max_message_latency(name(a), name(b), chance::millis(&mut self.random, least, most));
            let (least, most) = SLOW_MILLIS;
            self.due.push((now + chance::millis(&mut self.random, least, most), Then::Mend(a, b)));
            self.world.fault("slow link", &format!("{} {}", name(a), name(b)));
        }
    }

    /// Killed, or without power, and started again.
    fn restart(&mut self, sim: &mut Sim<'_>, now: Duration, victim: usize, power: bool) {
        if self.down.contains_key(&victim) {
            return;
        }
        if power {
            self.lose_power(sim, victim);
        } else {
            self.kill(sim, victim);
        }
        let (least, most) = DOWN_MILLIS;
        self.due.push((now + chance::millis(&mut self.random, least, most), Then::Start(victim)));
    }

    fn power_loss_of_all(&mut self, sim: &mut Sim<'_>, now: Duration) {
        for node in 0..self.nodes {
            self.restart(sim, now, node, true);
        }
    }

    /// The power goes in the midst of what the node writes next.
    fn power_loss_in_a_write(&mut self, now: Duration, victim: usize) {
        if self.down.contains_key(&victim) {
            return;
        }
        let operations = self.random.gen_range(0..12);
        {
            let mut world = self.world.lock();
            let Some(place) = world.places.get_mut(victim) else { return };
            place.may_stop = true;
            place.disk.stop_after(operations);
        }
        self.world.trace(None, &format!("the power of {} goes after {operations} operations", name(victim)));
        let after = self.random.gen_range(2..60);
        self.due.push((now + Duration::from_millis(after), Then::PowerLoss(victim)));
    }

    /// A sync fails: consensus on the node has to end, and not to try again (FLT-11).
    fn sync_fails(&mut self, now: Duration, victim: usize) {
        if self.down.contains_key(&victim) {
            return;
        }
        let after = self.random.gen_range(0..4);
        {
            let mut world = self.world.lock();
            let Some(place) = world.places.get_mut(victim) else { return };
            place.may_stop = true;
            place.disk.plan(Fault { kind: FaultKind::SyncData, after });
        }
        self.world.fault("sync fails", &name(victim));
        self.due.push((now + chance::millis(&mut self.random, 100, 900), Then::PowerLoss(victim)));
    }

    fn clock_step(&mut self, now: Duration, victim: usize) {
        let ahead = self.random.gen_range(-STEP_MILLIS..=STEP_MILLIS);
        self.set_clock(victim, ahead);
        self.world.fault("clock", &format!("{} {ahead}", name(victim)));
        let (least, most) = CLOCK_MILLIS;
        self.due.push((now + chance::millis(&mut self.random, least, most), Then::ClockRight(victim)));
    }

    fn set_clock(&mut self, node: usize, ahead: i64) {
        if let Some(place) = self.world.lock().places.get_mut(node) {
            place.clock_millis = ahead;
        }
    }

    /// The node's monotonic clock is ahead at once by what a stop would have taken.
    fn leap(&mut self, victim: usize) {
        let (least, most) = LEAP_MILLIS;
        let by = chance::millis(&mut self.random, least, most);
        if self.world.leap(victim, by) {
            self.world.fault("leap", &format!("{} {} ms", name(victim), by.as_millis()));
        }
    }

    /// Time passes for everybody at once, so much that the token key has to be followed by another now (INV-05): the next
    /// is made, and signs when every live member knows it.
    fn time_passes(&mut self) {
        let Some((_, handle)) =
            self.world.handles().into_iter().max_by_key(|(_, handle)| handle.state().applied_index())
        else {
            return;
        };
        let now = self.world.true_time().seconds();
        let end = handle.state().read(|state| state.active_jwt_authority().map(|key| key.validity.not_after()));
        let left = end.map_or(0, |end| end.0 - now.0);
        if left > TOKEN_KEY_LEFT_SECONDS * 3 {
            let seconds = left - TOKEN_KEY_LEFT_SECONDS;
            self.world.time_passes(seconds * 1_000);
            self.world.fault("time passes", &format!("{seconds} s"));
        }
    }

    /// The leader's disk says that it syncs and does not. Writers pause, so that everything that was acknowledged is on
    /// the others; then the leader loses what its disk promised and is back within the lease (ELE-03).
    fn lying_leader(&mut self, now: Duration) {
        let Some(leader) = self.leader() else { return };
        let mut world = self.world.lock();
        // Once a run, and only while nothing else is wrong: two copies of a write must not be lost.
        let quiet = self.links.is_empty() && self.down.is_empty() && self.due.is_empty();
        if !quiet || world.places.iter().any(|place| place.lied) {
            return;
        }
        let seed = self.random.r#gen();
        let Some(place) = world.places.get_mut(leader) else { return };
        place.lied = true;
        place.disk.lie_about_syncs(seed, 1);
        drop(world);
        self.world.trace(None, &format!("the disk of {} lies", name(leader)));
        let lies = chance::millis(&mut self.random, 40, 200);
        self.due.push((now + lies, Then::WritersPause));
        let crash = now + lies + WRITERS_PAUSE;
        self.due.push((crash, Then::LoseLies(leader)));
        self.due.push((crash, Then::WritersGoOn));
        self.next_at = crash + Duration::from_millis(700);
    }

    /// Somebody has just voted, and elections are to be disturbed: the candidate is cut off with the vote, the voter loses
    /// its power and comes back at once, and whoever was not there to hear of that election stands for its own.
    fn disturb_election(&mut self, sim: &mut Sim<'_>, now: Duration) {
        let grants = std::mem::take(&mut self.world.lock().grants);
        let Some((voter, member)) = grants.into_iter().next().filter(|_| self.armed > 0) else { return };
        let candidate = self.world.lock().places.iter().position(|place| place.number == Some(member));
        let Some(candidate) = candidate.filter(|candidate| *candidate != voter && !self.down.contains_key(&voter))
        else {
            return;
        };
        self.armed -= 1;
        self.world.fault("disturbed election", &format!("of {} with {}", name(candidate), name(voter)));
        for other in self.others(voter) {
            self.mend(sim, voter, other);
        }
        let pairs: Vec<_> = self.others(candidate).into_iter().map(|other| (candidate, other)).collect();
        self.cut(sim, now, &pairs, DISTURBANCE_MILLIS);
        self.world.fault("power loss", &format!("{} {:?}", name(voter), PowerLoss::Lost));
        self.crash(sim, voter, Some(PowerLoss::Lost));
        // The crash has mended the link between the two; it is the candidate's last.
        self.cut(sim, now, &[(candidate, voter)], DISTURBANCE_MILLIS);
        self.due.push((now + chance::millis(&mut self.random, 2, 30), Then::Start(voter)));
        for node in std::mem::take(&mut self.down).into_keys() {
            if node == voter || node == candidate {
                self.down.insert(node, ());
            } else {
                sim.bounce(name(node));
            }
        }
        let (_, most) = DISTURBANCE_MILLIS;
        self.next_at = now + Duration::from_millis(most);
    }

    fn kill(&mut self, sim: &mut Sim<'_>, node: usize) {
        self.world.fault("kill", &name(node));
        self.crash(sim, node, None);
    }

    /// Nobody hears of it: a process that is killed closes its connections, one without power does not.
    fn lose_power(&mut self, sim: &mut Sim<'_>, node: usize) {
        let kind = *PowerLoss::ALL.choose(&mut self.random).unwrap_or(&PowerLoss::Lost);
        self.world.fault("power loss", &format!("{} {kind:?}", name(node)));
        self.crash(sim, node, Some(kind));
    }

    fn crash(&mut self, sim: &mut Sim<'_>, node: usize, power: Option<PowerLoss>) {
        self.down.insert(node, ());
        let others = self.others(node);
        if power.is_some() {
            for other in &others {
                self.mend(sim, node, *other);
                sim.partition(name(node), name(*other));
            }
        }
        let seed = self.random.r#gen();
        {
            let mut world = self.world.lock();
            if let Some(place) = world.places.get_mut(node) {
                place.disk = match power {
                    Some(kind) => place.disk.after_power_loss(kind, seed),
                    None => place.disk.restart(),
                };
                place.may_stop = false;
            }
        }
        let handle = self.world.goes_down(node);
        sim.crash(name(node));
        drop(handle);
        if power.is_some() {
            for other in &others {
                sim.repair(name(node), name(*other));
            }
        }
    }
}
