//! `[[federation.relationships]]`: relationships with foreign trust domains that this node proposes when it starts.
//!
//! They are ordinary ones from then on, in the replicated state: what is here is compared with what is there at each start.

use std::collections::BTreeSet;
use std::path::PathBuf;

use quorate_proto_identity::{EndpointUrl, SpiffeId, TrustDomain};
use quorate_raft_machine::federation::{POLL_FLOOR_LIMIT, RELATIONSHIPS_LIMIT};
use quorate_raft_machine::{ApiCredential, ApiServer, Endpoint, EndpointPins, PollSettings, SecretName};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::document::Checked;
use super::federation::fingerprint;
use super::suggest::nearest;
use super::values;
use crate::outbound::hexadecimal;

/// What a relationship may hold.
const KEYS: [&str; 17] = [
    "trust_domain",
    "profile",
    "url",
    "endpoint_spiffe_id",
    "bundle",
    "credential",
    "secret_file",
    "token_url",
    "client_id",
    "scope",
    "audience",
    "watch",
    "pin_hosts",
    "pin_keys",
    "poll_floor_seconds",
    "follow_redirects",
    "accept_private",
];

/// A relationship of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredRelationship {
    /// With which trust domain.
    pub trust_domain: TrustDomain,
    /// Where its bundle is fetched.
    pub endpoint: ConfiguredEndpoint,
    /// The file with its bundle to begin with.
    pub bundle: Option<PathBuf>,
    /// What else must hold of the endpoint.
    pub pins: EndpointPins,
    /// How often, and over what.
    pub poll: PollSettings,
}

/// Where a bundle is fetched, by which profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfiguredEndpoint {
    /// `https_web`
    Web {
        /// The bundle.
        url: EndpointUrl,
    },
    /// `https_spiffe`
    Spiffe {
        /// The bundle.
        url: EndpointUrl,
        /// The server.
        endpoint_spiffe_id: SpiffeId,
    },
    /// `federation_api`
    Api {
        /// Where it is served.
        url: EndpointUrl,
        /// What the server shows.
        server: ApiServer,
        /// What we show.
        credential: ConfiguredCredential,
        /// Whether to have changes pushed.
        watch: bool,
    },
}

/// What we show to a Federation API. Secrets are in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfiguredCredential {
    /// Nothing.
    None,
    /// An X509-SVID of ours.
    MutualTls,
    /// A key that the peer gave us.
    ApiKey {
        /// The file that holds it.
        secret_file: PathBuf,
    },
    /// An access token by OAuth 2 client credentials.
    OAuth {
        /// Where tokens are to be had.
        token_url: EndpointUrl,
        /// Who we are there.
        client_id: String,
        /// What is asked for; may be empty.
        scope: String,
        /// For whom the token is; may be empty.
        audience: String,
        /// The file that holds the client secret.
        secret_file: PathBuf,
    },
}

impl ConfiguredRelationship {
    /// The endpoint as the state has it, with this name for its secret where it has one.
    pub(crate) fn endpoint(&self, secret: SecretName) -> Endpoint {
        match &self.endpoint {
            ConfiguredEndpoint::Web { url } => Endpoint::Web { url: url.clone() },
            ConfiguredEndpoint::Spiffe { url, endpoint_spiffe_id } => {
                Endpoint::Spiffe { url: url.clone(), endpoint_spiffe_id: endpoint_spiffe_id.clone() }
            }
            ConfiguredEndpoint::Api { url, server, credential, watch } => Endpoint::Api {
                url: url.clone(),
                server: server.clone(),
                credential: credential.with_secret(secret),
                watch: *watch,
            },
        }
    }

    /// The file with the secret of the credential, where it has one.
    pub(crate) fn secret_file(&self) -> Option<&PathBuf> {
        match &self.endpoint {
            ConfiguredEndpoint::Api {
                credential:
                    ConfiguredCredential::ApiKey { secret_file } | ConfiguredCredential::OAuth { secret_file, .. },
                ..
            } => Some(secret_file),
            ConfiguredEndpoint::Api { .. } | ConfiguredEndpoint::Web { .. } | ConfiguredEndpoint::Spiffe { .. } => None,
        }
    }

    /// The relationship as it stands in a file, defaults filled in.
    pub(super) fn to_toml(&self) -> Value {
        let mut table = Table::new();
        let mut add = |key: &str, value| drop(table.insert(key.to_owned(), value));
        let text = |text: &dyn ToString| Value::String(text.to_string());
        let path = |path: &PathBuf| Value::String(path.to_string_lossy().into_owned());
        add("trust_domain", text(&self.trust_domain));
        match &self.endpoint {
            ConfiguredEndpoint::Web { url } => {
                add("profile", text(&"https_web"));
                add("url", text(url));
            }
            ConfiguredEndpoint::Spiffe { url, endpoint_spiffe_id } => {
                add("profile", text(&"https_spiffe"));
                add("url", text(url));
                add("endpoint_spiffe_id", text(endpoint_spiffe_id));
            }
            ConfiguredEndpoint::Api { url, server, credential, watch } => {
                add("profile", text(&"federation_api"));
                add("url", text(url));
                if let ApiServer::Spiffe(id) = server {
                    add("endpoint_spiffe_id", text(id));
                }
                add("credential", text(&credential.name()));
                if let ConfiguredCredential::OAuth { token_url, client_id, scope, audience, .. } = credential {
                    add("token_url", text(token_url));
                    add("client_id", text(client_id));
                    add("scope", text(scope));
                    add("audience", text(audience));
                }
                add("watch", Value::Boolean(*watch));
            }
        }
        if let Some(file) = self.secret_file() {
            add("secret_file", path(file));
        }
        if let Some(file) = &self.bundle {
            add("bundle", path(file));
        }
        if !self.pins.hosts.is_empty() {
            add("pin_hosts", Value::Array(self.pins.hosts.iter().map(|host| text(host)).collect()));
        }
        if !self.pins.keys.is_empty() {
            add("pin_keys", Value::Array(self.pins.keys.iter().map(|key| text(&hexadecimal(key))).collect()));
        }
        add("poll_floor_seconds", Value::Integer(i64::from(self.poll.floor)));
        add("follow_redirects", Value::Boolean(self.poll.follow_redirects));
        if let Some(accepted) = self.poll.accept_private {
            add("accept_private", Value::Boolean(accepted));
        }
        Value::Table(table)
    }
}

impl ConfiguredCredential {
    const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
            Self::ApiKey { .. } => "api_key",
            Self::OAuth { .. } => "oauth",
        }
    }

    fn with_secret(&self, secret: SecretName) -> ApiCredential {
        match self {
            Self::None => ApiCredential::None,
            Self::MutualTls => ApiCredential::MutualTls,
            Self::ApiKey { secret_file: _ } => ApiCredential::ApiKey { secret },
            Self::OAuth { token_url, client_id, scope, audience, secret_file: _ } => ApiCredential::OAuth {
                token_url: token_url.clone(),
                client_id: client_id.clone(),
                scope: scope.clone(),
                audience: audience.clone(),
                secret,
            },
        }
    }
}

/// Reads the list. What is wrong is told with the name of the trust domain that it is about.
pub(super) fn relationships(value: &DeValue<'_>) -> Checked<Vec<ConfiguredRelationship>> {
    let list = value.as_array().ok_or("must be a list of tables; write [[federation.relationships]] above each")?;
    if list.len() > RELATIONSHIPS_LIMIT {
        return Err(format!("has {} relationships; the most is {RELATIONSHIPS_LIMIT}", list.len()));
    }
    let mut seen = BTreeSet::new();
    let mut relationships = Vec::with_capacity(list.len());
    for (position, entry) in list.iter().enumerate() {
        let table = entry.get_ref().as_table().ok_or("each must be a table: [[federation.relationships]]")?;
        let name = Fields { table }
            .required("trust_domain", values::trust_domain)
            .map_err(|reason| format!("number {}: {reason}", position.saturating_add(1)))?;
        if !seen.insert(name.clone()) {
            return Err(format!("{name} is there twice; a trust domain has one relationship"));
        }
        let read = relationship(name.clone(), &Fields { table }).map_err(|reason| format!("{name}: {reason}"))?;
        relationships.push(read);
    }
    Ok(relationships)
}

fn relationship(trust_domain: TrustDomain, fields: &Fields<'_, '_>) -> Checked<ConfiguredRelationship> {
    fields.refuse_unknown()?;
    let url = fields.required("url", url)?;
    let server = fields.optional("endpoint_spiffe_id", spiffe_id)?;
    let endpoint = match fields.required("profile", text)?.as_str() {
        "https_web" => {
            fields.refuse("https_web", &["endpoint_spiffe_id"])?;
            fields.refuse("https_web", &OF_THE_API)?;
            ConfiguredEndpoint::Web { url }
        }
        "https_spiffe" => {
            fields.refuse("https_spiffe", &OF_THE_API)?;
            let endpoint_spiffe_id =
                server.ok_or("endpoint_spiffe_id is missing; often \"spiffe://TRUST DOMAIN/spire/server\"")?;
            ConfiguredEndpoint::Spiffe { url, endpoint_spiffe_id }
        }
        "federation_api" => ConfiguredEndpoint::Api {
            url,
            server: server.map_or(ApiServer::Web, ApiServer::Spiffe),
            credential: credential(fields)?,
            watch: fields.optional("watch", values::boolean)?.unwrap_or(true),
        },
        other => {
            return Err(format!("profile: {other:?} is none; there are https_web, https_spiffe and federation_api"));
        }
    };
    Ok(ConfiguredRelationship {
        trust_domain,
        endpoint,
        bundle: fields.optional("bundle", values::directory)?,
        pins: EndpointPins {
            hosts: fields.optional("pin_hosts", texts)?.unwrap_or_default(),
            keys: fields.optional("pin_keys", keys)?.unwrap_or_default(),
        },
        poll: poll(fields)?,
    })
}

/// What only a Federation API has.
const OF_THE_API: [&str; 7] = ["credential", "secret_file", "token_url", "client_id", "scope", "audience", "watch"];

/// What only OAuth has.
const OF_OAUTH: [&str; 4] = ["token_url", "client_id", "scope", "audience"];

fn credential(fields: &Fields<'_, '_>) -> Checked<ConfiguredCredential> {
    let kind = fields.optional("credential", text)?.unwrap_or_else(|| "none".to_owned());
    if kind != "oauth" {
        fields.refuse(&format!("credential = {kind:?}"), &OF_OAUTH)?;
    }
    let secret_file = || fields.required("secret_file", values::directory);
    match kind.as_str() {
        "none" | "mutual_tls" => {
            fields.refuse(&format!("credential = {kind:?}"), &["secret_file"])?;
            Ok(if kind == "none" { ConfiguredCredential::None } else { ConfiguredCredential::MutualTls })
        }
        "api_key" => Ok(ConfiguredCredential::ApiKey { secret_file: secret_file()? }),
        "oauth" => Ok(ConfiguredCredential::OAuth {
            token_url: fields.required("token_url", self::url)?,
            client_id: fields.required("client_id", text)?,
            scope: fields.optional("scope", text)?.unwrap_or_default(),
            audience: fields.optional("audience", text)?.unwrap_or_default(),
            secret_file: secret_file()?,
        }),
        other => Err(format!("credential: {other:?} is none; there are none, mutual_tls, api_key and oauth")),
    }
}

fn poll(fields: &Fields<'_, '_>) -> Checked<PollSettings> {
    let default = PollSettings::default();
    let most = u64::from(POLL_FLOOR_LIMIT);
    let floor = fields.optional("poll_floor_seconds", |value| values::count(value, 1, most))?;
    Ok(PollSettings {
        floor: floor.and_then(|floor| u32::try_from(floor).ok()).unwrap_or(default.floor),
        follow_redirects: fields.optional("follow_redirects", values::boolean)?.unwrap_or(default.follow_redirects),
        accept_private: fields.optional("accept_private", values::boolean)?,
    })
}

/// The keys of one relationship.
struct Fields<'t, 'i> {
    table: &'t DeTable<'i>,
}

impl Fields<'_, '_> {
    fn optional<T>(&self, key: &str, check: impl Fn(&DeValue<'_>) -> Checked<T>) -> Checked<Option<T>> {
        let value = self.table.get(key);
        value.map(|value| check(value.get_ref()).map_err(|reason| format!("{key}: {reason}"))).transpose()
    }

    fn required<T>(&self, key: &str, check: impl Fn(&DeValue<'_>) -> Checked<T>) -> Checked<T> {
        self.optional(key, check)?.ok_or_else(|| format!("{key} is missing"))
    }

    fn refuse(&self, of: &str, keys: &[&str]) -> Checked<()> {
        match keys.iter().find(|key| self.table.get(**key).is_some()) {
            Some(key) => Err(format!("{key}: this is not for {of}")),
            None => Ok(()),
        }
    }

    fn refuse_unknown(&self) -> Checked<()> {
        let unknown = self.table.keys().map(|key| key.get_ref()).find(|key| !KEYS.contains(&key.as_ref()));
        match unknown {
            Some(key) => {
                let hint = nearest(key, KEYS).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                Err(format!("{key} is not known here{hint}"))
            }
            None => Ok(()),
        }
    }
}

fn text(value: &DeValue<'_>) -> Checked<String> {
    value.as_str().map(ToOwned::to_owned).ok_or_else(|| "must be text in quotes".to_owned())
}

fn texts(value: &DeValue<'_>) -> Checked<Vec<String>> {
    let list = value.as_array().ok_or("must be a list")?;
    list.iter().map(|entry| text(entry.get_ref())).collect()
}

fn keys(value: &DeValue<'_>) -> Checked<Vec<[u8; 32]>> {
    let key =
        |text: &String| fingerprint(text).ok_or_else(|| format!("{text:?}: SHA-256 of a key is 64 hexadecimal digits"));
    texts(value)?.iter().map(key).collect()
}

fn url(value: &DeValue<'_>) -> Checked<EndpointUrl> {
    EndpointUrl::parse(&text(value)?).map_err(|error| error.to_string())
}

fn spiffe_id(value: &DeValue<'_>) -> Checked<SpiffeId> {
    SpiffeId::parse(&text(value)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{Config, show};
    use super::*;

    const BASE: &str = "trust_domain = \"one.example\"\nname = \"node-1\"\ndata_dir = \"/var/lib/quorate\"\n";

    fn parse(text: &str) -> Result<Vec<ConfiguredRelationship>, String> {
        Config::parse(&format!("{BASE}{text}"))
            .map(|config| config.relationships)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    const ALL: &str = "[[federation.relationships]]\ntrust_domain = \"two.example\"\nprofile = \"https_web\"\n\
                       url = \"https://two.example/\"\npoll_floor_seconds = 5\nfollow_redirects = false\n\
                       pin_hosts = [\"two.example\"]\n\
                       [[federation.relationships]]\ntrust_domain = \"three.example\"\nprofile = \"https_spiffe\"\n\
                       url = \"https://three.example:8443/\"\nendpoint_spiffe_id = \"spiffe://three.example/server\"\n\
                       bundle = \"/etc/quorate/three.json\"\n\
                       [[federation.relationships]]\ntrust_domain = \"four.example\"\nprofile = \"federation_api\"\n\
                       url = \"https://four.example/\"\ncredential = \"oauth\"\n\
                       token_url = \"https://login.example/token\"\nclient_id = \"one\"\n\
                       secret_file = \"/etc/quorate/four.secret\"\nwatch = false\n";

    /// Accepts: FED-13, FED-16, FED-32.
    #[test]
    fn relationships_of_every_profile_are_read_and_shown_as_they_are_read() {
        let read = parse(ALL).unwrap();
        let names: Vec<_> = read.iter().map(|relationship| relationship.trust_domain.as_str().to_owned()).collect();
        assert_eq!(names, ["two.example", "three.example", "four.example"]);
        assert_eq!((read[0].poll.floor, read[0].poll.follow_redirects), (5, false));
        assert_eq!(read[1].bundle.as_deref(), Some(std::path::Path::new("/etc/quorate/three.json")));
        assert!(read[2].secret_file().is_some());
        let config = Config::parse(&format!("{BASE}{ALL}")).unwrap();
        let again = Config::parse(&show(&config)).unwrap();
        assert_eq!(again.relationships, config.relationships);
    }

    /// Refuses: FED-16, FED-18, FED-19, FED-27, FED-31, FED-32, FED-43, FED-50.
    #[test]
    fn what_is_missing_or_does_not_fit_is_told_by_its_trust_domain_sf_03_sf_04() {
        let web = |more: &str| {
            format!(
                "[[federation.relationships]]\ntrust_domain = \"two.example\"\nprofile = \"https_web\"\n\
                 url = \"https://two.example/\"\n{more}\n"
            )
        };
        let twice = web("") + &web("");
        for (text, said) in [
            (web("").replace("two.example\"\nprofile", "one.example\"\nprofile"), "this node's own trust domain"),
            (twice, "two.example is there twice"),
            (web("urls = 1"), "urls is not known here; did you mean url?"),
            (web("endpoint_spiffe_id = \"spiffe://two.example/a\""), "endpoint_spiffe_id: this is not for https_web"),
            (web("credential = \"none\""), "credential: this is not for https_web"),
            (web("").replace("https_web", "https"), "profile: \"https\" is none"),
            (web("").replace("profile = \"https_web\"\n", ""), "profile is missing"),
            (web("").replace("https://", "http://"), "two.example: url: "),
            (
                web("").replace("trust_domain = \"two.example\"\nprofile", "profile"),
                "number 1: trust_domain is missing",
            ),
            (web("").replace("https_web", "https_spiffe"), "endpoint_spiffe_id is missing"),
            (web("credential = \"api_key\"").replace("https_web", "federation_api"), "secret_file is missing"),
            (web("poll_floor_seconds = 0"), "poll_floor_seconds: "),
            (web("pin_keys = [\"ab\"]"), "64 hexadecimal digits"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(said), "{text}\n{error}");
        }
    }
}
