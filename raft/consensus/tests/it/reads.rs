//! Linearizable reads from any member, and questions between members.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::{AnswerFuture, Answerer, AskError, LinearizeError};
use tokio::{task::JoinSet, time::Instant};

use crate::support::{PATIENCE, cluster::Cluster, eventually, has};

#[tokio::test]
async fn a_linearizable_read_sees_every_write_that_was_acknowledged_anywhere_ele_07() {
    let cluster = Cluster::of(3).await;
    for round in 0..20_u64 {
        let (writer, reader) = (round % 3 + 1, (round + 1) % 3 + 1);
        let entry = format!("entry-{round}");
        let applied = cluster.create_at(writer, &entry).await;
        let handle = cluster.handle(reader);
        let reached = handle.read_index(Instant::now() + PATIENCE).await.unwrap();
        assert!(reached >= applied.log_index, "member {reader} reached {reached}, not {}", applied.log_index);
        assert!(has(&handle, &entry), "member {reader} does not see {entry}");
    }
}

#[tokio::test]
async fn many_readers_share_rounds() {
    let cluster = Cluster::of(3).await;
    let mut readers = JoinSet::new();
    for reader in 0..1_000_u64 {
        let handle = cluster.handle(reader % 3 + 1);
        readers.spawn(async move { handle.read_index(Instant::now() + PATIENCE).await });
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_leader_that_is_cut_off_serves_no_linearizable_read_ele_07() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    cluster.isolate(leader);
    let read = cluster.handle(leader).read_index(Instant::now() + Duration::from_millis(1_500)).await;
    assert!(matches!(read, Err(LinearizeError::Deadline | LinearizeError::NotLeader { .. })), "{read:?}");
}

struct Echo(u64);

impl Answerer for Echo {
    fn answer(&self, from: MemberNumber, topic: u32, question: Bytes) -> AnswerFuture {
        let own = self.0;
        Box::pin(async move {
            if topic == 99 {
                return Err("no such topic".to_owned());
            }
            Ok(Bytes::from(format!("{own} heard {} from {from} on {topic}", String::from_utf8_lossy(&question))))
        })
    }
}

#[tokio::test]
async fn members_ask_each_other_and_the_leader() {
    let cluster = Cluster::of(3).await;
    for number in 1..=3 {
        cluster.handle(number).answer_with(Arc::new(Echo(number)));
    }
    let leader = cluster.leader_number().await;
    let deadline = || Instant::now() + PATIENCE;
    for asker in 1..=3 {
        let handle = cluster.handle(asker);
        let answer = handle.ask(None, 7, Bytes::from_static(b"this"), deadline()).await.unwrap();
        assert_eq!(answer, format!("{leader} heard this from {asker} on 7"));
        let answer = handle.ask(MemberNumber::new(2), 7, Bytes::from_static(b"that"), deadline()).await.unwrap();
        assert_eq!(answer, format!("2 heard that from {asker} on 7"));
        let refused = handle.ask(MemberNumber::new(2), 99, Bytes::new(), deadline()).await.unwrap_err();
        assert!(matches!(&refused, AskError::Refused { reason, .. } if &**reason == "no such topic"), "{refused:?}");
    }
    let nobody = cluster.handle(1).ask(MemberNumber::new(77), 7, Bytes::new(), deadline()).await;
    assert!(matches!(nobody, Err(AskError::NoMember(_))), "{nobody:?}");
    let large = Bytes::from(vec![0; quorate_raft_consensus::limits::QUESTION_BYTES_MAX + 1]);
    let refused = cluster.handle(1).ask(MemberNumber::new(2), 7, large, deadline()).await;
    assert!(matches!(refused, Err(AskError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_member_that_is_cut_off_is_asked_in_vain_and_again_soon_after_it_is_back_sim_09() {
    let cluster = Cluster::of(3).await;
    for number in 1..=3 {
        cluster.handle(number).answer_with(Arc::new(Echo(number)));
    }
    let leader = cluster.leader_number().await;
    let cut = (1..=3).find(|number| *number != leader).unwrap();
    let asker = cluster.handle(leader);
    let ask = async |limit| asker.ask(MemberNumber::new(cut), 7, Bytes::new(), Instant::now() + limit).await;
    ask(PATIENCE).await.unwrap();
    cluster.isolate(cut);
    let in_vain = ask(Duration::from_millis(200)).await;
    assert!(matches!(in_vain, Err(AskError::Deadline | AskError::Unreachable { .. })), "{in_vain:?}");
    eventually("it is seen to be gone", || {
        asker.members().iter().any(|member| member.number.get() == cut && !member.connected)
    })
    .await;
    cluster.rejoin(cut);
    let healed = Instant::now();
    let handle = cluster.handle(cut);
    cluster.create_at(leader, "after").await;
    eventually("the log reaches it", || has(&handle, "after")).await;
    assert!(healed.elapsed() < Duration::from_millis(1_500), "a healed cut cost {:?}", healed.elapsed());
    ask(Duration::from_secs(2)).await.unwrap();
}
