//! What must hold of revocations and CRLs.

use std::collections::BTreeSet;

use quorate_proto_identity::x509::parse_crl;

use crate::audit::AUDIT_ANCHORS_PER_MEMBER;
use crate::revocation::{REVOCATIONS_LIMIT, REVOKED_LEAVES_LIMIT, RevocationTarget};
use crate::state::State;

/// A state that is read from a snapshot bans, refuses and hands out the same as the one that it was written from.
pub(super) fn index_follows(state: &State) -> Option<String> {
    let mut derived = state.derived_revocation_index();
    derived.is_on = state.crls_are_on();
    (derived != state.revocation_index).then(|| format!("{:?}, but {derived:?} follows", state.revocation_index))
}

/// CRL-05: one CRL of every root in the bundle and of every key with an unrevoked certificate, each the newest.
pub(super) fn set_is_complete(state: &State) -> Option<String> {
    let roots = state.x509_authorities().filter(|root| root.state.in_bundle()).map(|root| (&root.id, &root.crl));
    let unrevoked: BTreeSet<_> = state
        .issuing_certificates()
        .filter(|issuing| issuing.revoked_at.is_none())
        .map(|issuing| &issuing.key_id)
        .collect();
    let keys = state.issuing_keys().filter(|key| unrevoked.contains(&key.id)).map(|key| (&key.id, &key.crl));
    let expected: std::collections::BTreeMap<_, _> = roots.chain(keys).collect();
    let set: std::collections::BTreeMap<_, _> = state.all_crls().iter().collect();
    let bytes: usize = expected.values().map(|crl| crl.len()).sum();
    (set != expected || bytes != state.all_crls().bytes())
        .then(|| format!("the set has CRLs of {:?}, it should of {:?}", set.keys(), expected.keys()))
}

/// CRL-04, CRL-08: what is revoked stays in the CRL of its issuer for as long as it could be used.
pub(super) fn leaves_are_listed(state: &State) -> Option<String> {
    let now = state.counters().time.seconds();
    for key in state.issuing_keys() {
        let Ok(crl) = parse_crl(&key.crl) else {
            return Some(format!("the CRL of key {} cannot be read", key.id));
        };
        let listed: BTreeSet<_> = crl.revoked.iter().map(|listed| listed.serial).collect();
        let missing =
            state.revoked_leaves_of(&key.id).find(|leaf| leaf.not_after >= now && !listed.contains(&leaf.serial));
        if let Some(leaf) = missing {
            return Some(format!("leaf {} is not in the CRL of key {}", leaf.serial, key.id));
        }
        if key.covered > state.last_revocation_number() {
            return Some(format!("key {} covers revocation {}, which was not made", key.id, key.covered));
        }
    }
    (state.revoked_leaves().count() > REVOKED_LEAVES_LIMIT).then(|| "there are too many revoked leaves".to_owned())
}

pub(super) fn revocations_agree(state: &State) -> Option<String> {
    for revocation in state.revocations() {
        let number = revocation.number;
        if number == 0 || number > state.last_revocation_number() {
            return Some(format!("revocation {number} has a number that was not given yet"));
        }
        if revocation.token_rule && !revocation.target.is_of_tokens() {
            return Some(format!("revocation {number} refuses tokens, and is of none"));
        }
        let is_of_entry = matches!(revocation.target, RevocationTarget::Entry(_));
        if is_of_entry != revocation.subject.is_some() {
            return Some(format!(
                "revocation {number} is of an entry: {is_of_entry}, its subject {:?}",
                revocation.subject
            ));
        }
        if revocation.up_to > revocation.expires_at {
            return Some(format!("revocation {number} has ended before what it is about was issued"));
        }
    }
    (state.revocations().count() > REVOCATIONS_LIMIT).then(|| "there are too many revocations".to_owned())
}

pub(super) fn anchors_are_few(state: &State) -> Option<String> {
    let member =
        state.members().find(|member| state.audit_anchors(member.number).count() > AUDIT_ANCHORS_PER_MEMBER)?;
    Some(format!("member {} has too many anchors", member.number))
}
