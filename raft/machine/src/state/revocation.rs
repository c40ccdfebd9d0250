//! How revocations and CRLs are read, and what follows from them is kept.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, EntryId, MemberNumber, SerialNumber, SpiffeId, UnixSeconds};

use super::State;
use crate::audit::AuditAnchor;
use crate::authority::IssuingCertificate;
use crate::policy::CrlMode;
use crate::revocation::index::RevocationIndex;
use crate::revocation::{CRL_LINGER, CRL_SET_BYTES_LIMIT, CrlSet, Revocation, RevokedLeaf};

impl State {
    /// Revocations that are kept, in the order of their numbers.
    pub fn revocations(&self) -> impl DoubleEndedIterator<Item = &Revocation> {
        self.revocations.values()
    }

    /// The revocation with this number.
    #[must_use]
    pub fn revocation(&self, number: u64) -> Option<&Revocation> {
        self.revocations.get(&number)
    }

    /// The number of the newest revocation that was ever made; 0 before the first.
    #[must_use]
    pub fn last_revocation_number(&self) -> u64 {
        self.counters().next_revocation_number.saturating_sub(1)
    }

    /// Leaves that are in CRLs, each with its issuing key, in the order of keys and serial numbers. They are kept until an
    /// hour after their end (CRL-08).
    pub fn revoked_leaves(&self) -> impl Iterator<Item = (&AuthorityId, &RevokedLeaf)> {
        self.revoked_leaves.values().map(|record| (&record.issuer, &record.leaf))
    }

    /// Leaves in the CRL of this issuing key, in the order of their serial numbers.
    pub fn revoked_leaves_of(&self, issuer: &AuthorityId) -> impl Iterator<Item = &RevokedLeaf> {
        self.revoked_leaves.range(of_key(issuer)).map(|(_, record)| &record.leaf)
    }

    /// What is known of a leaf that this issuing key has revoked.
    #[must_use]
    pub fn revoked_leaf(&self, issuer: &AuthorityId, serial: SerialNumber) -> Option<&RevokedLeaf> {
        self.revoked_leaves.get(&(issuer.clone(), serial)).map(|record| &record.leaf)
    }

    /// The ban because of which nothing may be issued: for an entry (where one is known), with a SPIFFE ID, by a member.
    #[must_use]
    pub fn is_banned(
        &self,
        entry_id: Option<&EntryId>,
        spiffe_id: &SpiffeId,
        member: MemberNumber,
    ) -> Option<&Revocation> {
        self.revocation(self.revocation_index.ban(entry_id, spiffe_id, member)?)
    }

    /// The rule because of which a token is refused, if there is one: by its `jti`, or because tokens of its subject that
    /// were issued up to some instant are.
    #[must_use]
    pub fn token_refusal(&self, subject: &SpiffeId, jti: Option<&str>, issued_at: UnixSeconds) -> Option<&Revocation> {
        let index = &self.revocation_index;
        let by_jti = jti.and_then(|jti| index.jti_rule(jti)).and_then(|number| self.revocation(number));
        by_jti.or_else(|| {
            let rules = index.token_rules(subject).filter_map(|number| self.revocation(number));
            rules.into_iter().find(|rule| issued_at <= rule.up_to)
        })
    }

    /// Whether CRLs are handed out: by policy always, or because something is revoked, from the log index of the
    /// revocation on until an hour after the last revoked certificate has ended in the log's time (CRL-08).
    #[must_use]
    pub fn crls_are_on(&self) -> bool {
        match self.policy().map(|policy| policy.crl_mode) {
            None | Some(CrlMode::Off) => false,
            Some(CrlMode::Always) => true,
            Some(CrlMode::WhenRevoked) => {
                let now = self.counters().time.seconds();
                self.crls_are_on_until().is_some_and(|until| now <= until)
            }
        }
    }

    /// Until when what is revoked keeps CRLs on, whatever the policy says.
    #[must_use]
    pub fn crls_are_on_until(&self) -> Option<UnixSeconds> {
        let roots = self.x509_authorities().filter(|root| root.state.in_bundle());
        let by_roots = roots.filter_map(|root| root.crl_keeps_until).max().map(|end| end.plus(CRL_LINGER));
        by_roots.max(self.revocation_index.keeps_crls_until())
    }

    /// The set of CRLs that is handed out: exactly one, the newest, of every root in the bundle and of every issuing key
    /// with an unrevoked certificate, until that is pruned. None while CRLs are off, and while the set is over its limit:
    /// complete, or not at all (CRL-05).
    #[must_use]
    pub fn crl_set(&self) -> Option<Arc<CrlSet>> {
        let set = &self.revocation_index.set;
        (self.crls_are_on() && set.bytes() <= CRL_SET_BYTES_LIMIT).then(|| Arc::clone(set))
    }

    /// The set as it would be handed out if CRLs were on, whatever its size.
    #[must_use]
    pub fn all_crls(&self) -> &CrlSet {
        &self.revocation_index.set
    }

    /// Whether a revocation or a revoked leaf has ended and can be removed.
    #[must_use]
    pub fn has_prunable_revocations(&self, now: UnixSeconds) -> bool {
        self.revocation_index.first_end().is_some_and(|(end, _)| now > end.plus(CRL_LINGER))
            || self.revocation_index.first_leaf().is_some_and(|(until, ..)| now > *until)
    }

    /// The newest few anchors of a member's audit log, the oldest of them first.
    pub fn audit_anchors(&self, member: MemberNumber) -> impl Iterator<Item = &AuditAnchor> {
        self.anchors.range((member, 0)..=(member, u64::MAX)).map(|(_, anchor)| anchor)
    }

    /// Certificates of an issuing key.
    pub fn certificates_of(&self, key: &AuthorityId) -> impl Iterator<Item = &IssuingCertificate> {
        self.issuing.range(of_key(key)).map(|(_, issuing)| issuing)
    }

    /// The CRL of an issuer, if it belongs into the set: of a root in the bundle, or of a key with an unrevoked
    /// certificate. A key whose certificates are all revoked leaves the set, so that consumers that look at the leaf's
    /// issuer alone refuse what it signed too (CRL-06).
    pub(crate) fn crl_in_set(&self, issuer: &AuthorityId) -> Option<&Bytes> {
        if let Some(root) = self.x509_authority(issuer) {
            return root.state.in_bundle().then_some(&root.crl);
        }
        let key = self.issuing_key(issuer)?;
        self.certificates_of(issuer).any(|issuing| issuing.revoked_at.is_none()).then_some(&key.crl)
    }

    /// Makes what follows from revocations and CRLs anew, from the records alone.
    pub(crate) fn derived_revocation_index(&self) -> RevocationIndex {
        let mut index = RevocationIndex::default();
        self.revocations().for_each(|revocation| index.add(revocation));
        self.revoked_leaves().for_each(|(issuer, leaf)| index.add_leaf(issuer, leaf));
        let mut set = CrlSet::default();
        let issuers = self.x509_authorities().map(|root| &root.id).chain(self.issuing_keys().map(|key| &key.id));
        for issuer in issuers {
            if let Some(crl) = self.crl_in_set(issuer) {
                set.set(issuer.clone(), Some(crl.clone()));
            }
        }
        index.set = Arc::new(set);
        index
    }
}

/// Every serial number under this key.
fn of_key(key: &AuthorityId) -> std::ops::RangeInclusive<(AuthorityId, SerialNumber)> {
    (key.clone(), SerialNumber::LEAST)..=(key.clone(), SerialNumber::GREATEST)
}
