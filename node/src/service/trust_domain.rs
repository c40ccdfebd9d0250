//! Relationships with foreign trust domains: SPIRE's TrustDomain service (spire-api.md section 10).
//!
//! Its messages have words for the two standard profiles. A relationship whose endpoint is a Federation API is neither listed
//! nor changed here, so that a tool that keeps relationships as it was told does not break one that it cannot describe;
//! `quorate.cluster.v1.Federation` shows them all. Lists are in the order of the trust domains' names, which is the same on
//! every node.

mod convert;

use convert::{NO_WORDS, changed_endpoint, endpoint, to_wire};
use prost::Message as _;
use quorate_proto_api::convert::ok;
use quorate_proto_api::spire::trustdomain::trust_domain_server::{TrustDomain as TrustDomainApi, TrustDomainServer};
use quorate_proto_api::spire::trustdomain::{
    BatchCreateFederationRelationshipRequest, BatchCreateFederationRelationshipResponse,
    BatchDeleteFederationRelationshipRequest, BatchDeleteFederationRelationshipResponse,
    BatchUpdateFederationRelationshipRequest, BatchUpdateFederationRelationshipResponse,
    GetFederationRelationshipRequest, ListFederationRelationshipsRequest, ListFederationRelationshipsResponse,
    RefreshBundleRequest, batch_create_federation_relationship_response, batch_delete_federation_relationship_response,
    batch_update_federation_relationship_response,
};
use quorate_proto_api::spire::types;
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::{
    BundleFields, Done, EndpointPins, NewForeignBundle, NewRelationship, Operation, PollSettings, RelationshipChange,
    RelationshipOrigin, SetHow, State,
};
use tonic::{Code, Request, Response, Status};

use super::batch::{Fate, Item, carry_out, check_batch, unexpected};
use super::federation::refresh;
use super::foreign::{self, Paging, bundle_from_wire};
use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index, refused};
use crate::node::Node;

/// The service.
#[derive(Clone)]
pub(super) struct TrustDomainService {
    node: Node,
    reads: Reads,
    writes: Writes,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> TrustDomainServer<TrustDomainService> {
    TrustDomainServer::new(TrustDomainService { node: node.clone(), reads: reads.clone(), writes: Writes::new(node) })
}

type Wire = types::FederationRelationship;
type Mask = types::FederationRelationshipMask;

impl TrustDomainService {
    /// The relationship as it is now, for an answer.
    fn current(&self, trust_domain: &TrustDomain, mask: Option<&Mask>) -> Option<Wire> {
        self.reads.applied().read(|state| {
            let relationship = state.relationship(trust_domain)?;
            to_wire(relationship, state.foreign_bundle(trust_domain).map(|held| &**held), mask)
        })
    }
}

/// What a relationship to make comes to, and whose it is.
fn create(wire: &Wire, own: &TrustDomain) -> Result<(Operation, TrustDomain), Status> {
    let trust_domain = foreign::name(&wire.trust_domain, own)?;
    let bundle = bundle_of(wire, &trust_domain)?;
    let new = NewRelationship {
        trust_domain: trust_domain.clone(),
        endpoint: endpoint(wire)?,
        pins: EndpointPins::default(),
        poll: PollSettings::default(),
        origin: RelationshipOrigin::Operator,
        bundle,
    };
    Ok((Operation::CreateRelationship(Box::new(new)), trust_domain))
}

/// The bundle that comes with a relationship.
fn bundle_of(wire: &Wire, trust_domain: &TrustDomain) -> Result<Option<quorate_proto_identity::Bundle>, Status> {
    let Some(bundle) = &wire.trust_domain_bundle else { return Ok(None) };
    if TrustDomain::parse_name_or_id(&bundle.trust_domain).ok().as_ref() != Some(trust_domain) {
        return Err(Status::invalid_argument(format!(
            "trust_domain_bundle: it is of trust domain {:?}, and the relationship is with {trust_domain}",
            bundle.trust_domain
        )));
    }
    bundle_from_wire(trust_domain, bundle, BundleFields::ALL).map(Some)
}

/// What a relationship to change comes to: as many operations as it has parts that change, and whose it is.
fn update(wire: &Wire, mask: Option<&Mask>, state: &State) -> Result<(Vec<Operation>, TrustDomain), Status> {
    let mask = mask.copied().unwrap_or(convert::EVERYTHING);
    let trust_domain = foreign::name(&wire.trust_domain, &foreign::own(state)?)?;
    let held = state.relationship(&trust_domain).ok_or_else(|| missing(&trust_domain))?;
    let mut operations = Vec::new();
    if let Some(endpoint) = changed_endpoint(wire, mask, &held.endpoint)? {
        let origin = Some(RelationshipOrigin::Operator);
        operations.push(Operation::UpdateRelationship {
            trust_domain: trust_domain.clone(),
            change: Box::new(RelationshipChange { endpoint: Some(endpoint), origin, ..RelationshipChange::default() }),
            // A part of the endpoint is taken from what is held: it must be that still.
            expected_revision: held.revision,
        });
    }
    if mask.trust_domain_bundle
        && let Some(bundle) = bundle_of(wire, &trust_domain)?
    {
        operations.push(Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle, how: SetHow::Set })));
    }
    Ok((operations, trust_domain))
}

fn missing(trust_domain: &TrustDomain) -> Status {
    Status::not_found(format!("federation relationship not found: there is none with trust domain {trust_domain}"))
}

/// The status that an operation of a batch came to.
fn status<T>(fate: Fate<T>) -> types::Status {
    match fate {
        Fate::Finished(status) => status,
        Fate::Carried(
            Ok(Done::RelationshipSet { .. } | Done::RelationshipDeleted { .. } | Done::ForeignBundleSet { .. }),
            ..,
        ) => ok(),
        Fate::Carried(Ok(other), ..) => unexpected(&other),
        Fate::Carried(Err(refusal), ..) => refused(&refusal).into(),
    }
}

#[tonic::async_trait]
impl TrustDomainApi for TrustDomainService {
    async fn list_federation_relationships(
        &self,
        request: Request<ListFederationRelationshipsRequest>,
    ) -> Result<Response<ListFederationRelationshipsResponse>, Status> {
        let how = Consistency::of(&request)?;
        let ListFederationRelationshipsRequest { output_mask, page_size, page_token } = request.into_inner();
        let paging = Paging::of(page_size, &page_token)?;
        let (list, applied) = look(self.reads.current(how).await?, |state| {
            paging.cut(
                state.relationships(),
                |relationship| &relationship.trust_domain,
                |relationship| {
                    let held = state.foreign_bundle(&relationship.trust_domain);
                    to_wire(relationship, held.map(|held| &**held), output_mask.as_ref())
                },
            )
        });
        let (federation_relationships, next_page_token) = list?;
        Ok(at_applied_index(ListFederationRelationshipsResponse { federation_relationships, next_page_token }, applied))
    }

    async fn get_federation_relationship(
        &self,
        request: Request<GetFederationRelationshipRequest>,
    ) -> Result<Response<Wire>, Status> {
        let how = Consistency::of(&request)?;
        let GetFederationRelationshipRequest { trust_domain, output_mask } = request.into_inner();
        let (found, applied) = look(self.reads.current(how).await?, |state| {
            let name = foreign::name(&trust_domain, &foreign::own(state)?)?;
            let relationship = state.relationship(&name).ok_or_else(|| missing(&name))?;
            let held = state.foreign_bundle(&name).map(|held| &**held);
            to_wire(relationship, held, output_mask.as_ref()).ok_or_else(|| Status::failed_precondition(NO_WORDS))
        });
        found.map(|found| at_applied_index(found, applied))
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<BatchCreateFederationRelationshipResponse>, Status> {
        check_batch(request.get_ref().federation_relationships.len())?;
        let own = self.reads.current(Consistency::of(&request)?).await?.read(foreign::own)?;
        let caller = self.writes.caller(&request);
        let BatchCreateFederationRelationshipRequest { federation_relationships, output_mask } = request.into_inner();
        let (mut items, mut names) = (Vec::new(), Vec::new());
        for wire in &federation_relationships {
            let (item, name) = match create(wire, &own) {
                Ok((operation, name)) => (Item::Operation(operation, wire.encoded_len(), ()), Some(name)),
                Err(status) => (Item::Finished(status.into()), None),
            };
            items.push(item);
            names.push(name);
        }
        let (fates, log_index) = carry_out(&self.writes, caller, items).await?;
        let result = |(fate, name): (Fate<()>, Option<TrustDomain>)| {
            let status = status(fate);
            let made = name.filter(|_| status.code == i32::from(Code::Ok));
            let federation_relationship = made.and_then(|name| self.current(&name, output_mask.as_ref()));
            batch_create_federation_relationship_response::Result { status: Some(status), federation_relationship }
        };
        let results = fates.into_iter().zip(names).map(result).collect();
        Ok(at_log_index(BatchCreateFederationRelationshipResponse { results }, log_index))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<BatchUpdateFederationRelationshipResponse>, Status> {
        check_batch(request.get_ref().federation_relationships.len())?;
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let BatchUpdateFederationRelationshipRequest { federation_relationships, input_mask, output_mask } =
            request.into_inner();
        // An item may take two operations, endpoint and bundle: `places` says for each of them of which item it is.
        let (mut items, mut places, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (place, wire) in federation_relationships.iter().enumerate() {
            match state.read(|state| update(wire, input_mask.as_ref(), state)) {
                Ok((operations, name)) => {
                    for operation in operations {
                        items.push(Item::Operation(operation, wire.encoded_len(), ()));
                        places.push(place);
                    }
                    answers.push((ok(), Some(name)));
                }
                Err(status) => answers.push((status.into(), None)),
            }
        }
        let (fates, log_index) = carry_out(&self.writes, caller, items).await?;
        for (fate, place) in fates.into_iter().zip(places) {
            let came_to = status(fate);
            // The first thing that went wrong is what is told.
            if let Some((so_far, _)) = answers.get_mut(place).filter(|(so_far, _)| so_far.code == i32::from(Code::Ok)) {
                *so_far = came_to;
            }
        }
        let result = |(status, name): (types::Status, Option<TrustDomain>)| {
            let changed = name.filter(|_| status.code == i32::from(Code::Ok));
            let federation_relationship = changed.and_then(|name| self.current(&name, output_mask.as_ref()));
            batch_update_federation_relationship_response::Result { status: Some(status), federation_relationship }
        };
        let results = answers.into_iter().map(result).collect();
        Ok(at_log_index(BatchUpdateFederationRelationshipResponse { results }, log_index))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<BatchDeleteFederationRelationshipResponse>, Status> {
        check_batch(request.get_ref().trust_domains.len())?;
        let own = self.reads.current(Consistency::of(&request)?).await?.read(foreign::own)?;
        let caller = self.writes.caller(&request);
        let BatchDeleteFederationRelationshipRequest { trust_domains } = request.into_inner();
        let item = |text: &String| match foreign::name(text, &own) {
            Ok(trust_domain) => Item::Operation(Operation::DeleteRelationship { trust_domain }, text.len(), ()),
            Err(status) => Item::Finished(status.into()),
        };
        let (fates, log_index) = carry_out(&self.writes, caller, trust_domains.iter().map(item).collect()).await?;
        let result = |(fate, trust_domain)| batch_delete_federation_relationship_response::Result {
            status: Some(status(fate)),
            trust_domain,
        };
        let results = fates.into_iter().zip(trust_domains).map(result).collect();
        Ok(at_log_index(BatchDeleteFederationRelationshipResponse { results }, log_index))
    }

    async fn refresh_bundle(&self, request: Request<RefreshBundleRequest>) -> Result<Response<()>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let name = state.read(|state| foreign::name(&request.get_ref().trust_domain, &foreign::own(state)?))?;
        let caller = self.writes.caller(&request);
        refresh::now(&self.node, &caller, &name, false).await?;
        Ok(Response::new(()))
    }
}
