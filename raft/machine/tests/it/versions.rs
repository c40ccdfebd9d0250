//! Versions: what is switched on, when, and who stops.

#[cfg(not(feature = "bumped-version"))]
use quorate_raft_machine::StoredError;
use quorate_raft_machine::entry::HINT_LIMIT;
use quorate_raft_machine::{COMMAND_VERSION, Command, Done, Event, Operation, RefusalCode};

use crate::world::{World, create, draft, member, number};

/// A command of the version that a test build makes of itself, which no released program has: an entry with a hint that
/// is longer than version 1 takes.
fn of_version_2(world: &mut World) -> Command {
    let mut long = draft("long", "/long", &["unix:uid:1"]);
    long.hint = "x".repeat(HINT_LIMIT + 1);
    world.command(vec![create(long)])
}

fn announce(world: &mut World, version: u32) {
    for member in 1..=world.state.members().count() {
        let operation = Operation::AnnounceMember {
            number: number(u64::try_from(member).unwrap()),
            addresses: vec![],
            version,
            build: "next".to_owned(),
            serves: quorate_raft_machine::MemberServices::default(),
        };
        world.one(operation).unwrap();
    }
}

#[test]
fn a_version_is_switched_on_when_every_member_announces_it_and_never_off() {
    let mut world = World::founded();
    let mut second = member("node-2");
    second.version = 7;
    world.one(Operation::SetMember { number: None, member: Box::new(second) }).unwrap();
    let message = world.refused_with(Operation::RaiseVersion { version: 7 }, RefusalCode::WrongState);
    assert!(message.contains("member 1 (node-1) can do version"), "{message}");
    let same = COMMAND_VERSION.min(1);
    assert_eq!(world.one(Operation::RaiseVersion { version: same }), Ok(Done::VersionRaised { version: same }));
    announce(&mut world, 7);
    world.take_events();
    assert_eq!(world.one(Operation::RaiseVersion { version: 7 }), Ok(Done::VersionRaised { version: 7 }));
    assert_eq!(world.take_events(), [Event::VersionRaised { version: 7 }]);
    assert_eq!(world.state.version(), 7);
    world.refused_with(Operation::RaiseVersion { version: 6 }, RefusalCode::WrongState);
    let old = Operation::AnnounceMember {
        number: number(1),
        addresses: vec![],
        version: 6,
        build: String::new(),
        serves: quorate_raft_machine::MemberServices::default(),
    };
    let message = world.refused_with(old, RefusalCode::WrongState);
    assert!(message.contains("works by version 7: upgrade this node"), "{message}");
    // A member that applies this and is too old for it must not go on.
    let error = world.state.check_program().unwrap_err();
    assert!(error.to_string().contains("needs version 7"), "{error}");
}

#[test]
fn a_snapshot_of_a_version_that_this_program_does_not_have_is_refused() {
    let mut world = World::founded();
    announce(&mut world, 9);
    world.one(Operation::RaiseVersion { version: 9 }).unwrap();
    let mut reader = quorate_raft_machine::SnapshotReader::new();
    for chunk in world.state.view().chunks() {
        reader.push(&chunk).unwrap();
    }
    let error = reader.finish().unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("needs version 9") && source.contains("upgrade this node"), "{source}");
}

/// What the program of today does with a command of the next version.
#[cfg(not(feature = "bumped-version"))]
#[test]
fn a_command_of_a_later_version_is_refused_by_name_of_both_versions() {
    let mut world = World::founded();
    // As the test build writes it: the envelope says that it needs version 2.
    let mut stored = of_version_2(&mut world).encode().to_vec();
    assert_eq!(stored[..4], [0x08, 1, 0x10, 1]);
    stored[3] = 2;
    let error = Command::decode(stored.into()).unwrap_err();
    assert_eq!(error, StoredError::NeedsVersion { needed: 2, have: 1 });
    assert!(error.to_string().contains("needs version 2") && error.to_string().contains("this is version 1"));
}

/// The next program, beside members of today and after all are upgraded. `--features bumped-version`.
#[cfg(feature = "bumped-version")]
#[test]
fn what_a_version_brings_waits_until_it_is_switched_on() {
    let mut world = World::founded();
    let command = of_version_2(&mut world);
    assert_eq!(command.min_version(), 2);
    assert_eq!(command.encode()[..4], [0x08, 1, 0x10, 2]);
    let error = world.state.check_min_version(&command).unwrap_err();
    assert!(error.to_string().contains("needs version 2, the cluster works by version 1"), "{error}");
    let result = world.apply(&command).results.remove(0);
    assert_eq!(result.unwrap_err().code, RefusalCode::Invalid, "it behaves as every member of the cluster does");
    announce(&mut world, COMMAND_VERSION);
    world.one(Operation::RaiseVersion { version: COMMAND_VERSION }).unwrap();
    let command = of_version_2(&mut world);
    assert_eq!(world.state.check_min_version(&command), Ok(()));
    assert!(world.apply(&command).results.remove(0).is_ok());
    assert_eq!(world.state.check_program(), Ok(()));
}
