//! Bundle, SVID, Debug, Health and Cluster on the admin socket.

use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{GetPolicyRequest, InitRequest, KeyType, Policy, Role, SetPolicyRequest};
use quorate_proto_api::health::health_check_response::ServingStatus;
use quorate_proto_api::health::health_client::HealthClient;
use quorate_proto_api::health::{HealthCheckRequest, HealthListRequest};
use quorate_proto_api::spire::bundle::GetBundleRequest;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::debug::GetInfoRequest;
use quorate_proto_api::spire::debug::debug_client::DebugClient;
use quorate_proto_api::spire::svid::svid_client::SvidClient;
use quorate_proto_api::spire::svid::{
    BatchNewX509svidRequest, MintJwtsvidRequest, MintWitsvidRequest, MintX509svidRequest, NewDownstreamX509caRequest,
};
use quorate_proto_api::spire::types::{Bundle, BundleMask, Spiffeid};
use quorate_proto_identity::x509::{Certificate, build_csr};
use quorate_proto_identity::{KeyType as IdentityKeyType, PrivateKey, SpiffeId};
use tonic::{Code, Status};

use crate::node::TestNode;

async fn bundle(node: &TestNode, output_mask: Option<BundleMask>) -> Result<Bundle, Status> {
    let answer = BundleClient::new(node.admin_channel()).get_bundle(GetBundleRequest { output_mask }).await?;
    Ok(answer.into_inner())
}

async fn policy(node: &TestNode) -> Result<Policy, Status> {
    let answer = ClusterClient::new(node.admin_channel()).get_policy(GetPolicyRequest {}).await?;
    Ok(answer.into_inner().policy.unwrap())
}

async fn set_policy(node: &TestNode, policy: Policy, expected_revision: Option<u64>) -> Result<(Policy, u64), Status> {
    let request = SetPolicyRequest { policy: Some(policy), expected_revision };
    let answer = ClusterClient::new(node.admin_channel()).set_policy(request).await?;
    let index = answer.metadata().get(LOG_INDEX_HEADER).unwrap().to_str().unwrap().parse().unwrap();
    let answer = answer.into_inner();
    assert_eq!(answer.log_index, index);
    Ok((answer.policy.unwrap(), index))
}

#[tokio::test]
async fn the_bundle_is_not_found_before_the_founding_and_whole_or_masked_after_it() {
    let node = TestNode::waiting().await;
    assert_eq!(bundle(&node, None).await.unwrap_err().code(), Code::NotFound);
    node.found(Policy::default()).await.unwrap();

    let whole = bundle(&node, None).await.unwrap();
    assert_eq!((whole.trust_domain.as_str(), whole.refresh_hint), ("example.org", 300));
    assert!(whole.sequence_number > 0);
    let root = Certificate::parse(&whole.x509_authorities[0].asn1).unwrap();
    assert_eq!(root.extensions().uri_names, ["spiffe://example.org"]);
    assert!(!whole.jwt_authorities[0].key_id.is_empty());
    let masked = bundle(&node, Some(BundleMask { refresh_hint: true, ..BundleMask::default() })).await.unwrap();
    assert_eq!(masked, Bundle { trust_domain: "example.org".into(), refresh_hint: 300, ..Bundle::default() });
}

#[tokio::test]
async fn an_x509_svid_is_minted_from_a_request_and_malformed_ones_are_refused() {
    let node = TestNode::ready().await;
    let mut client = SvidClient::new(node.admin_channel());
    let key = PrivateKey::generate(IdentityKeyType::EcP256).unwrap();
    let csr = |id: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        build_csr(&key, &SpiffeId::parse(id).unwrap(), &names).unwrap()
    };
    let request = MintX509svidRequest { csr: csr("spiffe://example.org/made", &["a.test"]).into(), ttl: 600 };
    let svid = client.mint_x509svid(request).await.unwrap().into_inner().svid.unwrap();
    assert_eq!(svid.id, Some(Spiffeid { trust_domain: "example.org".into(), path: "/made".into() }));
    let chain: Vec<Certificate> = svid.cert_chain.iter().map(|der| Certificate::parse(der).unwrap()).collect();
    assert_eq!(chain[0].extensions().uri_names, ["spiffe://example.org/made"]);
    assert_eq!(chain[0].extensions().dns_names, ["a.test"]);
    assert_eq!(chain[0].public_key(), key.public_key());
    assert_eq!(chain[0].validity().not_after().0, svid.expires_at);
    chain[0].verify_signature(chain[1].public_key()).unwrap();
    let root = Certificate::parse(&bundle(&node, None).await.unwrap().x509_authorities[0].asn1).unwrap();
    chain[1].verify_signature(root.public_key()).unwrap();

    let mut forged = csr("spiffe://example.org/made", &[]);
    *forged.last_mut().unwrap() ^= 1;
    for (what, csr, ttl) in [
        ("nothing", Vec::new(), 0),
        ("no request", b"not DER".to_vec(), 0),
        ("a signature that is wrong", forged, 0),
        ("a foreign trust domain", csr("spiffe://other.test/made", &[]), 0),
        ("the trust domain itself", csr("spiffe://example.org", &[]), 0),
        ("an ID of the authority's own", csr("spiffe://example.org/spire/server", &[]), 0),
        ("a name that covers another", csr("spiffe://example.org/made", &["*.test", "a.test"]), 0),
        ("a negative lifetime", csr("spiffe://example.org/made", &[]), -1),
    ] {
        let request = MintX509svidRequest { csr: csr.into(), ttl };
        assert_eq!(client.mint_x509svid(request).await.unwrap_err().code(), Code::InvalidArgument, "{what}");
    }
}

#[tokio::test]
async fn a_token_is_minted_for_a_workload_and_an_audience() {
    let node = TestNode::ready().await;
    let mut client = SvidClient::new(node.admin_channel());
    let id = |path: &str| Some(Spiffeid { trust_domain: "example.org".into(), path: path.into() });
    let request = |path: &str, audience: &[&str], ttl| MintJwtsvidRequest {
        id: id(path),
        audience: audience.iter().map(ToString::to_string).collect(),
        ttl,
    };
    let svid = client.mint_jwtsvid(request("/made", &["a", "b"], 60)).await.unwrap().into_inner().svid.unwrap();
    assert_eq!((svid.id, svid.token.split('.').count()), (id("/made"), 3));
    assert!(svid.expires_at - svid.issued_at <= 60 && svid.expires_at > svid.issued_at);
    let nobody = MintJwtsvidRequest { id: None, ..request("/made", &["a"], 0) };
    for request in [request("/made", &[], 0), request("/spire/agent", &["a"], 0), request("made", &["a"], 0), nobody] {
        let said = format!("{request:?}");
        assert_eq!(client.mint_jwtsvid(request).await.unwrap_err().code(), Code::InvalidArgument, "{said}");
    }
    for status in [
        client.mint_witsvid(MintWitsvidRequest::default()).await.unwrap_err(),
        client.batch_new_x509svid(BatchNewX509svidRequest::default()).await.unwrap_err(),
        client.new_downstream_x509ca(NewDownstreamX509caRequest::default()).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn nothing_is_minted_before_the_founding() {
    let node = TestNode::waiting().await;
    let request = MintJwtsvidRequest {
        id: Some(Spiffeid { trust_domain: "example.org".into(), path: "/made".into() }),
        audience: vec!["a".into()],
        ttl: 0,
    };
    let status = SvidClient::new(node.admin_channel()).mint_jwtsvid(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn health_and_debug_tell_of_the_founding() {
    let node = TestNode::waiting().await;
    let mut health = HealthClient::new(node.admin_channel());
    let whole = || HealthCheckRequest { service: String::new() };
    let status = health.check(whole()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
    let mut watch = health.watch(whole()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let mut debug = DebugClient::new(node.admin_channel());
    let info = debug.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.svid_chain.len(), info.federated_bundles_count), (0, 0));

    node.found(Policy::default()).await.unwrap();
    node.wait_ready().await;
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let statuses = health.list(HealthListRequest {}).await.unwrap().into_inner().statuses;
    assert_eq!(statuses[""].status(), ServingStatus::Serving);
    let other = HealthCheckRequest { service: "spire.api.server.entry.v1.Entry".into() };
    assert_eq!(health.check(other).await.unwrap_err().code(), Code::InvalidArgument);
    let info = debug.get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.svid_chain.len(), 2, "issuing certificate and root");
    assert!(info.svid_chain[0].expires_at < info.svid_chain[1].expires_at);
    assert_eq!((info.federated_bundles_count, info.entries_count, info.agents_count), (1, 0, 0));
}

#[tokio::test]
async fn the_policy_is_changed_whole_and_only_from_the_revision_that_was_seen() {
    let node = TestNode::waiting().await;
    assert_eq!(policy(&node).await.unwrap_err().code(), Code::Unavailable);
    node.found(Policy { x509_svid_lifetime: 1_800, ..Policy::default() }).await.unwrap();
    let first = policy(&node).await.unwrap();
    assert_eq!((first.x509_svid_lifetime, first.revision), (1_800, 1));
    assert_eq!((first.root_key_type(), first.jwt_svid_lifetime), (KeyType::EcP256, 300), "defaults are filled in");

    let (second, index) = set_policy(&node, Policy { jwt_svid_lifetime: 60, ..first }, Some(1)).await.unwrap();
    assert_eq!((second.jwt_svid_lifetime, second.x509_svid_lifetime, second.revision), (60, 1_800, 2));
    assert!(index > 0);
    let status = set_policy(&node, first, Some(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{}", status.message());
    assert_eq!(policy(&node).await.unwrap(), second, "nothing was changed");

    for (wrong, said) in [
        (
            Policy { x509_svid_lifetime: 50_000, ..second },
            "x509_svid_lifetime is 50000 s, more than 1/2 of issuing_lifetime",
        ),
        (
            Policy { issuing_lifetime: 600_000, ..second },
            "issuing_lifetime is 600000 s, more than 1/6 of root_lifetime",
        ),
        (Policy { refresh_hint: 600_000, ..second }, "refresh_hint is 600000 s"),
        (Policy { root_key_type: KeyType::Ed25519.into(), ..second }, "root_key_type is ed25519"),
        (Policy { root_lifetime: -1, ..second }, "root_lifetime is -1 s"),
        (Policy { jwt_key_type: 77, ..second }, "jwt_key_type: 77"),
    ] {
        let status = set_policy(&node, wrong, None).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(said), "{:?} should say {said:?}", status.message());
    }
    let mut client = ClusterClient::new(node.admin_channel());
    let nothing = SetPolicyRequest { policy: None, expected_revision: None };
    assert_eq!(client.set_policy(nothing).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(policy(&node).await.unwrap(), second, "nothing was changed");
}

#[tokio::test]
async fn status_tells_of_the_node_before_and_after_the_founding() {
    let node = TestNode::waiting().await;
    let status = node.status().await.unwrap();
    assert_eq!((status.founded, status.ready, status.role()), (false, false, Role::Waiting));
    assert_eq!((status.trust_domain.as_str(), status.node_name.as_str()), ("example.org", "node-1"));
    assert!(status.reasons.iter().any(|reason| reason.contains("quorate cluster init")), "{:?}", status.reasons);

    let request = InitRequest {
        region: "eu".into(),
        zone: "eu-a".into(),
        labels: [("rack".to_owned(), "7".to_owned())].into(),
        policy: None,
    };
    let founded = ClusterClient::new(node.admin_channel()).init(request).await.unwrap().into_inner();
    assert_eq!((founded.cluster_id.len(), founded.trust_domain.as_str(), founded.member), (32, "example.org", 1));
    node.wait_ready().await;
    let status = node.status().await.unwrap();
    assert_eq!((status.founded, status.role(), status.member, status.leader), (true, Role::Leader, 1, 1));
    assert_eq!(status.cluster_id, founded.cluster_id);
    assert!(status.applied_index >= founded.log_index && status.term > 0);
    assert_eq!(status.state_hash.len(), 64, "{}", status.state_hash);
    assert!(status.issuing_not_after > 1_700_000_000);
    assert_eq!((status.policy_revision, status.entries_count), (1, 0));
    let member = &status.members[0];
    assert_eq!((member.name.as_str(), member.region.as_str(), member.zone.as_str()), ("node-1", "eu", "eu-a"));
    assert_eq!((member.labels["rack"].as_str(), member.voter), ("7", true));
    assert_eq!(member.spiffe_id, "spiffe://example.org/spire/agent/quorate/node-1");

    let again = ClusterClient::new(node.admin_channel()).init(InitRequest::default()).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert!(again.message().contains(&founded.cluster_id), "{}", again.message());
}
