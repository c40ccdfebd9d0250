//! A round of PreVote, carried out: all other voters of every configuration are asked at once (ELE-01).

use std::{collections::BTreeSet, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    elections::{Electorate, Round},
    type_config::LogId,
};

/// Asks, and waits until the round is won or lost, or `limit` has passed.
pub(crate) async fn ask(
    electorate: &dyn Electorate,
    mut round: Round,
    own: u64,
    configurations: &[BTreeSet<u64>],
    last: Option<LogId>,
    limit: Duration,
) -> Round {
    let deadline = Instant::now() + limit;
    let others: BTreeSet<u64> = configurations.iter().flatten().copied().filter(|voter| *voter != own).collect();
    let mut asked = JoinSet::new();
    for voter in others {
        let answer = electorate.pre_vote(voter, last);
        asked.spawn(async move { (voter, answer.await) });
    }
    while !round.is_won(own, configurations) && !round.is_lost(own, configurations) {
        match timeout_at(deadline, asked.join_next()).await {
            Ok(Some(Ok((voter, Some(answer))))) => round.answer(voter, answer),
            // Somebody is out of reach.
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    tracing::debug!(?round, "a round of PreVote ended");
    round
}
