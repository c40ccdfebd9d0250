//! Which identities a set of selectors is entitled to on this node, in the order in which they are answered.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use quorate_proto_identity::{SelectorSet, TrustDomain, UnixSeconds};
use quorate_raft_machine::{State, entry::Entry, registry::Entitlement};

use super::answer_size::IDENTITIES_BYTES_LIMIT;
use crate::{
    metrics,
    own::{NotAMember, Own, OwnMember},
};

/// How many identities a caller gets, unless configured otherwise: so many of the usual size that an answer stays below
/// the 4 MiB that gRPC clients take (design section 5). Longer ones are cut by their bytes.
pub const IDENTITIES_PER_CALLER_LIMIT: usize = 1000;

const TOO_MANY_BYTES: &str =
    "a caller's identities have more bytes than gRPC clients take in one answer; the ones created last are left out";

/// What a set of selectors is entitled to, as of some log index.
#[derive(Debug)]
pub(crate) struct Identities {
    /// The entries, by ID ascending (A-27, WAPI-55): the first is the default identity.
    pub(crate) entries: Vec<Arc<Entry>>,
    /// The trust domains that they federate with, all together: a caller trusts on its own behalf, not on an identity's.
    pub(crate) federates_with: BTreeSet<TrustDomain>,
    /// All entitlements that the entries came from, those left out for their hints and bans too.
    entitlements: Vec<Entitlement>,
    /// The entries to which nothing is issued, because a revocation says so.
    banned: Vec<Arc<Entry>>,
    /// When one of them ends by itself.
    pub(crate) ends_at: Option<UnixSeconds>,
    /// The last log index at which this was found to hold.
    holds_at: AtomicU64,
    /// How many X509-SVIDs had no room in the last answer.
    x509_left_out: AtomicUsize,
    /// Whether the log has it that tokens had no room in an answer.
    jwt_told: AtomicBool,
}

impl Identities {
    /// Reads them from the state. Gives back `before` if nothing changed since.
    pub(crate) fn read(
        own: &Own,
        (index, state): (u64, &State),
        selectors: &SelectorSet,
        now: UnixSeconds,
        limit: usize,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, NotAMember> {
        let member = own.member(state)?;
        let found = state.entitled(&member.scope, selectors, now, limit);
        if let Some(before) = before
            && before.entitlements == found.entitlements
            && before.entries.iter().all(|entry| !is_banned(state, &member, entry))
            && before.banned.iter().all(|entry| is_banned(state, &member, entry))
        {
            before.holds_at.fetch_max(index, Ordering::Relaxed);
            return Ok(Arc::clone(before));
        }
        if found.left_out > 0 {
            metrics::identities_left_out("limit", found.left_out);
            tracing::warn!(
                limit,
                left_out = found.left_out,
                "a caller is entitled to more identities than it may get; the ones created last are left out"
            );
        }
        let entries = found.entitlements.iter().filter_map(|entitled| state.entry(&entitled.entry_id));
        let (banned, entries): (Vec<_>, Vec<_>) = entries.partition(|entry| is_banned(state, &member, entry));
        if !banned.is_empty() {
            metrics::identities_left_out("banned", banned.len());
        }
        let entries = in_order(entries);
        Ok(Arc::new(Self {
            federates_with: entries.iter().flat_map(|entry| &entry.federates_with).cloned().collect(),
            entries,
            ends_at: found.entitlements.iter().filter_map(|entitled| entitled.expires_at).min(),
            entitlements: found.entitlements,
            banned,
            holds_at: AtomicU64::new(index),
            x509_left_out: AtomicUsize::new(0),
            jwt_told: AtomicBool::new(false),
        }))
    }

    /// Says that so many X509-SVIDs have no room in an answer, whenever that number changes.
    pub(crate) fn tell_x509_left_out(&self, left_out: usize) {
        if self.x509_left_out.swap(left_out, Ordering::Relaxed) != left_out && left_out > 0 {
            metrics::identities_left_out("bytes", left_out);
            tracing::warn!(left_out, limit = IDENTITIES_BYTES_LIMIT, "{TOO_MANY_BYTES}");
        }
    }

    /// Says that so many tokens have no room in an answer. Every answer counts; the log has it once, because a caller
    /// chooses the audiences and so the size of tokens.
    pub(crate) fn tell_jwt_left_out(&self, left_out: usize) {
        if left_out == 0 {
            return;
        }
        metrics::identities_left_out("bytes", left_out);
        if !self.jwt_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(left_out, limit = IDENTITIES_BYTES_LIMIT, "{TOO_MANY_BYTES}");
        }
    }

    /// Whether these were found to hold at this log index, without another look.
    pub(crate) fn hold_at(&self, index: u64, now: UnixSeconds) -> bool {
        self.holds_at.load(Ordering::Relaxed) == index && self.ends_at.is_none_or(|end| now <= end)
    }

    /// Whether the selectors are still entitled to all of these, unchanged and not banned: the check of a signature in flight (design
    /// section 2, property 5). It is read afresh and not entry by entry, because an entry also goes out of reach when
    /// another one between it and this node does.
    pub(crate) fn still_stand(
        &self,
        own: &Own,
        state: &State,
        selectors: &SelectorSet,
        now: UnixSeconds,
        limit: usize,
    ) -> bool {
        let Ok(member) = own.member(state) else { return false };
        if self.entries.iter().any(|entry| is_banned(state, &member, entry)) {
            return false;
        }
        let found = state.entitled(&member.scope, selectors, now, limit).entitlements;
        // Both are in the order of creation, so one pass finds each of ours among those of now.
        let mut found = found.iter();
        self.entitlements.iter().all(|entitled| found.any(|now| now == entitled))
    }
}

/// Whether this node issues nothing for an entry, because a revocation of the entry or of its SPIFFE ID bans it.
fn is_banned(state: &State, member: &OwnMember, entry: &Entry) -> bool {
    state.is_banned(Some(&entry.id), &entry.spiffe_id, member.number).is_some()
}

/// Puts entries in the order of their IDs, and leaves out those whose hint another one has: of two with one hint, the
/// one created first stays, and of two created in one second the one with the lower ID (SB-12, WAPI-21, A-27).
fn in_order(mut entries: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    let mut holders: HashMap<&str, &Arc<Entry>> = HashMap::new();
    for entry in entries.iter().filter(|entry| !entry.hint.is_empty()) {
        match holders.entry(&entry.hint) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
            }
            // Entries come in the order of their IDs, so an equal age leaves the one that is there.
            hash_map::Entry::Occupied(mut holder) if entry.created_at < holder.get().created_at => {
                holder.insert(entry);
            }
            hash_map::Entry::Occupied(_) => {}
        }
    }
    let stays = |entry: &Arc<Entry>| holders.get(entry.hint.as_str()).is_none_or(|holder| Arc::ptr_eq(holder, entry));
    let staying: Vec<bool> = entries.iter().map(stays).collect();
    let left_out = staying.iter().filter(|stays| !**stays).count();
    if left_out > 0 {
        metrics::identities_left_out("hint", left_out);
        tracing::warn!(left_out, "identities are left out because an older one has the same hint");
    }
    let mut staying = staying.into_iter();
    entries.retain(|_| staying.next().unwrap_or(true));
    entries
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{EntryId, Selector, SpiffeId};
    use quorate_raft_machine::entry::EntryDraft;

    use super::*;

    fn entry(id: &str, hint: &str, created_at: i64) -> Arc<Entry> {
        let spiffe_id = SpiffeId::parse("spiffe://example.org/a").unwrap();
        let parent = SpiffeId::parse("spiffe://example.org/spire/nodes").unwrap();
        let selectors = SelectorSet::new([Selector::parse("unix:uid:1").unwrap()]);
        let draft = EntryDraft {
            hint: hint.to_owned(),
            ..EntryDraft::new(EntryId::new(id).unwrap(), spiffe_id, parent, selectors)
        };
        Arc::new(draft.into_entry(UnixSeconds(created_at), 1))
    }

    fn ids(entries: Vec<Arc<Entry>>) -> Vec<String> {
        in_order(entries).iter().map(|entry| entry.id.to_string()).collect()
    }

    #[test]
    fn sb_33_identities_come_in_the_order_of_their_entries_ids() {
        assert_eq!(ids(vec![entry("c", "", 1), entry("a", "", 3), entry("b", "", 2)]), ["a", "b", "c"]);
    }

    #[test]
    fn sb_12_of_two_with_one_hint_the_older_stays_then_the_lower_id() {
        let entries = vec![entry("a", "x", 9), entry("b", "x", 3), entry("c", "", 1), entry("d", "", 1)];
        assert_eq!(ids(entries), ["b", "c", "d"]);
        assert_eq!(ids(vec![entry("b", "x", 5), entry("a", "x", 5), entry("c", "y", 5)]), ["a", "c"]);
    }
}
