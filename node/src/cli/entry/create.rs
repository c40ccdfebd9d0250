//! `quorate entry create`

use std::path::PathBuf;

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::spire::entry::batch_create_entry_response::Result as Created;
use quorate_proto_api::spire::entry::{BatchCreateEntryRequest, BatchCreateEntryResponse};
use quorate_proto_api::spire::types;
use quorate_proto_identity::{EntryId, Selector, SpiffeId, TrustDomain};
use serde::Serialize;
use tonic::Code;

use super::{BATCH, attributes, client, data_file, to_come};
use crate::cli::entry::describe::Described;
use crate::cli::failure::Failure;
use crate::cli::json::{EntryJson, StatusJson};
use crate::cli::output::{Format, complain, say, say_json};
use crate::cli::socket::{AdminArgs, Connection};
use crate::cli::text::printable;
use crate::duration::Seconds;

/// Path of the built-in parent, which every node matches.
const EVERY_NODE: &str = "/spire/nodes";

/// What to begin with, below the options.
const EXAMPLES: &str = "\
Selectors that nodes find out about a process:
  unix:uid:1000  unix:user:web  unix:gid:1000  unix:group:web  unix:supplementary_gid:27
  unix:supplementary_group:sudo  unix:path:/usr/bin/server  unix:sha256:HEX

Examples:
  quorate entry create --spiffe-id spiffe://example.org/web --selector unix:user:web
  quorate entry create --spiffe-id spiffe://example.org/db --selector unix:uid:70 --x509-svid-ttl 30m --hint internal
  quorate entry create --data entries.json";

/// What `quorate entry create` takes: one entry by options, or many from a file.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// Read entries from a JSON file in the form of the SPIRE CLI; `-` is standard input
    #[arg(long, value_name = "FILE", exclusive = false, conflicts_with_all = [
        "id", "spiffe_id", "parent_id", "selectors", "x509_svid_ttl", "jwt_svid_ttl", "federates_with", "dns_names",
        "hint", "expires_at", "is_admin", "downstream", "store_svid", "crl_per_domain",
    ])]
    data: Option<PathBuf>,

    /// The SPIFFE ID to give
    #[arg(long, value_name = "ID", required_unless_present = "data")]
    spiffe_id: Option<SpiffeId>,

    /// What a workload must have: all of these. Can be repeated
    #[arg(long = "selector", value_name = "TYPE:VALUE", required_unless_present = "data")]
    selectors: Vec<Selector>,

    /// Whose workloads: a node, an alias of nodes, or a workload [default: /spire/nodes of the trust domain, which every
    /// node matches]
    #[arg(long, value_name = "ID")]
    parent_id: Option<SpiffeId>,

    /// Life of X509-SVIDs, such as 90s, 30m or 1h [default: the trust domain's policy]
    #[arg(long, value_name = "TIME")]
    x509_svid_ttl: Option<Seconds>,

    /// Life of JWT-SVIDs, such as 90s or 5m [default: the trust domain's policy]
    #[arg(long, value_name = "TIME")]
    jwt_svid_ttl: Option<Seconds>,

    /// The entry's own ID [default: a random one]
    #[arg(long, value_name = "ID", value_parser = EntryId::new)]
    id: Option<EntryId>,

    /// A DNS name for the X509-SVIDs. Can be repeated
    #[arg(long = "dns-name", value_name = "NAME")]
    dns_names: Vec<String>,

    /// A trust domain whose bundle the workload gets too. Can be repeated
    #[arg(long, value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    federates_with: Vec<TrustDomain>,

    /// What tells the workload which of its SVIDs this is
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,

    /// When the entry goes, in Unix seconds
    #[arg(long, value_name = "SECONDS", value_parser = to_come)]
    expires_at: Option<i64>,

    /// Let the workload administer the trust domain
    #[arg(long = "admin")]
    is_admin: bool,

    /// Let the workload have a signing authority of its own
    #[arg(long)]
    downstream: bool,

    /// Keep the SVIDs for a store of secrets
    #[arg(long)]
    store_svid: bool,

    /// The workload keeps a store of authorities and CRLs for each trust domain, so that it is given our CRLs beside foreign
    /// bundles
    #[arg(long)]
    crl_per_domain: bool,
}

/// `spire.api.server.entry.v1.BatchCreateEntryResponse`
#[derive(Serialize)]
struct AnswerJson<'a> {
    results: Vec<ResultJson<'a>>,
}

#[derive(Serialize)]
struct ResultJson<'a> {
    status: Option<StatusJson<'a>>,
    entry: Option<EntryJson<'a>>,
}

/// Creates entries, tells of each.
pub(super) async fn run(args: CreateArgs) -> Result<(), Failure> {
    let entries = match &args.data {
        Some(path) => data_file::read(path)?,
        None => vec![entry(&args)?],
    };
    if entries.is_empty() && args.admin.output == Format::Table {
        return say("There are no entries in the list: nothing was created\n");
    }
    let connection = args.admin.connect()?;
    let results = create(&connection, &entries).await?;
    if args.crl_per_domain {
        let made = results.iter().filter(|result| code(result) == Code::Ok).filter_map(|result| result.entry.as_ref());
        for entry in made {
            attributes::set_crl_per_domain(&connection, &entry.id, true).await?;
        }
    }
    match args.admin.output {
        Format::Json => say_json(&AnswerJson { results: results.iter().map(result_json).collect() })?,
        Format::Table => tell(&entries, &results)?,
    }
    Failure::of_items("entries", results.iter().map(code))
}

/// The one entry that the options describe.
fn entry(args: &CreateArgs) -> Result<types::Entry, Failure> {
    let missing = || Failure::Usage("--spiffe-id ID or --data FILE is needed".to_owned());
    let spiffe_id = args.spiffe_id.as_ref().ok_or_else(missing)?;
    let every_node =
        || types::Spiffeid { trust_domain: spiffe_id.trust_domain_name().to_owned(), path: EVERY_NODE.to_owned() };
    let ttl = |name: &str, ttl: Option<Seconds>| {
        ttl.unwrap_or_default().as_i32().map_err(|error| Failure::Usage(format!("{name}: {error}")))
    };
    Ok(types::Entry {
        id: args.id.as_ref().map(ToString::to_string).unwrap_or_default(),
        spiffe_id: Some(spiffe_id.into()),
        parent_id: Some(args.parent_id.as_ref().map_or_else(every_node, Into::into)),
        selectors: args.selectors.iter().map(Into::into).collect(),
        x509_svid_ttl: ttl("--x509-svid-ttl", args.x509_svid_ttl)?,
        federates_with: args.federates_with.iter().map(|name| name.as_str().to_owned()).collect(),
        admin: args.is_admin,
        downstream: args.downstream,
        expires_at: args.expires_at.unwrap_or_default(),
        dns_names: args.dns_names.clone(),
        revision_number: 0,
        store_svid: args.store_svid,
        jwt_svid_ttl: ttl("--jwt-svid-ttl", args.jwt_svid_ttl)?,
        hint: args.hint.clone().unwrap_or_default(),
        created_at: 0,
        additional_attributes: None,
    })
}

async fn create(connection: &Connection, entries: &[types::Entry]) -> Result<Vec<Created>, Failure> {
    const DEED: &str = "create entries";
    let mut client = client(connection);
    let mut results = Vec::with_capacity(entries.len());
    for batch in entries.chunks(BATCH) {
        let message = BatchCreateEntryRequest { entries: batch.to_vec(), output_mask: None };
        let BatchCreateEntryResponse { results: answered } = client
            .batch_create_entry(connection.request(message, BULK_CALL_LIMIT))
            .await
            .map_err(connection.failed(DEED))?
            .into_inner();
        if answered.len() != batch.len() {
            let what = format!("{} results for {} entries", answered.len(), batch.len());
            return Err(Failure::Answer { deed: DEED, what });
        }
        results.extend(answered);
    }
    Ok(results)
}

/// Entries that were made go to standard output, the others to standard error.
fn tell(entries: &[types::Entry], results: &[Created]) -> Result<(), Failure> {
    for (asked, result) in entries.iter().zip(results) {
        if code(result) == Code::Ok {
            let made = result.entry.as_ref().unwrap_or(asked);
            say(&format!("{}\n", Described(made)))?;
            continue;
        }
        let code = code(result);
        let message = result.status.as_ref().map(|status| printable(&status.message)).unwrap_or_default();
        let there = match (&result.entry, code) {
            (Some(there), Code::AlreadyExists) => format!(" (it is {})", printable(&there.id)),
            _ => String::new(),
        };
        complain(&format!("Not created: {message} ({code:?}){there}\n{}", Described(asked)));
    }
    Ok(())
}

/// What an item came to. One without a status, which no node answers, was not done.
fn code(result: &Created) -> Code {
    result.status.as_ref().map_or(Code::Internal, |status| Code::from(status.code))
}

fn result_json(result: &Created) -> ResultJson<'_> {
    ResultJson { status: result.status.as_ref().map(Into::into), entry: result.entry.as_ref().map(Into::into) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn parse(line: &[&str]) -> Result<CreateArgs, clap::Error> {
        Command::try_parse_from([&["create"], line].concat()).map(|command| command.args)
    }

    #[test]
    fn without_a_parent_the_entry_is_for_every_node() {
        let args =
            parse(&["--spiffe-id", "spiffe://example.org/web", "--selector", "unix:uid:1", "--x509-svid-ttl", "1h"]);
        let entry = entry(&args.unwrap()).unwrap();
        let parent = entry.parent_id.unwrap();
        assert_eq!((parent.trust_domain.as_str(), parent.path.as_str()), ("example.org", "/spire/nodes"));
        assert_eq!(entry.x509_svid_ttl, 3_600);
    }

    #[test]
    fn malformed_ids_selectors_and_lifetimes_are_refused_on_the_command_line() {
        for (line, said) in [
            (vec!["--spiffe-id", "spiffe://example.org/a//b", "--selector", "unix:uid:1"], "empty segment"),
            (vec!["--spiffe-id", "spiffe://example.org/web", "--selector", "unix"], "no ':' between type and value"),
            (
                vec!["--spiffe-id", "spiffe://example.org/web", "--selector", "a:b", "--jwt-svid-ttl=-5"],
                "--jwt-svid-ttl",
            ),
            (
                vec!["--spiffe-id", "spiffe://example.org/web", "--selector", "a:b", "--expires-at", "1000000000"],
                "in the past",
            ),
            (vec!["--selector", "unix:uid:1"], "--spiffe-id"),
            (vec!["--spiffe-id", "spiffe://example.org/web"], "--selector"),
            (vec!["--data", "f", "--spiffe-id", "spiffe://example.org/web"], "cannot be used with"),
        ] {
            let error = parse(&line).unwrap_err().to_string();
            assert!(error.contains(said), "{line:?}: {error}");
        }
    }

    #[test]
    fn a_lifetime_beyond_what_the_api_counts_is_refused_by_its_name() {
        let args =
            parse(&["--spiffe-id", "spiffe://example.org/web", "--selector", "a:b", "--x509-svid-ttl", "36500d"]);
        let error = entry(&args.unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("--x509-svid-ttl: "), "{error}");
    }
}
