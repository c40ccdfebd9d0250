//! `quorate federation list` and `quorate federation show`

use clap::Args;
use quorate_proto_api::channel::{BULK_CALL_LIMIT, CALL_LIMIT};
use quorate_proto_api::cluster::{GetRelationshipRequest, ListRelationshipsRequest, Relationship};
use quorate_proto_identity::{TrustDomain, UnixSeconds};
use serde::Serialize;

use super::client;
use super::describe::{described, profile, sequence, server};
use super::json::RelationshipJson;
use crate::cli::failure::Failure;
use crate::cli::output::answer;
use crate::cli::socket::ReadArgs;
use crate::cli::text::Table;

/// What `quorate federation list` takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What `quorate federation show` takes.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,

    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,
}

/// `quorate.cluster.v1.ListRelationshipsResponse`
#[derive(Serialize)]
struct ListJson<'a> {
    relationships: Vec<RelationshipJson<'a>>,
}

/// Lists all relationships, a line each.
pub(super) async fn list(args: ListArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let relationships = client(&connection)
        .list_relationships(connection.request(ListRelationshipsRequest {}, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed("list the relationships"))?
        .into_inner()
        .relationships;
    let json = ListJson { relationships: relationships.iter().map(Into::into).collect() };
    answer(args.read.output(), &listed(&relationships), &json)
}

/// Shows one relationship.
pub(super) async fn show(args: ShowArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let message = GetRelationshipRequest { trust_domain: args.trust_domain.to_string() };
    let relationship = client(&connection)
        .get_relationship(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("show the relationship"))?
        .into_inner();
    answer(args.read.output(), &described(&relationship), &RelationshipJson::from(&relationship))
}

fn listed(relationships: &[Relationship]) -> String {
    if relationships.is_empty() {
        return "There are no relationships\n".to_owned();
    }
    let mut table = Table::new(["TRUST DOMAIN", "PROFILE", "URL", "SERVER", "SEQUENCE", "BUNDLE OF"]);
    for relationship in relationships {
        let (url, server) = server(relationship.endpoint.as_ref());
        let of = relationship
            .bundle
            .as_ref()
            .map_or_else(|| "(none held)".to_owned(), |bundle| UnixSeconds(bundle.changed_at).to_string());
        table.row([
            relationship.trust_domain.clone(),
            profile(relationship.endpoint.as_ref()).to_owned(),
            url.to_owned(),
            server,
            relationship.bundle.as_ref().map_or_else(|| "-".to_owned(), |bundle| sequence(bundle.sequence)),
            of,
        ]);
    }
    table.to_string()
}
