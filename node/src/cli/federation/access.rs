//! `quorate federation access`: who may ask for our bundle, and how.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use quorate_proto_api::channel::CALL_LIMIT;
use quorate_proto_api::cluster::federation_access_client::FederationAccessClient;
use quorate_proto_api::cluster::{
    AccessOAuth, AccessRule, ListWatchesRequest, ListWatchesResponse, MutualTlsAccess, SetAccessRuleRequest,
    SetAccessSettingsRequest, ShowAccessRequest, ShowAccessResponse,
};
use quorate_proto_identity::{SpiffeId, TrustDomain};
use serde::Serialize;
use tonic::transport::Channel;

use crate::cli::failure::Failure;
use crate::cli::json::Wide;
use crate::cli::output::answer;
use crate::cli::socket::{AdminArgs, Connection, ReadArgs};
use crate::cli::text::Table;

/// What follows the options of `set`.
const HELP: &str = "\
What is not given stays as it is. A rule for one peer stands in the place of that for everybody, and adds nothing to it; a new one
begins as that for everybody is.

Examples:
  quorate federation access set --everybody --anonymous on
  quorate federation access set two.example --mutual-tls spiffe://two.example/spire/server --api-keys off
  quorate federation access set two.example --oauth https://login.two.example,audience=quorate,scope=bundle.read,claim:tenant=two
  quorate federation access set two.example --remove
  quorate federation access set --anonymous-endpoint off";

/// What can be done about access.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Show who is answered by the Federation API, and by what
    Show(ShowArgs),
    /// Change who is answered, for everybody or for one peer
    Set(Box<SetArgs>),
    /// Show who watches our bundle, and what they have confirmed
    Watches(ShowArgs),
}

/// What `quorate federation access show` takes.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    read: ReadArgs,
}

/// What `quorate federation access set` takes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    admin: AdminArgs,

    /// The peer that the rule is for
    #[arg(value_name = "TRUST DOMAIN", value_parser = TrustDomain::parse_name_or_id, conflicts_with = "everybody")]
    trust_domain: Option<TrustDomain>,

    /// The rule is for everybody who has none of its own
    #[arg(long)]
    everybody: bool,

    /// Take the rule away
    #[arg(long, conflicts_with_all = ["mutual_tls", "api_keys", "oauth", "no_oauth", "anonymous"])]
    remove: bool,

    /// Whose X509-SVIDs are taken: `any` of a federated trust domain, `off`, or SPIFFE IDs
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    mutual_tls: Vec<String>,

    /// Whether API keys are taken
    #[arg(long, value_name = "on|off", value_parser = switch)]
    api_keys: Option<bool>,

    /// Whose tokens are taken: ISSUER,audience=TEXT[,scope=WORDS][,claim:NAME=VALUE]...; given once for each issuer
    #[arg(long, value_name = "RULE", value_parser = oauth)]
    oauth: Vec<AccessOAuth>,

    /// Take no tokens
    #[arg(long, conflicts_with = "oauth")]
    no_oauth: bool,

    /// Whether nothing needs to be proved; for everybody only
    #[arg(long, value_name = "on|off", value_parser = switch)]
    anonymous: Option<bool>,

    /// Whether the standard's bundle endpoint answers everybody, of the whole trust domain
    #[arg(long, value_name = "on|off", value_parser = switch)]
    anonymous_endpoint: Option<bool>,
}

impl AccessCommand {
    /// Carries the command out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Show(args) => show(args).await,
            Self::Set(args) => set(*args).await,
            Self::Watches(args) => watches(args).await,
        }
    }
}

fn client(connection: &Connection) -> FederationAccessClient<Channel> {
    FederationAccessClient::new(connection.channel())
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is on or off".to_owned()),
    }
}

/// An issuer and what must be in its tokens, separated by commas.
fn oauth(text: &str) -> Result<AccessOAuth, String> {
    let mut parts = text.split(',');
    let issuer = parts.next().unwrap_or_default().to_owned();
    let mut rule = AccessOAuth { issuer, ..AccessOAuth::default() };
    for part in parts {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?}: it is NAME=VALUE"))?;
        let value = value.to_owned();
        match name.split_once(':') {
            None if name == "audience" => rule.audience = value,
            None if name == "scope" => rule.scope = value,
            Some(("claim", claim)) => drop(rule.claims.insert(claim.to_owned(), value)),
            None | Some(_) => return Err(format!("{name:?}: there are audience, scope and claim:NAME")),
        }
    }
    if rule.audience.is_empty() {
        return Err("audience=TEXT is needed: without it a token for anybody would do".to_owned());
    }
    Ok(rule)
}

async fn shown(connection: &Connection) -> Result<ShowAccessResponse, Failure> {
    let shown = client(connection).show_access(connection.request(ShowAccessRequest {}, CALL_LIMIT)).await;
    Ok(shown.map_err(connection.failed("show who is answered"))?.into_inner())
}

/// `quorate.cluster.v1.AccessRule`
#[derive(Serialize)]
struct RuleJson<'a> {
    trust_domain: &'a str,
    mutual_tls: Vec<String>,
    api_keys: bool,
    oauth: Vec<OAuthJson<'a>>,
    anonymous: bool,
    revision: Wide<u64>,
    changed_at: Wide<i64>,
}

/// `quorate.cluster.v1.AccessOAuth`
#[derive(Serialize)]
struct OAuthJson<'a> {
    issuer: &'a str,
    audience: &'a str,
    scope: &'a str,
    claims: &'a BTreeMap<String, String>,
}

/// `quorate.cluster.v1.ShowAccessResponse`
#[derive(Serialize)]
struct AccessJson<'a> {
    everybody: Option<RuleJson<'a>>,
    peers: Vec<RuleJson<'a>>,
    anonymous_endpoint: bool,
}

fn rule_json(rule: &AccessRule) -> RuleJson<'_> {
    let oauth = rule.oauth.iter().map(|rule| {
        let AccessOAuth { issuer, audience, scope, claims } = rule;
        OAuthJson { issuer, audience, scope, claims }
    });
    RuleJson {
        trust_domain: &rule.trust_domain,
        mutual_tls: mutual_tls(rule),
        api_keys: rule.api_keys,
        oauth: oauth.collect(),
        anonymous: rule.anonymous,
        revision: Wide(rule.revision),
        changed_at: Wide(rule.changed_at),
    }
}

fn mutual_tls(rule: &AccessRule) -> Vec<String> {
    match rule.mutual_tls() {
        MutualTlsAccess::Ids => rule.spiffe_ids.clone(),
        MutualTlsAccess::AnyId => vec!["any".to_owned()],
        MutualTlsAccess::Off | MutualTlsAccess::Unspecified => vec!["off".to_owned()],
    }
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let shown = shown(&connection).await?;
    let json = AccessJson {
        everybody: shown.everybody.as_ref().map(rule_json),
        peers: shown.peers.iter().map(rule_json).collect(),
        anonymous_endpoint: shown.anonymous_endpoint,
    };
    answer(args.read.output(), &described(&shown), &json)
}

fn described(shown: &ShowAccessResponse) -> String {
    let word = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
    let mut table = Table::new(["WHO", "MUTUAL TLS", "API KEYS", "OAUTH", "ANONYMOUS"]);
    for rule in shown.everybody.iter().chain(&shown.peers) {
        let who = if rule.trust_domain.is_empty() { "everybody else" } else { &rule.trust_domain };
        let issuers: Vec<&str> = rule.oauth.iter().map(|rule| rule.issuer.as_str()).collect();
        let issuers = if issuers.is_empty() { "off".to_owned() } else { issuers.join(" ") };
        table.row([who.to_owned(), mutual_tls(rule).join(" "), word(rule.api_keys), issuers, word(rule.anonymous)]);
    }
    let endpoint = match shown.anonymous_endpoint {
        true => "The bundle endpoint of the standard answers everybody.",
        false => "The bundle endpoint of the standard answers nobody, and discovery says so.",
    };
    format!("{table}{endpoint}\n")
}

/// What became of a change.
#[derive(Serialize)]
struct SetJson {
    log_index: Wide<u64>,
}

async fn set(args: SetArgs) -> Result<(), Failure> {
    let names_a_rule = args.everybody || args.trust_domain.is_some();
    if !names_a_rule && args.anonymous_endpoint.is_none() {
        return Err(Failure::Usage("name a trust domain, or --everybody, or --anonymous-endpoint".to_owned()));
    }
    let connection = args.admin.connect()?;
    let mut log_index = 0;
    if names_a_rule {
        log_index = set_rule(&args, &connection).await?;
    }
    if let Some(anonymous_endpoint) = args.anonymous_endpoint {
        let message = SetAccessSettingsRequest { anonymous_endpoint };
        let changed = client(&connection).set_access_settings(connection.request(message, CALL_LIMIT)).await;
        log_index = changed.map_err(connection.failed("change who is answered"))?.into_inner().log_index;
    }
    answer(
        args.admin.output,
        &"It is changed, and every connected member goes by it.\n",
        &SetJson { log_index: Wide(log_index) },
    )
}

async fn set_rule(args: &SetArgs, connection: &Connection) -> Result<u64, Failure> {
    let shown = shown(connection).await?;
    let name = args.trust_domain.as_ref().map(ToString::to_string).unwrap_or_default();
    let everybody = shown.everybody.unwrap_or_default();
    let own = shown.peers.into_iter().find(|rule| rule.trust_domain == name);
    let present = if name.is_empty() {
        everybody
    } else {
        // Anonymous calls cannot be told apart, so a peer's rule never has them.
        own.unwrap_or(AccessRule { anonymous: false, revision: 0, ..everybody })
    };
    let expected_revision = present.revision;
    let rule = if args.remove { None } else { Some(changed(args, present)?) };
    let message = SetAccessRuleRequest { trust_domain: name, rule, expected_revision };
    let changed = client(connection).set_access_rule(connection.request(message, CALL_LIMIT)).await;
    Ok(changed.map_err(connection.failed("change who is answered"))?.into_inner().log_index)
}

/// The rule with what was given in the place of what it has.
fn changed(args: &SetArgs, mut rule: AccessRule) -> Result<AccessRule, Failure> {
    match args.mutual_tls.as_slice() {
        [] => {}
        [word] if word == "any" || word == "off" => {
            let kind = if word == "any" { MutualTlsAccess::AnyId } else { MutualTlsAccess::Off };
            rule.set_mutual_tls(kind);
            rule.spiffe_ids.clear();
        }
        ids => {
            if let Some((id, error)) = ids.iter().find_map(|id| Some((id, SpiffeId::parse(id).err()?))) {
                return Err(Failure::Usage(format!("--mutual-tls {id}: {error}")));
            }
            rule.set_mutual_tls(MutualTlsAccess::Ids);
            rule.spiffe_ids = ids.to_vec();
        }
    }
    rule.api_keys = args.api_keys.unwrap_or(rule.api_keys);
    rule.anonymous = args.anonymous.unwrap_or(rule.anonymous);
    if args.no_oauth || !args.oauth.is_empty() {
        rule.oauth.clone_from(&args.oauth);
    }
    Ok(rule)
}

/// `quorate.cluster.v1.ListWatchesResponse`
#[derive(Serialize)]
struct WatchesJson<'a> {
    sequence: Wide<u64>,
    watches: Vec<WatchJson<'a>>,
    not_asked: &'a [String],
}

/// `quorate.cluster.v1.WatchingPeer`
#[derive(Serialize)]
struct WatchJson<'a> {
    node: &'a str,
    trust_domain: &'a str,
    watches: Wide<u64>,
    sent: Wide<u64>,
    confirmed: Option<Wide<u64>>,
    refusal: &'a str,
}

async fn watches(args: ShowArgs) -> Result<(), Failure> {
    let connection = args.read.connect()?;
    let listed = client(&connection)
        .list_watches(connection.request(ListWatchesRequest {}, CALL_LIMIT))
        .await
        .map_err(connection.failed("show who watches"))?
        .into_inner();
    let watches = listed.watches.iter().map(|watch| WatchJson {
        node: &watch.node,
        trust_domain: &watch.trust_domain,
        watches: Wide(watch.watches),
        sent: Wide(watch.sent),
        confirmed: watch.confirmed.map(Wide),
        refusal: &watch.refusal,
    });
    let json =
        WatchesJson { sequence: Wide(listed.sequence), watches: watches.collect(), not_asked: &listed.not_asked };
    answer(args.read.output(), &watching(&listed), &json)
}

fn watching(listed: &ListWatchesResponse) -> String {
    let mut text = String::new();
    if listed.watches.is_empty() {
        text.push_str("Nobody watches our bundle\n");
    } else {
        let mut table = Table::new(["NODE", "TRUST DOMAIN", "WATCHES", "SENT", "CONFIRMED", "REFUSED"]);
        for watch in &listed.watches {
            let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            table.row([
                watch.node.clone(),
                dash(&watch.trust_domain),
                watch.watches.to_string(),
                watch.sent.to_string(),
                watch.confirmed.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string()),
                dash(&watch.refusal),
            ]);
        }
        text.push_str(&table.to_string());
        text.push_str(&format!("Our bundle has the sequence {}\n", listed.sequence));
    }
    for node in &listed.not_asked {
        text.push_str(&format!("{node} could not be asked\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oauth_rule_is_read_with_its_claims_and_needs_an_audience() {
        let rule = oauth("https://a.example,audience=q,scope=x y,claim:tenant=two,claim:https://b/c=d").unwrap();
        assert_eq!(
            (rule.issuer.as_str(), rule.audience.as_str(), rule.scope.as_str()),
            ("https://a.example", "q", "x y")
        );
        assert_eq!(rule.claims.len(), 2);
        for wrong in ["https://a.example", "https://a.example,audience", "https://a.example,audience=q,other=1"] {
            oauth(wrong).unwrap_err();
        }
    }
}
