//! What a node offers to other trust domains, and how it reaches them: `[bundle_endpoint]`, `[federation_api]`, `[oidc]`,
//! `[federation]`.
//!
//! Here is what concerns this one node: ports, files, names. Whom the cluster federates with and who may ask for what is
//! replicated state, changed by `quorate federation`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::MemberServices;
use quorate_raft_machine::federation::EndpointPins;
use toml::Value;
use url::Url;

use super::Config;
use super::document::Document;
use super::values;
use crate::outbound::hexadecimal;
use crate::peer::address::is_host_name;

/// Connections that a server for other trust domains may be told to hold: each costs a descriptor and some 30 KiB.
const CONNECTIONS: (u64, u64) = (16, 65_536);

/// Requests a second that one address may be allowed.
const RATE: (u64, u64) = (1, 100_000);

/// `[bundle_endpoint]`
#[derive(Clone, Debug)]
pub struct BundleEndpointConfig {
    /// Where `https_spiffe` is served; it is not without.
    pub spiffe_listen: Option<SocketAddr>,
    /// Where `https_web` is served; it is not without.
    pub web_listen: Option<SocketAddr>,
    /// The path of the bundle.
    pub path: String,
    /// How others reach `https_spiffe` here.
    pub spiffe_url: Option<Url>,
    /// How others reach `https_web` here.
    pub web_url: Option<Url>,
    /// What `https_web` proves its name with.
    pub certificate: Option<WebCertificate>,
    /// What clients may take.
    pub limits: ServerLimits,
}

/// `[federation_api]`
#[derive(Clone, Debug)]
pub struct FederationApiConfig {
    /// Where it is served; it is not without.
    pub listen: Option<SocketAddr>,
    /// What the server proves itself with.
    pub server: ServerProfile,
    /// How others reach it.
    pub url: Option<Url>,
    /// The certificate, where `server` is `https_web`.
    pub certificate: Option<WebCertificate>,
    /// What clients may take.
    pub limits: ServerLimits,
}

/// `[oidc]`
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// Where discovery and keys are served; they are not without.
    pub listen: Option<SocketAddr>,
    /// How others reach it.
    pub url: Option<Url>,
    /// The certificate; none behind a proxy.
    pub certificate: Option<WebCertificate>,
    /// Whether it is served without TLS, for a proxy on this host that has it.
    pub behind_proxy: bool,
    /// What clients may take.
    pub limits: ServerLimits,
}

/// `[acme]`
#[derive(Clone, Debug)]
pub struct AcmeConfig {
    /// Where HTTP-01 challenges are answered; they are not without.
    pub http_listen: Option<SocketAddr>,
}

/// `[federation]`
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// Private networks that redirects and discovery may lead to (ATK-37).
    pub allow_private: Vec<IpNet>,
    /// The certificate authorities of `https_web`, instead of the system's.
    pub web_roots: Option<PathBuf>,
    /// Who is asked for addresses, instead of the system's resolvers.
    pub dns_servers: Vec<SocketAddr>,
    /// DNSSEC trust anchors beside the root's.
    pub dns_anchors: Option<PathBuf>,
    /// What endpoints are pinned to before there is a relationship.
    pub pins: Vec<DomainPin>,
}

/// What an endpoint of a trust domain has to be, known in advance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPin {
    /// Whose endpoint.
    pub trust_domain: TrustDomain,
    /// What it has to be.
    pub pin: Pin,
}

/// One thing that an endpoint is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A host.
    Host(String),
    /// SHA-256 of the server's subjectPublicKeyInfo.
    Key([u8; 32]),
}

impl DomainPin {
    /// Reads `TRUST DOMAIN host=NAME`, or `TRUST DOMAIN key=SHA-256`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no pin; write \"b.example host=bundle.b.example\" or \"b.example key=HEX\"");
        let (domain, pin) = text.split_once(' ').ok_or_else(wrong)?;
        let trust_domain = TrustDomain::new(domain).map_err(|error| format!("{text:?}: {error}"))?;
        let pin = match pin.trim().split_once('=').ok_or_else(wrong)? {
            ("host", host) if is_host_name(host) => Pin::Host(host.to_ascii_lowercase()),
            ("key", digits) => Pin::Key(fingerprint(digits).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        Ok(Self { trust_domain, pin })
    }

    /// Adds it to the pins of a relationship to be.
    pub fn add_to(&self, pins: &mut EndpointPins) {
        match &self.pin {
            Pin::Host(host) if !pins.hosts.contains(host) => pins.hosts.push(host.clone()),
            Pin::Key(key) if !pins.keys.contains(key) => pins.keys.push(*key),
            Pin::Host(_) | Pin::Key(_) => {}
        }
    }
}

impl fmt::Display for DomainPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Pin::Host(host) => write!(f, "{} host={host}", self.trust_domain),
            Pin::Key(key) => write!(f, "{} key={}", self.trust_domain, hexadecimal(key)),
        }
    }
}

/// 64 hexadecimal digits, with or without colons.
pub(super) fn fingerprint(digits: &str) -> Option<[u8; 32]> {
    let digits: String = digits.chars().filter(|character| *character != ':').collect();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Where a server's web certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebCertificate {
    /// Two PEM files of this host, read again when they change.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its private key.
        private_key: PathBuf,
    },
    /// The cluster gets it by ACME.
    Acme,
}

/// What an HTTPS server proves itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerProfile {
    /// The node's endpoint certificate, an X509-SVID.
    Spiffe,
    /// A certificate of a public authority.
    Web,
}

impl ServerProfile {
    /// The word of the standard.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spiffe => "https_spiffe",
            Self::Web => "https_web",
        }
    }
}

/// What the clients of one server may take of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Most connections at once.
    pub max_connections: usize,
    /// Requests a second that one address may make; a burst of ten seconds' worth is allowed.
    pub requests_per_second: u32,
}

/// The names of one server's options for its certificate.
struct CertificateOptions {
    certificate: &'static str,
    private_key: &'static str,
    acme: &'static str,
}

pub(super) fn read_bundle_endpoint(document: &mut Document<'_>) -> Option<BundleEndpointConfig> {
    let spiffe_listen = document.read("bundle_endpoint.spiffe_listen", values::listen_or_none);
    let web_listen = document.read("bundle_endpoint.web_listen", values::listen_or_none);
    let path = document.read("bundle_endpoint.path", values::url_path);
    let spiffe_url = document.read_optional("bundle_endpoint.spiffe_url", values::https_url);
    let web_url = document.read_optional("bundle_endpoint.web_url", values::https_url);
    let certificate = read_certificate(
        document,
        &CertificateOptions {
            certificate: "bundle_endpoint.certificate",
            private_key: "bundle_endpoint.private_key",
            acme: "bundle_endpoint.acme",
        },
    );
    let limits = read_limits(document, "bundle_endpoint.max_connections", "bundle_endpoint.requests_per_second");
    Some(BundleEndpointConfig {
        spiffe_listen: spiffe_listen?,
        web_listen: web_listen?,
        path: path?,
        spiffe_url: spiffe_url?,
        web_url: web_url?,
        certificate: certificate?,
        limits: limits?,
    })
}

pub(super) fn read_federation_api(document: &mut Document<'_>) -> Option<FederationApiConfig> {
    let listen = document.read("federation_api.listen", values::listen_or_none);
    let server = document.read("federation_api.server", values::server_profile);
    let url = document.read_optional("federation_api.url", values::https_url);
    let certificate = read_certificate(
        document,
        &CertificateOptions {
            certificate: "federation_api.certificate",
            private_key: "federation_api.private_key",
            acme: "federation_api.acme",
        },
    );
    let limits = read_limits(document, "federation_api.max_connections", "federation_api.requests_per_second");
    Some(FederationApiConfig {
        listen: listen?,
        server: server?,
        url: url?,
        certificate: certificate?,
        limits: limits?,
    })
}

pub(super) fn read_oidc(document: &mut Document<'_>) -> Option<OidcConfig> {
    let listen = document.read("oidc.listen", values::listen_or_none);
    let url = document.read_optional("oidc.url", values::https_url);
    let certificate = read_certificate(
        document,
        &CertificateOptions { certificate: "oidc.certificate", private_key: "oidc.private_key", acme: "oidc.acme" },
    );
    let behind_proxy = document.read("oidc.behind_proxy", values::boolean);
    let limits = read_limits(document, "oidc.max_connections", "oidc.requests_per_second");
    Some(OidcConfig {
        listen: listen?,
        url: url?,
        certificate: certificate?,
        behind_proxy: behind_proxy?,
        limits: limits?,
    })
}

pub(super) fn read_acme(document: &mut Document<'_>) -> Option<AcmeConfig> {
    let http_listen = document.read("acme.http_listen", values::listen_or_none);
    Some(AcmeConfig { http_listen: http_listen? })
}

pub(super) fn read_outbound(document: &mut Document<'_>) -> Option<OutboundConfig> {
    let allow_private = document.read("federation.allow_private", values::networks);
    let web_roots = document.read_optional("federation.web_roots", values::directory);
    let dns_servers = document.read("federation.dns_servers", values::sockets);
    let dns_anchors = document.read_optional("federation.dns_anchors", values::directory);
    let pins = document.read("federation.pins", values::pins);
    Some(OutboundConfig {
        allow_private: allow_private?,
        web_roots: web_roots?,
        dns_servers: dns_servers?,
        dns_anchors: dns_anchors?,
        pins: pins?,
    })
}

fn read_limits(
    document: &mut Document<'_>,
    max_connections: &'static str,
    requests_per_second: &'static str,
) -> Option<ServerLimits> {
    let connections = document.read(max_connections, |value| values::count(value, CONNECTIONS.0, CONNECTIONS.1));
    let rate = document.read(requests_per_second, |value| values::count(value, RATE.0, RATE.1));
    Some(ServerLimits {
        max_connections: usize::try_from(connections?).ok()?,
        requests_per_second: u32::try_from(rate?).ok()?,
    })
}

/// Files, or ACME, or neither; both, or half of the files, is a mistake.
fn read_certificate(document: &mut Document<'_>, options: &CertificateOptions) -> Option<Option<WebCertificate>> {
    let certificate = document.read_optional(options.certificate, values::directory)?;
    let private_key = document.read_optional(options.private_key, values::directory)?;
    let acme = document.read(options.acme, values::boolean)?;
    match (certificate, private_key, acme) {
        (None, None, false) => Some(None),
        (None, None, true) => Some(Some(WebCertificate::Acme)),
        (Some(certificate), Some(private_key), false) => Some(Some(WebCertificate::Files { certificate, private_key })),
        (Some(_), None, false) => missing_half(document, options.certificate, options.private_key),
        (None, Some(_), false) => missing_half(document, options.private_key, options.certificate),
        (Some(_), _, true) | (_, Some(_), true) => {
            let message = format!(
                "{} says that the cluster gets the certificate, and there are files for it too; choose one",
                options.acme
            );
            document.problem(document.line(options.acme), message);
            None
        }
    }
}

fn missing_half<T>(document: &mut Document<'_>, has: &str, lacks: &str) -> Option<T> {
    document.problem(document.line(has), format!("{has} is of no use without {lacks}; set both"));
    None
}

/// The sockets of this node that are reached over a network, each with its option.
fn listeners(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    [
        ("peer.listen", Some(config.peer.listen)),
        ("operations.listen", config.operations.listen),
        ("bundle_endpoint.spiffe_listen", config.bundle_endpoint.spiffe_listen),
        ("bundle_endpoint.web_listen", config.bundle_endpoint.web_listen),
        ("federation_api.listen", config.federation_api.listen),
        ("oidc.listen", config.oidc.listen),
        ("acme.http_listen", config.acme.http_listen),
    ]
    .into_iter()
    .filter_map(|(option, address)| Some((option, address?)))
}

/// Rules that concern several options.
pub(super) fn check_together(config: &Config, document: &mut Document<'_>) {
    let mut before: Vec<(&'static str, SocketAddr)> = Vec::new();
    for (option, address) in listeners(config) {
        if let Some((other, _)) = before.iter().find(|(_, other)| is_same_port(address, *other)) {
            let message = format!("{option} and {other} both want port {}; give each its own", address.port());
            document.problem(document.line(option), message);
        }
        before.push((option, address));
    }
    let bundle = &config.bundle_endpoint;
    let api = &config.federation_api;
    let oidc = &config.oidc;
    let api_is_web = api.listen.is_some() && api.server == ServerProfile::Web;
    for (is_on, certificate, option, section) in [
        (bundle.web_listen.is_some(), &bundle.certificate, "bundle_endpoint.web_listen", "bundle_endpoint"),
        (api_is_web, &api.certificate, "federation_api.server", "federation_api"),
        (oidc.listen.is_some() && !oidc.behind_proxy, &oidc.certificate, "oidc.listen", "oidc"),
    ] {
        if is_on && certificate.is_none() {
            let message = format!(
                "{option} needs a web certificate: set {section}.certificate and {section}.private_key, or {section}.acme"
            );
            document.problem(document.line(option), message);
        }
    }
    let open = oidc.listen.filter(|address| oidc.behind_proxy && !address.ip().is_loopback());
    if let Some(address) = open {
        let message = format!(
            "oidc.behind_proxy serves without TLS, and oidc.listen {address} is open to other hosts; listen on loopback, \
             where the proxy is"
        );
        document.problem(document.line("oidc.behind_proxy"), message);
    }
}

fn is_same_port(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_host
}

impl Config {
    /// What this node tells the cluster that it serves to others: each with its public URL, or the address listened on.
    #[must_use]
    pub fn services(&self) -> MemberServices {
        let bundle = &self.bundle_endpoint;
        let at = |listen: Option<SocketAddr>, url: Option<&Url>, path: &str| {
            listen.map(|address| url.map_or_else(|| format!("https://{address}{path}"), Url::to_string))
        };
        let spiffe = at(bundle.spiffe_listen, bundle.spiffe_url.as_ref(), &bundle.path);
        let web = || at(bundle.web_listen, bundle.web_url.as_ref(), &bundle.path);
        MemberServices {
            bundle_endpoint: spiffe.or_else(web),
            federation_api: at(self.federation_api.listen, self.federation_api.url.as_ref(), "/"),
            oidc: at(self.oidc.listen, self.oidc.url.as_ref(), "/"),
        }
    }
}

/// The value in effect of an option of these sections, as TOML; none for one that is not set, or of another section.
pub(super) fn effective(config: &Config, name: &str) -> Option<Value> {
    let (section, key) = name.split_once('.')?;
    match section {
        "bundle_endpoint" => {
            let section = &config.bundle_endpoint;
            match key {
                "spiffe_listen" => Some(listen(section.spiffe_listen)),
                "web_listen" => Some(listen(section.web_listen)),
                "path" => Some(Value::String(section.path.clone())),
                "spiffe_url" => url(section.spiffe_url.as_ref()),
                "web_url" => url(section.web_url.as_ref()),
                _ => certificate(section.certificate.as_ref(), key).or_else(|| limit(section.limits, key)),
            }
        }
        "federation_api" => {
            let section = &config.federation_api;
            match key {
                "listen" => Some(listen(section.listen)),
                "server" => Some(Value::String(section.server.as_str().to_owned())),
                "url" => url(section.url.as_ref()),
                _ => certificate(section.certificate.as_ref(), key).or_else(|| limit(section.limits, key)),
            }
        }
        "oidc" => {
            let section = &config.oidc;
            match key {
                "listen" => Some(listen(section.listen)),
                "url" => url(section.url.as_ref()),
                "behind_proxy" => Some(Value::Boolean(section.behind_proxy)),
                _ => certificate(section.certificate.as_ref(), key).or_else(|| limit(section.limits, key)),
            }
        }
        "acme" => (key == "http_listen").then(|| listen(config.acme.http_listen)),
        "federation" => {
            let section = &config.federation;
            match key {
                "allow_private" => {
                    let networks = section.allow_private.iter().map(|network| Value::String(network.to_string()));
                    Some(Value::Array(networks.collect()))
                }
                "web_roots" => section.web_roots.as_deref().map(path),
                "dns_servers" => {
                    let servers = section.dns_servers.iter().map(|server| Value::String(server.to_string()));
                    Some(Value::Array(servers.collect()))
                }
                "dns_anchors" => section.dns_anchors.as_deref().map(path),
                "pins" => {
                    let pins = section.pins.iter().map(|pin| Value::String(pin.to_string()));
                    Some(Value::Array(pins.collect()))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn listen(address: Option<SocketAddr>) -> Value {
    Value::String(address.map_or_else(|| "none".to_owned(), |address| address.to_string()))
}

fn url(url: Option<&Url>) -> Option<Value> {
    url.map(|url| Value::String(url.to_string()))
}

fn path(path: &std::path::Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn certificate(source: Option<&WebCertificate>, key: &str) -> Option<Value> {
    match (key, source) {
        ("acme", _) => Some(Value::Boolean(source == Some(&WebCertificate::Acme))),
        ("certificate", Some(WebCertificate::Files { certificate, .. })) => Some(path(certificate)),
        ("private_key", Some(WebCertificate::Files { private_key, .. })) => Some(path(private_key)),
        _ => None,
    }
}

fn limit(limits: ServerLimits, key: &str) -> Option<Value> {
    match key {
        "max_connections" => i64::try_from(limits.max_connections).ok().map(Value::Integer),
        "requests_per_second" => Some(Value::Integer(limits.requests_per_second.into())),
        _ => None,
    }
}
