//! Clients of both sockets, and the few requests that the scenarios make.

use crate::product::TRUST_DOMAIN;
use crate::trouble::Trouble;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use quorate_proto_api::channel::{Address, channel};
use quorate_proto_api::cluster::cluster_client::ClusterClient;
use quorate_proto_api::cluster::revocations_client::RevocationsClient;
use quorate_proto_api::cluster::{
    RevocationReason, RevocationTarget, RevokeRequest, Role, StatusRequest, revocation_target,
};
use quorate_proto_api::spire::entry::entry_client::EntryClient;
use quorate_proto_api::spire::entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, GetEntryRequest};
use quorate_proto_api::spire::localauthority::local_authority_client::LocalAuthorityClient;
use quorate_proto_api::spire::localauthority::{
    ActivateX509AuthorityRequest, AuthorityState, GetX509AuthorityStateRequest, PrepareX509AuthorityRequest,
    RevokeX509AuthorityRequest, TaintX509AuthorityRequest,
};
use quorate_proto_api::spire::svid::MintX509svidRequest;
use quorate_proto_api::spire::svid::svid_client::SvidClient;
use quorate_proto_api::spire::types;
use quorate_proto_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use quorate_proto_api::workload::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use quorate_proto_api::{WORKLOAD_HEADER, WORKLOAD_HEADER_VALUE};
use quorate_proto_identity::AuthorityId;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};
use tower::service_fn;

/// Entries in one call: what a careful registrar sends, well below any limit of a batch.
pub(crate) const BATCH: usize = 500;

/// How often a node is asked for what was written on another one, and for how long.
const LOOK: Duration = Duration::from_millis(5);
const ARRIVES_LIMIT: Duration = Duration::from_secs(30);

/// A client of the Workload API, as any library is one.
#[derive(Clone)]
pub(crate) struct Workload(SpiffeWorkloadApiClient<Channel>);

/// A client of the administrators' socket.
#[derive(Clone)]
pub(crate) struct Admin {
    entries: EntryClient<Channel>,
    svids: SvidClient<Channel>,
    cluster: ClusterClient<Channel>,
    authorities: LocalAuthorityClient<Channel>,
    revocations: RevocationsClient<Channel>,
}

/// Makes clients for one node. Each call of a method is a connection of its own.
#[derive(Clone)]
pub(crate) struct Clients {
    workload: PathBuf,
    admin: PathBuf,
}

impl Clients {
    /// For these two sockets.
    pub(crate) fn new(workload: PathBuf, admin: PathBuf) -> Self {
        Self { workload, admin }
    }

    /// A connection to the Workload API.
    pub(crate) fn workload(&self) -> Workload {
        Workload::on(channel(&Address::Unix(self.workload.clone())))
    }

    /// A connection to the administrators' socket.
    pub(crate) fn admin(&self) -> Admin {
        let channel = channel(&Address::Unix(self.admin.clone()));
        Admin {
            entries: EntryClient::new(channel.clone()),
            svids: SvidClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            authorities: LocalAuthorityClient::new(channel.clone()),
            revocations: RevocationsClient::new(channel),
        }
    }

    /// `callers` clones of clients over `connections` connections.
    pub(crate) fn workloads(&self, callers: usize, connections: usize) -> Vec<Workload> {
        let open: Vec<Workload> = (0..connections).map(|_| self.workload()).collect();
        open.iter().cycle().take(callers).cloned().collect()
    }

    /// `callers` clones of clients over `connections` connections.
    pub(crate) fn admins(&self, callers: usize, connections: usize) -> Vec<Admin> {
        let open: Vec<Admin> = (0..connections).map(|_| self.admin()).collect();
        open.iter().cycle().take(callers).cloned().collect()
    }
}

impl Workload {
    /// Over this channel.
    pub(crate) fn on(channel: Channel) -> Self {
        // Nine hundred SVIDs in one message are within the four mebibytes that every client takes; more is not asked for.
        Self(SpiffeWorkloadApiClient::new(channel))
    }

    /// Over a connection that is open already. It has no keep-alive, as most libraries have none, and is not dialled again.
    pub(crate) async fn over(connection: UnixStream) -> Result<Self, Trouble> {
        let mut connection = Some(connection);
        let connector = service_fn(move |_| {
            let open = connection.take().ok_or_else(|| std::io::Error::other("the connection was lost"));
            async move { open.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        channel.map(Self::on).map_err(|error| Trouble::Unexpected(format!("connect: {error}")))
    }

    /// Opens a stream of X509-SVIDs.
    pub(crate) async fn open(&mut self) -> Result<Streaming<X509svidResponse>, Trouble> {
        let answer = self.0.fetch_x509svid(marked(X509svidRequest {})).await;
        Ok(answer.map_err(Trouble::call("FetchX509SVID"))?.into_inner())
    }

    /// Opens a stream, takes its first message, leaves it.
    pub(crate) async fn first(&mut self) -> Result<X509svidResponse, Trouble> {
        let mut stream = self.open().await?;
        next(&mut stream).await
    }

    /// One token.
    pub(crate) async fn token(&mut self, audience: String) -> Result<String, Trouble> {
        let request = JwtsvidRequest { audience: vec![audience], ..JwtsvidRequest::default() };
        let answer = self.0.fetch_jwtsvid(marked(request)).await.map_err(Trouble::call("FetchJWTSVID"))?;
        let svid = answer.into_inner().svids.into_iter().next();
        svid.map(|svid| svid.svid).ok_or_else(|| Trouble::Unexpected("an answer without a token".to_owned()))
    }
}

/// The next message of a stream.
pub(crate) async fn next(stream: &mut Streaming<X509svidResponse>) -> Result<X509svidResponse, Trouble> {
    let message = stream.message().await.map_err(Trouble::call("FetchX509SVID"))?;
    message.ok_or_else(|| Trouble::Unexpected("the stream ended".to_owned()))
}

/// Every call of the Workload API carries its header.
fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WORKLOAD_HEADER, MetadataValue::from_static(WORKLOAD_HEADER_VALUE));
    request
}

impl Admin {
    /// Whether this node leads.
    pub(crate) async fn leads(&mut self) -> Result<bool, Trouble> {
        let status = self.cluster.status(StatusRequest::default()).await.map_err(Trouble::call("Status"))?;
        Ok(status.into_inner().role() == Role::Leader)
    }

    /// Creates entries, all of which must be new; tells their IDs.
    pub(crate) async fn create(&mut self, entries: Vec<types::Entry>) -> Result<Vec<String>, Trouble> {
        let mut ids = Vec::with_capacity(entries.len());
        let mut rest = entries.into_iter().peekable();
        while rest.peek().is_some() {
            let entries = rest.by_ref().take(BATCH).collect();
            let request = BatchCreateEntryRequest { entries, output_mask: Some(types::EntryMask::default()) };
            let answer = self.entries.batch_create_entry(request).await.map_err(Trouble::call("BatchCreateEntry"))?;
            for result in answer.into_inner().results {
                let status = result.status.unwrap_or_default();
                match result.entry {
                    Some(entry) if status.code == 0 => ids.push(entry.id),
                    Some(_) | None => return Err(Trouble::Unexpected(format!("not created: {}", status.message))),
                }
            }
        }
        Ok(ids)
    }

    /// Deletes entries, all of which must be there.
    pub(crate) async fn delete(&mut self, ids: Vec<String>) -> Result<(), Trouble> {
        for ids in ids.chunks(BATCH) {
            let request = BatchDeleteEntryRequest { ids: ids.to_vec() };
            let answer = self.entries.batch_delete_entry(request).await.map_err(Trouble::call("BatchDeleteEntry"))?;
            for result in answer.into_inner().results {
                let status = result.status.unwrap_or_default();
                if status.code != 0 {
                    return Err(Trouble::Unexpected(format!("not deleted: {}", status.message)));
                }
            }
        }
        Ok(())
    }

    /// Waits until this node has an entry that was created on another one.
    pub(crate) async fn await_entry(&mut self, id: &str) -> Result<(), Trouble> {
        let arrives = async {
            loop {
                let request = GetEntryRequest { id: id.to_owned(), output_mask: None };
                match self.entries.get_entry(request).await {
                    Ok(_) => return Ok(()),
                    Err(status) if status.code() == Code::NotFound => sleep(LOOK).await,
                    Err(status) => return Err(Trouble::call("GetEntry")(status)),
                }
            }
        };
        let late = |_| Err(Trouble::Unexpected(format!("entry {id} is not there after {ARRIVES_LIMIT:?}")));
        timeout(ARRIVES_LIMIT, arrives).await.unwrap_or_else(late)
    }

    /// The root that signs.
    pub(crate) async fn active_root(&mut self) -> Result<AuthorityId, Trouble> {
        let answer = self.authorities.get_x509_authority_state(GetX509AuthorityStateRequest {}).await;
        authority(answer.map_err(Trouble::call("GetX509AuthorityState"))?.into_inner().active)
    }

    /// Makes the next root; tells which.
    pub(crate) async fn prepare_root(&mut self) -> Result<AuthorityId, Trouble> {
        let answer = self.authorities.prepare_x509_authority(PrepareX509AuthorityRequest {}).await;
        authority(answer.map_err(Trouble::call("PrepareX509Authority"))?.into_inner().prepared_authority)
    }

    /// Lets a prepared root sign.
    pub(crate) async fn activate_root(&mut self, id: &AuthorityId) -> Result<(), Trouble> {
        let request = ActivateX509AuthorityRequest { authority_id: id.as_str().to_owned() };
        let answer = self.authorities.activate_x509_authority(request).await;
        answer.map(drop).map_err(Trouble::call("ActivateX509Authority"))
    }

    /// Taints an old root.
    pub(crate) async fn taint_root(&mut self, id: &AuthorityId) -> Result<(), Trouble> {
        let request = TaintX509AuthorityRequest { authority_id: id.as_str().to_owned() };
        let answer = self.authorities.taint_x509_authority(request).await;
        answer.map(drop).map_err(Trouble::call("TaintX509Authority"))
    }

    /// Takes a tainted root out of the bundle.
    pub(crate) async fn revoke_root(&mut self, id: &AuthorityId) -> Result<(), Trouble> {
        let request = RevokeX509AuthorityRequest { authority_id: id.as_str().to_owned() };
        let answer = self.authorities.revoke_x509_authority(request).await;
        answer.map(drop).map_err(Trouble::call("RevokeX509Authority"))
    }

    /// Revokes everything that a SPIFFE ID has; tells how many certificates that was.
    pub(crate) async fn revoke(&mut self, spiffe_id: String) -> Result<u64, Trouble> {
        let target = revocation_target::Target::SpiffeId(spiffe_id);
        let request = RevokeRequest {
            target: Some(RevocationTarget { target: Some(target) }),
            reason: RevocationReason::KeyCompromise.into(),
            ..RevokeRequest::default()
        };
        let answer = self.revocations.revoke(request).await.map_err(Trouble::call("Revoke"))?;
        Ok(answer.into_inner().certificate_count)
    }

    /// Has a certificate signed; tells how many bytes came back.
    pub(crate) async fn mint(&mut self, csr: Bytes) -> Result<usize, Trouble> {
        let request = MintX509svidRequest { csr, ttl: 0 };
        let answer = self.svids.mint_x509svid(request).await.map_err(Trouble::call("MintX509SVID"))?;
        let chain = answer.into_inner().svid.map(|svid| svid.cert_chain).unwrap_or_default();
        Ok(chain.iter().map(Bytes::len).sum())
    }
}

fn authority(state: Option<AuthorityState>) -> Result<AuthorityId, Trouble> {
    let id = AuthorityId::new(&state.unwrap_or_default().authority_id);
    id.map_err(|_| Trouble::Unexpected("an answer without an authority".to_owned()))
}

/// An entry whose parent every node matches.
pub(crate) fn entry(path: impl Into<String>, selectors: &[(&str, String)]) -> types::Entry {
    let id = |path: String| Some(types::Spiffeid { trust_domain: TRUST_DOMAIN.to_owned(), path });
    types::Entry {
        spiffe_id: id(path.into()),
        parent_id: id("/spire/nodes".to_owned()),
        selectors: selectors
            .iter()
            .map(|(kind, value)| types::Selector { r#type: (*kind).to_owned(), value: value.clone() })
            .collect(),
        ..types::Entry::default()
    }
}

/// An entry for this process.
pub(crate) fn own_entry(path: impl Into<String>) -> types::Entry {
    entry(path, &[("unix", format!("uid:{}", nix::unistd::getuid()))])
}

/// Entries on the same host that are for others: no user has these numbers.
pub(crate) fn entries_of_others(count: usize) -> Vec<types::Entry> {
    (0..count).map(entry_of_another).collect()
}

/// One of them, by its number.
pub(crate) fn entry_of_another(number: usize) -> types::Entry {
    let user = 1_000_000_000 + number;
    entry(
        format!("/others/{number}"),
        &[("unix", format!("uid:{user}")), ("unix", format!("path:/usr/bin/other-{}", number % 100))],
    )
}
