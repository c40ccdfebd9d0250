//! Rules of relationships and foreign bundles that hold whatever else is in the state.

use std::collections::BTreeSet;

use quorate_proto_identity::{Bundle, EndpointUrl};

use crate::federation::{
    ApiCredential, CREDENTIAL_TEXT_LIMIT, Endpoint, EndpointPins, FOREIGN_BUNDLE_BYTES_LIMIT, PINS_LIMIT,
    POLL_FLOOR_LIMIT, Relationship, bundle_bytes,
};
use crate::outcome::Refusal;

/// Longest host name that can be pinned: what DNS allows.
const HOST_LIMIT: usize = 253;

/// Checks what follows from no type.
pub(crate) fn check_relationship(relationship: &Relationship) -> Result<(), Refusal> {
    let Relationship { trust_domain, endpoint, pins, poll, .. } = relationship;
    if let Some(secret) = endpoint.secret()
        && !secret.belongs_to(trust_domain)
    {
        return Err(Refusal::invalid(format!(
            "the secret {secret} is not one of the relationship with {trust_domain}: its server is shown no other"
        )));
    }
    if !(1..=POLL_FLOOR_LIMIT).contains(&poll.floor) {
        return Err(Refusal::invalid(format!(
            "the least time between two polls is {} s, it must be 1 to {POLL_FLOOR_LIMIT} s",
            poll.floor
        )));
    }
    check_pins(pins)?;
    check_pinned(endpoint.url(), pins)?;
    let Endpoint::Api { credential: ApiCredential::OAuth { client_id, scope, audience, .. }, .. } = endpoint else {
        return Ok(());
    };
    if client_id.is_empty() {
        return Err(Refusal::invalid(
            "the credential has no client_id: give the one that the token endpoint knows us by",
        ));
    }
    for (field, text) in [("client_id", client_id), ("scope", scope), ("audience", audience)] {
        if text.len() > CREDENTIAL_TEXT_LIMIT || text.chars().any(char::is_control) {
            return Err(Refusal::invalid(format!(
                "{field} must have at most {CREDENTIAL_TEXT_LIMIT} bytes and no control character"
            )));
        }
    }
    Ok(())
}

fn check_pins(pins: &EndpointPins) -> Result<(), Refusal> {
    let EndpointPins { hosts, keys } = pins;
    for (what, count) in [("hosts", hosts.len()), ("keys", keys.len())] {
        if count > PINS_LIMIT {
            return Err(Refusal::invalid(format!(
                "the endpoint is pinned to {count} {what}, the most is {PINS_LIMIT}"
            )));
        }
    }
    if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
        return Err(Refusal::invalid(format!("{host:?} is no host to pin: write its name or address in lower case")));
    }
    let repeated = hosts.iter().collect::<BTreeSet<_>>().len() < hosts.len()
        || keys.iter().collect::<BTreeSet<_>>().len() < keys.len();
    if repeated {
        return Err(Refusal::invalid("a host or key is pinned twice"));
    }
    Ok(())
}

/// A URL that its own pins forbid would never be asked.
fn check_pinned(url: &EndpointUrl, pins: &EndpointPins) -> Result<(), Refusal> {
    if pins.hosts.is_empty() || pins.hosts.iter().any(|host| host == url.host()) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("the host of {url} is not among those that the endpoint is pinned to")))
}

fn is_host(host: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"/@?#[]\\".contains(&byte);
    (1..=HOST_LIMIT).contains(&host.len()) && host.bytes().all(fits)
}

/// Checks the size of a bundle (ATK-36). An empty one is as good as any: everything of that trust domain is revoked
/// (BND-19, BND-20).
pub(crate) fn check_bundle(bundle: &Bundle) -> Result<(), Refusal> {
    let bytes = bundle_bytes(bundle);
    if bytes > FOREIGN_BUNDLE_BYTES_LIMIT {
        return Err(Refusal::invalid(format!(
            "the bundle of {} has {bytes} bytes, the most is {FOREIGN_BUNDLE_BYTES_LIMIT}",
            bundle.trust_domain()
        )));
    }
    Ok(())
}
