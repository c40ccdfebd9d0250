//! Time of day, randomness and blocking work of one boot of a simulated node (SIM-02, SIM-03, SIM-05).

use super::{chance, world::World};
use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::{Blocking, Entropy, Observer, Role, Sources, WallClock, Work, WorkDone};
use rand::{Rng, RngCore, rngs::SmallRng};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest that blocking work waits before it is done, in milliseconds.
const BLOCKING_WAIT_MILLIS: u64 = 2;

/// The sources of this boot of this node.
pub(crate) fn sources(world: &Arc<World>, node: usize, boot: u64) -> Sources {
    let stream = |purpose| Mutex::new(chance::stream(world.seed(), purpose, node as u64, boot));
    let clock = Clock { world: Arc::clone(world), node };
    let hears = Hears { world: Arc::clone(world), node, boot };
    Sources::new(clock, Chance(stream("entropy")), Inline(stream("blocking"))).with_observer(hears)
}

/// The node's clock: virtual time, and how far it was set off.
struct Clock {
    world: Arc<World>,
    node: usize,
}

impl WallClock for Clock {
    fn now(&self) -> UnixMillis {
        self.world.wall_clock(self.node)
    }
}

/// Randomness from the seed.
struct Chance(Mutex<SmallRng>);

impl Entropy for Chance {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// Waits a little, then does the work in place.
struct Inline(Mutex<SmallRng>);

impl Blocking for Inline {
    fn run(&self, work: Work) -> WorkDone {
        let wait = self.0.lock().unwrap_or_else(PoisonError::into_inner).gen_range(0..=BLOCKING_WAIT_MILLIS);
        let running = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            work();
        });
        // Work that panicked is seen by its owner as an answer that never comes.
        Box::pin(async move { drop(running.await) })
    }
}

/// Tells the world what consensus does.
struct Hears {
    world: Arc<World>,
    node: usize,
    boot: u64,
}

impl Observer for Hears {
    fn role(&self, role: &Role) {
        self.world.role_changed(self.node, self.boot, role);
    }

    fn granted_vote(&self, term: u64, member: u64) {
        self.world.granted_vote(self.node, term, member);
    }

    fn applied(&self, log_index: u64, commands: usize) {
        self.world.trace(Some(self.node), &format!("applied {log_index} {commands}"));
    }

    fn snapshot(&self, log_index: u64) {
        self.world.snapshot_taken(self.node, log_index);
    }
}
