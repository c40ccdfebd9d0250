//! Bounded mailboxes: the handle through which everything reaches an actor.
//!
//! ractor's mailboxes have no bound, so a bound is put in front of them: each message carries a permit of the
//! mailbox, which it gives back when the actor is done with it. Queued and running messages together can never be more
//! than the limit; a sender that finds none left learns so at once ([`MailboxError::Busy`]), and what it says to its own
//! caller is `Unavailable`. The decision, and what was refused, is `docs/decisions/0005-mailbox-bounds.md`.
//!
//! An address outlives the actor behind it: after a restart the supervisor's start function connects the new actor to
//! the old address. What was queued in the old one is dropped, and whoever waited for an answer gets
//! [`MailboxError::Gone`].

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::RwLock;
use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::metrics;

/// A message on its way to an actor, with the permit that pays for it.
pub(crate) struct Envelope<M> {
    message: M,
    permit: Option<OwnedSemaphorePermit>,
}

impl<M> Envelope<M> {
    /// Wraps what an actor sends to itself: a timer, or the end of work that it started. Such messages are bounded by
    /// what the actor itself keeps (one timer, a limited set of tasks), and must not be lost because others fill the
    /// mailbox.
    pub(crate) fn own(message: M) -> Self {
        Self { message, permit: None }
    }

    /// Takes the message out, with the permit to be kept until it is handled.
    pub(crate) fn open(self) -> (M, Option<OwnedSemaphorePermit>) {
        (self.message, self.permit)
    }
}

/// What a task of an actor came to, on its way to that actor. A task that panics, or is dropped before its end, brings
/// what it was given for that case: an actor that waits for it would otherwise wait for ever.
pub(crate) struct Outcome<M: Send + 'static> {
    to: ActorRef<Envelope<M>>,
    message: Option<M>,
}

impl<M: Send + 'static> Outcome<M> {
    /// To this actor; `lost` is what it hears if nothing else is said.
    pub(crate) fn new(to: &ActorRef<Envelope<M>>, lost: M) -> Self {
        Self { to: to.clone(), message: Some(lost) }
    }

    /// Says what came of it.
    pub(crate) fn say(mut self, message: M) {
        self.message = Some(message);
    }
}

impl<M: Send + 'static> Drop for Outcome<M> {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            // Fails only when the actor is gone, and its tasks go with it.
            drop(self.to.send_message(Envelope::own(message)));
        }
    }
}

/// Why a message was not delivered, or not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// The mailbox is full. Trying again later is right.
    #[error("the mailbox of the {actor} is full ({limit} messages)")]
    Busy {
        /// Which actor.
        actor: &'static str,
        /// How many messages its mailbox takes.
        limit: usize,
    },
    /// The actor is not running: it has ended, or is being restarted. Trying again later is right.
    #[error("the {actor} is not running at the moment")]
    Gone {
        /// Which actor.
        actor: &'static str,
    },
    /// The actor took the message and did not answer in time.
    #[error("the {actor} did not answer within {limit:?}")]
    Late {
        /// Which actor.
        actor: &'static str,
        /// How long the sender waited.
        limit: Duration,
    },
}

/// Where an actor is reached, also after it was restarted. Cheap to clone.
pub(crate) struct Address<M: Send + 'static> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Send + 'static> {
    actor: &'static str,
    limit: usize,
    permits: Arc<Semaphore>,
    current: RwLock<Option<ActorRef<Envelope<M>>>>,
}

impl<M: Send + 'static> Address<M> {
    /// An address with no actor behind it yet; `actor` names it in errors and metrics.
    pub(crate) fn new(actor: &'static str, limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                actor,
                limit,
                permits: Arc::new(Semaphore::new(limit)),
                current: RwLock::new(None),
            }),
        }
    }

    /// Puts an actor behind the address, in place of the one before.
    pub(crate) fn connect(&self, actor: ActorRef<Envelope<M>>) {
        *self.shared.current.write() = Some(actor);
    }

    /// Sends, or fails at once when the mailbox is full.
    pub(crate) fn try_send(&self, message: M) -> Result<(), MailboxError> {
        let Ok(permit) = Arc::clone(&self.shared.permits).try_acquire_owned() else {
            metrics::mailbox_full(self.shared.actor);
            return Err(MailboxError::Busy { actor: self.shared.actor, limit: self.shared.limit });
        };
        self.deliver(message, permit)
    }

    /// Sends, and waits for room: for senders that may neither drop nor pile up, such as the router of events.
    pub(crate) async fn send(&self, message: M) -> Result<(), MailboxError> {
        let permit = Arc::clone(&self.shared.permits)
            .acquire_owned()
            .await
            .map_err(|_closed| MailboxError::Gone { actor: self.shared.actor })?;
        self.deliver(message, permit)
    }

    /// Sends a message that carries a reply port, and waits for the answer at most `limit`.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        message: impl FnOnce(oneshot::Sender<T>) -> M,
    ) -> Result<T, MailboxError> {
        let (reply, answer) = oneshot::channel();
        self.try_send(message(reply))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_dropped)) => Err(MailboxError::Gone { actor: self.shared.actor }),
            Err(_elapsed) => Err(MailboxError::Late { actor: self.shared.actor, limit }),
        }
    }

    fn deliver(&self, message: M, permit: OwnedSemaphorePermit) -> Result<(), MailboxError> {
        let gone = MailboxError::Gone { actor: self.shared.actor };
        let current = self.shared.current.read();
        let actor = current.as_ref().ok_or(gone)?;
        actor.send_message(Envelope { message, permit: Some(permit) }).map_err(|_stopped| gone)
    }
}

impl<M: Send + 'static> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: Send + 'static> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("actor", &self.shared.actor).field("limit", &self.shared.limit).finish()
    }
}

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr};

    use super::*;

    /// Holds each message until told to go on.
    struct Slow;

    enum Message {
        Hold(oneshot::Receiver<()>),
        Count(oneshot::Sender<u32>),
    }

    impl Actor for Slow {
        type Msg = Envelope<Message>;
        type State = u32;
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<u32, ActorProcessingErr> {
            Ok(0)
        }

        async fn handle(
            &self,
            _: ActorRef<Self::Msg>,
            envelope: Self::Msg,
            handled: &mut u32,
        ) -> Result<(), ActorProcessingErr> {
            let (message, _permit) = envelope.open();
            match message {
                Message::Hold(go) => drop(go.await),
                Message::Count(reply) => drop(reply.send(*handled)),
            }
            *handled += 1;
            Ok(())
        }
    }

    async fn address(limit: usize) -> (Address<Message>, ActorRef<Envelope<Message>>) {
        let address = Address::new("test", limit);
        let (actor, _) = Actor::spawn(None, Slow, ()).await.unwrap();
        address.connect(actor.clone());
        (address, actor)
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_full_mailbox_refuses_and_takes_again_once_it_was_worked_off() {
        let (address, actor) = address(2).await;
        let (go, held) = oneshot::channel();
        let (go_too, held_too) = oneshot::channel();
        address.try_send(Message::Hold(held)).unwrap();
        address.try_send(Message::Hold(held_too)).unwrap();
        let full = address.ask(LIMIT, Message::Count).await;
        assert_eq!(full, Err(MailboxError::Busy { actor: "test", limit: 2 }));
        go.send(()).unwrap();
        go_too.send(()).unwrap();
        let (reply, counted) = oneshot::channel();
        address.send(Message::Count(reply)).await.unwrap();
        assert_eq!(counted.await.unwrap(), 2);
        actor.stop(None);
    }

    #[tokio::test]
    async fn a_dead_actor_is_gone_and_its_messages_give_their_permits_back() {
        let (address, actor) = address(1).await;
        let (_go, held) = oneshot::channel();
        address.try_send(Message::Hold(held)).unwrap();
        actor.kill_and_wait(Some(LIMIT)).await.unwrap();
        assert_eq!(address.ask(LIMIT, Message::Count).await, Err(MailboxError::Gone { actor: "test" }));
        let (again, _) = Actor::spawn(None, Slow, ()).await.unwrap();
        address.connect(again.clone());
        assert_eq!(address.ask(LIMIT, Message::Count).await, Ok(0));
        again.stop(None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_late() {
        let (address, actor) = address(2).await;
        let (_go, held) = oneshot::channel();
        address.try_send(Message::Hold(held)).unwrap();
        let limit = Duration::from_millis(5);
        assert_eq!(address.ask(limit, Message::Count).await, Err(MailboxError::Late { actor: "test", limit }));
        actor.kill();
    }
}
