//! Who may ask for our bundle, and how they prove who they are: the access rules and API keys of the Federation API.
//!
//! ```text
//!   rule for a peer, if there is one ──┐
//!                                      ├──► AccessRule: mutual TLS, API keys, OAuth issuers, nothing at all
//!   rule for everybody ────────────────┘
//!   API keys: hash of the secret, peer, scopes, end ── looked up by the ID that the key itself names
//! ```
//!
//! A peer's rule stands in the place of the one for everybody, and adds nothing to it, so that what is allowed to a peer can be
//! read in one place. The decision about one call is made by the node that takes it, from this state.

mod key;
mod rule;

pub use key::{
    API_KEY_LABEL_LIMIT, API_KEY_LIFETIME_LIMIT, API_KEY_OVERLAP_LIMIT, API_KEYS_LIMIT, API_KEYS_PER_PEER_LIMIT,
    ApiKey, ApiKeyId, ApiKeyIdError, ApiKeyRotation, ApiKeySecret, ApiScope, ApiScopes, EXPIRED_API_KEY_KEPT,
    NewApiKey,
};
pub use rule::{
    ACCESS_RULES_LIMIT, ACCESS_TEXT_LIMIT, AccessRule, AccessRuleError, AccessRuleRecord, AccessSettings,
    CLAIMS_PER_ISSUER_LIMIT, IDS_PER_RULE_LIMIT, ISSUERS_PER_RULE_LIMIT, MutualTls, OAuthRule,
};

use quorate_proto_identity::TrustDomain;

use crate::state::State;

impl State {
    /// API keys, expired ones too until they are removed, in the order of their IDs.
    pub fn api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.api_keys.values()
    }

    /// The API key with this ID.
    #[must_use]
    pub fn api_key(&self, id: &ApiKeyId) -> Option<&ApiKey> {
        self.api_keys.get(id)
    }

    /// The rules that were set: the one for everybody first, if it was, then those for peers in the order of their names.
    pub fn access_rules(&self) -> impl Iterator<Item = &AccessRuleRecord> {
        self.access_rules.values()
    }

    /// The rule that was set for a peer, or for everybody; none where the default holds.
    #[must_use]
    pub fn access_rule(&self, peer: Option<&TrustDomain>) -> Option<&AccessRuleRecord> {
        self.access_rules.get(&peer.cloned())
    }

    /// The rule that holds for a peer: its own, or that for everybody, or the default. For somebody of whom it is not known
    /// which trust domain it belongs to, the latter two.
    #[must_use]
    pub fn access_for(&self, peer: Option<&TrustDomain>) -> AccessRule {
        let own = peer.and_then(|peer| self.access_rule(Some(peer)));
        own.or_else(|| self.access_rule(None)).map(|record| record.rule.clone()).unwrap_or_default()
    }

    /// What else is settled about who is answered.
    #[must_use]
    pub fn access_settings(&self) -> AccessSettings {
        self.access_settings.get(&()).copied().unwrap_or_default()
    }
}
