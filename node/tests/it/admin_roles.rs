//! Every call of the admin socket, by those who are admitted and by a stranger (ATK-43).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use quorate_proto_api::channel::{Address, channel};
use tonic::Code;

use crate::node::{PATIENCE, TestNode};

/// A user that nothing else in these tests has.
const STRANGER: u32 = 64_323;

/// Where the caller below finds the socket.
const SOCKET_VARIABLE: &str = "QUORATE_TEST_ADMIN_SOCKET";

/// How a line of the caller's answer begins.
const LINE: &str = "-- ";

/// What is served elsewhere.
const OTHER_LISTENERS: [&str; 3] = ["workload.proto", "peer.proto", "quorate/federation/v1/federation.proto"];

/// The methods of all services of the admin socket, as their definitions have them: one that is added is found here.
fn methods() -> Vec<String> {
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/api/proto");
    let mut methods = Vec::new();
    let mut directories = vec![definitions];
    while let Some(directory) = directories.pop() {
        for file in fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if !OTHER_LISTENERS.iter().any(|other| path.ends_with(other)) {
                methods.extend(methods_in(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    methods.sort();
    methods
}

fn methods_in(definition: &str) -> Vec<String> {
    let (mut package, mut service, mut methods) = ("", "", Vec::new());
    for line in definition.lines().map(str::trim) {
        let name = |after: &str| line.strip_prefix(after)?.split([' ', ';', '(', '{']).next();
        if let Some(named) = name("package ") {
            package = named;
        } else if let Some(named) = name("service ") {
            service = named;
        } else if let Some(method) = name("rpc ") {
            methods.push(format!("/{package}.{service}/{method}"));
        }
    }
    methods
}

/// Calls every method with an empty message, and says by which code each was answered.
async fn call_all(socket: &Path) -> BTreeMap<String, Code> {
    let mut answers = BTreeMap::new();
    for method in methods() {
        let mut client = tonic::client::Grpc::new(channel(&Address::Unix(socket.to_owned())));
        client.ready().await.unwrap();
        let codec: tonic_prost::ProstCodec<(), ()> = tonic_prost::ProstCodec::default();
        let request = tonic::Request::new(());
        // As a stream of answers, which an answer by itself is too.
        let called = client.server_streaming(request, method.parse().unwrap(), codec);
        let code = match tokio::time::timeout(PATIENCE, called).await.unwrap() {
            Ok(_) => Code::Ok,
            // A method that nobody knows has no words for it.
            Err(status) if status.code() == Code::Unimplemented && status.message().is_empty() => Code::Unknown,
            Err(status) => status.code(),
        };
        answers.insert(method, code);
    }
    answers
}

#[tokio::test]
#[ignore = "the test below runs it, as another user"]
async fn every_method_is_called() {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else { return };
    for (method, code) in call_all(Path::new(&socket)).await {
        println!("{LINE}{method} {code:?}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_every_call_and_who_is_admitted_none_atk_43() {
    let node = TestNode::ready().await;
    let admitted = call_all(&node.admin_socket()).await;
    assert!(admitted.len() > 30, "{admitted:?}");
    for (method, code) in &admitted {
        assert!(!matches!(code, Code::PermissionDenied | Code::Unknown), "{method}: {code:?}");
    }
    if !nix::unistd::geteuid().is_root() {
        println!("not root: no stranger can be had, so only the admitted were tried");
        return;
    }
    // The first lock, the socket's mode, is opened, so that the second is what is tried.
    let directory = node.admin_socket().parent().unwrap().to_owned();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(node.admin_socket(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut stranger = Command::new(node.lend(&std::env::current_exe().unwrap()));
    stranger.current_dir("/");
    stranger.args(["--ignored", "--nocapture", "--exact", "admin_roles::every_method_is_called"]);
    stranger.env(SOCKET_VARIABLE, node.admin_socket()).uid(STRANGER).gid(STRANGER);
    let output = stranger.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let refused: BTreeMap<&str, &str> =
        said.lines().filter_map(|line| line.split_once(LINE)?.1.split_once(' ')).collect();
    let methods: Vec<&str> = admitted.keys().map(String::as_str).collect();
    assert_eq!(refused.keys().copied().collect::<Vec<_>>(), methods, "{}", String::from_utf8_lossy(&output.stderr));
    for (method, code) in refused {
        assert_eq!(code, "PermissionDenied", "{method}");
    }
}
