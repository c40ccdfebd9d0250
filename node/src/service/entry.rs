//! Registration entries: SPIRE's Entry service (spire-api.md section 7).
//!
//! ```text
//!   request ──► limits ──► conversion, item by item ──► one command or a few ──► outcome ──► item statuses, masked
//!                             │ malformed: InvalidArgument      (writes)
//!   reads: the applied state of this node, at one instant a page
//! ```
//!
//! The rules of entries (which IDs, how many selectors, what is similar) are the state machine's: here is only what
//! cannot be said in its types.

mod convert;
mod filter;
mod listing;
mod mask;
mod updates;

use convert::{change, draft, to_wire};
use filter::WireFilter;
use prost::Message as _;
use quorate_proto_api::convert::{failed, ok};
use quorate_proto_api::spire::entry::entry_server::{Entry as EntryApi, EntryServer};
use quorate_proto_api::spire::entry::{
    BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
    BatchUpdateEntryRequest, BatchUpdateEntryResponse, CountEntriesRequest, CountEntriesResponse,
    GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest,
    ListEntriesResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, batch_create_entry_response,
    batch_delete_entry_response, batch_update_entry_response,
};
use quorate_proto_api::spire::types;
use quorate_proto_identity::EntryId;
use quorate_raft_consensus::{Handle, Sources, StateReader};
use quorate_raft_machine::{Done, EntryDraft, Operation};
use tonic::codegen::tokio_stream::Empty;
use tonic::{Code, Request, Response, Status, Streaming};
use updates::{LeftBehind, Updates};

use super::batch::{Fate, Item, carry_out, check_batch, unexpected};
use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index, refused};
use crate::node::Node;

/// What other tools look for in the answer to a create that was not needed (spire-api.md section 20).
const SIMILAR_ENTRY: &str = "similar entry already exists";

/// The service.
#[derive(Debug, Clone)]
pub(super) struct EntryService {
    consensus: Handle,
    writes: Writes,
    reads: Reads,
    sources: Sources,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> EntryServer<EntryService> {
    EntryServer::new(EntryService {
        consensus: node.consensus().clone(),
        writes: Writes::new(node),
        reads: reads.clone(),
        sources: node.sources().clone(),
    })
}

impl EntryService {
    /// The entry as it is now, for an answer.
    fn current(&self, id: &EntryId, mask: Option<&types::EntryMask>) -> Option<types::Entry> {
        entry_in(self.reads.applied(), id, mask)
    }

    fn created(&self, fate: Fate<EntryDraft>, mask: Option<&types::EntryMask>) -> batch_create_entry_response::Result {
        let (status, entry) = match fate {
            Fate::Finished(status) => (status, None),
            Fate::Carried(Ok(Done::EntryCreated { id: _, creation_number, created_at }), _, draft) => {
                (ok(), Some(to_wire(&draft.into_entry(created_at, creation_number), mask)))
            }
            Fate::Carried(Ok(Done::EntryExists { id }), ..) => {
                (failed(Code::AlreadyExists, SIMILAR_ENTRY), self.current(&id, mask))
            }
            Fate::Carried(Ok(other), ..) => (unexpected(&other), None),
            Fate::Carried(Err(refusal), ..) => (refused(&refusal).into(), None),
        };
        batch_create_entry_response::Result { status: Some(status), entry }
    }
}

/// The answer to an update: the entry as this update left it, whatever came after.
fn updated(
    fate: Fate<()>,
    left: &mut LeftBehind,
    mask: Option<&types::EntryMask>,
) -> batch_update_entry_response::Result {
    let (status, entry) = match fate {
        Fate::Finished(status) => (status, None),
        Fate::Carried(Ok(Done::EntryUpdated { id, revision_number }), log_index, ()) => {
            (ok(), left.take(log_index, &id, revision_number).map(|entry| to_wire(&entry, mask)))
        }
        Fate::Carried(Ok(other), _, ()) => (unexpected(&other), None),
        Fate::Carried(Err(refusal), _, ()) => (refused(&refusal).into(), None),
    };
    batch_update_entry_response::Result { status: Some(status), entry }
}

/// An entry, for an answer.
fn entry_in(state: &StateReader, id: &EntryId, mask: Option<&types::EntryMask>) -> Option<types::Entry> {
    state.read(|state| state.entry(id)).map(|entry| to_wire(&entry, mask))
}

fn entry_id(text: &str) -> Result<EntryId, Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument("missing ID"));
    }
    EntryId::new(text).map_err(|error| Status::invalid_argument(format!("id: {error}")))
}

#[tonic::async_trait]
impl EntryApi for EntryService {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let how = Consistency::of(&request)?;
        let filter = request.into_inner().filter.map(WireFilter::from).unwrap_or_default().checked()?;
        let (count, applied) = look(self.reads.current(how).await?, |state| state.count(&filter));
        Ok(at_applied_index(CountEntriesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }, applied))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        // A listing of many reads begins here: all that was applied by now is in it.
        let applied = state.applied_index();
        listing::list(state, request.into_inner()).await.map(|list| at_applied_index(list, applied))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<types::Entry>, Status> {
        let how = Consistency::of(&request)?;
        let GetEntryRequest { id, output_mask } = request.into_inner();
        let id = entry_id(&id)?;
        let (entry, applied) = look(self.reads.current(how).await?, |state| state.entry(&id));
        entry
            .map(|entry| at_applied_index(to_wire(&entry, output_mask.as_ref()), applied))
            .ok_or_else(|| Status::not_found(format!("entry not found: {id}")))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        check_batch(request.get_ref().entries.len())?;
        let caller = self.writes.caller(&request);
        let BatchCreateEntryRequest { entries, output_mask } = request.into_inner();
        let items = entries
            .into_iter()
            .map(|entry| {
                let size = entry.encoded_len();
                match draft(entry, || EntryId::from_random(self.sources.random())) {
                    Ok(draft) => Item::Operation(Operation::CreateEntry(Box::new(draft.clone())), size, draft),
                    Err(status) => Item::Finished(status.into()),
                }
            })
            .collect();
        let (fates, log_index) = carry_out(&self.writes, caller, items).await?;
        let results = fates.into_iter().map(|fate| self.created(fate, output_mask.as_ref())).collect();
        Ok(at_log_index(BatchCreateEntryResponse { results }, log_index))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        check_batch(request.get_ref().entries.len())?;
        let caller = self.writes.caller(&request);
        let BatchUpdateEntryRequest { entries, input_mask, output_mask } = request.into_inner();
        let items = entries
            .into_iter()
            .map(|entry| {
                let size = entry.encoded_len();
                let parsed = entry_id(&entry.id).and_then(|id| Ok((id, change(entry, input_mask.as_ref())?)));
                match parsed {
                    Ok((id, change)) => {
                        Item::Operation(Operation::UpdateEntry { id, change: Box::new(change) }, size, ())
                    }
                    Err(status) => Item::Finished(status.into()),
                }
            })
            .collect();
        // Listens from before the first command on: it hears what each one leaves behind.
        let updates = Updates::new(&self.consensus);
        let (fates, log_index) = carry_out(&self.writes, caller, items).await?;
        let mut left = updates.left_by(&fates);
        let results = fates.into_iter().map(|fate| updated(fate, &mut left, output_mask.as_ref())).collect();
        Ok(at_log_index(BatchUpdateEntryResponse { results }, log_index))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        check_batch(request.get_ref().ids.len())?;
        let caller = self.writes.caller(&request);
        let BatchDeleteEntryRequest { ids } = request.into_inner();
        let items = ids
            .iter()
            .map(|text| match entry_id(text) {
                Ok(id) => Item::Operation(Operation::DeleteEntry { id, revoke: None }, text.len(), ()),
                Err(status) => Item::Finished(status.into()),
            })
            .collect();
        let (fates, log_index) = carry_out(&self.writes, caller, items).await?;
        let results = fates.into_iter().zip(ids).map(|(fate, id)| deleted(fate, id)).collect();
        Ok(at_log_index(BatchDeleteEntryResponse { results }, log_index))
    }

    async fn get_authorized_entries(
        &self,
        _request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        Err(for_agents("GetAuthorizedEntries"))
    }

    type SyncAuthorizedEntriesStream = Empty<Result<SyncAuthorizedEntriesResponse, Status>>;

    async fn sync_authorized_entries(
        &self,
        _request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        Err(for_agents("SyncAuthorizedEntries"))
    }
}

fn deleted(fate: Fate<()>, id: String) -> batch_delete_entry_response::Result {
    let status = match fate {
        Fate::Finished(status) => status,
        Fate::Carried(Ok(Done::EntryDeleted { .. }), ..) => ok(),
        Fate::Carried(Ok(other), ..) => unexpected(&other),
        Fate::Carried(Err(refusal), ..) => refused(&refusal).into(),
    };
    batch_delete_entry_response::Result { status: Some(status), id }
}

fn for_agents(method: &str) -> Status {
    Status::unimplemented(format!("{method} is for agents, and this version of the node takes no agents"))
}
