//! `quorate entry show`

use clap::Args;
use quorate_proto_api::channel::{BULK_CALL_LIMIT, CALL_LIMIT};
use quorate_proto_api::spire::entry::{GetEntryRequest, ListEntriesRequest, list_entries_request};
use quorate_proto_api::spire::types;
use quorate_proto_identity::EntryId;
use serde::Serialize;

use super::describe::listed;
use super::filter::{Filter, FilterArgs};
use super::{BATCH, attributes, client};
use crate::cli::failure::Failure;
use crate::cli::json::EntryJson;
use crate::cli::output::{Format, say, say_json};
use crate::cli::socket::{Connection, ReadArgs};

/// What `quorate entry show` takes.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,

    /// The entry with this ID
    #[arg(long, value_name = "ID", value_parser = EntryId::new, conflicts_with_all = [
        "spiffe_id", "parent_id", "selectors", "federates_with", "hint", "downstream",
    ])]
    id: Option<EntryId>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// `spire.api.server.entry.v1.ListEntriesResponse`
#[derive(Serialize)]
struct AnswerJson<'a> {
    entries: Vec<EntryJson<'a>>,
    next_page_token: &'static str,
}

/// Shows entries in the order of their creation.
pub(super) async fn run(args: ShowArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    if let Some(id) = args.id {
        let entry = [get(&connection, &id).await?];
        return match (args.read.output(), &entry) {
            (Format::Json, [entry]) => say_json(&EntryJson::from(entry)),
            (Format::Table, entry) => {
                let crl_per_domain = attributes::with_crl_per_domain(&connection, entry).await?;
                say(&listed(entry, &crl_per_domain))
            }
        };
    }
    let entries = list(&connection, args.filter.into()).await?;
    let json = AnswerJson { entries: entries.iter().map(Into::into).collect(), next_page_token: "" };
    let found = match entries.len() {
        1 => "Found 1 entry\n\n".to_owned(),
        count => format!("Found {count} entries\n\n"),
    };
    match args.read.output() {
        Format::Table => {
            let crl_per_domain = attributes::with_crl_per_domain(&connection, &entries).await?;
            say(&(found + &listed(&entries, &crl_per_domain)))
        }
        Format::Json => say_json(&json),
    }
}

async fn get(connection: &Connection, id: &EntryId) -> Result<types::Entry, Failure> {
    let message = GetEntryRequest { id: id.to_string(), output_mask: None };
    let answer = client(connection).get_entry(connection.request(message, CALL_LIMIT)).await;
    Ok(answer.map_err(connection.failed("show the entry"))?.into_inner())
}

/// Page by page: an answer with everything would be larger than gRPC takes.
async fn list(connection: &Connection, filter: Filter) -> Result<Vec<types::Entry>, Failure> {
    let mut client = client(connection);
    let filter = list_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id,
        by_parent_id: filter.by_parent_id,
        by_selectors: filter.by_selectors,
        by_federates_with: filter.by_federates_with,
        by_hint: filter.by_hint,
        by_downstream: filter.by_downstream,
    };
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let message = ListEntriesRequest {
            filter: Some(filter.clone()),
            output_mask: None,
            page_size: i32::try_from(BATCH).unwrap_or(i32::MAX),
            page_token,
        };
        let page = client
            .list_entries(connection.request(message, BULK_CALL_LIMIT))
            .await
            .map_err(connection.failed("show entries"))?
            .into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}
