//! `quorate oidc`: the OpenID Connect discovery provider.

use std::fmt;

use clap::{Args, Subcommand};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::oidc_provider_client::OidcProviderClient;
use quorate_proto_api::cluster::{
    FormerIssuer, GetOidcRequest, GetOidcResponse, OidcSettings, SetOidcRequest, SetOidcResponse,
};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use super::failure::Failure;
use super::json::Wide;
use super::output::answer;
use super::socket::{AdminArgs, Connection, ReadArgs};
use super::text::Facts;
use crate::duration::Seconds;

/// What to begin with, below the commands.
const HELP: &str = "\
Lets those who know OpenID Connect and nothing of SPIFFE verify our JWT-SVIDs: clouds, secret stores, Kubernetes. Which nodes
serve it, their configuration says: [oidc] listen. Some take RSA alone: `quorate policy set jwt_key_type=rsa-2048`.

An issuer that is replaced is served until its overlap ends. Tell those who rely on us first, and serve the new one meanwhile:

Examples:
  quorate oidc set --issuer https://oidc.example.org
  quorate oidc set --also https://id.example.org
  quorate oidc set --issuer https://id.example.org --overlap 7d
  quorate oidc show
  quorate oidc off";

/// What can be done with the discovery provider.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum OidcCommand {
    /// Show the settings, and which issuers are served
    Show(ShowArgs),
    /// Change the settings; what is not given stays as it is
    Set(SetArgs),
    /// Put no issuer into tokens any more
    Off(OffArgs),
}

/// What `quorate oidc show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What `quorate oidc set` takes.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// `iss` of tokens from now on: https://HOST or https://HOST/PATH
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,

    /// An issuer to serve documents for as well, though no token names it; may be repeated, and replaces those there are
    #[arg(long, value_name = "URL")]
    also: Vec<String>,

    /// A further host name under which the documents are served; may be repeated, and replaces those there are
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,

    /// How long those who rely on us may keep the key set; a new token key waits for it before it signs
    #[arg(long, value_name = "TIME")]
    jwks_cache_time: Option<Seconds>,

    /// How long the issuer of before is served [default: 1d]
    #[arg(long, value_name = "TIME")]
    overlap: Option<Seconds>,
}

/// What `quorate oidc off` takes.
#[derive(Debug, Args)]
pub(super) struct OffArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

impl OidcCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => {
                let shown = get(&args.read.connect()?).await?;
                answer(args.read.output(), &Described(&shown), &ShownJson::from(&shown))
            }
            Self::Set(args) => set(args).await,
            Self::Off(args) => {
                let connection = args.admin.connect()?;
                let changed = change(&connection, None, None, "switch the discovery provider off").await?;
                let text = "Tokens carry no issuer from now on; the one before is served until its overlap ends.\n";
                answer(args.admin.output, &text, &ChangedJson::from(&changed))
            }
        }
    }
}

async fn get(connection: &Connection) -> Result<GetOidcResponse, Failure> {
    let request = connection.request(GetOidcRequest {}, CALL_LIMIT);
    let shown = OidcProviderClient::new(connection.channel()).get_oidc(request).await;
    Ok(shown.map_err(connection.failed("show the discovery provider"))?.into_inner())
}

async fn change(
    connection: &Connection,
    settings: Option<OidcSettings>,
    expected_revision: Option<u64>,
    deed: &'static str,
) -> Result<SetOidcResponse, Failure> {
    let request = connection.request(SetOidcRequest { settings, expected_revision }, CALL_LIMIT);
    let changed = OidcProviderClient::new(connection.channel()).set_oidc(request).await;
    Ok(changed.map_err(connection.failed(deed))?.into_inner())
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    let seconds = |option: &'static str, time: Option<Seconds>| {
        let counted = |time: Seconds| {
            let text = format!("--{option} {time}: so long a time cannot be counted");
            u32::try_from(time.get()).map_err(|_| Failure::Usage(text))
        };
        time.map(counted).transpose()
    };
    let cache_time = seconds("jwks-cache-time", args.jwks_cache_time)?;
    let overlap = seconds("overlap", args.overlap)?;
    let connection = args.admin.connect()?;
    let current = get(&connection).await?;
    let mut settings = current.settings.unwrap_or_default();
    if let Some(issuer) = args.issuer {
        // One that was announced is not announced any more: it is here.
        settings.also.retain(|also| *also != issuer);
        settings.issuer = issuer;
    }
    if settings.issuer.is_empty() {
        return Err(Failure::Usage("--issuer URL is needed: what tokens are to name".to_owned()));
    }
    if !args.also.is_empty() {
        settings.also = args.also;
    }
    if !args.domain.is_empty() {
        settings.domains = args.domain;
    }
    if let Some(time) = cache_time {
        if time == 0 {
            return Err(Failure::Usage("--jwks-cache-time: give at least 1s".to_owned()));
        }
        settings.jwks_cache_time = time;
    }
    settings.issuer_overlap = overlap.or(settings.issuer_overlap);
    // What was read is what is changed: somebody else's change in between is not undone.
    let expected = Some(current.revision).filter(|revision| *revision > 0);
    let changed = change(&connection, Some(settings), expected, "change the discovery provider").await?;
    let text = changed.settings.as_ref().map(|settings| facts(settings, changed.revision).to_string());
    answer(args.admin.output, &text.unwrap_or_default(), &ChangedJson::from(&changed))
}

struct Described<'a>(&'a GetOidcResponse);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.settings {
            Some(settings) => write!(f, "{}", facts(settings, self.0.revision))?,
            None => writeln!(f, "No discovery provider is set up: `quorate oidc set --issuer URL` does that.")?,
        }
        let mut former = Facts::new();
        for FormerIssuer { issuer, until } in &self.0.former {
            former.add("Served until its overlap ends", format!("{issuer} (to {})", UnixSeconds(*until)));
        }
        write!(f, "{former}")
    }
}

fn facts(settings: &OidcSettings, revision: u64) -> Facts {
    let OidcSettings { issuer, also, domains, jwks_cache_time, issuer_overlap } = settings;
    let mut facts = Facts::new();
    facts
        .add("Issuer", issuer)
        .add_unless_empty("Also served", &also.join(", "))
        .add_unless_empty("Further domains", &domains.join(", "))
        .add("Keys are cached for", Seconds::new((*jwks_cache_time).into()))
        .add("Overlap of issuers", Seconds::new(issuer_overlap.unwrap_or_default().into()))
        .add("Revision", revision);
    facts
}

/// `quorate.cluster.v1.OidcSettings`
#[derive(Serialize)]
struct SettingsJson<'a> {
    issuer: &'a str,
    also: &'a [String],
    domains: &'a [String],
    jwks_cache_time: u32,
    issuer_overlap: u32,
}

impl<'a> From<&'a OidcSettings> for SettingsJson<'a> {
    fn from(settings: &'a OidcSettings) -> Self {
        let OidcSettings { issuer, also, domains, jwks_cache_time, issuer_overlap } = settings;
        Self {
            issuer,
            also,
            domains,
            jwks_cache_time: *jwks_cache_time,
            issuer_overlap: issuer_overlap.unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
struct FormerJson<'a> {
    issuer: &'a str,
    until: Wide<i64>,
}

/// `quorate.cluster.v1.GetOidcResponse`
#[derive(Serialize)]
struct ShownJson<'a> {
    settings: Option<SettingsJson<'a>>,
    revision: Wide<u64>,
    former: Vec<FormerJson<'a>>,
}

impl<'a> From<&'a GetOidcResponse> for ShownJson<'a> {
    fn from(shown: &'a GetOidcResponse) -> Self {
        let former =
            shown.former.iter().map(|FormerIssuer { issuer, until }| FormerJson { issuer, until: Wide(*until) });
        Self {
            settings: shown.settings.as_ref().map(SettingsJson::from),
            revision: Wide(shown.revision),
            former: former.collect(),
        }
    }
}

/// `quorate.cluster.v1.SetOidcResponse`
#[derive(Serialize)]
struct ChangedJson<'a> {
    settings: Option<SettingsJson<'a>>,
    revision: Wide<u64>,
    log_index: Wide<u64>,
}

impl<'a> From<&'a SetOidcResponse> for ChangedJson<'a> {
    fn from(changed: &'a SetOidcResponse) -> Self {
        Self {
            settings: changed.settings.as_ref().map(SettingsJson::from),
            revision: Wide(changed.revision),
            log_index: Wide(changed.log_index),
        }
    }
}
