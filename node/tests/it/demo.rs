//! `quorate demo` as the fixture that scripts start.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
