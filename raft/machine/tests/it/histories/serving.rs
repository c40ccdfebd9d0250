//! Steps of what the cluster serves to others: who may ask, web certificates, the discovery provider, published keys.
//! Names are few, so that they meet again.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_proto_identity::{EndpointUrl, NodeName, SpiffeId};
use quorate_raft_machine::access::{
    AccessRule, ApiKeyId, ApiKeyRotation, ApiKeySecret, ApiScope, MutualTls, NewApiKey, OAuthRule,
};
use quorate_raft_machine::web::{
    AcmeChallenge, AcmeSettings, NewWebCertificate, OidcSettings, WebChallenge, WebDomain,
};
use quorate_raft_machine::{AuthorityKind, AuthorityState, COMMAND_VERSION, MemberServices, Operation, SecretName};

use crate::federation::foreign;
use crate::world::{World, life, number, sealed_to};

const WEB_DOMAINS: [&str; 3] = ["bundle.example.org", "oidc.example.org", "api.example.org"];
const DIRECTORIES: [&str; 2] = ["https://acme.example/dir", "https://other.example/dir"];
const ISSUERS: [&str; 3] = ["https://one.example.org", "https://two.example.org", "https://three.example.org/a"];

/// One step of who may ask for our bundle. Our own trust domain is among the peers, and is refused.
pub(super) fn access_step(world: &World, pick: u8, bits: u8) -> Operation {
    let peer = foreign(["a.example", "b.example", "example.org"][usize::from(bits % 3)]);
    let id = ApiKeyId::from_random(u64::from(bits / 4 % 4));
    let secret = ApiKeySecret { hash: [bits / 16; 32], expires_at: world.seconds().plus(i64::from(bits % 8) * 5) };
    match pick % 8 {
        0 | 1 => {
            let scopes = ApiScope::ALL.into_iter().filter(|scope| *scope as u8 & bits != 0).collect();
            Operation::CreateApiKey(Box::new(NewApiKey { id, peer, scopes, label: "a key".to_owned(), secret }))
        }
        2 | 3 => Operation::RotateApiKey(Box::new(ApiKeyRotation { id, secret, overlap: u32::from(bits / 32) * 10 })),
        4 => Operation::DeleteApiKey { id },
        5 | 6 => {
            let ids = BTreeSet::from([SpiffeId::parse(&format!("spiffe://{peer}/federation")).unwrap()]);
            let rule = AccessRule {
                mutual_tls: [MutualTls::Off, MutualTls::AnyId, MutualTls::Ids(ids)][usize::from(bits / 4 % 3)].clone(),
                api_keys: bits & 1 == 0,
                oauth: Vec::<OAuthRule>::new(),
                anonymous: bits & 64 != 0,
            };
            Operation::SetAccessRule {
                peer: Some(peer).filter(|_| bits & 2 == 0),
                rule: (bits & 128 == 0).then(|| Box::new(rule)),
                expected_revision: u64::from(bits / 16 % 3),
            }
        }
        _ => Operation::SetAccessSettings { anonymous_endpoint: bits & 1 == 0 },
    }
}

/// One step of web certificates and of the discovery provider. Mostly it is about the order that there is.
pub(super) fn web_step(world: &World, pick: u8, bits: u8) -> Operation {
    let domain = WEB_DOMAINS[usize::from(bits % 3)].to_owned();
    let known = world.state.web_domain(&domain);
    let under_way = known.and_then(|known| known.order.clone());
    let order = under_way.map_or_else(|| "https://acme.example/order/0".to_owned(), |order| order.url);
    let key = SecretName::new(&format!("acme/key/{domain}/{}", bits / 64)).unwrap();
    let directory = EndpointUrl::parse(DIRECTORIES[usize::from(bits / 128)]).unwrap();
    match pick % 16 {
        0 | 1 => Operation::SetAcme { settings: acme(bits, directory), expected_revision: 0 },
        2 => Operation::SetAcme { settings: None, expected_revision: u64::from(bits % 4) },
        3 | 4 => Operation::PutSecret { name: key, sealed: sealed_to(&[1]) },
        5 => Operation::RequestWebCertificate { domain },
        6 | 7 => {
            let url = format!("https://acme.example/order/{bits}");
            Operation::BeginWebOrder { domain, url, directory, key }
        }
        8 => {
            let challenge = WebChallenge {
                kind: AcmeChallenge::Http01,
                token: "token".to_owned(),
                key_authorization: "token.thumb".to_owned(),
            };
            Operation::SetWebChallenge { domain, order, challenge: Box::new(challenge) }
        }
        9 | 10 => {
            let validity = life(world.now, i64::from(bits) + 1);
            let chain = vec![Bytes::from(vec![bits; 3])];
            Operation::RecordWebCertificate(Box::new(NewWebCertificate { domain, order, chain, validity }))
        }
        11 => {
            let order = (bits & 64 == 0).then_some(order);
            Operation::FailWebOrder { domain, order, reason: "no such name".to_owned() }
        }
        12 => Operation::SetOidc { settings: None, expected_revision: 0 },
        13 | 14 => Operation::SetOidc { settings: oidc(bits), expected_revision: 0 },
        _ => Operation::DeleteSecret { name: key },
    }
}

fn acme(bits: u8, directory: EndpointUrl) -> Option<Box<AcmeSettings>> {
    let wanted = |(n, domain): (usize, &&str)| (bits >> n & 1 == 1).then(|| (*domain).to_owned());
    Some(Box::new(AcmeSettings {
        directory,
        contact: vec![],
        terms_agreed: bits & 8 == 0,
        domains: WEB_DOMAINS.iter().enumerate().filter_map(wanted).collect(),
        challenge: AcmeChallenge::TlsAlpn01,
    }))
}

fn oidc(bits: u8) -> Option<Box<OidcSettings>> {
    let also = ISSUERS[usize::from(bits / 4 % 3)];
    Some(Box::new(OidcSettings {
        issuer: ISSUERS[usize::from(bits % 3)].to_owned(),
        also: vec![also.to_owned()].into_iter().filter(|_| bits & 64 == 0).collect(),
        domains: vec![],
        jwks_cache_time: u32::from(bits),
        issuer_overlap: u32::from(bits / 8),
    }))
}

/// Marks an authority, mostly one that is prepared, as published or as confirmed.
pub(super) fn mark_published(world: &World, bits: u8) -> Operation {
    let kind = AuthorityKind::ALL[usize::from(bits & 1)];
    let authorities = world.state.authorities(kind);
    let prepared = authorities.iter().find(|authority| authority.state == AuthorityState::Prepared);
    let id = prepared.unwrap_or(&authorities[0]).id.clone();
    Operation::MarkPublished { kind, id, confirmed: bits & 6 == 6 }
}

/// A member says what it serves.
pub(super) fn announce(of: u64, name: &NodeName, bits: u8) -> Operation {
    let url = |bit: u8| (bits >> bit & 1 == 1).then(|| format!("https://{name}.example.org:{bit}/"));
    Operation::AnnounceMember {
        number: number(of),
        addresses: vec![format!("{name}.example.org:8082")],
        version: COMMAND_VERSION,
        build: name.to_string(),
        serves: MemberServices { bundle_endpoint: url(0), federation_api: url(1), oidc: url(2) },
    }
}

/// That a key goes with what it was for: no certificate or order that was there before is gone with its key left behind.
pub(super) fn check_web_keys(before: &[WebDomain], world: &World) {
    let used: BTreeSet<&SecretName> = world.state.web_domains().flat_map(WebDomain::keys).collect();
    for name in before.iter().flat_map(WebDomain::keys).filter(|name| !used.contains(name)) {
        assert!(world.state.secret(name).is_none(), "{name} is of no use any more");
    }
}
