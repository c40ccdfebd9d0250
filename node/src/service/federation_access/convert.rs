//! API keys and access rules between the wire and the state.

use std::collections::BTreeSet;

use quorate_proto_api::cluster::{
    AccessOAuth, AccessRule as WireRule, ApiKey as WireKey, ApiKeyScope, MutualTlsAccess,
};
use quorate_proto_identity::SpiffeId;
use quorate_raft_machine::State;
use quorate_raft_machine::access::{
    AccessRule, AccessRuleRecord, ApiKey, ApiScope, ApiScopes, IDS_PER_RULE_LIMIT, MutualTls, OAuthRule,
};
use tonic::Status;

/// What a key may be used for; nothing said stands for everything.
pub(super) fn scopes(wire: &[i32]) -> Result<ApiScopes, Status> {
    if wire.is_empty() {
        return Ok(ApiScopes::from(ApiScope::ALL));
    }
    let scope = |number: &i32| match ApiKeyScope::try_from(*number) {
        Ok(ApiKeyScope::Get) => Ok(ApiScope::Get),
        Ok(ApiKeyScope::Watch) => Ok(ApiScope::Watch),
        Ok(ApiKeyScope::Unspecified) | Err(_) => {
            Err(Status::invalid_argument(format!("scopes: there is none of number {number}")))
        }
    };
    wire.iter().take(ApiScope::ALL.len().saturating_add(1)).map(scope).collect()
}

/// A key, without anything secret.
pub(super) fn api_key(key: &ApiKey) -> WireKey {
    let ApiKey { id, peer, scopes, label, secret, former, created_at, rotated_at } = key;
    let scope = |scope: &ApiScope| match scope {
        ApiScope::Get => ApiKeyScope::Get.into(),
        ApiScope::Watch => ApiKeyScope::Watch.into(),
    };
    WireKey {
        id: id.to_string(),
        trust_domain: peer.to_string(),
        scopes: scopes.iter().map(scope).collect(),
        label: label.clone(),
        expires_at: secret.expires_at.0,
        former_expires_at: former.as_ref().map_or(0, |former| former.expires_at.0),
        created_at: created_at.0,
        rotated_at: rotated_at.0,
    }
}

/// The rule for everybody: the one that was set, or the default.
pub(super) fn everybody(state: &State) -> WireRule {
    state.access_rule(None).map_or_else(|| rule_to_wire(&AccessRule::default()), rule_record)
}

/// A rule that was set.
pub(super) fn rule_record(record: &AccessRuleRecord) -> WireRule {
    let AccessRuleRecord { peer, rule, revision, changed_at } = record;
    WireRule {
        trust_domain: peer.as_ref().map(ToString::to_string).unwrap_or_default(),
        revision: *revision,
        changed_at: changed_at.0,
        ..rule_to_wire(rule)
    }
}

fn rule_to_wire(rule: &AccessRule) -> WireRule {
    let AccessRule { mutual_tls, api_keys, oauth, anonymous } = rule;
    let (mutual_tls, spiffe_ids) = match mutual_tls {
        MutualTls::Off => (MutualTlsAccess::Off, Vec::new()),
        MutualTls::AnyId => (MutualTlsAccess::AnyId, Vec::new()),
        MutualTls::Ids(ids) => (MutualTlsAccess::Ids, ids.iter().map(ToString::to_string).collect()),
    };
    let oauth = oauth.iter().cloned().map(|rule| {
        let OAuthRule { issuer, audience, scope, claims } = rule;
        AccessOAuth { issuer, audience, scope, claims }
    });
    WireRule {
        mutual_tls: mutual_tls.into(),
        spiffe_ids,
        api_keys: *api_keys,
        oauth: oauth.collect(),
        anonymous: *anonymous,
        ..WireRule::default()
    }
}

/// A rule that is to be set. Whether it can be met is checked by the state machine.
pub(super) fn rule(wire: WireRule) -> Result<AccessRule, Status> {
    let kind = wire.mutual_tls();
    let WireRule { trust_domain: _, mutual_tls, spiffe_ids, api_keys, oauth, anonymous, revision: _, changed_at: _ } =
        wire;
    if spiffe_ids.len() > IDS_PER_RULE_LIMIT {
        return Err(Status::invalid_argument(format!("spiffe_ids: there are more than {IDS_PER_RULE_LIMIT}")));
    }
    let mutual_tls = match kind {
        MutualTlsAccess::Off => MutualTls::Off,
        MutualTlsAccess::AnyId => MutualTls::AnyId,
        MutualTlsAccess::Ids => {
            let ids: Result<BTreeSet<SpiffeId>, _> = spiffe_ids.iter().map(|id| SpiffeId::parse(id)).collect();
            MutualTls::Ids(ids.map_err(|error| Status::invalid_argument(format!("spiffe_ids: {error}")))?)
        }
        MutualTlsAccess::Unspecified => {
            return Err(Status::invalid_argument(format!("mutual_tls: there is nothing of number {mutual_tls}")));
        }
    };
    let oauth = oauth.into_iter().map(|wire| {
        let AccessOAuth { issuer, audience, scope, claims } = wire;
        OAuthRule { issuer, audience, scope, claims }
    });
    Ok(AccessRule { mutual_tls, api_keys, oauth: oauth.collect(), anonymous })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_rule_comes_back_from_the_wire_as_it_was() {
        let id = SpiffeId::parse("spiffe://two.example/a").unwrap();
        for mutual_tls in [MutualTls::Off, MutualTls::AnyId, MutualTls::Ids(BTreeSet::from([id]))] {
            let oauth = OAuthRule {
                issuer: "https://a.example".into(),
                audience: "q".into(),
                scope: "s".into(),
                claims: BTreeMap::from([("a".into(), "b".into())]),
            };
            let one = AccessRule { mutual_tls, api_keys: false, oauth: vec![oauth], anonymous: true };
            assert_eq!(rule(rule_to_wire(&one)).unwrap(), one);
        }
        assert_eq!(rule(WireRule::default()).unwrap_err().code(), tonic::Code::InvalidArgument);
        let wrong = WireRule { mutual_tls: 3, spiffe_ids: vec!["https://a".into()], ..WireRule::default() };
        assert_eq!(rule(wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn no_scope_is_every_scope_and_one_that_is_not_known_is_refused() {
        assert_eq!(scopes(&[]).unwrap().len(), 2);
        assert_eq!(scopes(&[1]).unwrap(), ApiScopes::from([ApiScope::Get]));
        assert_eq!(scopes(&[0]).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(scopes(&[1, 9]).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
