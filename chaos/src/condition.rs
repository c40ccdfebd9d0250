//! What this run does to a node at present, so that what its callers see can be judged.

use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Shared by whoever does faults to a node and whoever calls it.
#[derive(Clone, Debug)]
pub(crate) struct Condition(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    healthy: bool,
    /// Grows with every change, so that who looks before and after a call knows whether there was one between.
    generation: u64,
    since: Instant,
}

/// The node was healthy when this was made; [`Condition::unbroken`] tells whether it has been since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell(State);

impl Spell {
    /// How long the node had been healthy by then.
    pub(crate) fn age(&self) -> Duration {
        self.0.since.elapsed()
    }
}

impl Default for Condition {
    /// A node that is not there yet.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State { healthy: false, generation: 0, since: Instant::now() })))
    }
}

impl Condition {
    /// A fault begins: to be called before it does.
    pub(crate) fn faulted(&self) {
        self.set(false);
    }

    /// The node goes on after a pause, or said that it is ready after a start.
    pub(crate) fn healthy(&self) {
        self.set(true);
    }

    fn set(&self, healthy: bool) {
        self.0.send_modify(|state| *state = State { healthy, generation: state.generation + 1, since: Instant::now() });
    }

    /// The spell of health that the node is in, if it is.
    pub(crate) fn spell(&self) -> Option<Spell> {
        let state = *self.0.borrow();
        state.healthy.then_some(Spell(state))
    }

    /// Waits until the node is healthy.
    pub(crate) async fn until_healthy(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as this; the wait cannot fail.
        let _ = receiver.wait_for(|state| state.healthy).await;
    }

    /// Whether nothing was done to the node since.
    pub(crate) fn unbroken(&self, spell: Spell) -> bool {
        self.0.borrow().generation == spell.0.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_is_broken_by_a_fault_also_when_the_node_is_healthy_again() {
        let condition = Condition::default();
        assert!(condition.spell().is_none());
        condition.healthy();
        let spell = condition.spell().unwrap();
        assert!(condition.unbroken(spell));
        condition.faulted();
        assert!(!condition.unbroken(spell));
        condition.healthy();
        assert!(!condition.unbroken(spell));
    }
}
