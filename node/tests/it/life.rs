//! Founding, stopping, dying and starting again.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quorate_proto_api::WORKLOAD_HEADER;
use quorate_proto_api::cluster::Policy;
use quorate_proto_api::workload::{X509BundlesRequest, X509svidRequest};
use quorate_raft_store::disk::RealDisk;
use quorate_raft_store::free_space::{FREE_SPACE_FLOOR_BYTES, FreeSpace};
use tonic::{Code, Request};

use crate::node::{TestNode, entry};
use crate::small_disk::SmallDisk;

/// ATK-46.
#[tokio::test]
async fn an_authority_is_founded_once() {
    let node = TestNode::ready().await;
    let again = node.found(Policy::default()).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert!(again.message().contains("example.org"), "{again}");
}

#[tokio::test]
async fn a_policy_that_contradicts_itself_founds_nothing() {
    let node = TestNode::waiting().await;
    let contradicting = Policy { issuing_lifetime: 3600, x509_svid_lifetime: 3000, ..Policy::default() };
    let refused = node.found(contradicting).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(!node.status().await.unwrap().founded);
    node.found(Policy::default()).await.unwrap();
    node.wait_ready().await;
}

#[tokio::test]
async fn a_stop_ends_streams_with_unavailable_and_leaves_nothing_behind() {
    let mut node = TestNode::ready().await;
    node.register("/w").await;
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(node.path("node.pid")).unwrap().trim(), node.pid().to_string());
    node.signal(Signal::SIGTERM);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    let status = node.wait_end().await;
    assert_eq!(status.code(), Some(0), "{}", node.log());
    for left in [node.workload_socket(), node.admin_socket(), node.path("node.pid")] {
        assert!(!left.exists(), "{left:?} is left");
    }
}

#[tokio::test]
async fn a_node_that_waits_for_its_founding_stops_too() {
    let mut node = TestNode::waiting().await;
    node.signal(Signal::SIGINT);
    assert_eq!(node.wait_end().await.code(), Some(0), "{}", node.log());
}

#[tokio::test]
async fn a_second_signal_ends_a_stop_that_waits() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

    let mut node = TestNode::ready().await;
    // A stream that its client holds open: reflection ends when the client ends it.
    let mut request = Request::new(tokio_stream::pending::<ServerReflectionRequest>());
    request.metadata_mut().insert(WORKLOAD_HEADER, "true".parse().unwrap());
    let mut client = ServerReflectionClient::new(node.workload_channel());
    let _held = client.server_reflection_info(request).await.unwrap();
    let since = Instant::now();
    node.signal(Signal::SIGTERM);
    node.until("the node is stopping", async || node.log().contains("stopping")).await;
    node.signal(Signal::SIGTERM);
    node.wait_end().await;
    assert!(since.elapsed() < Duration::from_secs(9), "it did not wait for the drain time");
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_sigkill_and_the_bundle_is_the_same() {
    let mut node = TestNode::ready().await;
    node.register("/w").await;
    for number in 0..20 {
        node.create(entry(&format!("/e/{number}"), &[("unix", "uid:4242")])).await.unwrap();
    }
    let roots = |response: quorate_proto_api::workload::X509BundlesResponse| response.bundles;
    let mut bundles = node.workload().fetch_x509_bundles(X509BundlesRequest {}).await.unwrap().into_inner();
    let before = roots(bundles.message().await.unwrap().unwrap());
    node.kill().await;
    assert!(node.workload_socket().exists(), "a killed process leaves its socket file");

    node.start().await;
    node.wait_ready().await;
    assert_eq!(node.count().await, 21);
    let mut bundles = node.workload().fetch_x509_bundles(X509BundlesRequest {}).await.unwrap().into_inner();
    assert_eq!(roots(bundles.message().await.unwrap().unwrap()), before);
    let mut svids = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    assert_eq!(svids.message().await.unwrap().unwrap().svids[0].spiffe_id, "spiffe://example.org/w");
}

#[tokio::test]
async fn a_founding_that_was_cut_short_can_be_repeated() {
    for wait in [0, 2, 5, 10, 20, 40] {
        let mut node = TestNode::waiting().await;
        {
            let founding = node.found(Policy::default());
            // Killed at a different point each time, now and then after all is done.
            let _ = tokio::time::timeout(Duration::from_millis(wait), founding).await;
        }
        node.kill().await;
        node.start().await;
        match node.found(Policy::default()).await {
            Ok(()) => {}
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status}"),
        }
        node.wait_ready().await;
        node.register("/w").await;
    }
}

#[tokio::test]
async fn a_node_that_cannot_renew_signs_to_the_end_of_its_lease_and_no_further_sb_04() {
    let mut node = TestNode::prepare();
    let data = node.path("data");
    let Some(_disk) = SmallDisk::mount(&data, "mode=0700,size=700m") else { return };
    node.start().await;
    let short = Policy {
        root_lifetime: 600,
        issuing_lifetime: 12,
        x509_svid_lifetime: 6,
        jwt_key_lifetime: 600,
        jwt_svid_lifetime: 6,
        refresh_hint: 5,
        ..Policy::default()
    };
    node.found(short).await.unwrap();
    node.wait_ready().await;
    node.register("/w").await;
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();

    // Below the floor no command is taken, and a new issuing certificate takes one.
    let free = FreeSpace::measure(&RealDisk, &data, FREE_SPACE_FLOOR_BYTES).unwrap().available_bytes;
    let ballast = usize::try_from(free - FREE_SPACE_FLOOR_BYTES / 2).unwrap();
    std::fs::write(data.join("ballast"), vec![1; ballast]).unwrap();
    let since = Instant::now();
    let end = loop {
        match stream.message().await {
            Ok(message) => assert_eq!(message.unwrap().svids.len(), 1),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "not PermissionDenied: {end}");
    assert!(since.elapsed() > Duration::from_secs(4), "it went on signing to the end of its lease");
    let again = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(again.code(), Code::Unavailable);
    let status = node.status().await.unwrap();
    assert!(!status.ready && !status.reasons.is_empty());

    std::fs::remove_file(data.join("ballast")).unwrap();
    node.wait_ready().await;
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
}
