//! A whole cluster in one thread and virtual time, from one seed.

use clap::Args;
use std::process::ExitCode;

/// What `simulate` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
}

/// Runs it.
pub(crate) fn run(_options: &Options) -> ExitCode {
    ExitCode::SUCCESS
}
