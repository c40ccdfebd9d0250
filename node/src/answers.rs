//! What other members ask a node for its operators: news of the members, and a hand-over.
//!
//! Both are the leader's to answer. The questions of the actors are theirs; consensus carries all of them alike.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quorate_proto_api::peer::{MemberNews, MembersAnswer, TransferAnswer, TransferQuestion};
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{AnswerFuture, Answerer, Handle, MemberContact, topics};
use tokio::time::Instant;

/// Longest time that a hand-over may take, whatever the question says.
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);

/// Answers for this node.
#[derive(Debug, Clone)]
pub struct NodeAnswers {
    consensus: Handle,
}

impl NodeAnswers {
    /// Answers from what this handle knows.
    #[must_use]
    pub fn new(consensus: Handle) -> Arc<Self> {
        Arc::new(Self { consensus })
    }

    fn members(&self) -> Result<Bytes, String> {
        let leader = self.consensus.member().ok_or("this node belongs to no cluster")?;
        let now = Instant::now();
        let ahead = self.consensus.clock().offset_to_median_millis;
        let members = self.consensus.members().into_iter().map(|member| told(&member, now, ahead)).collect();
        Ok(MembersAnswer { leader: leader.get(), members }.encode_to_vec().into())
    }
}

impl Answerer for NodeAnswers {
    fn answer(&self, _from: MemberNumber, topic: u32, question: Bytes) -> AnswerFuture {
        let node = self.clone();
        Box::pin(async move {
            match topic {
                topics::STATUS => node.members(),
                topics::TRANSFER => {
                    let question = TransferQuestion::decode(question).map_err(|error| error.to_string())?;
                    let to = MemberNumber::new(question.to);
                    let deadline = Instant::now() + Duration::from_millis(question.limit_millis).min(TRANSFER_LIMIT);
                    node.consensus.transfer_leadership(to, deadline).await.map_err(|error| error.to_string())?;
                    Ok(TransferAnswer { to: question.to }.encode_to_vec().into())
                }
                _ => Err(format!("this node knows no questions of topic {topic}")),
            }
        })
    }
}

/// What the leader says of a member. Its clock is told beside the median, as the member itself tells of it; the leader
/// compares it with its own, which is `ahead` of the median.
fn told(member: &MemberContact, now: Instant, ahead: Option<i64>) -> MemberNews {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    MemberNews {
        member: member.number.get(),
        applied_index: member.applied_index,
        connected: member.connected,
        report_age_millis: member.last_report.map(|at| millis(now.saturating_duration_since(at))),
        clock_offset_millis: member.clock_offset_millis.map(|offset| offset.saturating_add(ahead.unwrap_or_default())),
        round_trip_micros: member.round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_told_beside_the_median_and_not_beside_the_leaders() {
        let now = Instant::now();
        let member = MemberContact {
            number: MemberNumber::FIRST,
            applied_index: 9,
            last_report: Some(now),
            connected: true,
            clock_offset_millis: Some(-100),
            round_trip: Some(Duration::from_micros(150)),
        };
        let news = told(&member, now + Duration::from_millis(20), Some(120));
        assert_eq!((news.clock_offset_millis, news.report_age_millis), (Some(20), Some(20)));
        assert_eq!(news.round_trip_micros, Some(150));
    }
}
