//! With which bundle the server of an endpoint is verified.

use std::time::Duration;

use quorate_raft_machine::{NewForeignBundle, Operation, SetHow};
use tokio::time::sleep;

use super::{
    super::{foreign::Foreign, world::trust_domain},
    outside::{Reply, create, fetching_node, hinted, relationship, spiffe, until_held, until_status, web},
};

/// Accepts: FED-32, FED-33, FED-34, FED-41. SF-08.
#[tokio::test]
async fn an_endpoint_of_its_own_domain_is_verified_with_the_newest_bundle_held() {
    let (world, outside) = fetching_node().await;
    let roots: Vec<Foreign> = (0..3).map(|_| Foreign::new("other.example")).collect();
    let foreign = &roots[0];
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&roots[1], 8)));
    let first = Some(hinted(&roots[0], 7));
    create(&world, relationship(&foreign.domain, spiffe(&foreign.domain, &foreign.domain), 1, first)).await;
    until_held(&world, foreign, 8).await;
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&roots[2], 9)));
    until_held(&world, foreign, 9).await;
    let asked = outside.calls(&foreign.domain).len();
    let calls = outside.until_calls(&foreign.domain, asked + 1).await;
    let mut verified_with: Vec<_> = calls.iter().map(|call| call.verify_with.as_deref().cloned().unwrap()).collect();
    verified_with.dedup();
    assert_eq!(verified_with, [hinted(&roots[0], 7), hinted(&roots[1], 8), hinted(&roots[2], 9)]);
}

/// Refuses: FED-32, FED-34, FED-41. SF-14: without a bundle nothing is asked, by no profile; with one it is, soon.
#[tokio::test]
async fn without_a_bundle_to_verify_with_nothing_is_asked() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 8)));
    create(&world, relationship(&foreign.domain, spiffe(&foreign.domain, &foreign.domain), 1, None)).await;
    let told = until_status(&world, &foreign, |status| status.error.is_some()).await;
    assert!(told.error.as_ref().unwrap().contains("no bundle of other.example is held"), "{told:?}");
    sleep(Duration::from_secs(3)).await;
    assert!(outside.calls(&foreign.domain).is_empty());
    let bundle = hinted(&foreign, 7);
    let before = tokio::time::Instant::now();
    world.propose(Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle, how: SetHow::Set }))).await;
    until_held(&world, &foreign, 8).await;
    assert!(before.elapsed() < Duration::from_secs(5), "an operator does not wait for the next interval");
}

/// Accepts: FED-35, FED-42. SF-15.
#[tokio::test]
async fn an_endpoint_of_another_domain_is_verified_with_the_newest_bundle_of_that_one() {
    let (world, outside) = fetching_node().await;
    let (host, rotated) = (Foreign::new("host.example"), Foreign::new("host.example"));
    let guest = Foreign::new("guest.example");
    outside.answers(&host.domain, Reply::bundle(&hinted(&host, 1)));
    outside.answers(&guest.domain, Reply::bundle(&hinted(&guest, 1)));
    create(&world, relationship(&host.domain, web(&host.domain), 1, None)).await;
    until_held(&world, &host, 1).await;
    create(&world, relationship(&guest.domain, spiffe(&guest.domain, &host.domain), 1, None)).await;
    until_held(&world, &guest, 1).await;
    assert_eq!(outside.calls(&guest.domain)[0].verify_with.as_deref(), Some(&hinted(&host, 1)));
    outside.answers(&host.domain, Reply::bundle(&hinted(&rotated, 2)));
    until_held(&world, &host, 2).await;
    let before = outside.calls(&guest.domain).len();
    let calls = outside.until_calls(&guest.domain, before + 1).await;
    assert_eq!(calls.last().unwrap().verify_with.as_deref(), Some(&hinted(&rotated, 2)));
}

/// Refuses: FED-35, FED-42: the bundle of the server's domain, not of the one that is fetched.
#[tokio::test]
async fn an_endpoint_of_another_domain_waits_for_that_domains_bundle() {
    let (world, outside) = fetching_node().await;
    let (host, guest) = (Foreign::new("host.example"), Foreign::new("guest.example"));
    outside.answers(&host.domain, Reply::bundle(&hinted(&host, 1)));
    outside.answers(&guest.domain, Reply::bundle(&hinted(&guest, 2)));
    let first = Some(hinted(&guest, 1));
    create(&world, relationship(&guest.domain, spiffe(&guest.domain, &host.domain), 1, first)).await;
    let told = until_status(&world, &guest, |status| status.error.is_some()).await;
    assert!(told.error.unwrap().contains("no bundle of host.example is held"));
    assert!(outside.calls(&guest.domain).is_empty());
    create(&world, relationship(&host.domain, web(&host.domain), 1, None)).await;
    until_held(&world, &guest, 2).await;
}

/// Accepts: FED-42: a peer may have its endpoint served by us.
#[tokio::test]
async fn an_endpoint_of_our_own_domain_is_verified_with_our_own_bundle() {
    let (world, outside) = fetching_node().await;
    let guest = Foreign::new("guest.example");
    outside.answers(&guest.domain, Reply::bundle(&hinted(&guest, 2)));
    create(&world, relationship(&guest.domain, spiffe(&guest.domain, &trust_domain()), 1, None)).await;
    until_held(&world, &guest, 2).await;
    let verified_with = outside.calls(&guest.domain)[0].verify_with.clone().unwrap();
    assert_eq!(verified_with.trust_domain(), &trust_domain());
    assert!(!verified_with.x509_authorities().is_empty());
}
