//! Registration entries: create, update, delete, prune.

use std::sync::Arc;

use quorate_proto_identity::{EntryId, TrustDomain, UnixSeconds};

use crate::entry::{EntryChange, EntryDraft, PRUNED_ENTRIES_PER_OPERATION};
use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::registration::{check_change, check_draft, check_whole, no_bundle_of};
use crate::revocation::{NewRevocation, RevocationReason, RevocationTarget};
use crate::state::State;

/// Most entries in the state: what slots of 32 bits can count, with room for those that deletions leave behind.
pub(crate) const ENTRIES_LIMIT: usize = 1 << 30;

impl State {
    /// Registers an entry, unless one with the same parent, SPIFFE ID and selectors is there: two nodes that create
    /// the same entry at once both end up with one (spire-api.md section 21).
    pub(super) fn create_entry(
        &mut self,
        draft: &EntryDraft,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        check_draft(draft, &self.trust_domain()?, self.version())?;
        if let Some(id) = self.registry.similar(&draft.parent_id, &draft.spiffe_id, &draft.selectors) {
            return Ok(Done::EntryExists { id });
        }
        if self.registry.contains(&draft.id) {
            return Err(Refusal::new(RefusalCode::AlreadyExists, format!("entry ID {} is taken", draft.id)));
        }
        if self.registry.len() >= ENTRIES_LIMIT {
            return Err(Refusal::new(RefusalCode::LimitReached, format!("there are {ENTRIES_LIMIT} entries already")));
        }
        self.check_bundles_of(draft.federates_with.iter())?;
        let mut counters = self.counters();
        let entry = draft.clone().into_entry(now, counters.next_creation_number);
        check_whole(&entry)?;
        counters.next_creation_number = counters.next_creation_number.saturating_add(1);
        self.counters.put((), counters);
        self.registry.insert(&entry);
        let done = Done::EntryCreated { id: entry.id.clone(), creation_number: entry.creation_number, created_at: now };
        events.push(Event::EntryChanged { id: entry.id.clone(), before: None, after: Some(Arc::new(entry)) });
        Ok(done)
    }

    /// Changes the given fields and counts the revision up, even when they were what they are now. Whether another
    /// entry is similar is not looked at (spire-api.md section 7, semantics).
    pub(super) fn update_entry(
        &mut self,
        id: &EntryId,
        change: &EntryChange,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        check_change(change, &self.trust_domain()?, self.version())?;
        let before = self.registry.get(id).ok_or_else(|| Refusal::not_found(format!("no entry has the ID {id}")))?;
        let mut after = before.clone();
        change.write_to(&mut after);
        // One that lost its bundle since, with its relationship, may stay: it gets none until there is one again.
        self.check_bundles_of(after.federates_with.difference(&before.federates_with))?;
        after.revision_number = after.revision_number.saturating_add(1);
        check_whole(&after)?;
        self.registry.replace(&before, &after);
        let done = Done::EntryUpdated { id: id.clone(), revision_number: after.revision_number };
        events.push(Event::EntryChanged {
            id: id.clone(),
            before: Some(Arc::new(before)),
            after: Some(Arc::new(after)),
        });
        Ok(done)
    }

    /// Of each trust domain that an entry is to federate with, a bundle has to be known.
    fn check_bundles_of<'a>(&self, mut domains: impl Iterator<Item = &'a TrustDomain>) -> Result<(), Refusal> {
        domains.find(|domain| self.foreign_bundle(domain).is_none()).map_or(Ok(()), |domain| Err(no_bundle_of(domain)))
    }

    /// Removes an entry, and revokes what was issued for it if that is asked for: both, or neither.
    pub(super) fn delete_entry(
        &mut self,
        id: &EntryId,
        revoke: Option<RevocationReason>,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let revocation = match revoke {
            Some(reason) if self.registry.contains(id) => {
                let target = RevocationTarget::Entry(id.clone());
                Some(self.make_revocation(&NewRevocation { target, reason, ban: false }, now, events)?)
            }
            Some(_) | None => None,
        };
        let before = self.registry.remove(id).ok_or_else(|| Refusal::not_found(format!("no entry has the ID {id}")))?;
        events.push(Event::EntryChanged { id: id.clone(), before: Some(Arc::new(before)), after: None });
        Ok(Done::EntryDeleted { id: id.clone(), revocation })
    }

    /// Removes entries that have expired, those first that expired first.
    pub(super) fn prune_expired_entries(&mut self, now: UnixSeconds, events: &mut Vec<Event>) -> Done {
        let expired = self.registry.expired(now, PRUNED_ENTRIES_PER_OPERATION);
        let count = u64::try_from(expired.len()).unwrap_or(u64::MAX);
        for id in expired {
            let before = self.registry.remove(&id).map(Arc::new);
            events.push(Event::EntryChanged { id, before, after: None });
        }
        Done::EntriesPruned { count, more: self.registry.next_expiry().is_some_and(|expiry| expiry < now) }
    }

    /// The trust domain, or the refusal that there is none yet.
    pub(super) fn trust_domain(&self) -> Result<TrustDomain, Refusal> {
        self.cluster()
            .map(|cluster| cluster.trust_domain.clone())
            .ok_or_else(|| Refusal::new(RefusalCode::NotFounded, "the authority has not been founded yet"))
    }
}
