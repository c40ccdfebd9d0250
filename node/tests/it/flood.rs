//! One workload that takes all it can get, and clients that misbehave.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use quorate_proto_api::workload::{JwtsvidRequest, X509svidRequest};
use tonic::Code;

use crate::node::{PATIENCE, TestNode};

async fn serves(node: &TestNode) -> bool {
    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    node.workload().fetch_jwtsvid(request).await.is_ok()
}

/// Whether the other side has closed: reading ends, in whatever way.
fn is_closed(stream: &mut UnixStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 512];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[tokio::test]
async fn a_user_over_its_share_of_connections_is_closed_and_served_again_later_atk_20() {
    let mut node = TestNode::prepare();
    // The fixture's tables come first, so these keys cannot be in `more`; the file is changed.
    let text = std::fs::read_to_string(node.configuration()).unwrap();
    let text = text.replace("[workload_api]\n", "[workload_api]\nmax_connections = 16\n");
    std::fs::write(node.configuration(), text).unwrap();
    node.start().await;
    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    node.register("/w").await;

    let mut held: Vec<UnixStream> = (0..16).map(|_| UnixStream::connect(node.workload_socket()).unwrap()).collect();
    // Three quarters of 16 are one user's; the rest is closed at once.
    assert!(held[12..].iter_mut().all(is_closed));
    assert!(!serves(&node).await);
    drop(held);
    node.until("a connection is taken again", async || serves(&node).await).await;
}

#[tokio::test]
async fn a_user_with_too_many_streams_is_told_to_come_later_atk_20() {
    let mut node = TestNode::prepare();
    let text = std::fs::read_to_string(node.configuration()).unwrap();
    let text = text.replace("[workload_api]\n", "[workload_api]\nmax_calls_per_user = 16\n");
    std::fs::write(node.configuration(), text).unwrap();
    node.start().await;
    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    node.register("/w").await;

    let mut client = node.workload();
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = client.fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        streams.push(stream);
    }
    let refused = client.fetch_x509svid(X509svidRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    drop(streams);
    node.until("a stream is taken again", async || serves(&node).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_2_is_closed_and_a_silent_connection_too_atk_21_atk_26() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    let mut http1 = UnixStream::connect(node.workload_socket()).unwrap();
    http1.write_all(b"GET /SpiffeWorkloadAPI/FetchX509SVID HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(is_closed(&mut http1));
    let mut silent = UnixStream::connect(node.workload_socket()).unwrap();
    let mut preface_only = UnixStream::connect(node.workload_socket()).unwrap();
    preface_only.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").unwrap();
    let closed = tokio::task::block_in_place(|| is_closed(&mut silent) && is_closed(&mut preface_only));
    assert!(closed, "a connection without a request is ended after ten seconds");
    assert!(serves(&node).await);
}

#[tokio::test]
async fn without_descriptors_the_node_waits_and_then_serves_on_atk_21_atk_23() {
    let mut node = TestNode::prepare();
    node.start_with_descriptors(100).await;
    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    node.register("/w").await;
    let held: Vec<UnixStream> = (0..200).map_while(|_| UnixStream::connect(node.workload_socket()).ok()).collect();
    assert!(held.len() > 60, "the kernel's queue takes what the node cannot");
    drop(held);
    node.until("it serves again", async || {
        tokio::time::timeout(Duration::from_secs(5), serves(&node)).await.is_ok_and(|served| served)
    })
    .await;
}
