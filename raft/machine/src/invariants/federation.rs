//! What must hold of relationships and foreign bundles.

use crate::apply::federation::check::{check_bundle, check_relationship};
use crate::federation::{FOREIGN_BUNDLES_LIMIT, RELATIONSHIPS_LIMIT};
use crate::state::State;

pub(super) fn relationships_agree(state: &State) -> Option<String> {
    let own = &state.cluster()?.trust_domain;
    let mut revisions = std::collections::BTreeSet::new();
    for relationship in state.relationships() {
        let name = &relationship.trust_domain;
        if name == own {
            return Some(format!("there is one with {name}, which is our own"));
        }
        let was_given = (1..=state.counters().federation_revision).contains(&relationship.revision);
        if !was_given || !revisions.insert(relationship.revision) {
            return Some(format!("that with {name} has revision {}", relationship.revision));
        }
        if let Err(refusal) = check_relationship(relationship) {
            return Some(format!("that with {name}: {refusal}"));
        }
    }
    (revisions.len() > RELATIONSHIPS_LIMIT).then(|| format!("there are {}", revisions.len()))
}

/// FED-11, FED-51: never merged, and never our own.
pub(super) fn bundles_agree(state: &State) -> Option<String> {
    let own = &state.cluster()?.trust_domain;
    let mut versions = std::collections::BTreeSet::new();
    for foreign in state.foreign_bundles() {
        let name = &foreign.trust_domain;
        if name == own || foreign.bundle.trust_domain() != name {
            return Some(format!("under {name} lies that of {}", foreign.bundle.trust_domain()));
        }
        let was_given = (1..=state.foreign_version()).contains(&foreign.version);
        if !was_given || !versions.insert(foreign.version) {
            return Some(format!("that of {name} has version {}", foreign.version));
        }
        if let Err(refusal) = check_bundle(&foreign.bundle) {
            return Some(refusal.to_string());
        }
    }
    (versions.len() > FOREIGN_BUNDLES_LIMIT).then(|| format!("there are {}", versions.len()))
}
