//! Who belongs to the Raft group, and its stored form.
//!
//! Membership lies in log entries and in the head of snapshots. Its form is ours (protobuf, with a version of its own),
//! so that neither the consensus library nor its serialisation shows in a stored byte.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use quorate_proto_identity::NodeName;

use crate::{
    limits::{MEMBER_ADDRESSES_MAX, MEMBERS_MAX},
    log_id::{from_raft, to_raft},
    type_config::{LogId, Membership, StoredMembership},
};

/// The version that is written. 1: 2026-11, the first.
const FORMAT: u32 = 1;

/// A member as the Raft group knows it: what a peer needs to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberNode {
    /// The node's name, as in its SPIFFE ID.
    pub name: NodeName,
    /// Where its peer service answers: host names or IP addresses, with port, in order of preference. Resolved at each
    /// dial.
    pub addresses: Vec<String>,
}

/// The same inside Raft, whose own bounds ask for a default value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RaftNode {
    /// The node's name.
    pub(crate) name: String,
    /// Its addresses.
    pub(crate) addresses: Vec<String>,
}

impl From<&MemberNode> for RaftNode {
    fn from(node: &MemberNode) -> Self {
        Self { name: node.name.as_str().to_owned(), addresses: node.addresses.clone() }
    }
}

/// A stored membership could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The bytes are no protobuf message of this form.
    #[error("the stored membership cannot be decoded")]
    Malformed(#[from] prost::DecodeError),
    /// A newer version of this program wrote it.
    #[error("the stored membership has format {found}, and this program reads up to {newest}: run a newer version")]
    TooNew {
        /// The format found.
        found: u32,
        /// The newest that this program reads.
        newest: u32,
    },
    /// A count is beyond what any membership may hold.
    #[error("the stored membership holds {found} {what}, more than {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// How many there were.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A voter is named whose node is not described.
    #[error("the stored membership has voter {0} without a description of its node")]
    UnknownVoter(u64),
}

#[derive(Clone, PartialEq, Message)]
struct MembershipForm {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    configurations: Vec<VotersForm>,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<NodeForm>,
    /// The log entry that holds this membership; only written in the head of a snapshot.
    #[prost(message, optional, tag = "4")]
    log_id: Option<LogIdForm>,
}

#[derive(Clone, PartialEq, Message)]
struct VotersForm {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeForm {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    addresses: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct LogIdForm {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
}

/// The stored bytes of a membership.
pub(crate) fn encode(membership: &Membership) -> Vec<u8> {
    to_form(membership, None).encode_to_vec()
}

/// The stored bytes of a membership together with where in the log it lies.
pub(crate) fn encode_stored(stored: &StoredMembership) -> Vec<u8> {
    to_form(stored.membership(), stored.log_id().as_ref()).encode_to_vec()
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<Membership, MembershipError> {
    decode_stored(bytes).map(|stored| stored.membership().clone())
}

/// Reads what [`encode_stored`] wrote.
pub(crate) fn decode_stored(bytes: &[u8]) -> Result<StoredMembership, MembershipError> {
    let form = MembershipForm::decode(bytes)?;
    if form.format > FORMAT {
        return Err(MembershipError::TooNew { found: form.format, newest: FORMAT });
    }
    at_most("configurations", form.configurations.len(), 2)?;
    at_most("nodes", form.nodes.len(), MEMBERS_MAX)?;
    let mut nodes = BTreeMap::new();
    for node in form.nodes {
        at_most("addresses of one node", node.addresses.len(), MEMBER_ADDRESSES_MAX)?;
        nodes.insert(node.number, RaftNode { name: node.name, addresses: node.addresses });
    }
    let mut configurations = Vec::with_capacity(form.configurations.len());
    for voters in form.configurations {
        if let Some(unknown) = voters.voters.iter().find(|voter| !nodes.contains_key(voter)) {
            return Err(MembershipError::UnknownVoter(*unknown));
        }
        configurations.push(voters.voters.into_iter().collect::<BTreeSet<u64>>());
    }
    let log_id =
        form.log_id.map(|id| to_raft(quorate_raft_store::LogId { term: id.term, node: id.node, index: id.index }));
    Ok(StoredMembership::new(log_id, Membership::new(configurations, nodes)))
}

fn to_form(membership: &Membership, log_id: Option<&LogId>) -> MembershipForm {
    MembershipForm {
        format: FORMAT,
        configurations: membership
            .get_joint_config()
            .iter()
            .map(|voters| VotersForm { voters: voters.iter().copied().collect() })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(number, node)| NodeForm {
                number: *number,
                name: node.name.clone(),
                addresses: node.addresses.clone(),
            })
            .collect(),
        log_id: log_id.map(|id| {
            let id = from_raft(id);
            LogIdForm { term: id.term, node: id.node, index: id.index }
        }),
    }
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), MembershipError> {
    if found > limit { Err(MembershipError::TooMany { what, found, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> RaftNode {
        RaftNode { name: name.to_owned(), addresses: vec![format!("{name}.example.org:8082")] }
    }

    fn joint() -> Membership {
        Membership::new(
            vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
            BTreeMap::from([(1, node("a")), (2, node("b")), (3, node("c")), (4, node("d")), (9, node("learner"))]),
        )
    }

    #[test]
    fn a_joint_membership_with_learners_comes_back_as_it_was_stored() {
        let log_id = to_raft(quorate_raft_store::LogId { term: 3, node: 2, index: 17 });
        let stored = StoredMembership::new(Some(log_id), joint());
        assert_eq!(decode_stored(&encode_stored(&stored)).unwrap(), stored);
        assert_eq!(decode(&encode(&joint())).unwrap(), joint());
    }

    #[test]
    fn the_bytes_of_format_1_are_what_they_were() {
        let membership = Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, node("a"))]));
        let hex: String = encode(&membership).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "080112030a01011a19080112016".to_owned() + "11a12612e6578616d706c652e6f72673a38303832");
        let log_id = to_raft(quorate_raft_store::LogId { term: 3, node: 2, index: 17 });
        let hex: String = encode_stored(&StoredMembership::new(Some(log_id), membership))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "080112030a01011a19080112016".to_owned() + "11a12612e6578616d706c652e6f72673a38303832" + "2206080310021811"
        );
    }

    #[test]
    fn a_newer_form_is_refused_with_what_to_do() {
        let mut form = to_form(&joint(), None);
        form.format = FORMAT + 1;
        let error = decode(&form.encode_to_vec()).unwrap_err();
        assert!(error.to_string().contains("run a newer version"), "{error}");
    }

    #[test]
    fn a_voter_without_a_node_is_refused() {
        let mut form = to_form(&joint(), None);
        form.nodes.retain(|node| node.number != 2);
        assert!(matches!(decode(&form.encode_to_vec()), Err(MembershipError::UnknownVoter(2))));
    }
}
