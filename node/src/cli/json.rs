//! JSON as the SPIRE CLI prints it: protobuf's JSON form with the names of the `.proto` files, everything present.
//!
//! 64-bit numbers are strings, bytes are base64, and what is unset is there too, but for fields with a presence of
//! their own. Structs and not maps, so that fields keep the order of the messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_proto_api::spire::types;
use serde::{Serialize, Serializer};

/// Bytes as base64.
#[derive(Debug)]
pub(crate) struct Base64<'a>(pub(crate) &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

/// A number of 64 bits as a string: JavaScript's numbers would round it.
#[derive(Debug)]
pub(crate) struct Wide<T>(pub(crate) T);

impl<T: ToString> Serialize for Wide<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

/// `spire.api.types.SPIFFEID`
#[derive(Debug, Serialize)]
pub(crate) struct SpiffeIdJson<'a> {
    trust_domain: &'a str,
    path: &'a str,
}

impl<'a> From<&'a types::Spiffeid> for SpiffeIdJson<'a> {
    fn from(id: &'a types::Spiffeid) -> Self {
        let types::Spiffeid { trust_domain, path } = id;
        Self { trust_domain, path }
    }
}

/// `spire.api.types.Selector`
#[derive(Debug, Serialize)]
struct SelectorJson<'a> {
    r#type: &'a str,
    value: &'a str,
}

/// `spire.api.types.Entry.AdditionalAttributes`
#[derive(Debug, Serialize)]
struct AttributesJson {
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

/// `spire.api.types.Entry`
#[derive(Debug, Serialize)]
pub(crate) struct EntryJson<'a> {
    id: &'a str,
    spiffe_id: Option<SpiffeIdJson<'a>>,
    parent_id: Option<SpiffeIdJson<'a>>,
    selectors: Vec<SelectorJson<'a>>,
    x509_svid_ttl: i32,
    federates_with: &'a [String],
    admin: bool,
    downstream: bool,
    expires_at: Wide<i64>,
    dns_names: &'a [String],
    revision_number: Wide<i64>,
    store_svid: bool,
    jwt_svid_ttl: i32,
    hint: &'a str,
    created_at: Wide<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_attributes: Option<AttributesJson>,
}

impl<'a> From<&'a types::Entry> for EntryJson<'a> {
    fn from(entry: &'a types::Entry) -> Self {
        let selector = |selector: &'a types::Selector| {
            let types::Selector { r#type, value } = selector;
            SelectorJson { r#type, value }
        };
        let attributes = |attributes: &types::entry::AdditionalAttributes| {
            let types::entry::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti } = *attributes;
            AttributesJson { disable_x509_svid_prefetch, jwt_svid_include_jti }
        };
        Self {
            id: &entry.id,
            spiffe_id: entry.spiffe_id.as_ref().map(Into::into),
            parent_id: entry.parent_id.as_ref().map(Into::into),
            selectors: entry.selectors.iter().map(selector).collect(),
            x509_svid_ttl: entry.x509_svid_ttl,
            federates_with: &entry.federates_with,
            admin: entry.admin,
            downstream: entry.downstream,
            expires_at: Wide(entry.expires_at),
            dns_names: &entry.dns_names,
            revision_number: Wide(entry.revision_number),
            store_svid: entry.store_svid,
            jwt_svid_ttl: entry.jwt_svid_ttl,
            hint: &entry.hint,
            created_at: Wide(entry.created_at),
            additional_attributes: entry.additional_attributes.as_ref().map(attributes),
        }
    }
}

/// `spire.api.types.Status`
#[derive(Debug, Serialize)]
pub(crate) struct StatusJson<'a> {
    code: i32,
    message: &'a str,
}

impl<'a> From<&'a types::Status> for StatusJson<'a> {
    fn from(status: &'a types::Status) -> Self {
        let types::Status { code, message } = status;
        Self { code: *code, message }
    }
}

/// `spire.api.types.X509Certificate`
#[derive(Debug, Serialize)]
struct CertificateJson<'a> {
    asn1: Base64<'a>,
    tainted: bool,
}

/// `spire.api.types.JWTKey`, and `WITKey`, which has the same fields
#[derive(Debug, Serialize)]
struct KeyJson<'a> {
    public_key: Base64<'a>,
    key_id: &'a str,
    expires_at: Wide<i64>,
    tainted: bool,
}

/// `spire.api.types.Bundle`
#[derive(Debug, Serialize)]
pub(crate) struct BundleJson<'a> {
    trust_domain: &'a str,
    x509_authorities: Vec<CertificateJson<'a>>,
    jwt_authorities: Vec<KeyJson<'a>>,
    refresh_hint: Wide<i64>,
    sequence_number: Wide<u64>,
    wit_authorities: Vec<KeyJson<'a>>,
}

impl<'a> From<&'a types::Bundle> for BundleJson<'a> {
    fn from(bundle: &'a types::Bundle) -> Self {
        let certificate = |certificate: &'a types::X509Certificate| {
            let types::X509Certificate { asn1, tainted } = certificate;
            CertificateJson { asn1: Base64(asn1), tainted: *tainted }
        };
        let jwt_key = |key: &'a types::JwtKey| {
            let types::JwtKey { public_key, key_id, expires_at, tainted } = key;
            KeyJson { public_key: Base64(public_key), key_id, expires_at: Wide(*expires_at), tainted: *tainted }
        };
        let wit_key = |key: &'a types::WitKey| {
            let types::WitKey { public_key, key_id, expires_at, tainted } = key;
            KeyJson { public_key: Base64(public_key), key_id, expires_at: Wide(*expires_at), tainted: *tainted }
        };
        Self {
            trust_domain: &bundle.trust_domain,
            x509_authorities: bundle.x509_authorities.iter().map(certificate).collect(),
            jwt_authorities: bundle.jwt_authorities.iter().map(jwt_key).collect(),
            refresh_hint: Wide(bundle.refresh_hint),
            sequence_number: Wide(bundle.sequence_number),
            wit_authorities: bundle.wit_authorities.iter().map(wit_key).collect(),
        }
    }
}

/// `spire.api.types.X509SVID`
#[derive(Debug, Serialize)]
pub(crate) struct X509SvidJson<'a> {
    cert_chain: Vec<Base64<'a>>,
    id: Option<SpiffeIdJson<'a>>,
    expires_at: Wide<i64>,
    hint: &'a str,
}

impl<'a> From<&'a types::X509svid> for X509SvidJson<'a> {
    fn from(svid: &'a types::X509svid) -> Self {
        let types::X509svid { cert_chain, id, expires_at, hint } = svid;
        Self {
            cert_chain: cert_chain.iter().map(|certificate| Base64(certificate)).collect(),
            id: id.as_ref().map(Into::into),
            expires_at: Wide(*expires_at),
            hint,
        }
    }
}

/// `spire.api.types.JWTSVID`. Its token is what was asked for, so it is printed.
#[derive(Serialize)]
pub(crate) struct JwtSvidJson<'a> {
    token: &'a str,
    id: Option<SpiffeIdJson<'a>>,
    expires_at: Wide<i64>,
    issued_at: Wide<i64>,
    hint: &'a str,
}

impl<'a> From<&'a types::Jwtsvid> for JwtSvidJson<'a> {
    fn from(svid: &'a types::Jwtsvid) -> Self {
        let types::Jwtsvid { token, id, expires_at, issued_at, hint } = svid;
        Self {
            token,
            id: id.as_ref().map(Into::into),
            expires_at: Wide(*expires_at),
            issued_at: Wide(*issued_at),
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_printed_as_protobuf_prints_json() {
        let entry = types::Entry {
            id: "e".into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "example.org".into(), path: "/web".into() }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
            x509_svid_ttl: 60,
            created_at: 1_700_000_000,
            ..types::Entry::default()
        };
        let json = serde_json::to_string(&EntryJson::from(&entry)).unwrap();
        assert_eq!(
            json,
            "{\"id\":\"e\",\"spiffe_id\":{\"trust_domain\":\"example.org\",\"path\":\"/web\"},\"parent_id\":null,\
             \"selectors\":[{\"type\":\"unix\",\"value\":\"uid:1\"}],\"x509_svid_ttl\":60,\"federates_with\":[],\
             \"admin\":false,\"downstream\":false,\"expires_at\":\"0\",\"dns_names\":[],\"revision_number\":\"0\",\
             \"store_svid\":false,\"jwt_svid_ttl\":0,\"hint\":\"\",\"created_at\":\"1700000000\"}"
        );
    }

    #[test]
    fn bytes_are_base64_and_wide_numbers_are_strings() {
        let bundle = types::Bundle {
            trust_domain: "example.org".into(),
            x509_authorities: vec![types::X509Certificate { asn1: vec![0xff, 0xfe].into(), tainted: false }],
            sequence_number: u64::MAX,
            ..types::Bundle::default()
        };
        let json = serde_json::to_value(BundleJson::from(&bundle)).unwrap();
        assert_eq!(json["x509_authorities"][0]["asn1"], "//4=");
        assert_eq!(json["sequence_number"], "18446744073709551615");
    }
}
