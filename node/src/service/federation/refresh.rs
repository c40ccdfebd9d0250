//! Asking the leader about what it fetches.

use quorate_actors::{Federation, FederationError, Refreshed};
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::Caller;
use tonic::Status;

use super::missing;
use crate::node::Node;

/// What the audit trail calls it.
const ACT: &str = "federation.refresh";

/// The way to whoever fetches, once this node serves an authority.
pub(in crate::service) fn federation(node: &Node) -> Result<&Federation, Status> {
    let system = node.system().ok_or_else(|| Status::unavailable("the node is starting; try again"))?;
    Ok(system.federation())
}

/// Has the bundle of a foreign trust domain fetched now. Who asked is in the audit trail of this node, which is where a
/// bundle that is older than the one before has somebody to answer for it (ATK-39).
///
/// # Errors
///
/// When there is no such relationship, when nothing came of it, and when the trail cannot take it.
pub(in crate::service) async fn now(
    node: &Node,
    caller: &Caller,
    trust_domain: &TrustDomain,
    accept_older: bool,
) -> Result<Refreshed, Status> {
    let federation = federation(node)?;
    if node.consensus().state().read(|state| state.relationship(trust_domain).is_none()) {
        return Err(missing(trust_domain));
    }
    let audit = node.audit();
    audit.may_administer().map_err(|blocked| Status::resource_exhausted(blocked.to_string()))?;
    let detail = [("trust_domain", trust_domain.to_string()), ("accept_older", accept_older.to_string())];
    audit.acted(caller, ACT, &detail);
    federation.refresh(trust_domain, accept_older).await.map_err(|error| status(&error))
}

/// What a caller is told of an answer that did not come.
pub(in crate::service) fn status(error: &FederationError) -> Status {
    match error {
        FederationError::Ask(cause) => Status::unavailable(format!("{error}: {cause}")),
        FederationError::Malformed => Status::internal(error.to_string()),
        FederationError::Refused(words) => Status::failed_precondition(words.clone()),
    }
}
