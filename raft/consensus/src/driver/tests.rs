//! Drivers against each other, over real logs. Each test fails without the rule that it names.

mod world;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::world::World;
use crate::{
    limits::CLOCK_JUDGEMENT_LIMIT,
    log_id::vote_for_nobody,
    role::Role,
    settings::{RAFT_LEASE, Settings},
};

const SITE: &Settings = &Settings::SITE;

#[tokio::test(start_paused = true)]
async fn a_member_that_was_cut_off_and_comes_back_raises_no_term_ele_01() {
    let mut world = World::founded(3, SITE, 1).await;
    let (leader, term) = world.leader().await;
    let other = world.members.keys().copied().find(|number| *number != leader).unwrap();
    world.cut_off(other);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.term(other), term, "it asked, and stood in no election");
    world.links.heal();
    world.agrees().await;
    assert_eq!(world.leader_now(), Some((leader, term)));
    for number in 1..=3 {
        assert_eq!(world.term(number), term);
    }
}

#[tokio::test(start_paused = true)]
async fn all_members_started_at_once_elect_a_leader_within_a_second_ele_05() {
    for seed in 0..10 {
        let mut world = World::founded(5, SITE, seed * 100).await;
        let (_, term) = world.leader().await;
        let mut disks = Vec::new();
        for number in 1..=5 {
            disks.push((number, world.kill(number).await));
        }
        for (number, disk) in disks {
            world.start(number, disk, false).await;
        }
        let started = Instant::now();
        let (_, new) = world.leader().await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?} with seed {seed}", started.elapsed());
        assert_eq!(new, term + 1, "one election, with seed {seed}");
        world.agrees().await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_members_started_at_once_at_a_distance_split_no_votes_ele_05() {
    for seed in 0..10 {
        let distance = &Settings::DISTANCE;
        let mut world = World::founded_at_a_distance(5, distance, Duration::from_millis(75), seed * 100).await;
        let (_, term) = world.leader().await;
        let mut disks = Vec::new();
        for number in 1..=5 {
            disks.push((number, world.kill(number).await));
        }
        for (number, disk) in disks {
            world.start(number, disk, false).await;
        }
        let votes = world.links.votes();
        let (_, new) = world.leader().await;
        assert_eq!((new, world.links.votes() - votes), (term + 1, 4), "one election, with seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_was_refused_stands_in_nobodys_way_ele_05() {
    let world = World::founded(5, SITE, 21).await;
    let (leader, _) = world.leader().await;
    let other = world.members.keys().copied().find(|number| *number != leader).unwrap();
    world.links.cut(leader, other);
    let asked = world.links.pre_votes();
    world.eventually("it asks", || (world.links.pre_votes() > asked).then_some(())).await;
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.members[&other].elections.contacts.soft_grant(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_behind_the_voters_needs_one_election_ele_06() {
    let mut world = World::founded(3, SITE, 20).await;
    let (leader, term) = world.leader().await;
    world.agrees().await;
    let others: Vec<u64> = world.members.keys().copied().filter(|number| *number != leader).collect();
    let [candidate, voter] = others[..] else { panic!("{others:?}") };
    world.members[&voter].elections.set_clock_is_fit(false);
    world.kill(leader).await;
    sleep(RAFT_LEASE + Duration::from_millis(1)).await;
    assert!(world.raft(voter).vote(vote_for_nobody(term + 5)).await.unwrap().vote_granted);
    let votes = world.links.votes();
    assert_eq!(world.leader_after(term).await, (candidate, term + 6));
    assert_eq!(world.links.votes() - votes, 2, "one Vote for each of the others");
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_another_is_elected_within_a_second() {
    for seed in 0..20 {
        let mut world = World::founded(3, SITE, seed * 100).await;
        let (leader, term) = world.leader().await;
        world.write_somewhere().await;
        sleep(Duration::from_millis(seed * 7)).await;
        world.kill(leader).await;
        let killed = Instant::now();
        world.write_somewhere().await;
        let gap = killed.elapsed();
        assert!(gap < Duration::from_millis(1000), "{gap:?} with seed {seed}");
        assert_eq!(world.leader_now().unwrap().1, term + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_can_send_and_not_receive_steps_down_ele_04() {
    let mut world = World::founded(3, SITE, 5).await;
    let (leader, term) = world.leader().await;
    for other in world.members.keys().filter(|other| **other != leader) {
        world.links.cut(*other, leader);
    }
    let deaf_since = Instant::now();
    let (new_leader, _) = world.leader_after(term).await;
    assert_ne!(new_leader, leader);
    assert!(deaf_since.elapsed() < Duration::from_secs(2), "{:?}", deaf_since.elapsed());
    assert!(!world.role(leader).is_leader());
    assert!(world.write(new_leader, Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_saying_that_it_leads_ele_04() {
    let world = World::founded(3, SITE, 6).await;
    let (leader, _) = world.leader().await;
    world.cut_off(leader);
    let cut_since = Instant::now();
    world.eventually("it says that it leads no more", || (!world.role(leader).is_leader()).then_some(())).await;
    assert!(cut_since.elapsed() <= SITE.step_down + Duration::from_millis(100), "{:?}", cut_since.elapsed());
    assert_eq!(world.raft(leader).server_metrics().borrow().current_leader, None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_restarted_without_its_tail_never_resumes_in_its_term_ele_03() {
    let mut world = World::founded(3, SITE, 7).await;
    let (leader, term) = world.leader().await;
    world.agrees().await;
    let before = world.members[&leader].disk.copy_after_kill();
    for _ in 0..3 {
        assert!(world.write(leader, Duration::from_secs(1)).await);
    }
    world.kill(leader).await;
    // The disk had said that it was synced, and it was not.
    world.start(leader, before, false).await;
    let (_, new_term) = world.eventually("a leader", || world.leader_now()).await;
    assert!(new_term > term, "nobody leads in the term that lost its tail");
    world.agrees().await;
}

#[tokio::test(start_paused = true)]
async fn the_grants_of_a_round_raise_no_term_ele_01() {
    let world = World::founded(3, SITE, 8).await;
    let (leader, term) = world.leader().await;
    // One that hears of nobody and is heard asks, and is refused while the leader is there.
    let other = world.members.keys().copied().find(|number| *number != leader).unwrap();
    world.links.cut(leader, other);
    let (asked, stood) = (world.links.pre_votes(), world.links.votes());
    sleep(Duration::from_secs(5)).await;
    assert!(world.links.pre_votes() > asked);
    assert_eq!(world.links.votes(), stood);
    for number in 1..=3 {
        assert_eq!(world.term(number), term);
    }
    assert_eq!(world.leader_now(), Some((leader, term)));
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_has_just_started_votes_for_nobody_within_a_lease_ele_10() {
    let mut world = World::founded(3, SITE, 16).await;
    let (leader, term) = world.leader().await;
    world.agrees().await;
    let others: Vec<u64> = world.members.keys().copied().filter(|number| *number != leader).collect();
    let [deaf, restarted] = others[..] else { panic!("{others:?}") };
    // One that the leader cannot reach asks all the time, and the other has always just started.
    world.links.cut(leader, deaf);
    for pause in 0..40 {
        sleep(SITE.lease + Duration::from_millis(pause * 7)).await;
        // Right after a heartbeat, so that the leader does not miss it.
        let contacts = &world.members[&restarted].elections.contacts;
        let before = contacts.leader();
        world.eventually("a heartbeat", || (contacts.leader() > before).then_some(())).await;
        let disk = world.kill(restarted).await;
        world.start(restarted, disk, false).await;
    }
    world.links.heal();
    world.agrees().await;
    assert_eq!(world.leader_now(), Some((leader, term)));
    assert_eq!(world.term(restarted), term);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_off_neither_asks_nor_leads_ele_11() {
    let mut world = World::founded(3, SITE, 9).await;
    let (leader, term) = world.leader().await;
    world.members[&leader].elections.set_clock_is_fit(false);
    let (second, second_term) = world.leader_after(term).await;
    assert_ne!(second, leader);
    // Its good successor dies: the one whose clock is off does not stand, and votes.
    world.kill(second).await;
    let (third, _) = world.leader_after(second_term).await;
    assert_ne!(third, leader);
    // Alone with a dead majority of candidates, it waits until its clock is right again.
    for off in [leader, third] {
        world.members[&off].elections.set_clock_is_fit(false);
    }
    sleep(CLOCK_JUDGEMENT_LIMIT - Duration::from_millis(100)).await;
    assert_eq!(world.leader_now(), None);
    world.members[&leader].elections.set_clock_is_fit(true);
    assert_eq!(world.leader().await.0, leader);
}

#[tokio::test(start_paused = true)]
async fn members_whose_clocks_nobody_compares_any_more_stand_again_ele_11() {
    let world = World::founded(3, SITE, 11).await;
    let (leader, term) = world.leader().await;
    for member in world.members.values() {
        member.elections.set_clock_is_fit(false);
    }
    // Nobody leads, so nobody compares clocks, and nobody would ever find that they are right by now.
    let began = Instant::now();
    world.eventually("the leader steps down", || (world.leader_now() != Some((leader, term))).then_some(())).await;
    world.leader_after(term).await;
    assert!(began.elapsed() >= CLOCK_JUDGEMENT_LIMIT, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_sole_voter_elects_itself_at_once_ele_11() {
    let mut world = World::founded(1, SITE, 10).await;
    let disk = world.kill(1).await;
    let started = Instant::now();
    world.start(1, disk, false).await;
    world.leader().await;
    assert!(started.elapsed() < Duration::from_millis(10), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_member_never_says_that_it_is_unfounded_or_a_learner_when_it_is_neither() {
    let mut world = World::founded(3, SITE, 11).await;
    let disk = world.kill(2).await;
    world.start(2, disk, false).await;
    let mut role = world.members[&2].role.clone();
    let mut told = Vec::new();
    while told.len() < 3 {
        if tokio::time::timeout(Duration::from_secs(2), role.changed()).await.is_err() {
            break;
        }
        told.push(role.borrow_and_update().clone());
    }
    assert!(!told.is_empty());
    assert!(told.iter().all(|role| matches!(role, Role::Follower { .. })), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_slept_through_changes_of_membership_votes_all_the_same_ele_02() {
    let mut world = World::founded(3, SITE, 12).await;
    let (leader, _) = world.leader().await;
    let sleeper = world.members.keys().copied().find(|number| *number != leader).unwrap();
    let disk = world.kill(sleeper).await;
    for number in [4, 5] {
        world.start(number, quorate_raft_store::disk::SimulatedDisk::new("/disk"), true).await;
        world.add_voter(number).await;
    }
    // Five voters; with the sleeper, three are left, and two of them it has never heard of.
    let (leader, term) = world.leader().await;
    world.kill(leader).await;
    let another = world.members.keys().copied().find(|number| *number < 4).unwrap();
    world.kill(another).await;
    world.start(sleeper, disk, false).await;
    let (new_leader, _) = world.leader_after(term).await;
    assert_ne!(new_leader, sleeper, "its log is the shortest");
    world.agrees().await;
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_under_load_without_a_failed_write_in_one_election_ele_09() {
    for (seed, settings, one_way) in [(1, SITE, 0), (2, SITE, 1), (3, &Settings::DISTANCE, 75)] {
        let one_way = Duration::from_millis(one_way);
        let world = World::founded_at_a_distance(5, settings, one_way, seed * 100).await;
        let writers: Vec<_> = (1..=3).map(|writer| world.write_without_end(writer)).collect();
        for _ in 0..8 {
            sleep(Duration::from_millis(400)).await;
            let (leader, term) = world.leader().await;
            let new_leader = world.transfer(None).await.unwrap();
            assert_ne!(new_leader, leader);
            assert_eq!(world.leader_after(term).await, (new_leader, term + 1), "one election");
        }
        let written: Vec<_> = writers.iter().map(|writer| writer.written()).collect();
        assert!(written.iter().all(|written| written.failed == 0 && written.good >= 8), "{written:?}");
        let gap = written.iter().map(|written| written.longest_gap).max().unwrap();
        let limit = settings.silence + one_way * 14 + Duration::from_millis(20);
        assert!(gap < limit, "a gap of {gap:?} at {one_way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_comes_to_nothing_leaves_the_leader_in_its_office_ele_09() {
    let mut world = World::founded(3, SITE, 13).await;
    let (leader, term) = world.leader().await;
    world.agrees().await;
    let target = world.members.keys().copied().find(|number| *number != leader).unwrap();
    world.cut_off(target);
    let began = Instant::now();
    let unanswered = world.transfer(Some(target)).await.unwrap_err();
    assert!(unanswered.to_string().contains("does not answer"), "{unanswered}");
    assert!(began.elapsed() < SITE.silence + SITE.ask + Duration::from_millis(10), "{:?}", began.elapsed());
    sleep(SITE.step_down).await;
    let absent = Instant::now();
    world.transfer(Some(target)).await.unwrap_err();
    assert_eq!(absent.elapsed(), Duration::ZERO, "nobody falls silent for one that has long been away");
    world.links.heal();
    let unknown = world.transfer(Some(9)).await.unwrap_err();
    assert!(unknown.to_string().contains("not a voter"), "{unknown}");
    let oneself = world.transfer(Some(leader)).await.unwrap_err();
    assert!(oneself.to_string().contains("not a voter"), "{oneself}");
    sleep(Duration::from_secs(2)).await;
    assert!(world.write(leader, Duration::from_secs(1)).await);
    assert_eq!(world.leader_now(), Some((leader, term)));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_nobody_hears_costs_one_election_and_no_more_ele_09() {
    let mut world = World::founded(3, SITE, 15).await;
    let (leader, term) = world.leader().await;
    world.agrees().await;
    let target = world.members.keys().copied().find(|number| *number != leader).unwrap();
    for other in world.members.keys().filter(|other| **other != target) {
        world.links.cut(target, *other);
    }
    world.transfer(Some(target)).await.unwrap_err();
    world.links.heal();
    world.write_somewhere().await;
    sleep(Duration::from_secs(2)).await;
    world.agrees().await;
    let (_, new_term) = world.leader_now().unwrap();
    assert!(new_term <= term + 2, "from {term} to {new_term}");
}

#[tokio::test(start_paused = true)]
async fn a_sole_voter_has_nobody_to_hand_over_to() {
    let world = World::founded(1, SITE, 14).await;
    assert_eq!(world.transfer(None).await, Err(crate::transfer::TransferError::NobodyElse));
}

#[tokio::test(start_paused = true)]
async fn voters_at_a_distance_keep_their_leader_and_replace_a_dead_one() {
    for seed in 0..5 {
        let distance = &Settings::DISTANCE;
        let mut world = World::founded_at_a_distance(5, distance, Duration::from_millis(75), seed * 100).await;
        let (leader, term) = world.leader().await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(world.leader_now(), Some((leader, term)), "stable, with seed {seed}");
        world.kill(leader).await;
        let killed = Instant::now();
        world.write_somewhere().await;
        assert!(killed.elapsed() < Duration::from_secs(4), "{:?} with seed {seed}", killed.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn settings_change_while_a_leader_leads_without_another_term() {
    let mut world = World::founded(3, SITE, 17).await;
    let (leader, term) = world.leader().await;
    for (settings, one_way) in [(&Settings::DISTANCE, 75), (SITE, 0), (&Settings::DISTANCE, 75)] {
        let one_way = Duration::from_millis(one_way);
        // Towards the distance the settings go first, and back they go last: as an operator would.
        for member in world.members.values() {
            member.elections.set_settings(&Settings::DISTANCE);
        }
        world.links.take(one_way);
        sleep(Duration::from_secs(1)).await;
        for member in world.members.values() {
            member.elections.set_settings(settings);
        }
        sleep(Duration::from_secs(10)).await;
        assert!(world.write(leader, Duration::from_secs(1)).await);
        assert_eq!(world.leader_now(), Some((leader, term)));
    }
    world.kill(leader).await;
    let killed = Instant::now();
    world.leader_after(term).await;
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
}
