use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::*;
use crate::mailbox::{Address, Envelope, MailboxError};

/// Answers with how many actors came before it, and ends in every way an actor can.
struct Fragile;

enum FragileMessage {
    Generation(oneshot::Sender<u32>),
    Panic,
    Fail,
}

impl Actor for Fragile {
    type Msg = Envelope<FragileMessage>;
    type State = u32;
    type Arguments = u32;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, generation: u32) -> Result<u32, ActorProcessingErr> {
        Ok(generation)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut u32,
    ) -> Result<(), ActorProcessingErr> {
        match envelope.open().0 {
            FragileMessage::Generation(reply) => drop(reply.send(*state)),
            FragileMessage::Panic => panic!("as asked"),
            FragileMessage::Fail => return Err("as asked".into()),
        }
        Ok(())
    }
}

fn fragile(address: &Address<FragileMessage>, starts: &Arc<AtomicU32>) -> ChildSpec {
    let (address, starts) = (address.clone(), Arc::clone(starts));
    ChildSpec::new("fragile", move |supervisor| {
        let (address, generation) = (address.clone(), starts.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(None, Fragile, generation, supervisor).await?;
            address.connect(actor.clone());
            Ok(actor.get_cell())
        })
    })
}

struct Tree {
    supervisor: ActorRef<SupervisorMessage>,
    address: Address<FragileMessage>,
    status: watch::Receiver<SystemStatus>,
}

async fn tree() -> Tree {
    let address = Address::new("fragile", 8);
    let (sender, status) = watch::channel(SystemStatus::Running);
    let children = vec![fragile(&address, &Arc::default())];
    let arguments = SupervisorArguments { children, status: sender };
    let (supervisor, _) = Actor::spawn(None, Supervisor, arguments).await.unwrap();
    Tree { supervisor, address, status }
}

impl Tree {
    async fn generation(&self) -> Result<u32, MailboxError> {
        self.address.ask(Duration::from_secs(10), FragileMessage::Generation).await
    }

    /// Waits, within bounds, until the child of this generation answers.
    async fn until_generation(&self, wanted: u32) {
        let reached = tokio::time::timeout(Duration::from_secs(30), async {
            while self.generation().await != Ok(wanted) {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        reached.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_panics_fails_stops_or_is_killed_comes_back() {
    let tree = tree().await;
    tree.until_generation(0).await;
    tree.address.try_send(FragileMessage::Panic).unwrap();
    tree.until_generation(1).await;
    tree.address.try_send(FragileMessage::Fail).unwrap();
    tree.until_generation(2).await;
    for (generation, kill) in [(3, true), (4, false)] {
        let (reply, child) = oneshot::channel();
        tree.supervisor.send_message(SupervisorMessage::Child("fragile", reply)).unwrap();
        let child = child.await.unwrap().unwrap();
        if kill {
            child.kill()
        } else {
            child.stop(None)
        }
        tree.until_generation(generation).await;
    }
    assert_eq!(*tree.status.borrow(), SystemStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_keeps_dying_takes_the_tree_down() {
    let mut tree = tree().await;
    for generation in 0..=10 {
        tree.until_generation(generation).await;
        tree.address.try_send(FragileMessage::Panic).unwrap();
    }
    let failed = tree.status.wait_for(|status| *status != SystemStatus::Running);
    let failed = tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap().unwrap().clone();
    assert_eq!(failed, SystemStatus::Failed { actor: "fragile" });
    tree.supervisor.wait(Some(Duration::from_secs(30))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_children_and_restarts_nothing() {
    let tree = tree().await;
    tree.until_generation(0).await;
    let (reply, stopped) = oneshot::channel();
    tree.supervisor.send_message(SupervisorMessage::Stop(reply)).unwrap();
    stopped.await.unwrap();
    assert_eq!(tree.generation().await, Err(MailboxError::Gone { actor: "fragile" }));
    assert_eq!(*tree.status.borrow(), SystemStatus::Stopped);
    tree.supervisor.wait(Some(Duration::from_secs(30))).await.unwrap();
}

#[tokio::test]
async fn a_child_that_cannot_start_fails_the_whole_start() {
    let spec = ChildSpec::new("broken", |_| Box::pin(async { Err(SpawnErr::StartupFailed("no".into())) }));
    let (status, _) = watch::channel(SystemStatus::Running);
    let started = Actor::spawn(None, Supervisor, SupervisorArguments { children: vec![spec], status }).await;
    assert!(started.is_err());
}
