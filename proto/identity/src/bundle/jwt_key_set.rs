//! A plain JWK Set read, as `FetchJWTBundles` hands it out: what a client of the Workload API needs to verify tokens
//! by itself.

use serde_json::{Map, Value, json};

use super::Bundle;
use super::parse::{BUNDLE_LIMIT, BundleError, ParsedBundle, from_object};
use crate::json;
use crate::trust_domain::TrustDomain;

impl Bundle {
    /// Reads the JWT keys of a trust domain out of a plain JWK Set.
    ///
    /// A key without `use` is taken for one that signs JWT-SVIDs, since such a set holds no others (WAPI-35); a key of
    /// another use is skipped and listed (A-17, WAPI-38).
    ///
    /// # Errors
    /// When the set as a whole is at fault.
    pub fn parse_jwt_key_set(trust_domain: &TrustDomain, document: &[u8]) -> Result<ParsedBundle, BundleError> {
        if document.len() > BUNDLE_LIMIT {
            return Err(BundleError::TooLong { length: document.len() });
        }
        let mut set = json::parse_object(document)?;
        let keys = set.get_mut("keys").and_then(Value::as_array_mut).ok_or(BundleError::Keys)?;
        keys.iter_mut().filter_map(Value::as_object_mut).for_each(name_use);
        // Members of the SPIFFE form mean nothing in a plain set.
        let keys = set.remove("keys").unwrap_or_default();
        from_object(trust_domain, &Map::from_iter([("keys".to_owned(), keys)]))
    }
}

fn name_use(key: &mut Map<String, Value>) {
    match key.get("use").and_then(Value::as_str) {
        None if !key.contains_key("use") => {
            key.insert("use".to_owned(), json!("jwt-svid"));
        }
        Some("jwt-svid") => {}
        // Whatever else it is for, it is not for tokens here; the reader skips a use that it does not know.
        None | Some(_) => {
            key.insert("use".to_owned(), Value::Null);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::JwtAuthority;
    use crate::key::{KeyType, PrivateKey};

    fn bundle() -> Bundle {
        let mut bundle = Bundle::new(TrustDomain::new("example.org").unwrap());
        let public_key = PrivateKey::generate(KeyType::EcP256).unwrap().public_key().clone();
        bundle.add_jwt_authority(JwtAuthority { key_id: "k1".into(), public_key });
        bundle
    }

    #[test]
    fn what_the_workload_api_hands_out_reads_back() {
        let bundle = bundle();

        let read = Bundle::parse_jwt_key_set(bundle.trust_domain(), bundle.jwt_key_set_json().as_bytes()).unwrap();

        assert_eq!(read.bundle, bundle);
        assert!(read.skipped.is_empty());
    }

    #[test]
    fn a_key_of_another_use_is_skipped_a_17() {
        let bundle = bundle();
        for (purpose, taken) in [("jwt-svid", 1), ("wit-svid", 0), ("x509-svid", 0), ("sig", 0)] {
            let set = bundle.jwt_key_set_json().replacen("\"kid\"", &format!("\"use\":\"{purpose}\",\"kid\""), 1);

            let read = Bundle::parse_jwt_key_set(bundle.trust_domain(), set.as_bytes()).unwrap();

            assert_eq!(read.bundle.jwt_authorities().len(), taken, "{purpose}");
        }
    }

    #[test]
    fn a_set_without_keys_is_refused() {
        let trust_domain = TrustDomain::new("example.org").unwrap();

        for document in ["{}", "{\"keys\":{}}", "[]", "nonsense"] {
            assert!(Bundle::parse_jwt_key_set(&trust_domain, document.as_bytes()).is_err(), "{document}");
        }
    }
}
