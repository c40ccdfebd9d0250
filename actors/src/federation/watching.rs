//! A watch: the peer pushes what is new, and hears what this cluster has put in force.

use std::{sync::Arc, time::Duration};

use quorate_raft_machine::federation::Relationship;
use ractor::ActorRef;
use tokio::time::Instant;

use super::{
    FederationArguments,
    fetching::request,
    peer::PeerMessage,
    source::{BundleWatch, FetchError},
    taking::{Taken, take},
};
use crate::{errors::with_causes, mailbox::Envelope};

/// How long opening a watch may take.
const OPEN_TIME_LIMIT: Duration = Duration::from_secs(12);

/// The wait before a watch is opened again; doubled up to [`LONGEST_WAIT`]. A lost watch costs nothing but time: polling
/// goes on.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait before a watch is opened again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A watch that lasted so long was a good one: its end begins a new row of waits.
const GOOD_WATCH: Duration = Duration::from_secs(60);

/// How long the other members are waited for before a bundle is confirmed. One that takes longer counts as cut off soon.
const EVERYWHERE_LIMIT: Duration = Duration::from_secs(5);

/// How often it is looked whether the members have applied a bundle.
const EVERYWHERE_LOOK: Duration = Duration::from_millis(5);

/// Keeps a watch open for as long as the actor lives.
pub(super) async fn keep_watch(
    federation: FederationArguments,
    relationship: Arc<Relationship>,
    actor: ActorRef<Envelope<PeerMessage>>,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let opened = Instant::now();
        let Err(error) = watch_once(&federation, &relationship, &actor).await else { return };
        if opened.elapsed() >= GOOD_WATCH {
            wait = FIRST_WAIT;
        }
        tracing::info!(
            trust_domain = %relationship.trust_domain, error = error.words, "no watch of a foreign bundle is open; polling goes on"
        );
        // Members that lost the same peer do not come back in one instant.
        let part = federation.core.sources.random_u64() % 512;
        tokio::time::sleep(wait + wait.mul_f64(part as f64 / 1024.0)).await;
        wait = wait.saturating_mul(2).min(LONGEST_WAIT);
    }
}

/// One watch from its beginning to its end. Only the end of the actor is no error.
async fn watch_once(
    federation: &FederationArguments,
    relationship: &Arc<Relationship>,
    actor: &ActorRef<Envelope<PeerMessage>>,
) -> Result<(), FetchError> {
    let source = federation.source.as_ref().ok_or_else(|| FetchError::unreachable("this node fetches no bundles"))?;
    let request = request(federation, relationship, None, Instant::now() + OPEN_TIME_LIMIT).await?;
    let mut watch = tokio::time::timeout(OPEN_TIME_LIMIT, source.watch(request))
        .await
        .map_err(|_elapsed| FetchError::unreachable("the watch was not opened in time"))??;
    if tell(actor, PeerMessage::Watching(true)).is_err() {
        return Ok(());
    }
    let ended = follow(federation, relationship, actor, watch.as_mut()).await;
    match tell(actor, PeerMessage::Watching(false)) {
        Ok(()) => ended,
        Err(Gone) => Ok(()),
    }
}

async fn follow(
    federation: &FederationArguments,
    relationship: &Relationship,
    actor: &ActorRef<Envelope<PeerMessage>>,
    watch: &mut dyn BundleWatch,
) -> Result<(), FetchError> {
    loop {
        let document = watch.next().await?;
        match take(federation, relationship, &document.bytes, false).await {
            Ok(taken) => {
                if let Taken::Replaced { log_index, .. } = taken {
                    applied_everywhere(federation, log_index).await;
                }
                let sequence = taken.sequence();
                if tell(actor, PeerMessage::Pushed(Ok(taken))).is_err() {
                    return Ok(());
                }
                watch.confirm(sequence, None).await?;
            }
            Err(error) => {
                let words = with_causes(&error);
                if tell(actor, PeerMessage::Pushed(Err(words.clone()))).is_err() {
                    return Ok(());
                }
                watch.confirm(None, Some(words)).await?;
            }
        }
    }
}

/// Waits until every connected member has applied an index: what is confirmed is in force wherever workloads are.
async fn applied_everywhere(federation: &FederationArguments, log_index: u64) {
    let until = Instant::now() + EVERYWHERE_LIMIT;
    let behind = || {
        let members = federation.handle.members();
        members.iter().any(|member| member.connected && member.applied_index < log_index)
    };
    while behind() && Instant::now() < until {
        tokio::time::sleep(EVERYWHERE_LOOK).await;
    }
}

/// The actor is gone, and with it whoever wanted to know.
struct Gone;

fn tell(actor: &ActorRef<Envelope<PeerMessage>>, message: PeerMessage) -> Result<(), Gone> {
    actor.send_message(Envelope::own(message)).map_err(|_gone| Gone)
}
