//! Every node takes every write (design section 4), and nothing happens twice (ELE-08).

use std::{collections::BTreeSet, time::Duration};

use quorate_raft_consensus::{ProposeError, Role};
use quorate_raft_machine::Done;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    PATIENCE,
    cluster::{Cluster, name},
    create, eventually, has, proposal,
};

fn others(leader: u64) -> Vec<u64> {
    (1..=3).filter(|number| *number != leader).collect()
}

#[tokio::test]
async fn many_writers_at_a_follower_share_batches_and_each_reads_its_own_write_there() {
    let cluster = Cluster::of(3).await;
    let follower = others(cluster.leader_number().await)[0];
    let before = cluster.handle(follower).state().applied_index();
    let mut writers = JoinSet::new();
    for writer in 0..256 {
        let handle = cluster.handle(follower);
        writers.spawn(async move {
            for round in 0..4 {
                let entry = format!("entry-{writer}-{round}");
                let applied = handle.propose(proposal(vec![create(&entry)])).await.unwrap();
                assert!(matches!(applied.outcome.results[0], Ok(Done::EntryCreated { .. })), "{applied:?}");
                assert!(has(&handle, &entry), "{entry} is not there where it was written");
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    let entries = cluster.handle(follower).state().applied_index() - before;
    assert!(entries < 512, "1024 writes took {entries} log entries: they were not put together");
}

#[tokio::test]
async fn a_write_at_a_follower_outlives_the_leader_and_is_done_once_ele_08() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let writer = others(leader)[0];
    let handle = cluster.handle(writer);
    let writing = tokio::spawn(async move {
        let mut written = Vec::new();
        for round in 0..200 {
            let entry = format!("entry-{round}");
            let applied = handle.propose(proposal(vec![create(&entry)])).await.unwrap();
            assert!(matches!(applied.outcome.results[0], Ok(Done::EntryCreated { .. })), "{applied:?}");
            written.push(applied.log_index);
        }
        written
    });
    let watched = cluster.handle(writer);
    eventually("some are written", || has(&watched, "entry-20")).await;
    cluster.kill(leader).await;
    let written = tokio::time::timeout(PATIENCE * 2, writing).await.unwrap().unwrap();
    assert!(written.is_sorted(), "one writer's writes are in its order");
    let distinct: BTreeSet<u64> = written.iter().copied().collect();
    assert_eq!(distinct.len(), written.len());
    cluster.until_all_have("entry-199").await;
}

#[tokio::test]
async fn a_write_waits_out_an_election_as_long_as_its_deadline_allows() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let writer = others(leader)[0];
    cluster.isolate(leader);
    let began = Instant::now();
    let applied = cluster.create_at(writer, "during-the-election").await;
    assert!(applied.log_index > 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    cluster.rejoin(leader);
    cluster.until_all_have("during-the-election").await;
}

#[tokio::test]
async fn a_write_at_a_leader_that_lost_its_quorum_is_carried_out_once_by_its_successor_or_stays_unknown_ele_08() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    cluster.isolate(leader);
    let handle = cluster.handle(leader);
    let writing = tokio::spawn(async move { handle.propose(proposal(vec![create("stranded")])).await });
    let deposed = cluster.handle(leader);
    eventually("the old leader has stepped down", || !matches!(*deposed.role().borrow(), Role::Leader { .. })).await;
    cluster.rejoin(leader);
    let applied = writing.await.unwrap().unwrap();
    assert!(matches!(applied.outcome.results[0], Ok(Done::EntryCreated { .. })), "{applied:?}");
    cluster.until_all_have("stranded").await;
}

#[tokio::test]
async fn without_a_quorum_a_write_ends_at_its_deadline() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let rest = others(leader);
    cluster.kill(leader).await;
    cluster.kill(rest[0]).await;
    let alone = cluster.handle(rest[1]);
    let began = Instant::now();
    let outcome = alone.propose(proposal(vec![create("never")]).within(Duration::from_secs(1))).await;
    assert!(matches!(outcome, Err(ProposeError::NoLeader { .. } | ProposeError::OutcomeUnknown { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_write_at_a_distant_follower_costs_no_more_than_its_calls_take() {
    const ONE_WAY: Duration = Duration::from_millis(60);
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let distant = others(leader)[0];
    for other in (1..=3).filter(|other| *other != distant) {
        cluster.net.delay(&name(distant), &name(other), ONE_WAY);
        cluster.net.delay(&name(other), &name(distant), ONE_WAY);
    }
    // The lines are dialled, and the distance is on them.
    cluster.create_at(distant, "warm").await;
    let mut quickest = Duration::MAX;
    for round in 0..5 {
        let began = Instant::now();
        cluster.create_at(distant, &format!("entry-{round}")).await;
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest >= ONE_WAY * 2, "{quickest:?}: it was answered before anybody could have heard of it");
    // One round trip to the leader; the entry waits for the answer to the heartbeat before, and travels one way.
    assert!(quickest < ONE_WAY * 7, "{quickest:?}");
}
