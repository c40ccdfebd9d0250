//! An operator beside each node, who moves authorities on while faults happen (FLT-24).
//!
//! ```text
//!   prepare ──► activate ──► taint ──► revoke       of roots and of token keys, by what this node has applied
//!   replace                                         half of the time as compromised: the leader goes on by itself
//! ```
//!
//! Nothing is forced: what a gate refuses is refused, and what was acknowledged holds. After an acknowledged taint no
//! connected node hands out anything under that authority (INV-06), which the workloads look at.

use super::{
    chance,
    world::{Phase, World},
};
use quorate_actors::{AuthorityError, System};
use quorate_proto_identity::AuthorityId;
use quorate_raft_consensus::Handle;
use quorate_raft_machine::{AuthorityKind, AuthorityState, AuthorityView, Caller};
use rand::{Rng, rngs::SmallRng, seq::SliceRandom};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause of an operator between two commands, in milliseconds: least and most.
const PAUSE_MILLIS: (u64, u64) = (200, 1_600);

/// How long a command may take, gates included.
const COMMAND_LIMIT: Duration = Duration::from_secs(2);

/// Steps of a run after which no more authorities are made: each takes a key of a list that has an end.
const STEPS_MAX: u64 = 24;

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Prepare,
    Activate,
    Taint,
    Revoke,
    Replace { compromised: bool },
}

/// Lets the operator of a boot of a node loose.
pub(crate) fn start(world: &Arc<World>, node: usize, boot: u64, handle: &Handle, system: &Arc<System>) {
    let operator = Operator {
        world: Arc::clone(world),
        node,
        handle: handle.clone(),
        system: Arc::clone(system),
        random: chance::stream(world.seed(), "operator", node as u64, boot),
    };
    tokio::spawn(operator.work_on());
}

struct Operator {
    world: Arc<World>,
    node: usize,
    handle: Handle,
    system: Arc<System>,
    random: SmallRng,
}

impl Operator {
    async fn work_on(mut self) {
        while self.world.phase() != Phase::Ending {
            let (least, most) = PAUSE_MILLIS;
            sleep(chance::millis(&mut self.random, least, most)).await;
            if self.world.phase() == Phase::Beginning || self.world.lock().writers_pause {
                continue;
            }
            let Some(kind) = AuthorityKind::ALL.choose(&mut self.random).copied() else { return };
            let known = self.handle.state().read(|state| state.authorities(kind));
            if let Some((step, id)) = self.choose(&known) {
                self.take(kind, step, id).await;
            }
        }
    }

    /// A step that fits the authorities of a kind, and the authority that it is about.
    fn choose(&mut self, known: &[AuthorityView]) -> Option<(Step, Option<AuthorityId>)> {
        let in_state =
            |state| known.iter().find(|authority| authority.state == state).map(|found| Some(found.id.clone()));
        let may_make = self.world.lock().counts.steps < STEPS_MAX;
        let begin = match self.random.gen_range(0..4) {
            0 if may_make => Some((Step::Prepare, None)),
            1 if may_make => {
                Some((Step::Replace { compromised: self.random.r#gen() }, in_state(AuthorityState::Active)?))
            }
            _ => None,
        };
        let mut fitting: Vec<_> = [
            (Step::Activate, AuthorityState::Prepared),
            (Step::Taint, AuthorityState::Old),
            (Step::Revoke, AuthorityState::Tainted),
        ]
        .into_iter()
        .filter_map(|(step, state)| Some((step, in_state(state)?)))
        .collect();
        fitting.extend(begin);
        fitting.choose(&mut self.random).cloned()
    }

    async fn take(&self, kind: AuthorityKind, step: Step, id: Option<AuthorityId>) {
        let (authorities, asker, deadline) =
            (self.system.authorities(), Caller::node(), Instant::now() + COMMAND_LIMIT);
        let about = id.as_ref().map_or_else(|| "another".to_owned(), ToString::to_string);
        if matches!(step, Step::Taint | Step::Revoke | Step::Replace { compromised: true }) {
            self.world.is_condemned(about.clone());
        }
        let outcome = match (step, &id) {
            (Step::Activate, Some(id)) => authorities.activate(&asker, kind, id, false, deadline, |_| {}).await,
            (Step::Taint, Some(id)) => authorities.taint(&asker, kind, id, deadline).await,
            (Step::Revoke, Some(id)) => authorities.revoke(&asker, kind, id, false, deadline, |_| {}).await,
            (Step::Replace { compromised }, id) => {
                authorities.replace(&asker, kind, id.as_ref(), compromised, deadline).await
            }
            (Step::Prepare | Step::Activate | Step::Taint | Step::Revoke, _) => {
                authorities.prepare(&asker, kind, deadline).await
            }
        };
        let outcome = match outcome {
            Ok(change) => {
                self.world.lock().counts.steps += 1;
                if step == Step::Taint {
                    self.world.is_tainted(about.clone());
                }
                format!("done, {:?}", change.state)
            }
            Err(AuthorityError::NotEverywhere { .. }) => {
                self.world.lock().counts.steps += 1;
                "done, not everywhere".to_owned()
            }
            Err(error) => error.to_string(),
        };
        self.world.trace(Some(self.node), &format!("operator: {} {step:?} {about}: {outcome}", kind.word()));
    }
}
