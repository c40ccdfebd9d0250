//! Versions: what a program can apply, and what a cluster has switched on.
//!
//! ```text
//!   a member announces what it can apply --> RaiseVersion, refused while one cannot --> Cluster::version in the state
//!                                                                                          |
//!   an operation that needs a version: <-- nobody proposes it before ----------------------+
//!   its command says so in its envelope, and a program that is too old refuses to decode it
//! ```
//!
//! Members of mixed versions work together because new behaviour of `apply` depends on [`Cluster::version`] alone, which
//! all of them hold. A program that is too old for what the log holds stops, and says so; it never goes on beside the
//! others with another state.
//!
//! [`Cluster::version`]: crate::Cluster::version

use crate::command::{Command, Operation};
use crate::state::State;
use crate::stored::StoredError;

/// The behaviour that every authority begins with, whichever version of the program founds it or replays the founding.
/// Were it the program's own version, members that replay the same log after an upgrade would differ.
pub(crate) const FIRST: u32 = 1;

/// Highest version of commands that this program can apply: what it says of itself as a member, and the highest
/// `min_version` that it reads.
#[cfg(not(feature = "bumped-version"))]
pub const COMMAND_VERSION: u32 = 1;

/// One more than this program really has, for tests of mixed clusters: it allows hints of entries to be
/// [`BUMPED_HINT_LIMIT`] bytes long once the cluster is at this version.
#[cfg(feature = "bumped-version")]
pub const COMMAND_VERSION: u32 = BUMPED_VERSION;

/// The version that a test build makes of itself.
#[cfg(feature = "bumped-version")]
pub(crate) const BUMPED_VERSION: u32 = 2;

/// Longest hint of an entry in [`BUMPED_VERSION`]: twice what the first version takes.
#[cfg(feature = "bumped-version")]
pub(crate) const BUMPED_HINT_LIMIT: usize = 2 * crate::entry::HINT_LIMIT;

/// The least version of the program that can apply an operation.
#[cfg(not(feature = "bumped-version"))]
pub(crate) const fn min_version(_operation: &Operation) -> u32 {
    // Every operation of today is of version 1; a later one raises this for the commands that carry it.
    FIRST
}

/// As in any build, but that the test build's longer hints need its version.
#[cfg(feature = "bumped-version")]
pub(crate) fn min_version(operation: &Operation) -> u32 {
    let hint = if let Operation::CreateEntry(draft) = operation {
        Some(&draft.hint)
    } else if let Operation::UpdateEntry { id: _, change } = operation {
        change.hint.as_ref()
    } else {
        None
    };
    if hint.is_some_and(|hint| hint.len() > crate::entry::HINT_LIMIT) { BUMPED_VERSION } else { FIRST }
}

/// Longest hint of an entry while the cluster is at this version.
#[cfg(not(feature = "bumped-version"))]
pub(crate) const fn hint_limit(_cluster_version: u32) -> usize {
    crate::entry::HINT_LIMIT
}

/// Longest hint of an entry while the cluster is at this version.
#[cfg(feature = "bumped-version")]
pub(crate) const fn hint_limit(cluster_version: u32) -> usize {
    if cluster_version >= BUMPED_VERSION { BUMPED_HINT_LIMIT } else { crate::entry::HINT_LIMIT }
}

impl State {
    /// Which behaviour of `apply` is switched on: that of the founding until another was.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.cluster().map_or(FIRST, |cluster| cluster.version)
    }

    /// Whether a command may be proposed: nothing in it needs a version that the cluster has not switched on. Whoever
    /// puts commands into the log asks this first, because in the log such a command would stop members that are too
    /// old for it.
    ///
    /// # Errors
    /// When something in it does, with what to do.
    pub fn check_min_version(&self, command: &Command) -> Result<(), StoredError> {
        let (needed, have) = (command.min_version(), self.version());
        if needed <= have {
            return Ok(());
        }
        Err(StoredError::NotSwitchedOn { needed, have })
    }

    /// Whether this program can go on with this state: the log may have switched on a version that it does not have.
    /// Asked after each command, and of a snapshot before it is put in place.
    ///
    /// # Errors
    /// When it cannot. Consensus stops on this node then, with this message.
    pub fn check_program(&self) -> Result<(), StoredError> {
        let needed = self.version();
        if needed <= COMMAND_VERSION {
            return Ok(());
        }
        Err(StoredError::NeedsVersion { needed, have: COMMAND_VERSION })
    }
}
