use quorate_proto_identity::TrustDomain;
use serde_json::Value;

use super::*;

#[test]
fn the_discovery_document_names_the_issuer_as_it_is_in_tokens_and_the_keys_below_it() {
    let document: Value = serde_json::from_str(&configuration("https://oidc.example.org/a")).unwrap();
    assert_eq!(document["issuer"], "https://oidc.example.org/a");
    assert_eq!(document["jwks_uri"], "https://oidc.example.org/a/keys");
    assert_eq!(document["id_token_signing_alg_values_supported"], serde_json::json!(["RS256", "ES256", "ES384"]));
}

#[test]
fn an_empty_bundle_has_an_empty_key_set() {
    let domain = TrustDomain::new("example.org").unwrap();
    assert_eq!(key_set(domain, &quorate_raft_machine::BundleContent::default()), r#"{"keys":[]}"#);
}

#[test]
fn a_reader_that_has_the_document_is_told_so() {
    let rendered = Rendered::new("{}".to_owned());
    let ask = |tags: &[&str]| {
        let mut headers = HeaderMap::new();
        for tag in tags {
            headers.append(IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
        }
        document(&headers, &rendered, JSON, 300)
    };
    let tag = rendered.tag.to_str().unwrap();
    let whole = ask(&[]);
    assert_eq!(
        (whole.status(), &whole.headers()[CACHE_CONTROL]),
        (StatusCode::OK, &HeaderValue::from_static("public, max-age=300"))
    );
    assert_eq!(ask(&["\"other\""]).status(), StatusCode::OK);
    for tags in [vec![tag], vec!["\"other\"", tag], vec![&format!("\"a\", W/{tag}")], vec!["*"]] {
        let same = ask(&tags);
        assert_eq!((same.status(), &same.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &rendered.tag), "{tags:?}");
    }
}
