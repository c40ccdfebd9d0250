//! `quorate bundle delete`

use clap::{Args, ValueEnum};
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::spire::bundle::BatchDeleteFederatedBundleRequest;
use quorate_proto_api::spire::bundle::batch_delete_federated_bundle_request;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_identity::TrustDomain;
use serde::Serialize;
use tonic::Code;

use crate::cli::failure::{Failure, Surface};
use crate::cli::json::StatusJson;
use crate::cli::output::answer;
use crate::cli::socket::AdminArgs;

/// What follows the options.
const HELP: &str = "\
A relationship that goes on fetches the bundle again: `quorate federation delete` ends it, and withdraws the bundle with it.

Examples:
  quorate bundle delete two.example
  quorate bundle delete two.example --mode dissociate";

/// What becomes of entries that federate with the trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// As long as there are any, the bundle stays
    Restrict,
    /// They are deleted, too
    Delete,
    /// They are unlinked from it
    Dissociate,
}

/// What `quorate bundle delete` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The foreign trust domain
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,

    /// What becomes of entries that federate with it
    #[arg(long, value_enum, default_value = "restrict", value_name = "MODE")]
    mode: Mode,
}

/// `spire.api.server.bundle.v1.BatchDeleteFederatedBundleResponse.Result`
#[derive(Serialize)]
struct DeletedJson<'a> {
    status: StatusJson<'a>,
    trust_domain: &'a str,
}

/// Deletes a bundle.
pub(super) async fn run(args: DeleteArgs) -> Result<(), Failure> {
    const DEED: &str = "delete the foreign bundle";
    let connection = args.admin.connect()?;
    let mode = match args.mode {
        Mode::Restrict => batch_delete_federated_bundle_request::Mode::Restrict,
        Mode::Delete => batch_delete_federated_bundle_request::Mode::Delete,
        Mode::Dissociate => batch_delete_federated_bundle_request::Mode::Dissociate,
    };
    let message =
        BatchDeleteFederatedBundleRequest { trust_domains: vec![args.trust_domain.to_string()], mode: mode.into() };
    let results = BundleClient::new(connection.channel())
        .batch_delete_federated_bundle(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner()
        .results;
    let status = results.into_iter().next().and_then(|result| result.status);
    let status = status.ok_or_else(|| Failure::Answer { deed: DEED, what: "it has no result".to_owned() })?;
    if Code::from(status.code) != Code::Ok {
        let (code, message) = (Code::from(status.code), status.message);
        return Err(Failure::Call { surface: Surface::Admin, deed: DEED, code, message });
    }
    let name = args.trust_domain.to_string();
    let entries = match args.mode {
        Mode::Restrict => "",
        Mode::Delete => " The entries that federated with it are deleted.",
        Mode::Dissociate => " No entry federates with it any more.",
    };
    let text = format!("The bundle of {name} is deleted and withdrawn from all workloads.{entries}\n");
    answer(args.admin.output, &text, &DeletedJson { status: (&status).into(), trust_domain: &name })
}
