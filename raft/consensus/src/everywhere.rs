//! What takes rights away is acknowledged when every connected member has applied it (design section 2, property 5).

use std::sync::Arc;

use quorate_proto_api::peer as proto;
use tokio::time::{Instant, sleep};

use crate::{handle::LinearizeError, limits::FORWARD_PAUSE, node::Node, peer::Lane, role::Role, stop::with_causes};

impl Node {
    /// Waits until every connected member has applied `index`, whoever leads; tries again while the lead moves. The error
    /// is in words.
    pub(crate) async fn await_everywhere(self: &Arc<Self>, index: u64, deadline: Instant) -> Result<(), Arc<str>> {
        loop {
            let role = self.role.borrow().clone();
            let waited = match role {
                Role::Stopped { reason } => return Err(reason),
                Role::Leader { .. } => match self.await_everywhere_as_leader(index, deadline).await {
                    Ok(_members) => Ok(()),
                    Err(stopped @ LinearizeError::Stopped { .. }) => return Err(with_causes(&stopped).into()),
                    Err(error) => Err(with_causes(&error).into()),
                },
                Role::Follower { leader: Some(leader) } | Role::Learner { leader: Some(leader) } => {
                    self.ask_leader_to_wait(leader.get(), index, deadline).await
                }
                Role::Unfounded
                | Role::Candidate
                | Role::Follower { leader: None }
                | Role::Learner { leader: None } => Err(Arc::from("nobody leads")),
            };
            match waited {
                Ok(()) => return Ok(()),
                Err(reason) if Instant::now() + FORWARD_PAUSE >= deadline => return Err(reason),
                Err(_for_now) => sleep(FORWARD_PAUSE).await,
            }
        }
    }

    async fn ask_leader_to_wait(&self, leader: u64, index: u64, deadline: Instant) -> Result<(), Arc<str>> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let limit_millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let call = self.peers.call(leader, Lane::Work, limit, |mut client, sender| async move {
            client.await_applied(proto::AwaitAppliedRequest { sender: Some(sender), index, limit_millis }).await
        });
        call.await.map(|_answer| ()).map_err(|error| error.reason())
    }
}
