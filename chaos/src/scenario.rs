//! The runs against real clusters.

pub(crate) mod cluster;
pub(crate) mod distance;
pub(crate) mod failover;
pub(crate) mod federation;
mod healing;
pub(crate) mod outage;
pub(crate) mod revocation;
pub(crate) mod rotation;
pub(crate) mod versions;

use crate::progress;
use crate::trouble::Trouble;
use std::path::Path;

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Runs in a directory of its own, which is kept when the run fails.
pub(crate) async fn in_directory(
    name: &str,
    run: impl AsyncFnOnce(&Path) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let directory = tempfile::Builder::new()
        .prefix(&format!("quorate-{name}-"))
        .tempdir()
        .map_err(Trouble::system("temporary directory"))?;
    let done = run(directory.path()).await;
    if done.is_err() {
        let kept = directory.keep();
        progress(&format!("{name}: everything is kept in {}", kept.display()));
    }
    done
}
