//! A trust domain that was lost and restored from a backup, seen by its peer.

use std::net::SocketAddr;
use std::path::Path;

use quorate_proto_api::cluster::Policy;
use serde_json::Value;

use crate::backup::Vault;
use crate::node::{TestNode, free_port};

/// Settings by which all that a restore brings about happens within seconds: hints, and what waits for three of them.
fn hasty() -> Policy {
    Policy { refresh_hint: 1, ..Policy::default() }
}

fn serving(node: &TestNode, listen: SocketAddr) {
    node.configure(&format!("[bundle_endpoint]\nspiffe_listen = \"{listen}\"\n"));
}

/// What the peer holds of the trust domain.
fn held(peer: &TestNode, trust_domain: &str) -> Value {
    let document = peer.told(&["bundle", "show", trust_domain, "--format", "spiffe"]);
    serde_json::from_str(&document).unwrap()
}

fn own(node: &TestNode) -> Value {
    serde_json::from_str(&node.told(&["bundle", "show", "--format", "spiffe"])).unwrap()
}

fn status(peer: &TestNode) -> Value {
    let told: Value = serde_json::from_str(&peer.told(&["federation", "status", "-o", "json"])).unwrap();
    told["statuses"][0].clone()
}

/// Acceptance of federation; ATK-39, FLT-26. Accepts: FED-09, FED-41: the restored authority counts on from above all that it
/// ever published, and its endpoint shows a certificate under the root that the peer has.
#[tokio::test]
async fn the_peer_of_a_restored_trust_domain_takes_its_new_bundle_without_an_operator() {
    let listen = free_port();
    let mut lost = TestNode::of_domain("lost.example", "node-1");
    serving(&lost, listen);
    lost.start().await;
    lost.found(hasty()).await.unwrap();
    lost.wait_ready().await;
    let vault = Vault::at(&lost);
    let file = vault.backup(&lost, "backup");

    let peer = TestNode::ready().await;
    let bootstrap = lost.path("bundle.json");
    std::fs::write(&bootstrap, lost.told(&["bundle", "show", "--format", "spiffe"])).unwrap();
    let (url, id) = (format!("https://{listen}/"), "spiffe://lost.example/spire/server");
    peer.told(&[
        "federation",
        "create",
        "lost.example",
        "--profile",
        "https_spiffe",
        "--url",
        &url,
        "--endpoint-spiffe-id",
        id,
        "--bundle",
        Path::new(&bootstrap).to_str().unwrap(),
        "--poll-floor",
        "1s",
    ]);
    peer.until("the peer fetches", async || status(&peer)["last_success"].is_string()).await;
    let before = held(&peer, "lost.example");
    lost.kill().await;
    peer.until("the peer sees that nobody is there", async || status(&peer)["error"] != "").await;
    assert_eq!(held(&peer, "lost.example"), before, "what is held stays");

    let mut restored = TestNode::of_domain("lost.example", "node-1");
    serving(&restored, listen);
    vault.restore(&file, &restored);
    restored.start().await;
    restored.wait_ready().await;
    let has_all =
        async || held(&peer, "lost.example")["spiffe_sequence"].as_u64() == own(&restored)["spiffe_sequence"].as_u64();
    peer.until("the peer holds the restored authority's bundle", has_all).await;
    let after = held(&peer, "lost.example");
    assert!(after["spiffe_sequence"].as_u64() > before["spiffe_sequence"].as_u64());
    // It goes on: the root that takes the lost one's place gets there too.
    let keys = |bundle: &Value| bundle["keys"].as_array().unwrap().len();
    let rolled = async || {
        let (here, there) = (own(&restored), held(&peer, "lost.example"));
        keys(&here) > keys(&before) && here["spiffe_sequence"] == there["spiffe_sequence"]
    };
    peer.until("the next root is known to the peer", rolled).await;
    assert_eq!((status(&peer)["error"].as_str(), status(&peer)["stale"].as_bool()), (Some(""), Some(false)));
}
