//! When endpoints are asked, and that none waits for another.

use std::time::Duration;

use quorate_raft_machine::{Operation, PollSettings, RelationshipChange};
use tokio::time::{Instant, sleep};

use super::{
    super::{
        cluster::Cluster,
        foreign::Foreign,
        world::{World, trust_domain},
    },
    outside::{
        Outside, Reply, create, fetching_node, held, hinted, relationship, sequence, status, until, until_held,
        until_status, web,
    },
};
use crate::federation::FederationError;

/// Accepts: FED-01, FED-08, FED-13, FED-16, FED-19, FED-27, FED-43, FED-46
#[tokio::test]
async fn a_new_relationship_is_fetched_at_once_and_its_bundle_recorded() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    let made = Instant::now();
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    assert!(made.elapsed() < Duration::from_secs(5));
    assert_eq!(held(&world, &foreign).unwrap().bundle.x509_authorities(), hinted(&foreign, 7).x509_authorities());
    let status = until_status(&world, &foreign, |status| status.last_success.is_some()).await;
    assert_eq!((status.sequence, status.error, status.stale), (Some(7), None, false));
    assert_eq!(status.fetched_by, world.handle.member());
}

/// Accepts: FED-07, BND-16. Refuses: FED-07 (neither never nor without a pause).
#[tokio::test]
async fn a_bundle_is_asked_for_at_its_hint_and_what_has_not_changed_is_not_recorded() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    let mut bundle = foreign.bundle(7);
    bundle.set_refresh_hint(Some(2));
    outside.answers(&foreign.domain, Reply::bundle(&bundle));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    let version = held(&world, &foreign).unwrap().version;
    let calls = outside.until_calls(&foreign.domain, 3).await;
    for pair in calls.windows(2) {
        let wait = pair[1].at - pair[0].at;
        assert!((Duration::from_millis(1_790)..=Duration::from_millis(2_900)).contains(&wait), "{wait:?}");
    }
    assert_eq!(held(&world, &foreign).unwrap().version, version);
}

/// Accepts: FED-09, BND-11. XB-21: the interval without a hint is a matter of `poll`.
#[tokio::test]
async fn of_bundles_without_sequence_the_last_one_counts() {
    let (world, outside) = fetching_node().await;
    let (foreign, rebuilt) = (Foreign::new("other.example"), Foreign::new("other.example"));
    let plain = |foreign: &Foreign| {
        let mut bundle = hinted(foreign, 0);
        bundle.set_sequence(None);
        bundle
    };
    outside.answers(&foreign.domain, Reply::bundle(&plain(&foreign)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until(|| held(&world, &foreign).is_some()).await;
    outside.answers(&foreign.domain, Reply::bundle(&plain(&rebuilt)));
    until(|| *held(&world, &foreign).unwrap().bundle == plain(&rebuilt)).await;
}

/// Accepts: FED-47. Refuses: FED-47. SF-10.
#[tokio::test]
async fn an_endpoint_that_is_down_is_asked_at_its_interval_and_the_old_bundle_stays() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    outside.answers(&foreign.domain, Reply::Absent);
    let calls = outside.until_calls(&foreign.domain, 4).await;
    for pair in calls.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(890), "no loop: {:?}", pair[1].at - pair[0].at);
    }
    let told = until_status(&world, &foreign, |status| status.error.is_some()).await;
    assert!(told.error.unwrap().contains("nobody is there"));
    assert_eq!(sequence(&world, &foreign), Some(7));
    // It is back: nothing has to be done.
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 8)));
    until_held(&world, &foreign, 8).await;
    let told = until_status(&world, &foreign, |status| status.error.is_none()).await;
    assert_eq!(told.sequence, Some(8));
}

/// Whoever is told why a bundle was not fetched finds the same on the board, also when the relationship was made or changed a
/// moment before.
#[tokio::test]
async fn the_status_is_as_an_operator_was_just_told_it_is() {
    let (world, outside) = fetching_node().await;
    let federation = world.system.federation();
    for number in 0..20 {
        let foreign = Foreign::new(&format!("other-{number}.example"));
        outside.answers(&foreign.domain, Reply::Useless);
        create(&world, relationship(&foreign.domain, web(&foreign.domain), 60, None)).await;
        let refused = federation.refresh(&foreign.domain, false).await.unwrap_err();
        let FederationError::Refused(words) = refused else { panic!("{refused}") };
        assert_eq!(status(&world, &foreign).await.error.as_ref(), Some(&words));

        let poll = PollSettings { floor: 120, ..PollSettings::default() };
        world
            .propose(Operation::UpdateRelationship {
                trust_domain: foreign.domain.clone(),
                change: Box::new(RelationshipChange { poll: Some(poll), ..RelationshipChange::default() }),
                expected_revision: 0,
            })
            .await;
        let FederationError::Refused(words) = federation.refresh(&foreign.domain, true).await.unwrap_err() else {
            panic!("it was not asked")
        };
        assert_eq!(status(&world, &foreign).await.error, Some(words));
    }
}

/// ATK-36: a peer that never answers, or answers with nothing of use, keeps no other waiting.
#[tokio::test]
async fn slow_and_hostile_peers_delay_nobody_else() {
    let (world, outside) = fetching_node().await;
    for number in 0..40 {
        let slow = Foreign::new(&format!("slow-{number}.example"));
        outside.answers(&slow.domain, if number % 2 == 0 { Reply::Hangs } else { Reply::Useless });
        create(&world, relationship(&slow.domain, web(&slow.domain), 1, None)).await;
    }
    let good = Foreign::new("good.example");
    outside.answers(&good.domain, Reply::bundle(&hinted(&good, 1)));
    create(&world, relationship(&good.domain, web(&good.domain), 1, None)).await;
    until_held(&world, &good, 1).await;
    let calls = outside.until_calls(&good.domain, 5).await;
    for pair in calls.windows(2) {
        let wait = pair[1].at - pair[0].at;
        assert!((Duration::from_millis(890)..=Duration::from_millis(2_000)).contains(&wait), "{wait:?}");
    }
}

/// Accepts: FED-48. Refuses: FED-48. SF-11.
#[tokio::test]
async fn a_relationship_that_is_deleted_is_asked_for_nothing_more() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    world.propose(Operation::DeleteRelationship { trust_domain: foreign.domain.clone() }).await;
    assert_eq!(held(&world, &foreign), None);
    let calls = outside.calls(&foreign.domain).len();
    sleep(Duration::from_secs(3)).await;
    assert!(outside.calls(&foreign.domain).len() <= calls + 1, "one may have been on its way");
    assert_eq!(held(&world, &foreign), None, "and what it brought is not taken");
    assert!(world.system.federation().statuses().await.unwrap().is_empty());
}

#[tokio::test]
async fn silence_for_three_intervals_is_told_as_stale() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    outside.answers(&foreign.domain, Reply::Useless);
    assert!(world.system.federation().warnings().is_empty());
    let told = until_status(&world, &foreign, |status| status.stale).await;
    assert!(told.error.unwrap().contains("certificate is refused"));
    let warnings = world.system.federation().warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("other.example") && warnings[0].contains("stale"),
        "{warnings:?}"
    );
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    until_status(&world, &foreign, |status| !status.stale).await;
    assert!(world.system.federation().warnings().is_empty());
}

/// Only the leader asks, whichever that is; every node holds what came, and tells how it is.
#[tokio::test]
async fn the_leader_fetches_and_the_next_leader_goes_on() {
    let (cluster, outside) = cluster_of(3).await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    let leader = cluster.leader(None).await;
    create(&cluster.nodes[leader], relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    for node in &cluster.nodes {
        until_held(node, &foreign, 7).await;
        let told = until_status(node, &foreign, |status| status.last_success.is_some()).await;
        assert_eq!(told.fetched_by, Some(cluster.number(leader)));
    }
    cluster.nodes[leader].stop().await;
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 8)));
    let next = cluster.leader(Some(leader)).await;
    cluster.nodes[next].system.federation().refresh(&foreign.domain, false).await.unwrap();
    for (index, node) in cluster.nodes.iter().enumerate().filter(|(index, _)| *index != leader) {
        until_held(node, &foreign, 8).await;
        let told = status(node, &foreign).await;
        assert_eq!(told.fetched_by, Some(cluster.number(next)), "node {index}");
    }
}

/// An operator looks at any node, and so does what watches `/ready` for one.
#[tokio::test]
async fn every_node_warns_of_a_stale_bundle_and_stops_when_it_is_fresh() {
    let (cluster, outside) = cluster_of(3).await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    let leader = cluster.leader(None).await;
    create(&cluster.nodes[leader], relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&cluster.nodes[leader], &foreign, 7).await;
    let warned = |node: &World| node.system.federation().warnings();
    assert!(cluster.nodes.iter().all(|node| warned(node).is_empty()));
    outside.answers(&foreign.domain, Reply::Useless);
    for node in &cluster.nodes {
        until(|| warned(node).first().is_some_and(|words| words.contains("other.example is stale"))).await;
    }
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    for node in &cluster.nodes {
        until(|| warned(node).is_empty()).await;
    }
}

/// Design section 6: whichever node has a way out.
#[tokio::test]
async fn where_the_leader_has_no_way_out_another_member_fetches() {
    let cut_off = Outside::default();
    let (cluster, outside) = cluster_with(3, |name| if name == "node-1" { Some(cut_off.clone()) } else { None }).await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    let leader = cluster.leader(None).await;
    assert_eq!(leader, 0, "node-1 founded, and nobody has taken over");
    create(&cluster.nodes[0], relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&cluster.nodes[0], &foreign, 7).await;
    let told = until_status(&cluster.nodes[1], &foreign, |status| status.last_success.is_some()).await;
    assert!(told.fetched_by.is_some() && told.fetched_by != Some(cluster.number(0)), "{told:?}");
    assert_eq!(cut_off.calls(&foreign.domain).len(), 1, "the leader tried first");
    // From then on the one that has a way is asked first.
    let again = cluster.nodes[1].system.federation().refresh(&foreign.domain, false).await.unwrap();
    assert_eq!((again.fetched_by, cut_off.calls(&foreign.domain).len()), (told.fetched_by, 1));
    // A refusal is not asked for twice: it is the endpoint's.
    outside.answers(&foreign.domain, Reply::Useless);
    let refused = cluster.nodes[1].system.federation().refresh(&foreign.domain, false).await.unwrap_err();
    assert!(!refused.to_string().is_empty());
}

async fn cluster_of(size: usize) -> (Cluster, Outside) {
    cluster_with(size, |_| None).await
}

/// A cluster whose nodes reach the same endpoints, but for those that reach others.
async fn cluster_with(size: usize, other: impl Fn(&str) -> Option<Outside>) -> (Cluster, Outside) {
    let outside = Outside::default();
    let network = super::super::network::Network::default();
    for number in 1..=size {
        let name = format!("node-{number}");
        let reached = other(&name).unwrap_or_else(|| outside.clone());
        network.set_outside(&name, std::sync::Arc::new(reached));
    }
    let cluster = Cluster::on(network, size, quorate_raft_machine::Policy::default()).await;
    (cluster, outside)
}

/// Refuses: FED-11, FED-50, BND-04: a fetched document is filed under the name of its relationship alone, whatever it holds.
#[tokio::test]
async fn each_bundle_lies_under_its_own_name() {
    let (world, outside) = fetching_node().await;
    let (one, two) = (Foreign::new("one.example"), Foreign::new("two.example"));
    // The second serves what the first does, beside its own.
    outside.answers(&one.domain, Reply::bundle(&hinted(&one, 1)));
    outside.answers(&two.domain, Reply::bundle(&hinted(&one, 9)));
    create(&world, relationship(&one.domain, web(&one.domain), 1, None)).await;
    create(&world, relationship(&two.domain, web(&two.domain), 1, None)).await;
    until_held(&world, &one, 1).await;
    until_held(&world, &two, 9).await;
    assert_eq!(sequence(&world, &one), Some(1));
    assert_eq!(held(&world, &two).unwrap().bundle.trust_domain(), &two.domain);
    // Our own name is nobody's.
    let own = Foreign::new(trust_domain().as_str());
    let refused = world.handle.propose(quorate_raft_consensus::Proposal::new(
        quorate_raft_machine::Caller::node(),
        vec![relationship(&own.domain, web(&own.domain), 1, None)],
    ));
    assert!(refused.await.unwrap().outcome.results.remove(0).is_err());
}

#[tokio::test]
async fn an_actor_that_fails_is_started_again_and_goes_on() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    end(&world, "federation").await;
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 8)));
    until_held(&world, &foreign, 8).await;
}

/// Ends an actor, as a fault of the program would.
async fn end(world: &World, name: &'static str) {
    let cell = world.system.child(name).await.unwrap();
    cell.kill();
}
