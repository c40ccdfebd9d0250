//! Nodes become one cluster: by invitation, and by a founding list. What goes wrong on the way is told, and does no
//! harm.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use tonic::Code;

use crate::cluster::TestCluster;
use crate::node::{TestNode, entry};

/// Design section 4, membership: init, invite, join. What is written at one node is read at every other.
#[tokio::test]
async fn three_processes_are_one_cluster() {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.create(entry(&format!("/w{number}"), &[("unix", "uid:1")])).await.unwrap();
    }
    let status = cluster.settled().await;
    assert_eq!(status.entries_count, 3);
    let names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    for node in &cluster.nodes {
        assert_eq!(node.count().await, 3);
    }
}

#[tokio::test]
async fn a_member_starts_again_by_the_command_line_that_it_joined_with() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let node = &mut cluster.nodes[2];
    node.kill().await;
    // The invitation may be gone by then: it was used.
    fs::remove_file(node.path("invitation")).unwrap();
    node.start().await;
    node.wait_ready().await;
    cluster.settled().await;
}

/// Issue 4, bad input; ATK-07, ATK-46: wrong, used, for another name or trust domain.
#[tokio::test]
async fn an_invitation_that_does_not_fit_is_refused_and_the_cluster_is_unharmed_atk_46() {
    let mut cluster = TestCluster::of(1).await;
    let before = cluster.settled().await;

    // No invitation at all.
    let mut newcomer = TestNode::named("node-2");
    newcomer.invited_by("s3cret");
    let (code, said) = newcomer.refused_start();
    assert!(code == 1 && said.contains("this is no invitation"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");

    // Somebody else can read it.
    let invitation = cluster.invite("node-2");
    newcomer.invited_by(&invitation);
    fs::set_permissions(newcomer.path("invitation"), Permissions::from_mode(0o644)).unwrap();
    let (code, said) = newcomer.refused_start();
    assert!(code == 1 && said.contains("has mode 644") && said.contains("make a new invitation"), "{said}");

    // For another name.
    let mut misnamed = TestNode::named("node-9");
    misnamed.invited_by(&invitation);
    let (code, said) = misnamed.refused_start();
    assert!(code == 1 && said.contains("is for a node named node-2, and name is node-9"), "{said}");

    // Into another trust domain.
    let foreign = TestNode::named("node-2");
    let text = fs::read_to_string(foreign.configuration()).unwrap();
    fs::write(foreign.configuration(), text.replace("example.org", "other.example")).unwrap();
    let mut foreign = foreign;
    foreign.invited_by(&invitation);
    let (code, said) = foreign.refused_start();
    assert!(code == 1 && said.contains("into the trust domain example.org"), "{said}");
    assert!(said.contains("trust_domain is other.example"), "{said}");

    // Nothing of this has used it up.
    newcomer.invited_by(&invitation);
    newcomer.start().await;
    newcomer.wait_ready().await;
    cluster.nodes.push(newcomer);

    // It admits once.
    let mut second = TestNode::named("node-2");
    second.invited_by(&invitation);
    let (code, said) = second.refused_start();
    assert!(code == 1 && said.contains("was used"), "{said}");

    let after = cluster.settled().await;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.members.len(), 2);
    cluster.nodes[0].create(entry("/after", &[("unix", "uid:1")])).await.unwrap();
}

#[tokio::test]
async fn an_expired_invitation_and_a_taken_name_are_refused() {
    let cluster = TestCluster::of(1).await;
    let invitation = cluster.nodes[0].told(&["cluster", "invite", "--name", "node-2", "--ttl", "1s"]);
    let expired = async || {
        let mut late = TestNode::named("node-2");
        late.invited_by(&invitation);
        let (code, said) = late.refused_start();
        code == 1 && said.contains("expired")
    };
    // It could be used for a second, and this waits longer before it asks.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    assert!(expired().await);

    let output = cluster.nodes[0].quorate(&["cluster", "invite", "--name", "node-1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("node-1"), "{said}");
}

/// Two nodes with one data directory, FLT-18 by mistake: the second is refused before it touches anything.
#[tokio::test]
async fn a_second_node_on_a_members_directory_is_refused_and_the_cluster_serves_on() {
    let cluster = TestCluster::of(2).await;
    let member = &cluster.nodes[1];
    let second = TestNode::named("node-2");
    let text = fs::read_to_string(second.configuration()).unwrap();
    let (own, theirs) = (format!("{:?}", second.path("data")), format!("{:?}", member.path("data")));
    fs::write(second.configuration(), text.replace(&own, &theirs)).unwrap();
    let (code, said) = second.refused_start();
    assert!(code == 1 && said.contains("another process"), "{said}");
    assert!(member.status().await.unwrap().ready);
    cluster.nodes[0].create(entry("/after", &[("unix", "uid:1")])).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_to_join_founds_nothing() {
    let cluster = TestCluster::of(1).await;
    let invitation = cluster.invite("node-2");
    let mut founder = cluster.nodes.into_iter().next().unwrap();
    founder.kill().await;
    let mut newcomer = TestNode::named("node-2");
    newcomer.invited_by(&invitation);
    // Nobody answers at the moment: the node waits, and says so.
    newcomer.start().await;
    let refused = newcomer.found(Default::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let says = async || {
        let status = newcomer.status().await.unwrap();
        status.reasons.iter().any(|reason| reason.contains("joining a cluster"))
    };
    newcomer.until("the node says that it is joining", says).await;
    // The same invitation holds once somebody does.
    founder.start().await;
    newcomer.wait_ready().await;
}

/// The configuration of nodes that are founded together, with the keys that `quorate keygen` made.
fn listed(names: &[&str]) -> Vec<TestNode> {
    let nodes: Vec<TestNode> = names.iter().map(|name| TestNode::named(name)).collect();
    let mut list = "[cluster.initial]\n".to_owned();
    for node in &nodes {
        let mut command = std::process::Command::new(crate::node::program());
        let output = command.args(["keygen", "-o", "json", "--data-dir"]).arg(node.path("data")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let key = answer["key"].as_str().unwrap();
        list.push_str(&format!("{} = {{ addresses = [\"{}\"], key = \"{key}\" }}\n", node.name, node.peer));
    }
    for node in &nodes {
        node.configure(&list);
    }
    nodes
}

#[tokio::test]
async fn a_fleet_is_founded_by_one_of_its_nodes_once_all_answer_atk_46() {
    let mut nodes = listed(&["a", "b", "c"]);
    // Two of three are a majority, and found nothing.
    for node in &mut nodes[..2] {
        node.start().await;
    }
    let waits = async || {
        let status = nodes[0].status().await.unwrap();
        status.reasons.iter().any(|reason| reason.contains("c does not answer"))
    };
    nodes[0].until("the founder waits for the third", waits).await;
    assert!(!nodes[0].status().await.unwrap().founded);
    let refused = nodes[0].found(Default::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let begun = Instant::now();
    nodes[2].start().await;
    for node in &nodes {
        node.wait_ready().await;
    }
    // The founder serves as soon as it has founded, and waits for nothing that comes after (a step may take 10 s).
    assert!(begun.elapsed() < Duration::from_secs(9), "ready after {:?}", begun.elapsed());
    let mut cluster = TestCluster { nodes };
    cluster.voting(3).await;
    let status = cluster.settled().await;
    assert_eq!(status.members.len(), 3);

    // FLT-18: one that lost its disk neither founds nor comes back by itself, and is told what to do.
    let leader = cluster.leader().await;
    let wiped = if leader == 0 { 1 } else { 0 };
    let node = &mut cluster.nodes[wiped];
    node.kill().await;
    let data = node.path("data");
    let keys = ["identity.key", "sealing.key"].map(|name| (name, fs::read(data.join(name)).unwrap()));
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    for (name, key) in keys {
        fs::write(data.join(name), key).unwrap();
        fs::set_permissions(data.join(name), Permissions::from_mode(0o600)).unwrap();
    }
    let (code, said) = node.refused_start();
    assert!(code == 1 && said.contains("cluster remove") && said.contains("--join-file"), "{said}");
}

/// Design section 4, "Peers are pinned": a member tells where it is reached now, under its old key.
#[tokio::test]
async fn a_member_that_moved_is_found_at_its_new_address() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let moved = &mut cluster.nodes[2];
    moved.kill().await;
    let before = moved.peer.to_string();
    moved.peer = crate::node::free_port();
    moved.configure("");
    let now = moved.peer.to_string();
    moved.start().await;
    moved.wait_ready().await;
    let known = async || {
        let status = cluster.nodes[0].status().await.unwrap();
        let member = status.members.iter().find(|member| member.name == "node-3").unwrap();
        member.addresses.contains(&now) && !member.addresses.contains(&before)
    };
    cluster.nodes[0].until("the others know the new address", known).await;
    cluster.settled().await;
}

/// Design section 2, property 7; issue 4, acceptance: all nodes stopped, and started again with no manual step.
#[tokio::test]
async fn a_cluster_that_was_off_elects_and_serves_when_it_is_switched_on() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    cluster.nodes[1].create(entry("/before", &[("unix", "uid:1")])).await.unwrap();
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    for node in &mut cluster.nodes {
        node.start().await;
    }
    for node in &cluster.nodes {
        node.wait_ready().await;
    }
    assert_eq!(cluster.settled().await.entries_count, 1);
    cluster.nodes[2].create(entry("/after", &[("unix", "uid:1")])).await.unwrap();
}

/// ELE-09: leadership is handed over before a planned stop, so that nobody waits for an election.
#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_first_ele_09() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].signal(nix::sys::signal::Signal::SIGHUP);
    cluster.nodes[leader].signal(nix::sys::signal::Signal::SIGTERM);
    let ended = cluster.nodes[leader].wait_end().await;
    assert!(ended.success(), "{ended}");
    let log = cluster.nodes[leader].log();
    assert!(log.contains("SIGHUP changes nothing") && log.contains("leadership was handed over"), "{log}");
    let gone = cluster.nodes.remove(leader);
    cluster.settled().await;
    cluster.nodes[0].create(entry("/after", &[("unix", "uid:1")])).await.unwrap();
    drop(gone);
}
