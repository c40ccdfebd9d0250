//! A proposal: a place, what was seen there, and what an operator has to do before it can be a relationship.

use aws_lc_rs::digest::{SHA256, digest};
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::federation::EndpointPins;

use super::find::{Found, Standing, standing};
use super::fingerprint::{SeenCertificate, seen_authorities};
use super::probe::Seen;
use super::text::Kind;
use crate::outbound::hexadecimal;

/// Bytes of a proposal's ID: enough that no two of a search are the same, short enough to be read out.
const ID_BYTES: usize = 6;

/// An endpoint that may be the trust domain's.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The place.
    pub found: Found,
    /// Whether its host may be proposed without a confirmation.
    pub standing: Standing,
    /// What was seen there.
    pub seen: Seen,
    /// The authorities that it served.
    pub authorities: Vec<SeenCertificate>,
    /// What host and key have to be besides.
    pub pins: EndpointPins,
    /// Why it cannot be accepted as it is, a sentence each.
    pub obstacles: Vec<String>,
}

impl Proposal {
    /// Puts together what is proposed, and says what stands in its way.
    #[must_use]
    pub fn new(domain: &TrustDomain, found: Found, seen: Seen, pins: EndpointPins) -> Self {
        let standing = standing(domain, found.url.host(), found.vouched);
        let authorities = seen.bundle.as_ref().map(seen_authorities).unwrap_or_default();
        let mut obstacles = seen.obstacles.clone();
        let host = found.url.host();
        if !pins.hosts.is_empty() && !pins.hosts.iter().any(|pinned| pinned.eq_ignore_ascii_case(host)) {
            obstacles.push(format!("the host {host} is none of those pinned for {domain}"));
        }
        if let Some(own) = seen.certificates.first()
            && !pins.keys.is_empty()
            && !pins.keys.contains(&own.key_fingerprint)
        {
            let found = hexadecimal(&own.key_fingerprint);
            obstacles
                .push(format!("the server's key is none of those pinned for {domain}; its fingerprint is {found}"));
        }
        Self { found, standing, seen, authorities, pins, obstacles }
    }

    /// Whether a bundle of the trust domain has to come by another way before this can be accepted (FED-32, FED-34): its
    /// server shows an X509-SVID of it. One that shows an SVID of another trust domain is verified with that one's bundle,
    /// which has a relationship of its own (FED-35).
    #[must_use]
    pub fn needs_bundle(&self, domain: &TrustDomain) -> bool {
        match &self.found.kind {
            Some(Kind::Spiffe { id, .. } | Kind::Api { id: Some(id) }) => id.trust_domain() == *domain,
            Some(Kind::Web { .. } | Kind::Api { id: None }) | None => false,
        }
    }

    /// Stands for what an operator compared: the URL, the profile, the SPIFFE ID, and the authorities that were served.
    /// The server's own key is not in it, because each node of a cluster has another one.
    #[must_use]
    pub fn id(&self) -> String {
        let (profile, server) = match &self.found.kind {
            Some(Kind::Web { .. }) => ("https_web", None),
            Some(Kind::Spiffe { id, .. }) => ("https_spiffe", Some(id)),
            Some(Kind::Api { id }) => ("federation_api", id.as_ref()),
            None => ("", None),
        };
        let mut keys: Vec<_> =
            self.authorities.iter().map(|authority| hexadecimal(&authority.key_fingerprint)).collect();
        keys.sort();
        let server = server.map(ToString::to_string).unwrap_or_default();
        let text = format!("{profile}\n{}\n{server}\n{}", self.found.url, keys.join("\n"));
        let digest = digest(&SHA256, text.as_bytes());
        hexadecimal(digest.as_ref().get(..ID_BYTES).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{EndpointUrl, SpiffeId};

    use super::super::find::FoundBy;
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("a.example").unwrap()
    }

    fn proposal(url: &str, kind: Option<Kind>, seen: Seen, pins: EndpointPins) -> Proposal {
        let url = EndpointUrl::parse(url).unwrap();
        Proposal::new(&domain(), Found { by: FoundBy::Service, url, kind, vouched: false }, seen, pins)
    }

    fn web() -> Option<Kind> {
        Some(Kind::Web { path: "/".to_owned() })
    }

    fn showing(key: u8) -> Seen {
        let own = SeenCertificate {
            subject: String::new(),
            issuer: String::new(),
            uri: String::new(),
            names: Vec::new(),
            not_after: 0,
            key_fingerprint: [key; 32],
        };
        Seen { certificates: vec![own], ..Seen::default() }
    }

    /// Refuses: FED-32
    #[test]
    fn whoever_shows_an_svid_of_the_trust_domain_needs_a_bundle_by_another_way() {
        let id = SpiffeId::parse("spiffe://a.example/s").unwrap();
        let other = Some(SpiffeId::parse("spiffe://b.example/s").unwrap());
        for (kind, needs) in [
            (None, false),
            (web(), false),
            (Some(Kind::Spiffe { path: "/".to_owned(), id: id.clone() }), true),
            (Some(Kind::Api { id: Some(id) }), true),
            (Some(Kind::Api { id: None }), false),
            (Some(Kind::Api { id: other }), false),
        ] {
            let proposal = proposal("https://a.example/", kind.clone(), Seen::default(), EndpointPins::default());
            assert_eq!(proposal.needs_bundle(&domain()), needs, "{kind:?}");
        }
    }

    #[test]
    fn pins_that_were_set_before_decide() {
        let pins = |host: &str, key: u8| EndpointPins { hosts: vec![host.to_owned()], keys: vec![[key; 32]] };
        assert_eq!(proposal("https://b.a.example/", web(), showing(1), pins("B.a.example", 1)).obstacles, [""; 0]);
        let refused = proposal("https://b.a.example/", web(), showing(1), pins("c.a.example", 2)).obstacles;
        assert!(refused[0].contains("host b.a.example"), "{refused:?}");
        assert!(refused[1].contains("server's key") && refused[1].contains(&"01".repeat(32)), "{refused:?}");
    }

    #[test]
    fn the_id_changes_with_what_was_compared_and_not_with_the_node_that_answered() {
        let id = |url: &str, kind, seen| proposal(url, kind, seen, EndpointPins::default()).id();
        let first = id("https://a.example/", web(), showing(1));
        assert_eq!(first.len(), 12);
        assert_eq!(first, id("https://a.example/", web(), showing(2)));
        assert_ne!(first, id("https://a.example/b", web(), showing(1)));
        assert_ne!(first, id("https://a.example/", Some(Kind::Api { id: None }), showing(1)));
    }
}
