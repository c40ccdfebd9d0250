//! Workload attestation: which process is this, and what may it be called?
//!
//! The attestor actor is started and restarted by the supervisor. It keeps no answers: a
//! connection keeps its own, and looks again before each use, so a restart costs whoever waits one `Unavailable` and
//! nobody else anything. Looking at a process blocks (files, the system's directory of users), so each request runs as
//! blocking work, a few at a time, and holds its place in the mailbox until it is answered.

mod executable;
mod names;
mod process;
mod unix;

use std::{collections::HashMap, sync::Arc, time::Duration};

use quorate_raft_consensus::sources::Sources;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

pub use executable::{EXECUTABLE_BYTES_LIMIT, ExecutableId};
pub use process::{PeerCredentials, PeerProcess, ProcessError};
pub use unix::Attested;
pub(crate) use unix::{SecondLook, UnixAttestor, look_again};

use crate::mailbox::{Address, Envelope, MailboxError};

/// How many attestations may wait or run: each is a connection that has not been answered yet. Most take a tenth of a
/// millisecond, so that this is less than a second of work; each that waits takes about a kilobyte.
pub(crate) const ATTESTATIONS_LIMIT: usize = 4096;

/// How many run at once. More would only make the disk seek; hashing is remembered, so most take microseconds.
const ATTESTATIONS_AT_ONCE: usize = 4;

/// Of both, the share that one user of the host may have: three of four. Whoever has a program of half a gigabyte hashed
/// again and again leaves a turn and a quarter of the room to the others (ATK-18, ATK-20).
const USER_SHARE: (usize, usize) = (3, 4);

/// How long a caller waits: hashing the largest program allowed from a slow disk fits into it.
const ATTESTATION_TIME_LIMIT: Duration = Duration::from_secs(20);

/// What the attestor is asked.
pub(crate) enum AttestorMessage {
    /// Look at a process, knowing what its connection was attested as before.
    Attest {
        process: PeerProcess,
        before: Option<Arc<Attested>>,
        reply: oneshot::Sender<Result<Attested, AttestationError>>,
    },
}

/// The actor: runs attestations, a few at a time.
pub(crate) struct AttestorActor;

/// What it starts from.
#[derive(Clone)]
pub(crate) struct AttestorArguments {
    pub(crate) attestor: Arc<UnixAttestor>,
    pub(crate) sources: Sources,
}

/// What it keeps.
pub(crate) struct AttestorState {
    arguments: AttestorArguments,
    turns: Arc<Semaphore>,
    /// The turns of each user that has attestations waiting or running: each of those holds a copy.
    users: HashMap<u32, Arc<Semaphore>>,
    /// Running attestations; they die with the actor, and whoever waits learns of it.
    running: JoinSet<()>,
}

impl Actor for AttestorActor {
    type Msg = Envelope<AttestorMessage>;
    type State = AttestorState;
    type Arguments = AttestorArguments;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let turns = Arc::new(Semaphore::new(ATTESTATIONS_AT_ONCE));
        Ok(AttestorState { arguments, turns, users: HashMap::new(), running: JoinSet::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.running.try_join_next().is_some() {}
        let (message, permit) = envelope.open();
        match message {
            AttestorMessage::Attest { process, before, reply } => {
                let Some(own_turns) = state.turns_of(process.credentials().uid) else {
                    let limit = share(ATTESTATIONS_LIMIT);
                    drop(reply.send(Err(MailboxError::Busy { actor: "attestor", limit }.into())));
                    return Ok(());
                };
                let (arguments, turns) = (state.arguments.clone(), Arc::clone(&state.turns));
                state.running.spawn(async move {
                    let _permit = permit;
                    // The semaphores are never closed; were they, the caller would learn that nobody answers.
                    let Ok(_own_turn) = own_turns.acquire().await else { return };
                    let Ok(_turn) = turns.acquire_owned().await else { return };
                    let attestor = arguments.attestor;
                    let work = move || attestor.attest(&process, before.as_deref());
                    if let Ok(answer) = arguments.sources.run_blocking(work).await {
                        // A caller that went away needs no answer.
                        drop(reply.send(answer.map_err(AttestationError::from)));
                    }
                });
            }
        }
        Ok(())
    }
}

impl AttestorState {
    /// The turns of a user, unless as many of its attestations wait or run as may.
    fn turns_of(&mut self, user: u32) -> Option<Arc<Semaphore>> {
        // Whoever has none any more is forgotten, so the map is never larger than the mailbox.
        self.users.retain(|_, turns| Arc::strong_count(turns) > 1);
        let turns = self.users.entry(user).or_insert_with(|| Arc::new(Semaphore::new(share(ATTESTATIONS_AT_ONCE))));
        (Arc::strong_count(turns) <= share(ATTESTATIONS_LIMIT)).then(|| Arc::clone(turns))
    }
}

/// One user's share of a limit.
fn share(limit: usize) -> usize {
    let (of, whole) = USER_SHARE;
    limit.saturating_mul(of).checked_div(whole).unwrap_or_default()
}

/// Where attestation is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Attestor {
    address: Address<AttestorMessage>,
}

impl Attestor {
    pub(crate) fn new(address: Address<AttestorMessage>) -> Self {
        Self { address }
    }

    /// Attests a process; `before` as in [`UnixAttestor::attest`].
    pub(crate) async fn attest(
        &self,
        process: PeerProcess,
        before: Option<Arc<Attested>>,
    ) -> Result<Attested, AttestationError> {
        let asked =
            self.address.ask(ATTESTATION_TIME_LIMIT, |reply| AttestorMessage::Attest { process, before, reply });
        asked.await?
    }
}

/// Why a process was not attested. Not the caller's fault, as far as anyone knows: it is told `Unavailable`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestationError {
    /// The process is gone or cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The attestor is overloaded or not there.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use quorate_raft_consensus::sources::{Blocking, Work, WorkDone};

    use super::*;
    use crate::sources::{SystemClock, SystemEntropy};

    const LIMIT: Duration = Duration::from_secs(30);

    /// Counts what was begun, and lets it run when told to.
    #[derive(Clone)]
    struct Held {
        begun: Arc<AtomicUsize>,
        go_on: Arc<Semaphore>,
    }

    impl Blocking for Held {
        fn run(&self, work: Work) -> WorkDone {
            let held = self.clone();
            Box::pin(async move {
                held.begun.fetch_add(1, Ordering::SeqCst);
                held.go_on.acquire().await.unwrap().forget();
                work();
            })
        }
    }

    fn process(uid: u32) -> PeerProcess {
        let pid = i32::try_from(std::process::id()).unwrap();
        PeerProcess::new(PeerCredentials { pid, uid, gid: 0, groups: None }, None).unwrap()
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        tokio::time::timeout(LIMIT, async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn atk_18_atk_20_one_user_leaves_turns_and_room_to_the_others() {
        let held = Held { begun: Arc::default(), go_on: Arc::new(Semaphore::new(0)) };
        let sources = Sources::new(SystemClock, SystemEntropy::new(), held.clone());
        let address = Address::new("attestor", ATTESTATIONS_LIMIT);
        let arguments = AttestorArguments { attestor: Arc::new(UnixAttestor::new(1)), sources };
        let (actor, _) = Actor::spawn(None, AttestorActor, arguments).await.unwrap();
        address.connect(actor.clone());
        let attestor = Attestor::new(address);
        let ask = |uid| {
            let attestor = attestor.clone();
            tokio::spawn(async move { attestor.attest(process(uid), None).await })
        };

        let greedy: Vec<_> = (0..share(ATTESTATIONS_LIMIT)).map(|_| ask(4242)).collect();
        until(|| held.begun.load(Ordering::SeqCst) == share(ATTESTATIONS_AT_ONCE)).await;
        let refused = ask(4242).await.unwrap();
        assert!(matches!(refused, Err(AttestationError::Mailbox(MailboxError::Busy { .. }))), "{refused:?}");
        let other = ask(4243);
        until(|| held.begun.load(Ordering::SeqCst) == ATTESTATIONS_AT_ONCE).await;
        held.go_on.add_permits(ATTESTATIONS_LIMIT);
        other.await.unwrap().unwrap();
        for asked in greedy {
            asked.await.unwrap().unwrap();
        }
        ask(4242).await.unwrap().unwrap();
        actor.stop(None);
    }
}
