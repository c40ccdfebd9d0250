//! `quorate fetch verify`: somebody's SVID, verified as a workload here would.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use quorate_actors::sources::SystemClock;
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::workload::{ValidateJwtsvidRequest, X509BundlesRequest, X509BundlesResponse};
use quorate_proto_identity::jwt_svid::TOKEN_LIMIT;
use quorate_proto_identity::x509::{Certificate, Purpose, verify_x509_svid};
use quorate_proto_identity::{Bundle, TrustDomain};
use quorate_raft_consensus::WallClock as _;
use serde::Serialize;

use super::{client, first};
use crate::cli::certificates::{split, validity};
use crate::cli::failure::Failure;
use crate::cli::output::answer;
use crate::cli::socket::{Connection, WorkloadArgs};
use crate::cli::text::Facts;
use crate::given::STANDARD_INPUT;

const DEED: &str = "verify an SVID";

/// Most bytes of a file: a chain of some certificates, or a token, and room to spare.
const FILE_LIMIT: u64 = 64 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What `quorate fetch verify` takes.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    workload: WorkloadArgs,

    /// A certificate chain as PEM, the SVID first, such as svid.0.pem; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "jwt", required_unless_present = "jwt")]
    x509: Option<PathBuf>,

    /// A token; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "audience")]
    jwt: Option<PathBuf>,

    /// For whom the token has to be
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "x509")]
    audience: Option<String>,
}

/// What was verified.
#[derive(Debug, PartialEq, Serialize)]
struct Verified {
    spiffe_id: String,
    trust_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<String>,
}

/// Verifies with the bundles that the caller gets, those of trust domains that its entries federate with included.
pub(super) async fn run(args: VerifyArgs) -> Result<(), Failure> {
    let connection = args.workload.connect()?;
    let verified = match (&args.x509, &args.jwt, args.audience) {
        (Some(path), _, _) => {
            let text = read(path)?;
            let call = client(&connection);
            x509(&chain(path, &text)?, &bundles(&connection, call).await?)
                .map_err(|what| Failure::Usage(format!("{}: {what}", path.display())))?
        }
        (None, Some(path), Some(audience)) => jwt(&connection, audience, read(path)?.trim().to_owned()).await?,
        (None, _, _) => return Err(Failure::Usage("give --x509 FILE, or --jwt FILE with --audience".to_owned())),
    };
    let mut facts = Facts::new();
    facts
        .add("SPIFFE ID", &verified.spiffe_id)
        .add("Verified", format_args!("with the bundle of {}", verified.trust_domain));
    if let Some(valid) = &verified.valid {
        facts.add("Valid", valid);
    }
    answer(args.workload.output, &facts.to_string(), &verified)
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |cause| Failure::Given { path: path.to_owned(), cause };
    let mut text = String::new();
    if path == Path::new(STANDARD_INPUT) {
        io::stdin().lock().take(FILE_LIMIT).read_to_string(&mut text).map_err(failed)?;
    } else {
        File::open(path).and_then(|file| file.take(FILE_LIMIT).read_to_string(&mut text)).map_err(failed)?;
    }
    Ok(text)
}

/// The certificates of a PEM file, in their order.
fn chain(path: &Path, text: &str) -> Result<Vec<Certificate>, Failure> {
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let mut chain = Vec::new();
    for block in text.split(BEGIN).skip(1) {
        let (body, _) = block.split_once(END).ok_or_else(|| wrong("a certificate does not end".to_owned()))?;
        let joined: String = body.split_whitespace().collect();
        let der = STANDARD.decode(joined).map_err(|_| wrong("a certificate is not base64".to_owned()))?;
        chain.push(Certificate::parse(&der).map_err(|error| wrong(error.to_string()))?);
    }
    if chain.is_empty() { Err(wrong("there is no certificate in it; PEM is wanted".to_owned())) } else { Ok(chain) }
}

type WorkloadClient =
    quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient<tonic::transport::Channel>;

async fn bundles(
    connection: &Connection,
    mut client: WorkloadClient,
) -> Result<BTreeMap<TrustDomain, Bundle>, Failure> {
    let call = client.fetch_x509_bundles(connection.stream_request(X509BundlesRequest {}));
    let answered = first(connection, DEED, call).await?;
    by_domain(&answered).map_err(|what| Failure::Answer { deed: DEED, what })
}

/// Each trust domain's bundle under its own name, never pooled (FED-51).
fn by_domain(answer: &X509BundlesResponse) -> Result<BTreeMap<TrustDomain, Bundle>, String> {
    let mut bundles = BTreeMap::new();
    for (id, roots) in &answer.bundles {
        let domain = TrustDomain::parse_name_or_id(id).map_err(|error| format!("{id}: {error}"))?;
        let mut bundle = Bundle::new(domain.clone());
        for root in split(roots).map_err(|error| format!("{id}: {error}"))? {
            bundle.add_x509_authority(root);
        }
        bundles.insert(domain, bundle);
    }
    Ok(bundles)
}

fn x509(chain: &[Certificate], bundles: &BTreeMap<TrustDomain, Bundle>) -> Result<Verified, String> {
    let ders: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    let verified = verify_x509_svid(&ders, bundles, SystemClock.now().seconds(), Purpose::Any)
        .map_err(|error| format!("it does not verify: {error}"))?;
    Ok(Verified {
        spiffe_id: verified.spiffe_id().to_string(),
        trust_domain: verified.spiffe_id().trust_domain().to_string(),
        valid: Some(validity(verified.leaf().validity())),
    })
}

async fn jwt(connection: &Connection, audience: String, svid: String) -> Result<Verified, Failure> {
    if svid.len() > TOKEN_LIMIT {
        return Err(Failure::Usage(format!("the token has {} bytes, the most is {TOKEN_LIMIT}", svid.len())));
    }
    let request = connection.request(ValidateJwtsvidRequest { audience, svid }, CALL_LIMIT);
    let told = client(connection).validate_jwtsvid(request).await.map_err(connection.failed(DEED))?.into_inner();
    let trust_domain = told.spiffe_id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
    Ok(Verified { trust_domain: trust_domain.unwrap_or_default().to_owned(), spiffe_id: told.spiffe_id, valid: None })
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::x509::{AuthorityTemplate, LeafIssuer, LeafTemplate, build_root};
    use quorate_proto_identity::{KeyType, PrivateKey, SerialNumber, SpiffeId, Validity};

    use super::*;
    use crate::pem::pem;

    /// Accepts: FED-51. Refuses: FED-51, FED-11
    #[test]
    fn fed_51_an_svid_is_verified_with_the_bundle_of_its_own_trust_domain() {
        let now = SystemClock.now().seconds();
        let validity = Validity::new(now.minus(60), now.plus(600)).unwrap();
        let domain = TrustDomain::new("a.test").unwrap();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let template =
            AuthorityTemplate { trust_domain: &domain, serial: SerialNumber::from_random([1; 16]), validity };
        let root = build_root(&template, &key).unwrap();
        let leaf_key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let leaf = LeafTemplate {
            spiffe_id: &SpiffeId::parse("spiffe://a.test/w").unwrap(),
            dns_names: &[],
            subject: None,
            public_key: leaf_key.public_key(),
            serial: SerialNumber::from_random([2; 16]),
            validity,
        };
        let leaf = LeafIssuer::new(root.der(), key).unwrap().issue(&leaf).unwrap();
        let chain = chain(Path::new("f"), &pem("CERTIFICATE", &leaf)).unwrap();
        let answer = |id: &str| X509BundlesResponse {
            bundles: [(id.to_owned(), root.der().to_vec().into())].into(),
            ..X509BundlesResponse::default()
        };
        let verified = x509(&chain, &by_domain(&answer("spiffe://a.test")).unwrap()).unwrap();
        assert_eq!((verified.spiffe_id.as_str(), verified.trust_domain.as_str()), ("spiffe://a.test/w", "a.test"));
        let refused = x509(&chain, &by_domain(&answer("spiffe://b.test")).unwrap()).unwrap_err();
        assert!(refused.starts_with("it does not verify: "), "{refused}");
    }

    #[test]
    fn what_is_no_pem_is_told_with_its_file() {
        for text in
            ["", "-----BEGIN CERTIFICATE-----\nAAAA", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
        {
            let error = chain(Path::new("svid.pem"), text).unwrap_err();
            assert!(error.to_string().starts_with("svid.pem: "), "{error}");
        }
    }
}
