//! `quorate cluster recover`: offline, when a majority of the voters is lost for good.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use quorate_actors::sources::system_sources;
use quorate_raft_consensus::{Recovered, recover};
use quorate_raft_store::directory::{NodeDirectory, Stage};
use quorate_raft_store::disk::RealDisk;
use serde::Serialize;

use super::change::{NOTHING_DONE, lines};
use crate::cli::config::load;
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, answer, say};
use crate::config::{Config, DEFAULT_CONFIG_PATH};
use crate::hardening;

/// What follows the options.
const HELP: &str = "\
For when a majority of the voters will never come back. Nothing else ends a wait for them, and nothing of this is needed
while a majority is there. Stop all nodes that are left, look at `applied_index` in their last status or log, and recover on
the voter that has the most: what it does not have is lost. Run this as the user that the node runs as.";

/// What `quorate cluster recover` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RecoverArgs {
    /// The configuration of the node to go on with; it must not run
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG_PATH)]
    config: PathBuf,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// A majority of the voters is lost for good, and what this node does not have may be lost
    #[arg(long, required_unless_present = "dry_run")]
    yes: bool,

    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// What was done, for programs.
#[derive(Serialize)]
struct RecoveredJson {
    cluster_id: String,
    member: Wide<u64>,
    was_voter: bool,
    lost_members: Vec<Wide<u64>>,
    committed_index: Wide<u64>,
    last_log_index: Wide<u64>,
}

/// Recovers, or says what that would be.
pub(super) async fn run(args: RecoverArgs) -> Result<(), Failure> {
    hardening::shut();
    let config = load(&args.config)?;
    if args.dry_run {
        look(&config)?;
        say(&lines(&[would(&config)], &[]))?;
        return say(NOTHING_DONE);
    }
    let runtime = tokio::runtime::Handle::current();
    let consensus = quorate_raft_consensus::Config::new(&config.data_dir, runtime.clone());
    let recovered = recover(&consensus, &system_sources(runtime), Arc::new(RealDisk)).await.map_err(failed)?;
    answer(args.output, &told(&config, &recovered), &RecoveredJson::from(&recovered))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Local { deed: "recover the cluster", cause: Box::new(error) }
}

/// Why there is nothing to recover.
#[derive(Debug, thiserror::Error)]
#[error("the data directory {} holds no member of a cluster (it is {stage})", path.display())]
struct NoMember {
    path: PathBuf,
    stage: Stage,
}

/// Whether the directory could be recovered from: nobody uses it, and a member lives there.
fn look(config: &Config) -> Result<(), Failure> {
    let directory = NodeDirectory::open(Arc::new(RealDisk), &config.data_dir).map_err(failed)?;
    match directory.stage() {
        Stage::Member(_) => Ok(()),
        stage @ (Stage::Empty | Stage::Founding(_) | Stage::Joining(_) | Stage::Restoring(_)) => {
            Err(failed(NoMember { path: config.data_dir.clone(), stage }))
        }
    }
}

fn would(config: &Config) -> String {
    format!(
        "{} would become the only voter of its cluster, with the whole log that it has in {}, in a new epoch: all other \
         members would be refused, whatever they hold, and would have to be removed and to join again with empty data \
         directories.",
        config.name,
        config.data_dir.display()
    )
}

fn told(config: &Config, recovered: &Recovered) -> String {
    let Recovered { cluster, member, was_voter, others, committed_index, last_index } = recovered;
    let numbers: Vec<String> = others.iter().map(ToString::to_string).collect();
    let mut sentences = vec![format!(
        "{} (member {member} of cluster {cluster}) is the only voter now. Its log was known to be committed up to {committed_index}; \
         all of it up to {last_index} is kept, and a new epoch is begun.",
        config.name
    )];
    if numbers.is_empty() {
        sentences.push("Start the node: it elects itself.".to_owned());
    } else {
        sentences.push(format!(
            "Start the node: it elects itself. Then remove the other members ({}) with `quorate cluster remove`, and invite \
             their nodes anew, each with an empty data directory.",
            numbers.join(", ")
        ));
    }
    let mut warnings = Vec::new();
    if !was_voter {
        warnings.push(
            "this member was no voter, so no root key is sealed to it: it can give out no issuing certificate until the \
             recovery key has opened them. Recover on a voter if one is left."
                .to_owned(),
        );
    }
    lines(&sentences, &warnings)
}

impl From<&Recovered> for RecoveredJson {
    fn from(recovered: &Recovered) -> Self {
        Self {
            cluster_id: recovered.cluster.to_string(),
            member: Wide(recovered.member.get()),
            was_voter: recovered.was_voter,
            lost_members: recovered.others.iter().copied().map(Wide).collect(),
            committed_index: Wide(recovered.committed_index),
            last_log_index: Wide(recovered.last_index),
        }
    }
}
