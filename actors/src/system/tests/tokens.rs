//! JWT-SVIDs: fetched, validated, minted.

use quorate_proto_identity::{
    KeyType, PrivateKey, Selector, SelectorSet,
    x509::{Certificate, build_csr},
};
use quorate_raft_machine::EntryDraft;

use super::world::{World, caller, draft, id};
use crate::Refusal;

fn audience(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_14_sb_15_sb_16_tokens_for_whom_and_what_was_asked() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    world.register_draft(EntryDraft { hint: "second".into(), ..draft("b", "/b") }).await;
    let (api, caller) = (world.system.workload_api(), caller());

    for wrong in [audience(&[]), audience(&[""]), audience(&["x"; 65])] {
        let refused = api.fetch_jwt_svids(&caller, wrong, None, None).await;
        assert!(matches!(refused, Err(Refusal::InvalidArgument(_))), "{refused:?}");
    }
    let all = api.fetch_jwt_svids(&caller, audience(&["one", "two"]), None, None).await.unwrap();
    let found: Vec<_> = all.svids.iter().map(|svid| (svid.spiffe_id.as_str(), svid.hint.as_str())).collect();
    assert_eq!(found, [("spiffe://example.org/a", ""), ("spiffe://example.org/b", "second")]);
    for name in ["one", "two"] {
        let verified = api.validate_jwt_svid(&caller, name, &all.svids[0].svid).await.unwrap();
        assert_eq!(*verified.spiffe_id(), id("/a"));
        // SB-18, and what every token of ours has.
        for claim in ["sub", "aud", "exp", "iat", "jti"] {
            assert!(verified.claims().contains_key(claim), "{claim}");
        }
    }
    let one = api.fetch_jwt_svids(&caller, audience(&["one"]), Some(&id("/b")), None).await.unwrap();
    assert_eq!(one.svids.len(), 1);
    assert_eq!(one.svids[0].spiffe_id, "spiffe://example.org/b");
    let refused = api.fetch_jwt_svids(&caller, audience(&["one"]), Some(&id("/c")), None).await;
    assert!(matches!(refused, Err(Refusal::PermissionDenied(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_16_wapi_31_an_id_of_two_entries_gets_one_token_that_of_the_first() {
    let world = World::ready().await;
    let other = Selector::new("unix", &format!("gid:{}", nix::unistd::getegid())).unwrap();
    let selectors = SelectorSet::new([other]);
    world.register_draft(EntryDraft { hint: "later".into(), ..draft("b", "/x") }).await;
    world.register_draft(EntryDraft { hint: "first".into(), selectors, ..draft("a", "/x") }).await;
    let (api, caller) = (world.system.workload_api(), caller());
    let all = api.fetch_jwt_svids(&caller, audience(&["one"]), None, None).await.unwrap();
    assert_eq!(all.svids.len(), 2);
    let one = api.fetch_jwt_svids(&caller, audience(&["one"]), Some(&id("/x")), None).await.unwrap();
    assert_eq!(one.svids.iter().map(|svid| svid.hint.as_str()).collect::<Vec<_>>(), ["first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_asked_but_not_longer_than_its_entry_allows() {
    let world = World::ready().await;
    world.register_draft(EntryDraft { jwt_svid_ttl: 100, ..draft("a", "/a") }).await;
    let (api, caller) = (world.system.workload_api(), caller());
    for (asked, lives) in [(None, 100), (Some(30), 30), (Some(1000), 100)] {
        let fetched = api.fetch_jwt_svids(&caller, audience(&["x"]), None, asked).await.unwrap();
        let verified = api.validate_jwt_svid(&caller, "x", &fetched.svids[0].svid).await.unwrap();
        let issued = verified.claims()["iat"].as_i64().unwrap();
        assert_eq!(verified.claims()["exp"].as_i64().unwrap() - issued, lives, "{asked:?}");
    }
    let refused = api.fetch_jwt_svids(&caller, audience(&["x"]), None, Some(0)).await;
    assert!(matches!(refused, Err(Refusal::InvalidArgument(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn sb_19_a_token_that_does_not_verify_gives_no_identity() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let (api, caller) = (world.system.workload_api(), caller());
    let token = api.fetch_jwt_svids(&caller, audience(&["x"]), None, None).await.unwrap().svids.remove(0).svid;
    // A character that is another one: the last of a signature is one of four.
    let other = if token.ends_with('A') { 'Q' } else { 'A' };
    let changed = format!("{}{other}", &token[..token.len() - 1]);
    for (audience, token) in [("y", token.as_str()), ("", &token), ("x", ""), ("x", "a.b.c"), ("x", &changed)] {
        let refused = api.validate_jwt_svid(&caller, audience, token).await;
        assert!(matches!(refused, Err(Refusal::InvalidArgument(_))), "{audience} {refused:?}");
    }
    // Whoever has no identity may validate all the same.
    world.delete("a").await;
    api.validate_jwt_svid(&super::world::caller(), "x", &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn minting_takes_the_id_from_the_request_and_the_life_from_the_caller() {
    let world = World::ready().await;
    let minter = world.system.minter();
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let csr = build_csr(&key, &id("/minted"), &["a.example.org".to_owned()]).unwrap();
    let minted = minter.mint_x509(&quorate_raft_machine::Caller::node(), &csr, 120).await.unwrap();
    assert_eq!(minted.spiffe_id, id("/minted"));
    assert_eq!(minted.chain.len(), 2);
    let leaf = Certificate::parse(&minted.chain[0]).unwrap();
    assert_eq!(leaf.public_key(), key.public_key());
    assert_eq!(leaf.validity().seconds(), 150, "120 s, and 30 s back");
    let day_and_more = minter.mint_x509(&quorate_raft_machine::Caller::node(), &csr, 1_000_000).await.unwrap();
    let issuing = Certificate::parse(&day_and_more.chain[1]).unwrap();
    assert_eq!(day_and_more.expires_at, issuing.validity().not_after(), "cut at the issuer's end");

    let foreign = quorate_proto_identity::SpiffeId::parse("spiffe://other.org/a").unwrap();
    for wrong in [foreign, id("/spire/server"), quorate_proto_identity::TrustDomain::new("example.org").unwrap().id()] {
        let csr = build_csr(&key, &wrong, &[]).unwrap();
        let refused = minter.mint_x509(&quorate_raft_machine::Caller::node(), &csr, 0).await;
        assert!(matches!(refused, Err(Refusal::InvalidArgument(_))), "SB-36: {wrong} {refused:?}");
        let refused = minter.mint_jwt(&quorate_raft_machine::Caller::node(), &wrong, audience(&["x"]), 0).await;
        assert!(matches!(refused, Err(Refusal::InvalidArgument(_))), "SB-36: {wrong} {refused:?}");
    }
    let mut broken = csr.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert!(matches!(
        minter.mint_x509(&quorate_raft_machine::Caller::node(), &broken, 0).await,
        Err(Refusal::InvalidArgument(_))
    ));

    let token =
        minter.mint_jwt(&quorate_raft_machine::Caller::node(), &id("/minted"), audience(&["x"]), 0).await.unwrap();
    assert_eq!(token.expires_at.since(token.issued_at), 300);
    assert!(!format!("{token:?}").contains(&token.token));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_is_in_the_ledger() {
    let world = World::ready().await;
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let csr = build_csr(&key, &id("/minted"), &[]).unwrap();
    let minted = world.system.minter().mint_x509(&quorate_raft_machine::Caller::node(), &csr, 120).await.unwrap();
    assert!(world.system.ledger().flush().await);
    let leaf = Certificate::parse(&minted.chain[0]).unwrap();
    let mut serial = [0; 16];
    serial[16 - leaf.serial().len()..].copy_from_slice(leaf.serial());
    let serial = quorate_proto_identity::SerialNumber::new(serial).unwrap();
    let query = crate::LedgerQuery { id: Some(crate::IssuedId::Serial(serial)), ..Default::default() };
    let found = world.system.ledger().search(query).await.unwrap().rows;
    let [crate::LedgerRow::Issued(found)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(found.spiffe_id, id("/minted"));
    assert_eq!((found.not_after, &found.entry), (minted.expires_at, &None));
}
