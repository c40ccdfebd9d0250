//! Metrics and health as probes and scrapers see them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::node::TestNode;

/// One request; the status line and the body.
fn get(node: &TestNode, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.operations).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn live_before_the_founding_and_ready_after_it() {
    let node = TestNode::waiting().await;
    assert_eq!(get(&node, "/live").0, "HTTP/1.1 200 OK");
    let (status, body) = get(&node, "/ready");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["ready"], false);
    assert!(body["reasons"][0].as_str().unwrap().contains("founded"), "{body}");

    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    let (status, body) = get(&node, "/ready");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(body, r#"{"ready":true,"reasons":[]}"#);
}

#[tokio::test]
async fn metrics_are_listed_and_name_no_identity() {
    let node = TestNode::ready().await;
    node.register("/very/particular/path").await;
    node.workload()
        .fetch_jwtsvid(quorate_proto_api::workload::JwtsvidRequest {
            audience: vec!["a".to_owned()],
            spiffe_id: String::new(),
        })
        .await
        .unwrap();
    let (status, body) = get(&node, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("quorate_actors_svids_issued_total"), "{body}");
    assert!(!body.contains("particular") && !body.contains("spiffe://"), "{body}");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md")).unwrap();
    for line in body.lines().filter(|line| line.starts_with("quorate_")) {
        let name = line.split(['{', ' ']).next().unwrap();
        let name = ["_bucket", "_sum", "_count"].iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
        assert!(page.contains(&format!("`{name}`")), "docs/reference/metrics.md does not tell of {name}");
    }
}
