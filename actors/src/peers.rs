//! What the actors of members ask each other. Consensus carries the questions and says who asks; it reads none of them.
//!
//! ```text
//!   topic       who asks whom         question                          answer
//!   ISSUE       a member its leader   CSR and first CRL of its key      where in the log its certificate is recorded
//!   STREAMS     the leader a member   roots or token keys, one of them  how many open streams lack them, or depend on it
//!   AUTHORITY   a member its leader   a step in an authority's life     what came of it, or what its gate waits for
//!   COVERED     anybody a member      a revocation                      whether what it signed of it is in recorded CRLs
//!   SENT        anybody a member      a log index                       how many open streams lack the CRLs of it
//!   LEAF        anybody a member      a serial number                   which of its keys signed that
//!   REVOKE_KEYS a member its leader   issuing keys                      where in the log they are revoked whole
//!   FEDERATION  a member its leader   relationships, or one of them        how they are, or what came of fetching now
//!   FETCH       the leader a member   a relationship                    the bundle that its endpoint serves
//!   ENDPOINT    a member its leader   CSR                               its endpoint certificate
//!   WATCHERS    anybody a member      a sequence of our bundle          which peers watch there, and what they have confirmed
//! ```

mod authority;
mod streams;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{IssueAnswer, IssueQuestion};
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{AnswerFuture, Answerer, AskError, Handle, topics};
use tokio::time::Instant;

pub(crate) use authority::ask_authority;
pub(crate) use streams::{STREAMS_WAIT_LIMIT, StreamsAsked, StreamsTold, StreamsWait, ask_streams, streams_told};

use crate::{
    authority::{AuthorityMessage, ISSUE_TIME_LIMIT, IssuingRequest},
    endpoint::EndpointSigner,
    errors::with_causes,
    federation::{FederationArguments, answer_federation, answer_fetch},
    mailbox::Address,
    revocation::RevocationArguments,
    session::keeper::OpenStreams,
    watchers::{Watchers, answer_watchers},
};

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
    let question = IssueQuestion { csr: request.csr.clone(), crl: request.crl.clone(), boot: request.boot };
    let answer = handle.ask(None, topics::ISSUE, question.encode_to_vec().into(), deadline).await?;
    Ok(IssueAnswer::decode(answer)?.log_index)
}

/// Answers what other members ask the actors of this node.
#[derive(Clone)]
pub(crate) struct PeerAnswers {
    pub(crate) authority: Address<AuthorityMessage>,
    pub(crate) streams: OpenStreams,
    pub(crate) revocation: RevocationArguments,
    pub(crate) endpoint: EndpointSigner,
    pub(crate) federation: FederationArguments,
    pub(crate) watchers: Watchers,
    /// Who answers what is not for the actors.
    pub(crate) others: Option<Arc<dyn Answerer>>,
}

impl Answerer for PeerAnswers {
    fn answer(&self, from: MemberNumber, topic: u32, question: Bytes) -> AnswerFuture {
        if let Some(answer) = self.revocation.answer(topic, question.clone()) {
            return answer;
        }
        match (topic, &self.others) {
            (topics::ISSUE, _) => {
                let authority = self.authority.clone();
                Box::pin(async move { issue(&authority, from, question).await })
            }
            (topics::STREAMS, _) => {
                let streams = self.streams.clone();
                Box::pin(async move { streams::answer_streams(&streams, question).await })
            }
            (topics::AUTHORITY, _) => {
                let authority = self.authority.clone();
                Box::pin(async move { authority::answer_authority(&authority, question).await })
            }
            (topics::ENDPOINT, _) => self.endpoint.answer(from, question),
            (topics::FEDERATION, _) => {
                let federation = self.federation.clone();
                Box::pin(async move { answer_federation(&federation, question).await })
            }
            (topics::FETCH, _) => {
                let federation = self.federation.clone();
                Box::pin(async move { answer_fetch(&federation, question).await })
            }
            (topics::WATCHERS, _) => {
                let watchers = self.watchers.clone();
                Box::pin(async move { answer_watchers(&watchers, question).await })
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
    let request = IssuingRequest { member: from, boot: question.boot, csr: question.csr, crl: question.crl };
    let issue = |reply| AuthorityMessage::Issue { request, reply };
    let answer = authority.ask(ISSUE_TIME_LIMIT, issue).await.map_err(|error| error.to_string())?;
    let log_index = answer.map_err(|error| with_causes(&error))?;
    Ok(IssueAnswer { log_index }.encode_to_vec().into())
}
