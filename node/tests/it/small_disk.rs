//! A small file system for one node's data, where the tests may mount one: to fill it, or to make it read only.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

/// A file system in memory, until dropped.
pub(crate) struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    pub(crate) fn mount(path: &'p Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let mounted = geteuid().is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(path)
                .status()
                .is_ok_and(|s| s.success());
        if !mounted {
            // Past the test harness, which shows nothing of a test that passes.
            let said = b"SKIPPED: a test that mounts a file system, which needs root with CAP_SYS_ADMIN\n";
            std::io::stderr().write_all(said).unwrap();
        }
        mounted.then_some(Self(path))
    }

    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
