//! Versions of what stands on disk: what this program writes, what it still reads, and what it tells
//! the operator about anything else.
//!
//! A stored form never changes in place. A new form gets a new version and a line in its history; a
//! program reads every version back to the first, and upgrades step by step, from one version to the
//! next, so that each step is written and tested once.

use std::fmt;

/// The kinds of files that carry a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredForm {
    /// Segments and mark of the Raft log.
    Log,
    /// Snapshot files.
    Snapshot,
    /// The file that says how far this member's life has come.
    Stage,
}

/// One line of a form's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Its number, from 1.
    pub number: u8,
    /// The day it was introduced.
    pub date: &'static str,
    /// Why it exists.
    pub reason: &'static str,
}

const LOG: &[Version] = &[Version { number: 1, date: "2026-11-23", reason: "first form (WAL-01 to WAL-20)" }];
const SNAPSHOT: &[Version] =
    &[Version { number: 1, date: "2026-11-23", reason: "first form: checked chunks, whole digest" }];
const STAGE: &[Version] = &[Version { number: 1, date: "2026-11-23", reason: "first form (WAL-18)" }];

impl StoredForm {
    /// Every version this program knows, oldest first. An upgrade goes from each line to the next.
    #[must_use]
    pub fn history(self) -> &'static [Version] {
        match self {
            Self::Log => LOG,
            Self::Snapshot => SNAPSHOT,
            Self::Stage => STAGE,
        }
    }

    /// The version this program writes.
    #[must_use]
    pub fn current(self) -> u8 {
        self.history().last().map_or(0, |version| version.number)
    }

    /// Checks a version that was found on disk.
    ///
    /// # Errors
    /// [`VersionError`] when this program does not know it.
    pub fn check(self, found: u8) -> Result<(), VersionError> {
        if self.history().iter().any(|version| version.number == found) {
            return Ok(());
        }
        Err(VersionError { form: self, found, newest: self.current() })
    }
}

impl fmt::Display for StoredForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::Snapshot => "snapshot",
            Self::Stage => "stage file",
        })
    }
}

/// A stored form that this program does not know: a newer program wrote it. Start the version that
/// ran last on this directory; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {form} has version {found}, and this program reads up to {newest}: start the program version \
     that last ran on this directory"
)]
pub struct VersionError {
    /// What was read.
    pub form: StoredForm,
    /// The version it has.
    pub found: u8,
    /// The newest version this program reads.
    pub newest: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_number_their_versions_from_one_without_gaps() {
        for form in [StoredForm::Log, StoredForm::Snapshot, StoredForm::Stage] {
            let numbers: Vec<u8> = form.history().iter().map(|version| version.number).collect();
            let expected: Vec<u8> = (1..=form.current()).collect();
            assert_eq!(numbers, expected, "{form}");
        }
    }

    #[test]
    fn an_unknown_version_names_the_program_to_start() {
        let error = StoredForm::Log.check(9).expect_err("version 9 is not known");
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(error.to_string().contains("start the program version"), "{error}");
        assert!(StoredForm::Log.check(0).is_err());
        assert_eq!(StoredForm::Log.check(1), Ok(()));
    }
}
