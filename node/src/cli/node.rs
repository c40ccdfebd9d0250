//! `quorate node`

use std::path::PathBuf;

use clap::Args;

use super::config::load;
use super::failure::Failure;
use crate::config::DEFAULT_CONFIG_PATH;
use crate::invitation::InvitationFile;
use crate::run::{self, RunOptions};

/// What `quorate node` takes.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// The node's configuration; `quorate config example` prints one to begin with
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG_PATH)]
    config: PathBuf,

    /// Join the cluster that this invitation is into: the line that `quorate cluster invite` printed, in a file that
    /// nobody else can read, or `-` for standard input. A node that is a member already starts without it
    #[arg(long, value_name = "PATH")]
    join_file: Option<PathBuf>,

    /// Write the process number to this file while the node runs
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

/// Runs a node until it is told to stop.
pub(super) fn run(args: &NodeArgs) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let options = RunOptions {
        pid_file: args.pid_file.clone(),
        end_with_parent: args.end_with_parent,
        join: args.join_file.as_deref().map(InvitationFile::named),
    };
    run::run(config, &options).map_err(|error| Failure::Local { deed: "run the node", cause: Box::new(error) })
}
