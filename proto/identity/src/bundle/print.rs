//! Bundle documents written: the SPIFFE form (F3) and the plain JWK Set of the Workload API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::Bundle;
use super::jwk::to_jwk;
use crate::jwt_svid::JwsAlgorithm;

impl Bundle {
    /// The SPIFFE bundle document: authorities with their `use`, sequence, hint (BND-17, BND-22 to BND-25, X509-35 to
    /// X509-40, JWT-23 to JWT-25).
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Object(self.to_object(true)).to_string()
    }

    /// The JWT authorities as a plain JWK Set, as `FetchJWTBundles` hands it out: without `use`, which generic
    /// libraries refuse when they do not know its value, and without `spiffe_*` members (A-17, WAPI-36).
    #[must_use]
    pub fn jwt_key_set_json(&self) -> String {
        let keys: Vec<Value> = self
            .jwt_authorities()
            .iter()
            .map(|authority| {
                let mut jwk = to_jwk(&authority.public_key);
                jwk.insert("kid".to_owned(), json!(authority.key_id));
                Value::Object(jwk)
            })
            .collect();
        json!({ "keys": keys }).to_string()
    }

    /// The JWT authorities as those who rely on OpenID Connect read them: a JWK Set in which each key says that it signs,
    /// and with which algorithm (RFC 7517 sections 4.2, 4.4 and 4.5).
    #[must_use]
    pub fn openid_key_set_json(&self) -> String {
        let keys: Vec<Value> = self
            .jwt_authorities()
            .iter()
            .filter_map(|authority| {
                let algorithm = JwsAlgorithm::signed_by(authority.public_key.kind())?;
                let mut jwk = to_jwk(&authority.public_key);
                jwk.insert("kid".to_owned(), json!(authority.key_id));
                jwk.insert("use".to_owned(), json!("sig"));
                jwk.insert("alg".to_owned(), json!(algorithm.name()));
                Some(Value::Object(jwk))
            })
            .collect();
        json!({ "keys": keys }).to_string()
    }

    /// The document as an object; inside a bundle map it has no hint (BND-31).
    pub(super) fn to_object(&self, with_hint: bool) -> Map<String, Value> {
        let x509 = self.x509_authorities().iter().map(|certificate| {
            let mut jwk = to_jwk(certificate.public_key());
            jwk.insert("use".to_owned(), json!("x509-svid"));
            jwk.insert("x5c".to_owned(), json!([STANDARD.encode(certificate.der())]));
            Value::Object(jwk)
        });
        let jwt = self.jwt_authorities().iter().map(|authority| {
            let mut jwk = to_jwk(&authority.public_key);
            jwk.insert("use".to_owned(), json!("jwt-svid"));
            jwk.insert("kid".to_owned(), json!(authority.key_id));
            Value::Object(jwk)
        });
        let mut document = Map::new();
        document.insert("keys".to_owned(), x509.chain(jwt).collect());
        if let Some(sequence) = self.sequence() {
            document.insert("spiffe_sequence".to_owned(), json!(sequence));
        }
        if let Some(hint) = self.refresh_hint().filter(|_| with_hint) {
            document.insert("spiffe_refresh_hint".to_owned(), json!(hint));
        }
        document
    }
}
