//! `quorate mint`: an SVID for any workload ID, entry or no entry. For bootstrap, for tests, for what cannot be attested.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::spire::bundle::GetBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::svid::svid_client::SvidClient;
use quorate_proto_api::spire::svid::{MintJwtsvidRequest, MintX509svidRequest};
use quorate_proto_api::spire::types;
use quorate_proto_identity::x509::{CSR_LIMIT, build_csr};
use quorate_proto_identity::{KeyType, PrivateKey, SpiffeId, UnixSeconds};
use serde::Serialize;

use super::certificates::pem;
use super::failure::Failure;
use super::files::PrivateDirectory;
use super::json::{JwtSvidJson, X509SvidJson};
use super::output::{Format, answer, say};
use super::socket::{AdminArgs, Connection};
use super::text::Facts;
use crate::duration::Seconds;

/// What can be minted.
#[derive(Debug, Subcommand)]
pub(super) enum MintCommand {
    /// An X509-SVID, for a new key or for a request that you made
    #[command(override_usage = "quorate mint x509 --spiffe-id <ID> --write <DIR> [OPTIONS]\n       \
                                quorate mint x509 --csr <FILE> [OPTIONS]")]
    X509(X509Args),
    /// A JWT-SVID
    Jwt(JwtArgs),
}

/// What `quorate mint x509` takes.
#[derive(Debug, Args)]
pub(super) struct X509Args {
    #[command(flatten)]
    admin: AdminArgs,

    /// The SPIFFE ID, a workload ID of the trust domain
    #[arg(long, value_name = "ID", required_unless_present = "csr", conflicts_with = "csr")]
    spiffe_id: Option<SpiffeId>,

    /// A DNS name. Can be repeated
    #[arg(long = "dns-name", value_name = "NAME", conflicts_with = "csr")]
    dns_names: Vec<String>,

    /// The kind of the new key
    #[arg(long, value_name = "TYPE", default_value = "ec-p256", conflicts_with = "csr")]
    key_type: KeyType,

    /// A PKCS #10 request in DER; its key stays with you
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,

    /// Life, such as 30m or 1h [default: the trust domain's policy]. Cut at the end of what signs it
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    ttl: Seconds,

    /// Write certificate, key and bundle as PEM into this directory, which only its owner may enter. Needed unless the
    /// key is yours (--csr)
    #[arg(long, value_name = "DIR", required_unless_present = "csr")]
    write: Option<PathBuf>,
}

/// What `quorate mint jwt` takes.
#[derive(Debug, Args)]
pub(super) struct JwtArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The SPIFFE ID, a workload ID of the trust domain
    #[arg(long, value_name = "ID")]
    spiffe_id: SpiffeId,

    /// For whom the token is. Can be repeated
    #[arg(long = "audience", value_name = "AUDIENCE", required = true)]
    audiences: Vec<String>,

    /// Life, such as 90s or 5m [default: the trust domain's policy]. Cut at the end of the key that signs it
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    ttl: Seconds,
}

/// `spire.api.server.svid.v1.MintX509SVIDResponse`, and its twin for tokens
#[derive(Serialize)]
struct AnswerJson<T> {
    svid: T,
}

impl MintCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::X509(args) => x509(args).await,
            Self::Jwt(args) => jwt(args).await,
        }
    }
}

async fn x509(args: X509Args) -> Result<(), Failure> {
    const DEED: &str = "mint an X509-SVID";
    let ttl = lifetime(args.ttl)?;
    let directory = args.write.as_deref().map(PrivateDirectory::open).transpose()?;
    let (csr, key) = request(&args)?;
    let connection = args.admin.connect()?;
    let svid = SvidClient::new(connection.channel())
        .mint_x509svid(connection.request(MintX509svidRequest { csr: csr.into(), ttl }, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner()
        .svid
        .ok_or_else(|| Failure::Answer { deed: DEED, what: "no SVID".to_owned() })?;
    let mut facts = Facts::new();
    facts.add("SPIFFE ID", id(svid.id.as_ref())).add("Valid until", UnixSeconds(svid.expires_at));
    let chain: String = svid.cert_chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
    match directory {
        Some(directory) => {
            let told = write(directory, &svid, key.as_ref(), &bundle(&connection).await?)?;
            if args.admin.output == Format::Table {
                say(&told)?;
            }
            answer(args.admin.output, &facts, &AnswerJson { svid: X509SvidJson::from(&svid) })
        }
        None => {
            answer(args.admin.output, &format!("{facts}\n{chain}"), &AnswerJson { svid: X509SvidJson::from(&svid) })
        }
    }
}

/// The request, and the key if it was made here.
fn request(args: &X509Args) -> Result<(Vec<u8>, Option<PrivateKey>), Failure> {
    if let Some(path) = &args.csr {
        return Ok((read(path)?, None));
    }
    let local = |cause| Failure::Local { deed: "make a key and a request for it", cause };
    let missing = || Failure::Usage("--spiffe-id ID or --csr FILE is needed".to_owned());
    let spiffe_id = args.spiffe_id.as_ref().ok_or_else(missing)?;
    let key = PrivateKey::generate(args.key_type).map_err(|error| local(Box::new(error)))?;
    let csr = build_csr(&key, spiffe_id, &args.dns_names).map_err(|error| local(Box::new(error)))?;
    Ok((csr, Some(key)))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut csr = Vec::new();
    // One byte more than a node takes: it then says itself that this is too long.
    let limit = u64::try_from(CSR_LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut csr))
        .map_err(|cause| Failure::Given { path: path.to_owned(), cause })?;
    Ok(csr)
}

async fn bundle(connection: &Connection) -> Result<types::Bundle, Failure> {
    let message = GetBundleRequest { output_mask: None };
    let answered = BundleClient::new(connection.channel()).get_bundle(connection.request(message, CALL_LIMIT)).await;
    Ok(answered.map_err(connection.failed("read the bundle"))?.into_inner())
}

/// The names are those of `spire-server x509 mint -write`.
fn write(
    mut directory: PrivateDirectory,
    svid: &types::X509svid,
    key: Option<&PrivateKey>,
    bundle: &types::Bundle,
) -> Result<String, Failure> {
    directory.write_pem("svid.pem", "CERTIFICATE", svid.cert_chain.iter().map(AsRef::as_ref))?;
    if let Some(key) = key {
        directory.write_pem("key.pem", "PRIVATE KEY", [key.pkcs8()])?;
    }
    directory.write_pem("bundle.pem", "CERTIFICATE", bundle.x509_authorities.iter().map(|root| root.asn1.as_ref()))?;
    Ok(directory.told())
}

async fn jwt(args: JwtArgs) -> Result<(), Failure> {
    const DEED: &str = "mint a JWT-SVID";
    let message =
        MintJwtsvidRequest { id: Some((&args.spiffe_id).into()), audience: args.audiences, ttl: lifetime(args.ttl)? };
    let connection = args.admin.connect()?;
    let svid = SvidClient::new(connection.channel())
        .mint_jwtsvid(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed(DEED))?
        .into_inner()
        .svid
        .ok_or_else(|| Failure::Answer { deed: DEED, what: "no SVID".to_owned() })?;
    let mut facts = Facts::new();
    facts
        .add("SPIFFE ID", id(svid.id.as_ref()))
        .add("Valid until", UnixSeconds(svid.expires_at))
        .add("Token", &svid.token);
    answer(args.admin.output, &facts, &AnswerJson { svid: JwtSvidJson::from(&svid) })
}

fn lifetime(ttl: Seconds) -> Result<i32, Failure> {
    ttl.as_i32().map_err(|error| Failure::Usage(format!("--ttl: {error}")))
}

fn id(id: Option<&types::Spiffeid>) -> String {
    id.map_or_else(|| "(none)".to_owned(), |id| format!("spiffe://{}{}", id.trust_domain, id.path))
}
