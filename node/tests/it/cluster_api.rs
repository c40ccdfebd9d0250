//! A cluster of three as its operators and registrars see it: reads, writes and management at every node.

use std::time::{Duration, Instant};

use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{
    GetPlanRequest, MemberStatus, RaftRole, RemoveRequest, SetMemberRoleRequest, WaitRequest, progress,
};
use quorate_proto_api::spire::bundle::GetBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, CountEntriesRequest};
use quorate_proto_api::workload::X509svidRequest;
use quorate_proto_api::{APPLIED_INDEX_HEADER, CONSISTENCY_HEADER, LOG_INDEX_HEADER};
use serde_json::Value;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use crate::cluster::TestCluster;
use crate::node::{TestNode, entry};

/// A number among the metadata of an answer.
fn index(metadata: &MetadataMap, header: &str) -> u64 {
    metadata.get(header).unwrap_or_else(|| panic!("no {header}")).to_str().unwrap().parse().unwrap()
}

/// Creates an entry, and gives where in the log it stands.
async fn write(node: &TestNode, path: &str) -> u64 {
    let request = BatchCreateEntryRequest { entries: vec![entry(path, &[("unix", "uid:1")])], output_mask: None };
    let answer = EntryClient::new(node.admin_channel()).batch_create_entry(request).await.unwrap();
    index(answer.metadata(), LOG_INDEX_HEADER)
}

/// Counts entries by a read of this kind.
async fn count(node: &TestNode, kind: &str) -> Result<(i32, u64), Status> {
    let mut request = Request::new(CountEntriesRequest { filter: None });
    request.metadata_mut().insert(CONSISTENCY_HEADER, kind.parse().unwrap());
    let answer: Response<_> = EntryClient::new(node.admin_channel()).count_entries(request).await?;
    let applied = index(answer.metadata(), APPLIED_INDEX_HEADER);
    Ok((answer.into_inner().count, applied))
}

async fn wait(node: &TestNode, index: u64, limit: Duration) -> Result<u64, Status> {
    let timeout_millis = u64::try_from(limit.as_millis()).unwrap();
    let answer = ClusterClient::new(node.admin_channel()).wait(WaitRequest { index, timeout_millis }).await?;
    Ok(answer.into_inner().applied_index)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Design section 2, properties 1 and 2; issue 4, reads and writes.
#[tokio::test]
async fn what_is_written_at_a_node_is_read_there_at_once_and_elsewhere_when_it_is_asked_for() {
    let cluster = TestCluster::of(3).await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        let wanted = i32::try_from(number).unwrap() + 1;
        let written = write(node, &format!("/w{number}")).await;
        let (read, applied) = count(node, "local").await.unwrap();
        assert!(read == wanted && applied >= written, "its own node reads it back");
        for other in &cluster.nodes {
            assert_eq!(count(other, "linearizable").await.unwrap().0, wanted, "a linearizable read, wherever");
        }
        for other in &cluster.nodes {
            assert!(wait(other, written, Duration::from_secs(20)).await.unwrap() >= written);
            assert_eq!(count(other, "local").await.unwrap().0, wanted, "a local read of what was waited for");
        }
    }
    let node = &cluster.nodes[1];
    assert_eq!(count(node, "strong").await.unwrap_err().code(), Code::InvalidArgument);
    let late = wait(node, 1_000_000, Duration::from_millis(50)).await.unwrap_err();
    assert!(late.code() == Code::DeadlineExceeded && late.message().contains("not 1000000"), "{late}");
    let applied: u64 = node.told(&["wait"]).trim().parse().unwrap();
    assert!(node.told(&["wait", "--index", &applied.to_string(), "-o", "json"]).contains("applied_index"));
    assert_eq!(node.quorate(&["wait", "--index", "1000000", "--timeout", "0"]).status.code(), Some(3));
    assert_eq!(node.told(&["entry", "count", "--consistent"]), "3 entries\n");
}

/// Property 5: an acknowledged delete is applied by every connected member, so a local read anywhere has lost it.
#[tokio::test]
async fn what_was_deleted_at_one_node_is_gone_at_every_connected_one_property_5() {
    let cluster = TestCluster::of(3).await;
    for round in 0..5 {
        let id = cluster.nodes[0].create(entry(&format!("/r{round}"), &[("unix", "uid:1")])).await.unwrap();
        let node = &cluster.nodes[round % 3];
        let request = BatchDeleteEntryRequest { ids: vec![id] };
        // The entry may not be known at this node yet: what it proposes comes after it in the log all the same.
        let answer = EntryClient::new(node.admin_channel()).batch_delete_entry(request).await.unwrap();
        let deleted = index(answer.metadata(), LOG_INDEX_HEADER);
        for other in &cluster.nodes {
            let (read, applied) = count(other, "local").await.unwrap();
            assert!(
                read == 0 && applied >= deleted,
                "round {round}: {read} entries at {applied}, deleted at {deleted}"
            );
        }
    }
}

#[tokio::test]
async fn every_node_tells_who_leads_and_how_the_members_are() {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let settled = cluster.settled().await;
    for node in &cluster.nodes {
        let hears = async || {
            let members = node.status().await.unwrap().members;
            members.iter().all(|member| member.connected == Some(true) && member.applied_index.is_some())
        };
        node.until("the leader has heard of all", hears).await;
        let status = json(&node.told(&["cluster", "status", "-o", "json"]));
        assert_eq!(status["leader"], settled.leader_name.as_str());
        assert_eq!(status["term"], settled.term.to_string());
        assert_eq!(status["connected"], true);
        assert_eq!(status["leader_answered"], true);
        assert_eq!(status["members"].as_array().unwrap().len(), 3);
        for member in status["members"].as_array().unwrap() {
            assert_eq!(member["raft_role"], "RAFT_ROLE_VOTER", "{member}");
            assert_eq!(member["status"], "MEMBER_STATUS_ADMITTED", "{member}");
            assert_ne!(member["issuing_not_after"], "0", "{member}");
        }
        let table = node.told(&["cluster", "members"]);
        assert!(table.contains("leader") && table.contains("node-3") && table.contains("127.0.0.1:"), "{table}");
    }
    let hashes: Vec<String> = {
        let mut hashes = Vec::new();
        cluster.settled().await;
        for node in &cluster.nodes {
            hashes.push(node.status().await.unwrap().state_hash);
        }
        hashes
    };
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

/// Property 4, and ELE: without a majority nothing is written, what is known is told, and a node that starts then serves
/// nothing.
#[tokio::test]
async fn a_node_without_the_others_tells_how_it_is_and_restarted_it_serves_nothing_property_4() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    cluster.nodes[0].register("/w").await;
    cluster.settled().await;
    for number in [1, 2] {
        cluster.nodes[number].kill().await;
    }
    let node = &mut cluster.nodes[0];
    let cut_off = async || node.status().await.unwrap().cut_off_millis.is_some();
    node.until("the node knows that it is cut off", cut_off).await;

    let since = Instant::now();
    let status = node.status().await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(2), "a status is told at once: {:?}", since.elapsed());
    assert!(status.ready && !status.connected, "it signs on until the end of its lease");
    assert!(status.reasons.iter().any(|reason| reason.contains("cut off")), "{:?}", status.reasons);
    assert_eq!(count(node, "local").await.unwrap().0, 1);
    let read = count(node, "linearizable").await.unwrap_err();
    assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&read.code()), "{read}");
    node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner().message().await.unwrap().unwrap();

    let mut late = Request::new(BatchCreateEntryRequest {
        entries: vec![entry("/late", &[("unix", "uid:1")])],
        output_mask: None,
    });
    late.set_timeout(Duration::from_secs(20));
    let refused = EntryClient::new(node.admin_channel()).batch_create_entry(late).await.unwrap_err();
    assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&refused.code()), "{refused}");

    node.kill().await;
    node.start().await;
    assert_eq!(count(node, "local").await.unwrap_err().code(), Code::Unavailable);
    let ended = node.workload().fetch_x509svid(X509svidRequest {}).await;
    let ended = match ended {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(!node.status().await.unwrap().ready);

    // All is well again with a majority.
    cluster.nodes[1].start().await;
    cluster.nodes[0].wait_ready().await;
    assert_eq!(count(&cluster.nodes[0], "linearizable").await.unwrap().0, 1);
}

#[tokio::test]
async fn roles_change_by_a_call_to_any_node_and_a_dry_run_changes_nothing() {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let leader = cluster.leader().await;
    let (asked, changed) = (&cluster.nodes[(leader + 1) % 3], &cluster.nodes[(leader + 2) % 3].name);

    let before = cluster.settled().await;
    for dry in [
        vec!["cluster", "demote", changed, "--dry-run"],
        vec!["cluster", "remove", changed, "--dry-run"],
        vec!["cluster", "fence", changed, "--dry-run"],
        vec!["cluster", "transfer-leader", changed, "--dry-run"],
        vec!["cluster", "plan", "--voters", "5", "--dry-run"],
        vec!["cluster", "invite", "--name", "node-9", "--dry-run"],
        vec!["cluster", "reset-time", "--dry-run"],
        vec!["cluster", "raise-version", "--dry-run"],
    ] {
        asked.told(&dry);
    }
    let after = cluster.settled().await;
    assert_eq!((&after.leader_name, &after.state_hash), (&before.leader_name, &before.state_hash));

    let said = asked.told(&["cluster", "demote", changed]);
    assert!(said.contains("will be a learner") && said.contains("No root key is sealed"), "{said}");
    let role = |status: &quorate_proto_api::cluster::StatusResponse| {
        status.members.iter().find(|member| member.name == *changed).unwrap().raft_role()
    };
    assert_eq!(role(&asked.status().await.unwrap()), RaftRole::Learner);
    let said = asked.told(&["cluster", "promote", changed]);
    assert!(said.contains("The root keys are sealed to") && said.contains(" votes: "), "{said}");
    assert_eq!(role(&asked.status().await.unwrap()), RaftRole::Voter);

    let said = json(&asked.told(&["cluster", "transfer-leader", changed, "-o", "json"]));
    assert_eq!(said["leader"], changed.as_str(), "{said}");
    let refused = asked.quorate(&["cluster", "promote", "node-7"]);
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && complaint.contains("there is no member named node-7"), "{complaint}");

    // The stream itself: its log index comes first, and its last word is what was done.
    let request = SetMemberRoleRequest { name: changed.clone(), role: 1, dry_run: false };
    let answer = ClusterClient::new(asked.admin_channel()).set_member_role(request).await.unwrap();
    assert!(index(answer.metadata(), LOG_INDEX_HEADER) > 0);
    let mut stream = answer.into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await.unwrap() {
        last = message.told;
    }
    assert!(matches!(last, Some(progress::Told::Done(_))), "{last:?}");
}

#[tokio::test]
async fn an_invitation_is_printed_alone_listed_without_its_secret_and_taken_back() {
    let cluster = TestCluster::of(2).await;
    let node = &cluster.nodes[1];
    let said = node.told(&["cluster", "invite", "--name", "node-9", "--region", "eu", "--role", "learner"]);
    assert!(said.starts_with("quorate1.") && said.lines().count() == 1, "{said}");
    let invitation = json(&node.told(&["cluster", "invite", "--name", "node-8", "--ttl", "5m", "-o", "json"]));
    assert!(invitation["invitation"].as_str().unwrap().starts_with("quorate1."));

    let listed = cluster.nodes[0].told(&["cluster", "invitations", "--consistent"]);
    assert!(listed.contains("node-9") && listed.contains("learner") && listed.contains("eu"), "{listed}");
    assert!(!listed.contains(said.trim()), "{listed}");
    assert_eq!(node.status().await.unwrap().open_invitations, 2);
    node.told(&["cluster", "revoke-invitation", "node-9"]);
    let refused = node.quorate(&["cluster", "revoke-invitation", "node-9"]);
    assert_eq!(refused.status.code(), Some(1));

    let mut late = TestNode::named("node-9");
    late.invited_by(&said);
    let (code, complaint) = late.refused_start();
    assert!(code == 1, "{complaint}");
    for wrong in [["--ttl", "0s"], ["--ttl", "30d"], ["--name", "Not a name"]] {
        let arguments = [&["cluster", "invite", "--name", "node-7"][..], &wrong].concat();
        let code = node.quorate(&arguments).status.code();
        assert!([Some(1), Some(2)].contains(&code), "{wrong:?}: {code:?}");
    }
}

#[tokio::test]
async fn the_plan_is_changed_in_parts_and_rare_changes_have_to_be_meant() {
    let cluster = TestCluster::of(2).await;
    let node = &cluster.nodes[1];
    let said = node.told(&["cluster", "plan", "--voters", "1", "--automatic", "no"]);
    assert!(said.contains("Roles change by command alone"), "{said}");
    let plan = json(&cluster.nodes[0].told(&["cluster", "plan", "--consistent", "-o", "json"]));
    assert_eq!(plan, serde_json::json!({"voters": 1, "dead_voter_grace": 300, "automatic": false}));
    let plan = ClusterClient::new(node.admin_channel()).get_plan(GetPlanRequest {}).await.unwrap();
    assert!(index(plan.metadata(), APPLIED_INDEX_HEADER) > 0);
    assert_eq!(node.quorate(&["cluster", "plan", "--voters", "8"]).status.code(), Some(2));

    assert_eq!(node.quorate(&["cluster", "reset-time"]).status.code(), Some(2), "not without --yes");
    let said = node.told(&["cluster", "reset-time", "--yes"]);
    assert!(said.contains("The time of the log was set from "), "{said}");
    let said = node.told(&["cluster", "raise-version"]);
    assert!(said.contains("the highest that every member can do"), "{said}");
    let refused = node.quorate(&["cluster", "raise-version", "99"]);
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && complaint.contains("cannot be switched on"), "{complaint}");
}

/// Design section 3, sealing, and property 6: what the machine could still sign is told; removed as compromised, new keys
/// sign when the command returns.
#[tokio::test]
async fn a_member_is_removed_and_what_it_could_open_signs_no_more_when_it_was_compromised_property_6() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let leader = cluster.leader().await;
    let victim = cluster.nodes.remove((leader + 1) % 3);
    let node = &cluster.nodes[0];
    let authorities = async || {
        let bundle = BundleClient::new(node.admin_channel()).get_bundle(GetBundleRequest { output_mask: None }).await;
        let bundle = bundle.unwrap().into_inner();
        let roots = bundle.x509_authorities.into_iter().map(|root| root.asn1).collect::<Vec<_>>();
        (roots, bundle.jwt_authorities.into_iter().map(|key| key.key_id).collect::<Vec<_>>())
    };
    let old = authorities().await;
    assert_eq!((old.0.len(), old.1.len()), (1, 1));
    let said = node.told(&["cluster", "remove", &victim.name, "--dry-run"]);
    assert!(said.contains("It can open the root") && said.contains("It can open the token key"), "{said}");
    let said = node.told(&["cluster", "fence", &victim.name]);
    assert!(said.contains("revoked; every connected member has applied it"), "{said}");

    let request = RemoveRequest { name: victim.name.clone(), compromised: true, dry_run: false };
    let mut stream = ClusterClient::new(node.admin_channel()).remove(request).await.unwrap().into_inner();
    let mut done = None;
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(progress::Told::Done(told)) = message.told {
            done = Some(told);
        }
    }
    let done = done.expect("it came to its end").sentences.join("\n");
    assert!(done.contains("A new root signs: ") && done.contains("A new token key signs: "), "{done}");
    // The old ones leave the bundle when nothing depends on them any more (issue 5, point 4).
    let replaced = async || {
        let (roots, keys) = authorities().await;
        let is_other = roots.len() == 1 && keys.len() == 1;
        is_other && roots[0] != old.0[0] && keys[0] != old.1[0]
    };
    node.until("what the victim could open is out of the bundle", replaced).await;
    let status = node.status().await.unwrap();
    assert_eq!(status.members.len(), 2);
    let all = json(&node.told(&["cluster", "members", "--all", "-o", "json"]));
    let gone = all["members"].as_array().unwrap().iter().find(|member| member["name"] == victim.name.as_str());
    assert_eq!(gone.unwrap()["status"], MemberStatus::Compromised.as_str_name());
    cluster.nodes[1].create(entry("/after", &[("unix", "uid:1")])).await.unwrap();
}

#[tokio::test]
async fn a_recovery_key_is_made_offline_set_at_any_node_and_taken_away() {
    let cluster = TestCluster::of(2).await;
    let node = &cluster.nodes[1];
    let directory = node.path("recovery");
    let make = || {
        let mut command = std::process::Command::new(crate::node::program());
        command.args(["recovery-key", "new", "-o", "json", "--write"]).arg(&directory).output().unwrap()
    };
    let made = make();
    let made = json(std::str::from_utf8(&made.stdout).unwrap());
    let (public, id) = (made["public_key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let private = std::fs::read_to_string(directory.join("recovery.pem")).unwrap();
    assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(make().status.code(), Some(2), "one that is there is not overwritten");

    let said = node.told(&["recovery-key", "set", "--public-key", public]);
    assert!(said.contains(id), "{said}");
    assert_eq!(cluster.settled().await.recovery_key, id);
    for wrong in ["AAAA", "no base64!"] {
        assert!(!node.quorate(&["recovery-key", "set", "--public-key", wrong]).status.success(), "{wrong}");
    }
    let said = node.told(&["recovery-key", "clear"]);
    assert!(said.contains("is erased"), "{said}");
    assert_eq!(cluster.settled().await.recovery_key, "");
}
