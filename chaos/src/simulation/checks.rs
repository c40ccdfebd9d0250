//! What must hold after every step, and at the end: `INV-01` to `INV-04`, `INV-09`, `INV-13`.

use super::{
    clients::{SHARED_KEYS, mark_of, shared_key},
    world::World,
};
use crate::{
    history::{Kind, Op},
    linearizability,
};
use quorate_raft_consensus::Handle;
use quorate_raft_machine::StateHash;

/// Looks at every node that is up, after a step.
pub(crate) fn after_step(world: &World) {
    let mut furthest: Option<(usize, u64, Handle)> = None;
    for (node, handle) in world.handles() {
        let (index, hash) = state_of(&handle);
        let sequence = handle.state().read(|state| state.bundle().sequence);
        let last_log_index = handle.health().last_log_index.unwrap_or(0);
        let (moved, before) = {
            let mut inner = world.lock();
            let Some(place) = inner.places.get_mut(node) else { continue };
            place.number = handle.member().map(|member| member.get()).or(place.number);
            place.last_log_index = last_log_index;
            let before = std::mem::replace(&mut place.sequence, sequence);
            (std::mem::replace(&mut place.applied_index, index), before)
        };
        if sequence < before {
            world.broken(format!(
                "INV-09: node {node}: the sequence number of its bundle went from {before} to {sequence}"
            ));
        }
        if index < moved {
            world.broken(format!("node {node}: its applied index went back from {moved} to {index}"));
        }
        if index > moved {
            if let Some(id) = handle.state().read(|state| state.active_jwt_authority().map(|key| key.id.to_string())) {
                world.token_key_signs(id);
            }
            world.has_hash(node, index, hash);
            if furthest.as_ref().is_none_or(|(_, furthest, _)| index > *furthest) {
                furthest = Some((node, index, handle));
            }
        }
    }
    if let Some((node, index, handle)) = furthest {
        a_majority_has(world, node, index, &handle);
    }
}

fn state_of(handle: &Handle) -> (u64, StateHash) {
    handle.state().read_at(|index, state| (index, state.state_hash()))
}

/// What is applied was committed: a majority of the voters of each configuration has it in its log (INV-04).
fn a_majority_has(world: &World, node: usize, index: u64, handle: &Handle) {
    let logs: Vec<(u64, u64)> = {
        let inner = world.lock();
        if inner.places.iter().any(|place| place.lied) {
            return;
        }
        let numbered = inner.places.iter().filter_map(|place| Some((place.number?, place.last_log_index)));
        numbered.collect()
    };
    for voters in handle.raft_members().voters {
        let having = logs.iter().filter(|(number, last)| voters.contains(number) && *last >= index).count();
        if having * 2 <= voters.len() {
            world.broken(format!(
                "INV-04: node {node} has applied index {index}, which {having} of {} voters have in their logs: {logs:?}",
                voters.len()
            ));
        }
    }
}

/// Whether every node is up and has applied the same.
pub(crate) fn all_are_level(world: &World, nodes: usize) -> bool {
    let handles = world.handles();
    let mut levels = handles.iter().map(|(_, handle)| handle.state().applied_index());
    let first = levels.next();
    handles.len() == nodes && levels.all(|level| Some(level) == first)
}

/// Whether every node is up, is a voter, and has applied the same.
pub(crate) fn all_are_voters(world: &World, nodes: usize) -> bool {
    let voters = |handle: &Handle| {
        let voters = handle.raft_members().voters;
        voters.len() == 1 && voters.first().is_some_and(|voters| voters.len() == nodes)
    };
    all_are_level(world, nodes) && world.handles().iter().all(|(_, handle)| voters(handle))
}

/// Looks at everything once more, when all nodes are level and nobody writes.
pub(crate) fn at_the_end(world: &World) {
    let handles = world.handles();
    for (node, handle) in &handles {
        let (index, hash) = state_of(handle);
        world.has_hash(*node, index, hash);
        for (key, mark) in world.kept() {
            let found = handle.state().read(|state| mark_of(state, &key));
            if found != Some(mark) {
                world.broken(format!("INV-01: {key} was acknowledged with {mark}, and node {node} has {found:?}"));
            }
        }
        // All are level and nothing is under way: what each has is what a linearizable read would give.
        for number in 0..SHARED_KEYS {
            let (process, key) = (world.new_process(), shared_key(number));
            world.record(process, Kind::Invoke, Op::Read, &key, None, false);
            let value = handle.state().read(|state| mark_of(state, &key));
            world.record(process, Kind::Ok, Op::Read, &key, value, false);
        }
    }
    if let Err(error) = world.with_history(linearizability::check) {
        world.broken(format!("INV-02: {error}"));
    }
}
