//! Proposals on their way to the leader, and those of others that arrive here (design section 4: every node takes every
//! write and forwards it).
//!
//! ```text
//!   this member: batch ──► Propose ──► leader: each command into its queue, like its own ──► outcomes
//!       ▲                                                                                        │
//!       └── again, under its origin ◄── not led there, no room, no answer ◄──────────────────────┤
//!           to the proposer ◄── applied here too ◄── committed and applied there ◄───────────────┘
//! ```
//!
//! A call that is lost says nothing of its commands. All of them are offered again, and the origin keeps what was done
//! from being done twice.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::propose_result::Result as Fate;
use quorate_proto_identity::MemberNumber;
use quorate_raft_machine::{Command, Outcome};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};
use tonic::Status;

use crate::{
    batcher::{Again, Waiting},
    config::QueueLimits,
    limits::{BATCH_COMMANDS_MAX, FORWARD_PAUSE, FORWARD_TIME_LIMIT, PROPOSAL_TIME_LIMIT},
    node::Node,
    peer::Lane,
    proposal::{Applied, ProposeError, Uncertainty},
    queue::{Answer, Ticket},
    reader::StateReader,
    stop::with_causes,
    telemetry,
};

/// Sends batches to the leader.
pub(crate) struct Forwarder {
    pub(crate) node: Arc<Node>,
}

impl Forwarder {
    /// Sends a batch, in a task of its own that keeps the slot until the leader has answered.
    pub(crate) fn forward(
        &self,
        leader: MemberNumber,
        offers: Vec<Again>,
        slot: OwnedSemaphorePermit,
        again: mpsc::UnboundedSender<Again>,
    ) {
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            telemetry::forwarded(offers.len());
            let commands: Vec<Bytes> = offers.iter().map(|offer| offer.encoded.clone()).collect();
            let limit_millis = u64::try_from(FORWARD_TIME_LIMIT.as_millis()).unwrap_or(u64::MAX);
            let call = node.peers.call(leader.get(), Lane::Work, FORWARD_TIME_LIMIT, |mut client, sender| async move {
                client.propose(proto::ProposeRequest { sender: Some(sender), commands, limit_millis }).await
            });
            let mut fates = match call.await {
                Ok(answer) => answer.results.into_iter(),
                Err(error) => {
                    tracing::debug!(leader = leader.get(), error = %with_causes(&error), "the leader took no proposals");
                    Vec::new().into_iter()
                }
            };
            let (mut applied, mut repeated) = (Vec::new(), Vec::new());
            for mut offer in offers {
                match read_fate(fates.next().and_then(|fate| fate.result), node.config.queue) {
                    Known::Applied(known) => applied.push((known, offer.waiting)),
                    Known::Refused(error) => offer.waiting.refuse(error),
                    Known::NotTaken => repeated.push(offer),
                    Known::Nothing => {
                        offer.waiting.lost_sight();
                        repeated.push(offer);
                    }
                }
            }
            if !repeated.is_empty() {
                // Who leads now is not known at once.
                sleep(FORWARD_PAUSE).await;
                for offer in repeated {
                    // The batcher is gone: so is whoever would answer, and the proposer learns that much.
                    drop(again.send(offer));
                }
            }
            drop(slot);
            answer_when_applied(&node.reader(), applied).await;
        });
    }
}

/// Who writes here reads it here: answers wait until this node has applied what the leader has (design property 1).
async fn answer_when_applied(reader: &StateReader, applied: Vec<(Applied, Waiting)>) {
    let deadline = Instant::now() + PROPOSAL_TIME_LIMIT;
    for (known, waiting) in applied {
        match reader.wait_applied(known.log_index, deadline).await {
            Ok(()) => waiting.tell(Answer::Applied(known)),
            Err(_late) => waiting.tell(Answer::Unknown(Uncertainty::Deadline)),
        }
    }
}

/// What is known of a command that was offered to the leader.
enum Known {
    Applied(Applied),
    Refused(ProposeError),
    /// To be offered again: this time nothing was done.
    NotTaken,
    /// To be offered again: perhaps it was done.
    Nothing,
}

fn read_fate(fate: Option<Fate>, queue: QueueLimits) -> Known {
    use proto::NotTakenReason as Reason;
    match fate {
        Some(Fate::Applied(proto::Applied { log_index, outcome, messages })) => {
            match Outcome::decode(&outcome, &messages) {
                Ok(outcome) => Known::Applied(Applied { log_index, outcome }),
                // A leader of a later version. The state of this node will not understand it either, and say so.
                Err(_unreadable) => Known::Nothing,
            }
        }
        Some(Fate::NotTaken(proto::NotTaken { reason, text, leader: _ })) => match Reason::try_from(reason) {
            Ok(Reason::NoSpace | Reason::Invalid) => {
                Known::Refused(ProposeError::RefusedByLeader { reason: text.into() })
            }
            Ok(Reason::Overloaded) => {
                Known::Refused(ProposeError::Overloaded { proposals: queue.proposals, bytes: queue.bytes })
            }
            Ok(Reason::NotLeader | Reason::Stopped | Reason::Unspecified) | Err(_) => Known::NotTaken,
        },
        Some(Fate::Unknown(_)) | None => Known::Nothing,
    }
}

impl Node {
    /// Takes commands that `member` forwards, and waits for their outcomes until the deadline.
    pub(crate) async fn take_forwarded(
        &self,
        member: u64,
        commands: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<proto::ProposeResponse, Status> {
        if commands.len() > BATCH_COMMANDS_MAX {
            return Err(Status::invalid_argument("more commands than one batch may have"));
        }
        let taken: Vec<Result<_, Fate>> = commands.into_iter().map(|encoded| self.take_one(member, encoded)).collect();
        let mut results = Vec::with_capacity(taken.len());
        for taken in taken {
            let fate = match taken {
                Ok((ticket, receiver)) => self.fate(&ticket, receiver, deadline).await,
                Err(fate) => fate,
            };
            results.push(proto::ProposeResult { result: Some(fate) });
        }
        Ok(proto::ProposeResponse { results })
    }

    fn take_one(&self, member: u64, encoded: Bytes) -> Result<(Arc<Ticket>, oneshot::Receiver<Answer>), Fate> {
        use proto::NotTakenReason as Reason;
        let bytes = encoded.len();
        if !self.role.borrow().is_leader() {
            return Err(self.not_taken(Reason::NotLeader, "this member does not lead"));
        }
        if bytes > self.config.batch.command_bytes {
            return Err(self.not_taken(Reason::Invalid, "the command is larger than any may be"));
        }
        // What cannot be read back would end consensus on every member that reads it.
        let command =
            Command::decode(encoded).map_err(|error| self.not_taken(Reason::Invalid, &with_causes(&error)))?;
        let Command { origin, caller, operations, time: _ } = command;
        if origin.node != member {
            return Err(self.not_taken(Reason::Invalid, "the command is from another member than its sender"));
        }
        self.space.check(&operations).map_err(|error| self.not_taken(Reason::NoSpace, &error.to_string()))?;
        let ticket = Arc::<Ticket>::default();
        match self.queue.push(Arc::clone(&ticket), Some(origin), caller, operations, bytes) {
            Ok(receiver) => Ok((ticket, receiver)),
            Err(Some(error)) => Err(self.not_taken(Reason::Overloaded, &error.to_string())),
            Err(None) => Err(self.not_taken(Reason::Stopped, &self.stop_reason())),
        }
    }

    /// Waits for the outcome of a forwarded command.
    async fn fate(&self, ticket: &Ticket, receiver: oneshot::Receiver<Answer>, deadline: Instant) -> Fate {
        use proto::NotTakenReason as Reason;
        match timeout_at(deadline, receiver).await {
            Ok(Ok(Answer::Applied(Applied { log_index, outcome }))) => {
                let (outcome, messages) = outcome.encode();
                Fate::Applied(proto::Applied { log_index, outcome: outcome.into(), messages })
            }
            Ok(Ok(Answer::NotLeader)) => self.not_taken(Reason::NotLeader, "this member does not lead any more"),
            Ok(Ok(Answer::Refused(error))) => self.not_taken(Reason::Stopped, &error.to_string()),
            Ok(Ok(Answer::Unknown(cause))) => Fate::Unknown(proto::Unknown { text: cause.to_string() }),
            Ok(Err(_)) | Err(_) if ticket.give_up() => self.not_taken(Reason::NotLeader, "no batch took it in time"),
            Ok(Err(_)) | Err(_) => {
                Fate::Unknown(proto::Unknown { text: "no answer came within the time limit".into() })
            }
        }
    }

    fn not_taken(&self, reason: proto::NotTakenReason, text: &str) -> Fate {
        let leader = self.leader().map_or(0, MemberNumber::get);
        Fate::NotTaken(proto::NotTaken { reason: reason.into(), text: text.to_owned(), leader })
    }
}
