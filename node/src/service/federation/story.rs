//! What changes of relationships come to, in words.

use std::collections::BTreeSet;

use quorate_actors::Refreshed;
use quorate_proto_identity::{Bundle, TrustDomain};
use quorate_raft_machine::{
    ApiCredential, Endpoint, EntryFilter, MatchMode, NewRelationship, Relationship, RelationshipChange,
    RelationshipOrigin, State,
};

/// Most authorities that are named one by one.
const NAMED: usize = 8;

/// Sentences and warnings.
type Story = (Vec<String>, Vec<String>);

/// What making a relationship comes to.
pub(super) fn created(state: &State, new: &NewRelationship) -> Story {
    let NewRelationship { trust_domain, endpoint, poll, bundle, .. } = new;
    let mut sentences = vec![format!(
        "Relationship with {trust_domain}: its bundle is fetched {}, at most every {} s.",
        from_where(endpoint),
        poll.floor
    )];
    if let Some(bundle) = bundle {
        sentences.push(format!("Until the first is fetched, its bundle has {}.", authorities(bundle)));
    }
    let mut warnings = Vec::new();
    warnings.extend(cannot_begin(state, trust_domain, endpoint, bundle.as_ref()));
    warnings.extend(needs_ours(endpoint));
    if federating(state, trust_domain) == 0 {
        warnings.push(format!(
            "No entry federates with {trust_domain} yet: workloads get its bundle when their entry names it \
             (--federates-with {trust_domain})."
        ));
    }
    (sentences, warnings)
}

/// What changing a relationship comes to.
pub(super) fn updated(state: &State, held: &Relationship, change: &RelationshipChange, secret_given: bool) -> Story {
    let trust_domain = &held.trust_domain;
    let (mut sentences, mut warnings) = (Vec::new(), Vec::new());
    if let Some(endpoint) = change.endpoint.as_ref().filter(|endpoint| !same_but_secret(endpoint, &held.endpoint)) {
        sentences.push(format!("The bundle of {trust_domain} is fetched {} from now on.", from_where(endpoint)));
        warnings.extend(cannot_begin(state, trust_domain, endpoint, None));
        warnings.extend(needs_ours(endpoint));
    }
    if secret_given {
        sentences.push("Its credential has another secret.".to_owned());
    }
    if let Some(pins) = &change.pins {
        sentences.push(match (pins.hosts.len(), pins.keys.len()) {
            (0, 0) => "Its endpoint is pinned to nothing.".to_owned(),
            (hosts, keys) => format!("Its endpoint is pinned to {hosts} hosts and {keys} keys."),
        });
    }
    if let Some(poll) = change.poll {
        let redirects = if poll.follow_redirects { "followed" } else { "refused" };
        sentences.push(format!("It is polled at most every {} s, and redirects are {redirects}.", poll.floor));
    }
    if let RelationshipOrigin::Configuration { node } = &held.origin {
        warnings.push(format!(
            "The configuration of node {node} has this relationship, too: that node will say in its log that it differs."
        ));
    }
    (sentences, warnings)
}

/// What ending a relationship comes to.
pub(super) fn deleted(state: &State, relationship: &Relationship) -> Story {
    let trust_domain = &relationship.trust_domain;
    let mut sentences = vec![format!("The relationship with {trust_domain} is ended: nothing is fetched any more.")];
    if state.foreign_bundle(trust_domain).is_some() {
        sentences.push(format!(
            "Its bundle is withdrawn from all workloads, which refuse SVIDs of {trust_domain} from then on."
        ));
    }
    let mut warnings = Vec::new();
    let entries = federating(state, trust_domain);
    if entries > 0 {
        warnings.push(format!(
            "{entries} entries federate with {trust_domain} and go on to: they get its bundle again if there is one again."
        ));
    }
    let verified_by = |other: &&std::sync::Arc<Relationship>| {
        other.trust_domain != *trust_domain
            && other.endpoint.server_spiffe_id().is_some_and(|id| id.trust_domain_name() == trust_domain.as_str())
    };
    for other in state.relationships().filter(verified_by) {
        warnings.push(format!(
            "The endpoint of the relationship with {} is a server of {trust_domain}: it cannot be authenticated without its \
             bundle.",
            other.trust_domain
        ));
    }
    if let RelationshipOrigin::Configuration { node } = &relationship.origin {
        warnings.push(format!(
            "The configuration of node {node} has it: take it out there, or it is made again when that node starts."
        ));
    }
    (sentences, warnings)
}

/// What fetching came to.
pub(super) fn refreshed(state: &State, trust_domain: &TrustDomain, of: &Refreshed) -> String {
    let Refreshed { changed, sequence, host, fetched_by } = of;
    let by = fetched_by
        .and_then(|number| state.member(number))
        .map_or_else(String::new, |member| format!(" by {}", member.record.name));
    let number =
        sequence.map_or_else(|| "without a sequence number".to_owned(), |sequence| format!("number {sequence}"));
    let what = if *changed { "it is another one than before" } else { "it is the one that was held" };
    format!("The bundle of {trust_domain}, {number}, was fetched from {host}{by}: {what}.")
}

/// The endpoint in words, after "is fetched".
fn from_where(endpoint: &Endpoint) -> String {
    let url = endpoint.url();
    let server = endpoint
        .server_spiffe_id()
        .map_or_else(|| "a server with a certificate of the Web for that host".to_owned(), ToString::to_string);
    match endpoint {
        Endpoint::Web { .. } => format!("from {url} ({}: {server})", endpoint.profile()),
        Endpoint::Spiffe { .. } => format!("from {url} ({}: {server})", endpoint.profile()),
        Endpoint::Api { credential, watch, .. } => {
            let who = match credential {
                ApiCredential::None => "without a credential",
                ApiCredential::MutualTls => "with mutual TLS",
                ApiCredential::ApiKey { .. } => "with an API key",
                ApiCredential::OAuth { .. } => "with an OAuth token",
            };
            let push = if *watch { "and pushed" } else { "and not pushed" };
            format!("by the Federation API at {url} ({server}), {who}, {push}")
        }
    }
}

/// Why nothing can be fetched for now: the endpoint's server proves a SPIFFE ID, and the bundle to verify it with is missing.
fn cannot_begin(
    state: &State,
    trust_domain: &TrustDomain,
    endpoint: &Endpoint,
    given: Option<&Bundle>,
) -> Option<String> {
    let id = endpoint.server_spiffe_id()?;
    let of = id.trust_domain_name();
    let own = state.cluster().is_some_and(|cluster| cluster.trust_domain.as_str() == of);
    let is_given = given.is_some_and(|bundle| bundle.trust_domain().as_str() == of);
    let is_held = TrustDomain::new(of).is_ok_and(|of| state.foreign_bundle(&of).is_some());
    if own || is_given || is_held {
        return None;
    }
    let how = if of == trust_domain.as_str() {
        format!("`quorate bundle set {of} FILE` gives the one that its operator handed over")
    } else {
        format!("make a relationship with {of}, or give its bundle by `quorate bundle set {of} FILE`")
    };
    Some(format!(
        "No bundle of {of} is held, by which the endpoint's server ({id}) could be authenticated: nothing is fetched until \
         there is one. {how}."
    ))
}

/// What the other side needs of us.
fn needs_ours(endpoint: &Endpoint) -> Option<String> {
    matches!(endpoint, Endpoint::Api { credential: ApiCredential::MutualTls, .. }).then(|| {
        "With mutual TLS the other side has to hold our bundle before it knows us: `quorate bundle show --format spiffe` \
         writes it for their operator."
            .to_owned()
    })
}

fn authorities(bundle: &Bundle) -> String {
    let x509 = bundle.x509_authorities().iter().map(|certificate| certificate.authority_id().to_string());
    let jwt = bundle.jwt_authorities().iter().map(|authority| authority.key_id.clone());
    let all: Vec<String> = x509.chain(jwt).collect();
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let rest = all.len().saturating_sub(NAMED);
    match (all.len(), rest) {
        (0, _) => "no authority: all its SVIDs are refused".to_owned(),
        (1, _) => format!("the authority {named}"),
        (count, 0) => format!("{count} authorities: {named}"),
        (count, rest) => format!("{count} authorities: {named} and {rest} more"),
    }
}

/// How many entries name a trust domain.
fn federating(state: &State, trust_domain: &TrustDomain) -> usize {
    state.count(&EntryFilter {
        federates_with: Some((BTreeSet::from([trust_domain.clone()]), MatchMode::Superset)),
        ..EntryFilter::default()
    })
}

fn same_but_secret(new: &Endpoint, held: &Endpoint) -> bool {
    match held.secret().cloned() {
        Some(name) => super::making::with_new_secret(new, name).is_ok_and(|new| new == *held),
        None => new == held,
    }
}
