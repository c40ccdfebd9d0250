//! What commands that change relationships have in common, and `quorate federation delete`.

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::{DeleteRelationshipRequest, RelationshipChange};
use quorate_proto_identity::TrustDomain;
use serde::Serialize;

use super::client;
use super::json::RelationshipJson;
use crate::cli::cluster::change::{ChangeArgs, NOTHING_DONE, lines};
use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::{Format, say, say_json};

/// What `quorate federation delete` takes.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    change: ChangeArgs,

    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,
}

/// `quorate.cluster.v1.RelationshipChange`
#[derive(Serialize)]
struct ChangeJson<'a> {
    dry_run: bool,
    relationship: Option<RelationshipJson<'a>>,
    sentences: &'a [String],
    warnings: &'a [String],
    log_index: Wide<u64>,
}

/// Ends a relationship.
pub(super) async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let connection = args.change.admin.connect()?;
    let message =
        DeleteRelationshipRequest { trust_domain: args.trust_domain.to_string(), dry_run: args.change.dry_run };
    let answer = client(&connection)
        .delete_relationship(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("delete the relationship"))?
        .into_inner();
    told(&args.change, &answer)
}

/// Prints what came of a change.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn told(args: &ChangeArgs, answer: &RelationshipChange) -> Result<(), Failure> {
    let RelationshipChange { relationship, sentences, warnings, log_index } = answer;
    match args.admin.output {
        Format::Table => {
            say(&lines(sentences, warnings))?;
            if args.dry_run { say(NOTHING_DONE) } else { Ok(()) }
        }
        Format::Json => say_json(&ChangeJson {
            dry_run: args.dry_run,
            relationship: relationship.as_ref().map(Into::into),
            sentences,
            warnings,
            log_index: Wide(*log_index),
        }),
    }
}
