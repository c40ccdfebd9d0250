//! Asking the actors of other members, and this node's own.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_api::peer as proto;
use quorate_proto_identity::MemberNumber;
use tokio::time::Instant;

use crate::{
    ask::AskError,
    limits::QUESTION_BYTES_MAX,
    node::Node,
    peer::{Lane, calls::CallError},
    role::Role,
    stop::with_causes,
};

impl Node {
    /// See [`Handle::ask`](crate::Handle::ask). The caller minds the deadline too.
    pub(crate) async fn ask(
        &self,
        member: Option<MemberNumber>,
        topic: u32,
        question: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, AskError> {
        if question.len() > QUESTION_BYTES_MAX {
            return Err(AskError::TooLarge { bytes: question.len(), limit: QUESTION_BYTES_MAX });
        }
        let own = self.engine.get().ok_or(AskError::Unfounded)?.member;
        let member = match member {
            Some(member) => member,
            None => self.leader_to_ask(own)?,
        };
        if member == own {
            return self.ask_oneself(own, topic, question).await;
        }
        if self.peers.roster().reach(member.get()).is_none() {
            return Err(AskError::NoMember(member));
        }
        let limit = deadline.saturating_duration_since(Instant::now());
        let call = self.peers.call(member.get(), Lane::Work, limit, |mut client, sender| async move {
            client.ask(proto::AskRequest { sender: Some(sender), topic, question }).await
        });
        match call.await {
            Ok(answer) => Ok(answer.answer),
            Err(CallError::Deadline(_)) => Err(AskError::Deadline),
            Err(CallError::Failed(status)) if status.code() == tonic::Code::FailedPrecondition => {
                Err(AskError::Refused { member, reason: status.message().into() })
            }
            Err(error) => Err(AskError::Unreachable { member, reason: error.reason() }),
        }
    }

    fn leader_to_ask(&self, own: MemberNumber) -> Result<MemberNumber, AskError> {
        match &*self.role.borrow() {
            Role::Leader { .. } => Ok(own),
            Role::Follower { leader: Some(leader) } | Role::Learner { leader: Some(leader) } => Ok(*leader),
            Role::Stopped { reason } => Err(AskError::Stopped { reason: Arc::clone(reason) }),
            Role::Unfounded | Role::Candidate | Role::Follower { leader: None } | Role::Learner { leader: None } => {
                Err(AskError::NoLeader)
            }
        }
    }

    async fn ask_oneself(&self, own: MemberNumber, topic: u32, question: Bytes) -> Result<Bytes, AskError> {
        let answerer = self.answerer.read().clone();
        let refused = |reason: &str| AskError::Refused { member: own, reason: reason.into() };
        let answerer = answerer.ok_or_else(|| refused("nobody answers questions on this member yet"))?;
        match self.config.runtime.spawn(answerer.answer(own, topic, question)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => Err(refused(&reason)),
            Err(lost) => Err(refused(&with_causes(&lost))),
        }
    }
}
