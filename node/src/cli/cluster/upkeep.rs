//! `quorate cluster raise-version`, `reset-time`: rare, and for the whole cluster.

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{RaiseVersionRequest, ResetTimeRequest};

use super::change::{ChangeArgs, told};
use crate::cli::failure::Failure;

/// What follows the options of `raise-version`.
const RAISE: &str = "\
Members of different versions work together as the oldest of them would. Once all run the newer program, this switches on \
what it adds. It cannot be taken back: a program that is older than the version cannot be a member any more.";

/// What `quorate cluster raise-version` takes.
#[derive(Debug, Args)]
#[command(after_help = RAISE)]
pub(crate) struct RaiseVersionArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The version [default: the highest that every member can do]
    #[arg(value_name = "VERSION")]
    version: Option<u32>,
}

/// What follows the options of `reset-time`.
const RESET: &str = "\
The time of the log is the greatest that a leader ever stamped. After a leader's clock ran ahead, everything in the state \
that counts by it (expiry of entries, invitations and certificates) is early until real time has caught up. This sets it \
back, for all members together. Set the clocks right first: a leader whose clock still runs ahead undoes it.";

/// What `quorate cluster reset-time` takes.
#[derive(Debug, Args)]
#[command(after_help = RESET)]
pub(crate) struct ResetTimeArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The time, in seconds since 1970 [default: the clock of the node that is asked]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..))]
    time: Option<i64>,

    /// I have set the clocks right, and mean it
    #[arg(long, required_unless_present = "dry_run")]
    yes: bool,
}

/// Switches a version on.
pub(super) async fn raise_version(args: RaiseVersionArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message = RaiseVersionRequest { version: args.version.unwrap_or_default(), dry_run: args.change.dry_run };
    let answer = ClusterClient::new(connection.channel())
        .raise_version(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("raise the version"))?
        .into_inner();
    told(&args.change, &answer)
}

/// Sets the time of the log.
pub(super) async fn reset_time(args: ResetTimeArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message = ResetTimeRequest { time: args.time.unwrap_or_default(), dry_run: args.change.dry_run };
    let answer = ClusterClient::new(connection.channel())
        .reset_time(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("set the time of the log"))?
        .into_inner();
    told(&args.change, &answer)
}
