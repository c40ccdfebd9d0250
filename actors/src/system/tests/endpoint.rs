//! The endpoint certificate: who has one, under which root, and when it goes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quorate_proto_identity::{
    AuthorityId, Bundle, SpiffeId,
    x509::{Certificate, Purpose, verify_x509_svid},
};
use quorate_raft_machine::{AuthorityKind, Operation, Policy, State};

use super::{
    cluster::{Cluster, asker, deadline, propose, until},
    world::{World, trust_domain},
};
use crate::{EndpointIdentity, LedgerQuery, endpoint_id};

fn server_id() -> SpiffeId {
    endpoint_id(&trust_domain()).unwrap()
}

/// The endpoint certificate of a node, once it has one that fits.
async fn identity(node: &World, fits: impl Fn(&EndpointIdentity) -> bool) -> Arc<EndpointIdentity> {
    let held = node.system.endpoint_identity();
    until(|| held.borrow().as_deref().is_some_and(&fits)).await;
    let found = held.borrow().clone();
    found.unwrap()
}

/// A peer that has just these roots of ours.
fn peer_with(node: &World, roots: &[AuthorityId]) -> Bundle {
    let mut bundle = Bundle::new(trust_domain());
    for root in node.handle.state().read(State::bundle).x509_authorities.iter() {
        if roots.contains(&root.id) {
            bundle.add_x509_authority(Certificate::parse(&root.certificate).unwrap());
        }
    }
    bundle
}

fn accepts(peer: &Bundle, identity: &EndpointIdentity, at: &World) -> bool {
    let now = at.sources.now().seconds();
    let server = verify_x509_svid(&identity.chain, peer, now, Purpose::Server);
    let client = verify_x509_svid(&identity.chain, peer, now, Purpose::Client);
    assert_eq!(server.is_ok(), client.is_ok(), "it is for both ends");
    server.is_ok_and(|verified| *verified.spiffe_id() == server_id())
}

fn active(node: &World) -> AuthorityId {
    node.handle.state().read(|state| state.active_authority(AuthorityKind::X509).unwrap().id)
}

async fn rotate(node: &World) -> AuthorityId {
    let authorities = node.system.authorities();
    let kind = AuthorityKind::X509;
    let prepared = authorities.prepare(&asker(), kind, deadline()).await.unwrap();
    authorities.activate(&asker(), kind, &prepared.id, true, deadline(), |_| {}).await.unwrap();
    prepared.id
}

/// A peer that slept through rotations still has the oldest root, so it can verify us and fetch the newest bundle.
///
/// Accepts: FED-36, FED-41
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_certificates_stay_under_the_oldest_root_through_rotations_and_move_when_it_is_tainted() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let asked = &cluster.nodes[0];
    let first = active(asked);
    let sleeper = peer_with(asked, std::slice::from_ref(&first));
    let mut serials = BTreeSet::new();
    for node in &cluster.nodes {
        let held = identity(node, |_| true).await;
        assert_eq!((&held.root, &held.spiffe_id, held.chain.len()), (&first, &server_id(), 1));
        assert!(accepts(&sleeper, &held, node));
        serials.insert(held.serial);
    }
    assert_eq!(serials.len(), 3, "each node has its own key and certificate");

    let second = rotate(asked).await;
    let third = rotate(asked).await;
    // Past their renewal: what they have then was signed while the third root was active.
    cluster.advance(Duration::from_secs(45 * 60));
    for node in &cluster.nodes {
        let held = identity(node, |held| !serials.contains(&held.serial)).await;
        assert_eq!(held.root, first, "it moves last");
        assert!(accepts(&sleeper, &held, node));
    }

    let authorities = asked.system.authorities();
    authorities.taint(&asker(), AuthorityKind::X509, &first, deadline()).await.unwrap();
    let napper = peer_with(asked, std::slice::from_ref(&second));
    for node in &cluster.nodes {
        let held = identity(node, |held| held.root != first).await;
        assert_eq!(held.root, second, "the next one, and not the newest");
        assert!(accepts(&napper, &held, node) && !accepts(&sleeper, &held, node));
        assert!(!accepts(&peer_with(asked, std::slice::from_ref(&third)), &held, node));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_certificate_is_in_the_ledger_of_whoever_leads_and_is_renewed_at_half_life() {
    let node = World::ready().await;
    let held = identity(&node, |_| true).await;
    let query = LedgerQuery { spiffe_id: Some(server_id()), ..LedgerQuery::default() };
    let page = node.system.ledger().search(query).await.unwrap();
    assert_eq!(page.rows.len(), 1, "{page:?}");
    let life = held.not_after.since(node.sources.now().seconds());
    assert!((3_590..=3_600).contains(&life), "as an X509-SVID of the policy: {life}");
    node.clock.advance(Duration::from_secs(20 * 60));
    node.register("b", "/b").await;
    assert_eq!(identity(&node, |_| true).await.serial, held.serial, "not before its time");
    node.clock.advance(Duration::from_secs(20 * 60));
    node.register("c", "/c").await;
    identity(&node, |renewed| renewed.serial != held.serial).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_certificate_is_made_before_somebody_wants_it() {
    let node = World::ready().await;
    let query = || LedgerQuery { spiffe_id: Some(server_id()), ..LedgerQuery::default() };
    node.register("b", "/b").await;
    assert_eq!(node.system.ledger().search(query()).await.unwrap().rows.len(), 0);
    identity(&node, |_| true).await;
    assert_eq!(node.system.ledger().search(query()).await.unwrap().rows.len(), 1);
}

/// Refuses: FED-36: a node that is no live member shows nothing, rather than something that is not its own any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_fenced_or_removed_loses_its_endpoint_certificate() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let follower = (cluster.leader(None).await + 1) % 3;
    let (asked, fenced) = (&cluster.nodes[follower], &cluster.nodes[(follower + 1) % 3]);
    let before = identity(fenced, |_| true).await;
    let member = cluster.number((follower + 1) % 3);
    propose(asked, Operation::RevokeIssuingCertificate { member, serial: None }).await;
    // It is connected, so it gets another issuing certificate at once, and with it another of these.
    identity(fenced, |held| held.serial != before.serial).await;
    propose(asked, Operation::RemoveMember { number: member, compromised: false }).await;
    let held = fenced.system.endpoint_identity();
    until(|| held.borrow().is_none()).await;
}

/// Beyond its end nothing is shown, even if nobody leads who could give another.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_certificate_that_has_ended_is_withdrawn() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let alone = &cluster.nodes[2];
    let held = identity(alone, |_| true).await;
    cluster.nodes[0].stop().await;
    cluster.nodes[1].stop().await;
    alone.clock.advance(Duration::from_secs(59 * 60));
    let now = alone.system.endpoint_identity();
    assert_eq!(now.borrow().as_ref().map(|now| now.serial), Some(held.serial), "it serves to the end");
    alone.clock.advance(Duration::from_secs(2 * 60));
    until(|| now.borrow().is_none()).await;
}
