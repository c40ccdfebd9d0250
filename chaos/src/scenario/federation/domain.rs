//! One of two clusters: its nodes with their endpoints, its relationship with the other one, and what is done to it.

use super::NODES;
use crate::fleet::{Fleet, Site};
use crate::node::{Layout, free_address};
use crate::progress;
use crate::registrar::node_entry;
use crate::run::Run;
use crate::trouble::Trouble;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Lives long enough that what fails is not their end, and short enough that they are renewed; a refresh hint that makes the
/// wait before an activation, which is three of them, short.
const POLICY: &str = "issuing_lifetime = \"60s\"\nroot_lifetime = \"10m\"\nx509_svid_lifetime = \"20s\"\n\
                      jwt_key_lifetime = \"10m\"\njwt_svid_lifetime = \"20s\"\nrefresh_hint = \"2s\"\n";

/// Life of the workloads' SVIDs, in seconds.
const SVID_SECONDS: i32 = 20;

/// How long a leader may take to be found, and how long a killed one stays dead.
const LEADER_LIMIT: Duration = Duration::from_secs(15);
const DEAD: Duration = Duration::from_millis(500);

/// How long a forced replacement may take.
const REPLACE_LIMIT: &str = "90s";

/// How bundles are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The standard's profile with an X509-SVID.
    Spiffe,
    /// The standard's profile with a web certificate.
    Web,
    /// The Federation API: a watch over mutual TLS.
    Push,
}

/// A cluster.
#[derive(Debug)]
pub(super) struct Domain {
    /// Its trust domain.
    pub(super) name: &'static str,
    /// The other one's.
    pub(super) peer: &'static str,
    pub(super) run: Arc<Run>,
    directory: PathBuf,
    /// Where its first node serves its bundle.
    endpoints: Endpoints,
}

/// Where a node serves its bundle.
#[derive(Clone, Copy, Debug)]
struct Endpoints {
    spiffe: SocketAddr,
    web: SocketAddr,
    api: SocketAddr,
}

/// Files of the web certificates that all nodes show.
#[derive(Debug)]
pub(super) struct WebCertificates {
    roots: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Makes a certificate authority of the Web, and a certificate of it for this host.
pub(super) fn web_certificates(directory: &Path) -> Result<WebCertificates, Trouble> {
    let wrong = |error: rcgen::Error| Trouble::NotReached(format!("a web certificate: {error}"));
    let files = WebCertificates {
        roots: directory.join("web-roots.pem"),
        certificate: directory.join("web.pem"),
        key: directory.join("web.key"),
    };
    let mut authority = CertificateParams::new(Vec::new()).map_err(wrong)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().map_err(wrong)?;
    let root = authority.self_signed(&authority_key).map_err(wrong)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().map_err(wrong)?;
    let leaf = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()]).map_err(wrong)?;
    let leaf = leaf.signed_by(&key, &issuer).map_err(wrong)?;
    for (path, text) in
        [(&files.roots, root.pem()), (&files.certificate, leaf.pem()), (&files.key, key.serialize_pem())]
    {
        fs::write(path, text).map_err(Trouble::system(path.display().to_string()))?;
    }
    Ok(files)
}

impl Domain {
    /// Founds a cluster whose nodes serve their bundle in every way.
    pub(super) async fn found(
        directory: &Path,
        name: &'static str,
        peer: &'static str,
        web: &WebCertificates,
    ) -> Result<Self, Trouble> {
        let directory = directory.join(name);
        let (mut sites, mut first) = (Vec::new(), None);
        for number in 1..=NODES {
            let address = || free_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let endpoints = Endpoints { spiffe: address()?, web: address()?, api: address()? };
            let mut layout = Layout::on_loopback(format!("node-{number}"))?;
            layout.trust_domain = name.to_owned();
            layout.further = format!(
                "[bundle_endpoint]\nspiffe_listen = \"{}\"\nweb_listen = \"{}\"\ncertificate = {:?}\nprivate_key = {:?}\n\
                 [federation_api]\nlisten = \"{}\"\nserver = \"https_spiffe\"\n\
                 [federation]\nweb_roots = {:?}\n",
                endpoints.spiffe, endpoints.web, web.certificate, web.key, endpoints.api, web.roots,
            );
            first.get_or_insert(endpoints);
            sites.push(Site { layout, region: String::new() });
        }
        let Some(endpoints) = first else { return Err(Trouble::NotReached("a cluster has one node".to_owned())) };
        let fleet = Fleet::found(&directory, &sites, POLICY).await?;
        Ok(Self { name, peer, run: Arc::new(Run::new(fleet)), directory, endpoints })
    }

    /// The SPIFFE ID of the workload at a node.
    pub(super) fn workload(&self, node: usize) -> String {
        format!("spiffe://{}/on/node-{}", self.name, node + 1)
    }

    async fn command(&self, arguments: &[&str]) -> Result<String, Trouble> {
        self.run.fleet.member(0)?.place.command(arguments).await
    }

    /// Has this cluster get the other's bundle. `update` changes the relationship that there is.
    pub(super) async fn trust(&self, other: &Self, how: Exchange, update: Option<&str>) -> Result<(), Trouble> {
        let bundle = self.directory.join("peer.json");
        let server = format!("spiffe://{}/spire/server", other.name);
        let Endpoints { spiffe, web, api } = other.endpoints;
        let mut arguments = vec!["federation", update.unwrap_or("create"), other.name];
        let url = match how {
            Exchange::Spiffe => format!("https://{spiffe}/"),
            Exchange::Web => format!("https://{web}/"),
            Exchange::Push => format!("https://{api}/"),
        };
        match how {
            Exchange::Spiffe => arguments.extend(["--profile", "https_spiffe", "--endpoint-spiffe-id", &server]),
            Exchange::Web => arguments.extend(["--profile", "https_web"]),
            Exchange::Push => {
                arguments.extend(["--profile", "api", "--endpoint-spiffe-id", &server, "--credential", "mutual-tls"])
            }
        }
        arguments.extend(["--url", &url, "--poll-floor", "1s"]);
        let path = bundle.display().to_string();
        if update.is_none() {
            let document = other.command(&["bundle", "show", "--format", "spiffe"]).await?;
            fs::write(&bundle, document).map_err(Trouble::system(path.clone()))?;
            arguments.extend(["--bundle", &path]);
        }
        self.command(&arguments).await.map(drop)
    }

    /// Ends the relationship.
    pub(super) async fn part(&self) -> Result<(), Trouble> {
        self.command(&["federation", "delete", self.peer]).await.map(drop)
    }

    /// Whether new bundles of the other one are pushed to this one.
    pub(super) async fn is_watching(&self) -> bool {
        let status = self.command(&["federation", "status", "-o", "json"]).await;
        status.is_ok_and(|text| text.replace(' ', "").contains("\"watching\":true"))
    }

    /// Makes an entry for the workload at each node, which federates with the other domain.
    pub(super) async fn register(&self) -> Result<(), Trouble> {
        for (node, member) in self.run.fleet.members().iter().enumerate() {
            let mut entry = node_entry(&format!("/on/node-{}", node + 1), member.name(), SVID_SECONDS);
            for id in [&mut entry.spiffe_id, &mut entry.parent_id].into_iter().flatten() {
                id.trust_domain = self.name.to_owned();
            }
            entry.federates_with = vec![self.peer.to_owned()];
            let created = self.run.fleet.member(0)?.registrar().create_entry(entry).await;
            created.map_err(Trouble::call("BatchCreateEntry"))?;
        }
        Ok(())
    }

    /// Replaces the active root as after a leak of its key.
    pub(super) async fn replace_root(&self) -> Result<(), Trouble> {
        let arguments = ["authority", "replace", "--compromised", "x509", "--timeout", REPLACE_LIMIT];
        self.command(&arguments).await.map(drop)
    }

    /// Kills whoever leads, and starts it again.
    pub(super) async fn kill_leader(&self) -> Result<(), Trouble> {
        let leader = self.run.fleet.await_leader(LEADER_LIMIT).await?;
        let member = self.run.fleet.member(leader)?;
        progress(&format!("  SIGKILL {} of {}, which leads", member.name(), self.name));
        member.kill().await?;
        sleep(DEAD).await;
        member.start().await?;
        member.ready().await
    }
}
