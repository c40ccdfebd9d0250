//! The audit trail of running nodes: derived from the log, through restarts and snapshots, anchored in the state.

use quorate_proto_identity::EntryId;
use quorate_raft_machine::{AuditIssuance, Operation, Policy};
use quorate_raft_store::disk::RealDisk;

use super::{
    cluster::{Cluster, until},
    world::{World, caller, next, settings, within},
};
use crate::audit::{Anchor, Head, Kind, Record, RecordHash, Verdict, Verification, verify};

/// Every record that a node has on its disk.
async fn records(world: &World) -> Vec<Record> {
    assert!(world.audit.flush().await);
    let mut reader = world.audit.reader(1).unwrap();
    let mut records = Vec::new();
    loop {
        let read = reader.read(u64::MAX).unwrap();
        if read.is_empty() {
            return records;
        }
        records.extend(read.into_iter().map(|shown| shown.record));
    }
}

/// What every node is to have.
async fn administrative(world: &World) -> Vec<Record> {
    let mut records = records(world).await;
    records.retain(|record| record.kind == Kind::Administrative);
    for record in &mut records {
        record.record = 0;
    }
    records
}

fn anchors(world: &World) -> Vec<Anchor> {
    let number = world.handle.member().unwrap();
    world.handle.state().read(|state| {
        let anchor = |head: Head| Anchor { name: format!("record {}", head.records), head };
        let heads =
            state.audit_anchors(number).map(|anchor| Head { records: anchor.records, hash: RecordHash(anchor.hash) });
        heads.map(anchor).collect()
    })
}

fn verified(world: &World) -> Verification {
    verify(&RealDisk, &world.audit.settings().unwrap().directory, &anchors(world)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_hold_the_same_records_and_anchor_their_own_trails() {
    let cluster = Cluster::of(3, Policy::default()).await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.register(&format!("e{number}"), &format!("/e{number}")).await;
    }
    let last = cluster.nodes[2].handle.state().applied_index();
    until(|| cluster.nodes.iter().all(|node| node.handle.state().applied_index() >= last)).await;
    let upto =
        |records: Vec<Record>| records.into_iter().filter(|record| record.index <= Some(last)).collect::<Vec<_>>();
    let of_first = upto(administrative(&cluster.nodes[0]).await);
    assert!(of_first.iter().any(|record| record.spiffe_id.as_deref() == Some("spiffe://example.org/e2")));
    for node in &cluster.nodes {
        assert_eq!(upto(administrative(node).await), of_first, "{}", node.name);
    }
    until(|| cluster.nodes.iter().all(|node| !anchors(node).is_empty())).await;
    for node in &cluster.nodes {
        let told = verified(node);
        assert_eq!((told.verdict, told.findings), (Verdict::Intact, vec![]), "{}", node.name);
        assert!(!told.met.is_empty(), "{}", node.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_applies_the_log_again_and_neither_loses_nor_doubles_a_record() {
    let mut world = World::ready().await;
    world.register("a", "/a").await;
    let before = administrative(&world).await;
    world.restart_node().await;
    world.until_ready().await;
    world.register("b", "/b").await;
    let after = administrative(&world).await;
    assert_eq!(after[..before.len()], before);
    let places: Vec<_> = after.iter().map(|record| record.position().unwrap()).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    // The trail was taken away meanwhile: what the log still has is written again, what was anchored is told as lost.
    until(|| !anchors(&world).is_empty()).await;
    world.stop().await;
    std::fs::remove_dir_all(&world.audit.settings().unwrap().directory).unwrap();
    world.start().await;
    world.until_ready().await;
    world.register("c", "/c").await;
    let again = administrative(&world).await;
    assert!(again.len() > after.len() && again[..after.len()] == after);
    assert_ne!(verified(&world).verdict, Verdict::Intact);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_record_is_on_the_disk_before_the_svid_is_handed_out() {
    let policy = Policy { audit_issuance: AuditIssuance::Required, ..Policy::default() };
    let world = World::with(policy, settings()).await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 1);
    let head = world.audit.status().unwrap().borrow().head;
    let issued: Vec<Record> = records(&world).await.into_iter().filter(|record| record.what == "x509.issue").collect();
    let [record] = issued.as_slice() else { panic!("{issued:?}") };
    assert_eq!(record.entry_id.as_deref(), Some("a"));
    assert!(record.serial.is_some() && record.record <= head.records, "{record:?} {head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_ends_is_started_again_and_loses_nothing_that_waits() {
    let world = World::ready().await;
    // Children are started one by one, and a node is ready before the last of them is there.
    within(async {
        loop {
            if let Some(child) = world.system.child("audit").await {
                return child.kill();
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.register("a", "/a").await;
    within(async {
        while !administrative(&world).await.iter().any(|record| record.entry_id.as_deref() == Some("a")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let operation = Operation::DeleteEntry { id: EntryId::new("a").unwrap(), revoke: None };
    world.propose(operation).await;
    assert_eq!(administrative(&world).await.last().unwrap().what, "entry.delete");
    assert_eq!(verified(&world).verdict, Verdict::Intact);
}
