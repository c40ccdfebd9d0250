//! The part of the handle that concerns other members.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Handle, LinearizeError};
use crate::{
    ask::{Answerer, AskError},
    clock::ClockStatus,
    contact::{Contact, MemberContact},
    engine::Engine,
    joining::{Admitted, FoundingAnswerer, FoundingStatus, INCARNATION_BYTES, JoinError, JoinRequest},
    node::on_runtime,
    raft_members::{self, MembershipChangeError, RaftMembers},
    role::Role,
    transport::Destination,
};

impl Handle {
    /// Makes sure that what is read from this node's state afterwards is linearizable, whoever leads: everything that was
    /// committed before the call is applied here. Concurrent readers share a round. Gives the log index that was reached.
    ///
    /// # Errors
    ///
    /// [`LinearizeError`]. [`LinearizeError::NotLeader`] when no leader could be asked before the deadline.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, LinearizeError> {
        if let Role::Stopped { reason } = &*self.node.role.borrow() {
            return Err(LinearizeError::Stopped { reason: Arc::clone(reason) });
        }
        let node = Arc::clone(&self.node);
        match timeout_at(deadline, async move { node.reads.read(&node, deadline).await }).await {
            Ok(reached) => reached,
            Err(_elapsed) => Err(LinearizeError::Deadline),
        }
    }

    /// Whether this member is connected to the cluster, and its changes (design section 2).
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.node.contact.subscribe()
    }

    /// What is known of the members. Complete on the leader; empty elsewhere but for this node itself.
    pub fn members(&self) -> Vec<MemberContact> {
        self.node.member_contacts(Instant::now())
    }

    /// How the clock of this node stands to the others.
    pub fn clock(&self) -> ClockStatus {
        *self.node.clock.borrow()
    }

    /// The same, and its changes.
    pub fn watch_clock(&self) -> watch::Receiver<ClockStatus> {
        self.node.clock.subscribe()
    }

    /// Asks the actors of a member, or of the leader when none is named. This node's own answerer is asked directly.
    ///
    /// # Errors
    ///
    /// [`AskError`]. Only some say that the question was not heard, so it should be one that can be asked twice.
    pub async fn ask(
        &self,
        member: Option<MemberNumber>,
        topic: u32,
        question: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, AskError> {
        let node = Arc::clone(&self.node);
        let asking = async move { node.ask(member, topic, question, deadline).await };
        match timeout_at(deadline, asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(AskError::Deadline),
        }
    }

    /// Answers the questions of other members with this from now on.
    pub fn answer_with(&self, answerer: Arc<dyn Answerer>) {
        *self.node.answerer.write() = Some(answerer);
    }

    /// Answers questions about founding with this from now on.
    pub fn answer_founding_with(&self, answerer: Arc<dyn FoundingAnswerer>) {
        *self.node.founding_answerer.write() = Some(answerer);
    }

    /// Asks a node that the founding list names how far it is.
    ///
    /// # Errors
    ///
    /// [`JoinError::Unreachable`] and [`JoinError::Deadline`].
    pub async fn ask_founding(
        &self,
        node: &Destination,
        trust_domain: &str,
        list: Bytes,
        deadline: Instant,
    ) -> Result<FoundingStatus, JoinError> {
        let asking = crate::peer::join::ask_founding(&self.node, node, trust_domain, list);
        timeout_at(deadline, asking).await.map_err(|_elapsed| JoinError::Deadline)?
    }

    /// Begins to join, on an empty directory: from here on this node founds nothing. Gives the number that tells its
    /// directory from every other, the same at each call.
    ///
    /// # Errors
    ///
    /// [`JoinError::NotEmpty`] and those of the disk.
    pub async fn begin_joining(&self) -> Result<[u8; INCARNATION_BYTES], JoinError> {
        let node = Arc::clone(&self.node);
        on_runtime(&self.node.config.runtime, async move { node.begin_joining().await }).await?
    }

    /// Asks the nodes at these destinations, in their order, to let this node in. The first that decides, decides.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub async fn admit_at(
        &self,
        targets: &[Destination],
        request: &JoinRequest,
        deadline: Instant,
    ) -> Result<Admitted, JoinError> {
        let asking = crate::peer::join::admit_at(&self.node, targets, request);
        timeout_at(deadline, asking).await.map_err(|_elapsed| JoinError::Deadline)?
    }

    /// Goes on as the member that was admitted: an empty log is made, and the leader is waited for. Called again for the
    /// same member, also after a crash in the middle, it completes what was begun.
    ///
    /// # Errors
    ///
    /// [`JoinError`].
    pub async fn join(&self, admitted: Admitted) -> Result<(), JoinError> {
        let node = Arc::clone(&self.node);
        on_runtime(&self.node.config.runtime, async move { node.join(admitted).await }).await?
    }

    /// Who takes part in Raft, as far as this node's log tells; nobody before it belongs to a cluster.
    pub fn raft_members(&self) -> RaftMembers {
        self.node.engine.get().map(Engine::raft_members).unwrap_or_default()
    }

    /// How many log entries a member is behind this leader's log. None when this node does not lead, or does not send
    /// its log to that member.
    pub fn caught_up(&self, member: MemberNumber) -> Option<u64> {
        self.node.engine.get()?.lag(member.get())
    }

    /// Lets a member follow the log, without a vote. Its name and addresses come from its record in the state. Does
    /// nothing when it does already. The leader's to do.
    ///
    /// # Errors
    ///
    /// [`MembershipChangeError`].
    pub async fn add_learner(&self, member: MemberNumber, deadline: Instant) -> Result<(), MembershipChangeError> {
        let engine = self.engine_to_change()?;
        if engine.raft_members().contains(member.get()) {
            return Ok(());
        }
        let known = self.node.peers.roster().raft_node(member.get());
        let record = known.ok_or(MembershipChangeError::NotAMember(member.get()))?;
        raft_members::add_learner(&engine.raft(), member.get(), record, deadline).await
    }

    /// Makes these members, and no others, the voters; all of them follow the log already. Who was a voter and is none
    /// of them follows it on. A change that an earlier leader left half done is completed. The leader's to do.
    ///
    /// # Errors
    ///
    /// [`MembershipChangeError`].
    pub async fn change_voters(&self, voters: BTreeSet<u64>, deadline: Instant) -> Result<(), MembershipChangeError> {
        let engine = self.engine_to_change()?;
        raft_members::change_voters(&engine.raft(), voters, deadline).await
    }

    /// Takes a member out of Raft: it gets no log any more. Does nothing when it is out already. The leader's to do.
    ///
    /// # Errors
    ///
    /// [`MembershipChangeError`].
    pub async fn drop_from_raft(&self, member: MemberNumber, deadline: Instant) -> Result<(), MembershipChangeError> {
        let engine = self.engine_to_change()?;
        raft_members::drop_from_raft(&engine.raft(), &engine.raft_members(), member.get(), deadline).await
    }

    /// The engine, if this node leads.
    fn engine_to_change(&self) -> Result<&Engine, MembershipChangeError> {
        match &*self.node.role.borrow() {
            Role::Stopped { reason } => return Err(MembershipChangeError::Stopped { reason: Arc::clone(reason) }),
            Role::Leader { .. } => {}
            Role::Unfounded | Role::Learner { .. } | Role::Follower { .. } | Role::Candidate => {
                return Err(MembershipChangeError::NotLeader { leader: self.leader() });
            }
        }
        self.node.engine.get().ok_or(MembershipChangeError::NotLeader { leader: None })
    }
}
