//! The command line against a running node: what it prints, what it writes, how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use quorate_proto_api::cluster::Policy;
use serde_json::Value;

use crate::node::{TestNode, program};

/// A user and a group that nothing else in these tests has.
const STRANGER: u32 = 64_321;
const ADMINS: u32 = 64_322;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_remove("QUORATE_ADMIN_SOCKET").env_remove("SPIFFE_ENDPOINT_SOCKET");
    command
}

/// Runs a command on the node's admin socket.
fn admin(node: &TestNode, arguments: &[&str]) -> Output {
    command(arguments).arg("--socket").arg(node.admin_socket()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn complained(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The answer of a command that must succeed, as JSON.
fn json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", complained(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn entries_are_created_shown_counted_changed_and_deleted() {
    let node = TestNode::ready().await;
    let create =
        ["entry", "create", "--spiffe-id", "spiffe://example.org/web", "--selector", "unix:uid:1", "--id", "w"];
    let output = admin(&node, &[&create[..], &["--x509-svid-ttl", "1h", "--jwt-svid-ttl", "5m"]].concat());
    assert_eq!(code(&output), 0, "{}", complained(&output));
    assert!(said(&output).contains("Parent ID      spiffe://example.org/spire/nodes\n"), "{}", said(&output));
    assert!(said(&output).contains("X509-SVID TTL  1h\n"), "{}", said(&output));

    let again = admin(&node, &create);
    assert_eq!(code(&again), 1);
    assert!(complained(&again).contains("similar entry already exists (AlreadyExists) (it is w)"));
    assert!(complained(&again).ends_with("quorate: 1 of 1 entries failed\n"), "{}", complained(&again));

    assert_eq!(said(&admin(&node, &["entry", "count", "-o", "json"])), "{\"count\": 1}\n");
    assert_eq!(said(&admin(&node, &["entry", "count", "--hint", "none"])), "0 entries\n");
    let shown = json(&admin(&node, &["entry", "show", "-o", "json"]));
    assert_eq!(shown["entries"][0]["spiffe_id"], serde_json::json!({"trust_domain": "example.org", "path": "/web"}));
    assert_eq!(shown["entries"][0]["x509_svid_ttl"], 3_600);
    assert_eq!(shown["entries"][0]["revision_number"], "0");

    let updated = json(&admin(&node, &["entry", "update", "--id", "w", "--hint", "new", "-o", "json"]));
    assert_eq!((&updated["hint"], &updated["revision_number"]), (&"new".into(), &"1".into()));
    assert_eq!(updated["x509_svid_ttl"], 3_600, "what was not given stays");

    let output = admin(&node, &["entry", "delete", "--id", "w", "--id", "gone"]);
    assert_eq!((code(&output), said(&output).as_str()), (1, "Deleted w\n"));
    assert!(complained(&output).starts_with("Not deleted: gone: "), "{}", complained(&output));
    assert_eq!(said(&admin(&node, &["entry", "show"])), "Found 0 entries\n\n");
}

#[tokio::test]
async fn a_data_file_makes_many_entries_and_a_wrong_one_makes_none() {
    let node = TestNode::ready().await;
    let entries: Vec<Value> = (0..1_200)
        .map(|number| {
            serde_json::json!({
                "spiffe_id": format!("spiffe://example.org/e/{number}"),
                "parent_id": "spiffe://example.org/spire/nodes",
                "selectors": [{"type": "unix", "value": format!("uid:{number}")}],
                "x509_svid_ttl": 60,
            })
        })
        .collect();
    let file = node.path("entries.json");
    fs::write(&file, serde_json::json!({ "entries": entries }).to_string()).unwrap();
    let created = json(&admin(&node, &["entry", "create", "--data", file.to_str().unwrap(), "-o", "json"]));
    assert_eq!(created["results"].as_array().unwrap().len(), 1_200);
    let shown = json(&admin(&node, &["entry", "show", "-o", "json"]));
    assert_eq!(shown["entries"].as_array().unwrap().len(), 1_200, "all pages are read");
    assert_eq!(shown["entries"][1_199]["spiffe_id"]["path"], "/e/1199");

    fs::write(&file, r#"{"entries": [{"spiffe_id": "spiffe://example.org/x", "parent": "oops"}]}"#).unwrap();
    let output = admin(&node, &["entry", "create", "--data", file.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(complained(&output).contains("entries[0].parent_id: missing"), "{}", complained(&output));
    assert_eq!(node.count().await, 1_200);
}

#[tokio::test]
async fn fetched_keys_are_written_for_their_owner_alone_and_never_printed() {
    let node = TestNode::ready().await;
    let fetch = |arguments: &[&str]| {
        let mut fetch = command(&[&["fetch"], arguments].concat());
        fetch.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", node.workload_socket().display()));
        fetch.output().unwrap()
    };
    let denied = fetch(&["x509"]);
    assert_eq!(code(&denied), 4, "{}", complained(&denied));
    assert!(complained(&denied).contains("quorate entry create"), "{}", complained(&denied));

    let user = format!("unix:uid:{}", nix::unistd::geteuid());
    let create = ["entry", "create", "--spiffe-id", "spiffe://example.org/me", "--selector", &user];
    assert_eq!(code(&admin(&node, &create)), 0);
    let directory = node.path("keys");
    let fetched = || fetch(&["x509", "--write", directory.to_str().unwrap()]);
    let mut output = fetched();
    node.until("the entry has reached the issuer", async || fetch(&["x509"]).status.success()).await;
    if !output.status.success() {
        output = fetched();
    }
    assert!(said(&output).contains("SPIFFE ID  spiffe://example.org/me\n"), "{}", said(&output));
    assert_eq!(mode(&directory), 0o700);
    for name in ["svid.0.pem", "svid.0.key", "bundle.0.pem"] {
        assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
    }
    let key = fs::read_to_string(directory.join("svid.0.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let printed = json(&fetch(&["x509", "-o", "json"]));
    assert!(!printed.to_string().contains("key"), "{printed}");
    assert!(!said(&output).contains(secret));

    let open = node.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = fetch(&["x509", "--write", open.to_str().unwrap()]);
    assert_eq!(code(&refused), 2, "{}", complained(&refused));
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);

    let tokens = json(&fetch(&["jwt", "--audience", "a", "--ttl", "1m", "-o", "json"]));
    assert_eq!(tokens["svids"][0]["spiffe_id"], "spiffe://example.org/me");
    let bundles = json(&fetch(&["bundles", "-o", "json"]));
    assert!(bundles["x509_bundles"]["spiffe://example.org"].is_string());
    assert!(bundles["jwt_bundles"]["spiffe://example.org"]["keys"].is_array());
}

#[tokio::test]
async fn an_operator_mints_svids_and_reads_bundle_policy_and_status() {
    let node = TestNode::waiting().await;
    for early in [&["entry", "count"][..], &["entry", "show"], &["bundle", "show"], &["policy", "show"]] {
        let output = admin(&node, early);
        assert_eq!(code(&output), 3, "{early:?}: {}", complained(&output));
        assert!(complained(&output).contains("run quorate cluster init"), "{}", complained(&output));
    }
    let policy = node.path("policy.toml");
    fs::write(&policy, "x509_svid_lifetime = \"2h\"\njwt_svid_lifetime = 60\n").unwrap();
    let init = ["cluster", "init", "--region", "eu", "--label", "rack=7", "--policy", policy.to_str().unwrap()];
    let founded = json(&admin(&node, &[&init[..], &["-o", "json"]].concat()));
    assert_eq!((&founded["trust_domain"], &founded["member"]), (&"example.org".into(), &"1".into()));
    node.wait_ready().await;
    let again = admin(&node, &init);
    assert_eq!(code(&again), 1);
    assert!(complained(&again).contains("was founded on this node before"), "{}", complained(&again));

    let status = admin(&node, &["cluster", "status"]);
    assert!(said(&status).contains("Role             leader\n"), "{}", said(&status));
    let members = admin(&node, &["cluster", "members"]);
    assert!(said(&members).contains("rack=7"), "{}", said(&members));
    assert_eq!(json(&admin(&node, &["cluster", "status", "-o", "json"]))["role"], "ROLE_LEADER");

    let shown = admin(&node, &["policy", "show"]);
    assert!(said(&shown).contains("x509_svid_lifetime = \"2h\"\n"), "{}", said(&shown));
    fs::write(&policy, said(&shown)).unwrap();
    assert_eq!(code(&admin(&node, &["policy", "set", "--file", policy.to_str().unwrap()])), 0);
    let set = json(&admin(&node, &["policy", "set", "jwt_svid_lifetime=90s", "-o", "json"]));
    assert_eq!((&set["policy"]["jwt_svid_lifetime"], &set["policy"]["revision"]), (&"90".into(), &"3".into()));
    let contradiction = admin(&node, &["policy", "set", "x509_svid_lifetime=30d"]);
    assert_eq!(code(&contradiction), 1);
    assert!(complained(&contradiction).contains("x509_svid_lifetime is 2592000 s, more than 1/2 of issuing_lifetime"));

    let bundle = admin(&node, &["bundle", "show"]);
    assert!(said(&bundle).contains("Trust domain  example.org\n"), "{}", said(&bundle));
    let directory = node.path("minted");
    let mint = ["mint", "x509", "--spiffe-id", "spiffe://example.org/m", "--dns-name", "m.test", "--ttl", "10m"];
    let output = admin(&node, &[&mint[..], &["--write", directory.to_str().unwrap()]].concat());
    assert_eq!(code(&output), 0, "{}", complained(&output));
    for name in ["svid.pem", "key.pem", "bundle.pem"] {
        assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
    }
    assert_eq!(code(&admin(&node, &mint)), 2, "a key that is written nowhere is of no use");
    let token =
        json(&admin(&node, &["mint", "jwt", "--spiffe-id", "spiffe://example.org/m", "--audience", "a", "-o", "json"]));
    assert_eq!(token["svid"]["id"]["path"], "/m");
}

#[tokio::test]
async fn exit_codes_tell_what_kind_of_failure_it_was() {
    let node = TestNode::waiting().await;
    let nobody = command(&["entry", "count", "--socket", "/nonexistent/admin.sock"]).output().unwrap();
    assert_eq!(code(&nobody), 3);
    assert!(complained(&nobody).contains("no node answers on unix:///nonexistent/admin.sock: No such file"));
    assert!(complained(&nobody).contains("is the node running?"), "{}", complained(&nobody));

    for arguments in [
        &["entry", "creat"][..],
        &["entry", "create", "--spiffe-id", "spiffe://example.org/", "--selector", "a:b"],
        &["entry", "create", "--spiffe-id", "spiffe://example.org/a", "--selector", "unix"],
        &["fetch", "x509"],
        &["fetch", "x509", "--socket", "unix://host/path"],
        &["policy", "set", "nonsense=1"],
        &["config", "check", "--config", "/dev/null"],
        &["config", "check", "--config", "/nonexistent"],
        &["node", "--config", "/nonexistent"],
        &["policy", "set", "--file", "/nonexistent"],
        &["policy", "set", "--file", program().to_str().unwrap()],
        &["entry", "create", "--data", "/nonexistent"],
        &["entry", "count", "--match-selectors", "any"],
        &["entry", "count", "--socket", "/"],
        &["entry", "count", "--socket", "/dev/null"],
        &["entry", "count", "--socket", &format!("/{}", "d".repeat(107))],
    ] {
        let output = command(arguments).output().unwrap();
        assert_eq!(code(&output), 2, "{arguments:?}: {}", complained(&output));
        assert!(!complained(&output).is_empty());
    }
    let unfounded = admin(&node, &["policy", "show"]);
    assert_eq!(code(&unfounded), 3, "{}", complained(&unfounded));
    assert!(complained(&unfounded).contains("quorate cluster init"), "{}", complained(&unfounded));
    node.found(Policy::default()).await.unwrap();
    assert_eq!(code(&admin(&node, &["entry", "show", "--id", "none"])), 1);
    let foreign = ["entry", "create", "--spiffe-id", "spiffe://other.org/a", "--selector", "a:b"];
    let foreign = complained(&admin(&node, &foreign));
    assert!(
        foreign.contains("Not created: spiffe_id spiffe://other.org/a "),
        "it speaks of what was written: {foreign}"
    );
    let other_socket = command(&["entry", "count", "--socket"]).arg(node.workload_socket()).output().unwrap();
    assert!(complained(&other_socket).contains("This may be the Workload API's socket"), "{other_socket:?}");
    let by_variable =
        command(&["cluster", "status"]).env("QUORATE_ADMIN_SOCKET", node.admin_socket()).output().unwrap();
    assert_eq!(code(&by_variable), 0, "{}", complained(&by_variable));

    node.signal(Signal::SIGSTOP);
    let state = format!("/proc/{}/stat", node.pid());
    node.until("it is halted", async || fs::read_to_string(&state).unwrap().contains(") T ")).await;
    let silent = admin(&node, &["entry", "count"]);
    node.signal(Signal::SIGCONT);
    assert_eq!(code(&silent), 3);
    let told = complained(&silent);
    assert!(told.contains("nobody answered in time (DeadlineExceeded)\n  No answer came."), "{told}");
}

#[tokio::test]
async fn a_list_without_entries_and_a_policy_from_standard_input_are_taken() {
    let node = TestNode::waiting().await;
    node.found(Policy::default()).await.unwrap();
    let file = node.path("entries.json");
    fs::write(&file, r#"{"entries": []}"#).unwrap();
    let output = admin(&node, &["entry", "create", "--data", file.to_str().unwrap()]);
    assert_eq!(code(&output), 0);
    assert!(said(&output).contains("nothing was created"), "{}", said(&output));

    let policy = node.path("policy.toml");
    fs::write(&policy, "jwt_svid_lifetime = \"60s\"\n").unwrap();
    let mut set = command(&["policy", "set", "--file", "-", "--socket", node.admin_socket().to_str().unwrap()]);
    let output = set.stdin(fs::File::open(policy).unwrap()).output().unwrap();
    assert!(said(&output).contains("jwt_svid_lifetime  = \"1m\""), "{output:?}");
}

#[tokio::test]
async fn only_root_the_nodes_user_and_the_admin_group_are_admitted() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root: the users of this test cannot be had, so it checks nothing");
        return;
    }
    let mut node = TestNode::prepare();
    let text = fs::read_to_string(node.configuration()).unwrap();
    fs::write(node.configuration(), text.replace("[admin]\n", &format!("[admin]\ngroup = {ADMINS}\n"))).unwrap();
    node.start().await;
    // The first lock, the socket's mode, is opened, so that the second is what is tried.
    let directory = node.admin_socket().parent().unwrap().to_owned();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(node.admin_socket(), fs::Permissions::from_mode(0o777)).unwrap();
    let socket = node.admin_socket();
    let lent = node.lend(program());
    let status_as = |uid: u32, gid: u32| {
        let mut status = Command::new(&lent);
        status.args(["cluster", "status", "--socket", socket.to_str().unwrap()]).current_dir("/");
        status.uid(uid).gid(gid).output().unwrap()
    };
    let stranger = status_as(STRANGER, STRANGER);
    assert_eq!(code(&stranger), 4, "{}", complained(&stranger));
    let refusal = "authorization denied for method /quorate.cluster.v1.Cluster/Status (PermissionDenied)";
    assert!(complained(&stranger).contains(refusal), "{}", complained(&stranger));
    assert!(complained(&stranger).contains("admin.group"), "{}", complained(&stranger));
    let admitted = status_as(STRANGER, ADMINS);
    assert_eq!(code(&admitted), 0, "{}", complained(&admitted));
    assert!(node.log().contains("a call on the admin socket was refused"));

    fs::set_permissions(node.admin_socket(), fs::Permissions::from_mode(0o660)).unwrap();
    let kept_out = status_as(STRANGER, STRANGER);
    assert_eq!(code(&kept_out), 4, "{}", complained(&kept_out));
    assert!(complained(&kept_out).contains("You may not open this socket"), "{}", complained(&kept_out));
}
