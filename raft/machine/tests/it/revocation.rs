//! Revocations: what is banned, which tokens are refused, and when CRLs are handed out (CRL-08).

use quorate_proto_identity::UnixSeconds;
use quorate_raft_machine::revocation::{CRL_LINGER, REVOCATIONS_LIMIT, RevocationDue, due};
use quorate_raft_machine::{
    CrlMode, Done, Event, NewRevocation, Operation, OperationResult, Policy, RefusalCode, RevocationReason,
    RevocationTarget,
};

use crate::world::{World, create, draft, entry_id, id, number, serial, short_policy};

pub(crate) fn revoke(target: RevocationTarget, ban: bool) -> Operation {
    Operation::Revoke(Box::new(NewRevocation { target, reason: RevocationReason::KeyCompromise, ban }))
}

fn of_id(path: &str) -> RevocationTarget {
    RevocationTarget::SpiffeId(id(path))
}

fn jti(name: &str, expires_at: i64) -> RevocationTarget {
    RevocationTarget::Jti { jti: name.to_owned(), expires_at: UnixSeconds(expires_at) }
}

fn number_of(result: OperationResult) -> u64 {
    let Ok(Done::Revoked { number }) = result else { unreachable!("it was to be recorded: {result:?}") };
    number
}

fn with_entry() -> World {
    let mut world = World::founded();
    world.one(create(draft("web", "/web", &["unix:uid:1"]))).unwrap();
    let root = world.active_root();
    let issuing = world.issuing(&root, 1, 20);
    world.one(Operation::RecordIssuingCertificate(Box::new(issuing))).unwrap();
    world.take_events();
    world
}

#[test]
fn crl_08_the_command_that_revokes_turns_crls_on_and_the_bans_of_the_same_log_index_hold() {
    let mut world = with_entry();
    assert!(!world.state.crls_are_on());
    assert!(world.state.crl_set().is_none());
    assert_eq!(world.state.is_banned(None, &id("/web"), number(1)), None);
    let number = number_of(world.one(revoke(of_id("/web"), true)));
    assert!(world.state.crls_are_on());
    assert_eq!(world.state.crl_set().unwrap().len(), 2, "of the root and of the issuing key");
    let events = world.take_events();
    assert_eq!(events, [Event::RevocationChanged { number }, Event::CrlsSwitched { on: true }, Event::CrlSetChanged]);
    let ban = world.state.is_banned(None, &id("/web"), crate::world::number(1)).unwrap();
    assert_eq!((ban.number, ban.reason, ban.up_to), (number, RevocationReason::KeyCompromise, world.seconds()));
}

#[test]
fn crl_08_crls_stay_on_until_an_hour_after_the_last_certificate_that_can_be_meant_has_ended() {
    let mut world = with_entry();
    world.one(revoke(RevocationTarget::Serial { serial: serial(5) }, false)).unwrap();
    let end = world.now + 20;
    assert_eq!(world.state.revocation(1).unwrap().expires_at, UnixSeconds(end));
    world.now = end + CRL_LINGER;
    world.one(Operation::PruneAuthorities).unwrap();
    assert!(world.state.crls_are_on());
    assert!(!due(&world.state, world.seconds()).contains(&RevocationDue::Prune));
    world.now += 1;
    world.take_events();
    world.one(Operation::PruneExpiredEntries).unwrap();
    assert!(!world.state.crls_are_on());
    assert_eq!(world.take_events(), [Event::CrlsSwitched { on: false }, Event::CrlSetChanged]);
    assert!(due(&world.state, world.seconds()).contains(&RevocationDue::Prune));
    let pruned = world.one(Operation::PruneRevocations);
    assert_eq!(pruned, Ok(Done::RevocationsPruned { revocations: 1, leaves: 0, more: false }));
    assert_eq!(world.state.revocations().count(), 0);
    let next = number_of(world.one(revoke(of_id("/web"), false)));
    assert_eq!(next, 2, "no number is given twice");
}

/// Token keys live for a week, where certificates live for hours.
#[test]
fn crl_08_a_rule_for_tokens_outlives_the_crls_of_its_certificates() {
    let mut world = with_entry();
    world.one(revoke(of_id("/web"), false)).unwrap();
    let revocation = world.state.revocation(1).unwrap();
    assert_eq!(revocation.certificates_end, Some(world.seconds().plus(20)));
    assert!(revocation.expires_at > world.seconds().plus(100));
    assert_eq!(world.state.crls_are_on_until(), Some(world.seconds().plus(20 + CRL_LINGER)));
}

#[test]
fn crl_08_the_policy_decides_whether_crls_are_off_or_always_on() {
    let mut world = with_entry();
    let set = |mode| Operation::SetPolicy { policy: Policy { crl_mode: mode, ..short_policy() }, expected_revision: 0 };
    world.one(set(CrlMode::Always)).unwrap();
    assert!(world.state.crl_set().is_some());
    assert!(world.take_events().contains(&Event::CrlsSwitched { on: true }));
    world.one(set(CrlMode::WhenRevoked)).unwrap();
    assert!(world.state.crl_set().is_none());
    world.one(set(CrlMode::Off)).unwrap();
    world.one(revoke(of_id("/web"), true)).unwrap();
    assert!(!world.state.crls_are_on());
    assert!(world.state.is_banned(None, &id("/web"), number(1)).is_some(), "the ban holds all the same");
    world.one(set(CrlMode::WhenRevoked)).unwrap();
    assert!(world.state.crls_are_on());
}

#[test]
fn a_ban_is_on_an_entry_an_id_or_a_node_and_holds_until_it_is_lifted() {
    let mut world = with_entry();
    let banned = |world: &World, entry: Option<&str>, path: &str, member: u64| {
        let entry = entry.map(entry_id);
        world.state.is_banned(entry.as_ref(), &id(path), number(member)).map(|ban| ban.number)
    };
    world.one(revoke(RevocationTarget::Entry(entry_id("web")), true)).unwrap();
    world.one(revoke(of_id("/db"), true)).unwrap();
    world.one(revoke(RevocationTarget::Node(number(1)), false)).unwrap();
    assert_eq!(banned(&world, Some("web"), "/renamed", 9), Some(1));
    assert_eq!(banned(&world, Some("other"), "/web", 9), None);
    assert_eq!(banned(&world, None, "/db", 9), Some(2));
    assert_eq!(banned(&world, Some("web"), "/db", 9), Some(1));
    assert_eq!(banned(&world, None, "/web", 1), None, "the node is revoked and not banned");
    world.one(revoke(RevocationTarget::Node(number(1)), true)).unwrap();
    assert_eq!(banned(&world, None, "/web", 1), Some(4));
    world.now += 100_000;
    let pruned = world.one(Operation::PruneRevocations).unwrap();
    assert_eq!(pruned, Done::RevocationsPruned { revocations: 1, leaves: 0, more: false }, "a ban has no end");
    assert_eq!(world.one(Operation::RemoveRevocation { number: 2 }), Ok(Done::RevocationRemoved { number: 2 }));
    assert_eq!(banned(&world, None, "/db", 9), None);
    world.one(Operation::PruneRevocations).unwrap();
    assert!(world.state.revocation(2).is_none());
    world.refused_with(Operation::RemoveRevocation { number: 2 }, RefusalCode::NotFound);
}

/// Refuses: JWT-28 by a rule for one `jti`.
#[test]
fn tokens_of_a_subject_are_refused_that_were_issued_up_to_the_revocation_and_those_of_a_jti() {
    let mut world = with_entry();
    let refused = |world: &World, path: &str, jti: Option<&str>, at: i64| {
        world.state.token_refusal(&id(path), jti, UnixSeconds(at)).map(|rule| rule.number)
    };
    let revoked_at = world.now;
    world.one(revoke(RevocationTarget::Entry(entry_id("web")), false)).unwrap();
    world.one(revoke(jti("token-1", world.now + 60), false)).unwrap();
    world.now += 1;
    world.one(revoke(RevocationTarget::Serial { serial: serial(4) }, false)).unwrap();
    world.one(revoke(RevocationTarget::Node(number(1)), false)).unwrap();
    assert_eq!(refused(&world, "/web", None, revoked_at), Some(1));
    assert_eq!(refused(&world, "/web", None, revoked_at + 1), None);
    assert_eq!(refused(&world, "/db", None, revoked_at), None);
    assert_eq!(refused(&world, "/db", Some("token-1"), revoked_at + 1), Some(2));
    assert_eq!(refused(&world, "/db", Some("token-2"), revoked_at), None);
    let later = number_of(world.one(revoke(of_id("/web"), false)));
    assert_eq!(refused(&world, "/web", None, revoked_at + 1), Some(later));
    for number in [1, 2, later] {
        world.one(Operation::RemoveRevocation { number }).unwrap();
    }
    assert_eq!(refused(&world, "/web", Some("token-1"), revoked_at), None);
    let message = world.refused_with(Operation::RemoveRevocation { number: 3 }, RefusalCode::WrongState);
    assert!(message.contains("stays revoked"), "{message}");
    world.refused_with(Operation::RemoveRevocation { number: 1 }, RefusalCode::WrongState);
    assert!(world.state.crls_are_on(), "what is lifted is never what is in a CRL");
}

#[test]
fn a_rule_for_one_token_turns_no_crls_on_and_ends_with_the_token() {
    let mut world = with_entry();
    world.one(revoke(jti("token-1", world.now + 5), false)).unwrap();
    assert!(!world.state.crls_are_on());
    assert_eq!(world.state.revocation(1).unwrap().expires_at, UnixSeconds(world.now + 5));
    let far = number_of(world.one(revoke(jti("token-2", i64::MAX), false)));
    let last = world.state.active_jwt_authority().unwrap().validity.not_after();
    assert!(world.state.revocation(far).unwrap().expires_at <= last.plus(61), "no token outlives its key");
}

#[test]
fn an_entry_is_deleted_and_revoked_in_one_step_or_not_at_all() {
    let mut world = with_entry();
    let delete = |entry: &str| Operation::DeleteEntry {
        id: entry_id(entry),
        revoke: Some(RevocationReason::CessationOfOperation),
    };
    world.refused_with(delete("nobody"), RefusalCode::NotFound);
    let done = world.one(delete("web"));
    assert_eq!(done, Ok(Done::EntryDeleted { id: entry_id("web"), revocation: Some(1) }));
    let revocation = world.state.revocation(1).unwrap();
    assert_eq!(revocation.subject, Some(id("/web")));
    assert_eq!((revocation.ban, revocation.reason), (false, RevocationReason::CessationOfOperation));
    assert!(world.state.crls_are_on());
    let late = revoke(RevocationTarget::Entry(entry_id("web")), false);
    let message = world.refused_with(late, RefusalCode::NotFound);
    assert!(message.contains("with its deletion"), "{message}");
}

#[test]
fn what_cannot_be_revoked_is_refused_by_what_is_wrong_with_it() {
    let mut world = with_entry();
    let now = world.now;
    let foreign = quorate_proto_identity::SpiffeId::parse("spiffe://other.org/web").unwrap();
    for (operation, code, said) in [
        (revoke(RevocationTarget::Serial { serial: serial(1) }, true), RefusalCode::Invalid, "cannot be banned"),
        (revoke(jti("a", now), true), RefusalCode::Invalid, "cannot be banned"),
        (revoke(RevocationTarget::SpiffeId(foreign), false), RefusalCode::Invalid, "not of trust domain"),
        (revoke(RevocationTarget::Node(number(7)), false), RefusalCode::NotFound, "no member 7"),
        (revoke(RevocationTarget::Entry(entry_id("x")), false), RefusalCode::NotFound, "no entry has the ID x"),
        (revoke(jti("", now), false), RefusalCode::Invalid, "has 0 bytes"),
        (revoke(jti(&"j".repeat(256), now), false), RefusalCode::Invalid, "has 256 bytes"),
        (revoke(jti("a", now - 1), false), RefusalCode::WrongState, "the token ended"),
    ] {
        let message = world.refused_with(operation, code);
        assert!(message.contains(said), "{message:?} does not say {said:?}");
    }
}

#[test]
fn revocations_have_a_limit_and_the_refusal_says_what_to_do() {
    let mut world = World::founded();
    for _ in 0..REVOCATIONS_LIMIT / 1_000 {
        let command = world.command(vec![revoke(of_id("/a"), false); 1_000]);
        world.log_index += 1;
        let outcome = world.state.apply(world.log_index, &command, &mut Vec::new());
        assert!(outcome.results.iter().all(Result::is_ok));
    }
    let message = world.refused_with(revoke(of_id("/a"), false), RefusalCode::LimitReached);
    assert!(message.contains("remove bans"), "{message}");
    world.refused_with(
        Operation::DeleteEntry { id: entry_id("nobody"), revoke: Some(RevocationReason::Unspecified) },
        RefusalCode::NotFound,
    );
}
