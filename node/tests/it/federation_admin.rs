//! SPIRE's TrustDomain and Bundle services, driven over the wire as SPIRE's own tools drive them, and our Federation service.

use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_proto_api::cluster::Policy;
use quorate_proto_api::cluster::api_credential::Kind;
use quorate_proto_api::cluster::federation_client::FederationClient;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{
    ApiCredential, ApiEndpoint, ApiKeyCredential, CreateRelationshipRequest, DeleteRelationshipRequest, EndpointPins,
    GetRelationshipRequest, ListRelationshipsRequest, PollSettings, RefreshRelationshipRequest, Relationship,
    RelationshipEndpoint, ShowFederationRequest, SpiffeEndpoint, UpdateRelationshipRequest, WebEndpoint,
};
use quorate_proto_api::spire::bundle::batch_delete_federated_bundle_request::Mode;
use quorate_proto_api::spire::bundle::bundle_client::BundleClient;
use quorate_proto_api::spire::bundle::{
    AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchDeleteFederatedBundleRequest,
    BatchSetFederatedBundleRequest, BatchUpdateFederatedBundleRequest, CountBundlesRequest, GetFederatedBundleRequest,
    ListFederatedBundlesRequest, PublishJwtAuthorityRequest,
};
use quorate_proto_api::spire::entry::GetEntryRequest;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::trustdomain::trust_domain_client::TrustDomainClient;
use quorate_proto_api::spire::trustdomain::{
    BatchCreateFederationRelationshipRequest, BatchDeleteFederationRelationshipRequest,
    BatchUpdateFederationRelationshipRequest, GetFederationRelationshipRequest, ListFederationRelationshipsRequest,
    RefreshBundleRequest,
};
use quorate_proto_api::spire::types::federation_relationship::BundleEndpointProfile;
use quorate_proto_api::spire::types::{
    Bundle, BundleMask, Entry, FederationRelationship, FederationRelationshipMask, HttpsWebProfile, HttpsspiffeProfile,
    JwtKey, Status as ItemStatus,
};
use quorate_proto_identity::{KeyType, PrivateKey};
use tonic::{Code, Status};

use crate::node::{TestNode, entry, free_port};

/// Nobody answers there, and nobody is asked: the port of a protocol that discards everything.
const NOBODY: &str = "https://127.0.0.1:9/";

fn jwt_key(id: &str) -> JwtKey {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    JwtKey { public_key: key.public_key().spki_der().to_vec().into(), key_id: id.into(), ..JwtKey::default() }
}

/// A bundle with one token key, which is enough to tell it from another.
fn bundle(trust_domain: &str, sequence_number: u64) -> Bundle {
    Bundle {
        trust_domain: trust_domain.into(),
        jwt_authorities: vec![jwt_key("k1")],
        refresh_hint: 60,
        sequence_number,
        ..Bundle::default()
    }
}

fn codes(statuses: impl IntoIterator<Item = Option<ItemStatus>>) -> Vec<Code> {
    statuses.into_iter().map(|status| Code::from(status.unwrap().code)).collect()
}

struct Bundles(BundleClient<tonic::transport::Channel>);

impl Bundles {
    fn of(node: &TestNode) -> Self {
        Self(BundleClient::new(node.admin_channel()))
    }

    async fn create(&mut self, bundle: Vec<Bundle>) -> Vec<(Code, Option<Bundle>)> {
        let request = BatchCreateFederatedBundleRequest { bundle, output_mask: None };
        let answer = self.0.batch_create_federated_bundle(request).await.unwrap();
        let results = answer.into_inner().results.into_iter();
        results.map(|result| (Code::from(result.status.unwrap().code), result.bundle)).collect()
    }

    async fn set(&mut self, bundle: Bundle) -> Code {
        let request = BatchSetFederatedBundleRequest { bundle: vec![bundle], output_mask: None };
        let answer = self.0.batch_set_federated_bundle(request).await.unwrap();
        let was_written = answer.metadata().get(LOG_INDEX_HEADER).is_some();
        let code = codes(answer.into_inner().results.into_iter().map(|result| result.status))[0];
        assert_eq!(was_written, code == Code::Ok, "a write says where in the log it stands");
        code
    }

    async fn update(&mut self, bundle: Bundle, input_mask: Option<BundleMask>) -> (Code, Option<Bundle>) {
        let request = BatchUpdateFederatedBundleRequest { bundle: vec![bundle], input_mask, output_mask: None };
        let answer = self.0.batch_update_federated_bundle(request).await.unwrap().into_inner();
        let result = answer.results.into_iter().next().unwrap();
        (Code::from(result.status.unwrap().code), result.bundle)
    }

    async fn delete(&mut self, names: &[&str], mode: Mode) -> Vec<Code> {
        let trust_domains = names.iter().map(ToString::to_string).collect();
        let request = BatchDeleteFederatedBundleRequest { trust_domains, mode: mode.into() };
        let answer = self.0.batch_delete_federated_bundle(request).await.unwrap().into_inner();
        let named: Vec<_> = answer.results.iter().map(|result| result.trust_domain.clone()).collect();
        assert_eq!(named, names);
        codes(answer.results.into_iter().map(|result| result.status))
    }

    async fn get(&mut self, trust_domain: &str) -> Result<Bundle, Status> {
        let request = GetFederatedBundleRequest { trust_domain: trust_domain.into(), output_mask: None };
        self.0.get_federated_bundle(request).await.map(tonic::Response::into_inner)
    }

    async fn list(&mut self, page_size: i32, page_token: &str) -> (Vec<String>, String) {
        let request = ListFederatedBundlesRequest { output_mask: None, page_size, page_token: page_token.into() };
        let answer = self.0.list_federated_bundles(request).await.unwrap().into_inner();
        (answer.bundles.into_iter().map(|bundle| bundle.trust_domain).collect(), answer.next_page_token)
    }

    async fn count(&mut self) -> i32 {
        self.0.count_bundles(CountBundlesRequest {}).await.unwrap().into_inner().count
    }
}

/// spire-api.md section 9.
///
/// Accepts: BND-04, BND-06, BND-13, FED-10, FED-11. Refuses: BND-28, FED-27.
#[tokio::test]
async fn foreign_bundles_are_created_listed_updated_and_set_each_under_its_own_name() {
    let node = TestNode::ready().await;
    let mut bundles = Bundles::of(&node);
    assert_eq!((bundles.count().await, bundles.list(0, "").await), (1, (Vec::new(), String::new())));

    let two = bundle("two.example", u64::MAX);
    let wrong_key = Bundle { jwt_authorities: vec![JwtKey::default()], ..bundle("x.example", 1) };
    let given = vec![
        two.clone(),
        bundle("three.example", 1),
        bundle("example.org", 1),
        bundle("Not a name", 1),
        wrong_key,
        bundle("two.example", 2),
    ];
    let created = bundles.create(given).await;
    let expected =
        [Code::Ok, Code::Ok, Code::InvalidArgument, Code::InvalidArgument, Code::InvalidArgument, Code::AlreadyExists];
    assert_eq!(created.iter().map(|(code, _)| *code).collect::<Vec<_>>(), expected);
    assert_eq!(created[0].1, Some(two.clone()), "what was put is answered, with a sequence number of 64 bits");

    assert_eq!(bundles.count().await, 3);
    assert_eq!(bundles.list(0, "").await, (vec!["three.example".into(), "two.example".into()], String::new()));
    assert_eq!(bundles.list(1, "").await, (vec!["three.example".into()], "three.example".into()));
    assert_eq!(bundles.list(1, "three.example").await, (vec!["two.example".into()], "two.example".into()));
    assert_eq!(bundles.list(1, "two.example").await, (Vec::new(), String::new()));

    assert_eq!(bundles.get("spiffe://two.example").await.unwrap(), two);
    for (name, code) in
        [("example.org", Code::InvalidArgument), ("", Code::InvalidArgument), ("no.example", Code::NotFound)]
    {
        assert_eq!(bundles.get(name).await.unwrap_err().code(), code, "{name}");
    }

    // An operator's override stands, whatever number it has; only what the mask names is changed by an update.
    let mask = BundleMask { refresh_hint: true, ..BundleMask::default() };
    let (code, updated) = bundles.update(Bundle { refresh_hint: 7, ..bundle("two.example", 1) }, Some(mask)).await;
    assert_eq!((code, updated), (Code::Ok, Some(Bundle { refresh_hint: 7, ..two.clone() })));
    let whole = bundle("two.example", 3);
    assert_eq!(bundles.update(whole.clone(), None).await, (Code::Ok, Some(whole.clone())));
    assert_eq!(bundles.get("two.example").await.unwrap(), whole);
    assert_eq!(bundles.update(bundle("no.example", 1), None).await.0, Code::NotFound);
    assert_eq!(bundles.set(bundle("four.example", 1)).await, Code::Ok);
    assert_eq!(bundles.set(bundle("four.example", 1)).await, Code::Ok);
    assert_eq!(bundles.set(bundle("example.org", 1)).await, Code::InvalidArgument);
    assert_eq!(bundles.count().await, 4);

    let too_many = BatchSetFederatedBundleRequest { bundle: vec![Bundle::default(); 1_001], output_mask: None };
    assert_eq!(bundles.0.batch_set_federated_bundle(too_many).await.unwrap_err().code(), Code::InvalidArgument);
    for status in [
        bundles.0.append_bundle(AppendBundleRequest::default()).await.unwrap_err(),
        bundles.0.publish_jwt_authority(PublishJwtAuthorityRequest::default()).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(!status.message().is_empty());
    }
}

async fn entries_of(node: &TestNode, id: &str) -> Result<Entry, Code> {
    let request = GetEntryRequest { id: id.into(), output_mask: None };
    let answer = EntryClient::new(node.admin_channel()).get_entry(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

/// The modes of deletion (spire-api.md section 9).
#[tokio::test]
async fn a_foreign_bundle_is_deleted_with_with_out_or_only_without_entries_that_federate_with_it() {
    let node = TestNode::ready().await;
    let mut bundles = Bundles::of(&node);
    let federating =
        |path: &str| Entry { federates_with: vec!["two.example".into()], ..entry(path, &[("unix", "uid:4711")]) };
    assert_eq!(bundles.set(bundle("two.example", 1)).await, Code::Ok);
    let id = node.create(federating("/a")).await.unwrap();

    let wrong = ["two.example", "no.example", "example.org", "?"];
    let expected = [Code::FailedPrecondition, Code::NotFound, Code::InvalidArgument, Code::InvalidArgument];
    assert_eq!(bundles.delete(&wrong, Mode::Restrict).await, expected);
    assert_eq!(entries_of(&node, &id).await.unwrap().federates_with, ["two.example"]);

    assert_eq!(bundles.delete(&["two.example"], Mode::Dissociate).await, [Code::Ok]);
    assert_eq!(entries_of(&node, &id).await.unwrap().federates_with, Vec::<String>::new());
    assert_eq!(bundles.get("two.example").await.unwrap_err().code(), Code::NotFound);

    assert_eq!(bundles.set(bundle("two.example", 1)).await, Code::Ok);
    let other = node.create(federating("/b")).await.unwrap();
    assert_eq!(bundles.delete(&["two.example"], Mode::Delete).await, [Code::Ok]);
    assert_eq!(entries_of(&node, &other).await, Err(Code::NotFound));
    assert!(entries_of(&node, &id).await.is_ok(), "it did not federate with it any more");

    assert_eq!(bundles.set(bundle("two.example", 1)).await, Code::Ok);
    assert_eq!(bundles.delete(&["two.example"], Mode::Restrict).await, [Code::Ok]);
    let strange = BatchDeleteFederatedBundleRequest { trust_domains: Vec::new(), mode: 7 };
    assert_eq!(bundles.0.batch_delete_federated_bundle(strange).await.unwrap_err().code(), Code::InvalidArgument);
}

fn web(trust_domain: &str) -> FederationRelationship {
    FederationRelationship {
        trust_domain: trust_domain.into(),
        bundle_endpoint_url: NOBODY.into(),
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsWeb(HttpsWebProfile {})),
        trust_domain_bundle: None,
    }
}

fn spiffe(trust_domain: &str) -> FederationRelationship {
    let endpoint_spiffe_id = format!("spiffe://{trust_domain}/spire/server");
    FederationRelationship {
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile { endpoint_spiffe_id })),
        trust_domain_bundle: Some(bundle(trust_domain, 1)),
        ..web(trust_domain)
    }
}

struct Relationships(TrustDomainClient<tonic::transport::Channel>);

impl Relationships {
    fn of(node: &TestNode) -> Self {
        Self(TrustDomainClient::new(node.admin_channel()))
    }

    async fn create(&mut self, list: Vec<FederationRelationship>) -> Vec<(Code, Option<FederationRelationship>)> {
        let request = BatchCreateFederationRelationshipRequest { federation_relationships: list, output_mask: None };
        let answer = self.0.batch_create_federation_relationship(request).await.unwrap();
        let results = answer.into_inner().results.into_iter();
        results.map(|result| (Code::from(result.status.unwrap().code), result.federation_relationship)).collect()
    }

    async fn update(
        &mut self,
        relationship: FederationRelationship,
        input_mask: Option<FederationRelationshipMask>,
    ) -> (Code, Option<FederationRelationship>) {
        let federation_relationships = vec![relationship];
        let request =
            BatchUpdateFederationRelationshipRequest { federation_relationships, input_mask, output_mask: None };
        let answer = self.0.batch_update_federation_relationship(request).await.unwrap().into_inner();
        let result = answer.results.into_iter().next().unwrap();
        (Code::from(result.status.unwrap().code), result.federation_relationship)
    }

    async fn get(&mut self, trust_domain: &str) -> Result<FederationRelationship, Code> {
        let request = GetFederationRelationshipRequest { trust_domain: trust_domain.into(), output_mask: None };
        let answer = self.0.get_federation_relationship(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.code())
    }

    async fn list(&mut self, page_size: i32, page_token: &str) -> (Vec<String>, String) {
        let request =
            ListFederationRelationshipsRequest { output_mask: None, page_size, page_token: page_token.into() };
        let answer = self.0.list_federation_relationships(request).await.unwrap().into_inner();
        let names = answer.federation_relationships.into_iter().map(|relationship| relationship.trust_domain);
        (names.collect(), answer.next_page_token)
    }

    async fn delete(&mut self, names: &[&str]) -> Vec<Code> {
        let trust_domains = names.iter().map(ToString::to_string).collect();
        let request = BatchDeleteFederationRelationshipRequest { trust_domains };
        let answer = self.0.batch_delete_federation_relationship(request).await.unwrap().into_inner();
        codes(answer.results.into_iter().map(|result| result.status))
    }

    async fn refresh(&mut self, trust_domain: &str) -> Code {
        let request = RefreshBundleRequest { trust_domain: trust_domain.into() };
        self.0.refresh_bundle(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
    }
}

/// spire-api.md section 10.
///
/// Accepts: FED-13, FED-16, FED-19, FED-32, FED-34, FED-45, FED-48. Refuses: FED-16, FED-18, FED-27, FED-31, FED-32, FED-43,
/// FED-50.
#[tokio::test]
async fn relationships_are_made_changed_and_ended_by_spires_service_sf_03_sf_04_sf_11() {
    let node = TestNode::ready().await;
    let mut relationships = Relationships::of(&node);
    let no_profile = FederationRelationship { bundle_endpoint_profile: None, ..web("x.example") };
    let plain = FederationRelationship { bundle_endpoint_url: "http://x.example/".into(), ..web("x.example") };
    let user = FederationRelationship { bundle_endpoint_url: "https://u@x.example/".into(), ..web("x.example") };
    let no_id = FederationRelationship {
        bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile::default())),
        ..web("x.example")
    };
    let others_bundle =
        FederationRelationship { trust_domain_bundle: Some(bundle("y.example", 1)), ..web("x.example") };
    let wrong = [no_profile, plain, user, no_id, others_bundle, web("example.org"), web("X"), web("")];
    let refused = relationships.create(wrong.to_vec()).await;
    assert!(refused.iter().all(|(code, _)| *code == Code::InvalidArgument), "{refused:?}");
    assert_eq!(relationships.list(0, "").await.0, Vec::<String>::new());

    let created = relationships.create(vec![web("two.example"), spiffe("three.example"), web("two.example")]).await;
    let three = spiffe("three.example");
    let made = created[1].1.clone().unwrap();
    assert_eq!(created.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [Code::Ok, Code::Ok, Code::AlreadyExists]);
    assert_eq!(created[0].1, Some(web("two.example")));
    assert_eq!(
        (&made.bundle_endpoint_profile, &made.bundle_endpoint_url),
        (&three.bundle_endpoint_profile, &three.bundle_endpoint_url)
    );
    assert_eq!(made.trust_domain_bundle.unwrap().sequence_number, 1, "it is held at once");
    assert_eq!(Bundles::of(&node).get("three.example").await.unwrap().sequence_number, 1);

    assert_eq!(relationships.list(1, "").await, (vec!["three.example".into()], "three.example".into()));
    assert_eq!(relationships.list(1, "three.example").await, (vec!["two.example".into()], "two.example".into()));
    assert_eq!(relationships.list(1, "two.example").await, (Vec::new(), String::new()));
    assert_eq!(relationships.get("two.example").await, Ok(web("two.example")));
    assert_eq!(relationships.get("no.example").await, Err(Code::NotFound));
    assert_eq!(relationships.get("example.org").await, Err(Code::InvalidArgument));

    let url = FederationRelationshipMask { bundle_endpoint_url: true, ..FederationRelationshipMask::default() };
    let moved =
        FederationRelationship { bundle_endpoint_url: "https://127.0.0.1:9/new".into(), ..web("three.example") };
    let (code, updated) = relationships.update(moved.clone(), Some(url)).await;
    let updated = updated.unwrap();
    assert_eq!((code, &updated.bundle_endpoint_url), (Code::Ok, &moved.bundle_endpoint_url));
    assert_eq!(updated.bundle_endpoint_profile, three.bundle_endpoint_profile, "the mask does not name it");
    let with_bundle =
        FederationRelationship { trust_domain_bundle: Some(bundle("two.example", 9)), ..spiffe("two.example") };
    let (code, updated) = relationships.update(with_bundle, None).await;
    assert_eq!((code, updated.unwrap().trust_domain_bundle.unwrap().sequence_number), (Code::Ok, 9));
    assert_eq!(relationships.update(web("no.example"), None).await.0, Code::NotFound);

    assert_eq!(relationships.refresh("no.example").await, Code::NotFound);
    assert_eq!(relationships.refresh("example.org").await, Code::InvalidArgument);
    assert_eq!(relationships.refresh("two.example").await, Code::FailedPrecondition, "nobody answers there");

    let deleted = relationships.delete(&["two.example", "two.example", "example.org"]).await;
    assert_eq!(deleted, [Code::Ok, Code::NotFound, Code::InvalidArgument]);
    let gone = Bundles::of(&node).get("two.example").await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "the bundle goes with its relationship");
    assert_eq!(relationships.list(0, "").await.0, ["three.example"]);
}

fn endpoint(endpoint: Endpoint) -> RelationshipEndpoint {
    RelationshipEndpoint { endpoint: Some(endpoint) }
}

fn api(url: &str) -> RelationshipEndpoint {
    let kind = Some(Kind::ApiKey(ApiKeyCredential::default()));
    endpoint(Endpoint::Api(ApiEndpoint {
        url: url.into(),
        server_spiffe_id: String::new(),
        credential: Some(ApiCredential { kind }),
        watch: true,
    }))
}

fn secret_name(relationship: &Relationship) -> String {
    match relationship.endpoint.as_ref().and_then(|endpoint| endpoint.endpoint.as_ref()) {
        Some(Endpoint::Api(ApiEndpoint {
            credential: Some(ApiCredential { kind: Some(Kind::ApiKey(key)) }), ..
        })) => key.secret_name.clone(),
        other => panic!("it has no API key: {other:?}"),
    }
}

#[tokio::test]
async fn a_relationship_with_a_federation_api_keeps_its_secret_and_is_kept_from_tools_that_have_no_words_for_it() {
    let node = TestNode::ready().await;
    let mut federation = FederationClient::new(node.admin_channel());
    let create = |secret: &'static str, dry_run| CreateRelationshipRequest {
        relationship: Some(Relationship {
            trust_domain: "two.example".into(),
            endpoint: Some(api(NOBODY)),
            pins: Some(EndpointPins { hosts: vec!["127.0.0.1".into()], keys: Vec::new() }),
            poll: Some(PollSettings { floor_seconds: 300, ..PollSettings::default() }),
            ..Relationship::default()
        }),
        bundle: bytes::Bytes::new(),
        secret: secret.into(),
        dry_run,
    };
    let without = federation.create_relationship(create("", false)).await.unwrap_err();
    assert_eq!(without.code(), Code::InvalidArgument);
    let dry = federation.create_relationship(create("hunter2-hunter2", true)).await.unwrap().into_inner();
    assert_eq!((dry.log_index, dry.relationship), (0, None));
    assert!(dry.sentences[0].contains("https://127.0.0.1:9/"), "{:?}", dry.sentences);
    let made = federation.create_relationship(create("hunter2-hunter2", false)).await.unwrap().into_inner();
    assert!(made.log_index > 0);
    assert!(made.warnings.iter().any(|warning| warning.contains("No entry federates")), "{:?}", made.warnings);
    let made = made.relationship.unwrap();
    assert_eq!((made.revision > 0, made.configured_by.as_str(), made.poll.unwrap().floor_seconds), (true, "", 300));
    let first = secret_name(&made);
    let again = federation.create_relationship(create("hunter2-hunter2", false)).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);

    // Tools that keep what they were told neither see it nor break it.
    let mut relationships = Relationships::of(&node);
    assert_eq!(relationships.list(0, "").await.0, Vec::<String>::new());
    assert_eq!(relationships.get("two.example").await, Err(Code::FailedPrecondition));
    assert_eq!(relationships.update(web("two.example"), None).await.0, Code::FailedPrecondition);

    // The secret stays for the same server, is asked for again for another, and each one given has a name of its own.
    let update =
        |endpoint: Option<RelationshipEndpoint>, secret: &'static str, expected_revision| UpdateRelationshipRequest {
            trust_domain: "two.example".into(),
            endpoint,
            secret: secret.into(),
            pins: Some(EndpointPins::default()),
            expected_revision,
            ..UpdateRelationshipRequest::default()
        };
    let same = federation.update_relationship(update(Some(api("https://127.0.0.1:9/b")), "", 0)).await.unwrap();
    assert_eq!(secret_name(&same.into_inner().relationship.unwrap()), first);
    let other = federation.update_relationship(update(Some(api("https://127.0.0.2:9/")), "", 0)).await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument, "{}", other.message());
    let late = federation.update_relationship(update(None, "hunter3-hunter3", made.revision)).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted, "{}", late.message());
    let renewed = federation.update_relationship(update(None, "hunter3-hunter3", 0)).await.unwrap().into_inner();
    assert_ne!(secret_name(&renewed.relationship.unwrap()), first);

    let status = federation.show_federation(ShowFederationRequest::default()).await.unwrap().into_inner();
    assert_eq!(status.statuses.len(), 1);
    assert_eq!(status.statuses[0].trust_domain, "two.example");
    let refresh = RefreshRelationshipRequest { trust_domain: "two.example".into(), accept_older: true };
    let refused = federation.refresh_relationship(refresh).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
    let why = async || {
        let mut federation = federation.clone();
        let status = federation.show_federation(ShowFederationRequest::default()).await.unwrap().into_inner();
        assert_eq!(status.statuses[0].last_success, None);
        status.statuses[0].error.contains("127.0.0.1:9")
    };
    node.until("it is told why nothing was fetched", why).await;

    let gone = DeleteRelationshipRequest { trust_domain: "two.example".into(), dry_run: false };
    assert!(federation.delete_relationship(gone.clone()).await.unwrap().into_inner().log_index > 0);
    assert_eq!(federation.delete_relationship(gone).await.unwrap_err().code(), Code::NotFound);
    let missing = GetRelationshipRequest { trust_domain: "two.example".into() };
    assert_eq!(federation.get_relationship(missing).await.unwrap_err().code(), Code::NotFound);

    // Who asked for a refresh is in the audit trail; what the secret is, is nowhere.
    let told = node.told(&["audit", "show", "--what", "federation"]);
    assert!(told.contains("federation.refresh"), "{told}");
    let everything = node.told(&["audit", "show", "-o", "json"]) + &node.log();
    assert!(!everything.contains("hunter2") && !everything.contains("hunter3"));
}

/// Accepts: FED-32, FED-45. Refuses: FED-27, FED-50.
#[tokio::test]
async fn a_relationship_that_cannot_begin_is_made_and_says_what_is_missing_sf_14() {
    let node = TestNode::ready().await;
    let mut federation = FederationClient::new(node.admin_channel());
    let create = |name: &str, endpoint| CreateRelationshipRequest {
        relationship: Some(Relationship { trust_domain: name.into(), endpoint, ..Relationship::default() }),
        ..CreateRelationshipRequest::default()
    };
    let spiffe = endpoint(Endpoint::Spiffe(SpiffeEndpoint {
        url: NOBODY.into(),
        endpoint_spiffe_id: "spiffe://three.example/server".into(),
    }));
    let made = federation.create_relationship(create("two.example", Some(spiffe))).await.unwrap().into_inner();
    assert!(made.warnings.iter().any(|warning| warning.contains("No bundle of three.example is held")), "{made:?}");
    let web = endpoint(Endpoint::Web(WebEndpoint { url: NOBODY.into() }));
    for (name, endpoint) in [("example.org", Some(web)), ("four.example", None)] {
        let status = federation.create_relationship(create(name, endpoint)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{}", status.message());
    }
    let list = federation.list_relationships(ListRelationshipsRequest {}).await.unwrap().into_inner().relationships;
    assert_eq!(list.len(), 1);
}

#[tokio::test]
async fn relationships_of_the_configuration_are_made_at_the_start_and_the_first_one_stands() {
    let mut node = TestNode::ready().await;
    let bundle_file = node.path("two.json");
    std::fs::write(&bundle_file, node.told(&["bundle", "show", "--format", "spiffe"])).unwrap();
    let configured = |url: &str| {
        format!(
            "[[federation.relationships]]\ntrust_domain = \"two.example\"\nprofile = \"https_spiffe\"\nurl = \"{url}\"\n\
             endpoint_spiffe_id = \"spiffe://two.example/spire/server\"\nbundle = {bundle_file:?}\n"
        )
    };
    let restart = async |node: &mut TestNode, more: &str| {
        node.kill().await;
        node.configure(more);
        node.start().await;
        node.wait_ready().await;
    };
    let shown = |node: &TestNode| node.told(&["federation", "show", "two.example"]);
    let is_at = async |node: &TestNode, url: &str| {
        let all = |node: &TestNode| String::from_utf8(node.quorate(&["federation", "list"]).stdout).unwrap();
        node.until(url, async || all(node).contains(url)).await;
    };

    restart(&mut node, &configured("https://127.0.0.1:9/a")).await;
    is_at(&node, "https://127.0.0.1:9/a").await;
    assert!(shown(&node).contains("the configuration of node node-1"), "{}", shown(&node));
    assert!(shown(&node).contains("1 X.509 and 1 JWT authorities"), "{}", shown(&node));

    // It follows its own configuration, until an operator changes it.
    restart(&mut node, &configured("https://127.0.0.1:9/b")).await;
    is_at(&node, "https://127.0.0.1:9/b").await;
    node.told(&["federation", "update", "two.example", "--poll-floor", "10m"]);
    assert!(shown(&node).contains("an operator"), "{}", shown(&node));
    restart(&mut node, &configured("https://127.0.0.1:9/c")).await;
    node.until("it says that it differs", async || node.log().contains("has another relationship")).await;
    assert!(shown(&node).contains("https://127.0.0.1:9/b"), "{}", shown(&node));
}

/// What a command said on both of its outputs, and whether it did what was asked.
fn said(node: &TestNode, arguments: &[&str]) -> (bool, String) {
    let output = node.quorate(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// The steps of `quorate federation --help`, one after the other.
///
/// Accepts: FED-33, FED-34, FED-40, FED-41, FED-45. Refuses: FED-34.
#[tokio::test]
async fn the_first_exchange_goes_as_the_help_says_and_each_side_then_fetches_by_itself() {
    let mut sides = Vec::new();
    for name in ["one.example", "two.example"] {
        let mut node = TestNode::of_domain(name, "node-1");
        let listen = free_port();
        node.configure(&format!("[bundle_endpoint]\nspiffe_listen = \"{listen}\"\n"));
        node.start().await;
        node.found(Policy::default()).await.unwrap();
        node.wait_ready().await;
        sides.push((name, node, format!("https://{listen}/")));
    }
    // Each writes its bundle to a file, which the other is handed.
    for (_, node, _) in &sides {
        std::fs::write(node.path("ours.json"), node.told(&["bundle", "show", "--format", "spiffe"])).unwrap();
    }
    for (here, there) in [(0, 1), (1, 0)] {
        let (_, node, _) = &sides[here];
        let (foreign, other, url) = &sides[there];
        let id = format!("spiffe://{foreign}/spire/server");
        let file = other.path("ours.json").display().to_string();
        let create =
            ["federation", "create", foreign, "--profile", "https_spiffe", "--url", url, "--endpoint-spiffe-id", &id];
        let root = other.told(&["bundle", "show"]).lines().find(|line| line.starts_with("x509")).unwrap().to_owned();
        let root = root.split_whitespace().nth(1).unwrap().to_owned();
        let dry = node.told(&[&create[..], &["--bundle", &file, "--dry-run"]].concat());
        assert!(dry.contains(&root), "what is to be compared is named: {dry}");
        assert!(dry.contains("nothing was changed") && dry.contains("No entry federates"), "{dry}");
        let (done, made) = said(node, &[&create[..], &["--bundle", &file]].concat());
        assert!(done, "{made}");
        let (done, again) = said(node, &[&create[..], &["--bundle", &file]].concat());
        assert!(!done && again.contains("already"), "{again}");
    }
    for (here, there) in [(0, 1), (1, 0)] {
        let (_, node, _) = &sides[here];
        let (foreign, ..) = &sides[there];
        let fresh = async || said(node, &["federation", "status"]).1.contains("fresh");
        node.until("the other side's bundle is fetched", fresh).await;
        let shown = node.told(&["federation", "show", foreign]);
        assert!(shown.contains("its endpoint") && shown.contains("an operator"), "{shown}");
        let told = node.told(&["federation", "refresh", foreign]);
        assert!(told.contains("it is the one that was held"), "{told}");
        assert!(node.told(&["bundle", "list"]).contains(foreign));
        let id = format!("spiffe://{}/web", sides[here].0);
        let created = node.told(&[
            "entry",
            "create",
            "--spiffe-id",
            &id,
            "--selector",
            "unix:uid:4711",
            "--federates-with",
            foreign,
        ]);
        assert!(created.contains(foreign), "{created}");
    }

    // By hand: in, and out again with and without the entries that name it.
    let (_, node, _) = &sides[0];
    let pem = node.path("roots.pem");
    std::fs::write(&pem, sides[1].1.told(&["bundle", "show", "--format", "pem"])).unwrap();
    let (done, set) = said(node, &["bundle", "set", "three.example", &pem.display().to_string()]);
    assert!(done && set.contains("no JWT authority"), "{set}");
    let (done, wrong) = said(node, &["bundle", "set", "three.example", &node.configuration().display().to_string()]);
    assert!(!done && wrong.contains("a SPIFFE bundle document is wanted"), "{wrong}");
    let (done, kept) = said(node, &["bundle", "delete", "two.example"]);
    assert!(!done && kept.contains("entries federate with trust domain two.example"), "{kept}");
    node.told(&["bundle", "delete", "three.example"]);
    let (done, own) = said(node, &["bundle", "set", "one.example", &pem.display().to_string()]);
    assert!(!done && own.contains("own trust domain"), "{own}");

    let ended = node.told(&["federation", "delete", "two.example"]);
    assert!(ended.contains("withdrawn from all workloads") && ended.contains("1 entries federate"), "{ended}");
    assert!(node.told(&["federation", "list"]).contains("There are no relationships"));
    assert!(node.told(&["bundle", "list"]).contains("There are no foreign bundles"));
    let acts = node.told(&["audit", "show", "--what", "relationship"]);
    assert!(acts.contains("relationship.create") && acts.contains("relationship.delete"), "{acts}");
}
