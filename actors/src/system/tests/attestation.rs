//! Callers that are not what they were when they connected.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use quorate_proto_identity::{Selector, SelectorSet};
use quorate_raft_machine::EntryDraft;

use super::world::{World, draft, next, until, within};
use crate::{
    Caller, Refusal,
    attestation::{PeerCredentials, PeerProcess},
};

/// A shell that becomes `sleep` when its standard input is closed.
struct Workload(Child);

impl Workload {
    fn start() -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read _; exec /bin/sleep 600"]).process_group(0);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn caller(&self) -> Arc<Caller> {
        let credentials = PeerCredentials {
            pid: i32::try_from(self.0.id()).unwrap(),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            groups: None,
        };
        Caller::new(PeerProcess::new(credentials, None).unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        std::fs::read_link(format!("/proc/{}/exe", self.0.id())).unwrap()
    }

    async fn become_sleep(&mut self) {
        let before = self.path();
        drop(self.0.stdin.take());
        within(async {
            while self.path() == before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn by_path(entry: &str, path: &std::path::Path) -> EntryDraft {
    let selector = Selector::new("unix", &format!("path:{}", path.display())).unwrap();
    EntryDraft { selectors: SelectorSet::new([selector]), ..draft(entry, &format!("/{entry}")) }
}

/// ATK-15, SB-28: what comes after the caller's end, also under its process ID, gets nothing on its connection.
#[tokio::test(flavor = "multi_thread")]
async fn atk_15_a_connection_whose_process_ended_gets_nothing_any_more() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut workload = Workload::start();
    let caller = workload.caller();
    let api = world.system.workload_api();
    let mut stream = api.x509_svids(&caller).await.unwrap();
    next(&mut stream).await.unwrap();
    workload.end();
    world.register("b", "/b").await;
    assert!(matches!(next(&mut stream).await, Err(Refusal::Unavailable(_))));
    assert!(matches!(api.x509_svids(&caller).await, Err(Refusal::Unavailable(_))));
    let tokens = api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await;
    assert!(matches!(tokens, Err(Refusal::Unavailable(_))));
}

/// ATK-16: a process that became another program has no more of the first one's identities, and none of the second's
/// on the first one's connection.
#[tokio::test(flavor = "multi_thread")]
async fn atk_16_another_program_keeps_only_what_both_are() {
    let world = World::ready().await;
    let mut workload = Workload::start();
    world.register_draft(by_path("shell", &workload.path())).await;
    world.register_draft(by_path("sleep", &std::fs::canonicalize("/bin/sleep").unwrap())).await;
    world.register("user", "/user").await;
    let caller = workload.caller();
    let api = world.system.workload_api();
    let mut stream = api.x509_svids(&caller).await.unwrap();
    let ids = |answer: &quorate_proto_api::workload::X509svidResponse| {
        answer.svids.iter().map(|svid| svid.spiffe_id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/shell", "spiffe://example.org/user"]);

    workload.become_sleep().await;
    world.register("user-2", "/user-2").await;
    let both = ["spiffe://example.org/user", "spiffe://example.org/user-2"];
    assert_eq!(ids(&until(&mut stream, |answer| answer.svids.len() == 2).await), both);
    let tokens = api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await.unwrap();
    assert_eq!(tokens.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect::<Vec<_>>(), both);

    // A connection that the new program opens itself has the new program's identities.
    let mut fresh = api.x509_svids(&workload.caller()).await.unwrap();
    let fresh = ids(&next(&mut fresh).await.unwrap());
    assert_eq!(fresh, ["spiffe://example.org/sleep", both[0], both[1]]);
}

/// ATK-16: calls in quick succession share a look at the caller, and no later one does.
#[tokio::test(flavor = "multi_thread")]
async fn atk_16_a_call_sees_what_the_caller_has_become_within_moments() {
    let world = World::ready().await;
    let mut workload = Workload::start();
    world.register_draft(by_path("shell", &workload.path())).await;
    world.register("user", "/user").await;
    let (caller, api) = (workload.caller(), world.system.workload_api());
    assert_eq!(api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await.unwrap().svids.len(), 2);

    workload.become_sleep().await;

    within(async {
        while api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await.unwrap().svids.len() != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// SB-27: two processes with different registrations get their own identities each.
#[tokio::test(flavor = "multi_thread")]
async fn sb_27_each_process_gets_its_own() {
    let world = World::ready().await;
    let shell = Workload::start();
    let mut sleep = Workload::start();
    sleep.become_sleep().await;
    world.register_draft(by_path("shell", &shell.path())).await;
    world.register_draft(by_path("sleep", &sleep.path())).await;
    for (workload, id) in [(&shell, "spiffe://example.org/shell"), (&sleep, "spiffe://example.org/sleep")] {
        let mut stream = world.system.workload_api().x509_svids(&workload.caller()).await.unwrap();
        let answer = next(&mut stream).await.unwrap();
        assert_eq!(answer.svids.len(), 1);
        assert_eq!(answer.svids[0].spiffe_id, id);
    }
}
