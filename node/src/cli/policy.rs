//! `quorate policy`: what holds for the whole trust domain.

mod document;

use std::path::PathBuf;

use clap::{Args, Subcommand};
pub(super) use document::PolicyFile;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{GetPolicyRequest, Policy, SetPolicyRequest};
use serde::Serialize;

use self::document::{PolicyJson, printed};
use super::failure::Failure;
use super::json::Wide;
use super::output::answer;
use super::socket::{AdminArgs, Connection, ReadArgs};

/// What can be done with the policy.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Show the policy, in the form that `set --file` takes
    Show(ShowArgs),
    /// Change the policy: some values, or all of it
    Set(SetArgs),
}

/// What `quorate policy show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What to begin with, below the options.
const EXAMPLES: &str = "\
The keys are those that `quorate policy show` prints. Lifetimes are checked against each other.

Examples:
  quorate policy set x509_svid_lifetime=30m jwt_svid_lifetime=2m
  quorate policy set --file policy.toml --expected-revision 3";

/// What `quorate policy set` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SetArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// Values to change, such as `x509_svid_lifetime=30m`; the others stay as they are
    #[arg(value_name = "KEY=VALUE", required_unless_present = "file", conflicts_with = "file")]
    values: Vec<String>,

    /// A whole policy; what it leaves out takes its default. `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Refuse unless this is the revision there is. With values, it is the one that was just read
    #[arg(long, value_name = "NUMBER")]
    expected_revision: Option<u64>,
}

/// `quorate.cluster.v1.SetPolicyResponse`
#[derive(Serialize)]
struct SetJson {
    policy: PolicyJson,
    log_index: Wide<u64>,
}

impl PolicyCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => {
                let policy = get(&args.read.connect()?).await?;
                answer(args.read.output(), &printed(&policy), &PolicyJson::from(&policy))
            }
            Self::Set(args) => set(args).await,
        }
    }
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    const DEED: &str = "change the policy";
    // What is wrong in the file or the values is said before anything is sent.
    let wanted = match &args.file {
        Some(path) => PolicyFile::read(path)?,
        None => PolicyFile::from_values(&args.values)?,
    };
    let connection = args.admin.connect()?;
    let (policy, expected_revision) = match &args.file {
        Some(_) => (wanted.onto_default(), args.expected_revision),
        None => {
            let current = get(&connection).await?;
            // What was read is what is changed: somebody else's change in between is not undone.
            let revision = args.expected_revision.unwrap_or(current.revision);
            (wanted.onto(current), Some(revision))
        }
    };
    let answered = ClusterClient::new(connection.channel())
        .set_policy(connection.request(SetPolicyRequest { policy: Some(policy), expected_revision }, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner();
    let policy = answered.policy.ok_or_else(|| no_policy(DEED))?;
    let json = SetJson { policy: PolicyJson::from(&policy), log_index: Wide(answered.log_index) };
    answer(args.admin.output, &printed(&policy), &json)
}

async fn get(connection: &Connection) -> Result<Policy, Failure> {
    const DEED: &str = "show the policy";
    ClusterClient::new(connection.channel())
        .get_policy(connection.request(GetPolicyRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner()
        .policy
        .ok_or_else(|| no_policy(DEED))
}

fn no_policy(deed: &'static str) -> Failure {
    Failure::Answer { deed, what: "no policy".to_owned() }
}
