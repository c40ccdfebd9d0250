//! The few calls of the administrators' socket that a run makes.

use crate::oracle::Value;
use crate::trouble::Trouble;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::InitRequest;
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, ListEntriesRequest,
};
use quorate_proto_api::spire::types;
use std::collections::BTreeMap;
use std::path::Path;
use tonic::Status;
use tonic::transport::Channel;

/// The trust domain of a run.
pub(crate) const TRUST_DOMAIN: &str = "chaos.example.org";

/// Entries a page of the listing that is held against the oracle.
const PAGE: i32 = 1_000;

/// One connection to the administrators' socket.
#[derive(Clone)]
pub(crate) struct Registrar {
    entries: EntryClient<Channel>,
    cluster: ClusterClient<Channel>,
}

impl Registrar {
    /// A new connection.
    pub(crate) fn new(socket: &Path) -> Self {
        let channel = channel(&Address::Unix(socket.to_path_buf()));
        Self { entries: EntryClient::new(channel.clone()), cluster: ClusterClient::new(channel) }
    }

    /// Founds the authority.
    pub(crate) async fn found(&mut self) -> Result<(), Status> {
        self.cluster.init(InitRequest::default()).await.map(drop)
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
        let changed = types::Entry { id: before.id.clone(), jwt_svid_ttl: mark, ..types::Entry::default() };
        let request = BatchUpdateEntryRequest {
            entries: vec![changed],
            input_mask: Some(types::EntryMask { jwt_svid_ttl: true, ..types::EntryMask::default() }),
            output_mask: None,
        };
        let answer = self.entries.batch_update_entry(request).await?.into_inner();
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

fn value(entry: types::Entry) -> Value {
    Value { id: entry.id, mark: entry.jwt_svid_ttl }
}

fn settled(status: Option<types::Status>, value: Option<Value>) -> Result<Value, String> {
    let status = status.unwrap_or_default();
    match value {
        Some(value) if status.code == 0 => Ok(value),
        Some(_) | None => Err(status.message),
    }
}
