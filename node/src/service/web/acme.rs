//! Between the API's ACME settings and the state machine's.

use quorate_actors::acme::next_order_at;
use quorate_proto_api::cluster::{
    AcmeChallenge as WireChallenge, AcmeSettings as WireSettings, GetAcmeResponse, WebCertificateInfo,
    WebDomain as WireDomain, WebFailureInfo, WebOrderInfo,
};
use quorate_proto_identity::EndpointUrl;
use quorate_raft_machine::State;
use quorate_raft_machine::web::{AcmeChallenge, AcmeSettings, WebDomain};
use tonic::Status;

/// Takes settings from a request. The state machine checks them again; checked here, what no member would take never gets
/// into the log.
pub(super) fn settings(wire: WireSettings) -> Result<AcmeSettings, Status> {
    let challenge = wire.challenge();
    let WireSettings { directory, contact, terms_agreed, domains, challenge: number } = wire;
    let challenge = match challenge {
        WireChallenge::Unspecified if number != 0 => {
            return Err(Status::invalid_argument(format!("challenge: {number} is none that this node knows")));
        }
        WireChallenge::Unspecified | WireChallenge::TlsAlpn01 => AcmeChallenge::TlsAlpn01,
        WireChallenge::Http01 => AcmeChallenge::Http01,
    };
    let directory = EndpointUrl::parse(&directory)
        .map_err(|error| Status::invalid_argument(format!("directory: {directory:?}: {error}")))?;
    let settings = AcmeSettings { directory, contact, terms_agreed, domains, challenge };
    settings.check().map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(settings)
}

/// The settings, and how the domains stand.
pub(super) fn told(state: &State) -> GetAcmeResponse {
    let acme = state.acme();
    GetAcmeResponse {
        settings: acme.settings.as_ref().map(to_wire),
        revision: acme.revision,
        domains: state.web_domains().map(|domain| domain_to_wire(state, domain)).collect(),
    }
}

fn to_wire(settings: &AcmeSettings) -> WireSettings {
    let AcmeSettings { directory, contact, terms_agreed, domains, challenge } = settings;
    let challenge = match challenge {
        AcmeChallenge::TlsAlpn01 => WireChallenge::TlsAlpn01,
        AcmeChallenge::Http01 => WireChallenge::Http01,
    };
    WireSettings {
        directory: directory.to_string(),
        contact: contact.clone(),
        terms_agreed: *terms_agreed,
        domains: domains.clone(),
        challenge: challenge.into(),
    }
}

fn domain_to_wire(state: &State, known: &WebDomain) -> WireDomain {
    let WebDomain { domain, certificate, order, failure, requested_at: _ } = known;
    WireDomain {
        domain: domain.clone(),
        certificate: certificate.as_ref().map(|certificate| WebCertificateInfo {
            chain: certificate.chain.clone(),
            not_before: certificate.validity.not_before().0,
            not_after: certificate.validity.not_after().0,
            recorded_at: certificate.recorded_at.0,
        }),
        order: order.as_ref().map(|order| WebOrderInfo {
            url: order.url.clone(),
            begun_at: order.begun_at.0,
            challenge_is_out: order.challenge.is_some(),
        }),
        failure: failure.as_ref().map(|failure| WebFailureInfo {
            count: failure.count,
            reason: failure.reason.clone(),
            at: failure.at.0,
        }),
        next_order_at: next_order_at(state, domain).map_or(0, |at| at.0),
    }
}
