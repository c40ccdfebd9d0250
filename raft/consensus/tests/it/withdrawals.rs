//! What takes rights away is acknowledged when every connected member has applied it (design section 2, property 5).

use std::time::Duration;

use quorate_proto_identity::EntryId;
use quorate_raft_consensus::{Contact, ProposeError, limits::CONTACT_LIMIT};
use quorate_raft_machine::Operation;
use tokio::time::Instant;

use crate::support::{
    cluster::{Cluster, name},
    eventually, has, proposal,
};

fn delete(entry: &str) -> Operation {
    Operation::DeleteEntry { id: EntryId::new(entry).unwrap(), revoke: None }
}

/// Whoever leads, all members report to it.
async fn until_all_are_connected(cluster: &Cluster) {
    for member in cluster.members.values() {
        let contact = member.handle.contact();
        eventually("the member is connected", || contact.borrow().is_connected_at(Instant::now())).await;
    }
}

#[tokio::test]
async fn a_delete_is_acknowledged_when_every_connected_member_has_applied_it_property_5() {
    let mut cluster = Cluster::of(3).await;
    cluster.add_learner(4).await;
    until_all_are_connected(&cluster).await;
    for (round, at) in (1..=4).enumerate() {
        let entry = format!("entry-{round}");
        cluster.create_at(1, &entry).await;
        cluster.until_all_have(&entry).await;
        cluster.handle(at).propose(proposal(vec![delete(&entry)])).await.unwrap();
        for member in cluster.members.values() {
            assert!(!has(&member.handle, &entry), "{} still has what was deleted at member {at}", member.name);
        }
    }
}

#[tokio::test]
async fn a_delete_waits_for_a_member_that_is_cut_off_until_that_member_knows_it_property_5() {
    let cluster = Cluster::of(3).await;
    until_all_are_connected(&cluster).await;
    cluster.create_at(1, "entry").await;
    cluster.until_all_have("entry").await;
    let leader = cluster.leader_number().await;
    let cut = (1..=3).find(|number| *number != leader).unwrap();
    cluster.isolate(cut);
    let began = Instant::now();
    cluster.handle(leader).propose(proposal(vec![delete("entry")])).await.unwrap();
    // The member that still has it was cut off before the delete was acknowledged, and knows it.
    assert!(has(&cluster.handle(cut), "entry"));
    let contact = *cluster.handle(cut).contact().borrow();
    assert!(!contact.is_connected_at(Instant::now()), "{contact:?}");
    assert!(
        began.elapsed() < CONTACT_LIMIT * 4,
        "nobody waits for a member that is gone for longer than contact lasts"
    );
    cluster.rejoin(cut);
    let handle = cluster.handle(cut);
    eventually("the member is connected again", || handle.contact().borrow().is_connected_at(Instant::now())).await;
    assert!(!has(&handle, "entry"), "it is connected, and still has what was deleted without it (INV-07)");
}

#[tokio::test]
async fn a_delete_at_a_leader_that_is_cut_off_is_never_acknowledged_as_done_everywhere() {
    let cluster = Cluster::of(3).await;
    until_all_are_connected(&cluster).await;
    cluster.create_at(1, "entry").await;
    let leader = cluster.leader_number().await;
    cluster.isolate(leader);
    let outcome = cluster.handle(leader).propose(proposal(vec![delete("entry")]).within(Duration::from_secs(2))).await;
    assert!(
        matches!(
            outcome,
            Err(ProposeError::OutcomeUnknown { .. }
                | ProposeError::NoLeader { .. }
                | ProposeError::NotEverywhere { .. })
        ),
        "{outcome:?}"
    );
    let handle = cluster.handle(leader);
    eventually("the old leader knows that it is cut off", || {
        matches!(*handle.contact().borrow(), Contact::CutOff { .. })
    })
    .await;
}

#[tokio::test]
async fn the_leader_knows_who_is_connected_and_how_far_each_is() {
    let cluster = Cluster::of(3).await;
    until_all_are_connected(&cluster).await;
    let applied = cluster.create_at(2, "entry").await;
    let leader = cluster.leader().await;
    eventually("all have reported it", || {
        let members = leader.members();
        members.len() == 3 && members.iter().all(|member| member.connected && member.applied_index >= applied.log_index)
    })
    .await;
    let others: Vec<_> = leader.members().into_iter().filter(|member| Some(member.number) != leader.member()).collect();
    assert!(others.iter().all(|member| member.last_report.is_some()));
    eventually("clocks were compared", || {
        leader.members().iter().all(|member| member.clock_offset_millis.is_some_and(|offset| offset.abs() < 1_000))
    })
    .await;
    let cut = others[0].number.get();
    cluster.isolate(cut);
    eventually(&format!("{} is seen to be gone", name(cut)), || {
        leader.members().iter().any(|member| member.number.get() == cut && !member.connected)
    })
    .await;
}
