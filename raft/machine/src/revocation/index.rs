//! What follows from the records of revocations, kept beside them: who is banned, which tokens are refused, and until when
//! CRLs are handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_proto_identity::{AuthorityId, EntryId, MemberNumber, SerialNumber, SpiffeId, UnixSeconds};

use super::{CrlSet, Revocation, RevocationTarget, RevokedLeaf};

/// Numbers of revocations under what they are looked up by.
type Numbers<K> = BTreeMap<K, BTreeSet<u64>>;

/// Derived from the state's records alone: a state that is read from a snapshot has the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RevocationIndex {
    banned_entries: Numbers<EntryId>,
    banned_ids: Numbers<SpiffeId>,
    banned_members: Numbers<MemberNumber>,
    token_subjects: Numbers<SpiffeId>,
    jtis: Numbers<String>,
    /// Until when revocations of certificates keep CRLs on.
    certificates: BTreeSet<(UnixSeconds, u64)>,
    /// When revocations without a ban can go.
    ends: BTreeSet<(UnixSeconds, u64)>,
    /// Until when revoked leaves keep CRLs on, which is when they can go.
    leaves: BTreeSet<(UnixSeconds, AuthorityId, SerialNumber)>,
    /// The CRLs of all issuers, whether they are handed out or not.
    pub(crate) set: Arc<CrlSet>,
    /// Whether CRLs were handed out after the last command.
    pub(crate) is_on: bool,
}

impl RevocationIndex {
    /// Takes a revocation in.
    pub(crate) fn add(&mut self, revocation: &Revocation) {
        self.each(revocation, true);
    }

    /// Forgets a revocation, as it was when it was taken in.
    pub(crate) fn remove(&mut self, revocation: &Revocation) {
        self.each(revocation, false);
    }

    fn each(&mut self, revocation: &Revocation, add: bool) {
        let number = revocation.number;
        if revocation.ban {
            match &revocation.target {
                RevocationTarget::Entry(id) => note(&mut self.banned_entries, id, number, add),
                RevocationTarget::SpiffeId(id) => note(&mut self.banned_ids, id, number, add),
                RevocationTarget::Node(member) => note(&mut self.banned_members, member, number, add),
                RevocationTarget::Serial { .. } | RevocationTarget::Jti { .. } => {}
            }
        }
        if revocation.token_rule {
            if let Some(subject) = revocation.token_subject() {
                note(&mut self.token_subjects, subject, number, add);
            }
            if let RevocationTarget::Jti { jti, .. } = &revocation.target {
                note(&mut self.jtis, jti, number, add);
            }
        }
        if let Some(until) = revocation.keeps_crls_until() {
            note_end(&mut self.certificates, (until, number), add);
        }
        if !revocation.ban {
            note_end(&mut self.ends, (revocation.expires_at, number), add);
        }
    }

    /// Takes a revoked leaf in.
    pub(crate) fn add_leaf(&mut self, issuer: &AuthorityId, leaf: &RevokedLeaf) {
        self.leaves.insert((leaf.keeps_crls_until(), issuer.clone(), leaf.serial));
    }

    /// Forgets a revoked leaf.
    pub(crate) fn remove_leaf(&mut self, issuer: &AuthorityId, leaf: &RevokedLeaf) {
        self.leaves.remove(&(leaf.keeps_crls_until(), issuer.clone(), leaf.serial));
    }

    /// The latest instant up to which revocations or revoked leaves keep CRLs on.
    pub(crate) fn keeps_crls_until(&self) -> Option<UnixSeconds> {
        let certificates = self.certificates.last().map(|(until, _)| *until);
        certificates.max(self.leaves.last().map(|(until, ..)| *until))
    }

    /// The revocation that can go first, and from when on.
    pub(crate) fn first_end(&self) -> Option<(UnixSeconds, u64)> {
        self.ends.first().copied()
    }

    /// The revoked leaf that can go first, and from when on.
    pub(crate) fn first_leaf(&self) -> Option<&(UnixSeconds, AuthorityId, SerialNumber)> {
        self.leaves.first()
    }

    /// The number of a ban on this entry, SPIFFE ID or member, the lowest if there are several.
    pub(crate) fn ban(&self, entry: Option<&EntryId>, spiffe_id: &SpiffeId, member: MemberNumber) -> Option<u64> {
        let first = |numbers: &BTreeSet<u64>| numbers.first().copied();
        entry
            .and_then(|entry| self.banned_entries.get(entry))
            .and_then(first)
            .or_else(|| self.banned_ids.get(spiffe_id).and_then(first))
            .or_else(|| self.banned_members.get(&member).and_then(first))
    }

    /// Numbers of token rules for this subject, the newest first.
    pub(crate) fn token_rules(&self, subject: &SpiffeId) -> impl Iterator<Item = u64> + '_ {
        self.token_subjects.get(subject).into_iter().flat_map(|numbers| numbers.iter().rev().copied())
    }

    /// Numbers of rules for this `jti`.
    pub(crate) fn jti_rule(&self, jti: &str) -> Option<u64> {
        self.jtis.get(jti)?.first().copied()
    }
}

fn note<K: Ord + Clone>(numbers: &mut Numbers<K>, key: &K, number: u64, add: bool) {
    if add {
        numbers.entry(key.clone()).or_default().insert(number);
    } else if let Some(kept) = numbers.get_mut(key) {
        kept.remove(&number);
        if kept.is_empty() {
            numbers.remove(key);
        }
    }
}

fn note_end(ends: &mut BTreeSet<(UnixSeconds, u64)>, end: (UnixSeconds, u64), add: bool) {
    if add {
        ends.insert(end)
    } else {
        ends.remove(&end)
    };
}
