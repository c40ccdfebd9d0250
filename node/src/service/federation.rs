//! Relationships with foreign trust domains, whole: `quorate.cluster.v1.Federation`.
//!
//! ```text
//!   Create, Update, Delete ──► making: secret sealed, relationship proposed ──► state ──► the leader fetches
//!   List, Get                  the state of this node
//!   Refresh, Show              the leader: when something was fetched is in no log
//! ```
//!
//! What a change comes to is told in sentences (`story`), the same on a dry run.

mod convert;
pub(crate) mod making;
pub(super) mod refresh;
mod story;

use bytes::Bytes;
use quorate_proto_api::cluster::federation_server::{Federation as FederationApi, FederationServer};
use quorate_proto_api::cluster::{
    CreateRelationshipRequest, DeleteRelationshipRequest, GetRelationshipRequest, ListRelationshipsRequest,
    ListRelationshipsResponse, RefreshRelationshipRequest, RefreshRelationshipResponse,
    Relationship as WireRelationship, RelationshipChange as WireChange, ShowFederationRequest, ShowFederationResponse,
    UpdateRelationshipRequest,
};
use quorate_proto_identity::{Bundle, TrustDomain};
use quorate_raft_machine::{NewRelationship, Operation, Relationship, RelationshipChange, RelationshipOrigin, State};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::foreign;
use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index, refused};
use crate::node::Node;

/// The service.
#[derive(Clone)]
pub(super) struct FederationService {
    node: Node,
    reads: Reads,
    writes: Writes,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> FederationServer<FederationService> {
    FederationServer::new(FederationService { node: node.clone(), reads: reads.clone(), writes: Writes::new(node) })
}

impl FederationService {
    /// The relationship as it is now, for an answer.
    fn current(&self, trust_domain: &TrustDomain) -> Option<WireRelationship> {
        self.reads.applied().read(|state| told(state, state.relationship(trust_domain)?).into())
    }
}

/// A relationship with what is held by it.
fn told(state: &State, relationship: &Relationship) -> WireRelationship {
    let held = state.foreign_bundle(&relationship.trust_domain).map(|held| &**held);
    convert::to_wire(relationship, held)
}

fn missing(trust_domain: &TrustDomain) -> Status {
    Status::not_found(format!("there is no relationship with trust domain {trust_domain}: `quorate federation list`"))
}

/// The secret of a request; none when there are no bytes. The copy that gRPC holds is gone with the request.
fn secret(bytes: &Bytes) -> Option<Zeroizing<Vec<u8>>> {
    (!bytes.is_empty()).then(|| Zeroizing::new(bytes.to_vec()))
}

/// What is to be made, of a request for it.
fn draft(
    node: &Node,
    wire: WireRelationship,
    bundle: &Bytes,
    own: &TrustDomain,
) -> Result<(NewRelationship, Vec<String>), Status> {
    let trust_domain = foreign::name(&wire.trust_domain, own)?;
    let secret_name = || making::secret_name(node.sources(), &trust_domain);
    let (bundle, skipped) = match bundle.as_ref() {
        [] => (None, Vec::new()),
        document => {
            let parsed = Bundle::parse(&trust_domain, document)
                .map_err(|error| Status::invalid_argument(format!("bundle: {error}")))?;
            let told = parsed.skipped.iter();
            let skipped = told.map(|key| format!("Key {} of the bundle is left out: {}.", key.index, key.reason));
            (Some(parsed.bundle), skipped.collect())
        }
    };
    let new = NewRelationship {
        endpoint: convert::endpoint(wire.endpoint.as_ref(), secret_name)?,
        pins: convert::pins(wire.pins)?,
        poll: convert::poll(wire.poll),
        origin: RelationshipOrigin::Operator,
        trust_domain,
        bundle,
    };
    Ok((new, skipped))
}

#[tonic::async_trait]
impl FederationApi for FederationService {
    async fn list_relationships(
        &self,
        request: Request<ListRelationshipsRequest>,
    ) -> Result<Response<ListRelationshipsResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let list = |state: &State| state.relationships().map(|relationship| told(state, relationship)).collect();
        let (relationships, applied) = look(state, list);
        Ok(at_applied_index(ListRelationshipsResponse { relationships }, applied))
    }

    async fn get_relationship(
        &self,
        request: Request<GetRelationshipRequest>,
    ) -> Result<Response<WireRelationship>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let GetRelationshipRequest { trust_domain } = request.into_inner();
        let (found, applied) = look(state, |state| {
            let name = foreign::name(&trust_domain, &foreign::own(state)?)?;
            let relationship = state.relationship(&name).ok_or_else(|| missing(&name))?;
            Ok::<_, Status>(told(state, relationship))
        });
        found.map(|found| at_applied_index(found, applied))
    }

    async fn create_relationship(
        &self,
        request: Request<CreateRelationshipRequest>,
    ) -> Result<Response<WireChange>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let CreateRelationshipRequest { relationship, bundle, secret: given, dry_run } = request.into_inner();
        let wire = relationship.ok_or_else(|| Status::invalid_argument("relationship: missing"))?;
        let own = state.read(foreign::own)?;
        let (new, skipped) = draft(&self.node, wire, &bundle, &own)?;
        let given = secret(&given);
        making::check_new(state, &new, given.is_some())?;
        let (sentences, mut warnings) = state.read(|state| story::created(state, &new));
        warnings.splice(0..0, skipped);
        if dry_run {
            let answer = WireChange { relationship: None, sentences, warnings, log_index: 0 };
            return Ok(at_applied_index(answer, state.applied_index()));
        }
        let trust_domain = new.trust_domain.clone();
        let log_index = making::create(&self.node, caller, new, given).await?;
        let relationship = self.current(&trust_domain);
        Ok(at_log_index(WireChange { relationship, sentences, warnings, log_index }, Some(log_index)))
    }

    async fn update_relationship(
        &self,
        request: Request<UpdateRelationshipRequest>,
    ) -> Result<Response<WireChange>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let UpdateRelationshipRequest { trust_domain, endpoint, pins, poll, secret: given, expected_revision, dry_run } =
            request.into_inner();
        let name = foreign::name(&trust_domain, &state.read(foreign::own)?)?;
        let held = state.read(|state| state.relationship(&name).cloned()).ok_or_else(|| missing(&name))?;
        let given = secret(&given);
        let new_name = || making::secret_name(self.node.sources(), &name);
        let endpoint = match endpoint {
            Some(wire) => {
                Some(making::keeping_secret(convert::endpoint(Some(&wire), new_name)?, &held, given.is_some())?)
            }
            None if given.is_some() => Some(making::with_new_secret(&held.endpoint, new_name()?)?),
            None => None,
        };
        let change = RelationshipChange {
            endpoint,
            pins: pins.map(|pins| convert::pins(Some(pins))).transpose()?,
            poll: poll.map(|poll| convert::poll(Some(poll))),
            origin: Some(RelationshipOrigin::Operator),
        };
        let (sentences, warnings) = state.read(|state| story::updated(state, &held, &change, given.is_some()));
        if dry_run {
            let relationship = self.current(&name);
            let answer = WireChange { relationship, sentences, warnings, log_index: 0 };
            return Ok(at_applied_index(answer, state.applied_index()));
        }
        let log_index = making::update(&self.node, caller, &name, change, expected_revision, given).await?;
        let relationship = self.current(&name);
        Ok(at_log_index(WireChange { relationship, sentences, warnings, log_index }, Some(log_index)))
    }

    async fn delete_relationship(
        &self,
        request: Request<DeleteRelationshipRequest>,
    ) -> Result<Response<WireChange>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let DeleteRelationshipRequest { trust_domain, dry_run } = request.into_inner();
        let (name, told) = state.read(|state| {
            let name = foreign::name(&trust_domain, &foreign::own(state)?)?;
            let relationship = state.relationship(&name).ok_or_else(|| missing(&name))?;
            Ok::<_, Status>((name, story::deleted(state, relationship)))
        })?;
        let (sentences, warnings) = told;
        if dry_run {
            let answer = WireChange { relationship: None, sentences, warnings, log_index: 0 };
            return Ok(at_applied_index(answer, state.applied_index()));
        }
        let written = self.writes.write(caller, vec![Operation::DeleteRelationship { trust_domain: name }]).await?;
        match written.results.into_iter().next() {
            Some(Ok(_)) => {}
            Some(Err(refusal)) => return Err(refused(&refusal)),
            None => return Err(Status::internal("the command has no outcome")),
        }
        let log_index = written.log_index;
        Ok(at_log_index(WireChange { relationship: None, sentences, warnings, log_index }, Some(log_index)))
    }

    async fn refresh_relationship(
        &self,
        request: Request<RefreshRelationshipRequest>,
    ) -> Result<Response<RefreshRelationshipResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let RefreshRelationshipRequest { trust_domain, accept_older } = request.into_inner();
        let name = state.read(|state| foreign::name(&trust_domain, &foreign::own(state)?))?;
        let refreshed = refresh::now(&self.node, &caller, &name, accept_older).await?;
        let (answer, applied) = look(state, |state| RefreshRelationshipResponse {
            sentences: vec![story::refreshed(state, &name, &refreshed)],
            changed: refreshed.changed,
            bundle: state.foreign_bundle(&name).map(|held| convert::held(held)),
        });
        Ok(at_applied_index(answer, applied))
    }

    async fn show_federation(
        &self,
        request: Request<ShowFederationRequest>,
    ) -> Result<Response<ShowFederationResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let ShowFederationRequest { trust_domain } = request.into_inner();
        let only = match trust_domain.as_str() {
            "" => None,
            text => Some(state.read(|state| {
                let name = foreign::name(text, &foreign::own(state)?)?;
                if state.relationship(&name).is_none() { Err(missing(&name)) } else { Ok(name) }
            })?),
        };
        let statuses = refresh::federation(&self.node)?.statuses().await.map_err(|error| refresh::status(&error))?;
        let wanted = statuses.iter().filter(|status| only.as_ref().is_none_or(|only| status.trust_domain == *only));
        let (statuses, applied) = look(state, |state| wanted.map(|status| convert::standing(state, status)).collect());
        let now = self.node.sources().now().seconds().0;
        Ok(at_applied_index(ShowFederationResponse { statuses, now }, applied))
    }
}
