//! The lease, renewal, rotation, and where keys are.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{
    AuthorityId, Bundle, KeyType, PrivateKey, Validity,
    x509::{Certificate, Purpose, verify_x509_svid},
};
use quorate_raft_machine::{AuthorityState, EntryDraft, NewJwtAuthority, Operation, Policy};
use tokio_stream::{Stream, StreamExt};

use super::world::{World, caller, draft, id, next, settings, trust_domain, until, within};
use crate::{
    AnswerStream, IssuanceStatus, Refusal,
    keys::{FileCustody, SEALING_KEY_FILE, WhenMissing},
};

/// The leaf, after a check of everything that SB-11 asks for.
fn leaf(world: &World, response: &X509svidResponse) -> Certificate {
    let svid = &response.svids[0];
    let chain = Certificate::parse_concatenated(&svid.x509_svid).unwrap();
    assert_eq!(chain.len(), 2, "leaf and issuing certificate (CRL-09)");
    let mut bundle = Bundle::new(trust_domain());
    for root in Certificate::parse_concatenated(&svid.bundle).unwrap() {
        bundle.add_x509_authority(root);
    }
    let key = quorate_proto_identity::PrivateKey::from_pkcs8(&svid.x509_svid_key).unwrap();
    assert_eq!(key.public_key(), chain[0].public_key());
    let ders: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    let verified = verify_x509_svid(&ders, &bundle, world.sources.now().seconds(), Purpose::Client).unwrap();
    assert_eq!(verified.spiffe_id().as_str(), svid.spiffe_id);
    chain[0].clone()
}

fn leaf_of(response: &X509svidResponse) -> Certificate {
    Certificate::parse_concatenated(&response.svids[0].x509_svid).unwrap().remove(0)
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, Refusal>) {
    assert!(matches!(result, Err(Refusal::Unavailable(_))), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_07_sb_11_the_first_answer_is_complete_and_verifies() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let answer = next(&mut stream).await.unwrap();
    assert_eq!(answer.svids[0].spiffe_id, id("/a").as_str());
    let leaf = leaf(&world, &answer);
    assert_eq!(leaf.validity().seconds(), 3630, "an hour, and 30 s back");
}

/// SB-04: before the authority is founded, nobody is told that it has no identity.
#[tokio::test(flavor = "multi_thread")]
async fn sb_04_a_node_without_an_authority_is_unavailable_and_then_serves() {
    let world = World::unfounded(settings()).await;
    world.until(|status| matches!(status, IssuanceStatus::Waiting { .. })).await;
    let (api, caller) = (world.system.workload_api(), caller());
    unavailable(api.x509_svids(&caller).await);
    unavailable(api.x509_bundles(&caller).await);
    unavailable(api.fetch_jwt_svids(&caller, vec!["a".into()], None, None).await);
    unavailable(api.validate_jwt_svid(&caller, "a", "t").await);
    unavailable(
        world.system.minter().mint_jwt(&quorate_raft_machine::Caller::node(), &id("/a"), vec!["a".into()], 0).await,
    );
    world.found(Policy::default()).await;
    world.until_ready().await;
    world.register("a", "/a").await;
    next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
}

/// Property 4, ATK-13: cut off from the quorum, a node answers to the end of its certificate and not beyond.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_renew_goes_on_to_the_end_of_its_lease_and_then_is_unavailable() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut stream = api.x509_svids(&caller).await.unwrap();
    next(&mut stream).await.unwrap();
    world.handle.shutdown().await;
    world.clock.advance(Duration::from_secs(23 * 3600));
    next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
    world.clock.advance(Duration::from_secs(2 * 3600));
    unavailable(api.x509_svids(&caller).await);
    unavailable(api.fetch_jwt_svids(&caller, vec!["a".into()], None, None).await);
    // An issuer that looks at its watch says so, and open streams end.
    world.system.child("issuer").await.unwrap().kill();
    world.until(|status| matches!(status, IssuanceStatus::Waiting { .. })).await;
    let end = loop {
        match next(&mut stream).await {
            Ok(_) => {}
            Err(refusal) => break refusal,
        }
    };
    unavailable::<()>(Err(end));
    assert!(within(stream.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_issuing_certificate_fences_the_node_until_it_has_another() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    let member = world.handle.member().unwrap();
    world.propose(Operation::RevokeIssuingCertificate { member, serial: None }).await;
    // The stream ends, unless the next certificate came faster than the keeper heard of the loss of this one.
    match next(&mut stream).await {
        Err(end) => unavailable::<()>(Err(end)),
        Ok(after) => assert_ne!(after.svids[0].x509_svid, before.svids[0].x509_svid),
    }
    world.until_ready().await;
    let mut stream = within(async {
        loop {
            if let Ok(stream) = world.system.workload_api().x509_svids(&caller()).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let after = next(&mut stream).await.unwrap();
    let issuing =
        |answer: &X509svidResponse| Certificate::parse_concatenated(&answer.svids[0].x509_svid).unwrap()[1].clone();
    assert_ne!(
        issuing(&before).public_key(),
        issuing(&after).public_key(),
        "a lease that was taken away never comes back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_svid_is_renewed_at_half_life_without_a_gap() {
    let world = World::ready().await;
    world.register_draft(EntryDraft { x509_svid_ttl: 4, ..draft("a", "/a") }).await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let mut last = leaf(&world, &next(&mut stream).await.unwrap());
    for _ in 0..3 {
        let renewed = leaf(&world, &next(&mut stream).await.unwrap());
        let now = world.sources.now().seconds();
        assert_ne!(renewed.serial(), last.serial());
        assert!(now <= last.validity().not_after(), "the new one came before the old one had ended");
        assert!(last.validity().not_after().since(now) <= 3, "and not before its half life");
        last = renewed;
    }
}

/// Property 3: a stream that is looked at when an SVID in its slot has ended, because the node stood still or had no
/// processor, is not given that one, and gets another at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_waited_beyond_the_end_of_its_svid_does_not_go_out() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    // Nothing tells the keeper that the time of day has jumped over the end of the hour's SVID that waits.
    world.clock.advance(Duration::from_secs(3700));
    let now = world.sources.now().seconds();
    let given = leaf_of(&next(&mut stream).await.unwrap());
    assert!(now <= given.validity().not_after(), "an SVID went out that had ended");
}

/// Found by strangers' clients: the answer that was there was given out, and nobody thought of renewing it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_finds_its_answer_ready_is_renewed_though_nobody_wanted_svids_in_between() {
    let world = World::ready().await;
    world.register_draft(EntryDraft { x509_svid_ttl: 4, ..draft("a", "/a") }).await;
    let api = world.system.workload_api();
    next(&mut api.x509_svids(&caller()).await.unwrap()).await.unwrap();
    // The first session is gone; one of another kind has the group computed without SVIDs.
    next(&mut api.jwt_bundles(&caller()).await.unwrap()).await.unwrap();
    let mut stream = api.x509_svids(&caller()).await.unwrap();
    let ready = leaf(&world, &next(&mut stream).await.unwrap());
    let renewed = leaf(&world, &next(&mut stream).await.unwrap());
    assert_ne!(renewed.serial(), ready.serial());
    assert!(world.sources.now().seconds() <= ready.validity().not_after(), "the new one came in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_lease_is_renewed_and_streams_notice_only_their_renewals() {
    let policy = Policy {
        root_lifetime: 600,
        issuing_lifetime: 4,
        x509_svid_lifetime: 2,
        jwt_key_lifetime: 600,
        jwt_svid_lifetime: 10,
        refresh_hint: 10,
        ..Policy::default()
    };
    let world = World::with(policy, settings()).await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let mut issuers = std::collections::BTreeSet::new();
    while issuers.len() < 3 {
        let answer = next(&mut stream).await.unwrap();
        leaf(&world, &answer);
        let chain = Certificate::parse_concatenated(&answer.svids[0].x509_svid).unwrap();
        issuers.insert(chain[1].serial().to_vec());
    }
}

/// Design section 3: prepared, then active, then old; and what was signed verifies all the time (property 3).
#[tokio::test(flavor = "multi_thread")]
async fn roots_and_token_keys_move_on_in_time() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut stream = api.x509_svids(&caller).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    let old_token = api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await.unwrap().svids.remove(0).svid;
    let states = |world: &World| {
        world.handle.state().read(|state| {
            let mut found: Vec<_> = state.x509_authorities().map(|root| root.state).collect();
            found.sort();
            let mut keys: Vec<_> = state.jwt_authorities().map(|key| key.state).collect();
            keys.sort();
            (found, keys)
        })
    };
    assert_eq!(states(&world), (vec![AuthorityState::Active], vec![AuthorityState::Active]));

    // Half of the token key's week: its successor is prepared.
    world.clock.advance(Duration::from_secs(4 * 24 * 3600));
    let preparing = vec![AuthorityState::Prepared, AuthorityState::Active];
    poke_until(&world, |world| states(world).1 == preparing).await;
    // Half of the root's month, and all of the token key's week.
    world.clock.advance(Duration::from_secs(12 * 24 * 3600));
    poke_until(&world, |world| states(world).0 == preparing && states(world).1.contains(&AuthorityState::Active)).await;
    // Five days before its end a root is replaced.
    world.clock.advance(Duration::from_secs(10 * 24 * 3600));
    poke_until(&world, |world| states(world).0 == [AuthorityState::Active, AuthorityState::Old]).await;
    world.until_ready().await;

    let mut stream = within(async {
        loop {
            if let Ok(stream) = api.x509_svids(&caller).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let after =
        until(&mut stream, |answer| Certificate::parse_concatenated(&answer.svids[0].bundle).unwrap().len() == 2).await;
    leaf(&world, &after);
    assert_ne!(before.svids[0].bundle, after.svids[0].bundle);
    unavailable_or_invalid(api.validate_jwt_svid(&caller, "x", &old_token).await);
    // The token key had its own rotation meanwhile; the new one is opened a moment after it was activated.
    let fetched = within(async {
        loop {
            match api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await {
                Ok(fetched) => return fetched,
                Err(refusal) => unavailable::<()>(Err(refusal)),
            }
            tokio::task::yield_now().await;
        }
    });
    let token = fetched.await.svids.remove(0).svid;
    api.validate_jwt_svid(&caller, "x", &token).await.unwrap();
    // Property 6: the private half of what signs no tokens any more is gone from the state.
    let kept = world
        .handle
        .state()
        .read(|state| state.jwt_authorities().all(|key| key.sealed.is_some() == key.state.keeps_jwt_key()));
    assert!(kept);
}

fn unavailable_or_invalid<T: std::fmt::Debug>(result: Result<T, Refusal>) {
    assert!(matches!(result, Err(Refusal::Unavailable(_) | Refusal::InvalidArgument(_))), "{result:?}");
}

/// Lets the actors notice that the clock was set, by something new in the log, until a condition holds.
async fn poke_until(world: &World, mut holds: impl FnMut(&World) -> bool) {
    within(async {
        let mut number = 0;
        while !holds(world) {
            let name = format!("poke-{}-{number}", world.sources.now().0);
            world
                .register_draft(EntryDraft {
                    selectors: quorate_proto_identity::SelectorSet::new([quorate_proto_identity::Selector::parse(
                        "unix:uid:1",
                    )
                    .unwrap()]),
                    ..draft(&name, &format!("/{name}"))
                })
                .await;
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Property 6, ATK-12, ATK-44: no private key that this process made is in any file of the node.
#[tokio::test(flavor = "multi_thread")]
async fn no_private_key_is_ever_written_in_the_clear() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    next(&mut world.system.workload_api().x509_svids(&caller()).await.unwrap()).await.unwrap();
    world.system.ledger().flush().await;
    let keys: Vec<Vec<u8>> = world.keys.made.lock().iter().map(|key| secret_half(key.pkcs8())).collect();
    // A root, a token key, an issuing key and a workload's key at least.
    assert!(keys.len() >= 4);
    let mut files = 0;
    let mut directories = vec![world.directory.path().to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                let bytes = std::fs::read(entry.path()).unwrap();
                files += 1;
                for key in &keys {
                    let found = bytes.windows(key.len()).any(|window| window == key.as_slice());
                    assert!(!found, "a private key is in {}", entry.path().display());
                }
            }
        }
    }
    assert!(files > 3);
}

/// The 32 bytes of a P-256 private key, which stand in an OCTET STRING after the version in its PKCS#8 document.
fn secret_half(pkcs8: &[u8]) -> Vec<u8> {
    let marker = [0x02, 0x01, 0x01, 0x04, 0x20];
    let start = pkcs8.windows(marker.len()).position(|window| window == marker).unwrap() + marker.len();
    pkcs8[start..start + 32].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_again_makes_another_issuing_key() {
    let mut world = World::ready().await;
    world.register("a", "/a").await;
    let issuer =
        |answer: &X509svidResponse| Certificate::parse_concatenated(&answer.svids[0].x509_svid).unwrap()[1].clone();
    let before = next(&mut world.system.workload_api().x509_svids(&caller()).await.unwrap()).await.unwrap();
    world.restart_actors().await;
    world.until_ready().await;
    let after = next(&mut world.system.workload_api().x509_svids(&caller()).await.unwrap()).await.unwrap();
    assert_ne!(issuer(&before).public_key(), issuer(&after).public_key());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_asks_for_its_certificate_once_somebody_leads_and_not_before() {
    let mut world = World::ready().await;
    for _ in 0..3 {
        let before = world.keys.made.lock().len();
        world.restart_node().await;
        world.until_ready().await;
        assert_eq!(world.keys.made.lock().len(), before + 1, "a request that is refused costs another key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealing_key_that_is_another_one_is_told_with_what_to_do() {
    let mut world = World::ready().await;
    let data = world.directory.path().join("data");
    std::fs::remove_file(data.join(SEALING_KEY_FILE)).unwrap();
    let other = tempfile::tempdir().unwrap();
    drop(FileCustody::open(other.path(), None, WhenMissing::Make).unwrap());
    std::fs::copy(other.path().join(SEALING_KEY_FILE), data.join(SEALING_KEY_FILE)).unwrap();
    world.custody = Arc::new(FileCustody::open(&data, None, WhenMissing::Refuse).unwrap());
    world.restart_actors().await;
    let status = world
        .until(|status| matches!(status, IssuanceStatus::Waiting { reason } if reason.contains("sealing.key")))
        .await;
    assert!(format!("{status:?}").contains("Restore sealing.key from a copy"), "{status:?}");
}

/// Keys whose use takes a millisecond are made and used where blocking is allowed, and work all the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_key_type_of_the_policy_serves() {
    let types = [
        (KeyType::EcP384, KeyType::EcP384, KeyType::Ed25519, KeyType::EcP384),
        (KeyType::Rsa2048, KeyType::Rsa2048, KeyType::Rsa2048, KeyType::Rsa2048),
    ];
    for (root_key_type, issuing_key_type, x509_svid_key_type, jwt_key_type) in types {
        let policy = Policy { root_key_type, issuing_key_type, x509_svid_key_type, jwt_key_type, ..Policy::default() };
        let world = World::with(policy, settings()).await;
        world.register("a", "/a").await;
        let (api, caller) = (world.system.workload_api(), caller());
        leaf(&world, &next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap());
        let token = api.fetch_jwt_svids(&caller, vec!["x".into()], None, None).await.unwrap().svids.remove(0).svid;
        api.validate_jwt_svid(&caller, "x", &token).await.unwrap();
    }
}

/// Near the end of a lease that cannot be renewed, an SVID cannot be made to live longer; nothing spins over that.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_would_gain_nothing_is_not_tried_again_and_again() {
    let world = World::ready().await;
    world.register_draft(EntryDraft { x509_svid_ttl: 7200, ..draft("a", "/a") }).await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    next(&mut stream).await.unwrap();
    world.handle.shutdown().await;
    // A quarter of an hour is left of the lease, so a new SVID is cut short.
    world.clock.advance(Duration::from_secs(24 * 3600 - 900));
    let mut other = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let short = leaf(&world, &next(&mut other).await.unwrap());
    assert!(short.validity().not_after().since(world.sources.now().seconds()) <= 900);
    // Its half life has come, and nothing can be gained.
    world.clock.advance(Duration::from_secs(600));
    let made = world.keys.made.lock().len();
    for _ in 0..20 {
        let mut again = world.system.workload_api().x509_svids(&caller()).await.unwrap();
        assert_eq!(leaf(&world, &next(&mut again).await.unwrap()).serial(), short.serial());
    }
    assert_eq!(world.keys.made.lock().len(), made);
}

/// A world whose second root has become active after an SVID was signed under the first one: that answer, the stream it
/// came by, and the ID of the first root, which is old.
async fn with_an_old_root() -> (World, AnswerStream<X509svidResponse>, X509svidResponse, AuthorityId) {
    const DAY: u32 = 24 * 3600;
    let policy = Policy { issuing_lifetime: 5 * DAY, x509_svid_lifetime: 2 * DAY + DAY / 2, ..Policy::default() };
    let world = World::with(policy, settings()).await;
    world.register("a", "/a").await;
    let first = roots(&world).remove(0).1;
    // The successor is prepared; a few hours before its activation an SVID is made.
    world.clock.advance(Duration::from_secs(u64::from(24 * DAY + DAY * 9 / 10)));
    poke_until(&world, |world| roots(world).len() == 2).await;
    world.until_ready().await;
    let (stream, answer) = opened(&world).await;
    world.clock.advance(Duration::from_secs(u64::from(DAY / 5)));
    poke_until(&world, |world| roots(world).contains(&(AuthorityState::Old, first.clone()))).await;
    (world, stream, answer, first)
}

fn roots(world: &World) -> Vec<(AuthorityState, AuthorityId)> {
    world.handle.state().read(|state| state.x509_authorities().map(|root| (root.state, root.id.clone())).collect())
}

/// A stream with its first answer, as soon as there is one.
async fn opened(world: &World) -> (AnswerStream<X509svidResponse>, X509svidResponse) {
    let caller = caller();
    within(async {
        loop {
            if let Ok(mut stream) = world.system.workload_api().x509_svids(&caller).await
                && let Ok(answer) = next(&mut stream).await
            {
                return (stream, answer);
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Which key signed the issuing certificate of an answer.
fn issued_under(answer: &X509svidResponse) -> Vec<u8> {
    let issuing = Certificate::parse_concatenated(&answer.svids[0].x509_svid).unwrap().remove(1);
    issuing.extensions().authority_key_id.clone().unwrap().to_vec()
}

/// Design section 3: activation moves nobody, taint replaces at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_under_a_tainted_root_is_replaced_at_once() {
    let (world, mut stream, before, first) = with_an_old_root().await;
    world.propose(Operation::TaintX509Authority { id: first }).await;
    let old = issued_under(&before);
    let after = until(&mut stream, |answer| issued_under(answer) != old).await;
    assert_ne!(leaf(&world, &after).serial(), leaf_of(&before).serial());
}

/// Property 3: an SVID that was kept is not given out once its root has left the bundle, though nobody saw the taint.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_under_a_root_that_left_the_bundle_goes_to_nobody() {
    let (world, stream, before, first) = with_an_old_root().await;
    drop(stream);
    for operation in [Operation::TaintX509Authority { id: first.clone() }, Operation::RevokeX509Authority { id: first }]
    {
        world.propose(operation).await;
    }
    let (_stream, after) = opened(&world).await;
    assert_ne!(issued_under(&after), issued_under(&before));
    leaf(&world, &after);
}

/// A renewal that comes due while another SVID of the same caller is being made is made as soon as that one is, and not
/// when the old one has expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_comes_due_during_a_computation_is_not_passed_over() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    // An hour's SVID is renewed between 27 and 33 minutes.
    world.clock.advance(Duration::from_secs(26 * 60));
    let clock = world.clock.clone();
    let mut once = Some(Duration::from_secs(8 * 60));
    *world.keys.hook.lock() = Some(Box::new(move || clock.advance(once.take().unwrap_or_default())));
    world.register("b", "/b").await;
    until(&mut stream, |answer| answer.svids[0].x509_svid != before.svids[0].x509_svid).await;
}

/// Property 4: the lease lets a node sign X509-SVIDs; that it has no token key concerns tokens alone.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_key_streams_of_x509_svids_go_on() {
    const DAY: u32 = 24 * 3600;
    let policy = Policy { issuing_lifetime: 5 * DAY, jwt_key_lifetime: DAY, ..Policy::default() };
    let world = World::with(policy, settings()).await;
    world.register("a", "/a").await;
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    // Cut off, the node cannot make another token key, and holds its issuing certificate for some days more.
    world.handle.shutdown().await;
    world.clock.advance(Duration::from_secs(2 * u64::from(DAY)));
    world.system.child("issuer").await.unwrap().kill();
    world.until(|status| matches!(status, IssuanceStatus::Waiting { .. })).await;
    until(&mut stream, |answer| answer.svids[0].x509_svid != before.svids[0].x509_svid).await;
    unavailable(world.system.workload_api().fetch_jwt_svids(&caller(), vec!["a".into()], None, None).await);
}

/// WAPI-09: a stream hears of what changed in its own contents, and of nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_key_is_told_to_streams_of_token_keys_alone() {
    const DAY: u32 = 24 * 3600;
    let policy = Policy { issuing_lifetime: 5 * DAY, ..Policy::default() };
    let world = World::with(policy, settings()).await;
    world.register_draft(EntryDraft { x509_svid_ttl: 2 * DAY, ..draft("a", "/a") }).await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut tokens = api.jwt_bundles(&caller).await.unwrap();
    let mut roots = api.x509_bundles(&caller).await.unwrap();
    let mut svids = api.x509_svids(&caller).await.unwrap();
    next(&mut tokens).await.unwrap();
    next(&mut roots).await.unwrap();
    next(&mut svids).await.unwrap();
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let sealed = world.handle.state().read(|state| state.jwt_authorities().next().unwrap().sealed.clone().unwrap());
    let now = world.sources.now().seconds();
    let prepared = NewJwtAuthority {
        id: AuthorityId::new("0b").unwrap(),
        public_key: key.public_key().spki_der().to_vec().into(),
        validity: Validity::new(now, now.plus(7 * i64::from(DAY))).unwrap(),
        sealed,
        succeeds: None,
    };
    world.propose(Operation::PrepareJwtAuthority(Box::new(prepared))).await;
    let bundle = next(&mut tokens).await.unwrap().bundles.remove("spiffe://example.org").unwrap();
    assert!(std::str::from_utf8(&bundle).unwrap().contains(r#""kid":"0b""#));
    // All streams of a caller are served together, so what these two were to hear would be there by now.
    let quiet = |ready: bool| assert!(!ready, "nothing of its own changed");
    quiet(poll_fn(|context| Poll::Ready(Pin::new(&mut roots).poll_next(context).is_ready())).await);
    quiet(poll_fn(|context| Poll::Ready(Pin::new(&mut svids).poll_next(context).is_ready())).await);
    // And a session that is opened now finds the same SVID.
    let again = next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
    leaf(&world, &again);
}
