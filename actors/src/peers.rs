//! What the actors of members ask each other. Consensus carries the questions and says who asks; it reads none of them.
//!
//! ```text
//!   topic     who asks whom         question                          answer
//!   ISSUE     a member its leader   CSR and first CRL of its key      where in the log its certificate is recorded
//!   STREAMS   the leader a member   roots or token keys               how many open streams have not been sent them
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{IssueAnswer, IssueQuestion, StreamsAnswer, StreamsQuestion};
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{AnswerFuture, Answerer, AskError, Handle, topics};
use quorate_raft_machine::AuthorityKind;
use tokio::time::Instant;

use crate::{
    authority::{AuthorityMessage, ISSUE_TIME_LIMIT, IssuingRequest},
    errors::with_causes,
    mailbox::Address,
    session::keeper::OpenStreams,
};

/// How often it is looked whether streams have fetched what they are waited for.
const STREAMS_LOOK: Duration = Duration::from_millis(10);

/// The longest that the streams of a member are waited for, whoever asks: a client that reads nothing must not hold up
/// more than the one question.
pub(crate) const STREAMS_WAIT_LIMIT: Duration = Duration::from_secs(1);

/// Why a question to another member's actors was not answered in a way that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// It did not get there, or was refused.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The answer is not in the form of its topic: the other node's program is another version.
    #[error("the answer cannot be read")]
    Malformed(#[from] prost::DecodeError),
}

/// Asks whoever leads for an issuing certificate for a key of this member. Gives the log index of its record.
pub(crate) async fn ask_issue(handle: &Handle, request: &IssuingRequest, deadline: Instant) -> Result<u64, PeerError> {
    let question = IssueQuestion { csr: request.csr.clone(), crl: request.crl.clone() };
    let answer = handle.ask(None, topics::ISSUE, question.encode_to_vec().into(), deadline).await?;
    Ok(IssueAnswer::decode(answer)?.log_index)
}

/// Asks a member how many of its open streams have not been sent the authorities of a kind that it knows of, after it has
/// waited for them.
pub(crate) async fn ask_streams(
    handle: &Handle,
    member: MemberNumber,
    kind: AuthorityKind,
    wait: Duration,
    deadline: Instant,
) -> Result<u64, PeerError> {
    let wait_millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let question = StreamsQuestion { kind: kind as u32, wait_millis };
    let answer = handle.ask(Some(member), topics::STREAMS, question.encode_to_vec().into(), deadline).await?;
    Ok(StreamsAnswer::decode(answer)?.lacking)
}

/// Waits until the open streams of this node have fetched the authorities of a kind that it knows of, at most so long.
/// Gives how many have not.
pub(crate) async fn until_sent(streams: &OpenStreams, kind: AuthorityKind, wait: Duration) -> usize {
    let until = Instant::now() + wait.min(STREAMS_WAIT_LIMIT);
    loop {
        let lacking = streams.lacking(kind);
        if lacking == 0 || Instant::now() >= until {
            return lacking;
        }
        tokio::time::sleep(STREAMS_LOOK).await;
    }
}

/// Answers what other members ask the actors of this node.
#[derive(Clone)]
pub(crate) struct PeerAnswers {
    pub(crate) authority: Address<AuthorityMessage>,
    pub(crate) streams: OpenStreams,
    /// Who answers what is not for the actors.
    pub(crate) others: Option<Arc<dyn Answerer>>,
}

impl Answerer for PeerAnswers {
    fn answer(&self, from: MemberNumber, topic: u32, question: Bytes) -> AnswerFuture {
        match (topic, &self.others) {
            (topics::ISSUE, _) => {
                let authority = self.authority.clone();
                Box::pin(async move { issue(&authority, from, question).await })
            }
            (topics::STREAMS, _) => {
                let streams = self.streams.clone();
                Box::pin(async move { answer_streams(&streams, question).await })
            }
            (_, Some(others)) => others.answer(from, topic, question),
            (_, None) => Box::pin(async move { Err(format!("this node knows no questions of topic {topic}")) }),
        }
    }
}

/// The certificate is for the member that asks: consensus has authenticated it, and what the question says of its key is
/// proved by the signature of the CSR.
async fn issue(authority: &Address<AuthorityMessage>, from: MemberNumber, question: Bytes) -> Result<Bytes, String> {
    let question = IssueQuestion::decode(question).map_err(|error| error.to_string())?;
    let request = IssuingRequest { member: from, csr: question.csr, crl: question.crl };
    let issue = |reply| AuthorityMessage::Issue { request, reply };
    let answer = authority.ask(ISSUE_TIME_LIMIT, issue).await.map_err(|error| error.to_string())?;
    let log_index = answer.map_err(|error| with_causes(&error))?;
    Ok(IssueAnswer { log_index }.encode_to_vec().into())
}

async fn answer_streams(streams: &OpenStreams, question: Bytes) -> Result<Bytes, String> {
    let question = StreamsQuestion::decode(question).map_err(|error| error.to_string())?;
    let kind = AuthorityKind::from_number(question.kind)
        .ok_or_else(|| format!("this node knows no authorities of kind {}", question.kind))?;
    let lacking = until_sent(streams, kind, Duration::from_millis(question.wait_millis)).await;
    Ok(StreamsAnswer { lacking: u64::try_from(lacking).unwrap_or(u64::MAX) }.encode_to_vec().into())
}
