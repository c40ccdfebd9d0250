//! `quorate demo` as the fixture that scripts start.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_proto_api::WORKLOAD_HEADER;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::StatusRequest;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::workload::JwtsvidRequest;
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;

use crate::node::program;

fn demo(directory: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg("demo").arg("--dir").arg(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A demonstration that has said `ready`.
fn ready(mut command: Command) -> Child {
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"), "it ended before it was ready");
    child
}

#[test]
fn a_second_demonstration_in_the_same_directory_is_refused_and_touches_nothing() {
    let base = tempfile::tempdir().unwrap();
    let mut first = ready(demo(base.path()));
    let log = || fs::read_to_string(base.path().join("node-1/node.log")).unwrap();
    let before = log();

    let second = demo(base.path()).output().unwrap();

    assert_eq!((second.status.code(), second.stdout.len()), (Some(1), 0));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("a demonstration is running in "), "{said}");
    assert!(log().starts_with(&before) && !log().contains("in use"), "{}", log());
    assert!(first.try_wait().unwrap().is_none());
    kill(Pid::from_raw(first.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(first.wait().unwrap().success());
}

/// Issue 4: any of three nodes may die, the one that leads too; the fetch goes on, and it is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demonstration_of_three_nodes_goes_on_without_the_one_that_led_and_has_it_back() {
    let base = tempfile::tempdir().unwrap();
    let mut child = demo(base.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told: Vec<String> = lines.by_ref().take_while(|line| line != "ready").collect();
    let told = told.join("\n");
    assert!(told.contains("node-3 in singapore") && told.contains("the token of node-1 verified there"), "{told}");

    let status = async |node: &str| {
        let socket = base.path().join(node).join("admin.sock");
        let mut client = ClusterClient::new(channel(&Address::Unix(socket)));
        client.status(StatusRequest::default()).await.map(tonic::Response::into_inner)
    };
    let leader = status("node-1").await.unwrap().leader_name;
    let process = || fs::read_to_string(base.path().join(&leader).join("node.pid")).unwrap().trim().parse().unwrap();
    let killed: i32 = process();
    let names = ["node-1", "node-2", "node-3"];
    let others: Vec<&str> = names.into_iter().filter(|name| *name != leader).collect();
    // Fetches on at the others, from before the kill on; not one may fail.
    let going = Arc::new(AtomicBool::new(true));
    let fetchers: Vec<_> = others
        .iter()
        .map(|name| {
            let (socket, going) = (base.path().join(name).join("workload.sock"), Arc::clone(&going));
            tokio::spawn(async move {
                let mut fetched = 0;
                while going.load(Ordering::Relaxed) {
                    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
                    let mut request = tonic::Request::new(request);
                    request.metadata_mut().insert(WORKLOAD_HEADER, "true".parse().unwrap());
                    let mut client = SpiffeWorkloadApiClient::new(channel(&Address::Unix(socket.clone())));
                    client.fetch_jwtsvid(request).await.unwrap();
                    fetched += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                fetched
            })
        })
        .collect();

    kill(Pid::from_raw(killed), Signal::SIGKILL).unwrap();

    let mut told = Vec::new();
    for line in lines.by_ref() {
        told.push(line);
        if told.last().is_some_and(|line| line.contains("serves again")) {
            break;
        }
    }
    let told = told.join("\n");
    going.store(false, Ordering::Relaxed);
    for fetcher in fetchers {
        assert!(fetcher.await.unwrap() > 10);
    }
    assert!(told.contains(&format!("{leader} was ended by signal 9; starting it again")), "{told}");
    assert!(told.contains("the others go on: ") && told.contains("caught up to log index "), "{told}");
    assert_ne!(process(), killed);
    assert!(status(&leader).await.unwrap().ready);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_terminal_that_is_closed_ends_it_in_order_and_its_temporary_directory_goes() {
    let base = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.arg("demo").env("TMPDIR", base.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = ready(command);
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);

    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGHUP).unwrap();

    let status = child.wait().unwrap();
    assert!(status.success(), "signal {:?}", status.signal());
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "keys were in it");
}

/// Issue 6: two authorities, a relationship each way, a call across, and then `ready`; a node that is killed is started again.
#[test]
fn two_trust_domains_are_federated_and_their_workloads_call_each_other() {
    let base = tempfile::tempdir().unwrap();
    let mut command = demo(base.path());
    let mut child = command.args(["--federation", "--nodes", "1"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told: Vec<String> = lines.by_ref().take_while(|line| line != "ready").collect();
    let told = told.join("\n");
    for (domain, other) in [("one.example", "two.example"), ("two.example", "one.example")] {
        assert!(told.contains(&format!("{domain} gets the bundle of {other} from https://127.0.0.1:")), "{told}");
        assert!(told.contains(&format!("as spiffe://{other}/spire/server")), "{told}");
        let node = base.path().join(domain).join("node-1");
        let fetched = Command::new(program())
            .args(["fetch", "x509", "--socket"])
            .arg(node.join("workload.sock"))
            .output()
            .unwrap();
        let fetched = String::from_utf8_lossy(&fetched.stdout).into_owned();
        assert!(fetched.contains(&format!("spiffe://{other}\n")) && fetched.contains("Federated"), "{fetched}");
    }
    assert!(told.contains("call ") && told.contains(", and back: mutual TLS 1.3"), "{told}");

    // An SVID of one verifies with what the other's workloads get.
    let workload = |domain: &str| base.path().join(domain).join("node-1/workload.sock");
    let files = base.path().join("svid");
    let fetch = |arguments: &[&str], domain: &str| {
        let mut command = Command::new(program());
        command.arg("fetch").args(arguments).arg("--socket").arg(workload(domain)).output().unwrap()
    };
    assert!(fetch(&["x509", "--write", files.to_str().unwrap()], "one.example").status.success());
    let chain = files.join("svid.0.pem");
    let verified = fetch(&["verify", "--x509", chain.to_str().unwrap()], "two.example");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && said.contains("with the bundle of one.example"), "{verified:?}");

    let process = fs::read_to_string(base.path().join("one.example/node-1/node.pid")).unwrap();
    kill(Pid::from_raw(process.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    let mut told = Vec::new();
    for line in lines.by_ref() {
        told.push(line);
        if told.last().is_some_and(|line| line.contains("serves again")) {
            break;
        }
    }
    let told = told.join("\n");
    assert!(told.contains("one.example/node-1 was ended by signal 9; starting it again"), "{told}");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}
