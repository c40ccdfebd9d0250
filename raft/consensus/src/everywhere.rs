//! What takes rights away is acknowledged when every connected member has applied it (design section 2, property 5).
//!
//! Those who wait share calls: one asks for the highest index that anybody waits for, and what has been reached once was
//! reached for every lower index too. A member that was cut off then and is connected again since changes nothing about
//! that: the acknowledgement was due before it came back.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use quorate_proto_api::peer as proto;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{
    handle::LinearizeError,
    limits::{AWAITS_IN_FLIGHT_MAX, FORWARD_PAUSE},
    node::Node,
    peer::Lane,
    role::Role,
    stop::with_causes,
};

/// Who waits for what to be applied everywhere.
#[derive(Debug)]
pub(crate) struct Everywhere {
    /// The highest index that anybody waits for.
    wanted: AtomicU64,
    /// The highest index that every connected member had applied.
    reached: AtomicU64,
    calls: Semaphore,
}

impl Default for Everywhere {
    fn default() -> Self {
        Self { wanted: AtomicU64::new(0), reached: AtomicU64::new(0), calls: Semaphore::new(AWAITS_IN_FLIGHT_MAX) }
    }
}

impl Node {
    /// Waits until every connected member has applied `index`, whoever leads; tries again while the lead moves. The error
    /// is in words.
    pub(crate) async fn await_everywhere(self: &Arc<Self>, index: u64, deadline: Instant) -> Result<(), Arc<str>> {
        self.everywhere.wanted.fetch_max(index, Ordering::AcqRel);
        loop {
            let Ok(_call) = self.everywhere.calls.acquire().await else { return Err(self.stop_reason()) };
            if self.everywhere.reached.load(Ordering::Acquire) >= index {
                return Ok(());
            }
            let index = self.everywhere.wanted.load(Ordering::Acquire);
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
                Ok(()) => {
                    self.everywhere.reached.fetch_max(index, Ordering::AcqRel);
                    return Ok(());
                }
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
