//! Where foreign bundles come from: the seam to HTTPS, which this crate does not speak.
//!
//! Whoever implements it asks exactly the endpoint of the relationship, checks who answers within the handshake, and gives
//! back bytes. What they mean, and whether they are taken, is decided here.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use quorate_proto_identity::Bundle;
use quorate_raft_machine::federation::Relationship;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::endpoint::EndpointIdentity;

/// What is asked for, with all that is needed to ask.
#[derive(Clone)]
pub struct FetchRequest {
    /// The relationship as the state has it.
    pub relationship: Arc<Relationship>,
    /// The newest bundle of the trust domain of the SPIFFE ID that the server must prove (FED-41, FED-42); none where the
    /// server proves a name of the web.
    pub verify_with: Option<Arc<Bundle>>,
    /// The tag of the document that is held.
    pub etag: Option<String>,
    /// The secret that the relationship's credential names, opened.
    pub secret: Option<Arc<Zeroizing<Vec<u8>>>>,
    /// This node's endpoint certificate, where the credential is one.
    pub identity: Option<Arc<EndpointIdentity>>,
    /// When nobody waits any more.
    pub deadline: Instant,
}

impl fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchRequest")
            .field("relationship", &self.relationship)
            .field("etag", &self.etag)
            .field("has_secret", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}

/// A document as an endpoint served it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its bytes; it does not say whose it is (BND-04).
    pub bytes: Bytes,
    /// Its tag, if it has one.
    pub etag: Option<String>,
    /// The host that was asked last, after redirects, for the log.
    pub host: String,
    /// Its address.
    pub address: String,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The document that is held is the newest.
    NotModified {
        /// The host that was asked last.
        host: String,
        /// Its address.
        address: String,
    },
    /// This one.
    Document(Document),
}

/// Whether it makes sense that another member asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The endpoint was not reached at all: another member may have a way to it.
    Unreachable,
    /// The endpoint was reached and gave nothing that can be used, or may not be asked.
    Refused,
}

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct FetchError {
    /// Whether another member may try.
    pub kind: FetchErrorKind,
    /// What went wrong, with causes.
    pub words: String,
}

impl FetchError {
    /// The endpoint was not reached.
    #[must_use]
    pub fn unreachable(words: impl Into<String>) -> Self {
        Self { kind: FetchErrorKind::Unreachable, words: words.into() }
    }

    /// The endpoint gave nothing that can be used.
    #[must_use]
    pub fn refused(words: impl Into<String>) -> Self {
        Self { kind: FetchErrorKind::Refused, words: words.into() }
    }
}

/// What comes of a fetch, some time later.
pub type FetchFuture = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'static>>;

/// A watch, once it is open.
pub type WatchFuture = Pin<Box<dyn Future<Output = Result<Box<dyn BundleWatch>, FetchError>> + Send + 'static>>;

/// The next document of a watch, or why there is none; then the watch is over.
pub type NextFuture<'a> = Pin<Box<dyn Future<Output = Result<Document, FetchError>> + Send + 'a>>;

/// A confirmation on its way.
pub type ConfirmFuture<'a> = Pin<Box<dyn Future<Output = Result<(), FetchError>> + Send + 'a>>;

/// Fetches bundles and watches them. It keeps the limits of ATK-36 and ATK-37 by itself.
pub trait BundleSource: Send + Sync + 'static {
    /// Asks the endpoint of a relationship once.
    fn fetch(&self, request: FetchRequest) -> FetchFuture;

    /// Opens a watch, by which the peer pushes what is new. Only where the relationship says so.
    fn watch(&self, request: FetchRequest) -> WatchFuture;
}

/// An open watch. Dropping it closes it.
pub trait BundleWatch: Send + 'static {
    /// Waits for the next document. The first comes at once: what the peer has now.
    fn next(&mut self) -> NextFuture<'_>;

    /// Tells the peer of the document that came last that the whole cluster has it in force, with its sequence, or in words
    /// why it was not taken.
    fn confirm(&mut self, sequence: Option<u64>, refused: Option<String>) -> ConfirmFuture<'_>;
}
