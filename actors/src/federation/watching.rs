//! A watch: the peer pushes what is new, and hears what this cluster has put in force.

use std::{sync::Arc, time::Duration};

use quorate_proto_identity::bundle::BUNDLE_LIMIT;
use quorate_raft_machine::federation::Relationship;
use ractor::ActorRef;
use tokio::time::Instant;

use super::{
    FederationArguments,
    fetching::request,
    peer::PeerMessage,
    poll,
    source::{BundleWatch, FetchError},
    status::cut,
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

/// In how much time a peer may push as much as the largest bundle: what it could bring by polling at the usual floor. All
/// that is new goes into the log of every member, so that a peer that pushes without end would fill their disks.
const LARGEST_EVERY: Duration = Duration::from_secs(60);

/// How much of that may come at once: two of the largest, or some 500 bundles of the usual size.
const AT_ONCE: Duration = Duration::from_secs(120);

/// What a document counts for at least, in bytes: reading and recording one costs something whatever its size.
const LEAST_BYTES: usize = 4 * 1024;

/// Keeps a watch open for as long as the actor lives.
pub(super) async fn keep_watch(
    federation: FederationArguments,
    relationship: Arc<Relationship>,
    actor: ActorRef<Envelope<PeerMessage>>,
) {
    let mut wait = FIRST_WAIT;
    let mut pace = Pace { paid_until: Instant::now() };
    let relationships = federation.core.state.read(|state| state.relationships().count());
    tokio::time::sleep(poll::watch_wait(relationships, federation.core.sources.random_u64())).await;
    loop {
        let opened = Instant::now();
        let Err(error) = watch_once(&federation, &relationship, &actor, &mut pace).await else { return };
        if opened.elapsed() >= GOOD_WATCH {
            wait = FIRST_WAIT;
        }
        tracing::info!(
            trust_domain = %relationship.trust_domain, error = cut(error.words), "no watch of a foreign bundle is open; polling goes on"
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
    pace: &mut Pace,
) -> Result<(), FetchError> {
    let source = federation.source.as_ref().ok_or_else(|| FetchError::unreachable("this node fetches no bundles"))?;
    let request = request(federation, relationship, None, Instant::now() + OPEN_TIME_LIMIT).await?;
    let mut watch = tokio::time::timeout(OPEN_TIME_LIMIT, source.watch(request))
        .await
        .map_err(|_elapsed| FetchError::unreachable("the watch was not opened in time"))??;
    if tell(actor, PeerMessage::Watching(true)).is_err() {
        return Ok(());
    }
    let ended = follow(federation, relationship, actor, watch.as_mut(), pace).await;
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
    pace: &mut Pace,
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
                let words = cut(with_causes(&error));
                if tell(actor, PeerMessage::Pushed(Err(words.clone()))).is_err() {
                    return Ok(());
                }
                watch.confirm(None, Some(words)).await?;
            }
        }
        // What comes meanwhile waits with the peer.
        tokio::time::sleep(pace.wait_after(Instant::now(), document.bytes.len())).await;
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

/// How much a peer has pushed, as time that it takes to pay for it.
struct Pace {
    paid_until: Instant,
}

impl Pace {
    /// The wait before the next document is taken, after one of this size.
    fn wait_after(&mut self, now: Instant, bytes: usize) -> Duration {
        let part = bytes.max(LEAST_BYTES) as f64 / BUNDLE_LIMIT as f64;
        self.paid_until = self.paid_until.max(now) + LARGEST_EVERY.mul_f64(part);
        self.paid_until.saturating_duration_since(now + AT_ONCE)
    }
}

/// The actor is gone, and with it whoever wanted to know.
struct Gone;

fn tell(actor: &ActorRef<Envelope<PeerMessage>>, message: PeerMessage) -> Result<(), Gone> {
    actor.send_message(Envelope::own(message)).map_err(|_gone| Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ATK-36.
    #[test]
    fn who_pushes_without_end_brings_no_more_than_polling_would() {
        let now = Instant::now();
        let mut pace = Pace { paid_until: now };
        let waits = [BUNDLE_LIMIT; 3].map(|bytes| pace.wait_after(now, bytes).as_secs());
        assert_eq!(waits, [0, 0, 60]);
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.wait_after(later, BUNDLE_LIMIT), LARGEST_EVERY);
    }

    #[test]
    fn bundles_of_the_usual_size_wait_for_nothing_until_hundreds_came_at_once() {
        let now = Instant::now();
        let mut pace = Pace { paid_until: now };
        assert!((0..500).all(|_| pace.wait_after(now, 3_000).is_zero()));
        assert!((0..100).any(|_| !pace.wait_after(now, 0).is_zero()), "empty ones count too");
        assert!(pace.wait_after(now + Duration::from_secs(3_600), 3_000).is_zero(), "silence pays");
    }
}
