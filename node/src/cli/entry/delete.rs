//! `quorate entry delete`

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::spire::entry::BatchDeleteEntryRequest;
use quorate_proto_api::spire::entry::batch_delete_entry_response::Result as Deleted;
use quorate_proto_identity::EntryId;
use serde::Serialize;
use tonic::Code;

use super::{BATCH, client};
use crate::cli::failure::Failure;
use crate::cli::json::StatusJson;
use crate::cli::output::{Format, complain, say, say_json};
use crate::cli::socket::AdminArgs;
use crate::cli::text::printable;

/// What `quorate entry delete` takes.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The entry's ID. Can be repeated
    #[arg(long = "id", value_name = "ID", value_parser = EntryId::new, required = true)]
    ids: Vec<EntryId>,
}

/// `spire.api.server.entry.v1.BatchDeleteEntryResponse`
#[derive(Serialize)]
struct AnswerJson<'a> {
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
    let mut client = client(&connection);
    let mut results: Vec<Deleted> = Vec::with_capacity(args.ids.len());
    for batch in args.ids.chunks(BATCH) {
        let message = BatchDeleteEntryRequest { ids: batch.iter().map(ToString::to_string).collect() };
        let answer = client.batch_delete_entry(connection.request(message, BULK_CALL_LIMIT)).await;
        results.extend(answer.map_err(connection.failed("delete entries"))?.into_inner().results);
    }
    match args.admin.output {
        Format::Json => say_json(&AnswerJson { results: results.iter().map(result_json).collect() })?,
        Format::Table => results.iter().try_for_each(tell)?,
    }
    Failure::of_items("entries", results.iter().map(code))
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
