//! `quorate federation refresh`

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::cluster::{RefreshRelationshipRequest, RefreshRelationshipResponse};
use quorate_proto_identity::TrustDomain;
use serde::Serialize;

use super::client;
use super::json::HeldJson;
use crate::cli::cluster::change::lines;
use crate::cli::failure::Failure;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;

/// What follows the options.
const HELP: &str = "\
A bundle whose sequence number is lower than that of the one fetched before is not taken: somebody may be playing back an
old one. Only when the other side says that it was rebuilt, take it with --accept-older, once.";

/// What `quorate federation refresh` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct RefreshArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,

    /// Take the bundle even if it is older than the one fetched before
    #[arg(long)]
    accept_older: bool,
}

/// `quorate.cluster.v1.RefreshRelationshipResponse`
#[derive(Serialize)]
struct RefreshJson<'a> {
    sentences: &'a [String],
    changed: bool,
    bundle: Option<HeldJson>,
}

/// Fetches now and tells what came.
pub(super) async fn run(args: RefreshArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let message =
        RefreshRelationshipRequest { trust_domain: args.trust_domain.to_string(), accept_older: args.accept_older };
    let RefreshRelationshipResponse { sentences, changed, bundle } = client(&connection)
        .refresh_relationship(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed("fetch the bundle"))?
        .into_inner();
    let json = RefreshJson { sentences: &sentences, changed, bundle: bundle.as_ref().map(Into::into) };
    answer(args.admin.output, &lines(&sentences, &[]), &json)
}
