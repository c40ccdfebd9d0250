//! What an operator can get wrong: each refusal says what is wrong and what to do, and changes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use tonic::Code;

use crate::node::{TestNode, entry};
use crate::small_disk::SmallDisk;

/// Whether any process has ever written in the data directory.
fn untouched(node: &TestNode) -> bool {
    !node.path("data").exists()
}

#[tokio::test]
async fn an_unknown_option_stops_the_start_with_its_line() {
    let node = TestNode::prepare();
    node.configure("colour = true\n[admni]\nsocket = \"/x\"\n");
    let (code, said) = node.refused_start();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("operations.colour is not an option"), "{said}");
    assert!(said.contains("did you mean [admin]?"), "{said}");
    assert!(untouched(&node));
}

#[tokio::test]
async fn an_unknown_group_is_told() {
    let node = TestNode::prepare();
    let text = fs::read_to_string(node.configuration()).unwrap();
    fs::write(node.configuration(), text.replace("[admin]\n", "[admin]\ngroup = \"no-such-group\"\n")).unwrap();
    let (code, said) = node.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("this host has no group \"no-such-group\""), "{said}");
    assert!(untouched(&node));
}

#[tokio::test]
async fn a_second_node_on_the_same_directory_is_refused_and_the_first_serves_on() {
    let first = TestNode::ready().await;
    let second = TestNode::prepare();
    let text = fs::read_to_string(second.configuration()).unwrap();
    let (data, theirs) = (format!("{:?}", second.path("data")), format!("{:?}", first.path("data")));
    fs::write(second.configuration(), text.replace(&data, &theirs)).unwrap();
    let (code, said) = second.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data directory") && said.contains("another process"), "{said}");
    assert!(!second.admin_socket().exists(), "nothing was placed");
    assert!(first.status().await.unwrap().ready);
}

#[tokio::test]
async fn a_socket_in_use_is_refused_and_its_owner_keeps_it() {
    let first = TestNode::waiting().await;
    let second = TestNode::prepare();
    let text = fs::read_to_string(second.configuration()).unwrap();
    let (own, theirs) = (format!("{:?}", second.admin_socket()), format!("{:?}", first.admin_socket()));
    fs::write(second.configuration(), text.replace(&own, &theirs)).unwrap();
    let (code, said) = second.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("admin.socket") && said.contains("is in use: another process answers there"), "{said}");
    first.status().await.unwrap();
}

#[tokio::test]
async fn an_operations_port_in_use_is_told() {
    let first = TestNode::waiting().await;
    let second = TestNode::prepare();
    let text = fs::read_to_string(second.configuration()).unwrap();
    fs::write(second.configuration(), text.replace(&second.operations.to_string(), &first.operations.to_string()))
        .unwrap();
    let (code, said) = second.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("operations.listen: cannot listen on"), "{said}");
    assert!(!second.workload_socket().exists() && !second.admin_socket().exists(), "nothing is left");
}

#[tokio::test]
async fn a_socket_directory_that_others_can_write_is_refused() {
    let node = TestNode::prepare();
    fs::create_dir(node.path("w")).unwrap();
    fs::set_permissions(node.path("w"), Permissions::from_mode(0o777)).unwrap();
    let (code, said) = node.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("can be written by others (mode 0777)") && said.contains("chmod go-w"), "{said}");
    assert_eq!(fs::read_dir(node.path("w")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_data_directory_that_others_can_enter_is_refused() {
    let node = TestNode::prepare();
    fs::create_dir(node.path("data")).unwrap();
    for mode in [0o777, 0o755, 0o750] {
        fs::set_permissions(node.path("data"), Permissions::from_mode(mode)).unwrap();
        let (code, said) = node.refused_start();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("can be entered or read by others (mode 0{mode:o})")), "{said}");
        assert!(said.contains("chmod 0700"), "it says what to do: {said}");
        assert_eq!(fs::read_dir(node.path("data")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_member_whose_keys_are_gone_is_refused_and_starts_once_they_are_back() {
    let mut node = TestNode::ready().await;
    node.kill().await;
    for name in ["identity.key", "sealing.key"] {
        fs::rename(node.path("data").join(name), node.path(name)).unwrap();
        let (code, said) = node.refused_start();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(name) && said.contains("its keys cannot be made anew"), "{said}");
        assert!(said.contains("from a copy") && !said.contains("remove both"), "{said}");
        assert!(!node.path("data").join(name).exists());
    }
    for name in ["identity.key", "sealing.key"] {
        fs::rename(node.path(name), node.path("data").join(name)).unwrap();
    }
    node.start().await;
    node.wait_ready().await;
}

#[tokio::test]
async fn a_file_in_the_place_of_a_socket_is_kept() {
    let node = TestNode::prepare();
    fs::create_dir(node.path("w")).unwrap();
    fs::write(node.workload_socket(), "mine").unwrap();
    let (code, said) = node.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("exists and is not a socket (a file)"), "{said}");
    assert_eq!(fs::read_to_string(node.workload_socket()).unwrap(), "mine");
}

#[tokio::test]
async fn a_stale_socket_is_no_obstacle() {
    let mut node = TestNode::prepare();
    fs::create_dir(node.path("a")).unwrap();
    drop(UnixListener::bind(node.admin_socket()).unwrap());
    node.start().await;
    let mode = fs::metadata(node.admin_socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let mode = fs::metadata(node.workload_socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o777);
}

/// The authority's keys are of one trust domain, and sign for no other.
///
/// Accepts: BND-03. Refuses: BND-03.
#[tokio::test]
async fn another_name_or_trust_domain_than_the_directory_holds_is_refused() {
    let mut node = TestNode::ready().await;
    node.kill().await;
    let text = fs::read_to_string(node.configuration()).unwrap();
    for (from, to, says) in [
        ("\"example.org\"", "\"other.example\"", "holds the authority of trust domain example.org"),
        ("\"node-1\"", "\"node-2\"", "has no member named node-2; its members: node-1"),
    ] {
        fs::write(node.configuration(), text.replacen(from, to, 1)).unwrap();
        let (code, said) = node.refused_start();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(says), "{said}");
    }
    fs::write(node.configuration(), text).unwrap();
    node.start().await;
    node.wait_ready().await;
}

#[tokio::test]
async fn a_read_only_data_directory_is_told() {
    let node = TestNode::prepare();
    let data = node.path("data");
    let Some(disk) = SmallDisk::mount(&data, "mode=0700,size=1m") else { return };
    disk.remount("ro");
    let (code, said) = node.refused_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data") && said.to_lowercase().contains("read-only"), "{said}");
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    let mut node = TestNode::prepare();
    let data = node.path("data");
    let Some(_disk) = SmallDisk::mount(&data, "mode=0700,size=700m") else { return };
    node.start().await;
    node.found(Default::default()).await.unwrap();
    node.wait_ready().await;
    node.register("/w").await;

    let ballast = data.join("ballast");
    fs::write(&ballast, vec![1; 550 << 20]).unwrap();
    let number = std::cell::Cell::new(0);
    node.until("a write is refused", async || {
        number.set(number.get() + 1);
        let more = entry(&format!("/e/{}", number.get()), &[("unix", "uid:4242")]);
        match node.create(more).await {
            Ok(_) => false,
            Err(code) => {
                assert!(matches!(code, Code::ResourceExhausted | Code::Unavailable), "{code:?}");
                true
            }
        }
    })
    .await;
    let count = node.count().await;
    node.create(entry("/more", &[("unix", "uid:4242")])).await.unwrap_err();
    assert_eq!(node.count().await, count, "nothing changed");

    fs::remove_file(&ballast).unwrap();
    node.until("a write is taken again", async || node.create(entry("/again", &[("unix", "uid:4242")])).await.is_ok())
        .await;
}
