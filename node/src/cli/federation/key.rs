//! `quorate federation key`: API keys, by which peers ask for our bundle.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::federation_access_client::FederationAccessClient;
use quorate_proto_api::cluster::{
    ApiKey, ApiKeyScope, ApiKeyWithSecret, CreateApiKeyRequest, DeleteApiKeyRequest, ListApiKeysRequest,
    RotateApiKeyRequest,
};
use quorate_proto_identity::{TrustDomain, UnixSeconds};
use quorate_raft_machine::access::ApiKeyId;
use serde::Serialize;
use tonic::transport::Channel;

use crate::cli::failure::Failure;
use crate::cli::files::SecretFile;
use crate::cli::json::Wide;
use crate::cli::output::{Format, answer, complain, say, say_json};
use crate::cli::socket::{AdminArgs, Connection, ReadArgs};
use crate::cli::text::Table;
use crate::duration::Seconds;

/// What follows the options.
const HELP: &str = "\
An API key lets a peer ask for our bundle before it can use a certificate: such a key is how a first exchange can begin. It is
shown once and kept nowhere; its hash is replicated. Hand it over on a way that only the peer can read.

Examples:
  quorate federation key create two.example --label first-exchange --ttl 30d --out two.key
  quorate federation key rotate 0123456789abcdef --overlap 7d --out two.key.new
  quorate federation key list
  quorate federation key delete 0123456789abcdef";

/// What can be done with API keys.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(crate) enum KeyCommand {
    /// Make an API key for a peer
    Create(CreateArgs),
    /// Give an API key a new secret; the former one is taken for some time more
    Rotate(RotateArgs),
    /// List the API keys
    List(ListArgs),
    /// Delete an API key: calls and watches by it end
    Delete(DeleteArgs),
}

/// What `quorate federation key create` takes.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The trust domain of the peer
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: TrustDomain,

    /// What it may be used for [default: everything]
    #[arg(long, value_enum, value_name = "SCOPE", value_delimiter = ',')]
    scope: Vec<Scope>,

    /// What people call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,

    #[command(flatten)]
    secret: SecretArgs,
}

/// What `quorate federation key rotate` takes.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The key's ID
    #[arg(value_name = "ID", value_parser = ApiKeyId::new)]
    id: ApiKeyId,

    /// How long the former secret is still taken; 0s ends it at once
    #[arg(long, value_name = "TIME", default_value = "7d")]
    overlap: Seconds,

    #[command(flatten)]
    secret: SecretArgs,
}

/// What both take that show a secret.
#[derive(Debug, Args)]
struct SecretArgs {
    /// How long the key is taken
    #[arg(long, value_name = "TIME", default_value = "90d")]
    ttl: Seconds,

    /// Write the key to a new file that only you can read [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl SecretArgs {
    /// The file for the key, made before the key is: a secret that is nowhere to be written would be lost, and of a key that
    /// rotates, the former one with it.
    fn file(&self) -> Result<Option<SecretFile>, Failure> {
        self.out.as_deref().map(SecretFile::make).transpose()
    }
}

/// What `quorate federation key list` takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    read: ReadArgs,

    /// Only keys of this peer
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id)]
    trust_domain: Option<TrustDomain>,
}

/// What `quorate federation key delete` takes.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The key's ID
    #[arg(value_name = "ID", value_parser = ApiKeyId::new)]
    id: ApiKeyId,
}

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// To get our bundle
    Get,
    /// To watch our bundle, which includes getting it
    Watch,
}

impl KeyCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create(args).await,
            Self::Rotate(args) => rotate(args).await,
            Self::List(args) => list(args).await,
            Self::Delete(args) => delete(args).await,
        }
    }
}

fn client(connection: &Connection) -> FederationAccessClient<Channel> {
    FederationAccessClient::new(connection.channel())
}

/// A time as the wire has it.
fn seconds(option: &str, time: Seconds) -> Result<u32, Failure> {
    u32::try_from(time.get()).map_err(|_| Failure::Usage(format!("{option} {time}: that is too long")))
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let scope = |scope: &Scope| match scope {
        Scope::Get => ApiKeyScope::Get.into(),
        Scope::Watch => ApiKeyScope::Watch.into(),
    };
    let message = CreateApiKeyRequest {
        trust_domain: args.trust_domain.to_string(),
        scopes: args.scope.iter().map(scope).collect(),
        label: args.label,
        lifetime: lifetime(&args.secret)?,
    };
    let connection = args.admin.connect()?;
    let file = args.secret.file()?;
    let made = client(&connection)
        .create_api_key(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("make the API key"))?
        .into_inner();
    show(&args.admin, &args.secret, file, &made)
}

async fn rotate(args: RotateArgs) -> Result<(), Failure> {
    let message = RotateApiKeyRequest {
        id: args.id.to_string(),
        lifetime: lifetime(&args.secret)?,
        overlap: Some(seconds("--overlap", args.overlap)?),
    };
    let connection = args.admin.connect()?;
    let file = args.secret.file()?;
    let made = client(&connection)
        .rotate_api_key(connection.request(message, CALL_LIMIT))
        .await
        .map_err(connection.failed("rotate the API key"))?
        .into_inner();
    show(&args.admin, &args.secret, file, &made)
}

fn lifetime(args: &SecretArgs) -> Result<u32, Failure> {
    match seconds("--ttl", args.ttl)? {
        0 => Err(Failure::Usage(format!("--ttl {}: a key has to be taken for a while", args.ttl))),
        lifetime => Ok(lifetime),
    }
}

/// `quorate.cluster.v1.ApiKey`, with the key's text where it is shown.
#[derive(Serialize)]
struct KeyJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    id: &'a str,
    trust_domain: &'a str,
    scopes: Vec<&'static str>,
    label: &'a str,
    expires_at: Wide<i64>,
    former_expires_at: Wide<i64>,
    created_at: Wide<i64>,
    rotated_at: Wide<i64>,
}

impl<'a> From<&'a ApiKey> for KeyJson<'a> {
    fn from(key: &'a ApiKey) -> Self {
        Self {
            key: None,
            id: &key.id,
            trust_domain: &key.trust_domain,
            scopes: scopes(key),
            label: &key.label,
            expires_at: Wide(key.expires_at),
            former_expires_at: Wide(key.former_expires_at),
            created_at: Wide(key.created_at),
            rotated_at: Wide(key.rotated_at),
        }
    }
}

fn scopes(key: &ApiKey) -> Vec<&'static str> {
    key.scopes()
        .map(|scope| match scope {
            ApiKeyScope::Get => "get",
            ApiKeyScope::Watch => "watch",
            ApiKeyScope::Unspecified => "unspecified",
        })
        .collect()
}

/// Shows a key once: alone in a file or on standard output, with what there is to say beside it.
fn show(
    admin: &AdminArgs,
    secret: &SecretArgs,
    file: Option<SecretFile>,
    made: &ApiKeyWithSecret,
) -> Result<(), Failure> {
    let api_key = made.api_key.clone().unwrap_or_default();
    let ApiKey { id, trust_domain, expires_at, former_expires_at, .. } = &api_key;
    let line = format!("{}\n", made.key);
    if let Some(file) = file {
        file.write(line.as_bytes())?;
    }
    if admin.output == Format::Json {
        let shown = secret.out.is_none().then_some(made.key.as_str());
        return say_json(&KeyJson { key: shown, ..KeyJson::from(&api_key) });
    }
    complain(&format!("The API key {id} of {trust_domain} is taken until {}.", UnixSeconds(*expires_at)));
    if *former_expires_at != 0 {
        complain(&format!("Its former secret is taken until {}.", UnixSeconds(*former_expires_at)));
    }
    match &secret.out {
        Some(path) => {
            complain(&format!("It is in {}, and nowhere else.", path.display()));
            Ok(())
        }
        None => {
            complain("It is shown this once:");
            say(&line)
        }
    }
}

/// `quorate.cluster.v1.ListApiKeysResponse`
#[derive(Serialize)]
struct KeysJson<'a> {
    api_keys: Vec<KeyJson<'a>>,
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let trust_domain = args.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default();
    let keys = client(&connection)
        .list_api_keys(connection.request(ListApiKeysRequest { trust_domain }, CALL_LIMIT))
        .await
        .map_err(connection.failed("list the API keys"))?
        .into_inner()
        .api_keys;
    let json = KeysJson { api_keys: keys.iter().map(KeyJson::from).collect() };
    answer(args.read.output(), &table(&keys), &json)
}

fn table(keys: &[ApiKey]) -> String {
    if keys.is_empty() {
        return "There are no API keys\n".to_owned();
    }
    let mut table = Table::new(["ID", "TRUST DOMAIN", "SCOPES", "EXPIRES", "FORMER UNTIL", "LABEL"]);
    for key in keys {
        let former = match key.former_expires_at {
            0 => "-".to_owned(),
            at => UnixSeconds(at).to_string(),
        };
        table.row([
            key.id.clone(),
            key.trust_domain.clone(),
            scopes(key).join(","),
            UnixSeconds(key.expires_at).to_string(),
            former,
            key.label.clone(),
        ]);
    }
    table.to_string()
}

/// `quorate.cluster.v1.AccessChange`
#[derive(Serialize)]
struct DeletedJson<'a> {
    id: &'a str,
    log_index: Wide<u64>,
}

async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let id = args.id.to_string();
    let changed = client(&connection)
        .delete_api_key(connection.request(DeleteApiKeyRequest { id: id.clone() }, CALL_LIMIT))
        .await
        .map_err(connection.failed("delete the API key"))?
        .into_inner();
    let text = format!("The API key {id} is deleted: no connected member takes it any more.\n");
    answer(args.admin.output, &text, &DeletedJson { id: &id, log_index: Wide(changed.log_index) })
}
