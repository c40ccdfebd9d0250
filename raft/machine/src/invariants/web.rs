//! What must hold of web certificates and of the discovery provider.

use std::collections::BTreeSet;

use quorate_proto_identity::EndpointUrl;

use crate::state::State;
use crate::web::FORMER_ISSUERS_LIMIT;

pub(super) fn domains_agree(state: &State) -> Option<String> {
    let settings = state.acme().settings.as_ref();
    if let Some(error) = settings.and_then(|settings| settings.check().err()) {
        return Some(error.to_string());
    }
    let wanted: BTreeSet<&str> = settings.iter().flat_map(|settings| &settings.domains).map(String::as_str).collect();
    let known: BTreeSet<&str> = state.web_domains().map(|domain| domain.domain.as_str()).collect();
    if wanted != known {
        return Some(format!("{known:?} are there, {wanted:?} are wanted"));
    }
    let mut keys = BTreeSet::new();
    for domain in state.web_domains() {
        if let Some(key) = domain.keys().find(|key| !keys.insert(*key)) {
            return Some(format!("{key} of {} is for something else too", domain.domain));
        }
        let stays = |directory: &EndpointUrl| settings.is_some_and(|settings| settings.directory == *directory);
        if domain.order.as_ref().is_some_and(|order| !stays(&order.directory)) {
            return Some(format!("the order for {} is at another authority", domain.domain));
        }
    }
    None
}

pub(super) fn issuers_agree(state: &State) -> Option<String> {
    let provider = state.oidc();
    if let Some(error) = provider.settings.as_ref().and_then(|settings| settings.check().err()) {
        return Some(error.to_string());
    }
    let mut seen: BTreeSet<&str> = provider.issuer().into_iter().collect();
    if let Some(former) = provider.former.iter().find(|former| !seen.insert(&former.issuer)) {
        return Some(format!("former issuer {} is there twice", former.issuer));
    }
    (provider.former.len() > FORMER_ISSUERS_LIMIT).then(|| format!("there are {}", provider.former.len()))
}
