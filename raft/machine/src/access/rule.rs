//! Access rules: by what somebody may prove who it is, and what else is settled about who is answered.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto_identity::{EndpointUrl, EndpointUrlError, SpiffeId, TrustDomain, UnixSeconds};

/// Most rules: one for each of the most relationships that there may be, and one for everybody.
pub const ACCESS_RULES_LIMIT: usize = 2_001;

/// Most SPIFFE IDs in one rule: the servers of a peer, or what asks in their place.
pub const IDS_PER_RULE_LIMIT: usize = 64;

/// Most token issuers in one rule. Each may be asked for its keys, and tokens are tried against each.
pub const ISSUERS_PER_RULE_LIMIT: usize = 8;

/// Most claims that one issuer's tokens must have.
pub const CLAIMS_PER_ISSUER_LIMIT: usize = 16;

/// Longest audience, scope, name of a claim or value of one, in bytes.
pub const ACCESS_TEXT_LIMIT: usize = 512;

/// Which X509-SVIDs of a federated trust domain are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MutualTls {
    /// None.
    Off,
    /// Every valid one.
    #[default]
    AnyId,
    /// Those with one of these SPIFFE IDs.
    Ids(BTreeSet<SpiffeId>),
}

/// Whose tokens are taken, and what must be in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthRule {
    /// The issuer, exactly as `iss` has it. Its keys are found at its `/.well-known/openid-configuration`.
    pub issuer: String,
    /// What `aud` has to name.
    pub audience: String,
    /// What `scope` has to contain, in addition; empty when nothing.
    pub scope: String,
    /// Claims that must be there with exactly these values. A claim that is a list has to contain the value.
    pub claims: BTreeMap<String, String>,
}

/// By what somebody may prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// By an X509-SVID.
    pub mutual_tls: MutualTls,
    /// By an API key.
    pub api_keys: bool,
    /// By a token.
    pub oauth: Vec<OAuthRule>,
    /// By nothing. Only in the rule for everybody: without proof nobody knows which peer it is.
    pub anonymous: bool,
}

impl Default for AccessRule {
    /// What holds until somebody sets a rule: federated peers by certificate, and holders of a key that somebody made.
    fn default() -> Self {
        Self { mutual_tls: MutualTls::AnyId, api_keys: true, oauth: Vec::new(), anonymous: false }
    }
}

/// A rule that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRuleRecord {
    /// For whom; none is for everybody without a rule of its own.
    pub peer: Option<TrustDomain>,
    /// The rule.
    pub rule: AccessRule,
    /// 1 when it was first set, one higher with each change.
    pub revision: u64,
    /// When it was last set, in the log's time.
    pub changed_at: UnixSeconds,
}

/// What is settled beside the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether the bundle endpoint answers everybody, as the standard says (FED-22, FED-37). Where not, it answers nobody,
    /// and discovery says so.
    pub anonymous_endpoint: bool,
    /// How often it was set.
    pub revision: u64,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self { anonymous_endpoint: true, revision: 0 }
    }
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessRuleError {
    /// There is too much of something.
    #[error("the rule has {length} {what}, the most is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        length: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A list of SPIFFE IDs without any: that would be mutual TLS switched off.
    #[error("the rule names no SPIFFE ID: name some, take any, or switch mutual TLS off")]
    NoIds,
    /// A SPIFFE ID that is not of the peer.
    #[error("{id} is not in the trust domain {peer}, which the rule is for")]
    OtherDomain {
        /// The ID.
        id: SpiffeId,
        /// Whom the rule is for.
        peer: TrustDomain,
    },
    /// A peer that nobody can tell.
    #[error("a rule for one peer cannot allow anonymous calls: who asks without proof is not known")]
    AnonymousPeer,
    /// The issuer is no URL that its keys can be found at.
    #[error("the issuer {issuer} is no URL whose keys can be found")]
    Issuer {
        /// The issuer.
        issuer: String,
        /// Why not.
        #[source]
        source: EndpointUrlError,
    },
    /// An issuer has no query (OpenID Connect Discovery, section 2).
    #[error("the issuer {issuer} has a query, which no issuer has")]
    IssuerQuery {
        /// The issuer.
        issuer: String,
    },
    /// An audience, scope or claim that cannot be in a token, or is too long.
    #[error("{what} is empty, longer than {ACCESS_TEXT_LIMIT} bytes, or holds a control character")]
    Text {
        /// Which text.
        what: &'static str,
    },
    /// Two token rules that say the same.
    #[error("the rule names the issuer {issuer} twice with the same audience, scope and claims")]
    Repeated {
        /// The issuer.
        issuer: String,
    },
}

impl AccessRule {
    /// Checks a rule for a peer, or for everybody.
    ///
    /// # Errors
    /// When something in it can never be met, or there is too much of it.
    pub fn check(&self, peer: Option<&TrustDomain>) -> Result<(), AccessRuleError> {
        let Self { mutual_tls, api_keys: _, oauth, anonymous } = self;
        if let MutualTls::Ids(ids) = mutual_tls {
            if ids.is_empty() {
                return Err(AccessRuleError::NoIds);
            }
            at_most(ids.len(), IDS_PER_RULE_LIMIT, "SPIFFE IDs")?;
            let is_other = |id: &&SpiffeId| peer.is_some_and(|peer| id.trust_domain() != *peer);
            if let (Some(id), Some(peer)) = (ids.iter().find(is_other), peer) {
                return Err(AccessRuleError::OtherDomain { id: id.clone(), peer: peer.clone() });
            }
        }
        if *anonymous && peer.is_some() {
            return Err(AccessRuleError::AnonymousPeer);
        }
        at_most(oauth.len(), ISSUERS_PER_RULE_LIMIT, "token issuers")?;
        for (place, rule) in oauth.iter().enumerate() {
            rule.check()?;
            if oauth.iter().take(place).any(|other| other == rule) {
                return Err(AccessRuleError::Repeated { issuer: rule.issuer.clone() });
            }
        }
        Ok(())
    }
}

impl OAuthRule {
    fn check(&self) -> Result<(), AccessRuleError> {
        let Self { issuer, audience, scope, claims } = self;
        EndpointUrl::parse(issuer).map_err(|source| AccessRuleError::Issuer { issuer: issuer.clone(), source })?;
        if issuer.contains('?') {
            return Err(AccessRuleError::IssuerQuery { issuer: issuer.clone() });
        }
        text(audience, "the audience")?;
        if !scope.is_empty() {
            text(scope, "the scope")?;
        }
        at_most(claims.len(), CLAIMS_PER_ISSUER_LIMIT, "claims")?;
        claims.iter().try_for_each(|(name, value)| {
            text(name, "the name of a claim")?;
            text(value, "the value of a claim")
        })
    }
}

fn at_most(length: usize, limit: usize, what: &'static str) -> Result<(), AccessRuleError> {
    if length > limit { Err(AccessRuleError::TooMany { what, length, limit }) } else { Ok(()) }
}

fn text(text: &str, what: &'static str) -> Result<(), AccessRuleError> {
    let is_good = !text.is_empty() && text.len() <= ACCESS_TEXT_LIMIT && !text.chars().any(char::is_control);
    if is_good { Ok(()) } else { Err(AccessRuleError::Text { what }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oauth() -> OAuthRule {
        OAuthRule {
            issuer: "https://login.partner.example/realm".into(),
            audience: "quorate".into(),
            scope: "bundle".into(),
            claims: BTreeMap::from([("sub".into(), "service".into())]),
        }
    }

    #[test]
    fn a_rule_that_can_never_be_met_is_refused() {
        let peer = TrustDomain::new("partner.example").unwrap();
        let ids = |texts: &[&str]| MutualTls::Ids(texts.iter().map(|text| SpiffeId::parse(text).unwrap()).collect());
        let rule = AccessRule { oauth: vec![oauth()], ..AccessRule::default() };
        assert_eq!(rule.check(Some(&peer)), Ok(()));
        let own = AccessRule { mutual_tls: ids(&["spiffe://partner.example/a"]), ..rule.clone() };
        assert_eq!(own.check(Some(&peer)), Ok(()));
        let other = AccessRule { mutual_tls: ids(&["spiffe://other.example/a"]), ..rule.clone() };
        assert!(matches!(other.check(Some(&peer)), Err(AccessRuleError::OtherDomain { .. })));
        assert_eq!(other.check(None), Ok(()));
        assert_eq!(AccessRule { mutual_tls: ids(&[]), ..rule.clone() }.check(None), Err(AccessRuleError::NoIds));
        let open = AccessRule { anonymous: true, ..rule.clone() };
        assert_eq!(open.check(Some(&peer)), Err(AccessRuleError::AnonymousPeer));
        assert_eq!(open.check(None), Ok(()));
        let twice = AccessRule { oauth: vec![oauth(), oauth()], ..rule };
        assert!(matches!(twice.check(None), Err(AccessRuleError::Repeated { .. })));
    }

    #[test]
    fn an_issuer_is_an_https_url_without_query_and_texts_are_what_tokens_can_hold() {
        for issuer in ["http://login.example", "https://u@login.example", "https://login.example/#x", "login"] {
            let rule = OAuthRule { issuer: issuer.into(), ..oauth() };
            assert!(matches!(rule.check(), Err(AccessRuleError::Issuer { .. })), "{issuer}");
        }
        let rule = OAuthRule { issuer: "https://login.example/?a=b".into(), ..oauth() };
        assert!(matches!(rule.check(), Err(AccessRuleError::IssuerQuery { .. })));
        for audience in ["", "a\nb", &"a".repeat(ACCESS_TEXT_LIMIT + 1)] {
            let rule = OAuthRule { audience: audience.into(), ..oauth() };
            assert_eq!(rule.check(), Err(AccessRuleError::Text { what: "the audience" }));
        }
        assert_eq!(OAuthRule { scope: String::new(), ..oauth() }.check(), Ok(()));
    }
}
