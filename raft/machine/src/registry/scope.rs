//! A node's scope: the parents whose entries it serves.

use std::sync::{Arc, Mutex};

use quorate_proto_identity::{EntryId, Selector, SelectorSet, SpiffeId, SpiffeIdError, TrustDomain, UnixSeconds};

use super::reach::CachedReach;
use crate::entry::{ALIAS_PARENT_PATH, Entry, NODES_PARENT_PATH};
use crate::members::MemberDraft;

/// Type of the selectors that a node has as a member (design section 5).
pub const NODE_SELECTOR_TYPE: &str = "quorate";

/// What decides which entries a node serves: its own SPIFFE ID, the built-in parent of all nodes, and the selectors
/// by which it matches aliases. Made from the replicated record of the member, never from what a node says of itself;
/// make it anew when that record changes ([`Event::MemberChanged`](crate::Event::MemberChanged)).
#[derive(Debug, Clone)]
pub struct NodeScope {
    own_id: SpiffeId,
    nodes_id: SpiffeId,
    alias_parent: SpiffeId,
    selectors: SelectorSet,
    /// What was reached when it was last walked. It follows from the scope and the state, so clones may share it.
    reach: Arc<Mutex<CachedReach>>,
}

impl NodeScope {
    /// The scope of a member.
    ///
    /// # Errors
    /// None with a record that the state took in: names, regions and labels were checked there.
    pub fn of_member(trust_domain: &TrustDomain, member: &MemberDraft) -> Result<Self, SpiffeIdError> {
        let mut values = vec![format!("name:{}", member.name)];
        if !member.region.is_empty() {
            values.push(format!("region:{}", member.region));
        }
        if !member.zone.is_empty() {
            values.push(format!("zone:{}", member.zone));
        }
        values.extend(member.labels.iter().map(|(key, value)| format!("label:{key}:{value}")));
        let selectors = values.iter().filter_map(|value| Selector::new(NODE_SELECTOR_TYPE, value).ok());
        Ok(Self {
            own_id: node_id(trust_domain, member.name.as_str())?,
            nodes_id: SpiffeId::from_path(trust_domain, NODES_PARENT_PATH)?,
            alias_parent: SpiffeId::from_path(trust_domain, ALIAS_PARENT_PATH)?,
            selectors: selectors.collect(),
            reach: Arc::default(),
        })
    }

    /// The node's own SPIFFE ID.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        &self.own_id
    }

    /// The node's selectors.
    #[must_use]
    pub const fn selectors(&self) -> &SelectorSet {
        &self.selectors
    }

    /// The parents that the node matches without any entry.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &SpiffeId> {
        [&self.own_id, &self.nodes_id].into_iter()
    }

    /// Where the last walk is kept.
    pub(super) fn reach(&self) -> &Mutex<CachedReach> {
        &self.reach
    }

    /// The parent of aliases.
    pub(crate) const fn alias_parent(&self) -> &SpiffeId {
        &self.alias_parent
    }
}

/// The SPIFFE ID of a node: `spiffe://<trust domain>/spire/agent/quorate/<name>`.
///
/// # Errors
/// When the name is no path segment, which no [`NodeName`](quorate_proto_identity::NodeName) is.
pub fn node_id(trust_domain: &TrustDomain, name: &str) -> Result<SpiffeId, SpiffeIdError> {
    SpiffeId::from_segments(trust_domain, &["spire", "agent", "quorate", name])
}

/// The entries that entitle a workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entitled {
    /// In the order of creation.
    pub entitlements: Vec<Entitlement>,
    /// How many more there are beyond the limit. The caller says so loudly (design section 5).
    pub left_out: usize,
}

/// An entry that entitles a workload, as far as a session must know to see that it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entitlement {
    /// Its ID.
    pub entry_id: EntryId,
    /// Its revision number. Together with `created_at` and `creation_number` it tells every version of every entry
    /// apart, those deleted and created again under the same ID too.
    pub revision_number: u64,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// Its place in listings.
    pub creation_number: u64,
    /// When it ends by itself: no event will come at that instant.
    pub expires_at: Option<UnixSeconds>,
}

impl Entitlement {
    /// What a session must know of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self {
            entry_id: entry.id.clone(),
            revision_number: entry.revision_number,
            created_at: entry.created_at,
            creation_number: entry.creation_number,
            expires_at: entry.expires_at,
        }
    }
}
