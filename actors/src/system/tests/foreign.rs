//! Foreign bundles, as workloads get them: those of the trust domains that their entries federate with, and what that does to
//! tokens and CRLs.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use quorate_proto_api::workload::X509svidResponse;
use quorate_proto_identity::{
    AuthorityId, Bundle, Certificate, JwtAuthority, JwtClaims, JwtSigner, KeyType, PrivateKey, SerialNumber, SpiffeId,
    TrustDomain, UnixSeconds, Validity,
    x509::{AuthorityTemplate, LeafIssuer, LeafTemplate, Purpose, build_root, verify_x509_svid},
};
use quorate_raft_machine::{
    CrlMode, Done, Endpoint, EndpointPins, EntryChange, EntryDraft, ForeignBundle, ForeignDeletion, ForeignOrigin,
    NewForeignBundle, NewRelationship, NewRevocation, Operation, Policy, PollSettings, RelationshipOrigin,
    RevocationReason, RevocationTarget, SetHow,
};
use tokio_stream::{Stream, StreamExt};

use super::{
    cluster::Cluster,
    world::{World, caller, draft, next, settings, until, within},
};
use crate::{Refusal, Settings};

/// A foreign authority: a root, a token key, and what it signs.
pub(super) struct Foreign {
    pub(super) domain: TrustDomain,
    pub(super) root: Certificate,
    pub(super) root_key: PrivateKey,
    pub(super) token_key: PrivateKey,
    pub(super) key_id: String,
}

fn now() -> UnixSeconds {
    quorate_raft_consensus::WallClock::now(&crate::sources::SystemClock).seconds()
}

fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    SerialNumber::from_random(bytes)
}

impl Foreign {
    pub(super) fn new(name: &str) -> Self {
        let domain = TrustDomain::new(name).unwrap();
        let validity = Validity::new(now().minus(60), now().plus(3600)).unwrap();
        let root_key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let template = AuthorityTemplate { trust_domain: &domain, serial: serial(), validity };
        let root = build_root(&template, &root_key).unwrap();
        let token_key = PrivateKey::generate(KeyType::EcP256).unwrap();
        Self { domain, root, root_key, token_key, key_id: format!("key-of-{name}") }
    }

    /// What it publishes.
    pub(super) fn bundle(&self, sequence: u64) -> Bundle {
        let mut bundle = Bundle::new(self.domain.clone());
        bundle.add_x509_authority(self.root.clone());
        let public_key = self.token_key.public_key().clone();
        bundle.add_jwt_authority(JwtAuthority { key_id: self.key_id.clone(), public_key });
        bundle.set_sequence(Some(sequence));
        bundle
    }

    /// A chain for an ID that need not be of its own trust domain: then a certificate of the same key says that it is of the
    /// other one, as nobody would who keeps the rules.
    fn leaf(&self, id: &SpiffeId) -> Vec<u8> {
        let validity = Validity::new(now().minus(60), now().plus(3600)).unwrap();
        let template = AuthorityTemplate { trust_domain: &id.trust_domain(), serial: serial(), validity };
        let issuer = build_root(&template, &self.root_key).unwrap();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let leaf = LeafTemplate {
            spiffe_id: id,
            dns_names: &[],
            subject: None,
            public_key: key.public_key(),
            serial: serial(),
            validity: Validity::new(now().minus(30), now().plus(600)).unwrap(),
        };
        LeafIssuer::new(issuer.der(), self.root_key.clone()).unwrap().issue(&leaf).unwrap()
    }

    /// A token for `subject`, which need not be of its own trust domain.
    fn token(&self, subject: &SpiffeId, jti: &str) -> String {
        // Any name will do for a key: `kid` is a text.
        let signer = JwtSigner::new(AuthorityId::new(&self.key_id).unwrap(), self.token_key.clone()).unwrap();
        let aud = ["me".to_owned()];
        let claims =
            JwtClaims { sub: subject, aud: &aud, iat: now(), exp: now().plus(300), jti, iss: Some("https://i.test") };
        signer.sign(&claims).unwrap()
    }

    fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::from_path(&self.domain, path).unwrap()
    }

    fn name(&self) -> String {
        self.domain.id().to_string()
    }
}

/// One version of a trust domain's bundle in the state, without content.
pub(crate) fn foreign_bundle(domain: &TrustDomain, version: u64) -> ForeignBundle {
    ForeignBundle {
        trust_domain: domain.clone(),
        bundle: Arc::new(Bundle::new(domain.clone())),
        origin: ForeignOrigin::Operator,
        fetched_sequence: None,
        changed_at: UnixSeconds(1),
        version,
    }
}

/// An entry for this test's user that federates with these.
fn federating(entry: &str, path: &str, with: &[&Foreign]) -> EntryDraft {
    let federates_with = with.iter().map(|foreign| foreign.domain.clone()).collect();
    EntryDraft { federates_with, ..draft(entry, path) }
}

async fn set(world: &World, bundle: Bundle) -> Done {
    let new = NewForeignBundle { bundle, how: SetHow::Set };
    world.propose(Operation::SetForeignBundle(Box::new(new))).await
}

/// A relationship with its first bundle.
async fn relate(world: &World, foreign: &Foreign) {
    let url = "https://a.test/".parse().unwrap();
    let relationship = NewRelationship {
        trust_domain: foreign.domain.clone(),
        endpoint: Endpoint::Spiffe { url, endpoint_spiffe_id: foreign.id("/spire/server") },
        pins: EndpointPins::default(),
        poll: PollSettings::default(),
        origin: RelationshipOrigin::Operator,
        bundle: Some(foreign.bundle(1)),
    };
    world.propose(Operation::CreateRelationship(Box::new(relationship))).await;
}

/// Its end, which takes the bundle away and leaves the entries as they are.
async fn part(world: &World, foreign: &Foreign) {
    world.propose(Operation::DeleteRelationship { trust_domain: foreign.domain.clone() }).await;
}

async fn delete(world: &World, foreign: &Foreign, mode: ForeignDeletion) {
    world.propose(Operation::DeleteForeignBundle { trust_domain: foreign.domain.clone(), mode }).await;
}

async fn change(world: &World, entry: &str, with: &[&Foreign]) {
    let federates_with = with.iter().map(|foreign| foreign.domain.clone()).collect();
    let change = EntryChange { federates_with: Some(federates_with), ..EntryChange::default() };
    let id = draft(entry, "/x").id;
    world.propose(Operation::UpdateEntry { id, change: Box::new(change) }).await;
}

fn names(answer: &X509svidResponse) -> Vec<&str> {
    answer.federated_bundles.keys().map(String::as_str).collect()
}

async fn nothing_waits<T>(stream: &mut (impl Stream<Item = Result<T, Refusal>> + Unpin)) {
    let waits = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_next(context).is_ready())).await;
    assert!(!waits, "nothing was to come");
}

/// Accepts: FED-17, FED-51, WAPI-19, WAPI-20, WAPI-26, WAPI-35, WAPI-36 (SB-17)
#[tokio::test(flavor = "multi_thread")]
async fn sb_17_fed_17_foreign_bundles_come_under_their_own_names_to_those_who_federate() {
    let world = World::ready().await;
    let [a, b, c] = ["a.test", "b.test", "c.test"].map(Foreign::new);
    for foreign in [&a, &c] {
        set(&world, foreign.bundle(1)).await;
    }
    // Of b there are token keys and no root.
    let mut tokens_only = Bundle::new(b.domain.clone());
    let public_key = b.token_key.public_key().clone();
    tokens_only.add_jwt_authority(JwtAuthority { key_id: b.key_id.clone(), public_key });
    set(&world, tokens_only).await;
    world.register_draft(federating("e", "/e", &[&a])).await;
    world.register_draft(EntryDraft { hint: "f".into(), ..federating("f", "/f", &[&b]) }).await;
    let (api, caller) = (world.system.workload_api(), caller());

    let svids = next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
    assert_eq!(names(&svids), [a.name()], "c is not federated with, and b has no root");
    assert_eq!(svids.federated_bundles[&a.name()], a.root.der());
    let x509 = next(&mut api.x509_bundles(&caller).await.unwrap()).await.unwrap();
    assert_eq!(x509.bundles.keys().collect::<Vec<_>>(), [&a.name(), "spiffe://example.org"]);
    assert_eq!(x509.bundles[&a.name()], a.root.der());
    assert_eq!(x509.bundles["spiffe://example.org"], svids.svids[0].bundle, "ours is not mixed with any");
    let jwt = next(&mut api.jwt_bundles(&caller).await.unwrap()).await.unwrap();
    assert_eq!(jwt.bundles.keys().collect::<Vec<_>>(), [&a.name(), &b.name(), "spiffe://example.org"]);
    for foreign in [&a, &b] {
        let text = String::from_utf8(jwt.bundles[&foreign.name()].to_vec()).unwrap();
        assert!(text.contains(&foreign.key_id) && !text.contains("use") && !text.contains("x5c"), "{text}");
        let read = Bundle::parse_jwt_key_set(&foreign.domain, text.as_bytes()).unwrap().bundle;
        assert_eq!(read.jwt_authorities().len(), 1);
    }
}

/// SF-17: two domains whose authorities sign each other's IDs.
///
/// Accepts: FED-11, FED-51. Refuses: FED-11, FED-17, FED-51
#[tokio::test(flavor = "multi_thread")]
async fn sf_17_each_id_verifies_under_its_own_bundle_alone() {
    let world = World::ready().await;
    let [a, b] = ["a.test", "b.test"].map(Foreign::new);
    for foreign in [&a, &b] {
        set(&world, foreign.bundle(1)).await;
    }
    world.register_draft(federating("e", "/e", &[&a, &b])).await;
    let (api, caller) = (world.system.workload_api(), caller());
    let answer = next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap();
    let mut bundles = BTreeMap::new();
    for (name, roots) in &answer.federated_bundles {
        let domain = TrustDomain::new(name.strip_prefix("spiffe://").unwrap()).unwrap();
        let mut bundle = Bundle::new(domain.clone());
        for root in Certificate::parse_concatenated(roots).unwrap() {
            bundle.add_x509_authority(root);
        }
        bundles.insert(domain, bundle);
    }
    for (signer, subject, accepted) in [(&a, &a, true), (&b, &b, true), (&a, &b, false), (&b, &a, false)] {
        let leaf = signer.leaf(&subject.id("/w"));
        let verified = verify_x509_svid(&[&leaf], &bundles, now(), Purpose::Any);
        assert_eq!(verified.is_ok(), accepted, "{} by {}", subject.domain, signer.domain);
        let token = signer.token(&subject.id("/w"), "j");
        let validated = api.validate_jwt_svid(&caller, "me", &token).await;
        assert_eq!(validated.is_ok(), accepted, "{} by {}: {validated:?}", subject.domain, signer.domain);
    }
}

/// Accepts: FED-46, FED-48, BND-06, BND-07 (SB-08, SF-11, WAPI-08, WAPI-13). Refuses: FED-46, BND-07 by a stream that would
/// keep what was replaced or is gone.
#[tokio::test(flavor = "multi_thread")]
async fn sb_08_sf_11_a_foreign_bundle_that_comes_changes_or_goes_is_in_every_stream_at_once() {
    let world = World::ready().await;
    let (foreign, stranger) = (Foreign::new("a.test"), Foreign::new("b.test"));
    relate(&world, &foreign).await;
    world.register_draft(federating("e", "/e", &[&foreign])).await;
    part(&world, &foreign).await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut svids = api.x509_svids(&caller).await.unwrap();
    let mut x509 = api.x509_bundles(&caller).await.unwrap();
    let mut jwt = api.jwt_bundles(&caller).await.unwrap();
    let before = next(&mut svids).await.unwrap();
    assert!(names(&before).is_empty(), "there is none yet");
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 1);
    assert_eq!(next(&mut jwt).await.unwrap().bundles.len(), 1);

    // It comes.
    set(&world, foreign.bundle(1)).await;
    let with = next(&mut svids).await.unwrap();
    assert_eq!(names(&with), [foreign.name()]);
    assert_eq!(with.svids[0].x509_svid, before.svids[0].x509_svid, "nothing is signed for it");
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 2);
    assert_eq!(next(&mut jwt).await.unwrap().bundles.len(), 2);

    // It changes: what is in force is what was published last, and nothing of before.
    let successor = Foreign { key_id: "next".into(), ..Foreign::new("a.test") };
    set(&world, successor.bundle(2)).await;
    assert_eq!(next(&mut svids).await.unwrap().federated_bundles[&foreign.name()], successor.root.der());
    assert_eq!(next(&mut x509).await.unwrap().bundles[&foreign.name()], successor.root.der());
    let keys = next(&mut jwt).await.unwrap().bundles[&foreign.name()].clone();
    assert!(String::from_utf8(keys.to_vec()).unwrap().contains("\"next\""));

    // What is in no certificate is no news for who gets certificates; nor is a domain that nobody federates with.
    let mut other_key = successor.bundle(3);
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    other_key.add_jwt_authority(JwtAuthority { key_id: "more".into(), public_key: key.public_key().clone() });
    set(&world, other_key).await;
    next(&mut jwt).await.unwrap();
    set(&world, stranger.bundle(1)).await;

    // It goes.
    let began = Instant::now();
    delete(&world, &foreign, ForeignDeletion::Dissociate).await;
    let acknowledged = began.elapsed();
    let without = next(&mut svids).await.unwrap();
    let gone = began.elapsed();
    assert!(names(&without).is_empty(), "and nothing was sent in between");
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 1);
    assert_eq!(next(&mut jwt).await.unwrap().bundles.len(), 1);
    println!("a deleted foreign bundle: acknowledged after {acknowledged:?}, out of the stream after {gone:?}");
    nothing_waits(&mut x509).await;
    nothing_waits(&mut jwt).await;
}

/// FED-48, SF-11: with the relationship goes the bundle, and what it verified fails from then on.
///
/// Accepts: FED-48. Refuses: FED-48
#[tokio::test(flavor = "multi_thread")]
async fn fed_48_with_its_relationship_a_foreign_bundle_is_withdrawn_from_streams_and_from_validation() {
    let world = World::ready().await;
    let foreign = Foreign::new("a.test");
    relate(&world, &foreign).await;
    world.register_draft(federating("e", "/e", &[&foreign])).await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut svids = api.x509_svids(&caller).await.unwrap();
    assert_eq!(names(&next(&mut svids).await.unwrap()), [foreign.name()]);
    let token = foreign.token(&foreign.id("/w"), "j");
    api.validate_jwt_svid(&caller, "me", &token).await.unwrap();
    // What was found earlier is withdrawn as well, wherever it waits.
    let (core, domains) = (&world.system.core, BTreeSet::from([foreign.domain.clone()]));
    let found = core.bundles.foreign.of(&core.state, &domains, None);
    assert!(core.none_withdrawn(&found) && core.state.read(|state| found.is_newest(state)));

    part(&world, &foreign).await;
    let refused = api.validate_jwt_svid(&caller, "me", &token).await;
    assert!(matches!(refused, Err(Refusal::InvalidArgument(_))), "{refused:?}");
    assert!(!core.none_withdrawn(&found) && !core.state.read(|state| found.is_newest(state)));
    assert!(names(&next(&mut svids).await.unwrap()).is_empty());
    assert!(names(&next(&mut api.x509_svids(&caller).await.unwrap()).await.unwrap()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_federates_with_more_or_less_changes_what_its_streams_carry() {
    let world = World::ready().await;
    let [a, b] = ["a.test", "b.test"].map(Foreign::new);
    for foreign in [&a, &b] {
        set(&world, foreign.bundle(1)).await;
    }
    world.register("e", "/e").await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut svids = api.x509_svids(&caller).await.unwrap();
    let mut x509 = api.x509_bundles(&caller).await.unwrap();
    assert!(names(&next(&mut svids).await.unwrap()).is_empty());
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 1);

    change(&world, "e", &[&a, &b]).await;
    until(&mut svids, |answer| names(answer) == [a.name(), b.name()]).await;
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 3);
    change(&world, "e", &[&b]).await;
    until(&mut svids, |answer| names(answer) == [b.name()]).await;
    assert_eq!(next(&mut x509).await.unwrap().bundles.len(), 2);

    // From here on a is none of its business, and b is.
    set(&world, Foreign::new("a.test").bundle(2)).await;
    let successor = Foreign::new("b.test");
    set(&world, successor.bundle(2)).await;
    let last = next(&mut x509).await.unwrap();
    assert_eq!(last.bundles[&b.name()], successor.root.der());
    nothing_waits(&mut x509).await;

    // An entry that goes takes its federation with it.
    world.register_draft(EntryDraft { hint: "f".into(), ..federating("f", "/f", &[&a]) }).await;
    until(&mut svids, |answer| names(answer) == [a.name(), b.name()]).await;
    world.delete("f").await;
    until(&mut svids, |answer| names(answer) == [b.name()]).await;
}

/// CRL-10: who pools what it trusts would refuse every foreign chain once it has our CRLs.
#[tokio::test(flavor = "multi_thread")]
async fn crl_10_who_gets_foreign_bundles_gets_no_crls_unless_its_entries_keep_a_store_for_each_domain() {
    let policy = Policy { crl_mode: CrlMode::Always, crl_settle: 1, ..Policy::default() };
    let world = World::with(policy, settings()).await;
    let foreign = Foreign::new("a.test");
    relate(&world, &foreign).await;
    world.register_draft(federating("e", "/e", &[&foreign])).await;
    part(&world, &foreign).await;
    let (api, caller) = (world.system.workload_api(), caller());
    let mut svids = api.x509_svids(&caller).await.unwrap();
    let mut x509 = api.x509_bundles(&caller).await.unwrap();
    until(&mut svids, |answer| !answer.crl.is_empty() && names(answer).is_empty()).await;
    until(&mut x509, |answer| !answer.crl.is_empty()).await;

    // They go in the same message in which the first foreign root comes.
    set(&world, foreign.bundle(1)).await;
    let with = until(&mut svids, |answer| !names(answer).is_empty() || answer.crl.is_empty()).await;
    assert_eq!((names(&with), with.crl.len()), (vec![foreign.name().as_str()], 0));
    let with = until(&mut x509, |answer| answer.bundles.len() == 2 || answer.crl.is_empty()).await;
    assert_eq!((with.bundles.len(), with.crl.len()), (2, 0));

    let change = EntryChange { crl_per_domain: Some(true), ..EntryChange::default() };
    world.propose(Operation::UpdateEntry { id: draft("e", "/e").id, change: Box::new(change) }).await;
    let both = until(&mut svids, |answer| !answer.crl.is_empty()).await;
    assert_eq!(names(&both), [foreign.name()]);
    assert_eq!(until(&mut x509, |answer| !answer.crl.is_empty()).await.bundles.len(), 2);
}

/// A-22, ATK-32; spire-api.md section 16.
///
/// Accepts: FED-51. Refuses: FED-51
#[tokio::test(flavor = "multi_thread")]
async fn a_22_tokens_of_others_are_validated_for_those_who_federate_and_little_is_told_of_them() {
    let settings = Settings { foreign_claims: BTreeSet::from(["iss".to_owned()]), ..settings() };
    let world = World::with(Policy::default(), settings).await;
    let [a, b] = ["a.test", "b.test"].map(Foreign::new);
    for foreign in [&a, &b] {
        set(&world, foreign.bundle(1)).await;
    }
    let (api, caller) = (world.system.workload_api(), caller());
    let token = a.token(&a.id("/w"), "seven");
    // Who has no entry has our own bundle.
    let refused = |result: Result<crate::ValidatedToken, Refusal>| match result {
        Err(Refusal::InvalidArgument(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(api.validate_jwt_svid(&caller, "me", &token).await);
    assert!(why.contains("no bundle is known for the trust domain a.test"), "{why}");

    world.register_draft(federating("e", "/e", &[&a])).await;
    let told = api.validate_jwt_svid(&caller, "me", &token).await.unwrap();
    assert_eq!(*told.spiffe_id(), a.id("/w"));
    assert_eq!(told.claims().keys().collect::<Vec<_>>(), ["aud", "exp", "iss", "sub"]);
    assert_eq!(told.claims()["aud"], serde_json::json!(["me"]));
    refused(api.validate_jwt_svid(&caller, "you", &token).await);
    // A domain that is known and that this caller does not federate with.
    refused(api.validate_jwt_svid(&caller, "me", &b.token(&b.id("/w"), "j")).await);
    // One domain signs for another.
    refused(api.validate_jwt_svid(&caller, "me", &b.token(&a.id("/w"), "j")).await);
    refused(api.validate_jwt_svid(&caller, "me", &a.token(&super::world::id("/e"), "j")).await);

    // Our rule about a `jti` is about our tokens.
    let target = RevocationTarget::Jti { jti: "seven".into(), expires_at: now().plus(300) };
    let revocation = NewRevocation { target, reason: RevocationReason::KeyCompromise, ban: false };
    world.propose(Operation::Revoke(Box::new(revocation))).await;
    api.validate_jwt_svid(&caller, "me", &token).await.unwrap();
}

/// SB-25: whichever node is asked, and whoever leads.
#[tokio::test(flavor = "multi_thread")]
async fn sb_25_every_node_hands_out_the_same_foreign_bundles_and_goes_on_when_the_leader_is_gone() {
    let cluster = Cluster::of(3, Policy::default()).await;
    let foreign = Foreign::new("a.test");
    relate(&cluster.nodes[0], &foreign).await;
    change(&cluster.nodes[0], "a", &[&foreign]).await;
    part(&cluster.nodes[0], &foreign).await;
    let mut streams = Vec::new();
    for node in &cluster.nodes {
        let mut stream = node.system.workload_api().x509_bundles(&caller()).await.unwrap();
        next(&mut stream).await.unwrap();
        streams.push(stream);
    }
    set(&cluster.nodes[0], foreign.bundle(1)).await;
    for stream in &mut streams {
        let answer = until(stream, |answer| answer.bundles.len() == 2).await;
        assert_eq!(answer.bundles[&foreign.name()], foreign.root.der());
    }

    let leader = cluster.leader(None).await;
    cluster.network.cut(cluster.nodes[leader].name.as_str());
    let next_leader = cluster.leader(Some(leader)).await;
    let successor = Foreign::new("a.test");
    set(&cluster.nodes[next_leader], successor.bundle(2)).await;
    for (index, stream) in streams.iter_mut().enumerate() {
        if index == leader {
            continue;
        }
        // Nobody goes back to what was before.
        let answer = until(stream, |answer| answer.bundles[&foreign.name()] != foreign.root.der()).await;
        assert_eq!(answer.bundles[&foreign.name()], successor.root.der());
    }
    // The one that is cut off has what it had.
    let cut_off = &cluster.nodes[leader];
    let mut stream = cut_off.system.workload_api().x509_bundles(&caller()).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().bundles[&foreign.name()], foreign.root.der());
    assert!(within(async { tokio::time::timeout(Duration::from_millis(1), stream.next()).await }).await.is_err());
}
