//! What the process asks of the kernel for itself: no core files, no readers of its memory, enough
//! descriptors (ATK-44).

use std::fs;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Where Linux lists swap areas, one a line below a heading.
const SWAPS: &str = "/proc/swaps";

/// Shuts the process's memory to others and to core files, and lets only its own user at the files
/// it makes. What the system does not allow is logged and does not stop the start.
pub fn shut() {
    umask(Mode::from_bits_truncate(0o077));
    if let Err(error) = prctl::set_dumpable(false) {
        tracing::warn!(%error, "other processes of this user may read this process's memory");
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "a crash may leave a core file, with keys in it");
    }
    if swaps(&fs::read_to_string(SWAPS).unwrap_or_default()) {
        tracing::warn!("swap is on: keys in memory may be written to disk; encrypt it or turn it off");
    }
}

/// Raises the limit of open descriptors as far as the process may: every connection needs one.
/// Answers the limit in effect.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(_) => soft,
        },
        Ok((soft, _)) => soft,
        Err(_) => 0,
    }
}

fn swaps(listing: &str) -> bool {
    listing.lines().skip(1).any(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_on_when_an_area_is_listed() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!swaps(""));
        assert!(!swaps(heading));
        assert!(swaps(&format!("{heading}/dev/dm-1 partition 8388604 0 -2\n")));
    }
}
