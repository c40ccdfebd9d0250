//! ValidateJWTSVID: a token verified with the bundles that its caller may have, and what the caller is told of it.

use std::{cell::OnceCell, collections::BTreeSet, sync::Arc};

use quorate_proto_identity::{Bundle, BundleSource, SpiffeId, TrustDomain, VerifiedJwtSvid};
use quorate_raft_consensus::StateReader;
use serde_json::{Map, Value};

/// Claims of a foreign token that every caller is told. What else is in it is the other domain's own matter, and may be
/// anything; a caller that needs more is configured to get it (A-22, spire-api.md section 16).
const FOREIGN_CLAIMS: [&str; 3] = ["sub", "exp", "aud"];

/// A token that verified, as its validator is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedToken {
    spiffe_id: SpiffeId,
    claims: Map<String, Value>,
}

impl ValidatedToken {
    /// Of a token of our own trust domain all claims are told; of a foreign one those that every token has, and those that are
    /// named here.
    pub(crate) fn new(verified: &VerifiedJwtSvid, own: &TrustDomain, further: &BTreeSet<String>) -> Self {
        let spiffe_id = verified.spiffe_id().clone();
        let is_own = spiffe_id.trust_domain() == *own;
        Self { claims: told(verified.claims(), is_own, further), spiffe_id }
    }

    /// Whom the token was issued to.
    #[must_use]
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// What the validator may know of the payload.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }
}

/// The bundles that a caller may have, found when a token asks for one: our own, and those of the trust domains that the
/// caller's entries federate with (A-22). Each verifies tokens of its own domain alone (ATK-32, FED-51).
pub(crate) struct MayHave<'a> {
    own: &'a Bundle,
    federates_with: &'a BTreeSet<TrustDomain>,
    state: &'a StateReader,
    /// The one that the token asked for: it names one trust domain.
    found: OnceCell<Option<Arc<Bundle>>>,
}

impl<'a> MayHave<'a> {
    pub(crate) fn new(own: &'a Bundle, federates_with: &'a BTreeSet<TrustDomain>, state: &'a StateReader) -> Self {
        Self { own, federates_with, state, found: OnceCell::new() }
    }
}

impl BundleSource for MayHave<'_> {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        if let Some(own) = self.own.bundle(trust_domain) {
            return Some(own);
        }
        if !self.federates_with.contains(trust_domain) {
            return None;
        }
        let read =
            || self.state.read(|state| state.foreign_bundle(trust_domain).map(|foreign| Arc::clone(&foreign.bundle)));
        let found = self.found.get_or_init(read);
        found.as_ref().and_then(|found| found.bundle(trust_domain))
    }
}

/// The claims that a validator is told. `aud` is always a list (A-16).
fn told(claims: &Map<String, Value>, is_own: bool, further: &BTreeSet<String>) -> Map<String, Value> {
    let is_told = |name: &str| is_own || FOREIGN_CLAIMS.contains(&name) || further.contains(name);
    let as_told = |name: &str, value: &Value| match value {
        Value::String(_) if name == "aud" => Value::Array(vec![value.clone()]),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            value.clone()
        }
    };
    claims.iter().filter(|(name, _)| is_told(name)).map(|(name, value)| (name.clone(), as_told(name, value))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// spire-api.md section 16; A-16, A-22.
    #[test]
    fn of_a_foreign_token_a_validator_is_told_what_every_token_has_and_what_it_was_configured_for() {
        let Value::Object(claims) =
            json!({"sub": "spiffe://a.test/w", "exp": 7, "aud": "me", "iat": 1, "jti": "x", "role": "r", "scope": "s"})
        else {
            panic!("an object")
        };
        let names = |told: Map<String, Value>| told.keys().cloned().collect::<BTreeSet<_>>();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(told(&claims, false, &set(&[]))["aud"], json!(["me"]));
        assert_eq!(names(told(&claims, false, &set(&[]))), set(&["sub", "exp", "aud"]));
        assert_eq!(names(told(&claims, false, &set(&["role", "absent"]))), set(&["sub", "exp", "aud", "role"]));
        let own = told(&claims, true, &set(&[]));
        assert_eq!((own.len(), &own["aud"]), (claims.len(), &json!(["me"])));
    }
}
