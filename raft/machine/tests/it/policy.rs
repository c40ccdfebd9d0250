//! The policy: cross checks, and compare and set.

use quorate_proto_identity::KeyType;
use quorate_raft_machine::policy::AUTHORITY_LIFETIME_LIMIT;
use quorate_raft_machine::{Done, Event, Operation, Policy, RefusalCode};

use crate::world::{Change, World, short_policy};

/// Accepts: JWT-18 by tokens of five minutes, and of seconds.
#[test]
fn the_defaults_and_a_policy_of_seconds_agree_with_themselves() {
    assert_eq!(Policy::default().check(), Ok(()));
    assert_eq!(short_policy().check(), Ok(()));
}

/// Refuses: JWT-18 by tokens that live for more than a share of their key's life. Refuses: BND-14 by a hint of nothing.
#[test]
fn each_contradiction_names_both_values_and_what_would_pass() {
    let cases: [(Change<Policy>, &[&str]); 12] = [
        (|p| p.issuing_lifetime = 21, &["issuing_lifetime is 21 s", "root_lifetime, which is 120 s", "20 s", "126 s"]),
        (
            |p| p.x509_svid_lifetime = 11,
            &["x509_svid_lifetime is 11 s", "issuing_lifetime, which is 20 s", "10 s", "22 s"],
        ),
        (|p| p.refresh_hint = 14, &["refresh_hint is 14 s", "root_lifetime, which is 120 s", "13 s", "126 s"]),
        (|p| p.jwt_svid_lifetime = 21, &["jwt_svid_lifetime is 21 s", "jwt_key_lifetime, which is 120 s", "20 s"]),
        (|p| p.jwt_key_lifetime = 80, &["refresh_hint is 10 s", "jwt_key_lifetime, which is 80 s", "8 s", "90 s"]),
        (|p| p.refresh_hint = 0, &["refresh_hint is 0 s"]),
        (|p| p.root_lifetime = 1, &["root_lifetime is 1 s", "2 s"]),
        (|p| p.root_lifetime = u32::MAX, &["root_lifetime is 4294967295 s"]),
        (|p| p.x509_svid_lifetime = 0, &["x509_svid_lifetime is 0 s"]),
        (|p| p.root_key_type = KeyType::Ed25519, &["root_key_type is ed25519", "ec-p256"]),
        (|p| p.issuing_key_type = KeyType::Ed25519, &["issuing_key_type is ed25519"]),
        (|p| p.jwt_key_type = KeyType::Ed25519, &["jwt_key_type is ed25519"]),
    ];
    let mut world = World::founded();
    for (change, expected) in cases {
        let mut policy = short_policy();
        change(&mut policy);
        let set = Operation::SetPolicy { policy, expected_revision: 0 };
        let message = world.refused_with(set, RefusalCode::Invalid);
        for text in expected {
            assert!(message.contains(text), "{message:?} does not say {text:?}");
        }
    }
    let tiny = Policy { root_lifetime: 11, issuing_lifetime: 2, ..short_policy() };
    let text = tiny.check().unwrap_err().to_string();
    assert!(text.ends_with("which is 11 s: raise root_lifetime to at least 12 s"), "{text}");
    let huge = Policy { issuing_lifetime: AUTHORITY_LIFETIME_LIMIT, ..short_policy() };
    let text = huge.check().unwrap_err().to_string();
    assert!(text.ends_with("which is 120 s: lower issuing_lifetime to at most 20 s"), "{text}");
    let both = Policy { root_lifetime: 2, ..huge };
    let text = both.check().unwrap_err().to_string();
    assert!(text.ends_with("which is 2 s: lower issuing_lifetime and raise root_lifetime"), "{text}");
    let leaf = Policy { x509_svid_key_type: KeyType::Ed25519, ..short_policy() };
    assert_eq!(leaf.check(), Ok(()), "leaves may be Ed25519");
}

#[test]
fn a_policy_is_set_only_over_the_one_it_was_made_from() {
    let mut world = World::founded();
    world.take_events();
    let policy = Policy { x509_svid_lifetime: 8, ..short_policy() };
    assert_eq!(world.one(Operation::SetPolicy { policy, expected_revision: 1 }), Ok(Done::PolicySet { revision: 2 }));
    assert_eq!(world.take_events(), [Event::PolicyChanged]);
    let stale = Operation::SetPolicy { policy: short_policy(), expected_revision: 1 };
    let message = world.refused_with(stale, RefusalCode::Conflict);
    assert!(message.contains("revision 2, not 1"), "{message}");
    assert_eq!(world.one(Operation::SetPolicy { policy, expected_revision: 0 }), Ok(Done::PolicySet { revision: 3 }));
}

/// Accepts: BND-11, BND-12, BND-14.
#[test]
fn the_bundle_counts_up_only_when_the_refresh_hint_changes() {
    let mut world = World::founded();
    let leaf = Policy { x509_svid_lifetime: 8, ..short_policy() };
    world.one(Operation::SetPolicy { policy: leaf, expected_revision: 0 }).unwrap();
    assert_eq!(world.state.bundle().sequence, 1);
    world.take_events();
    let hint = Policy { refresh_hint: 9, ..leaf };
    world.one(Operation::SetPolicy { policy: hint, expected_revision: 0 }).unwrap();
    assert_eq!((world.state.bundle().sequence, world.state.bundle().refresh_hint), (2, 9));
    assert_eq!(world.take_events(), [Event::PolicyChanged, Event::BundleChanged { sequence: 2 }]);
}
