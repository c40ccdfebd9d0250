//! The command line: one program for the node and for those who operate it.
//!
//! ```text
//!   arguments ──► node, demo, keygen, config      run here, or end with a message
//!            └──► entry, authority, cluster, ... ─────► admin socket        spire.api.server.*, quorate.cluster.v1
//!            └──► fetch ───────────────────────────────► workload socket     the SPIFFE Workload API
//!                        |
//!            answer: a table for people, or JSON; failure: what happened, to what, what to do, and an exit code
//! ```
//!
//! A client command is one call or a few, checks what it can before it sends anything, and keeps no state. Private keys
//! are never printed: they are written to files when a directory for them is named, or not at all.

mod acme;
mod arguments;
mod audit;
mod authority;
mod bundle;
mod certificates;
mod cluster;
mod config;
mod confirm;
mod entry;
mod exit;
mod failure;
mod federation;
mod fetch;
mod files;
mod json;
mod keygen;
mod ledger;
mod mint;
mod node;
mod oidc;
mod output;
mod policy;
mod recovery_key;
mod recovery_private_key;
mod revocations;
mod revoke;
mod socket;
mod text;
mod wait;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;
use exit::Exit;
use output::complain;

/// Runs the program: reads the arguments, does the command, answers with the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match arguments.run() {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            complain(&format!("quorate: {}", failure.story()));
            failure.exit().into()
        }
    }
}
