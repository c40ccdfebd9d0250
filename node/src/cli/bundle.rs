//! `quorate bundle`

use clap::{Args, Subcommand};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::spire::bundle::GetBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::types;
use quorate_proto_identity::UnixSeconds;
use quorate_proto_identity::x509::Certificate;
use tonic::{Code, Status};

use super::failure::Failure;
use super::json::BundleJson;
use super::output::answer;
use super::socket::ReadArgs;
use super::text::{Facts, Table};
use crate::duration::Seconds;

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
pub(super) enum BundleCommand {
    /// Show the trust domain's own bundle
    Show(ShowArgs),
}

/// What `quorate bundle show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,
}

impl BundleCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => show(args).await,
        }
    }
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let bundle = BundleClient::new(connection.channel())
        .get_bundle(connection.request(GetBundleRequest { output_mask: None }, CALL_LIMIT))
        .await
        .map_err(|status| connection.failed("show the bundle")(without_authority(status)))?
        .into_inner();
    answer(args.read.output(), &described(&bundle), &BundleJson::from(&bundle))
}

/// There is no bundle as long as there is no authority: the node cannot answer yet, which a script is told as with every
/// other command. The code on the wire is the one that SPIRE's clients wait at.
fn without_authority(status: Status) -> Status {
    if status.code() == Code::NotFound { Status::unavailable(status.message()) } else { status }
}

fn described(bundle: &types::Bundle) -> String {
    let mut facts = Facts::new();
    facts
        .add("Trust domain", &bundle.trust_domain)
        .add("Sequence", bundle.sequence_number)
        .add("Refresh hint", Seconds::new(bundle.refresh_hint));
    let mut table = Table::new(["KIND", "AUTHORITY", "VALID UNTIL", "TAINTED"]);
    for authority in &bundle.x509_authorities {
        let (id, until) = match Certificate::parse(&authority.asn1) {
            Ok(certificate) => (certificate.authority_id().to_string(), certificate.validity().not_after().to_string()),
            Err(error) => (format!("({error})"), "-".to_owned()),
        };
        table.row(["x509".to_owned(), id, until, yes(authority.tainted)]);
    }
    for key in &bundle.jwt_authorities {
        let until = UnixSeconds(key.expires_at).to_string();
        table.row(["jwt".to_owned(), key.key_id.clone(), until, yes(key.tainted)]);
    }
    for key in &bundle.wit_authorities {
        let until = UnixSeconds(key.expires_at).to_string();
        table.row(["wit".to_owned(), key.key_id.clone(), until, yes(key.tainted)]);
    }
    format!("{facts}\n{table}")
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}
