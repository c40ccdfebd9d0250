//! `quorate bundle set`

use std::path::PathBuf;

use clap::Args;
use quorate_proto_api::channel::BULK_CALL_LIMIT;
use quorate_proto_api::spire::bundle::BatchSetFederatedBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::types;
use quorate_proto_identity::{Bundle, TrustDomain};
use serde::Serialize;
use tonic::Code;

use super::described;
use crate::cli::failure::{Failure, Surface};
use crate::cli::json::BundleJson;
use crate::cli::output::{answer, complain};
use crate::cli::socket::AdminArgs;
use crate::given;

/// What follows the options.
const HELP: &str = "\
The bundle replaces the one that is held, whole. It stands until the next one that is fetched by a relationship, whatever
sequence number it has. What the authorities are is shown: compare them with the other side by another way.

Examples:
  quorate bundle set two.example two.example.json
  quorate bundle set two.example roots.pem";

/// What `quorate bundle set` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The foreign trust domain; a bundle does not say whose it is
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,

    /// Its bundle: a SPIFFE bundle document, or X.509 authorities as PEM; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What came of it.
#[derive(Serialize)]
struct SetJson<'a> {
    bundle: Option<BundleJson<'a>>,
}

/// Gives a bundle and shows what is held then.
pub(super) async fn run(args: SetArgs) -> Result<(), Failure> {
    const DEED: &str = "set the foreign bundle";
    let given::bundle::GivenBundle { bundle, notes } = given::bundle::read(&args.file, &args.trust_domain)?;
    notes.iter().for_each(|note| complain(&format!("Note: {note}")));
    if bundle.jwt_authorities().is_empty() {
        complain("Note: there is no JWT authority in it: JWT-SVIDs of that trust domain are refused.");
    }
    let connection = args.admin.connect()?;
    let message = BatchSetFederatedBundleRequest { bundle: vec![wire(&bundle)], output_mask: None };
    let results = BundleClient::new(connection.channel())
        .batch_set_federated_bundle(connection.request(message, BULK_CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner()
        .results;
    let wrong = || Failure::Answer { deed: DEED, what: "it has no result".to_owned() };
    let result = results.into_iter().next().ok_or_else(wrong)?;
    let status = result.status.ok_or_else(wrong)?;
    if Code::from(status.code) != Code::Ok {
        let (code, message) = (Code::from(status.code), status.message);
        return Err(Failure::Call { surface: Surface::Admin, deed: DEED, code, message });
    }
    let text = result.bundle.as_ref().map(described).unwrap_or_default();
    answer(args.admin.output, &text, &SetJson { bundle: result.bundle.as_ref().map(Into::into) })
}

fn wire(bundle: &Bundle) -> types::Bundle {
    types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: bundle
            .x509_authorities()
            .iter()
            .map(|certificate| types::X509Certificate { asn1: certificate.der().to_vec().into(), tainted: false })
            .collect(),
        jwt_authorities: bundle
            .jwt_authorities()
            .iter()
            .map(|authority| types::JwtKey {
                public_key: authority.public_key.spki_der().to_vec().into(),
                key_id: authority.key_id.clone(),
                expires_at: 0,
                tainted: false,
            })
            .collect(),
        refresh_hint: bundle.refresh_hint().unwrap_or_default(),
        sequence_number: bundle.sequence().unwrap_or_default(),
        wit_authorities: Vec::new(),
    }
}
