//! Revocation, as workloads and verifiers on several nodes see it (CRL-01 to CRL-13, INV-16).

use std::{collections::BTreeMap, time::Duration};

use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{
    Bundle, Certificate, KeyType, PrivateKey, SerialNumber, SpiffeId, UnixSeconds,
    x509::{CrlSet, Purpose, build_csr, parse_crl, verify_unrevoked_x509_svid},
};
use quorate_raft_machine::{
    CrlMode, Done, NewRevocation, Operation, Policy, RevocationReason, RevocationTarget, State,
};
use tokio::time::Instant;

use super::{
    cluster::{Cluster, asker, chain, deadline, fetch, fetched, token, until},
    world::{World, caller, id, next, settings, trust_domain, until as read_until, within},
};
use crate::{CrlsHandedOut, CutOff, Refusal, RevokeError, RevokeOutcome, Settings};

/// A policy by which a new key waits for a second only.
fn quick() -> Policy {
    Policy { crl_settle: 1, ..Policy::default() }
}

fn of(target: RevocationTarget) -> NewRevocation {
    NewRevocation { target, reason: RevocationReason::KeyCompromise, ban: false }
}

fn of_id(path: &str) -> NewRevocation {
    of(RevocationTarget::SpiffeId(id(path)))
}

async fn revoke(node: &World, revocation: NewRevocation) -> Result<RevokeOutcome, RevokeError> {
    within(node.system.revocations().revoke(&asker(), revocation, CutOff::Refuse, deadline())).await
}

fn serial(answer: &X509svidResponse) -> SerialNumber {
    SerialNumber::from_big_endian(chain(answer)[0].serial()).unwrap()
}

/// What a verifier says of a chain that has these CRLs, and the roots of a node: leaf and issuing certificate are checked.
fn check(answer: &X509svidResponse, crls: &[impl AsRef<[u8]>], at: &World) -> Result<(), String> {
    let mut bundle = Bundle::new(trust_domain());
    for root in &at.handle.state().read(State::bundle).x509_authorities {
        bundle.add_x509_authority(Certificate::parse(&root.certificate).unwrap());
    }
    let chain = chain(answer);
    let chain: Vec<&[u8]> = chain.iter().map(Certificate::der).collect();
    let crls = BTreeMap::from([(trust_domain(), CrlSet::new(crls).unwrap())]);
    let verified = verify_unrevoked_x509_svid(&chain, &bundle, &crls, at.sources.now().seconds(), Purpose::Client);
    verified.map(drop).map_err(|error| {
        assert!(error.is_revoked(), "{error:?}");
        error.to_string()
    })
}

/// INV-16: what each node hands out passes with the set that each node hands out.
async fn everybody_accepts_everybody(nodes: &[World]) {
    let mut answers = Vec::new();
    for node in nodes {
        answers.push(fetched(node).await);
    }
    for answer in &answers {
        for (node, with) in nodes.iter().zip(&answers) {
            assert!(!with.crl.is_empty(), "the set is on");
            check(answer, &with.crl, node).unwrap();
        }
    }
}

/// CRL-05, CRL-08, CRL-13, INV-16: streams are given other SVIDs and the complete set at once, which refuses the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn crl_13_what_is_revoked_is_replaced_and_refused_by_what_every_stream_is_handed() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let mut streams = Vec::new();
    let mut before = Vec::new();
    cluster.nodes[0].register("b", "/b").await;
    for node in &cluster.nodes {
        let mut stream = node.system.workload_api().x509_svids(&caller()).await.unwrap();
        let answer = read_until(&mut stream, |answer| answer.svids.len() == 2).await;
        assert_eq!(answer.crl, Vec::<bytes::Bytes>::new(), "nothing is revoked yet");
        before.push(answer);
        streams.push(stream);
    }
    let old: std::collections::BTreeSet<SerialNumber> = before.iter().map(serial).collect();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let old = old.clone();
            let is_new = move |answer: &X509svidResponse| answer.crl.len() == 4 && !old.contains(&serial(answer));
            tokio::spawn(async move {
                // It is read on, as a client does: what is not fetched was not handed out.
                let after = loop {
                    let answer = next(&mut stream).await.unwrap();
                    let with_entries = |crl: &&bytes::Bytes| !parse_crl(crl).unwrap().revoked.is_empty();
                    if is_new(&answer) && answer.crl.iter().filter(with_entries).count() == 3 {
                        break answer;
                    }
                };
                (after, stream)
            })
        })
        .collect();
    let outcome = revoke(&cluster.nodes[1], of_id("/a")).await.unwrap();
    assert_eq!((outcome.number, outcome.handed_to_streams, outcome.lacking_streams), (1, 3, 0), "{outcome:?}");
    let mut revoked: Vec<SerialNumber> = outcome.revoked.iter().map(|leaf| leaf.serial).collect();
    let mut wanted: Vec<SerialNumber> = before.iter().map(serial).collect();
    revoked.sort();
    wanted.sort();
    assert_eq!(revoked, wanted);
    assert_eq!(outcome.crls, CrlsHandedOut::Complete { count: 4, bytes: crl_bytes(&cluster.nodes[0]) });
    assert!(outcome.keys_revoked.is_empty() && outcome.cut_off.is_empty());

    // What every stream was sent by then is enough to refuse the old ones, wherever they came from.
    for (reader, node) in readers.into_iter().zip(&cluster.nodes) {
        let (after, _stream) = within(reader).await.unwrap();
        for old in &before {
            check(old, &after.crl, node).unwrap_err();
        }
        assert_eq!(after.svids[1].x509_svid, before_of(&before, &after).svids[1].x509_svid, "the other one stays");
        check(&after, &after.crl, node).unwrap();
        let dates: Vec<i64> = after.crl.iter().map(|crl| parse_crl(crl).unwrap().this_update.0).collect();
        let now = node.sources.now().seconds().0;
        assert!(dates.iter().all(|date| *date <= now), "CRL-04: none is from the future");
    }
    everybody_accepts_everybody(&cluster.nodes).await;
    for node in &cluster.nodes {
        let mut bundles = node.system.workload_api().x509_bundles(&caller()).await.unwrap();
        let bundles = next(&mut bundles).await.unwrap();
        let mut set: Vec<bytes::Bytes> =
            node.handle.state().read(|state| state.crl_set().unwrap().crls().cloned().collect());
        let mut handed = bundles.crl;
        set.sort();
        handed.sort();
        assert_eq!(handed, set);
    }
}

fn before_of<'a>(before: &'a [X509svidResponse], after: &X509svidResponse) -> &'a X509svidResponse {
    before.iter().find(|before| chain(before)[1] == chain(after)[1]).unwrap()
}

fn crl_bytes(node: &World) -> usize {
    node.handle.state().read(|state| state.all_crls().bytes())
}

/// CRL-04: revocations that follow each other at once each have a CRL of their own, the later one later.
#[tokio::test(flavor = "multi_thread")]
async fn crl_04_revocations_in_a_burst_are_each_in_a_later_crl() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let key = fetched(&world).await;
    let key = chain(&key)[1].authority_id();
    let mut seen = Vec::new();
    for _ in 0..5 {
        fetched(&world).await;
        revoke(&world, of_id("/a")).await.unwrap();
        let crl = world.handle.state().read(|state| state.issuing_key(&key).unwrap().crl.clone());
        let crl = parse_crl(&crl).unwrap();
        seen.push((crl.number, crl.this_update, crl.revoked.len()));
    }
    for pair in seen.windows(2) {
        assert!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1 && pair[0].2 < pair[1].2, "{seen:?}");
    }
}

/// Property 5, ATK-11: a ban ends streams and refuses tokens and minted SVIDs, everywhere, until it is lifted.
#[tokio::test(flavor = "multi_thread")]
async fn atk_11_whoever_is_banned_gets_nothing_from_any_node_until_the_ban_is_lifted() {
    let cluster = Cluster::of(3, quick()).await;
    let mut streams = Vec::new();
    for node in &cluster.nodes {
        let mut stream = node.system.workload_api().x509_svids(&caller()).await.unwrap();
        next(&mut stream).await.unwrap();
        streams.push(stream);
    }
    let outcome = revoke(&cluster.nodes[1], NewRevocation { ban: true, ..of_id("/a") }).await.unwrap();
    for (stream, node) in streams.iter_mut().zip(&cluster.nodes) {
        let end = within(async {
            loop {
                match next(stream).await {
                    Ok(answer) => assert!(!answer.svids.is_empty()),
                    Err(end) => return end,
                }
            }
        });
        assert_eq!(end.await, Refusal::no_identity());
        assert_eq!(fetch(node).await.unwrap_err(), Refusal::no_identity());
        assert!(matches!(token(node).await, Err(Refusal::PermissionDenied(_))));
        let minter = node.system.minter();
        let csr = build_csr(&PrivateKey::generate(KeyType::EcP256).unwrap(), &id("/a"), &[]).unwrap();
        assert!(matches!(
            minter.mint_x509(&quorate_raft_machine::Caller::node(), &csr, 0).await,
            Err(Refusal::PermissionDenied(_))
        ));
        assert!(matches!(
            minter.mint_jwt(&quorate_raft_machine::Caller::node(), &id("/a"), vec!["x".into()], 0).await,
            Err(Refusal::PermissionDenied(_))
        ));
    }
    let revocations = cluster.nodes[0].system.revocations();
    revocations.remove(&asker(), outcome.number, deadline()).await.unwrap();
    for node in &cluster.nodes {
        let answer = fetched(node).await;
        assert!(!outcome.revoked.iter().any(|leaf| leaf.serial == serial(&answer)));
        check(&answer, &answer.crl, node).unwrap();
        within(async { while token(node).await.is_err() {} }).await;
    }
}

/// ATK-11: an SVID that was being signed when its entry was revoked is another one when it is handed out; one that was
/// banned meanwhile is not handed out.
#[tokio::test(flavor = "multi_thread")]
async fn atk_11_a_signature_in_flight_is_checked_again() {
    for ban in [false, true] {
        let world = World::ready().await;
        world.register("a", "/a").await;
        world.register("b", "/b").await;
        let handle = world.handle.clone();
        let runtime = tokio::runtime::Handle::current();
        let mut made = 0;
        *world.keys.hook.lock() = Some(Box::new(move || {
            made += 1;
            // The first is signed, and its answer waits for the second.
            if made != 2 {
                return;
            }
            let revocation = Operation::Revoke(Box::new(NewRevocation { ban, ..of_id("/a") }));
            let proposal = quorate_raft_consensus::Proposal::new(asker(), vec![revocation]);
            let handle = handle.clone();
            tokio::task::block_in_place(|| runtime.block_on(async { handle.propose(proposal).await.unwrap() }));
        }));
        let answer = fetch(&world).await.unwrap();
        let ids: Vec<&str> = answer.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
        let (a, b) = ("spiffe://example.org/a", "spiffe://example.org/b");
        assert_eq!(ids, if ban { vec![b] } else { vec![a, b] });
        // The one that was signed first is in a CRL soon, and it is not one that was handed out.
        let state = world.handle.state();
        until(|| state.read(|state| state.revoked_leaves().count() == 1)).await;
        assert!(!state.read(|state| state.revoked_leaves().any(|(_, leaf)| leaf.serial == serial(&answer))));
        *world.keys.hook.lock() = None;
    }
}

/// Tokens issued up to a revocation are refused, and later ones are good; a `jti` is refused alone.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refused_by_rule_and_by_jti() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let [first, second] = [&cluster.nodes[0], &cluster.nodes[1]];
    let validate = async |node: &World, token: &str| {
        let api = node.system.workload_api();
        api.validate_jwt_svid(&caller(), "x", token).await
    };
    let (old, single) = (token(first).await.unwrap(), token(second).await.unwrap());
    let verified = validate(second, &single).await.unwrap();
    let jti = verified.claims()["jti"].as_str().unwrap().to_owned();
    let expires_at = UnixSeconds(verified.claims()["exp"].as_i64().unwrap());
    let target = RevocationTarget::Jti { jti, expires_at };
    let outcome = revoke(first, of(target)).await.unwrap();
    assert!(outcome.revoked.is_empty());
    for node in &cluster.nodes {
        assert!(matches!(validate(node, &single).await, Err(Refusal::InvalidArgument(_))));
        validate(node, &old).await.unwrap();
    }
    let outcome = revoke(second, of_id("/a")).await.unwrap();
    for node in &cluster.nodes {
        assert!(matches!(validate(node, &old).await, Err(Refusal::InvalidArgument(_))));
        // A token that is issued in the very second of the rule would be refused, so none is.
        let fresh = token(node).await.unwrap();
        for node in &cluster.nodes {
            validate(node, &fresh).await.unwrap();
        }
    }
    let revocations = first.system.revocations();
    revocations.remove(&asker(), outcome.number, deadline()).await.unwrap();
    validate(first, &old).await.unwrap();
}

/// A serial number that nobody knows is refused before anything changes; one that somebody has signed is found from any node.
#[tokio::test(flavor = "multi_thread")]
async fn a_serial_number_is_revoked_wherever_it_was_signed_and_refused_where_nobody_has() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let answer = fetched(&cluster.nodes[0]).await;
    let unknown = of(RevocationTarget::Serial { serial: SerialNumber::from_random([7; 16]) });
    let refused = revoke(&cluster.nodes[1], unknown).await.unwrap_err();
    assert!(matches!(refused, RevokeError::NoSuchSerial { .. }), "{refused}");
    assert_eq!(cluster.nodes[1].handle.state().read(State::last_revocation_number), 0);
    let known = of(RevocationTarget::Serial { serial: serial(&answer) });
    let outcome = revoke(&cluster.nodes[1], known).await.unwrap();
    assert_eq!(outcome.revoked.iter().map(|leaf| &leaf.serial).collect::<Vec<_>>(), [&serial(&answer)]);
    let after = fetched(&cluster.nodes[0]).await;
    assert_ne!(serial(&after), serial(&answer));
    check(&answer, &after.crl, &cluster.nodes[1]).unwrap_err();
}

/// Deleting an entry can revoke what it issued, minted SVIDs of its ID excepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_entry_takes_its_svids_with_it_when_it_is_to() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let answer = fetched(&world).await;
    let revocations = world.system.revocations();
    let entry: quorate_proto_identity::EntryId = "a".parse().unwrap();
    let plan = revocations.plan(&RevocationTarget::Entry(entry.clone()), CutOff::Refuse).await.unwrap();
    let delete = Operation::DeleteEntry { id: entry, revoke: Some(RevocationReason::CessationOfOperation) };
    world.propose(delete).await;
    let number = world.handle.state().read(State::last_revocation_number);
    let outcome =
        within(revocations.finish(&quorate_raft_machine::Caller::node(), plan, number, 0, deadline())).await.unwrap();
    assert_eq!(outcome.revoked.iter().map(|leaf| leaf.serial).collect::<Vec<_>>(), [serial(&answer)]);
}

/// CRL-06, CRL-07, INV-16: a node that is started again signs once everybody has its new key's CRL, and its old key is
/// revoked whole afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn crl_07_a_restarted_node_waits_for_its_crl_and_its_old_key_goes() {
    let mut cluster = Cluster::of(3, quick()).await;
    revoke(&cluster.nodes[0], of_id("/a")).await.unwrap();
    let restarted = (cluster.leader(None).await + 1) % 3;
    let mut witness = cluster.nodes[(restarted + 1) % 3].system.workload_api().x509_svids(&caller()).await.unwrap();
    let mut sets = vec![next(&mut witness).await.unwrap().crl];
    let old = fetched(&cluster.nodes[restarted]).await;
    let old_key = chain(&old)[1].authority_id();
    cluster.nodes[restarted].restart_node().await;
    let node = &cluster.nodes[restarted];
    let began = Instant::now();
    let new = fetched(node).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "CRL-07: it settles first");
    // Whoever had been handed a set by now can check it, and the old SVID is good until its holder had the time to come back.
    while let Ok(Some(Ok(answer))) = tokio::time::timeout(Duration::from_millis(1), next_of(&mut witness)).await {
        sets.push(answer.crl);
    }
    check(&new, sets.last().unwrap(), node).unwrap();
    check(&old, &new.crl, node).unwrap();
    for node in &cluster.nodes {
        until(|| node.handle.state().read(|state| is_revoked_whole(state, &old_key))).await;
    }
    let after = fetched(&cluster.nodes[0]).await;
    assert!(check(&old, &after.crl, &cluster.nodes[0]).is_err());
    let root_only = |state: &State| state.crl_set().is_some_and(|set| set.get(&old_key).is_none());
    assert!(cluster.nodes[0].handle.state().read(root_only), "CRL-06: its own CRL has left the set");
    everybody_accepts_everybody(&cluster.nodes).await;
}

/// CRL-06: what a process signed that is gone is not taken for covered before its successor has a key on record, which is what
/// lets everybody see that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn crl_06_a_revocation_is_not_finished_while_a_node_that_starts_again_has_no_key_yet() {
    let mut cluster = Cluster::of(3, quick()).await;
    let restarted = (cluster.leader(None).await + 1) % 3;
    let old = fetched(&cluster.nodes[restarted]).await;
    let revocations = cluster.nodes[(restarted + 1) % 3].system.revocations().clone();
    let (runtime, answer) = (tokio::runtime::Handle::current(), std::sync::Arc::new(parking_lot::Mutex::new(None)));
    let told = std::sync::Arc::clone(&answer);
    let mut is_first = true;
    *cluster.nodes[restarted].keys.hook.lock() = Some(Box::new(move || {
        // The first key that the new process makes is its issuing key.
        if !std::mem::take(&mut is_first) {
            return;
        }
        let revoke = async {
            loop {
                let deadline = Instant::now() + Duration::from_secs(3);
                match revocations.revoke(&asker(), of_id("/a"), CutOff::Refuse, deadline).await {
                    Err(RevokeError::CutOff(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => return other,
                }
            }
        };
        *told.lock() = Some(tokio::task::block_in_place(|| runtime.block_on(within(revoke))));
    }));
    cluster.nodes[restarted].restart_node().await;
    fetched(&cluster.nodes[restarted]).await;
    let answer = answer.lock().take().unwrap();
    assert!(matches!(answer, Err(RevokeError::Unfinished { .. })), "{answer:?}");
    let asked = &cluster.nodes[(restarted + 1) % 3];
    let old_key = chain(&old)[1].authority_id();
    until(|| asked.handle.state().read(|state| is_revoked_whole(state, &old_key))).await;
    check(&old, &fetched(asked).await.crl, asked).unwrap_err();
}

/// CRL-07, INV-16: while a live member is cut off, it may hand out CRLs without that of a new key, so the key signs nothing; once
/// it is back, or fenced, it does.
#[tokio::test(flavor = "multi_thread")]
async fn crl_07_a_new_key_waits_for_a_live_member_that_is_cut_off_until_it_is_fenced() {
    let mut cluster = Cluster::of(3, quick()).await;
    revoke(&cluster.nodes[0], of_id("/a")).await.unwrap();
    let leader = cluster.leader(None).await;
    let (restarted, absent) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[restarted].stop().await;
    cluster.network.cut(cluster.nodes[absent].name.as_str());
    cluster.nodes[restarted].start().await;
    let (node, asked) = (&cluster.nodes[restarted], &cluster.nodes[leader]);
    let boot = |state: &State| {
        let own = state.issuing_keys().filter(|key| key.member == cluster.number(restarted));
        own.max_by_key(|key| key.number).map(|newest| (newest.boot, newest.state))
    };
    let before = node.handle.state().read(boot).unwrap().0;
    until(|| asked.handle.state().read(boot).is_some_and(|(newest, _)| newest != before)).await;
    // Three times as long as it would settle.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waits = asked.handle.state().read(boot).unwrap();
    assert_eq!(waits.1, quorate_raft_machine::IssuingKeyState::Prepared, "CRL-07");
    assert!(matches!(fetch(node).await, Err(Refusal::Unavailable(_))));
    let fence = Operation::RevokeIssuingCertificate { member: cluster.number(absent), serial: None };
    super::cluster::propose(asked, fence).await;
    let new = fetched(node).await;
    check(&new, &fetched(asked).await.crl, asked).unwrap();
}

/// A serial number is its issuer's alone, and so is what a node has signed: nobody waits for another node that is away.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_signed_is_revoked_though_another_one_is_away() {
    let cluster = Cluster::of(3, quick()).await;
    let absent = (cluster.leader(None).await + 1) % 3;
    let issuer = &cluster.nodes[(absent + 1) % 3];
    let old = fetched(issuer).await;
    cluster.network.cut(cluster.nodes[absent].name.as_str());
    let target = RevocationTarget::Serial { serial: serial(&old) };
    let outcome = revoke(issuer, of(target)).await.unwrap();
    assert_eq!(outcome.revoked.iter().map(|leaf| leaf.serial).collect::<Vec<_>>(), [serial(&old)]);
    check(&old, &fetched(issuer).await.crl, issuer).unwrap_err();
}

async fn next_of<T>(stream: &mut crate::AnswerStream<T>) -> Option<Result<T, Refusal>> {
    tokio_stream::StreamExt::next(stream).await
}

fn is_revoked_whole(state: &State, key: &quorate_proto_identity::AuthorityId) -> bool {
    state.certificates_of(key).all(|issuing| issuing.revoked_at.is_some())
}

/// INV-16: through renewals of issuing certificates and rotations of roots, everybody accepts everybody, and nobody waits.
#[tokio::test(flavor = "multi_thread")]
async fn inv_16_renewals_while_crls_are_handed_out_refuse_nobody() {
    let policy = Policy {
        root_lifetime: 72,
        issuing_lifetime: 12,
        x509_svid_lifetime: 5,
        jwt_key_lifetime: 600,
        jwt_svid_lifetime: 10,
        refresh_hint: 5,
        crl_mode: CrlMode::Always,
        crl_settle: 1,
        ..Policy::default()
    };
    let cluster = Cluster::of(3, policy).await;
    let mut keys = std::collections::BTreeSet::new();
    within(async {
        while keys.len() < 9 {
            let mut answers = Vec::new();
            for node in &cluster.nodes {
                // No wait: a node that has signed goes on signing.
                answers.push(fetch(node).await.unwrap());
            }
            for answer in &answers {
                keys.insert(chain(answer)[1].authority_id());
                for (node, with) in cluster.nodes.iter().zip(&answers) {
                    check(answer, &with.crl, node).unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// CRL-06: a list that is full costs its key: another one takes over, what is under it is signed anew, and it is revoked whole.
#[tokio::test(flavor = "multi_thread")]
async fn crl_06_a_key_whose_list_has_a_gap_is_replaced_and_revoked_whole() {
    let world = World::with(quick(), Settings { live_serials_per_key: 5, ..settings() }).await;
    for entry in ["a", "b", "c"] {
        world.register(entry, &format!("/{entry}")).await;
    }
    let mut stream = world.system.workload_api().x509_svids(&caller()).await.unwrap();
    let before = next(&mut stream).await.unwrap();
    assert_eq!(before.svids.len(), 3);
    let csr = build_csr(&PrivateKey::generate(KeyType::EcP256).unwrap(), &id("/minted"), &[]).unwrap();
    for _ in 0..3 {
        world.system.minter().mint_x509(&asker(), &csr, 0).await.expect("nobody is refused for want of room");
    }
    let old_key = chain(&before)[1].authority_id();
    let other_key = |answer: &X509svidResponse| chain(answer)[1].authority_id() != old_key;
    read_until(&mut stream, other_key).await;
    let outcome = revoke(&world, of_id("/a")).await.unwrap();
    assert!(outcome.keys_revoked.iter().any(|(key, name)| *key == old_key && name == "node-1"), "{outcome:?}");
    let after = read_until(&mut stream, |answer| other_key(answer) && !answer.crl.is_empty()).await;
    check(&after, &after.crl, &world).unwrap();
    check(&before, &after.crl, &world).unwrap_err();
}

/// CRL-06: an issuer that is cut off is named, and with confirmation its keys are revoked whole.
#[tokio::test(flavor = "multi_thread")]
async fn crl_06_an_issuer_that_is_cut_off_is_named_and_its_keys_go_when_that_is_wanted() {
    let cluster = Cluster::of(3, quick()).await;
    let mut old = Vec::new();
    for node in &cluster.nodes {
        old.push(fetched(node).await);
    }
    let absent = (cluster.leader(None).await + 1) % 3;
    let asked = &cluster.nodes[(absent + 1) % 3];
    cluster.network.cut(cluster.nodes[absent].name.as_str());
    let refused = revoke(asked, of_id("/a")).await.unwrap_err();
    let RevokeError::CutOff(named) = &refused else { panic!("{refused}") };
    assert_eq!(named.iter().map(|member| member.number).collect::<Vec<_>>(), [cluster.number(absent)]);
    assert_eq!(asked.handle.state().read(State::last_revocation_number), 0, "nothing changed");

    let revocations = asked.system.revocations();
    let outcome = within(revocations.revoke(&asker(), of_id("/a"), CutOff::RevokeKeys, deadline())).await.unwrap();
    assert_eq!(outcome.cut_off, *named);
    let gone = chain(&old[absent])[1].authority_id();
    assert!(outcome.keys_revoked.iter().any(|(key, _)| *key == gone), "{outcome:?}");
    assert_eq!(outcome.revoked.len(), 2, "those of the two that are there");
    let after = fetched(asked).await;
    for old in &old {
        check(old, &after.crl, asked).unwrap_err();
    }
    // Once it is back it has no lease, asks for another key, and is accepted again.
    cluster.network.heal(cluster.nodes[absent].name.as_str());
    let again = within(async {
        loop {
            let answer = fetched(&cluster.nodes[absent]).await;
            if chain(&answer)[1].authority_id() != gone {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let with = fetched(asked).await;
    check(&again, &with.crl, asked).unwrap();
}

/// A node that is revoked gets another key, and what it signed with the former one is refused; one that is banned signs
/// nothing until the ban is lifted.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_revoked_signs_with_another_key_and_a_banned_one_not_at_all() {
    let cluster = Cluster::of(3, quick()).await;
    let target = (cluster.leader(None).await + 1) % 3;
    let (node, other) = (&cluster.nodes[target], &cluster.nodes[(target + 1) % 3]);
    let old = fetched(node).await;
    let of_node = of(RevocationTarget::Node(cluster.number(target)));
    let outcome = revoke(other, of_node.clone()).await.unwrap();
    let old_key = chain(&old)[1].authority_id();
    assert!(outcome.keys_revoked.iter().any(|(key, _)| *key == old_key), "{outcome:?}");
    let new = fetched(node).await;
    assert_ne!(chain(&new)[1].authority_id(), old_key);
    let with = fetched(other).await;
    check(&new, &with.crl, other).unwrap();
    check(&old, &with.crl, other).unwrap_err();

    let outcome = revoke(other, NewRevocation { ban: true, ..of_node }).await.unwrap();
    assert!(matches!(fetch(node).await, Err(Refusal::Unavailable(_))), "property 4: never that it has no identity");
    fetched(other).await;
    other.system.revocations().remove(&asker(), outcome.number, deadline()).await.unwrap();
    let again = fetched(node).await;
    check(&again, &fetched(other).await.crl, other).unwrap();
}

/// The CRL mode `off` hands nothing out, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn crl_08_with_crls_off_a_revocation_says_so() {
    let world = World::with(Policy { crl_mode: CrlMode::Off, ..Policy::default() }, settings()).await;
    world.register("a", "/a").await;
    let old = fetched(&world).await;
    let outcome = revoke(&world, of_id("/a")).await.unwrap();
    assert_eq!(outcome.crls, CrlsHandedOut::Off);
    let new = fetched(&world).await;
    assert_ne!(serial(&new), serial(&old), "whoever is entitled gets another one all the same");
    assert!(new.crl.is_empty());
    assert!(SpiffeId::parse(&new.svids[0].spiffe_id).is_ok());
}

/// The ledger knows the entry and the issuer of what was issued, and finds tokens where the policy notes them.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_searched_by_serial_id_entry_and_issuing_key() {
    let policy = Policy { audit_issuance: quorate_raft_machine::AuditIssuance::Recorded, ..Policy::default() };
    let world = World::with(policy, settings()).await;
    world.register("a", "/a").await;
    let answer = fetched(&world).await;
    token(&world).await.unwrap();
    let search = async |query: crate::LedgerQuery| {
        let page = world.system.ledger().search(query).await.unwrap();
        let issued = |row: crate::LedgerRow| match row {
            crate::LedgerRow::Issued(issued) => issued,
            crate::LedgerRow::Gap(gap) => panic!("{gap:?}"),
        };
        page.rows.into_iter().map(issued).collect::<Vec<_>>()
    };
    let all = search(crate::LedgerQuery { spiffe_id: Some(id("/a")), ..Default::default() }).await;
    assert_eq!(all.len(), 2, "an SVID and a token: {all:?}");
    assert!(all.iter().all(|issued| issued.entry == Some("a".parse().unwrap())));
    let by_serial =
        search(crate::LedgerQuery { id: Some(crate::IssuedId::Serial(serial(&answer))), ..Default::default() });
    assert_eq!(by_serial.await.len(), 1);
    let issuing_key = Some(chain(&answer)[1].authority_id());
    let by_key =
        search(crate::LedgerQuery { issuing_key, entry: Some("a".parse().unwrap()), ..Default::default() }).await;
    assert_eq!(by_key.len(), 1);
    assert_eq!(by_key[0].id, crate::IssuedId::Serial(serial(&answer)));
}

/// What a command says that removes what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_unknown_cannot_be_lifted() {
    let world = World::ready().await;
    let refused = world.system.revocations().remove(&asker(), 9, deadline()).await;
    assert!(matches!(refused, Err(RevokeError::Refused(_))), "{refused:?}");
    let done = world.propose(Operation::Revoke(Box::new(of_id("/a")))).await;
    assert_eq!(done, Done::Revoked { number: 1 });
}
