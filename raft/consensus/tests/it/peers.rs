//! Who may speak to a member (ATK-25, ATK-26, ATK-27).

use bytes::Bytes;
use quorate_proto_api::channel::channel_over;
use quorate_proto_api::peer as proto;
use quorate_proto_api::peer::{Sender, peer_client::PeerClient};
use quorate_proto_identity::MemberNumber;
use quorate_raft_consensus::transport::{Destination, Protocol};
use quorate_raft_machine::Operation;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, transport::Channel};

use crate::support::{
    PATIENCE,
    cluster::{Cluster, name},
    eventually, has,
    net::{address_of, key_of, new_key},
    proposal,
};

/// A client that proves this key to a member.
fn client(cluster: &Cluster, key: Bytes, to: u64, protocol: Protocol) -> PeerClient<Channel> {
    let transport = cluster.net.transport_with_key("stranger", key);
    let channel = channel_over(move || {
        let transport = std::sync::Arc::clone(&transport);
        let destination =
            Destination { addresses: vec![address_of(&name(to))], keys: vec![key_of(&name(to))], protocol };
        async move { transport.dial(&destination).await }
    });
    PeerClient::new(channel)
}

fn sender(cluster: &Cluster, member: u64) -> Sender {
    let member_of = cluster.members.values().next().unwrap().handle.state();
    let (id, epoch) = member_of.read(|state| state.cluster().map(|cluster| (cluster.id, cluster.epoch)).unwrap());
    Sender { cluster: Bytes::copy_from_slice(id.as_bytes()), epoch, member }
}

/// What a member says to a vote of term 1,000 in the name of `sender`.
async fn forged_vote(mut client: PeerClient<Channel>, sender: Sender) -> Status {
    let vote = proto::RaftVote { term: 1_000, member: sender.member, committed: false };
    let last = proto::LogId { term: 1_000, member: sender.member, index: 1_000_000 };
    let request = proto::VoteRequest { sender: Some(sender), vote: Some(vote), last: Some(last), transfer: true };
    timeout(PATIENCE, client.vote(request)).await.unwrap().unwrap_err()
}

/// An AppendEntries of a leader of term 1,000 in the name of `sender`.
async fn forged_append(mut client: PeerClient<Channel>, sender: Sender) -> Status {
    let vote = proto::RaftVote { term: 1_000, member: sender.member, committed: true };
    let request = proto::AppendEntriesRequest {
        sender: Some(sender),
        vote: Some(vote),
        previous: None,
        committed: None,
        entries: Vec::new(),
    };
    timeout(PATIENCE, client.append_entries(request)).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_key_that_no_member_has_is_never_answered_atk_25() {
    let cluster = Cluster::of(3).await;
    let term = cluster.leader().await.health().term;
    let stranger = client(&cluster, new_key(), 2, Protocol::Peer);
    let refused = forged_vote(stranger, sender(&cluster, 1)).await;
    assert_ne!(refused.code(), Code::PermissionDenied, "the call was read at all: {refused:?}");
    assert_eq!(cluster.handle(2).health().term, term);
}

#[tokio::test]
async fn a_member_speaks_only_in_its_own_name_and_for_its_own_cluster_and_epoch_atk_25_atk_27() {
    let cluster = Cluster::of(3).await;
    let term = cluster.leader().await.health().term;
    let as_member_3 = || client(&cluster, key_of(&name(3)), 2, Protocol::Peer);
    let own = || sender(&cluster, 3);
    for forged in [
        sender(&cluster, 1),
        sender(&cluster, 77),
        sender(&cluster, 0),
        Sender { cluster: Bytes::from_static(&[9; 16]), ..own() },
        Sender { cluster: Bytes::new(), ..own() },
        Sender { epoch: own().epoch + 1, ..own() },
        Sender { epoch: own().epoch - 1, ..own() },
    ] {
        let refused = forged_vote(as_member_3(), forged.clone()).await;
        assert_eq!(refused.code(), Code::PermissionDenied, "{forged:?}: {refused:?}");
        let refused = forged_append(as_member_3(), forged.clone()).await;
        assert_eq!(refused.code(), Code::PermissionDenied, "{forged:?}: {refused:?}");
    }
    // Its own name, and another's vote.
    let vote = proto::RaftVote { term: 1_000, member: 1, committed: true };
    let request = proto::AppendEntriesRequest { sender: Some(own()), vote: Some(vote), ..Default::default() };
    let refused = as_member_3().append_entries(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert_eq!(cluster.handle(2).health().term, term, "nobody took the term on");
}

#[tokio::test]
async fn what_no_member_would_send_is_refused_before_raft_sees_it() {
    let cluster = Cluster::of(3).await;
    let mut as_member_3 = client(&cluster, key_of(&name(3)), 2, Protocol::Peer);
    let own = || Some(sender(&cluster, 3));
    let vote = |committed| Some(proto::RaftVote { term: 1_000, member: 3, committed });
    let entry = |index, term| proto::Entry {
        log_id: Some(proto::LogId { term, member: 3, index }),
        kind: 0,
        body: Bytes::new(),
    };
    let base = || proto::AppendEntriesRequest { sender: own(), vote: vote(true), ..Default::default() };
    for (what, request) in [
        ("a vote that nobody granted", proto::AppendEntriesRequest { vote: vote(false), ..base() }),
        ("no vote", proto::AppendEntriesRequest { vote: None, ..base() }),
        ("a gap", proto::AppendEntriesRequest { entries: vec![entry(0, 1), entry(2, 1)], ..base() }),
        ("a later term", proto::AppendEntriesRequest { entries: vec![entry(0, 1_001)], ..base() }),
        (
            "an unknown kind",
            proto::AppendEntriesRequest { entries: vec![proto::Entry { kind: 77, ..entry(0, 1) }], ..base() },
        ),
        (
            "an entry without a place",
            proto::AppendEntriesRequest { entries: vec![proto::Entry { log_id: None, ..entry(0, 1) }], ..base() },
        ),
    ] {
        let refused = as_member_3.append_entries(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused:?}");
    }
    cluster.create_at(2, "alive").await;
}

#[tokio::test]
async fn a_newcomers_connection_is_answered_nothing_but_join_atk_25() {
    let cluster = Cluster::of(1).await;
    let newcomer = client(&cluster, key_of(&name(1)), 1, Protocol::Join);
    let refused = forged_vote(newcomer, sender(&cluster, 1)).await;
    assert_eq!(refused.code(), Code::Unimplemented, "{refused:?}");
}

#[tokio::test]
async fn a_member_that_was_removed_is_refused_and_its_connections_are_cut_atk_27() {
    let cluster = Cluster::of(4).await;
    let leader = cluster.leader().await;
    let gone = (1..=4).find(|number| Some(*number) != leader.member().map(MemberNumber::get)).unwrap();
    let number = MemberNumber::new(gone).unwrap();
    let observer = (1..=4).find(|other| *other != gone && Some(*other) != leader.member().map(MemberNumber::get));
    let observer = observer.unwrap();
    // A call of the member that is open when the removal is applied.
    let mut before = client(&cluster, key_of(&name(gone)), observer, Protocol::Peer);
    let vouch = proto::VouchRequest { sender: Some(sender(&cluster, gone)), key: key_of(&name(1)) };
    assert_eq!(before.vouch(vouch.clone()).await.unwrap().into_inner().member, 1);
    let (reports, stream) = tokio::sync::mpsc::channel(1);
    let open =
        tokio::spawn(async move { before.install_snapshot(tokio_stream::wrappers::ReceiverStream::new(stream)).await });

    let voters = (1..=4).filter(|other| *other != gone).collect();
    let remove = Operation::RemoveMember { number, compromised: true };
    leader.propose(proposal(vec![remove])).await.unwrap();
    leader.change_voters(voters, Instant::now() + PATIENCE).await.unwrap();
    leader.drop_from_raft(number, Instant::now() + PATIENCE).await.unwrap();
    leader.propose(proposal(vec![Operation::CompleteRemoval { number }])).await.unwrap();

    // Acknowledged means applied by all that are connected: from here on it is refused, with whatever it still has.
    assert!(timeout(PATIENCE, open).await.unwrap().unwrap().is_err(), "its open call outlived the removal");
    drop(reports);
    let mut after = client(&cluster, key_of(&name(gone)), observer, Protocol::Peer);
    assert!(timeout(PATIENCE, after.vouch(vouch)).await.unwrap().is_err());
    let term = leader.health().term;
    let refused =
        forged_vote(client(&cluster, key_of(&name(gone)), observer, Protocol::Peer), sender(&cluster, gone)).await;
    assert_ne!(refused.code(), Code::Ok);
    assert_eq!(cluster.handle(observer).health().term, term);
    cluster.create_at(observer, "after-the-removal").await;
    assert!(!has(&cluster.handle(gone), "after-the-removal"), "it gets no log any more");
}

#[tokio::test]
async fn a_voter_that_slept_through_a_change_of_membership_lets_in_whom_another_member_vouches_for() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let asleep = (1..=3).find(|number| *number != leader).unwrap();
    cluster.isolate(asleep);
    cluster.add_learner(4).await;
    cluster.net.isolate(&name(asleep), &[&name(4)]);
    let all = [1, 2, 3, 4].into();
    let leads = cluster.leader().await;
    leads.change_voters(all, Instant::now() + PATIENCE).await.unwrap();
    // Three of four are needed: the sleeper has to vote for, or follow, somebody it may never have heard of.
    let current = cluster.leader_number().await;
    cluster.kill(current).await;
    cluster.rejoin(asleep);
    let rest: Vec<u64> = cluster.members.keys().copied().collect();
    cluster.create_at(rest[0], "with-the-sleeper").await;
    cluster.until_all_have("with-the-sleeper").await;
    let sleeper = cluster.handle(asleep);
    eventually("it has applied the admission", || {
        sleeper.state().read(|state| state.member(MemberNumber::new(4).unwrap()).is_some())
    })
    .await;
}

#[tokio::test]
async fn a_member_that_is_reached_elsewhere_makes_it_known_under_its_old_key() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader_number().await;
    let moved = (1..=3).find(|number| *number != leader).unwrap();
    let (disk, clock) = cluster.kill(moved).await;
    let addresses = vec!["elsewhere.example.net:8082".to_owned(), address_of(&name(moved))];
    cluster.start_at(moved, disk, clock, addresses.clone()).await;
    let watched = cluster.handle(leader);
    let number = MemberNumber::new(moved).unwrap();
    eventually("the record says where it is", || {
        watched.state().read(|state| state.member(number).unwrap().record.addresses == addresses)
    })
    .await;
    cluster.create_at(leader, "found-there").await;
    cluster.until_all_have("found-there").await;
}
