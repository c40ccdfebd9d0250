//! The audit trail of whole nodes: what is in it, that all nodes have the same, and that nobody changes it unseen (ATK-47).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use quorate_proto_api::workload::X509svidRequest;
use serde_json::Value;
use tonic::Code;

use crate::cluster::TestCluster;
use crate::node::{TestNode, entry, program};
use crate::operations::get;
use crate::small_disk::SmallDisk;

/// The records of a node, as programs read them.
fn records(node: &TestNode, more: &[&str]) -> Vec<Value> {
    let told = node.told(&[&["audit", "show", "-o", "json"], more].concat());
    told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What all nodes are to have: the administrative records, without what chains them in each trail.
fn administrative(node: &TestNode) -> Vec<Value> {
    let of_all = |record: &Value| record["kind"] == "administrative";
    let mut records: Vec<Value> = records(node, &[]).into_iter().filter(of_all).collect();
    for record in &mut records {
        let record = record.as_object_mut().unwrap();
        record.remove("record");
        record.remove("hash");
    }
    records
}

fn audit_directory(node: &TestNode) -> PathBuf {
    node.path("data").join("audit")
}

/// The exit code of `audit verify`, and what it prints.
fn verified(node: &TestNode, more: &[&str]) -> (Option<i32>, String) {
    let output = node.quorate(&[&["audit", "verify"], more].concat());
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn all_nodes_hold_the_same_administrative_records_through_a_kill_and_a_restart() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let id = cluster.nodes[1].register("/w").await;
    cluster.nodes[2].delete(&id).await;
    let refused = cluster.nodes[0].quorate(&["entry", "delete", "--id", "nobody"]);
    assert!(!refused.status.success());
    cluster.settled().await;
    let of_first = administrative(&cluster.nodes[0]);
    for node in &cluster.nodes[1..] {
        assert_eq!(administrative(node), of_first, "{}", node.name);
    }
    let acts: Vec<(&str, &str)> = of_first
        .iter()
        .filter(|record| record["who"].as_str().unwrap().starts_with("unix:"))
        .map(|record| (record["what"].as_str().unwrap(), record["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(acts.first(), Some(&("authority.found", "done")));
    let last = [("entry.create", "done"), ("entry.delete", "done"), ("entry.delete", "refused:not_found")];
    assert!(acts.ends_with(&last), "{acts:?}");

    cluster.nodes[1].kill().await;
    cluster.nodes[0].register("/meanwhile").await;
    cluster.nodes[1].start().await;
    cluster.nodes[1].wait_ready().await;
    cluster.settled().await;
    let of_first = administrative(&cluster.nodes[0]);
    for node in &cluster.nodes {
        assert_eq!(administrative(node), of_first, "{}: nothing lost, nothing twice", node.name);
        let (code, told) = verified(node, &[]);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.starts_with("intact: ") && told.contains("heads are met"), "{told}");
    }
    // Nothing secret is in it (ATK-44): neither keys nor the text of selectors.
    let text = records(&cluster.nodes[0], &[]).iter().map(ToString::to_string).collect::<String>();
    assert!(!text.contains("unix:path") && !text.contains("PRIVATE"), "{text}");
    // Filters.
    let of_entries = records(&cluster.nodes[0], &["--what", "entry", "--since", "1h", "--who", "uid="]);
    assert!(
        of_entries.len() >= 4 && of_entries.iter().all(|record| record["what"].as_str().unwrap().starts_with("entry."))
    );
    assert_eq!(records(&cluster.nodes[0], &["--spiffe-id", "spiffe://example.org/meanwhile"]).len(), 1);
}

/// ATK-47: cut off, altered and torn are told apart.
#[tokio::test]
async fn what_was_done_to_the_files_is_told_by_word_and_exit_code() {
    let mut node = TestNode::ready().await;
    for number in 0..3 {
        node.register(&format!("/w{number}")).await;
    }
    assert_eq!(verified(&node, &[]).0, Some(0));
    let file = fs::read_dir(audit_directory(&node)).unwrap().next().unwrap().unwrap().path();
    let content = fs::read_to_string(&file).unwrap();

    // A running node remembers its last record.
    let cut: String = content.lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(&file, &cut).unwrap();
    let (code, told) = verified(&node, &[]);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.starts_with("cut off: records 1 to 3"), "{told}");

    let changed = content.replacen("authority.found", "authority.fouND", 1);
    fs::write(&file, changed).unwrap();
    node.signal(Signal::SIGKILL);
    node.wait_end().await;
    // By the files alone.
    let output =
        Command::new(program()).args(["audit", "verify", "--dir"]).arg(audit_directory(&node)).output().unwrap();
    let (code, told) = (output.status.code(), String::from_utf8(output.stdout).unwrap());
    assert_eq!(code, Some(6), "{told}");
    assert!(told.starts_with("altered: ") && told.contains("line 2"), "{told}");

    // A line that a crash tore is set aside by the next start, and its record is had from the log again.
    let torn = &content[..content.len() - 20];
    fs::write(&file, torn).unwrap();
    node.start().await;
    node.wait_ready().await;
    let (code, told) = verified(&node, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("set aside after a crash"), "{told}");
    let created = records(&node, &["--what", "entry.create"]);
    assert_eq!(created.len(), 3, "{created:?}");
}

#[tokio::test]
async fn issuance_is_recorded_by_policy_and_minting_always() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    node.told(&["mint", "jwt", "--spiffe-id", "spiffe://example.org/m", "--audience", "a"]);
    let fetch = async || {
        let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap()
    };
    fetch().await;
    let minted = records(&node, &["--what", "jwt.mint"]);
    assert_eq!(minted.len(), 1);
    assert!(minted[0]["who"].as_str().unwrap().starts_with("unix:uid=") && minted[0]["jti"].is_string(), "{minted:?}");
    assert!(records(&node, &["--what", "x509.issue"]).is_empty());

    node.told(&["policy", "set", "audit_issuance=required"]);
    node.register("/second").await;
    fetch().await;
    let issued = records(&node, &["--spiffe-id", "spiffe://example.org/second", "--what", "x509"]);
    assert_eq!(issued.len(), 1, "{issued:?}");
    assert!(issued[0]["serial"].is_string() && issued[0]["entry_id"].is_string(), "{issued:?}");
    assert_eq!(issued[0]["kind"], "issuance");
}

#[tokio::test]
async fn a_trail_without_room_refuses_administrative_acts_and_issuance_by_policy() {
    let mut node = TestNode::prepare();
    let directory = audit_directory(&node);
    fs::create_dir_all(node.path("data")).unwrap();
    fs::set_permissions(node.path("data"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let Some(_disk) = SmallDisk::mount(&directory, "mode=0700,size=40m") else { return };
    node.start().await;
    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    node.told(&["policy", "set", "audit_issuance=recorded"]);
    node.register("/w").await;

    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let number = std::cell::Cell::new(0);
    node.until("an act is refused", async || {
        number.set(number.get() + 1);
        let more = entry(&format!("/e/{}", number.get()), &[("unix", "uid:4242")]);
        node.create(more).await == Err(Code::ResourceExhausted)
    })
    .await;
    let refused =
        node.quorate(&["entry", "create", "--spiffe-id", "spiffe://example.org/x", "--selector", "unix:uid:1"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("the audit trail of this node cannot be written") && said.contains("Make room"), "{said}");
    // By this policy an SVID is given out, and the record is counted as missing.
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
    // The record waits in the queue until the writer has looked; room that came before that would save it.
    let dropped = "quorate_actors_audit_records_total{result=\"dropped\"} ";
    let count = || get(&node, "/metrics").1.lines().find_map(|line| line.strip_prefix(dropped)?.parse::<f64>().ok());
    node.until("the record has been dropped", async || count().is_some_and(|count| count >= 1.0)).await;

    fs::remove_file(&ballast).unwrap();
    node.until("an act is taken again", async || node.create(entry("/f", &[("unix", "uid:4242")])).await.is_ok()).await;
    node.until("what was dropped is told", async || !records(&node, &["--what", "records.dropped"]).is_empty()).await;
    assert_eq!(verified(&node, &[]).0, Some(0));
}
