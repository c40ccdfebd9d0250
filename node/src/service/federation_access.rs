//! Who may ask for our bundle: `quorate.cluster.v1.FederationAccess`.
//!
//! ```text
//!   CreateApiKey, RotateApiKey   secret drawn here ──► its hash into the log ──► the key's text, once, to whoever asked
//!   DeleteApiKey, SetAccess...   one command, acknowledged when every connected member has applied it
//!   ListApiKeys, ShowAccess      the state of this node
//!   ListWatches                  every admitted member is asked
//! ```

mod convert;

use std::time::Duration;

use quorate_actors::watching_at;
use quorate_proto_api::cluster::federation_access_server::{
    FederationAccess as FederationAccessApi, FederationAccessServer,
};
use quorate_proto_api::cluster::{
    AccessChange, ApiKeyWithSecret, CreateApiKeyRequest, DeleteApiKeyRequest, ListApiKeysRequest, ListApiKeysResponse,
    ListWatchesRequest, ListWatchesResponse, RotateApiKeyRequest, SetAccessRuleRequest, SetAccessSettingsRequest,
    ShowAccessRequest, ShowAccessResponse, WatchingPeer as WireWatching,
};
use quorate_proto_identity::{MemberNumber, UnixSeconds};
use quorate_raft_machine::access::{ApiKeyId, ApiKeyRotation, ApiKeySecret, NewApiKey};
use quorate_raft_machine::{Caller, Done, Operation, State};
use tonic::{Request, Response, Status};

use super::foreign;
use super::reads::{Consistency, Reads, at_applied_index, look};
use super::writes::{Writes, at_log_index, refused};
use crate::federation_api::key_text::ApiKeyText;
use crate::node::Node;

/// How long a key is taken when the caller does not say, in seconds: 90 days.
const DEFAULT_LIFETIME: u32 = 90 * 24 * 3_600;

/// For how long the former secret is still taken when the caller does not say, in seconds: 7 days.
const DEFAULT_OVERLAP: u32 = 7 * 24 * 3_600;

/// How long members are asked who watches there.
const WATCHES_LIMIT: Duration = Duration::from_secs(3);

/// The service.
#[derive(Clone)]
pub(super) struct FederationAccessService {
    node: Node,
    reads: Reads,
    writes: Writes,
}

/// Puts the service together.
pub(super) fn service(node: &Node, reads: &Reads) -> FederationAccessServer<FederationAccessService> {
    FederationAccessServer::new(FederationAccessService {
        node: node.clone(),
        reads: reads.clone(),
        writes: Writes::new(node),
    })
}

impl FederationAccessService {
    /// Has one operation carried out.
    async fn write(&self, caller: Caller, operation: Operation) -> Result<(u64, Done), Status> {
        let written = self.writes.write(caller, vec![operation]).await?;
        match written.results.into_iter().next() {
            Some(Ok(done)) => Ok((written.log_index, done)),
            Some(Err(refusal)) => Err(refused(&refusal)),
            None => Err(Status::internal("the command has no outcome")),
        }
    }

    /// A secret that ends so many seconds from now.
    fn secret(&self, text: &ApiKeyText, lifetime: u32) -> ApiKeySecret {
        let lifetime = if lifetime == 0 { DEFAULT_LIFETIME } else { lifetime };
        ApiKeySecret { hash: text.hash(), expires_at: self.now().plus(i64::from(lifetime)) }
    }

    fn now(&self) -> UnixSeconds {
        self.node.sources().now().seconds()
    }

    /// The key with its text, for the one answer that has it.
    fn with_secret(&self, text: &ApiKeyText, log_index: u64) -> Result<Response<ApiKeyWithSecret>, Status> {
        let stored = self.reads.applied().read(|state| state.api_key(text.id()).map(convert::api_key));
        let api_key = stored.ok_or_else(|| Status::aborted("somebody deleted the API key at once"))?;
        let answer = ApiKeyWithSecret { key: text.reveal().to_string(), api_key: Some(api_key) };
        Ok(at_log_index(answer, Some(log_index)))
    }
}

fn key_id(text: &str) -> Result<ApiKeyId, Status> {
    ApiKeyId::new(text).map_err(|error| Status::invalid_argument(format!("id: {error}")))
}

fn changed(log_index: u64, done: &Done) -> Response<AccessChange> {
    let revision = if let Done::AccessSet { revision } = done { *revision } else { 0 };
    at_log_index(AccessChange { log_index, revision }, Some(log_index))
}

#[tonic::async_trait]
impl FederationAccessApi for FederationAccessService {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<ApiKeyWithSecret>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let own = state.read(foreign::own)?;
        let CreateApiKeyRequest { trust_domain, scopes, label, lifetime } = request.into_inner();
        let sources = self.node.sources();
        let text = ApiKeyText::draw(ApiKeyId::from_random(sources.random_u64()), sources);
        let new = NewApiKey {
            id: text.id().clone(),
            peer: foreign::name(&trust_domain, &own)?,
            scopes: convert::scopes(&scopes)?,
            label,
            secret: self.secret(&text, lifetime),
        };
        let (log_index, _) = self.write(caller, Operation::CreateApiKey(Box::new(new))).await?;
        self.with_secret(&text, log_index)
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<ApiKeyWithSecret>, Status> {
        let caller = self.writes.caller(&request);
        let RotateApiKeyRequest { id, lifetime, overlap } = request.into_inner();
        let text = ApiKeyText::draw(key_id(&id)?, self.node.sources());
        let rotation = ApiKeyRotation {
            id: text.id().clone(),
            secret: self.secret(&text, lifetime),
            overlap: overlap.unwrap_or(DEFAULT_OVERLAP),
        };
        let (log_index, _) = self.write(caller, Operation::RotateApiKey(Box::new(rotation))).await?;
        self.with_secret(&text, log_index)
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let ListApiKeysRequest { trust_domain } = request.into_inner();
        let list = |state: &State| {
            let keys = state.api_keys().filter(|key| trust_domain.is_empty() || key.peer.as_str() == trust_domain);
            keys.map(convert::api_key).collect()
        };
        let (api_keys, applied) = look(state, list);
        Ok(at_applied_index(ListApiKeysResponse { api_keys }, applied))
    }

    async fn delete_api_key(&self, request: Request<DeleteApiKeyRequest>) -> Result<Response<AccessChange>, Status> {
        let caller = self.writes.caller(&request);
        let id = key_id(&request.into_inner().id)?;
        let (log_index, done) = self.write(caller, Operation::DeleteApiKey { id }).await?;
        Ok(changed(log_index, &done))
    }

    async fn show_access(&self, request: Request<ShowAccessRequest>) -> Result<Response<ShowAccessResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let show = |state: &State| {
            let peers = state.access_rules().filter(|record| record.peer.is_some());
            ShowAccessResponse {
                everybody: Some(convert::everybody(state)),
                peers: peers.map(convert::rule_record).collect(),
                anonymous_endpoint: state.access_settings().anonymous_endpoint,
            }
        };
        let (shown, applied) = look(state, show);
        Ok(at_applied_index(shown, applied))
    }

    async fn set_access_rule(&self, request: Request<SetAccessRuleRequest>) -> Result<Response<AccessChange>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let caller = self.writes.caller(&request);
        let own = state.read(foreign::own)?;
        let SetAccessRuleRequest { trust_domain, rule, expected_revision } = request.into_inner();
        let peer = match trust_domain.as_str() {
            "" => None,
            name => Some(foreign::name(name, &own)?),
        };
        let rule = rule.map(convert::rule).transpose()?.map(Box::new);
        let operation = Operation::SetAccessRule { peer, rule, expected_revision };
        let (log_index, done) = self.write(caller, operation).await?;
        Ok(changed(log_index, &done))
    }

    async fn set_access_settings(
        &self,
        request: Request<SetAccessSettingsRequest>,
    ) -> Result<Response<AccessChange>, Status> {
        let caller = self.writes.caller(&request);
        let SetAccessSettingsRequest { anonymous_endpoint } = request.into_inner();
        let (log_index, done) = self.write(caller, Operation::SetAccessSettings { anonymous_endpoint }).await?;
        Ok(changed(log_index, &done))
    }

    async fn list_watches(
        &self,
        request: Request<ListWatchesRequest>,
    ) -> Result<Response<ListWatchesResponse>, Status> {
        let state = self.reads.current(Consistency::of(&request)?).await?;
        let (members, sequence): (Vec<(MemberNumber, String)>, u64) = state.read(|state| {
            let admitted = state.members().filter(|member| member.record.status.is_admitted());
            (admitted.map(|member| (member.number, member.record.name.to_string())).collect(), state.bundle().sequence)
        });
        // This node need not be asked over the network.
        let own = self.node.number();
        let others: Vec<MemberNumber> =
            members.iter().map(|(number, _)| *number).filter(|number| Some(*number) != own).collect();
        let mut told = watching_at(self.node.consensus(), &others, WATCHES_LIMIT).await;
        if let (Some(own), Some(system)) = (own, self.node.system()) {
            told.insert(0, (own, Ok(system.watchers().snapshot())));
        }
        let name = |number| members.iter().find(|(known, _)| *known == number).map_or("", |(_, name)| name.as_str());
        let mut answer = ListWatchesResponse { sequence, ..ListWatchesResponse::default() };
        for (number, told) in told {
            let node = name(number);
            match told {
                Ok(peers) => answer.watches.extend(peers.into_iter().map(|peer| WireWatching {
                    node: node.to_owned(),
                    trust_domain: peer.trust_domain.map(|name| name.to_string()).unwrap_or_default(),
                    watches: peer.watches,
                    sent: peer.sent,
                    confirmed: peer.confirmed,
                    refusal: peer.refusal.unwrap_or_default(),
                })),
                Err(reason) => {
                    tracing::debug!(node, reason, "a member could not be asked who watches there");
                    answer.not_asked.push(node.to_owned());
                }
            }
        }
        Ok(Response::new(answer))
    }
}
