//! What must hold of API keys and access rules.

use std::collections::BTreeSet;

use crate::access::{ACCESS_RULES_LIMIT, API_KEYS_LIMIT};
use crate::state::State;

pub(super) fn keys_agree(state: &State) -> Option<String> {
    let own = &state.cluster()?.trust_domain;
    let mut secrets = BTreeSet::new();
    for key in state.api_keys() {
        let id = &key.id;
        if key.peer == *own {
            return Some(format!("{id} is for our own trust domain"));
        }
        if key.scopes.is_empty() {
            return Some(format!("{id} may be used for nothing"));
        }
        if !std::iter::once(&key.secret).chain(&key.former).all(|secret| secrets.insert(secret.hash)) {
            return Some(format!("{id} has a secret that another one has"));
        }
    }
    (state.api_keys.len() > API_KEYS_LIMIT).then(|| format!("there are {}", state.api_keys.len()))
}

pub(super) fn rules_agree(state: &State) -> Option<String> {
    let own = &state.cluster()?.trust_domain;
    for record in state.access_rules() {
        if record.peer.as_ref() == Some(own) {
            return Some("there is one for our own trust domain".to_owned());
        }
        if let Err(error) = record.rule.check(record.peer.as_ref()) {
            return Some(format!("that for {:?}: {error}", record.peer));
        }
    }
    (state.access_rules.len() > ACCESS_RULES_LIMIT).then(|| format!("there are {}", state.access_rules.len()))
}
