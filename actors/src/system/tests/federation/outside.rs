//! Endpoints of other trust domains, and relationships with them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_proto_identity::{Bundle, EndpointUrl, SpiffeId, TrustDomain};
use quorate_raft_machine::{
    Done, ForeignBundle, NewRelationship, Operation, RelationshipOrigin,
    federation::{Endpoint, EndpointPins, PollSettings},
};
use tokio::{sync::mpsc, time::Instant};

use super::super::{
    foreign::Foreign,
    network::Network,
    world::{World, settings, within},
};
use crate::{
    BundleSource, BundleWatch, ConfirmFuture, Document, FetchError, FetchFuture, FetchRequest, Fetched, NextFuture,
    RelationshipStatus, WatchFuture,
};

/// How an endpoint answers.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// With this document, under this tag; 304 to whoever has it.
    Serves { document: Bytes, etag: Option<&'static str> },
    /// Not at all: nobody is there.
    Absent,
    /// With something that is of no use.
    Useless,
    /// Never.
    Hangs,
}

impl Reply {
    pub(super) fn bundle(bundle: &Bundle) -> Self {
        Self::Serves { document: Bytes::from(bundle.to_json()), etag: None }
    }

    pub(super) fn tagged(bundle: &Bundle, etag: &'static str) -> Self {
        Self::Serves { document: Bytes::from(bundle.to_json()), etag: Some(etag) }
    }

    pub(super) fn bytes(document: &'static str) -> Self {
        Self::Serves { document: Bytes::from_static(document.as_bytes()), etag: None }
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: Instant,
    pub(super) etag: Option<String>,
    pub(super) verify_with: Option<Arc<Bundle>>,
}

/// All endpoints, as one node reaches them.
#[derive(Clone, Default)]
pub(super) struct Outside(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    replies: BTreeMap<TrustDomain, Reply>,
    calls: BTreeMap<TrustDomain, Vec<Call>>,
    watches: BTreeMap<TrustDomain, Vec<mpsc::UnboundedSender<Bytes>>>,
    confirmed: Vec<(Option<u64>, Option<String>)>,
    opened: Vec<Instant>,
}

impl Outside {
    pub(super) fn answers(&self, trust_domain: &TrustDomain, reply: Reply) {
        self.0.lock().replies.insert(trust_domain.clone(), reply);
    }

    pub(super) fn calls(&self, trust_domain: &TrustDomain) -> Vec<Call> {
        self.0.lock().calls.get(trust_domain).cloned().unwrap_or_default()
    }

    pub(super) async fn until_calls(&self, trust_domain: &TrustDomain, count: usize) -> Vec<Call> {
        until(|| self.calls(trust_domain).len() >= count).await;
        self.calls(trust_domain)
    }

    /// Pushes to whoever watches.
    pub(super) fn push(&self, trust_domain: &TrustDomain, bundle: &Bundle) {
        let document = Bytes::from(bundle.to_json());
        for watch in self.0.lock().watches.get(trust_domain).into_iter().flatten() {
            drop(watch.send(document.clone()));
        }
    }

    /// Ends all watches.
    pub(super) fn hang_up(&self) {
        self.0.lock().watches.clear();
    }

    /// How many watches were ever opened, and when.
    pub(super) fn opened(&self) -> Vec<Instant> {
        self.0.lock().opened.clone()
    }

    pub(super) fn confirmed(&self) -> Vec<(Option<u64>, Option<String>)> {
        self.0.lock().confirmed.clone()
    }
}

impl BundleSource for Outside {
    fn fetch(&self, request: FetchRequest) -> FetchFuture {
        let trust_domain = request.relationship.trust_domain.clone();
        let mut inner = self.0.lock();
        let etag = request.etag.clone();
        let call = Call { at: Instant::now(), etag: etag.clone(), verify_with: request.verify_with };
        inner.calls.entry(trust_domain.clone()).or_default().push(call);
        let reply = inner.replies.get(&trust_domain).cloned().unwrap_or(Reply::Absent);
        let (host, address) = (format!("bundles.{trust_domain}"), "192.0.2.1:443".to_owned());
        Box::pin(async move {
            match reply {
                Reply::Serves { etag: Some(tag), .. } if etag.as_deref() == Some(tag) => {
                    Ok(Fetched::NotModified { host, address })
                }
                Reply::Serves { document, etag } => {
                    let etag = etag.map(str::to_owned);
                    Ok(Fetched::Document(Document { bytes: document, etag, host, address }))
                }
                Reply::Absent => Err(FetchError::unreachable("nobody is there")),
                Reply::Useless => Err(FetchError::refused("the certificate is refused")),
                Reply::Hangs => std::future::pending().await,
            }
        })
    }

    fn watch(&self, request: FetchRequest) -> WatchFuture {
        let trust_domain = request.relationship.trust_domain.clone();
        let mut inner = self.0.lock();
        inner.opened.push(Instant::now());
        let (push, pushed) = mpsc::unbounded_channel();
        if let Some(Reply::Serves { document, .. }) = inner.replies.get(&trust_domain) {
            push.send(document.clone()).unwrap();
            inner.watches.entry(trust_domain).or_default().push(push);
        }
        let watch = Watch { outside: self.clone(), pushed };
        Box::pin(async move { Ok(Box::new(watch) as Box<dyn BundleWatch>) })
    }
}

struct Watch {
    outside: Outside,
    pushed: mpsc::UnboundedReceiver<Bytes>,
}

impl BundleWatch for Watch {
    fn next(&mut self) -> NextFuture<'_> {
        Box::pin(async move {
            let bytes = self.pushed.recv().await.ok_or_else(|| FetchError::unreachable("the peer hung up"))?;
            Ok(Document { bytes, etag: None, host: "push".into(), address: "192.0.2.1:443".into() })
        })
    }

    fn confirm(&mut self, sequence: Option<u64>, refused: Option<String>) -> ConfirmFuture<'_> {
        self.outside.0.lock().confirmed.push((sequence, refused));
        Box::pin(async { Ok(()) })
    }
}

/// A node that fetches, and what it reaches.
pub(super) async fn fetching_node() -> (World, Outside) {
    let (network, outside) = (Network::default(), Outside::default());
    network.set_outside("node-1", Arc::new(outside.clone()));
    let world = World::on(&network, "node-1", settings()).await;
    world.found(quorate_raft_machine::Policy::default()).await;
    world.until_ready().await;
    (world, outside)
}

pub(super) fn url(trust_domain: &TrustDomain) -> EndpointUrl {
    EndpointUrl::parse(&format!("https://bundles.{trust_domain}/bundle")).unwrap()
}

pub(super) fn web(trust_domain: &TrustDomain) -> Endpoint {
    Endpoint::Web { url: url(trust_domain) }
}

pub(super) fn spiffe(trust_domain: &TrustDomain, server: &TrustDomain) -> Endpoint {
    let endpoint_spiffe_id = SpiffeId::from_segments(server, &["spire", "server"]).unwrap();
    Endpoint::Spiffe { url: url(trust_domain), endpoint_spiffe_id }
}

/// A relationship by this endpoint, polled every `floor` seconds while the hint is less.
pub(super) fn relationship(
    trust_domain: &TrustDomain,
    endpoint: Endpoint,
    floor: u32,
    bundle: Option<Bundle>,
) -> Operation {
    Operation::CreateRelationship(Box::new(NewRelationship {
        trust_domain: trust_domain.clone(),
        endpoint,
        pins: EndpointPins::default(),
        poll: PollSettings { floor, ..PollSettings::default() },
        origin: RelationshipOrigin::Operator,
        bundle,
    }))
}

pub(super) async fn create(world: &World, operation: Operation) {
    let done = world.propose(operation).await;
    assert!(matches!(done, Done::RelationshipSet { .. }), "{done:?}");
}

/// What a trust domain publishes, to be asked for every second.
pub(super) fn hinted(foreign: &Foreign, sequence: u64) -> Bundle {
    let mut bundle = foreign.bundle(sequence);
    bundle.set_refresh_hint(Some(1));
    bundle
}

/// What a node holds of a trust domain.
pub(super) fn held(world: &World, foreign: &Foreign) -> Option<Arc<ForeignBundle>> {
    world.handle.state().read(|state| state.foreign_bundle(&foreign.domain).cloned())
}

pub(super) fn sequence(world: &World, foreign: &Foreign) -> Option<u64> {
    held(world, foreign).and_then(|held| held.bundle.sequence())
}

/// Waits until a node holds this sequence.
pub(super) async fn until_held(world: &World, foreign: &Foreign, wanted: u64) {
    until(|| sequence(world, foreign) == Some(wanted)).await;
}

/// How the relationship is, as any node tells it.
pub(super) async fn status(world: &World, foreign: &Foreign) -> RelationshipStatus {
    let statuses = world.system.federation().statuses().await.unwrap();
    statuses.into_iter().find(|status| status.trust_domain == foreign.domain).unwrap()
}

/// Waits until that is as wanted.
pub(super) async fn until_status(
    world: &World,
    foreign: &Foreign,
    wanted: impl Fn(&RelationshipStatus) -> bool,
) -> RelationshipStatus {
    within(async {
        loop {
            let status = status(world, foreign).await;
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Waits for a condition.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
