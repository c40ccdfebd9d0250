//! The members, as this node reaches them and is reached by them.
//!
//! ```text
//!   network, forwarding, reads, reports, questions                       applied state ──► Roster ◄── answer to Join
//!        │ calls, each with a deadline                                                       │  who has which key, where
//!        ▼                                                                                   ▼
//!   Line: two per member (raft, everything else) ──dial──► Transport ──accept──► Server ──► gate ──► Peer service
//!        closed and dialled again after missed deadlines              key known, or vouched for ┘       │ each call:
//!                                                                                                       ▼ key, sender,
//!   a removal, once applied, cuts connections in both directions                     Raft, queue, state   cluster, epoch
//! ```
//!
//! - `roster`: which key belongs to which member, and whether it may speak (ATK-25, ATK-27)
//! - `line`: a channel that is dialled again when it falls silent (SIM-01, SIM-09)
//! - `matches`: what followers have acknowledged, so that a disk put back to an older state is noticed (FLT-18)
//! - `calls`: the client's side of every call
//! - `server`, `gate`: who is let in, and how many (ATK-26)
//! - `service`: the answers; `receiving`, `sending`: snapshots (ATK-28); `drained`: no request is cut short (SIM-01)
//! - `join`: the two questions that a newcomer may ask
//! - `wire`: Raft's types and the messages

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use quorate_proto_api::peer::{Sender, peer_client::PeerClient};
use quorate_raft_store::WalIdentity;
use tokio::runtime;
use tonic::transport::Channel;

use self::{line::Line, matches::Matches, roster::Roster};
use crate::{
    limits::PEER_MESSAGE_BYTES_MAX,
    transport::{Destination, Protocol, Transport},
};

pub(crate) mod calls;
mod drained;
pub(crate) mod gate;
pub(crate) mod join;
mod line;
mod matches;
pub(crate) mod receiving;
pub(crate) mod roster;
mod sending;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod wire;

/// What a call is about, which decides the connection that it takes: a snapshot or a slow answer must not keep heartbeats
/// waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Raft's own calls, but for snapshots.
    Raft,
    /// Everything else.
    Work,
}

/// The lines to one member.
#[derive(Debug)]
struct Lines {
    raft: Arc<Line>,
    work: Arc<Line>,
}

/// The other members, as this node reaches them.
pub(crate) struct Peers {
    transport: Arc<dyn Transport>,
    roster: Arc<Roster>,
    runtime: runtime::Handle,
    lines: Mutex<BTreeMap<u64, Lines>>,
    identity: OnceLock<WalIdentity>,
    /// What followers have acknowledged.
    pub(crate) matches: Matches,
}

impl Peers {
    /// The members of a roster, none of them dialled yet. Connections run on `runtime`, whoever calls.
    pub(crate) fn new(transport: Arc<dyn Transport>, roster: Arc<Roster>, runtime: runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            transport,
            roster,
            runtime,
            lines: Mutex::new(BTreeMap::new()),
            identity: OnceLock::new(),
            matches: Matches::default(),
        })
    }

    /// Who the members are.
    pub(crate) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The network.
    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// Says who this node is, once it is a member.
    pub(crate) fn identify(&self, identity: WalIdentity) {
        self.identity.get_or_init(|| identity);
    }

    /// Who this node is.
    pub(crate) fn identity(&self) -> Option<WalIdentity> {
        self.identity.get().copied()
    }

    /// What every call of this node says of its sender.
    pub(crate) fn sender(&self) -> Option<Sender> {
        let identity = self.identity()?;
        Some(Sender {
            cluster: bytes::Bytes::copy_from_slice(&identity.cluster),
            epoch: self.roster.epoch(),
            member: identity.member,
        })
    }

    /// The line to a member for calls of this kind. Making one dials nobody.
    pub(crate) fn line(&self, member: u64, lane: Lane) -> Arc<Line> {
        let mut lines = self.lines.lock();
        let of_member = lines.entry(member).or_insert_with(|| {
            let line =
                || Line::new(member, Arc::clone(&self.transport), Arc::clone(&self.roster), self.runtime.clone());
            Lines { raft: line(), work: line() }
        });
        Arc::clone(match lane {
            Lane::Raft => &of_member.raft,
            Lane::Work => &of_member.work,
        })
    }

    /// Drops the lines to members that have gone, and so their connections, whenever somebody goes.
    pub(crate) async fn forget_the_gone(self: Arc<Self>) {
        let mut changes = self.roster.changes();
        while changes.changed().await.is_ok() {
            self.lines.lock().retain(|member, _| !self.roster.has_gone(*member));
        }
    }
}

/// A client over a channel, within the limits of size.
pub(crate) fn client(channel: Channel) -> PeerClient<Channel> {
    PeerClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}

/// Where a member is dialled.
pub(crate) fn destination(roster: &Roster, member: u64) -> Option<Destination> {
    let (key, addresses) = roster.reach(member)?;
    Some(Destination { addresses, keys: vec![key], protocol: Protocol::Peer })
}
