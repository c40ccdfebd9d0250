//! One watch: the bundle now, and again whenever it has changed; what the subscriber confirms is kept while it lasts.
//!
//! ```text
//!   changes (bundle, access, foreign bundles) ──┐
//!   20 s without a word ────────────────────────┼──► still admitted? ready? ──► Bundle, if it has changed; else Unchanged
//!   credential ends ────────────────────────────┘              |
//!   subscriber: confirm(sequence) ──► WatchGuard               └─► ends: Unauthenticated, PermissionDenied, Unavailable
//! ```

use std::sync::Arc;
use std::time::Duration;

use quorate_actors::{IssuanceStatus, REFUSAL_BYTES_LIMIT, TooManyWatches, WatchGuard};
use quorate_proto_api::federation::{
    BundleFormat, Confirmation, GetBundleRequest, WatchBundleRequest, WatchBundleResponse, watch_bundle_request,
    watch_bundle_response::Event,
};
use quorate_raft_machine::access::ApiScope;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::content::format;
use super::door::Admitted;
use super::service::Api;
use crate::metrics::FEDERATION_WATCHES;

/// How long a watch is silent before it says that nothing has changed.
const ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long a subscriber may take to read what it is sent. A bundle has a MiB at most.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// Messages that wait for the connection: one that goes, and one that was made meanwhile.
const QUEUE: usize = 1;

/// Most confirmations between two words of ours. One each is what they are for.
const CONFIRMATIONS_LIMIT: u32 = 64;

/// A watch that was let in.
pub(super) struct Watching {
    api: Arc<Api>,
    admitted: Admitted,
    guard: WatchGuard,
    format: BundleFormat,
    /// What the subscriber has; empty when that is not known.
    etag: String,
    confirmed: u64,
    confirmations: u32,
    alive_at: Instant,
}

/// Why a watch has ended, for the record.
struct Ended(&'static str);

impl Watching {
    /// Opens a watch.
    ///
    /// # Errors
    /// When there are too many, the format is not known, or the node is starting.
    pub(super) fn open(api: &Arc<Api>, admitted: Admitted, start: &GetBundleRequest) -> Result<Self, Status> {
        let format = format(start.format)?;
        let system = api.node.system().ok_or_else(|| Status::unavailable("the node is starting; ask another one"))?;
        let peer = admitted.granted.asker.peer();
        let guard = system.watchers().open(peer.as_ref()).map_err(|error| match error {
            TooManyWatches::OfPeer | TooManyWatches::OfAll => Status::resource_exhausted(error.to_string()),
        })?;
        Ok(Self {
            api: Arc::clone(api),
            admitted,
            guard,
            format,
            etag: start.etag.clone(),
            confirmed: 0,
            confirmations: 0,
            alive_at: Instant::now(),
        })
    }

    /// Runs to the end of the watch; what is sent comes out of the stream. Dropped, the stream ends it.
    pub(super) fn run(
        self,
        said: Streaming<WatchBundleRequest>,
    ) -> impl Stream<Item = Result<WatchBundleResponse, Status>> + Send + use<> {
        let (to, events) = mpsc::channel(QUEUE);
        tokio::spawn(self.keep(said, to));
        ReceiverStream::new(events)
    }

    async fn keep(
        mut self,
        mut said: Streaming<WatchBundleRequest>,
        to: mpsc::Sender<Result<WatchBundleResponse, Status>>,
    ) {
        metrics::gauge!(FEDERATION_WATCHES).increment(1.0);
        let Ended(why) = self.watch(&mut said, &to).await;
        metrics::gauge!(FEDERATION_WATCHES).decrement(1.0);
        let detail = vec![("ended", why.to_owned()), ("confirmed", self.confirmed.to_string())];
        self.api.node.audit().asked(self.admitted.record("federation.watch_end", detail));
    }

    async fn watch(
        &mut self,
        said: &mut Streaming<WatchBundleRequest>,
        to: &mpsc::Sender<Result<WatchBundleResponse, Status>>,
    ) -> Ended {
        let mut changes = self.api.changes.clone();
        let mut stopping = self.api.node.stopping();
        let Some(mut issuance) = self.api.node.system().map(|system| system.issuance()) else {
            return Ended("node_stopping");
        };
        changes.mark_unchanged();
        if let Err(ended) = self.look(to, "federation.watch", true).await {
            return ended;
        }
        loop {
            let looked = tokio::select! {
                biased;
                () = stopping.asked() => {
                    let status = Status::unavailable("the node is stopping: watch at another one");
                    let _ = to.try_send(Err(status));
                    return Ended("node_stopping");
                }
                () = to.closed() => return Ended("peer_left"),
                changed = changes.changed() => match changed {
                    Ok(()) => self.look(to, "federation.push", false).await,
                    Err(_gone) => return Ended("node_stopping"),
                },
                () = lease_ended(&mut issuance) => self.look(to, "federation.push", false).await,
                message = said.message() => match message {
                    Ok(Some(message)) => self.heard(message, to).await,
                    Ok(None) | Err(_) => return Ended("peer_left"),
                },
                () = sleep_until(self.alive_at) => self.look(to, "federation.push", true).await,
            };
            if let Err(ended) = looked {
                return ended;
            }
        }
    }

    /// Looks at who watches and at what there is, and sends what is new; when there is nothing new, says so if `speak`.
    async fn look(
        &mut self,
        to: &mpsc::Sender<Result<WatchBundleResponse, Status>>,
        what: &'static str,
        speak: bool,
    ) -> Result<(), Ended> {
        let granted = match self.api.door.still(&self.admitted, "federation.watch", ApiScope::Watch) {
            Ok(granted) => granted,
            Err(status) => return Err(end(to, status, "refused").await),
        };
        let (content, said) = match self.api.content() {
            Ok(found) => found,
            Err(status) => return Err(end(to, status, "not_ready").await),
        };
        let is_known = content.is_known(self.format, &self.etag);
        self.guard.sent(content.sequence);
        let event = match (is_known, speak) {
            (false, _) => Event::Bundle(content.bundle(self.format, &said)),
            (true, true) => Event::Unchanged(content.unchanged(&said)),
            (true, false) => return Ok(()),
        };
        let sent = timeout(SEND_LIMIT, to.send(Ok(WatchBundleResponse { event: Some(event) }))).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_closed)) => return Err(Ended("peer_left")),
            Err(_late) => return Err(Ended("peer_does_not_read")),
        }
        if !is_known || what == "federation.watch" {
            let told = if is_known { "unchanged" } else { self.format.as_str_name() };
            let detail = vec![("sequence", content.sequence.to_string()), ("told", told.to_owned())];
            self.api.node.audit().asked(self.admitted.record(what, detail));
        }
        content.etag(self.format).clone_into(&mut self.etag);
        self.confirmations = 0;
        let left = granted.until.map(|until| until.since(said.at)).and_then(|left| u64::try_from(left).ok());
        let left = left.map_or(ALIVE_INTERVAL, |left| Duration::from_secs(left.saturating_add(1)));
        self.alive_at = Instant::now() + left.min(ALIVE_INTERVAL);
        Ok(())
    }

    /// What the subscriber says after its beginning.
    async fn heard(
        &mut self,
        message: WatchBundleRequest,
        to: &mpsc::Sender<Result<WatchBundleResponse, Status>>,
    ) -> Result<(), Ended> {
        let Some(watch_bundle_request::Request::Confirm(Confirmation { sequence, refusal })) = message.request else {
            let status = Status::invalid_argument("after start, a subscriber sends confirm alone");
            return Err(end(to, status, "protocol").await);
        };
        self.confirmations = self.confirmations.saturating_add(1);
        if self.confirmations > CONFIRMATIONS_LIMIT {
            let status = Status::resource_exhausted("too many confirmations: one for each bundle is wanted");
            return Err(end(to, status, "protocol").await);
        }
        if refusal.is_empty() {
            self.confirmed = self.confirmed.max(sequence);
            self.guard.confirm(sequence);
            return Ok(());
        }
        let refusal = refusal.get(..refusal.floor_char_boundary(REFUSAL_BYTES_LIMIT)).unwrap_or_default();
        tracing::warn!(who = %self.admitted.granted.asker, sequence, refusal, "a peer did not take our bundle");
        self.guard.refuse(refusal);
        Ok(())
    }
}

/// Ends a watch with a status, if the subscriber still reads.
async fn end(to: &mpsc::Sender<Result<WatchBundleResponse, Status>>, status: Status, why: &'static str) -> Ended {
    let _ = timeout(SEND_LIMIT, to.send(Err(status))).await;
    Ended(why)
}

/// Waits until the node may sign no more.
async fn lease_ended(issuance: &mut watch::Receiver<IssuanceStatus>) {
    let is_over = |status: &IssuanceStatus| !matches!(status, IssuanceStatus::Ready { .. });
    if issuance.wait_for(is_over).await.is_err() {
        // The actors are gone, and the node with them in a moment.
        std::future::pending::<()>().await;
    }
}
