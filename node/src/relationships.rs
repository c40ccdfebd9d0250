//! The relationships of this node's configuration, proposed when it starts (`[[federation.relationships]]`).
//!
//! ```text
//!   start ──► caught up with the cluster ──► for each: is there one with that trust domain?
//!                no                            made, marked as from this node's configuration
//!                yes, and the same             nothing
//!                yes, of this node's own       changed to what the configuration says now
//!                yes, of somebody else         stands: the first did; this node says in its log that it differs
//! ```
//!
//! From then on they are relationships like others: an operator changes and ends them, and one that an operator has changed is
//! the operator's. One that was ended and is still in the configuration is made again at the next start.

use std::time::Duration;

use quorate_proto_identity::{NodeName, TrustDomain};
use quorate_raft_machine::{Caller, Endpoint, NewRelationship, Relationship, RelationshipChange, RelationshipOrigin};
use tokio::time::Instant;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use crate::config::ConfiguredRelationship;
use crate::given;
use crate::node::Node;
use crate::service::federation::making;

/// How soon it is tried again while the cluster cannot take it: it may have no leader for a while.
const PACE: Duration = Duration::from_secs(5);

/// How long a read index may take.
const READ_INDEX_LIMIT: Duration = Duration::from_secs(5);

/// What is done with a relationship of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// There is none: it is made.
    Make,
    /// It is as the configuration says.
    Same,
    /// It is from this configuration, as it was once: it is changed.
    Change,
    /// It is of somebody else, and differs: it stands.
    Differs,
}

/// Proposes what the configuration has, until all is made or refused, or the node stops.
pub(crate) async fn propose(node: Node) {
    if node.config().relationships.is_empty() {
        return;
    }
    let mut stopping = node.stopping();
    tokio::select! {
        biased;
        () = stopping.asked() => {}
        () = propose_all(&node) => {}
    }
}

async fn propose_all(node: &Node) {
    // What was ended or changed while this node was away must be known before anything is compared.
    while node.consensus().read_index(Instant::now() + READ_INDEX_LIMIT).await.is_err() {
        tokio::time::sleep(PACE).await;
    }
    let mut waiting: Vec<&ConfiguredRelationship> = node.config().relationships.iter().collect();
    while !waiting.is_empty() {
        let mut again = Vec::new();
        for configured in waiting {
            match propose_one(node, configured).await {
                Ok(()) => {}
                Err(status) if is_passing(status.code()) => again.push(configured),
                Err(status) => tracing::error!(
                    trust_domain = configured.trust_domain.as_str(),
                    error = status.message(),
                    "a relationship of the configuration cannot be made"
                ),
            }
        }
        waiting = again;
        if !waiting.is_empty() {
            tokio::time::sleep(PACE).await;
        }
    }
}

/// Whether another try may do better: no leader, or somebody else was faster.
fn is_passing(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::AlreadyExists)
}

async fn propose_one(node: &Node, configured: &ConfiguredRelationship) -> Result<(), Status> {
    let trust_domain = &configured.trust_domain;
    let held = node.consensus().state().read(|state| state.relationship(trust_domain).cloned());
    let decision = decide(configured, &node.config().name, held.as_deref(), node)?;
    match (decision, held) {
        (Decision::Same, _) if !secret_differs(node, configured).await? => Ok(()),
        (Decision::Make, _) | (_, None) => make(node, configured).await,
        (Decision::Same | Decision::Change, Some(held)) => change(node, configured, &held).await,
        (Decision::Differs, Some(held)) => {
            tracing::warn!(
                trust_domain = trust_domain.as_str(),
                holds = %origin(&held.origin),
                "the configuration has another relationship than the cluster holds, which stands"
            );
            Ok(())
        }
    }
}

/// Whose a relationship is, in words.
fn origin(origin: &RelationshipOrigin) -> String {
    match origin {
        RelationshipOrigin::Operator => "made by an operator".to_owned(),
        RelationshipOrigin::Configuration { node } => format!("from the configuration of node {node}"),
    }
}

fn decide(
    configured: &ConfiguredRelationship,
    own: &NodeName,
    held: Option<&Relationship>,
    node: &Node,
) -> Result<Decision, Status> {
    let Some(held) = held else { return Ok(Decision::Make) };
    // Names of secrets are made up: with the same one, only what the configuration says is compared.
    let name = match held.endpoint.secret() {
        Some(name) => name.clone(),
        None => making::secret_name(node.sources(), &configured.trust_domain)?,
    };
    Ok(compare(configured, &configured.endpoint(name), own, held))
}

fn compare(configured: &ConfiguredRelationship, endpoint: &Endpoint, own: &NodeName, held: &Relationship) -> Decision {
    let is_own = held.origin == RelationshipOrigin::Configuration { node: own.clone() };
    let is_same = *endpoint == held.endpoint && configured.pins == held.pins && configured.poll == held.poll;
    match (is_same, is_own) {
        (true, _) => Decision::Same,
        (false, true) => Decision::Change,
        (false, false) => Decision::Differs,
    }
}

/// Whether the file with the secret has another one than the cluster keeps. Looked at for relationships of this
/// configuration alone: those of others have secrets of others.
async fn secret_differs(node: &Node, configured: &ConfiguredRelationship) -> Result<bool, Status> {
    let own = RelationshipOrigin::Configuration { node: node.config().name.clone() };
    let kept = node.consensus().state().read(|state| {
        let held = state.relationship(&configured.trust_domain).filter(|held| held.origin == own)?;
        held.endpoint.secret().cloned()
    });
    let (Some(name), Some(system)) = (kept, node.system()) else { return Ok(false) };
    let Some(given) = secret(configured)? else { return Ok(false) };
    let opened = system.secrets().open(&name).await;
    Ok(opened.is_ok_and(|opened| *opened != *given))
}

fn secret(configured: &ConfiguredRelationship) -> Result<Option<Zeroizing<Vec<u8>>>, Status> {
    let read = |path: &std::path::PathBuf| given::secret::read(path);
    configured.secret_file().map(read).transpose().map_err(unusable)
}

/// A file that cannot be used is for the operator of this node to mend: nothing passes by itself.
fn unusable(error: given::GivenError) -> Status {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Status::failed_precondition(format!("{error}{cause}"))
}

fn own_origin(node: &Node) -> RelationshipOrigin {
    RelationshipOrigin::Configuration { node: node.config().name.clone() }
}

async fn make(node: &Node, configured: &ConfiguredRelationship) -> Result<(), Status> {
    let trust_domain: &TrustDomain = &configured.trust_domain;
    let bundle = match &configured.bundle {
        Some(path) => {
            let given = given::bundle::read(path, trust_domain).map_err(unusable)?;
            for note in &given.notes {
                tracing::warn!(
                    trust_domain = trust_domain.as_str(),
                    note,
                    "the bundle of the configuration is not used whole"
                );
            }
            Some(given.bundle)
        }
        None => None,
    };
    let new = NewRelationship {
        trust_domain: trust_domain.clone(),
        endpoint: configured.endpoint(making::secret_name(node.sources(), trust_domain)?),
        pins: configured.pins.clone(),
        poll: configured.poll,
        origin: own_origin(node),
        bundle,
    };
    let log_index = making::create(node, Caller::node(), new, secret(configured)?).await?;
    tracing::info!(trust_domain = trust_domain.as_str(), log_index, "a relationship of the configuration was made");
    Ok(())
}

async fn change(node: &Node, configured: &ConfiguredRelationship, held: &Relationship) -> Result<(), Status> {
    let trust_domain = &configured.trust_domain;
    let change = RelationshipChange {
        endpoint: Some(configured.endpoint(making::secret_name(node.sources(), trust_domain)?)),
        pins: Some(configured.pins.clone()),
        poll: Some(configured.poll),
        origin: Some(own_origin(node)),
    };
    let log_index =
        making::update(node, Caller::node(), trust_domain, change, held.revision, secret(configured)?).await?;
    tracing::info!(trust_domain = trust_domain.as_str(), log_index, "a relationship follows the configuration");
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{EndpointUrl, UnixSeconds};
    use quorate_raft_machine::{EndpointPins, PollSettings, SecretName};

    use super::*;
    use crate::config::{ConfiguredCredential, ConfiguredEndpoint};

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn secret_name() -> SecretName {
        SecretName::new("federation/two.example/s").unwrap()
    }

    fn configured(url: &str) -> ConfiguredRelationship {
        ConfiguredRelationship {
            trust_domain: TrustDomain::new("two.example").unwrap(),
            endpoint: ConfiguredEndpoint::Api {
                url: EndpointUrl::parse(url).unwrap(),
                server: quorate_raft_machine::ApiServer::Web,
                credential: ConfiguredCredential::ApiKey { secret_file: "/key".into() },
                watch: true,
            },
            bundle: None,
            pins: EndpointPins::default(),
            poll: PollSettings::default(),
        }
    }

    fn held(url: &str, origin: RelationshipOrigin) -> Relationship {
        let configured = configured(url);
        Relationship {
            endpoint: configured.endpoint(secret_name()),
            trust_domain: configured.trust_domain,
            pins: configured.pins,
            poll: configured.poll,
            origin,
            revision: 1,
            created_at: UnixSeconds(1),
            changed_at: UnixSeconds(1),
        }
    }

    #[test]
    fn the_first_stands_and_only_what_is_of_this_node_follows_its_configuration() {
        let of = |name: &str| RelationshipOrigin::Configuration { node: node(name) };
        let (here, there) = ("https://here.example/", "https://there.example/");
        for (held, expected) in [
            (held(here, of("node-1")), Decision::Same),
            (held(here, of("node-2")), Decision::Same),
            (held(here, RelationshipOrigin::Operator), Decision::Same),
            (held(there, of("node-1")), Decision::Change),
            (held(there, of("node-2")), Decision::Differs),
            (held(there, RelationshipOrigin::Operator), Decision::Differs),
        ] {
            let configured = configured(here);
            let decision = compare(&configured, &configured.endpoint(secret_name()), &node("node-1"), &held);
            assert_eq!(decision, expected, "{held:?}");
        }
        let slower =
            ConfiguredRelationship { poll: PollSettings { floor: 900, ..PollSettings::default() }, ..configured(here) };
        let decision = compare(&slower, &slower.endpoint(secret_name()), &node("node-1"), &held(here, of("node-1")));
        assert_eq!(decision, Decision::Change);
    }

    #[test]
    fn a_cluster_without_a_leader_is_waited_for_and_a_mistake_is_not() {
        assert!(is_passing(Code::Unavailable) && is_passing(Code::AlreadyExists));
        assert!(!is_passing(Code::InvalidArgument) && !is_passing(Code::FailedPrecondition));
    }
}
