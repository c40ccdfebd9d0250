//! What falls due of revocation: computed from the state and a given instant, carried out by the leader.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto_identity::x509::parse_crl;
use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixSeconds};

use super::{CRL_SET_HIGH_WATER, KEYS_PER_REVOCATION, RevocationTarget};
use crate::authority::{IssuingKey, IssuingKeyState};
use crate::state::State;

/// A step that is due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationDue {
    /// Nobody signs CRLs for these keys any more, or there is no room for theirs: all their certificates are to be revoked
    /// (CRL-05, CRL-06). For one that is connected, after what lives under it was signed anew.
    RevokeGoneKeys {
        /// Which, each with why, at most [`KEYS_PER_REVOCATION`].
        keys: Vec<(AuthorityId, KeyRevocationCause)>,
    },
    /// A certificate that this root signed is revoked and not in its CRL.
    SignRootCrl {
        /// Which root.
        root: AuthorityId,
    },
    /// The CRL of this key has been out for as long as the policy says: once every live member has sent it to all its open
    /// streams, the key may sign (CRL-07).
    ActivateIssuingKey {
        /// Which.
        key: AuthorityId,
    },
    /// Records have ended: [`Operation::PruneRevocations`](crate::Operation::PruneRevocations).
    Prune,
}

/// Why a whole key is to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRevocationCause {
    /// Its process is gone: its member has recorded a key of another start since.
    Restarted,
    /// Its member does not belong to the cluster any more.
    MemberGone,
    /// Its node was revoked.
    NodeRevoked,
    /// The set of CRLs would grow past its limit, and this key's is the longest.
    NoRoom,
}

/// What is due at `now`. Nothing but pruning and the activation of keys is due while CRLs are off.
#[must_use]
pub fn due(state: &State, now: UnixSeconds) -> Vec<RevocationDue> {
    let mut steps = Vec::new();
    if state.crls_are_on() {
        let keys = keys_to_revoke(state, now);
        if !keys.is_empty() {
            steps.push(RevocationDue::RevokeGoneKeys { keys });
        }
        steps.extend(roots_to_sign(state, now).map(|root| RevocationDue::SignRootCrl { root }));
    }
    let ready = state.issuing_keys().filter(|key| is_settled(state, key, now));
    steps.extend(ready.map(|key| RevocationDue::ActivateIssuingKey { key: key.id.clone() }));
    if state.has_prunable_revocations(now) {
        steps.push(RevocationDue::Prune);
    }
    steps
}

/// Whether a prepared key's settle time has passed, or nobody has CRLs that could lack its own.
pub(crate) fn is_settled(state: &State, key: &IssuingKey, now: UnixSeconds) -> bool {
    let settle = state.policy().map_or(0, crate::Policy::crl_settle_time);
    key.state == IssuingKeyState::Prepared && (!state.crls_are_on() || now >= key.recorded_at.plus(i64::from(settle)))
}

/// Keys with certificates that verify, and why they are to be revoked.
fn keys_to_revoke(state: &State, now: UnixSeconds) -> Vec<(AuthorityId, KeyRevocationCause)> {
    let live: BTreeSet<&AuthorityId> =
        state.issuing_certificates().filter(|issuing| issuing.is_live(now)).map(|issuing| &issuing.key_id).collect();
    let mut newest: BTreeMap<MemberNumber, &IssuingKey> = BTreeMap::new();
    for key in state.issuing_keys() {
        let known = newest.entry(key.member).or_insert(key);
        if known.number < key.number {
            *known = key;
        }
    }
    let nodes: BTreeMap<MemberNumber, UnixSeconds> = state
        .revocations()
        .filter_map(|revocation| match &revocation.target {
            RevocationTarget::Node(member) => Some((*member, revocation.up_to)),
            RevocationTarget::Serial { .. }
            | RevocationTarget::SpiffeId(_)
            | RevocationTarget::Entry(_)
            | RevocationTarget::Jti { .. } => None,
        })
        .collect();
    let cause = |key: &IssuingKey| {
        let is_admitted = state.member(key.member).is_some_and(|member| member.record.status.is_admitted());
        if nodes.get(&key.member).is_some_and(|up_to| key.recorded_at <= *up_to) {
            Some(KeyRevocationCause::NodeRevoked)
        } else if !is_admitted {
            Some(KeyRevocationCause::MemberGone)
        } else if newest.get(&key.member).is_some_and(|newest| newest.boot != key.boot) {
            Some(KeyRevocationCause::Restarted)
        } else {
            None
        }
    };
    let mut keys: Vec<_> = state
        .issuing_keys()
        .filter(|key| live.contains(&key.id))
        .filter_map(|key| Some((key.id.clone(), cause(key)?)))
        .take(KEYS_PER_REVOCATION)
        .collect();
    let gone = keys.iter().filter_map(|(id, _)| state.issuing_key(id)).map(|key| key.crl.len());
    let left = gone.fold(state.all_crls().bytes(), usize::saturating_sub);
    if left > CRL_SET_HIGH_WATER && keys.len() < KEYS_PER_REVOCATION {
        let others = state.issuing_keys().filter(|key| live.contains(&key.id) && cause(key).is_none());
        let longest = others.max_by_key(|key| (key.crl.len(), std::cmp::Reverse(key.number)));
        keys.extend(longest.map(|key| (key.id.clone(), KeyRevocationCause::NoRoom)));
    }
    keys
}

/// Roots in the bundle whose CRLs lack a certificate that was revoked and has not ended.
fn roots_to_sign(state: &State, now: UnixSeconds) -> impl Iterator<Item = AuthorityId> {
    let mut revoked: BTreeMap<&AuthorityId, BTreeSet<SerialNumber>> = BTreeMap::new();
    for issuing in state.issuing_certificates() {
        if issuing.revoked_at.is_some() && now <= issuing.validity.not_after() {
            revoked.entry(&issuing.issuer).or_default().insert(issuing.serial);
        }
    }
    let mut roots = Vec::new();
    for (root, serials) in revoked {
        let Some(root) = state.x509_authority(root).filter(|root| root.state.in_bundle()) else {
            continue;
        };
        let listed: BTreeSet<SerialNumber> = parse_crl(&root.crl)
            .map(|crl| crl.revoked.iter().map(|listed| listed.serial).collect())
            .unwrap_or_default();
        if !serials.is_subset(&listed) {
            roots.push(root.id.clone());
        }
    }
    roots.into_iter()
}
