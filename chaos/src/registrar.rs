//! The few calls of the administrators' socket that a run makes.

use crate::oracle::Value;
use crate::trouble::Trouble;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::authorities_client::AuthoritiesClient;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::{
    InitRequest, SetPlanRequest, ShowAuthoritiesRequest, ShowAuthoritiesResponse, StatusRequest, StatusResponse,
};
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, GetEntryRequest, ListEntriesRequest,
};
use quorate_proto_api::spire::types;
use quorate_proto_api::{CONSISTENCY_HEADER, CONSISTENCY_LINEARIZABLE};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// The trust domain of a run.
pub(crate) const TRUST_DOMAIN: &str = "chaos.example.org";

/// Entries a page of the listing that is held against the oracle.
const PAGE: i32 = 1_000;

/// How long a node may take to say how it stands: it looks at itself alone, and asks the leader at most.
const STATUS_LIMIT: Duration = Duration::from_secs(1);

/// One connection to the administrators' socket.
#[derive(Clone)]
pub(crate) struct Registrar {
    entries: EntryClient<Channel>,
    cluster: ClusterClient<Channel>,
    authorities: AuthoritiesClient<Channel>,
}

impl Registrar {
    /// A new connection.
    pub(crate) fn new(socket: &Path) -> Self {
        let channel = channel(&Address::Unix(socket.to_path_buf()));
        Self {
            entries: EntryClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            authorities: AuthoritiesClient::new(channel),
        }
    }

    /// Founds the authority.
    pub(crate) async fn found(&mut self) -> Result<(), Status> {
        self.cluster.init(InitRequest::default()).await.map(drop)
    }

    /// Tells how the node stands.
    pub(crate) async fn status(&mut self) -> Result<StatusResponse, Status> {
        let mut request = Request::new(StatusRequest::default());
        request.set_timeout(STATUS_LIMIT);
        // A node that stands still keeps no deadline.
        let answer = tokio::time::timeout(STATUS_LIMIT, self.cluster.status(request)).await;
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))).map(tonic::Response::into_inner)
    }

    /// The authorities, as this node has them.
    pub(crate) async fn authorities(&mut self) -> Result<ShowAuthoritiesResponse, Status> {
        let mut request = Request::new(ShowAuthoritiesRequest {});
        request.set_timeout(STATUS_LIMIT);
        let answer = tokio::time::timeout(STATUS_LIMIT, self.authorities.show(request)).await;
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))).map(tonic::Response::into_inner)
    }

    /// Has the plan want so many voters.
    pub(crate) async fn set_voters(&mut self, voters: usize) -> Result<(), Status> {
        let voters = u32::try_from(voters).ok();
        self.cluster.set_plan(SetPlanRequest { voters, ..SetPlanRequest::default() }).await.map(drop)
    }

    /// Whether the node takes calls about entries.
    pub(crate) async fn serves(&mut self) -> bool {
        self.entries.list_entries(ListEntriesRequest { page_size: 1, ..ListEntriesRequest::default() }).await.is_ok()
    }

    /// Creates one entry a path and mark; an entry's new ID, or why it was refused.
    pub(crate) async fn create(&mut self, new: &[(String, i32)]) -> Result<Vec<Result<Value, String>>, Status> {
        let entries = new.iter().map(|(path, mark)| entry(path, *mark)).collect();
        let request = BatchCreateEntryRequest { entries, output_mask: None };
        let answer = self.entries.batch_create_entry(request).await?.into_inner();
        Ok(answer.results.into_iter().map(|result| settled(result.status, result.entry.map(value))).collect())
    }

    /// Sets another mark.
    pub(crate) async fn update(&mut self, before: &Value, mark: i32) -> Result<Result<Value, String>, Status> {
        let answer = self.entries.batch_update_entry(change(&before.id, mark)).await?.into_inner();
        let result = answer.results.into_iter().next().unwrap_or_default();
        Ok(settled(result.status, result.entry.map(value)))
    }

    /// Deletes one entry.
    pub(crate) async fn delete(&mut self, before: &Value) -> Result<Result<Value, String>, Status> {
        let request = BatchDeleteEntryRequest { ids: vec![before.id.clone()] };
        let answer = self.entries.batch_delete_entry(request).await?.into_inner();
        let result = answer.results.into_iter().next().unwrap_or_default();
        Ok(settled(result.status, Some(before.clone())))
    }

    /// Makes the entry that is a register: its ID is the key.
    pub(crate) async fn create_register(&mut self, key: &str, mark: i32) -> Result<Settled, Status> {
        let entry = types::Entry { id: key.to_owned(), ..entry(&format!("/{key}"), mark) };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let answer = self.entries.batch_create_entry(request).await?.into_inner();
        Ok(Settled::of(answer.results.into_iter().next().and_then(|result| result.status), Code::AlreadyExists))
    }

    /// Writes another mark to a register.
    pub(crate) async fn update_register(&mut self, key: &str, mark: i32) -> Result<Settled, Status> {
        let answer = self.entries.batch_update_entry(change(key, mark)).await?.into_inner();
        Ok(Settled::of(answer.results.into_iter().next().and_then(|result| result.status), Code::NotFound))
    }

    /// Takes a register away.
    pub(crate) async fn delete_register(&mut self, key: &str) -> Result<Settled, Status> {
        let request = BatchDeleteEntryRequest { ids: vec![key.to_owned()] };
        let answer = self.entries.batch_delete_entry(request).await?.into_inner();
        Ok(Settled::of(answer.results.into_iter().next().and_then(|result| result.status), Code::NotFound))
    }

    /// Reads a register, linearizably: its mark, if it is there.
    pub(crate) async fn read_register(&mut self, key: &str) -> Result<Option<i32>, Status> {
        let mut request = Request::new(GetEntryRequest { id: key.to_owned(), output_mask: None });
        request.metadata_mut().insert(CONSISTENCY_HEADER, MetadataValue::from_static(CONSISTENCY_LINEARIZABLE));
        match self.entries.get_entry(request).await {
            Ok(entry) => Ok(Some(entry.into_inner().jwt_svid_ttl)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Creates one entry; its ID.
    pub(crate) async fn create_entry(&mut self, entry: types::Entry) -> Result<String, Status> {
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let answer = self.entries.batch_create_entry(request).await?.into_inner();
        let result = answer.results.into_iter().next().unwrap_or_default();
        settled(result.status, result.entry.map(|entry| entry.id)).map_err(Status::aborted)
    }

    /// The hint of one entry, as this node has it.
    pub(crate) async fn hint(&mut self, id: &str) -> Result<String, Status> {
        let request = GetEntryRequest { id: id.to_owned(), output_mask: None };
        self.entries.get_entry(request).await.map(|entry| entry.into_inner().hint)
    }

    /// Deletes one entry.
    pub(crate) async fn delete_entry(&mut self, id: &str) -> Result<(), Status> {
        let request = BatchDeleteEntryRequest { ids: vec![id.to_owned()] };
        let answer = self.entries.batch_delete_entry(request).await?.into_inner();
        let result = answer.results.into_iter().next().unwrap_or_default();
        settled(result.status, Some(())).map_err(Status::aborted)
    }

    /// Everything that is there, by path.
    pub(crate) async fn everything(&mut self) -> Result<BTreeMap<String, Value>, Trouble> {
        let mut found = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let request = ListEntriesRequest { page_size: PAGE, page_token, ..ListEntriesRequest::default() };
            let answer = self.entries.list_entries(request).await.map_err(Trouble::call("ListEntries"))?.into_inner();
            for entry in answer.entries {
                let path = entry.spiffe_id.as_ref().map(|id| id.path.clone()).unwrap_or_default();
                found.insert(path, value(entry));
            }
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(found);
            }
        }
    }
}

/// The entry of a path: its parent is the one that every node matches, its selector one that nobody has.
fn entry(path: &str, mark: i32) -> types::Entry {
    let id = |path: &str| Some(types::Spiffeid { trust_domain: TRUST_DOMAIN.to_owned(), path: path.to_owned() });
    types::Entry {
        spiffe_id: id(path),
        parent_id: id("/spire/nodes"),
        selectors: vec![types::Selector { r#type: "unix".to_owned(), value: "uid:4000000000".to_owned() }],
        jwt_svid_ttl: mark,
        ..types::Entry::default()
    }
}

/// The entry of a path that no workload matches, with a hint.
pub(crate) fn hinted_entry(path: &str, hint: &str) -> types::Entry {
    types::Entry { hint: hint.to_owned(), ..entry(path, 0) }
}

/// A change of the mark.
fn change(id: &str, mark: i32) -> BatchUpdateEntryRequest {
    BatchUpdateEntryRequest {
        entries: vec![types::Entry { id: id.to_owned(), jwt_svid_ttl: mark, ..types::Entry::default() }],
        input_mask: Some(types::EntryMask { jwt_svid_ttl: true, ..types::EntryMask::default() }),
        output_mask: None,
    }
}

/// The entry of a path for this very process, on whichever node it asks.
pub(crate) fn own_entry(path: &str) -> types::Entry {
    let user = format!("uid:{}", nix::unistd::getuid());
    types::Entry {
        selectors: vec![types::Selector { r#type: "unix".to_owned(), value: user }],
        jwt_svid_ttl: 0,
        ..entry(path, 0)
    }
}

/// The entry of a path for this very process on one node alone, with a life of its SVIDs in seconds.
pub(crate) fn node_entry(path: &str, node: &str, x509_svid_ttl: i32) -> types::Entry {
    let parent = format!("/spire/agent/quorate/{node}");
    types::Entry {
        parent_id: Some(types::Spiffeid { trust_domain: TRUST_DOMAIN.to_owned(), path: parent }),
        x509_svid_ttl,
        ..own_entry(path)
    }
}

/// What became of an operation on a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It was carried out.
    Done,
    /// It was refused for what there is, or is not.
    Refused,
    /// Something else was said; whether it was carried out is not known.
    Unknown,
}

impl Settled {
    fn of(status: Option<types::Status>, refusal: Code) -> Self {
        match status {
            Some(status) if status.code == 0 => Self::Done,
            Some(status) if status.code == i32::from(refusal) => Self::Refused,
            Some(_) | None => Self::Unknown,
        }
    }
}

fn value(entry: types::Entry) -> Value {
    Value { id: entry.id, mark: entry.jwt_svid_ttl }
}

fn settled<T>(status: Option<types::Status>, value: Option<T>) -> Result<T, String> {
    let status = status.unwrap_or_default();
    match value {
        Some(value) if status.code == 0 => Ok(value),
        Some(_) | None => Err(status.message),
    }
}
