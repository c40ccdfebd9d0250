//! Invitations and admission: one secret, one member, one data directory.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto_identity::{NodeName, UnixSeconds};
use quorate_raft_machine::invitation::{INVITATION_LIFETIME_LIMIT, INVITATIONS_LIMIT};
use quorate_raft_machine::{
    Admission, Done, Event, MemberDraft, MemberRole, MemberStatus, NewInvitation, Operation, RefusalCode,
};

use crate::world::{World, key, member, number};

/// The hash of the n-th secret.
pub(crate) fn secret(n: u8) -> [u8; 32] {
    [n; 32]
}

pub(crate) fn invitation(world: &World, n: u8, name: &str) -> NewInvitation {
    NewInvitation {
        secret_hash: secret(n),
        name: NodeName::new(name).unwrap(),
        role: None,
        region: "eu-west".to_owned(),
        zone: "b".to_owned(),
        labels: BTreeMap::from([("rack".to_owned(), "9".to_owned())]),
        expires_at: UnixSeconds(world.now + 600),
    }
}

pub(crate) fn newcomer(n: u8, name: &str) -> Admission {
    Admission {
        secret_hash: Some(secret(n)),
        incarnation: [n; 16],
        name: NodeName::new(name).unwrap(),
        identity_key: Bytes::copy_from_slice(key().public_key().spki_der()),
        sealing_key: Bytes::from_static(b"sealing key of a newcomer"),
        addresses: vec!["node-2.example.org:8082".to_owned()],
        version: 1,
        build: "0.1.0".to_owned(),
    }
}

fn invite(invitation: NewInvitation) -> Operation {
    Operation::CreateInvitation(Box::new(invitation))
}

fn admit(admission: &Admission) -> Operation {
    Operation::AdmitMember(Box::new(admission.clone()))
}

/// A state with an invitation for node-2 under the first secret.
fn inviting() -> World {
    let mut world = World::founded();
    let new = invitation(&world, 1, "node-2");
    world.one(invite(new)).unwrap();
    world.take_events();
    world
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

#[test]
fn an_invitation_lets_one_newcomer_in_with_what_the_operator_said_of_it() {
    let mut world = inviting();
    let newcomer = newcomer(1, "node-2");
    assert_eq!(world.one(admit(&newcomer)), Ok(Done::MemberAdmitted { number: number(2) }));
    let events = [Event::InvitationChanged { name: name("node-2") }, Event::MemberChanged { number: number(2) }];
    assert_eq!(world.take_events(), events);
    assert_eq!(world.state.invitations().count(), 0);
    let admitted = world.state.member(number(2)).unwrap();
    assert_eq!(
        admitted.record,
        MemberDraft {
            name: name("node-2"),
            identity_key: newcomer.identity_key.clone(),
            sealing_key: newcomer.sealing_key.clone(),
            incarnation: Some([1; 16]),
            region: "eu-west".to_owned(),
            zone: "b".to_owned(),
            labels: BTreeMap::from([("rack".to_owned(), "9".to_owned())]),
            addresses: newcomer.addresses,
            version: 1,
            build: "0.1.0".to_owned(),
            role: MemberRole::Learner,
            role_pinned: false,
            status: MemberStatus::Admitted,
            serves: quorate_raft_machine::MemberServices::default(),
        }
    );
    assert!(admitted.has_joined() && admitted.is_sealable() && !admitted.may_open_roots());
}

#[test]
fn a_role_that_the_operator_chose_stays() {
    for role in [MemberRole::Voter, MemberRole::Learner] {
        let mut world = World::founded();
        let new = NewInvitation { role: Some(role), ..invitation(&world, 1, "node-2") };
        world.one(invite(new)).unwrap();
        world.one(admit(&newcomer(1, "node-2"))).unwrap();
        let record = &world.state.member(number(2)).unwrap().record;
        assert_eq!((record.role, record.role_pinned), (role, true));
    }
}

/// The joiner repeats its request until it has heard an answer; the answer may have been lost each time.
#[test]
fn the_same_secret_key_and_directory_get_the_same_answer_for_as_long_as_the_member_is_there() {
    let mut world = inviting();
    let newcomer = newcomer(1, "node-2");
    world.one(admit(&newcomer)).unwrap();
    world.take_events();
    let content = world.content();
    world.now += 7_200;
    let repeated = Admission { addresses: vec!["other:1".to_owned()], ..newcomer.clone() };
    assert_eq!(world.one(admit(&repeated)), Ok(Done::MemberAdmitted { number: number(2) }));
    let without_secret = Admission { secret_hash: None, ..newcomer };
    assert_eq!(world.one(admit(&without_secret)), Ok(Done::MemberAdmitted { number: number(2) }));
    assert_eq!(world.content(), content, "nothing is changed by asking again");
    assert_eq!(world.take_events(), []);
}

/// ATK-06, INV-10: whoever comes first in the log is let in, and nobody else ever.
#[test]
fn a_used_invitation_admits_nobody_else() {
    let mut world = inviting();
    world.one(admit(&newcomer(1, "node-2"))).unwrap();
    let thief = Admission { incarnation: [7; 16], ..newcomer(1, "node-2") };
    let message = world.refused_with(admit(&thief), RefusalCode::WrongState);
    assert!(message.contains("was used: it admitted member 2 (node-2)"), "{message}");
    let renamed = newcomer(1, "node-3");
    world.refused_with(admit(&renamed), RefusalCode::WrongState);
    let again = invitation(&world, 1, "node-3");
    let message = world.refused_with(invite(again), RefusalCode::Invalid);
    assert!(message.contains("was used for another"), "{message}");
}

/// FLT-18.
#[test]
fn a_node_whose_disk_was_lost_cannot_come_back_under_its_old_identity() {
    let mut world = inviting();
    let newcomer = newcomer(1, "node-2");
    world.one(admit(&newcomer)).unwrap();
    for secret_hash in [Some(secret(1)), None, Some(secret(2))] {
        let lost = Admission { incarnation: [2; 16], secret_hash, ..newcomer.clone() };
        let message = world.refused_with(admit(&lost), RefusalCode::WrongState);
        assert!(message.contains("disk was lost") && message.contains("cluster remove node-2"), "{message}");
        assert!(message.contains("invite the node anew"), "{message}");
    }
    // The keys went with the disk.
    let without_keys = Admission { incarnation: [2; 16], ..crate::admission::newcomer(1, "node-2") };
    let message = world.refused_with(admit(&without_keys), RefusalCode::WrongState);
    assert!(message.contains("remove the member, then invite it anew"), "{message}");
    let other_sealing_key = Admission { sealing_key: Bytes::from_static(b"other"), ..newcomer.clone() };
    world.refused_with(admit(&other_sealing_key), RefusalCode::Invalid);
    let other_secret = Admission { secret_hash: Some(secret(9)), ..newcomer };
    let message = world.refused_with(admit(&other_secret), RefusalCode::WrongState);
    assert!(message.contains("start it without"), "{message}");
}

#[test]
fn a_removed_nodes_key_stays_out_and_its_name_may_be_invited_anew() {
    let mut world = inviting();
    let newcomer = newcomer(1, "node-2");
    world.one(admit(&newcomer)).unwrap();
    world.one(Operation::RemoveMember { number: number(2), compromised: false }).unwrap();
    let message = world.refused_with(admit(&newcomer), RefusalCode::WrongState);
    assert!(message.contains("is leaving"), "{message}");
    world.one(Operation::CompleteRemoval { number: number(2) }).unwrap();
    let anew = invitation(&world, 2, "node-2");
    world.one(invite(anew)).unwrap();
    let message = world.refused_with(
        admit(&Admission { secret_hash: Some(secret(2)), incarnation: [3; 16], ..newcomer }),
        RefusalCode::WrongState,
    );
    assert!(message.contains("empty data directory"), "{message}");
    let fresh = crate::admission::newcomer(2, "node-2");
    assert_eq!(world.one(admit(&fresh)), Ok(Done::MemberAdmitted { number: number(3) }));
}

#[test]
fn wrong_expired_and_foreign_invitations_are_refused_each_in_its_words() {
    let mut world = inviting();
    let message = world.refused_with(admit(&newcomer(9, "node-2")), RefusalCode::NotFound);
    assert!(message.contains("no such invitation"), "{message}");
    let message = world.refused_with(admit(&newcomer(1, "node-3")), RefusalCode::Invalid);
    assert!(message.contains("for the name node-2, this node is node-3"), "{message}");
    let uninvited = Admission { secret_hash: None, ..newcomer(1, "node-2") };
    let message = world.refused_with(admit(&uninvited), RefusalCode::NotFound);
    assert!(message.contains("quorate cluster invite"), "{message}");
    let founder = world.state.member(number(1)).unwrap().record.identity_key.clone();
    let same_key = Admission { identity_key: founder, ..newcomer(1, "node-2") };
    let message = world.refused_with(admit(&same_key), RefusalCode::Invalid);
    assert!(message.contains("member 1, whose name is node-1"), "{message}");
    for wrong in [
        Admission { identity_key: Bytes::from_static(b"no key"), ..newcomer(1, "node-2") },
        Admission { sealing_key: Bytes::new(), ..newcomer(1, "node-2") },
        Admission { addresses: vec![String::new()], ..newcomer(1, "node-2") },
    ] {
        world.refused_with(admit(&wrong), RefusalCode::Invalid);
    }
    let old = Admission { version: 0, ..newcomer(1, "node-2") };
    world.refused_with(admit(&old), RefusalCode::WrongState);
    world.now += 600;
    let message = world.refused_with(admit(&newcomer(1, "node-2")), RefusalCode::WrongState);
    assert!(message.contains("expired at"), "{message}");
    assert!(world.state.has_prunable_authorities(world.seconds()));
    world.one(Operation::PruneAuthorities).unwrap();
    assert_eq!(world.state.invitations().count(), 0);
    world.refused_with(admit(&newcomer(1, "node-2")), RefusalCode::NotFound);
}

#[test]
fn an_invitation_is_for_a_free_name_and_for_a_short_time() {
    let mut world = inviting();
    let same = invitation(&world, 1, "node-2");
    assert_eq!(world.one(invite(same)), Ok(Done::InvitationCreated { name: name("node-2") }), "a repeat");
    let other = invitation(&world, 2, "node-2");
    let message = world.refused_with(invite(other.clone()), RefusalCode::AlreadyExists);
    assert!(message.contains("delete it first"), "{message}");
    let taken = invitation(&world, 2, "node-1");
    let message = world.refused_with(invite(taken), RefusalCode::AlreadyExists);
    assert!(message.contains("that of member 1"), "{message}");
    let same_secret = invitation(&world, 1, "node-3");
    world.refused_with(invite(same_secret), RefusalCode::Invalid);
    for life in [0, -1, INVITATION_LIFETIME_LIMIT + 1] {
        let expires_at = UnixSeconds(world.now + life);
        let wrong = NewInvitation { expires_at, ..invitation(&world, 3, "node-3") };
        world.refused_with(invite(wrong), RefusalCode::Invalid);
    }
    let wrong = NewInvitation { region: "a\n".to_owned(), ..invitation(&world, 3, "node-3") };
    world.refused_with(invite(wrong), RefusalCode::Invalid);
    world.one(Operation::DeleteInvitation { name: name("node-2") }).unwrap();
    world.refused_with(Operation::DeleteInvitation { name: name("node-2") }, RefusalCode::NotFound);
    world.one(invite(other)).unwrap();
    world.now += 600;
    let after_expiry = invitation(&world, 4, "node-2");
    world.one(invite(after_expiry)).unwrap();
    assert_eq!(world.state.invitation(&name("node-2")).unwrap().invitation.secret_hash, secret(4));
}

#[test]
fn there_are_at_most_so_many_invitations_and_expired_ones_make_room() {
    let mut world = World::founded();
    let mut events = Vec::new();
    for n in 0..INVITATIONS_LIMIT {
        let mut new = invitation(&world, 0, &format!("node-{}", n + 2));
        new.secret_hash[..8].copy_from_slice(&u64::try_from(n + 1).unwrap().to_be_bytes());
        let command = world.command(vec![invite(new)]);
        world.log_index += 1;
        let outcome = world.state.apply(world.log_index, &command, &mut events);
        assert!(outcome.results[0].is_ok(), "{outcome:?}");
    }
    let more = invitation(&world, 200, "one-too-many");
    world.refused_with(invite(more), RefusalCode::LimitReached);
    world.now += 600;
    let more = invitation(&world, 200, "one-too-many");
    world.one(invite(more)).unwrap();
    assert_eq!(world.state.invitations().count(), 1, "what has expired went");
}

/// Section 4, membership: fleets start from a list that every node is given.
#[test]
fn a_node_of_the_founding_list_joins_by_its_key_alone_and_once() {
    let mut world = World::founded();
    let newcomer = Admission { secret_hash: None, ..newcomer(1, "node-2") };
    let listed = MemberDraft {
        identity_key: newcomer.identity_key.clone(),
        sealing_key: Bytes::new(),
        version: 0,
        ..member("node-2")
    };
    world.one(Operation::SetMember { number: None, member: Box::new(listed) }).unwrap();
    assert!(!world.state.member(number(2)).unwrap().is_sealable());
    let other_name = Admission { name: name("node-3"), ..newcomer.clone() };
    world.refused_with(admit(&other_name), RefusalCode::Invalid);
    let invited = Admission { secret_hash: Some(secret(1)), ..newcomer.clone() };
    world.refused_with(admit(&invited), RefusalCode::Invalid);

    assert_eq!(world.one(admit(&newcomer)), Ok(Done::MemberAdmitted { number: number(2) }));
    let joined = world.state.member(number(2)).unwrap();
    assert!(joined.has_joined() && joined.is_sealable());
    assert_eq!((joined.record.version, &joined.record.sealing_key), (1, &newcomer.sealing_key));
    assert_eq!(joined.record.addresses, newcomer.addresses);
    assert_eq!(world.one(admit(&newcomer)), Ok(Done::MemberAdmitted { number: number(2) }));
    let lost = Admission { incarnation: [8; 16], ..newcomer };
    let message = world.refused_with(admit(&lost), RefusalCode::WrongState);
    assert!(message.contains("disk was lost"), "{message}");
}

/// ATK-07.
#[test]
fn no_secret_and_no_hash_of_one_is_shown() {
    let world = inviting();
    let shown = format!("{:?} {:?}", world.state.invitations().collect::<Vec<_>>(), newcomer(1, "node-2"));
    assert!(shown.contains("node-2") && !shown.contains("1, 1, 1"), "{shown}");
}
