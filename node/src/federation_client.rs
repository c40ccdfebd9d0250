//! The client of another trust domain's Federation API (`quorate.federation.v1`): get a bundle, watch it.
//!
//! ```text
//!   relationship, secret ──► call ──► credential   nothing | our endpoint certificate | API key | OAuth token
//!                             |                      |                                              |
//!                             v                      v                                     token endpoint, held token
//!                          outbound: a guarded connection, the server checked within the handshake (ATK-37, FED-26, FED-40)
//!                             |
//!                             v
//!                          GetBundle ──► the document              WatchBundle ──► each document as it changes
//!                                                                       ^               |
//!                                                                       `── confirm ────'  what our cluster has in force
//! ```
//!
//! A connection serves one call, or one watch: who the server is was proved for that one. What comes is a document like that
//! of a bundle endpoint, and is parsed, compared and put in force by those who asked. A watch that is lost costs time and
//! nothing else: polling goes on beside it, and the next watch begins with what has changed meanwhile.
//!
//! Secrets come opened from the caller, are wiped when dropped, and are never logged: a header that holds one is marked
//! sensitive. What a server says of itself is told on cut short and without control characters.

mod call;
mod credential;
mod error;
mod oauth;
mod watch;

use quorate_actors::{BundleSource, BundleWatch, FetchFuture, FetchRequest, WatchFuture};

pub use call::FederationClient;
pub use error::ClientError;
pub use oauth::TokenError;
pub use watch::Watch;

impl BundleSource for FederationClient {
    fn fetch(&self, request: FetchRequest) -> FetchFuture {
        let client = self.clone();
        Box::pin(async move { Ok(client.get(&request).await?) })
    }

    fn watch(&self, request: FetchRequest) -> WatchFuture {
        let client = self.clone();
        Box::pin(async move {
            let watch = Self::watch(&client, &request).await?;
            Ok(Box::new(watch) as Box<dyn BundleWatch>)
        })
    }
}
