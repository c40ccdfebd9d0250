//! A majority is lost for good, and the cluster goes on with one node (design section 4, "Lost quorum").

use std::process::{Command, Output};

use crate::cluster::TestCluster;
use crate::node::{TestNode, entry, program};

fn recover(node: &TestNode, more: &str) -> Output {
    let mut command = Command::new(program());
    command.args(["cluster", "recover", "--config"]).arg(node.configuration()).arg(more).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn one_node_goes_on_with_all_it_has_and_the_old_members_are_refused() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    for number in 0..5 {
        cluster.nodes[0].create(entry(&format!("/w{number}"), &[("unix", "uid:1")])).await.unwrap();
    }
    let before = cluster.settled().await;

    // Not beside a node that runs.
    let output = recover(&cluster.nodes[0], "--yes");
    assert!(!output.status.success() && said(&output).contains("another process"), "{}", said(&output));

    for node in &mut cluster.nodes {
        node.kill().await;
    }
    // It says what it would do, and does nothing unless it is told to.
    let output = recover(&cluster.nodes[0], "--dry-run");
    assert!(output.status.success() && said(&output).contains("nothing was changed"), "{}", said(&output));
    let output = recover(&cluster.nodes[0], "--output=table");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));

    let output = recover(&cluster.nodes[0], "--yes");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("is the only voter now"), "{}", said(&output));

    let mut nodes = std::mem::take(&mut cluster.nodes).into_iter();
    let (mut first, mut second) = (nodes.next().unwrap(), nodes.next().unwrap());
    first.start().await;
    first.wait_ready().await;
    let status = first.status().await.unwrap();
    assert_eq!((status.entries_count, status.cluster_id.as_str()), (5, before.cluster_id.as_str()));
    assert!(status.epoch > before.epoch, "{} after {}", status.epoch, before.epoch);
    first.create(entry("/after", &[("unix", "uid:1")])).await.unwrap();

    // An old member is refused: it neither votes nor follows.
    second.start().await;
    first.create(entry("/later", &[("unix", "uid:1")])).await.unwrap();
    assert!(!second.status().await.unwrap().ready);
    assert_eq!(second.status().await.unwrap().entries_count, 5);
    second.kill().await;

    // It comes back as a new one.
    for name in ["node-2", "node-3"] {
        first.told(&["cluster", "remove", name]);
    }
    let mut cluster = TestCluster { nodes: vec![first] };
    cluster.join("node-2").await;
    assert_eq!(cluster.settled().await.entries_count, 7);
}
