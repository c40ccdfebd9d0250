//! `quorate cluster backup`: made at a member, verified anywhere.

mod create;
pub(super) mod described;
mod scratch;
pub(super) mod verify;

use clap::Subcommand;

use crate::cli::failure::Failure;

/// What can be done with backups. A restore is a command of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write a backup of the whole state, sealed to the recovery key, while the cluster goes on
    Create(create::CreateArgs),
    /// Check a backup: that it is whole and signed, and with the recovery key everything that is in it
    Verify(verify::VerifyArgs),
}

impl BackupCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create::run(args).await,
            Self::Verify(args) => verify::run(args),
        }
    }
}
