//! `quorate fetch bundles`

use std::collections::BTreeMap;

use clap::Args;
use quorate_proto_api::workload::{JwtBundlesRequest, JwtBundlesResponse, X509BundlesRequest, X509BundlesResponse};
use serde::Serialize;
use serde_json::Value;

use super::{client, first};
use crate::cli::certificates::{split, validity};
use crate::cli::failure::Failure;
use crate::cli::json::Base64;
use crate::cli::output::answer;
use crate::cli::socket::WorkloadArgs;
use crate::cli::text::Table;

const DEED: &str = "fetch bundles";

/// What `quorate fetch bundles` takes.
#[derive(Debug, Args)]
pub(crate) struct BundlesArgs {
    #[command(flatten)]
    workload: WorkloadArgs,
}

/// Both kinds of bundles by trust domain.
#[derive(Serialize)]
struct AnswerJson<'a> {
    x509_bundles: BTreeMap<&'a str, Base64<'a>>,
    crl: Vec<Base64<'a>>,
    jwt_bundles: BTreeMap<&'a str, Value>,
}

/// Fetches once and shows what came.
pub(super) async fn run(args: BundlesArgs) -> Result<(), Failure> {
    let connection = args.workload.connect()?;
    let mut client = client(&connection);
    let call = client.fetch_x509_bundles(connection.stream_request(X509BundlesRequest {}));
    let x509 = first(&connection, DEED, call).await?;
    let call = client.fetch_jwt_bundles(connection.stream_request(JwtBundlesRequest {}));
    let jwt = first(&connection, DEED, call).await?;
    let key_sets = key_sets(&jwt)?;
    let json = AnswerJson {
        x509_bundles: x509.bundles.iter().map(|(id, bundle)| (id.as_str(), Base64(bundle))).collect(),
        crl: x509.crl.iter().map(|crl| Base64(crl)).collect(),
        jwt_bundles: key_sets.clone(),
    };
    answer(args.workload.output, &described(&x509, &key_sets)?, &json)
}

fn wrong(what: impl ToString) -> Failure {
    Failure::Answer { deed: DEED, what: what.to_string() }
}

fn key_sets(answer: &JwtBundlesResponse) -> Result<BTreeMap<&str, Value>, Failure> {
    let parse = |bytes: &[u8]| serde_json::from_slice(bytes).map_err(wrong);
    answer.bundles.iter().map(|(id, bytes)| Ok((id.as_str(), parse(bytes)?))).collect()
}

fn described(x509: &X509BundlesResponse, jwt: &BTreeMap<&str, Value>) -> Result<Table<4>, Failure> {
    let mut table = Table::new(["TRUST DOMAIN", "KIND", "AUTHORITY", "VALID"]);
    for (id, bundle) in &x509.bundles {
        for root in split(bundle).map_err(wrong)? {
            let authority = root.authority_id().to_string();
            table.row([id.clone(), "x509".to_owned(), authority, validity(root.validity())]);
        }
    }
    for (id, set) in jwt {
        let keys = set.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for key in keys {
            let name = key.get("kid").and_then(Value::as_str).unwrap_or("-").to_owned();
            table.row([(*id).to_owned(), "jwt".to_owned(), name, "-".to_owned()]);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_key_set_are_listed_by_name() {
        let answer = JwtBundlesResponse {
            bundles: [("spiffe://example.org".to_owned(), r#"{"keys":[{"kid":"k1"},{}]}"#.into())].into(),
        };
        let sets = key_sets(&answer).unwrap();
        let table = described(&X509BundlesResponse::default(), &sets).unwrap().to_string();
        assert_eq!(
            table,
            "TRUST DOMAIN          KIND  AUTHORITY  VALID\n\
             spiffe://example.org  jwt   k1         -\n\
             spiffe://example.org  jwt   -          -\n"
        );
    }
}
