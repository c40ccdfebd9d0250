//! All the ways in which one cluster gets another one's bundle, and what becomes of a wrong credential; and that a new root
//! is pushed, or polled when the watch is cut.

mod relay;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use quorate_proto_api::cluster::federation_access_client::FederationAccessClient;
use quorate_proto_api::cluster::{
    AccessOAuth, AccessRule, CreateApiKeyRequest, MutualTlsAccess, Policy, SetAccessRuleRequest,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::TestCluster;
use crate::node::{TestNode, free_port};
use crate::oauth_issuer::{OAuthIssuer, SECRET, WebAuthority};
use relay::Relay;

const HERE: &str = "here.example";
const THERE: &str = "there.example";
const SERVER_THERE: &str = "spiffe://there.example/spire/server";
const SERVER_HERE: &str = "spiffe://here.example/spire/server";
const AUDIENCE: &str = "https://there.example/federation";

/// The cluster that is asked, of two nodes: the Federation API of the first shows a certificate of the web, that of the
/// second an X509-SVID. The one that asks, of one node. An OAuth server that both reach.
struct World {
    there: TestCluster,
    here: TestNode,
    oauth: OAuthIssuer,
    web_api: SocketAddr,
    svid_api: SocketAddr,
    web_endpoint: SocketAddr,
    spiffe_endpoint: SocketAddr,
    directory: TempDir,
}

impl World {
    async fn new(policy: Policy) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = WebAuthority::new();
        let roots = authority.roots_in(directory.path());
        let (certificate, key) = authority.certificate_in(directory.path());
        let [web_api, svid_api, web_endpoint, spiffe_endpoint] = [(); 4].map(|()| free_port());
        let federation = format!("[federation]\nweb_roots = {roots:?}\n");
        let files = format!("certificate = {certificate:?}\nprivate_key = {key:?}\n");
        let of_there = |node: &TestNode| match node.name.as_str() {
            "node-1" => format!(
                "{federation}[bundle_endpoint]\nspiffe_listen = \"{spiffe_endpoint}\"\nweb_listen = \"{web_endpoint}\"\n{files}\
                 [federation_api]\nlisten = \"{web_api}\"\nserver = \"https_web\"\n{files}"
            ),
            _ => format!("{federation}[federation_api]\nlisten = \"{svid_api}\"\nserver = \"https_spiffe\"\n"),
        };
        let there = TestCluster::of_domain(THERE, 2, policy, of_there).await;
        let mut here = TestNode::of_domain(HERE, "node-1");
        here.configure(&federation);
        here.start().await;
        here.found(Policy::default()).await.unwrap();
        here.wait_ready().await;
        let oauth = OAuthIssuer::start(&authority).await;
        let world = Self { there, here, oauth, web_api, svid_api, web_endpoint, spiffe_endpoint, directory };
        world.introduce();
        world
    }

    /// The other side learns our bundle, by which it verifies our certificates.
    fn introduce(&self) {
        let bundle = self.file("here.json", self.here.told(&["bundle", "show", "--format", "spiffe"]).as_bytes());
        // Where it would be fetched plays no part here: nobody is there.
        self.there.nodes[0].told(&[
            "federation",
            "create",
            HERE,
            "--profile",
            "https_spiffe",
            "--url",
            "https://127.0.0.1:1/",
            "--endpoint-spiffe-id",
            SERVER_HERE,
            "--bundle",
            bundle.to_str().unwrap(),
        ]);
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Says by what the other side's API lets us prove who we are.
    async fn let_in(&self, peer: &str, rule: AccessRule) {
        let mut access = FederationAccessClient::new(self.there.nodes[0].admin_channel());
        let request = SetAccessRuleRequest { trust_domain: peer.to_owned(), rule: Some(rule), expected_revision: 0 };
        access.set_access_rule(request).await.unwrap();
    }

    fn rule(&self) -> AccessRule {
        let token = AccessOAuth {
            issuer: self.oauth.issuer(),
            audience: AUDIENCE.to_owned(),
            scope: "bundle:read".to_owned(),
            claims: [("sub".to_owned(), "here".to_owned())].into(),
        };
        AccessRule {
            mutual_tls: MutualTlsAccess::Ids.into(),
            spiffe_ids: vec![SERVER_HERE.to_owned()],
            api_keys: true,
            oauth: vec![token],
            ..AccessRule::default()
        }
    }

    async fn api_key(&self) -> String {
        let mut access = FederationAccessClient::new(self.there.nodes[0].admin_channel());
        let request = CreateApiKeyRequest { trust_domain: HERE.to_owned(), ..CreateApiKeyRequest::default() };
        access.create_api_key(request).await.unwrap().into_inner().key
    }

    /// Makes the relationship with further options, and with a secret if there is one.
    fn create(&self, options: &[String], secret: Option<&str>) {
        let mut arguments: Vec<String> =
            ["federation", "create", THERE, "--poll-floor", "1s"].map(str::to_owned).into();
        arguments.extend_from_slice(options);
        if let Some(secret) = secret {
            let file = self.file("secret", secret.as_bytes());
            arguments.extend(["--secret-file".to_owned(), file.display().to_string()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.here.told(&arguments);
    }

    fn delete(&self) {
        self.here.told(&["federation", "delete", THERE]);
    }

    /// The options of one of our Federation APIs, with those of a credential.
    fn api(&self, by_svid: bool, credential: &[&str]) -> Vec<String> {
        let at = if by_svid { self.svid_api } else { self.web_api };
        let mut options = vec!["--profile".to_owned(), "api".to_owned(), "--url".to_owned(), format!("https://{at}")];
        if by_svid {
            options.extend(self.bootstrap());
        }
        options.extend(credential.iter().map(|option| (*option).to_owned()));
        options
    }

    fn bootstrap(&self) -> Vec<String> {
        let bundle = self.there.nodes[0].told(&["bundle", "show", "--format", "spiffe"]);
        let file = self.file("there.json", bundle.as_bytes());
        ["--endpoint-spiffe-id", SERVER_THERE, "--bundle", file.to_str().unwrap()].map(str::to_owned).into()
    }

    fn oauth(&self, audience: &'static str) -> Vec<String> {
        let token_url = self.oauth.token_url();
        let options = ["--credential", "oauth", "--token-url", &token_url, "--client-id", "here"];
        let more = ["--scope", "bundle:read", "--audience", audience];
        options.iter().chain(&more).map(|option| (*option).to_owned()).collect()
    }

    fn status(&self) -> Value {
        let told: Value = serde_json::from_str(&self.here.told(&["federation", "status", "-o", "json"])).unwrap();
        told["statuses"][0].clone()
    }

    fn held(&self) -> Option<Value> {
        let shown = self.here.quorate(&["bundle", "show", THERE, "--format", "spiffe"]);
        shown.status.success().then(|| serde_json::from_slice(&shown.stdout).unwrap())
    }

    fn own_there(&self) -> Value {
        serde_json::from_str(&self.there.nodes[0].told(&["bundle", "show", "--format", "spiffe"])).unwrap()
    }

    /// The bundle comes, and is the one that the other side has.
    async fn comes(&self, way: &str) {
        let fetched = async || self.status()["last_success"].is_string();
        self.here.until(&format!("the bundle comes by {way}"), fetched).await;
        assert_eq!(self.held(), Some(self.own_there()), "{way}");
        assert_eq!(self.status()["error"], "", "{way}");
    }

    /// It does not come, for this reason, and the node that was asked has a record of it.
    async fn does_not_come(&self, way: &str, reason: &str, asked: Option<(&TestNode, &str)>) {
        let told = async || self.status()["error"].as_str().is_some_and(|error| error.contains(reason));
        self.here.until(&format!("{way} is refused because {reason:?}: {}", self.status()), told).await;
        assert!(self.status()["last_success"].is_null(), "{way}");
        let Some((node, code)) = asked else { return };
        let outcome = format!("refused:{code}");
        let recorded = async || records(node).iter().any(|record| record["outcome"] == outcome.as_str());
        node.until(&format!("{way} is recorded as {outcome}"), recorded).await;
    }
}

/// What a node has in its audit trail of those who asked for its bundle.
fn records(node: &TestNode) -> Vec<Value> {
    let shown = node.told(&["audit", "show", "--what", "federation", "-o", "json"]);
    let all = shown.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|record| record["outcome"].is_string()).collect()
}

/// Acceptance of federation: nine ways to get a bundle, between two clusters.
#[tokio::test]
async fn a_bundle_comes_in_nine_ways() {
    let world = World::new(Policy::default()).await;
    // Not everybody, so that it is the credential by which each bundle comes.
    world.let_in(HERE, world.rule()).await;
    let url = |at: SocketAddr| vec!["--url".to_owned(), format!("https://{at}/")];
    let profile = |name: &str| vec!["--profile".to_owned(), name.to_owned()];

    world.create(&[profile("https_web"), url(world.web_endpoint)].concat(), None);
    world.comes("https_web").await;
    world.delete();
    world.create(&[profile("https_spiffe"), url(world.spiffe_endpoint), world.bootstrap()].concat(), None);
    world.comes("https_spiffe").await;
    world.delete();

    let key = world.api_key().await;
    for by_svid in [false, true] {
        let server = if by_svid { "a server with an SVID" } else { "a server with a web certificate" };
        world.create(&world.api(by_svid, &["--credential", "mutual-tls"]), None);
        world.comes(&format!("mutual TLS, {server}")).await;
        world.delete();
        world.create(&world.api(by_svid, &["--credential", "api-key"]), Some(&key));
        world.comes(&format!("an API key, {server}")).await;
        world.delete();
        world.create(&[world.api(by_svid, &[]), world.oauth(AUDIENCE)].concat(), Some(SECRET));
        world.comes(&format!("OAuth, {server}")).await;
        world.delete();
    }
    assert_eq!(world.oauth.issued(), 1, "the token is held, for all calls and both servers");

    world
        .let_in("", AccessRule { anonymous: true, mutual_tls: MutualTlsAccess::Off.into(), ..AccessRule::default() })
        .await;
    world.create(&world.api(false, &["--credential", "none"]), None);
    world.comes("nobody asking who we are").await;

    // Every answer is recorded where it was given, with who asked.
    let who = |record: &Value| record["who"].as_str().unwrap_or_default().to_owned();
    for node in &world.there.nodes {
        let asked: Vec<String> = records(node).iter().filter(|record| record["outcome"] == "done").map(who).collect();
        for wanted in ["spiffe://here.example/spire/server", "api_key:", "oauth:"] {
            let is_there = asked.iter().any(|who| who.starts_with(wanted) || who.contains(wanted));
            assert!(is_there, "{}: nobody is {wanted:?} among {asked:?}", node.name);
        }
    }
}

/// Acceptance of federation: each wrong credential is refused with a reason that whoever asks can act on, and leaves a
/// record where it was refused.
#[tokio::test]
async fn a_wrong_credential_is_refused_with_its_reason_and_recorded() {
    let world = World::new(Policy::default()).await;
    world.let_in(HERE, world.rule()).await;
    let key = world.api_key().await;
    let last = if key.ends_with('A') { "B" } else { "A" };
    let wrong_key = format!("{}{last}", &key[..key.len() - 1]);
    for (by_svid, node) in [(false, &world.there.nodes[0]), (true, &world.there.nodes[1])] {
        world.create(&world.api(by_svid, &["--credential", "api-key"]), Some(&wrong_key));
        world.does_not_come("a wrong key", "API key is not known here", Some((node, "key_wrong"))).await;
        world.delete();
        world.create(&world.api(by_svid, &["--credential", "none"]), None);
        world.does_not_come("nothing", "shows no credential", Some((node, "no_credential"))).await;
        world.delete();
        world.create(&[world.api(by_svid, &[]), world.oauth("https://elsewhere.example")].concat(), Some(SECRET));
        world.does_not_come("a token for others", "audience", Some((node, "other_audience"))).await;
        world.delete();
        // Refused before the other side is asked: the server of tokens knows us by another secret.
        world.create(&[world.api(by_svid, &[]), world.oauth(AUDIENCE)].concat(), Some("guessed"));
        world.does_not_come("a wrong client secret", "invalid_client: no such client", None).await;
        world.delete();
    }
    let others = AccessRule { spiffe_ids: vec!["spiffe://here.example/other".to_owned()], ..world.rule() };
    world.let_in(HERE, others).await;
    for (by_svid, node) in [(false, &world.there.nodes[0]), (true, &world.there.nodes[1])] {
        world.create(&world.api(by_svid, &["--credential", "mutual-tls"]), None);
        world.does_not_come("an ID that may not", "not among the SPIFFE IDs", Some((node, "other_id"))).await;
        world.delete();
    }
}

/// Push: a new root is here at once, long before the next poll.
#[tokio::test]
async fn a_new_root_is_pushed_to_the_peer_within_moments() {
    let world = World::new(Policy::default()).await;
    world.let_in(HERE, world.rule()).await;
    world.create(&world.api(true, &["--credential", "mutual-tls"]), None);
    world.comes("the watch, or the poll before it").await;
    world.here.until("a watch is open", async || world.status()["watching"] == true).await;
    // The hint is 300 s: nothing but the watch brings anything before that.
    world.there.nodes[0].told(&["authority", "prepare", "x509"]);
    let since = Instant::now();
    let wanted = world.own_there()["spiffe_sequence"].clone();
    let has = async || world.held().is_some_and(|held| held["spiffe_sequence"] == wanted);
    world.here.until("the new root is here", has).await;
    // Each look is a process of its own; what is measured is far below.
    println!("the new root was seen at the peer after {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(10), "that was no push: {:?}", since.elapsed());
}

/// A lost watch costs time, and nothing else: polls bring what it would have.
#[tokio::test]
async fn a_new_root_is_polled_when_the_watch_is_cut() {
    let world = World::new(Policy { refresh_hint: 2, ..Policy::default() }).await;
    world.let_in(HERE, world.rule()).await;
    let relay = Relay::to(world.svid_api).await;
    let mut options = world.api(true, &["--credential", "mutual-tls"]);
    options[3] = format!("https://{}", relay.address);
    world.create(&options, None);
    world.comes("the watch, or the poll before it").await;
    world.here.until("a watch is open", async || world.status()["watching"] == true).await;
    // The connection of the watch is there and says nothing any more, as after a cut that no side has noticed.
    relay.freeze();
    world.there.nodes[0].told(&["authority", "prepare", "x509"]);
    let wanted = world.own_there()["spiffe_sequence"].clone();
    let has = async || world.held().is_some_and(|held| held["spiffe_sequence"] == wanted);
    world.here.until("the new root is polled", has).await;
}
