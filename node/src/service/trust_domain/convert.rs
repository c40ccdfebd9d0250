//! Between SPIRE's relationship and the state machine's.

use quorate_proto_api::spire::types;
use quorate_proto_api::spire::types::federation_relationship::BundleEndpointProfile;
use quorate_proto_identity::{EndpointUrl, SpiffeId};
use quorate_raft_machine::{Endpoint, ForeignBundle, Relationship};
use tonic::Status;

use crate::service::foreign::bundle_to_wire;

/// What is told of a relationship that these messages cannot describe.
pub(super) const NO_WORDS: &str = "the endpoint of this relationship is a Federation API, for which this call has no words: \
                                   `quorate federation show` and `quorate federation update` have";

/// The mask that stands for none.
pub(super) const EVERYTHING: types::FederationRelationshipMask = types::FederationRelationshipMask {
    bundle_endpoint_url: true,
    bundle_endpoint_profile: true,
    trust_domain_bundle: true,
};

fn invalid(field: &str, problem: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field}: {problem}"))
}

fn url(text: &str) -> Result<EndpointUrl, Status> {
    EndpointUrl::parse(text).map_err(|error| invalid("bundle_endpoint_url", error))
}

/// The endpoint, of which all has to be said: nothing of it is guessed (FED-16, FED-32, FED-50).
pub(super) fn endpoint(wire: &types::FederationRelationship) -> Result<Endpoint, Status> {
    with_profile(url(&wire.bundle_endpoint_url)?, wire)
}

fn with_profile(url: EndpointUrl, wire: &types::FederationRelationship) -> Result<Endpoint, Status> {
    match &wire.bundle_endpoint_profile {
        None => Err(invalid("bundle_endpoint_profile", "missing: https_web or https_spiffe")),
        Some(BundleEndpointProfile::HttpsWeb(_)) => Ok(Endpoint::Web { url }),
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => {
            let endpoint_spiffe_id =
                SpiffeId::parse(&profile.endpoint_spiffe_id).map_err(|error| invalid("endpoint_spiffe_id", error))?;
            Ok(Endpoint::Spiffe { url, endpoint_spiffe_id })
        }
    }
}

/// The endpoint after a change of what the mask names; none when it names nothing of it.
pub(super) fn changed_endpoint(
    wire: &types::FederationRelationship,
    mask: types::FederationRelationshipMask,
    held: &Endpoint,
) -> Result<Option<Endpoint>, Status> {
    if !mask.bundle_endpoint_url && !mask.bundle_endpoint_profile {
        return Ok(None);
    }
    if let Endpoint::Api { .. } = held {
        return Err(Status::failed_precondition(NO_WORDS));
    }
    let url = if mask.bundle_endpoint_url { url(&wire.bundle_endpoint_url)? } else { held.url().clone() };
    if mask.bundle_endpoint_profile {
        return with_profile(url, wire).map(Some);
    }
    Ok(Some(match held {
        Endpoint::Spiffe { endpoint_spiffe_id, .. } => {
            Endpoint::Spiffe { url, endpoint_spiffe_id: endpoint_spiffe_id.clone() }
        }
        Endpoint::Web { .. } | Endpoint::Api { .. } => Endpoint::Web { url },
    }))
}

/// A relationship for an answer: the fields in the mask, or all without one; the trust domain always. None for one that
/// cannot be described.
pub(super) fn to_wire(
    relationship: &Relationship,
    held: Option<&ForeignBundle>,
    mask: Option<&types::FederationRelationshipMask>,
) -> Option<types::FederationRelationship> {
    let mask = mask.copied().unwrap_or(EVERYTHING);
    let profile = match &relationship.endpoint {
        Endpoint::Web { .. } => BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}),
        Endpoint::Spiffe { endpoint_spiffe_id, .. } => BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile {
            endpoint_spiffe_id: endpoint_spiffe_id.to_string(),
        }),
        Endpoint::Api { .. } => return None,
    };
    let url = if mask.bundle_endpoint_url { relationship.endpoint.url().as_str() } else { "" };
    Some(types::FederationRelationship {
        trust_domain: relationship.trust_domain.as_str().to_owned(),
        bundle_endpoint_url: url.to_owned(),
        bundle_endpoint_profile: mask.bundle_endpoint_profile.then_some(profile),
        trust_domain_bundle: held.filter(|_| mask.trust_domain_bundle).map(|held| bundle_to_wire(&held.bundle, None)),
    })
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{TrustDomain, UnixSeconds};
    use quorate_raft_machine::{ApiCredential, ApiServer, EndpointPins, PollSettings, RelationshipOrigin};
    use tonic::Code;

    use super::*;

    fn spiffe(url: &str, id: &str) -> types::FederationRelationship {
        types::FederationRelationship {
            trust_domain: "two.example".into(),
            bundle_endpoint_url: url.into(),
            bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile {
                endpoint_spiffe_id: id.into(),
            })),
            trust_domain_bundle: None,
        }
    }

    fn web(url: &str) -> types::FederationRelationship {
        types::FederationRelationship {
            bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {})),
            ..spiffe(url, "")
        }
    }

    fn relationship(endpoint: Endpoint) -> Relationship {
        Relationship {
            trust_domain: TrustDomain::new("two.example").unwrap(),
            endpoint,
            pins: EndpointPins::default(),
            poll: PollSettings::default(),
            origin: RelationshipOrigin::Operator,
            revision: 1,
            created_at: UnixSeconds(1),
            changed_at: UnixSeconds(1),
        }
    }

    /// Accepts: FED-13, FED-16, FED-18, FED-19, FED-31, FED-32.
    #[test]
    fn both_profiles_keep_what_they_have_on_their_way_in_and_out() {
        for wire in [web("https://two.example/"), spiffe("https://two.example/", "spiffe://two.example/spire/server")] {
            let stored = relationship(endpoint(&wire).unwrap());
            assert_eq!(to_wire(&stored, None, None), Some(wire));
        }
    }

    /// Refuses: FED-16, FED-18, FED-31, FED-32, FED-50.
    #[test]
    fn an_endpoint_that_is_not_told_whole_is_refused_and_nothing_is_guessed_sf_03_sf_04_sf_14() {
        let no_profile = types::FederationRelationship { bundle_endpoint_profile: None, ..web("https://two.example/") };
        for (wire, said) in [
            (no_profile, "bundle_endpoint_profile: missing"),
            (web("http://two.example/"), "bundle_endpoint_url: "),
            (web("https://user@two.example/"), "bundle_endpoint_url: "),
            (web(""), "bundle_endpoint_url: "),
            (spiffe("http://two.example/", "spiffe://two.example/a"), "bundle_endpoint_url: "),
            (spiffe("https://two.example/", ""), "endpoint_spiffe_id: "),
            (spiffe("https://two.example/", "two.example"), "endpoint_spiffe_id: "),
        ] {
            let status = endpoint(&wire).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{}", status.message());
        }
    }

    #[test]
    fn only_what_a_mask_names_is_changed() {
        let held = endpoint(&spiffe("https://two.example/", "spiffe://two.example/a")).unwrap();
        let url_only = types::FederationRelationshipMask { bundle_endpoint_url: true, ..Default::default() };
        let changed = changed_endpoint(&web("https://new.example/"), url_only, &held).unwrap();
        assert_eq!(changed, Some(endpoint(&spiffe("https://new.example/", "spiffe://two.example/a")).unwrap()));
        let profile_only = types::FederationRelationshipMask { bundle_endpoint_profile: true, ..Default::default() };
        let changed = changed_endpoint(&web("not looked at"), profile_only, &held).unwrap();
        assert_eq!(changed, Some(endpoint(&web("https://two.example/")).unwrap()));
        let nothing = types::FederationRelationshipMask { trust_domain_bundle: true, ..Default::default() };
        assert_eq!(changed_endpoint(&web("not looked at"), nothing, &held).unwrap(), None);
    }

    #[test]
    fn a_federation_api_is_neither_described_nor_changed() {
        let api = Endpoint::Api {
            url: EndpointUrl::parse("https://two.example/").unwrap(),
            server: ApiServer::Web,
            credential: ApiCredential::None,
            watch: true,
        };
        assert_eq!(to_wire(&relationship(api.clone()), None, None), None);
        let status = changed_endpoint(&web("https://two.example/"), EVERYTHING, &api).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
}
