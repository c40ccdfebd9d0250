//! The two documents, rendered.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;
use quorate_proto_identity::{Bundle, JwtAuthority, PublicKey, TrustDomain};
use quorate_raft_machine::BundleContent;
use serde_json::json;

/// How many bytes of a document's SHA-256 make its tag.
const TAG_BYTES: usize = 16;

/// Path of the discovery document behind the issuer (OpenID Connect Discovery 1.0, section 4).
pub(super) const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";

/// Path of the key set behind the issuer.
pub(super) const KEYS_PATH: &str = "/keys";

/// The discovery document of an issuer.
///
/// We have no authorization endpoint, and the standard wants one from those who have: SPIRE's provider writes an empty one,
/// because some who rely on it look for the member, and so do we. The algorithms are all that a token key of ours may sign
/// with, so that the document does not change with a rotation.
pub(super) fn configuration(issuer: &str) -> String {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}{KEYS_PATH}"),
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384"],
    })
    .to_string()
}

/// The keys of the bundle, prepared ones too: who relies on us has a key before the first token that it signs.
pub(super) fn key_set(trust_domain: TrustDomain, content: &BundleContent) -> String {
    let mut bundle = Bundle::new(trust_domain);
    for key in &content.jwt_authorities {
        match PublicKey::from_spki_der(&key.public_key) {
            Ok(public_key) => {
                bundle.add_jwt_authority(JwtAuthority { key_id: key.id.to_string(), public_key });
            }
            // The state checked it when it was prepared.
            Err(error) => tracing::error!(authority_id = %key.id, %error, "a token key cannot be published"),
        }
    }
    bundle.openid_key_set_json()
}

/// A strong tag that is the same at every node.
pub(super) fn entity_tag(body: &[u8]) -> HeaderValue {
    let mut tag = String::from("\"");
    for byte in digest(&SHA256, body).as_ref().iter().take(TAG_BYTES) {
        // Writing into a string cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}
