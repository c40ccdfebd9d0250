//! Joining: this node becomes a member of a cluster that exists.
//!
//! ```text
//!   Empty ──► Joining(incarnation) ──► Join.Admit at a member ──► who to talk to, written down ──► log made
//!                │ a crash here: the same secret, key and incarnation get the same answer             │
//!                └ a lost disk has another incarnation, and is refused (FLT-18)                       ▼
//!                                                                          Member(cluster ID, number), empty log
//! ```
//!
//! Until the newcomer has applied its admission, it knows its peers from the answer alone; the answer is kept beside the
//! stage, so that a crash before the first entry strands nobody.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer as proto;
use quorate_proto_identity::{ClusterId, MemberNumber, UnixMillis};
use quorate_raft_store::{
    WalIdentity,
    directory::{DirectoryError, NodeDirectory, Stage},
};

use crate::{
    engine::{EngineError, LogIs, Opened},
    limits::{MEMBER_ADDRESSES_MAX, MEMBERS_MAX},
    node::Node,
    sources::WorkLost,
};

/// Bytes of the number that tells a data directory from every other.
pub const INCARNATION_BYTES: usize = 16;

/// A member as a newcomer needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Its number.
    pub member: MemberNumber,
    /// Its name.
    pub name: String,
    /// Its identity key: subjectPublicKeyInfo, DER.
    pub key: Bytes,
    /// The names and ports at which it is reached.
    pub addresses: Vec<String>,
}

/// What a newcomer says of itself. Its identity key is the one that its transport proves.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The trust domain, as configured.
    pub trust_domain: String,
    /// Its name, as configured.
    pub name: String,
    /// Its sealing public key.
    pub sealing_key: Bytes,
    /// The names and ports at which peers reach it.
    pub addresses: Vec<String>,
    /// The highest version of commands that it can apply.
    pub version: u32,
    /// The version of its program, for people.
    pub build: String,
    /// The secret of its invitation; empty when the founding list names it.
    pub secret: Bytes,
    /// The number of its data directory, from [`Handle::begin_joining`](crate::Handle::begin_joining).
    pub incarnation: [u8; INCARNATION_BYTES],
}

impl std::fmt::Debug for JoinRequest {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("trust_domain", &self.trust_domain)
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// The answer to a newcomer that was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its epoch.
    pub epoch: u64,
    /// The newcomer's number.
    pub member: MemberNumber,
    /// Where in the log the admission stands.
    pub log_index: u64,
    /// Members that the newcomer can talk to until it has applied the log.
    pub peers: Vec<KnownPeer>,
}

/// Why a node was not let in, or could not go on as a member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// This node belongs to a cluster already, or is being founded.
    #[error("this node is {stage}: only a node with an empty data directory can join")]
    NotEmpty {
        /// The stage of its directory.
        stage: String,
    },
    /// Nobody could be asked. Check addresses and keys of the invitation, and that the members listen.
    #[error("no member of the cluster could be asked: {reason}")]
    Unreachable {
        /// What went wrong at the address tried last.
        reason: Arc<str>,
    },
    /// A member answered and said no.
    #[error("the cluster refused this node: {reason}")]
    Refused {
        /// Why, in the words of the member.
        reason: Arc<str>,
    },
    /// The cluster could not decide now: no leader, or too busy. Try again; the same invitation holds.
    #[error("the cluster could not admit this node now: {reason}")]
    NotNow {
        /// Why.
        reason: Arc<str>,
    },
    /// The answer made no sense: it did not come from a member of this program.
    #[error("the answer of the cluster cannot be used: {reason}")]
    BadAnswer {
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// No answer came before the deadline. It can be asked again: the same invitation holds.
    #[error("no answer came within the time limit")]
    Deadline,
    /// The data directory could not be written.
    #[error("what was agreed could not be written down")]
    Directory(#[from] DirectoryError),
    /// The log could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Consensus has ended on this node, or is being shut down.
    #[error("consensus has ended on this node: {reason}")]
    Stopped {
        /// What ended it.
        reason: Arc<str>,
    },
    /// The process is stopping.
    #[error(transparent)]
    Lost(#[from] WorkLost),
}

/// How far a node is on the way to a cluster, as nodes that are founded together tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundingStatus {
    /// Its data directory holds nothing.
    pub empty: bool,
    /// It holds the list that was asked about.
    pub same_list: bool,
    /// Its name.
    pub name: String,
    /// It is a member of a founded cluster.
    pub member: bool,
}

/// Answers how far this node is: the node knows its list, consensus does not.
pub trait FoundingAnswerer: Send + Sync + 'static {
    /// Answers a node whose configuration names this trust domain and a list with this checksum.
    fn founding(&self, trust_domain: &str, list: &[u8]) -> FoundingStatus;
}

/// Refuses a clock that is off by more than the limit (design section 4): a node that cannot tell the time must not
/// sign, and joining is the best time to say so.
pub(crate) fn clock_is_off(theirs: UnixMillis, ours: UnixMillis) -> Option<i64> {
    let off = theirs.0.saturating_sub(ours.0);
    (crate::clock::verdict(off) == crate::clock::ClockVerdict::Refuse).then_some(off)
}

/// Whom a newcomer was told of, as it lies beside the stage of its directory.
pub(crate) struct FirstPeers {
    pub(crate) epoch: u64,
    pub(crate) peers: Vec<KnownPeer>,
}

impl FirstPeers {
    /// Reads what [`encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let admitted = Admitted::try_from(proto::AdmitResponse::decode(bytes).ok()?).ok()?;
        Some(Self { epoch: admitted.epoch, peers: admitted.peers })
    }
}

fn encode(admitted: &Admitted) -> Vec<u8> {
    proto::AdmitResponse::from(admitted).encode_to_vec()
}

impl From<&Admitted> for proto::AdmitResponse {
    fn from(admitted: &Admitted) -> Self {
        let peers = admitted.peers.iter().map(|peer| proto::KnownPeer {
            member: peer.member.get(),
            name: peer.name.clone(),
            key: peer.key.clone(),
            addresses: peer.addresses.clone(),
        });
        Self {
            cluster: Bytes::copy_from_slice(admitted.cluster.as_bytes()),
            epoch: admitted.epoch,
            member: admitted.member.get(),
            log_index: admitted.log_index,
            peers: peers.collect(),
        }
    }
}

impl TryFrom<proto::AdmitResponse> for Admitted {
    type Error = &'static str;

    fn try_from(message: proto::AdmitResponse) -> Result<Self, Self::Error> {
        let cluster: [u8; 16] = message.cluster.as_ref().try_into().map_err(|_| "its cluster ID is none")?;
        if message.peers.len() > MEMBERS_MAX {
            return Err("it names more members than there can be");
        }
        let mut peers = Vec::with_capacity(message.peers.len());
        for peer in message.peers {
            if peer.addresses.len() > MEMBER_ADDRESSES_MAX {
                return Err("a member has more addresses than any may have");
            }
            let member = MemberNumber::new(peer.member).ok_or("a member has number 0")?;
            peers.push(KnownPeer { member, name: peer.name, key: peer.key, addresses: peer.addresses });
        }
        Ok(Self {
            cluster: ClusterId::new(cluster),
            epoch: message.epoch,
            member: MemberNumber::new(message.member).ok_or("it gives the number 0")?,
            log_index: message.log_index,
            peers,
        })
    }
}

impl Node {
    /// See [`Handle::begin_joining`](crate::Handle::begin_joining).
    pub(crate) async fn begin_joining(&self) -> Result<[u8; INCARNATION_BYTES], JoinError> {
        let mut directory = self.directory.lock().await;
        match self.stage(&directory)? {
            Stage::Joining(incarnation) => Ok(incarnation),
            Stage::Empty => {
                let incarnation = self.sources.random();
                let stage = Stage::Joining(incarnation);
                let advanced = self.in_directory(&mut directory, move |held| held.advance(stage)).await?;
                advanced.ok_or_else(|| self.stopped())??;
                Ok(incarnation)
            }
            stage @ (Stage::Founding(_) | Stage::Restoring(_) | Stage::Member(_)) => {
                Err(JoinError::NotEmpty { stage: stage.to_string() })
            }
        }
    }

    /// See [`Handle::join`](crate::Handle::join).
    pub(crate) async fn join(self: &Arc<Self>, admitted: Admitted) -> Result<(), JoinError> {
        let identity = WalIdentity { cluster: *admitted.cluster.as_bytes(), member: admitted.member.get() };
        let mut directory = self.directory.lock().await;
        match self.stage(&directory)? {
            Stage::Member(known) if known == identity => return Ok(()),
            Stage::Joining(_) => {}
            stage @ (Stage::Empty | Stage::Founding(_) | Stage::Restoring(_) | Stage::Member(_)) => {
                return Err(JoinError::NotEmpty { stage: stage.to_string() });
            }
        }
        let first = encode(&admitted);
        let saved = self.in_directory(&mut directory, move |held| held.save_first_peers(&first)).await?;
        saved.ok_or_else(|| self.stopped())??;
        self.peers.roster().begin_with(admitted.epoch, &admitted.peers);
        let opened = Opened::open(self, identity, LogIs::Made).await?;
        // From here on a missing log is a lost disk.
        let stage = Stage::Member(identity);
        let advanced = self.in_directory(&mut directory, move |held| held.advance(stage)).await;
        let advanced = advanced
            .map_err(JoinError::from)
            .and_then(|advanced| advanced.ok_or_else(|| self.stopped())?.map_err(JoinError::from));
        if let Err(error) = advanced {
            opened.abandon(self).await;
            return Err(error);
        }
        self.serve(opened, admitted.member);
        Ok(())
    }

    fn stage(&self, directory: &Option<NodeDirectory>) -> Result<Stage, JoinError> {
        directory.as_ref().map(NodeDirectory::stage).ok_or_else(|| self.stopped())
    }

    fn stopped(&self) -> JoinError {
        JoinError::Stopped { reason: self.stop_reason() }
    }
}
