//! `quorate ledger`: what this node has issued.

use clap::{Args, Subcommand};
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::revocations_client::RevocationsClient;
use quorate_proto_api::cluster::{IssuedSvid, LedgerGap, LedgerRow, SearchLedgerRequest, issued_svid, ledger_row};
use quorate_proto_identity::{EntryId, SpiffeId, UnixSeconds};
use serde::Serialize;

use super::failure::Failure;
use super::json::Wide;
use super::output::{Format, say, say_json};
use super::socket::{Connection, ReadArgs};
use super::text::Table;

/// Most rows that are shown when nobody says how many.
const DEFAULT_LIMIT: u32 = 100;

/// Rows of one call.
const PAGE: u32 = 1_000;

/// Largest answer taken, in bytes: a page of a thousand rows has at most some 3 MiB.
const ANSWER_BYTES_LIMIT: usize = 16 * 1024 * 1024;

/// What follows the commands of `quorate ledger --help`.
const HELP: &str = "\
Each node keeps a ledger of what it signed itself and what has not ended: ask at that node's socket. `--issuing-key` lists \
what a key has signed, if it was stolen. A node can afford to lose its ledger, and when it cannot keep up it notes a gap: what \
is looked for may be there. Revocation does not depend on it.

Examples:
  quorate ledger search --spiffe-id spiffe://example.org/web
  quorate ledger search --serial 4f0a1b2c3d4e5f60718293a4b5c6d7e8 -o json
  quorate ledger search --limit 0";

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum LedgerCommand {
    /// Search what this node has issued and what has not ended
    Search(SearchArgs),
}

/// What `quorate ledger search` takes. Without any filter, everything is found.
#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    read: ReadArgs,

    /// The X509-SVID with this serial number: in decimal, or as its 32 hexadecimal digits
    #[arg(long, value_name = "NUMBER", conflicts_with = "jti")]
    serial: Option<String>,

    /// The JWT-SVID with this jti
    #[arg(long, value_name = "JTI")]
    jti: Option<String>,

    /// What was issued with this SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,

    /// What was issued for the entry with this ID
    #[arg(long, value_name = "ID", value_parser = EntryId::new)]
    entry: Option<EntryId>,

    /// What this key has signed: the subject key ID of an issuing key, or the kid of a token key
    #[arg(long, value_name = "ID")]
    issuing_key: Option<String>,

    /// What ends at this instant or later, in Unix seconds
    #[arg(long, value_name = "SECONDS")]
    ends_from: Option<i64>,

    /// What ends at this instant or earlier, in Unix seconds
    #[arg(long, value_name = "SECONDS")]
    ends_to: Option<i64>,

    /// Most rows to show; 0 shows all
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_LIMIT)]
    limit: u32,
}

impl LedgerCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Search(args) => search(args).await,
        }
    }
}

async fn search(args: SearchArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let limit = if args.limit == 0 { usize::MAX } else { usize::try_from(args.limit).unwrap_or(usize::MAX) };
    let (rows, more) = found(&connection, &args, limit).await?;
    match args.read.output() {
        Format::Json => say_json(&AnswerJson { rows: rows.iter().filter_map(row_json).collect(), more }),
        Format::Table => say(&described(&rows, more)),
    }
}

/// Rows up to the limit, and whether there may be more.
async fn found(connection: &Connection, args: &SearchArgs, limit: usize) -> Result<(Vec<LedgerRow>, bool), Failure> {
    let mut client = RevocationsClient::new(connection.channel()).max_decoding_message_size(ANSWER_BYTES_LIMIT);
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = limit.saturating_sub(rows.len());
        let message = SearchLedgerRequest {
            serial: args.serial.clone().unwrap_or_default(),
            jti: args.jti.clone().unwrap_or_default(),
            spiffe_id: args.spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            entry_id: args.entry.as_ref().map(ToString::to_string).unwrap_or_default(),
            issuing_key: args.issuing_key.clone().unwrap_or_default(),
            ends_from: args.ends_from.unwrap_or_default(),
            ends_to: args.ends_to.unwrap_or_default(),
            page_size: u32::try_from(left).unwrap_or(PAGE).min(PAGE),
            page_token,
        };
        let page = client
            .search_ledger(connection.request(message, BULK_CALL_LIMIT))
            .await
            .map_err(connection.failed("search the ledger"))?
            .into_inner();
        rows.extend(page.rows);
        page_token = page.next_page_token;
        if page_token.is_empty() || rows.len() >= limit {
            return Ok((rows, !page_token.is_empty()));
        }
    }
}

/// The rows, for programs.
#[derive(Serialize)]
struct AnswerJson<'a> {
    rows: Vec<RowJson<'a>>,
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RowJson<'a> {
    Issued(IssuedJson<'a>),
    Gap { count: Wide<u64>, from: Wide<i64>, to: Wide<i64> },
}

#[derive(Serialize)]
struct IssuedJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    spiffe_id: &'a str,
    entry_id: &'a str,
    issued_at: Wide<i64>,
    not_after: Wide<i64>,
    issuing_key: &'a str,
    revoked: bool,
}

fn row_json(row: &LedgerRow) -> Option<RowJson<'_>> {
    Some(match row.row.as_ref()? {
        ledger_row::Row::Issued(issued) => {
            let (serial, jti) = match issued.id.as_ref()? {
                issued_svid::Id::Serial(serial) => (Some(serial.as_str()), None),
                issued_svid::Id::Jti(jti) => (None, Some(jti.as_str())),
            };
            RowJson::Issued(IssuedJson {
                serial,
                jti,
                spiffe_id: &issued.spiffe_id,
                entry_id: &issued.entry_id,
                issued_at: Wide(issued.issued_at),
                not_after: Wide(issued.not_after),
                issuing_key: &issued.issuing_key,
                revoked: issued.revoked,
            })
        }
        ledger_row::Row::Gap(LedgerGap { count, from, to }) => {
            RowJson::Gap { count: Wide(*count), from: Wide(*from), to: Wide(*to) }
        }
    })
}

fn described(rows: &[LedgerRow], more: bool) -> String {
    let mut table =
        Table::new(["KIND", "SERIAL OR JTI", "SPIFFE ID", "ENTRY", "ISSUED", "ENDS", "SIGNED BY", "REVOKED"]);
    let (mut count, mut gaps) = (0_usize, String::new());
    for row in rows {
        match &row.row {
            Some(ledger_row::Row::Issued(issued)) => {
                count = count.saturating_add(1);
                table.row(cells(issued));
            }
            Some(ledger_row::Row::Gap(LedgerGap { count, from, to })) => gaps.push_str(&format!(
                "Note: {count} rows are missing, issued from {} to {}: what you look for may be among them\n",
                UnixSeconds(*from),
                UnixSeconds(*to)
            )),
            None => {}
        }
    }
    let found = if count == 0 { "Nothing was found on this node\n".to_owned() } else { table.to_string() };
    let rest = if more { "Note: there is more; --limit 0 shows all of it\n" } else { "" };
    format!("{found}{gaps}{rest}")
}

fn cells(issued: &IssuedSvid) -> [String; 8] {
    let (kind, id) = match &issued.id {
        Some(issued_svid::Id::Serial(serial)) => ("x509", serial.clone()),
        Some(issued_svid::Id::Jti(jti)) => ("jwt", jti.clone()),
        None => ("?", String::new()),
    };
    let entry = if issued.entry_id.is_empty() { "minted" } else { &issued.entry_id };
    [
        kind.to_owned(),
        id,
        issued.spiffe_id.clone(),
        entry.to_owned(),
        UnixSeconds(issued.issued_at).to_string(),
        UnixSeconds(issued.not_after).to_string(),
        issued.issuing_key.clone(),
        if issued.revoked { "yes" } else { "-" }.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_so_that_nobody_takes_what_was_found_for_all() {
        let gap = LedgerRow { row: Some(ledger_row::Row::Gap(LedgerGap { count: 3, from: 0, to: 60 })) };
        let text = described(&[gap], true);
        assert!(text.starts_with("Nothing was found on this node\nNote: 3 rows are missing"), "{text}");
        assert!(text.contains("--limit 0"), "{text}");
    }
}
