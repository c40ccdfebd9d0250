//! `quorate federation status`

use clap::Args;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::{RelationshipStatus, ShowFederationRequest, ShowFederationResponse};
use quorate_proto_identity::TrustDomain;

use super::client;
use super::describe::sequence;
use super::json::FederationJson;
use crate::cli::failure::Failure;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;
use crate::cli::text::Table;
use crate::duration::Seconds;

/// What follows the options.
const HELP: &str = "\
Times are told from now. STATE is `stale` when nothing was fetched for three intervals, `fresh` otherwise, and `none` while
nothing was fetched yet since this leader leads. A failed fetch is tried again at the next interval; until then what is held holds.";

/// What `quorate federation status` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// Only of this foreign trust domain [default: of all]
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: Option<TrustDomain>,
}

/// Asks the leader how fetching stands.
pub(super) async fn run(args: StatusArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let trust_domain = args.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default();
    let status = client(&connection)
        .show_federation(connection.request(ShowFederationRequest { trust_domain }, CALL_LIMIT))
        .await
        .map_err(connection.failed("tell how fetching stands"))?
        .into_inner();
    answer(args.admin.output, &described(&status), &FederationJson::from(&status))
}

fn described(of: &ShowFederationResponse) -> String {
    if of.statuses.is_empty() {
        return "There are no relationships\n".to_owned();
    }
    let mut table = Table::new(["TRUST DOMAIN", "STATE", "FETCHED", "NEXT", "SEQUENCE", "PUSH", "BY", "ERROR"]);
    for status in &of.statuses {
        table.row([
            status.trust_domain.clone(),
            state(status).to_owned(),
            status.last_success.map_or_else(|| "never".to_owned(), |at| ago(of.now, at)),
            status.next_try.map_or_else(|| "-".to_owned(), |at| ahead(of.now, at)),
            sequence(status.sequence),
            if status.watching { "yes" } else { "-" }.to_owned(),
            if status.fetched_by.is_empty() { "-" } else { &status.fetched_by }.to_owned(),
            if status.error.is_empty() { "-" } else { &status.error }.to_owned(),
        ]);
    }
    table.to_string()
}

fn state(status: &RelationshipStatus) -> &'static str {
    match (status.stale, status.last_success) {
        (true, _) => "stale",
        (false, Some(_)) => "fresh",
        (false, None) => "none",
    }
}

fn ago(now: i64, at: i64) -> String {
    format!("{} ago", Seconds::new(now.saturating_sub(at)))
}

fn ahead(now: i64, at: i64) -> String {
    format!("in {}", Seconds::new(at.saturating_sub(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_beside_what_still_holds() {
        let answer = ShowFederationResponse {
            now: 1_000,
            statuses: vec![
                RelationshipStatus {
                    trust_domain: "two.example".into(),
                    last_success: Some(940),
                    next_try: Some(1_240),
                    sequence: Some(7),
                    fetched_by: "node-1".into(),
                    watching: true,
                    ..RelationshipStatus::default()
                },
                RelationshipStatus {
                    trust_domain: "three.example".into(),
                    error: "nobody answers".into(),
                    stale: true,
                    ..RelationshipStatus::default()
                },
            ],
        };
        assert_eq!(
            described(&answer),
            "TRUST DOMAIN   STATE  FETCHED  NEXT   SEQUENCE  PUSH  BY      ERROR\n\
             two.example    fresh  1m ago   in 4m  7         yes   node-1  -\n\
             three.example  stale  never    -      -         -     -       nobody answers\n"
        );
    }
}
