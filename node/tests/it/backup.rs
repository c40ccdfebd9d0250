//! Every node is lost, and a backup is left (FLT-26; design section 3, sealing).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use quorate_proto_api::workload::{X509svidRequest, X509svidResponse};
use quorate_proto_identity::x509::Purpose;
use quorate_proto_identity::{Bundle, Certificate, TrustDomain, verify_x509_svid};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::TestCluster;
use crate::node::{PATIENCE, TestNode, entry, now, program};
use crate::small_disk::SmallDisk;

/// A directory on a machine that is no node: the recovery key, and backups.
pub(crate) struct Vault {
    directory: TempDir,
}

impl Vault {
    /// A recovery key, made offline and set at a node.
    pub(crate) fn at(node: &TestNode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let vault = Self { directory };
        let made = json(&offline(&["recovery-key", "new", "-o", "json", "--write", vault.path("").to_str().unwrap()]));
        node.told(&["recovery-key", "set", "--public-key", made["public_key"].as_str().unwrap()]);
        vault
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn key(&self) -> PathBuf {
        self.path("recovery.pem")
    }

    /// A backup from this node, as soon as every key is sealed to the recovery key.
    pub(crate) fn backup(&self, node: &TestNode, name: &str) -> PathBuf {
        let file = self.path(name);
        let since = Instant::now();
        loop {
            let output = node.quorate(&["cluster", "backup", "create", file.to_str().unwrap()]);
            if output.status.success() {
                return file;
            }
            let patient = since.elapsed() < PATIENCE && said(&output).contains("not sealed to the recovery key yet");
            assert!(patient, "{}", said(&output));
        }
    }

    /// The command that restores a backup as this node.
    fn restoring(&self, file: &Path, node: &TestNode) -> Command {
        let mut command = Command::new(program());
        command.args(["cluster", "restore", "-o", "json"]).arg(file).arg("--config").arg(node.configuration());
        command.arg("--recovery-key").arg(self.key()).stdin(Stdio::null());
        command
    }

    /// Restores a backup as this node.
    pub(crate) fn restore(&self, file: &Path, node: &TestNode) -> Value {
        json(&self.restoring(file, node).output().unwrap())
    }
}

fn offline(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

async fn fetched(node: &TestNode) -> X509svidResponse {
    let mut stream = node.workload().fetch_x509svid(X509svidRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap()
}

/// Whether the SVID in one answer verifies with the bundle in another.
fn verifies(svid: &X509svidResponse, bundle: &X509svidResponse) -> bool {
    let mut roots = Bundle::new(TrustDomain::new("example.org").unwrap());
    for root in Certificate::parse_concatenated(&bundle.svids[0].bundle).unwrap() {
        roots.add_x509_authority(root);
    }
    let chain = Certificate::parse_concatenated(&svid.svids[0].x509_svid).unwrap();
    let chain: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    verify_x509_svid(&chain, &roots, now(), Purpose::Any).is_ok()
}

fn roots(answer: &X509svidResponse) -> usize {
    Certificate::parse_concatenated(&answer.svids[0].bundle).unwrap().len()
}

#[tokio::test]
async fn a_new_cluster_goes_on_where_the_backup_was_made_and_the_old_workloads_with_it() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let vault = Vault::at(&cluster.nodes[0]);
    cluster.nodes[0].register("/workload").await;
    for number in 0..5 {
        cluster.nodes[0].create(entry(&format!("/w{number}"), &[("unix", "uid:1")])).await.unwrap();
    }
    cluster.invite("never-used");
    // From a member that does not lead; what was answered before is in it.
    let follower = (cluster.leader().await + 1) % 3;
    let file = vault.backup(&cluster.nodes[follower], "backup");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = cluster.nodes[0].status().await.unwrap();
    let old = fetched(&cluster.nodes[0]).await;
    cluster.nodes[0].create(entry("/after-the-backup", &[("unix", "uid:1")])).await.unwrap();
    for node in &mut cluster.nodes {
        node.kill().await;
    }

    // Anywhere, without a node.
    let path = file.to_str().unwrap();
    let clear = json(&offline(&["cluster", "backup", "verify", path, "-o", "json"]));
    assert_eq!((clear["opened"].as_bool(), number(&clear["entries"])), (Some(false), 6));
    assert_eq!(clear["cluster_id"].as_str(), Some(before.cluster_id.as_str()));
    let key = vault.key();
    let whole = offline(&["cluster", "backup", "verify", path, "-o", "json", "--recovery-key", key.to_str().unwrap()]);
    let whole = json(&whole);
    assert_eq!(
        (whole["opened"].as_bool(), whole["roots"].as_u64(), whole["token_keys"].as_u64()),
        (Some(true), Some(1), Some(1))
    );

    let mut first = TestNode::named("node-1");
    let dry = json(&vault.restoring(&file, &first).arg("--dry-run").output().unwrap());
    assert!(dry["dry_run"].as_bool().unwrap() && dry["notes"].to_string().contains("may be lost"), "{dry}");
    let restored = vault.restore(&file, &first);
    assert!(restored["notes"].to_string().contains("stop it"), "{restored}");
    assert_eq!(number(&restored["revoked_issuing_certificates"]), 3);
    let sequence = number(&restored["spiffe_sequence"]);
    let least = (u64::try_from(now().0).unwrap() - 60) << 20;
    assert!(sequence > before.bundle_sequence && sequence >= least && sequence < 1 << 53, "{sequence}");

    first.start().await;
    first.wait_ready().await;
    let status = first.status().await.unwrap();
    assert_eq!((status.entries_count, status.founded), (6, true));
    assert_ne!(status.cluster_id, before.cluster_id);
    assert!(status.bundle_sequence >= sequence);
    assert_eq!(status.members.len(), 1);
    assert!(!first.told(&["cluster", "invitations"]).contains("never-used"));

    // An old workload's SVID verifies with the new bundle, and a new one's with the old bundle until it knows better.
    first.until("another root signs", async || roots(&fetched(&first).await) == 2).await;
    let new = fetched(&first).await;
    assert!(verifies(&old, &new) && verifies(&old, &old) && verifies(&new, &new));

    // Others join it, and it is a cluster again.
    let mut cluster = TestCluster { nodes: vec![first] };
    cluster.join("node-2").await;
    cluster.join("node-3").await;
    cluster.voting(3).await;
    cluster.nodes[2].create(entry("/later", &[("unix", "uid:1")])).await.unwrap();
    assert_eq!(cluster.settled().await.entries_count, 7);
    // INV-09: ahead again, even by the same backup.
    let again = vault.restore(&file, &TestNode::named("node-1"));
    assert!(number(&again["spiffe_sequence"]) > cluster.settled().await.bundle_sequence);
    // The recovery key stays one, so a backup of what was restored can be made and opened.
    let second = vault.backup(&cluster.nodes[1], "second");
    let second = second.to_str().unwrap();
    let second =
        offline(&["cluster", "backup", "verify", second, "-o", "json", "--recovery-key", key.to_str().unwrap()]);
    assert_eq!(number(&json(&second)["entries"]), 7);
}

/// FLT-25, FLT-26: what is left of a cluster that can decide nothing any more is enough for another one.
#[tokio::test]
async fn a_node_that_is_left_without_a_quorum_gives_a_backup_when_it_is_told_that_it_is_left() {
    let mut cluster = TestCluster::of(3).await;
    cluster.voting(3).await;
    let vault = Vault::at(&cluster.nodes[0]);
    cluster.nodes[0].register("/workload").await;
    vault.backup(&cluster.nodes[0], "sealed-by-now");
    let before = cluster.settled().await;
    let old = fetched(&cluster.nodes[0]).await;
    cluster.nodes[1].kill().await;
    cluster.nodes[2].kill().await;

    let file = vault.path("left");
    let create = ["cluster", "backup", "create", file.to_str().unwrap()];
    let refused = cluster.nodes[0].quorate(&create);
    assert!(!refused.status.success() && said(&refused).contains("--without-quorum"), "{}", said(&refused));
    assert!(!file.exists());
    let made = cluster.nodes[0].quorate(&[&create[..], &["--without-quorum"]].concat());
    assert!(made.status.success() && said(&made).contains("nobody was asked"), "{}", said(&made));
    cluster.nodes[0].kill().await;

    let mut first = TestNode::named("node-1");
    let restored = vault.restore(&file, &first);
    assert!(number(&restored["spiffe_sequence"]) > before.bundle_sequence);
    first.start().await;
    first.wait_ready().await;
    assert_eq!(first.status().await.unwrap().entries_count, before.entries_count);
    assert!(verifies(&old, &fetched(&first).await));
}

#[tokio::test]
async fn without_a_recovery_key_no_backup_is_made_and_it_says_how_to_make_one() {
    let node = TestNode::ready().await;
    let file = node.path("backup");
    let output = node.quorate(&["cluster", "backup", "create", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("quorate recovery-key new --write DIR"), "{}", said(&output));
    assert!(
        !fs::read_dir(node.path(""))
            .unwrap()
            .any(|name| { name.unwrap().file_name().to_string_lossy().contains("backup") })
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_backup_is_told_and_the_directory_stays_empty() {
    let node = TestNode::ready().await;
    let vault = Vault::at(&node);
    let file = vault.backup(&node, "backup");
    let target = TestNode::named("node-9");
    let refused = |file: &Path, key: &Path, more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["cluster", "restore"]).arg(file).arg("--config").arg(target.configuration());
        let output = command.arg("--recovery-key").arg(key).args(more).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    };
    // Nothing is replaced, and not by another backup either.
    let again = node.quorate(&["cluster", "backup", "create", file.to_str().unwrap()]);
    assert!(said(&again).contains("a backup replaces nothing"), "{}", said(&again));

    let other = Vault::at(&node);
    let key = vault.key();
    let said_of = refused(&file, &other.key(), &[]);
    assert!(said_of.contains("is sealed to recovery key"), "{said_of}");
    fs::set_permissions(other.key(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&file, &other.key(), &[]).contains("chmod 600"));
    assert!(refused(&file, &file, &[]).contains("no recovery key"));
    let said_of = refused(&file, &key, &["--signer", "AAAA"]);
    assert!(said_of.contains("--signer is AAAA"), "{said_of}");

    let whole = fs::read(&file).unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = vault.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let altered = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        bytes
    };
    let cases = [
        ("magic", altered(0), "no backup of Quorate"),
        ("format", altered(9), "use the program version that made it"),
        ("header", altered(60), "header of the backup is damaged or was altered"),
        ("content", altered(whole.len() - 500), "does not open"),
        ("end", altered(whole.len() - 20), "damaged or was altered"),
        ("cut", whole[..whole.len() - 300].to_vec(), "is cut off"),
        ("longer", [&whole[..], b"x"].concat(), "bytes follow the end"),
        ("text", b"something else".to_vec(), "no backup of Quorate"),
    ];
    for (name, bytes, expected) in cases {
        let path = written(name, &bytes);
        let said_of = refused(&path, &key, &[]);
        assert!(said_of.contains(expected), "{name}: {said_of}");
        // The same without the key, but for what only the key shows.
        let path = path.to_str().unwrap();
        let output = offline(&["cluster", "backup", "verify", path]);
        assert!(!output.status.success(), "{name}: {}", said(&output));
        let key = key.to_str().unwrap();
        let output = offline(&["cluster", "backup", "verify", path, "--recovery-key", key]);
        assert!(!output.status.success() && said(&output).contains(expected), "{name}: {}", said(&output));
    }

    // Another trust domain's node, and one that is somebody already.
    let configuration = fs::read_to_string(target.configuration()).unwrap();
    fs::write(target.configuration(), configuration.replace("example.org", "example.com")).unwrap();
    let said_of = refused(&file, &key, &[]);
    assert!(said_of.contains("the backup is of trust domain example.org"), "{said_of}");
    fs::write(target.configuration(), configuration).unwrap();
    vault.restore(&file, &target);
    let said_of = refused(&file, &key, &[]);
    assert!(said_of.contains("is not empty: it is member 2"), "{said_of}");
}

/// FLT-12: a full disk is told, and leaves nothing that could be taken for a backup or a node.
#[tokio::test]
async fn a_full_disk_is_told_and_leaves_neither_half_a_backup_nor_half_a_node() {
    let node = TestNode::ready().await;
    let vault = Vault::at(&node);
    for number in 0..200 {
        node.create(entry(&format!("/w{number}"), &[("unix", "uid:1")])).await.unwrap();
    }
    let file = vault.backup(&node, "backup");
    let target = TestNode::named("node-2");
    let (small, data) = (target.path("small"), target.path("data"));
    let Some(disk) = SmallDisk::mount(&small, "size=16k,mode=0700") else { return };
    let output = node.quorate(&["cluster", "backup", "create", small.join("backup").to_str().unwrap()]);
    assert!(!output.status.success() && said(&output).contains("are free"), "{}", said(&output));
    assert_eq!(fs::read_dir(&small).unwrap().count(), 0);
    drop(disk);

    let Some(disk) = SmallDisk::mount(&data, "size=32k,mode=0700") else { return };
    let output = vault.restoring(&file, &target).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("No space left"), "{}", said(&output));
    disk.remount("size=64m");
    vault.restore(&file, &target);
}

/// The steps between are tried one by one on a simulated disk, where consensus is tested.
#[tokio::test]
async fn a_restore_that_is_killed_leaves_an_empty_directory_or_a_restored_one() {
    let node = TestNode::ready().await;
    let vault = Vault::at(&node);
    for number in 0..200 {
        node.create(entry(&format!("/w{number}"), &[("unix", "uid:1")])).await.unwrap();
    }
    let file = vault.backup(&node, "backup");
    let (mut empty, mut restored) = (0, 0);
    for marker in ["LOCK", "identity-stage", "identity.key", "snapshots", "log", "log/mark"] {
        let target = TestNode::named("node-2");
        let mut child = vault.restoring(&file, &target).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        killed_when(&mut child, &target.path("data").join(marker));
        let output = vault.restoring(&file, &target).output().unwrap();
        if output.status.success() {
            empty += 1;
        } else {
            assert!(said(&output).contains("is not empty: it is member"), "{marker}: {}", said(&output));
            restored += 1;
        }
        let mut target = target;
        target.start().await;
        target.wait_ready().await;
        assert_eq!(target.count().await, 200, "{marker}");
    }
    assert!(empty > 0, "{empty} empty, {restored} restored: it was never killed in time");
}

/// SIGKILL as soon as there is something at this path, or the process has come to its end.
fn killed_when(child: &mut Child, path: &Path) {
    let since = Instant::now();
    while !path.exists() && child.try_wait().unwrap().is_none() {
        assert!(since.elapsed() < PATIENCE, "{} never came", path.display());
        std::thread::sleep(Duration::from_micros(50));
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().unwrap();
}
