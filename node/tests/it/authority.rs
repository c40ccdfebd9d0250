//! The life of authorities as operators and SPIRE's tools move it, at nodes that do not lead (issue 5, points 2 to 4).

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_proto_api::cluster::Policy;
use quorate_proto_api::spire::bundle::GetBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::localauthority::local_authority_client::LocalAuthorityClient;
use quorate_proto_api::spire::localauthority::*;
use quorate_proto_api::workload::X509svidRequest;
use quorate_proto_identity::Certificate;
use serde_json::Value;
use tonic::Code;
use tonic::transport::Channel;

use crate::cluster::TestCluster;
use crate::node::{TestNode, program};

/// A cluster of three voters, and a node of it that does not lead.
async fn three() -> (TestCluster, usize) {
    let cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let other = (cluster.leader().await + 1) % 3;
    (cluster, other)
}

fn shown(node: &TestNode) -> Value {
    let text = node.told(&["authority", "show", "--consistent", "-o", "json"]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|authority| authority["id"].as_str().unwrap().to_owned()).collect()
}

/// The roots of the bundle, by their IDs, each with whether it is tainted.
async fn roots(node: &TestNode) -> BTreeSet<(String, bool)> {
    let request = GetBundleRequest { output_mask: None };
    let bundle = BundleClient::new(node.admin_channel()).get_bundle(request).await.unwrap().into_inner();
    let root = |asn1: &[u8]| Certificate::parse(asn1).unwrap().authority_id().to_string();
    bundle.x509_authorities.iter().map(|authority| (root(&authority.asn1), authority.tainted)).collect()
}

/// Issue 5, point 3.
#[tokio::test]
async fn the_command_line_shows_authorities_and_moves_them_at_a_node_that_does_not_lead() {
    let (cluster, other) = three().await;
    let node = &cluster.nodes[other];
    let before = shown(node);
    let first = before["x509"]["active"]["id"].as_str().unwrap().to_owned();
    assert_eq!(before["x509"]["prepared"], Value::Null);
    assert!(before["x509"]["old"].as_array().unwrap().is_empty());
    assert!(before["jwt"]["active"]["id"].is_string() && before["jwt"]["active"]["not_after"].is_string());

    let none = node.quorate(&["authority", "activate", "x509"]);
    assert_eq!(none.status.code(), Some(1));
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("no x509 authority is prepared; `quorate authority prepare x509`"), "{said}");

    assert!(node.told(&["authority", "prepare", "x509"]).contains("is prepared"));
    let second = shown(node)["x509"]["prepared"]["id"].as_str().unwrap().to_owned();
    let drawn = node.told(&["authority", "timeline"]);
    assert!(
        drawn.contains(&second[..10]) && drawn.contains("──── now ────") && drawn.contains("is activated"),
        "{drawn}"
    );
    let timeline: Value = serde_json::from_str(&node.told(&["authority", "timeline", "-o", "json"])).unwrap();
    let coming =
        |step: &Value| step["done"] == false && step["event"] == "activated" && step["authority_id"] == *second;
    assert!(timeline["steps"].as_array().unwrap().iter().any(coming), "{timeline}");

    let dry = node.told(&["authority", "activate", "x509", "--dry-run"]);
    assert!(dry.contains(&second) && dry.contains("nothing was changed"), "{dry}");
    assert_eq!(shown(node)["x509"]["active"]["id"], *first, "a dry run changes nothing");
    let done: Value = serde_json::from_str(&node.told(&["authority", "activate", "x509", "-o", "json"])).unwrap();
    assert_eq!(done["authority"]["id"], *second);
    assert_eq!(done["authority"]["state"], "active");
    assert_eq!(ids(&shown(node)["x509"]["old"]), [first.as_str()]);

    let active = node.quorate(&["authority", "taint", "x509", "--id", &second]);
    assert_eq!(active.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&active.stderr).contains("replace --compromised x509"),
        "what to do instead is said"
    );
    assert_eq!(node.quorate(&["authority", "revoke", "x509", "--id", &first]).status.code(), Some(1), "untainted");
    assert!(node.told(&["authority", "taint", "x509"]).contains("is tainted"));
    assert!(roots(node).await.contains(&(first.clone(), true)));
    assert!(node.told(&["authority", "revoke", "x509"]).contains("is revoked"));
    assert_eq!(roots(node).await, BTreeSet::from([(second, false)]));
    assert_eq!(ids(&shown(node)["x509"]["revoked"]), [first]);
}

/// Issue 5, point 4: one command, for both kinds, and every member and stream is on the new one when it is answered.
#[tokio::test]
async fn a_replacement_after_a_leak_is_one_command_and_leaves_nothing_of_the_old_one() {
    let (cluster, other) = three().await;
    let node = &cluster.nodes[other];
    node.register("/w").await;
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    for kind in ["x509", "jwt"] {
        let old = shown(node)[kind]["active"]["id"].as_str().unwrap().to_owned();
        let output = node.quorate(&["authority", "replace", "--compromised", kind]);
        let (said, meanwhile) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}{meanwhile}");
        assert!(said.contains("is out of the bundle"), "{said}");
        assert!(meanwhile.contains("members 3/3"), "{meanwhile}");
        let after = shown(node);
        assert_ne!(after[kind]["active"]["id"], *old);
        assert_eq!(ids(&after[kind]["revoked"]), [old]);
    }
    let root = shown(node)["x509"]["active"]["id"].as_str().unwrap().to_owned();
    let under = loop {
        let svid = stream.message().await.unwrap().unwrap().svids.remove(0);
        let issuing = Certificate::parse_concatenated(&svid.x509_svid).unwrap().remove(1);
        let key_id = issuing.extensions().authority_key_id.clone().unwrap();
        let under: String = key_id.iter().map(|byte| format!("{byte:02x}")).collect();
        if under == root {
            break under;
        }
    };
    assert_eq!(under, root, "the stream that was open has been sent an SVID under the new root");
}

/// Issue 5, point 2: the gate, for whom it waits, and `--force`.
#[tokio::test]
async fn an_activation_waits_for_a_live_member_that_is_cut_off_and_goes_past_it_only_by_force() {
    let (cluster, other) = three().await;
    let node = &cluster.nodes[other];
    let (leader, away) = (cluster.leader().await, &cluster.nodes[(other + 1) % 3]);
    let away = if cluster.nodes[leader].name == away.name { &cluster.nodes[(other + 2) % 3] } else { away };
    away.signal(Signal::SIGSTOP);
    node.told(&["authority", "prepare", "jwt"]);
    let second = shown(node)["jwt"]["prepared"]["id"].as_str().unwrap().to_owned();

    let waited = node.quorate(&["authority", "activate", "jwt", "--timeout", "4s"]);
    let said = String::from_utf8_lossy(&waited.stderr);
    assert_eq!(waited.status.code(), Some(1), "{said}");
    assert!(said.contains("FailedPrecondition") && said.contains(&away.name), "{said}");
    assert!(said.contains("waiting: "), "it was shown meanwhile: {said}");
    assert_eq!(shown(node)["jwt"]["prepared"]["id"], *second, "nothing was changed");

    let asked = node.quorate(&["authority", "activate", "jwt", "--force"]);
    let said = String::from_utf8_lossy(&asked.stderr);
    assert_eq!(asked.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("The workloads of {} will fail", away.name)) && said.contains("--yes"), "{said}");
    let forced = node.quorate(&["authority", "activate", "jwt", "--force", "--yes"]);
    let said = String::from_utf8_lossy(&forced.stdout);
    // The member that stands still cannot say that it has applied it.
    assert!(matches!(forced.status.code(), Some(0 | 3)), "{said}{}", String::from_utf8_lossy(&forced.stderr));
    assert_eq!(shown(node)["jwt"]["active"]["id"], *second);
    away.signal(Signal::SIGCONT);
    let forced = |node: &TestNode| node.log().contains("was forced past its gate");
    assert!(cluster.nodes.iter().any(forced), "the leader's log has a line on it");
    // And the trails have who asked: the step on every node, what it did not wait for where it was decided.
    let audited = |node: &TestNode, what: &str| {
        let told = node.told(&["audit", "show", "--what", what, "--who", "unix:uid=", "-o", "json"]);
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let activated = audited(node, "jwt_authority.activate");
    assert_eq!(activated.last().unwrap()["detail"]["authority"], *second, "{activated:?}");
    let forced = audited(&cluster.nodes[leader], "authority.force");
    assert_eq!(forced.len(), 1, "{forced:?}");
    assert_eq!(forced[0]["detail"]["authority"], *second);
    assert!(forced[0]["detail"]["waits_for"].as_str().unwrap().contains(&away.name), "{forced:?}");
}

/// spire-api.md section 11, over the admin socket of a node that does not lead.
#[tokio::test]
async fn spires_local_authority_api_moves_roots_by_spires_rules_at_a_node_that_does_not_lead() {
    let (cluster, other) = three().await;
    let node = &cluster.nodes[other];
    let mut api = LocalAuthorityClient::new(node.admin_channel());
    let state = async |api: &mut LocalAuthorityClient<Channel>| {
        api.get_x509_authority_state(GetX509AuthorityStateRequest {}).await.unwrap().into_inner()
    };
    let first = state(&mut api).await.active.unwrap();
    assert!(first.expires_at > 0 && first.upstream_authority_subject_key_id.is_empty());
    let activate = |id: &str| ActivateX509AuthorityRequest { authority_id: id.to_owned() };
    let taint = |id: &str| TaintX509AuthorityRequest { authority_id: id.to_owned() };
    let revoke = |id: &str| RevokeX509AuthorityRequest { authority_id: id.to_owned() };

    // "id required and equal to next slot's, else InvalidArgument"; "current → InvalidArgument".
    for id in ["", &first.authority_id, "00ff"] {
        assert_eq!(api.activate_x509_authority(activate(id)).await.unwrap_err().code(), Code::InvalidArgument, "{id}");
        assert_eq!(api.taint_x509_authority(taint(id)).await.unwrap_err().code(), Code::InvalidArgument, "{id}");
        assert_eq!(api.revoke_x509_authority(revoke(id)).await.unwrap_err().code(), Code::InvalidArgument, "{id}");
    }
    let prepared = api.prepare_x509_authority(PrepareX509AuthorityRequest {}).await.unwrap();
    assert!(prepared.metadata().contains_key(LOG_INDEX_HEADER));
    let second = prepared.into_inner().prepared_authority.unwrap();
    assert_eq!(state(&mut api).await.prepared.unwrap(), second, "what was answered here is read here");
    let again = api.prepare_x509_authority(PrepareX509AuthorityRequest {}).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
    let early = api.taint_x509_authority(taint(&second.authority_id)).await.unwrap_err();
    assert_eq!(early.code(), Code::InvalidArgument, "a prepared one is not tainted");

    // By way of another node than the one that prepared it.
    let mut elsewhere = LocalAuthorityClient::new(cluster.nodes[(other + 1) % 3].admin_channel());
    let activated = elsewhere.activate_x509_authority(activate(&second.authority_id)).await.unwrap().into_inner();
    assert_eq!(activated.activated_authority.unwrap(), second);
    let untainted = elsewhere.revoke_x509_authority(revoke(&first.authority_id)).await.unwrap_err();
    assert_eq!(untainted.code(), Code::Internal, "{untainted}");
    let next_is_old = elsewhere.activate_x509_authority(activate(&first.authority_id)).await.unwrap_err();
    assert_eq!(next_is_old.code(), Code::Internal, "{next_is_old}");
    let tainted = elsewhere.taint_x509_authority(taint(&first.authority_id)).await.unwrap().into_inner();
    assert_eq!(tainted.tainted_authority.unwrap().authority_id, first.authority_id);
    assert_eq!(elsewhere.taint_x509_authority(taint(&first.authority_id)).await.unwrap_err().code(), Code::Internal);
    let old = elsewhere.get_x509_authority_state(GetX509AuthorityStateRequest {}).await.unwrap().into_inner().old;
    assert_eq!(old.unwrap().authority_id, first.authority_id, "tainted, it is still the old one");
    elsewhere.revoke_x509_authority(revoke(&first.authority_id)).await.unwrap();
    assert_eq!(roots(&cluster.nodes[(other + 1) % 3]).await, BTreeSet::from([(second.authority_id, false)]));
    assert!(cluster.nodes[(other + 1) % 3].log().contains("X.509 authority revoked successfully"), "section 20");
}

/// spire-api.md section 11: token keys, and what SPIRE refuses whole.
#[tokio::test]
async fn spires_local_authority_api_moves_token_keys_and_refuses_upstream_and_wit() {
    let (cluster, other) = three().await;
    let mut api = LocalAuthorityClient::new(cluster.nodes[other].admin_channel());
    let state = api.get_jwt_authority_state(GetJwtAuthorityStateRequest {}).await.unwrap().into_inner();
    let (first, none) = (state.active.unwrap().authority_id, (state.prepared, state.old));
    assert_eq!(none, (None, None));
    let second = api.prepare_jwt_authority(PrepareJwtAuthorityRequest {}).await.unwrap().into_inner();
    let second = second.prepared_authority.unwrap().authority_id;
    api.activate_jwt_authority(ActivateJwtAuthorityRequest { authority_id: second.clone() }).await.unwrap();
    let taint = TaintJwtAuthorityRequest { authority_id: first.clone() };
    let tainted = api.taint_jwt_authority(taint).await.unwrap().into_inner().tainted_authority.unwrap();
    assert_eq!((tainted.authority_id, tainted.expires_at), (first.clone(), 0), "the answer lacks expires_at");
    let prepared = api.revoke_jwt_authority(RevokeJwtAuthorityRequest { authority_id: second }).await.unwrap_err();
    assert_eq!(prepared.code(), Code::InvalidArgument, "the current one");
    api.revoke_jwt_authority(RevokeJwtAuthorityRequest { authority_id: first }).await.unwrap();

    let upstream = TaintX509UpstreamAuthorityRequest { subject_key_id: "aa".into() };
    assert_eq!(api.taint_x509_upstream_authority(upstream).await.unwrap_err().code(), Code::FailedPrecondition);
    let upstream = RevokeX509UpstreamAuthorityRequest { subject_key_id: "aa".into() };
    assert_eq!(api.revoke_x509_upstream_authority(upstream).await.unwrap_err().code(), Code::FailedPrecondition);
    let wit = [
        api.get_wit_authority_state(GetWitAuthorityStateRequest {}).await.map(drop),
        api.prepare_wit_authority(PrepareWitAuthorityRequest {}).await.map(drop),
        api.activate_wit_authority(ActivateWitAuthorityRequest::default()).await.map(drop),
        api.taint_wit_authority(TaintWitAuthorityRequest::default()).await.map(drop),
        api.revoke_wit_authority(RevokeWitAuthorityRequest::default()).await.map(drop),
    ];
    for answer in wit {
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    }
}

/// Issue 5, points 1 and 4: a change of leadership neither skips nor repeats a step, and nobody has to ask again.
#[tokio::test]
async fn a_replacement_goes_on_by_itself_when_the_leader_is_killed_in_the_middle_of_it() {
    // Short lives, so that a member that is dead is not waited for longer than the test's patience.
    let policy = Policy {
        root_lifetime: 600,
        issuing_lifetime: 20,
        x509_svid_lifetime: 10,
        refresh_hint: 10,
        ..Policy::default()
    };
    let mut cluster = TestCluster { nodes: vec![TestNode::ready_with(policy).await] };
    cluster.join("node-2").await;
    cluster.join("node-3").await;
    cluster.voting(3).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    cluster.nodes[other].register("/w").await;
    let mut stream = cluster.nodes[other].workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let old = shown(&cluster.nodes[other])["x509"]["active"]["id"].as_str().unwrap().to_owned();

    let command = Command::new(program())
        .args(["authority", "replace", "--compromised", "x509", "--timeout", "50s", "--socket"])
        .arg(cluster.nodes[other].admin_socket())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let find = |authorities: &Value| {
        let lists = [&authorities["x509"]["old"], &authorities["x509"]["revoked"]].map(|list| list.as_array().cloned());
        let others = lists.into_iter().flatten().flatten();
        others.chain([authorities["x509"]["active"].clone()]).find(|authority| authority["id"] == *old)
    };
    let node = &cluster.nodes[other];
    let is_recorded = async || find(&shown(node)).is_some_and(|old| old["suspected_at"].is_string());
    node.until("the replacement is recorded", is_recorded).await;
    cluster.nodes[leader].kill().await;
    let node = &cluster.nodes[other];
    let is_done = async || {
        let output = node.quorate(&["authority", "show", "-o", "json"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let authorities: Value = serde_json::from_str(&text).unwrap_or_default();
        find(&authorities).is_some_and(|old| old["state"] == "revoked")
    };
    node.until("another leader has finished it", is_done).await;
    let output = command.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("is out of the bundle"), "the one who asked is told of the end: {said}");
    let roots = roots(node).await;
    assert!(!roots.iter().any(|(root, _)| *root == old), "{roots:?}");
    assert!(roots.len() <= 2, "no step was taken twice: {roots:?}");

    let leader = &mut cluster.nodes[leader];
    leader.start().await;
    leader.wait_ready().await;
    assert!(!self::roots(leader).await.iter().any(|(root, _)| *root == old), "who comes back has it from the log");
}
