//! How a service changes the replicated state: one command, its outcome, and where in the log it stands.

use std::sync::Arc;

use quorate_proto_api::LOG_INDEX_HEADER;
use quorate_raft_consensus::limits::PROPOSAL_TIME_LIMIT;
use quorate_raft_consensus::{Applied, Handle, Proposal, ProposeError, Uncertainty};
use quorate_raft_machine::command::CALLER_ADDRESS_LIMIT;
use quorate_raft_machine::{Caller, CallerIdentity, Operation, OperationResult, Refusal, RefusalCode};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::reads::NOT_FOUNDED;
use crate::listeners::connection::Connection;
use crate::node::Node;
use crate::telemetry::SECURITY;

/// How often a command is sent again, under its own origin, when leadership moved while it was on its way. Each time
/// waits for the new leader; five elections within one call's limit are more than a cluster that works has.
const REPEATS: u32 = 5;

/// The way from a service to the log.
#[derive(Debug, Clone)]
pub(super) struct Writes {
    consensus: Handle,
    address: String,
}

/// What became of a command.
#[derive(Debug)]
pub(super) struct Written {
    /// Where in the log it stands.
    pub(super) log_index: u64,
    /// One for each operation, in their order.
    pub(super) results: Vec<OperationResult>,
}

impl Writes {
    /// Writes by way of this node, from its admin socket.
    pub(super) fn new(node: &Node) -> Self {
        let mut address = node.config().admin.socket.display().to_string();
        address.truncate(address.floor_char_boundary(CALLER_ADDRESS_LIMIT));
        Self { consensus: node.consensus().clone(), address }
    }

    /// Who asks, for the audit record.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Caller {
        let identity = request.extensions().get::<Arc<Connection>>().map_or(CallerIdentity::Node, |connection| {
            let credentials = connection.process().credentials();
            CallerIdentity::Unix { uid: credentials.uid, gid: credentials.gid, pid: credentials.pid.unsigned_abs() }
        });
        Caller { identity, address: self.address.clone() }
    }

    /// Has operations carried out, as one command. Each is done or refused by itself.
    ///
    /// # Errors
    ///
    /// When the command was not applied, or it is not known whether it was; the text says which.
    pub(super) async fn write(&self, caller: Caller, operations: Vec<Operation>) -> Result<Written, Status> {
        let wanted = operations.len();
        let proposal = Proposal { caller: caller.clone(), operations, deadline: Instant::now() + PROPOSAL_TIME_LIMIT };
        let Applied { log_index, outcome } = self.propose(proposal).await.map_err(|error| not_applied(&error))?;
        if outcome.results.len() != wanted {
            // A command that was a repeat and whose outcome is gone has one refusal for all.
            let refusal = outcome.results.into_iter().find_map(Result::err);
            return Err(refusal.map_or_else(
                || Status::internal(format!("the command at log index {log_index} has an outcome of another length")),
                |refusal| refused(&refusal),
            ));
        }
        let refused = outcome.results.iter().filter(|result| result.is_err()).count();
        // The record is in the log; this line is for who follows a node. At debug, since writes can be thousands a second.
        tracing::debug!(target: SECURITY, ?caller, log_index, operations = wanted, refused, "the state was changed");
        Ok(Written { log_index, results: outcome.results })
    }

    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        let mut answer = self.consensus.propose(proposal.clone()).await;
        for _ in 0..REPEATS {
            match answer {
                Err(ProposeError::OutcomeUnknown { cause: Uncertainty::LeadershipMoved, unresolved })
                    if Instant::now() < proposal.deadline =>
                {
                    answer = self.consensus.repeat(unresolved, proposal.clone()).await;
                }
                Ok(_) | Err(_) => return answer,
            }
        }
        answer
    }
}

/// An answer to a write, with where in the log it stands as metadata `quorate-log-index`.
pub(super) fn at_log_index<T>(message: T, log_index: Option<u64>) -> Response<T> {
    let mut response = Response::new(message);
    if let Some(log_index) = log_index {
        response.metadata_mut().insert(LOG_INDEX_HEADER, log_index.into());
    }
    response
}

/// What a caller is told of an operation that was refused.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let code = match refusal.code {
        RefusalCode::NotFounded => Code::Unavailable,
        RefusalCode::NotFound => Code::NotFound,
        RefusalCode::AlreadyExists => Code::AlreadyExists,
        RefusalCode::Invalid => Code::InvalidArgument,
        RefusalCode::AlreadyFounded | RefusalCode::WrongState => Code::FailedPrecondition,
        RefusalCode::Conflict | RefusalCode::OutcomeForgotten => Code::Aborted,
        RefusalCode::LimitReached => Code::ResourceExhausted,
    };
    Status::new(code, refusal.message.clone())
}

/// What a caller is told of a command that was not applied, or is not known to be.
pub(super) fn not_applied(error: &ProposeError) -> Status {
    let text = error.to_string();
    match error {
        ProposeError::Unfounded => Status::unavailable(NOT_FOUNDED),
        ProposeError::NoLeader { .. } | ProposeError::Overloaded { .. } | ProposeError::Stopped { .. } => {
            Status::unavailable(format!("{text}; nothing was changed"))
        }
        ProposeError::TooLarge { .. } => {
            Status::resource_exhausted(format!("{text}; nothing was changed: send less in one call"))
        }
        ProposeError::Invalid(cause) => Status::invalid_argument(format!("{text}: {cause}; nothing was changed")),
        ProposeError::NoSpace { .. } => {
            Status::resource_exhausted(format!("{text}; nothing was changed: make room on the node's disk"))
        }
        // Its text says that nothing was changed, and what to do.
        ProposeError::NotRecorded { .. } => Status::resource_exhausted(text),
        ProposeError::RefusedByLeader { .. } => {
            Status::resource_exhausted(format!("{text}; nothing was changed: make room on the leader's disk"))
        }
        // It is done, and not acknowledged as property 5 wants it: whoever deletes has to know that it may not hold yet.
        ProposeError::NotEverywhere { applied, reason } => {
            let mut status = Status::deadline_exceeded(format!(
                "the change is made, at log index {}, and will hold everywhere; but it is not known that every connected \
                 member has applied it: {reason}. Do not repeat it; `quorate cluster members` shows who is behind",
                applied.log_index
            ));
            status.metadata_mut().insert(LOG_INDEX_HEADER, applied.log_index.into());
            status
        }
        ProposeError::OutcomeUnknown { .. } => {
            Status::deadline_exceeded(format!("{text}: look whether the change was made before you repeat it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_a_write_says_where_in_the_log_it_stands() {
        let response = at_log_index((), Some(7));
        assert_eq!(response.metadata().get(LOG_INDEX_HEADER).unwrap(), "7");
        assert!(at_log_index((), None).metadata().is_empty());
    }

    /// Property 5: deleted means gone, and until that is known it is said otherwise.
    #[test]
    fn a_change_that_may_not_hold_everywhere_yet_is_made_and_not_acknowledged() {
        let applied = Applied { log_index: 41, outcome: quorate_raft_machine::Outcome::default() };
        let status = not_applied(&ProposeError::NotEverywhere { applied, reason: "member 3 is behind".into() });
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.metadata().get(LOG_INDEX_HEADER).unwrap(), "41");
        assert!(status.message().starts_with("the change is made, at log index 41"), "{}", status.message());
    }

    #[test]
    fn who_is_told_that_nothing_was_changed_can_rely_on_it() {
        let status = not_applied(&ProposeError::NoLeader { leader: None });
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "there is no leader to take the command; nothing was changed");
    }
}
