//! `quorate config`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::{complain, say};
use crate::config::{self, Config, ConfigError, DEFAULT_CONFIG_PATH};
use crate::run;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say everything that is wrong with a configuration; say nothing when all is well
    Check(ConfigArgs),
    /// Show a configuration with every default filled in
    Show(ConfigArgs),
    /// Print a configuration to begin with: every option, explained
    Example,
}

/// Which configuration is meant.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG_PATH)]
    config: PathBuf,
}

impl ConfigCommand {
    /// Carries the command out. Nothing is started and nothing is changed.
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            // Silence is the good answer, as with other checks that scripts run.
            Self::Check(args) => {
                let config = load(&args.config)?;
                // No fault of the file: it may be checked on another host than the one it is for.
                if let Some(Err(error)) = config.admin.group.as_ref().map(run::resolve) {
                    complain(&format!("warning: {error}. On this host the node would not start"));
                }
                Ok(())
            }
            Self::Show(args) => say(&config::show(&load(&args.config)?)),
            Self::Example => say(&config::example()),
        }
    }
}

/// Reads a configuration. What is wrong in it is the caller's to change, like a wrong argument.
pub(super) fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| match error {
        ConfigError::Unreadable { path, source } => Failure::Given { path, cause: source },
        ConfigError::TooLarge { .. } | ConfigError::NotText { .. } | ConfigError::Invalid { .. } => {
            Failure::Usage(error.to_string())
        }
    })
}
