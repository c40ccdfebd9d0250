//! Who gets which identities, and when that changes.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{Selector, SelectorSet, UnixSeconds, x509::Certificate};
use quorate_raft_machine::{EntryChange, EntryDraft, Operation, Policy};
use tokio_stream::{Stream, StreamExt};

use super::world::{World, caller, draft, id, next, settings, until, within};
use crate::{IDENTITIES_PER_CALLER_LIMIT, Refusal, Settings};

fn ids(response: &X509svidResponse) -> Vec<&str> {
    response.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

fn denied<T: std::fmt::Debug>(result: Result<T, Refusal>) {
    assert!(matches!(result, Err(Refusal::PermissionDenied(_))), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_05_a_caller_without_an_entry_gets_permission_denied_everywhere() {
    let world = World::ready().await;
    let (api, caller) = (world.system.workload_api(), caller());
    denied(api.x509_svids(&caller).await);
    denied(api.x509_bundles(&caller).await);
    denied(api.jwt_bundles(&caller).await);
    denied(api.fetch_jwt_svids(&caller, vec!["a".into()], None, None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_08_sb_09_sb_10_a_stream_follows_its_entries_and_ends_with_the_last() {
    let world = World::ready().await;
    world.register("b", "/b").await;
    let caller = caller();
    let mut stream = world.system.workload_api().x509_svids(&caller).await.unwrap();
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/b"]);

    world.register("a", "/a").await;
    let both = until(&mut stream, |response| response.svids.len() == 2).await;
    assert_eq!(ids(&both), ["spiffe://example.org/a", "spiffe://example.org/b"], "in the order of the entries' IDs");

    world.delete("b").await;
    let one = until(&mut stream, |response| response.svids.len() == 1).await;
    assert_eq!(ids(&one), ["spiffe://example.org/a"]);
    assert_eq!(one.svids[0].x509_svid, both.svids[0].x509_svid, "what did not change is not signed again");

    world.delete("a").await;
    denied(next(&mut stream).await);
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_replaces_its_svid_at_once() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    let change = EntryChange { dns_names: Some(vec!["a.example.org".into()]), ..EntryChange::default() };
    let id = draft("a", "/a").id;
    world.propose(Operation::UpdateEntry { id, change: Box::new(change) }).await;
    let after = until(&mut stream, |response| response.svids[0].x509_svid != before.svids[0].x509_svid).await;
    let chain = Certificate::parse_concatenated(&after.svids[0].x509_svid).unwrap();
    assert_eq!(chain[0].extensions().dns_names, ["a.example.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_does_not_concern_a_session_does_not_reach_it() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    next(&mut stream).await.unwrap();
    let foreign = SelectorSet::new([Selector::parse("unix:uid:1").unwrap()]);
    world.register_draft(EntryDraft { selectors: foreign, ..draft("b", "/b") }).await;
    world.register("c", "/c").await;
    // The next message is that of the entry that does concern it.
    assert_eq!(next(&mut stream).await.unwrap().svids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_12_hints_are_unique_in_an_answer() {
    let world = World::ready().await;
    let hinted = |entry: &str, hint: &str| EntryDraft { hint: hint.into(), ..draft(entry, &format!("/{entry}")) };
    for (entry, hint) in [("b", "x"), ("a", "x"), ("c", "")] {
        world.register_draft(hinted(entry, hint)).await;
    }
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let answer = next(&mut stream).await.unwrap();
    let hints: Vec<&str> = answer.svids.iter().map(|svid| svid.hint.as_str()).collect();
    // Both were created within the same second or a second apart; either way just one of them has the hint.
    assert_eq!(hints, ["x", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_per_caller_are_limited_and_the_first_created_stay() {
    let world = World::with(Policy::default(), Settings { identities_per_caller: 10, ..settings() }).await;
    for number in 0..15 {
        world.register(&format!("e{:02}", 20 - number), &format!("/{number}")).await;
    }
    let api = world.system.workload_api();
    let caller = caller();
    let answer = next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
    let kept: Vec<String> = (0..10).rev().map(|number| id(&format!("/{number}")).to_string()).collect();
    assert_eq!(ids(&answer), kept);
    let tokens = api.fetch_jwt_svids(&caller, vec!["a".into()], None, None).await.unwrap();
    assert_eq!(tokens.svids.len(), 10);
    assert_eq!(IDENTITIES_PER_CALLER_LIMIT, 1000);
}

/// The most bytes that gRPC clients take in one message, unless told otherwise.
const CLIENTS_TAKE: usize = 4 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn identities_with_long_texts_are_cut_by_their_bytes_and_the_first_created_stay() {
    let world = World::ready().await;
    let long = |number: usize| EntryDraft {
        hint: format!("{number}{}", "h".repeat(1000)),
        ..draft(&format!("e{:03}", 900 - number), &format!("/{number}/{}", "p".repeat(1900)))
    };
    let mut drafts: Vec<EntryDraft> = (0..900).map(long).collect();
    for _ in 0..18 {
        let rest = drafts.split_off(drafts.len().min(50));
        let operations = drafts.into_iter().map(|draft| Operation::CreateEntry(Box::new(draft))).collect();
        let proposal = quorate_raft_consensus::Proposal::new(quorate_raft_machine::Caller::node(), operations);
        world.handle.propose(proposal).await.unwrap();
        drafts = rest;
    }
    let (api, caller) = (world.system.workload_api(), caller());
    let answer = next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
    let text = |id: &str, hint: &str| id.len() + hint.len();
    let sizes = answer.svids.iter().map(|svid| {
        svid.x509_svid.len() + svid.x509_svid_key.len() + svid.bundle.len() + text(&svid.spiffe_id, &svid.hint)
    });
    let bytes: usize = sizes.sum();
    assert!(bytes > CLIENTS_TAKE / 2 && bytes < CLIENTS_TAKE, "{bytes} in {} identities", answer.svids.len());
    let first_created = |count: usize| (0..count).rev().map(|number| long(number).hint).collect::<Vec<_>>();
    let hints: Vec<String> = answer.svids.iter().map(|svid| svid.hint.clone()).collect();
    assert_eq!(hints, first_created(hints.len()), "in the order of the entries' IDs");

    let audiences = (0..10).map(|number| format!("{number}{}", "a".repeat(200))).collect();
    let tokens = api.fetch_jwt_svids(&caller, audiences, None, None).await.unwrap();
    let bytes: usize = tokens.svids.iter().map(|svid| svid.svid.len() + text(&svid.spiffe_id, &svid.hint)).sum();
    assert!(bytes > CLIENTS_TAKE / 2 && bytes < CLIENTS_TAKE, "{bytes} in {} tokens", tokens.svids.len());
    let hints: Vec<String> = tokens.svids.iter().map(|svid| svid.hint.clone()).collect();
    assert_eq!(hints, first_created(hints.len()), "in the order of the entries' IDs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_identities_fit_into_one_answer() {
    let world = World::ready().await;
    let drafts =
        (0..1001).map(|number| Operation::CreateEntry(Box::new(draft(&format!("e{number}"), &format!("/{number}")))));
    let mut drafts: Vec<Operation> = drafts.collect();
    for _ in 0..3 {
        let rest = drafts.split_off(drafts.len().min(400));
        let proposal = quorate_raft_consensus::Proposal::new(quorate_raft_machine::Caller::node(), drafts);
        world.handle.propose(proposal).await.unwrap();
        drafts = rest;
    }
    let answer = next(&mut world.system.workload_api().x509_svids(&caller()).await.unwrap()).await.unwrap();
    assert_eq!(answer.svids.len(), 1000);
    let bytes: usize =
        answer.svids.iter().map(|svid| svid.x509_svid.len() + svid.x509_svid_key.len() + svid.bundle.len()).sum();
    assert!(bytes < 4 << 20, "{bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_first_requests_of_one_entry_make_one_key() {
    let world = Arc::new(World::ready().await);
    world.register("a", "/a").await;
    let before = world.keys.made.lock().len();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let world = Arc::clone(&world);
        calls.spawn(async move {
            let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
            next(&mut stream).await.unwrap().svids[0].x509_svid.clone()
        });
    }
    let answers = within(calls.join_all()).await;
    assert!(answers.iter().all(|svid| *svid == answers[0]));
    assert_eq!(world.keys.made.lock().len() - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_ends_by_itself_takes_its_identity_along() {
    let world = World::ready().await;
    let ends_at = UnixSeconds(world.sources.now().seconds().0 + 2);
    world.register_draft(EntryDraft { expires_at: Some(ends_at), ..draft("a", "/a") }).await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    next(&mut stream).await.unwrap();
    denied(next(&mut stream).await);
}

/// Property 5: an entry that is deleted while its SVID is being signed gets none.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_it_is_signed_does_not_go_out() {
    let world = Arc::new(World::ready().await);
    world.register("a", "/a").await;
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    *world.keys.hook.lock() = Some(Box::new(move || {
        entered.send(()).unwrap();
        wait.recv().unwrap();
    }));
    let asking = Arc::clone(&world);
    let asked = tokio::spawn(async move { asking.system.workload_api().x509_svids(&caller()).await.map(|_| ()) });
    within(has_entered.recv()).await.unwrap();
    world.delete("a").await;
    go_on.send(()).unwrap();
    denied(within(asked).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_go_to_whoever_has_an_identity_and_name_their_trust_domain() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let (api, caller) = (world.system.workload_api(), caller());
    let x509 = next(&mut api.x509_bundles(&caller).await.unwrap()).await.unwrap();
    let jwt = next(&mut api.jwt_bundles(&caller).await.unwrap()).await.unwrap();
    // SB-17: the key is the trust domain's ID, and the sets hold keys of their own kind only.
    assert_eq!(x509.bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    assert_eq!(Certificate::parse_concatenated(&x509.bundles["spiffe://example.org"]).unwrap().len(), 1);
    let keys = std::str::from_utf8(&jwt.bundles["spiffe://example.org"]).unwrap();
    assert!(keys.starts_with(r#"{"keys":[{"#) && keys.contains(r#""kid""#) && !keys.contains("use"), "{keys}");
    // A bundle stream ends as the others do.
    let mut stream = api.x509_bundles(&caller).await.unwrap();
    next(&mut stream).await.unwrap();
    world.delete("a").await;
    denied(next(&mut stream).await);
}

/// Property 5: once a deletion is acknowledged, nothing that is read afterwards has the identity: no open stream,
/// whatever waited in it, no new stream, no token.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_read_after_an_acknowledged_deletion_has_the_identity() {
    let world = World::ready().await;
    world.register("keep", "/keep").await;
    let caller = caller();
    let api = world.system.workload_api();
    let gone = |response: &X509svidResponse| response.svids.iter().all(|svid| svid.spiffe_id.ends_with("/keep"));
    for round in 0..50 {
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(api.x509_svids(&caller).await.unwrap());
        }
        let entry = format!("e{round}");
        world.register(&entry, "/brief").await;
        // Half of the streams are read, so that the others have an answer with the identity waiting in them.
        for stream in streams.iter_mut().take(4) {
            until(stream, |response| !gone(response)).await;
        }
        world.delete(&entry).await;
        for stream in &mut streams {
            let read_at_once = poll_fn(|context| {
                Poll::Ready(match Pin::new(&mut *stream).poll_next(context) {
                    Poll::Ready(Some(Ok(response))) => Some(response),
                    Poll::Ready(_) | Poll::Pending => None,
                })
            });
            assert!(read_at_once.await.is_none_or(|response| gone(&response)), "round {round}: an open stream");
        }
        let fresh = next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
        assert!(gone(&fresh), "round {round}: a new stream");
        let tokens = api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await.unwrap();
        assert_eq!(tokens.svids.len(), 1, "round {round}: tokens");
    }
}

/// Property 1: who has created an entry and then opens a stream finds its identity in the first answer, though an answer
/// was being made from before.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_is_not_older_than_the_call() {
    let world = Arc::new(World::ready().await);
    world.register("a", "/a").await;
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    *world.keys.hook.lock() = Some(Box::new(move || {
        entered.send(()).unwrap();
        wait.recv().unwrap();
    }));
    let (asking, first) = (Arc::clone(&world), caller());
    let asked = tokio::spawn(async move { asking.system.workload_api().x509_svids(&first).await });
    // The first session's SVID is being signed; meanwhile a second identity is acknowledged, and asked for.
    within(has_entered.recv()).await.unwrap();
    world.register("b", "/b").await;
    let mut second = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    go_on.send(()).unwrap();
    within(has_entered.recv()).await.unwrap();
    let early = poll_fn(|context| Poll::Ready(Pin::new(&mut second).poll_next(context).is_ready()));
    assert!(!early.await, "what was read before the second entry is no answer to it");
    go_on.send(()).unwrap();
    assert_eq!(ids(&next(&mut second).await.unwrap()).len(), 2);
    drop(within(asked).await.unwrap().unwrap());
}

/// Property 5: an entry goes out of reach with the one between it and the node, also for what is being signed.
#[tokio::test(flavor = "multi_thread")]
async fn what_loses_its_parent_while_it_is_signed_does_not_go_out() {
    let world = Arc::new(World::ready().await);
    world.register("parent", "/parent").await;
    let change = EntryChange {
        selectors: Some(SelectorSet::new([Selector::parse("unix:uid:4242").unwrap()])),
        ..EntryChange::default()
    };
    let parent = draft("parent", "/parent").id;
    world.propose(Operation::UpdateEntry { id: parent, change: Box::new(change) }).await;
    world.register_draft(EntryDraft { parent_id: id("/parent"), ..draft("child", "/child") }).await;
    let (entered, mut has_entered) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    *world.keys.hook.lock() = Some(Box::new(move || {
        entered.send(()).unwrap();
        wait.recv().unwrap();
    }));
    let asking = Arc::clone(&world);
    let asked = tokio::spawn(async move { asking.system.workload_api().x509_svids(&caller()).await.map(|_| ()) });
    within(has_entered.recv()).await.unwrap();
    world.delete("parent").await;
    go_on.send(()).unwrap();
    denied(within(asked).await.unwrap());
}
