//! The bundle endpoint of whole nodes, as strangers meet it: over real TLS, without any credential.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use quorate_proto_api::cluster::Policy;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::bundle::{GetBundleRequest, GetFederatedBundleRequest};
use quorate_proto_identity::bundle::Bundle;
use quorate_proto_identity::x509::{Purpose, verify_x509_svid};
use quorate_proto_identity::{AuthorityId, Certificate, TrustDomain, UnixSeconds};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cluster::TestCluster;
use crate::node::{TestNode, free_port, now};

/// Notes the certificates that a server shows, and takes any: who it is, the test looks at. Notes too whether it asks for
/// one.
#[derive(Debug)]
struct Notes {
    shown: Mutex<Vec<Vec<u8>>>,
    asked: AtomicBool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Notes {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others).map(|der| der.to_vec()).collect();
        *self.shown.lock().unwrap() = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Asked by the TLS library only when the server asks.
impl ResolvesClientCert for Notes {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What an endpoint answered, and with which certificates.
struct Fetched {
    response: Response<Vec<u8>>,
    chain: Vec<Vec<u8>>,
    /// Whether it asked for a certificate of ours.
    asked: bool,
}

impl Fetched {
    fn header(&self, name: http::header::HeaderName) -> String {
        self.response.headers()[name].to_str().unwrap().to_owned()
    }

    fn body(&self) -> &[u8] {
        self.response.body()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.body()).unwrap()
    }

    fn sequence(&self) -> u64 {
        self.json()["spiffe_sequence"].as_u64().unwrap()
    }
}

/// A plain GET: no client certificate, no headers but the host's and, if asked for, the tag.
async fn fetch(at: std::net::SocketAddr, path: &str, known: Option<&str>) -> std::io::Result<Fetched> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let notes =
        Arc::new(Notes { shown: Mutex::default(), asked: AtomicBool::new(false), provider: Arc::clone(&provider) });
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<Notes>::clone(&notes);
    let ours: Arc<dyn ResolvesClientCert> = Arc::<Notes>::clone(&notes);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(ours);
    let stream = TcpStream::connect(at).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(at.ip()), stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    let mut request = Request::get(path).header("host", at.to_string());
    if let Some(known) = known {
        request = request.header(IF_NONE_MATCH, known);
    }
    let request = request.body(Empty::<&[u8]>::new()).unwrap();
    let response = sender.send_request(request).await.map_err(std::io::Error::other)?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes().to_vec();
    let chain = notes.shown.lock().unwrap().clone();
    let asked = notes.asked.load(Ordering::SeqCst);
    Ok(Fetched { response: Response::from_parts(parts, body), chain, asked })
}

fn trust_domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

/// The bundle that an operator reads at a node and hands to a peer.
async fn own_bundle(node: &TestNode) -> Bundle {
    let request = GetBundleRequest { output_mask: None };
    let wire = BundleClient::new(node.admin_channel()).get_bundle(request).await.unwrap().into_inner();
    let mut bundle = Bundle::new(trust_domain());
    for root in &wire.x509_authorities {
        bundle.add_x509_authority(Certificate::parse(&root.asn1).unwrap());
    }
    bundle
}

/// Whether a peer with this bundle takes the server for ours.
fn is_ours(fetched: &Fetched, peer: &Bundle) -> bool {
    let verified = verify_x509_svid(&fetched.chain, peer, now(), Purpose::Server);
    verified.is_ok_and(|verified| verified.spiffe_id().as_str() == "spiffe://example.org/spire/server")
}

/// A node that serves both profiles, with a web certificate for 127.0.0.1 of its own.
struct Site {
    node: TestNode,
    spiffe: std::net::SocketAddr,
    web: std::net::SocketAddr,
}

impl Site {
    fn prepare() -> Self {
        let node = TestNode::prepare();
        let (spiffe, web) = (free_port(), free_port());
        web_certificate(&node);
        node.configure(&configuration(&node, spiffe, web));
        Self { node, spiffe, web }
    }

    async fn ready() -> Self {
        Self::ready_with(Policy::default()).await
    }

    async fn ready_with(policy: Policy) -> Self {
        let mut site = Self::prepare();
        site.node.start().await;
        site.node.found(policy).await.unwrap();
        site.node.wait_ready().await;
        site.until_served().await;
        site
    }

    async fn until_served(&self) {
        self.node.until("the endpoint has its certificate", async || fetch(self.spiffe, "/", None).await.is_ok()).await;
    }
}

fn configuration(node: &TestNode, spiffe: std::net::SocketAddr, web: std::net::SocketAddr) -> String {
    let (certificate, key) = (node.path("web.pem"), node.path("web.key"));
    format!(
        "[bundle_endpoint]\nspiffe_listen = \"{spiffe}\"\nweb_listen = \"{web}\"\ncertificate = {certificate:?}\n\
         private_key = {key:?}\nrequests_per_second = 1000\n"
    )
}

fn web_certificate(node: &TestNode) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(node.path("web.pem"), certificate.pem()).unwrap();
    fs::write(node.path("web.key"), key.serialize_pem()).unwrap();
}

fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()
}

/// SF-01, SF-16: what the standard says, in both profiles.
///
/// Accepts: FED-14, FED-18, FED-20, FED-21, FED-22, FED-23, FED-24, FED-31, FED-36, FED-37, FED-38, BND-08.
#[tokio::test]
async fn a_plain_get_without_credentials_yields_the_newest_bundle_in_both_profiles_sf_01_sf_16() {
    let site = Site::ready().await;
    let peer = own_bundle(&site.node).await;
    let spiffe = fetch(site.spiffe, "/", None).await.unwrap();
    let web = fetch(site.web, "/", None).await.unwrap();
    for answer in [&spiffe, &web] {
        assert_eq!(answer.response.status(), StatusCode::OK);
        assert!(!answer.asked, "who asks is nobody's business here");
        assert_eq!(answer.header(CONTENT_TYPE), "application/json; charset=utf-8");
        assert!(answer.header(CACHE_CONTROL).starts_with("public, max-age="));
        let read = Bundle::parse(&trust_domain(), answer.body()).unwrap();
        assert!(read.skipped.is_empty());
        assert_eq!(read.bundle.x509_authorities(), peer.x509_authorities());
        assert!(!read.bundle.jwt_authorities().is_empty() && read.bundle.refresh_hint().is_some());
    }
    assert_eq!(spiffe.body(), web.body());
    assert!(is_ours(&spiffe, &peer), "an X509-SVID of our own trust domain");
    assert!(!is_ours(&web, &peer));
    let leaf = Certificate::parse(&spiffe.chain[0]).unwrap();
    assert_eq!((spiffe.chain.len(), leaf.extensions().uri_names.len()), (1, 1));

    let known = fetch(site.spiffe, "/", Some(&spiffe.header(ETAG))).await.unwrap();
    assert_eq!((known.response.status(), known.body().len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(fetch(site.web, "/other", None).await.unwrap().response.status(), StatusCode::NOT_FOUND);

    // By a client that is none of ours.
    let url = format!("https://{}/", site.web);
    let certificate = site.node.path("web.pem");
    let Some(curl) = run("curl", &["-sS", "--fail", "--cacert", certificate.to_str().unwrap(), &url]) else { return };
    assert!(curl.status.success(), "{}", String::from_utf8_lossy(&curl.stderr));
    assert_eq!(curl.stdout, web.body());
    let refused = run("curl", &["-sS", "--fail", &url]).unwrap();
    assert!(!refused.status.success(), "a certificate that nobody vouches for");
}

/// SF-02, by a client that is none of ours.
///
/// Refuses: FED-15
#[tokio::test]
async fn openssl_finds_no_old_version_and_no_cbc_sf_02() {
    let site = Site::ready().await;
    let at = site.spiffe.to_string();
    let shake = |arguments: &[&str]| run("openssl", &[&["s_client", "-connect", &at], arguments].concat());
    let Some(good) = shake(&["-tls1_3"]) else { return };
    assert!(String::from_utf8_lossy(&good.stdout).contains("TLSv1.3"), "{good:?}");
    let good = shake(&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]).unwrap();
    assert!(String::from_utf8_lossy(&good.stdout).contains("ECDHE-ECDSA-AES128-GCM-SHA256"), "{good:?}");
    for old in [
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
        &["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:AES128-SHA:ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256"],
    ] {
        let refused = shake(old).unwrap();
        let said = String::from_utf8_lossy(&refused.stdout);
        assert!(said.contains("Cipher is (NONE)"), "{old:?}: {said}");
    }
}

/// Refuses: FED-23: before it has anything, and when it may not sign, it says so.
#[tokio::test]
async fn a_node_without_an_authority_serves_no_bundle_and_says_why() {
    let mut site = Site::prepare();
    site.node.start().await;
    let answer = fetch(site.web, "/", None).await.unwrap();
    assert_eq!(answer.response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header(RETRY_AFTER), "10");
    assert!(String::from_utf8_lossy(answer.body()).contains("no authority is founded"));
    assert!(fetch(site.spiffe, "/", None).await.is_err(), "it has no SVID to show");
    site.node.found(Policy::default()).await.unwrap();
    site.node.wait_ready().await;
    site.until_served().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() {
    let site = Site::prepare();
    fs::write(site.node.path("web.key"), "no key").unwrap();
    let (code, said) = site.node.refused_start();
    assert_ne!(code, 0);
    assert!(said.contains("bundle_endpoint.certificate") && said.contains("web.key"), "{said}");
}

/// SF-12 (the endpoint's half), BND-12: what is new is at every node before anything is signed with it, under one number.
///
/// Accepts: FED-01, FED-04, BND-11, BND-12
#[tokio::test]
async fn a_new_root_is_at_every_endpoint_before_it_signs_and_all_nodes_serve_the_same_bytes_sf_12() {
    let ports: Vec<_> = (0..3).map(|_| free_port()).collect();
    let listens = |node: &TestNode| {
        let number: usize = node.name.rsplit('-').next().unwrap().parse().unwrap();
        format!("[bundle_endpoint]\nspiffe_listen = \"{}\"\nrequests_per_second = 1000\n", ports[number - 1])
    };
    let cluster = TestCluster::of_domain("example.org", 3, Policy::default(), listens).await;
    cluster.voting(3).await;
    let everywhere = async |what: &str, wanted: &dyn Fn(&[Fetched]) -> bool| {
        cluster.nodes[0]
            .until(what, async || {
                let mut seen = Vec::new();
                for port in &ports {
                    let Ok(answer) = fetch(*port, "/", None).await else { return false };
                    seen.push(answer);
                }
                wanted(&seen)
            })
            .await;
    };
    let same = |seen: &[Fetched]| {
        seen.iter().all(|answer| {
            answer.response.status() == StatusCode::OK
                && answer.body() == seen[0].body()
                && answer.header(ETAG) == seen[0].header(ETAG)
        })
    };
    everywhere("all nodes serve the same bytes", &same).await;
    let before = fetch(ports[0], "/", None).await.unwrap();

    cluster.nodes[1].told(&["authority", "prepare", "x509"]);
    let shown: Value =
        serde_json::from_str(&cluster.nodes[1].told(&["authority", "show", "--consistent", "-o", "json"])).unwrap();
    let prepared = AuthorityId::new(shown["x509"]["prepared"]["id"].as_str().unwrap()).unwrap();
    let has_it = |answer: &Fetched| {
        let read = Bundle::parse(&trust_domain(), answer.body()).unwrap();
        read.bundle.x509_authorities().iter().any(|root| root.authority_id() == prepared)
    };
    // Every connected member has applied it once the command is answered, and an endpoint serves what is applied.
    for port in &ports {
        let answer = fetch(*port, "/", None).await.unwrap();
        assert!(has_it(&answer) && answer.sequence() > before.sequence());
        assert_ne!(answer.header(ETAG), before.header(ETAG));
    }
    everywhere("all nodes serve the same bytes again", &same).await;
    let dry = cluster.nodes[0].told(&["authority", "show", "--consistent", "-o", "json"]);
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(dry["x509"]["prepared"]["id"], prepared.as_str(), "it signs nothing yet");
}

/// BND-12: contents unchanged, sequence unchanged, also after a restart.
#[tokio::test]
async fn the_document_is_the_same_after_a_restart() {
    let mut site = Site::ready().await;
    let before = fetch(site.spiffe, "/", None).await.unwrap();
    site.node.kill().await;
    site.node.start().await;
    site.node.wait_ready().await;
    site.until_served().await;
    let after = fetch(site.spiffe, "/", None).await.unwrap();
    assert_eq!(after.body(), before.body());
    assert_eq!(after.header(ETAG), before.header(ETAG));
    assert_ne!(after.chain, before.chain, "the key was in memory, so this is another one");
}

/// The end of issue 6, point 1: a peer that slept through rotations, with just the bundle that it fetched before, still
/// verifies us and gets the newest one.
///
/// Accepts: FED-40, FED-41
#[tokio::test]
async fn a_peer_that_slept_through_two_rotations_verifies_the_endpoint_with_what_it_had() {
    let site = Site::ready().await;
    let sleeper = own_bundle(&site.node).await;
    let first = sleeper.x509_authorities()[0].authority_id();
    for _ in 0..2 {
        site.node.told(&["authority", "prepare", "x509"]);
        site.node.told(&["authority", "activate", "x509", "--force", "--yes"]);
    }
    let newest = own_bundle(&site.node).await;
    assert_eq!(newest.x509_authorities().len(), 3);
    let answer = fetch(site.spiffe, "/", None).await.unwrap();
    assert!(is_ours(&answer, &sleeper), "under the oldest root");
    let woken = Bundle::parse(&trust_domain(), answer.body()).unwrap().bundle;
    assert_eq!(woken.x509_authorities(), newest.x509_authorities());
    // Once that root is tainted, who has the bundle of today goes on.
    site.node.told(&["authority", "taint", "x509", "--id", first.as_str()]);
    let moved = async || fetch(site.spiffe, "/", None).await.is_ok_and(|answer| !is_ours(&answer, &sleeper));
    site.node.until("the certificate has moved to the next root", moved).await;
    assert!(is_ours(&fetch(site.spiffe, "/", None).await.unwrap(), &woken));
}

/// The same for a rotation that nobody forces: the successor is published, waited for and activated in its own time, and a
/// peer that sleeps through it all verifies us with its old bundle for as long as the old root can vouch for anybody.
///
/// Accepts: FED-03, FED-40, FED-41
#[tokio::test]
async fn a_peer_that_sleeps_through_a_rotation_in_its_own_time_verifies_the_endpoint_until_the_old_root_goes() {
    let policy =
        Policy { root_lifetime: 60, issuing_lifetime: 10, x509_svid_lifetime: 4, refresh_hint: 1, ..Policy::default() };
    let site = Site::ready_with(policy).await;
    let sleeper = own_bundle(&site.node).await;
    let root = &sleeper.x509_authorities()[0];
    let (first, end) = (root.authority_id(), root.validity().not_after());
    let active = || {
        let shown = site.node.told(&["authority", "show", "-o", "json"]);
        serde_json::from_str::<Value>(&shown).unwrap()["x509"]["active"]["id"].clone()
    };
    assert_eq!(active(), first.as_str());
    // Half a certificate's life before its end a root may have signed its last.
    let last = UnixSeconds(end.0 - 2);
    let asleep = async || {
        let Ok(answer) = fetch(site.spiffe, "/", None).await else { return false };
        assert!(is_ours(&answer, &sleeper) || now() >= last, "{} s before the end of the old root", end.since(now()));
        active() != first.as_str()
    };
    site.node.until("the successor signs", asleep).await;
    assert!(now() < last, "before the old root's end");
    let answer = fetch(site.spiffe, "/", None).await.unwrap();
    assert!(is_ours(&answer, &sleeper), "under the old root, which signs nothing else any more");
    let woken = Bundle::parse(&trust_domain(), answer.body()).unwrap().bundle;
    assert_eq!(woken.x509_authorities().len(), 2, "and this is how it wakes");

    let moved = async || fetch(site.spiffe, "/", None).await.is_ok_and(|answer| !is_ours(&answer, &sleeper));
    site.node.until("the certificate has moved to the next root", moved).await;
    assert!(now() >= last);
    let verified = async || fetch(site.spiffe, "/", None).await.is_ok_and(|answer| is_ours(&answer, &woken));
    site.node.until("who woke in time verifies it", verified).await;
}

/// Where the administrator wants to know who asks, nobody is served by the standard's endpoint, in either profile, and each
/// is told of the way there is; and at once again when it is switched on.
#[tokio::test]
async fn with_anonymous_serving_switched_off_both_profiles_answer_403_and_name_the_federation_api() {
    let site = Site::ready().await;
    site.node.told(&["federation", "access", "set", "--anonymous-endpoint", "off"]);
    for at in [site.spiffe, site.web] {
        // Not even that it has not changed is told.
        for known in [None, Some("*")] {
            let refused = fetch(at, "/", known).await.unwrap();
            assert_eq!(refused.response.status(), StatusCode::FORBIDDEN);
            assert_eq!(refused.header(CACHE_CONTROL), "no-store");
            assert!(!refused.response.headers().contains_key(ETAG));
            assert!(String::from_utf8_lossy(refused.body()).contains("use its Federation API"));
        }
        assert_eq!(fetch(at, "/other", None).await.unwrap().response.status(), StatusCode::NOT_FOUND);
    }
    site.node.told(&["federation", "access", "set", "--anonymous-endpoint", "on"]);
    for at in [site.spiffe, site.web] {
        assert_eq!(fetch(at, "/", None).await.unwrap().response.status(), StatusCode::OK);
    }
}

/// Certificate files are replaced under a running node.
#[tokio::test]
async fn a_web_certificate_is_replaced_without_a_restart() {
    let site = Site::ready().await;
    let before = fetch(site.web, "/", None).await.unwrap().chain;
    web_certificate(&site.node);
    let replaced = async || fetch(site.web, "/", None).await.is_ok_and(|answer| answer.chain != before);
    site.node.until("the new certificate is shown", replaced).await;
    let (_, metrics) = crate::operations::get(&site.node, "/metrics");
    assert!(metrics.contains("quorate_node_web_certificate_end_seconds{listener=\"bundle_web\"}"));
    assert!(metrics.contains("quorate_node_https_requests_total{listener=\"bundle_web\",status=\"200\"}"));
}

/// Two clusters of real nodes: the peer's process was off while every root that signs here was replaced twice, and comes
/// back with the bundle of before (FED-41, SF-08).
///
/// Accepts: FED-08, FED-41, FED-46
#[tokio::test]
async fn a_peer_cluster_that_was_off_through_two_rotations_fetches_the_newest_bundle_by_itself() {
    let site = Site::ready().await;
    let mut peer = TestNode::of_domain("two.example", "node-1");
    peer.start().await;
    peer.found(Policy::default()).await.unwrap();
    peer.wait_ready().await;
    let handed_over = peer.path("example.org.json");
    fs::write(&handed_over, site.node.told(&["bundle", "show", "--format", "spiffe"])).unwrap();
    let url = format!("https://{}/", site.spiffe);
    peer.told(&[
        "federation",
        "create",
        "example.org",
        "--profile",
        "https_spiffe",
        "--url",
        &url,
        "--endpoint-spiffe-id",
        "spiffe://example.org/spire/server",
        "--bundle",
        handed_over.to_str().unwrap(),
    ]);
    let held = async |peer: &TestNode| {
        let request = GetFederatedBundleRequest { trust_domain: "example.org".to_owned(), output_mask: None };
        let wire = BundleClient::new(peer.admin_channel()).get_federated_bundle(request).await;
        let roots = wire.map(|wire| wire.into_inner().x509_authorities).unwrap_or_default();
        roots.into_iter().map(|root| root.asn1.to_vec()).collect::<Vec<_>>()
    };
    let before = held(&peer).await;
    assert_eq!(before.len(), 1);
    peer.signal(nix::sys::signal::Signal::SIGTERM);
    peer.wait_end().await;
    for _ in 0..2 {
        site.node.told(&["authority", "prepare", "x509"]);
        site.node.told(&["authority", "activate", "x509", "--force", "--yes"]);
    }
    let newest = own_bundle(&site.node).await;
    peer.start().await;
    peer.wait_ready().await;
    peer.until("the newest bundle is held", async || held(&peer).await.len() == newest.x509_authorities().len()).await;
    let now_held = held(&peer).await;
    assert!(newest.x509_authorities().iter().all(|root| now_held.iter().any(|der| der == root.der())));
}
