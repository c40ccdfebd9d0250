//! The Federation API of a whole node, as a stranger's client meets it: discovery, a watch, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_actors::sources::system_sources;
use quorate_node::outbound::{Get, Outbound, OutboundSettings, ServerCheck, Target};
use quorate_proto_api::API_KEY_HEADER;
use quorate_proto_api::cluster::federation_access_client::FederationAccessClient;
use quorate_proto_api::cluster::{
    ApiKeyWithSecret, CreateApiKeyRequest, DeleteApiKeyRequest, ListWatchesRequest, Policy, WatchingPeer,
};
use quorate_proto_api::federation::federation_client::FederationClient;
use quorate_proto_api::federation::{
    Confirmation, DiscoverRequest, EndpointProfile, GetBundleRequest, WatchBundleRequest, WatchBundleResponse,
    get_bundle_response::Answer, watch_bundle_request, watch_bundle_response::Event,
};
use quorate_proto_identity::{Bundle, EndpointUrl, TrustDomain};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

use crate::cluster::TestCluster;
use crate::node::{PATIENCE, TestNode, free_port};

const PEER: &str = "peer.example";

/// A node that serves its Federation API with an X509-SVID, and its bundle endpoint.
async fn serving() -> (TestNode, SocketAddr, SocketAddr) {
    let (api, endpoint) = (free_port(), free_port());
    let mut node = TestNode::prepare();
    node.configure(&format!(
        "[federation_api]\nlisten = \"{api}\"\nserver = \"https_spiffe\"\n[bundle_endpoint]\nspiffe_listen = \"{endpoint}\"\n"
    ));
    node.start().await;
    node.found(Policy::default()).await.unwrap();
    node.wait_ready().await;
    (node, api, endpoint)
}

fn outbound() -> Outbound {
    Outbound::new(&OutboundSettings::default(), &system_sources(tokio::runtime::Handle::current())).unwrap()
}

fn target(at: SocketAddr, path: &str) -> Target {
    Target::of_operator(EndpointUrl::parse(&format!("https://{at}{path}")).unwrap())
}

/// A client that believes any server: who it is, other tests look at.
fn client(at: SocketAddr) -> FederationClient<Channel> {
    let outbound = Arc::new(outbound());
    let channel = quorate_proto_api::channel::channel_over(move || {
        let outbound = Arc::clone(&outbound);
        async move {
            let target = target(at, "/");
            let connected =
                outbound.connect(&target, &ServerCheck::Anybody, None, &[b"h2"], Duration::from_secs(5)).await;
            connected.map(|connection| connection.stream).map_err(std::io::Error::other)
        }
    });
    FederationClient::new(channel)
}

fn access(node: &TestNode) -> FederationAccessClient<Channel> {
    FederationAccessClient::new(node.admin_channel())
}

async fn key(node: &TestNode) -> ApiKeyWithSecret {
    let wanted = CreateApiKeyRequest { trust_domain: PEER.to_owned(), ..CreateApiKeyRequest::default() };
    access(node).create_api_key(wanted).await.unwrap().into_inner()
}

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(API_KEY_HEADER, key.parse().unwrap());
    request
}

async fn next(events: &mut Streaming<WatchBundleResponse>) -> Result<Event, tonic::Status> {
    let message = timeout(PATIENCE, events.message()).await.expect("something comes")?;
    Ok(message.expect("the stream goes on").event.unwrap())
}

async fn watching(node: &TestNode) -> Vec<WatchingPeer> {
    access(node).list_watches(ListWatchesRequest {}).await.unwrap().into_inner().watches
}

fn outcomes(node: &TestNode, what: &str) -> Vec<String> {
    let lines = node.told(&["audit", "show", "--what", what, "-o", "json"]);
    let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter_map(|record| Some(record["outcome"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn discovery_is_for_everybody_and_says_when_the_bundle_endpoint_answers_nobody() {
    let (node, api, endpoint) = serving().await;
    let document = async || -> Value {
        let get = Get::new(target(api, quorate_proto_api::FEDERATION_DOCUMENT_PATH), ServerCheck::Anybody);
        serde_json::from_slice(&outbound().get(&get).await.unwrap().body).unwrap()
    };
    let told = document().await;
    assert_eq!(told["trust_domain"], node.trust_domain);
    assert_eq!(told["bundle_endpoints"][0]["anonymous"], true);
    assert_eq!(told["api_endpoints"][0]["url"], format!("https://{api}/"));
    let discovered = client(api).discover(DiscoverRequest {}).await.unwrap().into_inner();
    assert_eq!(discovered.api_endpoints[0].server(), EndpointProfile::HttpsSpiffe);
    assert!(discovered.policy.unwrap().mutual_tls);
    let get = Get::new(target(endpoint, "/"), ServerCheck::Anybody);
    outbound().get(&get).await.unwrap();

    node.told(&["federation", "access", "set", "--anonymous-endpoint", "off"]);
    assert_eq!(document().await["bundle_endpoints"][0]["anonymous"], false);
    let refused = outbound().get(&get).await.unwrap_err().words();
    assert!(refused.contains("403"), "{refused}");
}

#[tokio::test]
async fn a_watch_brings_each_new_bundle_at_once_takes_confirmations_and_ends_with_its_key() {
    let (node, api, _) = serving().await;
    let made = key(&node).await;
    let mut client = client(api);
    let (say, said) = mpsc::channel(8);
    let send = async |request| say.send(WatchBundleRequest { request: Some(request) }).await.unwrap();
    send(watch_bundle_request::Request::Start(GetBundleRequest::default())).await;
    let mut events = client.watch_bundle(with_key(ReceiverStream::new(said), &made.key)).await.unwrap().into_inner();
    let Event::Bundle(first) = next(&mut events).await.unwrap() else { panic!("the bundle comes first") };
    let domain = TrustDomain::new(&node.trust_domain).unwrap();
    assert_eq!(Bundle::parse(&domain, &first.document).unwrap().bundle.sequence(), Some(first.sequence));
    let confirm = async |sequence, refusal: &str| {
        let confirmation = Confirmation { sequence, refusal: refusal.to_owned() };
        send(watch_bundle_request::Request::Confirm(confirmation)).await;
    };
    confirm(first.sequence, "").await;
    let confirmed = async || watching(&node).await.first().and_then(|peer| peer.confirmed) == Some(first.sequence);
    node.until("the confirmation is known", confirmed).await;
    assert_eq!(watching(&node).await[0].trust_domain, PEER);

    // Nothing but the watch could bring this so soon: the hint is 300 s.
    node.told(&["authority", "prepare", "x509"]);
    let Event::Bundle(second) = next(&mut events).await.unwrap() else { panic!("a new bundle is pushed") };
    assert!(second.sequence > first.sequence && second.etag != first.etag);
    assert_eq!(watching(&node).await[0].sent, second.sequence);
    confirm(second.sequence, "no room").await;
    node.until("the refusal is known", async || watching(&node).await[0].refusal == "no room").await;
    assert_eq!(watching(&node).await[0].confirmed, Some(first.sequence));

    let id = made.api_key.unwrap().id;
    access(&node).delete_api_key(DeleteApiKeyRequest { id }).await.unwrap();
    let ended = next(&mut events).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert_eq!(ended.metadata().get("quorate-reason").unwrap(), "key_unknown");
    node.until("the watch is over", async || watching(&node).await.is_empty()).await;
    assert_eq!(outcomes(&node, "federation.push"), ["done"]);
    assert_eq!(outcomes(&node, "federation.watch"), ["done", "refused:key_unknown"]);
}

#[tokio::test]
async fn a_call_for_another_trust_domain_and_one_without_credential_are_told_what_is_wrong() {
    let (node, api, _) = serving().await;
    let made = key(&node).await;
    let mut client = client(api);
    let known = client.get_bundle(with_key(GetBundleRequest::default(), &made.key)).await.unwrap().into_inner();
    let Some(Answer::Bundle(bundle)) = known.answer else { panic!("a bundle") };
    let again = GetBundleRequest { etag: bundle.etag, ..GetBundleRequest::default() };
    let again = client.get_bundle(with_key(again, &made.key)).await.unwrap().into_inner();
    assert!(matches!(again.answer, Some(Answer::Unchanged(unchanged)) if unchanged.sequence == bundle.sequence));
    let other = GetBundleRequest { trust_domain: "other.example".into(), ..GetBundleRequest::default() };
    assert_eq!(client.get_bundle(with_key(other, &made.key)).await.unwrap_err().code(), Code::NotFound);
    let nobody = client.get_bundle(GetBundleRequest::default()).await.unwrap_err();
    assert_eq!(
        (nobody.code(), nobody.metadata().get("quorate-reason").unwrap().as_bytes()),
        (Code::Unauthenticated, &b"no_credential"[..])
    );
    assert!(nobody.message().contains("quorate-api-key"), "{nobody}");
    assert_eq!(outcomes(&node, "federation.bundle"), ["done", "done", "refused:not_found", "refused:no_credential"]);
}

#[tokio::test]
async fn a_watch_goes_on_when_the_office_of_leader_moves_and_brings_what_the_next_leader_does() {
    let apis = [free_port(), free_port(), free_port()];
    let cluster = TestCluster::of_domain("example.org", 3, Policy::default(), |node| {
        let api = match node.name.as_str() {
            "node-1" => apis[0],
            "node-2" => apis[1],
            _ => apis[2],
        };
        format!("[federation_api]\nlisten = \"{api}\"\nserver = \"https_spiffe\"\n")
    })
    .await;
    cluster.voting(3).await;
    let former = cluster.leader().await;
    let node = &cluster.nodes[former];
    let made = key(node).await;
    let mut client = client(apis[former]);
    let (say, said) = mpsc::channel(1);
    let start = watch_bundle_request::Request::Start(GetBundleRequest::default());
    say.send(WatchBundleRequest { request: Some(start) }).await.unwrap();
    let mut events = client.watch_bundle(with_key(ReceiverStream::new(said), &made.key)).await.unwrap().into_inner();
    let Event::Bundle(first) = next(&mut events).await.unwrap() else { panic!("the bundle comes first") };

    let next_leader = (former + 1) % 3;
    let other = &cluster.nodes[next_leader];
    node.told(&["cluster", "transfer-leader", &other.name]);
    node.until("the other one leads", async || cluster.leader().await == next_leader).await;
    other.told(&["authority", "prepare", "x509"]);
    let Event::Bundle(second) = next(&mut events).await.unwrap() else { panic!("a new bundle is pushed") };
    assert!(second.sequence > first.sequence);
    assert_eq!(watching(node).await[0].watches, 1, "it is the same watch");
}
