//! A cluster as its workloads see it: one authority, whoever leads, and an end to what is cut off.

use std::{collections::BTreeSet, time::Duration};

use quorate_raft_machine::{AuthorityKind, Event, MemberRole, Operation, Policy, State};

use super::{
    cluster::{Cluster, chain, fetch, fetched, is_sealed_to, propose, token, unavailable, until, verify},
    world::within,
};
use crate::IssuanceStatus;

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_one_authority_and_go_on_when_their_leader_is_gone() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let mut issuers = BTreeSet::new();
    for node in &cluster.nodes {
        let answer = fetched(node).await;
        for other in &cluster.nodes {
            verify(&answer, other);
            let token = token(node).await.unwrap();
            let caller = super::world::caller();
            other.system.workload_api().validate_jwt_svid(&caller, "x", &token).await.unwrap();
        }
        issuers.insert(chain(&answer)[1].serial().to_vec());
    }
    assert_eq!(issuers.len(), 3, "each signs with a certificate of its own");

    let leader = cluster.leader(None).await;
    cluster.network.cut(cluster.nodes[leader].name.as_str());
    // INV-14: those that are left serve through the election.
    while cluster
        .nodes
        .iter()
        .enumerate()
        .all(|(index, node)| index == leader || !node.handle.role().borrow().is_leader())
    {
        for node in cluster.nodes.iter() {
            fetch(node).await.unwrap();
            token(node).await.unwrap();
        }
    }
    let next = cluster.leader(Some(leader)).await;
    // The next leader signs for whoever asks, and for itself.
    let fenced = cluster.number(next);
    propose(&cluster.nodes[next], Operation::RevokeIssuingCertificate { member: fenced, serial: None }).await;
    for (index, node) in cluster.nodes.iter().enumerate() {
        let answer = fetched(node).await;
        if index == next {
            assert!(!issuers.contains(chain(&answer)[1].serial()), "the fenced one has a new certificate");
        }
    }
}

/// Property 4, INV-14: leases of seconds are renewed at whoever leads, and an election costs no workload anything.
#[tokio::test(flavor = "multi_thread")]
async fn inv_14_leases_are_renewed_through_elections_without_a_gap() {
    let policy = Policy {
        root_lifetime: 600,
        issuing_lifetime: 8,
        x509_svid_lifetime: 4,
        jwt_key_lifetime: 600,
        jwt_svid_lifetime: 10,
        refresh_hint: 10,
        ..Policy::default()
    };
    let cluster = Cluster::of(3, policy).await;
    let mut leases: Vec<BTreeSet<Vec<u8>>> = vec![BTreeSet::new(); 3];
    for node in &cluster.nodes {
        fetched(node).await;
    }
    let mut cut = None;
    within(async {
        // Three certificates each, of those that stay.
        while leases.iter().enumerate().any(|(index, seen)| Some(index) != cut && seen.len() < 3) {
            for (index, node) in cluster.nodes.iter().enumerate().filter(|(index, _)| Some(*index) != cut) {
                let answer = fetch(node).await.unwrap();
                leases[index].insert(chain(&answer)[1].serial().to_vec());
                token(node).await.unwrap();
            }
            if cut.is_none() && leases.iter().all(|seen| seen.len() > 1) {
                let leader = cluster.leader(None).await;
                cluster.network.cut(cluster.nodes[leader].name.as_str());
                cut = Some(leader);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let gone = &cluster.nodes[cut.unwrap()];
    gone.until(|status| matches!(status, IssuanceStatus::Waiting { .. })).await;
    unavailable(fetch(gone).await);
}

/// Design section 3, admission: a node that is ready signs tokens too.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_has_the_token_keys_before_its_first_issuing_certificate() {
    let mut cluster = Cluster::of(1, Policy::default()).await;
    let mut events = cluster.nodes[0].handle.events();
    cluster.join("node-2", Some(MemberRole::Learner)).await;
    let (mut sealed_at, mut issued_at) = (None, None);
    within(async {
        while issued_at.is_none() {
            let applied = events.recv().await.unwrap();
            for event in &applied.events {
                if matches!(event, Event::JwtAuthorityChanged { .. }) {
                    sealed_at = sealed_at.or(Some(applied.index));
                }
                if matches!(event, Event::IssuingCertificateChanged { member, .. } if member.get() == 2) {
                    issued_at = Some(applied.index);
                }
            }
        }
    })
    .await;
    assert!(sealed_at < issued_at && sealed_at.is_some(), "{sealed_at:?} {issued_at:?}");
    cluster.nodes[1].until_ready().await;
    token(&cluster.nodes[1]).await.unwrap();
    let opens_roots = |state: &State| is_sealed_to(state, AuthorityKind::X509, cluster.number(1));
    assert!(!cluster.nodes[0].handle.state().read(opens_roots), "roots are for voters");
}

/// Property 4, ATK-13: to the end of its certificate, and then Unavailable; and nothing after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_serves_to_the_end_of_its_lease_and_nothing_when_it_starts_again() {
    let mut cluster = Cluster::of(3, Policy::default()).await;
    let absent = (cluster.leader(None).await + 1) % 3;
    cluster.network.cut(cluster.nodes[absent].name.as_str());
    let node = &cluster.nodes[absent];
    cluster.advance(Duration::from_secs(11 * 3600));
    fetched(node).await;
    token(node).await.unwrap();
    cluster.advance(Duration::from_secs(14 * 3600));
    unavailable(fetch(node).await);
    unavailable(token(node).await);

    cluster.nodes[absent].restart_node().await;
    let node = &cluster.nodes[absent];
    node.until(|status| matches!(status, IssuanceStatus::Waiting { .. })).await;
    unavailable(fetch(node).await);
    unavailable(token(node).await);
    cluster.network.heal(node.name.as_str());
    verify(&fetched(node).await, &cluster.nodes[(absent + 1) % 3]);
}

/// Issue 4, acceptance; FLT-28: no manual step after an outage longer than every life.
#[tokio::test(flavor = "multi_thread")]
async fn flt_28_a_cluster_that_was_off_longer_than_every_life_serves_again_by_itself() {
    let mut cluster = Cluster::of(3, Policy::default()).await;
    let before = fetched(&cluster.nodes[0]).await;
    for node in &cluster.nodes {
        node.stop().await;
    }
    cluster.advance(Duration::from_secs(90 * 24 * 3600));
    for node in &mut cluster.nodes {
        node.start().await;
    }
    for node in &cluster.nodes {
        let answer = fetched(node).await;
        assert_ne!(answer.svids[0].bundle, before.svids[0].bundle, "the root is another one");
        for other in &cluster.nodes {
            let roots = |state: &State| state.bundle().sequence;
            let sequence = node.handle.state().read(roots);
            until(|| other.handle.state().read(roots) >= sequence).await;
            verify(&answer, other);
        }
    }
}

/// Design section 4, clocks: more than 5 s off the median, a node signs nothing, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_off_signs_nothing_until_it_is_right() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let off = (cluster.leader(None).await + 1) % 3;
    let node = &cluster.nodes[off];
    fetched(node).await;
    node.clock.advance(Duration::from_secs(60));
    node.until(|status| matches!(status, IssuanceStatus::Waiting { reason } if reason.contains("clock"))).await;
    unavailable(fetch(node).await);
    unavailable(token(node).await);
    node.clock.set_back(Duration::from_secs(60));
    node.until_ready().await;
    fetched(node).await;
}
