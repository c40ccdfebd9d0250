//! `quorate bundle`: our own bundle, and those of foreign trust domains.

mod delete;
mod list;
mod set;

use clap::{Args, Subcommand, ValueEnum};
use quorate_proto_api::channel::{BULK_CALL_LIMIT, CALL_LIMIT};
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::bundle::{GetBundleRequest, GetFederatedBundleRequest};
use quorate_proto_api::spire::types;
use quorate_proto_identity::x509::Certificate;
use quorate_proto_identity::{Bundle, JwtAuthority, PublicKey, TrustDomain, UnixSeconds};
use tonic::{Code, Status};

use super::certificates::pem;
use super::failure::Failure;
use super::json::BundleJson;
use super::output::{answer, complain, say};
use super::socket::ReadArgs;
use super::text::{Facts, Table};
use crate::duration::Seconds;

/// What follows the commands of `quorate bundle --help`.
const HELP: &str = "\
A bundle has the public keys that the SVIDs of a trust domain are verified with. Whoever can change it on its way can be
anybody of that trust domain: hand it over so that nobody can, and compare by another way. `quorate federation --help` leads
through the first exchange.

Examples:
  quorate bundle show
  quorate bundle show --format spiffe
  quorate bundle show two.example
  quorate bundle set two.example two.example.json
  quorate bundle list
  quorate bundle delete two.example --mode dissociate";

/// What can be done with bundles.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum BundleCommand {
    /// Show the trust domain's own bundle, or a foreign one that is held
    Show(ShowArgs),
    /// List the foreign bundles that are held
    List(list::ListArgs),
    /// Give the bundle of a foreign trust domain by hand; it stands until the next one that is fetched
    Set(set::SetArgs),
    /// Delete a foreign bundle: SVIDs of that trust domain are refused from then on
    Delete(delete::DeleteArgs),
}

/// What `quorate bundle show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,

    /// A foreign trust domain [default: our own]
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: Option<TrustDomain>,

    /// Print the document itself, in a form that can be handed over
    #[arg(long, value_enum, value_name = "FORM", conflicts_with = "output")]
    format: Option<Form>,
}

/// The forms of a bundle that can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The SPIFFE bundle document: X.509 and JWT authorities, sequence number, refresh hint
    Spiffe,
    /// X.509 authorities alone, as PEM
    Pem,
}

impl BundleCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => show(args).await,
            Self::List(args) => list::run(args).await,
            Self::Set(args) => set::run(args).await,
            Self::Delete(args) => delete::run(args).await,
        }
    }
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    const DEED: &str = "show the bundle";
    let connection = args.read.connect()?;
    let mut client = BundleClient::new(connection.channel());
    let bundle = match &args.trust_domain {
        Some(name) => {
            let message = GetFederatedBundleRequest { trust_domain: name.to_string(), output_mask: None };
            let asked = connection.request(message, BULK_CALL_LIMIT);
            client.get_federated_bundle(asked).await.map_err(connection.failed(DEED))?.into_inner()
        }
        None => client
            .get_bundle(connection.request(GetBundleRequest { output_mask: None }, CALL_LIMIT))
            .await
            .map_err(|status| connection.failed(DEED)(without_authority(status)))?
            .into_inner(),
    };
    match args.format {
        None => answer(args.read.output(), &described(&bundle), &BundleJson::from(&bundle)),
        Some(form) => say(&document(&bundle, form).map_err(|what| Failure::Answer { deed: DEED, what })?),
    }
}

/// The bundle as a document of its own. Tainted authorities are in it, too: what they signed is replaced, and not refused yet.
fn document(wire: &types::Bundle, form: Form) -> Result<String, String> {
    if form == Form::Pem {
        if !wire.jwt_authorities.is_empty() {
            complain("Note: this form has no room for JWT authorities: JWT-SVIDs cannot be verified by it.");
        }
        return Ok(wire.x509_authorities.iter().map(|authority| pem("CERTIFICATE", &authority.asn1)).collect());
    }
    let trust_domain = TrustDomain::new(&wire.trust_domain).map_err(|error| error.to_string())?;
    let mut bundle = Bundle::new(trust_domain);
    for authority in &wire.x509_authorities {
        bundle.add_x509_authority(Certificate::parse(&authority.asn1).map_err(|error| error.to_string())?);
    }
    for key in &wire.jwt_authorities {
        let public_key = PublicKey::from_spki_der(&key.public_key).map_err(|error| error.to_string())?;
        bundle.add_jwt_authority(JwtAuthority { key_id: key.key_id.clone(), public_key });
    }
    bundle.set_refresh_hint(Some(wire.refresh_hint).filter(|hint| *hint > 0));
    bundle.set_sequence(Some(wire.sequence_number).filter(|sequence| *sequence > 0));
    Ok(bundle.to_json() + "\n")
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
        table.row(["jwt".to_owned(), key.key_id.clone(), until(key.expires_at), yes(key.tainted)]);
    }
    for key in &bundle.wit_authorities {
        table.row(["wit".to_owned(), key.key_id.clone(), until(key.expires_at), yes(key.tainted)]);
    }
    format!("{facts}\n{table}")
}

/// The end of a token key. A foreign bundle has none: its document does not tell.
fn until(expires_at: i64) -> String {
    match expires_at {
        0 => "-".to_owned(),
        at => UnixSeconds(at).to_string(),
    }
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{KeyType, PrivateKey};

    use super::*;

    #[test]
    fn a_bundle_is_handed_over_as_the_document_that_others_read() {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let wire = types::Bundle {
            trust_domain: "one.example".into(),
            jwt_authorities: vec![types::JwtKey {
                public_key: key.public_key().spki_der().to_vec().into(),
                key_id: "k1".into(),
                ..types::JwtKey::default()
            }],
            refresh_hint: 300,
            sequence_number: 7,
            ..types::Bundle::default()
        };
        let text = document(&wire, Form::Spiffe).unwrap();
        let read = Bundle::parse(&TrustDomain::new("one.example").unwrap(), text.as_bytes()).unwrap();
        assert!(read.skipped.is_empty());
        assert_eq!((read.bundle.sequence(), read.bundle.refresh_hint()), (Some(7), Some(300)));
        assert_eq!(read.bundle.jwt_authority("k1").map(|key| &key.public_key), Some(key.public_key()));
    }

    #[test]
    fn a_token_key_of_others_has_no_end_in_1970() {
        assert_eq!((until(0), until(1_795_452_450)), ("-".to_owned(), "2026-11-23T16:47:30Z".to_owned()));
    }
}
