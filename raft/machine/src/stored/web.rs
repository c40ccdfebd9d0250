//! Stored forms of ACME settings, web certificates and the discovery provider. Version 1, 2026-11-23.

use bytes::Bytes;
use prost::Message;
use quorate_proto_identity::{EndpointUrl, UnixSeconds, Validity};

use super::{StoredError, at_most, kind, known, present, to_bytes, valid, validity};
use crate::command::Operation;
use crate::federation::SecretName;
use crate::objects::Object;
use crate::web::{
    Acme, AcmeChallenge, AcmeSettings, CONTACTS_LIMIT, FORMER_ISSUERS_LIMIT, FormerIssuer, ISSUERS_LIMIT,
    NewWebCertificate, OidcProvider, OidcSettings, WEB_CHAIN_LIMIT, WEB_DOMAINS_LIMIT, WebCertificate, WebChallenge,
    WebDomain, WebFailure, WebOrder,
};

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredAcmeSettings {
    #[prost(string, tag = "1")]
    directory: String,
    #[prost(string, repeated, tag = "2")]
    contact: Vec<String>,
    #[prost(bool, tag = "3")]
    terms_agreed: bool,
    #[prost(string, repeated, tag = "4")]
    domains: Vec<String>,
    #[prost(uint32, tag = "5")]
    challenge: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSetAcme {
    #[prost(message, optional, tag = "1")]
    settings: Option<StoredAcmeSettings>,
    #[prost(uint64, tag = "2")]
    expected_revision: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredAcme {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    settings: Option<StoredAcmeSettings>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWebDomain {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, optional, tag = "2")]
    certificate: Option<StoredWebCertificate>,
    #[prost(message, optional, tag = "3")]
    order: Option<StoredWebOrder>,
    #[prost(message, optional, tag = "4")]
    failure: Option<StoredWebFailure>,
    #[prost(int64, optional, tag = "5")]
    requested_at: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWebCertificate {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    chain: Vec<Bytes>,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(int64, tag = "3")]
    not_before: i64,
    #[prost(int64, tag = "4")]
    not_after: i64,
    #[prost(int64, tag = "5")]
    recorded_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWebOrder {
    #[prost(string, tag = "1")]
    url: String,
    #[prost(string, tag = "2")]
    directory: String,
    #[prost(string, tag = "3")]
    key: String,
    #[prost(message, optional, tag = "4")]
    challenge: Option<StoredWebChallenge>,
    #[prost(int64, tag = "5")]
    begun_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWebChallenge {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    token: String,
    #[prost(string, tag = "3")]
    key_authorization: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredWebFailure {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(string, tag = "2")]
    reason: String,
    #[prost(int64, tag = "3")]
    at: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredBeginWebOrder {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(string, tag = "2")]
    url: String,
    #[prost(string, tag = "3")]
    directory: String,
    #[prost(string, tag = "4")]
    key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSetWebChallenge {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(string, tag = "2")]
    order: String,
    #[prost(message, optional, tag = "3")]
    challenge: Option<StoredWebChallenge>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNewWebCertificate {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(string, tag = "2")]
    order: String,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    chain: Vec<Bytes>,
    #[prost(int64, tag = "4")]
    not_before: i64,
    #[prost(int64, tag = "5")]
    not_after: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredFailWebOrder {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(string, optional, tag = "2")]
    order: Option<String>,
    #[prost(string, tag = "3")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredOidcSettings {
    #[prost(string, tag = "1")]
    issuer: String,
    #[prost(string, repeated, tag = "2")]
    also: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    domains: Vec<String>,
    #[prost(uint32, tag = "4")]
    jwks_cache_time: u32,
    #[prost(uint32, tag = "5")]
    issuer_overlap: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredSetOidc {
    #[prost(message, optional, tag = "1")]
    settings: Option<StoredOidcSettings>,
    #[prost(uint64, tag = "2")]
    expected_revision: u64,
}

#[derive(Clone, PartialEq, Message)]
struct StoredOidcProvider {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, optional, tag = "2")]
    settings: Option<StoredOidcSettings>,
    #[prost(message, repeated, tag = "3")]
    former: Vec<StoredFormerIssuer>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredFormerIssuer {
    #[prost(string, tag = "1")]
    issuer: String,
    #[prost(int64, tag = "2")]
    until: i64,
}

fn from_acme_settings(settings: &AcmeSettings) -> StoredAcmeSettings {
    let AcmeSettings { directory, contact, terms_agreed, domains, challenge } = settings;
    StoredAcmeSettings {
        directory: directory.to_string(),
        contact: contact.clone(),
        terms_agreed: *terms_agreed,
        domains: domains.clone(),
        challenge: *challenge as u32,
    }
}

fn to_acme_settings(stored: StoredAcmeSettings) -> Result<AcmeSettings, StoredError> {
    let StoredAcmeSettings { directory, contact, terms_agreed, domains, challenge } = stored;
    at_most(&contact, CONTACTS_LIMIT, "contacts of an ACME account")?;
    at_most(&domains, WEB_DOMAINS_LIMIT, "web domains")?;
    let directory = endpoint_url(&directory, "ACME directory")?;
    Ok(AcmeSettings { directory, contact, terms_agreed, domains, challenge: challenge_kind(challenge)? })
}

fn endpoint_url(text: &str, what: &'static str) -> Result<EndpointUrl, StoredError> {
    valid(EndpointUrl::parse(text), what)
}

fn secret_name(text: &str) -> Result<SecretName, StoredError> {
    valid(SecretName::new(text), "name of a shared secret")
}

fn challenge_kind(number: u32) -> Result<AcmeChallenge, StoredError> {
    known(AcmeChallenge::from_number(number), "ACME challenge")
}

pub(super) fn from_set_acme(settings: Option<&AcmeSettings>, expected_revision: u64) -> StoredSetAcme {
    StoredSetAcme { settings: settings.map(from_acme_settings), expected_revision }
}

pub(super) fn to_set_acme(stored: StoredSetAcme) -> Result<Operation, StoredError> {
    let StoredSetAcme { settings, expected_revision } = stored;
    let settings = settings.map(to_acme_settings).transpose()?.map(Box::new);
    Ok(Operation::SetAcme { settings, expected_revision })
}

impl Object for Acme {
    const KIND: u8 = kind::ACME;

    fn stored(&self) -> Vec<u8> {
        let Self { revision, settings } = self;
        to_bytes(&StoredAcme { revision: *revision, settings: settings.as_ref().map(from_acme_settings) })
    }
}

pub(crate) fn decode_acme(bytes: Bytes) -> Result<Acme, StoredError> {
    let StoredAcme { revision, settings } = StoredAcme::decode(bytes)?;
    Ok(Acme { revision, settings: settings.map(to_acme_settings).transpose()? })
}

pub(super) fn from_begin_web_order(
    domain: &str,
    url: &str,
    directory: &EndpointUrl,
    key: &SecretName,
) -> StoredBeginWebOrder {
    StoredBeginWebOrder {
        domain: domain.to_owned(),
        url: url.to_owned(),
        directory: directory.to_string(),
        key: key.to_string(),
    }
}

pub(super) fn to_begin_web_order(stored: StoredBeginWebOrder) -> Result<Operation, StoredError> {
    let StoredBeginWebOrder { domain, url, directory, key } = stored;
    let directory = endpoint_url(&directory, "ACME directory")?;
    Ok(Operation::BeginWebOrder { domain, url, directory, key: secret_name(&key)? })
}

fn from_challenge(challenge: &WebChallenge) -> StoredWebChallenge {
    let WebChallenge { kind, token, key_authorization } = challenge;
    StoredWebChallenge { kind: *kind as u32, token: token.clone(), key_authorization: key_authorization.clone() }
}

fn to_challenge(stored: StoredWebChallenge) -> Result<WebChallenge, StoredError> {
    let StoredWebChallenge { kind, token, key_authorization } = stored;
    Ok(WebChallenge { kind: challenge_kind(kind)?, token, key_authorization })
}

pub(super) fn from_set_web_challenge(domain: &str, order: &str, challenge: &WebChallenge) -> StoredSetWebChallenge {
    StoredSetWebChallenge {
        domain: domain.to_owned(),
        order: order.to_owned(),
        challenge: Some(from_challenge(challenge)),
    }
}

pub(super) fn to_set_web_challenge(stored: StoredSetWebChallenge) -> Result<Operation, StoredError> {
    let StoredSetWebChallenge { domain, order, challenge } = stored;
    let challenge = to_challenge(present(challenge, "challenge of an order")?)?;
    Ok(Operation::SetWebChallenge { domain, order, challenge: Box::new(challenge) })
}

pub(super) fn from_new_web_certificate(new: &NewWebCertificate) -> StoredNewWebCertificate {
    let NewWebCertificate { domain, order, chain, validity } = new;
    StoredNewWebCertificate {
        domain: domain.clone(),
        order: order.clone(),
        chain: chain.clone(),
        not_before: validity.not_before().0,
        not_after: validity.not_after().0,
    }
}

pub(super) fn to_new_web_certificate(stored: StoredNewWebCertificate) -> Result<Operation, StoredError> {
    let StoredNewWebCertificate { domain, order, chain, not_before, not_after } = stored;
    at_most(&chain, WEB_CHAIN_LIMIT, "certificates of a web chain")?;
    let validity = validity(not_before, not_after)?;
    Ok(Operation::RecordWebCertificate(Box::new(NewWebCertificate { domain, order, chain, validity })))
}

pub(super) fn from_fail_web_order(domain: &str, order: Option<&str>, reason: &str) -> StoredFailWebOrder {
    StoredFailWebOrder { domain: domain.to_owned(), order: order.map(str::to_owned), reason: reason.to_owned() }
}

pub(super) fn to_fail_web_order(stored: StoredFailWebOrder) -> Operation {
    let StoredFailWebOrder { domain, order, reason } = stored;
    Operation::FailWebOrder { domain, order, reason }
}

impl Object for WebDomain {
    const KIND: u8 = kind::WEB_DOMAIN;

    fn stored(&self) -> Vec<u8> {
        let Self { domain, certificate, order, failure, requested_at } = self;
        to_bytes(&StoredWebDomain {
            domain: domain.clone(),
            certificate: certificate.as_ref().map(from_certificate),
            order: order.as_ref().map(from_order),
            failure: failure.as_ref().map(from_failure),
            requested_at: requested_at.map(|at| at.0),
        })
    }
}

pub(crate) fn decode_web_domain(bytes: Bytes) -> Result<WebDomain, StoredError> {
    let StoredWebDomain { domain, certificate, order, failure, requested_at } = StoredWebDomain::decode(bytes)?;
    Ok(WebDomain {
        domain,
        certificate: certificate.map(to_certificate).transpose()?,
        order: order.map(to_order).transpose()?,
        failure: failure.map(to_failure),
        requested_at: requested_at.map(UnixSeconds),
    })
}

fn from_certificate(certificate: &WebCertificate) -> StoredWebCertificate {
    let WebCertificate { chain, key, validity, recorded_at } = certificate;
    StoredWebCertificate {
        chain: chain.clone(),
        key: key.to_string(),
        not_before: validity.not_before().0,
        not_after: validity.not_after().0,
        recorded_at: recorded_at.0,
    }
}

fn to_certificate(stored: StoredWebCertificate) -> Result<WebCertificate, StoredError> {
    let StoredWebCertificate { chain, key, not_before, not_after, recorded_at } = stored;
    at_most(&chain, WEB_CHAIN_LIMIT, "certificates of a web chain")?;
    let validity: Validity = validity(not_before, not_after)?;
    Ok(WebCertificate { chain, key: secret_name(&key)?, validity, recorded_at: UnixSeconds(recorded_at) })
}

fn from_order(order: &WebOrder) -> StoredWebOrder {
    let WebOrder { url, directory, key, challenge, begun_at } = order;
    StoredWebOrder {
        url: url.clone(),
        directory: directory.to_string(),
        key: key.to_string(),
        challenge: challenge.as_ref().map(from_challenge),
        begun_at: begun_at.0,
    }
}

fn to_order(stored: StoredWebOrder) -> Result<WebOrder, StoredError> {
    let StoredWebOrder { url, directory, key, challenge, begun_at } = stored;
    Ok(WebOrder {
        url,
        directory: endpoint_url(&directory, "ACME directory")?,
        key: secret_name(&key)?,
        challenge: challenge.map(to_challenge).transpose()?,
        begun_at: UnixSeconds(begun_at),
    })
}

fn from_failure(failure: &WebFailure) -> StoredWebFailure {
    let WebFailure { count, reason, at } = failure;
    StoredWebFailure { count: *count, reason: reason.clone(), at: at.0 }
}

fn to_failure(stored: StoredWebFailure) -> WebFailure {
    let StoredWebFailure { count, reason, at } = stored;
    WebFailure { count, reason, at: UnixSeconds(at) }
}

fn from_oidc_settings(settings: &OidcSettings) -> StoredOidcSettings {
    let OidcSettings { issuer, also, domains, jwks_cache_time, issuer_overlap } = settings;
    StoredOidcSettings {
        issuer: issuer.clone(),
        also: also.clone(),
        domains: domains.clone(),
        jwks_cache_time: *jwks_cache_time,
        issuer_overlap: *issuer_overlap,
    }
}

fn to_oidc_settings(stored: StoredOidcSettings) -> Result<OidcSettings, StoredError> {
    let StoredOidcSettings { issuer, also, domains, jwks_cache_time, issuer_overlap } = stored;
    at_most(&also, ISSUERS_LIMIT, "further issuers")?;
    Ok(OidcSettings { issuer, also, domains, jwks_cache_time, issuer_overlap })
}

pub(super) fn from_set_oidc(settings: Option<&OidcSettings>, expected_revision: u64) -> StoredSetOidc {
    StoredSetOidc { settings: settings.map(from_oidc_settings), expected_revision }
}

pub(super) fn to_set_oidc(stored: StoredSetOidc) -> Result<Operation, StoredError> {
    let StoredSetOidc { settings, expected_revision } = stored;
    let settings = settings.map(to_oidc_settings).transpose()?.map(Box::new);
    Ok(Operation::SetOidc { settings, expected_revision })
}

impl Object for OidcProvider {
    const KIND: u8 = kind::OIDC;

    fn stored(&self) -> Vec<u8> {
        let Self { revision, settings, former } = self;
        let former_of = |former: &FormerIssuer| {
            let FormerIssuer { issuer, until } = former;
            StoredFormerIssuer { issuer: issuer.clone(), until: until.0 }
        };
        to_bytes(&StoredOidcProvider {
            revision: *revision,
            settings: settings.as_ref().map(from_oidc_settings),
            former: former.iter().map(former_of).collect(),
        })
    }
}

pub(crate) fn decode_oidc(bytes: Bytes) -> Result<OidcProvider, StoredError> {
    let StoredOidcProvider { revision, settings, former } = StoredOidcProvider::decode(bytes)?;
    at_most(&former, FORMER_ISSUERS_LIMIT, "former issuers")?;
    let former_of = |StoredFormerIssuer { issuer, until }| FormerIssuer { issuer, until: UnixSeconds(until) };
    Ok(OidcProvider {
        revision,
        settings: settings.map(to_oidc_settings).transpose()?,
        former: former.into_iter().map(former_of).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::tests::walk;

    #[test]
    fn every_field_of_the_acme_settings_is_stored() {
        let settings = AcmeSettings {
            directory: EndpointUrl::parse("https://acme.example/dir").unwrap(),
            contact: vec!["mailto:a@b".to_owned()],
            terms_agreed: true,
            domains: vec!["a.example".to_owned(), "b.example".to_owned()],
            challenge: AcmeChallenge::TlsAlpn01,
        };
        walk(
            &Acme { revision: 1, settings: Some(settings) },
            decode_acme,
            &[
                |a| a.revision = 2,
                |a| a.settings = None,
                |a| a.settings.as_mut().unwrap().directory = EndpointUrl::parse("https://x.example/").unwrap(),
                |a| a.settings.as_mut().unwrap().contact.clear(),
                |a| a.settings.as_mut().unwrap().terms_agreed = false,
                |a| a.settings.as_mut().unwrap().domains.reverse(),
                |a| a.settings.as_mut().unwrap().challenge = AcmeChallenge::Http01,
            ],
        );
    }

    #[test]
    fn every_field_of_a_web_domain_is_stored() {
        let name = |text| SecretName::new(text).unwrap();
        let domain = WebDomain {
            domain: "a.example".to_owned(),
            certificate: Some(WebCertificate {
                chain: vec![Bytes::from_static(b"leaf"), Bytes::from_static(b"issuer")],
                key: name("acme/key/a.example/1"),
                validity: Validity::new(UnixSeconds(1), UnixSeconds(9)).unwrap(),
                recorded_at: UnixSeconds(2),
            }),
            order: Some(WebOrder {
                url: "https://acme.example/order/1".to_owned(),
                directory: EndpointUrl::parse("https://acme.example/dir").unwrap(),
                key: name("acme/key/a.example/2"),
                challenge: Some(WebChallenge {
                    kind: AcmeChallenge::Http01,
                    token: "t".to_owned(),
                    key_authorization: "t.u".to_owned(),
                }),
                begun_at: UnixSeconds(3),
            }),
            failure: Some(WebFailure { count: 1, reason: "no".to_owned(), at: UnixSeconds(4) }),
            requested_at: Some(UnixSeconds(5)),
        };
        walk(
            &domain,
            decode_web_domain,
            &[
                |d| d.domain = "x.example".to_owned(),
                |d| d.certificate = None,
                |d| d.certificate.as_mut().unwrap().chain.reverse(),
                |d| d.certificate.as_mut().unwrap().key = SecretName::new("acme/key/x").unwrap(),
                |d| d.certificate.as_mut().unwrap().validity = Validity::new(UnixSeconds(0), UnixSeconds(9)).unwrap(),
                |d| d.certificate.as_mut().unwrap().validity = Validity::new(UnixSeconds(1), UnixSeconds(8)).unwrap(),
                |d| d.certificate.as_mut().unwrap().recorded_at = UnixSeconds(0),
                |d| d.order = None,
                |d| d.order.as_mut().unwrap().url = "x".to_owned(),
                |d| d.order.as_mut().unwrap().directory = EndpointUrl::parse("https://x.example/").unwrap(),
                |d| d.order.as_mut().unwrap().key = SecretName::new("acme/key/x").unwrap(),
                |d| d.order.as_mut().unwrap().begun_at = UnixSeconds(0),
                |d| d.order.as_mut().unwrap().challenge = None,
                |d| d.order.as_mut().unwrap().challenge.as_mut().unwrap().kind = AcmeChallenge::TlsAlpn01,
                |d| d.order.as_mut().unwrap().challenge.as_mut().unwrap().token = "x".to_owned(),
                |d| d.order.as_mut().unwrap().challenge.as_mut().unwrap().key_authorization = "x".to_owned(),
                |d| d.failure = None,
                |d| d.failure.as_mut().unwrap().count = 2,
                |d| d.failure.as_mut().unwrap().reason = "x".to_owned(),
                |d| d.failure.as_mut().unwrap().at = UnixSeconds(0),
                |d| d.requested_at = None,
                |d| d.requested_at = Some(UnixSeconds(0)),
            ],
        );
    }

    #[test]
    fn every_field_of_the_discovery_provider_is_stored() {
        let settings = OidcSettings {
            issuer: "https://a.example".to_owned(),
            also: vec!["https://b.example".to_owned()],
            domains: vec!["c.example".to_owned()],
            jwks_cache_time: 1,
            issuer_overlap: 2,
        };
        let former = FormerIssuer { issuer: "https://d.example".to_owned(), until: UnixSeconds(3) };
        walk(
            &OidcProvider { revision: 1, settings: Some(settings), former: vec![former] },
            decode_oidc,
            &[
                |p| p.revision = 2,
                |p| p.settings = None,
                |p| p.settings.as_mut().unwrap().issuer = "https://x.example".to_owned(),
                |p| p.settings.as_mut().unwrap().also.clear(),
                |p| p.settings.as_mut().unwrap().domains.clear(),
                |p| p.settings.as_mut().unwrap().jwks_cache_time = 0,
                |p| p.settings.as_mut().unwrap().issuer_overlap = 0,
                |p| p.former.clear(),
                |p| p.former[0].issuer = "https://x.example".to_owned(),
                |p| p.former[0].until = UnixSeconds(0),
            ],
        );
    }
}
