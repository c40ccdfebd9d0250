//! A planted bug: a leader counts a follower as having what was merely sent to it, so that a write is answered before a
//! quorum has it. Simulation and chaos runs have to catch it: entries that were on their way when the leader was killed
//! are lost, and had been acknowledged.

use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::PeerNetwork;
use crate::{peer::calls::CallError, type_config::TypeConfig};

pub(super) type Sent = (AppendEntriesRequest<TypeConfig>, Option<oneshot::Sender<AppendEntriesResponse<u64>>>);

const PAUSE: Duration = Duration::from_millis(20);

impl PeerNetwork {
    /// Answers for the follower at once; only what carries nothing waits for its turn.
    pub(super) async fn append_early(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<AppendEntriesResponse<u64>, CallError> {
        if self.late.is_none() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let client = Self { member: self.member, networks: self.networks.clone(), late: None };
            tokio::spawn(client.send_late(receiver, limit));
            self.late = Some(sender);
        }
        let Some(late) = &self.late else { return Err(CallError::NotAMember) };
        if request.entries.is_empty() {
            let (sender, receiver) = oneshot::channel();
            drop(late.send((request, Some(sender))));
            return receiver.await.map_err(|_gone| CallError::Deadline(limit));
        }
        drop(late.send((request, None)));
        Ok(AppendEntriesResponse::Success)
    }

    /// Sends in order what was answered for already, again and again until it is there.
    async fn send_late(self, mut requests: mpsc::UnboundedReceiver<Sent>, limit: Duration) {
        while let Some((request, waiting)) = requests.recv().await {
            let is_heartbeat = waiting.is_some();
            loop {
                match tokio::time::timeout(limit, self.append(request.clone(), limit)).await {
                    Ok(Ok(AppendEntriesResponse::HigherVote(vote))) => {
                        if let Some(waiting) = waiting {
                            drop(waiting.send(AppendEntriesResponse::HigherVote(vote)));
                        }
                        return;
                    }
                    Ok(Ok(AppendEntriesResponse::Success)) => {
                        if let Some(waiting) = waiting {
                            drop(waiting.send(AppendEntriesResponse::Success));
                        }
                        break;
                    }
                    Ok(Ok(AppendEntriesResponse::Conflict | AppendEntriesResponse::PartialSuccess(_)) | Err(_))
                    | Err(_) => {
                        if is_heartbeat {
                            break;
                        }
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}
