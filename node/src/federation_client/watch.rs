//! A watch: the peer says each new bundle at once, and is told what our cluster has in force.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_actors::{BundleWatch, ConfirmFuture, Document, FetchRequest, NextFuture};
use quorate_proto_api::federation::watch_bundle_request::Request as Said;
use quorate_proto_api::federation::watch_bundle_response::Event;
use quorate_proto_api::federation::{Confirmation, WatchBundleRequest, WatchBundleResponse};
use quorate_raft_machine::federation::{ApiCredential, Relationship};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Streaming};
use zeroize::Zeroizing;

use super::call::{Ask, FederationClient, Line, document};
use super::credential::Shown;
use super::error::ClientError;

/// How long a watch may be silent: the server says something every 20 seconds.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Confirmations that wait for the connection. The newest says all; more than a few waiting means that it is stuck.
const CONFIRMATIONS: usize = 8;

/// Words that are sent along with a refusal: 512 bytes are taken, and a character has up to four.
const REFUSAL_CHARACTERS: usize = 128;

/// An open watch. It ends when it is dropped.
pub struct Watch {
    client: FederationClient,
    relationship: Arc<Relationship>,
    credential: ApiCredential,
    secret: Option<Arc<Zeroizing<Vec<u8>>>>,
    shown: Shown,
    host: String,
    address: SocketAddr,
    events: Streaming<WatchBundleResponse>,
    said: mpsc::Sender<WatchBundleRequest>,
}

impl FederationClient {
    /// Opens a watch. The deadline is for its opening alone. What is held already is not told, so that the first document
    /// comes at once.
    ///
    /// # Errors
    /// When the peer does not let us.
    pub async fn watch(&self, request: &FetchRequest) -> Result<Watch, ClientError> {
        let ask = Ask::new(request, "")?;
        let asked = self.asked_twice(&ask, async |line: Line, message| {
            let Line { mut client, shown, address } = line;
            let (said, saying) = mpsc::channel(CONFIRMATIONS);
            // The channel is new, so there is room.
            drop(said.try_send(WatchBundleRequest { request: Some(Said::Start(message)) }));
            let mut request = Request::new(ReceiverStream::new(saying));
            shown.put_into(request.metadata_mut());
            match client.watch_bundle(request).await.map(Response::into_inner) {
                Ok(events) => (Ok((events, said, shown)), Shown::Nothing, address),
                Err(status) => (Err(status), shown, address),
            }
        });
        let ((events, said, shown), address) = asked.await?;
        Ok(Watch {
            client: self.clone(),
            relationship: Arc::clone(&request.relationship),
            credential: ask.credential.clone(),
            secret: request.secret.clone(),
            shown,
            host: ask.host().to_owned(),
            address,
            events,
            said,
        })
    }
}

impl Watch {
    /// The next document; waits for as long as nothing changes, and the peer says so.
    ///
    /// # Errors
    /// When the watch has ended. Another one may be opened.
    pub async fn pushed(&mut self) -> Result<Document, ClientError> {
        loop {
            let heard = timeout(SILENCE_LIMIT, self.events.message()).await;
            let host = || self.host.clone();
            let heard = heard.map_err(|_| ClientError::Silent { host: host(), seconds: SILENCE_LIMIT.as_secs() })?;
            let event = match heard {
                Ok(Some(WatchBundleResponse { event })) => event,
                Ok(None) => return Err(ClientError::Ended { host: host() }),
                Err(status) => {
                    if status.code() == Code::Unauthenticated {
                        let secret = self.secret.as_ref().map(|secret| secret.as_slice());
                        self.client.forget(&self.credential, secret, &self.shown);
                    }
                    return Err(ClientError::of_status(&self.host, self.credential.name(), &status));
                }
            };
            match event {
                Some(Event::Bundle(bundle)) => {
                    return document(&self.host, &self.relationship.trust_domain, bundle, self.address);
                }
                // An event of a later version is no news for us, as one without news is.
                Some(Event::Unchanged(_)) | None => {}
            }
        }
    }

    /// Says what our cluster has in force, or in words why it did not take it. Whether that arrives is not waited for: the
    /// next one says more.
    ///
    /// # Errors
    /// When the watch is stuck, or over.
    pub fn say(&self, sequence: Option<u64>, refused: Option<String>) -> Result<(), ClientError> {
        let (sequence, refusal) = match (sequence, refused) {
            // A bundle without a sequence is in force, and there is no name by which to say so.
            (None, None) => return Ok(()),
            (sequence, refused) => (sequence.unwrap_or_default(), refused.unwrap_or_default()),
        };
        let refusal = refusal.chars().take(REFUSAL_CHARACTERS).collect();
        let confirmation = Confirmation { sequence, refusal };
        let said = self.said.try_send(WatchBundleRequest { request: Some(Said::Confirm(confirmation)) });
        said.map_err(|_| ClientError::Ended { host: self.host.clone() })
    }
}

impl BundleWatch for Watch {
    fn next(&mut self) -> NextFuture<'_> {
        Box::pin(async { Ok(self.pushed().await?) })
    }

    fn confirm(&mut self, sequence: Option<u64>, refused: Option<String>) -> ConfirmFuture<'_> {
        let said = self.say(sequence, refused);
        Box::pin(async { Ok(said?) })
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("host", &self.host).field("address", &self.address).finish_non_exhaustive()
    }
}
