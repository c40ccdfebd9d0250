//! Stored forms of API keys, access rules and settings. Version 1, 2026-11-23.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{TrustDomain, UnixSeconds};

use super::membership::secret_hash;
use super::{StoredError, at_most, kind, known, present, spiffe_id, to_bytes, trust_domain, valid};
use crate::access::{
    AccessRule, AccessRuleRecord, AccessSettings, ApiKey, ApiKeyId, ApiKeyRotation, ApiKeySecret, ApiScope, ApiScopes,
    IDS_PER_RULE_LIMIT, ISSUERS_PER_RULE_LIMIT, MutualTls, NewApiKey, OAuthRule,
};
use crate::command::Operation;
use crate::objects::Object;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredApiKeySecret {
    #[prost(bytes = "bytes", tag = "1")]
    hash: Bytes,
    #[prost(int64, tag = "2")]
    expires_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewApiKey {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    peer: String,
    #[prost(uint32, repeated, tag = "3")]
    scopes: Vec<u32>,
    #[prost(string, tag = "4")]
    label: String,
    #[prost(message, optional, tag = "5")]
    secret: Option<StoredApiKeySecret>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredApiKey {
    #[prost(message, optional, tag = "1")]
    key: Option<StoredNewApiKey>,
    #[prost(message, optional, tag = "2")]
    former: Option<StoredApiKeySecret>,
    #[prost(int64, tag = "3")]
    created_at: i64,
    #[prost(int64, tag = "4")]
    rotated_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRotation {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    secret: Option<StoredApiKeySecret>,
    #[prost(uint32, tag = "3")]
    overlap: u32,
}

/// How mutual TLS is stored: numbers that never change meaning.
const TLS_OFF: u32 = 1;
const TLS_ANY_ID: u32 = 2;
const TLS_IDS: u32 = 3;

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredRule {
    #[prost(uint32, tag = "1")]
    mutual_tls: u32,
    #[prost(string, repeated, tag = "2")]
    ids: Vec<String>,
    #[prost(bool, tag = "3")]
    api_keys: bool,
    #[prost(message, repeated, tag = "4")]
    oauth: Vec<StoredOAuth>,
    #[prost(bool, tag = "5")]
    anonymous: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOAuth {
    #[prost(string, tag = "1")]
    issuer: String,
    #[prost(string, tag = "2")]
    audience: String,
    #[prost(string, tag = "3")]
    scope: String,
    #[prost(btree_map = "string, string", tag = "4")]
    claims: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRuleRecord {
    #[prost(string, tag = "1")]
    peer: String,
    #[prost(message, optional, tag = "2")]
    rule: Option<StoredRule>,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(int64, tag = "4")]
    changed_at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSetRule {
    #[prost(string, tag = "1")]
    peer: String,
    #[prost(message, optional, tag = "2")]
    rule: Option<StoredRule>,
    #[prost(uint64, tag = "3")]
    expected_revision: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct StoredSettings {
    #[prost(bool, tag = "1")]
    anonymous_endpoint: bool,
    #[prost(uint64, tag = "2")]
    revision: u64,
}

fn api_key_id(text: &str) -> Result<ApiKeyId, StoredError> {
    valid(ApiKeyId::new(text), "ID of an API key")
}

/// The ID in a stored outcome.
pub(super) fn done_id(text: &str) -> Result<ApiKeyId, StoredError> {
    api_key_id(text)
}

/// Everybody is stored as nobody's name.
fn peer_text(peer: Option<&TrustDomain>) -> String {
    peer.map(ToString::to_string).unwrap_or_default()
}

fn to_peer(text: &str) -> Result<Option<TrustDomain>, StoredError> {
    if text.is_empty() { Ok(None) } else { trust_domain(text).map(Some) }
}

fn from_secret(secret: &ApiKeySecret) -> StoredApiKeySecret {
    let ApiKeySecret { hash, expires_at } = secret;
    StoredApiKeySecret { hash: Bytes::copy_from_slice(hash), expires_at: expires_at.0 }
}

fn to_secret(stored: &StoredApiKeySecret) -> Result<ApiKeySecret, StoredError> {
    let StoredApiKeySecret { hash, expires_at } = stored;
    Ok(ApiKeySecret { hash: secret_hash(hash)?, expires_at: UnixSeconds(*expires_at) })
}

fn from_scopes(scopes: &ApiScopes) -> Vec<u32> {
    scopes.iter().map(|scope| *scope as u32).collect()
}

fn to_scopes(stored: &[u32]) -> Result<ApiScopes, StoredError> {
    at_most(stored, ApiScope::ALL.len(), "scopes of an API key")?;
    stored.iter().map(|number| known(ApiScope::from_number(*number), "scope of an API key")).collect()
}

pub(super) fn from_new_key(new: &NewApiKey) -> StoredNewApiKey {
    let NewApiKey { id, peer, scopes, label, secret } = new;
    StoredNewApiKey {
        id: id.to_string(),
        peer: peer.to_string(),
        scopes: from_scopes(scopes),
        label: label.clone(),
        secret: Some(from_secret(secret)),
    }
}

pub(super) fn to_new_key(stored: StoredNewApiKey) -> Result<NewApiKey, StoredError> {
    let StoredNewApiKey { id, peer, scopes, label, secret } = stored;
    Ok(NewApiKey {
        id: api_key_id(&id)?,
        peer: trust_domain(&peer)?,
        scopes: to_scopes(&scopes)?,
        label,
        secret: to_secret(&present(secret, "secret of an API key")?)?,
    })
}

pub(super) fn from_rotation(rotation: &ApiKeyRotation) -> StoredRotation {
    let ApiKeyRotation { id, secret, overlap } = rotation;
    StoredRotation { id: id.to_string(), secret: Some(from_secret(secret)), overlap: *overlap }
}

pub(super) fn to_rotation(stored: StoredRotation) -> Result<ApiKeyRotation, StoredError> {
    let StoredRotation { id, secret, overlap } = stored;
    let secret = to_secret(&present(secret, "secret of an API key")?)?;
    Ok(ApiKeyRotation { id: api_key_id(&id)?, secret, overlap })
}

/// The stored form of the name that a key is deleted by.
pub(super) fn to_delete_key(id: &str) -> Result<Operation, StoredError> {
    Ok(Operation::DeleteApiKey { id: api_key_id(id)? })
}

fn from_rule(rule: &AccessRule) -> StoredRule {
    let AccessRule { mutual_tls, api_keys, oauth, anonymous } = rule;
    let (mutual_tls, ids) = match mutual_tls {
        MutualTls::Off => (TLS_OFF, Vec::new()),
        MutualTls::AnyId => (TLS_ANY_ID, Vec::new()),
        MutualTls::Ids(ids) => (TLS_IDS, ids.iter().map(ToString::to_string).collect()),
    };
    let oauth = oauth.iter().map(|rule| {
        let OAuthRule { issuer, audience, scope, claims } = rule.clone();
        StoredOAuth { issuer, audience, scope, claims }
    });
    StoredRule { mutual_tls, ids, api_keys: *api_keys, oauth: oauth.collect(), anonymous: *anonymous }
}

fn to_rule(stored: StoredRule) -> Result<AccessRule, StoredError> {
    let StoredRule { mutual_tls, ids, api_keys, oauth, anonymous } = stored;
    at_most(&ids, IDS_PER_RULE_LIMIT, "SPIFFE IDs of an access rule")?;
    at_most(&oauth, ISSUERS_PER_RULE_LIMIT, "token issuers of an access rule")?;
    let mutual_tls = match mutual_tls {
        TLS_OFF => MutualTls::Off,
        TLS_ANY_ID => MutualTls::AnyId,
        TLS_IDS => {
            let ids: Result<BTreeSet<_>, _> =
                ids.iter().map(|id| spiffe_id(id, "SPIFFE ID of an access rule")).collect();
            MutualTls::Ids(ids?)
        }
        _ => return known(None, "kind of mutual TLS"),
    };
    let oauth = oauth.into_iter().map(|stored| {
        let StoredOAuth { issuer, audience, scope, claims } = stored;
        OAuthRule { issuer, audience, scope, claims }
    });
    Ok(AccessRule { mutual_tls, api_keys, oauth: oauth.collect(), anonymous })
}

pub(super) fn from_set_rule(peer: Option<&TrustDomain>, rule: Option<&AccessRule>, expected: u64) -> StoredSetRule {
    StoredSetRule { peer: peer_text(peer), rule: rule.map(from_rule), expected_revision: expected }
}

pub(super) fn to_set_rule(stored: StoredSetRule) -> Result<Operation, StoredError> {
    let StoredSetRule { peer, rule, expected_revision } = stored;
    let rule = rule.map(to_rule).transpose()?.map(Box::new);
    Ok(Operation::SetAccessRule { peer: to_peer(&peer)?, rule, expected_revision })
}

impl Object for ApiKey {
    const KIND: u8 = kind::API_KEY;

    fn stored(&self) -> Vec<u8> {
        let Self { id, peer, scopes, label, secret, former, created_at, rotated_at } = self;
        let key = StoredNewApiKey {
            id: id.to_string(),
            peer: peer.to_string(),
            scopes: from_scopes(scopes),
            label: label.clone(),
            secret: Some(from_secret(secret)),
        };
        to_bytes(&StoredApiKey {
            key: Some(key),
            former: former.as_ref().map(from_secret),
            created_at: created_at.0,
            rotated_at: rotated_at.0,
        })
    }
}

pub(crate) fn decode_api_key(bytes: Bytes) -> Result<ApiKey, StoredError> {
    let StoredApiKey { key, former, created_at, rotated_at } = StoredApiKey::decode(bytes)?;
    let NewApiKey { id, peer, scopes, label, secret } = to_new_key(present(key, "API key")?)?;
    let former = former.as_ref().map(to_secret).transpose()?;
    let (created_at, rotated_at) = (UnixSeconds(created_at), UnixSeconds(rotated_at));
    Ok(ApiKey { id, peer, scopes, label, secret, former, created_at, rotated_at })
}

impl Object for AccessRuleRecord {
    const KIND: u8 = kind::ACCESS_RULE;

    fn stored(&self) -> Vec<u8> {
        let Self { peer, rule, revision, changed_at } = self;
        to_bytes(&StoredRuleRecord {
            peer: peer_text(peer.as_ref()),
            rule: Some(from_rule(rule)),
            revision: *revision,
            changed_at: changed_at.0,
        })
    }
}

pub(crate) fn decode_rule(bytes: Bytes) -> Result<AccessRuleRecord, StoredError> {
    let StoredRuleRecord { peer, rule, revision, changed_at } = StoredRuleRecord::decode(bytes)?;
    let rule = to_rule(present(rule, "access rule")?)?;
    Ok(AccessRuleRecord { peer: to_peer(&peer)?, rule, revision, changed_at: UnixSeconds(changed_at) })
}

impl Object for AccessSettings {
    const KIND: u8 = kind::ACCESS_SETTINGS;

    fn stored(&self) -> Vec<u8> {
        let Self { anonymous_endpoint, revision } = self;
        to_bytes(&StoredSettings { anonymous_endpoint: *anonymous_endpoint, revision: *revision })
    }
}

pub(crate) fn decode_settings(bytes: Bytes) -> Result<AccessSettings, StoredError> {
    let StoredSettings { anonymous_endpoint, revision } = StoredSettings::decode(bytes)?;
    Ok(AccessSettings { anonymous_endpoint, revision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::tests::walk;

    fn secret(byte: u8) -> ApiKeySecret {
        ApiKeySecret { hash: [byte; 32], expires_at: UnixSeconds(9) }
    }

    #[test]
    fn every_field_of_an_api_key_reaches_its_stored_bytes() {
        let key = ApiKey {
            id: ApiKeyId::from_random(1),
            peer: TrustDomain::new("partner.example").unwrap(),
            scopes: ApiScopes::from([ApiScope::Get]),
            label: "l".into(),
            secret: secret(1),
            former: None,
            created_at: UnixSeconds(3),
            rotated_at: UnixSeconds(4),
        };
        walk(
            &key,
            decode_api_key,
            &[
                |key| key.id = ApiKeyId::from_random(2),
                |key| key.peer = TrustDomain::new("other.example").unwrap(),
                |key| key.scopes = ApiScopes::from([ApiScope::Watch]),
                |key| key.scopes = ApiScopes::from(ApiScope::ALL),
                |key| key.label.clear(),
                |key| key.secret = secret(2),
                |key| key.secret.expires_at = UnixSeconds(10),
                |key| key.former = Some(secret(3)),
                |key| key.created_at = UnixSeconds(5),
                |key| key.rotated_at = UnixSeconds(5),
            ],
        );
    }

    #[test]
    fn every_field_of_a_rule_and_of_the_settings_reaches_its_stored_bytes() {
        let oauth = OAuthRule {
            issuer: "https://a.example".into(),
            audience: "q".into(),
            scope: "s".into(),
            claims: BTreeMap::from([("a".into(), "b".into())]),
        };
        let rule = AccessRule { oauth: vec![oauth], ..AccessRule::default() };
        let peer = Some(TrustDomain::new("partner.example").unwrap());
        let record = AccessRuleRecord { peer, rule, revision: 2, changed_at: UnixSeconds(3) };
        walk(
            &record,
            decode_rule,
            &[
                |record| record.peer = None,
                |record| record.peer = Some(TrustDomain::new("other.example").unwrap()),
                |record| record.rule.mutual_tls = MutualTls::Off,
                |record| {
                    let id = crate::stored::spiffe_id("spiffe://partner.example/a", "ID").unwrap();
                    record.rule.mutual_tls = MutualTls::Ids(BTreeSet::from([id]));
                },
                |record| record.rule.api_keys = false,
                |record| record.rule.anonymous = true,
                |record| record.rule.oauth.clear(),
                |record| record.rule.oauth[0].issuer.push('/'),
                |record| record.rule.oauth[0].audience.push('x'),
                |record| record.rule.oauth[0].scope.clear(),
                |record| record.rule.oauth[0].claims.clear(),
                |record| record.revision = 3,
                |record| record.changed_at = UnixSeconds(4),
            ],
        );
        let settings = AccessSettings { anonymous_endpoint: true, revision: 1 };
        walk(
            &settings,
            decode_settings,
            &[|settings| settings.anonymous_endpoint = false, |settings| settings.revision = 2],
        );
    }
}
