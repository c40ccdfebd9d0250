//! `quorate entry delete`

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::DeleteAndRevokeRequest;
use quorate_proto_api::cluster::revocations_client::RevocationsClient;
use quorate_proto_api::spire::entry::BatchDeleteEntryRequest;
use quorate_proto_api::spire::entry::batch_delete_entry_response::Result as Deleted;
use quorate_proto_identity::EntryId;
use quorate_proto_identity::x509::RevocationReason;
use serde::Serialize;
use tonic::Code;

use super::{BATCH, client};
use crate::cli::cluster::change::ChangeArgs;
use crate::cli::failure::Failure;
use crate::cli::json::StatusJson;
use crate::cli::output::{Format, complain, say, say_json};
use crate::cli::revoke::{AnswerJson, HowArgs, carry_out, described};
use crate::cli::socket::{AdminArgs, Connection};
use crate::cli::text::printable;
use crate::duration::Seconds;

/// What `quorate entry delete` takes.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The entry's ID. Can be repeated
    #[arg(long = "id", value_name = "ID", value_parser = EntryId::new, required = true)]
    ids: Vec<EntryId>,

    /// Revoke what was issued for them, too, each in one step with its deletion
    #[arg(long)]
    revoke: bool,

    /// Why what was issued is revoked
    #[arg(long, value_name = "REASON", requires = "revoke")]
    reason: Option<RevocationReason>,

    /// Do not ask, even if nodes are cut off whose workloads will all be refused
    #[arg(long, requires = "revoke")]
    yes: bool,

    /// How long to wait until it is revoked [default: 30s]
    #[arg(long, value_name = "TIME", requires = "revoke")]
    timeout: Option<Seconds>,
}

/// `spire.api.server.entry.v1.BatchDeleteEntryResponse`
#[derive(Serialize)]
struct DeletedJson<'a> {
    results: Vec<ResultJson<'a>>,
}

#[derive(Serialize)]
struct ResultJson<'a> {
    status: Option<StatusJson<'a>>,
    id: &'a str,
}

/// Deletes entries, tells of each.
pub(super) async fn run(args: DeleteArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    if args.revoke {
        return revoke(&args, &connection).await;
    }
    let mut client = client(&connection);
    let mut results: Vec<Deleted> = Vec::with_capacity(args.ids.len());
    for batch in args.ids.chunks(BATCH) {
        let message = BatchDeleteEntryRequest { ids: batch.iter().map(ToString::to_string).collect() };
        let answer = client.batch_delete_entry(connection.request(message, BULK_CALL_LIMIT)).await;
        results.extend(answer.map_err(connection.failed("delete entries"))?.into_inner().results);
    }
    match args.admin.output {
        Format::Json => say_json(&DeletedJson { results: results.iter().map(result_json).collect() })?,
        Format::Table => results.iter().try_for_each(tell)?,
    }
    Failure::of_items("entries", results.iter().map(code))
}

/// Deletes entries one after the other, each with what was issued for it.
async fn revoke(args: &DeleteArgs, connection: &Connection) -> Result<(), Failure> {
    let how = HowArgs::new(args.reason, args.yes, args.timeout);
    let change = ChangeArgs { admin: args.admin.clone(), dry_run: false };
    let mut answers = Vec::with_capacity(args.ids.len());
    for id in &args.ids {
        let answer =
            carry_out("delete the entry and revoke", &change, &how, connection, async |dry_run, revoke_cut_off| {
                let message = DeleteAndRevokeRequest {
                    entry_id: id.to_string(),
                    reason: how.wire_reason(),
                    revoke_cut_off,
                    dry_run,
                    wait_millis: how.millis(),
                };
                let call = connection.request(message, how.limit());
                Ok(RevocationsClient::new(connection.channel()).delete_entry(call).await?.into_inner())
            })
            .await?;
        if args.admin.output == Format::Table {
            say(&described(false, &answer))?;
        }
        answers.push(answer);
    }
    match args.admin.output {
        Format::Table => Ok(()),
        Format::Json => {
            let results = answers.iter().map(|answer| AnswerJson::new(false, answer)).collect();
            say_json(&RevokedJson { results })
        }
    }
}

/// The answers to deletions that revoke.
#[derive(Serialize)]
struct RevokedJson<'a> {
    results: Vec<AnswerJson<'a>>,
}

fn tell(result: &Deleted) -> Result<(), Failure> {
    let id = printable(&result.id);
    let code = code(result);
    if code == Code::Ok {
        return say(&format!("Deleted {id}\n"));
    }
    let message = result.status.as_ref().map(|status| printable(&status.message)).unwrap_or_default();
    complain(&format!("Not deleted: {id}: {message} ({code:?})"));
    Ok(())
}

/// What an item came to. One without a status, which no node answers, was not done.
fn code(result: &Deleted) -> Code {
    result.status.as_ref().map_or(Code::Internal, |status| Code::from(status.code))
}

fn result_json(result: &Deleted) -> ResultJson<'_> {
    ResultJson { status: result.status.as_ref().map(Into::into), id: &result.id }
}
