use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::attestation::{
    executable::EXECUTABLE_BYTES_LIMIT,
    process::{PeerCredentials, tests::Sleeper},
};

fn attestor() -> UnixAttestor {
    UnixAttestor::new(EXECUTABLE_BYTES_LIMIT)
}

fn texts(attested: &Attested) -> Vec<&str> {
    attested.selectors().iter().map(Selector::as_str).collect()
}

fn has(attested: &Attested, selector: &str) -> bool {
    texts(attested).contains(&selector)
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn a_process_is_called_what_spire_calls_it() {
    let sleeper = Sleeper::start();
    let attested = attestor().attest(&sleeper.peer(), None).unwrap();
    let credentials = sleeper.credentials();
    assert!(has(&attested, &format!("unix:uid:{}", credentials.uid)));
    assert!(has(&attested, &format!("unix:gid:{}", credentials.gid)));
    if is_root() {
        assert!(has(&attested, "unix:user:root"));
        assert!(has(&attested, "unix:group:root"));
    }
    let program = std::fs::canonicalize("/bin/sleep").unwrap();
    assert!(has(&attested, &format!("unix:path:{}", program.display())), "{attested:?}");
    let digest = Command::new("sha256sum").arg(&program).output().unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap();
    assert!(has(&attested, &format!("unix:sha256:{}", digest.split(' ').next().unwrap())));
    assert!(matches!(look_again(&sleeper.peer(), &attested), SecondLook::Same));
}

#[test]
fn supplementary_groups_count_where_socket_and_process_agree() {
    if !is_root() {
        // Only root can start a process with groups of its choice.
        return;
    }
    // Dropping to these groups is done by a shell tool, since setting them is not in the standard library.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=4242", "--regid=4243", "--groups=4244,4245", "/bin/sleep", "600"]);
    let Some(mut sleeper) = spawn(&mut command) else { return };
    let peer = peer(&sleeper, (4242, 4243), Some(&[4245, 4246]));
    wait_for_program(&sleeper, "sleep");
    let attested = attestor().attest(&peer, None).unwrap();
    assert!(has(&attested, "unix:uid:4242"));
    assert!(has(&attested, "unix:gid:4243"));
    assert!(has(&attested, "unix:supplementary_gid:4245"));
    assert!(!has(&attested, "unix:supplementary_gid:4244"), "the socket does not say so");
    assert!(!has(&attested, "unix:supplementary_gid:4246"), "the process does not say so");
    assert!(matches!(look_again(&peer, &attested), SecondLook::Same));
    end(&mut sleeper);
}

#[test]
fn atk_16_a_process_that_became_someone_else_keeps_only_what_still_holds() {
    if !is_root() {
        return;
    }
    // A shell of root's that turns into a sleep of another user when it is told to.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read _; exec setpriv --reuid=4242 --regid=4243 --clear-groups /bin/sleep 600"]);
    command.stdin(Stdio::piped());
    let Some(mut shell) = spawn(&mut command) else { return };
    let peer = peer(&shell, (0, 0), None);
    let attestor = attestor();
    let first = attestor.attest(&peer, None).unwrap();
    assert!(has(&first, "unix:uid:0"));
    assert!(matches!(look_again(&peer, &first), SecondLook::Same));

    drop(shell.stdin.take());
    wait_for_program(&shell, "sleep");
    assert!(matches!(look_again(&peer, &first), SecondLook::Changed));
    let second = attestor.attest(&peer, Some(&first)).unwrap();
    assert_eq!(texts(&second), Vec::<&str>::new(), "nothing of the first holds, and nothing new is gained");
    assert!(matches!(look_again(&peer, &second), SecondLook::Same));
    end(&mut shell);
}

#[test]
fn atk_16_a_process_that_runs_another_program_loses_the_programs_selectors_and_gains_none() {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read _; exec /bin/sleep 600"]).stdin(Stdio::piped());
    let Some(mut shell) = spawn(&mut command) else { return };
    let credentials = Sleeper::start().credentials();
    let peer = peer(&shell, (credentials.uid, credentials.gid), None);
    let attestor = attestor();
    let first = attestor.attest(&peer, None).unwrap();
    drop(shell.stdin.take());
    wait_for_program(&shell, "sleep");
    assert!(matches!(look_again(&peer, &first), SecondLook::Changed));
    let second = attestor.attest(&peer, Some(&first)).unwrap();
    assert!(has(&second, &format!("unix:uid:{}", credentials.uid)));
    assert!(!texts(&second).iter().any(|text| text.starts_with("unix:path:") || text.starts_with("unix:sha256:")));
    end(&mut shell);
}

#[test]
fn a_program_replaced_on_disk_does_not_change_the_processes_that_run_it() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let Some(mut running) = spawn(Command::new(&program).arg("600")) else { return };
    let credentials = Sleeper::start().credentials();
    let peer = peer(&running, (credentials.uid, credentials.gid), None);
    wait_for_program(&running, "program");
    let attestor = attestor();
    let attested = attestor.attest(&peer, None).unwrap();
    assert!(has(&attested, &format!("unix:path:{}", program.display())));

    let new = directory.path().join("new");
    std::fs::copy("/bin/true", &new).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&new, &program).unwrap();
    assert!(matches!(look_again(&peer, &attested), SecondLook::Same));
    // One that connects only now runs a file without a name.
    let late = attestor.attest(&peer, None).unwrap();
    assert!(!texts(&late).iter().any(|text| text.starts_with("unix:path:")));
    assert!(texts(&late).iter().any(|text| text.starts_with("unix:sha256:")));
    end(&mut running);
}

#[test]
fn atk_15_nothing_is_said_of_a_process_that_ended() {
    let sleeper = Sleeper::start();
    let peer = sleeper.peer();
    let attestor = attestor();
    let attested = attestor.attest(&peer, None).unwrap();
    drop(sleeper);
    assert!(matches!(attestor.attest(&peer, None), Err(ProcessError::Ended { .. })));
    assert!(matches!(look_again(&peer, &attested), SecondLook::Gone(ProcessError::Ended { .. })));
}

#[test]
fn the_status_of_a_process_is_read_by_its_effective_numbers() {
    let text = "Name:\tUid:\\n1\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t9 10 \n";
    assert_eq!(parse_status(text), Some(Status { uid: 2, gid: 6, groups: vec![9, 10] }));
    assert_eq!(parse_status("Uid:\t1\t2\nGid:\t5\t6\n"), None);
    assert_eq!(parse_status("Uid:\t1\nGid:\t5\t6\nGroups:\n"), None);
}

fn spawn(command: &mut Command) -> Option<Child> {
    // A process group of its own, so that ending it ends what it started.
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn peer(child: &Child, user: (u32, u32), groups: Option<&[u32]>) -> PeerProcess {
    let pid = i32::try_from(child.id()).unwrap();
    let credentials = PeerCredentials { pid, uid: user.0, gid: user.1, groups: groups.map(Box::from) };
    let pidfd =
        rustix::process::pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::PidfdFlags::empty());
    PeerProcess::new(credentials, Some(pidfd.unwrap().as_fd())).unwrap()
}

/// Waits, within bounds, until the process runs a program of this name.
fn wait_for_program(child: &Child, name: &str) {
    let path = directory(i32::try_from(child.id()).unwrap()).join("comm");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::fs::read_to_string(&path).unwrap_or_default().trim() != name {
        assert!(std::time::Instant::now() < deadline, "the process did not become {name}");
        std::thread::yield_now();
    }
}
