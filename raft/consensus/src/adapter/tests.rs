//! Applying, refusing what cannot be applied, and replacing the state by a snapshot.

use openraft::{RaftSnapshotBuilder, storage::RaftStateMachine};
use quorate_raft_store::{
    disk::{Fault, FaultKind},
    log::Drive,
};

use super::*;
use crate::{
    log_id::to_raft,
    testing::{command, parts, parts_on},
};

fn id(index: u64) -> LogId {
    to_raft(quorate_raft_store::LogId { term: 1, node: 1, index })
}

fn commands(index: u64) -> Entry {
    Entry { log_id: id(index), payload: EntryPayload::Normal(Batch::new(vec![command(index)])) }
}

#[tokio::test]
async fn each_command_has_its_own_outcome_and_the_index_moves_on() {
    let mut adapter = parts(Drive::Inline).adapter;
    let blank = Entry { log_id: id(0), payload: EntryPayload::Blank };
    let outcomes = adapter.apply([blank, commands(1)]).await.unwrap();
    let counts: Vec<usize> = outcomes.iter().map(|batch| batch.outcomes.len()).collect();
    assert_eq!(counts, [0, 1]);
    assert_eq!(*adapter.shared.index.borrow(), 1);
    assert_eq!(adapter.applied_state().await.unwrap().0, Some(id(1)));
}

#[tokio::test]
async fn a_member_too_old_for_a_command_stops_and_says_so() {
    let mut parts = parts(Drive::Inline);
    // A batch of one command of format 99, as a newer version might write it.
    let newer = Batch::from_encoded(bytes::Bytes::from_static(&[0x0a, 0x04, 0x08, 99, 0x10, 1]));
    let entry = Entry { log_id: id(0), payload: EntryPayload::Normal(newer) };
    let before = parts.adapter.shared.applied.read().state.state_hash();
    assert!(parts.adapter.apply([entry]).await.is_err());
    let reason = parts.stop.get().unwrap();
    assert!(reason.contains("log index 0") && reason.contains("upgrade this node"), "{reason}");
    assert_eq!(parts.adapter.shared.applied.read().state.state_hash(), before);
}

#[tokio::test]
async fn an_installed_snapshot_replaces_state_and_index_together_and_subscribers_are_told() {
    let mut leader = parts(Drive::Inline).adapter;
    for index in 0..20 {
        leader.apply([commands(index)]).await.unwrap();
    }
    let built = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let hash = leader.shared.applied.read().state.state_hash();

    let mut follower = parts(Drive::Inline);
    let mut events = follower.adapter.shared.events.subscribe();
    // As the peer service will: chunk by chunk into the follower's own store, checked against the sender's digest.
    let received = follower.adapter.snapshots.receive_for_test(&built);
    let Snapshot { meta, .. } = built;
    follower.adapter.install_snapshot(&meta, Box::new(received)).await.unwrap();
    assert_eq!(follower.adapter.shared.applied.read().state.state_hash(), hash);
    assert_eq!(follower.adapter.applied_state().await.unwrap().0, Some(id(19)));
    assert_eq!(*follower.adapter.shared.index.borrow(), 19);
    assert!(events.try_recv().unwrap().replaced);

    // It is what the follower starts from next time.
    follower.wal.close().unwrap();
    let mut again = parts_on(follower.disk.restart(), Drive::Inline, false);
    assert_eq!(again.adapter.applied_state().await.unwrap().0, Some(id(19)));
    assert_eq!(again.adapter.shared.applied.read().state.state_hash(), hash);
}

#[tokio::test]
async fn a_snapshot_that_one_from_the_leader_overtook_does_not_take_its_place() {
    let mut leader = parts(Drive::Inline).adapter;
    for index in 0..20 {
        leader.apply([commands(index)]).await.unwrap();
    }
    let sent = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut follower = parts(Drive::Inline);
    follower.adapter.apply([commands(0)]).await.unwrap();
    let mut builder = follower.adapter.get_snapshot_builder().await;
    let received = follower.adapter.snapshots.receive_for_test(&sent);
    follower.adapter.install_snapshot(&sent.meta, Box::new(received)).await.unwrap();
    assert_eq!(builder.build_snapshot().await.unwrap().meta.last_log_id, Some(id(0)));
    let current = follower.adapter.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.last_log_id, Some(id(19)));
    // Nothing else stays on the disk, and a start finds it.
    follower.wal.close().unwrap();
    let mut again = parts_on(follower.disk.restart(), Drive::Inline, false);
    assert_eq!(again.adapter.applied_state().await.unwrap().0, Some(id(19)));
    let files = quorate_raft_store::disk::Disk::list(&again.disk, "/disk/snapshots".as_ref()).unwrap();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[tokio::test]
async fn a_snapshot_for_which_there_is_no_room_is_given_up_and_ends_nothing() {
    let mut parts = parts(Drive::Inline);
    for index in 0..20 {
        parts.adapter.apply([commands(index)]).await.unwrap();
    }
    parts.disk.set_capacity(Some(1024));
    let given_up = parts.adapter.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(given_up.meta.last_log_id, None, "older than any other, so that Raft takes no notice");
    assert_eq!(parts.adapter.growth.snapshots.borrow().tries, 1);
    assert_eq!(parts.stop.get(), None);
    parts.disk.set_capacity(None);
    let built = parts.adapter.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(id(19)));
    assert_eq!(parts.adapter.growth.snapshot_index(), Some(19));
}

#[tokio::test]
async fn a_failed_sync_of_a_snapshot_ends_consensus_with_its_reason() {
    let mut parts = parts(Drive::Inline);
    parts.adapter.apply([commands(0)]).await.unwrap();
    parts.disk.plan(Fault { kind: FaultKind::SyncData, after: 0 });
    assert!(parts.adapter.get_snapshot_builder().await.build_snapshot().await.is_err());
    let reason = parts.stop.get().unwrap();
    assert!(reason.contains("snapshot") && reason.contains("cannot sync"), "{reason}");
}

#[tokio::test]
async fn a_snapshot_is_of_the_instant_at_which_its_builder_was_made() {
    let mut adapter = parts(Drive::Inline).adapter;
    adapter.apply([commands(0)]).await.unwrap();
    let mut builder = adapter.get_snapshot_builder().await;
    adapter.apply([commands(1)]).await.unwrap();
    let built = builder.build_snapshot().await.unwrap();
    assert_eq!(built.meta.last_log_id, Some(id(0)));
}

/// Writes down what it is told.
#[derive(Debug, Default, Clone)]
struct Heard(Arc<parking_lot::Mutex<Vec<String>>>);

impl Tap for Heard {
    fn applied(&self, log_index: u64, bytes: usize, commands: Vec<AppliedCommand>) {
        let repeats: Vec<bool> = commands.iter().map(|applied| applied.is_repeat).collect();
        assert!(bytes > 0 && commands.iter().all(|applied| applied.outcome.results.len() == 1));
        self.0.lock().push(format!("applied {log_index} {repeats:?}"));
    }

    fn replaced(&self, log_index: u64) {
        self.0.lock().push(format!("replaced {log_index}"));
    }

    fn permits(&self) -> Result<(), Arc<str>> {
        Ok(())
    }

    fn settled(&self, log_index: u64) -> crate::tap::Settling {
        self.0.lock().push(format!("settled {log_index}"));
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn a_tap_hears_of_every_command_with_its_outcome_before_a_snapshot_makes_that_impossible() {
    let heard = Heard::default();
    let mut leader = parts(Drive::Inline).adapter;
    leader.tap = Arc::new(heard.clone());
    leader.apply([commands(1), commands(2)]).await.unwrap();
    // The same command once more, under its own origin.
    let again = Entry { log_id: id(3), payload: EntryPayload::Normal(Batch::new(vec![command(2)])) };
    leader.apply([again]).await.unwrap();
    let built = leader.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(*heard.0.lock(), ["applied 1 [false]", "applied 2 [false]", "applied 3 [true]", "settled 3"]);

    let heard = Heard::default();
    let mut follower = parts(Drive::Inline);
    follower.adapter.tap = Arc::new(heard.clone());
    let received = follower.adapter.snapshots.receive_for_test(&built);
    follower.adapter.install_snapshot(&built.meta, Box::new(received)).await.unwrap();
    assert_eq!(*heard.0.lock(), ["replaced 3"]);
}
