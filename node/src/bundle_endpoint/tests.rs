//! What is answered to a request, and what the document is.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{Method, Response};
use http_body_util::BodyExt as _;
use quorate_proto_identity::bundle::Bundle;
use quorate_proto_identity::key::{KeyType, PrivateKey};
use quorate_proto_identity::x509::{AuthorityTemplate, build_root};
use quorate_proto_identity::{AuthorityId, SerialNumber, TrustDomain, UnixSeconds, Validity};
use quorate_raft_machine::{BundleContent, BundleJwtAuthority, BundleX509Authority};
use serde_json::Value;

use super::*;

fn trust_domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

fn root(serial: u8) -> BundleX509Authority {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let validity = Validity::new(UnixSeconds(1_700_000_000), UnixSeconds(1_900_000_000)).unwrap();
    let serial = SerialNumber::from_random([serial; 16]);
    let template = AuthorityTemplate { trust_domain: &trust_domain(), serial, validity };
    let certificate = build_root(&template, &key).unwrap();
    BundleX509Authority {
        id: certificate.authority_id(),
        certificate: Bytes::copy_from_slice(certificate.der()),
        tainted: false,
    }
}

fn jwt_key(id: &str, kind: KeyType) -> BundleJwtAuthority {
    let key = PrivateKey::generate(kind).unwrap();
    BundleJwtAuthority {
        id: AuthorityId::new(id).unwrap(),
        public_key: Bytes::copy_from_slice(key.public_key().spki_der()),
        expires_at: UnixSeconds(1_900_000_000),
        tainted: false,
    }
}

fn content() -> BundleContent {
    BundleContent {
        x509_authorities: vec![root(1), root(2)],
        jwt_authorities: vec![jwt_key("aa01", KeyType::EcP256), jwt_key("aa02", KeyType::Rsa2048)],
        refresh_hint: 300,
        sequence: 7,
    }
}

fn document() -> Arc<Document> {
    Arc::new(Document::render(&trust_domain(), &content()).unwrap())
}

fn ask(method: Method, path: &str, known: Option<&str>, served: Served) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(known) = known {
        request = request.header(IF_NONE_MATCH, known);
    }
    answer(&request.body(()).unwrap(), "/bundle", || served)
}

async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn header(response: &Response<Body>, name: http::header::HeaderName) -> &str {
    response.headers()[name].to_str().unwrap()
}

/// Accepts: FED-22, FED-23, FED-24, FED-37, FED-38
#[tokio::test]
async fn a_get_on_the_path_without_credentials_yields_the_bundle_as_json() {
    let document = document();
    let response = ask(Method::GET, "/bundle?x=1", None, Served::Document(Arc::clone(&document)));
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, CONTENT_TYPE), "application/json; charset=utf-8");
    assert_eq!(header(&response, CACHE_CONTROL), "public, max-age=75, must-revalidate");
    let etag = header(&response, ETAG).to_owned();
    assert!(etag.starts_with("\"7-") && etag.ends_with('"'), "{etag}");
    let sent = body(response).await;
    assert_eq!(sent, document.body);
    assert_eq!(sent.as_ptr(), document.body.as_ptr(), "the bytes are shared, not copied");

    let head = ask(Method::HEAD, "/bundle", None, Served::Document(Arc::clone(&document)));
    assert_eq!(
        (head.status(), header(&head, CONTENT_LENGTH)),
        (StatusCode::OK, document.body.len().to_string().as_str())
    );
    assert_eq!(body(head).await.len(), 0);
}

#[tokio::test]
async fn who_has_the_newest_bundle_is_told_so() {
    let document = document();
    let etag = document.etag.to_str().unwrap().to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let response = ask(Method::GET, "/bundle", Some(&known), Served::Document(Arc::clone(&document)));
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(header(&response, ETAG), etag);
        assert_eq!(body(response).await.len(), 0);
    }
    let older = ask(Method::GET, "/bundle", Some("\"6-0011\""), Served::Document(document));
    assert_eq!(older.status(), StatusCode::OK);
}

/// Refuses: FED-23, FED-38: what is not the bundle is not answered as one.
#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    for path in ["/", "/bundle/", "/bundle2", "/Bundle"] {
        let response = ask(Method::GET, path, None, Served::Document(document()));
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT] {
        let response = ask(method.clone(), "/bundle", None, Served::Document(document()));
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(header(&response, http::header::ALLOW), "GET, HEAD");
    }
}

/// Refuses: FED-23: a node whose bundle may be old does not pass it off as the newest.
#[tokio::test]
async fn a_node_that_is_not_caught_up_says_so_and_why() {
    let response = ask(Method::GET, "/bundle", None, Served::NotNow("it is behind".to_owned()));
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((header(&response, RETRY_AFTER), header(&response, CACHE_CONTROL)), ("10", "no-store"));
    assert!(String::from_utf8_lossy(&body(response).await).contains("it is behind"));
}

#[tokio::test]
async fn where_anonymous_serving_is_off_the_refusal_names_the_way() {
    let response = ask(Method::GET, "/bundle", None, Served::NotAnonymous);
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body(response).await).contains("Federation API"));
}

/// Accepts: BND-01, BND-08, BND-11, BND-12, BND-14, BND-15, BND-17, BND-22, BND-23, BND-24, BND-25
#[test]
fn the_document_has_what_the_standard_wants() {
    let document = document();
    let text = std::str::from_utf8(&document.body).unwrap();
    let json: Value = serde_json::from_str(text).unwrap();
    assert_eq!(json["spiffe_sequence"], 7);
    assert_eq!(json["spiffe_refresh_hint"], 300);
    assert!(json["spiffe_sequence"].is_u64() && json["spiffe_refresh_hint"].is_u64(), "whole numbers");
    let keys = json["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 4);
    for key in keys {
        assert!(key["kty"].is_string());
        match key["use"].as_str().unwrap() {
            "x509-svid" => {
                assert_eq!(key["x5c"].as_array().unwrap().len(), 1, "one certificate, and no chain");
                assert!(key.get("kid").is_none());
            }
            "jwt-svid" => assert!(key["kid"].as_str().is_some_and(|kid| !kid.is_empty())),
            other => panic!("{other} is no use that every reader knows (A-31)"),
        }
        assert!(key.get("d").is_none(), "nothing private");
    }
    // It names no trust domain, and whoever reads it says whose it is (BND-04).
    let read = Bundle::parse(&trust_domain(), &document.body).unwrap();
    assert!(read.skipped.is_empty());
    assert_eq!(read.bundle, bundle(&trust_domain(), &content_of(&read.bundle)).unwrap());
}

/// The content that a bundle has, for the way there and back.
fn content_of(bundle: &Bundle) -> BundleContent {
    let roots = bundle.x509_authorities().iter().map(|certificate| BundleX509Authority {
        id: certificate.authority_id(),
        certificate: Bytes::copy_from_slice(certificate.der()),
        tainted: false,
    });
    let keys = bundle.jwt_authorities().iter().map(|key| BundleJwtAuthority {
        id: AuthorityId::new(&key.key_id).unwrap(),
        public_key: Bytes::copy_from_slice(key.public_key.spki_der()),
        expires_at: UnixSeconds(1_900_000_000),
        tainted: false,
    });
    BundleContent {
        x509_authorities: roots.collect(),
        jwt_authorities: keys.collect(),
        refresh_hint: bundle.refresh_hint().and_then(|hint| u32::try_from(hint).ok()).unwrap(),
        sequence: bundle.sequence().unwrap(),
    }
}

/// Refuses: BND-11, BND-12: no document is without a sequence, and another content never has the tag, the bytes or the
/// sequence of the one before.
#[test]
fn another_bundle_has_another_tag_and_the_same_one_has_the_same() {
    let content = content();
    let one = Document::render(&trust_domain(), &content).unwrap();
    assert_eq!(Document::render(&trust_domain(), &content).unwrap(), one, "every node renders the same bytes");
    let mut other = content;
    other.x509_authorities.push(root(3));
    other.sequence = 8;
    let other = Document::render(&trust_domain(), &other).unwrap();
    assert_ne!((&other.etag, &other.body), (&one.etag, &one.body));
    assert!(other.sequence > one.sequence);
    for document in [&one, &other] {
        let json: Value = serde_json::from_slice(&document.body).unwrap();
        assert_eq!(json["spiffe_sequence"], document.sequence);
    }
}

/// Refuses: BND-17, BND-24: an authority that cannot be read makes no document, rather than one that readers reject.
#[test]
fn a_bundle_with_an_authority_that_is_none_is_not_rendered() {
    let mut broken = content();
    broken.x509_authorities[0].certificate = Bytes::from_static(b"no certificate");
    assert!(Document::render(&trust_domain(), &broken).is_none());
    let mut broken = content();
    broken.jwt_authorities[0].public_key = Bytes::from_static(b"no key");
    assert!(Document::render(&trust_domain(), &broken).is_none());
}
