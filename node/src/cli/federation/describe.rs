//! Relationships in words.

use quorate_proto_api::cluster::api_credential::Kind;
use quorate_proto_api::cluster::relationship_endpoint::Endpoint;
use quorate_proto_api::cluster::{ApiEndpoint, HeldBundle, Relationship, RelationshipEndpoint};
use quorate_proto_identity::UnixSeconds;

use crate::cli::text::Facts;
use crate::duration::Seconds;

/// The profile as `--profile` takes it.
pub(super) fn profile(endpoint: Option<&RelationshipEndpoint>) -> &'static str {
    match endpoint.and_then(|endpoint| endpoint.endpoint.as_ref()) {
        Some(Endpoint::Web(_)) => "https_web",
        Some(Endpoint::Spiffe(_)) => "https_spiffe",
        Some(Endpoint::Api(_)) => "federation_api",
        None => "-",
    }
}

/// The URL, and who the server there has to be.
pub(super) fn server(endpoint: Option<&RelationshipEndpoint>) -> (&str, String) {
    const WEB: &str = "the URL's host";
    match endpoint.and_then(|endpoint| endpoint.endpoint.as_ref()) {
        Some(Endpoint::Web(web)) => (&web.url, WEB.to_owned()),
        Some(Endpoint::Spiffe(spiffe)) => (&spiffe.url, spiffe.endpoint_spiffe_id.clone()),
        Some(Endpoint::Api(api)) if api.server_spiffe_id.is_empty() => (&api.url, WEB.to_owned()),
        Some(Endpoint::Api(api)) => (&api.url, api.server_spiffe_id.clone()),
        None => ("-", "-".to_owned()),
    }
}

/// A sequence number, where there is one.
pub(super) fn sequence(sequence: Option<u64>) -> String {
    sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string())
}

/// All that is known of a relationship, a line each.
pub(super) fn described(of: &Relationship) -> String {
    let mut facts = Facts::new();
    let (url, server) = server(of.endpoint.as_ref());
    facts
        .add("Trust domain", &of.trust_domain)
        .add("Profile", profile(of.endpoint.as_ref()))
        .add("URL", url)
        .add("Server", server);
    if let Some(Endpoint::Api(api)) = of.endpoint.as_ref().and_then(|endpoint| endpoint.endpoint.as_ref()) {
        api_facts(&mut facts, api);
    }
    let pins = of.pins.clone().unwrap_or_default();
    for host in &pins.hosts {
        facts.add("Pinned host", host);
    }
    for key in &pins.keys {
        facts.add("Pinned key", hex(key));
    }
    let poll = of.poll.unwrap_or_default();
    facts.add("Polled at most every", Seconds::new(i64::from(poll.floor_seconds)));
    facts.add("Redirects", if poll.refuse_redirects { "refused" } else { "followed" });
    if let Some(accepted) = poll.accept_private {
        facts.add("Redirects to private addresses", if accepted { "followed" } else { "refused" });
    }
    let origin = if of.configured_by.is_empty() {
        "an operator".to_owned()
    } else {
        format!("the configuration of node {}", of.configured_by)
    };
    facts.add("Made by", origin);
    facts.add("Made", UnixSeconds(of.created_at));
    facts.add("Changed", UnixSeconds(of.changed_at));
    facts.add("Revision", of.revision);
    match &of.bundle {
        Some(bundle) => held(&mut facts, bundle),
        None => {
            facts.add("Bundle", "none is held");
        }
    }
    facts.to_string()
}

fn api_facts(facts: &mut Facts, api: &ApiEndpoint) {
    match api.credential.as_ref().and_then(|credential| credential.kind.as_ref()) {
        Some(Kind::None(_)) | None => facts.add("Credential", "none"),
        Some(Kind::MutualTls(_)) => facts.add("Credential", "mutual TLS, by the endpoint certificate of the node"),
        Some(Kind::ApiKey(_)) => facts.add("Credential", "an API key, which is kept sealed"),
        Some(Kind::Oauth(oauth)) => facts
            .add("Credential", "OAuth, by a client secret that is kept sealed")
            .add("Token URL", &oauth.token_url)
            .add("Client ID", &oauth.client_id)
            .add_unless_empty("Scope", &oauth.scope)
            .add_unless_empty("Audience", &oauth.audience),
    };
    facts.add("Push", if api.watch { "a watch is kept open" } else { "no: it is polled only" });
}

fn held(facts: &mut Facts, of: &HeldBundle) {
    let HeldBundle { sequence: number, refresh_hint, x509_authorities, jwt_authorities, from_operator, .. } = of;
    facts
        .add("Bundle", format_args!("{x509_authorities} X.509 and {jwt_authorities} JWT authorities"))
        .add("Bundle from", if *from_operator { "an operator" } else { "its endpoint" })
        .add("Bundle changed", UnixSeconds(of.changed_at))
        .add("Sequence", sequence(*number))
        .add("Fetched sequence", sequence(of.fetched_sequence))
        .add("Refresh hint", refresh_hint.map_or_else(|| "-".to_owned(), |hint| Seconds::new(hint).to_string()));
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use quorate_proto_api::cluster::{ApiCredential, ApiKeyCredential, EndpointPins, PollSettings};

    use super::*;

    #[test]
    fn a_relationship_is_described_by_what_it_has_and_not_by_its_secret() {
        let relationship = Relationship {
            trust_domain: "two.example".into(),
            endpoint: Some(RelationshipEndpoint {
                endpoint: Some(Endpoint::Api(ApiEndpoint {
                    url: "https://two.example:8444/".into(),
                    server_spiffe_id: "spiffe://two.example/spire/server".into(),
                    credential: Some(ApiCredential {
                        kind: Some(Kind::ApiKey(ApiKeyCredential { secret_name: "federation/two.example".into() })),
                    }),
                    watch: true,
                })),
            }),
            pins: Some(EndpointPins { hosts: vec!["two.example".into()], keys: vec![vec![0xab; 2].into()] }),
            poll: Some(PollSettings { floor_seconds: 60, refuse_redirects: true, accept_private: None }),
            configured_by: "node-1".into(),
            revision: 3,
            created_at: 1_700_000_000,
            changed_at: 1_700_000_000,
            bundle: None,
        };
        assert_eq!(
            described(&relationship),
            "Trust domain          two.example\n\
             Profile               federation_api\n\
             URL                   https://two.example:8444/\n\
             Server                spiffe://two.example/spire/server\n\
             Credential            an API key, which is kept sealed\n\
             Push                  a watch is kept open\n\
             Pinned host           two.example\n\
             Pinned key            abab\n\
             Polled at most every  1m\n\
             Redirects             refused\n\
             Made by               the configuration of node node-1\n\
             Made                  2023-11-14T22:13:20Z\n\
             Changed               2023-11-14T22:13:20Z\n\
             Revision              3\n\
             Bundle                none is held\n"
        );
    }
}
