//! Keeps an actor for each relationship while this node leads.
//!
//! Started and restarted by the [`supervisor`](crate::supervisor) on every node; where the node does not lead it does
//! nothing. It owns the actors of the relationships: they end with it, and one that ends by itself is started again after a
//! while. It waits for none of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use quorate_proto_identity::TrustDomain;
use quorate_raft_consensus::Role;
use quorate_raft_machine::{Event, federation::Relationship};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Federation, FederationArguments,
    peer::{PeerActor, PeerArguments, PeerMessage, RefreshReply},
};
use crate::{
    events::{self, News},
    mailbox::Envelope,
    metrics,
};

/// How many messages wait: news of the log, which waits for room outside, and operators.
pub(crate) const FEDERATION_MAILBOX_LIMIT: usize = 256;

/// The wait before the actor of a relationship that ended by itself is started again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often the gauges are set, and the leader is asked by those who do not lead what it warns of.
const GAUGES_EVERY: Duration = Duration::from_secs(5);

/// What the keeper is told.
pub(crate) enum FederationMessage {
    /// Something was applied.
    News(News),
    /// This node leads, or does not any more.
    Role(Role),
    /// Fetch a bundle now, for an operator.
    Refresh { trust_domain: TrustDomain, accept_older: bool, reply: RefreshReply },
    /// Start the actor of a relationship again.
    Again(TrustDomain),
    /// Set the gauges, and hear what the leader warns of.
    Gauges,
}

/// The actor.
pub(crate) struct FederationActor;

/// What it keeps.
pub(crate) struct FederationState {
    arguments: FederationArguments,
    leads: bool,
    peers: BTreeMap<TrustDomain, ActorRef<Envelope<PeerMessage>>>,
    /// Listeners and timers; they die with the actor.
    tasks: JoinSet<()>,
}

impl Actor for FederationActor {
    type Msg = Envelope<FederationMessage>;
    type State = FederationState;
    type Arguments = FederationArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        // Whatever stands there is of actors that are gone.
        arguments.board.clear();
        tasks.spawn(events::forward(arguments.handle.events(), arguments.address.clone(), FederationMessage::News));
        tasks.spawn(events::follow(arguments.handle.role(), myself.clone(), FederationMessage::Role));
        let mut state = FederationState { arguments, leads: false, peers: BTreeMap::new(), tasks };
        state.later(&myself, GAUGES_EVERY, FederationMessage::Gauges);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.tasks.try_join_next().is_some() {}
        let (message, _permit) = envelope.open();
        match message {
            FederationMessage::News(news) => state.news(&myself, news).await,
            FederationMessage::Role(role) => state.role(&myself, &role).await,
            FederationMessage::Refresh { trust_domain, accept_older, reply } => {
                state.refresh(&myself, &trust_domain, accept_older, reply).await;
            }
            FederationMessage::Again(trust_domain) => state.settle(&myself, &trust_domain, false).await,
            FederationMessage::Gauges => {
                state.set_gauges();
                state.hear();
                state.later(&myself, GAUGES_EVERY, FederationMessage::Gauges);
            }
        }
        Ok(())
    }

    /// One that ends takes nobody with it.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, ..) => state.ended(&myself, cell.get_id(), "it stopped"),
            SupervisionEvent::ActorFailed(cell, error) => state.ended(&myself, cell.get_id(), &error.to_string()),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl FederationState {
    async fn role(&mut self, myself: &ActorRef<Envelope<FederationMessage>>, role: &Role) {
        if self.leads == role.is_leader() {
            return;
        }
        self.leads = role.is_leader();
        if self.leads {
            self.settle_all(myself).await;
        } else {
            self.stop_all();
        }
        self.set_gauges();
    }

    async fn news(&mut self, myself: &ActorRef<Envelope<FederationMessage>>, news: News) {
        if !self.leads {
            return;
        }
        let News::Applied(applied) = news else { return self.settle_all(myself).await };
        for event in &applied.events {
            if let Event::RelationshipChanged { trust_domain } = event {
                self.settle(myself, trust_domain, true).await;
            } else if let Event::ForeignBundleChanged { trust_domain } = event {
                self.look(trust_domain);
            }
        }
    }

    /// Brings the actors after the relationships that there are.
    async fn settle_all(&mut self, myself: &ActorRef<Envelope<FederationMessage>>) {
        let state = &self.arguments.core.state;
        let there: BTreeSet<TrustDomain> =
            state.read(|state| state.relationships().map(|made| made.trust_domain.clone()).collect());
        let gone: Vec<TrustDomain> = self.peers.keys().filter(|name| !there.contains(name)).cloned().collect();
        for trust_domain in there.iter().chain(&gone) {
            self.settle(myself, trust_domain, false).await;
        }
    }

    /// Starts, tells or stops the actor of a relationship.
    async fn settle(
        &mut self,
        myself: &ActorRef<Envelope<FederationMessage>>,
        trust_domain: &TrustDomain,
        is_new: bool,
    ) {
        let relationship = self.arguments.core.state.read(|state| state.relationship(trust_domain).cloned());
        match (relationship, self.peers.get(trust_domain)) {
            (Some(_), Some(peer)) => tell(peer, PeerMessage::Look),
            (Some(relationship), None) if self.leads => self.start(myself, relationship, is_new).await,
            (Some(_) | None, None) => {}
            (None, Some(_)) => {
                if let Some(peer) = self.peers.remove(trust_domain) {
                    // FED-48: nothing is asked any more.
                    peer.stop(None);
                }
                self.arguments.board.remove(trust_domain);
            }
        }
    }

    async fn start(
        &mut self,
        myself: &ActorRef<Envelope<FederationMessage>>,
        relationship: Arc<Relationship>,
        is_new: bool,
    ) {
        let trust_domain = relationship.trust_domain.clone();
        self.arguments.board.open(&trust_domain);
        let arguments = PeerArguments { federation: self.arguments.clone(), relationship, is_new };
        match Actor::spawn_linked(None, PeerActor, arguments, myself.get_cell()).await {
            Ok((peer, _)) => drop(self.peers.insert(trust_domain, peer)),
            Err(error) => {
                tracing::error!(trust_domain = %trust_domain, %error, "the actor of a relationship could not be started");
                self.later(myself, AGAIN_AFTER, FederationMessage::Again(trust_domain));
            }
        }
    }

    /// A foreign bundle is another one: whoever holds it, and whoever verifies an endpoint with it, looks (FED-42).
    fn look(&self, trust_domain: &TrustDomain) {
        let concerned: Vec<TrustDomain> = self.arguments.core.state.read(|state| {
            let by_server = |made: &&Arc<Relationship>| {
                made.trust_domain == *trust_domain
                    || made.endpoint.server_spiffe_id().is_some_and(|id| id.trust_domain() == *trust_domain)
            };
            state.relationships().filter(by_server).map(|made| made.trust_domain.clone()).collect()
        });
        for peer in concerned.iter().filter_map(|name| self.peers.get(name)) {
            tell(peer, PeerMessage::Look);
        }
    }

    async fn refresh(
        &mut self,
        myself: &ActorRef<Envelope<FederationMessage>>,
        trust_domain: &TrustDomain,
        accept_older: bool,
        reply: RefreshReply,
    ) {
        // Who asks has perhaps just made the relationship, and the news of that may still be under way.
        if !self.peers.contains_key(trust_domain) {
            self.settle(myself, trust_domain, true).await;
        }
        let refusal = if !self.leads {
            "this node does not lead any more; ask again".to_owned()
        } else if let Some(peer) = self.peers.get(trust_domain) {
            tell(peer, PeerMessage::Refresh { accept_older, reply });
            return;
        } else {
            format!("there is no relationship with {trust_domain}")
        };
        drop(reply.send(Err(refusal)));
    }

    fn ended(&mut self, myself: &ActorRef<Envelope<FederationMessage>>, id: ActorId, reason: &str) {
        let Some(trust_domain) = self.peers.iter().find(|(_, peer)| peer.get_id() == id).map(|(name, _)| name.clone())
        else {
            // Stopped by us.
            return;
        };
        tracing::error!(trust_domain = %trust_domain, reason, "the actor of a relationship ended and is started again");
        metrics::actor_restarted("relationship");
        self.peers.remove(&trust_domain);
        self.later(myself, AGAIN_AFTER, FederationMessage::Again(trust_domain));
    }

    fn stop_all(&mut self) {
        for peer in std::mem::take(&mut self.peers).into_values() {
            peer.stop(None);
        }
        self.arguments.board.clear();
    }

    fn set_gauges(&self) {
        let (relationships, stale, watching) = self.arguments.board.counts();
        metrics::relationships(relationships, stale, watching);
    }

    /// Has what the leader warns of told here too: an operator, or what watches `/ready` for one, asks any node.
    fn hear(&mut self) {
        let FederationArguments { handle, board, core, .. } = self.arguments.clone();
        if self.leads || core.state.read(|state| state.relationships().next().is_none()) {
            return board.hear(Vec::new());
        }
        self.tasks.spawn(async move {
            // What a leader said that is gone is not told for ever.
            let warnings = Federation::new(handle, Arc::clone(&board)).leaders_warnings().await.unwrap_or_default();
            board.hear(warnings);
        });
    }

    fn later(&mut self, myself: &ActorRef<Envelope<FederationMessage>>, wait: Duration, message: FederationMessage) {
        let (myself, until) = (myself.clone(), Instant::now() + wait);
        self.tasks.spawn(async move {
            tokio::time::sleep_until(until).await;
            drop(myself.send_message(Envelope::own(message)));
        });
    }
}

/// One that has ended meanwhile is started again, and looks then.
fn tell(peer: &ActorRef<Envelope<PeerMessage>>, message: PeerMessage) {
    drop(peer.send_message(Envelope::own(message)));
}
