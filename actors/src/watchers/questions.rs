//! What members ask each other about watches: who watches there, and what they have confirmed.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quorate_proto_api::peer::{WatchersAnswer, WatchersPeer, WatchersQuestion};
use quorate_proto_identity::{MemberNumber, TrustDomain};
use quorate_raft_consensus::{Handle, topics};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{Watchers, WatchingPeer};
use crate::{errors::with_causes, peers::PeerError};

/// The longest that confirmations are waited for in one question: a peer that confirms nothing must not hold up more than
/// that.
const CONFIRMED_WAIT_LIMIT: Duration = Duration::from_secs(1);

/// Asks a member who watches there. It answers at once, or waits until all its watches have confirmed `sequence`, at most
/// `wait`.
pub(crate) async fn ask_watchers(
    handle: &Handle,
    member: MemberNumber,
    sequence: u64,
    wait: Duration,
    deadline: Instant,
) -> Result<Vec<WatchingPeer>, PeerError> {
    let wait_millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    let question = WatchersQuestion { sequence, wait_millis };
    let answer = handle.ask(Some(member), topics::WATCHERS, question.encode_to_vec().into(), deadline).await?;
    // A name that this version cannot read is of nobody whom it waits for.
    Ok(WatchersAnswer::decode(answer)?.peers.into_iter().filter_map(from_wire).collect())
}

/// What one member says of who watches there, or why it could not be asked.
pub type WatchersTold = Result<Vec<WatchingPeer>, String>;

/// Asks these members at once who watches at each of them, for operators. In their order.
pub async fn watching_at(
    handle: &Handle,
    members: &[MemberNumber],
    limit: Duration,
) -> Vec<(MemberNumber, WatchersTold)> {
    let deadline = Instant::now() + limit;
    let mut asked = JoinSet::new();
    for member in members.iter().copied() {
        let handle = handle.clone();
        asked.spawn(async move {
            let answer = ask_watchers(&handle, member, 0, Duration::ZERO, deadline).await;
            (member, answer.map_err(|error| with_causes(&error)))
        });
    }
    let mut told = asked.join_all().await;
    told.sort_by_key(|(member, _)| *member);
    told
}

/// Answers such a question.
pub(crate) async fn answer_watchers(watchers: &Watchers, question: Bytes) -> Result<Bytes, String> {
    let WatchersQuestion { sequence, wait_millis } =
        WatchersQuestion::decode(question).map_err(|error| error.to_string())?;
    let wait = Duration::from_millis(wait_millis).min(CONFIRMED_WAIT_LIMIT);
    let mut changes = watchers.changes();
    // Either way the answer says what there is.
    let _ = timeout(wait, changes.wait_for(|_| watchers.all_confirmed(sequence))).await;
    let peers = watchers.snapshot().into_iter().map(to_wire).collect();
    Ok(WatchersAnswer { peers }.encode_to_vec().into())
}

fn to_wire(peer: WatchingPeer) -> WatchersPeer {
    let WatchingPeer { trust_domain, watches, sent, confirmed, refusal } = peer;
    WatchersPeer {
        trust_domain: trust_domain.map(|name| name.to_string()).unwrap_or_default(),
        watches,
        sent,
        confirmed,
        refusal: refusal.unwrap_or_default(),
    }
}

fn from_wire(peer: WatchersPeer) -> Option<WatchingPeer> {
    let WatchersPeer { trust_domain, watches, sent, confirmed, refusal } = peer;
    let trust_domain = match trust_domain.as_str() {
        "" => None,
        name => Some(TrustDomain::new(name).ok()?),
    };
    Some(WatchingPeer {
        trust_domain,
        watches,
        sent,
        confirmed,
        refusal: Some(refusal).filter(|text| !text.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_waits_for_the_confirmation_that_it_asks_for_and_no_longer_than_its_limit() {
        let watchers = Watchers::default();
        let guard = watchers.open(Some(&TrustDomain::new("a.example").unwrap())).unwrap();
        guard.sent(7);
        let question: Bytes = WatchersQuestion { sequence: 7, wait_millis: 60_000 }.encode_to_vec().into();
        let began = Instant::now();
        let unconfirmed = WatchersAnswer::decode(answer_watchers(&watchers, question.clone()).await.unwrap()).unwrap();
        assert_eq!((began.elapsed(), unconfirmed.peers[0].confirmed), (CONFIRMED_WAIT_LIMIT, None));

        let (answer, ()) = tokio::join!(answer_watchers(&watchers, question), async { guard.confirm(7) });
        let confirmed = WatchersAnswer::decode(answer.unwrap()).unwrap();
        assert_eq!((began.elapsed(), confirmed.peers[0].confirmed), (CONFIRMED_WAIT_LIMIT, Some(7)));
        let read = from_wire(confirmed.peers[0].clone()).unwrap();
        assert_eq!(to_wire(read), confirmed.peers[0]);
    }
}
