//! A whole node with hostile peers beside a good one.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::world::{Deed, Server, Web, ok, redirect, says};
use crate::node::TestNode;
use crate::operations::get;

/// Where they all are, as their names in the URLs say.
const HERE: &str = "127.0.0.1";

fn document(sequence: u64) -> Vec<u8> {
    format!("{{\"keys\":[],\"spiffe_sequence\":{sequence},\"spiffe_refresh_hint\":1}}").into_bytes()
}

fn create(node: &TestNode, name: &str, server: &Server) {
    let url = format!("https://{HERE}:{}/", server.port);
    node.told(&["federation", "create", name, "--profile", "https_web", "--url", &url, "--poll-floor", "1s"]);
}

fn statuses(node: &TestNode) -> Vec<Value> {
    let told: Value = serde_json::from_str(&node.told(&["federation", "status", "-o", "json"])).unwrap();
    told["statuses"].as_array().unwrap().clone()
}

/// ATK-36, ATK-39. Accepts: FED-47, FED-53. Refuses: FED-47, FED-53: what failed is in the log too, with its reason.
#[tokio::test]
async fn a_good_peer_is_on_time_beside_hostile_ones_and_each_is_told_in_words() {
    let web = Web::new();
    let mut node = TestNode::prepare();
    fs::write(node.path("roots.pem"), web.pem()).unwrap();
    node.configure(&format!("[federation]\nweb_roots = {:?}\n", node.path("roots.pem")));
    node.start().await;
    node.found(quorate_proto_api::cluster::Policy::default()).await.unwrap();
    node.wait_ready().await;

    let shown = web.certificate(&[HERE]);
    let older = AtomicU64::new(10);
    let hostile = [
        (
            "endless.example",
            "more than 1048576",
            Server::start(&shown, |_| Deed::Floods(b"HTTP/1.1 200 OK\r\n\r\n{".to_vec())).await,
        ),
        (
            "slow.example",
            "time limit",
            Server::start(&shown, |_| Deed::Trickles(b"HTTP/1.1 200 OK\r\n\r\n{".to_vec())).await,
        ),
        ("mute.example", "time limit", Server::mute().await),
        (
            "loop.example",
            "more than 5 redirects",
            Server::start(&shown, |path| redirect("302 Found", &format!("{path}x"))).await,
        ),
        (
            "metadata.example",
            "nothing is sent to 169.254.169.254",
            Server::start(&shown, |_| redirect("302 Found", "https://169.254.169.254/latest/meta-data/")).await,
        ),
        (
            "plain.example",
            "which is not followed",
            Server::start(&shown, |_| redirect("302 Found", "http://127.0.0.1/")).await,
        ),
        (
            "packed.example",
            "content-encoding",
            Server::start(&shown, |_| says("200 OK", "content-encoding: gzip\r\n", &[0x1f, 0x8b])).await,
        ),
        ("words.example", "no bundle", Server::start(&shown, |_| ok(b"<html>It works!</html>")).await),
        (
            "expired.example",
            "certificate",
            Server::start(&web.certificate_until(&[HERE], -5), |_| ok(&document(1))).await,
        ),
        (
            "older.example",
            "--accept-older",
            Server::start(&shown, move |_| ok(&document(older.fetch_sub(1, Ordering::Relaxed).max(1)))).await,
        ),
    ];
    for (name, _, server) in &hostile {
        create(&node, name, server);
    }
    let sequence = AtomicU64::new(1);
    let good = Server::start(&shown, move |_| ok(&document(sequence.fetch_add(1, Ordering::Relaxed)))).await;
    let began = Instant::now();
    create(&node, "good.example", &good);
    good.until_asked(8).await;
    // One second each by its hint; the rest is for a machine that is busy.
    assert!(began.elapsed() < Duration::from_secs(16), "8 retrievals took {:?}", began.elapsed());

    for (name, why, _) in &hostile {
        let told = async || {
            let statuses = statuses(&node);
            let status = statuses.iter().find(|status| status["trust_domain"] == *name).unwrap();
            status["error"].as_str().unwrap().contains(why)
        };
        node.until(&format!("{name} is told of: {why}"), told).await;
    }
    let statuses = statuses(&node);
    let good = statuses.iter().find(|status| status["trust_domain"] == "good.example").unwrap();
    assert!(good["error"] == "" && good["stale"] == false, "{good}");
    assert!(good["sequence"].as_str().unwrap().parse::<u64>().unwrap() >= 7, "{good}");
    // ATK-39, in the warnings too; and each retrieval is in the log.
    let warned = async || get(&node, "/ready").1.contains("older.example has served");
    node.until("the older bundles are an alarm", warned).await;
    let log = node.log();
    assert!(log.contains("the bundle of a foreign trust domain was fetched"), "FED-53");
    assert!(log.contains("the bundle of a foreign trust domain was not fetched") && log.contains("content-encoding"));
    assert!(log.contains("goes on serving an older bundle"));
}
