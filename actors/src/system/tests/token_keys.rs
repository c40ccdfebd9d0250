//! Which key signs tokens, and which one no longer does.

use quorate_proto_identity::{AuthorityId, KeyType, PrivateKey, Validity};
use quorate_raft_machine::{NewJwtAuthority, Operation};

use super::world::{World, caller, next, until, within};
use crate::Refusal;

/// A token for the caller of these tests.
async fn token(world: &World) -> Result<String, Refusal> {
    let api = world.system.workload_api();
    Ok(api.fetch_jwt_svids(&caller(), vec!["x".into()], None, None).await?.svids.remove(0).svid)
}

/// Design section 3: a token key that is tainted or revoked signs nothing more, though its successor cannot be opened
/// (what is sealed under its name is another key). BND-07: streams hear of keys that come and go.
#[tokio::test(flavor = "multi_thread")]
async fn a_tainted_token_key_never_signs_on_while_its_successor_does_not_open() {
    let world = World::ready().await;
    world.register("a", "/a").await;
    let mut bundles = world.system.workload_api().jwt_bundles(&caller()).await.unwrap();
    next(&mut bundles).await.unwrap();
    let (first, sealed) = world.handle.state().read(|state| {
        let active = state.active_jwt_authority().unwrap();
        (active.id.clone(), active.sealed.clone().unwrap())
    });
    let successor = AuthorityId::new("0b").unwrap();
    let now = world.sources.now().seconds();
    let prepared = NewJwtAuthority {
        id: successor.clone(),
        public_key: PrivateKey::generate(KeyType::EcP256).unwrap().public_key().spki_der().to_vec().into(),
        validity: Validity::new(now, now.plus(7 * 24 * 3600)).unwrap(),
        sealed,
        succeeds: None,
    };
    let holds = |bundle: &[u8], id: &AuthorityId| {
        std::str::from_utf8(bundle).unwrap().contains(&format!(r#""kid":"{}""#, id.as_str()))
    };
    world.propose(Operation::PrepareJwtAuthority(Box::new(prepared))).await;
    until(&mut bundles, |answer| holds(&answer.bundles["spiffe://example.org"], &successor)).await;
    world.propose(Operation::ActivateJwtAuthority { id: successor }).await;
    token(&world).await.unwrap();

    world.propose(Operation::TaintJwtAuthority { id: first.clone() }).await;
    within(async {
        while token(&world).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let refused = |result| assert!(matches!(result, Err(Refusal::Unavailable(_))), "{result:?}");
    for _ in 0..10 {
        refused(token(&world).await);
    }
    world.propose(Operation::RevokeJwtAuthority { id: first.clone() }).await;
    until(&mut bundles, |answer| !holds(&answer.bundles["spiffe://example.org"], &first)).await;
    refused(token(&world).await);
}
