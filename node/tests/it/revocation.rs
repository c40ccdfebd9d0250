//! Revocation as operators ask for it and workloads see it (issue 5, point 5; CRL-05, CRL-06, CRL-08, CRL-13).

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;

use nix::sys::signal::Signal;
use quorate_proto_api::workload::{JwtsvidRequest, ValidateJwtsvidRequest, X509svidRequest, X509svidResponse};
use quorate_proto_identity::x509::parse_crl;
use quorate_proto_identity::{Certificate, SerialNumber};
use serde_json::Value;
use tonic::Code;

use crate::cluster::TestCluster;
use crate::node::{PATIENCE, TestNode};

/// One request to the operations socket; the status line, the headers, and the body.
fn get(node: &TestNode, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(node.operations).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    (head.lines().next().unwrap().to_owned(), answer[split + 4..].to_vec())
}

fn json(node: &TestNode, arguments: &[&str]) -> Value {
    let text = node.told(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The serial number of the leaf of an answer, in decimal.
fn serial(answer: &X509svidResponse) -> String {
    let leaf = Certificate::parse_concatenated(&answer.svids[0].x509_svid).unwrap().remove(0);
    let mut bytes = [0; 16];
    let written = leaf.serial();
    bytes[16 - written.len()..].copy_from_slice(written);
    SerialNumber::new(bytes).unwrap().to_string()
}

/// Every serial number in the CRLs of an answer.
fn revoked(answer: &X509svidResponse) -> BTreeSet<String> {
    let crls = answer.crl.iter().map(|crl| parse_crl(crl).unwrap());
    crls.flat_map(|crl| crl.revoked).map(|listed| listed.serial.to_string()).collect()
}

/// CRL-13, INV-16: at a node that does not lead, by one command, with the stream's new SVID and the CRLs in its hands.
#[tokio::test]
async fn what_is_revoked_is_replaced_and_in_the_crls_of_streams_when_the_command_is_answered() {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let leader = cluster.leader().await;
    let (asked, held) = (&cluster.nodes[(leader + 1) % 3], &cluster.nodes[(leader + 2) % 3]);
    asked.register("/w").await;
    held.until("the entry is applied", async || held.count().await == 1).await;
    let mut stream = held.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.crl.is_empty(), "CRL-08: nothing is revoked");
    let old = serial(&first);

    let id = "spiffe://example.org/w";
    let dry = asked.told(&["revoke", "--spiffe-id", id, "--dry-run"]);
    assert!(dry.contains(id) && dry.contains("ValidateJWTSVID") && dry.contains("nothing was changed"), "{dry}");
    let answer = json(asked, &["revoke", "--spiffe-id", id, "--reason", "key-compromise"]);
    assert_eq!(answer["certificates"][0]["serial"], *old, "{answer}");
    assert_eq!(answer["crls"]["handed_out"], true);
    let handed: u64 = answer["handed_to_streams"].as_str().unwrap().parse().unwrap();
    assert!(handed >= 1, "{answer}");
    let sentences = answer["sentences"].to_string();
    assert!(sentences.contains("handed to") && !sentences.contains("enforced"), "CRL-13: {sentences}");

    // The new SVID may come first, with CRLs from before; what was sent last is what the stream has.
    let listing = async {
        loop {
            let answer = stream.message().await.unwrap().unwrap();
            if serial(&answer) != old && revoked(&answer).contains(&old) {
                return answer;
            }
        }
    };
    let after = tokio::time::timeout(PATIENCE, listing).await.expect("the CRL that the stream has names it");
    // One root, and one issuing key of each of three nodes.
    assert_eq!(after.crl.len(), 4, "CRL-05: the set is complete");
    assert!(!revoked(&after).contains(&serial(&after)));

    let listed = json(asked, &["revocations", "list"]);
    assert_eq!(listed["revocations"][0]["target"]["spiffe_id"], *id, "{listed}");
    assert_eq!(listed["revocations"][0]["certificates"], "1");
    let found = json(held, &["ledger", "search", "--serial", &old]);
    assert_eq!(found["rows"][0]["issued"]["revoked"], true, "{found}");
    assert_eq!(found["rows"][0]["issued"]["spiffe_id"], *id);
    let elsewhere = asked.told(&["ledger", "search", "--serial", &old]);
    assert!(elsewhere.contains("Nothing was found on this node"), "each node has a ledger of its own: {elsewhere}");

    let (status, pem) = get(asked, "/crl");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(String::from_utf8(pem).unwrap().matches("-----BEGIN X509 CRL-----").count(), 4);
    let (status, der) = get(asked, "/crl.der");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(der.len(), after.crl.iter().map(bytes::Bytes::len).sum::<usize>());
}

/// CRL-08.
#[tokio::test]
async fn crl_08_a_file_of_crls_is_complete_or_not_there_and_the_policy_can_have_it_always() {
    let node = TestNode::ready().await;
    for path in ["/crl", "/crl.der"] {
        let (status, body) = get(&node, path);
        assert_eq!(status, "HTTP/1.1 404 Not Found");
        assert!(String::from_utf8(body).unwrap().contains("crl_mode = \"always\""));
    }
    node.told(&["policy", "set", "crl_mode=always"]);
    let (status, body) = get(&node, "/crl");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(!body.is_empty());
    node.told(&["policy", "set", "crl_mode=off"]);
    assert_eq!(get(&node, "/crl").0, "HTTP/1.1 404 Not Found");
    let shown = node.told(&["revocations", "list"]);
    assert!(shown.contains("There are no revocations") && shown.contains("crl_mode is off"), "{shown}");
}

#[tokio::test]
async fn a_ban_keeps_svids_from_being_issued_until_it_is_removed() {
    let node = TestNode::ready().await;
    let entry = node.register("/w").await;
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let answer = json(&node, &["revoke", "--entry", &entry, "--ban"]);
    let number = answer["number"].as_str().unwrap().to_owned();
    let refused = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    let listed = node.told(&["revocations", "list"]);
    assert!(listed.contains(&entry) && listed.contains("spiffe://example.org/w") && listed.contains("yes"), "{listed}");
    let dry = node.told(&["revocations", "remove", &number, "--dry-run"]);
    assert!(dry.contains("bans nobody"), "{dry}");
    node.told(&["revocations", "remove", &number]);
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);

    let again = node.quorate(&["revocations", "remove", &number]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("stays revoked"), "{}", said(&again));
    let unknown = node.quorate(&["revocations", "remove", "99"]);
    assert!(said(&unknown).contains("there is no revocation 99"), "{}", said(&unknown));
}

#[tokio::test]
async fn tokens_are_refused_by_validatejwtsvid_when_their_subject_is_revoked() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    let mut workload = node.workload();
    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    let token = workload.fetch_jwtsvid(request.clone()).await.unwrap().into_inner().svids.remove(0).svid;
    let validate = |svid: &str| ValidateJwtsvidRequest { audience: "a".to_owned(), svid: svid.to_owned() };
    workload.validate_jwtsvid(validate(&token)).await.unwrap();
    node.told(&["revoke", "--spiffe-id", "spiffe://example.org/w"]);
    let status = workload.validate_jwtsvid(validate(&token)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn an_entry_is_deleted_with_what_was_issued_for_it() {
    let node = TestNode::ready().await;
    let entry = node.register("/w").await;
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    let old = serial(&stream.message().await.unwrap().unwrap());
    let answer = json(&node, &["entry", "delete", "--id", &entry, "--revoke", "--reason", "cessation-of-operation"]);
    assert_eq!(answer["results"][0]["certificates"][0]["serial"], *old, "{answer}");
    assert_eq!(node.count().await, 0);
    let listed = json(&node, &["revocations", "list"]);
    assert_eq!(listed["revocations"][0]["reason"], "REVOCATION_REASON_CESSATION_OF_OPERATION");
    let gone = node.quorate(&["entry", "delete", "--id", &entry, "--revoke"]);
    assert!(!gone.status.success() && said(&gone).contains("no entry has the ID"), "{}", said(&gone));
    let usage = node.quorate(&["entry", "delete", "--id", &entry, "--yes"]);
    assert_eq!(usage.status.code(), Some(2), "{}", said(&usage));
}

/// CRL-10: the attribute is kept with the entry, and SPIRE's own calls leave it alone.
#[tokio::test]
async fn crl_10_an_entry_says_that_its_workloads_keep_a_store_for_each_domain() {
    let node = TestNode::ready().await;
    let created = node.told(&[
        "entry",
        "create",
        "--spiffe-id",
        "spiffe://example.org/w",
        "--selector",
        "unix:uid:1",
        "--id",
        "e",
        "--crl-per-domain",
    ]);
    assert!(created.contains("spiffe://example.org/w"), "{created}");
    let shows = || node.told(&["entry", "show", "--id", "e"]).contains("CRL per domain");
    assert!(shows());
    node.told(&["entry", "update", "--id", "e", "--hint", "x"]);
    assert!(shows());
    node.told(&["entry", "update", "--id", "e", "--crl-per-domain", "false"]);
    assert!(!shows());
}

#[tokio::test]
async fn a_node_is_revoked_by_those_alone_who_say_that_it_was_not_compromised() {
    let node = TestNode::ready().await;
    let refused = node.quorate(&["revoke", "--node", "node-1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("quorate cluster remove --compromised node-1"), "{}", said(&refused));
    let dry = node.told(&["revoke", "--node", "node-1", "--not-compromised", "--dry-run"]);
    assert!(dry.contains("Every workload on node-1 is refused"), "{dry}");
    for (arguments, code, words) in [
        (vec!["revoke", "--node", "node-9", "--not-compromised"], 1, "no member named node-9"),
        (vec!["revoke", "--serial", "77"], 1, "no connected node has signed"),
        (vec!["revoke", "--serial", "zz"], 1, "is no serial number"),
        (vec!["revoke", "--entry", "nobody"], 1, "no entry has the ID nobody"),
        (vec!["revoke"], 2, "required"),
        (vec!["revoke", "--jti", "a", "--ban"], 2, "cannot be used"),
    ] {
        let output = node.quorate(&arguments);
        assert!(!output.status.success() && said(&output).contains(words), "{arguments:?}: {}", said(&output));
        if code == 2 {
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        }
    }
}

/// CRL-06: the command names the node that is cut off, says what its workloads lose, and asks.
#[tokio::test]
async fn crl_06_issuers_that_are_cut_off_are_named_and_revoked_whole_only_with_consent() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let leader = cluster.leader().await;
    let lost = (leader + 1) % 3;
    cluster.nodes[leader].register("/w").await;
    cluster.nodes[lost].signal(Signal::SIGKILL);
    cluster.nodes[lost].wait_end().await;
    let name = format!("node-{}", lost + 1);
    let node = &cluster.nodes[leader];
    let id = "spiffe://example.org/w";
    let asked = node.quorate(&["revoke", "--spiffe-id", id]);
    assert_eq!(asked.status.code(), Some(1), "{}", said(&asked));
    let words = said(&asked);
    assert!(words.contains(&format!("{name} is cut off")) && words.contains("is refused"), "{words}");
    assert!(words.contains("say --yes"), "{words}");
    assert!(json(node, &["revocations", "list"])["revocations"].as_array().unwrap().is_empty(), "nothing was changed");
    let done = json(node, &["revoke", "--spiffe-id", id, "--yes"]);
    assert_eq!(done["keys"][0]["node"], *name, "{done}");
    assert_eq!(done["cut_off"][0]["node"], *name, "{done}");
}
