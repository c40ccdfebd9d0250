//! What a revocation means on this node, at once: what it is about is found in the lists of the issuing keys, and no session
//! is given it any more.
//!
//! ```text
//!   applied: Revoke n ──> whoever puts an answer together next, or the actor, catches up:
//!        1. lists of all keys: which live certificates are meant?       found, for the keys' next CRLs
//!        2. the cache: those go, and what is being signed at this moment
//!        3. the count of withdrawals: answers made before are made again
//! ```
//!
//! In this order nothing slips through: a certificate is in its list before it is signed. What was listed before the look
//! is found by it; what is listed after it was asked for by somebody who had applied the revocation, and is a new
//! certificate for one that is entitled to it still.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use quorate_proto_identity::SerialNumber;
use quorate_raft_consensus::StateReader;
use quorate_raft_machine::{Revocation, RevocationTarget, RevokedLeaf, State};

use crate::issuer::{keyring::Keyring, serials::LiveSerial, svids::Svids};

/// How far this process has come with revocations.
#[derive(Debug, Default)]
pub(crate) struct Withdrawals {
    /// Every revocation up to this number was looked for in all lists.
    seen: AtomicU64,
    looking: Mutex<()>,
}

impl Withdrawals {
    /// The number up to which every revocation was looked for.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Looks for what is meant by revocations that were applied since the last look, and withdraws it. Costs a comparison
    /// when there is none.
    pub(crate) fn catch_up(&self, state: &StateReader, keyring: &Keyring, svids: &Svids) {
        if state.read(State::last_revocation_number) <= self.seen() {
            return;
        }
        let _looking = self.looking.lock();
        let seen = self.seen();
        let (last, pending) = state.read(|state| {
            let new = state.revocations().rev().take_while(|revocation| revocation.number > seen);
            let of_leaves = new.filter(|revocation| is_of_leaves(revocation));
            (state.last_revocation_number(), of_leaves.cloned().collect::<Vec<Revocation>>())
        });
        if !pending.is_empty() {
            let mut serials = BTreeSet::new();
            for held in keyring.all() {
                let found = held.serials.matching(|live| pending.iter().any(|revocation| is_meant(live, revocation)));
                serials.extend(found.iter().map(|live| live.serial));
                held.note_found(found.into_iter().filter_map(|live| leaf(live, &pending)));
            }
            svids.withdraw_serials(&serials);
            if !serials.is_empty() {
                let (count, number) = (serials.len(), last);
                tracing::info!(target: "quorate::security", count, number, "X509-SVIDs of this node were revoked");
            }
        }
        self.seen.fetch_max(last, Ordering::AcqRel);
    }
}

/// Whether a revocation is about single certificates. One of a node is about its keys.
fn is_of_leaves(revocation: &Revocation) -> bool {
    match &revocation.target {
        RevocationTarget::Serial { .. } | RevocationTarget::SpiffeId(_) | RevocationTarget::Entry(_) => true,
        RevocationTarget::Node(_) | RevocationTarget::Jti { .. } => false,
    }
}

/// Whether a certificate is meant by a revocation. Which of them came first is no question: a node that learns late of a
/// revocation has issued since without knowing of it.
fn is_meant(live: &LiveSerial, revocation: &Revocation) -> bool {
    match &revocation.target {
        RevocationTarget::Serial { serial } => live.serial == *serial,
        RevocationTarget::SpiffeId(id) => live.spiffe_id == *id,
        RevocationTarget::Entry(entry) => live.entry.as_ref() == Some(entry),
        RevocationTarget::Node(_) | RevocationTarget::Jti { .. } => false,
    }
}

/// A certificate as the state records it: revoked by the first revocation that means it.
fn leaf(live: LiveSerial, pending: &[Revocation]) -> Option<FoundLeaf> {
    let by = pending.iter().filter(|revocation| is_meant(&live, revocation)).min_by_key(|by| by.number)?;
    let LiveSerial { serial, spiffe_id, not_after, entry: _ } = live;
    let leaf = RevokedLeaf { serial, spiffe_id, not_after, revocation: by.number };
    Some(FoundLeaf { leaf, reason: by.reason, revoked_at: by.created_at })
}

/// A certificate that belongs into the CRL of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundLeaf {
    /// As the state records it.
    pub(crate) leaf: RevokedLeaf,
    /// Why.
    pub(crate) reason: quorate_raft_machine::RevocationReason,
    /// When its revocation was made.
    pub(crate) revoked_at: quorate_proto_identity::UnixSeconds,
}

impl FoundLeaf {
    /// Its serial number.
    pub(crate) fn serial(&self) -> SerialNumber {
        self.leaf.serial
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{EntryId, SpiffeId, UnixSeconds};
    use quorate_raft_machine::RevocationReason;

    use super::*;

    fn revocation(number: u64, target: RevocationTarget) -> Revocation {
        Revocation {
            number,
            target,
            subject: None,
            reason: RevocationReason::KeyCompromise,
            ban: false,
            token_rule: true,
            created_at: UnixSeconds(100),
            up_to: UnixSeconds(100),
            expires_at: UnixSeconds(200),
            certificates_end: Some(UnixSeconds(200)),
        }
    }

    #[test]
    fn a_certificate_is_meant_by_its_serial_its_id_or_its_entry() {
        let id = |id: &str| SpiffeId::parse(id).unwrap();
        let entry = |id: &str| EntryId::new(id).unwrap();
        let live = LiveSerial {
            serial: SerialNumber::from_random([1; 16]),
            spiffe_id: id("spiffe://example.org/a"),
            entry: Some(entry("a")),
            not_after: UnixSeconds(150),
        };
        let other = SerialNumber::from_random([2; 16]);
        for (target, meant) in [
            (RevocationTarget::Serial { serial: live.serial }, true),
            (RevocationTarget::Serial { serial: other }, false),
            (RevocationTarget::SpiffeId(live.spiffe_id.clone()), true),
            (RevocationTarget::SpiffeId(id("spiffe://example.org/a/b")), false),
            (RevocationTarget::Entry(entry("a")), true),
            (RevocationTarget::Entry(entry("b")), false),
        ] {
            assert_eq!(is_meant(&live, &revocation(1, target.clone())), meant, "{target:?}");
        }
        let minted = LiveSerial { entry: None, ..live.clone() };
        assert!(!is_meant(&minted, &revocation(1, RevocationTarget::Entry(entry("a")))));
        let by = [
            revocation(9, RevocationTarget::SpiffeId(live.spiffe_id.clone())),
            revocation(7, RevocationTarget::Serial { serial: live.serial }),
            revocation(5, RevocationTarget::Serial { serial: other }),
        ];
        assert_eq!(leaf(live, &by).unwrap().leaf.revocation, 7);
    }
}
