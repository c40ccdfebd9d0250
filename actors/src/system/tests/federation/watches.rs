//! Bundles that are pushed.

use std::time::Duration;

use quorate_raft_machine::federation::{ApiCredential, ApiServer, Endpoint};
use tokio::time::Instant;

use super::{
    super::foreign::Foreign,
    outside::{Reply, create, fetching_node, hinted, relationship, sequence, until, until_held, until_status, url},
};

fn api(foreign: &Foreign) -> Endpoint {
    Endpoint::Api { url: url(&foreign.domain), server: ApiServer::Web, credential: ApiCredential::None, watch: true }
}

#[tokio::test]
async fn what_is_pushed_is_recorded_at_once_and_confirmed_when_it_is() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, api(&foreign), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    until_status(&world, &foreign, |status| status.watching).await;
    until(|| outside.confirmed().contains(&(Some(7), None))).await;
    let before = Instant::now();
    outside.push(&foreign.domain, &hinted(&foreign, 8));
    until_held(&world, &foreign, 8).await;
    until(|| outside.confirmed().last() == Some(&(Some(8), None))).await;
    assert!(before.elapsed() < Duration::from_secs(1), "no interval was waited for");
}

#[tokio::test]
async fn an_older_bundle_that_is_pushed_is_refused_in_words_and_the_watch_goes_on() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, api(&foreign), 1, None)).await;
    until(|| outside.confirmed().contains(&(Some(7), None))).await;
    outside.push(&foreign.domain, &Foreign::new("other.example").bundle(6));
    until(|| outside.confirmed().last().is_some_and(|(_, refused)| refused.is_some())).await;
    assert_eq!(sequence(&world, &foreign), Some(7));
    outside.push(&foreign.domain, &hinted(&foreign, 8));
    until_held(&world, &foreign, 8).await;
    assert_eq!(outside.opened().len(), 1);
}

/// ATK-36: what a peer pushes without end would fill the log of every member.
#[tokio::test]
async fn who_pushes_without_end_is_slowed_down() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, api(&foreign), 1, None)).await;
    until(|| outside.confirmed().contains(&(Some(7), None))).await;
    let older = Foreign::new("other.example").bundle(6);
    for _ in 0..700 {
        outside.push(&foreign.domain, &older);
    }
    until(|| outside.confirmed().len() >= 512).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let taken = outside.confirmed().len();
    assert!((512..560).contains(&taken), "{taken} of 700");
}

#[tokio::test]
async fn a_lost_watch_is_opened_again_with_growing_waits_and_polling_goes_on() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, api(&foreign), 1, None)).await;
    until_status(&world, &foreign, |status| status.watching).await;
    // It takes no watch from here on: each one ends as soon as it is open.
    outside.answers(&foreign.domain, Reply::Absent);
    outside.hang_up();
    until(|| outside.opened().len() >= 4).await;
    let opened = outside.opened();
    let waits: Vec<Duration> = opened.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[1..].windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
    let polls = outside.calls(&foreign.domain).len();
    outside.until_calls(&foreign.domain, polls + 1).await;
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 9)));
    until_held(&world, &foreign, 9).await;
}
