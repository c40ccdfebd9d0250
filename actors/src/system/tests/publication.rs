//! Authorities that other trust domains have to know before they sign (FED-03, FED-04): the mark, the wait, and what ends it.

use std::time::Duration;

use quorate_proto_identity::{AuthorityId, EndpointUrl, TrustDomain, UnixSeconds};
use quorate_raft_machine::{
    AuthorityKind, AuthorityTimes, Endpoint, EndpointPins, MemberServices, NewRelationship, Operation, Policy,
    PollSettings, Publication, RelationshipOrigin,
};
use tokio::time::Instant;

use super::{
    cluster::{Cluster, asker, deadline, propose, until},
    network::Network,
    world::World,
};
use crate::AuthorityError;

const KIND: AuthorityKind = AuthorityKind::X509;

/// Three of the default refresh hint.
const HINTS: Duration = Duration::from_secs(900);

/// Nodes that serve something to other trust domains.
async fn serving(count: usize, serves: MemberServices, policy: Policy) -> Cluster {
    let network = Network::default();
    network.set_serves(serves);
    let cluster = Cluster::on(network, count, policy).await;
    for node in &cluster.nodes {
        until(|| {
            node.handle
                .state()
                .read(|state| state.members().all(|member| member.record.serves != MemberServices::default()))
        })
        .await;
    }
    cluster
}

fn bundle_endpoint() -> MemberServices {
    MemberServices { bundle_endpoint: Some("https://node:8443/".to_owned()), ..MemberServices::default() }
}

fn federation_api() -> MemberServices {
    MemberServices { federation_api: Some("https://node:8444/".to_owned()), ..MemberServices::default() }
}

fn times(node: &World, id: &AuthorityId) -> AuthorityTimes {
    node.handle.state().read(|state| state.authority(KIND, id).unwrap().times)
}

fn active(node: &World) -> AuthorityId {
    node.handle.state().read(|state| state.active_authority(KIND).unwrap().id)
}

fn peer() -> TrustDomain {
    TrustDomain::new("peer.example").unwrap()
}

fn relationship() -> Operation {
    Operation::CreateRelationship(Box::new(NewRelationship {
        trust_domain: peer(),
        endpoint: Endpoint::Web { url: EndpointUrl::parse("https://peer.example/").unwrap() },
        pins: EndpointPins::default(),
        poll: PollSettings::default(),
        origin: RelationshipOrigin::Operator,
        bundle: None,
    }))
}

/// Waits until the leader has marked an authority, and answers when.
async fn marked(node: &World, id: &AuthorityId) -> UnixSeconds {
    until(|| times(node, id).published_at.is_some()).await;
    times(node, id).published_at.unwrap()
}

/// SF-12. Accepts: FED-03, FED-04
#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_signs_three_hints_after_the_last_member_served_it_whoever_leads_then() {
    let cluster = serving(3, bundle_endpoint(), Policy::default()).await;
    let leader = cluster.leader(None).await;
    let asked = &cluster.nodes[(leader + 1) % 3];
    let before = active(asked);
    let prepared = asked.system.authorities().prepare(&asker(), KIND, deadline()).await.unwrap();
    let mark = marked(asked, &prepared.id).await;
    for node in &cluster.nodes {
        until(|| node.handle.state().read(|state| state.authority(KIND, &prepared.id).is_some())).await;
    }
    asked.system.authorities().replace(&asker(), KIND, Some(&before), false, deadline()).await.unwrap();
    // Another leader neither begins the time anew nor ends it.
    cluster.nodes[leader].handle.transfer_leadership(None, deadline()).await.unwrap();
    cluster.leader(Some(leader)).await;
    cluster.advance(HINTS - Duration::from_secs(5));
    assert_eq!((active(asked), times(asked, &prepared.id).published_at), (before.clone(), Some(mark)));
    let soon = Instant::now() + Duration::from_secs(2);
    let waits =
        asked.system.authorities().activate(&asker(), KIND, &prepared.id, false, soon, |_| {}).await.unwrap_err();
    let names_it = |waits: &String| waits.contains("readers of the bundle have time until");
    assert!(matches!(&waits, AuthorityError::Waits { waits_for } if waits_for.iter().any(names_it)), "{waits}");
    let progress = asked.system.authorities().progress(KIND, deadline()).await.unwrap();
    assert!(progress.waits_for.iter().any(names_it), "{progress:?}");
    cluster.advance(Duration::from_secs(6));
    asked.register("wake", "/wake").await;
    until(|| active(asked) == prepared.id).await;
}

/// The time begins when the last live member has it, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_does_not_begin_while_a_live_member_is_cut_off() {
    let cluster = serving(3, bundle_endpoint(), Policy::default()).await;
    let leader = cluster.leader(None).await;
    let (asked, cut) = (&cluster.nodes[leader], &cluster.nodes[(leader + 1) % 3]);
    cluster.network.cut(cut.name.as_str());
    let prepared = asked.system.authorities().prepare(&asker(), KIND, deadline()).await.unwrap();
    let soon = Instant::now() + Duration::from_secs(2);
    let waits =
        asked.system.authorities().activate(&asker(), KIND, &prepared.id, false, soon, |_| {}).await.unwrap_err();
    let names_it = |waits: &String| waits.contains(cut.name.as_str());
    assert!(matches!(&waits, AuthorityError::Waits { waits_for } if waits_for.iter().any(names_it)), "{waits}");
    assert_eq!(times(asked, &prepared.id).published_at, None);
    cluster.network.heal(cut.name.as_str());
    marked(asked, &prepared.id).await;
}

/// Item 10: a confirmed watch of the only known peers shortens the wait, by policy.
#[tokio::test(flavor = "multi_thread")]
async fn confirmed_watches_of_all_known_peers_end_the_wait_by_policy() {
    let policy = Policy { publication: Publication::ConfirmedByPeers, ..Policy::default() };
    let cluster = serving(3, federation_api(), policy).await;
    let leader = cluster.leader(None).await;
    // The watch is open at a node that does not lead.
    let (asked, watched) = (&cluster.nodes[leader], &cluster.nodes[(leader + 1) % 3]);
    propose(asked, relationship()).await;
    let guard = watched.system.watchers().open(Some(&peer())).unwrap();
    let before = active(asked);
    let prepared = asked.system.authorities().prepare(&asker(), KIND, deadline()).await.unwrap();
    asked.system.authorities().replace(&asker(), KIND, Some(&before), false, deadline()).await.unwrap();
    marked(asked, &prepared.id).await;
    let sequence = asked.handle.state().read(|state| state.bundle().sequence);
    guard.sent(sequence);
    // What it had before is not enough.
    guard.confirm(sequence - 1);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((active(asked), times(asked, &prepared.id).confirmed_at), (before, None));
    guard.confirm(sequence);
    until(|| active(asked) == prepared.id).await;
    assert!(times(asked, &prepared.id).confirmed_at.is_some());
}

/// Whoever forces a step is told whose workloads will refuse ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_activation_names_the_peers_that_do_not_know_it_yet() {
    let cluster = serving(1, bundle_endpoint(), Policy::default()).await;
    let node = &cluster.nodes[0];
    propose(node, relationship()).await;
    let prepared = node.system.authorities().prepare(&asker(), KIND, deadline()).await.unwrap();
    marked(node, &prepared.id).await;
    let told = node.system.authorities().gate(KIND, &prepared.id, deadline()).await.unwrap();
    assert_eq!((told.fails_for_peers, told.fails_for.len()), (vec!["peer.example".to_owned()], 0));
    let forced =
        node.system.authorities().activate(&asker(), KIND, &prepared.id, true, deadline(), |_| {}).await.unwrap();
    assert_eq!(forced.fails_for_peers, ["peer.example"]);
    assert!(forced.passed_by[0].contains("peer.example among them"), "{forced:?}");
    assert_eq!(active(node), prepared.id);
}
