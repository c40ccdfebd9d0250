//! Making and changing relationships, with their secrets: one way for operators, for configurations and for what discovery
//! proposes.
//!
//! A secret gets a name of its own each time it is given. So a new key is never shown to the server of an old endpoint, nor an
//! old one to a new server: relationship and secret change in one command, by the name in the endpoint.

use quorate_actors::{SecretError, Secrets};
use quorate_proto_identity::TrustDomain;
use quorate_raft_consensus::{Sources, StateReader};
use quorate_raft_machine::{
    ApiCredential, Caller, Done, Endpoint, NewRelationship, Operation, Relationship, RelationshipChange, SecretName,
};
use tonic::Status;
use zeroize::Zeroizing;

use crate::node::Node;
use crate::service::writes::{Writes, refused};

/// A name for a secret of the relationship with this trust domain, which no other has.
///
/// # Errors
///
/// Never, as names are made; said as a status rather than assumed.
pub(crate) fn secret_name(sources: &Sources, trust_domain: &TrustDomain) -> Result<SecretName, Status> {
    SecretName::of_relationship(trust_domain, &format!("credential-{:016x}", sources.random_u64()))
        .map_err(|error| Status::internal(error.to_string()))
}

/// Refuses a relationship that cannot be made, before anything is written.
///
/// # Errors
///
/// `AlreadyExists` when there is one with that trust domain, `InvalidArgument` when secret and credential do not fit.
pub(crate) fn check_new(state: &StateReader, new: &NewRelationship, secret_given: bool) -> Result<(), Status> {
    let trust_domain = &new.trust_domain;
    if state.read(|state| state.relationship(trust_domain).is_some()) {
        return Err(Status::already_exists(format!(
            "there is a relationship with trust domain {trust_domain} already: `quorate federation update` changes it"
        )));
    }
    check_secret(&new.endpoint, secret_given)
}

fn check_secret(endpoint: &Endpoint, secret_given: bool) -> Result<(), Status> {
    match (endpoint.secret(), secret_given) {
        (Some(_), false) => Err(Status::invalid_argument("secret: missing: this credential has one")),
        (None, true) => {
            Err(Status::invalid_argument("secret: the endpoint takes none: its credential is of another kind"))
        }
        (Some(_), true) | (None, false) => Ok(()),
    }
}

/// Makes a relationship, and answers where in the log it stands.
///
/// # Errors
///
/// When it was refused, or is not known to be made; a secret that came with it is then erased again.
pub(crate) async fn create(
    node: &Node,
    caller: Caller,
    new: NewRelationship,
    secret: Option<Zeroizing<Vec<u8>>>,
) -> Result<u64, Status> {
    check_secret(&new.endpoint, secret.is_some())?;
    let put = sealed(node, new.endpoint.secret(), secret.as_ref())?;
    let name = new.endpoint.secret().cloned();
    let written = carry_out(node, &caller, put, Operation::CreateRelationship(Box::new(new))).await;
    if written.as_ref().is_err_and(|failure| failure.certain)
        && let Some(name) = name
    {
        erase(node, caller, vec![name]).await;
    }
    written.map_err(|failure| failure.status)
}

/// Changes a relationship, and answers where in the log that stands. Its secrets that are of no use any more are erased.
///
/// # Errors
///
/// When it was refused, or is not known to be made; a secret that came with it is then erased again.
pub(crate) async fn update(
    node: &Node,
    caller: Caller,
    trust_domain: &TrustDomain,
    change: RelationshipChange,
    expected_revision: u64,
    secret: Option<Zeroizing<Vec<u8>>>,
) -> Result<u64, Status> {
    let new_secret = change.endpoint.as_ref().and_then(Endpoint::secret).filter(|_| secret.is_some()).cloned();
    let put = sealed(node, new_secret.as_ref(), secret.as_ref())?;
    let operation = Operation::UpdateRelationship {
        trust_domain: trust_domain.clone(),
        change: Box::new(change),
        expected_revision,
    };
    let written = carry_out(node, &caller, put, operation).await;
    let useless = match &written {
        Ok(_) => useless_secrets(node, trust_domain),
        Err(failure) if failure.certain => new_secret.into_iter().collect(),
        Err(_) => Vec::new(),
    };
    erase(node, caller, useless).await;
    written.map_err(|failure| failure.status)
}

/// A changed endpoint that keeps the secret of the one held, where none was given with it: only when it goes to the same
/// server as before, for whom it is meant.
///
/// # Errors
///
/// `InvalidArgument` when a secret is needed, or given in vain.
pub(super) fn keeping_secret(new: Endpoint, held: &Relationship, secret_given: bool) -> Result<Endpoint, Status> {
    if secret_given || new.secret().is_none() {
        check_secret(&new, secret_given)?;
        return Ok(new);
    }
    let Some(kept) = held.endpoint.secret().filter(|_| same_reader(&new, &held.endpoint)) else {
        return Err(Status::invalid_argument(
            "secret: missing: the credential that is held is of another kind, or was given for another server",
        ));
    };
    with_new_secret(&new, kept.clone())
}

/// Whether the secret of both is shown to the same server.
fn same_reader(new: &Endpoint, held: &Endpoint) -> bool {
    let reader = |endpoint: &Endpoint| match endpoint {
        Endpoint::Api { url, server, credential: ApiCredential::ApiKey { .. }, .. } => {
            Some((url.authority(), Some(server.clone())))
        }
        Endpoint::Api { credential: ApiCredential::OAuth { token_url, .. }, .. } => Some((token_url.authority(), None)),
        Endpoint::Api { .. } | Endpoint::Web { .. } | Endpoint::Spiffe { .. } => None,
    };
    reader(new).is_some_and(|new| reader(held) == Some(new))
}

/// The endpoint with another secret.
///
/// # Errors
///
/// `InvalidArgument` when its credential has none.
pub(super) fn with_new_secret(endpoint: &Endpoint, name: SecretName) -> Result<Endpoint, Status> {
    let mut endpoint = endpoint.clone();
    if let Endpoint::Api {
        credential: ApiCredential::ApiKey { secret } | ApiCredential::OAuth { secret, .. }, ..
    } = &mut endpoint
    {
        *secret = name;
        return Ok(endpoint);
    }
    Err(Status::invalid_argument("secret: the endpoint takes none: its credential is of another kind"))
}

/// Why something was not written, and whether that is certain.
struct NotWritten {
    status: Status,
    certain: bool,
}

/// Puts the secret and does the operation, in one command.
async fn carry_out(
    node: &Node,
    caller: &Caller,
    put: Option<Operation>,
    operation: Operation,
) -> Result<u64, NotWritten> {
    let operations = put.into_iter().chain([operation]).collect();
    let written = Writes::new(node).write(caller.clone(), operations).await;
    let written = written.map_err(|status| NotWritten { status, certain: false })?;
    for result in written.results {
        match result {
            Ok(Done::RelationshipSet { .. } | Done::SecretPut { .. }) => {}
            Ok(other) => {
                let status = Status::internal(format!("the operation came to an outcome of another kind: {other:?}"));
                return Err(NotWritten { status, certain: false });
            }
            Err(refusal) => return Err(NotWritten { status: refused(&refusal), certain: true }),
        }
    }
    Ok(written.log_index)
}

fn secrets(node: &Node) -> Result<&Secrets, Status> {
    let system = node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
    Ok(system.secrets())
}

/// The operation that puts a secret, if there is one to put.
fn sealed(
    node: &Node,
    name: Option<&SecretName>,
    secret: Option<&Zeroizing<Vec<u8>>>,
) -> Result<Option<Operation>, Status> {
    let (Some(name), Some(secret)) = (name, secret) else { return Ok(None) };
    let operation = secrets(node)?.seal(name, secret).map_err(|error| {
        if matches!(error, SecretError::Length { .. }) {
            return Status::invalid_argument(format!("secret: {error}"));
        }
        Status::unavailable(format!("the secret cannot be sealed: {error}"))
    })?;
    Ok(Some(operation))
}

/// Secrets of a relationship that its endpoint does not name.
fn useless_secrets(node: &Node, trust_domain: &TrustDomain) -> Vec<SecretName> {
    node.consensus().state().read(|state| {
        let Some(relationship) = state.relationship(trust_domain) else { return Vec::new() };
        let names = state.secrets().map(|secret| &secret.name);
        let useless =
            names.filter(|name| name.belongs_to(trust_domain) && relationship.endpoint.secret() != Some(*name));
        useless.cloned().collect()
    })
}

/// Erases secrets. One that stays is of no harm, and goes with the next change: it is sealed, and nothing uses it.
async fn erase(node: &Node, caller: Caller, names: Vec<SecretName>) {
    if names.is_empty() {
        return;
    }
    let operations = names.into_iter().map(|name| Operation::DeleteSecret { name }).collect();
    if let Err(status) = Writes::new(node).write(caller, operations).await {
        tracing::warn!(error = status.message(), "a secret that is of no use any more was not erased");
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{EndpointUrl, UnixSeconds};
    use quorate_raft_machine::{ApiServer, EndpointPins, PollSettings, RelationshipOrigin};

    use super::*;

    fn name(text: &str) -> SecretName {
        SecretName::new(text).unwrap()
    }

    fn api(url: &str, credential: ApiCredential) -> Endpoint {
        let url = EndpointUrl::parse(url).unwrap();
        Endpoint::Api { url, server: ApiServer::Web, credential, watch: true }
    }

    fn key(url: &str, secret: &str) -> Endpoint {
        api(url, ApiCredential::ApiKey { secret: name(secret) })
    }

    fn oauth(url: &str, token_url: &str, secret: &str) -> Endpoint {
        let credential = ApiCredential::OAuth {
            token_url: EndpointUrl::parse(token_url).unwrap(),
            client_id: "one".into(),
            scope: String::new(),
            audience: String::new(),
            secret: name(secret),
        };
        api(url, credential)
    }

    fn held(endpoint: Endpoint) -> Relationship {
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

    #[test]
    fn a_secret_stays_with_the_server_that_it_was_given_for_and_goes_to_no_other() {
        let before = held(key("https://api.two.example/a", "old"));
        let same = keeping_secret(key("https://api.two.example/b", "new"), &before, false).unwrap();
        assert_eq!(same, key("https://api.two.example/b", "old"));
        let given = keeping_secret(key("https://other.example/", "new"), &before, true).unwrap();
        assert_eq!(given, key("https://other.example/", "new"));
        for other in [
            key("https://other.example/", "new"),
            key("https://api.two.example:8443/", "new"),
            oauth("https://api.two.example/", "https://api.two.example/token", "new"),
        ] {
            let status = keeping_secret(other, &before, false).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{}", status.message());
        }
        let before = held(oauth("https://api.two.example/", "https://login.example/token", "old"));
        let moved = oauth("https://new.example/", "https://login.example/token", "new");
        assert_eq!(keeping_secret(moved, &before, false).unwrap().secret(), Some(&name("old")));
        let elsewhere = oauth("https://api.two.example/", "https://login.evil/token", "new");
        assert!(keeping_secret(elsewhere, &before, false).is_err());
    }

    #[test]
    fn a_secret_for_an_endpoint_that_takes_none_is_refused() {
        let url = EndpointUrl::parse("https://two.example/").unwrap();
        let web = Endpoint::Web { url };
        assert!(keeping_secret(web.clone(), &held(web.clone()), true).is_err());
        assert!(with_new_secret(&web, name("new")).is_err());
        assert_eq!(keeping_secret(web.clone(), &held(web.clone()), false).unwrap(), web);
    }
}
