//! `quorate wait`: until this node has applied what was written elsewhere.

use std::time::Duration;

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::WaitRequest;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use serde::Serialize;
use tonic::Code;

use super::failure::Failure;
use super::json::Wide;
use super::output::answer;
use super::socket::AdminArgs;
use crate::duration::Seconds;

/// What follows the options.
const EXAMPLES: &str = "\
The answer to every write carries the log index that it has in the metadata `quorate-log-index`. A node that has applied \
that index knows of the write. Without --index: everything that was acknowledged, at any node, before this command began.

Examples:
  quorate wait --index 4711 --timeout 10s
  quorate wait --socket /run/quorate/admin/admin.sock";

/// What `quorate wait` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WaitArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The log index [default: as far as anything was acknowledged before]
    #[arg(long, value_name = "NUMBER")]
    index: Option<u64>,

    /// How long to wait; 0 only looks
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: Seconds,
}

/// `quorate.cluster.v1.WaitResponse`
#[derive(Serialize)]
struct WaitJson {
    applied_index: Wide<u64>,
}

/// Waits. Not come to that in time is exit code 3: asking again may help.
pub(super) async fn run(args: WaitArgs) -> Result<(), Failure> {
    const DEED: &str = "wait for the index";
    let connection = args.admin.connect()?;
    let connection = if args.index.is_some() { connection } else { connection.consistent() };
    let limit = Duration::from_secs(args.timeout.get().unsigned_abs());
    let message = WaitRequest {
        index: args.index.unwrap_or_default(),
        timeout_millis: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
    };
    let applied_index = ClusterClient::new(connection.channel())
        // The node keeps the time; beyond it, this much for the way there and back.
        .wait(connection.request(message, limit.saturating_add(CALL_LIMIT)))
        .await
        .map_err(|status| {
            if status.code() == Code::DeadlineExceeded {
                Failure::NotYet { deed: DEED, what: status.message().to_owned() }
            } else {
                connection.failed(DEED)(status)
            }
        })?
        .into_inner()
        .applied_index;
    answer(args.admin.output, &format!("{applied_index}\n"), &WaitJson { applied_index: Wide(applied_index) })
}
