//! Raft's types as messages, and back. What a message may not say is refused here, before Raft sees it: Raft takes its
//! peers at their word, and ends consensus over what makes no sense.

use openraft::{
    LogIdOptionExt,
    raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse},
};
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::append_entries_response::Result as AppendResult;
use quorate_raft_store::{self as store, Record};

use crate::{
    entries::{EntryError, from_record, to_record},
    log_id::{from_raft, to_raft, vote_from_raft, vote_to_raft},
    type_config::{LogId, TypeConfig, Vote},
};

/// A message that no member of this program would send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    /// A field is not there.
    #[error("the message lacks its {0}")]
    Missing(&'static str),
    /// Entries do not follow each other.
    #[error("the entries do not follow each other")]
    Gap,
    /// AppendEntries of somebody who was not elected.
    #[error("the vote of an append is not committed")]
    Uncommitted,
    /// An entry of a term that the sender is not in yet.
    #[error("an entry is from a later term than its sender")]
    FromTheFuture,
    /// An entry cannot be read.
    #[error("an entry cannot be read")]
    Entry(#[from] EntryError),
}

pub(crate) fn from_log_id(id: &LogId) -> proto::LogId {
    let store::LogId { term, node, index } = from_raft(id);
    proto::LogId { term, member: node, index }
}

pub(crate) fn to_log_id(id: &proto::LogId) -> LogId {
    to_raft(store::LogId { term: id.term, node: id.member, index: id.index })
}

pub(crate) fn from_vote(vote: &Vote) -> proto::RaftVote {
    let store::Vote { term, node, committed } = vote_from_raft(vote);
    proto::RaftVote { term, member: node, committed }
}

pub(crate) fn to_vote(vote: Option<&proto::RaftVote>) -> Result<Vote, WireError> {
    let vote = vote.ok_or(WireError::Missing("vote"))?;
    Ok(vote_to_raft(store::Vote { term: vote.term, node: vote.member, committed: vote.committed }))
}

/// An AppendEntries, of which the bodies are shared, not copied.
pub(crate) fn from_append(
    request: &AppendEntriesRequest<TypeConfig>,
    sender: proto::Sender,
) -> proto::AppendEntriesRequest {
    proto::AppendEntriesRequest {
        sender: Some(sender),
        vote: Some(from_vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(from_log_id),
        committed: request.leader_commit.as_ref().map(from_log_id),
        entries: request
            .entries
            .iter()
            .map(|entry| {
                let Record { log_id: _, kind, body } = to_record(entry);
                proto::Entry { log_id: Some(from_log_id(&entry.log_id)), kind: u32::from(kind), body }
            })
            .collect(),
    }
}

pub(crate) fn to_append(message: proto::AppendEntriesRequest) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let vote = to_vote(message.vote.as_ref())?;
    if !vote.committed {
        return Err(WireError::Uncommitted);
    }
    let prev_log_id = message.previous.as_ref().map(to_log_id);
    let mut last = prev_log_id;
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        let log_id = entry.log_id.as_ref().map(to_log_id).ok_or(WireError::Missing("log ID"))?;
        if log_id.index != last.next_index() || Some(log_id) <= last {
            return Err(WireError::Gap);
        }
        if log_id.leader_id.term > vote.leader_id.term {
            return Err(WireError::FromTheFuture);
        }
        last = Some(log_id);
        let kind = u8::try_from(entry.kind).unwrap_or(u8::MAX);
        entries.push(from_record(Record { log_id: from_raft(&log_id), kind, body: entry.body })?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, leader_commit: message.committed.as_ref().map(to_log_id), entries })
}

pub(crate) fn from_append_response(response: &AppendEntriesResponse<u64>) -> proto::AppendEntriesResponse {
    let result = match response {
        AppendEntriesResponse::Success => AppendResult::Success(proto::Empty {}),
        AppendEntriesResponse::PartialSuccess(matching) => {
            AppendResult::Partial(proto::PartialSuccess { matching: matching.as_ref().map(from_log_id) })
        }
        AppendEntriesResponse::Conflict => AppendResult::Conflict(proto::Empty {}),
        AppendEntriesResponse::HigherVote(vote) => AppendResult::HigherVote(from_vote(vote)),
    };
    proto::AppendEntriesResponse { result: Some(result) }
}

pub(crate) fn to_append_response(
    message: &proto::AppendEntriesResponse,
) -> Result<AppendEntriesResponse<u64>, WireError> {
    Ok(match message.result.as_ref().ok_or(WireError::Missing("result"))? {
        AppendResult::Success(_) => AppendEntriesResponse::Success,
        AppendResult::Partial(partial) => {
            AppendEntriesResponse::PartialSuccess(partial.matching.as_ref().map(to_log_id))
        }
        AppendResult::Conflict(_) => AppendEntriesResponse::Conflict,
        AppendResult::HigherVote(vote) => AppendEntriesResponse::HigherVote(to_vote(Some(vote))?),
    })
}

pub(crate) fn from_vote_request(
    request: &VoteRequest<u64>,
    transfer: bool,
    sender: proto::Sender,
) -> proto::VoteRequest {
    proto::VoteRequest {
        sender: Some(sender),
        vote: Some(from_vote(&request.vote)),
        last: request.last_log_id.as_ref().map(from_log_id),
        transfer,
    }
}

pub(crate) fn to_vote_request(message: &proto::VoteRequest) -> Result<VoteRequest<u64>, WireError> {
    Ok(VoteRequest::new(to_vote(message.vote.as_ref())?, message.last.as_ref().map(to_log_id)))
}

pub(crate) fn from_vote_response(response: &VoteResponse<u64>) -> proto::VoteResponse {
    proto::VoteResponse {
        vote: Some(from_vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(from_log_id),
    }
}

pub(crate) fn to_vote_response(message: &proto::VoteResponse) -> Result<VoteResponse<u64>, WireError> {
    let vote = to_vote(message.vote.as_ref())?;
    Ok(VoteResponse::new(vote, message.last.as_ref().map(to_log_id), message.granted))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{batch::Batch, type_config::Entry};

    fn at(term: u64, index: u64) -> LogId {
        to_raft(store::LogId { term, node: 2, index })
    }

    fn vote(term: u64) -> Vote {
        Vote::new_committed(term, 2)
    }

    fn append(entries: Vec<Entry>, previous: Option<LogId>) -> proto::AppendEntriesRequest {
        let request = AppendEntriesRequest { vote: vote(3), prev_log_id: previous, leader_commit: previous, entries };
        from_append(&request, proto::Sender::default())
    }

    fn entry(log_id: LogId) -> Entry {
        Entry { log_id, payload: openraft::EntryPayload::Normal(Batch::from_encoded(Bytes::from_static(b"batch"))) }
    }

    #[test]
    fn an_append_comes_back_as_it_went() {
        let message = append(vec![entry(at(2, 8)), entry(at(3, 9))], Some(at(2, 7)));
        let back = to_append(message.clone()).unwrap();
        assert_eq!(back.vote, vote(3));
        assert_eq!((back.prev_log_id, back.leader_commit), (Some(at(2, 7)), Some(at(2, 7))));
        assert_eq!(from_append(&back, proto::Sender::default()), message);
        assert!(to_append(append(Vec::new(), None)).is_ok(), "a heartbeat before the first entry");
    }

    #[test]
    fn what_raft_would_fall_over_is_refused() {
        let refused = |message| to_append(message).unwrap_err();
        let good = || append(vec![entry(at(2, 8))], Some(at(2, 7)));
        assert!(matches!(refused(append(vec![entry(at(2, 9))], Some(at(2, 7)))), WireError::Gap));
        assert!(matches!(refused(append(vec![entry(at(1, 8))], Some(at(2, 7)))), WireError::Gap));
        assert!(matches!(refused(append(vec![entry(at(4, 8))], Some(at(2, 7)))), WireError::FromTheFuture));
        let uncommitted = proto::RaftVote { term: 3, member: 2, committed: false };
        let message = proto::AppendEntriesRequest { vote: Some(uncommitted), ..good() };
        assert!(matches!(refused(message), WireError::Uncommitted));
        let message = proto::AppendEntriesRequest { vote: None, ..good() };
        assert!(matches!(refused(message), WireError::Missing("vote")));
        let mut message = good();
        message.entries[0].kind = 300;
        assert!(matches!(refused(message), WireError::Entry(_)));
    }

    #[test]
    fn every_answer_comes_back_as_it_went() {
        for answer in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(at(2, 5))),
            AppendEntriesResponse::PartialSuccess(None),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote(9)),
        ] {
            let back = to_append_response(&from_append_response(&answer)).unwrap();
            assert_eq!(format!("{back:?}"), format!("{answer:?}"));
        }
        assert!(to_append_response(&proto::AppendEntriesResponse { result: None }).is_err());
        let request = VoteRequest::new(Vote::new(4, 2), Some(at(3, 9)));
        let message = from_vote_request(&request, true, proto::Sender::default());
        assert!(message.transfer);
        assert_eq!(to_vote_request(&message).unwrap(), request);
        let response = VoteResponse::new(vote(4), Some(at(3, 9)), true);
        assert_eq!(to_vote_response(&from_vote_response(&response)).unwrap(), response);
    }
}
