//! A command that is sent again gets the outcome of the first time.

use quorate_raft_machine::command::OPERATIONS_PER_COMMAND;
use quorate_raft_machine::origins::{BOOTS_PER_NODE, ORIGINS_LIMIT, OUTCOME_BYTES_PER_ORIGIN, OUTCOMES_PER_ORIGIN};
use quorate_raft_machine::outcome::REFUSAL_MESSAGE_LIMIT;
use quorate_raft_machine::{Command, Operation, Outcome, RefusalCode};

use crate::world::{World, create, draft, entry_id, short_policy};

fn codes(outcome: &Outcome) -> Vec<Option<RefusalCode>> {
    outcome.results.iter().map(|result| result.as_ref().err().map(|refusal| refusal.code)).collect()
}

fn unacknowledged(world: &mut World, operations: Vec<Operation>) -> Command {
    let mut command = world.command(operations);
    command.origin.acknowledged = 0;
    command
}

#[test]
fn a_repeat_changes_nothing_and_gets_the_same_outcome_whatever_happened_since() {
    let mut world = World::founded();
    let command = unacknowledged(
        &mut world,
        vec![
            create(draft("a", "/a", &["unix:uid:1"])),
            create(draft("a", "/b", &["unix:uid:1"])),
            create(draft("c", "/a", &["unix:uid:1"])),
        ],
    );
    let first = world.apply(&command);
    assert_eq!(codes(&first), [None, Some(RefusalCode::AlreadyExists), None]);
    let later = unacknowledged(&mut world, vec![Operation::DeleteEntry { id: entry_id("a"), revoke: None }]);
    world.apply(&later);
    world.take_events();
    let before = world.content();
    assert_eq!(world.apply(&command), first);
    assert_eq!(world.content(), before);
    assert_eq!(world.take_events(), []);
}

#[test]
fn sequences_may_arrive_in_any_order_above_the_floor() {
    let mut world = World::founded();
    let early = unacknowledged(&mut world, vec![create(draft("a", "/a", &["unix:uid:1"]))]);
    let late = unacknowledged(&mut world, vec![create(draft("b", "/b", &["unix:uid:1"]))]);
    assert_eq!(codes(&world.apply(&late)), [None]);
    assert_eq!(codes(&world.apply(&early)), [None]);
    assert_eq!(world.state.entry_count(), 2);
}

#[test]
fn what_was_acknowledged_is_forgotten_and_never_carried_out_again() {
    let mut world = World::founded();
    let command = unacknowledged(&mut world, vec![create(draft("a", "/a", &["unix:uid:1"]))]);
    world.apply(&command);
    let mut acknowledging = world.command(vec![Operation::DeleteEntry { id: entry_id("a"), revoke: None }]);
    acknowledging.origin.acknowledged = command.origin.sequence;
    world.apply(&acknowledging);
    assert_eq!(codes(&world.apply(&command)), [Some(RefusalCode::OutcomeForgotten)]);
    assert_eq!(world.state.entry_count(), 0);
}

#[test]
fn an_origin_that_acknowledges_nothing_keeps_its_newest_outcomes() {
    let mut world = World::founded();
    let commands: Vec<Command> = (0..OUTCOMES_PER_ORIGIN + 10)
        .map(|_| unacknowledged(&mut world, vec![Operation::DeleteEntry { id: entry_id("none"), revoke: None }]))
        .collect();
    let mut events = Vec::new();
    for command in &commands {
        world.log_index += 1;
        let outcome = world.state.apply(world.log_index, command, &mut events);
        assert_eq!(codes(&outcome), [Some(RefusalCode::NotFound)]);
    }
    assert_eq!(codes(&world.apply(&commands[0])), [Some(RefusalCode::OutcomeForgotten)]);
    assert_eq!(codes(&world.apply(&commands[9])), [Some(RefusalCode::OutcomeForgotten)]);
    for kept in [&commands[10], commands.last().unwrap()] {
        assert_eq!(codes(&world.apply(kept)), [Some(RefusalCode::NotFound)]);
    }
}

#[test]
fn the_start_of_a_node_that_was_unused_for_longest_goes_first() {
    let mut world = World::founded();
    let boots = u64::try_from(BOOTS_PER_NODE).unwrap();
    let command_of = |boot: u64, sequence: u64| {
        let mut command = World::empty().command(vec![Operation::DeleteEntry { id: entry_id("none"), revoke: None }]);
        command.origin = quorate_raft_machine::Origin { node: 2, boot, sequence, acknowledged: 0 };
        command
    };
    for boot in 1..=boots {
        world.apply(&command_of(boot, 1));
    }
    world.apply(&command_of(1, 2));
    world.apply(&command_of(boots + 1, 1));
    // Boot 2 is forgotten, so a command of it counts as new; boot 1 was used since, and is still known.
    let mut repeat = command_of(1, 1);
    repeat.operations = vec![create(draft("a", "/a", &["unix:uid:1"]))];
    assert_eq!(codes(&world.apply(&repeat)), [Some(RefusalCode::NotFound)], "the kept outcome");
    let mut new = command_of(2, 1);
    new.operations = vec![create(draft("a", "/a", &["unix:uid:1"]))];
    assert_eq!(codes(&world.apply(&new)), [None]);
}

#[test]
fn outcomes_beyond_their_bytes_are_forgotten_the_oldest_first_however_refusals_are_worded() {
    let mut world = World::founded();
    let many = vec![Operation::DeleteEntry { id: entry_id("none"), revoke: None }; OPERATIONS_PER_COMMAND];
    let fit = OUTCOME_BYTES_PER_ORIGIN / (OPERATIONS_PER_COMMAND * REFUSAL_MESSAGE_LIMIT);
    let commands: Vec<Command> = (0..=fit).map(|_| unacknowledged(&mut world, many.clone())).collect();
    let outcomes: Vec<Outcome> = commands.iter().map(|command| world.apply(command)).collect();
    assert_eq!(world.apply(&commands[fit]), outcomes[fit]);
    assert_eq!(world.apply(&commands[1]), outcomes[1]);
    assert_eq!(codes(&world.apply(&commands[0]))[0], Some(RefusalCode::OutcomeForgotten));
}

#[test]
fn when_there_are_too_many_origins_the_one_unused_for_longest_is_forgotten() {
    let mut world = World::empty();
    let found = world.found(short_policy());
    let found = world.command(vec![found]);
    let first = world.apply(&found);
    let mut events = Vec::new();
    let mut send = |world: &mut World, node: u64| {
        let mut command = found.clone();
        command.origin = quorate_raft_machine::Origin { node, boot: 1, sequence: 1, acknowledged: 0 };
        world.log_index += 1;
        codes(&world.state.apply(world.log_index, &command, &mut events))
    };
    let others = u64::try_from(ORIGINS_LIMIT).unwrap() - 1;
    for node in 2..others + 2 {
        assert_eq!(send(&mut world, node), [Some(RefusalCode::AlreadyFounded)]);
    }
    assert_eq!(codes(&first), [None]);
    assert_eq!(send(&mut world, 1), [None], "its outcome is still kept");
    send(&mut world, others + 2);
    assert_eq!(send(&mut world, 1), [Some(RefusalCode::AlreadyFounded)], "it was forgotten, so it is carried out anew");
}
