//! The configuration of one node: a TOML file, checked whole into types before anything starts.
//!
//! ```text
//!   file ──> document (lines, unknown names, all problems at once) ──> values (a rule each) ──> Config
//!                 ^                                                                               |
//!   options ──────┴──> example, reference page                                         show <─────┘
//! ```
//!
//! What concerns this one node is here; what the whole cluster shares (lifetimes, key types) is
//! policy in the replicated state, changed by `quorate policy set`.

pub mod options;

mod document;
mod federation;
mod initial;
mod relationships;
mod render;
mod suggest;
mod values;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_proto_identity::NodeName;
use quorate_proto_identity::TrustDomain;

use crate::peer::address::PeerAddress;
use document::Document;
pub use document::Problem;
pub use federation::{
    AcmeConfig, BundleEndpointConfig, FederationApiConfig, OidcConfig, OutboundConfig, ServerLimits, ServerProfile,
    WebCertificate,
};
pub use initial::{InitialMember, InitialMembers, key_text};
pub use relationships::{ConfiguredCredential, ConfiguredEndpoint, ConfiguredRelationship};
pub use render::{example, reference, show};

/// Largest configuration file read; ours have a few hundred bytes, so a larger one is a mistake.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where the command line looks for a node's configuration when not told.
pub const DEFAULT_CONFIG_PATH: &str = "/etc/quorate/node.toml";

/// Where the admin socket is when no configuration says otherwise.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/quorate/admin/admin.sock";

/// Everything a node is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The trust domain the authority issues for.
    pub trust_domain: TrustDomain,
    /// This node's name in the cluster.
    pub name: NodeName,
    /// Where log, snapshots, sealed keys and ledger are.
    pub data_dir: PathBuf,
    /// The Workload API.
    pub workload_api: WorkloadApiConfig,
    /// The admin socket.
    pub admin: AdminConfig,
    /// Traffic between nodes.
    pub peer: PeerConfig,
    /// The nodes that found the cluster together, when it is founded from configuration.
    pub initial: Option<InitialMembers>,
    /// The audit trail.
    pub audit: AuditConfig,
    /// Metrics and health.
    pub operations: OperationsConfig,
    /// Our bundle, for other trust domains.
    pub bundle_endpoint: BundleEndpointConfig,
    /// The Federation API.
    pub federation_api: FederationApiConfig,
    /// OIDC discovery.
    pub oidc: OidcConfig,
    /// Challenges of web authorities.
    pub acme: AcmeConfig,
    /// How other trust domains are reached.
    pub federation: OutboundConfig,
    /// Relationships that this node proposes at its start.
    pub relationships: Vec<ConfiguredRelationship>,
    /// Log output.
    pub log: LogConfig,
}

/// `[workload_api]`
#[derive(Clone, Debug)]
pub struct WorkloadApiConfig {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Most connections at once.
    pub max_connections: usize,
    /// Most streams and calls in flight of one user.
    pub max_calls_per_user: usize,
    /// Claims of foreign tokens that are told beside those that every token has.
    pub foreign_jwt_claims: BTreeSet<String>,
}

/// `[admin]`
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Group whose members are admitted, beside root and the node's own user.
    pub group: Option<GroupName>,
}

/// `[peer]`
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Where other nodes connect.
    pub listen: SocketAddr,
    /// Whether the file says so: then the port is opened at the start, and a port that cannot be had stops it.
    pub listen_is_set: bool,
    /// The addresses they dial, when they are others.
    pub advertise: Vec<PeerAddress>,
}

/// `[audit]`
#[derive(Clone, Copy, Debug)]
pub struct AuditConfig {
    /// Bytes of the trail that are kept.
    pub keep_bytes: u64,
}

/// `[operations]`
#[derive(Clone, Debug)]
pub struct OperationsConfig {
    /// Where metrics and health are served; nothing is served without.
    pub listen: Option<SocketAddr>,
    /// Further host names that requests may name, in lower case.
    pub hosts: Vec<String>,
}

/// `[log]`
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Shape of the lines.
    pub format: LogFormat,
    /// Least level shown.
    pub level: tracing::Level,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A group of this host, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupName {
    /// By its name.
    Name(String),
    /// By its number.
    Number(u32),
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Why a configuration was not taken. Nothing has been started or changed then.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read: look at the path and at who may read it.
    #[error("cannot read the configuration {path:?}")]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any configuration: probably another file was named.
    #[error("the configuration {path:?} is larger than {MAX_FILE_BYTES} bytes; is it the right file?")]
    TooLarge {
        /// The path as given.
        path: PathBuf,
    },
    /// The file is not UTF-8 text.
    #[error("the configuration {path:?} is not UTF-8 text; is it the right file?")]
    NotText {
        /// The path as given.
        path: PathBuf,
    },
    /// The file was read and has these problems, all of them.
    #[error("{path:?} is not a configuration that can be used:{}", listed(.problems))]
    Invalid {
        /// The path as given.
        path: PathBuf,
        /// Every problem found, in the order of the file.
        problems: Vec<Problem>,
    },
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read or anything in it is wrong; all problems are in the error.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText { path: path.to_owned() })?;
        Self::parse(&text).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// The addresses at which other nodes reach this one, the best one first: what the file advertises, else this
    /// node's place in the founding list, else the address listened on. None when that stands for every address of the
    /// host.
    #[must_use]
    pub fn addresses(&self) -> Vec<PeerAddress> {
        if !self.peer.advertise.is_empty() {
            return self.peer.advertise.clone();
        }
        let listed = self.initial.as_ref().and_then(|list| list.get(&self.name));
        match listed {
            Some(own) => own.addresses.clone(),
            None => PeerAddress::of_socket(self.peer.listen).into_iter().collect(),
        }
    }

    /// Checks the text of a configuration.
    ///
    /// # Errors
    /// Every problem in it, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut document = Document::parse(text);
        let config = read(&mut document);
        if let Some(config) = &config {
            config.check_together(&mut document);
        }
        let problems = document.into_problems();
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            Some(_) | None => Err(problems),
        }
    }

    /// Rules that concern several options.
    fn check_together(&self, document: &mut Document<'_>) {
        let (workload, admin) = (&self.workload_api.socket, &self.admin.socket);
        if workload == admin {
            let message = format!(
                "admin.socket and workload_api.socket are both {admin:?}; give each its own path, \
                 best in directories apart"
            );
            document.problem(document.line("admin.socket"), message);
        }
        if workload.starts_with(&self.data_dir) {
            let message = format!(
                "workload_api.socket is inside data_dir {:?}, which no other user can enter; put \
                 the socket elsewhere",
                self.data_dir
            );
            document.problem(document.line("workload_api.socket"), message);
        }
        if let Some(list) = &self.initial
            && list.get(&self.name).is_none()
        {
            let names: Vec<&str> = list.iter().map(|member| member.name.as_str()).collect();
            let message = format!(
                "cluster.initial does not have this node: name is {}, and the list has {}",
                self.name,
                names.join(", ")
            );
            document.problem(document.line("cluster.initial"), message);
        }
        if self.relationships.iter().any(|relationship| relationship.trust_domain == self.trust_domain) {
            let message = format!(
                "federation.relationships: {} is this node's own trust domain; a relationship is with a foreign one",
                self.trust_domain
            );
            document.problem(document.line("federation.relationships"), message);
        }
        federation::check_together(self, document);
    }
}

/// Reads every option before giving up on any, so that all problems are found.
fn read(document: &mut Document<'_>) -> Option<Config> {
    let trust_domain = document.read("trust_domain", values::trust_domain);
    let name = document.read("name", values::node_name);
    let data_dir = document.read("data_dir", values::directory);
    let workload_api = read_workload_api(document);
    let admin = read_admin(document);
    let peer = read_peer(document);
    let initial = document.read_optional("cluster.initial", initial::initial_members);
    let audit = read_audit(document);
    let operations = read_operations(document);
    let bundle_endpoint = federation::read_bundle_endpoint(document);
    let federation_api = federation::read_federation_api(document);
    let oidc = federation::read_oidc(document);
    let acme = federation::read_acme(document);
    let federation = federation::read_outbound(document);
    let relationships = document.read_optional("federation.relationships", relationships::relationships);
    let log = read_log(document);
    Some(Config {
        trust_domain: trust_domain?,
        name: name?,
        data_dir: data_dir?,
        workload_api: workload_api?,
        admin: admin?,
        peer: peer?,
        initial: initial?,
        audit: audit?,
        operations: operations?,
        bundle_endpoint: bundle_endpoint?,
        federation_api: federation_api?,
        oidc: oidc?,
        acme: acme?,
        federation: federation?,
        relationships: relationships?.unwrap_or_default(),
        log: log?,
    })
}

fn read_workload_api(document: &mut Document<'_>) -> Option<WorkloadApiConfig> {
    let socket = document.read("workload_api.socket", values::socket);
    let connections = document.read("workload_api.max_connections", |value| values::count(value, 16, 1_000_000));
    let calls = document.read("workload_api.max_calls_per_user", |value| values::count(value, 16, 10_000_000));
    let foreign_claims = document.read("workload_api.foreign_jwt_claims", values::claims);
    Some(WorkloadApiConfig {
        socket: socket?,
        max_connections: usize::try_from(connections?).ok()?,
        max_calls_per_user: usize::try_from(calls?).ok()?,
        foreign_jwt_claims: foreign_claims?,
    })
}

fn read_admin(document: &mut Document<'_>) -> Option<AdminConfig> {
    let socket = document.read("admin.socket", values::socket);
    let group = document.read_optional("admin.group", values::group);
    Some(AdminConfig { socket: socket?, group: group? })
}

fn read_peer(document: &mut Document<'_>) -> Option<PeerConfig> {
    let listen = document.read("peer.listen", values::listen);
    let listen_is_set = document.line("peer.listen").is_some();
    let advertise = document.read_optional("peer.advertise", values::addresses);
    Some(PeerConfig { listen: listen?, listen_is_set, advertise: advertise?.unwrap_or_default() })
}

fn read_audit(document: &mut Document<'_>) -> Option<AuditConfig> {
    let keep_bytes = document.read("audit.keep_bytes", |value| values::count(value, 64 << 20, 1 << 40))?;
    Some(AuditConfig { keep_bytes })
}

fn read_operations(document: &mut Document<'_>) -> Option<OperationsConfig> {
    let listen = document.read("operations.listen", values::listen_or_none);
    let hosts = document.read("operations.hosts", values::hosts);
    Some(OperationsConfig { listen: listen?, hosts: hosts? })
}

fn read_log(document: &mut Document<'_>) -> Option<LogConfig> {
    let format = document.read("log.format", values::log_format);
    let level = document.read("log.level", values::level);
    Some(LogConfig { format: format?, level: level? })
}

#[cfg(test)]
mod tests;
