//! Authorities as operators move them on: gates, forced rotations, and what workloads see of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{AuthorityId, x509::Certificate};
use quorate_raft_machine::{AuthorityKind, AuthorityState, Policy, RefusalCode, State};
use tokio::time::Instant;
use tokio_stream::StreamExt;

use super::{
    cluster::{Cluster, asker, deadline, fetch, fetched, token, until, verify},
    world::{World, caller, next, within},
};
use crate::AuthorityError;

const KINDS: [AuthorityKind; 2] = AuthorityKind::ALL;

/// Entries of one caller in the tests of what a stream is sent.
const MANY: usize = 100;

fn active(node: &World, kind: AuthorityKind) -> AuthorityId {
    node.handle.state().read(|state| state.active_authority(kind).unwrap().id)
}

fn state_of(node: &World, kind: AuthorityKind, id: &AuthorityId) -> Option<AuthorityState> {
    node.handle.state().read(|state| state.authority(kind, id)).map(|authority| authority.state)
}

/// The root that signed the issuing certificate of an SVID.
fn root_of(chain: &[u8]) -> AuthorityId {
    let chain = Certificate::parse_concatenated(chain).unwrap();
    let key_id = chain[1].extensions().authority_key_id.clone().unwrap();
    AuthorityId::from_subject_key_id(&key_id.try_into().unwrap())
}

fn roots_of(answer: &X509svidResponse) -> Vec<AuthorityId> {
    answer.svids.iter().map(|svid| root_of(&svid.x509_svid)).collect()
}

/// The key that signed a token.
fn key_of(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = base64_url(header);
    let kid = header.split(r#""kid":""#).nth(1).unwrap();
    kid.split('"').next().unwrap().to_owned()
}

/// Decodes what a token's parts are written in.
fn base64_url(text: &str) -> String {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        bits = bits << 6 | u32::from(digit(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// A client that reads its stream, and can be told to stop and to go on.
struct Reader {
    reads: tokio::sync::watch::Sender<bool>,
    answers: Arc<Mutex<Vec<X509svidResponse>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Reader {
    /// One that has read its first answer.
    async fn at(node: &World) -> Self {
        let mut stream = node.system.workload_api().x509_svids(&caller()).await.unwrap();
        let answers = Arc::new(Mutex::new(vec![next(&mut stream).await.unwrap()]));
        let (reads, mut may_read) = tokio::sync::watch::channel(true);
        let read = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            loop {
                let Ok(_) = may_read.wait_for(|reads| *reads).await else { return };
                tokio::select! {
                    biased;
                    _ = may_read.changed() => {}
                    item = stream.next() => match item {
                        Some(item) => read.lock().push(item.unwrap()),
                        None => return,
                    },
                }
            }
        });
        Self { reads, answers, task }
    }

    fn stop(&self) {
        self.reads.send_replace(false);
    }

    fn go_on(&self) {
        self.reads.send_replace(true);
    }

    /// The roots above the SVIDs that it was sent last.
    fn roots(&self) -> Vec<AuthorityId> {
        assert!(!self.task.is_finished(), "the stream goes on");
        self.answers.lock().last().map(roots_of).unwrap()
    }

    async fn until_under(&self, root: &AuthorityId) {
        until(|| self.roots().iter().all(|of| of == root)).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has another authority prepared and activated at a node. Gives the one that was active before, and the new one.
async fn rotate(node: &World, kind: AuthorityKind) -> (AuthorityId, AuthorityId) {
    let old = active(node, kind);
    let authorities = node.system.authorities();
    let prepared = authorities.prepare(&asker(), kind, deadline()).await.unwrap();
    let activated = authorities.activate(&asker(), kind, &prepared.id, false, deadline(), |_| {}).await.unwrap();
    assert_eq!((activated.state, &activated.fails_for), (AuthorityState::Active, &Vec::new()));
    assert_eq!(active(node, kind), prepared.id, "who asked reads what was done");
    (old, prepared.id)
}

/// Property 3, INV-05, INV-06: one life cycle for the whole cluster, whichever node is asked.
#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_prepared_activated_tainted_and_revoked_at_any_node() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let follower = (cluster.leader(None).await + 1) % 3;
    let asked = &cluster.nodes[follower];
    let authorities = asked.system.authorities();
    let mut readers = Vec::new();
    for node in &cluster.nodes {
        readers.push(Reader::at(node).await);
    }
    for kind in KINDS {
        let (old, new) = rotate(asked, kind).await;
        // What SPIRE refuses is refused.
        let refused = authorities.taint(&asker(), kind, &new, deadline()).await.unwrap_err();
        assert!(
            matches!(&refused, AuthorityError::Refused(refusal) if refusal.code == RefusalCode::WrongState),
            "{refused}"
        );
        let refused = authorities.revoke(&asker(), kind, &old, false, deadline(), |_| {}).await.unwrap_err();
        assert!(
            matches!(&refused, AuthorityError::Refused(refusal) if refusal.code == RefusalCode::WrongState),
            "{refused}"
        );
        let unknown = AuthorityId::new("0f0f").unwrap();
        let refused = authorities.taint(&asker(), kind, &unknown, deadline()).await.unwrap_err();
        assert!(
            matches!(&refused, AuthorityError::Refused(refusal) if refusal.code == RefusalCode::NotFound),
            "{refused}"
        );

        let tainted = authorities.taint(&asker(), kind, &old, deadline()).await.unwrap();
        assert_eq!(tainted.state, AuthorityState::Tainted);
        for node in &cluster.nodes {
            assert_eq!(
                state_of(node, kind, &old),
                Some(AuthorityState::Tainted),
                "every connected member has applied it"
            );
            match kind {
                AuthorityKind::X509 => assert_eq!(roots_of(&fetch(node).await.unwrap()), std::slice::from_ref(&new)),
                AuthorityKind::Jwt => assert_ne!(key_of(&token(node).await.unwrap()), old.as_str()),
            }
        }
        if kind == AuthorityKind::X509 {
            // Streams that read are moved at once, and are waited for until they are.
            for reader in &readers {
                reader.until_under(&new).await;
            }
        }
        let revoked = authorities.revoke(&asker(), kind, &old, false, deadline(), |_| {}).await.unwrap();
        assert_eq!(revoked.state, AuthorityState::Revoked);
        let progress = authorities.progress(kind, deadline()).await.unwrap();
        assert_eq!((progress.members_on, progress.members_all), (3, 3), "{progress:?}");
        if kind == AuthorityKind::X509 {
            assert_eq!((progress.streams_on, progress.streams_all), (3, 3), "{progress:?}");
        }
        for other in &cluster.nodes {
            verify(&fetched(asked).await, other);
        }
    }
    let timeline = authorities.timeline(deadline()).await.unwrap();
    assert!(timeline.steps.iter().any(|step| !step.taken && step.id.is_none()), "what is to come: {timeline:?}");
}

/// Design section 3, the gate: an operator learns for whom an activation waits, and whom it fails if it is forced.
#[tokio::test(flavor = "multi_thread")]
async fn an_activation_names_who_it_waits_for_and_is_refused_at_its_deadline_unless_forced() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let leader = cluster.leader(None).await;
    let (asked, absent) = (&cluster.nodes[leader], &cluster.nodes[(leader + 1) % 3]);
    cluster.network.cut(absent.name.as_str());
    let authorities = asked.system.authorities();
    let kind = AuthorityKind::X509;
    let before = active(asked, kind);
    let prepared = authorities.prepare(&asker(), kind, deadline()).await.unwrap();
    let mut told = Vec::new();
    let soon = Instant::now() + Duration::from_secs(5);
    let tell = |waits_for: &[String]| told.extend_from_slice(waits_for);
    let waits = authorities.activate(&asker(), kind, &prepared.id, false, soon, tell).await.unwrap_err();
    let names_it = |waits_for: &[String]| waits_for.iter().any(|words| words.contains(absent.name.as_str()));
    assert!(matches!(&waits, AuthorityError::Waits { waits_for } if names_it(waits_for)), "{waits}");
    assert!(names_it(&told), "{told:?}");
    assert_eq!(active(asked, kind), before, "nothing changed");

    let forced = authorities.activate(&asker(), kind, &prepared.id, true, deadline(), |_| {}).await.unwrap();
    assert_eq!(forced.fails_for, [absent.name.to_string()]);
    assert_eq!(active(asked, kind), prepared.id);
    verify(&fetched(asked).await, asked);
}

/// Design section 3: readers of the bundle have their time.
#[tokio::test(flavor = "multi_thread")]
async fn an_activation_waits_for_the_publication_time() {
    let policy = Policy { publication_time: 600, ..Policy::default() };
    let cluster = Cluster::of(1, policy).await;
    let (node, kind) = (&cluster.nodes[0], AuthorityKind::X509);
    let authorities = node.system.authorities();
    let prepared = authorities.prepare(&asker(), kind, deadline()).await.unwrap();
    let soon = Instant::now() + Duration::from_secs(2);
    let waits = authorities.activate(&asker(), kind, &prepared.id, false, soon, |_| {}).await.unwrap_err();
    assert!(matches!(&waits, AuthorityError::Waits { waits_for } if waits_for[0].contains("readers")), "{waits}");
    cluster.advance(Duration::from_secs(601));
    authorities.activate(&asker(), kind, &prepared.id, false, deadline(), |_| {}).await.unwrap();
}

/// INV-06: nothing under a tainted authority is handed out after the acknowledgement; not what waits in a slot, not what a
/// group has kept, not what is being made, and no token.
#[tokio::test(flavor = "multi_thread")]
async fn inv_06_after_the_acknowledgement_nothing_under_a_tainted_authority_is_handed_out() {
    let cluster = Arc::new(Cluster::of(3, Policy::default()).await);
    for node in &cluster.nodes {
        fetched(node).await;
    }
    let asked = &cluster.nodes[0];
    let (old_root, _) = rotate(asked, AuthorityKind::X509).await;
    let (old_key, _) = rotate(asked, AuthorityKind::Jwt).await;
    let mut waiting = Vec::new();
    for node in &cluster.nodes {
        assert!(roots_of(&fetch(node).await.unwrap()).contains(&old_root), "an activation moves nobody");
        // Its first answer waits in its slot until after the taint.
        waiting.push(node.system.workload_api().x509_svids(&caller()).await.unwrap());
    }
    let acknowledged = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for index in 0..3 {
        for _ in 0..4 {
            let (cluster, acknowledged) = (Arc::clone(&cluster), Arc::clone(&acknowledged));
            let (old_root, old_key) = (old_root.clone(), old_key.clone());
            callers.spawn(async move {
                let node = &cluster.nodes[index];
                let mut after = 0;
                while after < 20 {
                    let began_after = acknowledged.load(Ordering::SeqCst);
                    let answer = fetch(node).await.unwrap();
                    let signed = token(node).await.unwrap();
                    if began_after {
                        assert!(!roots_of(&answer).contains(&old_root));
                        assert_ne!(key_of(&signed), old_key.as_str());
                        after += 1;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    for (kind, old) in [(AuthorityKind::X509, &old_root), (AuthorityKind::Jwt, &old_key)] {
        asked.system.authorities().taint(&asker(), kind, old, deadline()).await.unwrap();
    }
    acknowledged.store(true, Ordering::SeqCst);
    for mut stream in waiting {
        let answer = next(&mut stream).await.unwrap();
        assert!(!roots_of(&answer).contains(&old_root), "an answer that waited went out");
    }
    within(async {
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    })
    .await;
}

/// INV-06: what waits in a slot does not go out under a tainted root either while its successor is still being made.
#[tokio::test(flavor = "multi_thread")]
async fn inv_06_an_answer_that_waits_does_not_go_out_before_its_successor_is_made() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    fetched(&world).await;
    let (old_root, _) = rotate(&world, AuthorityKind::X509).await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let (runtime, may_go_on) = (tokio::runtime::Handle::current(), Arc::new(AtomicBool::new(false)));
    let released = Arc::clone(&may_go_on);
    *world.keys.hook.lock() = Some(Box::new(move || {
        let released = Arc::clone(&released);
        tokio::task::block_in_place(|| runtime.block_on(until(|| released.load(Ordering::SeqCst))));
    }));
    world.system.authorities().taint(&asker(), AuthorityKind::X509, &old_root, deadline()).await.unwrap();
    if let Ok(answer) = tokio::time::timeout(Duration::from_millis(200), next(&mut stream)).await {
        assert!(!roots_of(&answer.unwrap()).contains(&old_root), "an answer that waited went out");
    }
    may_go_on.store(true, Ordering::SeqCst);
    *world.keys.hook.lock() = None;
    assert!(!roots_of(&next(&mut stream).await.unwrap()).contains(&old_root));
}

/// Design section 3: a forced rotation reaches a stream in few messages, and no SVID more than twice because of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_rotation_reaches_a_stream_in_few_messages_and_no_svid_more_than_twice() {
    let cluster = Cluster::of(3, Policy::default()).await;
    for entry in 0..MANY {
        cluster.nodes[0].register(&format!("many-{entry}"), &format!("/many/{entry}")).await;
    }
    let asked = &cluster.nodes[0];
    let mut readers = Vec::new();
    for node in &cluster.nodes {
        let reader = Reader::at(node).await;
        until(|| reader.roots().len() == MANY + 1).await;
        readers.push(reader);
    }
    let (old, new) = rotate(asked, AuthorityKind::X509).await;
    for reader in &readers {
        reader.answers.lock().drain(..).for_each(drop);
    }
    let authorities = asked.system.authorities();
    authorities.taint(&asker(), AuthorityKind::X509, &old, deadline()).await.unwrap();
    // By then each has all of it, and the bundle without the old root follows.
    authorities.revoke(&asker(), AuthorityKind::X509, &old, false, deadline(), |_| {}).await.unwrap();
    for (node, reader) in cluster.nodes.iter().zip(&readers) {
        let gone =
            |answer: &X509svidResponse| Certificate::parse_concatenated(&answer.svids[0].bundle).unwrap().len() == 1;
        until(|| reader.answers.lock().last().is_some_and(gone)).await;
        let answers = reader.answers.lock();
        assert!(answers.len() <= 3, "{} messages at {}", answers.len(), node.name);
        let mut serials: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for svid in answers.iter().flat_map(|answer| &answer.svids) {
            assert_eq!(root_of(&svid.x509_svid), new);
            let chain = Certificate::parse_concatenated(&svid.x509_svid).unwrap();
            *serials.entry(chain[0].serial().to_vec()).or_default() += 1;
        }
        assert_eq!(serials.len(), MANY + 1, "each was replaced once");
        let parts = |answer: &X509svidResponse| {
            (Certificate::parse_concatenated(&answer.svids[0].bundle).unwrap().len(), answer.crl.len())
        };
        let sent: Vec<_> = answers.iter().map(parts).collect();
        assert!(serials.values().all(|count| *count <= 2), "roots and CRLs of each message: {sent:?}");
    }
}

/// Design section 3: revocation waits for a connected stream that still has what would be refused, and can be forced.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_waits_for_a_stream_that_does_not_read_and_can_be_forced() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let (asked, reader) = (&cluster.nodes[0], &cluster.nodes[1]);
    let kind = AuthorityKind::X509;
    let stalled = Reader::at(reader).await;
    let (old, new) = rotate(asked, kind).await;
    stalled.stop();
    let authorities = asked.system.authorities();
    authorities.taint(&asker(), kind, &old, deadline()).await.unwrap();
    let soon = Instant::now() + Duration::from_secs(3);
    let waits = authorities.revoke(&asker(), kind, &old, false, soon, |_| {}).await.unwrap_err();
    let names_it = |waits_for: &[String]| waits_for.iter().any(|words| words.contains(reader.name.as_str()));
    assert!(matches!(&waits, AuthorityError::Waits { waits_for } if names_it(waits_for)), "{waits}");
    let progress = authorities.progress(kind, deadline()).await.unwrap();
    assert_eq!((progress.streams_on, progress.streams_all), (0, 1), "{progress:?}");
    let forced = authorities.revoke(&asker(), kind, &old, true, deadline(), |_| {}).await.unwrap();
    assert_eq!(forced.fails_for, [reader.name.to_string()]);
    stalled.go_on();
    stalled.until_under(&new).await;
}

/// Design section 3, compromise: one command, and whoever leads goes on, from whatever step it finds.
#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_authority_is_replaced_tainted_and_revoked_though_the_leadership_moves_all_the_while() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let asked = &cluster.nodes[0];
    let mut readers = Vec::new();
    for node in &cluster.nodes {
        readers.push(Reader::at(node).await);
    }
    let mut suspects = Vec::new();
    for kind in KINDS {
        let marked = asked.system.authorities().replace(&asker(), kind, None, true, deadline()).await.unwrap();
        assert_eq!(marked.state, AuthorityState::Active);
        suspects.push((kind, marked.id));
    }
    let gone = |state: &State| {
        suspects.iter().all(|(kind, id)| {
            state.authority(*kind, id).is_none_or(|authority| authority.state == AuthorityState::Revoked)
        })
    };
    let mut moved = 0;
    within(async {
        while !asked.handle.state().read(gone) {
            let leader = &cluster.nodes[cluster.leader(None).await];
            moved += usize::from(leader.handle.transfer_leadership(None, deadline()).await.is_ok());
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    })
    .await;
    assert!(moved > 0);
    let new = active(asked, AuthorityKind::X509);
    let on_all = || cluster.nodes.iter().all(|node| node.handle.state().read(gone));
    until(on_all).await;
    for node in &cluster.nodes {
        assert_eq!(roots_of(&fetched(node).await), std::slice::from_ref(&new));
    }
    let (prepared, kept) = asked.handle.state().read(|state| {
        let prepared = KINDS.map(|kind| state.authorities(kind).len());
        (prepared, state.bundle().x509_authorities.len())
    });
    assert_eq!(prepared, [2, 2], "no step was taken twice: one took the place of one");
    assert_eq!(kept, 1);
    for reader in &readers {
        assert_eq!(reader.roots(), std::slice::from_ref(&new), "a stream was left with an SVID under a revoked root");
    }
}

/// The same without any suspicion: another takes its place before its time, and the old one stays in the bundle.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_replacement_does_not_wait_for_its_time_and_revokes_nothing() {
    let cluster = Cluster::of(1, Policy::default()).await;
    let node = &cluster.nodes[0];
    for kind in KINDS {
        let marked = node.system.authorities().replace(&asker(), kind, None, false, deadline()).await.unwrap();
        until(|| active(node, kind) != marked.id).await;
        assert_eq!(state_of(node, kind, &marked.id), Some(AuthorityState::Old));
        until(|| {
            node.handle.state().read(|state| quorate_raft_machine::due(state, node.sources.now().seconds())).is_empty()
        })
        .await;
        assert_eq!(state_of(node, kind, &marked.id), Some(AuthorityState::Old));
    }
}

/// Acceptance of issue 5: what a compromised member could open is tainted and revoked, and no SVID under an old root is left
/// in any stream.
#[tokio::test(flavor = "multi_thread")]
async fn removing_a_compromised_member_of_five_leaves_no_svid_under_an_old_root_in_any_stream() {
    let cluster = Cluster::of(5, Policy::default()).await;
    // It could open a root that signs no more, too.
    let before = rotate(&cluster.nodes[0], AuthorityKind::X509).await;
    let group = cluster.nodes[0].handle.raft_members();
    let leader = cluster.leader(None).await;
    let is_thief = |index: &usize| *index != leader && group.is_voter(cluster.number(*index).get());
    let thief = (0..5).find(is_thief).unwrap();
    let asked = &cluster.nodes[leader];
    let mut readers = Vec::new();
    for (_, node) in cluster.nodes.iter().enumerate().filter(|(index, _)| *index != thief) {
        for _ in 0..8 {
            readers.push(Reader::at(node).await);
        }
    }
    let removed = asked.system.membership().remove(&asker(), cluster.number(thief), true, deadline()).await.unwrap();
    assert!(removed.steps.iter().any(|step| step.contains("No root that it could open")), "{removed:?}");
    let new = active(asked, AuthorityKind::X509);
    for id in [before.0, before.1] {
        assert_eq!(state_of(asked, AuthorityKind::X509, &id), Some(AuthorityState::Revoked));
    }
    assert_eq!(asked.handle.state().read(State::bundle).x509_authorities.len(), 1);
    for reader in &readers {
        assert_eq!(reader.roots(), std::slice::from_ref(&new));
    }
}
