//! Who may ask for our bundle: API keys, rules and settings.

use quorate_proto_identity::{TrustDomain, UnixSeconds};

use crate::access::{
    ACCESS_RULES_LIMIT, API_KEY_LABEL_LIMIT, API_KEY_LIFETIME_LIMIT, API_KEY_OVERLAP_LIMIT, API_KEYS_LIMIT,
    API_KEYS_PER_PEER_LIMIT, AccessRule, AccessRuleRecord, AccessSettings, ApiKey, ApiKeyId, ApiKeyRotation,
    ApiKeySecret, NewApiKey,
};
use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;

impl State {
    /// Makes an API key.
    pub(super) fn create_api_key(
        &mut self,
        new: &NewApiKey,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let NewApiKey { id, peer, scopes, label, secret } = new;
        self.check_peer(peer)?;
        if scopes.is_empty() {
            return Err(Refusal::invalid("the API key may be used for nothing: give it a scope"));
        }
        if label.len() > API_KEY_LABEL_LIMIT || label.chars().any(char::is_control) {
            return Err(Refusal::invalid(format!(
                "the label of an API key has at most {API_KEY_LABEL_LIMIT} bytes and no control characters"
            )));
        }
        self.check_secret(secret, now)?;
        if self.api_key(id).is_some() {
            return Err(Refusal::new(RefusalCode::AlreadyExists, format!("there is an API key {id}: draw another ID")));
        }
        self.prune_api_keys(now);
        let of_peer = self.api_keys().filter(|key| key.peer == *peer).count();
        if self.api_keys.len() >= API_KEYS_LIMIT || of_peer >= API_KEYS_PER_PEER_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!(
                    "there are {} API keys, {of_peer} of them of {peer}; the most are {API_KEYS_LIMIT} and \
                     {API_KEYS_PER_PEER_LIMIT}: delete some first",
                    self.api_keys.len()
                ),
            ));
        }
        let key = ApiKey {
            id: id.clone(),
            peer: peer.clone(),
            scopes: scopes.clone(),
            label: label.clone(),
            secret: secret.clone(),
            former: None,
            created_at: now,
            rotated_at: now,
        };
        self.api_keys.put(id.clone(), key);
        events.push(Event::AccessChanged);
        Ok(Done::ApiKeySet { id: id.clone(), expires_at: secret.expires_at })
    }

    /// Gives an API key another secret; the present one is taken for some time more.
    pub(super) fn rotate_api_key(
        &mut self,
        rotation: &ApiKeyRotation,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let ApiKeyRotation { id, secret, overlap } = rotation;
        let Some(mut key) = self.api_key(id).cloned() else { return Err(no_key(id)) };
        let overlap = i64::from(*overlap);
        if overlap > API_KEY_OVERLAP_LIMIT {
            return Err(Refusal::invalid(format!(
                "both secrets would be taken for {overlap} s, the most is {API_KEY_OVERLAP_LIMIT} s"
            )));
        }
        self.check_secret(secret, now)?;
        let former = std::mem::replace(&mut key.secret, secret.clone());
        let until = now.plus(overlap).min(former.expires_at);
        key.former = (until > now).then_some(ApiKeySecret { expires_at: until, ..former });
        key.rotated_at = now;
        self.api_keys.put(id.clone(), key);
        events.push(Event::AccessChanged);
        Ok(Done::ApiKeySet { id: id.clone(), expires_at: secret.expires_at })
    }

    /// Deletes an API key. It is not taken from here on.
    pub(super) fn delete_api_key(&mut self, id: &ApiKeyId, events: &mut Vec<Event>) -> OperationResult {
        if self.api_keys.remove(id).is_none() {
            return Err(no_key(id));
        }
        events.push(Event::AccessChanged);
        Ok(Done::ApiKeyDeleted { id: id.clone() })
    }

    /// Sets a rule, or takes it away, so that the one for everybody or the default holds.
    pub(super) fn set_access_rule(
        &mut self,
        peer: Option<&TrustDomain>,
        rule: Option<&AccessRule>,
        expected_revision: u64,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let present = self.access_rule(peer).map_or(0, |record| record.revision);
        if expected_revision != 0 && expected_revision != present {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!(
                    "the rule has revision {present}, the change was made from {expected_revision}: look at it again"
                ),
            ));
        }
        let key = peer.cloned();
        let Some(rule) = rule else {
            if self.access_rules.remove(&key).is_none() {
                return Err(Refusal::not_found("no such access rule was set"));
            }
            events.push(Event::AccessChanged);
            return Ok(Done::AccessSet { revision: 0 });
        };
        if let Some(peer) = peer {
            self.check_peer(peer)?;
        }
        rule.check(peer).map_err(|error| Refusal::invalid(with_source(&error)))?;
        if present == 0 && self.access_rules.len() >= ACCESS_RULES_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("there are {ACCESS_RULES_LIMIT} access rules, which is the most: take some away first"),
            ));
        }
        let revision = present.saturating_add(1);
        let record = AccessRuleRecord { peer: key.clone(), rule: rule.clone(), revision, changed_at: now };
        self.access_rules.put(key, record);
        events.push(Event::AccessChanged);
        Ok(Done::AccessSet { revision })
    }

    /// Settles whether the bundle endpoint answers everybody.
    pub(super) fn set_access_settings(&mut self, anonymous_endpoint: bool, events: &mut Vec<Event>) -> OperationResult {
        let present = self.access_settings();
        if present.anonymous_endpoint == anonymous_endpoint {
            return Ok(Done::AccessSet { revision: present.revision });
        }
        let revision = present.revision.saturating_add(1);
        self.access_settings.put((), AccessSettings { anonymous_endpoint, revision });
        events.push(Event::AccessChanged);
        Ok(Done::AccessSet { revision })
    }

    /// Our own trust domain asks nobody for its bundle.
    fn check_peer(&self, peer: &TrustDomain) -> Result<(), Refusal> {
        if self.cluster().is_some_and(|cluster| cluster.trust_domain == *peer) {
            return Err(Refusal::invalid(format!("{peer} is this trust domain itself, not a peer")));
        }
        Ok(())
    }

    /// A secret lives for a bounded time, and is nobody else's.
    fn check_secret(&self, secret: &ApiKeySecret, now: UnixSeconds) -> Result<(), Refusal> {
        let life = secret.expires_at.since(now);
        if !(1..=API_KEY_LIFETIME_LIMIT).contains(&life) {
            return Err(Refusal::invalid(format!(
                "the API key would live for {life} s, it must be 1 to {API_KEY_LIFETIME_LIMIT} s"
            )));
        }
        let has_it = |key: &ApiKey| {
            key.secret.hash == secret.hash || key.former.as_ref().is_some_and(|former| former.hash == secret.hash)
        };
        if self.api_keys().any(has_it) {
            return Err(Refusal::invalid("the secret of the API key was used before: draw another one"));
        }
        Ok(())
    }

    fn prune_api_keys(&mut self, now: UnixSeconds) {
        let gone: Vec<ApiKeyId> =
            self.api_keys().filter(|key| key.is_prunable(now)).map(|key| key.id.clone()).collect();
        for id in gone {
            self.api_keys.remove(&id);
        }
    }
}

fn no_key(id: &ApiKeyId) -> Refusal {
    Refusal::not_found(format!("there is no API key {id}"))
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
