//! Anchors of audit logs: the newest few of each member are known to everybody.

use quorate_raft_machine::audit::AUDIT_ANCHORS_PER_MEMBER;
use quorate_raft_machine::{Done, Operation, RefusalCode};

use crate::world::{World, number};

fn anchor(member: u64, records: u64, index: u64, hash: u8) -> Operation {
    Operation::AnchorAudit { member: number(member), records, index, hash: [hash; 32] }
}

#[test]
fn the_newest_few_anchors_of_a_member_are_kept_in_their_order() {
    let mut world = World::founded();
    for n in 1..=20 {
        let done = world.one(anchor(1, 10 * n, 100 * n, 1));
        assert_eq!(done, Ok(Done::AuditAnchored { member: number(1), index: 100 * n }));
    }
    let kept: Vec<u64> = world.state.audit_anchors(number(1)).map(|anchor| anchor.records).collect();
    assert_eq!(kept.len(), AUDIT_ANCHORS_PER_MEMBER);
    assert_eq!((kept[0], kept[7]), (130, 200));
    assert_eq!(world.state.audit_anchors(number(2)).count(), 0);
}

#[test]
fn an_anchor_is_not_replaced_by_an_earlier_one_or_another_of_the_same_index() {
    let mut world = World::founded();
    world.one(anchor(1, 10, 100, 1)).unwrap();
    world.one(anchor(1, 10, 100, 1)).unwrap();
    world.refused_with(anchor(1, 10, 100, 2), RefusalCode::WrongState);
    world.refused_with(anchor(1, 11, 100, 1), RefusalCode::WrongState);
    world.refused_with(anchor(1, 5, 50, 1), RefusalCode::WrongState);
    world.refused_with(anchor(2, 1, 1, 1), RefusalCode::NotFound);
    assert_eq!(world.state.audit_anchors(number(1)).count(), 1);
    // A member that lost its log begins another one, which is short.
    world.one(anchor(1, 1, 120, 3)).unwrap();
    assert_eq!(world.state.audit_anchors(number(1)).count(), 2);
}
