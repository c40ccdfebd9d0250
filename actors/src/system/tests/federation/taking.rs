//! What becomes of what was fetched.

use std::time::Duration;

use quorate_raft_machine::{NewForeignBundle, Operation, SetHow};
use tokio::time::sleep;

use super::{
    super::foreign::Foreign,
    outside::{
        Reply, create, fetching_node, held, hinted, relationship, sequence, until, until_held, until_status, web,
    },
};

fn by_hand(bundle: quorate_proto_identity::Bundle) -> Operation {
    Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle, how: SetHow::Set }))
}

/// Refuses: FED-09, BND-12. XB-25, A-33, ATK-39.
#[tokio::test]
async fn an_older_bundle_is_not_taken_and_three_in_a_row_are_an_alarm() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    let rebuilt = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&rebuilt, 6)));
    let first = until_status(&world, &foreign, |status| status.older_in_row == 1).await;
    assert!(first.error.as_ref().unwrap().contains("--accept-older"), "{first:?}");
    assert!(world.system.federation().warnings().is_empty(), "one may be a server that is behind its fellows");
    outside.until_calls(&foreign.domain, 4).await;
    until_status(&world, &foreign, |status| status.older_in_row == 3).await;
    let warnings = world.system.federation().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("older"), "{warnings:?}");
    assert_eq!(sequence(&world, &foreign), Some(7));
    // An operator knows that it was rebuilt.
    let refused = world.system.federation().refresh(&foreign.domain, false).await.unwrap_err();
    assert!(refused.to_string().contains("--accept-older"), "{refused}");
    let taken = world.system.federation().refresh(&foreign.domain, true).await.unwrap();
    assert_eq!((taken.changed, taken.sequence), (true, Some(6)));
    assert_eq!(*held(&world, &foreign).unwrap().bundle, hinted(&rebuilt, 6));
    assert!(world.system.federation().warnings().is_empty());
    // From there it goes on by itself.
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&rebuilt, 7)));
    until_held(&world, &foreign, 7).await;
}

/// Accepts: BND-12, FED-09. XB-26: the publisher breaks its promise, and what it says now counts.
#[tokio::test]
async fn the_same_sequence_with_other_keys_is_taken() {
    let (world, outside) = fetching_node().await;
    let (foreign, other) = (Foreign::new("other.example"), Foreign::new("other.example"));
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&other, 7)));
    until(|| *held(&world, &foreign).unwrap().bundle == hinted(&other, 7)).await;
}

/// Accepts: FED-10, BND-06. The override stands until the next retrieval, which a tag must not keep from coming, and sets no
/// floor (ATK-39).
#[tokio::test]
async fn an_operators_bundle_stands_until_the_next_one_is_fetched() {
    let (world, outside) = fetching_node().await;
    let (foreign, own) = (Foreign::new("other.example"), Foreign::new("other.example"));
    let mut served = foreign.bundle(7);
    served.set_refresh_hint(Some(2));
    outside.answers(&foreign.domain, Reply::tagged(&served, "\"seven\""));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    let calls = outside.until_calls(&foreign.domain, 2).await;
    assert_eq!((calls[0].etag.as_deref(), calls[1].etag.as_deref()), (None, Some("\"seven\"")));
    let mut by_operator = own.bundle(1_000);
    by_operator.set_refresh_hint(Some(2));
    world.propose(by_hand(by_operator)).await;
    assert_eq!(sequence(&world, &foreign), Some(1_000));
    sleep(Duration::from_millis(500)).await;
    assert_eq!((sequence(&world, &foreign), outside.calls(&foreign.domain).len()), (Some(1_000), 2), "it stands");
    until_held(&world, &foreign, 7).await;
    assert_eq!(outside.calls(&foreign.domain)[2].etag, None);
}

/// Refuses: BND-08, BND-12, BND-15, BND-17. XB-01, XB-02, XB-23: the document as a whole is at fault, and the old one stays.
#[tokio::test]
async fn what_is_no_bundle_is_not_taken() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    for document in [
        "",
        "<html>",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[],\"spiffe_sequence\":\"8\"}",
        "{\"keys\":[],\"keys\":[]}",
    ] {
        outside.answers(&foreign.domain, Reply::bytes(document));
        let refused = world.system.federation().refresh(&foreign.domain, false).await.unwrap_err();
        assert!(refused.to_string().contains("no bundle"), "{document}: {refused}");
        assert_eq!(sequence(&world, &foreign), Some(7), "{document}");
    }
}

/// Accepts: BND-19, BND-20. XB-03: every key was revoked, and no older one is fallen back to.
#[tokio::test]
async fn a_bundle_without_keys_takes_the_place_of_one_with_keys() {
    let (world, outside) = fetching_node().await;
    let foreign = Foreign::new("other.example");
    outside.answers(&foreign.domain, Reply::bundle(&hinted(&foreign, 7)));
    create(&world, relationship(&foreign.domain, web(&foreign.domain), 1, None)).await;
    until_held(&world, &foreign, 7).await;
    outside.answers(&foreign.domain, Reply::bytes("{\"keys\":[],\"spiffe_sequence\":8,\"spiffe_refresh_hint\":1}"));
    until_held(&world, &foreign, 8).await;
    assert!(held(&world, &foreign).unwrap().bundle.x509_authorities().is_empty());
}

#[tokio::test]
async fn a_retrieval_of_nobody_is_refused_in_words() {
    let (world, _) = fetching_node().await;
    let nobody = Foreign::new("nobody.example");
    let refused = world.system.federation().refresh(&nobody.domain, false).await.unwrap_err();
    assert!(refused.to_string().contains("no relationship with nobody.example"), "{refused}");
}
