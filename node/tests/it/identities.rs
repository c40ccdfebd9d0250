//! What workloads get: SVIDs and bundles over open streams, complete each time.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_proto_api::workload::{
    JwtBundlesRequest, JwtsvidRequest, X509BundlesRequest, X509svidRequest, X509svidResponse,
};
use quorate_proto_identity::PrivateKey;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::node::{PATIENCE, TestNode, entry, own_path_selector, program};

/// Opens a stream of X509-SVIDs.
async fn stream(node: &TestNode) -> Result<Streaming<X509svidResponse>, Status> {
    Ok(node.workload().fetch_x509svid(X509svidRequest {}).await?.into_inner())
}

/// The next message, with a bound.
async fn next<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let message = timeout(PATIENCE, stream.message()).await.expect("a message in time")?;
    Ok(message.expect("a stream does not end without a status"))
}

/// The paths of the identities in an answer, in its order.
fn paths(response: &X509svidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.strip_prefix("spiffe://example.org").unwrap()).collect()
}

/// The DER certificates of a concatenation.
fn certificates(bytes: &[u8]) -> Vec<X509Certificate<'_>> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, certificate) = X509Certificate::from_der(rest).unwrap();
        found.push(certificate);
        rest = after;
    }
    found
}

fn uri_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None })
        .collect()
}

/// EP-01, EP-02, EP-04, EP-06, EP-10, EP-15: gRPC in the clear on a unix socket, and nothing to show but being there.
/// WAPI-08, WAPI-10, WAPI-17, WAPI-18, WAPI-19.
#[tokio::test]
async fn the_first_message_is_complete_and_correctly_encoded_sb_03_sb_07_sb_11() {
    let node = TestNode::ready().await;
    node.register("/ns/one/sa/web").await;
    let response = next(&mut stream(&node).await.unwrap()).await.unwrap();
    assert_eq!(response.svids.len(), 1);
    let svid = &response.svids[0];
    assert_eq!(svid.spiffe_id, "spiffe://example.org/ns/one/sa/web");

    let chain = certificates(&svid.x509_svid);
    assert_eq!(chain.len(), 2, "leaf and issuing certificate");
    assert_eq!(uri_names(&chain[0]), std::slice::from_ref(&svid.spiffe_id));
    assert!(!chain[0].is_ca() && chain[1].is_ca());
    let key = PrivateKey::from_pkcs8(&svid.x509_svid_key).unwrap();
    assert_eq!(key.public_key().spki_der(), chain[0].tbs_certificate.subject_pki.raw);

    let roots = certificates(&svid.bundle);
    assert!(!roots.is_empty());
    chain[0].verify_signature(Some(&chain[1].tbs_certificate.subject_pki)).unwrap();
    let anchored =
        |root: &X509Certificate<'_>| chain[1].verify_signature(Some(&root.tbs_certificate.subject_pki)).is_ok();
    assert!(roots.iter().any(anchored));
    assert!(response.federated_bundles.is_empty());
}

/// WAPI-08, WAPI-09.
#[tokio::test]
async fn a_renewal_reaches_the_open_stream_before_the_old_one_ends_sb_08() {
    let node = TestNode::ready().await;
    let mut short = entry("/short", &[("unix", &own_path_selector())]);
    short.x509_svid_ttl = 6;
    node.create(short).await.unwrap();
    let mut stream = stream(&node).await.unwrap();
    let mut last = next(&mut stream).await.unwrap();
    for _ in 0..2 {
        let renewed = next(&mut stream).await.unwrap();
        assert_eq!(paths(&renewed), ["/short"]);
        let (old, new) = (certificates(&last.svids[0].x509_svid), certificates(&renewed.svids[0].x509_svid));
        assert_ne!(old[0].tbs_certificate.serial, new[0].tbs_certificate.serial);
        assert!(new[0].validity().not_after > old[0].validity().not_after);
        last = renewed;
    }
}

/// EP-21, WAPI-08, WAPI-09, WAPI-23.
#[tokio::test]
async fn registrations_reach_and_leave_the_open_stream_sb_09_sb_10() {
    let node = TestNode::ready().await;
    let first = node.register("/a").await;
    let mut stream = stream(&node).await.unwrap();
    assert_eq!(paths(&next(&mut stream).await.unwrap()), ["/a"]);
    let second = node.register("/b").await;
    let both = next(&mut stream).await.unwrap();
    assert_eq!(paths(&both).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(["/a", "/b"]));
    node.delete(&first).await;
    assert_eq!(paths(&next(&mut stream).await.unwrap()), ["/b"]);
    node.delete(&second).await;
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(self::stream(&node).await.map(drop).map_or_else(|s| s.code(), |()| Code::Ok), {
        // Refused at once or as the first thing in the stream: both are the standard's.
        Code::PermissionDenied
    });
}

/// WAPI-21, WAPI-33, WAPI-56.
#[tokio::test]
async fn hints_are_unique_in_an_answer_and_limited_at_registration_sb_12_sb_13() {
    let node = TestNode::ready().await;
    let hinted = |path: &str, hint: &str| {
        let mut entry = entry(path, &[("unix", &own_path_selector())]);
        hint.clone_into(&mut entry.hint);
        entry.id = format!("entry{}", path.replace('/', "-"));
        entry
    };
    node.create(hinted("/a", "internal")).await.unwrap();
    node.create(hinted("/b", "internal")).await.unwrap();
    node.create(hinted("/c", "")).await.unwrap();
    let response = next(&mut stream(&node).await.unwrap()).await.unwrap();
    let hints: Vec<&str> = response.svids.iter().map(|svid| svid.hint.as_str()).collect();
    assert_eq!(hints.iter().filter(|hint| **hint == "internal").count(), 1);
    assert!(paths(&response).contains(&"/a"), "the older entry keeps the hint, or the one with the lower ID");

    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    let tokens = node.workload().fetch_jwtsvid(request).await.unwrap().into_inner().svids;
    assert_eq!(tokens.iter().filter(|svid| svid.hint == "internal").count(), 1);

    node.create(hinted("/long", &"h".repeat(1024))).await.unwrap();
    let refused = node.create(hinted("/longer", &"h".repeat(1025))).await.unwrap_err();
    assert_eq!(refused, Code::InvalidArgument);
}

/// WAPI-17, WAPI-55.
#[tokio::test]
async fn two_identities_come_in_the_same_order_each_time_sb_33() {
    let node = TestNode::ready().await;
    node.register("/b").await;
    node.register("/a").await;
    let first = next(&mut stream(&node).await.unwrap()).await.unwrap();
    assert_eq!(first.svids.len(), 2);
    for _ in 0..5 {
        let again = next(&mut stream(&node).await.unwrap()).await.unwrap();
        assert_eq!(paths(&again), paths(&first));
    }
}

/// WAPI-01, WAPI-26, WAPI-35, WAPI-36.
///
/// Accepts: BND-02.
#[tokio::test]
async fn bundles_hold_the_own_trust_domain_and_keys_of_one_use_sb_17() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    let mut client = node.workload();
    let mut x509 = client.fetch_x509_bundles(X509BundlesRequest {}).await.unwrap().into_inner();
    let x509 = next(&mut x509).await.unwrap();
    assert_eq!(x509.bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    assert!(certificates(&x509.bundles["spiffe://example.org"]).iter().all(|root| root.is_ca()));

    let mut jwt = client.fetch_jwt_bundles(JwtBundlesRequest {}).await.unwrap().into_inner();
    let jwt = next(&mut jwt).await.unwrap();
    assert_eq!(jwt.bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    let set: serde_json::Value = serde_json::from_slice(&jwt.bundles["spiffe://example.org"]).unwrap();
    let keys = set["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert!(key["kid"].is_string() && key.get("x5c").is_none());
        assert!(key.get("use").is_none_or(|usage| usage == "jwt-svid"), "{key}");
        let x = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
        let roots = &x509.bundles["spiffe://example.org"];
        assert!(!roots.windows(x.len()).any(|bytes| bytes == x), "a key of roots signs tokens too");
    }
}

/// WAPI-06, EP-16, EP-17.
#[tokio::test]
async fn two_programs_get_each_its_own_identities_sb_27() {
    let node = TestNode::ready().await;
    node.register("/test").await;
    let other = format!("path:{}", program().canonicalize().unwrap().display());
    node.create(entry("/program", &[("unix", &other)])).await.unwrap();

    let mine = next(&mut stream(&node).await.unwrap()).await.unwrap();
    assert_eq!(paths(&mine), ["/test"]);
    let output =
        Command::new(program()).args(["fetch", "x509", "--socket"]).arg(node.workload_socket()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("spiffe://example.org/program"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("spiffe://example.org/test"), "{said}");
}

#[tokio::test]
async fn an_entry_reaches_an_open_stream_without_waiting_for_a_timer() {
    let node = TestNode::ready().await;
    node.register("/a").await;
    let mut stream = stream(&node).await.unwrap();
    next(&mut stream).await.unwrap();
    node.register("/b").await;
    let pushed = timeout(Duration::from_secs(5), stream.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(pushed.svids.len(), 2);
}
