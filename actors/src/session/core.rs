//! What sessions and unary calls are answered from: the applied state, the lease, and what is made once for many.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quorate_proto_identity::{AuthorityId, EntryId, SelectorSet, SpiffeId, UnixMillis};
use quorate_raft_consensus::{Sources, StateReader};
use quorate_raft_machine::{AuditIssuance, entry::Entry};
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{CallersBundles, X509Answer},
    answer_size::{Room, SvidSize, by_age},
    identities::Identities,
    turns::Pace,
};
use crate::{
    audit::{Auditor, Issuance, Mark},
    bundles::{Bundles, foreign::ForeignSet},
    issuer::{
        keyring::Keyring,
        lease::{Lease, Leases},
        svid::{IssueError, Svid},
        svids::Svids,
        tokens::{Token, TokenError, TokenKeys, hex, signs_tokens},
    },
    ledger::{Issued, IssuedId, Ledger},
    own::{NotAMember, Own},
    refusal::Refusal,
    revocation::withdrawal::Withdrawals,
};

/// How long a signature waits for an issuing certificate under a root that was not tainted: through an election.
const LEASE_WAIT: Duration = Duration::from_secs(5);

/// How often a token is signed again because a rule refuses it that was made in the same second: clocks may differ a little.
const TOKEN_TRIES: usize = 3;

/// Shared by all that answer workloads. Nothing in it is an actor's alone: actors publish, everybody reads.
pub(crate) struct Core {
    pub(crate) state: StateReader,
    pub(crate) own: Arc<Own>,
    pub(crate) sources: Sources,
    pub(crate) leases: Arc<Leases>,
    pub(crate) svids: Svids,
    pub(crate) keyring: Keyring,
    pub(crate) withdrawals: Withdrawals,
    pub(crate) ledger: Ledger,
    pub(crate) audit: Auditor,
    pub(crate) tokens: TokenKeys,
    pub(crate) bundles: Bundles,
    pub(crate) identities_limit: usize,
    /// Claims of foreign tokens that validators are told beside those that every token has.
    pub(crate) foreign_claims: BTreeSet<String>,
}

impl Core {
    /// What selectors are entitled to on this node, `before` again if nothing changed.
    pub(crate) fn identities(
        &self,
        selectors: &SelectorSet,
        before: Option<&Arc<Identities>>,
    ) -> Result<Arc<Identities>, Refusal> {
        let now = self.sources.now().seconds();
        let limit = self.identities_limit;
        let read = self
            .state
            .read_at(|index, state| Identities::read(&self.own, (index, state), selectors, now, limit, before));
        read.map_err(|error: NotAMember| Refusal::unavailable(error.to_string()))
    }

    /// The lease to sign with, once it is under a root that may sign: one whose root was tainted signs nothing more (INV-06),
    /// and this node has asked for another, which comes within milliseconds as long as somebody leads.
    pub(crate) async fn lease(&self) -> Result<Arc<Lease>, Refusal> {
        let until = Instant::now() + LEASE_WAIT;
        let mut changes = self.leases.changes();
        loop {
            changes.borrow_and_update();
            let lease = self.leases.current(self.sources.now())?;
            let bundle = self.bundles.current(&self.state)?;
            if !bundle.replaces(&lease.root) && bundle.may_issue(&lease.key_id) {
                return Ok(lease);
            }
            if !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                return Err(Refusal::unavailable(
                    "this node's issuing certificate was revoked, or the root above it was tainted, and no other certificate \
                     has come yet",
                ));
            }
        }
    }

    /// Signs a token that no rule refuses, with nothing but the key that signs, or signed last: one that was tainted, or has left the bundle,
    /// while the token was made makes it worth nothing (INV-06).
    pub(crate) async fn token(
        &self,
        subject: &SpiffeId,
        entry: Option<&EntryId>,
        audiences: &Arc<[String]>,
        ttl: u32,
        operator: Option<&quorate_raft_machine::Caller>,
    ) -> Result<Token, TokenError> {
        for _ in 0..TOKEN_TRIES {
            let issuer = self.state.read(|state| state.jwt_issuer().map(str::to_owned));
            let token = self.tokens.sign(subject, audiences, issuer.as_deref(), ttl).await?;
            let (is_refused, demand) = self.state.read(|state| {
                let refusal = state.token_refusal(subject, Some(&hex(token.jti)), token.issued_at);
                let demand = state.policy().map_or(AuditIssuance::Off, |policy| policy.audit_issuance);
                (refusal.is_some(), demand)
            });
            if !self.may_still_sign(&token.key_id) {
                return Err(TokenError::NoKey);
            }
            if is_refused {
                // A rule is about whole seconds, and this is still the one in which it was made.
                let next = token.issued_at.plus(1).millis().since(self.sources.now()).clamp(1, 1000);
                tokio::time::sleep(Duration::from_millis(next.unsigned_abs())).await;
                continue;
            }
            let issuance = Issuance {
                what: if operator.is_some() { "jwt.mint" } else { "jwt.issue" },
                caller: operator,
                spiffe_id: subject,
                entry_id: entry,
                mark: Mark::Jti(&hex(token.jti)),
                key: &token.key_id,
                expires_at: token.expires_at,
            };
            // A minted one is an administrator's act, and recorded in any case.
            let recorded = if operator.is_some() { demand.max(AuditIssuance::Recorded) } else { demand };
            self.audit.issued(recorded, issuance).await?;
            if demand != AuditIssuance::Off {
                self.ledger.record(Issued {
                    id: IssuedId::Jti(token.jti),
                    spiffe_id: subject.clone(),
                    entry: entry.cloned(),
                    issued_at: token.issued_at,
                    not_after: token.expires_at,
                    issuing_key: token.key_id.clone(),
                });
            }
            // The record takes its time, too.
            return if self.may_still_sign(&token.key_id) { Ok(token) } else { Err(TokenError::NoKey) };
        }
        Err(TokenError::Refused { subject: subject.clone() })
    }

    /// Whether a token of this key may be given out: not once the key was tainted or has left the bundle (INV-06).
    pub(crate) fn may_still_sign(&self, token_key: &AuthorityId) -> bool {
        self.state.read(|state| state.jwt_authority(token_key).is_some_and(|key| signs_tokens(key.state)))
    }

    /// The bundles that callers with these identities get now, those of `before` again as far as nothing changed.
    pub(crate) fn callers_bundles(
        &self,
        identities: &Identities,
        before: Option<&Arc<CallersBundles>>,
    ) -> Result<Arc<CallersBundles>, Refusal> {
        let foreign_before = before.map(|before| &before.foreign);
        let foreign = self.bundles.foreign.of(&self.state, &identities.federates_with, foreign_before);
        let own = self.bundles.current(&self.state)?;
        Ok(Arc::new(CallersBundles::new(identities, own, foreign)))
    }

    /// The SVIDs of identities, in their order, as many as one answer has room for: the first created stay. Made now
    /// where there is none yet.
    pub(crate) async fn x509_svids(
        &self,
        identities: &Identities,
        lease: &Arc<Lease>,
        CallersBundles { own: bundle, foreign, takes_crls, .. }: &CallersBundles,
        pace: Pace,
    ) -> Result<Vec<(Arc<Entry>, Arc<Svid>)>, Refusal> {
        let began = self.sources.now();
        let policy = self.state.read(|state| state.policy().copied());
        let policy = policy.ok_or_else(|| Refusal::unavailable("no authority has been founded on this node yet"))?;
        let replaced = |svid: &Svid| {
            bundle.replaces_svid(svid)
                || (svid.issuing_key != lease.key_id && self.keyring.is_doomed(&svid.issuing_key))
        };
        let issuer = lease.issuer().key().key_type();
        let size = SvidSize::new(policy.x509_svid_key_type, issuer, lease.certificate(), &bundle.roots);
        let mut room = Room::beside(bundle.crl_bytes(*takes_crls), foreign.roots_bytes);
        let mut svids = Vec::with_capacity(identities.entries.len());
        for entry in by_age(&identities.entries) {
            let reckoned = size.of(entry);
            if !room.has(reckoned) {
                break;
            }
            let made = self.svids.get(entry, lease, &policy, &replaced).await;
            let svid = made.map_err(|error| {
                if let IssueError::NotRecorded(refusal) = error {
                    return refusal;
                }
                tracing::error!(entry_id = %entry.id, error = &error as &dyn std::error::Error, "an X509-SVID could not be made");
                Refusal::unavailable("an SVID could not be signed")
            })?;
            // One that was made by an earlier policy may have another, larger key.
            if !room.take(reckoned.max(size.of_signed(entry, &svid.chain, &svid.key))) {
                break;
            }
            let is_new = svid.granted.issued_at >= began;
            svids.push((Arc::clone(entry), svid));
            // A caller of a thousand identities must not hold a thread for as many signatures.
            match pace {
                Pace::Background if is_new => tokio::task::yield_now().await,
                Pace::Background | Pace::AtOnce => tokio::task::coop::consume_budget().await,
            }
        }
        identities.tell_x509_left_out(identities.entries.len().saturating_sub(svids.len()));
        svids.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        Ok(svids)
    }

    /// How often SVIDs were withdrawn, once what the state has of revocations is done on this node. An answer that was made
    /// at another count may hold one of them.
    pub(crate) fn withdrawals(&self) -> u64 {
        self.withdrawals.catch_up(&self.state, &self.keyring, &self.svids);
        self.svids.withdrawals()
    }

    /// Whether an answer that was made earlier may be given to a new session: nothing changed, and nothing is due.
    pub(crate) fn is_good(&self, answer: &X509Answer, selectors: &SelectorSet, now: UnixMillis) -> bool {
        let withdrawn = answer.withdrawals != self.withdrawals();
        if withdrawn || now >= answer.due() || self.leases.current(now).is_err() {
            return false;
        }
        // While nobody had a stream, nothing was put together, though the identities were looked at.
        let bundles = self.bundles.current(&self.state);
        if !bundles.is_ok_and(|bundles| bundles.sequence == answer.sequence()) {
            return false;
        }
        let foreign = answer.foreign();
        if foreign.is_about_any() && !self.state.read(|state| foreign.is_newest(state)) {
            return false;
        }
        answer.identities.hold_at(self.state.applied_index(), now.seconds())
            || self
                .identities(selectors, Some(&answer.identities))
                .is_ok_and(|identities| Arc::ptr_eq(&identities, &answer.identities))
    }

    /// Whether an answer that waited in a slot may still go out (design section 2, properties 3 to 5). If not, a newer
    /// one is on its way: the event that spoiled it refreshes the group, and so does the end of an SVID. That may come late
    /// where a node stood still, or has too little of a processor, and then the stream may be looked at before it.
    pub(crate) fn may_go_out(&self, answer: &X509Answer, selectors: &SelectorSet) -> bool {
        let bundles = self.bundles.current(&self.state);
        answer.is_valid_at(self.sources.now().seconds())
            && answer.withdrawals == self.withdrawals()
            && bundles.is_ok_and(|bundles| answer.stands_in(&bundles))
            && self.none_withdrawn(&answer.foreign())
            && self.still_stand(&answer.identities, selectors)
    }

    /// Whether none of these foreign bundles was taken away meanwhile: what is withdrawn does not go out any more (FED-48).
    pub(crate) fn none_withdrawn(&self, foreign: &ForeignSet) -> bool {
        !foreign.has_any() || self.state.read(|state| foreign.none_withdrawn(state))
    }

    /// Whether what was made for these identities may be given to who has these selectors (design section 2, property
    /// 5): signing takes its time, and what was deleted meanwhile must not go out.
    pub(crate) fn still_stand(&self, identities: &Identities, selectors: &SelectorSet) -> bool {
        let (now, limit) = (self.sources.now().seconds(), self.identities_limit);
        identities.hold_at(self.state.applied_index(), now)
            || self.state.read(|state| identities.still_stand(&self.own, state, selectors, now, limit))
    }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}
