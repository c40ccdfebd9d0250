//! Keeps the connections to the voters open before they are needed.
//!
//! Whoever leads next is asked for votes, and sent writes, by members that may never have called it before. A dial costs
//! two round trips and a handshake; at a distance that is half of what a change of leaders may take. So every member asks
//! every voter something small now and then, on each line that it will need; HTTP/2 keeps the connection alive between.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_api::peer as proto;
use tokio::{task::JoinSet, time::sleep};

use super::{Lane, Peers};
use crate::type_config::Raft;

/// How often. A connection that broke is open again this soon, and a cluster of 5 voters and 50 learners makes some 15
/// such calls a second at each voter.
const WARM_INTERVAL: Duration = Duration::from_secs(4);

/// The time limit of one question: at a distance a dial with its handshake takes half a second.
const WARM_TIME_LIMIT: Duration = Duration::from_secs(2);

/// Works as long as this node is a member. `key` is its own: every voter is asked whether it knows it.
pub(crate) async fn keep_warm(peers: Arc<Peers>, raft: Raft, own: u64, key: Bytes) {
    loop {
        let membership = raft.server_metrics().borrow().membership_config.membership().clone();
        let voters: Vec<u64> = membership.voter_ids().collect();
        // Only voters ask for votes.
        let lanes: &[Lane] = if voters.contains(&own) { &[Lane::Raft, Lane::Work] } else { &[Lane::Work] };
        let mut calls = JoinSet::new();
        for voter in voters.into_iter().filter(|voter| *voter != own) {
            for lane in lanes.iter().copied() {
                let (peers, key) = (Arc::clone(&peers), key.clone());
                calls.spawn(async move {
                    let call = peers.call(voter, lane, WARM_TIME_LIMIT, |mut client, sender| async move {
                        client.vouch(proto::VouchRequest { sender: Some(sender), key }).await
                    });
                    // Nothing hangs on the answer; a line that misses its deadlines is dialled again.
                    drop(call.await);
                });
            }
        }
        while calls.join_next().await.is_some() {}
        sleep(WARM_INTERVAL).await;
    }
}
