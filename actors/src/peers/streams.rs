//! Questions after the open streams of a member: what they lack, and what they still depend on.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{StreamsAnswer, StreamsQuestion};
use quorate_proto_identity::{AuthorityId, MemberNumber};
use quorate_raft_consensus::{Handle, topics};
use quorate_raft_machine::AuthorityKind;
use tokio::time::Instant;

use super::PeerError;
use crate::session::keeper::OpenStreams;

/// How often it is looked whether streams have what they are waited for, at most. A look at very many streams takes its
/// time, and is followed by [`LOOK_REST`] times as long a rest.
const STREAMS_LOOK: Duration = Duration::from_millis(10);

/// The rest after a look, as a multiple of what the look took: looking takes no more than a tenth of one processor.
const LOOK_REST: u32 = 9;

/// The longest that the streams of a member are waited for, whoever asks: a client that reads nothing must not hold up
/// more than the one question.
pub(crate) const STREAMS_WAIT_LIMIT: Duration = Duration::from_secs(1);

/// What is waited for before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamsWait {
    /// Nothing.
    None,
    /// That all have been sent the authorities of the kind that the member knows of, at most so long.
    Sent(Duration),
    /// That none was last sent anything under the authority, at most so long.
    Moved(Duration),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamsAsked {
    /// Which kind of authority it is about.
    pub(crate) kind: AuthorityKind,
    /// By which authority streams are counted.
    pub(crate) authority: Option<AuthorityId>,
    /// What is waited for.
    pub(crate) wait: StreamsWait,
}

/// What a member says of its open streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StreamsTold {
    /// How many have yet to fetch the authorities of the kind that the member knows of.
    pub(crate) lacking: u64,
    /// How many were sent something that stands under an authority of the kind.
    pub(crate) sent: u64,
    /// How many of these were last sent something, not yet expired, under the authority.
    pub(crate) depending: u64,
    /// How many of these were last sent nothing but what stands under it.
    pub(crate) under: u64,
    /// Under which authority of the kind the member signs now.
    pub(crate) signs_under: Option<AuthorityId>,
}

/// Asks a member.
pub(crate) async fn ask_streams(
    handle: &Handle,
    member: MemberNumber,
    asked: &StreamsAsked,
    deadline: Instant,
) -> Result<StreamsTold, PeerError> {
    let (waits_for, wait) = match asked.wait {
        StreamsWait::None => (0, Duration::ZERO),
        StreamsWait::Sent(wait) => (0, wait),
        StreamsWait::Moved(wait) => (1, wait),
    };
    let question = StreamsQuestion {
        kind: asked.kind as u32,
        wait_millis: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
        authority_id: asked.authority.as_ref().map(ToString::to_string).unwrap_or_default(),
        waits_for,
    };
    let answer = handle.ask(Some(member), topics::STREAMS, question.encode_to_vec().into(), deadline).await?;
    let StreamsAnswer { lacking, sent, depending, under, signs_under } = StreamsAnswer::decode(answer)?;
    let signs_under = AuthorityId::new(&signs_under).ok();
    Ok(StreamsTold { lacking, sent, depending, under, signs_under })
}

pub(super) async fn answer_streams(streams: &OpenStreams, question: Bytes) -> Result<Bytes, String> {
    let question = StreamsQuestion::decode(question).map_err(|error| error.to_string())?;
    let kind = AuthorityKind::from_number(question.kind)
        .ok_or_else(|| format!("this node knows no authorities of kind {}", question.kind))?;
    let authority = match question.authority_id.as_str() {
        "" => None,
        id => Some(AuthorityId::new(id).map_err(|error| error.to_string())?),
    };
    let wait = Duration::from_millis(question.wait_millis);
    let wait = match question.waits_for {
        0 => StreamsWait::Sent(wait),
        1 => StreamsWait::Moved(wait),
        other => return Err(format!("this node knows nothing to wait for of number {other}")),
    };
    let told = streams_told(streams, &StreamsAsked { kind, authority, wait }).await;
    let StreamsTold { lacking, sent, depending, under, signs_under } = told;
    let signs_under = signs_under.map(|id| id.to_string()).unwrap_or_default();
    Ok(StreamsAnswer { lacking, sent, depending, under, signs_under }.encode_to_vec().into())
}

/// What the open streams of this node have, once they have what is waited for, or the wait is over.
pub(crate) async fn streams_told(streams: &OpenStreams, asked: &StreamsAsked) -> StreamsTold {
    let wait = match asked.wait {
        StreamsWait::None => Duration::ZERO,
        StreamsWait::Sent(wait) | StreamsWait::Moved(wait) => wait,
    };
    let until = Instant::now() + wait.min(STREAMS_WAIT_LIMIT);
    loop {
        let began = Instant::now();
        let told = streams.told(asked.kind, asked.authority.as_ref());
        let waiting = match asked.wait {
            StreamsWait::None => 0,
            StreamsWait::Sent(_) => told.lacking,
            StreamsWait::Moved(_) => told.depending,
        };
        if waiting == 0 || Instant::now() >= until {
            return told;
        }
        let rest = began.elapsed().saturating_mul(LOOK_REST).max(STREAMS_LOOK);
        tokio::time::sleep(rest).await;
    }
}
