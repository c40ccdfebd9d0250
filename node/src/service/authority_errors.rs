//! What callers are told of steps in the life of authorities that were not taken.

use quorate_actors::AuthorityError;
use quorate_proto_api::LOG_INDEX_HEADER;
use tonic::Status;

use super::writes::refused;

/// The status that says why.
pub(super) fn status(error: &AuthorityError) -> Status {
    let text = error.to_string();
    match error {
        AuthorityError::Refused(refusal) => refused(refusal),
        AuthorityError::Waits { .. } => Status::failed_precondition(format!("{text}; nothing was changed")),
        AuthorityError::NotEverywhere { change, reason } => {
            // Worded as for every write that may not hold everywhere yet (property 5).
            made(change.log_index, &format!("not every connected member is known to have applied it: {reason}"))
        }
        AuthorityError::NotRecorded(_) => Status::resource_exhausted(text),
        AuthorityError::NoLeader { .. } | AuthorityError::Failed { .. } | AuthorityError::Read(_) => {
            Status::unavailable(text)
        }
    }
}

/// What is done, or goes on by itself, and is not known to be complete.
pub(super) fn made(log_index: u64, what: &str) -> Status {
    let mut status = Status::deadline_exceeded(format!("the change is made, at log index {log_index}; {what}"));
    status.metadata_mut().insert(LOG_INDEX_HEADER, log_index.into());
    status
}

#[cfg(test)]
mod tests {
    use quorate_raft_machine::{Refusal, RefusalCode};
    use tonic::Code;

    use super::*;

    #[test]
    fn a_gate_that_stays_shut_is_a_failed_precondition_that_says_for_whom_it_waited() {
        let told = status(&AuthorityError::Waits { waits_for: vec!["node-3 (member 3) is cut off".into()] });
        assert_eq!(told.code(), Code::FailedPrecondition);
        assert!(told.message().contains("node-3") && told.message().contains("nothing was changed"), "{told}");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_what_was_made_says_where() {
        let refusal = Refusal::new(RefusalCode::NotFound, "there is no such authority");
        assert_eq!(status(&AuthorityError::Refused(refusal)).code(), Code::NotFound);
        assert_eq!(status(&AuthorityError::NoLeader { reason: "none".into() }).code(), Code::Unavailable);
        assert_eq!(made(7, "x").metadata().get(LOG_INDEX_HEADER).unwrap(), "7");
    }
}
