//! The log as openraft uses it, and openraft's own tests of a log.

use openraft::{
    storage::{RaftLogStorageExt, RaftStateMachine},
    testing::{StoreBuilder, Suite},
};
use quorate_raft_store::{
    Record,
    disk::{Fault, FaultKind},
    log::Drive,
};

use super::*;
use crate::{
    adapter::Adapter,
    batch::Batch,
    testing::{Parts, command, parts, parts_on},
};

fn id(term: u64, index: u64) -> LogId {
    to_raft(quorate_raft_store::LogId { term, node: 1, index })
}

fn blank(index: u64) -> Entry {
    Entry { log_id: id(1, index), payload: EntryPayload::Blank }
}

fn commands(index: u64) -> Entry {
    Entry { log_id: id(1, index), payload: EntryPayload::Normal(Batch::new(vec![command(index)])) }
}

#[tokio::test]
async fn an_own_committed_vote_comes_back_uncommitted_after_a_start_ele_03() {
    let Parts { mut log, disk, wal, .. } = parts(Drive::Inline);
    log.save_vote(&Vote::new_committed(4, 1)).await.unwrap();
    wal.close().unwrap();
    let Parts { mut log, .. } = parts_on(disk.restart(), Drive::Inline, false);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(4, 1)));
    // Another member's office is none of ours to take away.
    log.save_vote(&Vote::new_committed(5, 2)).await.unwrap();
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(5, 2)));
}

#[tokio::test]
async fn an_append_is_readable_before_it_is_durable_and_answered_after() {
    let Parts { log, wal, disk, .. } = parts(Drive::Manual);
    let (mut writer, mut reader) = (log.clone(), log);
    let syncs = disk.syncs();
    let appending = tokio::spawn(async move { writer.blocking_append([blank(0), commands(1)]).await });
    while wal.range().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(reader.try_get_log_entries(0..2).await.unwrap().len(), 2);
    assert!(!appending.is_finished());
    assert_eq!(disk.syncs(), syncs);
    wal.run_queued();
    appending.await.unwrap().unwrap();
    assert!(disk.syncs() > syncs);
}

#[tokio::test]
async fn a_vote_is_answered_only_when_it_is_durable() {
    let Parts { mut log, wal, .. } = parts(Drive::Manual);
    let saving = tokio::spawn(async move { log.save_vote(&Vote::new(3, 1)).await });
    tokio::task::yield_now().await;
    assert!(!saving.is_finished());
    while !saving.is_finished() {
        wal.run_queued();
        tokio::task::yield_now().await;
    }
    saving.await.unwrap().unwrap();
}

#[tokio::test]
async fn commands_need_no_decoding_where_they_were_made_and_are_decoded_elsewhere() {
    let Parts { mut log, wal, disk, .. } = parts(Drive::Inline);
    log.blocking_append([blank(0), commands(1)]).await.unwrap();
    let here = log.try_get_log_entries(1..2).await.unwrap().remove(0);
    let EntryPayload::Normal(batch) = here.payload else { panic!("{here:?}") };
    assert!(batch.is_decoded());
    let made = batch.take_commands().unwrap();
    wal.close().unwrap();
    let Parts { mut log, .. } = parts_on(disk.restart(), Drive::Inline, false);
    let there = log.try_get_log_entries(1..2).await.unwrap().remove(0);
    let EntryPayload::Normal(batch) = there.payload else { panic!("{there:?}") };
    assert!(!batch.is_decoded());
    assert_eq!(batch.take_commands().unwrap(), made);
}

#[tokio::test]
async fn one_append_entries_carries_at_most_two_mebibytes_and_at_least_one_entry() {
    let Parts { mut log, wal, .. } = parts(Drive::Inline);
    let body = bytes::Bytes::from(vec![0; 700 * 1024]);
    for index in 0..8 {
        let record = Record { log_id: from_raft(&id(1, index)), kind: 1, body: body.clone() };
        wal.append(vec![record], Box::new(|result| result.unwrap())).unwrap();
    }
    assert_eq!(log.limited_get_log_entries(0, 8).await.unwrap().len(), 2);
    assert_eq!(log.limited_get_log_entries(7, 8).await.unwrap().len(), 1);
    assert_eq!(log.try_get_log_entries(0..8).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_failed_sync_is_answered_with_an_error_and_its_cause_is_kept() {
    let Parts { mut log, disk, stop, .. } = parts(Drive::Inline);
    disk.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    let failed = log.blocking_append([blank(0)]).await.unwrap_err();
    assert!(failed.to_string().contains("cannot sync"), "{failed}");
    assert!(stop.get().unwrap().contains("cannot sync"));
    // The disk works again, and nothing is retried (WAL-09).
    assert!(log.save_vote(&Vote::new(9, 1)).await.is_err());
}

/// What openraft's own tests are run on.
struct Builder;

impl StoreBuilder<TypeConfig, LogStorage, Adapter> for Builder {
    async fn build(&self) -> Result<((), LogStorage, Adapter), StorageError> {
        let Parts { log, adapter, .. } = parts(Drive::Inline);
        Ok(((), log, adapter))
    }
}

type Tests = Suite<TypeConfig, LogStorage, Adapter, Builder, ()>;

/// Those of openraft's tests that begin a log at its first entry. The others begin it with a hole, which our log refuses
/// (WAL-14).
#[tokio::test]
async fn openrafts_own_tests_of_a_storage_pass() {
    // Side by side: eight of them sleep for a second after a purge.
    let mut tests = tokio::task::JoinSet::new();
    macro_rules! run {
        ($($name:ident),* $(,)?) => {
            $({
                let ((), log, adapter) = Builder.build().await.unwrap();
                tests.spawn(async move {
                    Tests::$name(log, adapter).await.unwrap_or_else(|error| panic!("{}: {error}", stringify!($name)));
                });
            })*
        };
    }
    run!(
        last_membership_in_log_initial,
        get_membership_initial,
        get_initial_state_without_init,
        save_vote,
        get_log_entries,
        limited_get_log_entries,
        try_get_log_entry,
        initial_logs,
        get_log_state,
        get_log_id,
        last_id_in_log,
        last_applied_state,
        purge_logs_upto_0,
        purge_logs_upto_5,
        purge_logs_upto_20,
        delete_logs_since_11,
        delete_logs_since_0,
        append_to_log,
        snapshot_meta,
        apply_single,
        apply_multiple,
    );
    while let Some(test) = tests.join_next().await {
        test.unwrap();
    }
    Tests::transfer_snapshot(&Builder).await.unwrap();
    let Parts { mut adapter, .. } = parts(Drive::Inline);
    assert_eq!(adapter.applied_state().await.unwrap().0, None);
}
