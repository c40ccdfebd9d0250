//! Between the API's relationship and the state machine's.

use quorate_proto_api::cluster as wire;
use quorate_proto_api::cluster::api_credential::Kind;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint as WireEndpoint;
use quorate_proto_identity::{EndpointUrl, SpiffeId};
use quorate_raft_machine::{
    ApiCredential, ApiServer, Endpoint, EndpointPins, ForeignBundle, ForeignOrigin, PollSettings, Relationship,
    RelationshipOrigin, SecretName, State,
};
use tonic::Status;

fn invalid(field: &str, problem: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

fn url(field: &str, text: &str) -> Result<EndpointUrl, Status> {
    EndpointUrl::parse(text).map_err(|error| invalid(field, error))
}

fn spiffe_id(field: &str, text: &str) -> Result<SpiffeId, Status> {
    SpiffeId::parse(text).map_err(|error| invalid(field, error))
}

/// Takes an endpoint, of which all has to be said: nothing of it is guessed (FED-16, FED-32, FED-50). `new_secret` names the
/// secret of a credential that has one.
pub(super) fn endpoint(
    endpoint: Option<&wire::RelationshipEndpoint>,
    new_secret: impl FnOnce() -> Result<SecretName, Status>,
) -> Result<Endpoint, Status> {
    let kind = endpoint.and_then(|endpoint| endpoint.endpoint.as_ref());
    match kind.ok_or_else(|| invalid("endpoint", "missing: web, spiffe or api"))? {
        WireEndpoint::Web(web) => Ok(Endpoint::Web { url: url("endpoint.web.url", &web.url)? }),
        WireEndpoint::Spiffe(spiffe) => Ok(Endpoint::Spiffe {
            url: url("endpoint.spiffe.url", &spiffe.url)?,
            endpoint_spiffe_id: spiffe_id("endpoint.spiffe.endpoint_spiffe_id", &spiffe.endpoint_spiffe_id)?,
        }),
        WireEndpoint::Api(api) => {
            let server = match api.server_spiffe_id.as_str() {
                "" => ApiServer::Web,
                id => ApiServer::Spiffe(spiffe_id("endpoint.api.server_spiffe_id", id)?),
            };
            let kind = api.credential.as_ref().and_then(|credential| credential.kind.as_ref());
            let credential = credential(
                kind.ok_or_else(|| invalid("endpoint.api.credential", "missing: none, mutual_tls, api_key or oauth"))?,
                new_secret,
            )?;
            Ok(Endpoint::Api { url: url("endpoint.api.url", &api.url)?, server, credential, watch: api.watch })
        }
    }
}

fn credential(kind: &Kind, new_secret: impl FnOnce() -> Result<SecretName, Status>) -> Result<ApiCredential, Status> {
    Ok(match kind {
        Kind::None(_) => ApiCredential::None,
        Kind::MutualTls(_) => ApiCredential::MutualTls,
        Kind::ApiKey(_) => ApiCredential::ApiKey { secret: new_secret()? },
        Kind::Oauth(oauth) => ApiCredential::OAuth {
            token_url: url("endpoint.api.credential.oauth.token_url", &oauth.token_url)?,
            client_id: oauth.client_id.clone(),
            scope: oauth.scope.clone(),
            audience: oauth.audience.clone(),
            secret: new_secret()?,
        },
    })
}

/// Takes pins.
pub(super) fn pins(pins: Option<wire::EndpointPins>) -> Result<EndpointPins, Status> {
    let wire::EndpointPins { hosts, keys } = pins.unwrap_or_default();
    let key = |(position, key): (usize, &bytes::Bytes)| {
        <[u8; 32]>::try_from(key.as_ref())
            .map_err(|_| invalid(&format!("pins.keys[{position}]"), format!("{} bytes, SHA-256 has 32", key.len())))
    };
    Ok(EndpointPins { hosts, keys: keys.iter().enumerate().map(key).collect::<Result<_, _>>()? })
}

/// Takes the settings of polling.
pub(super) fn poll(poll: Option<wire::PollSettings>) -> PollSettings {
    let wire::PollSettings { floor_seconds, refuse_redirects, accept_private } = poll.unwrap_or_default();
    let floor = if floor_seconds == 0 { PollSettings::default().floor } else { floor_seconds };
    PollSettings { floor, follow_redirects: !refuse_redirects, accept_private }
}

/// A relationship for an answer, with what is held by it. Secrets are named and not told.
pub(super) fn to_wire(of: &Relationship, bundle: Option<&ForeignBundle>) -> wire::Relationship {
    let Relationship { trust_domain, endpoint, pins, poll, origin, revision, created_at, changed_at } = of;
    wire::Relationship {
        trust_domain: trust_domain.as_str().to_owned(),
        endpoint: Some(wire::RelationshipEndpoint { endpoint: Some(endpoint_to_wire(endpoint)) }),
        pins: Some(wire::EndpointPins {
            hosts: pins.hosts.clone(),
            keys: pins.keys.iter().map(|key| key.to_vec().into()).collect(),
        }),
        poll: Some(wire::PollSettings {
            floor_seconds: poll.floor,
            refuse_redirects: !poll.follow_redirects,
            accept_private: poll.accept_private,
        }),
        configured_by: match origin {
            RelationshipOrigin::Operator => String::new(),
            RelationshipOrigin::Configuration { node } => node.to_string(),
        },
        revision: *revision,
        created_at: created_at.0,
        changed_at: changed_at.0,
        bundle: bundle.map(held),
    }
}

fn endpoint_to_wire(endpoint: &Endpoint) -> WireEndpoint {
    match endpoint {
        Endpoint::Web { url } => WireEndpoint::Web(wire::WebEndpoint { url: url.to_string() }),
        Endpoint::Spiffe { url, endpoint_spiffe_id } => WireEndpoint::Spiffe(wire::SpiffeEndpoint {
            url: url.to_string(),
            endpoint_spiffe_id: endpoint_spiffe_id.to_string(),
        }),
        Endpoint::Api { url, server, credential, watch } => WireEndpoint::Api(wire::ApiEndpoint {
            url: url.to_string(),
            server_spiffe_id: match server {
                ApiServer::Web => String::new(),
                ApiServer::Spiffe(id) => id.to_string(),
            },
            credential: Some(wire::ApiCredential { kind: Some(credential_to_wire(credential)) }),
            watch: *watch,
        }),
    }
}

fn credential_to_wire(credential: &ApiCredential) -> Kind {
    match credential {
        ApiCredential::None => Kind::None(wire::NoCredential {}),
        ApiCredential::MutualTls => Kind::MutualTls(wire::MutualTlsCredential {}),
        ApiCredential::ApiKey { secret } => {
            Kind::ApiKey(wire::ApiKeyCredential { secret_name: secret.as_str().to_owned() })
        }
        ApiCredential::OAuth { token_url, client_id, scope, audience, secret } => Kind::Oauth(wire::OAuthCredential {
            token_url: token_url.to_string(),
            client_id: client_id.clone(),
            scope: scope.clone(),
            audience: audience.clone(),
            secret_name: secret.as_str().to_owned(),
        }),
    }
}

/// A foreign bundle in numbers.
pub(super) fn held(of: &ForeignBundle) -> wire::HeldBundle {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    wire::HeldBundle {
        sequence: of.bundle.sequence(),
        refresh_hint: of.bundle.refresh_hint(),
        x509_authorities: count(of.bundle.x509_authorities().len()),
        jwt_authorities: count(of.bundle.jwt_authorities().len()),
        from_operator: of.origin == ForeignOrigin::Operator,
        fetched_sequence: of.fetched_sequence,
        changed_at: of.changed_at.0,
    }
}

/// How fetching stands, with names for numbers.
pub(super) fn standing(state: &State, of: &quorate_actors::RelationshipStatus) -> wire::RelationshipStatus {
    let name = |number| state.member(number).map(|member| member.record.name.to_string());
    wire::RelationshipStatus {
        trust_domain: of.trust_domain.as_str().to_owned(),
        last_success: of.last_success.map(|at| at.0),
        last_try: of.last_try.map(|at| at.0),
        next_try: of.next_try.map(|at| at.0),
        sequence: of.sequence,
        refresh_hint: of.refresh_hint,
        error: of.error.clone().unwrap_or_default(),
        stale: of.stale,
        fetched_by: of.fetched_by.and_then(name).unwrap_or_default(),
        watching: of.watching,
        older_in_row: of.older_in_row,
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{TrustDomain, UnixSeconds};
    use tonic::Code;

    use super::*;

    const URL: &str = "https://two.example:8443/bundle";

    fn api(kind: Option<Kind>) -> WireEndpoint {
        WireEndpoint::Api(wire::ApiEndpoint {
            url: URL.into(),
            server_spiffe_id: "spiffe://two.example/spire/server".into(),
            credential: Some(wire::ApiCredential { kind }),
            watch: true,
        })
    }

    fn oauth(secret_name: &str) -> Kind {
        Kind::Oauth(wire::OAuthCredential {
            token_url: "https://login.two.example/token".into(),
            client_id: "one".into(),
            scope: "bundle".into(),
            audience: "two".into(),
            secret_name: secret_name.into(),
        })
    }

    fn taken(endpoint: WireEndpoint) -> Result<Endpoint, Status> {
        let wire = wire::RelationshipEndpoint { endpoint: Some(endpoint) };
        super::endpoint(Some(&wire), || Ok(SecretName::new("federation/two.example/s").unwrap()))
    }

    /// Accepts: FED-13, FED-16, FED-32.
    #[test]
    fn every_kind_of_endpoint_keeps_what_it_has_on_its_way_in_and_out() {
        let secret_name = "federation/two.example/s";
        for endpoint in [
            WireEndpoint::Web(wire::WebEndpoint { url: URL.into() }),
            WireEndpoint::Spiffe(wire::SpiffeEndpoint {
                url: URL.into(),
                endpoint_spiffe_id: "spiffe://two.example/spire/server".into(),
            }),
            api(Some(Kind::None(wire::NoCredential {}))),
            api(Some(Kind::MutualTls(wire::MutualTlsCredential {}))),
            api(Some(Kind::ApiKey(wire::ApiKeyCredential { secret_name: secret_name.into() }))),
            api(Some(oauth(secret_name))),
        ] {
            let relationship = Relationship {
                trust_domain: TrustDomain::new("two.example").unwrap(),
                endpoint: taken(endpoint.clone()).unwrap(),
                pins: pins(Some(wire::EndpointPins {
                    hosts: vec!["two.example".into()],
                    keys: vec![vec![7; 32].into()],
                }))
                .unwrap(),
                poll: poll(Some(wire::PollSettings { floor_seconds: 0, refuse_redirects: true, accept_private: None })),
                origin: RelationshipOrigin::Operator,
                revision: 3,
                created_at: UnixSeconds(1),
                changed_at: UnixSeconds(2),
            };
            let wire = to_wire(&relationship, None);
            assert_eq!(wire.endpoint.unwrap().endpoint, Some(endpoint));
            assert_eq!(wire.pins.unwrap().keys, [vec![7; 32]]);
            assert_eq!(wire.poll.unwrap().floor_seconds, 60);
            assert!(wire.poll.unwrap().refuse_redirects);
        }
    }

    /// Refuses: FED-16, FED-18, FED-31, FED-32, FED-50.
    #[test]
    fn what_is_not_said_is_not_guessed() {
        let spiffe = |url: &str, id: &str| {
            WireEndpoint::Spiffe(wire::SpiffeEndpoint { url: url.into(), endpoint_spiffe_id: id.into() })
        };
        for (endpoint, said) in [
            (WireEndpoint::Web(wire::WebEndpoint { url: "http://two.example/".into() }), "endpoint.web.url: "),
            (WireEndpoint::Web(wire::WebEndpoint { url: "https://u:p@two.example/".into() }), "endpoint.web.url: "),
            (spiffe(URL, ""), "endpoint.spiffe.endpoint_spiffe_id: "),
            (spiffe("two.example", "spiffe://two.example/a"), "endpoint.spiffe.url: "),
            (api(None), "endpoint.api.credential: missing"),
        ] {
            let status = taken(endpoint).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{}", status.message());
        }
        assert!(super::endpoint(None, || unreachable!("nothing needs a secret")).is_err());
        let short = wire::EndpointPins { hosts: Vec::new(), keys: vec![vec![7; 31].into()] };
        assert_eq!(pins(Some(short)).unwrap_err().message(), "pins.keys[0]: 31 bytes, SHA-256 has 32");
    }
}
