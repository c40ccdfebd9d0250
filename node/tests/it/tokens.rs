//! JWT-SVIDs: made, bounded, validated, refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quorate_proto_api::JWT_TTL_HEADER;
use quorate_proto_api::workload::{Jwtsvid, JwtsvidRequest, ValidateJwtsvidRequest};
use serde_json::Value;
use tonic::{Code, Request, Status};

use crate::node::{TestNode, entry, own_path_selector};

async fn fetch(node: &TestNode, audience: &[&str], spiffe_id: &str) -> Result<Vec<Jwtsvid>, Status> {
    let audience = audience.iter().map(ToString::to_string).collect();
    let request = JwtsvidRequest { audience, spiffe_id: spiffe_id.to_owned() };
    Ok(node.workload().fetch_jwtsvid(request).await?.into_inner().svids)
}

async fn fetch_for(node: &TestNode, life: &str) -> Result<Value, Code> {
    let mut request = Request::new(JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() });
    request.metadata_mut().insert(JWT_TTL_HEADER, life.parse().unwrap());
    let response = node.workload().fetch_jwtsvid(request).await.map_err(|status| status.code())?;
    Ok(claims(&response.into_inner().svids[0].svid))
}

async fn validate(node: &TestNode, audience: &str, token: &str) -> Result<(String, prost_types::Struct), Code> {
    let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
    let response = node.workload().validate_jwtsvid(request).await.map_err(|status| status.code())?.into_inner();
    Ok((response.spiffe_id, response.claims.unwrap()))
}

fn part(token: &str, number: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(number).unwrap()).unwrap()).unwrap()
}

fn claims(token: &str) -> Value {
    part(token, 1)
}

fn life(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

/// WAPI-14, WAPI-29, WAPI-32, JWT-07, JWT-10, JWT-12, JWT-16, JWT-28; JWT-18: five minutes, when nobody says otherwise.
#[tokio::test]
async fn a_token_names_its_subject_and_all_audiences_sb_14_sb_15_sb_35() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    let svids = fetch(&node, &["one", "two"], "").await.unwrap();
    assert_eq!(svids.len(), 1);
    assert_eq!(svids[0].spiffe_id, "spiffe://example.org/w");
    let claims = claims(&svids[0].svid);
    assert_eq!(claims["sub"], "spiffe://example.org/w");
    assert_eq!(claims["aud"], serde_json::json!(["one", "two"]));
    assert!(claims["jti"].is_string());
    assert_eq!(life(&claims), 300);
    let header = part(&svids[0].svid, 0);
    assert_eq!(header["alg"], "ES256");
    assert!(header["kid"].is_string());
    assert_eq!(fetch(&node, &[], "").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(fetch(&node, &[""], "").await.unwrap_err().code(), Code::InvalidArgument);
}

/// WAPI-30, WAPI-31, WAPI-32, WAPI-34, WAPI-55.
#[tokio::test]
async fn one_identity_may_be_asked_for_sb_16_sb_33() {
    let node = TestNode::ready().await;
    node.register("/a").await;
    node.register("/b").await;
    let all = fetch(&node, &["x"], "").await.unwrap();
    assert_eq!(all.len(), 2);
    let again = fetch(&node, &["x"], "").await.unwrap();
    let order = |svids: &[Jwtsvid]| svids.iter().map(|svid| svid.spiffe_id.clone()).collect::<Vec<_>>();
    assert_eq!(order(&all), order(&again));
    let one = fetch(&node, &["x"], "spiffe://example.org/b").await.unwrap();
    assert_eq!(order(&one), ["spiffe://example.org/b"]);
    for (asked, code) in [
        ("spiffe://example.org/c", Code::PermissionDenied),
        ("spiffe://other.example/a", Code::PermissionDenied),
        ("spiffe://example.org/a/", Code::InvalidArgument),
        ("http://example.org/a", Code::InvalidArgument),
    ] {
        assert_eq!(fetch(&node, &["x"], asked).await.unwrap_err().code(), code, "{asked}");
    }
}

/// JWT-18.
#[tokio::test]
async fn a_caller_may_ask_for_a_shorter_life_and_never_gets_a_longer_one() {
    let node = TestNode::ready().await;
    let mut short = entry("/w", &[("unix", &own_path_selector())]);
    short.jwt_svid_ttl = 60;
    node.create(short).await.unwrap();
    assert_eq!(life(&fetch_for(&node, "20").await.unwrap()), 20);
    assert_eq!(life(&fetch_for(&node, "1m").await.unwrap()), 60);
    assert_eq!(life(&fetch_for(&node, "1h").await.unwrap()), 60);
    for wrong in ["0", "-5", "soon", "1.5s"] {
        assert_eq!(fetch_for(&node, wrong).await.unwrap_err(), Code::InvalidArgument, "{wrong}");
    }
}

/// WAPI-40, WAPI-41.
#[tokio::test]
async fn a_good_token_is_validated_with_its_claims_sb_18() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    let token = fetch(&node, &["one", "two"], "").await.unwrap().remove(0).svid;
    let (spiffe_id, claims) = validate(&node, "two", &token).await.unwrap();
    assert_eq!(spiffe_id, "spiffe://example.org/w");
    for claim in ["sub", "aud", "exp"] {
        assert!(claims.fields.contains_key(claim), "{claim}");
    }
}

/// WAPI-14, WAPI-40.
#[tokio::test]
async fn a_bad_token_is_an_invalid_argument_and_names_nobody_sb_19() {
    let node = TestNode::ready().await;
    node.register("/w").await;
    let token = fetch(&node, &["one"], "").await.unwrap().remove(0).svid;
    let parts: Vec<&str> = token.split('.').collect();
    let with_header = |header: &str| format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), parts[1], parts[2]);
    let kid = part(&token, 0)["kid"].as_str().unwrap().to_owned();
    let foreign = claims(&token).to_string().replace("example.org", "other.example");
    let bad = [
        (String::from("three"), token.clone()),
        (String::from("one"), format!("{}.{}.", parts[0], parts[1])),
        (String::from("one"), format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([7; 64]))),
        (String::from("one"), with_header(r#"{"alg":"none"}"#)),
        (String::from("one"), with_header(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#))),
        (String::from("one"), with_header(r#"{"alg":"ES256","kid":"unknown"}"#)),
        (String::from("one"), format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(foreign), parts[2])),
        (String::from("one"), String::from("not a token")),
        (String::from("one"), String::new()),
        (String::new(), token.clone()),
        (String::from("one"), "a".repeat(20_000)),
    ];
    for (audience, token) in bad {
        let code = validate(&node, &audience, &token).await.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{audience:?} {token:.80}");
    }
}
