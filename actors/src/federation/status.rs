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

/// The longest error of a row, in bytes: what is longer is cut off. A peer chooses parts of it, and there are many peers.
pub(super) const ERROR_BYTES: usize = 1_024;

/// Where the actors of relationships write how they are, and everybody else reads it. On a node that does not lead it has no
/// rows, and what the leader told last.
#[derive(Debug, Default)]
pub(crate) struct Board {
    rows: Mutex<BTreeMap<TrustDomain, Arc<RelationshipStatus>>>,
    heard: Mutex<Vec<String>>,
}

impl Board {
    /// Makes room for a row. Without it nothing is written: an actor that was stopped may still be at its last words.
    pub(crate) fn open(&self, trust_domain: &TrustDomain) {
        let new = || Arc::new(RelationshipStatus::new(trust_domain.clone()));
        self.rows.lock().entry(trust_domain.clone()).or_insert_with(new);
    }

    /// Writes a row that is open.
    pub(crate) fn set(&self, status: RelationshipStatus) {
        if let Some(row) = self.rows.lock().get_mut(&status.trust_domain) {
            *row = Arc::new(status);
        }
    }

    /// Keeps what the leader told.
    pub(crate) fn hear(&self, warnings: Vec<String>) {
        *self.heard.lock() = warnings;
    }

    /// Wipes a row.
    pub(crate) fn remove(&self, trust_domain: &TrustDomain) {
        self.rows.lock().remove(trust_domain);
    }

    /// Wipes all.
    pub(crate) fn clear(&self) {
        self.hear(Vec::new());
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

    /// What needs somebody's eyes, a sentence each, at most `limit` of them and then how many more; on a node that does not
    /// lead, what it heard of them.
    pub(crate) fn warnings(&self, limit: usize) -> Vec<String> {
        let rows = self.rows.lock();
        if rows.is_empty() {
            return self.heard.lock().clone();
        }
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

/// An error of a length that rows and log lines take.
pub(super) fn cut(mut error: String) -> String {
    error.truncate(error.floor_char_boundary(ERROR_BYTES));
    error
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stale(name: &str) -> RelationshipStatus {
        let name = TrustDomain::new(name).unwrap();
        RelationshipStatus { stale: true, error: Some("no".to_owned()), ..RelationshipStatus::new(name) }
    }

    /// A relationship that was deleted, or is another leader's by now, is told of by nobody.
    #[test]
    fn the_last_words_of_an_actor_that_was_stopped_are_not_written() {
        let board = Board::default();
        board.set(stale("never.example"));
        board.open(&TrustDomain::new("gone.example").unwrap());
        board.set(stale("gone.example"));
        assert_eq!((board.counts(), board.warnings(10).len()), ((1, 1, 0), 1));
        board.remove(&TrustDomain::new("gone.example").unwrap());
        board.set(stale("gone.example"));
        assert_eq!(board.counts(), (0, 0, 0));
        board.open(&TrustDomain::new("led.example").unwrap());
        board.clear();
        board.set(stale("led.example"));
        assert_eq!((board.counts(), board.warnings(10)), ((0, 0, 0), Vec::new()));
    }

    #[test]
    fn who_leads_tells_what_it_sees_and_who_does_not_what_it_heard() {
        let board = Board::default();
        board.hear(vec!["heard".to_owned()]);
        assert_eq!(board.warnings(10), ["heard"]);
        board.open(&TrustDomain::new("other.example").unwrap());
        assert_eq!(board.warnings(10), [""; 0], "it leads, and sees that all is well");
        board.clear();
        assert_eq!(board.warnings(10), [""; 0], "what was heard of an earlier leader is forgotten");
    }

    #[test]
    fn warnings_beyond_the_limit_are_counted() {
        let board = Board::default();
        for row in ["a.example", "b.example", "c.example"].map(stale) {
            board.open(&row.trust_domain);
            board.set(row);
        }
        let warnings = board.warnings(1);
        assert!(warnings.len() == 2 && warnings[0].contains("a.example") && warnings[1].starts_with("2 more"));
    }

    #[test]
    fn an_error_of_any_length_is_cut_between_characters() {
        let cut = cut(format!("x{}", "ä".repeat(ERROR_BYTES)));
        assert_eq!(cut.len(), ERROR_BYTES - 1);
    }
}
