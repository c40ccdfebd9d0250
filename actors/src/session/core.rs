//! What sessions and unary calls are answered from: the applied state, the lease, and what is made once for many.

use std::sync::Arc;

use quorate_proto_identity::{SelectorSet, UnixMillis};
use quorate_raft_consensus::{Sources, StateReader};
use quorate_raft_machine::entry::Entry;

use super::{
    answer::X509Answer,
    answer_size::{Room, SvidSize, by_age},
    identities::Identities,
};
use crate::{
    bundles::{BundleAnswers, Bundles},
    issuer::{
        lease::{Lease, Leases},
        svid::Svid,
        svids::Svids,
        tokens::TokenKeys,
    },
    own::{NotAMember, Own},
    refusal::Refusal,
};

/// Shared by all that answer workloads. Nothing in it is an actor's alone: actors publish, everybody reads.
pub(crate) struct Core {
    pub(crate) state: StateReader,
    pub(crate) own: Arc<Own>,
    pub(crate) sources: Sources,
    pub(crate) leases: Arc<Leases>,
    pub(crate) svids: Svids,
    pub(crate) tokens: TokenKeys,
    pub(crate) bundles: Bundles,
    pub(crate) identities_limit: usize,
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

    /// The SVIDs of identities, in their order, as many as one answer has room for: the first created stay. Made now
    /// where there is none yet.
    pub(crate) async fn x509_svids(
        &self,
        identities: &Identities,
        lease: &Arc<Lease>,
        bundles: &BundleAnswers,
    ) -> Result<Vec<(Arc<Entry>, Arc<Svid>)>, Refusal> {
        let policy = self.state.read(|state| state.policy().copied());
        let policy = policy.ok_or_else(|| Refusal::unavailable("no authority has been founded on this node yet"))?;
        let replaced = |root: &_| bundles.replaces(root);
        let issuer = lease.issuer().key().key_type();
        let size = SvidSize::new(policy.x509_svid_key_type, issuer, lease.certificate(), &bundles.roots);
        let mut room = Room::new();
        let mut svids = Vec::with_capacity(identities.entries.len());
        for entry in by_age(&identities.entries) {
            let reckoned = size.of(entry);
            if !room.has(reckoned) {
                break;
            }
            let made = self.svids.get(entry, lease, &policy, &replaced).await;
            let svid = made.map_err(|error| {
                tracing::error!(entry_id = %entry.id, error = &error as &dyn std::error::Error, "an X509-SVID could not be made");
                Refusal::unavailable("an SVID could not be signed")
            })?;
            // One that was made by an earlier policy may have another, larger key.
            if !room.take(reckoned.max(size.of_signed(entry, &svid.chain, &svid.key))) {
                break;
            }
            svids.push((Arc::clone(entry), svid));
            // A caller of a thousand identities must not hold a thread for as many signatures.
            tokio::task::coop::consume_budget().await;
        }
        identities.tell_x509_left_out(identities.entries.len().saturating_sub(svids.len()));
        svids.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        Ok(svids)
    }

    /// Whether an answer that was made earlier may be given to a new session: nothing changed, and nothing is due.
    pub(crate) fn is_good(&self, answer: &X509Answer, selectors: &SelectorSet, now: UnixMillis) -> bool {
        let withdrawn = answer.withdrawals != self.svids.withdrawals();
        if withdrawn || now >= answer.due() || self.leases.current(now).is_err() {
            return false;
        }
        if answer.identities.hold_at(self.state.applied_index(), now.seconds()) {
            return true;
        }
        let bundles = self.bundles.current(&self.state);
        bundles.is_ok_and(|bundles| bundles.sequence == answer.sequence())
            && self
                .identities(selectors, Some(&answer.identities))
                .is_ok_and(|identities| Arc::ptr_eq(&identities, &answer.identities))
    }

    /// Whether an answer that waited in a slot may still go out (design section 2, properties 4 and 5). If not, a newer
    /// one is on its way: the event that spoiled it refreshes the group.
    pub(crate) fn may_go_out(&self, answer: &X509Answer, selectors: &SelectorSet) -> bool {
        answer.withdrawals == self.svids.withdrawals() && self.still_stand(&answer.identities, selectors)
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
