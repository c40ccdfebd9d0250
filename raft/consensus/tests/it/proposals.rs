//! Proposing, reading what was written, and being refused.

use std::time::Duration;

use quorate_proto_identity::UnixMillis;
use quorate_raft_consensus::{Proposal, ProposeError, QueueLimits, Role, Uncertainty};
use quorate_raft_machine::{Caller, Done, Event, Operation, RefusalCode};
use quorate_raft_store::disk::Slowness;
use tokio::{sync::broadcast, time::Instant};

use crate::support::{NOW, PATIENCE, TestNode, config, create, create_with_hint, proposal};

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_reads_it_back_and_has_heard_of_it() {
    let node = TestNode::founded().await;
    let mut events = node.handle.events();
    let applied = node.create("a").await;
    assert!(node.has("a"), "answered and not readable");
    assert_eq!(node.handle.state().applied_index(), applied.log_index);
    let heard = events.try_recv().expect("events are sent before the answer");
    assert_eq!(heard.index, applied.log_index);
    assert!(heard.events.iter().any(|event| matches!(event, Event::EntryChanged { before: None, after: Some(_), .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_stamped_with_the_time_of_the_leader() {
    let node = TestNode::founded().await;
    let later = NOW.plus(77);
    node.clock.set(UnixMillis(later.0 * 1000));
    let applied = node.create("a").await;
    let Ok(Done::EntryCreated { created_at, .. }) = &applied.outcome.results[0] else { panic!("{applied:?}") };
    assert_eq!(*created_at, later);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_never_fails_its_neighbours() {
    let node = TestNode::founded().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let handle = node.handle.clone();
        calls.spawn(async move {
            let operation = if number % 3 == 0 {
                Operation::DeleteEntry { id: quorate_proto_identity::EntryId::new("nobody").unwrap(), revoke: None }
            } else {
                create(&format!("entry-{number}"))
            };
            (number, handle.propose(proposal(vec![operation])).await.unwrap())
        });
    }
    while let Some(call) = calls.join_next().await {
        let (number, applied) = call.unwrap();
        match &applied.outcome.results[0] {
            Ok(_) => assert_ne!(number % 3, 0),
            Err(refusal) => assert_eq!((number % 3, refusal.code), (0, RefusalCode::NotFound)),
        }
    }
    assert_eq!(node.handle.state().read(|state| state.entry_count()), 133);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_log_entries_and_a_batch_keeps_its_limits() {
    let mut limits = config();
    limits.batch.commands = 8;
    let node = TestNode::founded_with(limits).await;
    // While one entry is synced, all others wait and come into the next ones.
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_millis(20))));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..64 {
        let handle = node.handle.clone();
        calls.spawn(
            async move { handle.propose(proposal(vec![create(&format!("e{number}"))])).await.unwrap().log_index },
        );
    }
    let mut by_index = std::collections::BTreeMap::<u64, usize>::new();
    while let Some(index) = calls.join_next().await {
        *by_index.entry(index.unwrap()).or_default() += 1;
    }
    assert!(by_index.values().all(|commands| *commands <= 8), "{by_index:?}");
    assert!(by_index.len() < 32, "hardly any command shared an entry: {by_index:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_its_bytes_and_a_large_command_is_a_batch_of_its_own() {
    let mut limits = config();
    limits.batch.bytes = 4 * 1024;
    let node = TestNode::founded_with(limits).await;
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_millis(20))));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..16 {
        let handle = node.handle.clone();
        // About 1.1 KiB each, so that three fit, and one of them alone over the limit.
        let operations = if number == 7 {
            (0..6).map(|part| create_with_hint(&format!("large-{part}"), "x".repeat(1000))).collect()
        } else {
            vec![create_with_hint(&format!("small-{number}"), "x".repeat(1000))]
        };
        calls.spawn(async move { (number, handle.propose(proposal(operations)).await.unwrap().log_index) });
    }
    let mut by_index = std::collections::BTreeMap::<u64, Vec<i32>>::new();
    while let Some(call) = calls.join_next().await {
        let (number, index) = call.unwrap();
        by_index.entry(index).or_default().push(number);
    }
    assert!(by_index.values().all(|batch| batch.len() <= 3), "{by_index:?}");
    assert!(by_index.values().any(|batch| *batch == [7]), "{by_index:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beyond_the_limit_is_refused_before_it_is_queued() {
    let mut limits = config();
    limits.batch.command_bytes = 16 * 1024;
    let node = TestNode::founded_with(limits).await;
    let before = node.handle.health().last_log_index;
    let operations = (0..32).map(|part| create_with_hint(&format!("part-{part}"), "x".repeat(1000))).collect();
    let refused = node.handle.propose(proposal(operations)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::TooLarge { limit: 16_384, .. }), "{refused}");
    assert_eq!(node.handle.health().last_log_index, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_as_overloaded_and_nothing_of_it_happens() {
    let mut limits = config();
    limits.queue = QueueLimits { proposals: 4, bytes: 1024 * 1024 };
    limits.batch.commands = 1;
    let node = TestNode::founded_with(limits).await;
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_millis(50))));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..64 {
        let handle = node.handle.clone();
        calls.spawn(async move { (number, handle.propose(proposal(vec![create(&format!("e{number}"))])).await) });
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while let Some(call) = calls.join_next().await {
        match call.unwrap() {
            (number, Ok(_)) => taken.push(number),
            (number, Err(error @ ProposeError::Overloaded { .. })) => {
                assert!(error.is_retryable());
                refused.push(number);
            }
            (number, Err(other)) => panic!("{number}: {other}"),
        }
    }
    assert!(!refused.is_empty(), "nothing was refused");
    assert!(taken.iter().all(|number| node.has(&format!("e{number}"))));
    assert!(refused.iter().all(|number| !node.has(&format!("e{number}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_comes_to_nothing_never_says_that_nothing_was_done_ele_08() {
    let node = TestNode::founded().await;
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_millis(300))));
    let impatient = Proposal::new(Caller::node(), vec![create("a")]).within(Duration::from_millis(50));
    let unknown = node.handle.propose(impatient).await.unwrap_err();
    let ProposeError::OutcomeUnknown { cause: Uncertainty::Deadline, unresolved } = unknown else {
        panic!("{unknown}")
    };
    node.disk.set_slowness(None);
    node.handle.shutdown().await;
    assert!(node.has("a"), "the first try was carried out");
    let mut again = node.handle.repeat(unresolved, proposal(vec![create("a")])).await.unwrap_err();
    for _ in 0..2 {
        let ProposeError::OutcomeUnknown { cause: Uncertainty::NotRepeated { reason }, unresolved } = again else {
            panic!("{again}")
        };
        assert!(reason.contains("shut down"), "{reason}");
        again = node.handle.repeat(unresolved, proposal(vec![create("a")])).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_deadline_a_write_has_an_unknown_outcome_and_its_origin_repeats_it_ele_08() {
    let node = TestNode::founded().await;
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_millis(300))));
    let impatient = Proposal::new(Caller::node(), vec![create("a")]).within(Duration::from_millis(50));
    let unknown = node.handle.propose(impatient).await.unwrap_err();
    assert!(!unknown.is_retryable());
    let ProposeError::OutcomeUnknown { cause: Uncertainty::Deadline, unresolved } = unknown else {
        panic!("{unknown}")
    };
    node.disk.set_slowness(None);
    let mut events = node.handle.events();
    // The same command again: had it been made anew, the entry would be there already and it would say so.
    let repeated = node.handle.repeat(unresolved, proposal(vec![create("a")])).await.unwrap();
    assert!(matches!(repeated.outcome.results[0], Ok(Done::EntryCreated { .. })), "{repeated:?}");
    assert_eq!(node.handle.state().read(|state| state.entry_count()), 1);
    let anew = node.propose(vec![create("a")]).await;
    assert!(!matches!(anew.outcome.results[0], Ok(Done::EntryCreated { .. })), "{anew:?}");
    // At most one event of its creation: the repeat, or the first try when it came later than we subscribed.
    let mut created = 0;
    while let Ok(heard) = events.try_recv() {
        created += heard.events.iter().filter(|event| matches!(event, Event::EntryChanged { .. })).count();
    }
    assert!(created <= 1, "created {created} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_is_told_that_it_missed_something() {
    let node = TestNode::founded().await;
    let mut events = node.handle.events();
    for round in 0..=quorate_raft_consensus::limits::EVENTS_KEPT {
        node.create(&format!("e{round}")).await;
    }
    assert!(matches!(events.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_waits_for_what_was_committed() {
    let node = TestNode::founded().await;
    let applied = node.create("a").await;
    let reached = node.handle.ensure_linearizable(Instant::now() + PATIENCE).await.unwrap();
    assert!(reached >= applied.log_index);
    node.handle.state().wait_applied(reached, Instant::now() + PATIENCE).await.unwrap();
    let beyond = node.handle.state().wait_applied(reached + 1, Instant::now() + Duration::from_millis(10)).await;
    assert_eq!(beyond.unwrap_err().wanted, reached + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_carries_out_what_waits_and_refuses_what_comes_later() {
    let mut limits = config();
    limits.batch.commands = 1;
    let node = TestNode::founded_with(limits).await;
    node.disk.set_slowness(Some(Slowness::Real(Duration::from_millis(20))));
    let waiting: Vec<_> = (0..32)
        .map(|number| {
            let handle = node.handle.clone();
            tokio::spawn(async move { handle.propose(proposal(vec![create(&format!("e{number}"))])).await })
        })
        .collect();
    crate::support::eventually("proposals wait", || node.handle.health().queued_proposals > 0).await;
    node.handle.shutdown().await;
    let (mut done, mut refused) = (0, 0);
    for call in waiting {
        match call.await.unwrap() {
            Ok(_) => done += 1,
            Err(ProposeError::Stopped { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(done + refused, 32);
    assert!(done > 0);
    assert_eq!(node.handle.state().read(|state| state.entry_count()), done, "reads go on, and show what was answered");
    let late = node.handle.propose(proposal(vec![create("late")])).await.unwrap_err();
    assert!(matches!(late, ProposeError::Stopped { .. }), "{late}");
    assert!(
        matches!(&*node.handle.role().borrow(), Role::Stopped { reason } if &**reason == "consensus was shut down")
    );
    node.handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_could_not_be_read_back_is_refused_and_never_reaches_the_log() {
    let node = TestNode::founded().await;
    let before = node.handle.health().last_log_index;
    let too_many = vec![Operation::PruneExpiredEntries; quorate_raft_machine::command::OPERATIONS_PER_COMMAND + 1];
    let refused = node.handle.propose(proposal(too_many)).await.unwrap_err();
    assert!(matches!(refused, ProposeError::Invalid(_)), "{refused}");
    assert_eq!(node.handle.health().last_log_index, before);
    node.create("a").await;
}
