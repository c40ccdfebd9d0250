//! Metrics and health as probes and scrapers see them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use quorate_proto_api::workload::{JwtsvidRequest, X509svidRequest};

use crate::node::TestNode;

/// One request; the status line and the body.
pub(crate) fn get(node: &TestNode, path: &str) -> (String, String) {
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
    assert_eq!(body, r#"{"ready":true,"reasons":[],"warnings":[]}"#);
}

#[tokio::test]
async fn json_logs_are_one_object_a_line_and_no_log_holds_a_secret_atk_44() {
    let mut node = TestNode::prepare();
    node.configure("[log]\nformat = \"json\"\nlevel = \"trace\"\n");
    node.start().await;
    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    node.register("/w").await;
    let mut client = node.workload();
    let mut svids = client.fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    let key = svids.message().await.unwrap().unwrap().svids.remove(0).x509_svid_key;
    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    let token = client.fetch_jwtsvid(request).await.unwrap().into_inner().svids.remove(0).svid;

    let log = node.log();
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(log.contains("an authority was founded"));
    // The private scalar stands in the middle of the PKCS#8 document; in what form it would leak is not known.
    let secret = &key[36..60];
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = secret.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let escaped = format!("{:?}", bytes::Bytes::copy_from_slice(secret));
    for form in [token.as_str(), token.rsplit('.').next().unwrap(), &hex, &list, escaped.trim_matches(['b', '"'])] {
        assert!(!log.contains(form), "{form}");
    }
}

#[tokio::test]
async fn a_crash_leaves_no_core_file_and_descriptors_are_as_many_as_allowed_atk_44() {
    let node = TestNode::waiting().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let row = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let fields = |row: String| row.split_whitespace().rev().take(3).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(fields(row("Max core file size"))[1..], ["0", "0"]);
    let files = fields(row("Max open files"));
    assert_eq!(files[1], files[2], "the soft limit is the hard one");
}

#[tokio::test]
async fn metrics_are_listed_and_name_no_identity() {
    let node = TestNode::ready().await;
    node.register("/very/particular/path").await;
    node.workload()
        .fetch_jwtsvid(JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() })
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
