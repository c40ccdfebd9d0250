//! The options that say where a bundle is fetched, and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quorate_proto_api::cluster::api_credential::Kind;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    ApiCredential, ApiEndpoint, ApiKeyCredential, EndpointPins, MutualTlsCredential, NoCredential, OAuthCredential,
    PollSettings, RelationshipEndpoint, SpiffeEndpoint, WebEndpoint,
};
use quorate_proto_identity::SpiffeId;

use crate::cli::failure::Failure;
use crate::duration::Seconds;

/// How the server at the URL proves who it is, and what it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    /// The standard bundle endpoint with a certificate for the URL's host, from an authority of the Web
    #[value(name = "https_web", alias = "https-web")]
    HttpsWeb,
    /// The standard bundle endpoint with an X509-SVID
    #[value(name = "https_spiffe", alias = "https-spiffe")]
    HttpsSpiffe,
    /// The Federation API, which can push; with --endpoint-spiffe-id its server has an X509-SVID, else a certificate of the
    /// Web
    #[value(name = "federation_api", alias = "api")]
    Api,
}

/// How we prove who we are to a Federation API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Credential {
    /// Not at all
    None,
    /// By an X509-SVID of the node that fetches
    MutualTls,
    /// By a key that they gave us, in --secret-file
    ApiKey,
    /// By a token of an authorization server, which knows us by --client-id and --secret-file
    #[value(name = "oauth")]
    OAuth,
}

/// Where a bundle is fetched.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct EndpointArgs {
    /// What the endpoint is; nothing is tried out, and nothing is concluded from the URL
    #[arg(long, value_enum, value_name = "PROFILE")]
    pub(super) profile: Option<Profile>,

    /// The URL of the bundle, or of the Federation API: https, with a host
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,

    /// The SPIFFE ID that the endpoint's server has
    #[arg(long, value_name = "ID")]
    pub(super) endpoint_spiffe_id: Option<SpiffeId>,

    /// How we prove who we are; only for the profile federation_api [default: none]
    #[arg(long, value_enum, value_name = "KIND")]
    pub(super) credential: Option<Credential>,

    /// The file with the API key, or with the client secret of --credential oauth; `-` is standard input. Nobody else may
    /// be able to read it
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,

    /// The token endpoint of the authorization server; only for --credential oauth
    #[arg(long, value_name = "URL")]
    pub(super) token_url: Option<String>,

    /// Our client ID at the authorization server; only for --credential oauth
    #[arg(long, value_name = "ID")]
    pub(super) client_id: Option<String>,

    /// The scope to ask the authorization server for; only for --credential oauth
    #[arg(long, value_name = "SCOPE")]
    pub(super) scope: Option<String>,

    /// The audience to ask the authorization server for; only for --credential oauth
    #[arg(long, value_name = "AUDIENCE")]
    pub(super) audience: Option<String>,

    /// Do not keep a watch open, by which new bundles are pushed: poll only. Only for the profile federation_api
    #[arg(long)]
    pub(super) no_watch: bool,
}

/// What the endpoint has to be besides.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PinArgs {
    /// A host that may be dialled, in redirects too; others are refused. Can be repeated
    #[arg(long = "pin-host", value_name = "HOST")]
    hosts: Vec<String>,

    /// A server key that is accepted: SHA-256 of its SubjectPublicKeyInfo in hexadecimal; others are refused. Can be repeated
    #[arg(long = "pin-key", value_name = "SHA256", value_parser = fingerprint)]
    keys: Vec<Fingerprint>,
}

/// How the bundle is polled.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PollArgs {
    /// The least time between two polls, whatever refresh hint the bundle has [default: 60s]
    #[arg(long, value_name = "TIME")]
    poll_floor: Option<Seconds>,

    /// Whether redirects are followed, as the standard has it [default: true]
    #[arg(long, value_name = "BOOL")]
    follow_redirects: Option<bool>,

    /// Whether a redirect may lead to a private address [default: as the node that fetches is configured]. The URL itself may
    /// name one
    #[arg(long, value_name = "BOOL")]
    accept_private: Option<bool>,
}

/// SHA-256 of a SubjectPublicKeyInfo.
pub(super) type Fingerprint = [u8; 32];

/// Reads a fingerprint: 64 hexadecimal digits, with or without colons.
pub(super) fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    let wrong = || "64 hexadecimal digits are wanted, with or without colons".to_owned();
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

fn usage(text: &str) -> Failure {
    Failure::Usage(text.to_owned())
}

impl EndpointArgs {
    /// Whether any of it was given.
    pub(super) fn is_given(&self) -> bool {
        let Self {
            profile,
            url,
            endpoint_spiffe_id,
            credential,
            secret_file: _,
            token_url,
            client_id,
            scope,
            audience,
            no_watch,
        } = self;
        profile.is_some()
            || url.is_some()
            || endpoint_spiffe_id.is_some()
            || credential.is_some()
            || token_url.is_some()
            || client_id.is_some()
            || scope.is_some()
            || audience.is_some()
            || *no_watch
    }

    /// The endpoint that the options describe.
    ///
    /// # Errors
    ///
    /// When one is missing, or does not fit the profile.
    pub(super) fn endpoint(&self) -> Result<RelationshipEndpoint, Failure> {
        let profile = self.profile.ok_or_else(|| usage("--profile PROFILE is needed: it is never guessed"))?;
        let url = self.url.clone().ok_or_else(|| usage("--url URL is needed"))?;
        let endpoint = match profile {
            Profile::HttpsWeb => {
                self.refuse_api_options()?;
                if self.endpoint_spiffe_id.is_some() {
                    return Err(usage(
                        "--endpoint-spiffe-id is not for https_web, where a certificate for the URL's host is asked for",
                    ));
                }
                Endpoint::Web(WebEndpoint { url })
            }
            Profile::HttpsSpiffe => {
                self.refuse_api_options()?;
                let id = self.endpoint_spiffe_id.as_ref().ok_or_else(|| {
                    usage(
                        "--endpoint-spiffe-id ID is needed for https_spiffe: often spiffe://TRUST DOMAIN/spire/server",
                    )
                })?;
                Endpoint::Spiffe(SpiffeEndpoint { url, endpoint_spiffe_id: id.to_string() })
            }
            Profile::Api => Endpoint::Api(ApiEndpoint {
                url,
                server_spiffe_id: self.endpoint_spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default(),
                credential: Some(ApiCredential { kind: Some(self.credential()?) }),
                watch: !self.no_watch,
            }),
        };
        Ok(RelationshipEndpoint { endpoint: Some(endpoint) })
    }

    pub(super) fn refuse_api_options(&self) -> Result<(), Failure> {
        let given = [
            (self.credential.is_some(), "--credential"),
            (self.secret_file.is_some(), "--secret-file"),
            (self.no_watch, "--no-watch"),
        ];
        self.refuse_oauth_options("the profile federation_api")?;
        match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(Failure::Usage(format!(
                "{name} is for the profile federation_api: the standard endpoints ask nobody who they are"
            ))),
            None => Ok(()),
        }
    }

    fn refuse_oauth_options(&self, of: &str) -> Result<(), Failure> {
        let given = [
            (self.token_url.is_some(), "--token-url"),
            (self.client_id.is_some(), "--client-id"),
            (self.scope.is_some(), "--scope"),
            (self.audience.is_some(), "--audience"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(Failure::Usage(format!("{name} is only for {of}"))),
            None => Ok(()),
        }
    }

    pub(super) fn credential(&self) -> Result<Kind, Failure> {
        let credential = self.credential.unwrap_or(Credential::None);
        if credential != Credential::OAuth {
            self.refuse_oauth_options("--credential oauth")?;
        }
        let takes_a_secret = matches!(credential, Credential::ApiKey | Credential::OAuth);
        if self.secret_file.is_some() && !takes_a_secret {
            return Err(usage("--secret-file is for --credential api-key and --credential oauth"));
        }
        Ok(match credential {
            Credential::None => Kind::None(NoCredential {}),
            Credential::MutualTls => Kind::MutualTls(MutualTlsCredential {}),
            Credential::ApiKey => Kind::ApiKey(ApiKeyCredential { secret_name: String::new() }),
            Credential::OAuth => Kind::Oauth(OAuthCredential {
                token_url: self
                    .token_url
                    .clone()
                    .ok_or_else(|| usage("--token-url URL is needed for --credential oauth"))?,
                client_id: self
                    .client_id
                    .clone()
                    .ok_or_else(|| usage("--client-id ID is needed for --credential oauth"))?,
                scope: self.scope.clone().unwrap_or_default(),
                audience: self.audience.clone().unwrap_or_default(),
                secret_name: String::new(),
            }),
        })
    }

    /// Whether the credential that is described comes with a secret.
    pub(super) fn needs_a_secret(&self) -> bool {
        matches!(self.credential, Some(Credential::ApiKey | Credential::OAuth))
    }
}

impl PinArgs {
    /// The pins, if any were given.
    pub(super) fn pins(&self) -> Option<EndpointPins> {
        let Self { hosts, keys } = self;
        (!hosts.is_empty() || !keys.is_empty())
            .then(|| EndpointPins { hosts: hosts.clone(), keys: keys.iter().map(|key| key.to_vec().into()).collect() })
    }
}

impl PollArgs {
    /// The settings on top of those that hold, if any were given.
    ///
    /// # Errors
    ///
    /// When the floor is longer than can be said.
    pub(super) fn poll(&self, held: Option<PollSettings>) -> Result<Option<PollSettings>, Failure> {
        let Self { poll_floor, follow_redirects, accept_private } = self;
        if poll_floor.is_none() && follow_redirects.is_none() && accept_private.is_none() {
            return Ok(None);
        }
        let mut poll = held.unwrap_or_default();
        if let Some(floor) = poll_floor {
            poll.floor_seconds = u32::try_from(floor.get())
                .map_err(|_| Failure::Usage(format!("--poll-floor: {floor} is longer than can be said")))?;
        }
        if let Some(follow) = follow_redirects {
            poll.refuse_redirects = !follow;
        }
        if accept_private.is_some() {
            poll.accept_private = *accept_private;
        }
        Ok(Some(poll))
    }
}
