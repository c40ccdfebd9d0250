//! Every credential against every rule.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use quorate_proto_identity::bearer::{BearerToken, IssuerKeys};
use quorate_proto_identity::{Certificate, KeyType, PrivateKey};
use quorate_raft_machine::access::{ApiKeySecret, ApiScopes};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const ISSUER: &str = "https://login.partner.example";
const SECRET: SecretHash = [7; 32];
const FORMER: SecretHash = [6; 32];

fn domain(name: &str) -> TrustDomain {
    TrustDomain::new(name).unwrap()
}

fn at(seconds: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(NOW.0 + seconds).unwrap()
}

/// The authority of a trust domain.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (at(-86_400), at(86_400));
        Self { params, key: KeyPair::generate().unwrap() }
    }

    fn bundle(&self, trust_domain: &TrustDomain) -> Arc<Bundle> {
        let root = self.params.self_signed(&self.key).unwrap();
        let mut bundle = Bundle::new(trust_domain.clone());
        bundle.add_x509_authority(Certificate::parse(root.der()).unwrap());
        Arc::new(bundle)
    }

    fn chain(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Proof {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (at(-60), at(600));
        change(&mut params);
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        Proof::Certificate(Arc::from(vec![CertificateDer::from(leaf.der().to_vec())]))
    }
}

/// What the decision looks at.
struct World {
    everybody: AccessRule,
    peers: BTreeMap<TrustDomain, AccessRule>,
    keys: BTreeMap<ApiKeyId, ApiKey>,
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
    related: BTreeSet<TrustDomain>,
}

impl AccessView for World {
    fn own(&self) -> Option<TrustDomain> {
        Some(domain("one.example"))
    }

    fn rule(&self, peer: Option<&TrustDomain>) -> AccessRule {
        peer.and_then(|peer| self.peers.get(peer)).unwrap_or(&self.everybody).clone()
    }

    fn peer_rules(&self) -> Vec<(TrustDomain, AccessRule)> {
        self.peers.iter().map(|(peer, rule)| (peer.clone(), rule.clone())).collect()
    }

    fn api_key(&self, id: &ApiKeyId) -> Option<ApiKey> {
        self.keys.get(id).cloned()
    }

    fn foreign_bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.bundles.get(trust_domain).cloned()
    }

    fn is_related(&self, trust_domain: &TrustDomain) -> bool {
        self.related.contains(trust_domain)
    }
}

/// Two federated domains, one key for `two.example`, tokens of one issuer for everybody.
fn world() -> (World, Authority) {
    let authority = Authority::new();
    let (two, three) = (domain("two.example"), domain("three.example"));
    let secret = |hash, seconds| ApiKeySecret { hash, expires_at: NOW.plus(seconds) };
    let key = ApiKey {
        id: ApiKeyId::from_random(1),
        peer: two.clone(),
        scopes: ApiScopes::from(ApiScope::ALL),
        label: String::new(),
        secret: secret(SECRET, 1_000),
        former: Some(secret(FORMER, 100)),
        created_at: NOW.minus(10),
        rotated_at: NOW.minus(5),
    };
    let world = World {
        everybody: AccessRule { oauth: vec![oauth()], ..AccessRule::default() },
        peers: BTreeMap::new(),
        keys: BTreeMap::from([(key.id.clone(), key)]),
        bundles: BTreeMap::from([
            (two.clone(), authority.bundle(&two)),
            (three.clone(), Authority::new().bundle(&three)),
        ]),
        related: BTreeSet::from([two, three, domain("waiting.example")]),
    };
    (world, authority)
}

fn oauth() -> OAuthRule {
    OAuthRule {
        issuer: ISSUER.into(),
        audience: "quorate".into(),
        scope: "bundle".into(),
        claims: BTreeMap::from([("tenant".into(), "blue".into())]),
    }
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "sub": "s", "aud": "quorate", "scope": "bundle", "tenant": "blue", "exp": NOW.0 + 300 })
}

/// A token whose signature was verified, with these claims.
fn issued(claims: &Value) -> Proof {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let (x, y) = key.public_key().key_bits()[1..].split_at(32);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) });
    let keys = IssuerKeys::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    let message = format!("{}.{}", encode(br#"{"alg":"ES256"}"#), encode(claims.to_string().as_bytes()));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_ec_der(key.pkcs8()), Algorithm::ES256)
            .unwrap();
    let text = format!("{message}.{signature}");
    let token = BearerToken::read(&text).unwrap().verify(&keys, NOW).unwrap();
    Proof::Token(Arc::new(IssuedToken { issuer: ISSUER.into(), token }))
}

fn key(hash: SecretHash) -> Proof {
    Proof::ApiKey(ApiKeyId::from_random(1), hash)
}

fn code(world: &World, proof: &Proof) -> &'static str {
    decide(world, proof, ApiScope::Watch, NOW).map_or_else(|reason| reason.code(), |_| "granted")
}

const FRONT: &str = "spiffe://two.example/front";

#[test]
fn each_sort_of_proof_is_granted_and_says_who_asks_and_until_when() {
    let (mut world, authority) = world();
    let granted = |world: &World, proof: &Proof| decide(world, proof, ApiScope::Watch, NOW).unwrap();
    let by_certificate = granted(&world, &authority.chain(FRONT, |_| {}));
    assert_eq!(by_certificate.asker.to_string(), FRONT);
    assert_eq!((by_certificate.asker.peer(), by_certificate.until), (Some(domain("two.example")), Some(NOW.plus(600))));
    let by_key = granted(&world, &key(SECRET));
    assert_eq!((by_key.asker.to_string().as_str(), by_key.until), ("api_key:0000000000000001", Some(NOW.plus(1_000))));
    assert_eq!(granted(&world, &key(FORMER)).until, Some(NOW.plus(100)), "both secrets are taken for a while");
    let by_token = granted(&world, &issued(&claims()));
    assert_eq!((by_token.asker.to_string(), by_token.asker.peer()), (format!("oauth:{ISSUER}#s"), None));
    world.everybody.anonymous = true;
    let by_nothing = granted(&world, &Proof::Nothing);
    assert_eq!((by_nothing.asker, by_nothing.until), (Asker::Anonymous, None));
}

#[test]
fn every_proof_meets_every_rule() {
    let (mut world, authority) = world();
    let proofs = [Proof::Nothing, authority.chain(FRONT, |_| {}), key(SECRET), issued(&claims())];
    let none = AccessRule { mutual_tls: MutualTls::Off, api_keys: false, oauth: Vec::new(), anonymous: false };
    let rules = [
        (none.clone(), ["no_credential", "certificates_off", "keys_off", "other_issuer"]),
        (AccessRule { anonymous: true, ..none.clone() }, ["granted", "certificates_off", "keys_off", "other_issuer"]),
        (
            AccessRule { mutual_tls: MutualTls::AnyId, ..none.clone() },
            ["no_credential", "granted", "keys_off", "other_issuer"],
        ),
        (
            AccessRule { api_keys: true, ..none.clone() },
            ["no_credential", "certificates_off", "granted", "other_issuer"],
        ),
        (
            AccessRule { oauth: vec![oauth()], ..none.clone() },
            ["no_credential", "certificates_off", "keys_off", "granted"],
        ),
        (AccessRule::default(), ["no_credential", "granted", "granted", "other_issuer"]),
    ];
    for (rule, wanted) in rules {
        // For everybody, and for the peer alone: its own rule stands in the place of the other.
        world.everybody = rule.clone();
        world.peers.clear();
        assert_eq!(proofs.each_ref().map(|proof| code(&world, proof)), wanted, "{rule:?}");
        world.everybody = none.clone();
        world.peers.insert(domain("two.example"), AccessRule { anonymous: false, ..rule.clone() });
        let wanted = ["no_credential", wanted[1], wanted[2], wanted[3]];
        assert_eq!(proofs.each_ref().map(|proof| code(&world, proof)), wanted, "of the peer: {rule:?}");
    }
}

#[test]
fn of_an_oauth_rule_for_one_peer_it_is_known_who_asks() {
    let (mut world, _) = world();
    world.peers.insert(domain("two.example"), AccessRule { oauth: vec![oauth()], ..AccessRule::default() });
    let granted = decide(&world, &issued(&claims()), ApiScope::Get, NOW).unwrap();
    assert_eq!(granted.asker.peer(), Some(domain("two.example")));
    assert!(is_trusted_issuer(&world, ISSUER) && !is_trusted_issuer(&world, "https://login.partner.example/"));
}

/// Refuses: FED-11, FED-48, FED-51.
#[test]
fn each_wrong_certificate_is_refused_for_its_reason() {
    let (mut world, authority) = world();
    let check = |world: &World, wanted: &str, proof: Proof| assert_eq!(code(world, &proof), wanted);
    check(&world, "certificate_expired", authority.chain(FRONT, |params| params.not_after = at(-1)));
    check(&world, "certificate_not_yet", authority.chain(FRONT, |params| params.not_before = at(60)));
    check(&world, "certificate_issuer", Authority::new().chain(FRONT, |_| {}));
    check(
        &world,
        "certificate_invalid",
        authority.chain(FRONT, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
    );
    check(&world, "certificate_invalid", authority.chain("https://two.example/", |_| {}));
    check(&world, "certificate_invalid", authority.chain("spiffe://two.example", |_| {}));
    check(&world, "certificate_invalid", Proof::Certificate(Arc::from(vec![CertificateDer::from(vec![1, 2])])));
    // Signed by the authority of another federated domain than the one that it names.
    check(&world, "certificate_issuer", authority.chain("spiffe://three.example/a", |_| {}));
    check(&world, "not_federated", authority.chain("spiffe://stranger.example/a", |_| {}));
    check(&world, "no_bundle_yet", authority.chain("spiffe://waiting.example/a", |_| {}));
    check(&world, "own_domain", authority.chain("spiffe://one.example/spire/server", |_| {}));
    let ids = BTreeSet::from([SpiffeId::parse("spiffe://two.example/other").unwrap()]);
    world.everybody.mutual_tls = MutualTls::Ids(ids);
    check(&world, "other_id", authority.chain(FRONT, |_| {}));
    check(&world, "granted", authority.chain("spiffe://two.example/other", |_| {}));
    // The relationship has ended: what was granted before is refused.
    let proof = authority.chain("spiffe://two.example/other", |_| {});
    world.bundles.remove(&domain("two.example"));
    world.related.remove(&domain("two.example"));
    check(&world, "not_federated", proof);
}

/// Whoever makes a certificate itself can name any trust domain in it: what it is told is the same for all of them.
#[test]
fn a_certificate_of_ones_own_making_does_not_find_out_with_whom_we_are_federated() {
    let (world, _) = world();
    let told = |name: &str, change: fn(&mut CertificateParams)| {
        let proof = Authority::new().chain(&format!("spiffe://{name}/a"), change);
        let status = decide(&world, &proof, ApiScope::Get, NOW).unwrap_err().status();
        assert!(!status.message().contains(name), "{status}");
        (status.code(), status.message().to_owned(), status.metadata().get("quorate-reason").cloned())
    };
    let changes: [fn(&mut CertificateParams); 4] = [
        |_| {},
        |params| params.not_after = at(-1),
        |params| params.not_before = at(60),
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
    ];
    for change in changes {
        let stranger = told("stranger.example", change);
        assert_eq!(told("two.example", change), stranger);
        assert_eq!(told("waiting.example", change), stranger);
    }
}

#[test]
fn what_this_node_meets_where_it_fetches_keys_is_not_told() {
    let reason = Reason::NoIssuerKeys { why: "10.1.2.3:443 refused the connection".into() };
    assert!(reason.to_string().contains("10.1.2.3") && !reason.status().message().contains("10.1.2.3"));
}

#[test]
fn each_wrong_api_key_is_refused_for_its_reason_and_a_guess_learns_nothing() {
    let (mut world, _) = world();
    let unknown = Proof::ApiKey(ApiKeyId::from_random(2), SECRET);
    assert_eq!((code(&world, &unknown), code(&world, &key([1; 32]))), ("key_unknown", "key_wrong"));
    let told = |proof: &Proof| {
        let status = decide(&world, proof, ApiScope::Get, NOW).unwrap_err().status();
        (status.code(), status.message().to_owned(), status.metadata().get("quorate-reason").cloned())
    };
    assert_eq!(told(&unknown), told(&key([1; 32])), "it is not told whether there is such a key");
    let later = |hash, seconds| {
        decide(&world, &key(hash), ApiScope::Get, NOW.plus(seconds)).map_or_else(|reason| reason.code(), |_| "granted")
    };
    assert_eq!((later(FORMER, 99), later(FORMER, 100)), ("granted", "key_rotated"));
    assert_eq!((later(SECRET, 999), later(SECRET, 1_000)), ("granted", "key_expired"));
    let id = ApiKeyId::from_random(1);
    let scoped = |scope| ApiScopes::from([scope]);
    world.keys.get_mut(&id).unwrap().scopes = scoped(ApiScope::Get);
    let wants = |world: &World, wanted| {
        decide(world, &key(SECRET), wanted, NOW).map_or_else(|reason| reason.code(), |_| "granted")
    };
    assert_eq!((wants(&world, ApiScope::Get), wants(&world, ApiScope::Watch)), ("granted", "key_scope"));
    world.keys.get_mut(&id).unwrap().scopes = scoped(ApiScope::Watch);
    assert_eq!((wants(&world, ApiScope::Get), wants(&world, ApiScope::Watch)), ("granted", "granted"));
    world.keys.clear();
    assert_eq!(code(&world, &key(SECRET)), "key_unknown");
}

#[test]
fn each_wrong_token_is_refused_for_the_reason_of_the_rule_that_is_nearest() {
    let (mut world, _) = world();
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issued(&claims)
    };
    assert_eq!(code(&world, &with("aud", json!("other"))), "other_audience");
    assert_eq!(code(&world, &with("scope", json!("bundles"))), "token_scope");
    assert_eq!(code(&world, &with("tenant", json!("green"))), "token_claim");
    assert_eq!(code(&world, &with("tenant", json!(["green", "blue"]))), "granted");
    let later = |seconds| {
        let decided = decide(&world, &issued(&claims()), ApiScope::Get, NOW.plus(seconds));
        decided.map_or_else(|reason| reason.code(), |_| "granted")
    };
    assert_eq!((later(359), later(360)), ("granted", "token_expired"), "a watch ends with its token");
    // Of a second rule with another audience, the first one's reason stays: it was nearer.
    world.everybody.oauth.push(OAuthRule { audience: "another".into(), ..oauth() });
    assert_eq!(code(&world, &with("tenant", json!("green"))), "token_claim");
    world.everybody.oauth.clear();
    assert_eq!(code(&world, &issued(&claims())), "other_issuer");
}
