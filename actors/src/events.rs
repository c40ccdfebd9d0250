//! What was applied, on its way to the actors that it concerns.
//!
//! Each actor listens for itself, with a task that dies with it, and gets its news in the order of the log, through its
//! own mailbox. When the mailbox is full, the task waits; when it has fallen so far behind that events were dropped, the
//! actor is told to look at everything afresh. So nothing is ever lost in silence, and nothing piles up.

use std::sync::Arc;

use quorate_raft_consensus::AppliedEvents;
use ractor::ActorRef;
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    watch,
};

use crate::mailbox::{Address, Envelope};

/// What an actor hears.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// These changes were applied.
    Applied(Arc<AppliedEvents>),
    /// Changes were missed, or the whole state was replaced: what was derived from it is to be read afresh.
    Afresh,
}

/// Passes on what is applied until the actor or consensus is gone.
pub(crate) async fn forward<M: Send + 'static>(
    mut events: Receiver<Arc<AppliedEvents>>,
    to: Address<M>,
    message: impl Fn(News) -> M + Send + 'static,
) {
    loop {
        let news = match events.recv().await {
            Ok(applied) if applied.replaced => News::Afresh,
            Ok(applied) if applied.events.is_empty() => continue,
            Ok(applied) => News::Applied(applied),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "an actor fell behind the log and reads the state afresh");
                News::Afresh
            }
            Err(RecvError::Closed) => return,
        };
        // An actor that is gone takes this task with it; until then there is nobody to tell.
        let _ = to.send(message(news)).await;
    }
}

/// Tells an actor the newest value of what is watched, as it is now and after each change, until either is gone. Values
/// that come faster than they are told are passed over, so nothing piles up.
pub(crate) async fn follow<T, M>(
    mut watched: watch::Receiver<T>,
    to: ActorRef<Envelope<M>>,
    message: impl Fn(T) -> M + Send + 'static,
) where
    T: Clone + Send + Sync + 'static,
    M: Send + 'static,
{
    loop {
        let now = watched.borrow_and_update().clone();
        if to.send_message(Envelope::own(message(now))).is_err() || watched.changed().await.is_err() {
            return;
        }
    }
}
