//! A leader's disk works while its followers' disks do, and nothing is acknowledged before all that count on it are durable
//! (design property 1).

use std::time::Duration;

use quorate_raft_consensus::ProposeError;
use quorate_raft_store::disk::{PowerLoss, Slowness};
use tokio::{task::JoinSet, time::Instant};

use crate::support::{cluster::Cluster, create, eventually, has, proposal};

fn slow(time: Duration) -> Option<Slowness> {
    Some(Slowness::Real(time))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_costs_the_time_of_one_sync_and_not_of_two() {
    const SYNC: Duration = Duration::from_millis(60);
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    cluster.create_at(leader, "warm").await;
    for member in cluster.members.values() {
        member.disk.set_slowness(slow(SYNC));
    }
    let mut quickest = Duration::MAX;
    for round in 0..10 {
        let began = Instant::now();
        cluster.create_at(leader, &format!("entry-{round}")).await;
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest >= SYNC, "acknowledged after {quickest:?}, before a sync was over");
    assert!(quickest < SYNC * 2, "the quickest of ten took {quickest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_has_not_synced_is_not_acknowledged_whatever_its_followers_have_property_1() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    cluster.create_at(leader, "warm").await;
    cluster.members[&leader].disk.set_slowness(slow(Duration::from_secs(3)));
    let handle = cluster.handle(leader);
    let outcome = handle.propose(proposal(vec![create("unsynced")]).within(Duration::from_millis(300))).await;
    assert!(matches!(outcome, Err(ProposeError::OutcomeUnknown { .. })), "{outcome:?}");
    // Its silence lets another one lead, and the others go on.
    let other = (1..=3).find(|number| *number != leader).unwrap();
    let began = Instant::now();
    cluster.create_at(other, "meanwhile").await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "a leader whose disk hangs stops the others: {:?}",
        began.elapsed()
    );
    eventually("it does not lead any more", || !handle.role().borrow().is_leader()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_loss_of_power_on_all_members_at_once_property_1() {
    for (round, kind) in (0_u64..).zip(PowerLoss::ALL) {
        let mut cluster = Cluster::of(3).await;
        let mut writers = JoinSet::new();
        for number in 1..=3 {
            let handle = cluster.handle(number);
            writers.spawn(async move {
                let mut acknowledged = Vec::new();
                for entry in 0..40 {
                    let name = format!("entry-{number}-{entry}");
                    if handle.propose(proposal(vec![create(&name)])).await.is_ok() {
                        acknowledged.push(name);
                    }
                }
                acknowledged
            });
        }
        let acknowledged: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
        assert!(!acknowledged.is_empty());
        let images: Vec<_> = cluster
            .members
            .values()
            .map(|member| (member.number, member.disk.after_power_loss(kind, round), member.clock.clone()))
            .collect();
        for number in 1..=3 {
            cluster.kill(number).await;
        }
        for (number, image, clock) in images {
            cluster.start_with(number, image, clock).await;
        }
        cluster.create_at(1, "after").await;
        cluster.until_all_have("after").await;
        for name in &acknowledged {
            assert!(has(&cluster.handle(1), name), "{kind:?}: {name} was acknowledged and is gone");
        }
    }
}
