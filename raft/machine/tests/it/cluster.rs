//! What concerns the cluster as a whole: plan, epoch, time.

use quorate_proto_identity::{UnixMillis, UnixSeconds};
use quorate_raft_machine::plan::{DEAD_VOTER_GRACE_LIMIT, VOTERS_LIMIT};
use quorate_raft_machine::{Done, Event, MembershipPlan, Operation, RefusalCode};

use crate::world::{World, create, draft, entry_id};

#[test]
fn the_plan_has_defaults_and_is_set_within_limits() {
    let mut world = World::founded();
    world.take_events();
    assert_eq!(world.state.plan(), MembershipPlan { voters: 3, dead_voter_grace: 300, automatic: true });
    let plan = MembershipPlan { voters: 5, dead_voter_grace: 60, automatic: false };
    assert_eq!(world.one(Operation::SetPlan(plan)), Ok(Done::PlanSet));
    assert_eq!((world.state.plan(), world.take_events()), (plan, vec![Event::PlanChanged]));
    world.one(Operation::SetPlan(plan)).unwrap();
    assert_eq!(world.take_events(), []);
    for wrong in [
        MembershipPlan { voters: 0, ..plan },
        MembershipPlan { voters: VOTERS_LIMIT + 1, ..plan },
        MembershipPlan { dead_voter_grace: 0, ..plan },
        MembershipPlan { dead_voter_grace: DEAD_VOTER_GRACE_LIMIT + 1, ..plan },
    ] {
        world.refused_with(Operation::SetPlan(wrong), RefusalCode::Invalid);
    }
}

/// Section 4, lost quorum.
#[test]
fn each_recovery_raises_the_epoch() {
    let mut world = World::founded();
    world.take_events();
    for epoch in [2, 3] {
        assert_eq!(world.one(Operation::RaiseEpoch), Ok(Done::EpochRaised { epoch }));
        assert_eq!(world.state.cluster().unwrap().epoch, epoch);
        assert_eq!(world.take_events(), [Event::EpochRaised { epoch }]);
    }
}

/// Section 4, clocks: the log's time never goes back, and a loud command resets it.
#[test]
fn a_clock_that_was_far_ahead_is_forgotten_by_command_and_by_nothing_else() {
    let mut world = World::founded();
    let right = world.now;
    world.now += 365 * 24 * 3_600;
    world.one(create(draft("a", "/a", &["unix:uid:1"]))).unwrap();
    let ahead = world.state.counters().time;
    world.now = right + 10;
    world.one(create(draft("b", "/b", &["unix:uid:1"]))).unwrap();
    assert_eq!(world.state.counters().time, ahead);
    world.take_events();
    let time = UnixMillis(world.now * 1_000);
    let reset = Done::TimeReset { before: ahead, after: time };
    assert_eq!(world.one(Operation::ResetTime { time }), Ok(reset));
    assert_eq!(world.take_events(), [Event::TimeReset { before: ahead, after: time }]);
    world.now += 5;
    world.one(create(draft("c", "/c", &["unix:uid:1"]))).unwrap();
    assert_eq!(world.state.entry(&entry_id("c")).unwrap().created_at, UnixSeconds(right + 15));
    world.refused_with(Operation::ResetTime { time: UnixMillis(-1) }, RefusalCode::Invalid);
}
