//! Recovery after the quorum was lost for good (design section 4, "Lost quorum").

use std::sync::Arc;

use quorate_raft_consensus::{Config, JoinError, RecoverError, recover};
use quorate_raft_store::disk::SimulatedDisk;

use crate::support::{
    PATIENCE, ROOT, TestClock,
    cluster::{Cluster, name},
    create, eventually, has, proposal, sources,
};

fn config_of(number: u64) -> Config {
    let mut config = Config::new(format!("{ROOT}/{}", name(number)), tokio::runtime::Handle::current());
    config.space_reserve_bytes = 0;
    config
}

#[tokio::test]
async fn one_member_goes_on_with_its_whole_log_in_a_new_epoch_and_the_others_are_refused() {
    let mut cluster = Cluster::of(3).await;
    cluster.create_at(1, "before").await;
    cluster.until_all_have("before").await;
    let epoch = |cluster: &Cluster, number| {
        cluster.handle(number).state().read(|state| state.cluster().map(|cluster| cluster.epoch)).unwrap()
    };
    let first = epoch(&cluster, 1);
    let leader = cluster.leader_number().await;
    let mut rest = (1..=3).filter(|number| *number != leader);
    let (survivor, old) = (rest.next().unwrap(), rest.next().unwrap());
    // In the tail of the survivor's log, and never acknowledged: the leader alone is up with it.
    let (old_disk, old_clock) = cluster.kill(old).await;
    cluster.kill(leader).await;
    let (disk, clock) = cluster.kill(survivor).await;
    let recovered = recover(&config_of(survivor), &sources(&clock), Arc::new(disk.clone())).await.unwrap();
    assert_eq!(recovered.member.get(), survivor);
    assert!(recovered.was_voter);
    assert_eq!(recovered.others, (1..=3).filter(|number| *number != survivor).collect());

    cluster.start_with(survivor, disk, clock).await;
    let alone = cluster.handle(survivor);
    assert!(alone.wait_for_leadership(PATIENCE).await, "{:?}", alone.health());
    assert!(has(&alone, "before"));
    eventually("the epoch is raised", || epoch(&cluster, survivor) == first + 1).await;
    cluster.create_at(survivor, "after").await;

    // An old member with its old log can neither vote nor follow.
    cluster.start_with(old, old_disk, old_clock).await;
    let outsider = cluster.handle(old);
    let outcome = outsider.propose(proposal(vec![create("never")]).within(std::time::Duration::from_secs(1))).await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(!has(&alone, "never"));
    assert_eq!(alone.health().term, cluster.handle(survivor).health().term);
    cluster.kill(old).await;

    // A newcomer is told the new epoch.
    cluster.add_learner(4).await;
    cluster.until_all_have("after").await;
}

#[tokio::test]
async fn nothing_is_recovered_where_no_member_lives_or_one_runs() {
    let clock = TestClock::new();
    let empty = SimulatedDisk::new(ROOT);
    let refused = recover(&config_of(1), &sources(&clock), Arc::new(empty)).await.unwrap_err();
    assert!(matches!(refused, RecoverError::NoMember { .. }), "{refused:?}");
    let cluster = Cluster::of(1).await;
    let running = cluster.members[&1].disk.clone();
    let refused = recover(&config_of(1), &sources(&clock), Arc::new(running)).await.unwrap_err();
    assert!(matches!(refused, RecoverError::Directory { .. }), "{refused:?}");
    let refused = cluster.handle(1).begin_joining().await.unwrap_err();
    assert!(matches!(refused, JoinError::NotEmpty { .. }), "{refused:?}");
}
