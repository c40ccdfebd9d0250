//! How relationships are: what operators, metrics and warnings tell, on the node that leads.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use quorate_proto_identity::{MemberNumber, TrustDomain, UnixSeconds};
use quorate_raft_machine::State;

/// How a relationship is. None of it is in the log: a new leader begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationshipStatus {
    /// With which trust domain.
    pub trust_domain: TrustDomain,
    /// When the bundle was last fetched with success, since this leader leads.
    pub last_success: Option<UnixSeconds>,
    /// When that was last tried.
    pub last_try: Option<UnixSeconds>,
    /// When it is tried next.
    pub next_try: Option<UnixSeconds>,
    /// `spiffe_sequence` of the bundle that is held.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint` of the bundle that is held, in seconds.
    pub refresh_hint: Option<i64>,
    /// Why the last try failed, in words.
    pub error: Option<String>,
    /// Whether nothing was fetched for three intervals.
    pub stale: bool,
    /// Which member fetched last.
    pub fetched_by: Option<MemberNumber>,
    /// Whether a watch is open, by which the peer pushes.
    pub watching: bool,
    /// How many tries in a row brought an older bundle (ATK-39).
    pub older_in_row: u32,
}

impl RelationshipStatus {
    /// Of a relationship that nothing is known of yet.
    pub(crate) fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            last_success: None,
            last_try: None,
            next_try: None,
            sequence: None,
            refresh_hint: None,
            error: None,
            stale: false,
            fetched_by: None,
            watching: false,
            older_in_row: 0,
        }
    }
}

/// Where the actors of relationships write how they are, and everybody else reads it. Empty on a node that does not lead.
#[derive(Debug, Default)]
pub(crate) struct Board {
    rows: Mutex<BTreeMap<TrustDomain, Arc<RelationshipStatus>>>,
}

impl Board {
    /// Writes a row.
    pub(crate) fn set(&self, status: RelationshipStatus) {
        self.rows.lock().insert(status.trust_domain.clone(), Arc::new(status));
    }

    /// Wipes a row.
    pub(crate) fn remove(&self, trust_domain: &TrustDomain) {
        self.rows.lock().remove(trust_domain);
    }

    /// Wipes all.
    pub(crate) fn clear(&self) {
        self.rows.lock().clear();
    }

    /// So many rows behind a name, completed with what the state has; and whether there are more.
    pub(crate) fn page(
        &self,
        state: &State,
        after: Option<&TrustDomain>,
        limit: usize,
    ) -> (Vec<RelationshipStatus>, bool) {
        let rows = self.rows.lock();
        let behind = |name: &TrustDomain| after.is_none_or(|after| name > after);
        let mut relationships = state.relationships().map(|made| &made.trust_domain).filter(|name| behind(name));
        let page = relationships.by_ref().take(limit).map(|name| {
            let row = rows.get(name).map(|row| RelationshipStatus::clone(row));
            let mut status = row.unwrap_or_else(|| RelationshipStatus::new(name.clone()));
            let held = state.foreign_bundle(name);
            status.sequence = held.and_then(|held| held.bundle.sequence());
            status.refresh_hint = held.and_then(|held| held.bundle.refresh_hint());
            status
        });
        let page = page.collect();
        (page, relationships.next().is_some())
    }

    /// What needs somebody's eyes, a sentence each, at most `limit` of them and then how many more.
    pub(crate) fn warnings(&self, limit: usize) -> Vec<String> {
        let rows = self.rows.lock();
        let mut bad = rows.values().filter(|row| row.stale || row.older_in_row >= super::poll::OLDER_ALARM);
        let mut warnings: Vec<String> = bad.by_ref().take(limit).map(|row| words(row)).collect();
        let more = bad.count();
        if more > 0 {
            warnings.push(format!("{more} more foreign bundles are stale or go back (`quorate federation status`)"));
        }
        warnings
    }

    /// How many rows are stale, and how many have a watch open.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let rows = self.rows.lock();
        let stale = rows.values().filter(|row| row.stale).count();
        let watching = rows.values().filter(|row| row.watching).count();
        (rows.len(), stale, watching)
    }
}

fn words(row: &RelationshipStatus) -> String {
    let name = &row.trust_domain;
    let why = row.error.as_deref().unwrap_or("it was not tried yet");
    if row.older_in_row >= super::poll::OLDER_ALARM {
        return format!(
            "the endpoint of {name} has served {} older bundles in a row: it was rebuilt (`quorate federation refresh \
             --accept-older {name}`), or somebody puts an old one in its place: {why}",
            row.older_in_row
        );
    }
    format!("the bundle of {name} is stale: for three intervals none was fetched: {why}")
}
