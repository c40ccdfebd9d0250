//! `quorate fetch x509`

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use quorate_proto_api::workload::{X509svid, X509svidRequest, X509svidResponse};
use quorate_proto_identity::PublicKeyKind;
use quorate_proto_identity::x509::Certificate;
use serde::Serialize;

use super::{client, first};
use crate::cli::certificates::{serial, split, validity};
use crate::cli::failure::Failure;
use crate::cli::files::PrivateDirectory;
use crate::cli::json::Base64;
use crate::cli::output::{Format, answer, say};
use crate::cli::socket::WorkloadArgs;
use crate::cli::text::Facts;

const DEED: &str = "fetch X509-SVIDs";

/// What `quorate fetch x509` takes.
#[derive(Debug, Args)]
pub(crate) struct X509Args {
    #[command(flatten)]
    workload: WorkloadArgs,

    /// Write certificates, keys and bundles as PEM into this directory, which only its owner may enter
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

/// `X509SVIDResponse` without private keys.
#[derive(Serialize)]
struct AnswerJson<'a> {
    svids: Vec<SvidJson<'a>>,
    crl: Vec<Base64<'a>>,
    federated_bundles: BTreeMap<&'a str, Base64<'a>>,
}

#[derive(Serialize)]
struct SvidJson<'a> {
    spiffe_id: &'a str,
    x509_svid: Base64<'a>,
    bundle: Base64<'a>,
    hint: &'a str,
}

/// Fetches once and shows what came; writes it when asked.
pub(super) async fn run(args: X509Args) -> Result<(), Failure> {
    let directory = args.write.as_deref().map(PrivateDirectory::open).transpose()?;
    let connection = args.workload.connect()?;
    let mut client = client(&connection);
    let call = client.fetch_x509svid(connection.stream_request(X509svidRequest {}));
    let answered = first(&connection, DEED, call).await?;
    let text = described(&answered)?;
    if let Some(mut directory) = directory {
        write(&mut directory, &answered)?;
        if args.workload.output == Format::Table {
            say(&directory.told())?;
            say("\n")?;
        }
    }
    answer(args.workload.output, &text, &AnswerJson::from(&answered))
}

fn wrong(what: impl ToString) -> Failure {
    Failure::Answer { deed: DEED, what: what.to_string() }
}

fn described(answer: &X509svidResponse) -> Result<String, Failure> {
    let texts: Result<Vec<String>, Failure> = answer.svids.iter().map(one).collect();
    let mut texts = texts?;
    for (id, bundle) in &answer.federated_bundles {
        texts.push(foreign(id, bundle)?);
    }
    Ok(texts.join("\n"))
}

/// A foreign trust domain's bundle, which verifies the SVIDs of that domain alone (FED-51).
fn foreign(id: &str, bundle: &[u8]) -> Result<String, Failure> {
    let mut facts = Facts::new();
    facts.add("Federated", id);
    for root in split(bundle).map_err(wrong)? {
        facts.add("Root", format_args!("{}, {}", root.authority_id(), validity(root.validity())));
    }
    Ok(facts.to_string())
}

fn one(svid: &X509svid) -> Result<String, Failure> {
    let chain = split(&svid.x509_svid).map_err(wrong)?;
    let roots = split(&svid.bundle).map_err(wrong)?;
    let leaf = chain.first().ok_or_else(|| wrong("an SVID without a certificate"))?;
    let mut facts = Facts::new();
    facts
        .add("SPIFFE ID", &svid.spiffe_id)
        .add_unless_empty("Hint", &svid.hint)
        .add("Serial", serial(leaf))
        .add("Valid", validity(leaf.validity()))
        .add("Key", key_type(leaf.public_key().kind()));
    for name in &leaf.extensions().dns_names {
        facts.add("DNS name", name);
    }
    for issuer in chain.iter().skip(1) {
        facts.add("Issued by", format_args!("{}, {}", issuer.authority_id(), validity(issuer.validity())));
    }
    for root in &roots {
        facts.add("Root", format_args!("{}, {}", root.authority_id(), validity(root.validity())));
    }
    Ok(facts.to_string())
}

/// A kind of key as policies and `--key-type` name it.
fn key_type(kind: PublicKeyKind) -> String {
    match kind {
        PublicKeyKind::EcP256 => "ec-p256".to_owned(),
        PublicKeyKind::EcP384 => "ec-p384".to_owned(),
        PublicKeyKind::EcP521 => "ec-p521".to_owned(),
        PublicKeyKind::Rsa { bits } => format!("rsa-{bits}"),
        PublicKeyKind::Ed25519 => "ed25519".to_owned(),
    }
}

/// The names are those of `spire-agent api fetch x509 -write`, which scripts know.
fn write(directory: &mut PrivateDirectory, answer: &X509svidResponse) -> Result<(), Failure> {
    for (position, svid) in answer.svids.iter().enumerate() {
        let chain = split(&svid.x509_svid).map_err(wrong)?;
        directory.write_pem(&format!("svid.{position}.pem"), "CERTIFICATE", chain.iter().map(Certificate::der))?;
        directory.write_pem(&format!("svid.{position}.key"), "PRIVATE KEY", [svid.x509_svid_key.as_ref()])?;
        let roots = split(&svid.bundle).map_err(wrong)?;
        directory.write_pem(&format!("bundle.{position}.pem"), "CERTIFICATE", roots.iter().map(Certificate::der))?;
    }
    for (position, bundle) in answer.federated_bundles.values().enumerate() {
        let roots = split(bundle).map_err(wrong)?;
        directory.write_pem(
            &format!("federated_bundle.{position}.pem"),
            "CERTIFICATE",
            roots.iter().map(Certificate::der),
        )?;
    }
    Ok(())
}

impl<'a> From<&'a X509svidResponse> for AnswerJson<'a> {
    fn from(answer: &'a X509svidResponse) -> Self {
        let svid = |svid: &'a X509svid| {
            // The key is left out by name, so that a new field of the message cannot bring it in.
            let X509svid { spiffe_id, x509_svid, x509_svid_key: _, bundle, hint } = svid;
            SvidJson { spiffe_id, x509_svid: Base64(x509_svid), bundle: Base64(bundle), hint }
        };
        let bundles = &answer.federated_bundles;
        Self {
            svids: answer.svids.iter().map(svid).collect(),
            crl: answer.crl.iter().map(|crl| Base64(crl)).collect(),
            federated_bundles: bundles.iter().map(|(id, bundle)| (id.as_str(), Base64(bundle))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_never_holds_the_private_key() {
        let answer = X509svidResponse {
            svids: vec![X509svid { x509_svid_key: "secret".into(), ..X509svid::default() }],
            ..X509svidResponse::default()
        };
        let json = serde_json::to_string(&AnswerJson::from(&answer)).unwrap();
        assert_eq!(
            json,
            r#"{"svids":[{"spiffe_id":"","x509_svid":"","bundle":"","hint":""}],"crl":[],"federated_bundles":{}}"#
        );
    }
}
