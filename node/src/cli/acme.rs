//! `quorate acme`: web certificates that the cluster gets for itself.

use std::fmt;

use clap::{Args, Subcommand, ValueEnum};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::web_certificates_client::WebCertificatesClient;
use quorate_proto_api::cluster::{
    AcmeChallenge, AcmeSettings, GetAcmeRequest, GetAcmeResponse, OrderWebCertificateRequest, SetAcmeRequest,
    WebCertificateInfo, WebDomain, WebFailureInfo, WebOrderInfo,
};
use quorate_proto_identity::UnixSeconds;
use serde::Serialize;

use super::failure::Failure;
use super::json::{Base64, Wide};
use super::output::answer;
use super::socket::{AdminArgs, Connection, ReadArgs};
use super::text::Facts;

/// What to begin with, below the commands.
const HELP: &str = "\
Whoever leads orders and renews; every node answers the authority's challenge, and every node serves the certificate. Which
listeners serve it, a node's configuration says: `acme = true` in [bundle_endpoint], [oidc] or [federation_api].

Examples:
  quorate acme set --directory https://acme-v02.api.letsencrypt.org/directory --agree-to-terms \
--contact mailto:ops@example.org --domain bundle.example.org --domain oidc.example.org
  quorate acme show
  quorate acme order bundle.example.org
  quorate acme off";

/// What can be done with web certificates.
#[derive(Debug, Subcommand)]
#[command(after_help = HELP)]
pub(super) enum AcmeCommand {
    /// Show the settings, and how each domain stands
    Show(ShowArgs),
    /// Say which authority is asked, and for which domains; what is not given stays as it is
    Set(SetArgs),
    /// Order another certificate for a domain now
    Order(OrderArgs),
    /// Order nothing any more, and forget every certificate
    Off(OffArgs),
}

/// What `quorate acme show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What `quorate acme set` takes.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The URL of the authority's directory
    #[arg(long, value_name = "URL")]
    directory: Option<String>,

    /// Whom the authority writes to, such as mailto:ops@example.org; may be repeated, and replaces those there are
    #[arg(long, value_name = "URL")]
    contact: Vec<String>,

    /// A DNS name to have a certificate for; may be repeated, and replaces those there are
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,

    /// How control over the domains is proved
    #[arg(long, value_enum, value_name = "KIND")]
    challenge: Option<Challenge>,

    /// You have read the authority's terms of service and agree to them
    #[arg(long)]
    agree_to_terms: bool,
}

/// What `quorate acme order` takes.
#[derive(Debug, Args)]
pub(super) struct OrderArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The DNS name, one of `quorate acme show`
    #[arg(value_name = "NAME")]
    domain: String,
}

/// What `quorate acme off` takes.
#[derive(Debug, Args)]
pub(super) struct OffArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// How control over a domain is proved.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Challenge {
    /// In a TLS handshake on port 443
    #[value(name = "tls-alpn-01")]
    TlsAlpn01,
    /// By a file on port 80; the nodes need [acme] http_listen
    #[value(name = "http-01")]
    Http01,
}

impl AcmeCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => {
                let shown = get(&args.read.connect()?).await?;
                answer(args.read.output(), &Described(&shown), &json(&shown))
            }
            Self::Set(args) => set(args).await,
            Self::Order(args) => order(args).await,
            Self::Off(args) => {
                let connection = args.admin.connect()?;
                let changed = change(&connection, None, None, "switch ACME off").await?;
                answer(args.admin.output, &"ACME is off; the certificates that it gave are forgotten.\n", &changed)
            }
        }
    }
}

async fn get(connection: &Connection) -> Result<GetAcmeResponse, Failure> {
    let request = connection.request(GetAcmeRequest {}, CALL_LIMIT);
    let shown = WebCertificatesClient::new(connection.channel()).get_acme(request).await;
    Ok(shown.map_err(connection.failed("show the web certificates"))?.into_inner())
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let current = get(&connection).await?;
    let mut settings = current.settings.unwrap_or_default();
    if let Some(directory) = args.directory {
        // Terms are one authority's.
        settings.terms_agreed &= settings.directory == directory;
        settings.directory = directory;
    }
    if settings.directory.is_empty() {
        return Err(Failure::Usage("--directory URL is needed: which authority is to be asked".to_owned()));
    }
    if !args.contact.is_empty() {
        settings.contact = args.contact;
    }
    if !args.domain.is_empty() {
        settings.domains = args.domain;
    }
    settings.terms_agreed |= args.agree_to_terms;
    if let Some(challenge) = args.challenge {
        let wire = match challenge {
            Challenge::TlsAlpn01 => AcmeChallenge::TlsAlpn01,
            Challenge::Http01 => AcmeChallenge::Http01,
        };
        settings.set_challenge(wire);
    }
    // What was read is what is changed: somebody else's change in between is not undone.
    let expected = Some(current.revision).filter(|revision| *revision > 0);
    let changed = change(&connection, Some(settings), expected, "change the ACME settings").await?;
    answer(args.admin.output, &"The settings are changed; `quorate acme show` shows how the orders go.\n", &changed)
}

#[derive(Serialize)]
struct ChangedJson {
    revision: Wide<u64>,
    log_index: Wide<u64>,
}

async fn change(
    connection: &Connection,
    settings: Option<AcmeSettings>,
    expected_revision: Option<u64>,
    deed: &'static str,
) -> Result<ChangedJson, Failure> {
    let request = connection.request(SetAcmeRequest { settings, expected_revision }, CALL_LIMIT);
    let changed = WebCertificatesClient::new(connection.channel()).set_acme(request).await;
    let changed = changed.map_err(connection.failed(deed))?.into_inner();
    Ok(ChangedJson { revision: Wide(changed.revision), log_index: Wide(changed.log_index) })
}

#[derive(Serialize)]
struct OrderedJson {
    domain: String,
    log_index: Wide<u64>,
}

async fn order(args: OrderArgs) -> Result<(), Failure> {
    let connection = args.admin.connect()?;
    let message = OrderWebCertificateRequest { domain: args.domain.clone() };
    let request = connection.request(message, CALL_LIMIT);
    let ordered = WebCertificatesClient::new(connection.channel()).order_web_certificate(request).await;
    let ordered = ordered.map_err(connection.failed("order a web certificate"))?.into_inner();
    let text =
        format!("Another certificate for {} is ordered; `quorate acme show` shows how that goes.\n", args.domain);
    answer(args.admin.output, &text, &OrderedJson { domain: args.domain, log_index: Wide(ordered.log_index) })
}

struct Described<'a>(&'a GetAcmeResponse);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(settings) = &self.0.settings else {
            return writeln!(f, "ACME is off: `quorate acme set --help` shows how certificates are had.");
        };
        let mut facts = Facts::new();
        facts
            .add("Directory", &settings.directory)
            .add_unless_empty("Contact", &settings.contact.join(", "))
            .add("Challenge", challenge_name(settings.challenge()))
            .add("Revision", self.0.revision);
        write!(f, "{facts}")?;
        for domain in &self.0.domains {
            write!(f, "\n{}", described(domain))?;
        }
        Ok(())
    }
}

fn described(known: &WebDomain) -> Facts {
    let WebDomain { domain, certificate, order, failure, next_order_at } = known;
    let mut facts = Facts::new();
    facts.add("Domain", domain);
    match certificate {
        Some(certificate) => facts.add(
            "Certificate",
            format!("{} to {}", UnixSeconds(certificate.not_before), UnixSeconds(certificate.not_after)),
        ),
        None => facts.add("Certificate", "none yet"),
    };
    if let Some(order) = order {
        let step = if order.challenge_is_out { "its challenge is answered by every node" } else { "placed" };
        facts.add("Order", format!("since {}, {step}: {}", UnixSeconds(order.begun_at), order.url));
    } else if *next_order_at > 0 {
        facts.add("Next order", UnixSeconds(*next_order_at));
    } else {
        facts.add("Next order", "at once");
    }
    if let Some(failure) = failure {
        let times = if failure.count == 1 { "once".to_owned() } else { format!("{} times", failure.count) };
        facts.add("Failed", format!("{times}, the last time at {}: {}", UnixSeconds(failure.at), failure.reason));
    }
    facts
}

fn challenge_name(challenge: AcmeChallenge) -> &'static str {
    match challenge {
        AcmeChallenge::Http01 => "http-01",
        AcmeChallenge::TlsAlpn01 | AcmeChallenge::Unspecified => "tls-alpn-01",
    }
}

/// `quorate.cluster.v1.GetAcmeResponse`
#[derive(Serialize)]
struct AcmeJson<'a> {
    settings: Option<SettingsJson<'a>>,
    revision: Wide<u64>,
    domains: Vec<DomainJson<'a>>,
}

#[derive(Serialize)]
struct SettingsJson<'a> {
    directory: &'a str,
    contact: &'a [String],
    terms_agreed: bool,
    domains: &'a [String],
    challenge: &'static str,
}

#[derive(Serialize)]
struct DomainJson<'a> {
    domain: &'a str,
    certificate: Option<CertificateJson<'a>>,
    order: Option<OrderJson<'a>>,
    failure: Option<FailureJson<'a>>,
    next_order_at: Wide<i64>,
}

#[derive(Serialize)]
struct CertificateJson<'a> {
    chain: Vec<Base64<'a>>,
    not_before: Wide<i64>,
    not_after: Wide<i64>,
    recorded_at: Wide<i64>,
}

#[derive(Serialize)]
struct OrderJson<'a> {
    url: &'a str,
    begun_at: Wide<i64>,
    challenge_is_out: bool,
}

#[derive(Serialize)]
struct FailureJson<'a> {
    count: u32,
    reason: &'a str,
    at: Wide<i64>,
}

fn json(shown: &GetAcmeResponse) -> AcmeJson<'_> {
    let settings = shown.settings.as_ref().map(|settings| SettingsJson {
        directory: &settings.directory,
        contact: &settings.contact,
        terms_agreed: settings.terms_agreed,
        domains: &settings.domains,
        challenge: challenge_name(settings.challenge()),
    });
    AcmeJson { settings, revision: Wide(shown.revision), domains: shown.domains.iter().map(domain_json).collect() }
}

fn domain_json(known: &WebDomain) -> DomainJson<'_> {
    let WebDomain { domain, certificate, order, failure, next_order_at } = known;
    let certificate_json = |certificate: &WebCertificateInfo| {
        let WebCertificateInfo { not_before, not_after, recorded_at, .. } = *certificate;
        (Wide(not_before), Wide(not_after), Wide(recorded_at))
    };
    DomainJson {
        domain,
        certificate: certificate.as_ref().map(|certificate| {
            let (not_before, not_after, recorded_at) = certificate_json(certificate);
            let chain = certificate.chain.iter().map(|der| Base64(der)).collect();
            CertificateJson { chain, not_before, not_after, recorded_at }
        }),
        order: order.as_ref().map(|WebOrderInfo { url, begun_at, challenge_is_out }| OrderJson {
            url,
            begun_at: Wide(*begun_at),
            challenge_is_out: *challenge_is_out,
        }),
        failure: failure.as_ref().map(|WebFailureInfo { count, reason, at }| FailureJson {
            count: *count,
            reason,
            at: Wide(*at),
        }),
        next_order_at: Wide(*next_order_at),
    }
}
