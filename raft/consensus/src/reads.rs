//! Read-index rounds, shared by those who read at the same time.
//!
//! ```text
//!   readers ──► next round (waits while one is on its way) ──► leader: a quorum confirms its office     ──► index
//!                                                          └─► others: one ReadIndex call to the leader ──► index
//!                                                                                    then: applied here up to there
//! ```
//!
//! A round serves only those who came before it began: what was committed before a reader asked is then below the index.

use std::{sync::Arc, time::Duration};

use openraft::{
    LogIdOptionExt,
    error::{CheckIsLeaderError, RaftError},
};
use parking_lot::Mutex;
use quorate_proto_api::peer as proto;
use quorate_proto_identity::MemberNumber;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    handle::LinearizeError,
    limits::{READ_ROUND_TIME_LIMIT, READERS_MAX},
    node::Node,
    peer::Lane,
    role::Role,
    stop::with_causes,
};

/// The pause before a leader is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// What a round has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReadPoint {
    /// What a reader must have applied.
    index: u64,
    /// The term that this node led in all through the round; none when another member leads and has confirmed it.
    led_in: Option<u64>,
}

type Reached = Result<ReadPoint, LinearizeError>;

/// Who waits for a round.
#[derive(Debug, Default)]
pub(crate) struct ReadRounds {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whether a task works off rounds.
    at_work: bool,
    readers: Vec<oneshot::Sender<Reached>>,
}

impl ReadRounds {
    /// Reads, whoever leads: tries again while the lead moves, until the deadline. What was reached is applied here.
    pub(crate) async fn read(&self, node: &Arc<Node>, deadline: Instant) -> Result<u64, LinearizeError> {
        loop {
            match self.round(node).await {
                Ok(ReadPoint { index, led_in: _ }) => {
                    let applied = node.reader().wait_applied(index, deadline).await;
                    return applied.map(|()| index).map_err(|_late| LinearizeError::Deadline);
                }
                Err(stopped @ LinearizeError::Stopped { .. }) => return Err(stopped),
                Err(error) if Instant::now() + PAUSE >= deadline => return Err(error),
                Err(_for_now) => sleep(PAUSE).await,
            }
        }
    }

    /// A read index for a member that takes this node for the leader: a shared round. When the lead moves meanwhile, the
    /// new leader's index is as good.
    pub(crate) async fn index(&self, node: &Arc<Node>, deadline: Instant) -> Result<u64, LinearizeError> {
        if !node.role.borrow().is_leader() {
            return Err(LinearizeError::NotLeader { leader: node.leader() });
        }
        let reached = timeout_at(deadline, self.round(node)).await.unwrap_or(Err(LinearizeError::Deadline))?;
        Ok(reached.index)
    }

    /// Confirms that this node itself still leads, and in this term: nobody else has led since it won the election.
    pub(crate) async fn confirm_term(
        &self,
        node: &Arc<Node>,
        term: u64,
        deadline: Instant,
    ) -> Result<(), LinearizeError> {
        let reached = timeout_at(deadline, self.round(node)).await.unwrap_or(Err(LinearizeError::Deadline))?;
        if reached.led_in == Some(term) {
            return Ok(());
        }
        Err(LinearizeError::NotLeader { leader: node.leader() })
    }

    /// Takes part in the next round.
    async fn round(&self, node: &Arc<Node>) -> Reached {
        let (reader, reached) = oneshot::channel();
        let begin = {
            let mut waiting = self.waiting.lock();
            if waiting.readers.len() >= READERS_MAX {
                return Err(LinearizeError::Deadline);
            }
            waiting.readers.push(reader);
            !std::mem::replace(&mut waiting.at_work, true)
        };
        if begin {
            let worker = Arc::clone(node);
            // A task of its own: the reader that happened to come first may go away.
            drop(node.config.runtime.spawn(async move { worker.reads.work(&worker).await }));
        }
        reached.await.unwrap_or_else(|_lost| Err(LinearizeError::Stopped { reason: node.stop_reason() }))
    }

    /// Works off rounds until nobody waits.
    async fn work(&self, node: &Arc<Node>) {
        loop {
            let readers = {
                let mut waiting = self.waiting.lock();
                if waiting.readers.is_empty() {
                    waiting.at_work = false;
                    return;
                }
                std::mem::take(&mut waiting.readers)
            };
            let reached = one_round(node).await;
            for reader in readers {
                // A reader that has gone away needs no answer.
                drop(reader.send(reached.clone()));
            }
        }
    }
}

/// One round, from wherever this node stands.
async fn one_round(node: &Arc<Node>) -> Reached {
    let role = node.role.borrow().clone();
    match role {
        Role::Leader { .. } => as_leader(node).await,
        Role::Follower { leader: Some(leader) } | Role::Learner { leader: Some(leader) } => {
            from_leader(node, leader).await
        }
        Role::Stopped { reason } => Err(LinearizeError::Stopped { reason }),
        Role::Unfounded | Role::Candidate | Role::Follower { leader: None } | Role::Learner { leader: None } => {
            Err(LinearizeError::NotLeader { leader: None })
        }
    }
}

async fn as_leader(node: &Arc<Node>) -> Reached {
    let Some(engine) = node.engine.get() else { return Err(LinearizeError::NotLeader { leader: None }) };
    let round = async {
        // The heartbeats of a round would keep alive what a hand-over waits to end (ELE-09).
        engine.elections.no_transfer().await;
        engine.raft().get_read_log_id().await
    };
    match timeout(READ_ROUND_TIME_LIMIT, round).await {
        // A leader's first entry is part of what it makes readers wait for, so that its term is that of the log ID.
        Ok(Ok((read, _applied))) => {
            Ok(ReadPoint { index: read.index().unwrap_or(0), led_in: read.map(|id| id.leader_id.term) })
        }
        Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)))) => {
            Err(LinearizeError::NotLeader { leader: forward.leader_id.and_then(MemberNumber::new) })
        }
        Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => Err(LinearizeError::Deadline),
        Ok(Err(RaftError::Fatal(fatal))) => {
            Err(LinearizeError::Stopped { reason: node.stop.record(with_causes(&fatal)) })
        }
    }
}

async fn from_leader(node: &Arc<Node>, leader: MemberNumber) -> Reached {
    let call = node.peers.call(leader.get(), Lane::Work, READ_ROUND_TIME_LIMIT, |mut client, sender| async move {
        client.read_index(proto::ReadIndexRequest { sender: Some(sender) }).await
    });
    match call.await {
        Ok(answer) => Ok(ReadPoint { index: answer.index, led_in: None }),
        Err(error) => {
            tracing::debug!(leader = leader.get(), error = %with_causes(&error), "the leader confirmed no read index");
            Err(LinearizeError::NotLeader { leader: Some(leader) })
        }
    }
}
