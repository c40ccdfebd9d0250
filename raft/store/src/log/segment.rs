//! Names of segments.

use std::path::{Path, PathBuf};

/// Name of the lock file in the log directory.
pub(crate) const LOCK_NAME: &str = "LOCK";
const PREFIX: &str = "s-";
const SUFFIX: &str = ".wal";
/// Ends the name of a segment that is being copied at opening (WAL-15).
const COPY_SUFFIX: &str = ".tmp";

/// Path of a segment.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number}{SUFFIX}"))
}

/// Path at which a segment's copy is made.
pub(crate) fn copy_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number}{COPY_SUFFIX}"))
}

/// The number in a segment's name; `None` for every other name.
pub(crate) fn number(name: &str) -> Option<u64> {
    parse(name, SUFFIX)
}

/// Whether this is the name of a copy that was never finished.
pub(crate) fn is_copy(name: &str) -> bool {
    parse(name, COPY_SUFFIX).is_some()
}

fn parse(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?;
    let number: u64 = digits.parse().ok()?;
    // One name for each number: no leading zeros or signs. The largest number has none after it, so it is no segment's.
    ((1..u64::MAX).contains(&number) && number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_01_a_segment_has_one_name_and_nothing_else_is_one() {
        assert_eq!(number("s-12.wal"), Some(12));
        for name in [
            "s-012.wal",
            "s-+1.wal",
            "s-0.wal",
            "s-.wal",
            "s-1.tmp",
            "mark",
            "LOCK",
            "s-1",
            "s-18446744073709551615.wal",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
        assert!(is_copy("s-3.tmp"));
        assert_eq!(path(Path::new("/d"), 7), Path::new("/d/s-7.wal"));
    }
}
